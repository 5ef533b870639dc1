//! Workers that come, go, and come back.

use std::collections::BTreeSet;

use crate::batch::Held;
use crate::scheduler::{Return, Scheduler, ignored, served};
use crate::worker::Worker;
use crate::{Claim, Effect, Ignored, JobId, Time, Verdict, WorkerId, WorkerSpec};

impl Scheduler {
    pub(crate) fn join(
        &mut self,
        now: Time,
        id: WorkerId,
        spec: WorkerSpec,
        holds: &[Claim],
        effects: &mut Vec<Effect>,
    ) {
        if let Some(known) = self.workers.get(&id) {
            let held: Vec<JobId> = known.held.values().copied().collect();
            let claimed: BTreeSet<Claim> = holds.iter().copied().collect();
            for job in held {
                let is_gone = |held: &Held| {
                    let attempt = held.attempt;
                    !claimed.contains(&Claim { job, attempt })
                };
                if let Some(held) = self.take_held(id, job, is_gone) {
                    self.put_back(id, job, held, &Return::Unharmed, effects);
                }
            }
            self.leave_classes(id);
        }
        let worker = self
            .workers
            .entry(id)
            .or_insert_with(|| Worker::new(WorkerSpec::default()));
        worker.spec = spec;
        worker.draining = false;
        self.enter_classes(id);
        for &claim in holds {
            if !self.holds(id, claim) && !self.adopt(now, id, claim) {
                let Claim { job, attempt } = claim;
                effects.push(Effect::Revoke {
                    worker: id,
                    job,
                    attempt,
                });
            }
        }
        self.wake_all();
    }

    fn holds(&self, id: WorkerId, claim: Claim) -> bool {
        self.batches
            .get(&claim.job.batch)
            .and_then(|batch| batch.held.get(&claim.job.index))
            .is_some_and(|held| held.worker == id && held.attempt == claim.attempt)
    }

    /// Lets a worker keep a waiting job that it says it holds, unless the job was handed out again
    /// since; whether it may.
    fn adopt(&mut self, now: Time, id: WorkerId, claim: Claim) -> bool {
        let Claim { job, attempt } = claim;
        let waits = self
            .batches
            .get(&job.batch)
            .and_then(|batch| batch.last_attempt(job.index))
            .is_some_and(|last| attempt >= last.max(1));
        if !waits {
            return false;
        }
        let order = self.next_order();
        let adopted = self.change(job.batch, |batch| {
            let (_, mut returned) = batch.take_waiting(job.index)?;
            if let Some(trouble) = &mut returned.trouble {
                trouble.absolve(id, attempt);
            }
            let expected_us = batch.service.expected_us();
            batch.pass += batch.charge(expected_us);
            batch.blocked = None;
            let held = Held {
                worker: id,
                attempt,
                since: now,
                order,
                expected_us,
                recalled: false,
                trouble: returned.trouble,
            };
            batch.held.insert(job.index, held);
            Some((batch.class, expected_us))
        });
        let Some(Some((class, expected_us))) = adopted else {
            return false;
        };
        let memory = self.memory_of(class);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.add(order, job, memory, expected_us, &self.config.window);
            worker.lone = None;
        }
        true
    }

    pub(crate) fn lose(&mut self, id: WorkerId, effects: &mut Vec<Effect>) {
        let Some(worker) = self.workers.get(&id) else {
            effects.push(ignored(Ignored::UnknownWorker(id)));
            return;
        };
        let (slots, lone) = (worker.slots(), worker.lone);
        let held: Vec<JobId> = worker.held.values().copied().collect();
        self.leave_classes(id);
        for (position, job) in held.into_iter().enumerate() {
            let Some(held) = self.take_held(id, job, |_| true) else {
                continue;
            };
            let Some(batch) = self.batches.get(&job.batch) else {
                continue;
            };
            let losses = held
                .trouble
                .as_ref()
                .map_or(0, |trouble| trouble.losses.len());
            let is_last = losses as u64 + 1 >= u64::from(batch.loss_limit);
            // An adopted job may be on its last chance without being alone: that proves nothing.
            let is_proof = !is_last || batch.loss_limit == 1 || lone == Some(job);
            let blamed = position < slots && is_proof;
            if blamed && is_last {
                let attempt = held.attempt;
                let mut losses = held
                    .trouble
                    .map(|trouble| trouble.losses)
                    .unwrap_or_default();
                losses.push((id, attempt));
                self.conclude(id, job, attempt, Verdict::LostTooOften { losses }, effects);
            } else {
                self.put_back(id, job, held, &Return::Lost { blamed }, effects);
            }
        }
        self.workers.remove(&id);
        self.wake_all();
    }

    pub(crate) fn drain(&mut self, id: WorkerId, effects: &mut Vec<Effect>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            effects.push(ignored(Ignored::UnknownWorker(id)));
            return;
        };
        worker.draining = true;
        self.leave_classes(id);
        self.wake_all();
    }

    fn enter_classes(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let mut reached = Vec::new();
        for (&class_id, class) in &mut self.classes {
            if class.requirements.match_worker(&worker.spec) {
                if class.workers.is_empty() {
                    reached.push(class_id);
                }
                class.workers.insert(id);
                worker.classes.push(class_id);
            }
        }
        // Batches that had no worker until now have neighbours now, and no arrears.
        for class_id in reached {
            let Some(class) = self.classes.get(&class_id) else {
                continue;
            };
            for turn in class.ready.clone() {
                let Some(batch) = self.batches.get(&turn.batch) else {
                    continue;
                };
                let floor = served(&self.classes, &self.workers, batch);
                self.change(turn.batch, |batch| batch.pass = batch.pass.max(floor));
            }
        }
    }

    fn leave_classes(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        for class in worker.classes.drain(..) {
            if let Some(class) = self.classes.get_mut(&class) {
                class.workers.remove(&id);
            }
        }
    }
}
