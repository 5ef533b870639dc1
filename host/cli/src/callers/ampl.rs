//! AMPL's convention for solvers: `solver stub -AMPL key=value…` reads `stub.nl` and writes
//! `stub.sol`.
//!
//! That is how AMPL, Pyomo (`SolverFactory('asl:…')` and `'ipopt'`) and JuMP's AmplNLWriter call.
//! Options come as arguments, in the variable `<solver>_options`, and in a file that the option
//! `option_file_name` names. What the solver found, or that it found nothing, is in the `.sol` file,
//! and the exit code is then 0; it is not 0 where there is no such file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use optwasm_bundle::model::{Solution, nl};

use optwasm_client::Outcome;

use super::{Call, answer};
use crate::exit::{Exit, Failure};
use crate::output::write_file;
use crate::solving::{find_plugin, read_problem, seconds};

/// How solvers call a limit on time, in seconds.
const TIME_LIMITS: [&str; 7] = [
    "timelimit",
    "time_limit",
    "lim:time",
    "maxtime",
    "max_wall_time",
    "max_cpu_time",
    "tech:timelimit",
];

/// Options of the solvers' interfaces rather than of the solvers: what to print, whether to write
/// the solution, which nobody asks for who calls with `-AMPL`.
const IGNORED: [&str; 4] = ["wantsol", "outlev", "timing", "halt_on_ampl_error"];

/// Longest file of options.
const OPTIONS_MAX: u64 = 1 << 20;

/// What the arguments say.
#[derive(Debug, Default, PartialEq)]
struct Request {
    stub: Option<String>,
    plugin: Option<String>,
    options: Vec<(String, String)>,
    time_limit: Option<Duration>,
    quiet: bool,
}

pub async fn run(name: &str, arguments: &[String]) -> Result<Exit, Failure> {
    match arguments.first().map(String::as_str) {
        Some("-v" | "--version") => return print_version(name),
        None | Some("-?" | "-h" | "--help" | "-=") => return print_help(name),
        _ => {}
    }
    let variable = format!("{}_options", name.replace('-', "_"));
    let environment = std::env::var(variable).unwrap_or_default();
    let mut request = Request::default();
    for word in words(&environment) {
        request.option(word)?;
    }
    for word in arguments.iter().filter(|word| *word != "-AMPL") {
        match &request.stub {
            None if !word.starts_with('-') => request.stub = Some(word.clone()),
            _ if word.starts_with('-') => {}
            _ => request.option(word)?,
        }
    }
    let stub = request.stub.as_ref();
    let stub = stub.ok_or_else(|| Failure::usage("expected the name of a .nl file"))?;
    let stub = stub.strip_suffix(".nl").unwrap_or(stub);
    let file = PathBuf::from(format!("{stub}.nl"));

    let by_name = match name {
        "ipopt" => Some("nlp"),
        name => optwasm_bundle::find(name).map(|plugin| plugin.name()),
    };
    let plugin = request.plugin.as_deref().or(by_name);
    let problem = read_problem(&file, plugin)?;
    let model = nl::read(&problem.bytes)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let plugin = problem.plugin;
    let options = request.options.into_iter();
    let call = Call {
        problem,
        // Pyomo passes options that nobody set.
        options: options.filter(|(_, value)| value != "None").collect(),
        time_limit: request.time_limit,
        blobs: Vec::new(),
        max_log: None,
    };
    let answer = match answer(call).await? {
        Ok(answer) => answer,
        Err(signal) => return Ok(signal),
    };
    let stopped = !matches!(answer.report.outcome, Outcome::Ok(_));
    let Some(mut solution) = answer.solution else {
        // Nothing that could be said about the problem: an option that the solver does not take, too
        // little memory.
        let outcome = &answer.report.outcome;
        return Err(Failure::new(
            Exit::of(outcome),
            format!("{}: {outcome}", plugin.name()),
        ));
    };
    if stopped {
        solution.expand(model.variable_names().iter().map(String::as_str));
    }
    let sol = PathBuf::from(format!("{stub}.sol"));
    write_file(&sol, nl::write_sol(&model, &solution, &[]))?;
    if !request.quiet {
        print_answer(name, &solution)?;
        if name == "ipopt" {
            // Pyomo looks for these lines of Ipopt's.
            let seconds = answer.report.wall_us as f64 / 1e6;
            let iterations = solution.iterations.unwrap_or_default();
            say(&format!(
                "\nNumber of Iterations....: {iterations}\n\
                 Total seconds in IPOPT = {seconds:.3}"
            ))?;
        }
    }
    Ok(Exit::Success)
}

