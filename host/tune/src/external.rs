//! A sampler that is another program, which speaks lines of JSON over a pipe.
//!
//! First the program is told what the search is about:
//! ```json
//! {"type":"start","protocol":1,"space":{"parameters":{"x":{"type":"float","low":0.0,"high":1.0,"log":false}}}}
//! ```
//! Then come, in any order, results that have become known, which are not answered (`loss` is null
//! if the evaluation crashed),
//! ```json
//! {"type":"tell","id":[0,0,3],"config":{"x":0.5},"budget":25.0,"loss":0.04}
//! ```
//! and questions,
//! ```json
//! {"type":"ask","id":[0,0,4],"budget":25.0,"seed":8093120951}
//! ```
//! each of which the program answers by one line: `{"config":{"x":0.25}}` with a value for every
//! active parameter and no other, or `{"error":"why there is none"}`. After the last question it is told
//! what has become known since. Everything is over when its input ends.
//!
//! A program that is started again when a search is continued is told all results again, in the same
//! order. What it remembered of its own answers or its random numbers is gone, so a deterministic
//! search continues to be one only if the program derives what is random from the question's `seed`.

use std::io::{BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Config, Observations, Request, Sampler, SamplerError, Space, TrialId};

/// Bytes in an answer at most, 1 MiB: a program gone wild must not fill the memory.
const MAX_ANSWER: u64 = 1 << 20;

/// Characters of a malformed answer that an error shows.
const SHOWN: usize = 200;

/// A sampler behind a pipe; see the module's documentation. Calls block until the program answers;
/// the caller who started it ends it if it never does.
#[derive(Debug)]
pub struct ExternalSampler<R, W> {
    name: String,
    answers: R,
    questions: W,
    started: bool,
    /// How many of the observations the program has been told.
    told: usize,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Message<'a> {
    Start {
        protocol: u32,
        space: &'a Space,
    },
    Tell {
        id: TrialId,
        config: &'a Config,
        budget: f64,
        loss: Option<f64>,
    },
    Ask {
        id: TrialId,
        budget: f64,
        seed: u64,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Answer {
    Config(Config),
    Error(String),
}

impl<R: BufRead, W: Write> ExternalSampler<R, W> {
    /// A sampler that writes questions and reads answers. `name` is what a journal knows it by: its
    /// command line, for example.
    pub fn new(name: impl Into<String>, answers: R, questions: W) -> Self {
        ExternalSampler {
            name: name.into(),
            answers,
            questions,
            started: false,
            told: 0,
        }
    }

    fn write(&mut self, message: &Message<'_>) -> Result<(), SamplerError> {
        let mut line = serde_json::to_vec(message).map_err(std::io::Error::from)?;
        line.push(b'\n');
        Ok(self.questions.write_all(&line)?)
    }

    /// Tells all that has become known since the last time.
    fn tell(&mut self, space: &Space, observations: &Observations) -> Result<(), SamplerError> {
        if !self.started {
            self.write(&Message::Start { protocol: 1, space })?;
            self.started = true;
        }
        while let Some(observation) = observations.all().get(self.told) {
            self.write(&Message::Tell {
                id: observation.id,
                config: &observation.config,
                budget: observation.budget,
                loss: observation.loss,
            })?;
            self.told += 1;
        }
        Ok(())
    }

    fn answer(&mut self, id: TrialId) -> Result<Config, SamplerError> {
        let mut line = Vec::new();
        let mut limited = self.answers.by_ref().take(MAX_ANSWER);
        limited.read_until(b'\n', &mut line)?;
        let malformed = |why: String| SamplerError::Malformed {
            id,
            why,
            answer: String::from_utf8_lossy(&line)
                .trim_end()
                .chars()
                .take(SHOWN)
                .collect(),
        };
        if line.is_empty() {
            return Err(SamplerError::Closed(id));
        }
        if line.last() != Some(&b'\n') {
            return Err(malformed(format!(
                "no end of line within {MAX_ANSWER} bytes or before its output ended"
            )));
        }
        match serde_json::from_slice(&line) {
            Ok(Answer::Config(config)) => Ok(config),
            Ok(Answer::Error(message)) => Err(SamplerError::Refused { id, message }),
            Err(error) => Err(malformed(error.to_string())),
        }
    }
}

impl<R: BufRead, W: Write> Sampler for ExternalSampler<R, W> {
    fn describe(&self) -> serde_json::Value {
        json!({ "name": "external", "program": self.name })
    }

    fn sample(
        &mut self,
        space: &Space,
        request: Request,
        observations: &Observations,
    ) -> Result<Config, SamplerError> {
        self.tell(space, observations)?;
        let Request {
            id, budget, seed, ..
        } = request;
        self.write(&Message::Ask { id, budget, seed })?;
        self.questions.flush()?;
        self.answer(id)
    }

    fn end(&mut self, space: &Space, observations: &Observations) -> Result<(), SamplerError> {
        self.tell(space, observations)?;
        Ok(self.questions.flush()?)
    }
}
