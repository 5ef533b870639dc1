//! A scaler that is led step by step.

use std::collections::BTreeMap;
use std::time::Duration;

use optwasm_fleet::batch::scaler::{
    Config, Effect, Event, Observation, Scaler, State, SubmitFailure,
};

/// A scaler and a clock, in seconds.
pub struct Bench {
    pub scaler: Scaler,
    pub now: u64,
    pub said: Vec<String>,
}

impl Bench {
    pub fn new(config: Config) -> Self {
        Self {
            scaler: Scaler::new(config),
            now: 0,
            said: Vec::new(),
        }
    }

    /// The effects of an event, without what is said.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.scaler
            .step(Duration::from_secs(self.now), event, &mut effects);
        let said = effects.iter().filter_map(|effect| match effect {
            Effect::Say(text) => Some(text.clone()),
            _ => None,
        });
        self.said.extend(said);
        effects.retain(|effect| !matches!(effect, Effect::Say(_)));
        effects
    }

    pub fn at(&mut self, now: u64, event: Event) -> Vec<Effect> {
        assert!(now >= self.now);
        self.now = now;
        self.step(event)
    }

    /// All effects of ticks every second up to then, with their times.
    pub fn until(&mut self, end: u64) -> Vec<(u64, Effect)> {
        let mut all = Vec::new();
        while self.now < end {
            self.now += 1;
            all.extend(
                self.step(Event::Tick)
                    .into_iter()
                    .map(|effect| (self.now, effect)),
            );
        }
        all
    }

    /// With an empty list at the start, so that submitting can begin.
    pub fn surveyed(config: Config, waiting: u64) -> Self {
        let mut bench = Self::new(config);
        assert_eq!(bench.step(seen(waiting, &[])), [Effect::List]);
        bench
    }
}

pub fn seen(waiting: u64, workers: &[(&str, bool)]) -> Event {
    let workers: BTreeMap<_, _> = workers
        .iter()
        .map(|(id, idle)| ((*id).into(), *idle))
        .collect();
    Event::Observed(Observation { waiting, workers })
}

pub fn list(jobs: &[(&str, State)]) -> Event {
    Event::Listed(Ok(jobs
        .iter()
        .map(|(id, state)| ((*id).into(), *state))
        .collect()))
}

pub fn submitted(ids: &[&str]) -> Event {
    Event::Submitted(Ok(strings(ids)))
}

pub fn failed(why: &str, unsure: bool) -> Event {
    Event::Submitted(Err(SubmitFailure {
        why: why.into(),
        unsure,
    }))
}

pub fn strings(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

pub fn config(min: u32, max: u32) -> Config {
    Config {
        min,
        max,
        per_submit: max,
        ..Config::default()
    }
}