impl Request {
    /// Takes `key=value`.
    fn option(&mut self, word: &str) -> Result<(), Failure> {
        let (key, value) = word.split_once('=').ok_or_else(|| {
            Failure::usage(format!("`{word}` is not an option of the form key=value"))
        })?;
        let value = value.trim_matches('"');
        if value == "None" {
            // Pyomo's way of not setting an option.
        } else if TIME_LIMITS.contains(&key) {
            let limit = seconds(value);
            let limit =
                limit.ok_or_else(|| Failure::usage(format!("{key}={value}: expected seconds")))?;
            self.time_limit = Some(limit);
        } else if key == "plugin" {
            find_plugin(value)?;
            self.plugin = Some(value.to_owned());
        } else if key == "option_file_name" {
            let text = crate::inputs::read_file(Path::new(value), OPTIONS_MAX)?;
            for line in String::from_utf8_lossy(&text).lines() {
                let line = line.split('#').next().unwrap_or_default();
                let mut words = line.split_whitespace();
                if let (Some(key), Some(value)) = (words.next(), words.next()) {
                    self.option(&format!("{key}={value}"))?;
                }
            }
        } else if IGNORED.contains(&key) {
            // Said by those who do not call with -AMPL; the .sol file is written anyway.
        } else {
            if (key, value) == ("print_level", "0") {
                self.quiet = true;
            }
            self.options.push((key.to_owned(), value.to_owned()));
        }
        Ok(())
    }
}

/// Words of a variable, where quotes hold values with spaces together.
fn words(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c: char| {
        quoted ^= c == '"';
        !quoted && c.is_whitespace()
    })
    .filter(|word| !word.is_empty())
    .collect()
}

fn print_answer(name: &str, solution: &Solution) -> Result<(), Failure> {
    let mut line = format!("{name}: {}: {}", solution.solver, solution.status);
    if let Some(objective) = solution.objective {
        line.push_str(&format!("; objective {objective}"));
    }
    if let Some(bound) = solution.bound {
        line.push_str(&format!("; bound {bound}"));
    }
    if let Some(message) = &solution.message {
        line.push_str(&format!("; {message}"));
    }
    say(&line)
}

/// Tools look for a version in the first line; that of `ipopt` must be one of Ipopt's to be taken for
/// it at all.
fn print_version(name: &str) -> Result<Exit, Failure> {
    /// The release of Ipopt whose options and suffixes the plugin's solver has.
    const IPOPT: &str = "3.14.0";
    let version = optwasm_bundle::VERSION;
    match name {
        "ipopt" => {
            let solver = optwasm_bundle::find("nlp").map(|plugin| plugin.manifest.solver.as_str());
            let solver = solver.unwrap_or("no solver");
            say(&format!("Ipopt {IPOPT} (optwasm {version}: {solver})"))?;
        }
        name => say(&format!(
            "{name} {version} (optwasm {version}), ASL(20241111)"
        ))?,
    }
    Ok(Exit::Success)
}

fn print_help(name: &str) -> Result<Exit, Failure> {
    say(&format!(
        "usage: {name} stub [-AMPL] [key=value ...]\n\
         Reads stub.nl and writes stub.sol. Keys are the options of the plugin that solves it,\n\
         which `optwasm plugins NAME` lists; also:\n\
         \x20   plugin=NAME       the plugin to use\n\
         \x20   timelimit=SEC     seconds after which the best solution is the answer\n\
         Options are also read from ${}_options.\n\
         With $OPTWASM_CONNECT set, the problem is solved there.",
        name.replace('-', "_")
    ))?;
    Ok(Exit::Success)
}

fn say(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|error| Failure::new(Exit::Storage, format!("stdout: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let mut request = Request::default();
        for word in [
            "tol=1e-6",
            "timelimit=2.5",
            "mip_rel_gap=None",
            "wantsol=1",
            "name=\"a b\"",
        ] {
            request.option(word).unwrap();
        }
        assert_eq!(request.time_limit, Some(Duration::from_millis(2500)));
        assert_eq!(
            request.options,
            [
                ("tol".to_owned(), "1e-6".to_owned()),
                ("name".to_owned(), "a b".to_owned())
            ]
        );
        assert!(request.option("timelimit=soon").is_err());
        assert!(request.option("plugin=nonsense").is_err());
        assert!(request.option("nonsense").is_err());
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(words(" a=1  b=\"x y\" c=2"), ["a=1", "b=\"x y\"", "c=2"]);
        assert!(words("").is_empty());
    }
}
