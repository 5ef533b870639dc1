//! A coordinator: scheduler and store behind a service for workers and clients.
//!
//! One thread holds everything. [`hub`] is its core: it tells the scheduler what happened, carries
//! out what the scheduler decides, and appends to the store; it never waits. Around it, one task
//! waits for the store's commits, and one per worker ([`worker`]) and one per client request
//! ([`client`]) read messages, call the hub, and write what the hub left for them. Results go from
//! the store to the client page by page, so a slow client costs nothing but its own time.
//!
//! [`Coordinator::serve`] takes any [`Link`]: QUIC connections that [`Coordinator::listen`] accepts,
//! or pipes within the process.

mod client;
pub mod dir;
pub mod hub;
mod worker;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use optwasm_protocol::endpoint::{self, EndpointError};
use optwasm_protocol::handshake::{self, HandshakeError, Intent, RefusalCode};
use optwasm_protocol::link::CloseCode;
use optwasm_protocol::message::CoordinatorStatus;
use optwasm_protocol::token::{Authority, Claims};
use optwasm_protocol::{Fingerprint, Identity, Link, Namespace};
use optwasm_store::{Store, StoreError};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::spawn_local;

use crate::dir::Revocations;
use crate::hub::{Hub, HubConfig, Now};

/// Name and version of this software, as peers see it.
pub const SOFTWARE: &str = concat!("optwasm/", env!("CARGO_PKG_VERSION"));

/// How long a peer may take to introduce itself.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections at once: 10 000 workers and clients cost about 1 GB in QUIC buffers.
const PEERS_MAX: usize = 10_000;

/// How often old batches and unused blobs are looked for, and how many batches are removed then:
/// enough for a thousand batches a minute, and too few to be noticed.
const HOUSEKEEPING: Duration = Duration::from_secs(2);
const REMOVED_AT_ONCE: usize = 50;

/// How often the scheduler hears that time passes.
const TICK: Duration = Duration::from_millis(50);

/// A coordinator. Clones are handles to the same one.
///
/// Its methods spawn local tasks: they must be called on a [`tokio::task::LocalSet`].
pub struct Coordinator<S>(Rc<Inner<S>>);

impl<S> Clone for Coordinator<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// How a coordinator works.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a worker whose connection is lost keeps what it holds. Default 30 s.
    pub lease: Duration,
    /// Jobs of one namespace that may wait; a submission beyond it waits, or is refused. Default: no
    /// bound.
    pub max_queued: u64,
    /// How long batches are kept after they ended. Default: until they are removed.
    pub keep: Option<Duration>,
    /// Engine whose results answer jobs from memory while no worker is connected that has one.
    pub engine: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_micros(HubConfig::default().lease_us),
            max_queued: u64::MAX,
            keep: None,
            engine: String::new(),
        }
    }
}

struct Inner<S> {
    hub: RefCell<Hub<S>>,
    store: Rc<S>,
    authority: Authority,
    fingerprint: Fingerprint,
    revocations: RefCell<Revocations>,
    peers: Cell<usize>,
    /// Bytes of blobs that are on their way into the store.
    incoming: Cell<u64>,
    /// Memory for blobs on their way, and the turn of those that are read for it.
    blobs: Semaphore,
    reading: Semaphore,
    /// What namespaces have of all that.
    lanes: client::lanes::Lanes,
    /// Bytes of inputs that submissions have sent and that are not stored yet.
    submitting: Cell<u64>,
    /// Rings when a submission may have found room.
    room: Notify,
    started: Instant,
    started_ms: u64,
    stop: watch::Sender<bool>,
}

