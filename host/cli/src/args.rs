//! What can be typed.

mod fleet;
pub mod ph;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use optwasm_client::{BatchId, Change, JobId, Limit, Namespace, Profile, Role, WorkerId};

use crate::units::{
    parse_bytes, parse_bytes_limit, parse_change_of_bytes, parse_change_of_count,
    parse_change_of_duration, parse_count, parse_count_limit, parse_duration, parse_pair,
    parse_ranges,
};

pub use fleet::*;

/// Run optimization jobs as WebAssembly modules, here or on other machines.
#[derive(Debug, Parser)]
#[command(
    name = "optwasm",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
#[command(
    after_help = "Exit codes: 0 all succeeded, 1 some job failed, 2 usage, 3 no such thing, \
    4 coordinator unreachable or lost, 5 not authorized, 6 timed out, 7 cancelled, \
    8 verification failed, 9 incompatible version, 10 storage refused, 70 bug, 130 and 143 signals. A single run: \
    20 guest error, 21 trap or panic, 22 out of fuel, 23 memory, 24 deadline, \
    25 output too large, 26 module rejected."
)]
pub struct Cli {
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Directory of this machine's coordinator [env: OPTWASM_DIR]
    /// [default: $XDG_STATE_HOME/optwasm]
    #[arg(long, global = true, value_parser = path(), value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// Say more on stderr; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

/// A path that may be set to nothing, which means not set.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// How to reach a coordinator.
#[derive(Debug, Clone, Args)]
pub struct ConnectArgs {
    /// Coordinator to use [env: OPTWASM_CONNECT] [default: the one that runs on this machine]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub connect: Option<String>,
    /// File that says where the coordinator is, and admits: `optwasm coordinator` writes it, others read
    /// it [env: OPTWASM_ACCESS]
    #[arg(long, global = true, value_parser = path(), value_name = "FILE", conflicts_with = "connect", value_hint = ValueHint::FilePath)]
    pub access_file: Option<PathBuf>,
    /// Coordinator of this name in the configuration file [env: OPTWASM_PROFILE]
    #[arg(short = 'P', long, global = true, value_name = "NAME")]
    pub connect_profile: Option<String>,
    /// File with the token [env: OPTWASM_TOKEN_FILE]; $OPTWASM_TOKEN holds the token itself
    #[arg(long, global = true, value_parser = path(), value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// How long to try to connect again when the connection to the coordinator is lost
    #[arg(long, global = true, env = "OPTWASM_PATIENCE", value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    pub patience: Duration,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run jobs, here or on a coordinator where one is configured; results in order on stdout
    Run(RunArgs),
    /// Solve problem files with the built-in plugins
    Solve(SolveArgs),
    /// Search for the parameters with which an objective has the least loss
    Tune(Box<TuneArgs>),
    /// Solve stochastic programs by progressive hedging
    Ph(ph::PhArgs),
    /// Submit jobs to a coordinator, print the number of their batch, and leave
    Submit(SubmitArgs),
    /// List batches
    Jobs(JobsArgs),
    /// Show the progress of a batch until it is done
    Watch(BatchArgs),
    /// Wait until a batch is done
    Wait(WaitArgs),
    /// Print the results of a batch
    Results(ResultsArgs),
    /// End all unfinished jobs of a batch
    Cancel(BatchArgs),
    /// Run jobs of a batch again that have ended: those that failed, unless others are named
    Retry(RetryArgs),
    /// Say why a job is not running, or what happened to it, attempt by attempt
    Explain(ExplainArgs),
    /// Run a job again here, and compare outcome, bytes and fuel with its result
    Replay(ReplayArgs),
    /// Forget batches that are done, and their results
    Rm(RemoveArgs),
    /// List connected workers
    Workers(ListArgs),
    /// List built-in plugins, or tell all about one
    Plugins(PluginsArgs),
    /// Issue, inspect and revoke tokens
    Token(TokenArgs),
    /// Show what namespaces have used: jobs, fuel, time in slots, bytes
    Usage(UsageArgs),
    /// Say what namespaces may have
    Namespace(NamespaceArgs),
    /// Start a coordinator, or look after one
    Coordinator(CoordinatorArgs),
    /// Work for a coordinator
    Worker(WorkerArgs),
    /// Start workers elsewhere: by ssh, on batch systems, under systemd and Kubernetes
    Fleet(FleetArgs),
    /// Have workers finish what they run, and leave
    Drain(DrainArgs),
    /// Stop the coordinator
    Shutdown(ShutdownArgs),
    /// Write a new guest crate
    New(NewArgs),
    /// Check a module: what it imports, whether it is accepted, what an empty run costs
    Check(CheckArgs),
    /// Make links by which modelling tools call this program as a solver
    Link(LinkArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}

/// What a module runs under.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Job")]
pub struct JobArgs {
    /// Rules of the sandbox: strict, portable, extended, timed
    #[arg(long, default_value = "strict")]
    pub profile: Profile,
    /// Fuel for each job, such as 5e9 or 5G
    #[arg(long, env = "OPTWASM_FUEL", value_parser = parse_count)]
    pub fuel: Option<u64>,
    /// Memory for each job, such as 256MiB
    #[arg(long, env = "OPTWASM_MEMORY", value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Wall-clock time for each job, such as 90s
    #[arg(long, value_parser = parse_duration)]
    pub deadline: Option<Duration>,
    /// Output of each job, at most
    #[arg(long, value_parser = parse_bytes)]
    pub max_output: Option<u64>,
    /// Log of each job, at most; the rest is dropped
    #[arg(long, value_parser = parse_bytes)]
    pub max_log: Option<u64>,
    /// Seed of all randomness in each job
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Environment variable of each job
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub env: Vec<(String, String)>,
    /// Shared data that jobs open by name
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_pair)]
    pub blob: Vec<(String, String)>,
    /// Let the module initialize itself once on each worker, and every job begin from there
    #[arg(long)]
    pub resident: bool,
    /// Let up to so many jobs follow one another in one instance and find what those before left
    #[arg(long, value_name = "JOBS", conflicts_with = "resident")]
    pub max_tasks_per_instance: Option<NonZeroU32>,
    /// Argument of each job; may be repeated
    #[arg(long = "arg", value_name = "ARG", allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// How jobs are scheduled.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Batch")]
pub struct QueueArgs {
    /// Name of the batch, for people
    #[arg(long, default_value = "")]
    pub name: String,
    /// Batches of a higher priority go first
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    pub priority: i32,
    /// Share among batches of the same priority
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub weight: u32,
    /// Label that a worker must have
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub require: Vec<(String, String)>,
    /// How often a job is tried again where another run may end otherwise
    #[arg(long, default_value_t = 2)]
    pub retries: u32,
    /// Outcomes after which a job is tried again [default: deadline, host-out-of-memory,
    /// host-panic, stack-overflow]
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',')]
    pub retry_on: Vec<String>,
    /// Key of this submission: sent twice with the same key, it is one batch
    #[arg(long, value_name = "KEY")]
    pub id: Option<String>,
    /// Whether results of identical jobs answer these
    #[arg(long, default_value = "on")]
    pub memo: MemoArg,
    /// Run each job on so many different workers, which must come to the same bytes
    #[arg(long, value_name = "WORKERS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5))]
    pub verify: u32,
    /// Worker that the jobs go to while it is there, as `optwasm workers` numbers it
    #[arg(long, value_name = "WORKER", conflicts_with = "verify")]
    pub home: Option<WorkerId>,
}

