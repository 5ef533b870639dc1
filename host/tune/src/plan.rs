//! How many configurations are evaluated with how much budget: the arithmetic of the methods.
//!
//! A search is a sequence of *iterations*, and each is one [`Bracket`]: stages of decreasing size
//! and increasing budget. Plain search has brackets of one evaluation. Successive halving repeats
//! the longest bracket. Hyperband goes through brackets with `s = s_max .. 0` promotions and begins
//! again (Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization",
//! JMLR 18, 2018).
//!
//! With `r` the least and `R` the greatest budget, `s_max` is the largest `k` with
//! `r * eta^k <= R`. Budgets are `R * eta^-k`. Bracket `s` begins with
//! `floor((s_max + 1) / (s + 1)) * eta^s` configurations and each stage keeps one of `eta`, at
//! least one: the sizes in Table 1 of the paper (whose Algorithm 1 rounds up instead of down) and in
//! HpBandSter. No logarithm is involved, so that none can be rounded across a whole number.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How evaluations are spread over budgets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Method {
    /// Every configuration is evaluated once, with this budget.
    Plain {
        /// The budget, above 0.
        budget: f64,
    },
    /// The longest bracket again and again.
    SuccessiveHalving(Budgets),
    /// Brackets from the longest to the shortest, again and again.
    Hyperband(Budgets),
}

/// The budgets of methods with several.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budgets {
    /// The least budget that an evaluation may get, above 0. In units of the objective's choice.
    pub min: f64,
    /// The budget of a full evaluation, at least `min`.
    pub max: f64,
    /// One of this many goes on to the next stage, with this many times the budget. At least 2;
    /// usually 3.
    pub eta: u32,
}

/// Why there are no brackets of these budgets.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum PlanError {
    /// A budget that is not a number above 0.
    #[error("budget {0} must be finite and above 0")]
    Budget(f64),
    /// The least budget is above the greatest.
    #[error("the least budget {min} is above the greatest {max}")]
    Order {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
    },
    /// Keeping one of one promotes everything for ever.
    #[error("eta is {0} and must be at least 2")]
    Eta(u32),
    /// The budgets are so far apart that a bracket would begin with more configurations than
    /// anybody can evaluate.
    #[error(
        "a bracket would begin with more than {MAX_SIZE} configurations; raise the least budget"
    )]
    TooLarge,
}

/// One stage of a bracket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// How many configurations it evaluates.
    pub size: u32,
    /// With what budget each.
    pub budget: f64,
}

/// The stages of one iteration.
pub type Bracket = Vec<Stage>;

/// The brackets of a method. Iteration `i` is bracket `i` modulo their number.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    brackets: Vec<Bracket>,
}

/// How much larger than exact arithmetic allows a product may be and still count as equal. Bounds
/// such as 1/3 are off by 1e-16 of their value, and so is every multiplication; nobody means
/// budgets that differ by so little.
const ROUNDING: f64 = 1e-9;

/// Configurations in one stage at most: 2^20. More than any search has evaluated.
const MAX_SIZE: u32 = 1 << 20;

impl Plan {
    /// The brackets of a method.
    ///
    /// # Errors
    /// Budgets that make no sense or too large a bracket.
    pub fn new(method: &Method) -> Result<Self, PlanError> {
        let brackets = match method {
            Method::Plain { budget } => {
                check_budget(*budget)?;
                let (size, budget) = (1, *budget);
                vec![vec![Stage { size, budget }]]
            }
            Method::SuccessiveHalving(budgets) => {
                let levels = levels(budgets)?;
                vec![bracket(budgets.eta, &levels, levels.len())?]
            }
            Method::Hyperband(budgets) => {
                let levels = levels(budgets)?;
                let stages = (1..=levels.len()).rev();
                let brackets = stages.map(|stages| bracket(budgets.eta, &levels, stages));
                brackets.collect::<Result<_, _>>()?
            }
        };
        Ok(Plan { brackets })
    }

