//! The Tree-structured Parzen Estimator: where good results lie more densely than others.
//!
//! Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011; the estimators are those
//! of the crate `tpe`, one for each parameter. An estimator is told only of configurations in which
//! its parameter was active, so parameters under conditions are modelled where they exist.
//!
//! With results at several budgets this is the model of BOHB (Falkner et al., "BOHB: Robust and
//! Efficient Hyperparameter Optimization at Scale", ICML 2018): the greatest budget with enough
//! results is modelled and the others are left out, and a share of the configurations is drawn at
//! random, which keeps Hyperband's guarantees.
//!
//! # Cost
//!
//! Of more than [`MODELLED_BEST`] + [`MODELLED_REST`] results a model sees that many: the lowest
//! losses, and of the others those that became known last. So the time for a configuration does not
//! grow with the length of the search.

use rand::RngExt;
use serde_json::json;
use tpe::{TpeOptimizerBuilder, histogram_estimator, parzen_estimator};

use crate::coordinate::Axis;
use crate::observations::{Level, Point, axes};
use crate::sampler::{draw, even};
use crate::{Config, Observations, Request, Sampler, SamplerError, Space};

/// How many of the best results are modelled at most. With a hundred points the estimators' kernels
/// have reached their least width, a hundredth of the range.
pub const MODELLED_BEST: usize = 100;

/// How many of the other results are modelled at most: they only say where not to look, for which
/// twice as many are plenty.
pub const MODELLED_REST: usize = 200;

/// How TPE goes about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TpeSettings {
    /// The share of configurations that are drawn at random all the same, from 0 to 1. Default 1/3,
    /// as in BOHB.
    pub random_share: f64,
    /// How many results that did not crash a budget must have before it is modelled. Default
    /// `None`: two more than there are parameters with something to choose, as in BOHB.
    pub enough: Option<u32>,
    /// The share of results that count as good, from 0 to 1. Default 0.15, as in BOHB.
    pub good_share: f64,
    /// Candidates drawn for each parameter, of which the most promising is taken; at least 1.
    /// Default 24, as in the TPE paper's implementation.
    pub candidates: u32,
}

impl Default for TpeSettings {
    fn default() -> Self {
        TpeSettings {
            random_share: 1.0 / 3.0,
            enough: None,
            good_share: 0.15,
            candidates: 24,
        }
    }
}

/// The sampler; see the module's documentation. Settings outside of their range count as the nearest
/// one inside.
#[derive(Clone, Copy, Debug, Default)]
pub struct TpeSampler {
    settings: TpeSettings,
}

impl TpeSampler {
    /// A sampler with these settings.
    pub fn new(settings: TpeSettings) -> Self {
        let share = |value: f64| {
            if value.is_nan() {
                0.0
            } else {
                value.clamp(0.0, 1.0)
            }
        };
        TpeSampler {
            settings: TpeSettings {
                random_share: share(settings.random_share),
                enough: settings.enough,
                good_share: share(settings.good_share),
                candidates: settings.candidates.max(1),
            },
        }
    }
}

impl Sampler for TpeSampler {
    fn describe(&self) -> serde_json::Value {
        json!({
            "name": "tpe",
            "random_share": self.settings.random_share,
            "enough": self.settings.enough,
            "good_share": self.settings.good_share,
            "candidates": self.settings.candidates,
        })
    }

    fn sample(
        &mut self,
        space: &Space,
        mut request: Request,
        observations: &Observations,
    ) -> Result<Config, SamplerError> {
        let axes = axes(space);
        let chosen = axes.iter().filter(|axis| **axis != Axis::Nothing).count();
        let enough = self
            .settings
            .enough
            .map_or(chosen + 2, |enough| enough as usize);
        let at_random = request.rng.random::<f64>() < self.settings.random_share;
        // With one result there is nothing to tell good from bad by.
        let level = observations.greatest(enough.max(2)).filter(|_| !at_random);
        let model = level.map(|level| Model::new(&self.settings, level));
        Ok(draw(space, |position, parameter| {
            let axis = parameter.domain.axis();
            match &model {
                Some(model) => model.propose(position, axis, &mut request),
                None => even(axis, &mut request.rng),
            }
        }))
    }
}

/// The results of one budget, divided.
struct Model<'a> {
    good: Vec<&'a Point>,
    others: Vec<&'a Point>,
    candidates: usize,
}

