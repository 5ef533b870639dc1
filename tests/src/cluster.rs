//! A coordinator and workers as real processes, in a directory of their own.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use tempfile::TempDir;

/// How long anything in a test may take before it counts as hung: machines are slow and busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A place where `optwasm` runs: state, caches and configuration of its own.
pub struct Place {
    dir: TempDir,
    program: PathBuf,
    wrapper: Vec<String>,
    cache: Option<PathBuf>,
}

impl Place {
    /// A new place for the command `program`.
    ///
    /// # Panics
    ///
    /// Where no directory can be made.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory can be made"),
            program: program.into(),
            wrapper: Vec::new(),
            cache: None,
        }
    }

    /// Has everything here run by a program that is given the command as its last arguments, such
    /// as `ip netns exec NAME`.
    #[must_use]
    pub fn wrapped(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Shares compiled modules with other places.
    #[must_use]
    pub fn with_cache(mut self, cache: impl Into<PathBuf>) -> Self {
        self.cache = Some(cache.into());
        self
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The coordinator's directory.
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Writes a file into it; returns where.
    ///
    /// # Panics
    ///
    /// Where it cannot be written.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).expect("a file can be written");
        path
    }

    /// The command, with nothing of the surrounding environment but where programs are.
    pub fn command<I: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let wrapper: Vec<&str> = self.wrapper.iter().map(String::as_str).collect();
        self.command_under(&wrapper, args)
    }

    /// The command, run by `wrapper` instead of the place's own.
    pub fn command_under<I: AsRef<std::ffi::OsStr>>(
        &self,
        wrapper: &[&str],
        args: impl IntoIterator<Item = I>,
    ) -> Command {
        let mut command = match wrapper {
            [] => Command::new(&self.program),
            [wrapper, words @ ..] => {
                let mut command = Command::new(wrapper);
                command.args(words).arg(&self.program);
                command
            }
        };
        command.env_clear();
        if let Some(cache) = &self.cache {
            command.env("OPTWASM_CACHE_DIR", cache);
        }
        command
            .args(args)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("OPTWASM_DIR", self.state())
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end.
    ///
    /// # Panics
    ///
    /// Where it cannot be run, or does not end.
    pub fn run<I: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Ran {
        finish(self.command(args).spawn().expect("the command can be run"))
    }

    /// Runs the command on `input`.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_on<I: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = I>,
        input: &[u8],
    ) -> Ran {
        let file = self.file(".stdin", input);
        let mut command = self.command(args);
        command.stdin(fs::File::open(file).expect("it was just written"));
        finish(command.spawn().expect("the command can be run"))
    }

    /// Starts a process that is ended with its handle.
    ///
    /// # Panics
    ///
    /// Where it cannot be run.
    pub fn start<I: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Process {
        let command = self.command(args);
        self.start_command(command)
    }

    /// Starts a [`command`](Self::command) as a process that is ended with its handle.
    ///
    /// # Panics
    ///
    /// Where it cannot be run.
    pub fn start_command(&self, mut command: Command) -> Process {
        let log = self.path().join(format!("log-{}", unique()));
        let out = fs::File::create(&log).expect("a file can be written");
        let err = out.try_clone().expect("a file can be shared");
        let child = command.stdout(out).stderr(err).spawn();
        Process {
            child: child.expect("the command can be run"),
            log,
        }
    }

    /// Starts a coordinator on a free port of the loopback interface, and waits until it listens.
    ///
    /// # Panics
    ///
    /// Where it does not come up.
    pub fn coordinator(&self, args: &[&str]) -> Process {
        self.coordinator_at("127.0.0.1:0", args)
    }

    /// Starts a coordinator that listens on `address`, and waits until it does.
    ///
    /// # Panics
    ///
    /// Where it does not come up.
    pub fn coordinator_at(&self, address: &str, args: &[&str]) -> Process {
        let mut process = self.start(["coordinator", "--listen", address].iter().chain(args));
        wait_for("the coordinator", || {
            assert!(process.is_running(), "it ended: {}", process.log());
            process.log().contains("worker joins with")
        });
        process
    }

    /// Starts a coordinator under `wrapper`, as [`coordinator`](Self::coordinator) does without.
    ///
    /// # Panics
    ///
    /// Where it does not come up.
    pub fn coordinator_under(&self, wrapper: &[&str], args: &[&str]) -> Process {
        let fixed = ["coordinator", "--listen", "127.0.0.1:0"];
        let mut process = self.start_command(self.command_under(wrapper, fixed.iter().chain(args)));
        wait_for("the coordinator", || {
            assert!(process.is_running(), "it ended: {}", process.log());
            process.log().contains("worker joins with")
        });
        process
    }

    /// Starts a worker with one slot and waits until it has joined.
    ///
    /// # Panics
    ///
    /// Where it does not join.
    pub fn worker(&self, name: &str, args: &[&str]) -> Process {
        let wrapper: Vec<&str> = self.wrapper.iter().map(String::as_str).collect();
        self.worker_under(&wrapper, name, args)
    }

    /// Starts a worker under `wrapper`, as [`worker`](Self::worker) does without.
    ///
    /// # Panics
    ///
    /// Where it does not join.
    pub fn worker_under(&self, wrapper: &[&str], name: &str, args: &[&str]) -> Process {
        let fixed = ["worker", "--slots", "1", "--name", name];
        let command = self.command_under(wrapper, fixed.iter().chain(args));
        let mut process = self.start_command(command);
        wait_for("the worker", || {
            assert!(process.is_running(), "it ended: {}", process.log());
            process.log().contains("connected to")
        });
        process
    }

    /// Where the coordinator listens.
    ///
    /// # Panics
    ///
    /// Where none is running.
    pub fn address(&self) -> String {
        let access = fs::read(self.state().join("access.json")).expect("a coordinator is running");
        let access: serde_json::Value = serde_json::from_slice(&access).expect("it is JSON");
        access["address"]
            .as_str()
            .expect("it has an address")
            .to_owned()
    }
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An address of the loopback interface that no other test has, and that no client is given by
/// accident: its port is below those that the system chooses. So a coordinator can be killed and
/// started there again.
pub fn own_address() -> String {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    // Ports from 10000 on are not reserved; Linux chooses from 32768 on.
    format!("127.{}.{b}.{c}:{}", a | 64, 10_000 + unique() % 20_000)
}

