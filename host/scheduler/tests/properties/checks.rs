//! One step of the scheduler and of the model, and what must hold during and after it.

use std::collections::{BTreeMap, BTreeSet};

use optwasm_scheduler::{
    Claim, Effect, Event, JobId, JobState, NamespaceId, RetryReason, Then, Time, Verdict,
    WaitReason, WorkerId,
};

use crate::world::{Expected, Job, State, World};

impl World {
    pub fn step(&mut self, event: Event) {
        let mut lost: BTreeMap<WorkerId, Vec<JobId>> = BTreeMap::new();
        if let Event::WorkerLost { worker } = &event {
            lost.insert(*worker, self.workers[worker].held.clone());
        }
        let Expected {
            report,
            mut revoked,
            mut put_aside,
        } = self.apply_event(&event);
        let mut told = BTreeSet::new();
        let mut just_aside = None;
        let mut answers = 0;
        let mut effects = Vec::new();
        self.scheduler
            .step(Time(self.now), event.clone(), &mut effects);
        for effect in effects {
            match effect {
                Effect::Assign {
                    worker,
                    job,
                    attempt,
                } => self.check_assign(worker, job, attempt),
                Effect::Revoke {
                    worker,
                    job,
                    attempt,
                } => {
                    let claim = Claim { job, attempt };
                    assert!(revoked.remove(&(worker, claim)), "revoked without a reason");
                    told.insert(job);
                    // Some revocations come too late: every third worker never hears of them.
                    let entry = self.workers.get_mut(&worker).unwrap();
                    assert_eq!(entry.away_since, None, "told while away");
                    if worker.0 % 3 != 0 {
                        entry.queue.retain(|&queued| queued != claim);
                    }
                }
                Effect::Recall {
                    worker,
                    job,
                    attempt,
                } => {
                    let claim = Claim { job, attempt };
                    assert!(self.is_held(worker, claim), "recalled, not held");
                    let entry = &self.workers[&worker];
                    assert_eq!(entry.away_since, None, "recalled while away");
                    let position = entry.held.iter().position(|&j| j == job);
                    let slots = entry.spec.slots as usize;
                    assert!(
                        position >= Some(slots),
                        "recalled a job that may be running"
                    );
                    let never = &self.jobs[&job].never;
                    let mut takers = self.workers.iter().filter(|(id, other)| {
                        self.matches(**id, job)
                            && !never.contains(id)
                            && other.held.len() < other.spec.slots as usize
                    });
                    assert!(
                        just_aside == Some(worker) || takers.next().is_some(),
                        "recalled for nobody"
                    );
                }
                Effect::Done {
                    job,
                    attempt,
                    worker,
                    verdict,
                } => {
                    answers += 1;
                    let claim = Claim { job, attempt };
                    assert!(self.is_held(worker, claim), "done, not held");
                    let was_alone = self.workers[&worker].lone == Some(job);
                    self.unhold(job, State::Done);
                    let spec = &self.batches[&job.batch].0;
                    let entry = &self.jobs[&job];
                    match verdict {
                        Verdict::Reported(class) => {
                            let (counts, expected, then) = report.expect("a made-up report");
                            assert!(counts && class == expected, "a made-up outcome");
                            assert!(
                                then == Then::Decide
                                    || (then == Then::Retry && entry.failures >= spec.retries),
                                "given up too early"
                            );
                        }
                        Verdict::LostTooOften { losses } => {
                            let mut expected = entry.losses.clone();
                            expected.push((worker, attempt));
                            assert_eq!(losses, expected, "wrong evidence");
                            assert_eq!(losses.len(), spec.loss_limit as usize);
                            assert!(lost.contains_key(&worker));
                            assert!(
                                spec.loss_limit == 1 || was_alone,
                                "blamed for good beside others"
                            );
                        }
                    }
                }
                Effect::Cancelled { batch, jobs } => {
                    assert!(self.batches[&batch].1, "cancelled without a request");
                    assert!(!jobs.is_empty());
                    for index in jobs {
                        let id = JobId { batch, index };
                        match self.jobs[&id].state {
                            State::Waiting | State::Parked => {
                                self.jobs.get_mut(&id).unwrap().state = State::Done;
                            }
                            State::Held(worker, _) => {
                                let is_away = self.workers[&worker].away_since.is_some();
                                assert!(is_away || told.contains(&id), "cancelled without telling");
                                self.unhold(id, State::Done);
                            }
                            State::Done => panic!("{id} is done twice"),
                        }
                    }
                }
                Effect::Superseded {
                    worker,
                    job,
                    attempt,
                } => {
                    answers += 1;
                    self.superseded += 1;
                    let claim = Claim { job, attempt };
                    assert!(!self.is_held(worker, claim), "a report is wasted");
                }
                Effect::Unconfirmed {
                    job,
                    attempt,
                    worker,
                } => {
                    answers += 1;
                    let (counts, _, then) = report.expect("a made-up report");
                    assert!(counts && then == Then::Confirm);
                    assert_eq!(self.unhold(job, State::Waiting), (worker, attempt));
                    let entry = self.jobs.get_mut(&job).unwrap();
                    entry.reported = true;
                    assert!(entry.never.insert(worker), "asked the same worker again");
                }
                Effect::Retried {
                    job,
                    attempt,
                    worker,
                    reason,
                } => {
                    answers += 1;
                    assert_eq!(self.unhold(job, State::Waiting), (worker, attempt));
                    let spec = &self.batches[&job.batch].0;
                    let entry = self.jobs.get_mut(&job).unwrap();
                    match reason {
                        RetryReason::Outcome(class) => {
                            assert_eq!(report, Some((true, class, Then::Retry)));
                            assert!(entry.failures < spec.retries);
                            entry.reported = true;
                            entry.failures += 1;
                            entry.avoid.insert(worker);
                        }
                        RetryReason::WorkerLost { blamed } => {
                            let held = &lost[&worker];
                            entry.careful = true;
                            let slots = self.workers[&worker].spec.slots as usize;
                            let position = held.iter().position(|&j| j == job).unwrap();
                            assert!(!blamed || position < slots, "blamed though not running");
                            let limit = spec.loss_limit as usize;
                            let certain = position < slots && entry.losses.len() + 1 < limit;
                            assert!(blamed || !certain, "not blamed though running");
                            if blamed {
                                entry.losses.push((worker, attempt));
                                entry.avoid.insert(worker);
                            }
                        }
                    }
                }
                Effect::LeaseEnded { worker } => {
                    let entry = self.workers.get_mut(&worker).unwrap();
                    let since = entry
                        .away_since
                        .expect("the lease of one that is there ends");
                    assert!(
                        self.now - since >= self.config.lease_us,
                        "it ends too early"
                    );
                    entry.gone = true;
                    lost.insert(worker, entry.held.clone());
                    self.take_back();
                }
                Effect::PutAside { worker } => {
                    assert_eq!(put_aside.take(), Some(worker), "put aside without a reason");
                    self.workers.get_mut(&worker).unwrap().aside = true;
                    just_aside = Some(worker);
                }
                Effect::BatchDone { batch } => {
                    let mut all = self.jobs_of(batch);
                    assert!(all.all(|(_, job)| job.state == State::Done), "not all done");
                }
                Effect::Ignored { .. } => {
                    let known = match &event {
                        Event::Extend { batch, .. } => !self.batches[batch].1,
                        Event::GivenBack { worker, .. } => self.workers.contains_key(worker),
                        _ => true,
                    };
                    assert!(!known, "ignored: {event:?}");
                }
            }
        }
        assert!(
            report.is_none() || answers > 0,
            "a report without an answer"
        );
        assert!(revoked.is_empty(), "not revoked: {revoked:?}");
        assert_eq!(put_aside, None, "not put aside");
        for id in lost.keys() {
            let worker = self.workers.remove(id).unwrap();
            assert!(worker.held.is_empty(), "jobs stay with a lost worker");
        }
        if let Event::Forget { batch } = event {
            self.batches.remove(&batch);
            let gone: Vec<JobId> = self.jobs_of(batch).map(|(&id, _)| id).collect();
            for job in gone {
                let state = self.jobs.remove(&job).unwrap().state;
                assert_eq!(state, State::Done, "forgotten undone");
            }
        }
        self.check_state();
    }

