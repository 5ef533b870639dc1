//! Against a real Slurm: Debian's packages, unpacked and used in place, in a network namespace of its
//! own. It takes root, for the namespace and because munged, slurmctld and slurmd check who owns their
//! files.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::batch::{Fleet, quick, until, workers};
use common::debian::{Unpacked, unpack};
use common::{TOKEN, WORKER, announce, files_with, is_root, joined, seen_in_proc, write_program};
use optwasm_fleet::WorkerSpec;
use optwasm_fleet::batch::Settings;
use optwasm_fleet::batch::script::JobSpec;
use optwasm_fleet::batch::system::System;

const PACKAGES: [&str; 8] = [
    "slurmctld",
    "slurmd",
    "slurm-client",
    "slurm-wlm-basic-plugins",
    "munge",
    "libmunge2",
    "libhwloc15",
    "liblua5.1-0",
];

/// A node with two cores, on a network of its own.
struct Cluster {
    namespace: Child,
    dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Its first process takes all others of the namespace along.
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
    }
}

/// Slurm resolves names only where a network other than the loopback is there, so it gets a wire that
/// ends in nothing.
const DAEMONS: &str = r#"set -e
echo node > /proc/sys/kernel/hostname
ip link set lo up
ip link add wire0 type veth peer name wire1
ip addr add 10.99.0.1/24 dev wire0
ip link set wire0 up
ip link set wire1 up
head -c 1024 /dev/urandom > munge.key
chmod 400 munge.key
"$ROOT/usr/sbin/munged" --foreground --force --key-file="$PWD/munge.key" --socket="$PWD/munge.sock" \
  --pid-file="$PWD/munged.pid" --log-file="$PWD/munged.log" --seed-file="$PWD/munge.seed" &
until [ -S munge.sock ]; do sleep 0.05; done
"$ROOT/usr/sbin/slurmctld-wlm" -D &
"$ROOT/usr/sbin/slurmd-wlm" -D -N node -d "$ROOT/usr/sbin/slurmstepd-wlm" &
wait
"#;

