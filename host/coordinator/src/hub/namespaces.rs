//! Users: who sees which batches, what each may have, and what each has used.
//!
//! The store counts what namespaces have used; what they may have is also kept here, where every
//! submission asks for it. Submissions that are not committed yet count as if they were, so that many
//! at once cannot pass a quota together.

use optwasm_protocol::namespace::{Namespace, NamespaceStatus, Quota, QuotaChange};
use optwasm_protocol::{BatchId, JobId};
use optwasm_scheduler as sched;
use optwasm_store::{Record, Store};

use super::{Hub, Now, Waiter};

/// What a namespace may have and has already. Wait for its jobs, remove batches, or ask an
/// administrator for more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// Too many jobs wait already. Try again when some have ended.
    #[error(
        "the quota of namespace {namespace} is {limit} queued jobs: {used} are queued, and this is \
         {more} more"
    )]
    Queued {
        /// Whose.
        namespace: Namespace,
        /// Jobs that wait.
        used: u64,
        /// Jobs that were to be added.
        more: u64,
        /// What it may have.
        limit: u64,
    },
    /// Its inputs, results and blobs are too large. Remove batches.
    #[error(
        "the quota of namespace {namespace} is {limit} bytes of inputs, results and blobs: {used} are \
         kept, and this takes {more} more"
    )]
    Bytes {
        /// Whose.
        namespace: Namespace,
        /// Bytes that are kept.
        used: u64,
        /// Bytes that were to be added.
        more: u64,
        /// What it may have.
        limit: u64,
    },
    /// Its fuel is used up. Nothing brings it back but a larger quota.
    #[error("the quota of namespace {namespace} is {limit} of fuel, and {used} have been used")]
    Fuel {
        /// Whose.
        namespace: Namespace,
        /// Fuel that its jobs have used.
        used: u64,
        /// What it may use.
        limit: u64,
    },
}

/// What is on its way into the store for a namespace.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opening {
    pub(super) jobs: u64,
    pub(super) bytes: u64,
}

/// The number of a namespace in the scheduler.
pub(super) fn number(namespace: &Namespace) -> sched::NamespaceId {
    sched::NamespaceId(namespace.number())
}

impl<S: Store> Hub<S> {
    /// Reads what namespaces may have.
    pub(super) fn restore_quotas(&mut self, now: Now) {
        for account in self.store.accounts() {
            self.set_weight(now, &account.namespace, account.quota.weight);
            self.quotas.insert(account.namespace, account.quota);
        }
    }

    fn set_weight(&mut self, now: Now, namespace: &Namespace, weight: u32) {
        let namespace = number(namespace);
        self.step(now, sched::Event::Weigh { namespace, weight });
    }

    /// Changes what a namespace may have, which need not be known yet.
    pub fn set_quota(&mut self, now: Now, namespace: &Namespace, change: QuotaChange) -> Waiter {
        let quota = change.apply(self.quota(namespace));
        self.quotas.insert(namespace.clone(), quota);
        self.set_weight(now, namespace, quota.weight);
        let record = Record::Quota(namespace.clone(), quota);
        self.turn.records.push(record);
        self.settle_with_reply(now)
    }

    fn quota(&self, namespace: &Namespace) -> Quota {
        self.quotas.get(namespace).copied().unwrap_or_default()
    }

    /// Whether a namespace may have so many more jobs run, and so many more bytes kept.
    ///
    /// # Errors
    ///
    /// The first quota that it would exceed.
    pub fn check_quota(
        &self,
        namespace: &Namespace,
        jobs: u64,
        bytes: u64,
    ) -> Result<(), QuotaError> {
        let quota = self.quota(namespace);
        if quota.max_queued.is_none() && quota.max_bytes.is_none() && quota.max_fuel.is_none() {
            return Ok(());
        }
        let usage = self.store.account(namespace).usage;
        let opening = self.opening.get(namespace).copied().unwrap_or_default();
        let namespace = namespace.clone();
        let queued = self.queued(&namespace);
        match (quota.max_fuel, quota.max_queued, quota.max_bytes) {
            (Some(limit), ..) if jobs > 0 && usage.fuel >= limit => Err(QuotaError::Fuel {
                namespace,
                used: usage.fuel,
                limit,
            }),
            (_, Some(limit), _) if jobs > 0 && queued.saturating_add(jobs) > limit => {
                Err(QuotaError::Queued {
                    namespace,
                    used: queued,
                    more: jobs,
                    limit,
                })
            }
            (.., Some(limit)) if bytes > 0 => {
                let used = usage.bytes.saturating_add(opening.bytes);
                match used.saturating_add(bytes) > limit {
                    true => Err(QuotaError::Bytes {
                        namespace,
                        used,
                        more: bytes,
                        limit,
                    }),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Jobs of a namespace that wait, those of submissions that are being stored included.
    pub(super) fn queued(&self, namespace: &Namespace) -> u64 {
        let (waiting, parked) = self.scheduler.queued(number(namespace));
        let opening = self.opening.get(namespace);
        waiting + parked + opening.map_or(0, |opening| opening.jobs)
    }

    /// A submission is on its way into the store.
    pub(super) fn begin_opening(&mut self, namespace: &Namespace, jobs: u64, bytes: u64) {
        let opening = self.opening.entry(namespace.clone()).or_default();
        opening.jobs += jobs;
        opening.bytes += bytes;
    }

    /// A submission has arrived there, or will not.
    pub(super) fn end_opening(&mut self, namespace: &Namespace, jobs: u64, bytes: u64) {
        if let Some(opening) = self.opening.get_mut(namespace) {
            opening.jobs -= jobs;
            opening.bytes -= bytes;
            if opening.jobs == 0 {
                self.opening.remove(namespace);
            }
        }
    }

    /// Whether somebody who sees only what is of `scope`, or all where that is `None`, sees a batch.
    pub fn sees(&self, scope: Option<&Namespace>, batch: BatchId) -> bool {
        let Some(scope) = scope else { return true };
        match self.live.get(&batch) {
            Some(live) => live.namespace == *scope,
            None => {
                let summary = self.store.batch(batch);
                summary.is_some_and(|summary| summary.namespace == *scope)
            }
        }
    }

    /// Whether a job is one that somebody of `scope` sees.
    pub(super) fn sees_job(&self, scope: Option<&Namespace>, job: JobId) -> bool {
        self.sees(scope, job.0)
    }

    /// Jobs of a namespace in the hands of workers.
    pub(super) fn running(&self, namespace: &Namespace) -> u64 {
        let own = self.live.iter();
        let own = own.filter(|(_, live)| live.namespace == *namespace);
        let held = own.filter_map(|(id, _)| self.scheduler.batch(super::batch(*id)));
        held.map(|status| u64::from(status.held)).sum()
    }

    /// One namespace in numbers.
    pub fn namespace(&self, namespace: &Namespace) -> NamespaceStatus {
        NamespaceStatus {
            namespace: namespace.clone(),
            quota: self.quota(namespace),
            usage: self.store.account(namespace).usage,
            queued: self.queued(namespace),
            running: self.running(namespace),
        }
    }

    /// All namespaces that are known, in numbers, by their names.
    pub fn namespaces(&self) -> Vec<NamespaceStatus> {
        let mut all: Vec<NamespaceStatus> = self
            .store
            .accounts()
            .iter()
            .map(|account| self.namespace(&account.namespace))
            .collect();
        all.sort_by(|one, other| one.namespace.cmp(&other.namespace));
        all
    }
}
