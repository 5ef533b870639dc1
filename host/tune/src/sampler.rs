//! Where configurations come from.
//!
//! A [`Sampler`] is asked for one configuration at a time and is shown all results that it may
//! depend on. Randomness comes from the request alone, whose generator is seeded by the search's seed
//! and the configuration's identity: a sampler that keeps nothing of its own gives the same
//! configuration for the same request and results, and the search can be continued after a restart.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use thiserror::Error;

use crate::coordinate::Axis;
use crate::{Config, ConfigError, Observations, Parameter, Space, TrialId};

/// Why there is no configuration. The search cannot go on without; what was evaluated is kept.
#[derive(Debug, Error)]
pub enum SamplerError {
    /// The program behind the sampler could not be written to or read from.
    #[error("the sampler cannot be reached: {0}")]
    Io(#[from] std::io::Error),
    /// The program closed its output instead of answering.
    #[error("the sampler ended without an answer for {0}")]
    Closed(TrialId),
    /// The program says that it has no answer.
    #[error("the sampler has no configuration for {id}: {message}")]
    Refused {
        /// What it was asked for.
        id: TrialId,
        /// Its own words.
        message: String,
    },
    /// The answer is not of the form that it must have.
    #[error("the sampler's answer for {id} is malformed: {why}; it was: {answer}")]
    Malformed {
        /// What it was asked for.
        id: TrialId,
        /// What is wrong.
        why: String,
        /// The answer, its beginning if it is long.
        answer: String,
    },
    /// The configuration is not one of the space.
    #[error("the sampler's configuration for {id} is not in the space: {why}")]
    OutOfSpace {
        /// What it was asked for.
        id: TrialId,
        /// What is wrong.
        why: ConfigError,
    },
}

/// What a sampler is asked for.
#[derive(Debug)]
pub struct Request {
    /// The identity of the new configuration.
    pub id: TrialId,
    /// The budget that it is evaluated with first.
    pub budget: f64,
    /// The seed of its evaluations.
    pub seed: u64,
    /// Randomness for this request alone.
    pub rng: ChaCha8Rng,
}

/// Derives what is random about one configuration from the search's seed.
pub(crate) fn request(search_seed: u64, id: TrialId, budget: f64) -> Request {
    let mut hasher =
        blake3::Hasher::new_derive_key("optwasm-tune 2026 a configuration's randomness");
    hasher.update(&search_seed.to_le_bytes());
    for part in [id.iteration, id.stage, id.index] {
        hasher.update(&part.to_le_bytes());
    }
    let mut output = hasher.finalize_xof();
    let (mut seed, mut key) = ([0; 8], [0; 32]);
    output.fill(&mut seed);
    output.fill(&mut key);
    Request {
        id,
        budget,
        // 53 bits, which every reader of JSON takes in without loss.
        seed: u64::from_le_bytes(seed) >> 11,
        rng: ChaCha8Rng::from_seed(key),
    }
}

/// A source of configurations.
pub trait Sampler {
    /// Its name and settings. A journal is only continued with a sampler of the same description.
    fn describe(&self) -> serde_json::Value;

    /// A configuration of the space. `observations` is the list of the call before with more at its
    /// end.
    ///
    /// # Errors
    /// See [`SamplerError`].
    fn sample(
        &mut self,
        space: &Space,
        request: Request,
        observations: &Observations,
    ) -> Result<Config, SamplerError>;

    /// The search is over, and these are all of its results. Nothing by default.
    ///
    /// # Errors
    /// See [`SamplerError`].
    fn end(&mut self, space: &Space, observations: &Observations) -> Result<(), SamplerError> {
        let _ = (space, observations);
        Ok(())
    }
}

/// Every parameter is drawn evenly from its domain, results are not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomSampler;

impl Sampler for RandomSampler {
    fn describe(&self) -> serde_json::Value {
        json!({ "name": "random" })
    }

    fn sample(
        &mut self,
        space: &Space,
        mut request: Request,
        _: &Observations,
    ) -> Result<Config, SamplerError> {
        Ok(draw(space, |_, parameter| {
            even(parameter.domain.axis(), &mut request.rng)
        }))
    }
}

/// A configuration whose active parameters have the coordinates that `place` gives for a
/// parameter and its position in the space's order.
pub(crate) fn draw(space: &Space, mut place: impl FnMut(usize, &Parameter) -> f64) -> Config {
    let mut config = Config::new();
    for (position, (name, parameter)) in space.in_order().enumerate() {
        if space.is_active(parameter, &config) {
            let value = parameter.domain.at(place(position, parameter));
            config.insert(name.to_owned(), value);
        }
    }
    config
}

/// A coordinate drawn evenly from an axis.
pub(crate) fn even(axis: Axis, rng: &mut ChaCha8Rng) -> f64 {
    match axis {
        Axis::Line => rng.random(),
        // As many values as a file can name.
        Axis::Choice(count) => rng.random_range(0..count as u64) as f64,
        Axis::Nothing => 0.0,
    }
}