    fn check_assign(&mut self, id: WorkerId, job: JobId, attempt: u32) {
        let worker = &self.workers[&id];
        assert_eq!(worker.away_since, None, "a job for one that is away");
        assert_eq!(self.jobs[&job].state, State::Waiting, "a second holder");
        assert!(attempt > self.jobs[&job].last_attempt, "attempts must rise");
        assert!(!self.jobs[&job].never.contains(&id), "it has had this job");
        assert!(self.is_eligible(id, job), "{job} should not go to {id}");
        let slots = worker.spec.slots as usize;
        let has_free_slot = worker.held.len() < slots;
        assert!(
            has_free_slot || !self.jobs[&job].careful,
            "a careful job is handed ahead"
        );
        assert!(
            worker.lone.is_none(),
            "company for a job that has to be alone"
        );
        assert!(worker.held.len() < slots * 1025);
        let of = |job: JobId| &self.batches[&job.batch].0;
        let better = self.waiting().find(|&other| {
            of(other).namespace == of(job).namespace
                && of(other).priority > of(job).priority
                && self.is_eligible(id, other)
        });
        assert_eq!(better, None, "a higher priority waits");
        let is_alone = self.is_alone(job);
        let entry = self.jobs.get_mut(&job).unwrap();
        entry.state = State::Held(id, attempt);
        entry.reported = false;
        entry.last_attempt = attempt;
        let worker = self.workers.get_mut(&id).unwrap();
        worker.held.push(job);
        worker.lone = is_alone.then_some(job);
        worker.queue.push(Claim { job, attempt });
    }

