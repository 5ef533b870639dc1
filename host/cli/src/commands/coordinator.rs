//! `optwasm coordinator`.

use std::net::SocketAddr;

use optwasm_coordinator::Coordinator;
use optwasm_coordinator::dir::StateDir;
use optwasm_store::MemoryStore;

use crate::args::CoordinatorArgs;
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::run_batch::Signals;
use crate::settings::Settings;

pub async fn run(settings: &Settings, args: CoordinatorArgs) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let dir = StateDir::open(&settings.dir)?;
    let credentials = dir.credentials()?;
    let coordinator = Coordinator::new(
        MemoryStore::new(args.max_store),
        credentials.authority.clone(),
        credentials.identity.fingerprint(),
        dir.revocations()?,
    );
    let address = coordinator.listen(args.listen, &credentials.identity)?;
    dir.publish(reachable(address), &credentials)?;
    let token_file = dir.publish_worker_token(&credentials)?;
    print(format_args!("coordinator listening on {address}"))?;
    print(format_args!(
        "On this machine, a worker joins with:  optwasm worker\n\
         On another, copy {} there and type:\n    \
         optwasm worker --connect {}:{} --token-file worker.token",
        token_file.display(),
        host_name(),
        address.port()
    ))?;
    let exit = tokio::select! {
        signal = signals.next() => signal,
        () = coordinator.stopped() => Exit::Success,
    };
    dir.withdraw();
    coordinator.stop();
    // Peers should hear that this was no accident.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    Ok(match exit {
        // Being told to stop is how a coordinator ends.
        Exit::Terminated | Exit::Interrupted => Exit::Success,
        other => other,
    })
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
