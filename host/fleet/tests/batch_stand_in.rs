//! Against stand-ins for Slurm's commands, which note their calls: acceptance case 36.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::batch::{Fleet, quick, until, workers};
use common::{TOKEN, WORKER, joined, seen_in_proc, write_program};
use optwasm_fleet::WorkerSpec;
use optwasm_fleet::batch::scaler::Failure;
use optwasm_fleet::batch::script::JobSpec;
use optwasm_fleet::batch::system::System;
use optwasm_fleet::batch::{BatchError, Settings};

/// Starts the script at once, and knows its jobs by the pid in `job.ID`.
const SBATCH: &str = r#"#!/bin/sh
unheard=
cd "${0%/*}"
echo "sbatch $*" >> calls
env >> environment
case $(cat mode) in
*sbatch-hangs*) sleep 600 ;;
*sbatch-fails*) echo "sbatch: error: invalid account" >&2; exit 1 ;;
*sbatch-babbles*) echo "Submitted, perhaps"; exit 0 ;;
*sbatch-unheard*) unheard=1 ;;
esac
id=$(($(cat next) + 1))
echo "$id" > next
count=1
for arg; do
  case $arg in --array=0-*) count=$((${arg#--array=0-} + 1)) ;; esac
  script=$arg
done
task=0
while [ "$task" -lt "$count" ]; do
  name=$id
  if [ "$count" -gt 1 ]; then
    name=${id}_$task
    SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=$task
    export SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID
  fi
  case $(cat mode) in
  *vanish*) ;;
  *) SLURM_JOB_ID=$id setsid "$script" </dev/null > "log.$name" 2>&1 & echo $! > "job.$name" ;;
  esac
  task=$((task + 1))
done
if [ -n "$unheard" ]; then
  echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
  exit 1
fi
echo "$id"
"#;

const SQUEUE: &str = r#"#!/bin/sh
cd "${0%/*}"
echo "squeue $*" >> calls
case $(cat mode) in
*squeue-hangs*) sleep 600 ;;
*squeue-fails*) echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1 ;;
*squeue-empty*) exit 0 ;;
esac
for file in job.*; do
  [ -f "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null && echo "${file#job.} RUNNING"
done
exit 0
"#;

const SCANCEL: &str = r#"#!/bin/sh
cd "${0%/*}"
echo "scancel $*" >> calls
case $(cat mode) in *scancel-fails*) echo "scancel: error: no contact" >&2; exit 1 ;; esac
shift
for id; do [ -f "job.$id" ] && kill "$(cat "job.$id")" 2>/dev/null; done
exit 0
"#;

struct Stage {
    dir: tempfile::TempDir,
    name: String,
}

impl Stage {
    fn new(test: &str, mode: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (name, text) in [
            ("sbatch", SBATCH),
            ("squeue", SQUEUE),
            ("scancel", SCANCEL),
            ("worker", WORKER),
        ] {
            write_program(&path(name), text);
        }
        std::fs::write(path("next"), "100").unwrap();
        std::fs::write(path("mode"), mode).unwrap();
        Self {
            name: format!("{test}-{}", std::process::id()),
            dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settings(&self, max: u32, per_submit: u32) -> Settings {
        let worker = WorkerSpec::new("head:4710");
        let shared = self.path("shared");
        let program = self.path("worker");
        let job = JobSpec::new(System::Slurm, &self.name, &shared, &program, worker);
        Settings {
            config: quick(max, per_submit),
            programs: Some(self.dir.path().to_owned()),
            limit: Duration::from_millis(700),
            observe_every: Duration::from_millis(30),
            ..Settings::new(job, max)
        }
    }

    fn calls(&self, program: &str) -> Vec<String> {
        let calls = std::fs::read_to_string(self.path("calls")).unwrap_or_default();
        let prefix = format!("{program} ");
        let calls = calls.lines().filter_map(|line| line.strip_prefix(&prefix));
        calls.map(str::to_owned).collect()
    }

    fn mode(&self, mode: &str) {
        std::fs::write(self.path("mode"), mode).unwrap();
    }

    fn folder(&self) -> PathBuf {
        self.path("shared").join(&self.name)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for pid in workers(&self.name).into_values() {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_come_with_the_queue_and_go_without_it() {
    let stage = Stage::new("life", "");
    let fleet = Fleet::start(stage.settings(3, 3), 0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!stage.path("calls").exists(), "idle, so nothing is asked");

    fleet.waiting(2);
    until("two workers", || workers(&stage.name).len() == 2).await;
    // The queue is still there, so a third follows.
    until("three workers", || workers(&stage.name).len() == 3).await;
    let jobs: Vec<_> = workers(&stage.name).into_keys().collect();
    assert_eq!(jobs, ["101_0", "101_1", "102"]);
    let submissions = stage.calls("sbatch");
    let script = stage.folder().join("job.sh").display().to_string();
    assert_eq!(
        submissions,
        [
            format!("--parsable --array=0-1 {script}"),
            format!("--parsable {script}")
        ]
    );
    let log = std::fs::read_to_string(stage.path("log.101_1")).unwrap();
    until("it says so", || {
        std::fs::read_to_string(stage.path("log.102"))
            .unwrap()
            .contains(&joined())
    })
    .await;
    assert!(log.is_empty() || log.contains(&joined()), "{log}");
    assert!(!seen_in_proc(TOKEN) && !std::fs::read_to_string(&script).unwrap().contains(TOKEN));
    let environment = std::fs::read_to_string(stage.path("environment")).unwrap();
    assert!(!environment.contains(TOKEN));

    // All are connected: nothing is asked.
    let lists = stage.calls("squeue").len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(stage.calls("squeue").len(), lists);

    fleet.waiting(0);
    until("all have left", || workers(&stage.name).is_empty()).await;
    until("all are forgotten", || {
        let lists = stage.calls("squeue").len();
        std::thread::sleep(Duration::from_millis(400));
        stage.calls("squeue").len() == lists
    })
    .await;
    assert_eq!(stage.calls("scancel"), Vec::<String>::new());
    fleet.stop().await.unwrap();
    assert!(!stage.folder().join("token").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_cancels_each_outstanding_job() {
    let stage = Stage::new("stop", "");
    let fleet = Fleet::start(stage.settings(3, 2), 9);
    until("three workers", || workers(&stage.name).len() == 3).await;
    fleet.stop().await.unwrap();
    assert_eq!(stage.calls("scancel"), ["--quiet 101_0 101_1 102"]);
    until("all have ended", || workers(&stage.name).is_empty()).await;
    assert!(!stage.folder().join("token").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_vanishes_is_a_failure_after_a_grace() {
    let stage = Stage::new("vanish", "vanish");
    let begin = Instant::now();
    let error = Fleet::start(stage.settings(2, 2), 9)
        .end()
        .await
        .unwrap_err();
    assert!(
        begin.elapsed() >= 3 * Duration::from_millis(400),
        "{:?}",
        begin.elapsed()
    );
    let text = error.to_string();
    assert!(
        text.contains("3 failures in a row") && text.contains("no worker had joined"),
        "{text}"
    );
    assert_eq!(stage.calls("sbatch").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_is_no_wait_without_end() {
    let stage = Stage::new("empty", "squeue-empty");
    let mut settings = stage.settings(1, 1);
    // A worker that cannot join.
    settings.job.program = "/bin/true".into();
    let error = Fleet::start(settings, 1).end().await.unwrap_err();
    assert!(
        error.to_string().contains("no worker had joined"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_costs_no_worker_its_place() {
    let stage = Stage::new("lies", "squeue-empty");
    let fleet = Fleet::start(stage.settings(1, 1), 5);
    until("a worker", || workers(&stage.name).len() == 1).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(
        stage.calls("sbatch").len(),
        1,
        "it is connected, whatever squeue says"
    );
    fleet.stop().await.unwrap();
    assert_eq!(stage.calls("scancel"), ["--quiet 101"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_squeue_is_asked_a_few_times_and_then_all_is_cancelled() {
    let stage = Stage::new("fails", "");
    let mut settings = stage.settings(1, 1);
    // It never joins, so it has to be looked for.
    settings.job.template = Some("{{directives}}\nexec sleep 600 # {{command}}\n".into());
    let fleet = Fleet::start(settings, 1);
    until("submitted", || !stage.calls("sbatch").is_empty()).await;
    stage.mode("squeue-fails");
    let before = stage.calls("squeue").len();
    let error = fleet.end().await.unwrap_err();
    let BatchError::Failed(Failure::Unanswered { why }) = error else {
        panic!("{error}")
    };
    assert!(why.contains("Unable to contact slurm controller"), "{why}");
    let lists = stage.calls("squeue").len() - before;
    assert!((3..=5).contains(&lists), "{lists} lists");
    assert_eq!(stage.calls("scancel"), ["--quiet 101"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_hangs_meets_the_time_limit() {
    for mode in [
        "sbatch-hangs",
        "squeue-hangs",
        "sbatch-fails",
        "sbatch-babbles",
    ] {
        let stage = Stage::new("hangs", mode);
        let begin = Instant::now();
        let fleet = Fleet::start(stage.settings(2, 2), 9);
        let error = fleet.end().await.unwrap_err().to_string();
        let expected = match mode {
            "sbatch-fails" => "ended with 1: sbatch: error: invalid account",
            "sbatch-babbles" => "answered `Submitted, perhaps\\n`, which is not understood",
            _ => "did not answer within 0.7 s",
        };
        assert!(error.contains(expected), "{mode}: {error}");
        assert!(begin.elapsed() < Duration::from_secs(60), "{mode}");
        let submissions = stage.calls("sbatch").len();
        assert_eq!(
            submissions,
            if mode == "squeue-hangs" { 0 } else { 3 },
            "{mode}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_cannot_be_cancelled_are_named() {
    let stage = Stage::new("left", "scancel-fails");
    let fleet = Fleet::start(stage.settings(1, 1), 1);
    until("a worker", || workers(&stage.name).len() == 1).await;
    let error = fleet.stop().await.unwrap_err().to_string();
    assert!(
        error.contains("101") && error.contains("no contact"),
        "{error}"
    );
    assert!((2..=4).contains(&stage.calls("scancel").len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relative_folder_and_a_missing_program_are_no_trap() {
    let stage = Stage::new("relative", "");
    let mut settings = stage.settings(1, 1);
    let up = std::env::current_dir().unwrap().components().count() - 1;
    let below = stage.path("shared");
    let below = below.strip_prefix("/").unwrap();
    settings.job.shared = Path::new(&"../".repeat(up)).join(below);
    assert!(settings.job.shared.is_relative());
    let fleet = Fleet::start(settings.clone(), 1);
    until("a worker", || workers(&stage.name).len() == 1).await;
    assert!(stage.folder().join("job.sh").exists());
    fleet.stop().await.unwrap();

    std::fs::remove_file(stage.path("sbatch")).unwrap();
    let error = Fleet::start(settings.clone(), 1)
        .end()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cannot run") && error.contains("sbatch"),
        "{error}"
    );
    settings.job.program = "optwasm".into();
    let error = Fleet::start(settings, 1).end().await.unwrap_err();
    assert!(matches!(error, BatchError::Script(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_coordinator_a_fleet_ends_after_a_while() {
    let stage = Stage::new("alone", "");
    let mut settings = stage.settings(1, 1);
    settings.patience = Duration::from_millis(300);
    let fleet = Fleet::start(settings, 1);
    until("a worker", || workers(&stage.name).len() == 1).await;
    fleet
        .coordinator
        .down
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let error = fleet.end().await.unwrap_err();
    assert!(matches!(error, BatchError::Coordinator(_)), "{error}");
    assert_eq!(stage.calls("scancel"), ["--quiet 101"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submission_whose_answer_was_lost_gives_no_second_worker() {
    let stage = Stage::new("unheard", "sbatch-unheard");
    let fleet = Fleet::start(stage.settings(1, 1), 5);
    until("a worker", || workers(&stage.name).len() == 1).await;
    until("it is found", || stage.calls("squeue").len() > 2).await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(workers(&stage.name).len(), 1, "the maximum is one");
    assert_eq!(stage.calls("sbatch").len(), 1);
    fleet.stop().await.unwrap();
    assert_eq!(stage.calls("scancel"), ["--quiet 101"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_draining_is_refused_a_fleet_cancels_and_still_hears() {
    let stage = Stage::new("refused", "");
    let fleet = Fleet::start(stage.settings(2, 2), 9);
    let refuses = fleet.coordinator.refuses.clone();
    refuses.store(true, std::sync::atomic::Ordering::Relaxed);
    until("two workers", || workers(&stage.name).len() == 2).await;
    fleet.waiting(0);
    until("both are given back", || workers(&stage.name).is_empty()).await;
    let said = fleet.said.clone();
    fleet.stop().await.unwrap();
    let said = said.lock().unwrap();
    let refusals = said.iter().filter(|text| text.contains("cannot drain"));
    assert_eq!(refusals.count(), 1, "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_fleets_of_a_name_share_no_folder_and_no_jobs() {
    let stage = Stage::new("two", "");
    let first = Fleet::start(stage.settings(1, 1), 1);
    until("a worker", || workers(&stage.name).len() == 1).await;
    let error = Fleet::start(stage.settings(1, 1), 1).end().await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("a fleet runs in"), "{error}");
    assert!(stage.folder().join("token").exists(), "it is the first's");

    // The name by which jobs are listed, and cancelled, is another for another coordinator.
    let names = |stage: &Stage| {
        let lists = stage.calls("squeue");
        let name = lists.last().unwrap().split(' ').next_back().unwrap();
        name.to_owned()
    };
    let own = names(&stage);
    first.stop().await.unwrap();
    until("it has ended", || workers(&stage.name).is_empty()).await;
    let mut settings = stage.settings(1, 1);
    settings.job.worker.coordinator = Some("another".into());
    let second = Fleet::start(settings, 1);
    until("a worker", || workers(&stage.name).len() == 1).await;
    assert_ne!(names(&stage), own);
    second.stop().await.unwrap();
}
