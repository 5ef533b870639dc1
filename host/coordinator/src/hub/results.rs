//! What workers report: results that decide a job, that others must confirm, or that come late.

use optwasm_protocol::message::{AttemptEnd, Ending, JobEvent};
use optwasm_protocol::{ContentId, INLINE_MAX, JobId, Outcome, Payload, Report, WorkerId};
use optwasm_scheduler as sched;
use optwasm_store::{Record, Store, StoreError, Witness};

use super::commit::After;
use super::{Hub, Live, Now, Session, Vote, brief, group, job, worker};

/// Largest report: with a page of others it still fits a message. The sandbox limits all of its
/// parts to far less.
const REPORT_MAX: usize = 3 << 20;
/// Late results of a job that are noted: more are no evidence of anything new.
const LATE_OF_JOB_MAX: usize = 100;
/// Late results of a batch that are kept for comparison until their jobs are decided.
const LATE_MAX: usize = 1000;

fn class(outcome: &Outcome) -> sched::OutcomeClass {
    match outcome {
        Outcome::Ok(_) => sched::OutcomeClass::Ok,
        Outcome::Deadline => sched::OutcomeClass::Deadline,
        Outcome::HostOutOfMemory(_) => sched::OutcomeClass::HostOutOfMemory,
        Outcome::HostPanic(_) => sched::OutcomeClass::HostPanic,
        Outcome::StackOverflow => sched::OutcomeClass::StackOverflow,
        Outcome::GuestError { .. }
        | Outcome::Panic { .. }
        | Outcome::Trap { .. }
        | Outcome::OutOfFuel
        | Outcome::MemoryLimit
        | Outcome::OutputTooLarge
        | Outcome::Rejected(_)
        | Outcome::WorkerLost(_)
        | Outcome::Cancelled
        | Outcome::Damaged(_)
        | Outcome::Disputed(_) => sched::OutcomeClass::Failed,
    }
}

/// What becomes of a job by a report.
struct Judgement {
    then: sched::Then,
    /// What is to be kept as its result, where it is decided.
    report: Report,
    /// Workers that came to other results.
    outvoted: Vec<WorkerId>,
}

impl<S: Store> Hub<S> {
    /// Takes reports of a worker in.
    pub fn finished(&mut self, now: Now, session: Session, reports: Vec<(JobId, u32, Report)>) {
        let Some(peer) = self.workers.get_mut(&session.worker) else {
            return;
        };
        if reports.is_empty() {
            return;
        }
        let name = peer.info.name.clone();
        let engine = group(&peer.info);
        let Some(connection) = peer
            .connection
            .as_mut()
            .filter(|connection| connection.epoch == session.epoch)
        else {
            return;
        };
        connection.reports += reports.len() as u64;
        let stored = After::Stored(session.worker, session.epoch, connection.reports);
        for (id, attempt, mut report) in reports {
            self.check_output(&mut report);
            if report.size() > REPORT_MAX {
                let why = format!("a report of {} bytes", report.size());
                report = Report::not_run(Outcome::HostPanic(why));
            }
            report.worker.clone_from(&name);
            report.attempt = attempt;
            self.one_finished(now, session.worker, id, report, &engine);
        }
        self.turn.afters.push(stored);
        self.settle(now);
    }

    fn one_finished(&mut self, now: Now, id: WorkerId, held: JobId, report: Report, engine: &str) {
        let attempt = report.attempt;
        let class = class(&report.outcome);
        let service_time_us = report.wall_us;
        let fuel = report.fuel;
        self.turn.why = Some(brief(&report.outcome));
        let judgement = if self.holds(id, held, attempt) {
            self.count_done(id, held);
            self.judge(id, held, report)
        } else {
            self.late(now, id, held, &report);
            if matches!(report.outcome, Outcome::Cancelled) {
                // Nothing else says what it took until it heard that it was taken back.
                let spent = Record::Spent(held.0, fuel, service_time_us);
                self.turn.records.push(spent);
            }
            Judgement {
                then: sched::Then::Decide,
                report,
                outvoted: Vec::new(),
            }
        };
        self.step(
            now,
            sched::Event::Finished {
                worker: worker(id),
                job: job(held),
                attempt,
                class,
                then: judgement.then,
                service_time_us,
            },
        );
        let decided = self.effects.iter().any(|effect| {
            matches!(effect, sched::Effect::Done { job: done, verdict: sched::Verdict::Reported(_), .. }
                if *done == job(held))
        });
        if decided {
            self.compare_late(held, &judgement.report);
            self.record_result(held, judgement.report, engine.to_owned());
            for loser in judgement.outvoted {
                self.outvoted(now, held, loser);
            }
        }
        if !decided && judgement.then == sched::Then::Retry {
            // It is tried again, and nothing else says what this attempt has taken.
            let spent = Record::Spent(held.0, fuel, service_time_us);
            self.turn.records.push(spent);
        }
        self.carry_out(now);
        self.turn.why = None;
    }

