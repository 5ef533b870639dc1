//! This program under other names: as the executables that modelling tools call.
//!
//! | called as | it is |
//! |---|---|
//! | `highs …` | the command line of HiGHS: [`highs`] |
//! | `ipopt stub -AMPL …` | a solver of AMPL's kind, for nonlinear programs: [`ampl`] |
//! | any other name but `optwasm`, or any name with `-AMPL` | a solver of AMPL's kind, for what the stub asks for |
//!
//! The names are links, which `optwasm link` makes. Where a coordinator is configured, the problems
//! are solved there; their jobs end with the caller.

pub mod ampl;
pub mod highs;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use crate::args::{ConnectArgs, JobArgs, PlaceArgs, QueueArgs};
use crate::commands::run::client;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;
use crate::solving::{Answer, Problem, Terms, solve};

/// Names under which `optwasm link` makes this program known unless others are asked for.
pub const NAMES: [&str; 3] = ["optwasm-ampl", "highs", "ipopt"];

/// A way of calling.
pub enum Caller {
    Ampl,
    Highs,
}

/// Under which name this program was called, if that is not its own: the file's name without the
/// extension.
pub fn called_as(arguments: &[OsString]) -> Option<(Caller, String)> {
    let name = Path::new(arguments.first()?).file_stem()?.to_str()?;
    let ampl = arguments.iter().skip(1).any(|word| word == "-AMPL");
    match name {
        "highs" if !ampl => Some((Caller::Highs, name.to_owned())),
        // A copy of another name, such as that of a release, is still this program.
        name if !ampl && name.starts_with("optwasm") && name != "optwasm-ampl" => None,
        name => Some((Caller::Ampl, name.to_owned())),
    }
}

/// The arguments that have a meaning for every command and come from the environment only.
#[derive(Debug, Parser)]
struct Environment {
    #[command(flatten)]
    connect: ConnectArgs,
    #[arg(long, env = "OPTWASM_DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What a caller asks for.
pub struct Call {
    pub problem: Problem,
    pub options: Vec<(String, String)>,
    pub time_limit: Option<Duration>,
    /// Shared data that the job opens by name.
    pub blobs: Vec<(String, String)>,
    /// Bytes of log to bring back.
    pub max_log: Option<u64>,
}

/// Solves the problem, here or where the environment says. The error is the signal that stopped it,
/// or what went wrong.
pub async fn answer(call: Call) -> Result<Result<Answer, Exit>, Failure> {
    let environment = Environment::try_parse_from(["optwasm"]).map_err(Failure::usage)?;
    let settings = Settings::load(environment.connect, environment.dir, None)?;
    let mut job = environment.job;
    job.max_log = call.max_log;
    job.blob = call.blobs;
    let terms = Terms {
        options: call.options,
        time_limit: call.time_limit,
        job: &job,
        queue: &environment.queue,
        attached: true,
    };
    let (client, local) = client(&settings, &environment.place).await?;
    let mut answer = None;
    let stopped = solve(
        &client,
        local,
        &[call.problem],
        &terms,
        None,
        true,
        |_, got| {
            answer = Some(got);
            Ok(())
        },
    )
    .await?;
    client.close().await;
    match (answer, stopped) {
        (_, Some(signal)) => Ok(Err(signal)),
        (Some(answer), None) => Ok(Ok(answer)),
        (None, None) => Err(Failure::new(Exit::Bug, "the job ended without a result")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(words: &[&str]) -> Option<&'static str> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        called_as(&words).map(|(caller, _)| match caller {
            Caller::Ampl => "ampl",
            Caller::Highs => "highs",
        })
    }

    #[test]
    fn the_name_decides() {
        assert_eq!(called(&["/usr/bin/optwasm", "solve"]), None);
        assert_eq!(called(&["optwasm-0.1.0", "solve"]), None);
        assert_eq!(called(&["optwasm", "stub", "-AMPL"]), Some("ampl"));
        assert_eq!(called(&["x/optwasm-ampl", "-v"]), Some("ampl"));
        assert_eq!(called(&["ipopt", "stub"]), Some("ampl"));
        assert_eq!(called(&["highs", "model.mps"]), Some("highs"));
        assert_eq!(called(&["highs", "stub", "-AMPL"]), Some("ampl"));
        assert_eq!(called(&["highs.exe"]), Some("highs"));
    }
}
