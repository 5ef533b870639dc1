//! What follows when the store has committed something.

use std::rc::Rc;

use optwasm_protocol::message::BatchSpec;
use optwasm_protocol::{BatchId, JobId, Namespace, WorkerId};
use optwasm_scheduler as sched;
use optwasm_store::{Commit, Committed, Record, Store, StoreError};
use tokio::sync::{Notify, oneshot};

use super::{Hub, Now, Out, Turn, batch, scheduled, worker};

/// Resolves when what was asked for is safe, or cannot be kept.
pub type Waiter = oneshot::Receiver<Result<(), StoreError>>;

/// What waits for one commit.
pub(super) struct Pending {
    /// Taken by whoever waits for it.
    commit: Option<Commit>,
    afters: Vec<After>,
}

/// A batch that was submitted and is not stored yet.
pub(super) struct Open {
    pub(super) batch: BatchId,
    pub(super) namespace: Namespace,
    pub(super) spec: BatchSpec,
    pub(super) jobs: u32,
    /// What it counts for.
    pub(super) bytes: u64,
}

/// Something to do when records are safe.
pub(super) enum After {
    /// Schedule a batch that was submitted.
    Open(Box<Open>),
    /// Send assignments, where that connection still is and the job still is the worker's.
    Assign(WorkerId, u64, Vec<(JobId, u32)>),
    /// Tell a worker how many reports of that connection are safe.
    Stored(WorkerId, u64, u64),
    /// Let readers know.
    Ring(Rc<Notify>),
    /// Drop what is kept of a batch in memory, if it still is done.
    Close(BatchId),
    /// Answer whoever waits.
    Reply(oneshot::Sender<Result<(), StoreError>>),
}

impl<S: Store> Hub<S> {
    /// Appends what this call has decided to keep, and has what follows done when it is safe.
    pub(super) fn flush(&mut self, now: Now) {
        let Turn {
            mut records,
            mut afters,
            assigned,
            why: _,
            attempted: _,
        } = std::mem::take(&mut self.turn);
        self.add_assignments(assigned, &mut records, &mut afters);
        self.add_rings(&records, &mut afters);
        if records.is_empty() && afters.is_empty() {
            return;
        }
        let commit = if records.is_empty() {
            Ok(Commit::Done(Committed::default()))
        } else {
            self.store.append(records)
        };
        match commit {
            Ok(commit) => self.follow(now, commit, afters),
            Err(error) => self.refuse(afters, error),
        }
    }

    /// Does `afters` when `commit` resolves and all before it have.
    pub(super) fn follow(&mut self, now: Now, commit: Commit, afters: Vec<After>) {
        match commit {
            Commit::Done(committed) if self.pending.is_empty() => {
                self.carry_on(now, afters, committed);
            }
            commit => {
                self.pending.push_back(Pending {
                    commit: Some(commit),
                    afters,
                });
                self.news.notify_one();
            }
        }
    }

    fn add_assignments(
        &mut self,
        assigned: Vec<(WorkerId, JobId, u32)>,
        records: &mut Vec<Record>,
        afters: &mut Vec<After>,
    ) {
        let mut by_worker: Vec<(WorkerId, Vec<(JobId, u32)>)> = Vec::new();
        for (worker, id, attempt) in assigned {
            if let Some(live) = self.live.get_mut(&id.0) {
                live.workers.insert(worker);
            }
            match by_worker.iter_mut().find(|(known, _)| *known == worker) {
                Some((_, jobs)) => jobs.push((id, attempt)),
                None => by_worker.push((worker, vec![(id, attempt)])),
            }
        }
        for (id, jobs) in by_worker {
            if self.store.is_durable() {
                let claims = self.scheduler.claims_of(worker(id));
                let holds = claims.map(|claim| (super::job_id(claim.job), claim.attempt));
                records.push(Record::Holds(id, holds.collect()));
            }
            let connection = self.workers.get(&id).and_then(|p| p.connection.as_ref());
            if let Some(connection) = connection {
                afters.push(After::Assign(id, connection.epoch, jobs));
            }
        }
    }

    /// Rings for the batches of which readers will find something new.
    fn add_rings(&self, records: &[Record], afters: &mut Vec<After>) {
        let mut rung: Vec<BatchId> = Vec::new();
        for record in records {
            let id = match record {
                Record::Result(id, ..) => id.0,
                Record::Ended(batch, _) | Record::Cancelled(batch) => *batch,
                Record::Reopened(batch, ..) => *batch,
                _ => continue,
            };
            if rung.contains(&id) {
                continue;
            }
            rung.push(id);
            if let Some(live) = self.live.get(&id) {
                // Before a batch is closed, so that whoever listens hears of its end.
                afters.insert(0, After::Ring(live.bell.clone()));
            }
        }
    }

    /// Answers when a submission is safe, or as it is answered where it comes to nothing.
    pub(super) fn reply_when_open(
        &mut self,
        now: Now,
        id: BatchId,
        reply: oneshot::Sender<Result<(), StoreError>>,
    ) {
        let opens = |after: &After| matches!(after, After::Open(open) if open.batch == id);
        let mut waiting = self.pending.iter_mut();
        match waiting.find(|pending| pending.afters.iter().any(opens)) {
            Some(pending) => pending.afters.insert(0, After::Reply(reply)),
            None => {
                self.turn.afters.push(After::Reply(reply));
                self.flush(now);
            }
        }
    }

