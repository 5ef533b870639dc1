//! Random interleavings of all events, checked step by step against a model that knows only the
//! public events and effects.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod acts;
mod checks;
mod world;

use std::collections::BTreeMap;

use optwasm_scheduler::{
    BatchSpec, Config, NamespaceId, OutcomeClass, Stay, Then, WorkerId, WorkerSpec,
};
use proptest::prelude::*;
use proptest::sample::Index;
use world::World;

#[derive(Clone, Debug)]
enum Action {
    /// With ranges of finished and of parked jobs.
    Submit(BatchSpec, Vec<(u32, u32)>, Vec<(u32, u32)>),
    Extend(Index, u32),
    Weigh(u64, u32),
    Join(WorkerSpec),
    /// A known worker connects again, having received only some of what it was handed.
    Rejoin(Index, WorkerSpec, u64),
    Away(Index),
    Lose(Index),
    Drain(Index),
    Distrust(Index),
    /// The caller starts again: what it had not written down, and some workers, are forgotten.
    Restart(u64, u64),
    /// A worker ends one of the jobs it may be running; the report goes on the wire.
    Work(Index, Index, OutcomeClass, Then, u64),
    /// One message of the wire arrives; it may stay there to arrive again.
    Deliver(Index, bool),
    GiveBack(Index, Index),
    /// A report that nobody should believe.
    Lie(Index, Index, u32),
    /// Some jobs of a batch, by their bits.
    Answer(Index, u64),
    Release(Index, u64),
    /// Ranges of jobs, and how far above the attempts so far the new ones begin.
    Reopen(Index, Vec<(u32, u32)>, u32),
    Cancel(Index),
    Forget(Index),
    Tick(u64),
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => Just(BTreeMap::from([("gpu".to_string(), "yes".to_string())])),
    ]
}

fn batch_spec() -> impl Strategy<Value = BatchSpec> {
    (
        (0..3u64).prop_map(NamespaceId),
        0..12u32,
        1..4u32,
        0..2i32,
        0..4u64,
        labels(),
        // One of the first workers, or one that there will never be.
        prop::option::weighted(0.2, (0..6u64).prop_map(WorkerId)),
        0..3u32,
        (1..4u32, prop::option::weighted(0.3, 0..100_000u64)),
    )
        .prop_map(
            |(
                namespace,
                count,
                weight,
                priority,
                memory,
                labels,
                home,
                retries,
                (loss_limit, time_us),
            )| {
                BatchSpec {
                    namespace,
                    count,
                    weight,
                    priority,
                    memory,
                    time_us,
                    labels,
                    home,
                    retries,
                    loss_limit,
                }
            },
        )
}

fn worker_spec() -> impl Strategy<Value = WorkerSpec> {
    (0..4u32, 2..8u64, labels(), prop::option::of(stay())).prop_map(
        |(slots, memory, labels, stay)| WorkerSpec {
            slots,
            memory,
            labels,
            stay,
        },
    )
}

fn stay() -> impl Strategy<Value = Stay> {
    (0..200_000u64, 0..50_000u64).prop_map(|(left_us, reserve_us)| Stay {
        left_us,
        reserve_us,
    })
}

fn outcome() -> impl Strategy<Value = OutcomeClass> {
    prop_oneof![
        6 => Just(OutcomeClass::Ok),
        1 => Just(OutcomeClass::Failed),
        1 => Just(OutcomeClass::Deadline),
        1 => Just(OutcomeClass::HostOutOfMemory),
        1 => Just(OutcomeClass::HostPanic),
        1 => Just(OutcomeClass::StackOverflow),
    ]
}

/// Mostly what a caller would say to such an outcome, sometimes anything.
fn then(class: OutcomeClass) -> impl Strategy<Value = (OutcomeClass, Then)> {
    let sane = if class.is_retryable() {
        Then::Retry
    } else {
        Then::Decide
    };
    let any = prop_oneof![Just(Then::Decide), Just(Then::Retry), Just(Then::Confirm)];
    let then = prop_oneof![5 => Just(sane), 2 => Just(Then::Confirm), 1 => any];
    then.prop_map(move |then| (class, then))
}

fn config() -> impl Strategy<Value = Config> {
    let leases = prop_oneof![Just(300_000u64), Just(30_000_000)];
    (leases, 1..4u32, 1..3u32).prop_map(|(lease_us, host_fault_limit, distrust_limit)| Config {
        lease_us,
        host_fault_limit,
        distrust_limit,
        ..Config::default()
    })
}

fn ranges(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(u32, u32)>> {
    prop::collection::vec((0..12u32, 0..14u32), count)
}

fn action() -> impl Strategy<Value = Action> {
    let any = any::<Index>;
    let service = prop_oneof![3 => 0..3_000u64, 1 => 20_000..100_000u64, 1 => Just(u64::MAX)];
    prop_oneof![
        3 => (batch_spec(), ranges(0..2), ranges(0..2))
            .prop_map(|(spec, finished, parked)| Action::Submit(spec, finished, parked)),
        2 => (any(), 0..6u32).prop_map(|(b, n)| Action::Extend(b, n)),
        1 => (0..3u64, 0..5u32).prop_map(|(n, w)| Action::Weigh(n, w)),
        3 => worker_spec().prop_map(Action::Join),
        3 => (any(), worker_spec(), 0..=u64::MAX).prop_map(|(w, s, mask)| Action::Rejoin(w, s, mask)),
        3 => any().prop_map(Action::Away),
        1 => any().prop_map(Action::Distrust),
        1 => (0..=u64::MAX, 0..=u64::MAX).prop_map(|(w, c)| Action::Restart(w, c)),
        1 => (any(), 0..=u64::MAX).prop_map(|(b, mask)| Action::Answer(b, mask)),
        2 => (any(), 0..=u64::MAX).prop_map(|(b, mask)| Action::Release(b, mask)),
        2 => (any(), ranges(0..3), 0..3u32).prop_map(|(b, r, above)| Action::Reopen(b, r, above)),
        2 => any().prop_map(Action::Lose),
        1 => any().prop_map(Action::Drain),
        16 => (any(), any(), outcome().prop_flat_map(then), service)
            .prop_map(|(w, j, (class, then), t)| Action::Work(w, j, class, then, t)),
        16 => (any(), prop::bool::weighted(0.15)).prop_map(|(m, again)| Action::Deliver(m, again)),
        2 => (any(), any()).prop_map(|(w, j)| Action::GiveBack(w, j)),
        2 => (any(), any(), 0..4u32).prop_map(|(w, j, a)| Action::Lie(w, j, a)),
        1 => any().prop_map(Action::Cancel),
        1 => any().prop_map(Action::Forget),
        2 => (0..700_000u64).prop_map(Action::Tick),
        1 => (0..20_000_000u64).prop_map(Action::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_interleaving_keeps_every_promise(
        config in config(),
        actions in prop::collection::vec(action(), 1..150),
    ) {
        let mut world = World::new(config);
        for action in &actions {
            world.act(action);
        }
        world.finish();
    }
}
