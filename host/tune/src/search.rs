//! The state machine: what is evaluated next, and what a result changes.
//!
//! The caller asks for as many evaluations as it has workers, and tells each result or that its
//! worker was lost. Nothing else happens: no thread, no clock, no file. What is to be kept is given
//! out as [`Entry`]s, to be written before the evaluation is sent or the result is shown.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::iteration::Iteration;
use crate::journal::Header;
use crate::observations::BudgetKey;
use crate::sampler::request;
use crate::{
    Config, Entry, Observation, Observations, Order, Outcome, Plan, Record, Report, Sampler,
    SamplerError, Settings, SettingsError, Trial, TrialId,
};

/// A search under way.
///
/// An evaluation is *in flight* from the moment it is asked for until it is told or lost; a lost one
/// waits to be asked for again. The caller may ask again while evaluations are in flight, in any
/// number.
pub struct Search {
    pub(crate) settings: Settings,
    plan: Plan,
    sampler: Box<dyn Sampler + Send>,
    /// Iterations that are begun and not complete; in the deterministic order those of the group.
    pub(crate) running: BTreeMap<u32, Iteration>,
    /// The first iteration that is not begun.
    pub(crate) next_iteration: u32,
    /// Evaluations that are to be asked for again, because their worker was lost.
    pub(crate) lost: BTreeSet<TrialId>,
    /// What new configurations may depend on.
    observations: Observations,
    incumbents: BTreeMap<BudgetKey, Incumbent>,
    asked: u64,
    told: u64,
    crashed: u64,
    /// The latest time that was written down.
    latest: f64,
    stopped: bool,
    entries: Vec<Entry>,
}

/// The answer to a question for work.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Evaluate this.
    Evaluate(Trial),
    /// Ask again after the next [`Search::tell`] or [`Search::lost`]: what comes next depends on what
    /// is in flight.
    Wait,
    /// Nothing is in flight and nothing will be asked for any more.
    Done,
}

/// What a result changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The result as it is written down.
    pub record: Record,
    /// The new best at this budget, if it is.
    pub incumbent: Option<Incumbent>,
}

/// The best configuration at one budget: the lowest loss, of equal ones the first identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Incumbent {
    /// Its identity.
    pub id: TrialId,
    /// Its parameters.
    pub config: Config,
    /// The budget.
    pub budget: f64,
    /// Its loss there.
    pub loss: f64,
}

/// How far a search is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Evaluations asked for, each counted once.
    pub asked: u64,
    /// Of those, how many are told.
    pub told: u64,
    /// Of those told, how many crashed.
    pub crashed: u64,
    /// Evaluations being made now.
    pub in_flight: u64,
    /// Evaluations in all, if the search is not stopped before.
    pub planned: u64,
}

/// Why a report does not count. Nothing has changed, and the caller may go on.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum TellError {
    /// This evaluation was never asked for, or has been told already: a second report of an
    /// evaluation that was asked for twice.
    #[error("configuration {id} is not being evaluated with budget {budget}")]
    NotPending {
        /// The configuration.
        id: TrialId,
        /// The budget.
        budget: f64,
    },
}

impl Search {
    /// A search from its beginning.
    ///
    /// # Errors
    /// Settings that make no sense.
    pub fn new(
        settings: Settings,
        sampler: Box<dyn Sampler + Send>,
    ) -> Result<Self, SettingsError> {
        let header = Header::new(&settings, sampler.as_ref());
        let mut search = Search::empty(settings, sampler)?;
        search.entries.push(Entry::Search(header));
        for (index, record) in search.settings.known.clone().iter().enumerate() {
            let number = index + 1;
            let accepted = search.settings.space.accept(&record.config);
            let config = accepted.map_err(|why| SettingsError::Known { number, why })?;
            let budget = record.budget;
            let is_finite = budget.is_finite() && record.loss.is_none_or(f64::is_finite);
            if !is_finite || budget <= 0.0 {
                return Err(SettingsError::KnownNumber { number, budget });
            }
            let observation = Observation {
                id: record.id,
                config,
                budget,
                loss: record.loss,
            };
            search.entries.push(Entry::Known(observation.clone()));
            search.observe(observation);
        }
        Ok(search)
    }

    /// A search that nothing has been written of.
    pub(crate) fn empty(
        settings: Settings,
        sampler: Box<dyn Sampler + Send>,
    ) -> Result<Self, SettingsError> {
        if settings.order == (Order::Deterministic { group: 0 }) {
            return Err(SettingsError::EmptyGroup);
        }
        let plan = Plan::new(&settings.method)?;
        Ok(Search {
            settings,
            plan,
            sampler,
            running: BTreeMap::new(),
            next_iteration: 0,
            lost: BTreeSet::new(),
            observations: Observations::default(),
            incumbents: BTreeMap::new(),
            asked: 0,
            told: 0,
            crashed: 0,
            latest: 0.0,
            stopped: false,
            entries: Vec::new(),
        })
    }

