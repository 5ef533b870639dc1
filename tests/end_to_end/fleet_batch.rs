//! `optwasm fleet slurm` against stand-ins for Slurm's commands, which note their calls, and against a real
//! Slurm. The workers are real in both.

use std::path::PathBuf;

use optwasm_tests::cluster::{Place, Process, wait_for};
use rustix::process::Signal;

use crate::fleet::{role_of, seen_in_proc, workers};
use crate::real::debian::unpack;
use crate::real::slurm::{PACKAGES, is_possible, start};
use crate::real::{announce, write_program};
use crate::{guest, place};

/// Starts the script at once; knows its jobs by the pid in `job.ID`.
const SBATCH: &str = r#"#!/bin/sh
cd "${0%/*}"
echo "sbatch $*" >> calls
env >> environment
case $(cat mode) in *sbatch-fails*) echo "sbatch: error: invalid account" >&2; exit 1 ;; esac
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
shift
for id; do [ -f "job.$id" ] && kill "$(cat "job.$id")" 2>/dev/null; done
exit 0
"#;

struct Stage {
    place: Place,
    _coordinator: Process,
}

impl Stage {
    fn new(mode: &str) -> Self {
        let place = place();
        let bin = place.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for (name, text) in [("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)] {
            write_program(&bin.join(name), text);
        }
        std::fs::write(bin.join("next"), "100").unwrap();
        std::fs::write(bin.join("mode"), mode).unwrap();
        let _coordinator = place.coordinator(&[]);
        Self {
            place,
            _coordinator,
        }
    }

    fn bin(&self, name: &str) -> PathBuf {
        self.place.path().join("bin").join(name)
    }

    /// A fleet that does everything quickly.
    fn fleet(&self, more: &[&str]) -> Process {
        self.fleet_under(&[], more)
    }

    /// The same, run by a wrapper.
    fn fleet_under(&self, wrapper: &[&str], more: &[&str]) -> Process {
        let programs = self.bin("").display().to_string();
        let args = ["fleet", "slurm", "--slots", "1", "--programs", &programs];
        let pace = "--submit-every 50ms --poll 200ms --idle-grace 1s --vanish-grace 1s --join-grace 60s \
                    --observe-every 100ms --command-limit 2s --backoff 50ms --max-failures 3 \
                    --max-retries 3";
        let all = args.into_iter().chain(pace.split_whitespace());
        let all = all.chain(more.iter().copied());
        let command = self.place.command_under(wrapper, all);
        self.place.start_command(command)
    }

    fn calls(&self, program: &str) -> Vec<String> {
        let calls = std::fs::read_to_string(self.bin("calls")).unwrap_or_default();
        let prefix = format!("{program} ");
        let calls = calls.lines().filter_map(|line| line.strip_prefix(&prefix));
        calls.map(str::to_owned).collect()
    }

    fn submit(&self, jobs: usize, loops: &str, more: &[&str]) -> String {
        let spin = guest("spin");
        let args = [
            "submit", &spin, "--jsonl", "--memo", "off", "--output", "json",
        ];
        let input = format!("{loops}\n").repeat(jobs);
        let ran = self.place.run_on(args.iter().chain(more), input.as_bytes());
        ran.json()["batch"].to_string()
    }
}

#[test]
fn case_36_workers_come_with_the_queue_and_go_without_it() {
    let stage = Stage::new("");
    let place = &stage.place;
    // Nothing of what waits could be done by such a worker.
    let other = stage.submit(5, "20", &["--require", "gpu=h100"]);
    let mut fleet = stage.fleet(&["--max", "2", "--time", "10m", "--label", "site=north"]);
    wait_for("the fleet", || fleet.log().contains("asks for up to 2"));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(
        stage.calls("sbatch").is_empty(),
        "none is asked for in vain"
    );
    let idle = stage.calls("squeue").len();
    std::thread::sleep(std::time::Duration::from_millis(1000));
    assert_eq!(
        stage.calls("squeue").len(),
        idle,
        "an idle fleet asks nothing"
    );

    let batch = stage.submit(20, "20", &["--require", "site=north"]);
    wait_for("two workers", || workers(place).len() == 2);
    let labels = workers(place).remove(0)["labels"].clone();
    assert_eq!(labels["fleet"], "workers");
    assert!(labels["fleet-job"].as_str().unwrap().starts_with("101"));
    let token = place.path().join("optwasm-fleet/workers/token");
    assert_eq!(role_of(place, &token), "worker");
    let secret = std::fs::read_to_string(&token).unwrap();
    let script = std::fs::read_to_string(token.with_file_name("job.sh")).unwrap();
    let environment = std::fs::read_to_string(stage.bin("environment")).unwrap();
    assert!(!script.contains(secret.trim()) && !environment.contains(secret.trim()));
    assert!(!seen_in_proc(secret.trim()));
    assert!(script.contains("#SBATCH --time=00:10:00") && script.contains("--leave-after=540s"));
    assert!(
        script.contains("--idle-timeout=60s"),
        "where the fleet cannot give it back, it leaves by itself"
    );
    place.run(["wait", &batch]).ok();

    wait_for("them to be given back", || workers(place).is_empty());
    assert!(stage.calls("scancel").is_empty(), "they left by themselves");
    place.run(["cancel", &other]).ok();
    fleet.signal(Signal::INT);
    assert!(fleet.wait().success(), "{}", fleet.log());
    assert!(!token.exists());
}

#[test]
fn case_36_stopping_cancels_each_outstanding_job() {
    let stage = Stage::new("");
    let batch = stage.submit(10, "1000000000", &[]);
    let mut fleet = stage.fleet(&["--max", "2"]);
    wait_for("two workers", || workers(&stage.place).len() == 2);
    fleet.signal(Signal::INT);
    wait_for("the cancellation", || !stage.calls("scancel").is_empty());
    let ids: Vec<String> = stage
        .calls("scancel")
        .join(" ")
        .split(' ')
        .map(str::to_owned)
        .collect();
    assert!(
        ids.contains(&"101_0".to_owned()) && ids.contains(&"101_1".to_owned()),
        "{ids:?}"
    );
    stage.place.run(["cancel", &batch]).ok();
    assert!(fleet.wait().success(), "{}", fleet.log());
    wait_for("them to leave", || workers(&stage.place).is_empty());
}

#[test]
fn a_fleet_without_an_administrator_s_token_gives_its_workers_back_too() {
    let stage = Stage::new("");
    let place = &stage.place;
    let token = |role: &str| {
        let token = place.run(["token", "create", role]).ok();
        place.file(role, token).display().to_string()
    };
    let (client, worker) = (token("client"), token("worker"));
    let address = place.address();
    let tokens = ["--token-file", &client, "--worker-token-file", &worker];
    let connect = ["--max", "1", "--connect", &address];
    let mut fleet = stage.fleet(&[&connect[..], &tokens].concat());
    let batch = stage.submit(1, "20", &[]);
    place.run(["wait", &batch]).ok();
    wait_for("it to be given back", || {
        !stage.calls("scancel").is_empty() && workers(place).is_empty()
    });
    let refusals = fleet.log().matches("cannot drain").count();
    assert_eq!(refusals, 1, "{}", fleet.log());
    // It still hears.
    let batch = stage.submit(1, "1000000000", &[]);
    wait_for("another worker", || workers(place).len() == 1);
    fleet.signal(Signal::INT);
    place.run(["cancel", &batch]).ok();
    assert!(fleet.wait().success(), "{}", fleet.log());
}

#[test]
fn what_a_worker_says_of_its_job_is_no_argument_of_scancel() {
    let stage = Stage::new("");
    let place = &stage.place;
    let names = ["--all", "-u", "7 --all", "31337"];
    let _workers: Vec<Process> = names
        .iter()
        .map(|name| {
            let job = format!("fleet-job={name}");
            place.worker("liar", &["--label", "fleet=workers", "--label", &job])
        })
        .collect();
    let mut fleet = stage.fleet(&["--max", "1"]);
    wait_for("it to look", || !stage.calls("squeue").is_empty());
    // Longer than the grace after which idle workers are given back.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    fleet.signal(Signal::INT);
    assert!(fleet.wait().success(), "{}", fleet.log());
    assert_eq!(stage.calls("scancel"), Vec::<String>::new());
    assert_eq!(workers(place).len(), names.len(), "none was drained");
}

#[test]
fn the_end_of_the_terminal_gives_the_jobs_back_but_not_under_nohup() {
    let stage = Stage::new("");
    let batch = stage.submit(1, "1000000000", &[]);
    let mut fleet = stage.fleet_under(&["nohup"], &["--max", "1"]);
    wait_for("a worker", || workers(&stage.place).len() == 1);
    fleet.signal(Signal::HUP);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(fleet.is_running(), "{}", fleet.log());
    assert!(stage.calls("scancel").is_empty());
    fleet.signal(Signal::INT);
    wait_for("the cancellation", || !stage.calls("scancel").is_empty());
    stage.place.run(["cancel", &batch]).ok();
    assert!(fleet.wait().success(), "{}", fleet.log());
    wait_for("it to leave", || workers(&stage.place).is_empty());

    let batch = stage.submit(1, "1000000000", &[]);
    let mut fleet = stage.fleet(&["--max", "1"]);
    wait_for("a worker", || workers(&stage.place).len() == 1);
    let before = stage.calls("scancel").len();
    fleet.signal(Signal::HUP);
    wait_for("the cancellation", || stage.calls("scancel").len() > before);
    stage.place.run(["cancel", &batch]).ok();
    assert!(fleet.wait().success(), "{}", fleet.log());
}

#[test]
fn a_folder_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::new("");
    let folder = stage.place.path().join("optwasm-fleet/workers");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut fleet = stage.fleet(&["--max", "1"]);
    assert_eq!(fleet.wait().code(), Some(2), "{}", fleet.log());
    assert!(
        fleet.log().contains("only you can write"),
        "{}",
        fleet.log()
    );
    assert!(!folder.join("token").exists());
}

