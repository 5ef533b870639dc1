//! Networks that lose what they are to carry: a worker comes back, delivers what it did meanwhile, and
//! nothing is done twice that need not be.
//!
//! Each story is told twice: through a relay in the test's own process, which runs everywhere, and
//! through a real link between two network namespaces, where the system permits that.

use std::time::Duration;

use optwasm_tests::cluster::{Place, Process, wait_for};
use optwasm_tests::namespaces::{self, Namespaces};
use optwasm_tests::relay::Relay;
use serde_json::Value;

use crate::{guest, place};

/// Longer than a silent connection lives (4 s, on each side).
const OUTAGE: Duration = Duration::from_secs(6);

/// How the worker `far` reaches the coordinator.
enum Path {
    Relayed(Relay),
    Linked(Namespaces),
}

impl Path {
    /// A relay, and the coordinator behind it.
    fn relayed(coordinator: &[&str]) -> (Self, Place, Process) {
        let place = place();
        let process = place.coordinator(coordinator);
        let relay = Relay::new(place.address().parse().unwrap());
        (Self::Relayed(relay), place, process)
    }

    /// A link, and the coordinator at its end; `None` where that cannot be had, or cannot lose
    /// packets.
    fn linked(coordinator: &[&str]) -> Option<(Self, Place, Process)> {
        let made = Namespaces::new().and_then(|link| link.can_lose().map(|()| link));
        let link = match made {
            Ok(link) => link,
            Err(why) => {
                println!("skipped: {why}");
                return None;
            }
        };
        let wrapper = link.at_coordinator();
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let place = place().wrapped(&wrapper);
        let address = format!("{}:4710", namespaces::COORDINATOR);
        let process = place.coordinator_at(&address, coordinator);
        Some((Self::Linked(link), place, process))
    }

    fn far_worker(&self, place: &Place) -> Process {
        let token = place.state().join("worker.token");
        let token = ["--token-file", &token.to_string_lossy()].map(str::to_owned);
        match self {
            Self::Relayed(relay) => {
                let address = relay.address().to_string();
                place.worker("far", &["--connect", &address, &token[0], &token[1]])
            }
            Self::Linked(link) => {
                let wrapper = link.at_worker();
                let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
                let address = place.address();
                let args = ["--connect", &address, &token[0], &token[1]];
                place.worker_under(&wrapper, "far", &args)
            }
        }
    }

    /// Loses these percentages from now on, to the coordinator and from it.
    fn lose(&self, there: u8, back: u8) {
        match self {
            Self::Relayed(relay) => relay.lose(there, back),
            Self::Linked(link) => link.lose(there, back),
        }
    }
}

fn submit(place: &Place, guest: &str, input: &str, args: &[&str]) -> String {
    let fixed = ["submit", guest, "--jsonl", "--output", "json"];
    let ran = place.run_on(fixed.iter().chain(args), input.as_bytes());
    ran.json()["batch"].to_string()
}

