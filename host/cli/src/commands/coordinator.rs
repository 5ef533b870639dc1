//! `optwasm coordinator`: start one, and look after its directory.

use std::net::SocketAddr;

use optwasm_client::Role;
use optwasm_coordinator::dir::StateDir;
use optwasm_coordinator::{Config, Coordinator};
use optwasm_protocol::access::AccessFile;
use optwasm_store::{MemoryStore, Store};

use crate::args::{CoordinatorAction, CoordinatorArgs, StartArgs};
use crate::commands::maintenance;
use crate::discovery::is_address;
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::probe;
use crate::run_batch::Signals;
use crate::settings::Settings;

pub async fn run(settings: &Settings, args: CoordinatorArgs) -> Result<Exit, Failure> {
    match args.action {
        None => start(settings, args.start).await,
        Some(CoordinatorAction::Status(args)) => maintenance::status(settings, args).await,
        Some(CoordinatorAction::Drain) => maintenance::drain(settings).await,
        Some(CoordinatorAction::Check { repair, output }) => {
            maintenance::check(settings, repair, output)
        }
        Some(CoordinatorAction::Backup { dest }) => maintenance::backup(settings, &dest),
        Some(CoordinatorAction::Compact) => maintenance::compact(settings),
    }
}

async fn start(settings: &Settings, args: StartArgs) -> Result<Exit, Failure> {
    let dir = StateDir::open(&settings.dir)?;
    if args.in_memory {
        let store = MemoryStore::new(args.max_store);
        return serve(settings, args, dir, store).await;
    }
    let store = maintenance::open(settings, &args)?;
    serve(settings, args, dir, store).await
}

async fn serve<S: Store>(
    settings: &Settings,
    args: StartArgs,
    dir: StateDir,
    store: S,
) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let credentials = dir.credentials()?;
    let config = Config {
        lease: args.lease,
        max_queued: args.max_queued.unwrap_or(u64::MAX),
        keep: args.keep,
        engine: probe::group(settings)?,
    };
    let coordinator = Coordinator::new(
        store,
        config,
        credentials.authority.clone(),
        credentials.identity.fingerprint(),
        dir.revocations()?,
    )?;
    let address = coordinator.listen(args.listen, &credentials.identity)?;
    let advertised = advertised(args.advertise.as_deref(), address)?;
    dir.publish(reachable(address), &advertised, &credentials)?;
    let (token_file, worker_token) = dir.publish_token(Role::Worker, &credentials)?;
    let shared = match &settings.access_flag {
        Some(path) => {
            let path = std::path::absolute(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
            let client = match args.access_clients {
                true => Some(dir.publish_token(Role::Client, &credentials)?.1),
                false => None,
            };
            let access = AccessFile::new(advertised.clone(), &worker_token, client.as_ref());
            access.write(&path)?;
            Some((path, access))
        }
        None => None,
    };
    print(format_args!("coordinator listening on {address}"))?;
    print(format_args!(
        "On this machine, a worker joins with:  optwasm worker\n\
         On another, copy {} there and type:\n    \
         optwasm worker --connect {advertised} --token-file worker.token",
        token_file.display(),
    ))?;
    if let Some((path, _)) = &shared {
        print(format_args!(
            "Where this file is shared:\n    optwasm worker --access-file {}",
            path.display()
        ))?;
    }
    let ended = tokio::select! {
        // Being told to stop is how a coordinator ends.
        _ = signals.next() => Ok(()),
        ended = coordinator.stopped() => ended,
    };
    dir.withdraw();
    if let Some((path, access)) = &shared {
        access.withdraw(path);
    }
    coordinator.stop();
    // Peers should hear that this was no accident.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    // The directory stays locked until the process has ended: tasks that end with it still have
    // the store.
    std::mem::forget(dir);
    ended?;
    Ok(Exit::Success)
}

/// Where those on this machine reach a coordinator that listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let loopback: std::net::IpAddr = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(loopback, address.port())
}

/// How other machines reach a coordinator that listens on `address`, `HOST:PORT`.
fn advertised(asked: Option<&str>, address: SocketAddr) -> Result<String, Failure> {
    match asked {
        Some(name) if is_address(name) => Ok(name.to_owned()),
        Some(name) => {
            let full = format!("{name}:{}", address.port());
            // An IPv6 address without brackets would take its last group for the port.
            if is_address(&full) && (name.starts_with('[') || !name.contains(':')) {
                Ok(full)
            } else {
                Err(Failure::usage(format!(
                    "`{name}` is not of the form HOST or HOST:PORT"
                )))
            }
        }
        None if address.ip().is_unspecified() => Ok(format!("{}:{}", host_name(), address.port())),
        None => Ok(address.to_string()),
    }
}

/// This machine's name, as others may know it.
pub fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}