    /// Counts a report for the namespace of its job.
    fn count_done(&mut self, id: WorkerId, held: JobId) {
        let (live, peer) = (self.live.get(&held.0), self.workers.get_mut(&id));
        if let (Some(live), Some(peer)) = (live, peer) {
            match peer.done.get_mut(&live.namespace) {
                Some(done) => *done += 1,
                None => drop(peer.done.insert(live.namespace.clone(), 1)),
            }
        }
    }

    /// What follows from a report of the attempt that has the job.
    fn judge(&mut self, id: WorkerId, held: JobId, report: Report) -> Judgement {
        let decide = |report| Judgement {
            then: sched::Then::Decide,
            report,
            outvoted: Vec::new(),
        };
        let Some(live) = self.live.get(&held.0) else {
            return decide(report);
        };
        let name = report.outcome.name();
        let again = match live.retry_on.is_empty() {
            true => class(&report.outcome).is_retryable(),
            false => live.retry_on.iter().any(|wanted| wanted == name),
        };
        if again {
            return Judgement {
                then: sched::Then::Retry,
                ..decide(report)
            };
        }
        match report.digest() {
            Some(digest) if live.verify > 1 => self.vote(id, held, report, digest),
            _ => decide(report),
        }
    }

    /// Counts who came to the same result. A job is decided when enough workers agree, and given up
    /// when twice as many and one have been asked in vain.
    fn vote(
        &mut self,
        id: WorkerId,
        held: JobId,
        mut report: Report,
        digest: ContentId,
    ) -> Judgement {
        let Some(live) = self.live.get_mut(&held.0) else {
            return Judgement {
                then: sched::Then::Decide,
                report,
                outvoted: Vec::new(),
            };
        };
        let needed = live.verify as usize;
        let votes = live.witnesses.entry(held.1).or_default();
        let group = self.workers.get(&id).map(|peer| group(&peer.info));
        let group = group.unwrap_or_default();
        let peers = votes.iter().filter(|vote| vote.group == group);
        let (same, other): (Vec<_>, Vec<_>) = peers.partition(|vote| vote.digest == digest);
        let ids = |votes: Vec<&Vote>| -> Vec<WorkerId> {
            votes.into_iter().map(|vote| vote.worker).collect()
        };
        let (same, other) = (ids(same), ids(other));
        if same.len() + 1 >= needed {
            let names = same.into_iter().map(|worker| self.name(worker));
            report.witnesses = names.collect();
            report.witnesses.push(report.worker.clone());
            return Judgement {
                then: sched::Then::Decide,
                report,
                outvoted: other,
            };
        }
        votes.push(Vote {
            worker: id,
            group,
            digest,
        });
        let asked = same.len() + other.len() + 1;
        if asked > 2 * needed {
            let workers = same.into_iter().chain(other).chain([id]);
            let names = workers.map(|worker| self.name(worker));
            report.outcome = Outcome::Disputed(names.collect());
            return Judgement {
                then: sched::Then::Decide,
                report,
                outvoted: Vec::new(),
            };
        }
        let witness = Witness {
            worker: id,
            report: report.clone(),
        };
        let record = Record::Witness(held, Box::new(witness));
        self.turn.records.push(record);
        Judgement {
            then: sched::Then::Confirm,
            report,
            outvoted: Vec::new(),
        }
    }

    /// What waited for confirmation before a restart.
    pub(super) fn restore_witnesses(&mut self, id: JobId) {
        let witnesses = self.store.witnesses(id).into_iter();
        let votes = witnesses.filter_map(|witness| {
            let peer = self.workers.get(&witness.worker);
            Some(Vote {
                worker: witness.worker,
                group: peer.map(|peer| group(&peer.info)).unwrap_or_default(),
                digest: witness.report.digest()?,
            })
        });
        let votes = votes.collect();
        if let Some(live) = self.live.get_mut(&id.0) {
            live.witnesses.insert(id.1, votes);
        }
    }

    /// A worker came to another result than the one that others agree on.
    fn outvoted(&mut self, now: Now, id: JobId, loser: WorkerId) {
        let name = self.name(loser);
        tracing::warn!("worker {loser} ({name}) gave another result for job {id} than two others");
        self.record_attempt(now, id, 0, loser, Ending::Differs);
        self.turn.records.push(Record::Compared(id.0, false));
        self.step(
            now,
            sched::Event::Distrust {
                worker: worker(loser),
                why: sched::Distrust::Outvoted,
            },
        );
    }

