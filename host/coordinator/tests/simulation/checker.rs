//! What is promised, held against what is seen.
//!
//! The checker knows what clients sent and were told, what workers ran, and what readers saw. It
//! knows nothing of how the coordinator works.

use std::collections::{BTreeMap, BTreeSet};

use optwasm_protocol::message::BatchSpec;
use optwasm_protocol::{BatchId, JobId, Outcome, Payload, Report};
use optwasm_store::Store;

use crate::worker::{self, Attempt, Place};

/// A promise that was not kept: its number among those of `docs/operations.md`, and what was seen.
#[derive(Debug)]
pub struct Violation(pub u32, pub String);

pub type Check = Result<(), Violation>;

/// What a client has asked for.
pub struct Submission {
    pub spec: BatchSpec,
    pub inputs: Vec<Payload>,
    /// The number that it was told.
    pub batch: Option<BatchId>,
    /// What a reader has seen, by place.
    seen: BTreeMap<u32, Report>,
    /// What the follower of its results has seen.
    pub followed: BTreeSet<u32>,
    /// Where it goes on.
    pub cursor: u32,
    /// Whether its client asked to cancel it, and whether that was acknowledged.
    pub cancelling: bool,
    pub cancelled: bool,
    /// Whether some of its jobs were to run again.
    pub reopened: bool,
    /// Whether that is still on its way to the disk: until then readers may see what was before.
    pub reopening: bool,
    /// Whether it was to be forgotten, and whether that was acknowledged.
    pub removed: bool,
    pub gone: bool,
}

#[derive(Default)]
pub struct Checker {
    /// By key.
    pub submissions: Vec<Submission>,
    /// Which worker ran which attempt.
    ran: BTreeMap<Attempt, (Place, u64)>,
    /// How often a worker was lost while it had the job.
    pub lost: BTreeMap<JobId, u32>,
    /// Jobs that somebody asked to run again while they may still run.
    pub asked_again: BTreeSet<JobId>,
}

fn ensure(kept: bool, promise: u32, what: impl FnOnce() -> String) -> Check {
    match kept {
        true => Ok(()),
        false => Err(Violation(promise, what())),
    }
}

impl Checker {
    pub fn submitting(&mut self, spec: BatchSpec, inputs: Vec<Payload>) {
        self.submissions.push(Submission {
            spec,
            inputs,
            batch: None,
            seen: BTreeMap::new(),
            followed: BTreeSet::new(),
            cursor: 0,
            cancelling: false,
            cancelled: false,
            reopened: false,
            reopening: false,
            removed: false,
            gone: false,
        });
    }

    /// A client was told the number of its batch.
    pub fn acknowledged(&mut self, place: usize, batch: BatchId) -> Check {
        let others = self.submissions.iter().enumerate();
        let taken = others
            .filter(|(other, s)| *other != place && s.batch == Some(batch))
            .count();
        ensure(taken == 0, 1, || format!("batch {batch} is two"))?;
        let submission = &mut self.submissions[place];
        let first = *submission.batch.get_or_insert(batch);
        ensure(first == batch, 1, || {
            format!("sent twice, it is batch {first} and batch {batch}")
        })
    }

    /// A worker begins an attempt.
    pub fn begins(&mut self, attempt: Attempt, place: Place, process: u64) -> Check {
        let before = self.ran.insert(attempt, (place, process));
        ensure(before.is_none(), 3, || {
            format!("{attempt:?} began twice: on {before:?} and on {place}")
        })
    }

    /// The batches that are known to their clients and still there.
    pub fn known(&self) -> impl Iterator<Item = (usize, BatchId)> {
        let all = self.submissions.iter().enumerate();
        let there = all.filter(|(_, submission)| !submission.removed);
        there.filter_map(|(place, submission)| Some((place, submission.batch?)))
    }

    /// What was acknowledged is still there.
    pub fn look(&self, store: &impl Store) -> Check {
        for submission in &self.submissions {
            let Some(batch) = submission.batch else {
                continue;
            };
            let summary = store.batch(batch);
            if submission.removed {
                let gone = !submission.gone || summary.is_none();
                ensure(gone, 1, || {
                    format!("batch {batch} was removed, and is back")
                })?;
                continue;
            }
            let summary = summary.ok_or_else(|| {
                Violation(
                    1,
                    format!("batch {batch} was acknowledged, and is not there"),
                )
            })?;
            let same =
                summary.jobs as usize == submission.inputs.len() && summary.spec == submission.spec;
            ensure(same, 1, || {
                format!("batch {batch} is not what was submitted")
            })?;
            let cancelled = submission.cancelled && !submission.reopened;
            ensure(!cancelled || summary.done == summary.jobs, 1, || {
                format!("batch {batch} was cancelled, and has not ended")
            })?;
            for (index, seen) in &submission.seen {
                let job = JobId(batch, *index);
                let now = store.result(job);
                ensure(now.as_ref() == Some(seen), 2, || {
                    format!("the result of {job} was {seen:?}, and is {now:?}")
                })?;
            }
        }
        Ok(())
    }