    fn check_state(&self) {
        self.scheduler.sanity_check().unwrap();
        assert_eq!(self.scheduler.superseded(), self.superseded);
        assert!(self.scheduler.worker_ids().eq(self.workers.keys().copied()));
        for (&id, worker) in &self.workers {
            let claims = worker.held.iter().map(|&job| {
                let attempt = self.jobs[&job].last_attempt;
                Claim { job, attempt }
            });
            assert!(self.scheduler.claims_of(id).eq(claims));
            assert!(self.scheduler.held_by(id).eq(worker.held.iter().copied()));
            let status = self.scheduler.worker(id).unwrap();
            assert_eq!(status.away_since, worker.away_since.map(Time));
            assert_eq!(
                (status.draining, status.aside),
                (worker.draining, worker.aside)
            );
            if let Some(since) = worker.away_since {
                assert!(
                    self.now - since < self.config.lease_us,
                    "{id} keeps its lease"
                );
            }
            if worker.held.len() < worker.spec.slots as usize
                && worker.lone.is_none()
                && status.reserved_for.is_none()
            {
                let ready = self.waiting().find(|&job| self.is_eligible(id, job));
                assert_eq!(ready, None, "{id} has a free slot");
            }
        }
        let [mut waiting, mut parked, mut held] = [0; 3];
        for &batch in self.batches.keys() {
            let count = |which: fn(&State) -> bool| {
                let jobs = self.jobs_of(batch);
                jobs.filter(|(_, job)| which(&job.state)).count() as u64
            };
            let status = self.scheduler.batch(batch).unwrap();
            assert_eq!(u64::from(status.waiting), count(|s| *s == State::Waiting));
            assert_eq!(u64::from(status.parked), count(|s| *s == State::Parked));
            assert_eq!(
                u64::from(status.held),
                count(|s| matches!(s, State::Held(..)))
            );
            assert_eq!(status.done.total(), count(|s| *s == State::Done));
            let unheld = |job: &Job| matches!(job.state, State::Waiting | State::Parked);
            let last = self.jobs_of(batch).filter(|(_, job)| unheld(job)).last();
            let last = last.map(|(id, _)| *id);
            assert_eq!(self.scheduler.last_waiting(batch), last);
            let begun = |job: &Job| job.state != State::Done && job.last_attempt > 0;
            let begun = self.jobs_of(batch).filter(|(_, job)| begun(job));
            let begun: BTreeSet<_> = begun
                .map(|(id, job)| (id.index, job.last_attempt))
                .collect();
            assert_eq!(BTreeSet::from_iter(self.scheduler.attempted(batch)), begun);
            waiting += u64::from(status.waiting);
            parked += u64::from(status.parked);
            held += u64::from(status.held);
        }
        for namespace in (0..3).map(NamespaceId) {
            let all = self.batches.iter();
            let own = all.filter(|(_, (spec, _))| spec.namespace == namespace);
            let own = own.filter_map(|(&batch, _)| self.scheduler.batch(batch));
            let sum = own.fold((0, 0), |(waiting, parked), status| {
                let (more, held) = (u64::from(status.waiting), u64::from(status.parked));
                (waiting + more, parked + held)
            });
            assert_eq!(self.scheduler.queued(namespace), sum);
        }
        assert_eq!(self.scheduler.waiting(), waiting);
        assert_eq!(self.scheduler.parked(), parked);
        assert_eq!(self.scheduler.held(), held);
        for (&id, job) in &self.jobs {
            let attempt = (job.state != State::Done).then_some(job.last_attempt);
            assert_eq!(self.scheduler.last_attempt(id), attempt, "{id}");
        }
        // Not of all: that takes too long.
        let some = [self.waiting().next(), self.waiting().next_back()];
        some.into_iter()
            .flatten()
            .for_each(|job| self.check_reason(job));
    }

    /// Whether the reason given for waiting names those who could take the job.
    fn check_reason(&self, job: JobId) {
        let Some(JobState::Waiting(reason)) = self.scheduler.job(job) else {
            panic!("{job} waits")
        };
        let matching = || {
            self.workers.iter().filter(|(id, worker)| {
                !worker.draining && !worker.aside && self.admits(&self.batches[&job.batch].0, **id)
            })
        };
        let able = || matching().filter(|(id, _)| !self.jobs[&job].never.contains(id));
        let expected = if able().any(|(_, worker)| worker.away_since.is_none()) {
            None
        } else if able().next().is_some() {
            Some(WaitReason::OnlyAway)
        } else if matching().next().is_some() {
            Some(WaitReason::NeedsAnotherWorker)
        } else {
            None
        };
        match expected {
            Some(expected) => assert_eq!(reason, expected, "{job}"),
            None => assert!(
                !matches!(
                    reason,
                    WaitReason::OnlyAway | WaitReason::NeedsAnotherWorker
                ),
                "{job}: {reason:?}"
            ),
        }
    }
}
