//! Programs that use the client library, as people write them who come from other systems.

use std::collections::VecDeque;
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use optwasm_client::{BatchSpec, Client, ContentId, Instances, Memo, Outcome, Template};
use optwasm_test_guests::{BasisTask, BasisValues, Realization, ThermalBlock};
use optwasm_tests::cluster::Place;
use optwasm_tests::relay::Relay;
use serde::Serialize;

use crate::{data, place};

const PATIENCE: Duration = Duration::from_secs(60);

async fn client(place: &Place) -> Client {
    let token = place.run(["token", "create", "client"]).ok();
    let address = place.address().parse().unwrap();
    let token = token.trim().parse().unwrap();
    Client::connect(address, &token).await.unwrap()
}

async fn put(client: &Client, guest: &str) -> ContentId {
    let module = optwasm_tests::guests::bytes(guest);
    client.put_blob(module.into()).await.unwrap()
}

fn cbor(value: &impl Serialize) -> Bytes {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes.into()
}

/// The value at each point of an ensemble's mean over the realizations that did not fail; `None`
/// where fewer than `least` are left.
async fn means(
    client: &Client,
    module: ContentId,
    points: &[Vec<f64>],
    broken: Option<usize>,
    least: usize,
) -> Option<Vec<f64>> {
    const WEIGHTS: [f64; 3] = [0.75, 0.25, 0.0];
    let targets = [
        vec![0.5, 0.5, 0.5],
        vec![-1.5, -1.5, 0.5],
        // Has no weight, and may fail.
        vec![0.0; 3],
    ];
    let jobs = points.iter().flat_map(|point| {
        targets
            .iter()
            .enumerate()
            .map(move |(index, target)| Realization {
                point: point.clone(),
                target: target.clone(),
                broken: broken == Some(index),
            })
    });
    let values = client.map::<_, f64>(module, jobs).await.unwrap();
    let mut means = Vec::new();
    for values in values.chunks(WEIGHTS.len()) {
        let known = WEIGHTS.iter().zip(values);
        let known: Vec<(f64, f64)> = known
            .filter_map(|(weight, value)| Some((*weight, *value.as_ref().ok()?)))
            .collect();
        if known.len() < least {
            return None;
        }
        let weight: f64 = known.iter().map(|(weight, _)| weight).sum();
        let sum: f64 = known.iter().map(|(weight, value)| weight * value).sum();
        means.push(sum / weight);
    }
    Some(means)
}

/// Steepest descent by finite differences; `Err` where too few realizations are left.
async fn descend(
    client: &Client,
    module: ContentId,
    broken: Option<usize>,
    least: usize,
) -> Result<Vec<f64>, &'static str> {
    const STEP: f64 = 1e-4;
    let mut point = vec![0.0, 0.0, 0.1];
    for _ in 0..25 {
        let mut points = VecDeque::from([point.clone()]);
        for axis in 0..point.len() {
            let mut moved = point.clone();
            moved[axis] += STEP;
            points.push_back(moved);
        }
        let points: Vec<Vec<f64>> = points.into();
        let values = means(client, module, &points, broken, least).await;
        let values = values.ok_or("too few realizations")?;
        for (axis, x) in point.iter_mut().enumerate() {
            *x -= 0.3 * (values[axis + 1] - values[0]) / STEP;
        }
    }
    Ok(point)
}

#[tokio::test]
async fn case_34_two_ensemble_optimizations_at_once() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _workers = ["a", "b"].map(|name| place.worker(name, &[]));
    let client = client(&place).await;
    let module = put(&client, "realization").await;
    let (whole, partly) = tokio::join!(
        descend(&client, module, None, 3),
        // A realization that fails is a value that is missing, not the end.
        descend(&client, module, Some(2), 2),
    );
    for point in [whole.unwrap(), partly.unwrap()] {
        for (x, expected) in point.iter().zip([0.0, 0.0, 0.5]) {
            assert!((x - expected).abs() < 0.02, "{point:?}");
        }
    }
    let stopped = descend(&client, module, Some(2), 3).await;
    assert_eq!(stopped, Err("too few realizations"));
    client.close().await;
}

/// Largest estimated errors of the greedy method. The first three are what pyMOR's `weak_greedy` finds
/// on these matrices; the others were computed apart from this guest, with numpy and dense matrices.
const ERRORS: [f64; 12] = [
    1.8720197210,
    1.3326169522,
    1.2502982419,
    1.2043396127,
    0.7961948320,
    0.9441211521,
    0.7399383473,
    0.6610871400,
    0.6079940810,
    0.4027480858,
    0.1781161916,
    0.1545421409,
];

