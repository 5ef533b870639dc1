//! What can be typed after `optwasm ph`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use optwasm_ph::{Breakpoints, CandidateRule, Criterion};

use super::{Format, JobArgs, OptionArgs, PlaceArgs, QueueArgs};

#[derive(Debug, Args)]
pub struct PhArgs {
    #[command(subcommand)]
    pub action: PhAction,
}

#[derive(Debug, Subcommand)]
pub enum PhAction {
    /// Solve a stochastic program by progressive hedging, or as one program
    Run(Box<PhRunArgs>),
    /// What uncertainty costs: EV, WS, RP, EEV, EVPI and VSS
    Report(Box<PhReportArgs>),
}

#[derive(Debug, Args)]
pub struct PhRunArgs {
    /// Penalty factor rho; with another rule than fixed, what its rho is multiplied by
    #[arg(
        long,
        default_value_t = 1.0,
        allow_negative_numbers = true,
        help_heading = "Method"
    )]
    pub rho: f64,
    /// Where rho comes from
    #[arg(long, default_value = "fixed", help_heading = "Method")]
    pub rho_rule: RhoRuleArg,
    /// CSV file `variable,rho` with exceptions; variables may be patterns such as acres(*), or
    /// NODE/VARIABLE
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Method")]
    pub rho_file: Option<PathBuf>,
    /// Iterations after the first, at most
    #[arg(long, default_value_t = 100, help_heading = "Method")]
    pub max_iterations: u32,
    /// When to stop: residuals, pysp, term-diff, gap or never, each but the last with =TOLERANCE if
    /// another than its own is wanted; may be repeated, then all must hold
    #[arg(long, value_name = "RULE", default_value = "residuals", value_parser = parse_stop, help_heading = "Method")]
    pub stop: Vec<StopArg>,
    /// One of several rules is enough to stop
    #[arg(long, help_heading = "Method")]
    pub stop_any: bool,
    /// Linearize the proximal terms, by so many pieces on each side [default: where there are
    /// integer variables, by 10]
    #[arg(long, value_name = "PIECES", help_heading = "Method")]
    pub linearize: Option<u32>,
    /// Where the pieces meet
    #[arg(
        long,
        default_value = "uniform",
        requires = "linearize",
        help_heading = "Method"
    )]
    pub breakpoints: BreakpointsArg,
    /// Solve the scenarios in so many bundles; 0 for none [default: those of the tree]
    #[arg(long, value_name = "BUNDLES", help_heading = "Method")]
    pub bundles: Option<usize>,
    /// Do not wait for all: make a step whenever so many scenarios are back
    #[arg(long = "async", value_name = "SCENARIOS", num_args = 0..=1, require_equals = true, default_missing_value = "1", help_heading = "Method")]
    pub asynchronous: Option<usize>,
    /// How feasible points are tried
    #[arg(
        long,
        value_name = "RULE",
        value_delimiter = ',',
        default_value = "closest-scenario,rounding",
        help_heading = "Method"
    )]
    pub candidates: Vec<CandidateArg>,
    /// Try no feasible points and compute no outer bounds, which take most of the solves
    #[arg(long, conflicts_with = "candidates", help_heading = "Method")]
    pub no_bounds: bool,
    /// Solve one program that has all scenarios in it, instead
    #[arg(
        long,
        conflicts_with_all = ["stop", "linearize", "bundles", "asynchronous", "log",
            "warm_start_w", "warm_start_x", "write_w", "write_x"],
        help_heading = "Method"
    )]
    pub extensive: bool,
    /// Weights to start from, as --write-w writes them
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Files")]
    pub warm_start_w: Option<PathBuf>,
    /// Averages to start from, as --write-x writes them
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Files")]
    pub warm_start_x: Option<PathBuf>,
    /// Write the weights here at the end, as CSV
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Files")]
    pub write_w: Option<PathBuf>,
    /// Write the averages here at the end, as CSV
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Files")]
    pub write_x: Option<PathBuf>,
    /// Write a CSV row for each iteration here
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Files")]
    pub log: Option<PathBuf>,
    /// Write the values of all variables in all scenarios here, as CSV
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Files")]
    pub solution: Option<PathBuf>,
    #[command(flatten)]
    pub program: ProgramArgs,
    /// How iterations and the result are printed
    #[arg(long, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct PhReportArgs {
    /// Do not solve the program with all scenarios in it; what depends on it is left out
    #[arg(long)]
    pub no_recourse: bool,
    #[command(flatten)]
    pub program: ProgramArgs,
    /// How the numbers are printed
    #[arg(long, default_value = "table")]
    pub output: Format,
}