impl<S> Inner<S> {
    fn now(&self) -> Now {
        Now {
            us: self.started.elapsed().as_micros() as u64,
            ms: now_ms(),
        }
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.unwrap_or_default().as_millis() as u64
}

impl<S: Store> Coordinator<S> {
    /// A coordinator that goes on with what is in `store`, is known by the certificate
    /// `fingerprint`, and admits holders of tokens that `authority` issued and that are not revoked.
    ///
    /// # Errors
    ///
    /// Where the store cannot be read.
    pub fn new(
        store: S,
        config: Config,
        authority: Authority,
        fingerprint: Fingerprint,
        revocations: Revocations,
    ) -> Result<Self, StoreError> {
        let store = Rc::new(store);
        let started = Instant::now();
        let started_ms = now_ms();
        let hub_config = HubConfig {
            lease_us: config.lease.as_micros() as u64,
            max_queued: config.max_queued,
            engine: config.engine,
        };
        let now = Now {
            us: 0,
            ms: started_ms,
        };
        let hub = Hub::new(store.clone(), hub_config, now)?;
        let this = Self(Rc::new(Inner {
            hub: RefCell::new(hub),
            store,
            authority,
            fingerprint,
            revocations: RefCell::new(revocations),
            peers: Cell::new(0),
            incoming: Cell::new(0),
            blobs: client::blobs::memory(),
            reading: Semaphore::new(1),
            lanes: client::lanes::Lanes::default(),
            submitting: Cell::new(0),
            room: Notify::new(),
            started,
            started_ms,
            stop: watch::channel(false).0,
        }));
        this.keep_time();
        this.follow_commits();
        this.keep_house(config.keep);
        Ok(this)
    }

    /// Lets the hub know that time passes.
    fn keep_time(&self) {
        let inner = Rc::downgrade(&self.0);
        spawn_local(async move {
            loop {
                tokio::time::sleep(TICK).await;
                let Some(inner) = inner.upgrade() else { break };
                let mut hub = inner.hub.borrow_mut();
                hub.tick(inner.now());
                inner.room.notify_waiters();
                if hub.is_drained() {
                    inner.stop.send_replace(true);
                }
            }
        });
    }

    /// Waits for the store's commits, and has done what follows from them.
    fn follow_commits(&self) {
        let inner = Rc::downgrade(&self.0);
        let news = self.0.hub.borrow().news.clone();
        spawn_local(async move {
            while let Some(strong) = inner.upgrade() {
                let commit = strong.hub.borrow_mut().next_commit();
                match commit {
                    Some(commit) => {
                        drop(strong);
                        let result = commit.wait().await;
                        let Some(strong) = inner.upgrade() else { break };
                        let now = strong.now();
                        strong.hub.borrow_mut().committed(now, result);
                    }
                    None if strong.hub.borrow().failure().is_some() => {
                        strong.stop.send_replace(true);
                        break;
                    }
                    None => {
                        drop(strong);
                        news.notified().await;
                    }
                }
            }
        });
    }

    /// Removes batches that ended long ago, and blobs that nobody needs.
    fn keep_house(&self, keep: Option<Duration>) {
        let inner = Rc::downgrade(&self.0);
        spawn_local(async move {
            loop {
                tokio::time::sleep(HOUSEKEEPING).await;
                let Some(inner) = inner.upgrade() else { break };
                if let Some(keep) = keep {
                    let before = now_ms().saturating_sub(keep.as_millis() as u64);
                    for batch in inner.store.ended_before(before, REMOVED_AT_ONCE) {
                        // Repeated when it comes to nothing.
                        let _ = inner.hub.borrow_mut().remove(inner.now(), batch);
                    }
                }
                if let Err(error) = inner.store.collect().await {
                    tracing::warn!("blobs were not collected: {error}");
                }
            }
        });
    }

