//! Samplers: whether models help, stay in their space, and what other programs may answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex};

use optwasm_tune::{
    Ask, Domain, ExternalSampler, Method, Outcome, Parameter, Sampler, SamplerError, Search,
    Settings, Space, TpeSampler, TpeSettings, Trial, Value,
};

use crate::support::{
    Workers, asked, deterministic, floats, hyperband, moving_rosenbrock, number, random, run,
    thirteen,
};

const SEEDS: u64 = 20;

fn tpe(random_share: f64) -> Box<dyn Sampler + Send> {
    Box::new(TpeSampler::new(TpeSettings {
        random_share,
        ..TpeSettings::default()
    }))
}

/// The mean over seeds of the logarithm of the best loss at the greatest budget.
fn mean_log_loss(
    settings: &Settings,
    sampler: fn() -> Box<dyn Sampler + Send>,
    objective: impl Fn(&Trial) -> Outcome,
) -> f64 {
    let best = (0..SEEDS).map(|seed| {
        let settings = Settings {
            seed,
            ..settings.clone()
        };
        let (search, _) = run(settings, sampler(), &objective);
        search.incumbents().last().unwrap().loss.ln()
    });
    best.sum::<f64>() / SEEDS as f64
}

/// Mixed parameters, one of which exists under a condition. The least loss is 0.
fn mixed() -> (Space, fn(&Trial) -> Outcome) {
    let text = r#"
        [parameters.rate]
        type = "float"
        low = 1e-6
        high = 1.0
        log = true
        [parameters.layers]
        type = "int"
        low = 1
        high = 64
        log = true
        [parameters.kind]
        type = "categorical"
        values = ["a", "b", "c", "d"]
        [parameters.size]
        type = "ordinal"
        values = [16, 32, 64, 128, 256]
        [parameters.momentum]
        type = "float"
        low = 0.0
        high = 1.0
        when = { kind = ["b", "c"] }
        [parameters.version]
        type = "constant"
        value = 3
    "#;
    fn objective(trial: &Trial) -> Outcome {
        let config = &trial.config;
        let int = |name| match config.get(name) {
            Some(Value::Int(int)) => *int as f64,
            other => panic!("{name} is {other:?}"),
        };
        assert_eq!(int("version"), 3.0);
        let mut loss = (number(config, "rate").log10() + 3.0).powi(2);
        loss += (int("layers") / 8.0).log2().powi(2);
        loss += (int("size") / 64.0).log2().powi(2);
        let is_b = config.get("kind") == Some(&Value::from("b"));
        loss += if is_b { 0.0 } else { 1.0 };
        if let Some(Value::Float(momentum)) = config.get("momentum") {
            loss += 4.0 * (momentum - 0.9).powi(2);
        }
        Outcome::Loss(loss)
    }
    (Space::from_toml(text).unwrap(), objective)
}

#[test]
fn tpe_beats_random_search() {
    let space = floats(&["x0", "x1"], -5.0, 10.0);
    let settings = Settings::new(space, Method::Plain { budget: 100.0 }, 150);
    let chance = mean_log_loss(&settings, random, moving_rosenbrock);
    let model = mean_log_loss(&settings, || tpe(0.0), moving_rosenbrock);
    println!("Rosenbrock, mean ln loss: random {chance:.3}, TPE {model:.3}");
    assert!(model < chance - 0.5, "{model} {chance}");

    let (space, objective) = mixed();
    let settings = Settings::new(space, Method::Plain { budget: 1.0 }, 100);
    let chance = mean_log_loss(&settings, random, objective);
    let model = mean_log_loss(&settings, || tpe(0.0), objective);
    println!("mixed parameters, mean ln loss: random {chance:.3}, TPE {model:.3}");
    assert!(model < chance - 0.5, "{model} {chance}");
}

#[test]
fn bohb_beats_hyperband() {
    let space = floats(&["x0", "x1"], -5.0, 10.0);
    let settings = Settings::new(space, hyperband(25.0, 100.0, 2), 50);
    let chance = mean_log_loss(&settings, random, moving_rosenbrock);
    let model = mean_log_loss(
        &settings,
        || Box::new(TpeSampler::default()),
        moving_rosenbrock,
    );
    println!("moving Rosenbrock, mean ln loss: Hyperband {chance:.3}, BOHB {model:.3}");
    assert!(model < chance - 0.3, "{model} {chance}");

    let (space, objective) = mixed();
    let settings = Settings::new(space, hyperband(1.0, 9.0, 3), 20);
    // Small budgets are noisy.
    let noisy = |trial: &Trial| match objective(trial) {
        Outcome::Loss(loss) => {
            let noise = (trial.seed % 1000) as f64 / 1000.0;
            Outcome::Loss(loss + noise / trial.budget.powi(2))
        }
        crashed => crashed,
    };
    let chance = mean_log_loss(&settings, random, noisy);
    let model = mean_log_loss(&settings, || Box::new(TpeSampler::default()), noisy);
    println!("noisy mixed parameters, mean ln loss: Hyperband {chance:.3}, BOHB {model:.3}");
    assert!(model < chance, "{model} {chance}");
}

