//! What can be typed after `optwasm fleet`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::Format;
use crate::units::{parse_bytes, parse_duration, parse_pair};

#[derive(Debug, Args)]
pub struct FleetArgs {
    #[command(subcommand)]
    pub action: FleetAction,
}

#[derive(Debug, Subcommand)]
pub enum FleetAction {
    /// Start a worker on each host of a host file, by ssh
    Ssh(SshArgs),
    /// Say which workers run
    Status(StatusArgs),
    /// Have workers finish what they run, and leave
    Stop(StopArgs),
    /// Print the last lines of the workers' logs
    Logs(LogsArgs),
    /// Run workers on this machine
    Local(LocalArgs),
    /// Keep as many workers on Slurm as the queue needs
    Slurm(Box<BatchSystemArgs>),
    /// Keep as many workers on PBS Pro or OpenPBS as the queue needs
    Pbs(Box<BatchSystemArgs>),
    /// Keep as many workers on Torque as the queue needs
    Torque(Box<BatchSystemArgs>),
    /// Keep as many workers on Grid Engine as the queue needs
    Sge(Box<BatchSystemArgs>),
    /// Keep as many workers on LSF as the queue needs
    Lsf(Box<BatchSystemArgs>),
    /// Print a unit file by which systemd starts a worker at boot
    Systemd(SystemdArgs),
    /// Print a manifest by which Kubernetes keeps workers
    K8s(K8sArgs),
}

/// Which fleet.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fleet")]
pub struct NameArgs {
    /// Name of the fleet, a label of its workers
    #[arg(long, value_name = "NAME", default_value = "workers")]
    pub fleet: String,
}

/// What each worker is started with.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Worker")]
pub struct FleetWorkerArgs {
    /// Jobs at once on each worker [default: one for each core]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub slots: Option<u32>,
    /// Memory for all jobs of a worker together [default: 80 % of its machine's]
    #[arg(long, value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Label that batches may require
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// Workers leave after so long without work [default: never; on a batch system with --min 0, twice
    /// --idle-grace, at least 1m]
    #[arg(long, value_parser = parse_duration)]
    pub idle_timeout: Option<Duration>,
    /// Workers leave after so long, and take no job before that cannot end by then
    #[arg(long, value_parser = parse_duration)]
    pub leave_after: Option<Duration>,
    /// Further option of `optwasm worker`; may be repeated
    #[arg(long = "worker-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub extra: Vec<String>,
    /// Coordinator, as the workers' machines reach it [default: as it says itself]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// File with a token for workers [default: the coordinator issues one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub worker_token_file: Option<PathBuf>,
}

/// How hosts are reached.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Hosts")]
pub struct ReachArgs {
    /// The ssh program
    #[arg(long, value_name = "PROGRAM", default_value = "ssh")]
    pub ssh: PathBuf,
    /// Further argument of ssh; may be repeated
    #[arg(long = "ssh-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub ssh_args: Vec<String>,
    /// Hosts worked at at the same time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub parallel: u32,
    /// Time for each host
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    pub limit: Duration,
    /// Folder on the hosts for everything, absolute [default: $XDG_STATE_HOME and $XDG_CACHE_HOME there]
    #[arg(long, value_name = "DIR", value_parser = parse_root)]
    pub root: Option<String>,
    /// How what became of each host is printed
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct SshArgs {
    /// The hosts: one a line, with ranges, or TOML where the name ends in .toml
    #[arg(value_hint = ValueHint::FilePath)]
    pub hosts: PathBuf,
    /// Program to copy; may be repeated, for several kinds of machines [default: this one]
    #[arg(long = "program", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub programs: Vec<PathBuf>,
    #[command(flatten)]
    pub name: NameArgs,
    #[command(flatten)]
    pub worker: FleetWorkerArgs,
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// Which workers, of a host file or of this machine.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct WhichArgs {
    /// The hosts' file
    #[arg(value_hint = ValueHint::FilePath)]
    pub hosts: Option<PathBuf>,
    /// The first so many detached workers of this machine instead
    #[arg(long, value_name = "WORKERS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub local: Option<u32>,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    #[command(flatten)]
    pub name: NameArgs,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, Args)]
pub struct StopArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    /// How long they may finish what they run, before they are killed
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub grace: Duration,
    #[command(flatten)]
    pub name: NameArgs,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    /// How many lines of each
    #[arg(long, default_value_t = 20)]
    pub lines: u32,
    #[command(flatten)]
    pub name: NameArgs,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, Args)]
