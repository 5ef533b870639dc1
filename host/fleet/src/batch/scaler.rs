//! How many workers a batch system is asked for: a pure state machine.
//!
//! [`Scaler::step`] takes the time and one [`Event`] and appends [`Effect`]s: no I/O, no clock. Time is
//! measured from any fixed moment. At most one command of the batch system is under way; its answer is
//! an event, and whoever runs it has to give it a time limit, so that the answer always comes. Between
//! events, [`Event::Tick`] has to come every few seconds.
//!
//! # What is counted
//!
//! A job of the batch system is *outstanding* from its submission until it is missing from the lists
//! for [`Config::vanish_grace`]: a list may lag behind, or be empty for no reason. There are never more
//! than [`Config::max`] outstanding, also where it is not known whether a submission took place: until a
//! later list tells, it counts, and nothing is submitted. Lists show all jobs of the fleet's name, so
//! jobs of which nobody told are found, also those of an earlier run. What workers say of themselves
//! is only believed of jobs that a list or a submission gave: nothing else is ever cancelled.
//!
//! # When it asks
//!
//! A job whose worker is connected is known to run. Lists are asked for only while there is another
//! outstanding job, once for a worker whose job is not known, or before the first submission: an idle
//! fleet, or one that works, costs the batch system nothing.
//!
//! A worker that stays idle while jobs wait cannot take them, for want of memory or time, and another one
//! is asked for in its place.
//!
//! # When it gives back
//!
//! Workers that are not needed are drained by the coordinator. Where it refuses to, because this fleet's
//! token is no administrator's, the batch jobs of idle workers are cancelled instead.
//!
//! # Failures
//!
//! A submission that fails, a job that disappears without its worker having joined, and one that runs
//! but does not join, count as failures; a worker that joins forgives them all. A job that disappears
//! while its worker works, long before its time, counts too (it was killed, perhaps for its memory), and
//! a worker that has stayed longer forgives those. After each, submitting pauses for longer, and after
//! [`Config::max_failures`] of a kind in a row it ends for good: the fleet goes on with what it has, and
//! ends with the reason when nothing is left. A batch system that gives no list, or does not cancel,
//! [`Config::max_retries`] times in a row ends the fleet.
//!
//! At the end, every outstanding job is cancelled, after it is known which there are.

mod job;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use job::{Busy, Cancel, Job, Unsure};
pub use types::{Config, Effect, Event, Failure, Id, Observation, State, SubmitFailure};

/// How often cancelling is tried at the end; the user waits.
const STOP_RETRIES: u32 = 4;

/// Observations in a row, in which jobs waited and a worker was idle, that it may merely be late: what
/// has just begun to wait is handed out within one.
const IDLE_SEEN: u32 = 2;

/// Keeps a fleet of workers on a batch system.
#[derive(Debug)]
pub struct Scaler {
    config: Config,
    jobs: BTreeMap<Id, Job>,
    busy: Option<Busy>,
    unsure: Option<Unsure>,
    waiting: Option<u64>,
    surplus_since: Option<Duration>,
    /// Whether the coordinator drains workers for this fleet.
    may_drain: bool,
    /// Workers that are connected, of jobs that are not known; true where no list has shown the job.
    strangers: BTreeMap<Id, bool>,
    next_submit: Duration,
    next_list: Duration,
    next_cancel: Duration,
    /// Failures to get a worker, in a row.
    failures: u32,
    /// Workers that were lost early, in a row.
    losses: u32,
    unanswered: u32,
    broken: Option<(u32, String)>,
    stopping: Option<Result<(), Failure>>,
    /// The reason of the last failure at the end.
    stop_why: String,
    stop_tries: u32,
    ended: bool,
}

