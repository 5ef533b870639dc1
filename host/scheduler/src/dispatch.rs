//! Who gets which job: fills the workers that an event may have made able to take one.

use std::cmp::Reverse;
use std::ops::Bound;

use crate::batch::{Batch, Blocked, Held};
use crate::class::{Class, ClassId, Turn};
use crate::returned::Place;
use crate::scheduler::Scheduler;
use crate::share::{self, TOP_UP_US};
use crate::worker::Worker;
use crate::{Config, Effect, JobId, Time, WorkerId};

/// Batches of one namespace in a row that may have nothing for a worker before it turns to the next
/// namespace: looking at them takes some tens of microseconds, which others wait.
const SKIPPED_MAX: usize = 1024;

/// What a batch answers a worker that asks for a job.
enum Offer {
    /// Take the job of this index.
    Take(u32),
    /// Nothing for you, ask the next batch.
    Skip,
    /// It is this batch's turn and it needs what you hold: wait.
    Wait,
}

impl Scheduler {
    /// Fills all woken workers, always the least loaded first: free slots anywhere go before jobs
    /// held ahead.
    pub(crate) fn dispatch(&mut self, now: Time, effects: &mut Vec<Effect>) {
        loop {
            self.wake.sort_unstable();
            self.wake.dedup();
            for id in self.wake.drain(..) {
                if let Some(worker) = self.workers.get(&id) {
                    self.filling.push(Reverse((worker.load(), id)));
                }
            }
            let Some(Reverse((_, id))) = self.filling.pop() else {
                break;
            };
            if self.assign_one(now, id, effects) {
                self.wake.push(id);
            }
        }
    }

    /// Hands the worker one job, if it may have one.
    pub(crate) fn assign_one(
        &mut self,
        now: Time,
        id: WorkerId,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(worker) = self.workers.get(&id) else {
            return false;
        };
        if worker.lone.is_some() {
            return false;
        }
        let mut after = None;
        let mut skipped = (None, 0);
        loop {
            let Some((class, place)) = self.next_turn(worker, after) else {
                return false;
            };
            let turn = place.1;
            let Some(class) = self.classes.get(&class) else {
                return false;
            };
            let Some(batch) = self.batches.get_mut(&turn.batch) else {
                return false;
            };
            match offer(&self.config, now, id, worker, class, batch) {
                Offer::Take(index) => {
                    let job = JobId {
                        batch: turn.batch,
                        index,
                    };
                    return self.hand_out(now, id, job, effects);
                }
                Offer::Wait => return false,
                Offer::Skip => {
                    let namespace = Some(place.0.1);
                    skipped = match skipped {
                        (of, count) if of == namespace => (of, count + 1),
                        _ => (namespace, 1),
                    };
                    after = Some(match skipped.1 < SKIPPED_MAX {
                        true => place,
                        false => (place.0, Turn::LAST),
                    });
                }
            }
        }
    }

    /// The next batch in the order of service that this worker can run, after `after`.
    pub(crate) fn next_turn(
        &self,
        worker: &Worker,
        after: Option<(share::Place, Turn)>,
    ) -> Option<(ClassId, (share::Place, Turn))> {
        let kind = worker.kind?;
        let mut from = after.map_or(Bound::Unbounded, |(_, turn)| Bound::Excluded(turn));
        let mut next = match after {
            Some((place, _)) => Some(place),
            None => self.shares.next(kind, None),
        };
        while let Some(place) = next {
            let classes = worker.classes_of(place.1).iter();
            let ready = classes.filter_map(|id| {
                let ready = &self.classes.get(id)?.ready;
                Some((*id, *ready.range((from, Bound::Unbounded)).next()?))
            });
            if let Some((class, turn)) = ready.min_by_key(|&(_, turn)| turn) {
                return Some((class, (place, turn)));
            }
            from = Bound::Unbounded;
            next = self.shares.next(kind, Some(place));
        }
        None
    }

