//! What clients ask for: submit, cancel, run again, remove.

use std::collections::BTreeSet;

use optwasm_protocol::message::{AttemptEnd, BatchSpec, Ending, LimitsChange, Order, Which};
use optwasm_protocol::{BatchId, JobId, Namespace, Payload, WorkerId};
use optwasm_scheduler as sched;
use optwasm_store::{BatchSummary, NewBatch, Record, Store, StoreError};
use tokio::sync::oneshot;

use super::commit::{After, Open};
use super::{Hub, Live, Now, QuotaError, Waiter, batch, brief, complement, job, scheduled};

/// Bytes of results that are read at once where many are needed.
const PAGE: usize = 1 << 20;

/// Why a submission was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The store has no room, or has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another batch was submitted with this key. Choose another key.
    #[error("the id `{0}` belongs to batch {1}, which is another one; choose another id")]
    KeyTaken(String, BatchId),
    /// The namespace has what it may have.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The coordinator is draining. Submit when it has been started again.
    #[error("the coordinator is draining and takes no new jobs")]
    Draining,
}

impl<S: Store> Hub<S> {
    /// Takes a batch of a namespace in. Its number counts once the waiter has resolved.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]; nothing has changed then.
    pub fn submit(
        &mut self,
        now: Now,
        namespace: &Namespace,
        spec: BatchSpec,
        inputs: Vec<Payload>,
    ) -> Result<(BatchId, Waiter), SubmitError> {
        let (reply, waiter) = oneshot::channel();
        let mut digest = [0; 32];
        if let Some(key) = &spec.id {
            digest = digest_of(&spec, &inputs);
            let known = self.known(namespace, key);
            if let Some((batch, first)) = known {
                if first != digest {
                    return Err(SubmitError::KeyTaken(key.clone(), batch));
                }
                self.reply_when_open(now, batch, reply);
                return Ok((batch, waiter));
            }
        }
        if self.draining {
            return Err(SubmitError::Draining);
        }
        let id = BatchId(self.next_batch);
        let jobs = inputs.len() as u32;
        let record = NewBatch {
            batch: id,
            namespace: namespace.clone(),
            spec: spec.clone(),
            inputs,
            digest,
            engine: self.group(),
            submitted_ms: now.ms,
        };
        let bytes = record.bytes();
        self.check_quota(namespace, u64::from(jobs), bytes)?;
        // Appended by itself, so that a full store refuses this and nothing else.
        let commit = self
            .store
            .append(vec![Record::Submitted(Box::new(record))])?;
        self.next_batch += 1;
        self.live.insert(id, Live::new(namespace.clone(), &spec));
        self.begin_opening(namespace, u64::from(jobs), bytes);
        if spec.attached {
            self.attached.add(now, id);
        }
        if let Some(key) = &spec.id {
            let key = (namespace.clone(), key.clone());
            self.keys.insert(key, (id, digest));
        }
        let open = After::Open(Box::new(Open {
            batch: id,
            namespace: namespace.clone(),
            spec,
            jobs,
            bytes,
        }));
        // The client may be answered before, but nothing is scheduled after, what it is told.
        self.follow(now, commit, vec![After::Reply(reply), open]);
        Ok((id, waiter))
    }

    /// The batch that a namespace has submitted with a key.
    fn known(&self, namespace: &Namespace, key: &str) -> Option<(BatchId, [u8; 32])> {
        let opening = self.keys.get(&(namespace.clone(), key.to_owned()));
        let opening = opening.copied();
        opening.or_else(|| self.store.batch_by_key(namespace, key))
    }

    /// Whether a submission is a repetition, which takes no room and no place in the queue.
    pub fn knows(&self, namespace: &Namespace, spec: &BatchSpec) -> bool {
        let key = spec.id.as_ref();
        key.is_some_and(|key| self.known(namespace, key).is_some())
    }