impl<'a> Model<'a> {
    fn new(settings: &TpeSettings, level: &'a Level) -> Self {
        let good = (level.len() as f64 * settings.good_share).ceil() as usize;
        // Two, because one point alone makes all kernels as wide as the range; never a crash.
        let good = good.clamp(2, MODELLED_BEST).min(level.finite());
        let (good, others) = level.split(good, MODELLED_REST);
        Model {
            good,
            others,
            candidates: settings.candidates as usize,
        }
    }

    /// The coordinate on one axis with the best ratio of the two densities.
    fn propose(&self, position: usize, axis: Axis, request: &mut Request) -> f64 {
        let (estimator, end) = match axis {
            Axis::Line => (parzen_estimator(), 1.0),
            Axis::Choice(count) => (histogram_estimator(), count as f64),
            Axis::Nothing => return 0.0,
        };
        let told = self.good.len() + self.others.len();
        let mut builder = TpeOptimizerBuilder::new();
        builder.candidates(self.candidates);
        // The optimizer takes ceil(told * gamma) results as good; half a result below the wanted
        // number is rounded up to it whatever the last digit.
        builder.gamma((self.good.len() as f64 - 0.5) / told as f64);
        let range = tpe::range(0.0, end).expect("an axis is not empty");
        let optimizer = builder.build(estimator, range);
        let mut optimizer = optimizer.expect("gamma is within 0..1 and there is a candidate");
        for point in self.good.iter().chain(&self.others) {
            let told = optimizer.tell(point.coordinates[position], point.loss);
            told.expect("coordinates lie on their axis and no loss is NaN");
        }
        let proposed = optimizer.ask(&mut request.rng);
        match proposed {
            Ok(coordinate) => coordinate,
            Err(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::sampler::request;
    use crate::{Observation, Value};

    /// The share of configurations that a model without random draws places above a half.
    fn share_above(observations: &Observations, space: &Space) -> f64 {
        let mut sampler = TpeSampler::new(TpeSettings {
            random_share: 0.0,
            ..TpeSettings::default()
        });
        let above = (0..200).filter(|&index| {
            let request = request(1, [0, 0, index].into(), 1.0);
            let config = sampler.sample(space, request, observations).unwrap();
            matches!(config.get("x"), Some(Value::Float(x)) if *x > 0.5)
        });
        above.count() as f64 / 200.0
    }

    fn push(observations: &mut Observations, space: &Space, budget: f64, best: f64, count: u32) {
        for index in 0..count {
            let x = (f64::from(index) + 0.5) / f64::from(count);
            observations.push(
                space,
                Observation {
                    id: [0, 0, index].into(),
                    config: [("x".to_owned(), Value::Float(x))].into(),
                    budget,
                    loss: Some((x - best).abs()),
                },
            );
        }
    }

    #[test]
    fn the_greatest_budget_with_enough_results_is_modelled() {
        let text = "parameters.x = { type = 'float', low = 0.0, high = 1.0 }";
        let space = Space::from_toml(text).unwrap();
        let mut observations = Observations::default();
        assert!((share_above(&observations, &space) - 0.5).abs() < 0.15);
        push(&mut observations, &space, 1.0, 0.1, 30);
        assert!(share_above(&observations, &space) < 0.2);
        // One parameter: three results are enough.
        push(&mut observations, &space, 9.0, 0.9, 2);
        assert!(share_above(&observations, &space) < 0.2);
        push(&mut observations, &space, 9.0, 0.9, 20);
        assert!(share_above(&observations, &space) > 0.8);
    }

    #[test]
    fn crashes_are_never_among_the_good() {
        let text = "parameters.x = { type = 'float', low = 0.0, high = 1.0 }";
        let space = Space::from_toml(text).unwrap();
        let mut observations = Observations::default();
        // Of a hundred results fifteen would be good; the crashes known first are all near 0.9.
        let results = (0..15).map(|_| (0.9, None));
        let results = results.chain((0..85).map(|index| (f64::from(index) / 100.0, None)));
        let results = results.chain([0.1, 0.15, 0.2].map(|x| (x, Some(x))));
        for (index, (x, loss)) in (0..).zip(results) {
            let observation = Observation {
                id: [0, 0, index].into(),
                config: [("x".to_owned(), Value::Float(x))].into(),
                budget: 1.0,
                loss,
            };
            observations.push(&space, observation);
        }
        let above = share_above(&observations, &space);
        assert!(above < 0.5, "{above}");
    }
}