    /// A reader follows the results of a batch by one page.
    pub fn follow(&mut self, place: usize, store: &impl Store) -> Check {
        let order = optwasm_protocol::message::Order::Completion;
        let submission = &mut self.submissions[place];
        let Some(batch) = submission.batch else {
            return Ok(());
        };
        let page = store.results(batch, order, submission.cursor, 200);
        let Some(page) = page else {
            return ensure(submission.removed, 1, || format!("batch {batch} is gone"));
        };
        submission.cursor = page.cursor;
        for (index, report) in page.results {
            let submission = &mut self.submissions[place];
            let again = !submission.followed.insert(index);
            let twice = again && !submission.reopened;
            ensure(!twice, 2, || {
                format!("the result of {batch}.{index} came twice")
            })?;
            self.sees(place, index, report)?;
        }
        Ok(())
    }

    /// A reader sees a result.
    pub fn sees(&mut self, place: usize, index: u32, report: Report) -> Check {
        let submission = &self.submissions[place];
        let Some(batch) = submission.batch else {
            return Ok(());
        };
        let job = JobId(batch, index);
        let wrong = |why: &str| Err(Violation(2, format!("{job}: {why}: {report:?}")));
        let input = &submission.inputs[index as usize];
        match &report.outcome {
            Outcome::Cancelled => {
                if !submission.cancelling {
                    return wrong("nobody cancelled it");
                }
            }
            Outcome::WorkerLost(losses) => {
                let lost = self.lost.get(&job).copied().unwrap_or_default();
                if losses.len() < 3 || lost < 3 {
                    return wrong(&format!("only {lost} workers were lost with it"));
                }
            }
            outcome => {
                let truth = worker::compute(input, report.attempt, false);
                let fuel = !outcome.has_exact_fuel() || truth.fuel == report.fuel;
                if truth.outcome != *outcome || !fuel {
                    // A memo of an identical job has the attempt of that one, as have its outcome.
                    return wrong("this is not what the job gives");
                }
                if !report.memo && !self.ran.contains_key(&(job, report.attempt)) {
                    return wrong("nobody ran it");
                }
            }
        }
        if submission.reopening {
            return Ok(());
        }
        let seen = &mut self.submissions[place].seen;
        let first = seen.entry(index).or_insert_with(|| report.clone());
        ensure(*first == report, 2, || {
            format!("the result of {job} was {first:?}, and is {report:?}")
        })
    }

    /// Jobs of a batch were asked to run again: what was seen of it counts no more.
    pub fn runs_again(&mut self, place: usize) {
        let submission = &mut self.submissions[place];
        submission.reopened = true;
        submission.reopening = true;
        submission.seen.clear();
        if let Some(batch) = submission.batch {
            let jobs = 0..submission.inputs.len() as u32;
            self.asked_again
                .extend(jobs.map(|index| JobId(batch, index)));
        }
    }

    /// The coordinator has died: what was on its way to the disk is there now, or never will be.
    pub fn crashed(&mut self) {
        for submission in &mut self.submissions {
            submission.reopening = false;
        }
    }

    /// A client asks to forget a batch.
    pub fn removes(&mut self, place: usize) {
        let submission = &mut self.submissions[place];
        submission.removed = true;
        submission.seen.clear();
    }

    /// Everything has come to its end: each job has one outcome, and readers have seen it.
    pub fn finish(&mut self, store: &impl Store) -> Check {
        let places: Vec<(usize, BatchId)> = self.known().collect();
        for (place, batch) in &places {
            let jobs = self.submissions[*place].inputs.len() as u32;
            let mut summary = store
                .batch(*batch)
                .ok_or_else(|| Violation(1, format!("batch {batch} is not there")))?;
            let done = summary.done == jobs && summary.ended_ms > 0;
            ensure(done, 2, || {
                format!("batch {batch} has not ended: {summary:?}")
            })?;
            summary.outcomes.retain(|_, count| *count > 0);
            let counted: u32 = summary.outcomes.values().sum();
            ensure(counted == jobs, 2, || {
                format!("{counted} outcomes of {jobs} jobs")
            })?;
            for index in 0..jobs {
                let job = JobId(*batch, index);
                let Some(report) = store.result(job) else {
                    return Err(Violation(2, format!("{job} has no outcome")));
                };
                self.sees(*place, index, report)?;
            }
            for _ in 0..100 {
                self.follow(*place, store)?;
            }
            let followed = self.submissions[*place].followed.len();
            ensure(followed == jobs as usize, 2, || {
                format!("a reader saw {followed} of {jobs} results of batch {batch}")
            })?;
        }
        // A removal may have been carried out although its answer was lost.
        let most = self.submissions.iter().filter(|s| !s.gone).count();
        let least = self.submissions.iter().filter(|s| !s.removed).count();
        let there = store.batches(1_000_000).len();
        ensure((least..=most).contains(&there), 1, || {
            format!("{there} batches, but {least} to {most} were submitted")
        })
    }
}
