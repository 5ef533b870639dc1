//! A worker's life: connect, serve, and connect again, until it is drained.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use optwasm_protocol::backoff::{self, Backoff};
use optwasm_protocol::endpoint::{self, EndpointError};
use optwasm_protocol::handshake::{self, HandshakeError, Intent, RefusalCode};
use optwasm_protocol::link::CloseCode;
use optwasm_protocol::{Link, Token};
use tokio::sync::watch;

use crate::session::{self, Drain, Left, Worker};

/// Name and version of this software, as the coordinator sees it.
const SOFTWARE: &str = concat!("optwasm/", env!("CARGO_PKG_VERSION"));

/// How often a worker without a connection looks whether it may leave.
const LOOK: Duration = Duration::from_millis(100);

/// Where a worker works.
pub enum Target {
    /// For a coordinator elsewhere.
    Remote {
        /// Where it listens.
        address: SocketAddr,
        /// What admits the worker.
        token: Token,
    },
    /// For a coordinator in this process.
    InProcess(Link),
}

/// Why a worker stopped by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was drained.
    Drained,
    /// It had nothing to do for its idle timeout.
    Idle,
    /// The coordinator in this process is gone.
    Closed,
    /// The coordinator told it to leave.
    Dismissed,
}

/// Why a worker cannot work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The coordinator refuses it; it would do so again.
    #[error(transparent)]
    Refused(HandshakeError),
    /// What answers at the address is not the coordinator that the token is for.
    #[error(transparent)]
    Endpoint(EndpointError),
}

/// Runs a worker until it is drained, has been idle for `idle_timeout`, or is refused for good.
/// Lost connections are made again, with growing pauses, for ever. `said` hears of them.
///
/// Must be called on a [`tokio::task::LocalSet`].
///
/// # Errors
///
/// [`WorkerError`].
pub async fn run(
    worker: Rc<Worker>,
    target: Target,
    drain: watch::Receiver<Drain>,
    idle_timeout: Option<Duration>,
    mut said: impl FnMut(&str),
) -> Result<Ended, WorkerError> {
    let mut backoff = Backoff::default();
    loop {
        let (address, token, mut connected) = match &target {
            Target::InProcess(link) => (None, None, Ok((None, link.clone()))),
            Target::Remote { address, token } => {
                let connecting = tokio::select! {
                    connecting = endpoint::connect(*address, token.fingerprint) => connecting,
                    () = may_leave(&worker, &drain) => return Ok(Ended::Drained),
                };
                let connected = connecting.map(|(e, c)| (Some(e), Link::Quic(c)));
                (Some(address), Some(token), connected)
            }
        };
        if let Ok((_endpoint, link)) = &mut connected {
            let intent = Intent::Worker(worker.info.clone());
            match handshake::introduce(link, token, SOFTWARE, intent).await {
                Ok((welcome, stream)) => {
                    backoff = Backoff::default();
                    worker.enter(welcome.life);
                    let number = welcome.worker.map_or(0, |id| id.0);
                    if let Some(address) = address {
                        said(&format!("connected to {address} as worker {number}"));
                    }
                    worker.busy.set(Instant::now());
                    let ended = tokio::select! {
                        ended = session::run(&worker, link.clone(), stream, drain.clone()) => ended,
                        () = idle(&worker, idle_timeout) => {
                            link.close(CloseCode::Done, "idle");
                            return Ok(Ended::Idle);
                        }
                    };
                    match ended {
                        Ok(Left::Dismissed) => {
                            link.close(CloseCode::Done, "dismissed");
                            return Ok(Ended::Dismissed);
                        }
                        Ok(Left::Drained) => {
                            // The coordinator closes once it has read everything.
                            let _ = tokio::time::timeout(backoff::MAX, link.closed()).await;
                            return Ok(Ended::Drained);
                        }
                        Err(error) => {
                            // The link knows better than the stream why both ended.
                            let ended = tokio::time::timeout(backoff::FIRST, link.closed()).await;
                            said(&ended.map_or_else(|_| error.to_string(), |e| e.to_string()));
                        }
                    }
                }
                Err(HandshakeError::Refused(refusal)) if refusal.code != RefusalCode::Busy => {
                    link.close(CloseCode::Done, "refused");
                    return Err(WorkerError::Refused(refusal.into()));
                }
                Err(error) => said(&error.to_string()),
            }
        } else if let Err(error) = connected {
            match error {
                EndpointError::Unreachable(..) | EndpointError::Bind(..) => {
                    said(&format!("{error}; trying again"));
                }
                fatal => return Err(WorkerError::Endpoint(fatal)),
            }
        }
        if matches!(target, Target::InProcess(_)) {
            worker.abandon();
            return Ok(Ended::Closed);
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            () = may_leave(&worker, &drain) => return Ok(Ended::Drained),
        }
    }
}

/// Resolves when a worker without a connection may leave: when it is to do so at once, or when it
/// is draining and holds nothing that it would have to deliver.
async fn may_leave(worker: &Worker, drain: &watch::Receiver<Drain>) {
    loop {
        let wanted = *drain.borrow();
        let draining = wanted != Drain::No || worker.draining.get();
        if wanted == Drain::Now || (draining && worker.holds_nothing()) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Resolves when the worker has had nothing to do for `timeout`, counted from connecting.
async fn idle(worker: &Worker, timeout: Option<Duration>) {
    let Some(timeout) = timeout else {
        return std::future::pending().await;
    };
    loop {
        if worker.executor.is_busy() || worker.tasks.get() > 0 || !worker.holds_nothing() {
            worker.busy.set(Instant::now());
        }
        let left = timeout.saturating_sub(worker.busy.get().elapsed());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
    }
}
