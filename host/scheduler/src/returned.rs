//! Waiting jobs that came back from a worker, and what they went through.
//!
//! They are grouped by what they ask of the next worker, so that a worker looks at one job per
//! group, however many jobs it must not take.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Known, WorkerId};

/// At most so many workers are remembered to be avoided, the latest: it bounds what one job can
/// cost, and no sane batch retries as often.
const AVOID_LIMIT: usize = 8;

/// How much of a worker a job needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// May also be handed ahead.
    #[default]
    Anywhere,
    /// Only into a free slot, so that it is surely running if the worker is lost.
    FreeSlot,
    /// Only on a worker that holds nothing else.
    Alone,
}

/// What a job asks of the next worker beyond the requirements of its class.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Demand {
    pub(crate) place: Place,
    /// Not these while there are others. Sorted.
    pub(crate) avoid: Vec<WorkerId>,
    /// Never these. Sorted.
    pub(crate) never: Vec<WorkerId>,
}

impl Demand {
    /// Whether `worker` must leave the job to another of the `matching` workers, now or for ever.
    pub(crate) fn avoids(&self, worker: WorkerId, matching: &BTreeSet<WorkerId>) -> bool {
        self.forbids(worker)
            || (self.avoid.binary_search(&worker).is_ok()
                && matching
                    .iter()
                    .any(|&w| self.avoid.binary_search(&w).is_err() && !self.forbids(w)))
    }

    /// Whether `worker` must not have the job whatever happens.
    pub(crate) fn forbids(&self, worker: WorkerId) -> bool {
        self.never.binary_search(&worker).is_ok()
    }
}

/// The record of a job of which an attempt ended and did not decide it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    /// How often it was tried again after a report.
    pub(crate) failures: u32,
    /// Worker and attempt of each loss it is blamed for.
    pub(crate) losses: Vec<(WorkerId, u32)>,
    /// It was held by a lost worker.
    pub(crate) careful: bool,
    /// Workers it failed on, latest last.
    avoid: Vec<WorkerId>,
    /// Workers whose result others are to confirm, sorted. Not bounded here: there is one for each
    /// result that the caller asked for.
    never: Vec<WorkerId>,
}

impl Trouble {
    /// The record that a caller kept over its restart.
    pub(crate) fn known(known: Known) -> Self {
        let mut trouble = Trouble {
            failures: known.failures,
            careful: !known.losses.is_empty(),
            ..Trouble::default()
        };
        for &(worker, _) in &known.losses {
            trouble.avoid(worker);
        }
        trouble.losses = known.losses;
        for worker in known.avoid {
            trouble.forbid(worker);
        }
        trouble
    }

    pub(crate) fn avoid(&mut self, worker: WorkerId) {
        self.avoid.retain(|&w| w != worker);
        if self.avoid.len() == AVOID_LIMIT {
            self.avoid.remove(0);
        }
        self.avoid.push(worker);
    }

    pub(crate) fn forbid(&mut self, worker: WorkerId) {
        if let Err(position) = self.never.binary_search(&worker) {
            self.never.insert(position, worker);
        }
    }

    pub(crate) fn forbids(&self, worker: WorkerId) -> bool {
        self.never.binary_search(&worker).is_ok()
    }

    /// The worker was not lost after all.
    pub(crate) fn absolve(&mut self, worker: WorkerId, attempt: u32) {
        self.losses.retain(|&loss| loss != (worker, attempt));
    }

    fn demand(&self, loss_limit: u32) -> Demand {
        let place = match self.losses.len() {
            n if n > 0 && n as u64 + 1 >= u64::from(loss_limit) => Place::Alone,
            _ if self.careful => Place::FreeSlot,
            _ => Place::Anywhere,
        };
        let mut avoid = self.avoid.clone();
        avoid.sort_unstable();
        Demand {
            place,
            avoid,
            never: self.never.clone(),
        }
    }
}

/// A job that came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Returned {
    pub(crate) last_attempt: u32,
    /// The report of the last attempt has been taken in: nobody has it any more.
    pub(crate) reported: bool,
    pub(crate) trouble: Option<Box<Trouble>>,
}

impl Returned {
    /// A job as it was before a restart of the caller.
    pub(crate) fn known(known: Known) -> Self {
        let Known {
            last_attempt,
            reported,
            failures,
            ..
        } = known;
        let has_trouble = failures > 0 || !known.losses.is_empty() || !known.avoid.is_empty();
        Returned {
            last_attempt,
            reported,
            trouble: has_trouble.then(|| Box::new(Trouble::known(known))),
        }
    }
}

/// All jobs of a batch that came back and wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReturnedJobs {
    /// No group is empty.
    groups: BTreeMap<Demand, BTreeMap<u32, Returned>>,
    len: u32,
}

impl ReturnedJobs {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The lowest index of each group.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (&Demand, u32)> {
        self.groups
            .iter()
            .filter_map(|(demand, jobs)| jobs.first_key_value().map(|(&index, _)| (demand, index)))
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.groups.values().flat_map(|jobs| jobs.keys().copied())
    }

    pub(crate) fn get(&self, index: u32) -> Option<(&Demand, &Returned)> {
        self.groups
            .iter()
            .find_map(|(demand, jobs)| Some((demand, jobs.get(&index)?)))
    }

    pub(crate) fn wants_to_be_alone(&self) -> bool {
        self.groups
            .keys()
            .any(|demand| demand.place == Place::Alone)
    }

    pub(crate) fn insert(&mut self, index: u32, job: Returned, loss_limit: u32) {
        let demand = job
            .trouble
            .as_ref()
            .map(|t| t.demand(loss_limit))
            .unwrap_or_default();
        let fresh = self
            .groups
            .entry(demand)
            .or_default()
            .insert(index, job)
            .is_none();
        debug_assert!(fresh, "a job waits once");
        self.len += 1;
    }

    pub(crate) fn take(&mut self, index: u32) -> Option<(Place, Returned)> {
        let demand = self.get(index)?.0.clone();
        let jobs = self.groups.get_mut(&demand)?;
        let job = jobs.remove(&index)?;
        if jobs.is_empty() {
            self.groups.remove(&demand);
        }
        self.len -= 1;
        Some((demand.place, job))
    }

    pub(crate) fn clear(&mut self) {
        *self = ReturnedJobs::default();
    }
}