impl Scaler {
    /// A fleet that has nothing yet. The limits are made sensible: `min` and `per_submit` at most `max`.
    #[must_use]
    pub fn new(mut config: Config) -> Self {
        config.max = config.max.max(1);
        config.min = config.min.min(config.max);
        config.per_submit = config.per_submit.clamp(1, config.max);
        config.jobs_per_worker = config.jobs_per_worker.max(1);
        config.max_failures = config.max_failures.max(1);
        config.max_retries = config.max_retries.max(1);
        Self {
            config,
            jobs: BTreeMap::new(),
            busy: None,
            // An earlier run may have left some.
            unsure: Some(Unsure::new(0, Duration::ZERO)),
            waiting: None,
            surplus_since: None,
            may_drain: true,
            strangers: BTreeMap::new(),
            next_submit: Duration::ZERO,
            next_list: Duration::ZERO,
            next_cancel: Duration::ZERO,
            failures: 0,
            losses: 0,
            unanswered: 0,
            broken: None,
            stopping: None,
            stop_why: String::new(),
            stop_tries: 0,
            ended: false,
        }
    }

    /// Jobs that are or may be outstanding.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        let unsure = self.unsure.as_ref().map_or(0, |unsure| unsure.count);
        self.jobs.len() as u32 + unsure
    }

    /// Workers that are connected.
    #[must_use]
    pub fn connected(&self) -> u32 {
        self.jobs.values().filter(|job| job.connected).count() as u32
    }

    /// Why nothing is submitted any more.
    #[must_use]
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_ref().map(|(_, why)| why.as_str())
    }

    /// Takes an event and appends what is to be done.
    pub fn step(&mut self, now: Duration, event: Event, effects: &mut Vec<Effect>) {
        if self.ended {
            return;
        }
        match event {
            Event::Tick => {}
            Event::Observed(observation) => self.observed(now, observation, effects),
            Event::Unobserved => self.waiting = None,
            Event::Submitted(result) => self.submitted(now, result, effects),
            Event::Listed(result) => self.listed(now, result, effects),
            Event::Cancelled(result) => self.cancelled(now, result, effects),
            Event::NotDrained { ids, refused } => self.not_drained(&ids, refused, effects),
            Event::Stop => {
                if self.stopping.is_none() {
                    self.begin_stop(now, Ok(()));
                }
            }
        }
        if self.busy.is_some() {
            return;
        }
        if self.stopping.is_some() {
            self.advance_stop(now, effects);
        } else {
            self.advance(now, effects);
        }
    }

    fn observed(&mut self, now: Duration, seen: Observation, effects: &mut Vec<Effect>) {
        self.waiting = Some(seen.waiting);
        for (id, job) in &mut self.jobs {
            if !seen.workers.contains_key(id) {
                job.disconnected(now);
            }
        }
        self.strangers.retain(|id, _| seen.workers.contains_key(id));
        let proven = self.config.proven_after();
        for (id, idle) in seen.workers {
            let Some(job) = self.jobs.get_mut(&id) else {
                self.strangers.entry(id).or_insert(false);
                continue;
            };
            if job.joined.is_none() {
                self.failures = 0;
            }
            let joined = *job.joined.get_or_insert(now);
            if now >= joined + proven {
                self.losses = 0;
            }
            // One that was to leave and still idles has not heard of it.
            let waited = |since| now >= since + self.config.idle_grace;
            if idle && job.draining_since.is_some_and(waited) {
                job.draining_since = None;
            }
            job.seen(now, idle, seen.waiting > 0);
        }
        let mut late = Vec::new();
        for (id, job) in &mut self.jobs {
            let since = job
                .running_since
                .filter(|_| job.joined.is_none() && job.cancel == Cancel::No);
            if since.is_some_and(|since| now >= since + self.config.join_grace) {
                job.cancel = Cancel::Wanted;
                late.push(id.clone());
            }
        }
        if let Some(id) = late.first() {
            let grace = self.config.join_grace.as_secs();
            let more = others(late.len());
            let why = format!("job {id}{more} runs, but no worker joined within {grace} s");
            self.failed(now, why, effects);
        }
    }

    /// Those that were to leave stay. Nothing more is tried before the coordinator is asked again: it
    /// may be gone.
    fn not_drained(&mut self, ids: &[Id], refused: bool, effects: &mut Vec<Effect>) {
        self.waiting = None;
        if refused && self.may_drain {
            self.may_drain = false;
            effects.push(Effect::Say(
                "idle workers are cancelled instead: draining takes an administrator's token"
                    .to_owned(),
            ));
        }
        for id in ids {
            if let Some(job) = self.jobs.get_mut(id) {
                job.draining_since = None;
            }
        }
    }

    fn submitted(
        &mut self,
        now: Duration,
        result: Result<Vec<Id>, SubmitFailure>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Busy::Submit(count)) = self.busy.take() else {
            return;
        };
        self.next_submit = now + self.config.submit_every;
        match result {
            Ok(ids) => {
                effects.push(Effect::Say(format!("submitted {}", ids.join(" "))));
                for id in ids {
                    self.jobs.entry(id).or_insert_with(Job::new);
                }
                self.next_list = now + self.config.poll;
            }
            Err(SubmitFailure { why, unsure }) => {
                if unsure {
                    let settled = now + self.config.vanish_grace;
                    self.unsure = Some(Unsure::new(count, settled));
                }
                self.failed(now, format!("submitting failed: {why}"), effects);
            }
        }
    }

    fn listed(
        &mut self,
        now: Duration,
        result: Result<Vec<(Id, State)>, String>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Busy::List { since }) = self.busy.take() else {
            return;
        };
        let list = match result {
            Ok(list) => list,
            Err(why) => {
                // Whether a job was missing all the time is not known then.
                for job in self.jobs.values_mut() {
                    job.missing_since = None;
                }
                if let Some(unsure) = &mut self.unsure {
                    unsure.empty_since = None;
                }
                return self.not_answered(now, why, effects);
            }
        };
        self.unanswered = 0;
        self.next_list = now + self.list_every();
        if let Some(unsure) = self
            .unsure
            .as_mut()
            .filter(|unsure| since >= unsure.settled)
        {
            let empty_since = *unsure.empty_since.get_or_insert(now);
            let enough = since >= empty_since + self.config.vanish_grace;
            if enough || unsure.count == 0 || !list.is_empty() {
                self.unsure = None;
            }
        }
        let listed: BTreeSet<Id> = list.iter().map(|(id, _)| id.clone()).collect();
        for (id, state) in list {
            let job = self.jobs.entry(id).or_insert_with(Job::new);
            job.state = state;
            job.missing_since = None;
            if state == State::Running {
                job.running_since.get_or_insert(now);
            }
        }
        // What this list did not show is none of this fleet's.
        self.strangers.retain(|id, _| !listed.contains(id));
        self.strangers.values_mut().for_each(|known| *known = true);
        let mut vanished = Vec::new();
        let mut lost = Vec::new();
        let proven = self.config.proven_after();
        let grace = self.config.vanish_grace;
        let stopping = self.stopping.is_some();
        self.jobs.retain(|id, job| {
            if listed.contains(id) || job.connected {
                return true;
            }
            let missing = *job.missing_since.get_or_insert(now);
            // From the answer that did not show it to the question now: both may take long.
            if since < missing + grace {
                return true;
            }
            if job.cancel == Cancel::No && !stopping {
                match job.joined {
                    None => vanished.push(id.clone()),
                    Some(_) if job.was_lost_within(proven) => lost.push(id.clone()),
                    Some(_) => {}
                }
            }
            false
        });
        if let Some(id) = vanished.first() {
            let more = others(vanished.len());
            let why =
                format!("job {id}{more} ended, but no worker had joined; its log may say why");
            self.failed(now, why, effects);
        }
        if let Some(id) = lost.first() {
            let more = others(lost.len());
            let why =
                format!("job {id}{more} ended early while its worker worked; its log may say why");
            self.losses += 1;
            self.count(now, self.losses, why, effects);
        }
    }

    fn cancelled(&mut self, now: Duration, result: Result<(), String>, effects: &mut Vec<Effect>) {
        let Some(Busy::Cancel(ids)) = self.busy.take() else {
            return;
        };
        let done = result.is_ok();
        for id in ids {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.cancel = if done { Cancel::Done } else { Cancel::Tried };
            }
        }
        match result {
            Ok(()) => self.unanswered = 0,
            Err(why) => {
                // Perhaps some were gone before; a list tells.
                self.not_answered(now, why, effects);
                self.next_cancel = self.next_list + self.config.submit_every;
            }
        }
    }

    /// Counts a failure of getting workers.
    fn failed(&mut self, now: Duration, why: String, effects: &mut Vec<Effect>) {
        self.failures += 1;
        self.count(now, self.failures, why, effects);
    }

    /// It is the `count`-th failure in a row.
    fn count(&mut self, now: Duration, count: u32, why: String, effects: &mut Vec<Effect>) {
        self.next_submit = now + self.pause(count);
        effects.push(Effect::Say(why.clone()));
        if count >= self.config.max_failures && self.broken.is_none() {
            effects.push(Effect::Say(format!(
                "{count} failures in a row: no more workers are asked for"
            )));
            self.broken = Some((count, why));
        }
    }

    /// Counts a failure of asking or cancelling.
    fn not_answered(&mut self, now: Duration, why: String, effects: &mut Vec<Effect>) {
        self.unanswered += 1;
        self.next_list = now + self.pause(self.unanswered);
        effects.push(Effect::Say(why.clone()));
        if self.stopping.is_some() {
            self.stop_tries += 1;
            self.stop_why = why;
            self.next_list = now + self.config.backoff.min(self.config.backoff_max);
        } else if self.unanswered >= self.config.max_retries {
            self.begin_stop(now, Err(Failure::Unanswered { why: why.clone() }));
            self.stop_why = why;
        }
    }

    fn begin_stop(&mut self, now: Duration, verdict: Result<(), Failure>) {
        self.stopping = Some(verdict);
        self.next_cancel = now;
        self.next_list = self.next_list.min(now + self.config.backoff);
    }

    fn list_every(&self) -> Duration {
        let poll = self.config.poll.min(self.config.vanish_grace);
        // At the end somebody waits.
        if self.stopping.is_some() {
            poll.min(self.config.backoff)
        } else {
            poll
        }
    }

    fn pause(&self, count: u32) -> Duration {
        let factor = 1u32
            .checked_shl(count.saturating_sub(1))
            .unwrap_or(u32::MAX);
        self.config
            .backoff
            .saturating_mul(factor)
            .min(self.config.backoff_max)
    }

    fn advance(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if let Some((failures, why)) = &self.broken
            && self.outstanding() == 0
        {
            let failure = Failure::Broken {
                failures: *failures,
                why: why.clone(),
            };
            self.ended = true;
            effects.push(Effect::Ended(Err(failure)));
            return;
        }
        let wanted = self.plan(now, effects);
        let cancel: Vec<Id> = self
            .jobs
            .iter()
            .filter(|(_, job)| matches!(job.cancel, Cancel::Wanted | Cancel::Tried))
            .map(|(id, _)| id.clone())
            .collect();
        if !cancel.is_empty() && now >= self.next_cancel {
            self.busy = Some(Busy::Cancel(cancel.clone()));
            effects.push(Effect::Cancel(cancel));
            return;
        }
        let unclear = self
            .jobs
            .values()
            .any(|job| !job.connected || job.cancel == Cancel::Done);
        let unsure = self
            .unsure
            .as_ref()
            .is_some_and(|unsure| unsure.count > 0 || wanted > 0);
        let unknown = self.strangers.values().any(|known| !known);
        if (unclear || unsure || unknown) && now >= self.next_list {
            self.list(now, effects);
            return;
        }
        if wanted > 0 && self.broken.is_none() && self.unsure.is_none() && now >= self.next_submit {
            self.busy = Some(Busy::Submit(wanted));
            effects.push(Effect::Submit(wanted));
        }
    }

    fn list(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.busy = Some(Busy::List { since: now });
        effects.push(Effect::List);
    }

    /// How many workers are wanted now. Marks those that are not.
    fn plan(&mut self, now: Duration, effects: &mut Vec<Effect>) -> u32 {
        let Some(waiting) = self.waiting else {
            return 0;
        };
        let Config { min, max, .. } = self.config;
        let working =
            |job: &&Job| job.connected && job.idle_since.is_none() && job.draining_since.is_none();
        let working = self.jobs.values().filter(working).count() as u64;
        let target = working + waiting.div_ceil(u64::from(self.config.jobs_per_worker));
        let target = target.clamp(u64::from(min), u64::from(max)) as u32;
        let is_of_use = |job: &&Job| job.counts() && job.idle_seen <= IDLE_SEEN;
        let have = self.jobs.values().filter(is_of_use).count() as u32;
        if have <= target {
            self.surplus_since = None;
            let room = max.saturating_sub(self.outstanding());
            return (target - have).min(room).min(self.config.per_submit);
        }
        let mut surplus = have - target;
        let since = *self.surplus_since.get_or_insert(now);
        let grace = self.config.idle_grace;
        if now >= since + grace {
            // Those that wait are taken back first: no work is lost with them.
            for job in self.jobs.values_mut() {
                if surplus > 0 && job.counts() && job.joined.is_none() && job.state == State::Queued
                {
                    job.cancel = Cancel::Wanted;
                    surplus -= 1;
                }
            }
        }
        let mut drain = Vec::new();
        for (id, job) in &mut self.jobs {
            let idle = job.idle_since.is_some_and(|since| now >= since + grace);
            if surplus > 0 && idle && job.counts() {
                surplus -= 1;
                if self.may_drain {
                    job.draining_since = Some(now);
                    drain.push(id.clone());
                } else {
                    job.cancel = Cancel::Wanted;
                }
            }
        }
        if !drain.is_empty() {
            effects.push(Effect::Drain(drain));
        }
        0
    }

    /// The end: cancels what is known, finds out what is not, and tries that a few times.
    fn advance_stop(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let open = self
            .jobs
            .iter()
            .filter(|(_, job)| job.cancel != Cancel::Done);
        // A cancellation may have failed for what was gone; that is not cancelled again, but looked for.
        let gone = |job: &Job| job.cancel == Cancel::Tried && job.missing_since.is_some();
        let (gone, open): (Vec<_>, Vec<_>) = open.partition(|(_, job)| gone(job));
        let open: Vec<Id> = open.into_iter().map(|(id, _)| id.clone()).collect();
        let unsure = self.unsure.as_ref().is_some_and(|unsure| unsure.count > 0);
        let clear = open.is_empty() && gone.is_empty() && !unsure;
        if clear || self.stop_tries >= STOP_RETRIES {
            let ids = gone
                .into_iter()
                .map(|(id, _)| id.clone())
                .chain(open)
                .collect();
            let left = Failure::Left {
                ids,
                why: self.stop_why.clone(),
            };
            let verdict = self.stopping.clone().unwrap_or(Ok(()));
            self.ended = true;
            effects.push(Effect::Ended(if clear { verdict } else { Err(left) }));
            return;
        }
        // After a failure it is looked what is left before it is cancelled once more.
        if !open.is_empty() && now >= self.next_cancel {
            self.busy = Some(Busy::Cancel(open.clone()));
            effects.push(Effect::Cancel(open));
            return;
        }
        let settled = self
            .unsure
            .as_ref()
            .map_or(Duration::ZERO, |unsure| unsure.settled);
        if now >= self.next_list && (!unsure || now >= settled) {
            self.next_cancel = now;
            self.list(now, effects);
        }
    }
}

fn others(count: usize) -> String {
    if count > 1 {
        format!(" (and {} more)", count - 1)
    } else {
        String::new()
    }
}
