//! Journals: cut, damaged, of another search; results of earlier searches.

use std::collections::BTreeSet;

use optwasm_tune::{
    Entry, Header, JournalError, Method, Order, ResumeError, Sampler, Search, Settings,
    SettingsError, TpeSampler, TpeSettings, TrialId, read_known, read_results,
};
use proptest::prelude::*;

use crate::support::{
    Workers, asked, deterministic, floats, hyperband, lines, moving_rosenbrock, parabola, random,
    run, thirteen, told,
};

fn settings(order: Order, seed: u64) -> Settings {
    let space = floats(&["x0", "x1"], -5.0, 10.0);
    let mut settings = Settings::new(space, hyperband(25.0, 100.0, 2), 6);
    settings.order = order;
    settings.seed = seed;
    settings
}

fn tpe() -> Box<dyn Sampler + Send> {
    Box::new(TpeSampler::default())
}

/// Identity and budget of each result, each once.
fn evaluated(journal: &str) -> BTreeSet<(TrialId, u64)> {
    let records = read_results(journal.as_bytes()).unwrap();
    let keys: BTreeSet<_> = records
        .iter()
        .map(|record| (record.id, record.budget.to_bits()))
        .collect();
    assert_eq!(keys.len(), records.len(), "something was evaluated twice");
    keys
}

