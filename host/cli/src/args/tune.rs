//! What can be typed after `optwasm tune`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::{Format, JobArgs, PlaceArgs, QueueArgs};
use crate::units::parse_duration;

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
