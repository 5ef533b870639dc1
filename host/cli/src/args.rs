//! What can be typed.

mod cluster;
mod fleet;
mod jobs;
pub mod ph;
mod tune;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use optwasm_client::Profile;

use crate::units::parse_duration;

pub use cluster::*;
pub use fleet::*;
pub use jobs::*;
pub use tune::*;

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
pub struct PluginsArgs {
    /// Plugin to tell about: formats, options, licences
    pub name: Option<String>,
    /// How they are printed
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