    /// The brackets of one cycle.
    pub fn brackets(&self) -> &[Bracket] {
        &self.brackets
    }

    /// The bracket of an iteration.
    pub fn bracket(&self, iteration: u32) -> &[Stage] {
        // There is at least one bracket, see `new`.
        &self.brackets[iteration as usize % self.brackets.len()]
    }

    /// Evaluations in the first `iterations` iterations.
    pub fn evaluations(&self, iterations: u32) -> u64 {
        let count = |bracket: &Bracket| bracket.iter().map(|stage| u64::from(stage.size)).sum();
        let counts: Vec<u64> = self.brackets.iter().map(count).collect();
        let cycle: u64 = counts.iter().sum();
        let (cycles, rest) = (
            u64::from(iterations) / counts.len() as u64,
            iterations as usize % counts.len(),
        );
        cycles * cycle + counts.iter().take(rest).sum::<u64>()
    }

    /// All budgets, the least first.
    pub fn budgets(&self) -> Vec<f64> {
        let longest = self.brackets.iter().max_by_key(|bracket| bracket.len());
        let stages = longest.into_iter().flatten();
        stages.map(|stage| stage.budget).collect()
    }
}

fn check_budget(budget: f64) -> Result<(), PlanError> {
    if budget.is_finite() && budget > 0.0 {
        return Ok(());
    }
    Err(PlanError::Budget(budget))
}

/// The budgets of all stages, the least first: `R * eta^-k` for `k = s_max .. 0`.
fn levels(budgets: &Budgets) -> Result<Vec<f64>, PlanError> {
    let Budgets { min, max, eta } = *budgets;
    check_budget(min)?;
    check_budget(max)?;
    if min > max {
        return Err(PlanError::Order { min, max });
    }
    if eta < 2 {
        return Err(PlanError::Eta(eta));
    }
    let mut levels = Vec::new();
    let mut power = 1_u32;
    // The quotient, because products of large budgets overflow.
    while max / f64::from(power) >= min * (1.0 - ROUNDING) {
        levels.push(max / f64::from(power));
        power = power.checked_mul(eta).ok_or(PlanError::TooLarge)?;
    }
    // What is meant to be the least budget is so to the last digit.
    if let Some(least) = levels.last_mut()
        && (*least - min).abs() <= min * ROUNDING
    {
        *least = min;
    }
    levels.reverse();
    Ok(levels)
}

