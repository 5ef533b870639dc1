//! Measures what one step costs with a million waiting jobs, and what a waiting job costs in memory.
//!
//! `cargo run --release -p optwasm-scheduler --example step_cost`

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use optwasm_scheduler::{
    BatchId, BatchSpec, Claim, Config, Effect, Event, OutcomeClass, Scheduler, Then, Time,
    WorkerId, WorkerSpec,
};

/// The system's allocator with a count of the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator; only a counter is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const JOBS: u32 = 1_000_000;

fn main() {
    for (batches, workers, service_us) in [
        (1, 2, 10),
        (1, 2, 100_000),
        (1_000, 2, 10),
        (10_000, 2, 10),
        (1, 1_000, 10),
        (1_000, 1_000, 100_000),
    ] {
        measure(batches, workers, service_us, 1);
    }
    println!("each job by two workers:");
    for (batches, workers, service_us) in [
        (1, 2, 10),
        (1_000, 2, 10),
        (1, 1_000, 10),
        (1_000, 1_000, 100_000),
    ] {
        measure(batches, workers, service_us, 2);
    }
    returned();
}

/// Runs a million jobs through, each by so many workers, and prints the mean cost of a report with
/// the hand-outs it causes.
fn measure(batches: u32, workers: u64, service_us: u64, opinions: u32) {
    let mut scheduler = Scheduler::new(Config::default());
    let mut effects = Vec::new();
    let before = IN_USE.load(Ordering::Relaxed);
    for batch in 0..batches {
        let spec = BatchSpec {
            count: JOBS / batches,
            weight: 1 + batch % 7,
            ..Default::default()
        };
        let batch = BatchId(u64::from(batch));
        scheduler.step(
            Time(0),
            Event::Submit {
                batch,
                spec,
                finished: vec![],
                parked: vec![],
                known: vec![],
            },
            &mut effects,
        );
    }
    let bytes = IN_USE.load(Ordering::Relaxed) - before;
    for worker in 0..workers {
        let spec = WorkerSpec {
            slots: 4,
            ..Default::default()
        };
        let event = Event::WorkerJoined {
            worker: WorkerId(worker),
            spec,
            holds: vec![],
        };
        scheduler.step(Time(0), event, &mut effects);
    }
    let mut running = VecDeque::new();
    let mut steps = 0_u32;
    let mut held_most = 0;
    let mut worst = 0;
    let start = Instant::now();
    loop {
        for effect in effects.drain(..) {
            if let Effect::Assign {
                worker,
                job,
                attempt,
            } = effect
            {
                running.push_back((worker, job, attempt));
            }
        }
        held_most = held_most.max(running.len());
        let Some((worker, job, attempt)) = running.pop_front() else {
            break;
        };
        let class = OutcomeClass::Ok;
        let then = if attempt < opinions {
            Then::Confirm
        } else {
            Then::Decide
        };
        let event = Event::Finished {
            worker,
            job,
            attempt,
            class,
            then,
            service_time_us: service_us,
        };
        let one = Instant::now();
        scheduler.step(Time(u64::from(steps)), event, &mut effects);
        worst = worst.max(one.elapsed().as_micros());
        steps += 1;
    }
    let mean = start.elapsed().as_secs_f64() * 1e6 / f64::from(steps);
    let all = JOBS / batches * batches * opinions;
    assert_eq!(steps, all, "every job ran as often as it should");
    println!(
        "{batches:>6} batches, {workers:>4} workers, {service_us:>6} us jobs: \
         {mean:.2} us per job, worst step {worst} us, at most {held_most} held, \
         {:.4} bytes per waiting job",
        bytes as f64 / f64::from(JOBS)
    );
}

/// Memory of jobs that came back from workers, the only waiting jobs with an entry of their own.
fn returned() {
    let mut scheduler = Scheduler::new(Config::default());
    let mut effects = Vec::new();
    let batch = BatchId(0);
    let spec = BatchSpec {
        count: JOBS,
        ..Default::default()
    };
    scheduler.step(
        Time(0),
        Event::Submit {
            batch,
            spec,
            finished: vec![],
            parked: vec![],
            known: vec![],
        },
        &mut effects,
    );
    let worker = WorkerId(0);
    let spec = WorkerSpec {
        slots: JOBS,
        ..Default::default()
    };
    let event = Event::WorkerJoined {
        worker,
        spec,
        holds: vec![],
    };
    scheduler.step(Time(0), event, &mut effects);
    let claims = |effects: &[Effect]| -> Vec<Claim> {
        let assigned = effects.iter().filter_map(|effect| match *effect {
            Effect::Assign { job, attempt, .. } => Some(Claim { job, attempt }),
            _ => None,
        });
        assigned.collect()
    };
    let jobs = claims(&effects);
    scheduler.step(Time(0), Event::WorkerDraining { worker }, &mut effects);
    drop(effects);
    let before = IN_USE.load(Ordering::Relaxed);
    let mut effects = Vec::new();
    let held = scheduler.clone();
    let held_bytes = IN_USE.load(Ordering::Relaxed) - before;
    drop(held);
    scheduler.step(Time(1), Event::GivenBack { worker, jobs }, &mut effects);
    drop(effects);
    let before = IN_USE.load(Ordering::Relaxed);
    let copy = scheduler.clone();
    let bytes = IN_USE.load(Ordering::Relaxed) - before;
    drop(copy);
    println!(
        "{:.1} bytes per held job, {:.1} bytes per job that was given back",
        held_bytes as f64 / f64::from(JOBS),
        bytes as f64 / f64::from(JOBS)
    );
}
