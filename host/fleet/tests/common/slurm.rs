//! A real Slurm: Debian's packages, unpacked and used in place, in a network namespace of its own. It takes
//! root, for the namespace and because munged, slurmctld and slurmd check who owns their files.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::debian::Unpacked;
use super::write_program;

/// What it takes.
pub const PACKAGES: [&str; 8] = [
    "slurmctld",
    "slurmd",
    "slurm-client",
    "slurm-wlm-basic-plugins",
    "munge",
    "libmunge2",
    "libhwloc15",
    "liblua5.1-0",
];

/// A node with two cores, on a network of its own, in which its address is 10.99.0.1. It ends when this is
/// dropped.
pub struct Cluster {
    namespace: Child,
    pub dir: tempfile::TempDir,
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

/// Starts it, and waits until it takes jobs.
///
/// # Errors
///
/// What its logs say.
pub fn start(debian: &Unpacked) -> Result<Cluster, String> {
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
    /// One of its commands.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.path().join("bin").join(name)
    }

    /// Its jobs and their states.
    pub fn jobs(&self) -> String {
        let mut squeue = Command::new(self.program("squeue"));
        let output = squeue
            .args(["--noheader", "--array", "--format=%i %T"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The calls of a command so far.
    pub fn calls(&self, program: &str) -> Vec<String> {
        let calls = std::fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        let own = calls
            .lines()
            .filter(|line| line.starts_with(&format!("{program} ")));
        own.map(str::to_owned).collect()
    }

    /// The process whose namespaces are the cluster's.
    pub fn pid(&self) -> u32 {
        self.namespace.id()
    }
}

/// Whether it can be had here at all.
///
/// # Errors
///
/// Why not.
pub fn is_possible() -> Result<(), String> {
    if !super::is_root() {
        return Err("it takes root".to_owned());
    }
    let namespaces = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "true"])
        .status();
    match namespaces.is_ok_and(|status| status.success()) {
        true => Ok(()),
        false => Err("no network namespace can be made here".to_owned()),
    }
}
