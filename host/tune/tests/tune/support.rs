//! Spaces, objectives and workers.

use std::collections::BTreeMap;

use optwasm_tune::{
    Ask, Budgets, Config, Domain, Entry, Method, Order, Outcome, Parameter, RandomSampler, Record,
    Report, Sampler, Search, Settings, Space, Trial, Value,
};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Floats from `low` to `high`.
pub fn floats(names: &[&str], low: f64, high: f64) -> Space {
    let float = Domain::Float {
        low,
        high,
        log: false,
    };
    let parameters: BTreeMap<String, Parameter> = names
        .iter()
        .map(|name| ((*name).to_owned(), Parameter::new(float.clone())))
        .collect();
    Space::new(parameters).unwrap()
}

pub fn hyperband(min: f64, max: f64, eta: u32) -> Method {
    Method::Hyperband(Budgets { min, max, eta })
}

pub fn number(config: &Config, name: &str) -> f64 {
    match config.get(name) {
        Some(Value::Float(float)) => *float,
        other => panic!("{name} is {other:?}"),
    }
}

/// The seeds' objective: f = (x - 0.3)^2 + 1 / budget.
pub fn parabola(trial: &Trial) -> Outcome {
    Outcome::Loss((number(&trial.config, "x") - 0.3).powi(2) + 1.0 / trial.budget)
}

/// Rosenbrock's function in two variables, whose optimum at (1, 1) moves there as the budget grows to 100.
pub fn moving_rosenbrock(trial: &Trial) -> Outcome {
    let shift = 2.0 - 2.0 * trial.budget / 100.0;
    let x = number(&trial.config, "x0") - shift;
    let y = number(&trial.config, "x1") - shift;
    Outcome::Loss(100.0 * (y - x * x).powi(2) + (1.0 - x).powi(2))
}

/// The seeds' search: 13 evaluations of a parabola.
pub fn thirteen() -> Settings {
    Settings::new(floats(&["x"], 0.0, 1.0), hyperband(25.0, 100.0, 2), 3)
}

pub fn deterministic(settings: Settings, group: u32) -> Settings {
    Settings {
        order: Order::Deterministic { group },
        ..settings
    }
}

pub fn random() -> Box<dyn Sampler + Send> {
    Box::new(RandomSampler)
}

/// Workers that evaluate up to `at_once` and end in an order drawn at random.
pub struct Workers {
    pub at_once: usize,
    pub rng: ChaCha8Rng,
    /// The chance that a worker is lost before it tells.
    pub losses: f64,
}

impl Workers {
    pub fn new(at_once: usize, seed: u64) -> Self {
        Workers {
            at_once,
            rng: ChaCha8Rng::seed_from_u64(seed),
            losses: 0.0,
        }
    }

    /// Runs a search to its end and returns all of its entries.
    pub fn run(
        &mut self,
        search: &mut Search,
        objective: impl Fn(&Trial) -> Outcome,
    ) -> Vec<Entry> {
        let mut busy: Vec<Trial> = Vec::new();
        loop {
            let mut is_done = false;
            while busy.len() < self.at_once {
                match search.ask(0.0).unwrap() {
                    Ask::Evaluate(trial) => busy.push(trial),
                    Ask::Wait => {
                        assert!(!busy.is_empty(), "waits for nobody");
                        break;
                    }
                    Ask::Done => {
                        is_done = true;
                        break;
                    }
                }
            }
            if is_done {
                assert!(busy.is_empty(), "done while something is in flight");
                return search.take_entries();
            }
            let trial = busy.swap_remove(self.rng.random_range(0..busy.len()));
            if self.rng.random::<f64>() < self.losses {
                search.lost(trial.id, trial.budget).unwrap();
            } else {
                let report = Report::new(objective(&trial));
                search.tell(trial.id, trial.budget, report).unwrap();
            }
        }
    }
}

/// One worker runs a search to its end.
pub fn run(
    settings: Settings,
    sampler: Box<dyn Sampler + Send>,
    objective: impl Fn(&Trial) -> Outcome,
) -> (Search, Vec<Entry>) {
    let mut search = Search::new(settings, sampler).unwrap();
    let entries = Workers::new(1, 0).run(&mut search, objective);
    (search, entries)
}

pub fn asked(entries: &[Entry]) -> Vec<Trial> {
    let asked = entries.iter().filter_map(|entry| match entry {
        Entry::Asked(trial) => Some(trial.clone()),
        _ => None,
    });
    asked.collect()
}

pub fn told(entries: &[Entry]) -> Vec<Record> {
    let told = entries.iter().filter_map(|entry| match entry {
        Entry::Told(record) => Some(record.clone()),
        _ => None,
    });
    told.collect()
}

pub fn lines(entries: &[Entry]) -> String {
    entries.iter().map(|entry| entry.to_line() + "\n").collect()
}

/// How many evaluations there were with each budget.
pub fn per_budget(records: &[Record]) -> Vec<(f64, usize)> {
    let mut counts: Vec<(f64, usize)> = Vec::new();
    let mut budgets: Vec<f64> = records.iter().map(|record| record.budget).collect();
    budgets.sort_by(f64::total_cmp);
    for budget in budgets {
        match counts.last_mut() {
            Some((last, count)) if *last == budget => *count += 1,
            _ => counts.push((budget, 1)),
        }
    }
    counts
}
