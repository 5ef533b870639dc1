//! Continuing a search from its journal.
//!
//! The lines are repeated in their order, configurations as they were written: no sampler is asked.
//! What had been asked for and not told is then asked for again, first of all and with the same
//! configurations. Since randomness belongs to identities, the search goes on as if it had not
//! been interrupted.

use serde::Deserialize;
use thiserror::Error;

use crate::iteration::Iteration;
use crate::journal::{FORMAT, Header, damaged, lines};
use crate::sampler::request;
use crate::{
    Entry, JournalError, Observation, Order, Record, Sampler, Search, Settings, SettingsError,
    TellError, Trial,
};

/// A search that was continued.
pub struct Resumed {
    /// The search. What it gives out as entries goes to the end of the journal.
    pub search: Search,
    /// How many bytes of the journal count. Cut the file there before anything is written: what
    /// follows is the beginning of a line that was cut short. 0 if the search begins anew, because
    /// not even its beginning had been written.
    pub valid: usize,
}

/// Why a search cannot be continued.
#[derive(Debug, Error)]
pub enum ResumeError {
    /// The settings make no sense by themselves.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The journal is damaged or of another search.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Search {
    /// Continues the search that a journal is of. An empty journal, or one that breaks off before
    /// the first evaluation, begins it.
    ///
    /// # Errors
    /// A journal that is damaged anywhere but at its end, or that is of another search.
    pub fn resume(
        settings: Settings,
        sampler: Box<dyn Sampler + Send>,
        journal: &[u8],
    ) -> Result<Resumed, ResumeError> {
        let (mut lines, valid) = lines(journal);
        let Some((number, line)) = lines.next() else {
            let search = Search::new(settings, sampler)?;
            return Ok(Resumed { search, valid: 0 });
        };
        let given = Header::new(&settings, sampler.as_ref());
        let known = check_header(number, line, &given)?;
        if lines.clone().count() < known {
            let search = Search::new(settings, sampler)?;
            return Ok(Resumed { search, valid: 0 });
        }
        let mut search = Search::empty(settings, sampler)?;
        for (number, line) in lines {
            // The known results stand on the lines after the first.
            let is_known = number - 1 <= known;
            let entry = serde_json::from_slice(line).map_err(|error| damaged(number, error))?;
            let replayed = match entry {
                Entry::Known(observation) if is_known => search.replay_known(observation),
                Entry::Asked(trial) if !is_known => search.replay_asked(&trial),
                Entry::Told(record) if !is_known => search.replay_told(&record),
                Entry::Search(_) => Err("a second beginning".to_owned()),
                Entry::Known(_) => Err("a result of an earlier search too many".to_owned()),
                Entry::Asked(_) | Entry::Told(_) => {
                    Err("a result of an earlier search is missing".to_owned())
                }
            };
            replayed.map_err(|why| damaged(number, why))?;
        }
        search.lose_all();
        Ok(Resumed { search, valid })
    }

    /// Repeats an evaluation that was asked for before a restart.
    fn replay_asked(&mut self, trial: &Trial) -> Result<(), String> {
        let number = trial.id.iteration;
        let out_of_turn = format!(
            "{} with budget {} stands before or after its turn",
            trial.id, trial.budget
        );
        let is_in_group = match self.settings.order {
            Order::Asynchronous => true,
            Order::Deterministic { group } => {
                self.begin_group(group);
                self.is_in_group(group)
            }
        };
        // Also beyond the limit, which may have been lowered since.
        if is_in_group && number == self.next_iteration {
            self.begin();
        }
        let accepted = self.settings.space.accept(&trial.config);
        let config = accepted.map_err(|error| error.to_string())?;
        let iteration = self.running.get(&number);
        let member = iteration.and_then(|iteration| {
            let member = iteration.next()?;
            (member.id == trial.id && iteration.budget() == trial.budget).then_some(member)
        });
        let Some(member) = member else {
            return Err(out_of_turn);
        };
        if member.config.as_ref().is_some_and(|known| *known != config) {
            return Err(format!(
                "{} has another configuration than before",
                trial.id
            ));
        }
        if trial.seed != request(self.settings.seed, trial.id, trial.budget).seed {
            return Err(format!("{} has another seed than its own", trial.id));
        }
        self.place(&Trial {
            config,
            ..trial.clone()
        });
        Ok(())
    }

    /// Repeats a result that was told before a restart.
    fn replay_told(&mut self, record: &Record) -> Result<(), String> {
        let (id, budget) = (record.id, record.budget);
        let not_pending = || TellError::NotPending { id, budget }.to_string();
        let iteration = self
            .running
            .get_mut(&id.iteration)
            .ok_or_else(not_pending)?;
        let has_budget = iteration.budget() == budget;
        let member = iteration.pending(id).filter(|_| has_budget);
        let member = member.ok_or_else(not_pending)?;
        if member.config.as_ref() != Some(&record.config) {
            return Err(format!(
                "{id} has another configuration than it was asked for with"
            ));
        }
        self.take_in(record);
        Ok(())
    }

    /// Takes a known result in that was written down.
    fn replay_known(&mut self, observation: Observation) -> Result<(), String> {
        let accepted = self.settings.space.accept(&observation.config);
        let config = accepted.map_err(|error| error.to_string())?;
        if !(observation.budget.is_finite() && observation.budget > 0.0) {
            return Err(format!("the budget is {}", observation.budget));
        }
        self.observe(Observation {
            config,
            ..observation
        });
        Ok(())
    }

    /// All that was asked for and not told is to be asked for again.
    fn lose_all(&mut self) {
        let pending = self.running.values().flat_map(Iteration::all_pending);
        self.lost = pending.collect();
    }
}

/// How many known results follow.
fn check_header(number: usize, line: &[u8], given: &Header) -> Result<usize, JournalError> {
    #[derive(Deserialize)]
    struct Format {
        format: Option<u32>,
    }
    let Format { format } = serde_json::from_slice(line).map_err(|error| damaged(number, error))?;
    match format {
        Some(FORMAT) => {}
        Some(other) => {
            let why = format!("its format is {other}, and this program reads {FORMAT}");
            return Err(damaged(number, why));
        }
        None => return Err(damaged(number, "not the first line of a journal")),
    }
    let entry = serde_json::from_slice(line).map_err(|error| damaged(number, error))?;
    let Entry::Search(header) = entry else {
        return Err(damaged(number, "not the first line of a journal"));
    };
    let differences = header.differences(given);
    if !differences.is_empty() {
        return Err(JournalError::Differs(differences));
    }
    Ok(header.known)
}
