//! Everybody may be killed at any moment: what was acknowledged is done once, as if nothing had been.
//!
//! Each run has a seed, which decides who is killed when. What that meets is decided by the machine,
//! so a seed that failed may have to be run more than once: `OPTWASM_CHAOS_SEED=N` runs that seed
//! first, `OPTWASM_CHAOS_RUNS=N` so many.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use optwasm_tests::cluster::{PATIENCE, Place, Process, own_address};
use optwasm_tests::random::Random;
use serde_json::Value;

use crate::{guest, place};

/// Runs, unless the environment says otherwise.
const RUNS: u64 = 50;

/// Runs at once: most of their time is spent waiting for leases to end.
const AT_ONCE: usize = 6;

/// When the last kill of a run begins. Shorter than the lease: a job that was lost runs again when
/// nobody is killed any more, so that none can lose three workers.
const CHAOS: Duration = Duration::from_millis(900);
const LEASE: &str = "1s";

/// A batch.
struct Work {
    name: &'static str,
    guest: String,
    args: &'static [&'static str],
    input: String,
    jobs: usize,
}

fn lines(jobs: usize, line: impl Fn(usize) -> String) -> String {
    (0..jobs).map(|index| line(index) + "\n").collect()
}

fn works() -> Vec<Work> {
    let work = |name, guest_name, args, input: String| Work {
        name,
        guest: guest(guest_name),
        args,
        jobs: input.lines().count(),
        input,
    };
    vec![
        work(
            "spins",
            "spin",
            &["--jsonl"],
            lines(20, |i| (5 + i).to_string()),
        ),
        // Some are the same, but each is to run.
        work(
            "twins",
            "spin",
            &["--jsonl", "--memo", "off"],
            lines(20, |i| (6 + i / 2).to_string()),
        ),
        work(
            "sums",
            "sum",
            &["--jsonl"],
            lines(60, |i| format!("[{i}, 0.5, {}]", i % 7)),
        ),
        work(
            "echoes",
            "echo",
            &["--each-line"],
            lines(60, |i| format!("line {}", i % 40)),
        ),
        work(
            "errors",
            "errors",
            &["--jsonl"],
            lines(12, |i| format!("\"code:{}\"", 1 + i)),
        ),
        work(
            "starving",
            "spin",
            &["--jsonl", "--fuel", "30M"],
            lines(12, |i| (if i % 2 == 0 { 1 } else { 20 + i }).to_string()),
        ),
    ]
}

/// What must be the same however a job came to its result.
fn essence(result: &Value) -> Value {
    let fields = ["index", "outcome", "output", "error", "fuel"];
    fields.map(|name| result[name].clone()).to_vec().into()
}

fn essences(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| essence(&serde_json::from_str(line).unwrap()))
        .collect()
}

/// What each batch comes to when nobody is killed.
fn undisturbed(works: &[Work], cache: &Path) -> Vec<Vec<Value>> {
    let place = place().with_cache(cache);
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("undisturbed", &[]);
    let results = works.iter().map(|work| {
        let args = ["run", &work.guest, "--output", "jsonl"];
        let ran = place.run_on(args.iter().chain(work.args), work.input.as_bytes());
        let results = essences(&ran.stdout());
        assert_eq!(results.len(), work.jobs, "{}", ran.stderr());
        results
    });
    results.collect()
}

/// A user who wants the results of one batch, and repeats what was interrupted.
struct Client<'a> {
    work: &'a Work,
    step: Step,
    process: Process,
    /// When the command that runs is killed.
    dies: Option<Instant>,
    lives: u32,
}

#[derive(Clone)]
enum Step {
    Submit,
    Wait(u64),
    Read(u64),
    Done(u64, Vec<Value>),
}

impl<'a> Client<'a> {
    fn new(place: &Place, work: &'a Work, random: &mut Random) -> Self {
        let mut client = Self {
            work,
            step: Step::Submit,
            process: start(place, work, &Step::Submit),
            dies: None,
            lives: 0,
        };
        client.draw_lot(random);
        client
    }

    /// Decides whether the command that was just started is killed, and when.
    fn draw_lot(&mut self, random: &mut Random) {
        self.lives += 1;
        let dies = self.lives <= 4 && random.below(3) == 0;
        self.dies = dies.then(|| Instant::now() + Duration::from_millis(random.below(200)));
    }

    fn look(&mut self, place: &Place, random: &mut Random) {
        if self.is_done() {
            return;
        }
        let is_late = self.dies.is_some_and(|dies| Instant::now() >= dies);
        let ended = self.process.ended().map(|status| status.code());
        let log = self.process.log();
        self.step = match (&self.step, ended) {
            (_, None) if !is_late => return,
            // It is killed now, or found no coordinator.
            (step, None | Some(Some(4))) => step.clone(),
            (Step::Submit, Some(Some(0))) => {
                let printed: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
                let batch = printed["batch"].as_u64().unwrap();
                match random.below(2) {
                    0 => Step::Wait(batch),
                    _ => Step::Read(batch),
                }
            }
            (Step::Wait(batch), Some(Some(0 | 1))) => Step::Read(*batch),
            (Step::Read(batch), Some(Some(0 | 1))) => Step::Done(*batch, essences(&log)),
            (_, Some(code)) => panic!("{} ended with {code:?}: {log}", self.work.name),
        };
        if !self.is_done() {
            // What ran is killed when it is dropped.
            self.process = start(place, self.work, &self.step);
            self.draw_lot(random);
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.step, Step::Done(..))
    }
}

