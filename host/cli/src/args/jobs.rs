//! What can be typed about jobs and batches.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};
use optwasm_client::{BatchId, Change, JobId, Namespace, Profile, WorkerId};

use super::{Format, ListArgs};
use crate::units::{
    parse_bytes, parse_change_of_bytes, parse_change_of_count, parse_change_of_duration,
    parse_count, parse_duration, parse_pair, parse_ranges,
};

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
pub struct JobsArgs {
    /// Only those of this namespace; for administrators
    #[arg(long)]
    pub namespace: Option<Namespace>,
    #[command(flatten)]
    pub list: ListArgs,
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