    /// Whether so many more jobs of a namespace may be queued: always where none of its own waits.
    pub fn has_room_for(&self, namespace: &Namespace, jobs: u64) -> bool {
        let waiting = self.queued(namespace);
        waiting == 0 || waiting.saturating_add(jobs) <= self.config.max_queued
    }

    /// Ends all unfinished jobs of a batch; `None` where there is no such batch.
    pub fn cancel(&mut self, now: Now, id: BatchId) -> Option<Waiter> {
        self.store.batch(id)?;
        if self.live.contains_key(&id) {
            // One that is not scheduled yet is not known to its client either.
            self.scheduler.batch(batch(id))?;
            self.turn.records.push(Record::Cancelled(id));
            self.turn.attempted = self.scheduler.attempted(batch(id)).into_iter().collect();
            self.step(now, sched::Event::Cancel { batch: batch(id) });
        }
        Some(self.settle_with_reply(now))
    }

    pub(super) fn settle_with_reply(&mut self, now: Now) -> Waiter {
        let (reply, waiter) = oneshot::channel();
        self.carry_out(now);
        self.turn.afters.push(After::Reply(reply));
        self.flush(now);
        waiter
    }

    /// Runs jobs again that have ended; says how many.
    ///
    /// # Errors
    ///
    /// [`RetryError`]; nothing has changed then.
    pub fn retry(
        &mut self,
        now: Now,
        id: BatchId,
        which: &Which,
        change: LimitsChange,
    ) -> Result<(u32, Waiter), RetryError> {
        let summary = self.store.batch(id).ok_or(RetryError::Unknown)?;
        let is_live = self.live.contains_key(&id);
        if is_live && self.scheduler.batch(batch(id)).is_none() {
            // Not scheduled yet, and not known to its client either.
            return Err(RetryError::Unknown);
        }
        let jobs = self.ended(id, &summary, which);
        let Some(first) = jobs.first() else {
            return Ok((0, self.settle_with_reply(now)));
        };
        self.check_quota(&summary.namespace, jobs.len() as u64, 0)?;
        let template = summary.spec.template.limits;
        let before = self.store.limits(JobId(id, *first)).unwrap_or(template);
        let limits = change.apply(before);
        let changed = (limits != before).then_some(limits);
        let memory = limits.memory.max(self.store.memory(id));
        if is_live && memory > self.store.memory(id) {
            // Workers were chosen for what its jobs needed when it was scheduled.
            return Err(RetryError::Running);
        }

        let mut known = Vec::with_capacity(jobs.len());
        let mut last_attempt = 0;
        for (index, end) in self.reopened(now, id, &jobs) {
            last_attempt = last_attempt.max(end.attempt);
            known.push(sched::Known {
                index,
                last_attempt: end.attempt,
                reported: true,
                ..sched::Known::default()
            });
            let record = Record::Attempt(JobId(id, index), end);
            self.turn.records.push(record);
        }
        let ranges = ranges(&jobs);
        let record = Record::Reopened(id, ranges.clone(), changed);
        self.turn.records.push(record);
        if is_live {
            self.step(
                now,
                sched::Event::Reopen {
                    batch: batch(id),
                    jobs: ranges,
                    first_attempt: last_attempt + 1,
                },
            );
        } else {
            let live = Live::new(summary.namespace.clone(), &summary.spec);
            self.live.insert(id, live);
            self.step(
                now,
                sched::Event::Submit {
                    batch: batch(id),
                    spec: scheduled(&summary.namespace, &summary.spec, summary.jobs, memory),
                    finished: complement(&ranges, summary.jobs),
                    parked: Vec::new(),
                    known,
                },
            );
        }
        Ok((jobs.len() as u32, self.settle_with_reply(now)))
    }

