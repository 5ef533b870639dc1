//! Against a real Slurm: Debian's packages, unpacked and used in place, in a network namespace of its
//! own.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::batch::{Fleet, quick, until, workers};
use common::debian::unpack;
use common::slurm::{Cluster, PACKAGES, is_possible, start};
use common::{TOKEN, WORKER, announce, files_with, joined, seen_in_proc, write_program};
use optwasm_fleet::WorkerSpec;
use optwasm_fleet::batch::Settings;
use optwasm_fleet::batch::script::JobSpec;
use optwasm_fleet::batch::system::System;

fn settings(cluster: &Cluster, name: &str, max: u32) -> Settings {
    let program = cluster.dir.path().join("worker");
    write_program(&program, WORKER);
    let worker = WorkerSpec::new("head:4710");
    let shared = cluster.dir.path().join("shared");
    let mut job = JobSpec::new(System::Slurm, name, &shared, &program, worker);
    job.time = Some(Duration::from_secs(600));
    job.cpus = Some(1);
    job.queue = Some("debug".into());
    Settings {
        config: quick(max, max),
        programs: Some(cluster.dir.path().join("bin")),
        limit: Duration::from_secs(20),
        observe_every: Duration::from_millis(50),
        ..Settings::new(job, max)
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_lives_on_a_real_slurm() {
    if let Err(why) = is_possible() {
        return announce(&format!("not tested: a real Slurm: {why}"));
    }
    let debian = match unpack("slurm", &PACKAGES) {
        Ok(debian) => debian,
        Err(why) => return announce(&format!("not tested: a real Slurm: {why}")),
    };
    let cluster = start(&debian).unwrap();
    let name = format!("slurm-{}", std::process::id());
    let begin = Instant::now();

    // Three are wanted, and two fit the node: an array, of which one task waits.
    let fleet = Fleet::start(settings(&cluster, &name, 3), 9);
    until("two workers", || workers(&name).len() == 2).await;
    announce(&format!(
        "Slurm: two workers after {} ms",
        begin.elapsed().as_millis()
    ));
    let ids: Vec<_> = workers(&name).into_keys().collect();
    assert!(ids.iter().all(|id| id.contains('_')), "{ids:?}");
    let jobs = cluster.jobs();
    assert_eq!(jobs.matches("RUNNING").count(), 2, "{jobs}");
    assert_eq!(jobs.matches("PENDING").count(), 1, "{jobs}");
    let folder = cluster.dir.path().join("shared").join(&name);
    let logs = || files_with(&folder, &joined());
    until("both say that they joined", || logs().len() == 2).await;
    assert!(!seen_in_proc(TOKEN), "the token is in a list of processes");
    let tokens = files_with(cluster.dir.path(), TOKEN);
    assert_eq!(
        tokens,
        [folder.join("token")],
        "nor is it in Slurm's own files"
    );
    let args = files_with(&folder, "--leave-after=540s");
    assert_eq!(args.len(), 3, "two workers and the script: {args:?}");

    // Without work the one that waits is cancelled, and the others leave.
    fleet.waiting(0);
    until("all have left", || cluster.jobs().is_empty()).await;
    assert_eq!(workers(&name), [].into());
    assert_eq!(cluster.calls("scancel").len(), 1);
    assert!(
        files_with(&folder, "leaving").len() >= 2,
        "they were drained, not killed"
    );
    assert_eq!(
        fleet
            .said
            .lock()
            .unwrap()
            .iter()
            .filter(|text| text.contains("fail"))
            .count(),
        0
    );

    // New work, and the end with jobs that run and one that waits.
    fleet.waiting(9);
    until("two workers", || workers(&name).len() == 2).await;
    fleet.stop().await.unwrap();
    until("all are cancelled", || cluster.jobs().is_empty()).await;
    until("their processes have ended", || workers(&name).is_empty()).await;
    assert!(!folder.join("token").exists());

    // Slurm's own refusal is what the user is told.
    let mut changed = settings(&cluster, &name, 1);
    changed.job.queue = Some("nowhere".into());
    let error = Fleet::start(changed, 1)
        .end()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("invalid partition specified: nowhere"),
        "{error}"
    );

    // A worker that cannot join, and whose log says why.
    let mut changed = settings(&cluster, &name, 1);
    changed.job.worker.extra = vec!["--token-file=/nowhere".into()];
    changed.job.template = Some("{{directives}}\n{{command}} --token-file=/nowhere\n".into());
    changed.config.vanish_grace = Duration::from_secs(1);
    let error = Fleet::start(changed, 1)
        .end()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("no worker had joined"), "{error}");
    assert!(
        files_with(&folder, "no token file")
            .iter()
            .any(|path| read(path).contains("no token"))
    );

    // The controller is gone.
    let mut changed = settings(&cluster, &name, 1);
    changed.limit = Duration::from_secs(2);
    let fleet = Fleet::start(changed, 0);
    let pid = read(&cluster.dir.path().join("slurmctld.pid"));
    let status = Command::new("nsenter")
        .args([
            &format!("--pid=/proc/{}/ns/pid_for_children", cluster.pid()),
            "kill",
            "-9",
        ])
        .arg(pid.trim())
        .status();
    assert!(status.unwrap().success());
    fleet.waiting(1);
    let error = fleet.end().await.unwrap_err().to_string();
    assert!(error.contains("does not answer"), "{error}");
    announce(&format!("Slurm: all in {} s", begin.elapsed().as_secs()));
}
