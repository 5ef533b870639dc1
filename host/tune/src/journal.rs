//! The lines in which a search is written down.
//!
//! A journal is a text of lines, each a JSON object whose `event` says what it is:
//! ```json
//! {"event":"search","format":1,"known":0,"method":{..},"order":{..},"objective":null,"seed":7,"sampler":{..},
//!  "space":{..}}
//! {"event":"known","id":[0,0,0],"config":{..},"budget":25.0,"loss":0.1}
//! {"event":"asked","id":[0,0,3],"config":{..},"budget":25.0,"seed":8093120951,"submitted":12.5}
//! {"event":"told","id":[0,0,3],"config":{..},"budget":25.0,"loss":0.04,"info":null,"crashed":null,
//!  "seed":8093120951,"submitted":12.5,"finished":14.0,"worker":"w1","fuel":81234}
//! ```
//! The first line says what the search is about; then come the results it began with, `known` in
//! number; then what happened. The lines `told` are the results, and [`read_results`] reads them from
//! a journal or from a file that has only them, with or without their `event`.
//!
//! A line counts once its end is written. What stands after the last end of line is the beginning of
//! one that was cut short, and is left out.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use thiserror::Error;

use crate::{Observation, Record, Sampler, Settings, Trial};

/// The version of the lines.
pub(crate) const FORMAT: u32 = 1;

/// What lines are of.
const EVENTS: [&str; 4] = ["search", "known", "asked", "told"];

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Entry {
    /// What the search is about: the first line.
    Search(Header),
    /// A result of an earlier search.
    Known(Observation),
    /// An evaluation was asked for, for the first time.
    Asked(Trial),
    /// An evaluation ended.
    Told(Record),
}

/// What a search is about, in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the lines, 1.
    pub format: u32,
    /// How many results of an earlier search follow.
    pub known: usize,
    /// The method.
    pub method: Json,
    /// The order.
    pub order: Json,
    /// What is evaluated, as [`Settings::objective`] names it.
    #[serde(default)]
    pub objective: Option<String>,
    /// The seed.
    pub seed: Json,
    /// The sampler's description of itself.
    pub sampler: Json,
    /// The space.
    pub space: Json,
}

impl Entry {
    /// The line, without its end.
    pub fn to_line(&self) -> String {
        // Neither its keys nor its numbers can fail: keys are texts, numbers that JSON does not have
        // become null.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Why a text is not a journal or results.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JournalError {
    /// A line that was written to its end and is not what it must be: the file is damaged or another
    /// one. Nothing of it is used.
    #[error("line {line}: {why}")]
    Damaged {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The search that was written down is another one: continue it with its own settings, or begin
    /// anew with another file.
    #[error("the journal is of another search: {}", .0.join("; "))]
    Differs(Vec<String>),
}

/// The complete lines with their numbers from 1, and the number of bytes that they take.
pub(crate) fn lines(bytes: &[u8]) -> (impl Iterator<Item = (usize, &[u8])> + Clone, usize) {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    let valid = end.map_or(0, |end| end + 1);
    let (complete, _) = bytes.split_at(valid);
    let lines = complete.split_inclusive(|byte| *byte == b'\n');
    (
        lines.enumerate().map(|(index, line)| (index + 1, line)),
        valid,
    )
}

pub(crate) fn damaged(line: usize, why: impl ToString) -> JournalError {
    JournalError::Damaged {
        line,
        why: why.to_string(),
    }
}

/// The finished evaluations in a journal or a file of results, in the order of their lines. Empty
/// lines and the journal's other lines are passed over. A last line without its end counts if it is
/// whole, since other programs write files that end so.
///
/// # Errors
/// A complete line that is neither.
pub fn read_results(bytes: &[u8]) -> Result<Vec<Record>, JournalError> {
    read_records(bytes, &["told"])
}

/// What another search can begin with: as [`read_results`], and with the results that the search of
/// this journal had begun with itself.
///
/// # Errors
/// As [`read_results`].
pub fn read_known(bytes: &[u8]) -> Result<Vec<Record>, JournalError> {
    read_records(bytes, &["known", "told"])
}

/// The records in lines of these events and in those without any.
fn read_records(bytes: &[u8], events: &[&str]) -> Result<Vec<Record>, JournalError> {
    #[derive(Deserialize)]
    struct Kind {
        event: Option<String>,
    }
    let mut records = Vec::new();
    let record = |number, line: &[u8]| -> Result<Option<Record>, JournalError> {
        let kind: Kind = serde_json::from_slice(line).map_err(|error| damaged(number, error))?;
        match kind.event.as_deref() {
            Some(event) if !EVENTS.contains(&event) => {
                Err(damaged(number, format!("unknown event {event:?}")))
            }
            Some(event) if !events.contains(&event) => Ok(None),
            None | Some(_) => {
                let record = serde_json::from_slice(line);
                record.map(Some).map_err(|error| damaged(number, error))
            }
        }
    };
    let (lines, valid) = lines(bytes);
    for (number, line) in lines {
        if !line.trim_ascii().is_empty() {
            records.extend(record(number, line)?);
        }
    }
    let (_, rest) = bytes.split_at(valid);
    // Where it is not whole, its number does not matter.
    records.extend(record(0, rest).ok().flatten());
    Ok(records)
}

impl Header {
    /// The first line of a search.
    pub(crate) fn new(settings: &Settings, sampler: &dyn Sampler) -> Self {
        // Their keys are texts, so nothing of them fails to be JSON.
        Header {
            format: FORMAT,
            known: settings.known.len(),
            method: serde_json::to_value(&settings.method).unwrap_or_default(),
            order: serde_json::to_value(settings.order).unwrap_or_default(),
            objective: settings.objective.clone(),
            seed: settings.seed.into(),
            sampler: sampler.describe(),
            space: serde_json::to_value(&settings.space).unwrap_or_default(),
        }
    }

    /// Where two headers differ, as texts for people.
    pub(crate) fn differences(&self, given: &Header) -> Vec<String> {
        let mut found = Vec::new();
        let objectives = [self, given].map(|header| Json::from(header.objective.clone()));
        let [objective, given_objective] = &objectives;
        let pairs = [
            ("objective", objective, given_objective),
            ("method", &self.method, &given.method),
            ("order", &self.order, &given.order),
            ("seed", &self.seed, &given.seed),
            ("sampler", &self.sampler, &given.sampler),
            ("space", &self.space, &given.space),
        ];
        for (name, journal, given) in pairs {
            compare(name, journal, given, &mut found);
        }
        found
    }
}

fn compare(place: &str, journal: &Json, given: &Json, found: &mut Vec<String>) {
    match (journal, given) {
        (Json::Object(journal), Json::Object(given)) => {
            for (key, value) in journal {
                let place = format!("{place}.{key}");
                match given.get(key) {
                    Some(other) => compare(&place, value, other, found),
                    None => found.push(format!("{place} is only in the journal")),
                }
            }
            let new = given.keys().filter(|key| !journal.contains_key(*key));
            found.extend(new.map(|key| format!("{place}.{key} is not in the journal")));
        }
        (journal, given) if journal != given => {
            found.push(format!(
                "{place} is {journal} in the journal and {given} now"
            ));
        }
        _ => {}
    }
}
