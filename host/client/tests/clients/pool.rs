//! What runs on each of several workers, and the data that they share.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use optwasm_client::{
    BatchSpec, Client, ClientError, ErrorCode, Order, Pool, Role, Template, WorkerId, zip,
};
use optwasm_worker::Drain;
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::service::{Service, module};

const PATIENCE: Duration = Duration::from_secs(60);

/// A service with so many workers, and what is known of them.
async fn service(workers: usize) -> (Service, Client, Vec<watch::Sender<Drain>>) {
    let service = Service::start(1 << 30);
    let workers = (0..workers).map(|number| service.add_worker(&format!("w{number}")));
    let workers = workers.collect();
    let client = service.client(Role::Client).await;
    (service, client, workers)
}

async fn pool(client: &Client, workers: usize) -> Pool<'_> {
    let mut pool = client.pool().await.unwrap();
    pool.wait_for(workers, PATIENCE).await.unwrap();
    pool
}

async fn echo(client: &Client) -> BatchSpec {
    let module = client.put_blob(module()).await.unwrap();
    let mut spec = BatchSpec::new(Template::new(module));
    // Each is to be run.
    spec.memo = optwasm_client::Memo::Off;
    spec
}

/// Jobs that each worker has finished.
async fn done(client: &Client) -> BTreeMap<WorkerId, u64> {
    let workers = client.workers().await.unwrap();
    workers.into_iter().map(|w| (w.worker, w.done)).collect()
}

#[tokio::test]
async fn case_23_a_job_on_every_worker_and_on_one() {
    LocalSet::new()
        .run_until(async {
            let (_service, client, _workers) = service(4).await;
            let pool = pool(&client, 4).await;
            let spec = echo(&client).await;
            let outputs = pool.apply::<_, String>(&spec, &"hello").await.unwrap();
            let outputs: Vec<String> = outputs.into_iter().map(Result::unwrap).collect();
            assert_eq!(outputs, ["hello"; 4]);
            assert!(done(&client).await.values().all(|done| *done == 1));

            let only = pool.apply_only::<_, u32>(2, &spec, &7).await.unwrap();
            assert_eq!(only.unwrap(), 7);
            let third = pool.workers().nth(2).unwrap().1.worker;
            for (worker, done) in done(&client).await {
                assert_eq!(done, 1 + u64::from(worker == third), "{worker}");
            }
            let missing = pool.apply_only::<_, u32>(7, &spec, &7).await;
            let message = missing.unwrap_err().to_string();
            assert_eq!(message, "there is no worker 7; there are [0, 1, 2, 3]");
            // Their batches are gone with their results.
            assert!(client.batches().await.unwrap().is_empty());
            client.close().await;
        })
        .await;
}

#[tokio::test]
async fn case_23_arguments_of_unequal_number_are_refused() {
    let error = zip(vec![1, 2, 3], vec![1, 2]).unwrap_err();
    assert!(matches!(error, ClientError::Lengths(3, 2)));
    assert_eq!(zip(vec![1, 2], vec![3, 4]).unwrap(), [(1, 3), (2, 4)]);
}

#[tokio::test]
async fn outputs_come_as_their_jobs_end() {
    LocalSet::new()
        .run_until(async {
            let (_service, client, _workers) = service(2).await;
            let spec = echo(&client).await;
            let mapped = client.map_as_completed::<_, u32>(spec, 0..100u32);
            let mut mapped = mapped.await.unwrap().unwrap();
            let mut outputs = BTreeMap::new();
            while let Some((index, output)) = mapped.next().await.unwrap() {
                outputs.insert(index, output.unwrap());
            }
            assert_eq!(outputs, (0..100).map(|n| (n, n)).collect());
            client.close().await;
        })
        .await;
}

