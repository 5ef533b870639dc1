//! What is evaluated, promoted, lost and counted.

use std::collections::BTreeSet;

use optwasm_tune::{
    Ask, Budgets, Method, Outcome, Record, Report, Search, Settings, TellError, Trial, TrialId,
};

use crate::support::{
    Workers, asked, floats, hyperband, moving_rosenbrock, parabola, per_budget, random, run,
    thirteen, told,
};

/// The identities that a method evaluates with a budget in an iteration.
fn ids(records: &[Record], iteration: u32, budget: f64) -> Vec<TrialId> {
    let mut ids: Vec<TrialId> = records
        .iter()
        .filter(|record| record.id.iteration == iteration && record.budget == budget)
        .map(|record| record.id)
        .collect();
    ids.sort();
    ids
}

fn lowest(records: &[Record], iteration: u32, budget: f64, count: usize) -> Vec<TrialId> {
    let mut losses: Vec<(f64, TrialId)> = records
        .iter()
        .filter(|record| record.id.iteration == iteration && record.budget == budget)
        .filter_map(|record| Some((record.loss?, record.id)))
        .collect();
    losses.sort_by(|one, other| one.partial_cmp(other).unwrap());
    let mut ids: Vec<TrialId> = losses.into_iter().take(count).map(|(_, id)| id).collect();
    ids.sort();
    ids
}

#[test]
fn case_28_thirteen_evaluations_and_the_lowest_go_on() {
    let (search, entries) = run(thirteen(), random(), parabola);
    let records = told(&entries);
    assert_eq!(per_budget(&records), [(25.0, 4), (50.0, 4), (100.0, 5)]);
    assert_eq!(
        ids(&records, 0, 25.0),
        [0, 1, 2, 3].map(|k| [0, 0, k].into())
    );
    assert_eq!(ids(&records, 0, 50.0), lowest(&records, 0, 25.0, 2));
    assert_eq!(ids(&records, 0, 100.0), lowest(&records, 0, 50.0, 1));
    assert_eq!(ids(&records, 1, 100.0), lowest(&records, 1, 50.0, 1));
    assert_eq!(ids(&records, 2, 100.0), [0, 1, 2].map(|k| [2, 0, k].into()));
    let progress = search.progress();
    assert_eq!(
        (progress.asked, progress.told, progress.planned),
        (13, 13, 13)
    );
    // A configuration keeps its parameters and its seed when it goes on.
    for record in &records {
        let first = records.iter().find(|other| other.id == record.id).unwrap();
        assert_eq!((&record.config, record.seed), (&first.config, first.seed));
    }
    let seeds: BTreeSet<u64> = records.iter().map(|record| record.seed).collect();
    assert_eq!(
        seeds.len(),
        9,
        "nine configurations, each with a seed of its own"
    );
    assert!(seeds.iter().all(|seed| *seed < 1 << 53));
}

#[test]
fn case_27_totals_of_the_older_systems() {
    let count = |method, iterations| {
        let settings = Settings::new(floats(&["x0", "x1"], -5.0, 10.0), method, iterations);
        let (search, entries) = run(settings, random(), moving_rosenbrock);
        assert_eq!(search.progress().planned, search.progress().told);
        told(&entries).len()
    };
    assert_eq!(count(hyperband(25.0, 100.0, 2), 50), 218);
    assert_eq!(count(hyperband(25.0, 100.0, 2), 30), 130);
    assert_eq!(count(hyperband(1.0 / 16.0, 1.0, 4), 3), 29);
    assert_eq!(count(hyperband(1.0 / 16.0, 1.0, 4), 5), 55);
    let halving = |iterations| {
        let (min, max, eta) = (1.0 / 16.0, 1.0, 4);
        count(
            Method::SuccessiveHalving(Budgets { min, max, eta }),
            iterations,
        )
    };
    assert_eq!([halving(1), halving(3), halving(5)], [21, 63, 105]);
    assert_eq!(count(Method::Plain { budget: 1.0 }, 17), 17);
}

#[test]
fn equal_losses_go_on_by_identity() {
    let (_, entries) = run(thirteen(), random(), |_| Outcome::Loss(1.0));
    let records = told(&entries);
    assert_eq!(ids(&records, 0, 50.0), [0, 1].map(|k| [0, 0, k].into()));
    assert_eq!(ids(&records, 0, 100.0), [[0, 0, 0].into()]);
}