/// Waits until `ready`.
///
/// # Panics
///
/// After [`PATIENCE`].
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < PATIENCE, "{what} took too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn finish(mut child: Child) -> Ran {
    let pid = child.id();
    let (done, watch) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let hung = watch.recv_timeout(PATIENCE).is_err();
        if hung && let Some(pid) = Pid::from_raw(pid as i32) {
            // It may have ended at this very moment.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    });
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stderr.read_to_end(&mut bytes);
        bytes
    });
    let mut output = child.wait_with_output().expect("a child can be waited for");
    output.stderr = reading.join().expect("reading does not panic");
    let _ = done.send(());
    watchdog.join().expect("the watchdog does not panic");
    Ran(output)
}

/// How a command ended.
pub struct Ran(Output);

impl Ran {
    /// Its exit code.
    ///
    /// # Panics
    ///
    /// Where a signal ended it.
    pub fn code(&self) -> i32 {
        let code = self.0.status.code();
        code.unwrap_or_else(|| panic!("{}: {}", self.0.status, self.stderr()))
    }

    /// Its stdout, as text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// Its stdout.
    pub fn bytes(&self) -> &[u8] {
        &self.0.stdout
    }

    /// Its stderr, as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Asserts that it succeeded; returns its stdout.
    ///
    /// # Panics
    ///
    /// Where it did not.
    #[track_caller]
    pub fn ok(&self) -> String {
        assert_eq!(
            self.code(),
            0,
            "stdout: {}\nstderr: {}",
            self.stdout(),
            self.stderr()
        );
        self.stdout()
    }

    /// Asserts its exit code, and that stderr begins with one line that holds `message`.
    ///
    /// # Panics
    ///
    /// Where it is otherwise.
    #[track_caller]
    pub fn fails(&self, code: i32, message: &str) {
        let stderr = self.stderr();
        assert_eq!(self.code(), code, "stderr: {stderr}");
        let first = stderr.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("optwasm: ") || first.starts_with("error: "),
            "stderr: {stderr}"
        );
        assert!(stderr.contains(message), "no `{message}` in: {stderr}");
    }

    /// Its stdout as one JSON document.
    ///
    /// # Panics
    ///
    /// Where it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let parsed = serde_json::from_slice(&self.0.stdout);
        parsed.unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout(), self.stderr()))
    }
}

/// A running process. Dropping it kills it.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// What it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// Where it has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("process ids are positive");
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }

    /// Has the system give it no more address space than it has and so many bytes.
    ///
    /// # Panics
    ///
    /// Where that is not permitted.
    pub fn limit_growth(&self, bytes: u64) {
        let sizes = fs::read_to_string(format!("/proc/{}/statm", self.id()));
        let sizes = sizes.expect("the process is there");
        let pages = sizes.split(' ').next().and_then(|text| text.parse().ok());
        let pages: u64 = pages.expect("the first is the address space in pages");
        let most = pages * rustix::param::page_size() as u64 + bytes;
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        let pid = Pid::from_raw(self.id() as i32);
        let limited = rustix::process::prlimit(pid, Resource::As, limit);
        limited.expect("limits of one's own processes can be lowered");
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    ///
    /// Where it does not.
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "it does not end: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ended, where it has.
    ///
    /// # Panics
    ///
    /// Where the operating system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _: io::Result<ExitStatus> = self.child.wait();
    }
}