/// How the progress of a batch is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressArg {
    /// As a bar, where stderr is a terminal
    #[default]
    Auto,
    /// As a JSON document a line on stderr, and one that sums up
    Json,
    /// Not at all
    None,
}

/// Whether results of identical jobs answer a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MemoArg {
    /// Yes
    On,
    /// No, and its result answers no other
    Off,
    /// No, but its result answers later ones
    Refresh,
}

/// Where inputs come from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Input")]
pub struct InputArgs {
    /// Files, directories of files, or - for stdin; one job each [default: stdin, or nothing]
    #[arg(value_name = "INPUT", value_hint = ValueHint::AnyPath)]
    pub inputs: Vec<PathBuf>,
    /// One job for each line of the inputs
    #[arg(long)]
    pub each_line: bool,
    /// Each input is a JSON document, converted to CBOR
    #[arg(long, conflicts_with = "each_line")]
    pub json: bool,
    /// One job for each line of JSON in the inputs, converted to CBOR
    #[arg(long, conflicts_with_all = ["each_line", "json"])]
    pub jsonl: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON document
    Json,
    /// One JSON document a line
    Jsonl,
    /// Nothing but the exit code
    Quiet,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Module file, or the name of a built-in plugin
    #[arg(value_hint = ValueHint::FilePath)]
    pub module: String,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub queue: QueueArgs,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Run the job once on every worker; results in the order of their numbers
    #[arg(long, conflicts_with_all = ["home", "verify", "local", "id"])]
    pub each_worker: bool,
    /// How progress is shown
    #[arg(long, default_value = "auto")]
    pub progress: ProgressArg,
    /// How results are printed [default: the outputs themselves]
    #[arg(long)]
    pub output: Option<Format>,
    /// Write each output to a file in this directory
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub out_dir: Option<PathBuf>,
}

