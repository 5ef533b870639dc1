//! A coordinator that sees its workers in the list of processes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use optwasm_fleet::batch::scaler::{Config, Id, Observation};
use optwasm_fleet::batch::{BatchError, Coordinator, DrainError, Settings, run};
use optwasm_fleet::{LABEL_FLEET, LABEL_JOB, Secret};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::TOKEN;

#[derive(Clone, Default)]
pub struct FakeCoordinator {
    pub waiting: Arc<AtomicU64>,
    pub down: Arc<AtomicBool>,
    /// Whether it refuses to drain.
    pub refuses: Arc<AtomicBool>,
    fleet: String,
}

/// The processes that are workers of a fleet, by batch job.
pub fn workers(fleet: &str) -> BTreeMap<Id, i32> {
    let mut found = BTreeMap::new();
    let own = format!("--label={LABEL_FLEET}={fleet}");
    let job = format!("--label={LABEL_JOB}=");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().parse();
        let args = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&args).into_owned();
        let args: Vec<&str> = args.split('\0').collect();
        let id = args.iter().find_map(|arg| arg.strip_prefix(&job));
        if let (Ok(pid), Some(id), true) = (pid, id, args.contains(&own.as_str())) {
            found.insert(id.to_owned(), pid);
        }
    }
    found
}

impl Coordinator for FakeCoordinator {
    async fn observe(&mut self, fleet: &str) -> Result<Observation, String> {
        if self.down.load(Ordering::Relaxed) {
            return Err("unreachable".into());
        }
        fleet.clone_into(&mut self.fleet);
        let waiting = self.waiting.load(Ordering::Relaxed);
        let workers = workers(fleet)
            .into_keys()
            .map(|id| (id, waiting == 0))
            .collect();
        Ok(Observation { waiting, workers })
    }

    async fn drain(&mut self, ids: &[Id]) -> Result<(), DrainError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(DrainError::Refused("not an administrator".into()));
        }
        for (id, pid) in workers(&self.fleet) {
            if ids.contains(&id) {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        Ok(())
    }
}

/// Short times, so that tests are.
pub fn quick(max: u32, per_submit: u32) -> Config {
    let ms = Duration::from_millis;
    Config {
        max,
        per_submit,
        submit_every: ms(50),
        poll: ms(100),
        idle_grace: ms(300),
        vanish_grace: ms(400),
        join_grace: ms(20_000),
        max_failures: 3,
        max_retries: 4,
        backoff: ms(50),
        backoff_max: ms(200),
        ..Config::default()
    }
}

/// A fleet that runs.
pub struct Fleet {
    pub coordinator: FakeCoordinator,
    pub said: Arc<Mutex<Vec<String>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), BatchError>>,
}

impl Fleet {
    pub fn start(settings: Settings, waiting: u64) -> Self {
        let coordinator = FakeCoordinator::default();
        coordinator.waiting.store(waiting, Ordering::Relaxed);
        let (stop, stopped) = watch::channel(false);
        let said = Arc::new(Mutex::new(Vec::new()));
        let (own, words) = (coordinator.clone(), said.clone());
        let task = tokio::spawn(async move {
            let secret = Secret::new(TOKEN).unwrap();
            let say = |text: &str| words.lock().unwrap().push(text.to_owned());
            run(settings, &secret, own, stopped, say).await
        });
        Self {
            coordinator,
            said,
            stop,
            task,
        }
    }

    pub fn waiting(&self, waiting: u64) {
        self.coordinator.waiting.store(waiting, Ordering::Relaxed);
    }

    pub async fn stop(self) -> Result<(), BatchError> {
        self.stop.send_replace(true);
        self.end().await
    }

    /// Waits until it ends by itself.
    pub async fn end(self) -> Result<(), BatchError> {
        let Self { task, stop, .. } = self;
        let result = tokio::time::timeout(Duration::from_secs(120), task).await;
        drop(stop);
        result.expect("it never ends").unwrap()
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(120), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
