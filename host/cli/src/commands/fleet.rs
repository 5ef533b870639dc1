//! `optwasm fleet`: workers elsewhere. What each kind of fleet does is in a module of its own; here is
//! what they share: the worker that is started, and the token that goes to it.

mod batch;
mod hosts;
mod local;
mod observer;
mod texts;

use std::io::Write;
use std::path::{Path, PathBuf};

use optwasm_client::{Role, Token};
use optwasm_fleet::batch::system::System;
use optwasm_fleet::{HostError, Secret, WordError, WorkerSpec};

use crate::args::{FleetAction, FleetArgs, FleetWorkerArgs};
use crate::exit::{Exit, Failure};
use crate::run_batch::Signals;
use crate::settings::Settings;

pub async fn run(settings: &Settings, args: FleetArgs) -> Result<Exit, Failure> {
    match args.action {
        FleetAction::Ssh(args) => until_signal(hosts::start(settings, args)).await,
        FleetAction::Status(args) => until_signal(hosts::status(args)).await,
        FleetAction::Stop(args) => until_signal(hosts::stop(args)).await,
        FleetAction::Logs(args) => until_signal(hosts::logs(args)).await,
        FleetAction::Local(args) => local::run(settings, args).await,
        FleetAction::Slurm(args) => batch::run(settings, System::Slurm, *args).await,
        FleetAction::Pbs(args) => batch::run(settings, System::Pbs, *args).await,
        FleetAction::Torque(args) => batch::run(settings, System::Torque, *args).await,
        FleetAction::Sge(args) => batch::run(settings, System::GridEngine, *args).await,
        FleetAction::Lsf(args) => batch::run(settings, System::Lsf, *args).await,
        FleetAction::Systemd(args) => texts::systemd(settings, args),
        FleetAction::K8s(args) => texts::k8s(settings, args),
    }
}

/// Does it, unless a signal comes first. The programs that it runs are in process groups of their own,
/// which no Ctrl-C reaches: they are ended with it.
async fn until_signal(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?.with_hangup()?;
    tokio::select! {
        ended = work => ended,
        signal = signals.next() => {
            tell("stopped; what was begun elsewhere may go on there");
            Ok(signal)
        }
    }
}

/// Says something to whoever still listens: the terminal may be gone.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "optwasm: {text}");
}

/// From where workers reach the coordinator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// From this machine.
    Here,
    /// From others.
    Elsewhere,
}

/// What each worker is started with.
fn worker_spec(
    settings: &Settings,
    from: Reach,
    args: &FleetWorkerArgs,
) -> Result<WorkerSpec, Failure> {
    let connect = match &args.advertise {
        Some(name) => name.clone(),
        None => {
            let (elsewhere, here) = settings.addresses()?;
            match from {
                Reach::Here => here,
                Reach::Elsewhere => {
                    if elsewhere.starts_with("127.") || elsewhere.starts_with("[::1]") {
                        eprintln!(
                            "optwasm: the coordinator listens at {elsewhere}, which only this machine \
                             reaches; start it with --listen 0.0.0.0:4710, or use --advertise"
                        );
                    }
                    elsewhere
                }
            }
        }
    };
    if !crate::discovery::is_address(&connect) {
        return Err(Failure::usage(format!(
            "`{connect}` is not of the form HOST:PORT"
        )));
    }
    Ok(WorkerSpec {
        slots: args.slots,
        memory: args.memory.map(|bytes| bytes.to_string()),
        labels: args.labels.iter().cloned().collect(),
        idle_timeout: args.idle_timeout,
        leave_after: args.leave_after,
        extra: args.extra.clone(),
        ..WorkerSpec::new(connect)
    })
}

/// The token that goes to workers: one for the role `worker`, and no other. The worker is told which
/// coordinator it is for.
async fn worker_secret(
    settings: &Settings,
    file: Option<&Path>,
    worker: &mut WorkerSpec,
) -> Result<Secret, Failure> {
    let token = match settings.worker_token(file)? {
        Some(token) => token,
        None => {
            let client = settings.client().await?;
            let issued = client.issue_token(Role::Worker, 0).await;
            client.close().await;
            let text = issued.map_err(|error| match Failure::from(error) {
                failure if failure.exit == Exit::Unauthorized => {
                    failure.next("Name a token for workers with --worker-token-file FILE")
                }
                failure => failure,
            })?;
            text.parse::<Token>().map_err(Failure::usage)?
        }
    };
    if token.claims.role != Role::Worker {
        return Err(Failure::new(
            Exit::Unauthorized,
            format!(
                "this token is for the role {}; workers are given none but their own",
                token.claims.role
            ),
        )
        .next("Issue one with: optwasm token create worker"));
    }
    worker.coordinator = Some(token.fingerprint.to_string());
    Secret::new(&token.expose()).map_err(Failure::usage)
}

/// This program.
fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::new(Exit::Storage, format!("this program's file: {error}")))
}

impl From<WordError> for Failure {
    fn from(error: WordError) -> Self {
        Self::usage(error)
    }
}

/// What went wrong at one place, in one line.
fn one_line(error: &HostError) -> String {
    error.to_string().replace('\n', "; ")
}
