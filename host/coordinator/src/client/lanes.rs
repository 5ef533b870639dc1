//! What clients have on its way through memory, by namespace: of what they share none gets more than
//! half, so that one who sends or reads slowly does not keep the others waiting.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use optwasm_protocol::Namespace;
use tokio::sync::Semaphore;

use super::blobs;

/// The lanes of all namespaces that have had something on its way: as many as there are users.
#[derive(Default)]
pub(crate) struct Lanes(RefCell<HashMap<Namespace, Rc<Lane>>>);

/// What one namespace has on its way.
pub(crate) struct Lane {
    /// Bytes of blobs that are announced and not stored yet.
    pub(super) uploading: Cell<u64>,
    /// Bytes of inputs that are not stored yet.
    pub(super) submitting: Cell<u64>,
    /// Its part of the memory for blobs, and the turn of those that are read for it.
    pub(super) blobs: Semaphore,
    pub(super) reading: Semaphore,
}

impl Lanes {
    pub(super) fn of(&self, namespace: &Namespace) -> Rc<Lane> {
        let mut lanes = self.0.borrow_mut();
        let lane = lanes.entry(namespace.clone()).or_insert_with(|| {
            Rc::new(Lane {
                uploading: Cell::new(0),
                submitting: Cell::new(0),
                blobs: blobs::half_of_memory(),
                reading: Semaphore::new(1),
            })
        });
        lane.clone()
    }
}