/// Where jobs run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Place")]
pub struct PlaceArgs {
    /// Run here, even where a coordinator is configured
    #[arg(long)]
    pub local: bool,
    /// Jobs at once when running here [default: one for each core]
    #[arg(long)]
    pub slots: Option<u32>,
    /// Give up when no worker has taken a job for so long
    #[arg(long, value_parser = parse_duration)]
    pub wait_timeout: Option<Duration>,
}

/// What a plugin is told.
#[derive(Debug, Clone, Args)]
pub struct OptionArgs {
    /// Option of the plugin; may be repeated. `optwasm plugins NAME` lists them
    #[arg(short, long = "option", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub option: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub struct PluginsArgs {
    /// Plugin to tell about: formats, options, licences
    pub name: Option<String>,
    /// How they are printed
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct SolveArgs {
    /// Problem files, or - for stdin
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Plugin to use [default: chosen by what is in the file]
    #[arg(short, long)]
    pub plugin: Option<String>,
    #[command(flatten)]
    pub options: OptionArgs,
    /// Wall-clock time for each problem; then its best solution so far is the answer
    #[arg(long, value_parser = parse_duration, conflicts_with = "deadline")]
    pub time_limit: Option<Duration>,
    /// Fuel for each problem, such as 5G, after which the solver stops and gives its best solution
    #[arg(long, value_name = "FUEL", value_parser = parse_count)]
    pub fuel_for_best: Option<u64>,
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub queue: QueueArgs,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How answers are printed
    #[arg(long, default_value = "table")]
    pub output: Format,
    /// Write the solution here: as JSON where the name ends in .json, else as text
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub solution: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct TuneArgs {
    #[command(subcommand)]
    pub action: Option<TuneAction>,
    /// TOML file with a table `parameters`
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    pub space: Option<PathBuf>,
    /// Objective: a module file
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    pub module: Option<String>,
    /// How evaluations are spread over budgets [default: hyperband where --min-budget is given]
    #[arg(long, help_heading = "Search")]
    pub method: Option<MethodArg>,
    /// Smallest budget
    #[arg(long, value_name = "BUDGET", help_heading = "Search")]
    pub min_budget: Option<f64>,
    /// Largest budget
    #[arg(
        long,
        value_name = "BUDGET",
        default_value_t = 1.0,
        help_heading = "Search"
    )]
    pub max_budget: f64,
    /// One of so many goes on, with so many times the budget
    #[arg(long, default_value_t = 3, help_heading = "Search")]
    pub eta: u32,
    /// Brackets; with the method plain, evaluations [default: until another limit is met]
    #[arg(long, help_heading = "Search")]
    pub iterations: Option<u32>,
    /// Evaluations, at most
    #[arg(long, help_heading = "Search")]
    pub evaluations: Option<u64>,
    /// Stop after so long, counted from when the workers are there
    #[arg(long, value_parser = parse_duration, help_heading = "Search")]
    pub time: Option<Duration>,
    /// Where new parameters come from
    #[arg(long, default_value = "tpe", help_heading = "Search")]
    pub sampler: SamplerArg,
    /// Program that proposes parameters, line by line of JSON, instead of a sampler
    #[arg(
        long,
        value_name = "COMMAND",
        conflicts_with = "sampler",
        help_heading = "Search"
    )]
    pub optimizer: Option<String>,
    /// Evaluate the same whatever the workers do, at the price of waiting for them
    #[arg(long, help_heading = "Search")]
    pub deterministic: bool,
    /// Brackets that are worked on together where --deterministic
    #[arg(long, requires = "deterministic", value_name = "BRACKETS",
        value_parser = clap::value_parser!(u32).range(1..), help_heading = "Search")]
    pub group: Option<u32>,
    /// Directory of the journal and the results
    #[arg(long, default_value = "tune", value_hint = ValueHint::DirPath, help_heading = "Search")]
    pub dir: PathBuf,
    /// Go on with the search whose journal is in that directory
    #[arg(long, help_heading = "Search")]
    pub resume: bool,
    /// Learn from the results in this file or directory, of an earlier search of the same parameters
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Search")]
    pub warm_start: Option<PathBuf>,
    /// Wait until so many workers are there
    #[arg(
        long,
        value_name = "WORKERS",
        default_value_t = 0,
        help_heading = "Search"
    )]
    pub min_workers: usize,
    /// Evaluations at once [default: as many as keep all slots busy]
    #[arg(long, value_name = "EVALUATIONS", help_heading = "Search")]
    pub parallel: Option<usize>,
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub queue: QueueArgs,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How results are printed: improvements for people, every one as JSON
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Subcommand)]
pub enum TuneAction {
    /// Best parameters of a search, and pictures of how it went
    Report {
        /// Directory of the search
        #[arg(default_value = "tune", value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// How the best parameters are printed
        #[arg(long, default_value = "table")]
        output: Format,
    },
}