    /// The next evaluation. `now` is the time in the caller's seconds, and only written down.
    ///
    /// # Errors
    /// The sampler has no configuration. Nothing has changed; evaluations in flight can be told, and
    /// asking again asks the sampler again.
    pub fn ask(&mut self, now: f64) -> Result<Ask, SamplerError> {
        let now = seconds(now);
        if self.stopped {
            return Ok(self.wait_or_done());
        }
        if let Some(trial) = self.ask_lost(now) {
            return Ok(Ask::Evaluate(trial));
        }
        if self.asked >= self.settings.evaluations.unwrap_or(u64::MAX) {
            return Ok(self.wait_or_done());
        }
        let iteration = match self.settings.order {
            Order::Asynchronous => self.next_asynchronous(),
            Order::Deterministic { group } => self.next_deterministic(group),
        };
        match iteration {
            Some(number) => Ok(self
                .ask_next(number, now)?
                .map_or_else(|| self.wait_or_done(), Ask::Evaluate)),
            None => Ok(self.wait_or_done()),
        }
    }

    /// Takes the result of an evaluation in.
    ///
    /// # Errors
    /// The evaluation is not pending.
    pub fn tell(&mut self, id: TrialId, budget: f64, report: Report) -> Result<Told, TellError> {
        let not_pending = TellError::NotPending { id, budget };
        let iteration = self.running.get_mut(&id.iteration).ok_or(not_pending)?;
        if iteration.budget() != budget {
            return Err(not_pending);
        }
        let member = iteration.pending(id).ok_or(not_pending)?;
        let config = member.config.clone().ok_or(not_pending)?;
        let (loss, crashed) = match report.outcome {
            Outcome::Loss(loss) if loss.is_finite() => (Some(loss), None),
            Outcome::Loss(loss) => (None, Some(format!("the loss is {loss}"))),
            Outcome::Crashed(message) => (None, Some(message)),
        };
        let record = Record {
            id,
            config,
            budget,
            loss,
            info: report.info,
            crashed,
            seed: request(self.settings.seed, id, budget).seed,
            submitted: member.submitted,
            finished: seconds(report.finished),
            worker: report.worker,
            fuel: report.fuel,
        };
        let incumbent = self.take_in(&record);
        self.entries.push(Entry::Told(record.clone()));
        Ok(Told { record, incumbent })
    }

    /// The worker of an evaluation is gone: it is asked for again, with the same configuration and
    /// seed. It has not crashed. If its result comes all the same, it counts; a second one does not.
    ///
    /// # Errors
    /// The evaluation is not pending.
    pub fn lost(&mut self, id: TrialId, budget: f64) -> Result<(), TellError> {
        let not_pending = TellError::NotPending { id, budget };
        let iteration = self.running.get_mut(&id.iteration).ok_or(not_pending)?;
        if iteration.budget() != budget || iteration.pending(id).is_none() {
            return Err(not_pending);
        }
        self.lost.insert(id);
        Ok(())
    }

    /// Nothing is asked for any more, lost evaluations included: the time is over. Results of
    /// evaluations in flight still count; what was not told is asked for when the journal is
    /// continued.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Tells the sampler what it has not been told yet. Nothing is asked for any more.
    ///
    /// # Errors
    /// The sampler cannot be reached.
    pub fn end(mut self) -> Result<(), SamplerError> {
        self.sampler.end(&self.settings.space, &self.observations)
    }

    /// The entries that came up since the last call, in the order in which they are to be written.
    pub fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// The best at each budget, the least budget first.
    pub fn incumbents(&self) -> impl Iterator<Item = &Incumbent> {
        self.incumbents.values()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let planned = self.plan.evaluations(self.settings.iterations);
        let limit = self.settings.evaluations.unwrap_or(u64::MAX);
        Progress {
            asked: self.asked,
            told: self.told,
            crashed: self.crashed,
            in_flight: self.in_flight(),
            planned: planned.min(limit),
        }
    }

    /// The latest time that it was told, in the caller's seconds: who continues a search lets its
    /// clock go on from here.
    pub fn latest(&self) -> f64 {
        self.latest
    }

