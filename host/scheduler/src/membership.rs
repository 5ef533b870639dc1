//! Workers that come, go, and come back within their lease or after it.

use std::collections::BTreeSet;

use crate::batch::Held;
use crate::class::{ClassId, Requirements};
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
        let claimed: BTreeSet<Claim> = holds.iter().copied().collect();
        let held: Vec<JobId> = self.held_by(id).collect();
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
        let kind = self.shares.add_worker(&spec);
        let worker = self.workers.entry(id).or_default();
        worker.leaves = leaves(now, &spec);
        worker.spec = spec;
        if let Some(former) = worker.kind.replace(kind) {
            self.shares.remove_worker(former);
        }
        match worker.away_since.take() {
            Some(since) => {
                self.leases.remove(&(since, id));
            }
            None => worker.draining = false,
        }
        self.rehome(id);
        self.enter_classes(id);
        for &claim in holds {
            if !self.keep(id, claim) && !self.adopt(now, id, claim) {
                let Claim { job, attempt } = claim;
                effects.push(Effect::Revoke {
                    worker: id,
                    job,
                    attempt,
                });
            }
        }
        self.take_back();
        self.wake_all();
    }

    pub(crate) fn restore(
        &mut self,
        now: Time,
        id: WorkerId,
        spec: WorkerSpec,
        holds: &[Claim],
        effects: &mut Vec<Effect>,
    ) {
        if self.workers.contains_key(&id) {
            effects.push(ignored(Ignored::KnownWorker(id)));
            return;
        }
        let kind = self.shares.add_worker(&spec);
        let worker = self.workers.entry(id).or_default();
        worker.leaves = leaves(now, &spec);
        worker.spec = spec;
        worker.kind = Some(kind);
        worker.away_since = Some(now);
        self.leases.insert((now, id));
        self.rehome(id);
        for &claim in holds {
            self.adopt(now, id, claim);
        }
    }

    pub(crate) fn go_away(&mut self, now: Time, id: WorkerId, effects: &mut Vec<Effect>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            effects.push(ignored(Ignored::UnknownWorker(id)));
            return;
        };
        let since = *worker.away_since.get_or_insert(now);
        self.leases.insert((since, id));
        self.leave_classes(id);
        self.take_back();
        self.wake_all();
    }

    /// Workers that have been away for too long are lost.
    pub(crate) fn end_leases(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some(&(since, worker)) = self.leases.first()
            && now.micros_since(since) >= self.config.lease_us
        {
            effects.push(Effect::LeaseEnded { worker });
            self.lose(worker, effects);
        }
    }

    /// Workers that leave at a set time have less left than before, perhaps too little for some jobs.
    pub(crate) fn shorten_stays(&mut self, now: Time) {
        let mut shortened = Vec::new();
        for (&id, worker) in &mut self.workers {
            if let (Some(stay), Some(leaves)) = (&mut worker.spec.stay, worker.leaves) {
                stay.left_us = leaves.micros_since(now);
                shortened.push(id);
            }
        }
        for id in shortened {
            let is_former = |scheduler: &Self, worker: &Worker, class: &ClassId| {
                let class = scheduler.classes.get(class);
                class.is_some_and(|class| !scheduler.admits(&class.requirements, id, worker))
            };
            let Some(worker) = self.workers.get(&id) else {
                continue;
            };
            let former = worker.classes.values().flatten();
            let former: Vec<ClassId> = former
                .filter(|class| is_former(self, worker, class))
                .copied()
                .collect();
            if former.is_empty() && !self.has_home_at(id) {
                continue;
            }
            for class in former {
                self.leave_class(id, class);
            }
            self.rehome(id);
            self.take_back();
        }
    }

    /// Whether jobs may be at home with a worker.
    fn has_home_at(&self, id: WorkerId) -> bool {
        let mut classes = self.classes.values();
        classes.any(|class| class.requirements.home == Some(id))
    }

    fn leave_class(&mut self, id: WorkerId, class_id: ClassId) {
        let Some(class) = self.classes.get_mut(&class_id) else {
            return;
        };
        class.workers.remove(&id);
        let namespace = class.requirements.namespace;
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.leave(namespace, class_id);
        }
    }

    /// Lets a worker keep what it is known to hold; whether it is.
    fn keep(&mut self, id: WorkerId, claim: Claim) -> bool {
        let batch = self.batches.get_mut(&claim.job.batch);
        let held = batch.and_then(|batch| batch.held.get_mut(&claim.job.index));
        let Some(held) = held.filter(|held| held.worker == id && held.attempt == claim.attempt)
        else {
            return false;
        };
        // If it was asked to give the job back, the question or the answer was lost.
        held.recalled = false;
        true
    }

    /// Lets a worker keep a waiting job that it says it holds, unless the job was handed out again
    /// since; whether it may.
    fn adopt(&mut self, now: Time, id: WorkerId, claim: Claim) -> bool {
        let Claim { job, attempt } = claim;
        let batch = self.batches.get(&job.batch);
        if !batch.is_some_and(|batch| batch.may_adopt(id, job.index, attempt)) {
            return false;
        }
        let order = self.next_order();
        let kind = self.workers.get(&id).and_then(|worker| worker.kind);
        let kind = kind.unwrap_or_default();
        let unknown_us = self.shares.unknown_us(kind);
        let adopted = self.change(job.batch, |batch| {
            let (_, mut returned) = batch.take_waiting(job.index)?;
            if let Some(trouble) = &mut returned.trouble {
                trouble.absolve(id, attempt);
            }
            let expected_us = batch.service.expected_us();
            let charged_us = expected_us.unwrap_or(unknown_us);
            batch.pass += batch.charge(expected_us);
            batch.blocked = None;
            let held = Held {
                worker: id,
                attempt,
                since: now,
                order,
                expected_us,
                kind,
                charged_us,
                recalled: false,
                trouble: returned.trouble,
            };
            batch.held.insert(job.index, held);
            Some((batch.class, expected_us, (batch.namespace, charged_us)))
        });
        let Some(Some((class, expected_us, (namespace, charged_us)))) = adopted else {
            return false;
        };
        self.shares.serve(kind, namespace, charged_us);
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
        if let Some(worker) = self.workers.remove(&id) {
            if let Some(since) = worker.away_since {
                self.leases.remove(&(since, id));
            }
            if let Some(kind) = worker.kind {
                self.shares.remove_worker(kind);
            }
        }
        self.rehome(id);
        self.take_back();
        self.wake_all();
    }

    pub(crate) fn drain(&mut self, id: WorkerId, effects: &mut Vec<Effect>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            effects.push(ignored(Ignored::UnknownWorker(id)));
            return;
        };
        worker.draining = true;
        self.leave_classes(id);
        self.rehome(id);
        self.take_back();
        self.wake_all();
    }

    /// Whether a worker, if it takes jobs, may have those that require this.
    pub(crate) fn admits(
        &self,
        requirements: &Requirements,
        id: WorkerId,
        worker: &Worker,
    ) -> bool {
        requirements.match_spec(&worker.spec)
            && requirements
                .home
                .is_none_or(|home| home == id || !self.is_home(home, requirements))
    }

    /// Whether the worker that is named as the home of jobs has them to itself.
    fn is_home(&self, home: WorkerId, requirements: &Requirements) -> bool {
        self.workers.get(&home).is_some_and(|worker| {
            !worker.draining && !worker.aside && requirements.match_spec(&worker.spec)
        })
    }

    pub(crate) fn enter_classes(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id).filter(|worker| worker.takes_jobs()) else {
            return;
        };
        let entered = self
            .classes
            .iter()
            .filter(|(_, class)| self.admits(&class.requirements, id, worker));
        let entered: Vec<ClassId> = entered.map(|(&class, _)| class).collect();
        for class in entered {
            self.enter(id, class);
        }
    }

    /// Makes a worker that is not yet one of its workers one.
    fn enter(&mut self, id: WorkerId, class_id: ClassId) {
        let (Some(worker), Some(class)) =
            (self.workers.get_mut(&id), self.classes.get_mut(&class_id))
        else {
            return;
        };
        let was_empty = class.workers.is_empty();
        if class.workers.insert(id) {
            let namespace = class.requirements.namespace;
            worker.classes.entry(namespace).or_default().push(class_id);
        }
        if !was_empty {
            return;
        }
        // Batches that had no worker until now have neighbours now, and no arrears.
        for turn in class.ready.clone() {
            let Some(batch) = self.batches.get(&turn.batch) else {
                continue;
            };
            let floor = served(&self.classes, &self.workers, batch);
            self.change(turn.batch, |batch| batch.pass = batch.pass.max(floor));
        }
    }

    /// Chooses the workers of a class anew.
    pub(crate) fn choose_members(&mut self, class_id: ClassId) {
        let Some(class) = self.classes.get(&class_id) else {
            return;
        };
        let chosen = self.workers.iter().filter(|&(&id, worker)| {
            worker.takes_jobs() && self.admits(&class.requirements, id, worker)
        });
        let chosen: BTreeSet<WorkerId> = chosen.map(|(&id, _)| id).collect();
        let former: Vec<WorkerId> = class.workers.difference(&chosen).copied().collect();
        for id in former {
            self.leave_class(id, class_id);
        }
        for id in chosen {
            self.enter(id, class_id);
        }
    }

    /// A worker came, or is no home any longer: who may have the jobs that are at home with it?
    pub(crate) fn rehome(&mut self, id: WorkerId) {
        let homed = self
            .classes
            .iter()
            .filter(|(_, class)| class.requirements.home == Some(id));
        let homed: Vec<ClassId> = homed.map(|(&class, _)| class).collect();
        for class in homed {
            self.choose_members(class);
        }
    }

    pub(crate) fn leave_classes(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        for class in std::mem::take(&mut worker.classes).into_values().flatten() {
            if let Some(class) = self.classes.get_mut(&class) {
                class.workers.remove(&id);
            }
        }
    }
}

/// When a worker that offers this leaves.
fn leaves(now: Time, spec: &WorkerSpec) -> Option<Time> {
    let stay = spec.stay?;
    Some(Time(now.0.saturating_add(stay.left_us)))
}
