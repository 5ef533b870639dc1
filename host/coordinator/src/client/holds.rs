//! Blobs that a client holds: shared data that it has pushed, and that stays until it says otherwise
//! or has gone.

use optwasm_protocol::message::{ErrorCode, HoldChange, Response};
use optwasm_protocol::{ATTACHED_GRACE, ContentId, Namespace, Stream};
use optwasm_store::Store;
use tokio::task::spawn_local;

use super::{Failure, fail};
use crate::Coordinator;

/// Blobs that one stream may hold at once, a few of them for each of many pieces of data.
const HELD_MAX: usize = 100_000;

/// Serves a stream on which a client holds blobs. When it is finished in good order, they are
/// released at once; when it breaks, after a while in which the client may have come back.
pub(super) async fn serve<S: Store>(
    coordinator: &Coordinator<S>,
    namespace: &Namespace,
    stream: &mut Stream,
) -> Result<(), Failure> {
    let mut holds = Holds {
        coordinator: coordinator.clone(),
        namespace: namespace.clone(),
        held: Vec::new(),
    };
    stream.writer.send(&Response::Done).await?;
    while let Some(change) = stream.reader.next::<HoldChange>().await? {
        let changed = match change {
            HoldChange::Add(id) => holds.add(id),
            HoldChange::Drop(id) => holds.release(id).await,
        };
        // One that cannot be held changes nothing about the others.
        let response = match changed {
            Ok(()) => Response::Done,
            Err(Failure::Request(error)) => Response::Error(error),
            Err(broken) => return Err(broken),
        };
        stream.writer.send(&response).await?;
    }
    while let Some(id) = holds.held.pop() {
        release(coordinator, namespace, id).await?;
    }
    Ok(())
}

struct Holds<S: Store + 'static> {
    coordinator: Coordinator<S>,
    namespace: Namespace,
    held: Vec<ContentId>,
}

impl<S: Store> Holds<S> {
    fn add(&mut self, id: ContentId) -> Result<(), Failure> {
        if self.held.len() >= HELD_MAX {
            let message = format!("more than {HELD_MAX} blobs are held");
            return Err(fail(ErrorCode::Invalid, message));
        }
        if !self.coordinator.0.store.hold_blob(&self.namespace, id) {
            return Err(fail(ErrorCode::NotFound, format!("there is no blob {id}")));
        }
        self.held.push(id);
        Ok(())
    }

    async fn release(&mut self, id: ContentId) -> Result<(), Failure> {
        let Some(place) = self.held.iter().position(|held| *held == id) else {
            return Err(fail(ErrorCode::NotFound, format!("{id} is not held")));
        };
        self.held.swap_remove(place);
        release(&self.coordinator, &self.namespace, id).await
    }
}

impl<S: Store + 'static> Drop for Holds<S> {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return;
        }
        let coordinator = self.coordinator.clone();
        let namespace = self.namespace.clone();
        spawn_local(async move {
            tokio::time::sleep(ATTACHED_GRACE).await;
            for id in held {
                if release(&coordinator, &namespace, id).await.is_err() {
                    tracing::warn!("the blob {id}, which nobody holds any more, was not removed");
                }
            }
        });
    }
}

async fn release<S: Store>(
    coordinator: &Coordinator<S>,
    namespace: &Namespace,
    id: ContentId,
) -> Result<(), Failure> {
    if coordinator.0.store.release_blob(namespace, id).await? {
        coordinator.0.hub.borrow_mut().discard(id);
    }
    Ok(())
}
