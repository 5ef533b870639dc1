//! A worker's life: connect, serve, and connect again, until it is drained.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use optwasm_protocol::backoff::{self, Backoff};
use optwasm_protocol::endpoint::{self, EndpointError};
use optwasm_protocol::handshake::{self, HandshakeError, Intent, RefusalCode};
use optwasm_protocol::link::CloseCode;
use optwasm_protocol::locate::LocateError;
use optwasm_protocol::{Link, Locator, Token};
use tokio::sync::watch;

use crate::session::{self, Drain, Left};
use crate::worker::Worker;

/// Name and version of this software, as the coordinator sees it.
const SOFTWARE: &str = concat!("optwasm/", env!("CARGO_PKG_VERSION"));

/// How often a worker without a connection looks whether it may leave.
const LOOK: Duration = Duration::from_millis(100);

/// Where a worker works.
pub enum Target {
    /// For a coordinator elsewhere.
    Remote(Locator),
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
    /// Its stay is over.
    OutOfTime,
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

/// Runs a worker until it is drained, has been idle for `idle_timeout`, which counts from its first
/// connection, or is refused for good.
/// Lost connections are made again, with growing pauses, for ever, to where the coordinator is then;
/// `said` hears of them. Where an access file leads to a coordinator that refuses the worker, it waits for
/// another one to write the file.
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
    // What keeps it waiting is said once, not at each try.
    let mut waits_for = String::new();
    loop {
        let (address, connected) = match &target {
            Target::InProcess(link) => (None, Ok((None, link.clone(), None))),
            Target::Remote(locator) => {
                let connecting = tokio::select! {
                    connecting = connect(locator) => connecting,
                    ended = may_leave(&worker, &drain, idle_timeout) => return Ok(ended),
                };
                match connecting {
                    Ok((address, endpoint, link, token)) => {
                        (Some(address), Ok((Some(endpoint), link, Some(token))))
                    }
                    Err(error) => (None, Err(error)),
                }
            }
        };
        let refused = match connected {
            Ok((_endpoint, link, token)) => {
                let intent = Intent::Worker(worker.info.clone());
                match handshake::introduce(&link, token.as_ref(), SOFTWARE, intent).await {
                    Ok((welcome, stream)) => {
                        backoff = Backoff::default();
                        waits_for.clear();
                        worker.enter(welcome.life);
                        let number = welcome.worker.map_or(0, |id| id.0);
                        if let Some(address) = address {
                            said(&format!("connected to {address} as worker {number}"));
                        }
                        worker.busy.set(Instant::now());
                        let drain = drain.clone();
                        let session =
                            session::run(&worker, link.clone(), stream, drain, idle_timeout);
                        match session.await {
                            Ok(left) => return Ok(leave(&worker, &link, left).await),
                            Err(error) => {
                                // The link knows better than the stream why both ended.
                                let ended =
                                    tokio::time::timeout(backoff::FIRST, link.closed()).await;
                                said(&ended.map_or_else(|_| error.to_string(), |e| e.to_string()));
                            }
                        }
                        None
                    }
                    Err(HandshakeError::Refused(refusal)) if refusal.code != RefusalCode::Busy => {
                        link.close(CloseCode::Done, "refused");
                        Some(WorkerError::Refused(refusal.into()))
                    }
                    Err(error) => {
                        said(&error.to_string());
                        None
                    }
                }
            }
            Err(Unconnected::Endpoint(
                error @ (EndpointError::Unreachable(..) | EndpointError::Bind(..)),
            )) => {
                said(&format!("{error}; trying again"));
                None
            }
            Err(Unconnected::Endpoint(fatal)) => Some(WorkerError::Endpoint(fatal)),
            Err(Unconnected::Locate(error)) => {
                let text = format!("waiting: {error}");
                if waits_for != text {
                    said(&text);
                    waits_for = text;
                }
                None
            }
        };
        match (refused, &target) {
            (None, Target::Remote(_)) => {}
            (None, Target::InProcess(_)) => {
                worker.abandon();
                return Ok(Ended::Closed);
            }
            (Some(refused), Target::Remote(locator)) if locator.may_change() => {
                let text = format!("{refused}; waiting for another access file");
                if waits_for != text {
                    said(&text);
                    waits_for = text;
                }
            }
            (Some(refused), _) => return Err(refused),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            ended = may_leave(&worker, &drain, idle_timeout) => return Ok(ended),
        }
    }
}

/// Why there is no connection.
enum Unconnected {
    Locate(LocateError),
    Endpoint(EndpointError),
}

/// Connects to where the coordinator is now.
async fn connect(
    locator: &Locator,
) -> Result<(SocketAddr, quinn::Endpoint, Link, Token), Unconnected> {
    let (address, token) = locator.locate().await.map_err(Unconnected::Locate)?;
    let (endpoint, connection) = endpoint::connect(address, token.fingerprint)
        .await
        .map_err(Unconnected::Endpoint)?;
    Ok((address, endpoint, Link::Quic(connection), token))
}

/// Ends a session that ended in good order.
async fn leave(worker: &Worker, link: &Link, left: Left) -> Ended {
    match left {
        Left::Dismissed => {
            link.close(CloseCode::Done, "dismissed");
            Ended::Dismissed
        }
        Left::OutOfTime => {
            link.close(CloseCode::Done, "out of time");
            Ended::OutOfTime
        }
        Left::Drained => {
            // The coordinator closes once it has read everything.
            let _ = tokio::time::timeout(backoff::MAX, link.closed()).await;
            if worker.is_out_of_time() {
                Ended::OutOfTime
            } else if worker.was_idle.get() {
                Ended::Idle
            } else {
                Ended::Drained
            }
        }
    }
}

/// Resolves when a worker without a connection may leave: when it is to do so at once, or when it
/// is draining and holds nothing that it would have to deliver, when its stay is over, or when it has
/// had nothing to do for its idle timeout.
async fn may_leave(
    worker: &Worker,
    drain: &watch::Receiver<Drain>,
    idle_timeout: Option<Duration>,
) -> Ended {
    loop {
        if !worker.holds_nothing() {
            worker.busy.set(Instant::now());
        }
        let idled = |limit| worker.has_begun() && worker.busy.get().elapsed() >= limit;
        if idle_timeout.is_some_and(idled) {
            return Ended::Idle;
        }
        let wanted = *drain.borrow();
        let draining = wanted != Drain::No || worker.draining.get();
        if wanted == Drain::Now || (draining && worker.holds_nothing()) {
            return Ended::Drained;
        }
        if worker.is_over() {
            return Ended::OutOfTime;
        }
        tokio::time::sleep(LOOK).await;
    }
}