#[test]
fn crashes_never_go_on_and_their_places_are_filled() {
    let bad = [
        Outcome::Crashed("trap".to_owned()),
        Outcome::Loss(f64::NAN),
        Outcome::Loss(f64::INFINITY),
        Outcome::Loss(f64::NEG_INFINITY),
    ];
    for outcome in bad {
        // In the first stage of the first bracket only the third survives.
        let objective = |trial: &Trial| match <[u32; 3]>::from(trial.id) {
            [0, 0, 0 | 1 | 3] => outcome.clone(),
            _ => parabola(trial),
        };
        let (search, entries) = run(thirteen(), random(), objective);
        let records = told(&entries);
        assert_eq!(per_budget(&records), [(25.0, 4), (50.0, 4), (100.0, 5)]);
        let second = [[0, 0, 2].into(), [0, 1, 1].into()];
        assert_eq!(ids(&records, 0, 50.0), second);
        assert_eq!(search.progress().crashed, 3);
        let crashed = records.iter().find(|record| record.loss.is_none()).unwrap();
        assert!(crashed.crashed.as_ref().is_some_and(|why| !why.is_empty()));
        assert!(search.incumbents().all(|best| best.loss.is_finite()));
    }
}

#[test]
fn a_search_in_which_everything_crashes_ends() {
    let (search, entries) = run(thirteen(), random(), |_| Outcome::Crashed("no".to_owned()));
    assert_eq!(
        per_budget(&told(&entries)),
        [(25.0, 4), (50.0, 4), (100.0, 5)]
    );
    assert_eq!(search.incumbents().count(), 0);
}

#[test]
fn a_lost_evaluation_is_asked_for_again_and_is_no_crash() {
    let mut search = Search::new(thirteen(), random()).unwrap();
    let Ask::Evaluate(first) = search.ask(1.0).unwrap() else {
        panic!("nothing to do");
    };
    search.lost(first.id, first.budget).unwrap();
    let Ask::Evaluate(again) = search.ask(2.0).unwrap() else {
        panic!("nothing to do");
    };
    let submitted = 2.0;
    assert_eq!(again, Trial { submitted, ..first });
    assert_eq!(
        asked(&search.take_entries()).len(),
        1,
        "it is written down once"
    );

    let mut workers = Workers::new(3, 5);
    workers.losses = 0.3;
    let mut search = Search::new(thirteen(), random()).unwrap();
    let records = told(&workers.run(&mut search, parabola));
    assert_eq!(per_budget(&records), [(25.0, 4), (50.0, 4), (100.0, 5)]);
    assert_eq!(search.progress().crashed, 0);
}

#[test]
fn the_first_report_counts_and_the_second_is_refused() {
    let mut search = Search::new(thirteen(), random()).unwrap();
    let Ask::Evaluate(trial) = search.ask(0.0).unwrap() else {
        panic!("nothing to do");
    };
    let report = || Report::new(parabola(&trial));
    let (id, budget) = (trial.id, trial.budget);
    // Given up for lost, but its result comes all the same.
    search.lost(id, budget).unwrap();
    search.tell(id, budget, report()).unwrap();
    assert_eq!(search.progress().in_flight, 0);
    let refused = TellError::NotPending { id, budget };
    assert_eq!(search.tell(id, budget, report()), Err(refused));
    assert_eq!(search.lost(id, budget), Err(refused));
    let Ask::Evaluate(next) = search.ask(0.0).unwrap() else {
        panic!("nothing to do");
    };
    assert_eq!(next.id, [0, 0, 1].into());
    let (id, budget) = (next.id, 50.0);
    assert_eq!(
        search.tell(id, budget, report()),
        Err(TellError::NotPending { id, budget })
    );
    let (id, budget) = ([9, 0, 0].into(), 25.0);
    assert_eq!(
        search.tell(id, budget, report()),
        Err(TellError::NotPending { id, budget })
    );
}