/// How evaluations are spread over budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MethodArg {
    /// Each with the largest budget
    Plain,
    /// Many with the smallest budget, the best of them with more
    SuccessiveHalving,
    /// Successive halving that begins with small and with large budgets in turn
    Hyperband,
}

/// Where new parameters come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SamplerArg {
    /// Anywhere, with the same likelihood
    Random,
    /// Where a model of the results so far promises most; with hyperband, that is BOHB
    Tpe,
}

#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// Module file, or the name of a built-in plugin
    #[arg(value_hint = ValueHint::FilePath)]
    pub module: String,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Fail where too many jobs are queued, instead of waiting
    #[arg(long)]
    pub no_wait: bool,
    /// How the number of the batch is printed
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// How the list is printed
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Only those of this namespace; for administrators
    #[arg(long)]
    pub namespace: Option<Namespace>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Debug, Args)]
pub struct UsageArgs {
    /// Only that of this namespace
    #[arg(long)]
    pub namespace: Option<Namespace>,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
    /// How the list is printed
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct NamespaceArgs {
    #[command(subcommand)]
    pub action: NamespaceAction,
}

#[derive(Debug, Subcommand)]
pub enum NamespaceAction {
    /// List namespaces, and what each may have
    List(ListArgs),
    /// Change what a namespace may have, which need not be known yet
    Set {
        /// Its name: 1 to 64 of a-z, 0-9, `.`, `_` and `-`
        name: Namespace,
        #[command(flatten)]
        quota: QuotaArgs,
    },
}

#[derive(Debug, Args)]
pub struct QuotaArgs {
    /// Share of the workers' time among namespaces that have jobs waiting [at first: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub weight: Option<u32>,
    /// Jobs that may wait, or `none` [at first: none]
    #[arg(long, value_name = "N", value_parser = parse_count_limit)]
    pub max_queued: Option<Limit>,
    /// Bytes of inputs, results and blobs, or `none` [at first: none]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes_limit)]
    pub max_bytes: Option<Limit>,
    /// Fuel that may be used in all, or `none` [at first: none]
    #[arg(long, value_name = "FUEL", value_parser = parse_count_limit)]
    pub max_fuel: Option<Limit>,
}

#[derive(Debug, Args)]
pub struct BatchArgs {
    /// Number of the batch
    pub batch: BatchId,
}

#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Number of the batch
    pub batch: BatchId,
    /// Those that failed; so it is without this, too
    #[arg(long, conflicts_with_all = ["all", "outcome", "jobs"])]
    pub failed: bool,
    /// All that have ended
    #[arg(long, conflicts_with_all = ["outcome", "jobs"])]
    pub all: bool,
    /// Those that ended so; may be repeated
    #[arg(
        long,
        value_name = "OUTCOME",
        value_delimiter = ',',
        conflicts_with = "jobs"
    )]
    pub outcome: Vec<String>,
    /// These, such as 3,9-12
    #[arg(long, value_name = "INDICES", value_parser = parse_ranges)]
    pub jobs: Option<Ranges>,
    /// Fuel for each from now on, such as x4 or 5G
    #[arg(long, value_parser = parse_change_of_count)]
    pub fuel: Option<Change>,
    /// Memory for each from now on, such as x2 or 2GiB
    #[arg(long, value_parser = parse_change_of_bytes)]
    pub memory: Option<Change>,
    /// Wall-clock time for each from now on, such as x2 or 90s
    #[arg(long, value_parser = parse_change_of_duration)]
    pub deadline: Option<Change>,
}

