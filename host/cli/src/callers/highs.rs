//! The command line of HiGHS 1.15: `highs model.mps --options_file=… --solution_file=…`.
//!
//! Names of options, files, texts on stdout and exit codes are those of HiGHS's own executable, as
//! PuLP and others rely on them: 0 for success, 1 where a limit ended the solve, 255 for errors. The
//! log is HiGHS's own, from inside the sandbox; its times are those of the sandbox's clock.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use optwasm_bundle::model::{Basis, Model, Solution, Status};
use optwasm_bundle::{Kind, OptionSpec};
use optwasm_client::Outcome;

use super::{Call, answer};
use crate::exit::{Exit, Failure};
use crate::inputs::read_file;
use crate::output::write_file;
use crate::solving::{Answer, Problem, find_plugin, read_problem, seconds};

/// Longest file of options, and longest solution that is read.
const OPTIONS_MAX: u64 = 1 << 20;
const SOLUTION_MAX: u64 = 64 << 20;

/// Log that is brought back, the most that a job may have.
const LOG_MAX: u64 = 1 << 20;

/// What the arguments and the options file ask for.
#[derive(Debug)]
struct Request {
    model_file: Option<PathBuf>,
    solution_file: Option<PathBuf>,
    write_solution: bool,
    solution_style: i32,
    basis_file: Option<PathBuf>,
    start_file: Option<PathBuf>,
    log_file: Option<PathBuf>,
    log_to_console: bool,
    output: bool,
    time_limit: Option<Duration>,
    options: Vec<(String, String)>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            model_file: None,
            solution_file: None,
            write_solution: false,
            solution_style: 0,
            basis_file: None,
            start_file: None,
            // As HiGHS's executable, which always leaves one.
            log_file: Some("HiGHS.log".into()),
            log_to_console: true,
            output: true,
            time_limit: None,
            options: Vec::new(),
        }
    }
}

/// What HiGHS's executable returns.
const WARNING: u8 = 1;
const ERROR: u8 = 255;

/// Does what the arguments say. Whatever goes wrong is an error of HiGHS's: its text is on stdout and
/// in the log.
pub async fn run(arguments: &[String]) -> u8 {
    let mut log = None;
    match run_or_fail(arguments, &mut log).await {
        Ok(code) => code,
        Err(failure) => {
            let line = format!("ERROR:   {failure}\n");
            // What cannot be written has nowhere to go.
            let _ = say(line.trim_end());
            if let Some(path) = log {
                let _ = write_file(&path, line);
            }
            ERROR
        }
    }
}

/// `log` is set to the log file as soon as that is known, and the file is emptied: who calls must not
/// find the log of an earlier run there.
async fn run_or_fail(arguments: &[String], log: &mut Option<PathBuf>) -> Result<u8, Failure> {
    let mut request = Request::default();
    // What the command line says counts more than what is in the file, wherever it stands.
    if let Some(file) = options_file(arguments)
        && let Err(message) = request.read_options(Path::new(file))
    {
        return refuse(&message);
    }
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let done = match word.as_str() {
            "-v" | "--version" => return print_version(),
            "-h" | "--help" => return print_help(),
            word => match word.strip_prefix("--") {
                Some(option) => {
                    let (key, value) = match option.split_once('=') {
                        Some((key, value)) => (key, value),
                        None => (option, words.next().map_or("", String::as_str)),
                    };
                    match key {
                        "options_file" => Ok(()),
                        key => request.set(key, value),
                    }
                }
                None if request.model_file.is_none() => {
                    request.model_file = Some(word.into());
                    Ok(())
                }
                None => Err(format!(
                    "The following argument was not expected: {word}\nMultiple files not supported."
                )),
            },
        };
        if let Err(message) = done {
            return refuse(&message);
        }
    }
    if request.output
        && let Some(path) = &request.log_file
    {
        write_file(path, "")?;
        *log = Some(path.clone());
    }
    let Some(file) = request.model_file.clone() else {
        return refuse("Please specify filename in .mps|.lp|.nl format.");
    };
    if !file.exists() {
        return refuse(&format!(
            "--model_file: File does not exist: {}",
            file.display()
        ));
    }
    let problem = match read_problem(&file, Some("highs")) {
        Ok(problem) => problem,
        Err(failure) => return refuse(&failure.to_string()),
    };
    let model = match optwasm_bundle::model::read(&problem.bytes) {
        Ok(model) => model,
        Err(error) => {
            return refuse(&format!("{}: {error}\nError loading file", file.display()));
        }
    };
    match request.solve(problem).await? {
        Ok(mut answer) => {
            let stopped = !matches!(answer.report.outcome, Outcome::Ok(_));
            if let (Some(solution), true) = (&mut answer.solution, stopped) {
                solution.expand(model.columns.iter().map(|column| column.name.as_str()));
            }
            request.finish(&file, &model, &answer)
        }
        Err(signal) => Ok(signal as u8),
    }
}