#[test]
fn case_36_failures_end_the_fleet_with_the_reason() {
    for (mode, code, why) in [
        ("vanish", 1, "no worker had joined"),
        ("sbatch-fails", 1, "invalid account"),
        (
            "vanish squeue-fails",
            4,
            "Unable to contact slurm controller",
        ),
        ("vanish squeue-hangs", 4, "did not answer within"),
        ("vanish squeue-empty", 1, "no worker had joined"),
    ] {
        let stage = Stage::new(mode);
        stage.submit(3, "20", &[]);
        let mut fleet = stage.fleet(&["--max", "1"]);
        let status = fleet.wait();
        assert_eq!(status.code(), Some(code), "{mode}: {}", fleet.log());
        assert!(fleet.log().contains(why), "{mode}: {}", fleet.log());
        assert!(
            !stage
                .place
                .path()
                .join("optwasm-fleet/workers/token")
                .exists()
        );
    }
}

#[test]
fn case_36_a_dry_run_prints_the_script_of_each_system_and_submits_nothing() {
    let place = place();
    for (system, directive) in [
        ("slurm", "#SBATCH --cpus-per-task=4"),
        ("pbs", "#PBS -l select=1:ncpus=4"),
        ("torque", "#PBS -l nodes=1:ppn=4"),
        ("sge", "#$ -N workers"),
        ("lsf", "#BSUB -n 4"),
    ] {
        let args = [
            "fleet",
            system,
            "--max",
            "8",
            "--time",
            "1h",
            "--cpus",
            "4",
            "--dry-run",
        ];
        let more = [
            "--job-memory",
            "8GiB",
            "--module",
            "gcc/12",
            "--advertise",
            "head:4710",
        ];
        let script = place.run(args.iter().chain(&more)).ok();
        assert!(script.contains(directive), "{script}");
        assert!(script.contains("--connect=head:4710") && script.contains("--leave-after=3480s"));
        assert!(script.contains("--slots=4") && script.contains("module load gcc/12"));
        // A relative folder is made absolute: nodes have another current directory.
        let shared = place.path().join("optwasm-fleet/workers/token");
        assert!(
            script.contains(&format!("--token-file={}", shared.display())),
            "{script}"
        );
    }
    assert!(!place.path().join("optwasm-fleet").exists());
    let args = [
        "fleet",
        "slurm",
        "--max",
        "1",
        "--dry-run",
        "--advertise",
        "head:4710",
    ];
    place
        .run(args.iter().chain(&["--queue", "a; rm -rf /"]))
        .fails(2, "only letters, digits");
    let template = place
        .file("template", "{{directives}}\n{{comand}}\n")
        .display()
        .to_string();
    place
        .run(args.iter().chain(&["--template", &template]))
        .fails(2, "there is no {{comand}}");
}