    /// A report of an attempt that no longer has the job: evidence, and never its result.
    fn late(&mut self, now: Now, id: WorkerId, held: JobId, report: &Report) {
        let Some(digest) = report.digest() else {
            return;
        };
        let mut end = AttemptEnd {
            attempt: report.attempt,
            worker: id,
            worker_name: report.worker.clone(),
            ended_ms: now.ms,
            ending: Ending::Confirms,
        };
        match self.store.result(held) {
            // The same report, sent again since its receipt was lost.
            Some(winner) if winner.attempt == report.attempt => {}
            Some(winner) => {
                let Some(expected) = winner.digest() else {
                    return;
                };
                let known = self.store.attempts(held);
                let again = known.iter().any(|known| {
                    known.worker == id
                        && known.attempt == report.attempt
                        && matches!(known.ending, Ending::Confirms | Ending::Differs)
                });
                if again || known.len() > LATE_OF_JOB_MAX {
                    return;
                }
                let same = expected == digest;
                if !same {
                    end.ending = Ending::Differs;
                    tracing::warn!("job {held}: a late result of {} differs", report.worker);
                }
                self.turn.records.push(Record::Attempt(held, end));
                self.turn.records.push(Record::Compared(held.0, same));
            }
            None => {
                if let Some(live) = self.live.get_mut(&held.0)
                    && live.late_digests.len() < LATE_MAX
                    && live
                        .late_digests
                        .insert((held.1, end.attempt), digest)
                        .is_none()
                {
                    live.late.entry(held.1).or_default().push(end);
                }
            }
        }
    }

    /// Compares what came late with the result that now decides the job.
    fn compare_late(&mut self, id: JobId, winner: &Report) {
        let Some(live) = self.live.get_mut(&id.0) else {
            return;
        };
        for mut end in live.late.remove(&id.1).unwrap_or_default() {
            let digest = live.late_digests.remove(&(id.1, end.attempt));
            let (Some(digest), Some(expected)) = (digest, winner.digest()) else {
                continue;
            };
            if end.attempt == winner.attempt {
                continue;
            }
            let same = digest == expected;
            if !same {
                end.ending = Ending::Differs;
            }
            self.turn.records.push(Record::Attempt(id, end));
            self.turn.records.push(Record::Compared(id.0, same));
        }
    }

    /// A job's input was damaged on the disk: it cannot run.
    pub fn damaged(&mut self, now: Now, id: JobId, error: &StoreError) {
        tracing::error!("job {id}: {error}");
        let report = Report::not_run(Outcome::Damaged(error.to_string()));
        self.record_result(id, report, String::new());
        self.step(
            now,
            sched::Event::Answered {
                batch: super::batch(id.0),
                jobs: vec![id.1],
            },
        );
        self.settle(now);
    }

    /// Keeps what decides a job.
    pub(super) fn record_result(&mut self, id: JobId, report: Report, engine: String) {
        if let Some(live) = self.live.get_mut(&id.0) {
            live.forget(id.1);
            self.checkpoints.remove(id);
        }
        let record = Record::Result(id, Box::new(report), engine);
        self.turn.records.push(record);
    }

    /// A result whose output is not here is none; the job is tried again.
    fn check_output(&self, report: &mut Report) {
        let missing = match &report.outcome {
            Outcome::Ok(Payload::Blob(_, id)) => !self.store.has_blob(id),
            Outcome::Ok(Payload::Inline(bytes)) => bytes.len() > INLINE_MAX,
            _ => false,
        };
        if missing {
            report.outcome = Outcome::HostOutOfMemory("the output did not arrive".to_owned());
        }
    }

    /// Takes in what running jobs report.
    pub fn events(&mut self, session: Session, events: Vec<(JobId, u32, JobEvent)>) {
        if !self.is_current_session(session) {
            return;
        }
        for (id, attempt, event) in events {
            if !self.holds(session.worker, id, attempt) {
                continue;
            }
            let Some(live) = self.live.get_mut(&id.0) else {
                continue;
            };
            match event {
                JobEvent::Progress(done, total) => {
                    live.progress.insert(id.1, (done, total));
                }
                JobEvent::Incumbent(incumbent) => {
                    let summary = (incumbent.objective, incumbent.bound);
                    live.incumbents.insert(id.1, summary);
                }
                // Those whom others are to confirm begin as they did.
                JobEvent::Checkpoint(_) if live.verify > 1 => {}
                JobEvent::Checkpoint(bytes) => self.checkpoints.put(&live.namespace, id, bytes),
            }
            live.news.notify_waiters();
        }
    }
}

impl Live {
    /// Drops what is kept of a job that has ended.
    fn forget(&mut self, index: u32) {
        self.progress.remove(&index);
        self.incumbents.remove(&index);
        self.witnesses.remove(&index);
    }
}
