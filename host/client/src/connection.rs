//! The connection behind a client: made, and made again when it is lost.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use optwasm_protocol::backoff::Backoff;
use optwasm_protocol::endpoint::{self, EndpointError};
use optwasm_protocol::handshake::{self, HandshakeError, Intent, RefusalCode};
use optwasm_protocol::link::CloseCode;
use optwasm_protocol::{Link, Locator};

use crate::holds::Held;
use crate::{ClientError, SOFTWARE};

/// How long to try, unless the user says otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Connection {
    /// `None` within the process, where nothing is lost but with it.
    remote: Option<Locator>,
    current: Mutex<Current>,
    /// What a new connection is to hold, as the one before did.
    held: Mutex<Vec<Weak<Held>>>,
    pub(crate) patience: Duration,
}

#[derive(Clone)]
struct Current {
    link: Link,
    endpoint: Option<quinn::Endpoint>,
    /// Counts connections, so that of many calls that find one lost, one makes it again.
    number: u64,
}

impl Connection {
    pub(crate) async fn remote(locator: Locator) -> Result<Self, ClientError> {
        let (endpoint, link) = connect(&locator).await?;
        Ok(Self {
            remote: Some(locator),
            current: Mutex::new(Current {
                link,
                endpoint: Some(endpoint),
                number: 0,
            }),
            held: Mutex::default(),
            patience: PATIENCE,
        })
    }

    #[cfg(feature = "local")]
    pub(crate) fn in_process(link: Link) -> Self {
        Self {
            remote: None,
            current: Mutex::new(Current {
                link,
                endpoint: None,
                number: 0,
            }),
            held: Mutex::default(),
            patience: PATIENCE,
        }
    }

    fn current(&self) -> Current {
        // Whoever holds the lock only reads or replaces.
        let current = self.current.lock();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has new connections hold this, for as long as somebody has it.
    pub(crate) fn hold_again(&self, held: Weak<Held>) {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|held| held.strong_count() > 0);
        all.push(held);
    }

    fn held(&self) -> Vec<Arc<Held>> {
        let all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// A key that no other submission has; none is needed where no answer can be lost.
    pub(crate) fn unique_key(&self) -> Result<Option<String>, ClientError> {
        if self.remote.is_none() {
            return Ok(None);
        }
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
        Ok(Some(format!(
            "auto-{}",
            data_encoding::HEXLOWER.encode(&bytes)
        )))
    }

    /// Does `what` on the connection, and again on a new one as often as that is lost, until
    /// patience is at its end. `what` must do no harm when it is done twice.
    pub(crate) async fn patiently<T>(
        &self,
        mut what: impl AsyncFnMut(Link) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut lost_since = None;
        loop {
            let current = self.current();
            let error = match what(current.link).await {
                Err(error @ ClientError::Lost(_)) => error,
                other => return other,
            };
            let since = *lost_since.get_or_insert_with(Instant::now);
            self.reconnect(current.number, error, since).await?;
        }
    }

    /// As [`patiently`](Self::patiently) for what must not be done twice: not again once it was
    /// `sent`.
    pub(crate) async fn once<T>(
        &self,
        mut what: impl AsyncFnMut(Link, &Cell<bool>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let sent = Cell::new(false);
        let mut unknown = None;
        let done = self.patiently(async |link| match what(link, &sent).await {
            Err(error @ ClientError::Lost(_)) if sent.get() => {
                unknown = Some(error);
                Ok(None)
            }
            done => done.map(Some),
        });
        match done.await? {
            Some(done) => Ok(done),
            None => Err(unknown.unwrap_or(ClientError::Unexpected)),
        }
    }

    /// Makes the connection again that had this number, unless another call has done it.
    async fn reconnect(
        &self,
        number: u64,
        error: ClientError,
        since: Instant,
    ) -> Result<(), ClientError> {
        let Some(locator) = &self.remote else {
            return Err(error);
        };
        let mut backoff = Backoff::default();
        while since.elapsed() < self.patience {
            tokio::time::sleep(backoff.pause()).await;
            if self.current().number != number {
                return Ok(());
            }
            tracing::debug!("connecting again: {error}");
            match connect(locator).await {
                Ok((endpoint, link)) => {
                    for held in self.held() {
                        held.again(&link).await;
                    }
                    let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                    if current.number == number {
                        *current = Current {
                            link,
                            endpoint: Some(endpoint),
                            number: number + 1,
                        };
                    }
                    return Ok(());
                }
                Err(again) if is_temporary(&again) => {}
                Err(fatal) => return Err(fatal),
            }
        }
        Err(error)
    }

    pub(crate) async fn close(self) {
        let current = self.current();
        current.link.close(CloseCode::Done, "done");
        if let Some(endpoint) = &current.endpoint {
            endpoint.wait_idle().await;
        }
    }
}

/// Connects to where the coordinator is now.
async fn connect(locator: &Locator) -> Result<(quinn::Endpoint, Link), ClientError> {
    let (address, token) = locator.locate().await?;
    let (endpoint, connection) = endpoint::connect(address, token.fingerprint).await?;
    let link = Link::Quic(connection);
    handshake::introduce(&link, Some(&token), SOFTWARE, Intent::Client).await?;
    Ok((endpoint, link))
}

/// Whether the same attempt may succeed a little later.
fn is_temporary(error: &ClientError) -> bool {
    match error {
        // A coordinator that is started again writes its file anew, and name servers have bad moments.
        ClientError::Locate(_) => true,
        ClientError::Connect(error) => matches!(error, EndpointError::Unreachable(..)),
        ClientError::Handshake(HandshakeError::Refused(refusal)) => {
            refusal.code == RefusalCode::Busy
        }
        ClientError::Handshake(error) => {
            matches!(error, HandshakeError::Link(_) | HandshakeError::Frame(_))
        }
        ClientError::Lost(_) => true,
        _ => false,
    }
}