/// Ranges of indices.
pub type Ranges = Vec<std::ops::Range<u32>>;

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The job: its batch and its index, as in 7.0
    pub job: JobId,
    /// How the answer is printed
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The job: its batch and its index, as in 7.0
    pub job: JobId,
    /// How the answer is printed
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Numbers of the workers, as `optwasm workers` lists them
    #[arg(required = true)]
    pub workers: Vec<WorkerId>,
}

#[derive(Debug, Args)]
pub struct ShutdownArgs {
    /// Have its workers leave, too
    #[arg(long)]
    pub with_workers: bool,
}

#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Numbers of the batches
    #[arg(required = true)]
    pub batches: Vec<BatchId>,
}

#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Number of the batch
    pub batch: BatchId,
    /// Give up after so long; the batch goes on
    #[arg(long, value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct ResultsArgs {
    /// Number of the batch
    pub batch: BatchId,
    /// Wait for results that do not exist yet
    #[arg(long)]
    pub follow: bool,
    /// In the order in which jobs ended, not in that of the inputs
    #[arg(long)]
    pub as_completed: bool,
    /// How results are printed [default: the outputs themselves]
    #[arg(long)]
    pub output: Option<Format>,
    /// Write each output to a file in this directory
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub out_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub action: TokenAction,
}