    /// Accepts connections at `address` (port 0 for any) from now on; returns where.
    ///
    /// # Errors
    ///
    /// [`EndpointError`].
    pub fn listen(
        &self,
        address: SocketAddr,
        identity: &Identity,
    ) -> Result<SocketAddr, EndpointError> {
        let endpoint = endpoint::listen(address, identity)?;
        let local = endpoint
            .local_addr()
            .map_err(|error| EndpointError::Bind(address, error))?;
        let this = self.clone();
        spawn_local(async move {
            let mut stopping = this.0.stop.subscribe();
            loop {
                let incoming = tokio::select! {
                    incoming = endpoint.accept() => incoming,
                    _ = stopping.wait_for(|stop| *stop) => None,
                };
                let Some(incoming) = incoming else { break };
                // An address that has not been shown to be real is asked to show it first, so
                // that forged ones cost nothing.
                if this.0.peers.get() > PEERS_MAX / 2 && !incoming.remote_address_validated() {
                    let _ = incoming.retry();
                    continue;
                }
                let this = this.clone();
                spawn_local(async move {
                    match incoming.await {
                        Ok(connection) => this.serve(Link::Quic(connection)).await,
                        Err(error) => tracing::debug!("a connection attempt failed: {error}"),
                    }
                });
            }
            endpoint.wait_idle().await;
        });
        Ok(local)
    }

    /// Serves one peer until it leaves.
    pub async fn serve(&self, link: Link) {
        let peers = &self.0.peers;
        peers.set(peers.get() + 1);
        let mut stopping = self.0.stop.subscribe();
        tokio::select! {
            () = self.serve_peer(&link) => {}
            _ = stopping.wait_for(|stop| *stop) => {
                link.close(CloseCode::Shutdown, "the coordinator is shutting down");
            }
        }
        peers.set(peers.get() - 1);
    }

    async fn serve_peer(&self, link: &Link) {
        let inner = &self.0;
        let hello = tokio::time::timeout(
            HELLO_TIMEOUT,
            handshake::receive(link, &inner.authority, now_ms() / 1000, |id| {
                inner.revocations.borrow().contains(id)
            }),
        );
        let (hello, mut stream) = match hello.await {
            Ok(Ok(hello)) => hello,
            Ok(Err(error)) => {
                tracing::info!("{} was not admitted: {error}", link.peer());
                let code = match error {
                    HandshakeError::Refused(_) => CloseCode::Refused,
                    _ => CloseCode::Protocol,
                };
                return link.close(code, &error.to_string());
            }
            Err(_) => return link.close(CloseCode::Protocol, "no hello"),
        };
        if inner.peers.get() > PEERS_MAX {
            let message = format!("this coordinator has {PEERS_MAX} connections already");
            handshake::refuse(stream, RefusalCode::Busy, message).await;
            return link.close(CloseCode::Refused, "busy");
        }
        match hello.intent {
            Intent::Worker(info) => worker::serve(self, link, stream, info, hello.claims).await,
            Intent::Client => {
                let life = inner.hub.borrow().life();
                if handshake::welcome(&mut stream, SOFTWARE, None, life)
                    .await
                    .is_ok()
                {
                    client::serve(self, link, hello.claims).await;
                }
            }
        }
    }

    /// Whether a token that was good when its holder connected no longer is.
    fn is_void(&self, claims: &Claims) -> bool {
        claims.is_expired(now_ms() / 1000) || self.0.revocations.borrow().contains(&claims.id)
    }

    /// Ends the coordinator: peers are told, and [`stopped`](Self::stopped) resolves.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// Resolves when the coordinator has been told to stop, by [`stop`](Self::stop) or by an
    /// administrator.
    ///
    /// # Errors
    ///
    /// Where it stopped because its store failed.
    pub async fn stopped(&self) -> Result<(), StoreError> {
        // Fails only when the sender is gone, which `self` holds.
        let _ = self.0.stop.subscribe().wait_for(|stop| *stop).await;
        match self.0.hub.borrow().failure() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// How it is, for those who see only what is of `scope`, or all where that is `None`.
    pub fn status(&self, scope: Option<&Namespace>) -> CoordinatorStatus {
        let hub = self.0.hub.borrow();
        CoordinatorStatus {
            software: SOFTWARE.to_owned(),
            started_ms: self.0.started_ms,
            ..match scope {
                Some(namespace) => hub.status_of(namespace),
                None => hub.coordinator_status(),
            }
        }
    }
}