fn start(debian: &Unpacked) -> Result<Cluster, String> {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display();
    let plugins = debian.path("usr/lib/x86_64-linux-gnu/slurm-wlm");
    let config = format!(
        "ClusterName=test\nSlurmctldHost=node(10.99.0.1)\nAuthType=auth/munge\n\
         AuthInfo=socket={here}/munge.sock\nCredType=cred/munge\nSlurmUser=root\nSlurmdUser=root\n\
         StateSaveLocation={here}/state\nSlurmdSpoolDir={here}/spool\n\
         SlurmctldPidFile={here}/slurmctld.pid\nSlurmdPidFile={here}/slurmd.pid\n\
         SlurmctldLogFile={here}/slurmctld.log\nSlurmdLogFile={here}/slurmd.log\n\
         PluginDir={plugins}\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
         SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nMpiDefault=none\n\
         MailProg=/bin/true\nJobAcctGatherType=jobacct_gather/none\n\
         AccountingStorageType=accounting_storage/none\nKillWait=2\nMinJobAge=2\n\
         SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0\n\
         NodeName=node NodeAddr=10.99.0.1 CPUs=2 State=UNKNOWN\n\
         PartitionName=debug Nodes=node Default=YES State=UP\n",
        plugins = plugins.display()
    );
    std::fs::write(dir.path().join("slurm.conf"), config).unwrap();
    for folder in ["state", "spool", "bin"] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let libraries = format!("{}:{}", debian.libraries(), plugins.display());
    let log = std::fs::File::create(dir.path().join("daemons.log")).unwrap();
    let mut namespace = Command::new("unshare");
    namespace
        .args([
            "--net",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["sh", "-c", DAEMONS])
        .current_dir(dir.path())
        .env("ROOT", &debian.root)
        .env("LD_LIBRARY_PATH", &libraries)
        .env("SLURM_CONF", dir.path().join("slurm.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let namespace = namespace.spawn().map_err(|error| error.to_string())?;
    // The commands, as somebody in the cluster would call them.
    for program in ["sbatch", "squeue", "scancel", "sinfo"] {
        let script = format!(
            "#!/bin/sh\necho \"{program} $*\" >> '{here}/calls'\nLD_LIBRARY_PATH='{libraries}' \
             SLURM_CONF='{here}/slurm.conf'\nexport LD_LIBRARY_PATH SLURM_CONF\n\
             exec nsenter --net=/proc/{pid}/ns/net '{root}/usr/bin/{program}' \"$@\"\n",
            pid = namespace.id(),
            root = debian.root.display()
        );
        write_program(&dir.path().join("bin").join(program), &script);
    }
    let mut cluster = Cluster { namespace, dir };
    let begin = Instant::now();
    loop {
        let mut sinfo = Command::new(cluster.program("sinfo"));
        let nodes = sinfo.args(["--noheader", "--format=%T"]).output().unwrap();
        if String::from_utf8_lossy(&nodes.stdout).contains("idle") {
            return Ok(cluster);
        }
        let ended = cluster.namespace.try_wait().unwrap().is_some();
        if ended || begin.elapsed() > Duration::from_secs(60) {
            let logs = ["daemons.log", "munged.log", "slurmctld.log", "slurmd.log"];
            let logs = logs.map(|name| {
                std::fs::read_to_string(cluster.dir.path().join(name)).unwrap_or_default()
            });
            return Err(logs.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Cluster {
    fn program(&self, name: &str) -> PathBuf {
        self.dir.path().join("bin").join(name)
    }

    fn jobs(&self) -> String {
        let mut squeue = Command::new(self.program("squeue"));
        let output = squeue
            .args(["--noheader", "--array", "--format=%i %T"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn calls(&self, program: &str) -> Vec<String> {
        let calls = std::fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        let own = calls
            .lines()
            .filter(|line| line.starts_with(&format!("{program} ")));
        own.map(str::to_owned).collect()
    }

    fn settings(&self, name: &str, max: u32) -> Settings {
        let program = self.dir.path().join("worker");
        write_program(&program, WORKER);
        let worker = WorkerSpec::new("head:4710");
        let shared = self.dir.path().join("shared");
        let mut job = JobSpec::new(System::Slurm, name, &shared, &program, worker);
        job.time = Some(Duration::from_secs(600));
        job.cpus = Some(1);
        job.queue = Some("debug".into());
        Settings {
            config: quick(max, max),
            programs: Some(self.dir.path().join("bin")),
            limit: Duration::from_secs(20),
            observe_every: Duration::from_millis(50),
            ..Settings::new(job, max)
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_lives_on_a_real_slurm() {
    if !is_root() {
        return announce("not tested: a real Slurm, which takes root");
    }
    let namespaces = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "true"])
        .status();
    if !namespaces.is_ok_and(|status| status.success()) {
        return announce("not tested: a real Slurm: no network namespace can be made here");
    }
    let debian = match unpack("slurm", &PACKAGES) {
        Ok(debian) => debian,
        Err(why) => return announce(&format!("not tested: a real Slurm: {why}")),
    };
    let cluster = start(&debian).unwrap();
    let name = format!("slurm-{}", std::process::id());
    let begin = Instant::now();

    // Three are wanted, and two fit the node: an array, of which one task waits.
    let fleet = Fleet::start(cluster.settings(&name, 3), 9);
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
    let mut settings = cluster.settings(&name, 1);
    settings.job.queue = Some("nowhere".into());
    let error = Fleet::start(settings, 1)
        .end()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("invalid partition specified: nowhere"),
        "{error}"
    );

    // A worker that cannot join, and whose log says why.
    let mut settings = cluster.settings(&name, 1);
    settings.job.worker.extra = vec!["--token-file=/nowhere".into()];
    settings.job.template = Some("{{directives}}\n{{command}} --token-file=/nowhere\n".into());
    settings.config.vanish_grace = Duration::from_secs(1);
    let error = Fleet::start(settings, 1)
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
    let mut settings = cluster.settings(&name, 1);
    settings.limit = Duration::from_secs(2);
    let fleet = Fleet::start(settings, 0);
    let pid = read(&cluster.dir.path().join("slurmctld.pid"));
    let status = Command::new("nsenter")
        .args([
            &format!("--pid=/proc/{}/ns/pid_for_children", cluster.namespace.id()),
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
