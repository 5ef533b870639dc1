//! The `optwasm` command.
//!
//! [`args`] says what can be typed, [`commands`] does it, one module a command; [`callers`] is what
//! this program does under other names; [`exit`] turns
//! whatever goes wrong into one line, what to type next, and an exit code. [`settings`] finds out
//! where things are and whom to talk to, [`discovery`] where several places say so; [`probe`] what this machine computes like; [`inputs`], [`output`] and [`progress`] are what comes in,
//! what goes out, and what is shown meanwhile.

mod args;
mod callers;
mod commands;
mod discovery;
mod exit;
mod inputs;
mod output;
mod probe;
mod progress;
mod run_batch;
mod settings;
mod solving;
mod units;
mod values;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tokio::task::LocalSet;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};
use crate::callers::Caller;
use crate::exit::{Exit, Failure};

/// The argument that makes this program its own compiler process; nobody types it.
const COMPILE: &str = "__compile";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|word| word == COMPILE) {
        let arguments: Vec<String> = std::env::args().skip(2).collect();
        return optwasm_sandbox::compile_child(&arguments);
    }
    std::panic::set_hook(Box::new(|panic| {
        // A message that cannot be written has nowhere to go.
        let _ = writeln!(
            std::io::stderr(),
            "optwasm: internal error: {panic}\nThis is a bug; please report it."
        );
    }));
    let result = match callers::called_as(&arguments) {
        Some((caller, name)) => {
            init_log(0);
            std::panic::catch_unwind(|| start(call(caller, name)))
        }
        None => {
            let cli = Cli::parse();
            init_log(cli.verbose);
            std::panic::catch_unwind(|| start(async { dispatch(cli).await.map(ExitCode::from) }))
        }
    };
    match result {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => {
            failure.print();
            failure.exit.into()
        }
        Err(_) => Exit::Bug.into(),
    }
}

fn init_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("OPTWASM_LOG").unwrap_or_else(|_| {
        EnvFilter::new(format!("warn,optwasm={level},optwasm_coordinator={level},optwasm_worker={level},optwasm_sandbox={level}"))
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn start(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    // One thread drives the network; what computes has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Bug, format!("no runtime: {error}")))?;
    let result = LocalSet::new().block_on(&runtime, command);
    runtime.shutdown_background();
    result
}

/// Does what a modelling tool asks for that takes this for another program.
async fn call(caller: Caller, name: String) -> Result<ExitCode, Failure> {
    let arguments = std::env::args_os().skip(1).map(OsString::into_string);
    let arguments: Vec<String> = arguments.collect::<Result<_, _>>().map_err(|argument| {
        Failure::usage(format!(
            "{}: an argument that is not UTF-8",
            argument.display()
        ))
    })?;
    match caller {
        Caller::Ampl => callers::ampl::run(&name, &arguments)
            .await
            .map(ExitCode::from),
        Caller::Highs => Ok(ExitCode::from(callers::highs::run(&arguments).await)),
    }
}

async fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let Cli {
        connect,
        dir,
        command,
        ..
    } = cli;
    // These have a directory of their own under that name, which is not the coordinator's.
    let has_own = matches!(command, Command::Tune(_) | Command::Link(_));
    let cache_dir = match &command {
        Command::Worker(args) => args.cache_dir.clone(),
        _ => None,
    };
    let settings = settings::Settings::load(connect, dir.filter(|_| !has_own), cache_dir)?;
    match command {
        Command::Run(args) => commands::run::run(&settings, args).await,
        Command::Solve(args) => commands::solve::run(&settings, args).await,
        Command::Tune(args) => commands::tune::run(&settings, *args).await,
        Command::Ph(args) => commands::ph::run(&settings, args).await,
        Command::Submit(args) => commands::submit::run(&settings, args).await,
        Command::Jobs(args) => commands::batches::jobs(&settings, args).await,
        Command::Watch(args) => commands::batches::watch(&settings, args).await,
        Command::Wait(args) => commands::batches::wait(&settings, args).await,
        Command::Results(args) => commands::batches::results(&settings, args).await,
        Command::Cancel(args) => commands::batches::cancel(&settings, args).await,
        Command::Rm(args) => commands::batches::remove(&settings, args).await,
        Command::Workers(args) => commands::cluster::workers(&settings, args).await,
        Command::Token(args) => commands::cluster::token(&settings, args).await,
        Command::Usage(args) => commands::namespaces::usage(&settings, args).await,
        Command::Namespace(args) => commands::namespaces::namespace(&settings, args).await,
        Command::Retry(args) => commands::batches::retry(&settings, args).await,
        Command::Explain(args) => commands::explain::run(&settings, args).await,
        Command::Replay(args) => commands::replay::run(&settings, args).await,
        Command::Drain(args) => commands::cluster::drain(&settings, args).await,
        Command::Shutdown(args) => commands::cluster::shutdown(&settings, args).await,
        Command::Coordinator(args) => commands::coordinator::run(&settings, args).await,
        Command::Worker(args) => commands::worker::run(&settings, args).await,
        Command::Fleet(args) => commands::fleet::run(&settings, args).await,
        Command::Plugins(args) => commands::modules::plugins(args),
        Command::Check(args) => commands::modules::check(&settings, args).await,
        Command::New(args) => commands::modules::new(args),
        Command::Link(args) => commands::shell::link(args),
        Command::Completions(args) => commands::shell::completions(args),
        Command::Man(args) => commands::shell::man(args),
    }
}