#[tokio::test]
async fn case_35_a_reduced_basis_by_scattered_parameters() {
    let problem = fs::read(data("thermalblock.json")).unwrap();
    let problem: ThermalBlock = serde_json::from_slice(&problem).unwrap();
    let levels = [0.1, 0.4, 0.7, 1.0];
    let parameters: Vec<Vec<f64>> = (0..256)
        .map(|n| {
            (0..4)
                .map(|digit| levels[n >> (6 - 2 * digit) & 3])
                .collect()
        })
        .collect();
    let mut known: Option<Vec<f64>> = None;
    for workers in [1, 2, 4] {
        let place = place();
        let _coordinator = place.coordinator(&[]);
        let _workers: Vec<_> = (0..workers)
            .map(|n| place.worker(&format!("w{n}"), &[]))
            .collect();
        let client = client(&place).await;
        let mut pool = client.pool().await.unwrap();
        pool.wait_for(workers, PATIENCE).await.unwrap();
        let mut spec = BatchSpec::new(Template::new(put(&client, "reduced_basis").await));
        spec.memo = Memo::Off;
        // Each worker factors the product once.
        spec.template.instances = Instances::Resident;
        let pushed = pool.data().push(cbor(&problem)).await.unwrap();
        spec.template.blobs = vec![("problem".to_owned(), pushed.id().unwrap())];
        let scattered = pool.scatter(&parameters).await.unwrap();

        let mut basis: Vec<Vec<f64>> = Vec::new();
        let mut largest = Vec::new();
        for _ in 0..12 {
            let task = BasisTask::Errors {
                basis: basis.clone(),
            };
            let parts = pool.apply_beside(&spec, ("parameters", &scattered), &task);
            let parts: Vec<Result<BasisValues, _>> = parts.await.unwrap();
            let parts: Vec<_> = parts.into_iter().map(|p| p.unwrap().values).collect();
            let errors = parts.concat();
            assert_eq!(errors.len(), 256);
            let most = errors.iter().copied().fold(0.0, f64::max);
            // Among those that are as large but for rounding, the first.
            let first = errors
                .iter()
                .position(|error| *error >= most * (1.0 - 1e-9));
            largest.push(most);
            let task = BasisTask::Extend {
                parameter: parameters[first.unwrap()].clone(),
                basis: basis.clone(),
            };
            let vector = pool.apply_only(0, &spec, &task).await.unwrap();
            let BasisValues { values } = vector.unwrap();
            basis.push(values);
        }
        for (found, expected) in largest.iter().zip(ERRORS) {
            assert!((found - expected).abs() < 1e-6 * expected, "{largest:?}");
        }
        // The same bits, however many workers there are.
        let before = known.get_or_insert_with(|| largest.clone());
        assert_eq!(*before, largest);
        pool.close().await.unwrap();
        client.close().await;
    }
}

/// One job's error is that job's value, and a local run gives the same bytes.
#[tokio::test]
async fn case_02_a_batch_here_and_on_workers_is_the_same() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let inputs: Vec<Bytes> = (0..50_u64)
        .map(|n| if n == 7 { cbor(&"seven") } else { cbor(&n) })
        .collect();
    let mut all = Vec::new();
    let local = optwasm_client::LocalConfig::new(1);
    for client in [client(&place).await, Client::local(local).await.unwrap()] {
        let spec = BatchSpec::new(Template::new(put(&client, "spin").await));
        let batch = client.submit(spec, inputs.clone()).await.unwrap();
        let mut results = batch.results(optwasm_client::Order::Input).await.unwrap();
        let mut outcomes = Vec::new();
        while let Some((_, report)) = results.next().await.unwrap() {
            outcomes.push((report.outcome, report.fuel));
        }
        assert!(matches!(outcomes[7].0, Outcome::GuestError { .. }));
        all.push(outcomes);
        client.close().await;
    }
    assert_eq!(all[0], all[1]);
}

/// A connection that is lost for longer than its end takes to be noticed, while something is asked.
#[tokio::test]
async fn pushed_data_outlives_a_lost_connection() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let relay = Relay::new(place.address().parse().unwrap());
    let token = place.run(["token", "create", "client"]).ok();
    let token = token.trim().parse().unwrap();
    let client = Client::connect(relay.address(), &token).await.unwrap();
    let pool = client.pool().await.unwrap();
    let range = put(&client, "range").await;
    let pushed = pool.data().push(Bytes::from(vec![3; 1000])).await.unwrap();
    relay.lose(100, 100);
    let heal = async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        relay.lose(0, 0);
    };
    let (workers, ()) = tokio::join!(client.workers(), heal);
    assert_eq!(workers.unwrap().len(), 1);
    // What is not held any more is dropped by now.
    tokio::time::sleep(optwasm_protocol::ATTACHED_GRACE + Duration::from_secs(4)).await;
    let mut template = Template::new(range);
    template.blobs = vec![("data".to_owned(), pushed.id().unwrap())];
    let inputs = [(0_u64, 1000_u32)];
    let sums = client.map_with::<_, u64>(BatchSpec::new(template), inputs);
    assert_eq!(*sums.await.unwrap()[0].as_ref().unwrap(), 3000);
    client.close().await;
}