/// The program, what solves it, and where.
#[derive(Debug, Clone, Args)]
pub struct ProgramArgs {
    /// A TOML file with a scenario tree, or the three SMPS files .cor, .tim and .sto
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub solver: SolverArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub queue: QueueArgs,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Wait until so many workers are there
    #[arg(
        long,
        value_name = "WORKERS",
        default_value_t = 1,
        help_heading = "Place"
    )]
    pub min_workers: usize,
}

/// What solves.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Solver")]
pub struct SolverArgs {
    /// Plugin to use wherever it can: highs, linear, conic [default: the first of them there is]
    #[arg(long)]
    pub solver: Option<String>,
    #[command(flatten)]
    pub options: OptionArgs,
}

/// Where rho comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RhoRuleArg {
    /// The same for all variables
    Fixed,
    /// The variable's cost
    Cost,
    /// The variable's cost, divided by how far scenarios differ at first
    Sep,
}

/// Where the pieces of linearized terms meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BreakpointsArg {
    /// From bound to bound
    Uniform,
    /// Between the least and the greatest value of the scenarios
    Observed,
    /// Around the average
    Near,
}

impl From<BreakpointsArg> for Breakpoints {
    fn from(arg: BreakpointsArg) -> Self {
        match arg {
            BreakpointsArg::Uniform => Breakpoints::Uniform,
            BreakpointsArg::Observed => Breakpoints::Observed,
            BreakpointsArg::Near => Breakpoints::Near,
        }
    }
}

/// How a feasible point is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CandidateArg {
    /// Of the values of the scenario that is nearest to the averages
    ClosestScenario,
    /// Of the averages, rounded where they must be integer
    Rounding,
    /// As rounding, but of what most scenarios want where it must be integer
    Voting,
}

impl From<CandidateArg> for CandidateRule {
    fn from(arg: CandidateArg) -> Self {
        match arg {
            CandidateArg::ClosestScenario => CandidateRule::ClosestScenario,
            CandidateArg::Rounding => CandidateRule::Rounding,
            CandidateArg::Voting => CandidateRule::Voting,
        }
    }
}

/// A rule to stop by, if any.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StopArg(pub Option<Criterion>);

fn parse_stop(text: &str) -> Result<StopArg, String> {
    let (name, tolerance) = match text.split_once('=') {
        Some((name, tolerance)) => {
            let number = tolerance.parse::<f64>().ok();
            let number = number.filter(|x| x.is_finite() && *x >= 0.0);
            let number = number.ok_or_else(|| format!("`{tolerance}` is no tolerance"))?;
            (name, Some(number))
        }
        None => (text, None),
    };
    // Tolerances are the defaults of PySP; that of term-diff is the one that its tests use.
    Ok(StopArg(Some(match name {
        "residuals" => {
            let tolerance = tolerance.unwrap_or(1e-4);
            Criterion::Residuals {
                absolute: tolerance,
                relative: tolerance,
            }
        }
        "pysp" => Criterion::NormalizedTermDiff(tolerance.unwrap_or(1e-4)),
        "term-diff" => Criterion::TermDiff(tolerance.unwrap_or(0.01)),
        "gap" => Criterion::Gap(tolerance.unwrap_or(1e-3)),
        "never" if tolerance.is_none() => return Ok(StopArg(None)),
        _ => {
            let rules = "residuals, pysp, term-diff, gap and never";
            return Err(format!("there is no rule `{text}`; there are {rules}"));
        }
    })))
}