/// Starts the command for a step.
fn start(place: &Place, work: &Work, step: &Step) -> Process {
    match step {
        Step::Submit => {
            let input = place.path().join(work.name).display().to_string();
            let args = ["submit", &work.guest, &input, "--output", "json"];
            let key = ["--id", work.name, "--name", work.name];
            place.start(args.iter().chain(work.args).chain(&key))
        }
        Step::Wait(batch) => place.start(["wait", &batch.to_string()]),
        Step::Read(batch) | Step::Done(batch, _) => {
            let batch = batch.to_string();
            place.start(["results", &batch, "--follow", "--output", "jsonl"])
        }
    }
}

/// Whom a kill hits.
#[derive(Clone, Copy)]
enum Victim {
    Coordinator,
    /// Again while it starts.
    CoordinatorTwice,
    Worker(usize),
}

fn kills(random: &mut Random, workers: usize) -> Vec<(Duration, Victim)> {
    let mut victims = Vec::new();
    for _ in 0..random.below(3) {
        victims.push(Victim::Coordinator);
    }
    if random.below(4) == 0 {
        victims.push(Victim::CoordinatorTwice);
    }
    // A worker that was killed costs time: its lease has to end.
    if random.below(2) == 0 {
        for _ in 0..1 + random.below(2) {
            victims.push(Victim::Worker(random.below(workers as u64) as usize));
        }
    }
    let mut kills: Vec<(Duration, Victim)> = victims
        .into_iter()
        .map(|victim| (CHAOS * random.below(1000) as u32 / 1000, victim))
        .collect();
    kills.sort_by_key(|(at, _)| *at);
    kills
}

fn run(seed: u64, works: &[Work], expected: &[Vec<Value>], cache: &Path) {
    let mut random = Random::new(seed);
    let place = place().with_cache(cache);
    for work in works {
        place.file(work.name, &work.input);
    }
    let address = own_address();
    let coordinate = || place.coordinator_at(&address, &["--lease", LEASE]);
    let mut coordinator = Some(coordinate());
    let mut workers: Vec<Process> = (0..2 + random.below(2))
        .map(|number| place.worker(&format!("w{number}"), &[]))
        .collect();
    let mut kills = kills(&mut random, workers.len()).into_iter().peekable();

    let begun = Instant::now();
    let mut chosen: Vec<usize> = (0..works.len()).collect();
    while chosen.len() > 4 {
        chosen.remove(random.below(chosen.len() as u64) as usize);
    }
    let mut clients: Vec<Client> = chosen
        .iter()
        .map(|work| Client::new(&place, &works[*work], &mut random))
        .collect();
    while kills.peek().is_some() || !clients.iter().all(Client::is_done) {
        if let Some((_, victim)) = kills.next_if(|(at, _)| begun.elapsed() >= *at) {
            if let Victim::Worker(number) = victim {
                let args = ["worker", "--slots", "1", "--name", &format!("w{number}")];
                // The coordinator is there: it is started before anything else happens.
                workers[number] = place.start(args);
            } else {
                drop(coordinator.take());
                if let Victim::CoordinatorTwice = victim {
                    let starting = place.start(["coordinator", "--listen", &address]);
                    std::thread::sleep(Duration::from_millis(random.below(100)));
                    drop(starting);
                }
                coordinator = Some(coordinate());
            }
        }
        for client in &mut clients {
            client.look(&place, &mut random);
        }
        if begun.elapsed() > PATIENCE {
            let logs: Vec<String> = workers.iter().map(Process::log).collect();
            let log = coordinator.map_or_else(String::new, |process| process.log());
            let jobs = place.run(["jobs"]).stdout();
            panic!("no end in sight.\n{jobs}\n{log}\n{}", logs.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }

    // No batch twice, each done.
    let listed = place.run(["jobs", "--output", "json"]).json();
    let listed = listed["batches"].as_array().unwrap();
    assert_eq!(listed.len(), clients.len(), "{listed:#?}");
    for (client, chosen) in clients.iter().zip(chosen) {
        let Step::Done(batch, read) = &client.step else {
            panic!("it is done");
        };
        let name = client.work.name;
        let status = listed.iter().find(|status| status["batch"] == *batch);
        let status = status.unwrap_or_else(|| panic!("{name} was acknowledged as batch {batch}"));
        assert_eq!(status["name"], name);
        assert_eq!(status["done"], client.work.jobs, "{status}");
        // What was read through all of it, and what is kept.
        assert_eq!(read, &expected[chosen], "{name}, read");
        let kept = place.run(["results", &batch.to_string(), "--output", "jsonl"]);
        assert_eq!(essences(&kept.stdout()), expected[chosen], "{name}, kept");
    }
    drop(coordinator);
    let checked = place.run(["coordinator", "check"]).ok();
    assert!(checked.contains("all is well"), "{checked}");
}

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().unwrap())
}

#[test]
fn whoever_is_killed_results_are_those_of_an_undisturbed_run() {
    let cache = tempfile::tempdir().unwrap();
    let works = works();
    let expected = undisturbed(&works, cache.path());
    let first = setting("OPTWASM_CHAOS_SEED", 1);
    let runs = setting("OPTWASM_CHAOS_RUNS", RUNS);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs {
                        break;
                    }
                    let run = || run(seed, &works, &expected, cache.path());
                    if std::panic::catch_unwind(run).is_err() {
                        eprintln!("this was OPTWASM_CHAOS_SEED={seed}");
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    println!("{runs} runs took {:?}", begun.elapsed());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}