pub struct LocalArgs {
    /// How many
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub workers: u32,
    /// Leave them running in the background [default: they end with this command]
    #[arg(long)]
    pub detach: bool,
    /// How long they may finish what they run at the end, before they are killed
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub grace: Duration,
    #[command(flatten)]
    pub name: NameArgs,
    #[command(flatten)]
    pub worker: FleetWorkerArgs,
    /// How what became of each is printed, with --detach
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct BatchSystemArgs {
    /// Workers that are kept even where there is nothing to do
    #[arg(long, default_value_t = 0)]
    pub min: u32,
    /// Workers at most
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub max: u32,
    /// Print the script, and submit nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Time limit of each batch job; its worker leaves a little before
    #[arg(long, value_parser = parse_duration, help_heading = "Batch job")]
    pub time: Option<Duration>,
    /// Partition or queue
    #[arg(long, visible_alias = "partition", help_heading = "Batch job")]
    pub queue: Option<String>,
    /// Account or project
    #[arg(long, help_heading = "Batch job")]
    pub account: Option<String>,
    /// Cores of each
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Batch job")]
    pub cpus: Option<u32>,
    /// Memory of each
    #[arg(long, value_parser = parse_bytes, help_heading = "Batch job")]
    pub job_memory: Option<u64>,
    /// Further directive, such as --gres=gpu:1; may be repeated
    #[arg(
        long = "directive",
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Batch job"
    )]
    pub directives: Vec<String>,
    /// Environment module to load; may be repeated
    #[arg(long = "module", value_name = "MODULE", help_heading = "Batch job")]
    pub modules: Vec<String>,
    /// Line of the shell to run before the worker; may be repeated
    #[arg(
        long = "prologue",
        value_name = "LINE",
        allow_hyphen_values = true,
        help_heading = "Batch job"
    )]
    pub prologue: Vec<String>,
    /// Folder on the node for compiled modules [default: the worker's own]
    #[arg(long, value_name = "DIR", help_heading = "Batch job")]
    pub scratch: Option<PathBuf>,
    /// File with a script of your own, with {{directives}}, {{setup}}, {{command}}, {{name}}, {{folder}}
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Batch job")]
    pub template: Option<PathBuf>,
    /// Folder that the nodes share with this machine, for script, token and logs
    #[arg(long, value_name = "DIR", default_value = "optwasm-fleet", value_hint = ValueHint::DirPath, help_heading = "Batch job")]
    pub shared: PathBuf,
    /// The optwasm program, as nodes see it [default: this one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Batch job")]
    pub program: Option<PathBuf>,
    #[command(flatten)]
    pub pace: PaceArgs,
    #[command(flatten)]
    pub name: NameArgs,
    #[command(flatten)]
    pub worker: FleetWorkerArgs,
}

/// How often, and how long.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pace")]
pub struct PaceArgs {
    /// Waiting jobs that one more worker is asked for [default: its slots]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs_per_worker: Option<u32>,
    /// A worker that has been idle for so long is given back
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    pub idle_grace: Duration,
    /// A worker that has not joined so long after its batch job began counts as a failure
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    pub join_grace: Duration,
    /// A batch job that has been missing from lists for so long is gone
    #[arg(long, default_value = "1m", value_parser = parse_duration)]
    pub vanish_grace: Duration,
    /// Time between submissions
    #[arg(long, default_value = "6s", value_parser = parse_duration)]
    pub submit_every: Duration,
    /// Time between questions to the batch system, while there is something to ask
    #[arg(long, default_value = "30s", value_parser = parse_period)]
    pub poll: Duration,
    /// Time between questions to the coordinator
    #[arg(long, default_value = "5s", value_parser = parse_period)]
    pub observe_every: Duration,
    /// Time for each command of the batch system
    #[arg(long, default_value = "1m", value_parser = parse_period)]
    pub command_limit: Duration,
    /// First pause after a failure, which doubles with each further one, up to 5m
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub backoff: Duration,
    /// Failures in a row after which no more workers are asked for
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_failures: u32,
    /// Questions in a row that the batch system may leave unanswered
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_retries: u32,
    /// Folder with the batch system's programs [default: they are on the path]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub programs: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SystemdArgs {
    /// The optwasm program on that machine
    #[arg(long, value_name = "FILE", default_value = "/usr/local/bin/optwasm")]
    pub program: String,
    /// File on that machine with a token for workers; root's, 0600
    #[arg(long, value_name = "FILE", default_value = "/etc/optwasm/worker.token")]
    pub credential: String,
    /// Memory that the service may use, as systemd's MemoryMax= takes it
    #[arg(long, value_name = "SIZE", default_value = "80%")]
    pub memory_max: String,
    /// How long it may finish what it runs when it is stopped
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub stop_after: Duration,
    #[command(flatten)]
    pub worker: FleetWorkerArgs,
}

#[derive(Debug, Args)]
pub struct K8sArgs {
    /// Container image whose entry point is optwasm
    #[arg(long)]
    pub image: String,
    /// How many workers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub replicas: u32,
    /// What keeps them
    #[arg(long, default_value = "deployment")]
    pub kind: KindArg,
    /// Name of the Deployment or Job
    #[arg(long, default_value = "optwasm-workers")]
    pub name: String,
    /// Namespace [default: that of the context]
    #[arg(long)]
    pub namespace: Option<String>,
    /// Secret with a token for workers, and its key
    #[arg(long, value_name = "NAME/KEY", default_value = "optwasm-worker/token")]
    pub secret: String,
    /// Cores of each worker
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub cpus: u32,
    /// Memory of each worker's container
    #[arg(long, default_value = "8GiB", value_parser = parse_bytes)]
    pub job_memory: u64,
    /// How long a worker may finish what it runs when it is stopped
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub stop_after: Duration,
    #[command(flatten)]
    pub worker: FleetWorkerArgs,
}

/// What keeps workers on Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// As many as said, for ever
    Deployment,
    /// As many as said, until they leave by themselves
    Job,
}

/// The path of a folder on a host, where no current directory is known.
fn parse_root(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err("expected an absolute path".to_owned()),
    }
}

/// A duration that can be that of a limit or between two questions.
fn parse_period(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("expected more than 0s".to_owned()),
        period => Ok(period),
    }
}