/// The value of `--options_file`.
fn options_file(arguments: &[String]) -> Option<&str> {
    let mut words = arguments.iter();
    loop {
        let value = words.next()?.strip_prefix("--options_file");
        match value.map(|value| value.strip_prefix('=')) {
            Some(Some(path)) => return Some(path),
            Some(None) => return words.next().map(String::as_str),
            None => {}
        }
    }
}

/// Says why on stdout, as HiGHS does.
fn refuse(message: &str) -> Result<u8, Failure> {
    say(message)?;
    Ok(ERROR)
}

impl Request {
    /// Sets an option by HiGHS's name.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let switch = |value: &str| match value {
            "true" | "on" | "t" | "T" | "1" | "True" => Ok(true),
            "false" | "off" | "f" | "F" | "0" | "False" => Ok(false),
            _ => Err(format!(
                "ERROR:   Cannot read value \"{value}\" for option \"{key}\""
            )),
        };
        let path = |value: &str| (!value.is_empty()).then(|| PathBuf::from(value));
        match key {
            "model_file" => self.model_file = path(value),
            "solution_file" => {
                self.solution_file = path(value);
                self.write_solution = true;
            }
            "write_solution_to_file" => self.write_solution = switch(value)?,
            "write_solution_style" => {
                self.solution_style = value.parse().ok().filter(|style| [0, 1, 4].contains(style)).ok_or(
                    format!("ERROR:   write_solution_style = {value}: only 0, 1 and 4 are supported here"),
                )?;
            }
            "write_basis_file" => self.basis_file = path(value),
            "read_solution_file" => self.start_file = path(value),
            "log_file" => self.log_file = path(value),
            "log_to_console" => self.log_to_console = switch(value)?,
            "output_flag" => self.output = switch(value)?,
            "time_limit" => {
                self.time_limit = Some(seconds(value).ok_or(format!(
                    "ERROR:   Cannot read value \"{value}\" for option \"{key}\""
                ))?);
            }
            // A sandbox has one thread, one reader of MPS files for both forms, and one clock.
            "threads" | "parallel" | "mps_parser_type_free" | "timeless_log" => {}
            "ranging" if value == "off" => {}
            "ranging"
            | "write_model_file"
            | "write_model_to_file"
            | "read_basis_file"
            | "write_presolved_model_file" => {
                return Err(format!("ERROR:   option \"{key}\" is not supported here"));
            }
            _ => {
                // HiGHS's spellings of a switch are more than a plugin's.
                let is_switch = |option: &OptionSpec| option.kind == Kind::Switch;
                let plugin = optwasm_bundle::find("highs");
                let option = plugin.and_then(|plugin| plugin.manifest.option(key));
                let value = match option.is_some_and(is_switch) {
                    true => switch(value)?.to_string(),
                    false => value.to_owned(),
                };
                self.options.push((key.to_owned(), value));
            }
        }
        Ok(())
    }

    /// Reads lines `key = value`, with comments after `#`.
    fn read_options(&mut self, path: &Path) -> Result<(), String> {
        let bytes =
            read_file(path, OPTIONS_MAX).map_err(|error| format!("--options_file: {error}"))?;
        for (number, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line.split_once('=').ok_or(format!(
                "ERROR:   Error on line {} of options file.",
                number + 1
            ))?;
            let bare = |text: &'_ str| text.trim().trim_matches(['"', '\'']).to_owned();
            self.set(&bare(key), &bare(value))?;
        }
        Ok(())
    }

    async fn solve(&self, problem: Problem) -> Result<Result<Answer, Exit>, Failure> {
        let mut options = self.options.clone();
        options.push(("log_to_console".to_owned(), self.output.to_string()));
        let mut blobs = Vec::new();
        if let Some(start) = &self.start_file {
            // Checked here, so that a wrong name is told now and not by the job.
            read_file(start, SOLUTION_MAX)?;
            blobs.push(("start".to_owned(), start.display().to_string()));
        }
        answer(Call {
            problem,
            options,
            time_limit: self.time_limit,
            blobs,
            max_log: Some(LOG_MAX),
        })
        .await
    }

    /// Writes log and files; returns the exit code.
    fn finish(&self, file: &Path, model: &Model, answer: &Answer) -> Result<u8, Failure> {
        let failed = Solution::without_values(Status::NumericalFailure, "HiGHS");
        let solution = answer.solution.as_ref().unwrap_or(&failed);
        let mut log = String::new();
        for record in &answer.report.log {
            log.push_str(&record.message);
            log.push('\n');
        }
        if answer.solution.is_none() {
            let _ = writeln!(log, "ERROR:   {}", answer.report.outcome);
        } else if !matches!(answer.report.outcome, Outcome::Ok(_)) {
            // The log ends where the time or the fuel did.
            log.push_str(&report(file, model, solution));
        }
        if self.output {
            if self.log_to_console {
                say(log.trim_end())?;
            }
            if let Some(path) = &self.log_file {
                write_file(path, &log)?;
            }
        }
        if answer.solution.is_none() {
            return Ok(ERROR);
        }
        if self.write_solution {
            let text = match self.solution_style {
                1 => pretty(model, solution),
                style => raw(model, solution, style == 4),
            };
            match &self.solution_file {
                Some(path) => write_file(path, &text)?,
                None => say(text.trim_end())?,
            }
        }
        if let Some(path) = &self.basis_file {
            write_file(path, basis(model, solution.basis.as_ref()))?;
        }
        Ok(match solution.status {
            Status::TimeLimit
            | Status::IterationLimit
            | Status::FuelLimit
            | Status::Feasible
            | Status::Unknown => WARNING,
            Status::NumericalFailure => ERROR,
            _ => 0,
        })
    }
}