#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Issue a token and print it
    Create {
        /// What its holder may do: admin, client, worker, read
        role: Role,
        /// Whose batches a client or reader sees [default: those of the namespace `default`]
        #[arg(long)]
        namespace: Option<Namespace>,
        /// How long it is valid [default: for ever]
        #[arg(long, value_parser = parse_duration)]
        expires: Option<Duration>,
    },
    /// Say what a token allows; it is read from the token file or $OPTWASM_TOKEN
    Inspect,
    /// Revoke a token by its name, for good
    Revoke {
        /// The name, as `token inspect` prints it
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CoordinatorArgs {
    #[command(subcommand)]
    pub action: Option<CoordinatorAction>,
    #[command(flatten)]
    pub start: StartArgs,
}

#[derive(Debug, Args)]
pub struct StartArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "0.0.0.0:4710", env = "OPTWASM_LISTEN")]
    pub listen: SocketAddr,
    /// How other machines reach it [default: this machine's name, or the address to listen on]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub advertise: Option<String>,
    /// Let the access file admit clients, too, and not only workers
    #[arg(long, requires = "access_file")]
    pub access_clients: bool,
    /// Most that batches, results and blobs may occupy; beyond it new work is refused
    #[arg(long, default_value = "1TiB", value_parser = parse_bytes)]
    pub max_store: u64,
    /// Disk space kept free, so that results find room when the disk is full
    #[arg(long, default_value = "64MiB", value_parser = parse_bytes)]
    pub reserve: u64,
    /// Where blobs are kept: a URL such as s3://bucket/folder [default: the directory]
    #[arg(long, value_name = "URL")]
    pub blobs: Option<String>,
    /// Keep everything in memory: what is acknowledged ends with the process
    #[arg(long, conflicts_with_all = ["reserve", "blobs"])]
    pub in_memory: bool,
    /// How long a worker that lost its connection keeps what it runs
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub lease: Duration,
    /// Jobs of one namespace that may wait; a submission beyond that waits, too
    #[arg(long, value_parser = parse_count)]
    pub max_queued: Option<u64>,
    /// Forget batches so long after they ended [default: when they are removed]
    #[arg(long, value_parser = parse_duration)]
    pub keep: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub enum CoordinatorAction {
    /// Show how the coordinator is
    Status(ListArgs),
    /// Take no new jobs, hand out none, and stop when none is running
    Drain,
    /// Find what is damaged in its directory, while it is stopped
    Check {
        /// Put aside what is damaged, so that the rest can be used
        #[arg(long)]
        repair: bool,
        /// How the findings are printed
        #[arg(long, default_value = "table")]
        output: Format,
    },
    /// Copy all that it keeps, while it runs or is stopped
    Backup {
        /// Directory to write, which must be empty or not exist
        #[arg(value_hint = ValueHint::DirPath)]
        dest: PathBuf,
    },
    /// Give space of removed batches back to the disk, while it is stopped
    Compact,
}

#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Jobs at once [default: one for each core]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub slots: Option<u32>,
    /// Memory for all jobs together [default: 80 % of this machine's, or of what its control group may use]
    #[arg(long, value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Label that batches may require
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// Name, for people [default: the machine's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Leave after so long without work, counted from connecting, also while the connection is lost
    #[arg(long, value_parser = parse_duration)]
    pub idle_timeout: Option<Duration>,
    /// Leave after so long, and take no job before that cannot end by then
    #[arg(long, value_parser = parse_duration)]
    pub leave_after: Option<Duration>,
    /// Where compiled modules are kept [env: OPTWASM_CACHE_DIR] [default: $XDG_CACHE_HOME/optwasm]
    #[arg(long, value_parser = path(), value_hint = ValueHint::DirPath)]
    pub cache_dir: Option<PathBuf>,
    /// Blobs kept in memory, at most
    #[arg(long, default_value = "1GiB", value_parser = parse_bytes)]
    pub blob_cache: u64,
    /// Leave when this process, which is the parent, has ended
    #[arg(long, hide = true)]
    pub parent: Option<u32>,
}

#[derive(Debug, Args)]
pub struct NewArgs {
    /// Name of the crate and of its folder
    pub name: String,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Module file, or the name of a built-in plugin
    #[arg(value_hint = ValueHint::FilePath)]
    pub module: String,
    /// Rules of the sandbox
    #[arg(long, default_value = "strict")]
    pub profile: Profile,
    /// How the answer is printed
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct LinkArgs {
    /// Directory for the links
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// Names, such as those of plugins; none may begin with `optwasm`, but `optwasm-ampl`. `highs` is the command line of HiGHS, others are solvers of AMPL's kind; `ipopt` is
    /// one for nonlinear programs [default: optwasm-ampl, highs, ipopt]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for each command into this directory
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub out_dir: Option<PathBuf>,
}
