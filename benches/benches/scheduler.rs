//! A step of the scheduler while a million jobs wait, and the memory of a waiting job.
//!
//! Floor of a step: taking the first of a million entries of a binary heap and putting another in.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use optwasm_benches::report::{Report, Value};
use optwasm_benches::samples::Samples;
use optwasm_protocol::message::BatchSpec as SubmittedSpec;
use optwasm_protocol::{ContentId, Payload, Template};
use optwasm_scheduler::{
    BatchId, BatchSpec, Claim, Config, Effect, Event, JobId, OutcomeClass, Scheduler, Then, Time,
    WorkerId, WorkerSpec,
};
use optwasm_store::{Commit, MemoryStore, NewBatch, Record, Store};

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

/// Bytes that `make` leaves in use, and what it made.
fn bytes_of<T>(make: impl FnOnce() -> T) -> (f64, T) {
    let before = IN_USE.load(Ordering::Relaxed);
    let made = make();
    let bytes = IN_USE.load(Ordering::Relaxed) - before;
    (bytes as f64, made)
}

const JOBS: u32 = 1_000_000;
/// Steps that are measured: few enough that about a million jobs wait all the time.
const STEPS: u32 = 200_000;
/// Steps timed together; one alone is too short for the clock.
const CHUNK: u32 = 100;

type Assigned = VecDeque<(WorkerId, JobId, u32)>;

struct Load {
    scheduler: Scheduler,
    effects: Vec<Effect>,
    assigned: Assigned,
}

impl Load {
    /// A million waiting jobs in so many batches, and workers of `slots`.
    fn new(batches: u32, workers: u64, slots: u32) -> Self {
        let mut load = Self {
            scheduler: Scheduler::new(Config::default()),
            effects: Vec::new(),
            assigned: VecDeque::new(),
        };
        for batch in 0..batches {
            let spec = BatchSpec {
                count: JOBS / batches,
                weight: 1 + batch % 7,
                ..BatchSpec::default()
            };
            load.step(Event::Submit {
                batch: BatchId(u64::from(batch)),
                spec,
                finished: Vec::new(),
                parked: Vec::new(),
                known: Vec::new(),
            });
        }
        for worker in 0..workers {
            let spec = WorkerSpec {
                slots,
                ..WorkerSpec::default()
            };
            load.step(Event::WorkerJoined {
                worker: WorkerId(worker),
                spec,
                holds: Vec::new(),
            });
        }
        load
    }

    fn step(&mut self, event: Event) {
        self.scheduler.step(Time(0), event, &mut self.effects);
        for effect in self.effects.drain(..) {
            if let Effect::Assign {
                worker,
                job,
                attempt,
            } = effect
            {
                self.assigned.push_back((worker, job, attempt));
            }
        }
    }

    /// Reports the job that was handed out longest ago.
    fn finish_one(&mut self) {
        let (worker, job, attempt) = self.assigned.pop_front().expect("workers are busy");
        self.step(Event::Finished {
            worker,
            job,
            attempt,
            then: Then::Decide,
            class: OutcomeClass::Ok,
            service_time_us: 10,
        });
    }
}

fn chunks(mut one: impl FnMut()) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..STEPS / CHUNK {
        let begun = Instant::now();
        for _ in 0..CHUNK {
            one();
        }
        samples.add(begun.elapsed() / CHUNK);
    }
    samples
}

/// Bytes of a waiting job that a worker has given back: the only ones with an entry of their own.
fn given_back() -> f64 {
    let mut load = Load::new(1, 0, 0);
    let worker = WorkerId(0);
    let spec = WorkerSpec {
        slots: JOBS,
        ..WorkerSpec::default()
    };
    load.step(Event::WorkerJoined {
        worker,
        spec,
        holds: Vec::new(),
    });
    let jobs = load
        .assigned
        .drain(..)
        .map(|(_, job, attempt)| Claim { job, attempt });
    let jobs = jobs.collect();
    load.step(Event::WorkerDraining { worker });
    load.step(Event::GivenBack { worker, jobs });
    bytes_of(|| load.scheduler.clone()).0 / f64::from(JOBS)
}

/// Bytes of a waiting job in the store in memory: its empty input and the place of its result.
fn stored() -> f64 {
    let store = MemoryStore::new(u64::MAX);
    let (bytes, ()) = bytes_of(|| {
        let mut inputs = Vec::with_capacity(JOBS as usize);
        inputs.resize(JOBS as usize, Payload::Inline(bytes::Bytes::new()));
        let record = NewBatch {
            namespace: optwasm_protocol::Namespace::default(),
            batch: optwasm_protocol::BatchId(1),
            spec: SubmittedSpec::new(Template::new(ContentId::of(b""))),
            inputs,
            digest: [0; 32],
            engine: String::new(),
            submitted_ms: 0,
        };
        let commit = store.append(vec![Record::Submitted(Box::new(record))]);
        assert!(matches!(commit, Ok(Commit::Done(_))));
    });
    bytes / f64::from(JOBS)
}

fn main() {
    let mut report = Report::new();
    let mut heap: BinaryHeap<u64> = (0..u64::from(JOBS)).collect();
    // Steps of a multiplicative generator: entries land anywhere in the heap.
    let mut next = 1_u64;
    let floor = chunks(|| {
        next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        heap.pop();
        heap.push(next >> 44);
    });
    let floor = Value::Seconds(floor.median());
    report.line("floor: binary heap", floor, None, None);
    for (batches, workers, slots) in [(1, 2, 1), (1, 2, 4), (1_000, 2, 4), (10_000, 1_000, 4)] {
        let (bytes, mut load) = bytes_of(|| Load::new(batches, workers, slots));
        let steps = chunks(|| load.finish_one());
        let what = format!("step: {batches} batches, {workers} workers of {slots} slots");
        let reach = Some(Value::Seconds(2e-6));
        report.line(&what, Value::Seconds(steps.median()), Some(floor), reach);
        if batches == 1_000 {
            let bytes = Value::Bytes(bytes / f64::from(JOBS));
            report.line(
                "bytes per waiting job, 1000 batches",
                bytes,
                None,
                Some(Value::Bytes(64.0)),
            );
        }
    }
    let reach = Some(Value::Bytes(64.0));
    report.line(
        "bytes per job given back",
        Value::Bytes(given_back()),
        None,
        reach,
    );
    report.line(
        "bytes per waiting job, store",
        Value::Bytes(stored()),
        None,
        reach,
    );
    report.print("Scheduler with a million waiting jobs");
}
