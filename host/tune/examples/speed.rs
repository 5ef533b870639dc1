//! How long the search itself takes for ten thousand evaluations that take no time.

use std::error::Error;
use std::time::Instant;

use optwasm_tune::{
    Ask, Budgets, Entry, Method, Order, Outcome, RandomSampler, Report, Sampler, Search, Settings,
    Space, TpeSampler, Value,
};

const SPACE: &str = r#"
[parameters]
x = { type = "float", low = 0.0, high = 1.0 }
rate = { type = "float", low = 1e-6, high = 1.0, log = true }
layers = { type = "int", low = 1, high = 64 }
kind = { type = "categorical", values = ["a", "b", "c"] }
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let hyperband = Method::Hyperband(Budgets {
        min: 1.0,
        max: 81.0,
        eta: 3,
    });
    let plain = Method::Plain { budget: 1.0 };
    let group = Order::deterministic(&plain);
    let random = || -> Box<dyn Sampler + Send> { Box::new(RandomSampler) };
    let tpe = || -> Box<dyn Sampler + Send> { Box::new(TpeSampler::default()) };
    time(
        "Hyperband, random",
        hyperband.clone(),
        Order::Asynchronous,
        random(),
    )?;
    time(
        "Hyperband, TPE (BOHB)",
        hyperband,
        Order::Asynchronous,
        tpe(),
    )?;
    time(
        "plain, random",
        plain.clone(),
        Order::Asynchronous,
        random(),
    )?;
    time("plain, TPE", plain.clone(), Order::Asynchronous, tpe())?;
    time("plain, TPE, deterministic", plain, group, tpe())
}

fn time(
    name: &str,
    method: Method,
    order: Order,
    sampler: Box<dyn Sampler + Send>,
) -> Result<(), Box<dyn Error>> {
    let mut settings = Settings::new(Space::from_toml(SPACE)?, method, u32::MAX);
    settings.order = order;
    settings.evaluations = Some(10_000);
    let again = sampler.describe();
    let begin = Instant::now();
    let mut search = Search::new(settings, sampler)?;
    let mut journal = String::new();
    while let Ask::Evaluate(trial) = search.ask(0.0)? {
        let Some(Value::Float(x)) = trial.config.get("x") else {
            return Err("no x".into());
        };
        let report = Report::new(Outcome::Loss((x - 0.3).powi(2) + 1.0 / trial.budget));
        search.tell(trial.id, trial.budget, report)?;
        for line in search.take_entries().iter().map(Entry::to_line) {
            journal.push_str(&line);
            journal.push('\n');
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let (told, bytes) = (search.progress().told, journal.len());
    println!("{name}: {told} evaluations in {seconds:.3} s, {bytes} bytes of journal ({again})");
    Ok(())
}