/// HiGHS's words for a status.
fn status_text(status: Status) -> &'static str {
    match status {
        Status::Optimal | Status::OptimalInaccurate => "Optimal",
        Status::Infeasible => "Infeasible",
        Status::Unbounded => "Unbounded",
        Status::InfeasibleOrUnbounded => "Primal infeasible or unbounded",
        Status::TimeLimit => "Time limit reached",
        Status::IterationLimit => "Iteration limit reached",
        Status::FuelLimit => "Interrupted by user",
        Status::NumericalFailure => "Solve error",
        _ => "Unknown",
    }
}

/// The end of the log that a solve without a time limit would have written.
fn report(file: &Path, model: &Model, solution: &Solution) -> String {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let status = status_text(solution.status);
    let number = |value: Option<f64>, none: f64| value.unwrap_or(none);
    if !model.is_mixed_integer() {
        return format!(
            "\nModel name          : {name}\nModel status        : {status}\n\
             Objective value     :  {:e}\n",
            number(solution.objective, 0.0)
        );
    }
    let gap = solution
        .gap
        .map_or_else(|| "inf".to_owned(), |gap| format!("{}%", 100.0 * gap));
    let found = if solution.values.is_empty() {
        "-"
    } else {
        "feasible"
    };
    format!(
        "\nSolving report\n  Model             {name}\n  Status            {status}\n  \
         Primal bound      {}\n  Dual bound        {}\n  Gap               {gap}\n  \
         Solution status   {found}\n",
        number(solution.objective, f64::INFINITY),
        number(solution.bound, f64::NEG_INFINITY)
    )
}

/// Values of the rows at the solution.
fn activities(model: &Model, solution: &Solution) -> Vec<f64> {
    let mut activity = vec![0.0; model.rows.len()];
    for entry in &model.entries {
        activity[entry.row] += entry.value * solution.values[entry.column];
    }
    activity
}

/// A solution file of style 0, or 4 if `sparse`.
fn raw(model: &Model, solution: &Solution, sparse: bool) -> String {
    let mut text = format!("Model status\n{}\n", status_text(solution.status));
    let section = |text: &mut String, title: &str, lines: &[(&str, f64)]| {
        let _ = writeln!(text, "# {title} {}", lines.len());
        for (name, value) in lines {
            // Adding zero makes a zero of either sign one without.
            let _ = writeln!(text, "{name} {}", value + 0.0);
        }
    };
    let columns = |values: &[f64]| -> Vec<(&str, f64)> {
        let names = model.columns.iter().map(|column| column.name.as_str());
        names.zip(values.iter().copied()).collect()
    };
    let rows = |values: &[f64]| -> Vec<(&str, f64)> {
        let names = model.rows.iter().map(|row| row.name.as_str());
        names.zip(values.iter().copied()).collect()
    };
    text.push_str("\n# Primal solution values\n");
    if solution.values.len() == model.columns.len() && solution.objective.is_some() {
        let objective = solution.objective.unwrap_or_default();
        let _ = writeln!(text, "Feasible\nObjective {objective}");
        let values = columns(&solution.values);
        if sparse {
            let nonzero = || {
                values
                    .iter()
                    .enumerate()
                    .filter(|(_, (_, value))| *value != 0.0)
            };
            let _ = writeln!(text, "# Columns -{}", nonzero().count());
            for (place, (name, value)) in nonzero() {
                let _ = writeln!(text, "{name} {value} {place}");
            }
            return text;
        }
        section(&mut text, "Columns", &values);
        section(&mut text, "Rows", &rows(&activities(model, solution)));
    } else {
        text.push_str("None\n");
    }
    text.push_str("\n# Dual solution values\n");
    if solution.duals.len() == model.rows.len()
        && solution.reduced_costs.len() == model.columns.len()
        && solution.basis.is_some()
    {
        text.push_str("Feasible\n");
        section(&mut text, "Columns", &columns(&solution.reduced_costs));
        section(&mut text, "Rows", &rows(&solution.duals));
    } else {
        text.push_str("None\n");
    }
    text.push_str("\n# Basis\n");
    text.push_str(&basis(model, solution.basis.as_ref()));
    text
}