fn resumed(settings: Settings, sampler: Box<dyn Sampler + Send>, journal: &[u8]) -> ResumeError {
    match Search::resume(settings, sampler, journal) {
        Ok(_) => panic!("it was continued"),
        Err(error) => error,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_journal_cut_anywhere_is_continued(
        seed in 0..1000_u64,
        at_once in 1..8_usize,
        group in 0..4_u32,
        cut in 0.0..1.0_f64,
        with_known: bool,
    ) {
        let order = match group {
            0 => Order::Asynchronous,
            group => Order::Deterministic { group },
        };
        let mut settings = settings(order, seed);
        if with_known {
            let (_, entries) = run(settings.clone(), random(), moving_rosenbrock);
            settings.known = told(&entries);
        }
        let mut workers = Workers::new(at_once, seed);
        let mut search = Search::new(settings.clone(), tpe()).unwrap();
        let whole = lines(&workers.run(&mut search, moving_rosenbrock));

        let mut journal = whole.clone().into_bytes();
        journal.truncate((cut * whole.len() as f64) as usize);
        let before = read_results(&journal).unwrap();
        let resumed = Search::resume(settings, tpe(), &journal).unwrap();
        journal.truncate(resumed.valid);
        let mut search = resumed.search;
        let rest = workers.run(&mut search, moving_rosenbrock);
        let mut continued = String::from_utf8(journal).unwrap();
        continued.push_str(&lines(&rest));

        prop_assert_eq!(evaluated(&continued).len(), 26);
        prop_assert_eq!(search.progress().told, 26);
        let after = read_results(continued.as_bytes()).unwrap();
        // A line that is whole but for its end is told again, with the same result.
        prop_assert_eq!(after.get(..before.len().saturating_sub(1)),
                        before.get(..before.len().saturating_sub(1)));
        if order != Order::Asynchronous {
            let whole: Vec<Entry> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let continued: Vec<Entry> = continued.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            prop_assert_eq!(asked(&continued), asked(&whole));
        }
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic(
        bytes: Vec<u8>,
        changes: Vec<(prop::sample::Index, u8)>,
    ) {
        let _ = Search::resume(thirteen(), random(), &bytes);
        let _ = read_results(&bytes);
        let (_, entries) = run(thirteen(), random(), parabola);
        let mut journal = lines(&entries).into_bytes();
        for (place, byte) in changes.iter().take(3) {
            let place = place.index(journal.len());
            journal[place] = *byte;
        }
        let _ = Search::resume(thirteen(), random(), &journal);
        let _ = Search::resume(deterministic(thirteen(), u32::MAX), random(), &journal);
        let _ = read_results(&journal);
    }
}

#[test]
fn pending_evaluations_are_asked_for_again_first() {
    let (_, entries) = run(thirteen(), random(), parabola);
    let trials = asked(&entries);
    // The header, and three questions without an answer.
    let mut search = Search::new(thirteen(), random()).unwrap();
    for _ in 0..3 {
        search.ask(0.0).unwrap();
    }
    let journal = lines(&search.take_entries());
    let mut search = Search::resume(thirteen(), random(), journal.as_bytes())
        .unwrap()
        .search;
    assert!(search.take_entries().is_empty());
    for trial in trials.iter().take(4) {
        let again = search.ask(0.0).unwrap();
        assert_eq!(again, optwasm_tune::Ask::Evaluate(trial.clone()));
    }
    assert_eq!(
        asked(&search.take_entries()),
        trials[3..4],
        "only the fourth is new"
    );
}

#[test]
fn a_finished_journal_gives_the_incumbents_and_nothing_to_do() {
    let (search, entries) = run(thirteen(), random(), parabola);
    let again = Search::resume(thirteen(), random(), lines(&entries).as_bytes());
    let mut again = again.unwrap().search;
    assert_eq!(again.ask(0.0).unwrap(), optwasm_tune::Ask::Done);
    assert!(again.incumbents().eq(search.incumbents()));
    assert_eq!(again.progress(), search.progress());
    // With a higher limit it goes on where it ended.
    let mut more = thirteen();
    more.iterations = 6;
    let journal = lines(&entries);
    let mut more = Search::resume(more, random(), journal.as_bytes())
        .unwrap()
        .search;
    let rest = Workers::new(2, 0).run(&mut more, parabola);
    assert_eq!(told(&rest).len(), 13);
    assert_eq!(asked(&rest)[0].id, [3, 0, 0].into());
}

type Change<'a> = &'a dyn Fn(&mut Vec<String>);

#[test]
fn damage_is_an_error_that_names_the_line() {
    let (_, entries) = run(thirteen(), random(), parabola);
    let whole: Vec<String> = entries.iter().map(Entry::to_line).collect();
    let damaged = |change: Change| {
        let mut changed = whole.clone();
        change(&mut changed);
        let journal = changed.join("\n") + "\n";
        match resumed(thirteen(), random(), journal.as_bytes()) {
            ResumeError::Journal(JournalError::Damaged { line, why }) => (line, why),
            other => panic!("{other}"),
        }
    };
    let cases: [(Change, usize, &str); 8] = [
        (&|lines| lines[4].truncate(20), 5, "EOF"),
        (&|lines| lines[4].clear(), 5, "EOF"),
        (&|lines| _ = lines.remove(3), 4, "not being evaluated"),
        (&|lines| _ = lines.remove(4), 9, "turn"),
        (
            &|lines| lines.insert(5, lines[4].clone()),
            6,
            "not being evaluated",
        ),
        (&|lines| lines.swap(1, 3), 2, "turn"),
        (
            &|lines| lines.insert(2, lines[0].clone()),
            3,
            "second beginning",
        ),
        (&|lines| _ = lines.remove(0), 1, "not the first line"),
    ];
    for (change, expected, word) in cases {
        let (line, why) = damaged(change);
        assert_eq!(line, expected, "{why}");
        assert!(why.contains(word), "{why}");
    }
    let (line, why) = damaged(&|lines| {
        let mut json: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
        json["config"]["x"] = 7.0.into();
        lines[1] = json.to_string();
    });
    assert_eq!(
        (line, why.contains("`x` cannot be 7.0")),
        (2, true),
        "{why}"
    );
    let (line, why) = damaged(&|lines| lines[0] = lines[0].replace("\"format\":1", "\"format\":2"));
    assert_eq!((line, why.contains("format is 2")), (1, true), "{why}");
}

#[test]
fn a_journal_of_another_search_is_refused_with_what_differs() {
    let (_, entries) = run(thirteen(), random(), parabola);
    let journal = lines(&entries);
    let differences =
        |settings: Settings, sampler| match resumed(settings, sampler, journal.as_bytes()) {
            ResumeError::Journal(JournalError::Differs(differences)) => differences,
            other => panic!("{other}"),
        };
    let change = |change: fn(&mut Settings)| {
        let mut settings = thirteen();
        change(&mut settings);
        settings
    };
    let eta = change(|settings| settings.method = hyperband(25.0, 100.0, 4));
    let eta = differences(eta, random());
    assert_eq!(eta, ["method.eta is 2 in the journal and 4 now"]);
    let seed = differences(change(|settings| settings.seed = 9), random());
    assert_eq!(seed, ["seed is 0 in the journal and 9 now"]);
    let objective = change(|settings| settings.objective = Some("b3".to_owned()));
    let objective = differences(objective, random());
    assert_eq!(
        objective,
        ["objective is null in the journal and \"b3\" now"]
    );
    let space = change(|settings| settings.space = floats(&["x"], 0.0, 2.0));
    let space = differences(space, random());
    assert_eq!(
        space,
        ["space.parameters.x.high is 1.0 in the journal and 2.0 now"]
    );
    let more = change(|settings| settings.space = floats(&["x", "y"], 0.0, 1.0));
    let more = differences(more, random());
    assert_eq!(more, ["space.parameters.y is not in the journal"]);
    let sampler = differences(thirteen(), tpe());
    assert!(sampler[0].contains("sampler.name is \"random\" in the journal and \"tpe\" now"));
    let order = differences(deterministic(thirteen(), 2), random());
    assert!(order[0].starts_with("order.name is"), "{order:?}");
}

#[test]
fn known_results_teach_the_sampler_and_do_not_count() {
    let model = || -> Box<dyn Sampler + Send> {
        Box::new(TpeSampler::new(TpeSettings {
            random_share: 0.0,
            ..TpeSettings::default()
        }))
    };
    let method = Method::Plain { budget: 1.0 };
    let mut settings = Settings::new(floats(&["x"], 0.0, 1.0), method, 40);
    let near = |trials: &[optwasm_tune::Trial]| {
        let distances = trials
            .iter()
            .map(|trial| (crate::support::number(&trial.config, "x") - 0.3).abs());
        distances.sum::<f64>() / trials.len() as f64
    };
    let (_, first) = run(settings.clone(), random(), parabola);
    settings.seed = 1;
    settings.iterations = 20;
    let (_, without) = run(settings.clone(), random(), parabola);
    settings.known = read_results(lines(&first).as_bytes()).unwrap();
    assert_eq!(settings.known.len(), 40);
    let (search, with) = run(settings.clone(), model(), parabola);
    assert_eq!(search.progress().told, 20);
    assert!(near(&asked(&with)) < near(&asked(&without)) / 1.5);
    assert!(matches!(&with[0], Entry::Search(Header { known: 40, .. })));
    assert!(
        with[1..41]
            .iter()
            .all(|entry| matches!(entry, Entry::Known(_)))
    );

    // What the next search can learn from.
    let known = |text: &str| read_known(text.as_bytes()).unwrap().len();
    assert_eq!((known(&lines(&first)), known(&lines(&with))), (40, 60));
    assert_eq!(read_results(lines(&with).as_bytes()).unwrap().len(), 20);

    // When the journal is continued, its own known results count, whatever is given.
    settings.known.clear();
    let mut journal = lines(&with);
    journal.truncate(journal.len() / 2);
    let mut search = Search::resume(settings.clone(), model(), journal.as_bytes())
        .unwrap()
        .search;
    let rest = Workers::new(1, 0).run(&mut search, parabola);
    let trials = asked(&with);
    let rest = asked(&rest);
    assert!(!rest.is_empty());
    assert_eq!(rest, trials[trials.len() - rest.len()..]);

    let mut foreign = told(&first);
    foreign[2].config.insert("y".to_owned(), 1.0.into());
    settings.known = foreign;
    let error = Search::new(settings, model()).err().unwrap();
    assert!(matches!(error, SettingsError::Known { number: 3, .. }));
    assert!(
        error.to_string().contains("unknown parameter `y`"),
        "{error}"
    );
}

#[test]
fn results_are_read_from_other_files_too() {
    let text = "\n{\"id\":[0,0,0],\"config\":{\"x\":1},\"budget\":3,\"loss\":0.5}\n\
                {\"id\":[0,0,1],\"config\":{},\"budget\":3,\"loss\":null,\"extra\":1}";
    let records = read_results(text.as_bytes()).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!((records[0].loss, records[1].loss), (Some(0.5), None));
    let torn = read_results(&text.as_bytes()[..text.len() - 1]).unwrap();
    assert_eq!(torn.len(), 1);
    let asked = b"{\"event\":\"asked\",\"id\":[0,0,1],\"config\":{},\"budget\":3,\"seed\":1,\"submitted\":0}";
    assert_eq!(
        read_results(asked).unwrap(),
        [],
        "it is no result, also without an end"
    );
    let error = read_results(b"\n{\"id\":[0,0]}\n").unwrap_err();
    assert!(error.to_string().starts_with("line 2: "), "{error}");
    let error = read_results(b"{\"event\":\"shrugged\"}\n").unwrap_err();
    assert!(error.to_string().contains("shrugged"), "{error}");
}
