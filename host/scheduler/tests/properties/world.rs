//! The model: what the public events and effects mean for jobs and workers.

use std::collections::{BTreeMap, BTreeSet};

use optwasm_scheduler::{
    BatchId, BatchSpec, Claim, Config, Event, JobId, OutcomeClass, Scheduler, Then, WorkerId,
    WorkerSpec,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Waiting,
    Parked,
    Held(WorkerId, u32),
    Done,
}

#[derive(Clone, Debug)]
pub struct Job {
    pub state: State,
    /// Of this life and those before: numbers only rise.
    pub last_attempt: u32,
    /// Nobody can have the last attempt: its report was taken in, or there is none in this life.
    pub reported: bool,
    pub failures: u32,
    pub losses: Vec<(WorkerId, u32)>,
    pub careful: bool,
    pub avoid: BTreeSet<WorkerId>,
    pub never: BTreeSet<WorkerId>,
}

impl Job {
    pub fn new(state: State, last_attempt: u32) -> Self {
        Job {
            state,
            last_attempt,
            reported: true,
            failures: 0,
            losses: vec![],
            careful: false,
            avoid: BTreeSet::new(),
            never: BTreeSet::new(),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// What it offers, its stay as of the last tick.
    pub spec: WorkerSpec,
    pub leaves: Option<u64>,
    pub draining: bool,
    pub away_since: Option<u64>,
    pub aside: bool,
    pub gone: bool,
    pub faults: BTreeSet<JobId>,
    pub distrusts: u32,
    /// What the scheduler believes it holds, in order.
    pub held: Vec<JobId>,
    /// The job that was handed to it to run alone.
    pub lone: Option<JobId>,
    /// What it really has, in order.
    pub queue: Vec<Claim>,
}

impl Worker {
    pub fn is_present(&self) -> bool {
        !self.draining && self.away_since.is_none() && !self.gone
    }

    pub fn takes_jobs(&self) -> bool {
        self.is_present() && !self.aside
    }
}

pub struct World {
    pub scheduler: Scheduler,
    pub config: Config,
    pub now: u64,
    pub next_batch: u64,
    pub next_worker: u64,
    /// With whether it is cancelled.
    pub batches: BTreeMap<BatchId, (BatchSpec, bool)>,
    pub jobs: BTreeMap<JobId, Job>,
    pub workers: BTreeMap<WorkerId, Worker>,
    pub wire: Vec<Event>,
    pub superseded: u64,
}

/// What the model expects of a step.
#[derive(Default)]
pub struct Expected {
    /// Of a report: whether it counts.
    pub report: Option<(bool, OutcomeClass, Then)>,
    pub revoked: BTreeSet<(WorkerId, Claim)>,
    pub put_aside: Option<WorkerId>,
}

pub fn matches(spec: &BatchSpec, worker: &WorkerSpec) -> bool {
    worker.slots > 0
        && worker.memory >= spec.memory
        && worker.stay.is_none_or(|stay| stay.admits(spec.time_us))
        && spec
            .labels
            .iter()
            .all(|(key, value)| worker.labels.get(key) == Some(value))
}

impl World {
    pub fn new(config: Config) -> Self {
        World {
            scheduler: Scheduler::new(config),
            config,
            now: 0,
            next_batch: 0,
            next_worker: 0,
            batches: BTreeMap::new(),
            jobs: BTreeMap::new(),
            workers: BTreeMap::new(),
            wire: Vec::new(),
            superseded: 0,
        }
    }

    /// Whether a worker, if it takes jobs, may have those of a batch.
    pub fn admits(&self, spec: &BatchSpec, id: WorkerId) -> bool {
        let is_home = |home: &WorkerId| {
            let home = self.workers.get(home);
            home.is_some_and(|w| !w.draining && !w.aside && !w.gone && matches(spec, &w.spec))
        };
        matches(spec, &self.workers[&id].spec)
            && spec.home.filter(is_home).is_none_or(|home| home == id)
    }

    pub fn matches(&self, id: WorkerId, job: JobId) -> bool {
        self.workers[&id].takes_jobs() && self.admits(&self.batches[&job.batch].0, id)
    }

    pub fn is_alone(&self, job: JobId) -> bool {
        let limit = self.batches[&job.batch].0.loss_limit as usize;
        let losses = self.jobs[&job].losses.len();
        losses > 0 && losses + 1 >= limit
    }

    /// Whether a worker with a free slot should take the waiting job now.
    pub fn is_eligible(&self, id: WorkerId, job: JobId) -> bool {
        let worker = &self.workers[&id];
        let Job { avoid, never, .. } = &self.jobs[&job];
        let mut others = self
            .workers
            .keys()
            .filter(|other| self.matches(**other, job) && !never.contains(other));
        self.matches(id, job)
            && !never.contains(&id)
            && (!avoid.contains(&id) || others.all(|other| avoid.contains(other)))
            && (worker.held.is_empty() || !self.is_alone(job))
            && self.fits(worker, self.batches[&job.batch].0.memory)
    }

    fn fits(&self, worker: &Worker, more: u64) -> bool {
        let mut sizes: Vec<u64> = worker
            .held
            .iter()
            .map(|job| self.batches[&job.batch].0.memory)
            .collect();
        sizes.push(more);
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.iter().take(worker.spec.slots as usize).sum::<u64>() <= worker.spec.memory
    }

    pub fn waiting(&self) -> impl DoubleEndedIterator<Item = JobId> + '_ {
        self.jobs
            .iter()
            .filter(|(_, job)| job.state == State::Waiting)
            .map(|(&id, _)| id)
    }

    pub fn jobs_of(&self, batch: BatchId) -> impl Iterator<Item = (&JobId, &Job)> {
        let index = u32::MAX;
        self.jobs
            .range(JobId { batch, index: 0 }..=JobId { batch, index })
    }

    /// Takes a job from its holder.
    pub fn unhold(&mut self, job: JobId, state: State) -> (WorkerId, u32) {
        let entry = self.jobs.get_mut(&job).unwrap();
        let State::Held(worker, attempt) = entry.state else {
            panic!("{job} is not held")
        };
        entry.state = state;
        let worker_entry = self.workers.get_mut(&worker).unwrap();
        worker_entry.held.retain(|&held| held != job);
        worker_entry.lone = None;
        (worker, attempt)
    }

    pub fn is_held(&self, worker: WorkerId, claim: Claim) -> bool {
        self.jobs
            .get(&claim.job)
            .is_some_and(|job| job.state == State::Held(worker, claim.attempt))
    }

    /// Lets a worker keep a waiting job that it claims, if it may.
    fn adopt(&mut self, id: WorkerId, claim: Claim) {
        let Some(job) = self.jobs.get_mut(&claim.job) else {
            return;
        };
        let least = job.last_attempt + u32::from(job.reported);
        let is_known = claim.attempt >= least.max(1);
        if job.state != State::Waiting || !is_known || job.never.contains(&id) {
            return;
        }
        job.state = State::Held(id, claim.attempt);
        job.reported = false;
        job.last_attempt = claim.attempt;
        job.losses.retain(|&loss| loss != (id, claim.attempt));
        let worker = self.workers.get_mut(&id).unwrap();
        worker.held.push(claim.job);
        worker.lone = None;
    }

    fn add_jobs(&mut self, batch: BatchId, indices: std::ops::Range<u32>) {
        for index in indices {
            let job = Job::new(State::Waiting, 0);
            self.jobs.insert(JobId { batch, index }, job);
        }
    }

    /// What the event itself means, before its effects.
    pub fn apply_event(&mut self, event: &Event) -> Expected {
        let mut expected = Expected::default();
        match event {
            Event::Submit {
                batch,
                spec,
                finished,
                parked,
                known,
            } => {
                let batch = *batch;
                self.batches.insert(batch, (spec.clone(), false));
                self.add_jobs(batch, 0..spec.count);
                for index in 0..spec.count {
                    let job = self.jobs.get_mut(&JobId { batch, index }).unwrap();
                    if finished.iter().any(|range| range.contains(&index)) {
                        job.state = State::Done;
                        continue;
                    }
                    if parked.iter().any(|range| range.contains(&index)) {
                        job.state = State::Parked;
                    }
                    if let Some(known) = known.iter().find(|known| known.index == index) {
                        job.reported = known.reported;
                        job.last_attempt = known.last_attempt;
                        job.failures = known.failures;
                        job.losses = known.losses.clone();
                        job.careful = !known.losses.is_empty();
                        job.avoid = known.losses.iter().map(|&(worker, _)| worker).collect();
                        job.never = known.avoid.iter().copied().collect();
                    }
                }
                self.take_back();
            }
            // Whose turn it is is for other tests to say.
            Event::Weigh { .. } => {}
            Event::Extend { batch, count } => {
                let (spec, cancelled) = self.batches.get_mut(batch).unwrap();
                if !*cancelled {
                    let first = spec.count;
                    spec.count += count;
                    let count = spec.count;
                    self.add_jobs(*batch, first..count);
                }
            }
            Event::Answered { batch, jobs } => {
                for &index in jobs {
                    let job = JobId {
                        batch: *batch,
                        index,
                    };
                    match self.jobs.get(&job).map(|job| job.state) {
                        Some(State::Held(..)) => self.revoke(job, &mut expected),
                        Some(_) => self.jobs.get_mut(&job).unwrap().state = State::Done,
                        None => {}
                    }
                }
            }
            Event::Released { batch, jobs } => {
                for &index in jobs {
                    let batch = *batch;
                    if let Some(job) = self.jobs.get_mut(&JobId { batch, index })
                        && job.state == State::Parked
                    {
                        job.state = State::Waiting;
                    }
                }
            }
            Event::Reopen {
                batch,
                jobs,
                first_attempt,
            } => {
                self.batches.get_mut(batch).unwrap().1 = false;
                for (id, job) in &mut self.jobs {
                    if id.batch == *batch
                        && job.state == State::Done
                        && jobs.iter().any(|range| range.contains(&id.index))
                    {
                        *job = Job::new(State::Waiting, *first_attempt);
                    }
                }
            }
            Event::WorkerJoined {
                worker: id,
                spec,
                holds,
            } => {
                let worker = self.workers.entry(*id).or_default();
                worker.spec = spec.clone();
                worker.leaves = spec.stay.map(|stay| self.now + stay.left_us);
                if worker.away_since.take().is_none() {
                    worker.draining = false;
                }
                for job in worker.held.clone() {
                    let State::Held(_, attempt) = self.jobs[&job].state else {
                        unreachable!()
                    };
                    if !holds.contains(&Claim { job, attempt }) {
                        self.unhold(job, State::Waiting);
                    }
                }
                for &claim in holds {
                    self.adopt(*id, claim);
                    if !self.is_held(*id, claim) {
                        expected.revoked.insert((*id, claim));
                    }
                }
                self.take_back();
            }
            Event::WorkerRestored {
                worker,
                spec,
                holds,
            } => {
                let entry = self.workers.entry(*worker).or_default();
                entry.spec = spec.clone();
                entry.leaves = spec.stay.map(|stay| self.now + stay.left_us);
                entry.away_since = Some(self.now);
                for &claim in holds {
                    self.adopt(*worker, claim);
                }
            }
            Event::WorkerAway { worker } => {
                let since = &mut self.workers.get_mut(worker).unwrap().away_since;
                since.get_or_insert(self.now);
                self.take_back();
            }
            Event::WorkerDraining { worker } => {
                self.workers.get_mut(worker).unwrap().draining = true;
                self.take_back();
            }
            Event::WorkerLost { worker } => {
                self.workers.get_mut(worker).unwrap().gone = true;
                self.take_back();
            }
            Event::Distrust { worker, .. } => {
                self.workers.get_mut(worker).unwrap().distrusts += 1;
                expected.put_aside = self.judge(*worker);
            }
            Event::Finished {
                worker,
                job,
                attempt,
                class,
                then,
                ..
            } => {
                let (job, attempt) = (*job, *attempt);
                let counts = self.is_held(*worker, Claim { job, attempt });
                expected.report = Some((counts, *class, *then));
                if counts {
                    let faults = &mut self.workers.get_mut(worker).unwrap().faults;
                    match class {
                        OutcomeClass::Ok => faults.clear(),
                        OutcomeClass::HostOutOfMemory | OutcomeClass::HostPanic => {
                            faults.insert(job);
                            expected.put_aside = self.judge(*worker);
                        }
                        _ => {}
                    }
                }
            }
            Event::GivenBack { worker, jobs } => {
                for &claim in jobs {
                    if self.is_held(*worker, claim) {
                        self.unhold(claim.job, State::Waiting);
                    }
                }
            }
            Event::Cancel { batch } | Event::Forget { batch } => {
                self.batches.get_mut(batch).unwrap().1 = true;
                for (&job, entry) in self.jobs_of(*batch) {
                    if let State::Held(worker, attempt) = entry.state
                        && self.workers[&worker].away_since.is_none()
                    {
                        expected.revoked.insert((worker, Claim { job, attempt }));
                    }
                }
            }
            Event::Tick => {
                for worker in self.workers.values_mut() {
                    if let (Some(stay), Some(leaves)) = (&mut worker.spec.stay, worker.leaves) {
                        stay.left_us = leaves.saturating_sub(self.now);
                    }
                }
                self.take_back();
            }
        }
        expected
    }

    fn revoke(&mut self, job: JobId, expected: &mut Expected) {
        let (worker, attempt) = self.unhold(job, State::Done);
        if self.workers[&worker].away_since.is_none() {
            expected.revoked.insert((worker, Claim { job, attempt }));
        }
    }

    /// The worker, if it is to be put aside now.
    fn judge(&self, id: WorkerId) -> Option<WorkerId> {
        let worker = &self.workers[&id];
        let is_bad = worker.faults.len() >= self.config.host_fault_limit as usize
            || worker.distrusts >= self.config.distrust_limit;
        let others = || {
            let others = self.workers.iter().filter(|(other, _)| **other != id);
            others.filter(|(_, other)| other.takes_jobs() && other.spec.slots > 0)
        };
        let mut needs = self
            .batches
            .values()
            .map(|(spec, _)| spec)
            .filter(|spec| self.admits(spec, id));
        let could = |spec: &BatchSpec, other: WorkerId| {
            if spec.home == Some(id) {
                matches(spec, &self.workers[&other].spec)
            } else {
                self.admits(spec, other)
            }
        };
        let is_spared = others().next().is_some()
            && needs.all(|spec| others().any(|(other, _)| could(spec, *other)));
        (is_bad && !worker.aside && is_spared).then_some(id)
    }

    /// Workers put aside come back, the lowest first, where a batch has nobody else.
    pub fn take_back(&mut self) {
        loop {
            let has_nobody = |spec: &BatchSpec| {
                let mut takers = self.workers.iter().filter(|(_, w)| w.takes_jobs());
                !takers.any(|(id, _)| self.admits(spec, *id))
            };
            let needed = self.workers.iter().find(|(id, worker)| {
                let mut specs = self.batches.values().map(|(spec, _)| spec);
                worker.aside
                    && worker.is_present()
                    && specs.any(|spec| self.admits(spec, **id) && has_nobody(spec))
            });
            let Some((&id, _)) = needed else { return };
            self.workers.get_mut(&id).unwrap().aside = false;
        }
    }
}