#[test]
fn models_stay_in_the_space_and_learn_from_crashes() {
    let (space, _) = mixed();
    let settings = Settings::new(space.clone(), Method::Plain { budget: 1.0 }, 200);
    // Crashes wherever the rate is large, and does not care otherwise.
    let is_large = |trial: &Trial| number(&trial.config, "rate") > 1e-3;
    let (_, entries) = run(settings, tpe(0.0), |trial| {
        if is_large(trial) {
            Outcome::Crashed("diverged".to_owned())
        } else {
            Outcome::Loss(1.0)
        }
    });
    let trials = asked(&entries);
    for trial in &trials {
        assert_eq!(space.accept(&trial.config).unwrap(), trial.config);
    }
    let crashes = trials
        .iter()
        .skip(100)
        .filter(|trial| is_large(trial))
        .count();
    // At random it would be 50.
    assert!(crashes < 30, "{crashes} of the last 100 crashed");
}

#[test]
fn the_random_share_is_kept() {
    // With all losses equal but for the half they lie in, only random draws fall into the worse half
    // for long.
    let settings = Settings::new(floats(&["x"], 0.0, 1.0), Method::Plain { budget: 1.0 }, 600);
    let worse = |share| {
        let (_, entries) = run(settings.clone(), tpe(share), |trial| {
            Outcome::Loss((number(&trial.config, "x") - 0.1).abs())
        });
        let trials = asked(&entries);
        let late = trials.iter().skip(100);
        late.filter(|trial| number(&trial.config, "x") > 0.5)
            .count() as f64
            / 500.0
    };
    let (none, third, all) = (worse(0.0), worse(1.0 / 3.0), worse(1.0));
    assert!(none < 0.05, "{none}");
    assert!((third - 1.0 / 6.0).abs() < 0.06, "{third}");
    assert!((all - 0.5).abs() < 0.07, "{all}");
}

#[test]
fn random_draws_are_even_on_their_scale() {
    let (space, _) = mixed();
    let settings = Settings::new(space, Method::Plain { budget: 1.0 }, 4000);
    let (_, entries) = run(settings, random(), |_| Outcome::Loss(0.0));
    let trials = asked(&entries);
    let share = |holds: &dyn Fn(&Trial) -> bool| {
        trials.iter().filter(|trial| holds(trial)).count() as f64 / trials.len() as f64
    };
    let has = |name: &'static str, value: Value| {
        move |trial: &Trial| trial.config.get(name) == Some(&value)
    };
    // Expected shares; the tolerance is over four standard deviations of 4000 draws.
    assert!((share(&|trial| number(&trial.config, "rate") < 1e-3) - 0.5).abs() < 0.035);
    assert!((share(&has("kind", "d".into())) - 0.25).abs() < 0.03);
    assert!((share(&has("size", 256.into())) - 0.2).abs() < 0.03);
    assert!((share(&|trial| trial.config.contains_key("momentum")) - 0.5).abs() < 0.035);
    // ln(1.5 / 0.5) / ln(64.5 / 0.5)
    assert!((share(&has("layers", 1.into())) - 0.226).abs() < 0.03);
}

/// What a program answers, line by line, and what it was asked.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn messages(&self) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().unwrap();
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

fn external(answers: impl Read + Send + 'static) -> (Box<dyn Sampler + Send>, Written) {
    let written = Written::default();
    let sampler = ExternalSampler::new("mine", BufReader::new(answers), written.clone());
    (Box::new(sampler), written)
}

