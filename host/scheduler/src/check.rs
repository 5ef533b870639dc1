//! A check of all invariants.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::Blocked;
use crate::scheduler::Scheduler;
use crate::{JobId, WorkerId};

impl Scheduler {
    /// Checks every invariant by counting everything; for tests, its cost is that of the whole
    /// state.
    ///
    /// # Errors
    /// Says which invariant does not hold: a bug of this crate.
    pub fn sanity_check(&self) -> Result<(), String> {
        let ensure = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
        ensure(
            self.wake.is_empty() && self.filling.is_empty(),
            "a worker is left to fill".into(),
        )?;
        for (&id, batch) in &self.batches {
            let mut waiting: BTreeSet<u32> = batch.fresh.iter().flatten().collect();
            let fresh = waiting.len();
            waiting.extend(batch.returned.indices());
            let total = fresh as u64 + u64::from(batch.returned.len());
            ensure(
                waiting.len() as u64 == total && total == u64::from(batch.waiting()),
                format!("{id}: a job waits twice or is miscounted"),
            )?;
            ensure(
                batch.held.keys().all(|index| !waiting.contains(index)),
                format!("{id}: a held job waits"),
            )?;
            ensure(
                waiting
                    .iter()
                    .chain(batch.held.keys())
                    .all(|&index| index < batch.count),
                format!("{id}: a job beyond its count"),
            )?;
            ensure(
                batch.parked.iter().flatten().all(|index| {
                    index < batch.count
                        && !waiting.contains(&index)
                        && !batch.held.contains_key(&index)
                }),
                format!("{id}: a parked job waits or is held"),
            )?;
            ensure(
                batch
                    .parked_history
                    .keys()
                    .all(|&index| batch.parked.contains(index)),
                format!("{id}: keeps the history of a job that is not parked"),
            )?;
            let unheld = total + u64::from(batch.parked.len());
            let known = unheld + batch.held.len() as u64 + batch.done.total();
            ensure(
                known == u64::from(batch.count),
                format!("{id}: jobs do not add up"),
            )?;
            for (&index, held) in &batch.held {
                let job = JobId { batch: id, index };
                let holder = self.workers.get(&held.worker);
                ensure(
                    holder.is_some_and(|worker| worker.held.get(&held.order) == Some(&job)),
                    format!("{job}: held by {} that does not know it", held.worker),
                )?;
                let trouble = held.trouble.as_ref();
                ensure(
                    !trouble.is_some_and(|trouble| trouble.forbids(held.worker)),
                    format!("{job}: held by {} that must not have it", held.worker),
                )?;
            }
            let class = self
                .classes
                .get(&batch.class)
                .ok_or(format!("{id}: no class"))?;
            let turns: Vec<_> = class.ready.iter().filter(|turn| turn.batch == id).collect();
            ensure(
                turns == batch.turn().iter().collect::<Vec<_>>(),
                format!("{id}: wrong place in the order"),
            )?;
        }
        let parked = self.batches.values().map(|b| u64::from(b.parked.len()));
        ensure(
            parked.sum::<u64>() == self.parked,
            "parked jobs miscounted".into(),
        )?;
        let mut namespaces = BTreeMap::new();
        for batch in self.batches.values() {
            let count: &mut (usize, u64, u64) = namespaces.entry(batch.namespace).or_default();
            count.0 += 1;
            count.1 += u64::from(batch.waiting());
            count.2 += u64::from(batch.parked.len());
        }
        ensure(
            self.shares.check(&namespaces),
            "a namespace is miscounted, or wrong in the order".into(),
        )?;
        let away: BTreeSet<_> = self
            .workers
            .iter()
            .filter_map(|(&id, worker)| Some((worker.away_since?, id)))
            .collect();
        ensure(
            away == self.leases,
            "a lease without end or too many".into(),
        )?;
        for (&class_id, class) in &self.classes {
            let members = || {
                self.batches
                    .values()
                    .filter(|batch| batch.class == class_id)
            };
            let waiting: u64 = members().map(|batch| u64::from(batch.waiting())).sum();
            ensure(
                waiting == class.waiting,
                format!("class {class_id}: waiting jobs miscounted"),
            )?;
            ensure(
                members().next().is_some(),
                format!("class {class_id}: has no batch"),
            )?;
            for (&id, worker) in &self.workers {
                let could = self.admits(&class.requirements, id, worker);
                let matches = could && worker.takes_jobs();
                ensure(
                    !(could && worker.aside && worker.is_present() && class.workers.is_empty()),
                    format!("class {class_id}: has no worker although {id} could be taken back"),
                )?;
                ensure(
                    class.workers.contains(&id) == matches
                        && worker
                            .classes
                            .values()
                            .flatten()
                            .filter(|&&c| c == class_id)
                            .count()
                            == usize::from(matches),
                    format!("class {class_id}: wrong about {id}"),
                )?;
            }
        }
        for (&id, worker) in &self.workers {
            let (mut long, mut short_us) = (0, 0);
            for &job in worker.held.values() {
                let held = self
                    .batches
                    .get(&job.batch)
                    .and_then(|b| b.held.get(&job.index));
                let held = held.ok_or(format!("{id}: holds {job} that is not held"))?;
                ensure(held.worker == id, format!("{job}: held twice"))?;
                match held
                    .expected_us
                    .filter(|&us| us <= self.config.window.long_job_us)
                {
                    Some(us) => short_us += us,
                    None => long += 1,
                }
            }
            ensure(
                worker.tallies() == (worker.held.len(), long, short_us),
                format!("{id}: load miscounted"),
            )?;
            ensure(
                worker.lone.is_none() || worker.held.len() == 1,
                format!("{id}: a job that has to be alone is not"),
            )?;
            self.check_not_idle(id).map_or(Ok(()), |job| {
                Err(format!("{id}: has a free slot although {job} is ready"))
            })?;
        }
        Ok(())
    }

    /// A ready job that the worker should have been given.
    fn check_not_idle(&self, id: WorkerId) -> Option<JobId> {
        let worker = self.workers.get(&id)?;
        if worker.lone.is_some() || !worker.has_free_slot() {
            return None;
        }
        // While a worker is kept for a batch, others may come before that batch when their passes
        // are corrected; only a higher priority of its namespace has to be served at once.
        let kept_for = |blocked: Blocked| blocked.reserved == Some(id);
        let kept_at = self
            .batches
            .values()
            .filter(|batch| batch.blocked.is_some_and(kept_for))
            .map(|batch| (batch.namespace, batch.priority))
            .max();
        let mut after = None;
        while let Some((class, place)) = self.next_turn(worker, after) {
            let turn = place.1;
            let (batch, class) = (self.batches.get(&turn.batch)?, self.classes.get(&class)?);
            let is_first =
                |(namespace, priority)| batch.namespace == namespace && batch.priority > priority;
            if !kept_at.is_none_or(is_first) {
                return None;
            }
            if let Some(index) = batch.choose(id, worker, class).index
                && worker.fits(class.requirements.memory)
            {
                return Some(JobId {
                    batch: turn.batch,
                    index,
                });
            }
            after = Some(place);
        }
        None
    }
}