#[test]
fn nobody_waits_while_there_is_an_iteration_to_begin() {
    let mut settings = thirteen();
    settings.iterations = 100;
    let mut search = Search::new(settings, random()).unwrap();
    for _ in 0..200 {
        assert!(matches!(search.ask(0.0).unwrap(), Ask::Evaluate(_)));
    }
    let mut search = Search::new(thirteen(), random()).unwrap();
    let first: Vec<bool> = (0..10)
        .map(|_| matches!(search.ask(0.0).unwrap(), Ask::Evaluate(_)))
        .collect();
    // 4, 2 and 3 first evaluations in the three brackets.
    assert_eq!(first.iter().filter(|evaluate| **evaluate).count(), 9);
    assert_eq!(search.ask(0.0).unwrap(), Ask::Wait);
}

#[test]
fn a_limit_of_evaluations_ends_the_search_early() {
    let mut settings = thirteen();
    settings.evaluations = Some(6);
    let (search, entries) = run(settings, random(), parabola);
    assert_eq!(told(&entries).len(), 6);
    assert_eq!(search.progress().planned, 6);
}

#[test]
fn after_a_stop_only_what_is_in_flight_ends() {
    let mut search = Search::new(thirteen(), random()).unwrap();
    let mut trials = Vec::new();
    for _ in 0..3 {
        let Ask::Evaluate(trial) = search.ask(0.0).unwrap() else {
            panic!("nothing to do");
        };
        trials.push(trial);
    }
    search.stop();
    assert_eq!(search.ask(0.0).unwrap(), Ask::Wait);
    for trial in &trials[..2] {
        let report = Report::new(parabola(trial));
        search.tell(trial.id, trial.budget, report).unwrap();
    }
    assert_eq!(search.ask(0.0).unwrap(), Ask::Wait);
    search.lost(trials[2].id, trials[2].budget).unwrap();
    assert_eq!(search.ask(0.0).unwrap(), Ask::Done);
    assert_eq!(search.progress().told, 2);
}

#[test]
fn each_budget_has_its_incumbent() {
    let mut search = Search::new(thirteen(), random()).unwrap();
    let mut best: Vec<(f64, f64)> = Vec::new();
    while let Ask::Evaluate(trial) = search.ask(0.0).unwrap() {
        let Outcome::Loss(loss) = parabola(&trial) else {
            panic!("no loss");
        };
        let report = Report::new(Outcome::Loss(loss));
        let told = search.tell(trial.id, trial.budget, report).unwrap();
        let known = best.iter_mut().find(|(budget, _)| *budget == trial.budget);
        let is_better = known.as_ref().is_none_or(|(_, best)| loss < *best);
        assert_eq!(told.incumbent.is_some(), is_better);
        match known {
            Some((_, best)) => *best = best.min(loss),
            None => best.push((trial.budget, loss)),
        }
    }
    let incumbents: Vec<(f64, f64)> = search
        .incumbents()
        .map(|best| (best.budget, best.loss))
        .collect();
    assert_eq!(incumbents, best);
}

#[test]
fn of_equal_losses_the_first_identity_is_the_incumbent() {
    let mut search = Search::new(thirteen(), random()).unwrap();
    let mut trials = Vec::new();
    while let Ask::Evaluate(trial) = search.ask(0.0).unwrap() {
        trials.push(trial);
    }
    for trial in trials.iter().take(3).rev() {
        let report = Report::new(Outcome::Loss(1.0));
        search.tell(trial.id, trial.budget, report).unwrap();
    }
    let best: Vec<TrialId> = search.incumbents().map(|best| best.id).collect();
    assert_eq!(best, [[0, 0, 0].into()]);
}

#[test]
fn reports_are_written_down_as_they_are_told() {
    let mut search = Search::new(thirteen(), random()).unwrap();
    let Ask::Evaluate(trial) = search.ask(10.5).unwrap() else {
        panic!("nothing to do");
    };
    let report = Report {
        outcome: Outcome::Loss(0.25),
        info: serde_json::json!({"epochs": 3}),
        finished: 12.0,
        worker: Some("w1".to_owned()),
        fuel: Some(77),
    };
    let told = search.tell(trial.id, trial.budget, report).unwrap();
    let line = optwasm_tune::Entry::Told(told.record.clone()).to_line();
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    let expected = serde_json::json!({
        "event": "told", "id": [0, 0, 0], "config": trial.config, "budget": 25.0, "loss": 0.25,
        "info": {"epochs": 3}, "crashed": null, "seed": trial.seed, "submitted": 10.5,
        "finished": 12.0, "worker": "w1", "fuel": 77
    });
    assert_eq!(json, expected);
}
