//! What samplers may know: results, in the order in which they became known.
//!
//! The list only grows, so that a sampler that talks to another program can remember how much of it
//! that program has heard. Beside the list each budget has its results in the order of their losses,
//! so that a model finds the best of ten thousand at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::coordinate::Axis;
use crate::{Config, Space, TrialId};

/// One result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// What was evaluated. Of an earlier search if it came by a warm start.
    pub id: TrialId,
    /// Its parameters.
    pub config: Config,
    /// The budget that it was given.
    pub budget: f64,
    /// Its loss, finite; `None` if it crashed.
    pub loss: Option<f64>,
}

/// Results, in the order in which they became known.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    all: Vec<Observation>,
    levels: BTreeMap<BudgetKey, Level>,
}

/// The results at one budget.
#[derive(Clone, Debug, Default)]
pub(crate) struct Level {
    points: Vec<Point>,
    /// Positions in `points`, the lowest loss first, crashes last, among equals the first known.
    ranked: Vec<u32>,
    /// How many of them did not crash.
    finite: usize,
}

/// A result as a model sees it.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// One coordinate for each parameter in the space's order; NaN if it was not active.
    pub(crate) coordinates: Vec<f64>,
    /// Infinite if it crashed.
    pub(crate) loss: f64,
}

/// A budget as a key of maps, in its order: positive floats are ordered as their bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BudgetKey(u64);

impl BudgetKey {
    pub(crate) fn budget(self) -> f64 {
        f64::from_bits(self.0)
    }

    pub(crate) fn new(budget: f64) -> Self {
        BudgetKey(budget.to_bits())
    }
}

impl Observations {
    /// All of them, in the order in which they became known.
    pub fn all(&self) -> &[Observation] {
        &self.all
    }

    pub(crate) fn push(&mut self, space: &Space, observation: Observation) {
        let coordinates = space
            .in_order()
            .map(|(name, parameter)| {
                let value = observation.config.get(name);
                value.map_or(f64::NAN, |value| parameter.domain.coordinate(value))
            })
            .collect();
        let loss = observation.loss.unwrap_or(f64::INFINITY);
        let level = self.levels.entry(BudgetKey::new(observation.budget));
        level.or_default().push(Point { coordinates, loss });
        self.all.push(observation);
    }

    /// The greatest budget with at least this many results that did not crash.
    pub(crate) fn greatest(&self, enough: usize) -> Option<&Level> {
        let mut levels = self.levels.values().rev();
        levels.find(|level| level.finite >= enough)
    }
}

impl Level {
    fn push(&mut self, point: Point) {
        let loss = point.loss;
        let rank = self
            .ranked
            .partition_point(|&other| self.points[other as usize].loss <= loss);
        // Memory ends before numbers of 32 bits do.
        self.ranked.insert(rank, self.points.len() as u32);
        self.points.push(point);
        self.finite += usize::from(loss.is_finite());
    }

    pub(crate) fn len(&self) -> usize {
        self.points.len()
    }

    pub(crate) fn finite(&self) -> usize {
        self.finite
    }

    /// The `best` lowest losses, and the `rest` that became known last among the others.
    pub(crate) fn split(&self, best: usize, rest: usize) -> (Vec<&Point>, Vec<&Point>) {
        let (good, _) = self.ranked.split_at(best.min(self.ranked.len()));
        let mut is_good = good.to_vec();
        is_good.sort_unstable();
        let others = (0..self.points.len() as u32)
            .rev()
            .filter(|index| is_good.binary_search(index).is_err())
            .take(rest);
        let point = |index: u32| &self.points[index as usize];
        (
            good.iter().map(|&index| point(index)).collect(),
            others.map(point).collect(),
        )
    }
}

/// The axes of a space, in its order.
pub(crate) fn axes(space: &Space) -> Vec<Axis> {
    let parameters = space.in_order();
    parameters
        .map(|(_, parameter)| parameter.domain.axis())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_and_the_last_of_the_others_are_modelled() {
        let mut level = Level::default();
        // 37 is coprime to 1000: every loss from 0 to 999 once, and some crashes.
        for index in 0..1000_u32 {
            let loss = f64::from(index * 37 % 1000);
            let coordinates = vec![f64::from(index)];
            level.push(Point { coordinates, loss });
            if index.is_multiple_of(100) {
                let loss = f64::INFINITY;
                let coordinates = vec![f64::NAN];
                level.push(Point { coordinates, loss });
            }
        }
        assert_eq!((level.len(), level.finite()), (1010, 1000));
        let (good, others) = level.split(100, 200);
        let losses: Vec<f64> = good.iter().map(|point| point.loss).collect();
        assert_eq!(losses, (0..100).map(f64::from).collect::<Vec<_>>());
        assert_eq!(others.len(), 200);
        assert!(others.iter().all(|point| point.loss >= 100.0));
        let last: Vec<f64> = others.iter().map(|point| point.coordinates[0]).collect();
        assert!(last.iter().all(|index| index.is_nan() || *index > 750.0));
        let (good, others) = level.split(5000, 5000);
        assert_eq!((good.len(), others.len()), (1010, 0));
    }
}
