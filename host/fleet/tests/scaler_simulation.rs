//! The scaler against a model of a batch system that is late, loses and fails.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use optwasm_fleet::batch::scaler::{
    Config, Effect, Event, Failure, Id, Observation, Scaler, State, SubmitFailure,
};
use proptest::prelude::*;

/// A small generator, so that a run depends on its seed only: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

/// A job of the model, with the times of its life in seconds.
struct Job {
    /// When lists begin to show it.
    visible: u64,
    start: u64,
    /// When its worker joins; never, where it has a fault.
    join: u64,
    end: u64,
    drained: bool,
}

const GRACE: u64 = 60;

/// How bad the world is, in percent of commands or jobs.
#[derive(Clone, Copy, Debug)]
struct World {
    seed: u64,
    submit_fails: u64,
    submit_unanswered: u64,
    list_fails: u64,
    cancel_fails: u64,
    vanish: u64,
    never_joins: u64,
    min: u32,
    max: u32,
    per_submit: u32,
    stop_at: u64,
}

struct Model {
    world: World,
    dice: Dice,
    now: u64,
    jobs: BTreeMap<Id, Job>,
    next_id: u64,
    waiting: u64,
    /// Lists are empty for no reason in between, never for as long as the grace.
    lie: std::ops::Range<u64>,
    /// The answer that is on its way.
    answer: Option<(u64, Event)>,
    commands: u64,
    submissions: u64,
    ended: Option<Result<(), Failure>>,
}

impl Model {
    fn new(world: World) -> Self {
        Self {
            dice: Dice(world.seed),
            world,
            now: 0,
            jobs: BTreeMap::new(),
            next_id: 0,
            waiting: 0,
            lie: 0..0,
            answer: None,
            commands: 0,
            submissions: 0,
            ended: None,
        }
    }

    fn alive(&self) -> u32 {
        self.jobs.values().filter(|job| self.now < job.end).count() as u32
    }

    fn connected(&self, job: &Job) -> bool {
        self.now >= job.join && self.now < job.end
    }

    fn create(&mut self, visible_after: u64) -> Id {
        self.next_id += 1;
        let start = self.now + visible_after + self.dice.roll(300);
        let vanishes = self.dice.chance(self.world.vanish);
        let joins = !vanishes && !self.dice.chance(self.world.never_joins);
        let join = if joins {
            start + self.dice.roll(60)
        } else {
            u64::MAX
        };
        let end = if vanishes {
            start + self.dice.roll(20)
        } else {
            start + 100 + self.dice.roll(5000)
        };
        let job = Job {
            visible: self.now + visible_after,
            start,
            join,
            end,
            drained: false,
        };
        let id = self.next_id.to_string();
        self.jobs.insert(id.clone(), job);
        id
    }

    fn command(&mut self, effect: &Effect) -> Event {
        match effect {
            Effect::Submit(count) => {
                self.submissions += 1;
                if self.dice.chance(self.world.submit_fails) {
                    let failure = SubmitFailure {
                        why: "refused".into(),
                        unsure: false,
                    };
                    return Event::Submitted(Err(failure));
                }
                let unanswered = self.dice.chance(self.world.submit_unanswered);
                let lost = unanswered && self.dice.chance(50);
                // It may take effect late, but within the grace.
                let late = if unanswered { GRACE / 2 } else { 20 };
                let count = if lost { 0 } else { *count };
                let ids = (0..count).map(|_| {
                    let after = self.dice.roll(late);
                    self.create(after)
                });
                let ids: Vec<Id> = ids.collect();
                if unanswered {
                    let failure = SubmitFailure {
                        why: "no answer".into(),
                        unsure: true,
                    };
                    Event::Submitted(Err(failure))
                } else {
                    Event::Submitted(Ok(ids))
                }
            }
            Effect::List => {
                if self.dice.chance(self.world.list_fails) {
                    return Event::Listed(Err("no contact".into()));
                }
                if self.lie.contains(&self.now) {
                    return Event::Listed(Ok(Vec::new()));
                }
                let seen = self
                    .jobs
                    .iter()
                    .filter(|(_, job)| self.now >= job.visible && self.now < job.end);
                let list = seen.map(|(id, job)| {
                    let runs = self.now >= job.start;
                    (
                        id.clone(),
                        if runs { State::Running } else { State::Queued },
                    )
                });
                Event::Listed(Ok(list.collect()))
            }
            Effect::Cancel(ids) => {
                if self.dice.chance(self.world.cancel_fails) {
                    return Event::Cancelled(Err("no contact".into()));
                }
                let now = self.now;
                let mut unknown = false;
                for id in ids {
                    let job = self.jobs.get_mut(id).filter(|job| now < job.end);
                    match job {
                        Some(job) => job.end = now,
                        None => unknown = true,
                    }
                }
                let result = if unknown {
                    Err("invalid job id".into())
                } else {
                    Ok(())
                };
                Event::Cancelled(result)
            }
            other => panic!("{other:?}"),
        }
    }

    fn observe(&mut self) -> Event {
        if self.dice.chance(3) {
            return Event::Unobserved;
        }
        // The queue comes and goes.
        if self.dice.chance(2) {
            self.waiting = if self.dice.chance(50) {
                0
            } else {
                self.dice.roll(40)
            };
        }
        let waiting = self.waiting;
        let workers = self.jobs.iter().filter(|(_, job)| self.connected(job));
        let workers = workers.map(|(id, _)| (id.clone(), waiting == 0));
        Event::Observed(Observation {
            waiting,
            workers: workers.collect(),
        })
    }

