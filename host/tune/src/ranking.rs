//! Whether small budgets tell what large ones will say.
//!
//! Multi-fidelity search rests on it that who is good with a small budget is good with a large one.
//! For each two successive budgets, the configurations evaluated with both are ranked at each, and
//! Spearman's coefficient says how well the two agree: 1 is the same order, 0 none in common, -1
//! the opposite.

use std::collections::BTreeMap;

use crate::observations::BudgetKey;
use crate::{Record, TrialId};

/// How the configurations evaluated with two successive budgets rank at each.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// The lower budget.
    pub low: f64,
    /// The next budget of the results.
    pub high: f64,
    /// The configurations that crashed at neither, by identity.
    pub configs: Vec<Ranked>,
    /// Spearman's rank correlation; `None` if there are fewer than two configurations or all losses
    /// at one of the budgets are equal.
    pub spearman: Option<f64>,
}

/// The ranks of one configuration, 1 for the lowest loss; equal losses share the mean of their ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Its identity.
    pub id: TrialId,
    /// Its rank at the lower budget.
    pub low: f64,
    /// Its rank at the higher budget.
    pub high: f64,
}

/// The rankings of all successive budgets, the least first. Of several results of the same
/// configuration and budget the last counts.
pub fn rankings(records: &[Record]) -> Vec<Ranking> {
    let mut levels: BTreeMap<BudgetKey, BTreeMap<TrialId, f64>> = BTreeMap::new();
    for record in records {
        let level = levels.entry(BudgetKey::new(record.budget)).or_default();
        if let Some(loss) = record.loss {
            level.insert(record.id, loss);
        }
    }
    let levels: Vec<(f64, BTreeMap<TrialId, f64>)> = levels
        .into_iter()
        .map(|(key, losses)| (key.budget(), losses))
        .collect();
    let pairs = levels.windows(2).filter_map(|pair| match pair {
        [low, high] => Some(rank(low, high)),
        _ => None,
    });
    pairs.collect()
}

fn rank(
    (low, low_losses): &(f64, BTreeMap<TrialId, f64>),
    (high, high_losses): &(f64, BTreeMap<TrialId, f64>),
) -> Ranking {
    let both: Vec<(TrialId, f64, f64)> = low_losses
        .iter()
        .filter_map(|(id, loss)| Some((*id, *loss, *high_losses.get(id)?)))
        .collect();
    let low_ranks = ranks(&both.iter().map(|(_, loss, _)| *loss).collect::<Vec<_>>());
    let high_ranks = ranks(&both.iter().map(|(_, _, loss)| *loss).collect::<Vec<_>>());
    let configs = both.iter().zip(low_ranks.iter().zip(&high_ranks));
    Ranking {
        low: *low,
        high: *high,
        spearman: correlation(&low_ranks, &high_ranks),
        configs: configs
            .map(|((id, _, _), (low, high))| Ranked {
                id: *id,
                low: *low,
                high: *high,
            })
            .collect(),
    }
}

fn ranks(losses: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..losses.len()).collect();
    order.sort_by(|&one, &other| losses[one].total_cmp(&losses[other]));
    let mut ranks = vec![0.0; losses.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&one, &other| losses[one] == losses[other]) {
        let mean = before as f64 + (equal.len() as f64 + 1.0) / 2.0;
        for &index in equal {
            ranks[index] = mean;
        }
        before += equal.len();
    }
    ranks
}

/// Pearson's coefficient, which of ranks is Spearman's.
fn correlation(one: &[f64], other: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_one, mean_other) = (mean(one), mean(other));
    let (mut both, mut square_one, mut square_other) = (0.0, 0.0, 0.0);
    for (one, other) in one.iter().zip(other) {
        let (one, other) = (one - mean_one, other - mean_other);
        both += one * other;
        square_one += one * one;
        square_other += other * other;
    }
    let scale = f64::sqrt(square_one * square_other);
    (scale > 0.0).then(|| both / scale)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Config;

    fn record(index: u32, budget: f64, loss: Option<f64>) -> Record {
        Record {
            id: [0, 0, index].into(),
            config: Config::new(),
            budget,
            loss,
            info: serde_json::Value::Null,
            crashed: None,
            seed: 0,
            submitted: 0.0,
            finished: 0.0,
            worker: None,
            fuel: None,
        }
    }

    #[test]
    fn ranks_are_those_among_the_configurations_of_both_budgets() {
        // The textbook formula, 1 - 6 sum d^2 / (n (n^2 - 1)), gives 1 - 6 * 2 / (3 * 8) here.
        let small = [(0, 5.0), (1, 1.0), (2, 2.0), (3, 0.5)];
        let large = [(0, 9.0), (1, 8.0), (2, 7.0)];
        let mut records: Vec<Record> = small.map(|(i, loss)| record(i, 1.0, Some(loss))).into();
        records.extend(large.map(|(i, loss)| record(i, 3.0, Some(loss))));
        records.push(record(3, 3.0, None));
        let [ranking] = <[_; 1]>::try_from(rankings(&records)).unwrap();
        let ranks: Vec<_> = ranking
            .configs
            .iter()
            .map(|one| (one.low, one.high))
            .collect();
        assert_eq!((ranking.low, ranking.high), (1.0, 3.0));
        assert_eq!(ranks, [(3.0, 3.0), (1.0, 2.0), (2.0, 1.0)]);
        assert!((ranking.spearman.unwrap() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn equal_losses_share_their_ranks_and_alone_have_no_correlation() {
        assert_eq!(ranks(&[2.0, 1.0, 2.0, 2.0]), [3.0, 1.0, 3.0, 3.0]);
        assert_eq!(correlation(&[2.0, 2.0, 2.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(correlation(&[], &[]), None);
        assert_eq!(correlation(&[1.0, 2.0], &[2.0, 1.0]), Some(-1.0));
        assert!(rankings(&[]).is_empty());
    }
}