#[test]
fn case_36_a_fleet_works_on_a_real_slurm() {
    if let Err(why) = is_possible() {
        return announce(&format!("not tested: optwasm fleet on a real Slurm: {why}"));
    }
    let debian = match unpack("slurm", &PACKAGES) {
        Ok(debian) => debian,
        Err(why) => return announce(&format!("not tested: optwasm fleet on a real Slurm: {why}")),
    };
    let cluster = start(&debian).unwrap();
    let net = format!("--net=/proc/{}/ns/net", cluster.pid());
    let place = place().wrapped(&["nsenter", &net]);
    let _coordinator = place.coordinator_at("10.99.0.1:0", &[]);
    let programs = cluster.dir.path().join("bin").display().to_string();
    let shared = cluster.dir.path().join("shared").display().to_string();
    let args = [
        "fleet", "slurm", "--max", "2", "--time", "10m", "--cpus", "1", "--memory", "2GiB",
    ];
    let more = [
        "--shared",
        &shared,
        "--programs",
        &programs,
        "--idle-grace",
        "1s",
    ];
    let vanish = ["--vanish-grace", "2s"];
    let pace = [
        "--submit-every",
        "100ms",
        "--poll",
        "500ms",
        "--observe-every",
        "200ms",
    ];
    let mut fleet = place.start(args.iter().chain(&more).chain(&pace).chain(&vanish));
    let spin = guest("spin");
    let args = [
        "submit", &spin, "--jsonl", "--memo", "off", "--output", "json",
    ];
    let batch = place.run_on(args, "20\n".repeat(40).as_bytes()).json()["batch"].to_string();
    wait_for("workers", || !workers(&place).is_empty());
    place.run(["wait", &batch]).ok();
    wait_for("them to be given back", || cluster.jobs().is_empty());
    assert!(workers(&place).is_empty());
    assert!(
        cluster.calls("scancel").is_empty(),
        "they left by themselves"
    );

    let endless = place.run_on(args, b"1000000000\n").json()["batch"].to_string();
    wait_for("a worker", || cluster.jobs().contains("RUNNING"));
    fleet.signal(Signal::INT);
    assert!(fleet.wait().success(), "{}", fleet.log());
    wait_for("its end", || cluster.jobs().is_empty());
    place.run(["cancel", &endless]).ok();
}