    /// Which of the jobs that are asked for have ended, ascending.
    fn ended(&self, id: BatchId, summary: &BatchSummary, which: &Which) -> Vec<u32> {
        let failed: Vec<String>;
        let outcomes = match which {
            Which::All | Which::Jobs(_) => None,
            Which::Failed => {
                let names = summary.outcomes.keys();
                failed = names.filter(|name| *name != "ok").cloned().collect();
                Some(&failed[..])
            }
            Which::Outcomes(names) => Some(&names[..]),
        };
        let mut jobs: Vec<u32> = match outcomes {
            Some([]) => Vec::new(),
            outcomes => {
                let ended = self.store.ended_jobs(id, outcomes);
                ended.into_iter().flatten().collect()
            }
        };
        if let Which::Jobs(wanted) = which {
            jobs.retain(|index| wanted.iter().any(|range| range.contains(index)));
        }
        // What the store has committed, the scheduler may have yet to hear.
        if self.live.contains_key(&id) {
            jobs.retain(|index| {
                let state = self.scheduler.job(job(JobId(id, *index)));
                matches!(state, Some(sched::JobState::Finished))
            });
        }
        jobs
    }

    /// How these jobs, which are ascending, ended before they are run again. Results are read in
    /// pages, which is many times faster than one by one, and takes no more memory than a page.
    fn reopened(&self, now: Now, id: BatchId, jobs: &[u32]) -> Vec<(u32, AttemptEnd)> {
        let mut ends = Vec::with_capacity(jobs.len());
        let mut left = jobs;
        while let Some(first) = left.first() {
            let page = self.store.results(id, Order::Input, *first, PAGE);
            let Some(page) = page.filter(|page| !page.results.is_empty()) else {
                break;
            };
            for (index, report) in page.results {
                while left.first().is_some_and(|next| *next < index) {
                    left = &left[1..];
                }
                if left.first() == Some(&index) {
                    left = &left[1..];
                    let end = AttemptEnd {
                        attempt: report.attempt,
                        worker: WorkerId(0),
                        worker_name: report.worker,
                        ended_ms: now.ms,
                        ending: Ending::Reopened(brief(&report.outcome)),
                    };
                    ends.push((index, end));
                }
            }
        }
        ends
    }

    /// Forgets a batch; `None` where there is none, an error where it is not done.
    pub fn remove(&mut self, now: Now, id: BatchId) -> Option<Result<Waiter, NotDone>> {
        self.store.batch(id)?;
        if self.live.contains_key(&id) {
            return Some(Err(NotDone));
        }
        self.turn.records.push(Record::Removed(id));
        Some(Ok(self.settle_with_reply(now)))
    }
}

/// Why jobs cannot run again.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// There is no such batch.
    #[error("there is no such batch")]
    Unknown,
    /// Some of its jobs are not done, and workers with the memory that is asked for are not chosen
    /// while they are. Wait until it is done, or cancel it.
    #[error("jobs get more memory only when their batch is done: wait for it, or cancel it")]
    Running,
    /// The namespace has what it may have.
    #[error(transparent)]
    Quota(#[from] QuotaError),
}

/// A batch that is not done cannot be removed.
#[derive(Debug)]
pub struct NotDone;

/// What tells two submissions with one key apart: all of it, but its key.
fn digest_of(spec: &BatchSpec, inputs: &[Payload]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let spec = BatchSpec {
        id: None,
        ..spec.clone()
    };
    let mut bytes = Vec::new();
    // Writing to memory does not fail.
    let _ = ciborium::into_writer(&spec, &mut bytes);
    hasher.update(&bytes);
    for input in inputs {
        hasher.update(&input.len().to_le_bytes());
        match input {
            Payload::Inline(bytes) => hasher.update(&[0]).update(bytes),
            Payload::Blob(_, id) => hasher.update(&[1]).update(id.as_bytes()),
        };
    }
    *hasher.finalize().as_bytes()
}

/// Ascending indices as ranges.
fn ranges(indices: &[u32]) -> Vec<std::ops::Range<u32>> {
    let mut ranges: Vec<std::ops::Range<u32>> = Vec::new();
    for index in BTreeSet::from_iter(indices) {
        match ranges.last_mut() {
            Some(last) if last.end == *index => last.end += 1,
            _ => ranges.push(*index..*index + 1),
        }
    }
    ranges
}