fn results(place: &Place, command: &[&str], input: &str) -> Vec<Value> {
    let ran = place.run_on(
        command.iter().chain(&["--output", "jsonl"]),
        input.as_bytes(),
    );
    let text = ran.stdout();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// Asserts that results are those that jobs have on this machine, without any network.
fn assert_right(place: &Place, guest: &str, input: &str, batch: &str) {
    let kept = results(place, &["results", batch], "");
    let local = results(place, &["run", guest, "--local", "--jsonl"], input);
    assert_eq!(kept.len(), local.len());
    for (kept, local) in kept.iter().zip(&local) {
        for field in ["index", "outcome", "output", "fuel"] {
            assert_eq!(kept[field], local[field], "{field} of {kept}");
        }
    }
}

fn connections(worker: &Process) -> usize {
    worker.log().matches("connected to").count()
}

fn status(place: &Place, batch: &str) -> Value {
    let listed = place.run(["jobs", "--output", "json"]).json();
    let number = batch.parse().ok();
    let mut batches = listed["batches"].as_array().unwrap().iter();
    let found = batches.find(|status| status["batch"].as_u64() == number);
    found.unwrap().clone()
}

/// The worker `far` cannot be reached for longer than a connection lives, and shorter than its lease.
fn an_outage(path: &Path, place: &Place, set_working: impl Fn(bool)) {
    let spin = guest("spin");
    let far = path.far_worker(place);
    let _near = place.worker("near", &[]);
    let input: String = (0..40).map(|i| format!("{}\n", 10 + i)).collect();
    let batch = submit(place, &spin, &input, &["--memo", "off"]);
    wait_for("both to work", || {
        let workers = place.run(["workers", "--output", "json"]).json();
        let workers = workers["workers"].as_array().unwrap();
        workers
            .iter()
            .all(|worker| worker["done"].as_u64() > Some(0))
    });
    set_working(false);
    std::thread::sleep(OUTAGE);
    set_working(true);
    wait_for("the far worker", || connections(&far) == 2);
    place.run(["wait", &batch]).ok();
    assert_right(place, &spin, &input, &batch);
    let status = status(place, &batch);
    assert_eq!(
        (&status["retries"], &status["confirmed"]),
        (&0.into(), &0.into()),
        "{status}"
    );
    // The worker that was away is the same as before, and nothing was run by both.
    let workers = place.run(["workers", "--output", "json"]).json();
    let workers = workers["workers"].as_array().unwrap();
    let done = workers
        .iter()
        .map(|worker| worker["done"].as_u64().unwrap());
    assert_eq!(
        done.collect::<Vec<u64>>().iter().sum::<u64>(),
        40,
        "{workers:#?}"
    );
    assert_eq!(workers.len(), 2, "{workers:#?}");
    assert_eq!(connections(&far), 2, "{}", far.log());
}

const LEASE: [&str; 2] = ["--lease", "40s"];

#[test]
fn an_outage_through_a_relay() {
    let (path, place, _coordinator) = Path::relayed(&LEASE);
    an_outage(&path, &place, |works| match works {
        true => path.lose(0, 0),
        false => path.lose(100, 100),
    });
}

#[test]
fn a_worker_that_is_not_heard_through_a_relay() {
    let (path, place, _coordinator) = Path::relayed(&LEASE);
    an_outage(&path, &place, |works| match works {
        true => path.lose(0, 0),
        false => path.lose(100, 0),
    });
}

#[test]
fn a_worker_that_does_not_hear_through_a_relay() {
    let (path, place, _coordinator) = Path::relayed(&LEASE);
    an_outage(&path, &place, |works| match works {
        true => path.lose(0, 0),
        false => path.lose(0, 100),
    });
}

#[test]
fn an_outage_of_a_real_link() {
    let Some((path, place, _coordinator)) = Path::linked(&LEASE) else {
        return;
    };
    let Path::Linked(link) = &path else {
        unreachable!("it is a link");
    };
    an_outage(&path, &place, |works| link.set_link(works));
}

#[test]
fn a_worker_that_is_not_heard_over_a_real_link() {
    let Some((path, place, _coordinator)) = Path::linked(&LEASE) else {
        return;
    };
    an_outage(&path, &place, |works| match works {
        true => path.lose(0, 0),
        false => path.lose(100, 0),
    });
}

#[test]
fn a_worker_that_does_not_hear_over_a_real_link() {
    let Some((path, place, _coordinator)) = Path::linked(&LEASE) else {
        return;
    };
    an_outage(&path, &place, |works| match works {
        true => path.lose(0, 0),
        false => path.lose(0, 100),
    });
}

/// One packet in twenty is lost each way; inputs and outputs of some size travel, too.
fn a_bad_line(path: &Path, place: &Place) {
    let (sum, echo) = (guest("sum"), guest("echo"));
    let far = path.far_worker(place);
    path.lose(5, 5);
    let input: String = (0..500).map(|i| format!("[{i}, 0.25]\n")).collect();
    let batch = submit(place, &sum, &input, &["--memo", "off"]);
    let lines: Vec<String> = (0..10)
        .map(|i| char::from(b'a' + i).to_string().repeat(100_000))
        .collect();
    let large = lines.join("\n");
    let args = ["submit", &echo, "--each-line", "--output", "json"];
    let echoes = place.run_on(args, large.as_bytes()).json()["batch"].to_string();
    for batch in [&batch, &echoes] {
        place.run(["wait", batch]).ok();
    }
    assert_right(place, &sum, &input, &batch);
    let kept = results(place, &["results", &echoes], "");
    let read: Vec<&str> = kept
        .iter()
        .map(|kept| kept["output"].as_str().unwrap())
        .collect();
    assert_eq!(read, lines);
    assert_eq!(connections(&far), 1, "{}", far.log());
}

#[test]
fn a_bad_line_through_a_relay() {
    let (path, place, _coordinator) = Path::relayed(&[]);
    a_bad_line(&path, &place);
}

#[test]
fn a_bad_line_over_a_real_link() {
    if let Some((path, place, _coordinator)) = Path::linked(&[]) {
        a_bad_line(&path, &place);
    }
}

#[test]
fn a_late_result_confirms_and_changes_nothing() {
    let (path, place, _coordinator) = Path::relayed(&["--lease", "1s"]);
    let spin = guest("spin");
    let far = path.far_worker(&place);
    // Compiled before it counts.
    place.run_on(["run", &spin, "--json"], b"1").ok();
    let batch = submit(&place, &spin, "300\n", &["--memo", "off"]);
    let job = format!("{batch}.0");
    wait_for("the job", || {
        place.run(["jobs"]).stdout().contains("running")
    });
    path.lose(100, 100);
    let _near = place.worker("near", &[]);
    place.run(["wait", &batch]).ok();
    let before = results(&place, &["results", &batch], "");
    assert_eq!(before[0]["worker"], "near");
    assert_eq!(before[0]["attempt"], 2);
    // It ended long ago at the worker that nobody could hear.
    path.lose(0, 0);
    wait_for("the late result", || {
        place.run(["explain", &job]).stdout().contains("came late")
    });
    let explained = place.run(["explain", &job]).ok();
    for said in [
        "on far: its worker was lost",
        "on far: came late, with the same result as the one that counts",
        "on near: ok",
    ] {
        assert!(explained.contains(said), "no `{said}` in: {explained}");
    }
    let status = status(&place, &batch);
    assert_eq!(status["confirmed"], 1, "{status}");
    assert_eq!(status["contradicted"], 0, "{status}");
    assert_eq!(status["done"], 1, "{status}");
    assert_eq!(results(&place, &["results", &batch], ""), before);
    assert_eq!(connections(&far), 2);
}