/// The bracket that ends at the greatest budget after this many stages.
fn bracket(eta: u32, levels: &[f64], stages: usize) -> Result<Bracket, PlanError> {
    let share = (levels.len() / stages) as u64;
    let promotions = u32::try_from(stages - 1).map_err(|_| PlanError::TooLarge)?;
    let first = u64::from(eta)
        .checked_pow(promotions)
        .and_then(|power| power.checked_mul(share))
        .filter(|first| *first <= u64::from(MAX_SIZE))
        .ok_or(PlanError::TooLarge)?;
    let budgets = levels.iter().skip(levels.len() - stages);
    let mut size = first;
    let mut bracket = Vec::with_capacity(stages);
    for &budget in budgets {
        bracket.push(Stage {
            // At most `MAX_SIZE`, as checked above.
            size: size.max(1) as u32,
            budget,
        });
        size /= u64::from(eta);
    }
    Ok(bracket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn budgets(min: f64, max: f64, eta: u32) -> Budgets {
        Budgets { min, max, eta }
    }

    fn hyperband(min: f64, max: f64, eta: u32) -> Plan {
        Plan::new(&Method::Hyperband(budgets(min, max, eta))).unwrap()
    }

    fn sizes(plan: &Plan) -> Vec<Vec<u32>> {
        let sizes = |bracket: &Bracket| bracket.iter().map(|stage| stage.size).collect();
        plan.brackets().iter().map(sizes).collect()
    }

    #[test]
    fn a_sixteenth_to_one_by_four() {
        let plan = hyperband(1.0 / 16.0, 1.0, 4);
        assert_eq!(sizes(&plan), [vec![16, 4, 1], vec![4, 1], vec![3]]);
        assert_eq!(plan.budgets(), [1.0 / 16.0, 0.25, 1.0]);
        assert_eq!(plan.bracket(1).first().unwrap().budget, 0.25);
        assert_eq!(plan.bracket(2).first().unwrap().budget, 1.0);
        assert_eq!(plan.evaluations(3), 29);
        assert_eq!(plan.evaluations(5), 55);
        let halving = Method::SuccessiveHalving(budgets(1.0 / 16.0, 1.0, 4));
        let halving = Plan::new(&halving).unwrap();
        let totals = [1, 3, 5].map(|iterations| halving.evaluations(iterations));
        assert_eq!(totals, [21, 63, 105]);
    }

    #[test]
    fn a_quarter_to_one_by_two() {
        let plan = hyperband(25.0, 100.0, 2);
        assert_eq!(sizes(&plan), [vec![4, 2, 1], vec![2, 1], vec![3]]);
        assert_eq!(plan.budgets(), [25.0, 50.0, 100.0]);
        let totals = [3, 30, 50].map(|iterations| plan.evaluations(iterations));
        assert_eq!(totals, [13, 130, 218]);
    }

    #[test]
    fn the_table_of_the_paper() {
        let expected = [
            vec![81, 27, 9, 3, 1],
            vec![27, 9, 3, 1],
            vec![9, 3, 1],
            vec![6, 2],
            vec![5],
        ];
        assert_eq!(sizes(&hyperband(1.0, 81.0, 3)), expected);
    }

    #[test]
    fn rounding_loses_no_bracket() {
        let plan = hyperband(1.0 / 3.0, 7.0 / 3.0, 7);
        assert_eq!(plan.budgets(), [1.0 / 3.0, 7.0 / 3.0]);
        assert_eq!(sizes(&plan), [vec![7, 1], vec![2]]);
        // Every ratio that is a power of eta, from bounds that no float holds exactly.
        for eta in 2..=10_u32 {
            for power in 1..=5 {
                for denominator in 1..=50 {
                    let min = 1.0 / f64::from(denominator);
                    let max = f64::from(eta.pow(power)) / f64::from(denominator);
                    let levels = levels(&budgets(min, max, eta)).unwrap();
                    assert_eq!(levels.len(), power as usize + 1, "{min} {max} {eta}");
                    assert_eq!((levels[0], levels[power as usize]), (min, max));
                }
            }
        }
    }

    #[test]
    fn a_budget_below_the_least_is_never_used() {
        assert_eq!(hyperband(1.001, 9.0, 3).budgets(), [3.0, 9.0]);
        assert_eq!(hyperband(5.0, 5.0, 3).budgets(), [5.0]);
        assert_eq!(sizes(&hyperband(5.0, 5.0, 3)), [vec![1]]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |min, max, eta| levels(&budgets(min, max, eta)).unwrap_err();
        assert_eq!(refused(0.0, 1.0, 3), PlanError::Budget(0.0));
        assert_eq!(
            refused(1.0, f64::INFINITY, 3),
            PlanError::Budget(f64::INFINITY)
        );
        assert_eq!(
            refused(2.0, 1.0, 3),
            PlanError::Order { min: 2.0, max: 1.0 }
        );
        assert_eq!(refused(1.0, 2.0, 1), PlanError::Eta(1));
        assert_eq!(refused(1e-300, 1e300, 2), PlanError::TooLarge);
        let wide = Plan::new(&Method::Hyperband(budgets(1.0, 1e7, 3)));
        assert_eq!(wide, Err(PlanError::TooLarge));
        assert!(Plan::new(&Method::Plain { budget: f64::NAN }).is_err());
    }
}