/// A basis file.
fn basis(model: &Model, basis: Option<&Basis>) -> String {
    let mut text = String::from("HiGHS_basis_file v2\n");
    let Some(basis) = basis else {
        text.push_str("None\n");
        return text;
    };
    // `kHighsBasisStatus…` of HiGHS's highs_c_api.h.
    let code = |letter: char| match letter {
        'L' => 0,
        'B' => 1,
        'U' => 2,
        'Z' => 3,
        _ => 4,
    };
    text.push_str("Valid\n");
    let _ = writeln!(text, "# Columns {}", model.columns.len());
    for (column, letter) in model.columns.iter().zip(basis.variables.chars()) {
        let _ = writeln!(text, "{} {}", column.name, code(letter));
    }
    let _ = writeln!(text, "# Rows {}", model.rows.len());
    for (row, letter) in model.rows.iter().zip(basis.constraints.chars()) {
        let _ = writeln!(text, "{} {}", row.name, code(letter));
    }
    text
}

/// A solution file of style 1, for people.
fn pretty(model: &Model, solution: &Solution) -> String {
    let mut text = String::new();
    let columns = model
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.lower, c.upper));
    let rows = model
        .rows
        .iter()
        .map(|r| (r.name.as_str(), r.lower, r.upper));
    let activity = if solution.values.is_empty() {
        Vec::new()
    } else {
        activities(model, solution)
    };
    let letters = solution.basis.as_ref();
    let mut section = |title: &str,
                       lines: &mut dyn Iterator<Item = (&str, f64, f64)>,
                       primal: &[f64],
                       dual: &[f64],
                       letters: &str| {
        let _ = writeln!(
            text,
            "{title}\n    Index Status        Lower        Upper       Primal         Dual  Name"
        );
        let cell = |values: &[f64], place: usize| {
            values
                .get(place)
                .map_or_else(|| " ".repeat(12), |value| format!("{value:>12}"))
        };
        for (place, (name, lower, upper)) in lines.enumerate() {
            let status = match letters.as_bytes().get(place) {
                Some(b'L') if lower == upper => "FX",
                Some(b'L') => "LB",
                Some(b'U') => "UB",
                Some(b'B') => "BS",
                Some(b'Z') => "FR",
                Some(_) => "NB",
                None => "",
            };
            let (primal, dual) = (cell(primal, place), cell(dual, place));
            let _ = writeln!(
                text,
                "{place:9}   {status:>4} {lower:>12} {upper:>12} {primal} {dual}  {name}"
            );
        }
    };
    let (of_columns, of_rows) = letters.map_or(("", ""), |basis| {
        (basis.variables.as_str(), basis.constraints.as_str())
    });
    section(
        "Columns",
        &mut { columns },
        &solution.values,
        &solution.reduced_costs,
        of_columns,
    );
    section("Rows", &mut { rows }, &activity, &solution.duals, of_rows);
    let _ = write!(
        text,
        "\nModel status: {}\n\nObjective value: {}\n",
        status_text(solution.status),
        solution.objective.unwrap_or_default()
    );
    text
}

fn say(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|error| Failure::new(Exit::Storage, format!("stdout: {error}")))
}

fn print_version() -> Result<u8, Failure> {
    let solver = &find_plugin("highs")?.manifest.solver;
    let version = solver.trim_start_matches("HiGHS ");
    say(&format!(
        "HiGHS version {version} (optwasm {})",
        optwasm_bundle::VERSION
    ))?;
    Ok(0)
}

fn print_help() -> Result<u8, Failure> {
    say("usage:\n      highs [options] [file]\n\
         Options of HiGHS as --name=value, and as lines `name = value` in --options_file=FILE.\n\
         Files: --model_file, --solution_file, --read_solution_file, --write_basis_file, --log_file.\n\
         `optwasm plugins highs` lists the options of the solver.")?;
    Ok(0)
}
