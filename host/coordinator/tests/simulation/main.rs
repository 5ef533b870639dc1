//! Random histories of a coordinator in which everything goes wrong that can, each checked against
//! what is promised.
//!
//! The coordinator's core, its scheduler and its store are the product's own; workers, clients,
//! network, clock and disk are simulated, all in one thread, by chance from a seed. So a history
//! that breaks a promise can be looked at again: `OPTWASM_HISTORY=SEED` prints what happens in it,
//! `OPTWASM_HISTORIES=N` runs so many.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod calm;
mod checker;
mod clients;
mod disk;
mod found;
mod network;
mod random;
mod rules;
mod small;
mod worker;
mod world;

/// What the simulated disk of the store's own tests needs.
mod common {
    pub use crate::random::Random;
}
#[path = "../../../store/tests/disk/mod.rs"]
#[allow(dead_code, reason = "those tests use all of it")]
mod sectors;

use std::panic::{AssertUnwindSafe, catch_unwind};

use checker::Violation;
use disk::{Model, Real};
use world::World;

/// How many histories there are, unless the environment says otherwise.
const HISTORIES: u64 = 100_000;
/// How many of the product's own store on a disk that tears what it writes, which take longer.
const HISTORIES_ON_DISK: u64 = 1_000;

/// What is broken on purpose, to see that the checker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Nothing.
    Nothing,
    /// The store acknowledges what is not on the disk.
    AcknowledgesEarly,
    /// The store drops some results.
    LosesResults,
    /// The store does not keep which worker has which job.
    ForgetsWhoHolds,
    /// What workers are to be told is kept back.
    SlowToSend,
    /// Workers do not connect again.
    WorkersStayAway,
    /// The coordinator does not find out that a connection is lost.
    NeverHangsUp,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// One history; what broke, where something did.
fn history(seed: u64, broken: Broken, trace: bool) -> Result<(), Violation> {
    let mut world = World::new(seed, Model::new(broken), broken, trace);
    let kept = catch_unwind(AssertUnwindSafe(|| world.run()));
    if trace {
        println!("{}", world.trace());
    }
    kept.unwrap_or_else(|_| Err(Violation(0, "it panicked".to_owned())))
}

fn on_disk(seed: u64, disk: &sectors::Disk, vfs: &str, trace: bool) -> Result<(), Violation> {
    let dir = tempfile::tempdir().unwrap();
    let real = Real::new(disk.clone(), vfs, dir.path().to_owned());
    let mut world = World::new(seed, real, Broken::Nothing, trace);
    let kept = catch_unwind(AssertUnwindSafe(|| world.run()));
    if trace {
        println!("{}", world.trace());
    }
    drop(world);
    disk.clear();
    kept.unwrap_or_else(|_| Err(Violation(0, "it panicked".to_owned())))
}

/// Runs seeds on all processors; panics with the first that breaks a promise.
fn all(count: u64, run: impl Fn(usize, u64) -> Result<(), Violation> + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let run = &run;
            scope.spawn(move || {
                for seed in (thread as u64..count).step_by(threads) {
                    if let Err(Violation(promise, what)) = run(thread, seed) {
                        panic!("seed {seed} breaks promise {promise}: {what}");
                    }
                }
            });
        }
    });
}

#[test]
fn promises_are_kept_in_every_history() {
    if let Some(seed) = number("OPTWASM_HISTORY") {
        return history(seed, Broken::Nothing, true).unwrap();
    }
    all(
        number("OPTWASM_HISTORIES").unwrap_or(HISTORIES),
        |_, seed| history(seed, Broken::Nothing, false),
    );
}

#[test]
fn promises_are_kept_on_a_disk_that_loses_and_tears() {
    let vfs = |thread: usize| format!("simulation {thread}");
    if let Some(seed) = number("OPTWASM_HISTORY_ON_DISK") {
        let disk = sectors::Disk::register(&vfs(99));
        return on_disk(seed, &disk, &vfs(99), true).unwrap();
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let disks: Vec<_> = (0..threads)
        .map(|t| sectors::Disk::register(&vfs(t)))
        .collect();
    let histories = number("OPTWASM_HISTORIES_ON_DISK").unwrap_or(HISTORIES_ON_DISK);
    all(histories, |thread, seed| {
        on_disk(seed, &disks[thread], &vfs(thread), false)
    });
}

/// Within how many histories a broken promise is to be seen.
const SEEN_WITHIN: u64 = 2_000;

fn is_seen(broken: Broken, promise: u32) {
    let seen = (0..SEEN_WITHIN).find_map(|seed| {
        let violation = history(seed, broken, false).err();
        violation.filter(|violation| violation.0 == promise)
    });
    let Violation(_, what) = seen.unwrap_or_else(|| panic!("{broken:?} is not seen"));
    println!("{broken:?}: {what}");
}

#[test]
fn a_store_that_acknowledges_early_is_seen() {
    is_seen(Broken::AcknowledgesEarly, 1);
}

#[test]
fn a_store_that_loses_results_is_seen() {
    is_seen(Broken::LosesResults, 2);
}

#[test]
fn a_store_that_forgets_who_has_what_is_seen() {
    is_seen(Broken::ForgetsWhoHolds, 3);
}

#[test]
fn a_coordinator_that_is_slow_to_hand_out_is_seen() {
    is_seen(Broken::SlowToSend, 4);
}

#[test]
fn workers_that_do_not_come_back_are_seen() {
    is_seen(Broken::WorkersStayAway, 5);
}

#[test]
fn what_is_kept_of_the_dead_is_seen() {
    is_seen(Broken::NeverHangsUp, 9);
}