#[tokio::test]
async fn case_24_items_are_dealt_out_evenly() {
    LocalSet::new()
        .run_until(async {
            let (_service, client, _workers) = service(4).await;
            let pool = pool(&client, 4).await;
            let spec = echo(&client).await;
            for (items, sizes) in [(10, [3, 3, 2, 2]), (3, [1, 1, 1, 0]), (0, [0; 4])] {
                let items: Vec<u32> = (0..items).collect();
                let before = done(&client).await;
                let mut scattered = pool.scatter(&items).await.unwrap();
                let parts = pool.apply_scattered::<Vec<u32>>(&spec, &scattered);
                let parts = parts.await.unwrap().into_iter().map(Result::unwrap);
                let parts: Vec<Vec<u32>> = parts.collect();
                assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
                assert_eq!(parts.concat(), items);
                for (worker, done) in done(&client).await {
                    assert_eq!(done, before[&worker] + 1, "{worker}");
                }
                pool.remove(&mut scattered).await.unwrap();
                pool.remove(&mut scattered).await.unwrap();
                let removed = pool.apply_scattered::<Vec<u32>>(&spec, &scattered).await;
                assert!(matches!(removed, Err(ClientError::Removed(_))));
            }
            client.close().await;
        })
        .await;
}

#[tokio::test]
async fn the_part_of_a_worker_that_leaves_moves_to_another() {
    LocalSet::new()
        .run_until(async {
            let (service, client, workers) = service(2).await;
            let mut pool = pool(&client, 2).await;
            let spec = echo(&client).await;
            let items: Vec<u32> = (0..7).collect();
            let scattered = pool.scatter(&items).await.unwrap();
            let names = |pool: &Pool<'_>| -> Vec<(usize, String)> {
                let seats = pool.workers();
                seats
                    .map(|(number, seat)| (number, seat.name.clone()))
                    .collect()
            };
            let before = names(&pool);
            workers[0].send(Drain::Now).unwrap();
            while client.workers().await.unwrap().len() > 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let parts = pool.apply_scattered::<Vec<u32>>(&spec, &scattered).await;
            let parts = parts.unwrap().into_iter().map(Result::unwrap);
            assert_eq!(parts.collect::<Vec<_>>().concat(), items);
            // Who stays keeps the number, who comes takes the free one.
            pool.refresh().await.unwrap();
            let stays = before.iter().find(|(_, name)| name == "w1").unwrap();
            assert_eq!(names(&pool), std::slice::from_ref(stays));
            let _third = service.add_worker("w2");
            pool.wait_for(2, PATIENCE).await.unwrap();
            let mut expected = vec![stays.clone(), (1 - stays.0, "w2".to_owned())];
            expected.sort();
            assert_eq!(names(&pool), expected);
            client.close().await;
        })
        .await;
}

#[tokio::test]
async fn case_25_pushed_data_stays_until_it_was_removed_as_often_as_it_was_pushed() {
    LocalSet::new()
        .run_until(async {
            let (_service, client, _workers) = service(1).await;
            let pool = pool(&client, 1).await;
            let data = pool.data();
            let bytes = Bytes::from(vec![7; 100_000]);
            let [mut first, mut second] = [
                data.push(bytes.clone()).await.unwrap(),
                data.push(bytes.clone()).await.unwrap(),
            ];
            let id = first.id().unwrap();
            assert_eq!(second.id().unwrap(), id);
            data.remove(&mut first).await.unwrap();
            data.remove(&mut first).await.unwrap();
            assert!(matches!(first.id(), Err(ClientError::Removed(_))));
            assert_eq!(client.get_blob(id).await.unwrap(), bytes);
            data.remove(&mut second).await.unwrap();
            let gone = client.get_blob(id).await.unwrap_err();
            assert!(matches!(gone, ClientError::Request(e) if e.code == ErrorCode::NotFound));

            // A handle that is dropped leaves its blob to the next sweep.
            let third = data.push(bytes.clone()).await.unwrap();
            drop(third);
            data.sweep().await.unwrap();
            assert_eq!(client.missing(vec![id]).await.unwrap(), [id]);

            // A batch that names it keeps it.
            let mut spec = echo(&client).await;
            let mut kept = data.push(bytes.clone()).await.unwrap();
            spec.template.blobs = vec![("data".to_owned(), id)];
            let batch = client.submit(spec, ["a"]).await.unwrap();
            data.remove(&mut kept).await.unwrap();
            let mut results = batch.results(Order::Input).await.unwrap();
            assert!(results.next().await.unwrap().unwrap().1.outcome.is_ok());
            assert_eq!(client.missing(vec![id]).await.unwrap(), []);
            batch.remove().await.unwrap();

            // All goes with the pool.
            let held = data.push(bytes.clone()).await.unwrap();
            let id = held.id().unwrap();
            pool.close().await.unwrap();
            assert_eq!(client.missing(vec![id]).await.unwrap(), [id]);
            client.close().await;
        })
        .await;
}