    fn step(&mut self, scaler: &mut Scaler, event: Event) {
        let broken = scaler.broken().is_some();
        let mut effects = Vec::new();
        scaler.step(Duration::from_secs(self.now), event, &mut effects);
        for effect in effects {
            assert!(self.ended.is_none(), "{effect:?} after the end");
            match effect {
                Effect::Say(_) => {}
                Effect::Ended(result) => self.ended = Some(result),
                Effect::Drain(ids) => {
                    for id in ids {
                        if let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.drained) {
                            job.drained = true;
                            job.end = job.end.min(self.now + self.dice.roll(50));
                        }
                    }
                }
                command => {
                    assert!(self.answer.is_none(), "two commands at a time");
                    let submits = matches!(command, Effect::Submit(_));
                    assert!(!(broken && submits), "submitted while the breaker is open");
                    self.commands += 1;
                    let takes = 1 + self.dice.roll(10);
                    let answer = self.command(&command);
                    self.answer = Some((self.now + takes, answer));
                }
            }
        }
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let percent = || prop_oneof![Just(0u64), 0u64..30, Just(100)];
    (
        any::<u64>(),
        (percent(), 0u64..30, percent(), percent()),
        (percent(), 0u64..20),
        (0u32..4, 1u32..12, 1u32..8),
        1u64..20_000,
    )
        .prop_map(|(seed, commands, jobs, sizes, stop_at)| World {
            seed,
            submit_fails: commands.0,
            submit_unanswered: commands.1,
            list_fails: commands.2,
            cancel_fails: commands.3,
            vanish: jobs.0,
            never_joins: jobs.1,
            min: sizes.0,
            max: sizes.1,
            per_submit: sizes.2,
            stop_at,
        })
}

fn live(world: World) {
    let config = Config {
        min: world.min,
        max: world.max,
        per_submit: world.per_submit,
        vanish_grace: Duration::from_secs(GRACE),
        ..Config::default()
    };
    let mut scaler = Scaler::new(config);
    let mut model = Model::new(world);
    let limit = world.stop_at + 2000;
    let mut stopped = false;
    while model.ended.is_none() {
        assert!(model.now < limit, "it does not end");
        model.now += 1;
        if model.now >= model.lie.end + 200 && model.dice.chance(1) {
            model.lie = model.now..model.now + model.dice.roll(GRACE);
        }
        if model
            .answer
            .as_ref()
            .is_some_and(|(at, _)| *at <= model.now)
        {
            let (_, event) = model.answer.take().unwrap();
            model.step(&mut scaler, event);
        }
        if model.now >= world.stop_at && !stopped {
            stopped = true;
            model.step(&mut scaler, Event::Stop);
        } else if model.now.is_multiple_of(5) && !stopped {
            let event = model.observe();
            model.step(&mut scaler, event);
        } else {
            model.step(&mut scaler, Event::Tick);
        }
        assert!(
            model.alive() <= world.max,
            "{} are alive at {}",
            model.alive(),
            model.now
        );
    }
    // Everything is cancelled, or named.
    let ended = model.ended.take().unwrap();
    let left = match &ended {
        Err(Failure::Left { ids, .. }) => ids.clone(),
        _ => Vec::new(),
    };
    let unsure = matches!(&ended, Err(Failure::Left { .. }));
    let alive = model.jobs.iter().filter(|(_, job)| model.now < job.end);
    for (id, _) in alive {
        assert!(left.contains(id) || unsure, "{id} is left: {ended:?}");
        assert!(
            world.cancel_fails > 0 || world.list_fails > 0,
            "{id} is left without need"
        );
    }
    // Nothing costs more than one command every few seconds.
    assert!(
        model.commands <= 10 + model.now / 3,
        "{} commands in {} s",
        model.commands,
        model.now
    );
    assert!(
        model.submissions <= 2 + model.now / 6,
        "{} submissions",
        model.submissions
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_fleet_keeps_its_bounds_in_a_bad_world(world in worlds()) {
        live(world);
    }
}

/// In a good world it does what it is for: all waiting jobs find workers, and nothing is asked when
/// there is nothing to know.
#[test]
fn in_a_good_world_the_fleet_follows_the_queue() {
    let world = World {
        seed: 7,
        submit_fails: 0,
        submit_unanswered: 0,
        list_fails: 0,
        cancel_fails: 0,
        vanish: 0,
        never_joins: 0,
        min: 0,
        max: 6,
        per_submit: 6,
        stop_at: u64::MAX,
    };
    let config = Config {
        max: 6,
        per_submit: 6,
        ..Config::default()
    };
    let mut scaler = Scaler::new(config);
    let mut model = Model::new(world);
    let mut run = |until: u64, waiting: u64| {
        let commands = model.commands;
        let mut peak = 0;
        while model.now < until {
            model.now += 1;
            if model
                .answer
                .as_ref()
                .is_some_and(|(at, _)| *at <= model.now)
            {
                let (_, event) = model.answer.take().unwrap();
                model.step(&mut scaler, event);
            }
            if model.now.is_multiple_of(5) {
                let workers = model.jobs.iter().filter(|(_, job)| model.connected(job));
                let workers = workers.map(|(id, _)| (id.clone(), waiting == 0)).collect();
                model.step(
                    &mut scaler,
                    Event::Observed(Observation { waiting, workers }),
                );
            }
            peak = peak.max(scaler.connected());
        }
        (model.commands - commands, peak, model.alive())
    };
    assert_eq!(run(10_000, 0), (0, 0, 0), "idle from the start");
    let (commands, peak, _) = run(11_000, 3);
    assert!(
        (4..=7).contains(&peak),
        "{peak} workers for three jobs that wait on and on"
    );
    assert!(commands < 60, "{commands}");
    let (_, _, alive) = run(13_000, 0);
    assert_eq!(alive, 0, "all are given back");
    assert_eq!(run(100_000, 0), (0, 0, 0), "idle at the end");
}
