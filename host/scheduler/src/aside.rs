//! Workers that fail by their own fault are put aside while others can do their work.

use crate::class::Class;
use crate::scheduler::{Scheduler, ignored};
use crate::{Distrust, Effect, Ignored, JobId, OutcomeClass, WorkerId};

impl Scheduler {
    /// Takes note of what a worker reported.
    pub(crate) fn note_outcome(
        &mut self,
        id: WorkerId,
        job: JobId,
        class: OutcomeClass,
        effects: &mut Vec<Effect>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if class == OutcomeClass::Ok {
            worker.host_faults.clear();
        } else if class.is_host_fault() {
            if worker.host_faults.len() < self.config.host_fault_limit as usize {
                worker.host_faults.insert(job);
            }
            self.judge(id, effects);
        }
    }

    pub(crate) fn distrust(&mut self, id: WorkerId, why: Distrust, effects: &mut Vec<Effect>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            effects.push(ignored(Ignored::UnknownWorker(id)));
            return;
        };
        worker.distrusts = worker.distrusts.saturating_add(1);
        worker.distrusted = Some(why);
        self.judge(id, effects);
    }

    /// Puts a worker aside if it has failed too often and can be spared.
    fn judge(&mut self, id: WorkerId, effects: &mut Vec<Effect>) {
        let Some(worker) = self.workers.get(&id).filter(|worker| !worker.aside) else {
            return;
        };
        let is_bad = worker.host_faults.len() >= self.config.host_fault_limit as usize
            || worker.distrusts >= self.config.distrust_limit;
        if !is_bad || !self.can_be_spared(id) {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.aside = true;
        let (is_away, slots) = (worker.away_since.is_some(), worker.slots());
        let unstarted: Vec<JobId> = worker.held.values().skip(slots).copied().collect();
        self.leave_classes(id);
        self.rehome(id);
        effects.push(Effect::PutAside { worker: id });
        for job in unstarted {
            let batch = self.batches.get_mut(&job.batch);
            let held = batch.and_then(|batch| batch.held.get_mut(&job.index));
            if let Some(held) = held.filter(|held| !is_away && !held.recalled) {
                held.recalled = true;
                effects.push(Effect::Recall {
                    worker: id,
                    job,
                    attempt: held.attempt,
                });
            }
        }
        // What was left to it may go to others now.
        self.wake_all();
    }

    /// Whether everything it can run could be run by another worker that takes jobs.
    fn can_be_spared(&self, id: WorkerId) -> bool {
        let Some(worker) = self.workers.get(&id) else {
            return false;
        };
        let others = || {
            let others = self.workers.iter().filter(|(other, _)| **other != id);
            others.filter(|(_, other)| other.takes_jobs() && other.spec.slots > 0)
        };
        let is_left = |class: &Class| {
            if class.requirements.home == Some(id) {
                // It would be at home anywhere then.
                others().any(|(_, other)| class.requirements.match_spec(&other.spec))
            } else {
                class.workers.iter().any(|other| *other != id)
            }
        };
        others().next().is_some()
            && self
                .classes
                .values()
                .all(|class| !self.admits(&class.requirements, id, worker) || is_left(class))
    }

    /// Takes workers back that were put aside, where nobody else is left for what they can run.
    pub(crate) fn take_back(&mut self) {
        loop {
            let mut aside = self
                .workers
                .iter()
                .filter(|(_, w)| w.aside && w.is_present());
            let needed = aside.find(|&(&id, worker)| {
                self.classes.values().any(|class| {
                    class.workers.is_empty() && self.admits(&class.requirements, id, worker)
                })
            });
            let Some((&id, _)) = needed else { return };
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.aside = false;
            }
            self.rehome(id);
            self.enter_classes(id);
            self.wake.push(id);
        }
    }
}