    /// The commit that everything waits for, to be waited for by the caller, who then tells
    /// [`committed`](Self::committed). `None` where there is nothing to wait for, or somebody
    /// waits already.
    pub fn next_commit(&mut self) -> Option<Commit> {
        self.pending.front_mut()?.commit.take()
    }

    /// The commit that [`next_commit`](Self::next_commit) gave out has resolved.
    pub fn committed(&mut self, now: Now, result: Result<Committed, StoreError>) {
        let Some(pending) = self.pending.pop_front() else {
            return;
        };
        match result {
            Ok(committed) => self.carry_on(now, pending.afters, committed),
            Err(error) => self.refuse(pending.afters, error),
        }
        // Those that needed no commit of their own waited only for their turn.
        while let Some(Pending {
            commit: Some(Commit::Done(_)),
            ..
        }) = self.pending.front()
        {
            let Some(Pending {
                commit: Some(Commit::Done(committed)),
                afters,
            }) = self.pending.pop_front()
            else {
                break;
            };
            self.carry_on(now, afters, committed);
        }
    }

    fn carry_on(&mut self, now: Now, afters: Vec<After>, committed: Committed) {
        let Committed {
            mut answered,
            mut parked,
            followed,
            released,
        } = committed;
        for after in afters {
            match after {
                After::Open(open) => {
                    self.opened(&open);
                    let Open {
                        batch: id,
                        namespace,
                        spec,
                        jobs,
                        ..
                    } = *open;
                    let memory = spec.template.limits.memory;
                    self.step(
                        now,
                        sched::Event::Submit {
                            batch: batch(id),
                            spec: scheduled(&namespace, &spec, jobs, memory),
                            finished: std::mem::take(&mut answered),
                            parked: std::mem::take(&mut parked),
                            known: Vec::new(),
                        },
                    );
                }
                After::Assign(id, epoch, jobs) => self.send(id, epoch, jobs),
                After::Stored(id, epoch, reports) => {
                    if self.is_current(id, epoch) {
                        self.tell(id, Out::Stored(reports));
                    }
                }
                After::Ring(bell) => bell.notify_waiters(),
                After::Close(id) => self.close(now, id),
                After::Reply(sender) => {
                    // Whoever asked may be gone.
                    let _ = sender.send(Ok(()));
                }
            }
        }
        for (id, jobs) in by_batch(followed) {
            if let Some(live) = self.live.get(&id) {
                live.bell.notify_waiters();
            }
            self.step(
                now,
                sched::Event::Answered {
                    batch: batch(id),
                    jobs,
                },
            );
        }
        for (id, jobs) in by_batch(released) {
            self.step(
                now,
                sched::Event::Released {
                    batch: batch(id),
                    jobs,
                },
            );
        }
        self.settle(now);
    }

    /// A submission is not on its way any more.
    fn opened(&mut self, open: &Open) {
        self.end_opening(&open.namespace, u64::from(open.jobs), open.bytes);
        if let Some(key) = &open.spec.id {
            self.keys.remove(&(open.namespace.clone(), key.clone()));
        }
    }

    /// Sends assignments that are safe now.
    fn send(&mut self, id: WorkerId, epoch: u64, jobs: Vec<(JobId, u32)>) {
        if !self.is_current(id, epoch) {
            // Jobs that did not reach the worker are not among those that it claims when it is
            // back, and wait again.
            return;
        }
        for (job, attempt) in jobs {
            if self.holds(id, job, attempt) {
                self.tell(id, Out::Assign(job, attempt));
            }
        }
    }

    fn is_current(&self, id: WorkerId, epoch: u64) -> bool {
        let connection = self.workers.get(&id).and_then(|p| p.connection.as_ref());
        connection.is_some_and(|connection| connection.epoch == epoch)
    }

    /// Drops what is kept of a batch in memory.
    fn close(&mut self, now: Now, id: BatchId) {
        let done = self
            .scheduler
            .batch(batch(id))
            .is_some_and(|status| status.waiting + status.parked + status.held == 0);
        if !done {
            // Some of its jobs run again.
            return;
        }
        self.attached.remove(id);
        self.checkpoints.remove_batch(id);
        if let Some(live) = self.live.remove(&id) {
            for worker in live.workers {
                self.tell(worker, Out::Forget(id));
            }
            live.bell.notify_waiters();
        }
        self.step(now, sched::Event::Forget { batch: batch(id) });
    }

    /// A commit failed: where that can only be a submission, its client is told; else the
    /// coordinator ends.
    fn refuse(&mut self, afters: Vec<After>, error: StoreError) {
        let mut is_submission = false;
        for after in afters {
            match after {
                After::Open(open) => {
                    is_submission = true;
                    self.opened(&open);
                    self.live.remove(&open.batch);
                    self.attached.remove(open.batch);
                }
                After::Reply(sender) => {
                    let _ = sender.send(Err(error.clone()));
                }
                _ => {}
            }
        }
        let is_fatal = matches!(error, StoreError::Fatal(_) | StoreError::Closed);
        if is_fatal || !is_submission {
            tracing::error!("{error}");
            self.failed.get_or_insert(error);
            self.news.notify_one();
        }
    }
}

fn by_batch(jobs: Vec<JobId>) -> Vec<(BatchId, Vec<u32>)> {
    let mut groups: Vec<(BatchId, Vec<u32>)> = Vec::new();
    for JobId(id, index) in jobs {
        match groups.iter_mut().find(|(known, _)| *known == id) {
            Some((_, indices)) => indices.push(index),
            None => groups.push((id, vec![index])),
        }
    }
    groups
}