#[test]
fn an_external_program_is_told_and_asked_in_lines() {
    let answers: String = (0..9)
        .map(|k| format!("{{\"config\":{{\"x\":0.{}}}}}\n", k + 1))
        .collect();
    let (sampler, written) = external(std::io::Cursor::new(answers.into_bytes()));
    let (search, entries) = run(thirteen(), sampler, crate::support::parabola);
    assert_eq!(search.progress().told, 13);
    let trials = asked(&entries);
    assert_eq!(number(&trials[3].config, "x"), 0.4);
    let messages = written.messages();
    let kinds: Vec<&str> = messages
        .iter()
        .map(|message| message["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds[..6], ["start", "ask", "tell", "ask", "tell", "ask"]);
    assert_eq!(kinds.iter().filter(|kind| **kind == "ask").count(), 9);
    // Those after the last question are told to nobody.
    assert_eq!(kinds.iter().filter(|kind| **kind == "tell").count(), 12);
    assert_eq!(messages[0]["space"]["parameters"]["x"]["type"], "float");
    let seed = trials[0].seed;
    let question =
        serde_json::json!({"type": "ask", "id": [0, 0, 0], "budget": 25.0, "seed": seed});
    assert_eq!(messages[1], question);
    assert_eq!(messages[2]["config"]["x"], 0.1);
    assert_eq!(messages[2]["budget"], 25.0);
}

#[test]
fn an_external_program_in_the_deterministic_order_is_told_in_order() {
    let messages = |at_once| {
        let answers = "{\"config\":{\"x\":0.5}}\n".repeat(9);
        let (sampler, written) = external(std::io::Cursor::new(answers.into_bytes()));
        let settings = deterministic(thirteen(), 1);
        let mut search = Search::new(settings, sampler).unwrap();
        Workers::new(at_once, at_once as u64).run(&mut search, crate::support::parabola);
        written.messages()
    };
    assert_eq!(messages(1), messages(7));
}

#[test]
fn an_external_programs_numbers_take_the_kind_of_their_parameter() {
    let answer = "{\"config\":{\"x\":1}}\n";
    let (sampler, _) = external(answer.as_bytes());
    let mut search = Search::new(thirteen(), sampler).unwrap();
    let Ask::Evaluate(trial) = search.ask(0.0).unwrap() else {
        panic!("nothing to do");
    };
    assert_eq!(trial.config.get("x"), Some(&Value::Float(1.0)));
}

#[test]
fn what_is_wrong_with_an_answer_is_said() {
    let error = |answer: &'static [u8]| {
        let (sampler, _) = external(answer);
        let mut search = Search::new(thirteen(), sampler).unwrap();
        let error = search.ask(0.0).unwrap_err();
        assert_eq!(search.progress().asked, 0);
        assert!(search.ask(0.0).is_err(), "nothing more is answered");
        error
    };
    let text = |answer| error(answer).to_string();
    assert!(matches!(error(b""), SamplerError::Closed(_)));
    assert!(text(b"hello\n").contains("malformed"));
    assert!(text(b"hello\n").contains("it was: hello"));
    assert!(text(b"{\"config\":{\"x\":[1]}}\n").contains("malformed"));
    assert!(text(b"{\"confg\":{\"x\":1}}\n").contains("confg"));
    assert!(text(b"{\"config\":{\"x\":0.5}}").contains("no end of line"));
    assert!(text(b"\xff\xfe\n").contains("malformed"));
    let refused = text(b"{\"error\":\"tired\"}\n");
    assert_eq!(refused, "the sampler has no configuration for 0.0.0: tired");
    let outside = text(b"{\"config\":{\"x\":1.5}}\n");
    assert!(
        outside.contains("`x` cannot be 1.5: it is a number from 0.0 to 1.0"),
        "{outside}"
    );
    assert!(text(b"{\"config\":{}}\n").contains("`x` is missing"));
    let unknown = text(b"{\"config\":{\"x\":0.5,\"y\":1}}\n");
    assert!(unknown.contains("unknown parameter `y`"), "{unknown}");
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let (sampler, _) = external(std::io::repeat(b'x'));
    let mut search = Search::new(thirteen(), sampler).unwrap();
    let error = search.ask(0.0).unwrap_err();
    assert!(matches!(error, SamplerError::Malformed { .. }));
    assert!(error.to_string().len() < 1000);
}

#[test]
fn a_program_that_fails_once_can_be_asked_again() {
    struct Flaky(std::io::Cursor<&'static [u8]>, bool);
    impl Read for Flaky {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if std::mem::take(&mut self.1) {
                return Err(std::io::Error::other("broken pipe"));
            }
            self.0.read(buffer)
        }
    }
    let answers = std::io::Cursor::new(&b"{\"config\":{\"x\":0.5}}\n"[..]);
    let (sampler, _) = external(Flaky(answers, true));
    let mut search = Search::new(thirteen(), sampler).unwrap();
    let error = search.ask(0.0).unwrap_err();
    assert!(error.to_string().contains("broken pipe"), "{error}");
    assert!(matches!(search.ask(0.0).unwrap(), Ask::Evaluate(_)));
}

#[test]
fn a_space_of_constants_can_be_searched() {
    let constant = Parameter::new(Domain::Constant { value: 1.into() });
    let space = Space::new([("c".to_owned(), constant)].into()).unwrap();
    let settings = Settings::new(space, Method::Plain { budget: 1.0 }, 20);
    let (search, _) = run(settings, tpe(0.0), |_| Outcome::Loss(1.0));
    assert_eq!(search.progress().told, 20);
}

#[test]
fn a_program_is_a_sampler_too() {
    // The shortest optimizer there is: it answers every question alike.
    let mut child = std::process::Command::new("sh")
        .arg("-c")
        .arg(r#"while read -r line; do case "$line" in *'"type":"ask"'*) echo '{"config":{"x":0.25}}';; esac; done"#)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let answers: Box<dyn BufRead + Send> = Box::new(BufReader::new(child.stdout.take().unwrap()));
    let questions = child.stdin.take().unwrap();
    let sampler = Box::new(ExternalSampler::new("sh", answers, questions));
    let (search, _) = run(thirteen(), sampler, crate::support::parabola);
    assert_eq!(search.progress().told, 13);
    drop(search);
    assert!(child.wait().unwrap().success());
}
