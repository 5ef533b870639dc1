//! The end of a history: nothing goes wrong any more, and everything has to end well.

use optwasm_coordinator::hub::Hub;
use optwasm_protocol::JobId;
use optwasm_protocol::message::Phase;
use optwasm_store::Store;

use crate::Broken;
use crate::checker::{Check, Violation};
use crate::disk::Disk;
use crate::world::{Asked, Call, World, note};

/// How long a step takes, and how long everything may.
const STEP_US: u64 = 10_000;
const MAX_US: u64 = 120_000_000;

/// Within which time a free slot gets a ready job.
const GRANT_US: u64 = 100_000;

impl<D: Disk> World<D> {
    /// Everything that is broken is mended, and everybody does what is to be done, until all jobs
    /// have ended.
    pub(crate) fn calm(&mut self) -> Check {
        note!(self, "calm");
        self.disk.set_full(false);
        self.is_full = false;
        let begun = self.now.us;
        for place in 0..self.workers.len() {
            self.workers[place].paused = false;
        }
        while !self.is_done() {
            if self.now.us - begun > MAX_US {
                let footprint = self.hub.as_ref().map(Hub::footprint);
                let calls = self.calls.len();
                let state = self.state();
                note!(self, "{state}");
                let text = format!("not all has ended: {footprint:?}, {calls} calls");
                return Err(Violation(5, text));
            }
            self.calm_step()?;
        }
        let Some(store) = self.store.clone() else {
            return Err(Violation(5, "the coordinator does not start".to_owned()));
        };
        self.checker.look(&*store)?;
        self.checker.finish(&*store)?;
        self.forget_all()
    }

    /// What is open, for people.
    pub(crate) fn state(&self) -> String {
        let mut text = String::new();
        let Some(hub) = &self.hub else { return text };
        for (place, batch) in self.checker.known() {
            text += &format!("{:?}\n", hub.status(batch));
            for index in 0..self.checker.submissions[place].inputs.len() as u32 {
                text += &format!("{:?}\n", hub.explain(self.now, JobId(batch, index)));
            }
        }
        text += &format!("{:?}\n", hub.worker_statuses(self.now, None));
        for worker in &self.workers {
            let tasks: Vec<_> = worker
                .tasks
                .iter()
                .map(|t| (t.attempt, &t.progress))
                .collect();
            text += &format!(
                "w{} alive {} link {:?} ready {} draining {}: {tasks:?}\n",
                worker.place, worker.alive, worker.link, worker.ready, worker.draining
            );
        }
        text
    }

    pub(crate) fn is_done(&self) -> bool {
        let Some(hub) = &self.hub else { return false };
        let all_known = self
            .checker
            .submissions
            .iter()
            .all(|s| s.batch.is_some() || s.removed);
        all_known && hub.footprint().batches == (0, 0) && self.calls.is_empty()
    }

    pub(crate) fn calm_step(&mut self) -> Check {
        self.pass(STEP_US);
        if self.hub.is_none() {
            self.disk.set_full(false);
            self.start()?;
        }
        self.tick()?;
        for place in 0..self.workers.len() {
            if !self.workers[place].alive {
                self.workers[place].start();
            }
            self.connect(place);
        }
        for _ in 0..3 {
            let links: Vec<u32> = self.links.keys().copied().collect();
            for id in links {
                while self
                    .links
                    .get(&id)
                    .is_some_and(|link| !link.up.is_empty() && link.near.is_some())
                    && self.hub.is_some()
                {
                    self.hear(id);
                }
                if self.broken != Broken::SlowToSend || (self.now.us / 300_000).is_multiple_of(2) {
                    self.send(id)?;
                }
                while self.links.get(&id).is_some_and(|link| {
                    !link.down.is_empty() && self.workers[link.place].link == Some(id)
                }) {
                    self.deliver(id);
                }
                self.notice(id);
            }
            self.disk.sync(&mut self.random);
            self.follow_commits()?;
        }
        for place in 0..self.workers.len() {
            self.work(place)?;
        }
        self.submit_again();
        self.check_grants()
    }

    /// With a ready job and a free slot, a lease is granted in time.
    pub(crate) fn check_grants(&mut self) -> Check {
        let Some(hub) = &self.hub else {
            self.idle_since_us = None;
            return Ok(());
        };
        let idle = hub
            .worker_statuses(self.now, None)
            .into_iter()
            .any(|status| {
                let usable = !status.draining && status.away_ms.is_none() && status.aside.is_none();
                let connected = self.workers.iter().any(|worker| {
                    self.processes.get(&status.worker) == Some(&(worker.place, worker.started))
                        && worker.ready
                        && worker.tasks.is_empty()
                });
                usable && connected
            });
        let ready = idle && self.has_ready_job(hub);
        match (ready, self.idle_since_us) {
            (false, _) => self.idle_since_us = None,
            (true, None) => self.idle_since_us = Some(self.now.us),
            (true, Some(since)) if self.now.us - since > GRANT_US => {
                return Err(Violation(
                    4,
                    "a job and a worker wait for each other".to_owned(),
                ));
            }
            (true, Some(_)) => {}
        }
        Ok(())
    }

    /// Whether there is a job that any worker may run at once: one that has not failed, taken a
    /// worker with it, or to be confirmed.
    pub(crate) fn has_ready_job(&self, hub: &Hub<D::Store>) -> bool {
        let Some(store) = &self.store else {
            return false;
        };
        self.checker.known().any(|(place, batch)| {
            let submission = &self.checker.submissions[place];
            let jobs = 0..submission.inputs.len() as u32;
            submission.spec.verify == 1
                && hub.bell(batch).is_some()
                && jobs.map(|index| JobId(batch, index)).any(|job| {
                    store.result(job).is_none()
                        && store.attempts(job).is_empty()
                        && !self.checker.lost.contains_key(&job)
                        && hub
                            .explain(self.now, job)
                            .is_some_and(|e| is_ready(&e.phase))
                })
        })
    }

    /// All batches are removed; then nothing is left of them.
    pub(crate) fn forget_all(&mut self) -> Check {
        let submissions = self.checker.submissions.iter().enumerate();
        let known = submissions.filter_map(|(place, submission)| Some((place, submission.batch?)));
        let known: Vec<_> = known.collect();
        for (place, batch) in known {
            let Some(hub) = &mut self.hub else {
                return Ok(());
            };
            self.checker.removes(place);
            match hub.remove(self.now, batch) {
                // It was removed before.
                None => {}
                Some(Ok(waiter)) => self.calls.push(Call {
                    place,
                    what: Asked::Remove,
                    waiter,
                }),
                _ => return Err(Violation(9, format!("batch {batch} cannot be removed"))),
            }
        }
        for _ in 0..500 {
            self.calm_step()?;
        }
        let Some(hub) = &self.hub else {
            return Err(Violation(5, "the coordinator is gone".to_owned()));
        };
        let footprint = hub.footprint();
        let connected = self.workers.iter().filter(|worker| worker.ready).count();
        let bounded = footprint.batches == (0, 0)
            && footprint.keys == 0
            && footprint.pending == 0
            && footprint.workers <= connected;
        if !bounded {
            let text = format!("{footprint:?} with {connected} workers and no batch");
            return Err(Violation(9, text));
        }
        match &self.store {
            Some(store) if !store_is_empty(&**store) => {
                Err(Violation(9, "batches are left in the store".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

fn store_is_empty(store: &impl Store) -> bool {
    store.batches(10).is_empty()
}

fn is_ready(phase: &Phase) -> bool {
    matches!(phase, Phase::Waiting(why) if !why.contains("identical job"))
}
