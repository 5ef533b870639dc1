//! The deterministic order: one seed, one trace.

use std::collections::BTreeMap;

use optwasm_tune::{
    Config, Entry, Method, Order, Outcome, Sampler, Search, Settings, TpeSampler, TpeSettings,
    Trial, TrialId,
};
use proptest::prelude::*;

use crate::support::{
    Workers, asked, deterministic, floats, hyperband, moving_rosenbrock, random, thirteen, told,
};

type Trace = (
    Vec<(TrialId, Config, f64, u64)>,
    BTreeMap<(TrialId, u64), Option<f64>>,
);

/// What was asked for in its order, and what each was told.
fn trace(entries: &[Entry]) -> Trace {
    let asked = asked(entries)
        .into_iter()
        .map(|trial| (trial.id, trial.config, trial.budget, trial.seed));
    let told = told(entries)
        .into_iter()
        .map(|record| ((record.id, record.budget.to_bits()), record.loss));
    (asked.collect(), told.collect())
}

/// Crashes for every seventh seed.
fn objective(trial: &Trial) -> Outcome {
    if trial.seed.is_multiple_of(7) {
        return Outcome::Crashed("seven".to_owned());
    }
    moving_rosenbrock(trial)
}

fn methods() -> impl Strategy<Value = (Method, u32)> {
    prop_oneof![
        (Just(hyperband(25.0, 100.0, 2)), 1..9_u32),
        (Just(hyperband(1.0, 9.0, 3)), 1..5_u32),
        (Just(Method::Plain { budget: 50.0 }), 1..40_u32),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn one_seed_gives_one_trace(
        (method, iterations) in methods(),
        group in 1..5_u32,
        seed: u64,
        with_model: bool,
    ) {
        let mut settings = Settings::new(floats(&["x0", "x1"], -5.0, 10.0), method, iterations);
        settings.seed = seed;
        let settings = deterministic(settings, group);
        let sampler = || -> Box<dyn Sampler + Send> {
            if with_model {
                Box::new(TpeSampler::default())
            } else {
                random()
            }
        };
        let mut expected = None;
        for at_once in 1..=16 {
            let mut search = Search::new(settings.clone(), sampler()).unwrap();
            let mut workers = Workers::new(at_once, seed ^ at_once as u64);
            workers.losses = 0.1;
            let trace = trace(&workers.run(&mut search, objective));
            prop_assert_eq!(trace.0.len() as u64, search.plan().evaluations(iterations));
            let expected = expected.get_or_insert_with(|| trace.clone());
            prop_assert_eq!(&trace, expected);
        }
    }
}

#[test]
fn another_seed_gives_another_trace() {
    let trace_of = |seed| {
        let mut settings = deterministic(thirteen(), 1);
        settings.seed = seed;
        let mut search = Search::new(settings, random()).unwrap();
        trace(&Workers::new(1, 0).run(&mut search, crate::support::parabola))
    };
    assert_ne!(trace_of(1), trace_of(2));
}

#[test]
fn a_configuration_depends_on_earlier_groups() {
    // The same search with two objectives that begin to differ in the second group.
    let configs = |flips: bool| {
        let method = Method::Plain { budget: 1.0 };
        let settings = Settings::new(floats(&["x"], 0.0, 1.0), method, 24);
        let settings = deterministic(settings, 8);
        let sampler = TpeSampler::new(TpeSettings {
            random_share: 0.0,
            ..TpeSettings::default()
        });
        let mut search = Search::new(settings, Box::new(sampler)).unwrap();
        let entries = Workers::new(4, 1).run(&mut search, |trial| {
            let x = crate::support::number(&trial.config, "x");
            let is_flipped = flips && trial.id.iteration >= 8;
            Outcome::Loss(if is_flipped { -x } else { x })
        });
        asked(&entries)
            .into_iter()
            .map(|trial| trial.config)
            .collect::<Vec<_>>()
    };
    let (one, other) = (configs(false), configs(true));
    assert_eq!(one[..16], other[..16], "the first two groups know the same");
    assert_ne!(one[16..], other[16..], "the third does not");
}

#[test]
fn groups_keep_workers_busy() {
    let mut settings = deterministic(thirteen(), 3);
    settings.iterations = 3;
    let mut search = Search::new(settings, random()).unwrap();
    let mut at_once = 0;
    while let optwasm_tune::Ask::Evaluate(_) = search.ask(0.0).unwrap() {
        at_once += 1;
    }
    assert_eq!(at_once, 9, "the first stages of all three brackets");
    let method = Method::Plain { budget: 1.0 };
    assert_eq!(
        Order::deterministic(&method),
        Order::Deterministic { group: 8 }
    );
}