    fn hand_out(&mut self, now: Time, id: WorkerId, job: JobId, effects: &mut Vec<Effect>) -> bool {
        let order = self.next_order();
        let kind = self.workers.get(&id).and_then(|worker| worker.kind);
        let kind = kind.unwrap_or_default();
        let unknown_us = self.shares.unknown_us(kind);
        let handed = self.change(job.batch, |batch| {
            let (place, returned) = batch.take_waiting(job.index)?;
            let attempt = returned.last_attempt.saturating_add(1);
            let expected_us = batch.service.expected_us();
            let charged_us = expected_us.unwrap_or(unknown_us);
            let served = batch.pass;
            batch.pass += batch.charge(expected_us);
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
            let unblocked = batch.blocked.is_some()
                && (place == Place::Alone || !batch.returned.wants_to_be_alone());
            let freed = if unblocked {
                batch.blocked.take().and_then(|b| b.reserved)
            } else {
                None
            };
            Some((
                place,
                attempt,
                expected_us,
                served,
                freed,
                batch.class,
                (batch.namespace, batch.priority, charged_us),
            ))
        });
        let Some(Some((place, attempt, expected_us, served, freed, class, of))) = handed else {
            return false;
        };
        let (namespace, priority, charged_us) = of;
        self.shares.serve(kind, namespace, charged_us);
        self.wake.extend(freed);
        let memory = self.memory_of(class);
        if let Some(class) = self.classes.get_mut(&class) {
            class.note_service(priority, served);
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.add(order, job, memory, expected_us, &self.config.window);
            worker.lone = (place == Place::Alone).then_some(job);
        }
        effects.push(Effect::Assign {
            worker: id,
            job,
            attempt,
        });
        true
    }

    /// Charges namespaces for jobs that have run for longer than was expected of them, now and then.
    pub(crate) fn top_up(&mut self, now: Time) {
        if now.micros_since(self.topped_up) < TOP_UP_US {
            return;
        }
        self.topped_up = now;
        for worker in self.workers.values() {
            for job in worker.running() {
                if let Some(batch) = self.batches.get_mut(&job.batch) {
                    batch.charge_for_time(now, job.index, &mut self.shares);
                }
            }
        }
        self.shares.topped_up();
    }

    /// Calls unstarted jobs back from workers that hold them for too long, as many as others have
    /// free slots for. To be called when nobody can take a waiting job.
    pub(crate) fn recall(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for (&idle_id, idle) in &self.workers {
            if !idle.takes_jobs() || idle.lone.is_some() {
                continue;
            }
            let mut free = idle.slots().saturating_sub(idle.held.len());
            for (&id, busy) in &self.workers {
                if id == idle_id || busy.away_since.is_some() {
                    continue;
                }
                let ahead = busy.held.len().saturating_sub(busy.slots());
                for &job in busy.held.values().rev().take(ahead) {
                    if free == 0 {
                        break;
                    }
                    let Some(batch) = self.batches.get_mut(&job.batch) else {
                        continue;
                    };
                    let Some(held) = batch.held.get_mut(&job.index) else {
                        continue;
                    };
                    let is_late = now.micros_since(held.since) >= self.config.recall_after_us;
                    let may_have_it = idle.classes_of(batch.namespace).contains(&batch.class)
                        && !held.trouble.as_ref().is_some_and(|t| t.forbids(idle_id));
                    if is_late && !held.recalled && may_have_it {
                        held.recalled = true;
                        free -= 1;
                        effects.push(Effect::Recall {
                            worker: id,
                            job,
                            attempt: held.attempt,
                        });
                    }
                }
            }
        }
    }
}

fn offer(
    config: &Config,
    now: Time,
    id: WorkerId,
    worker: &Worker,
    class: &Class,
    batch: &mut Batch,
) -> Offer {
    let choice = batch.choose(id, worker, class);
    let fits = worker.fits(class.requirements.memory);
    // A batch that holds jobs elsewhere finds too little room here, but it is being served.
    let starves = choice.needs_empty || (choice.index.is_some() && !fits && batch.held.is_empty());
    if starves {
        let blocked = batch.blocked.get_or_insert(Blocked {
            since: now,
            reserved: None,
        });
        let is_mine = blocked
            .reserved
            .is_none_or(|w| w == id || !class.workers.contains(&w));
        if is_mine && now.micros_since(blocked.since) >= config.patience_us {
            blocked.reserved = Some(id);
            return Offer::Wait;
        }
    } else if batch
        .blocked
        .is_some_and(|blocked| blocked.reserved == Some(id))
    {
        batch.blocked = None;
    }
    if choice.needs_slot {
        return Offer::Wait;
    }
    let Some(index) = choice.index.filter(|_| fits) else {
        return Offer::Skip;
    };
    let expected_us = batch.service.expected_us();
    if worker.has_free_slot() || worker.may_hold_ahead(expected_us, class.share(), &config.window) {
        Offer::Take(index)
    } else {
        Offer::Wait
    }
}