    /// The brackets that it goes through.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    fn in_flight(&self) -> u64 {
        self.asked - self.told - self.lost.len() as u64
    }

    fn wait_or_done(&self) -> Ask {
        if self.in_flight() == 0 {
            Ask::Done
        } else {
            Ask::Wait
        }
    }

    fn ask_lost(&mut self, now: f64) -> Option<Trial> {
        let id = self.lost.pop_first()?;
        let iteration = self.running.get_mut(&id.iteration)?;
        let budget = iteration.budget();
        let member = iteration.pending(id)?;
        member.submitted = now;
        Some(Trial {
            id,
            config: member.config.clone()?,
            budget,
            seed: request(self.settings.seed, id, budget).seed,
            submitted: now,
        })
    }

    /// The first iteration that has something to evaluate, or else a new one.
    fn next_asynchronous(&mut self) -> Option<u32> {
        let mut running = self.running.iter();
        let ready = running.find(|(_, iteration)| iteration.next().is_some());
        match ready {
            Some((number, _)) => Some(*number),
            None if self.next_iteration < self.settings.iterations => Some(self.begin()),
            None => None,
        }
    }

    /// The iteration whose turn it is, if it has something to evaluate already.
    fn next_deterministic(&mut self, group: u32) -> Option<u32> {
        self.begin_group(group);
        let stages = self.running.values().map(Iteration::stages).max()?;
        for stage in 0..stages {
            for (number, iteration) in &self.running {
                if iteration.is_finished() || iteration.stage() > stage {
                    continue;
                }
                if iteration.stage() == stage && iteration.next().is_some() {
                    return Some(*number);
                }
                // Its turn, and the stage before is still in flight.
                if iteration.stage() < stage && stage < iteration.stages() {
                    return None;
                }
            }
        }
        None
    }

    /// Begins all iterations of the group that is running, or else of the next.
    pub(crate) fn begin_group(&mut self, group: u32) {
        while self.next_iteration < self.settings.iterations && self.is_in_group(group) {
            self.begin();
        }
    }

    /// Whether the next iteration belongs to the group that is running, or none is.
    pub(crate) fn is_in_group(&self, group: u32) -> bool {
        let first = self.running.keys().next();
        first.is_none_or(|first| first / group == self.next_iteration / group)
    }

    pub(crate) fn begin(&mut self) -> u32 {
        let number = self.next_iteration;
        let iteration = Iteration::new(number, self.plan.bracket(number));
        self.running.insert(number, iteration);
        self.next_iteration += 1;
        number
    }

    fn ask_next(&mut self, number: u32, now: f64) -> Result<Option<Trial>, SamplerError> {
        let Some(iteration) = self.running.get(&number) else {
            return Ok(None);
        };
        let Some(member) = iteration.next() else {
            return Ok(None);
        };
        let (id, budget) = (member.id, iteration.budget());
        let request = request(self.settings.seed, id, budget);
        let seed = request.seed;
        let config = match &member.config {
            Some(config) => config.clone(),
            None => {
                let space = &self.settings.space;
                let config = self.sampler.sample(space, request, &self.observations)?;
                let accepted = space.accept(&config);
                accepted.map_err(|why| SamplerError::OutOfSpace { id, why })?
            }
        };
        let trial = Trial {
            id,
            config,
            budget,
            seed,
            submitted: now,
        };
        self.place(&trial);
        self.entries.push(Entry::Asked(trial.clone()));
        Ok(Some(trial))
    }

    /// Puts an evaluation in flight whose turn it is.
    pub(crate) fn place(&mut self, trial: &Trial) {
        if let Some(iteration) = self.running.get_mut(&trial.id.iteration) {
            iteration.ask_next(trial.config.clone(), trial.submitted);
            self.asked += 1;
            self.latest = self.latest.max(trial.submitted);
        }
    }

    /// Takes in the result of a pending evaluation.
    pub(crate) fn take_in(&mut self, record: &Record) -> Option<Incumbent> {
        self.lost.remove(&record.id);
        self.told += 1;
        self.latest = self.latest.max(record.finished);
        self.crashed += u64::from(record.loss.is_none());
        let number = record.id.iteration;
        if let Some(iteration) = self.running.get_mut(&number) {
            iteration.tell(record.id, record.loss);
        }
        match self.settings.order {
            Order::Asynchronous => {
                self.observe(Observation {
                    id: record.id,
                    config: record.config.clone(),
                    budget: record.budget,
                    loss: record.loss,
                });
                self.running.retain(|_, iteration| !iteration.is_finished());
            }
            Order::Deterministic { .. } => {
                if self.running.values().all(Iteration::is_finished) {
                    for (_, iteration) in std::mem::take(&mut self.running) {
                        let results = iteration.into_results();
                        results.into_iter().for_each(|result| self.observe(result));
                    }
                }
            }
        }
        self.compare(record)
    }

    pub(crate) fn observe(&mut self, observation: Observation) {
        self.observations.push(&self.settings.space, observation);
    }

    fn compare(&mut self, record: &Record) -> Option<Incumbent> {
        let loss = record.loss?;
        let key = BudgetKey::new(record.budget);
        let is_better = self
            .incumbents
            .get(&key)
            .is_none_or(|best| loss < best.loss || (loss == best.loss && record.id < best.id));
        if !is_better {
            return None;
        }
        let incumbent = Incumbent {
            id: record.id,
            config: record.config.clone(),
            budget: record.budget,
            loss,
        };
        self.incumbents.insert(key, incumbent.clone());
        Some(incumbent)
    }
}

/// Times as JSON can write them.
fn seconds(time: f64) -> f64 {
    if time.is_finite() { time } else { 0.0 }
}
