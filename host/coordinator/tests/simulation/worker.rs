//! Workers of the simulation: what a worker's process does with what it is told, without the
//! sandbox. What a job gives depends on its input alone, or, where it is a job of that kind, on the
//! attempt too.

use std::collections::VecDeque;

use optwasm_protocol::message::{Instance, WorkerInfo};
use optwasm_protocol::{JobId, Outcome, Payload, Report};

use crate::random::mix;

/// One attempt.
pub type Attempt = (JobId, u32);

/// The place of a worker among the workers of a history.
pub type Place = usize;

/// From a worker.
pub enum Up {
    Hello(Instance),
    /// What it holds; the first after the answer to its hello.
    Ready(Vec<Attempt>),
    Finished(Vec<(JobId, u32, Report)>),
    GiveBack(Vec<Attempt>),
    Draining,
    /// It leaves in good order.
    Bye,
}

/// To a worker.
pub enum Down {
    Welcome,
    Assign(JobId, u32, Payload),
    Revoke(JobId, u32),
    Recall(JobId, u32),
    Stored(u64),
    Drain,
    Leave,
}

/// How far an attempt is on its worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Its batch is being made ready; it is lost with the connection.
    Preparing,
    Waiting,
    Running,
    /// It was told to stop, and has not yet.
    Stopping,
    Finished(Box<Report>),
}

/// An attempt on a worker.
pub struct Task {
    pub attempt: Attempt,
    pub input: Payload,
    pub progress: Progress,
}

/// A place where a worker runs, dies, and is started again.
pub struct Worker {
    pub place: Place,
    pub alive: bool,
    /// Its process is stopped.
    pub paused: bool,
    /// How many processes were started here.
    pub started: u64,
    pub slots: u32,
    pub tasks: Vec<Task>,
    /// Its connection, where it believes to have one.
    pub link: Option<u32>,
    /// Whether it was welcomed on it.
    pub ready: bool,
    /// Reports sent on this connection that are not known to be stored.
    sent: VecDeque<Attempt>,
    stored: u64,
    pub draining: bool,
    /// What it computes of jobs that others confirm is wrong.
    pub liar: bool,
}

impl Worker {
    pub fn new(place: Place, slots: u32, liar: bool) -> Self {
        Self {
            place,
            alive: true,
            paused: false,
            started: 1,
            slots,
            tasks: Vec::new(),
            link: None,
            ready: false,
            sent: VecDeque::new(),
            stored: 0,
            draining: false,
            liar,
        }
    }

    pub fn instance(&self) -> Instance {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(self.place as u64 + 1).to_le_bytes());
        bytes[8..].copy_from_slice(&self.started.to_le_bytes());
        Instance(bytes)
    }

    pub fn info(&self) -> WorkerInfo {
        WorkerInfo {
            name: format!("w{}", self.place),
            slots: self.slots,
            memory: 1 << 40,
            labels: Default::default(),
            engine: "engine".to_owned(),
            instance: self.instance(),
            probe: String::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.alive && !self.paused
    }

    /// Its process dies.
    pub fn die(&mut self) {
        self.alive = false;
        self.paused = false;
        self.link = None;
        self.ready = false;
        self.tasks.clear();
    }

    /// A new process.
    pub fn start(&mut self) {
        self.alive = true;
        self.draining = false;
        self.started += 1;
    }

    /// It believes its connection to be lost.
    pub fn disconnect(&mut self) {
        self.link = None;
        self.ready = false;
        self.tasks.retain(|t| t.progress != Progress::Preparing);
    }

    /// It was welcomed; says what it says first.
    pub fn welcomed(&mut self) -> Vec<Up> {
        self.ready = true;
        self.sent.clear();
        self.stored = 0;
        let held = self.tasks.iter().map(|task| task.attempt).collect();
        let mut all = vec![Up::Ready(held)];
        if self.draining {
            all.push(Up::Draining);
        }
        let finished: Vec<Attempt> = self
            .tasks
            .iter()
            .filter(|task| matches!(task.progress, Progress::Finished(_)))
            .map(|task| task.attempt)
            .collect();
        all.extend(self.report(&finished));
        all
    }

    fn report(&mut self, attempts: &[Attempt]) -> Option<Up> {
        let reports: Vec<_> = attempts
            .iter()
            .filter_map(|attempt| {
                let task = self.tasks.iter().find(|task| task.attempt == *attempt)?;
                match &task.progress {
                    Progress::Finished(report) => {
                        Some((attempt.0, attempt.1, Report::clone(report)))
                    }
                    _ => None,
                }
            })
            .collect();
        self.sent
            .extend(reports.iter().map(|(job, attempt, _)| (*job, *attempt)));
        (!reports.is_empty()).then_some(Up::Finished(reports))
    }

    /// It was told something; what it answers. `prepared` where the job's batch is ready here.
    pub fn hear(&mut self, message: Down, prepared: bool) -> Vec<Up> {
        match message {
            Down::Welcome => return self.welcomed(),
            Down::Assign(job, attempt, _) if self.draining => {
                return vec![Up::GiveBack(vec![(job, attempt)])];
            }
            Down::Assign(job, attempt, input) => {
                let progress = match prepared {
                    true => Progress::Waiting,
                    false => Progress::Preparing,
                };
                self.tasks.push(Task {
                    attempt: (job, attempt),
                    input,
                    progress,
                });
            }
            Down::Revoke(job, attempt) => {
                let attempt = (job, attempt);
                self.take_back(|task| task.attempt == attempt);
                for task in &mut self.tasks {
                    if task.attempt == attempt && task.progress == Progress::Running {
                        task.progress = Progress::Stopping;
                    }
                }
            }
            Down::Recall(job, attempt) => {
                let taken = self.take_back(|task| task.attempt == (job, attempt));
                if !taken.is_empty() {
                    return vec![Up::GiveBack(taken)];
                }
            }
            Down::Stored(count) => {
                while self.stored < count {
                    let Some(attempt) = self.sent.pop_front() else {
                        break;
                    };
                    self.tasks.retain(|task| task.attempt != attempt);
                    self.stored += 1;
                }
            }
            Down::Drain => return self.drain(),
            Down::Leave => self.die(),
        }
        Vec::new()
    }

    pub fn drain(&mut self) -> Vec<Up> {
        if std::mem::replace(&mut self.draining, true) {
            return Vec::new();
        }
        vec![Up::Draining, Up::GiveBack(self.take_back(|_| true))]
    }

    /// Takes attempts that have not begun.
    fn take_back(&mut self, which: impl Fn(&Task) -> bool) -> Vec<Attempt> {
        let mut taken = Vec::new();
        self.tasks.retain(|task| {
            let begun = !matches!(task.progress, Progress::Preparing | Progress::Waiting);
            let keep = begun || !which(task);
            if !keep {
                taken.push(task.attempt);
            }
            keep
        });
        taken
    }

    /// Jobs whose batch is ready wait for slots; those that wait begin while slots are free.
    /// Returns those that began.
    pub fn begin(&mut self) -> Vec<Attempt> {
        let mut begun = Vec::new();
        let running = |t: &Task| matches!(t.progress, Progress::Running | Progress::Stopping);
        let mut free = self.slots as usize - self.tasks.iter().filter(|t| running(t)).count();
        for task in &mut self.tasks {
            if task.progress == Progress::Preparing {
                task.progress = Progress::Waiting;
            }
            if free > 0 && task.progress == Progress::Waiting {
                task.progress = Progress::Running;
                begun.push(task.attempt);
                free -= 1;
            }
        }
        begun
    }

    /// One of the jobs that run ends; says so, where it is connected.
    pub fn finish(&mut self, which: usize) -> Option<Up> {
        let (liar, name) = (self.liar, format!("w{}", self.place));
        let running = |t: &&mut Task| matches!(t.progress, Progress::Running | Progress::Stopping);
        let task = self.tasks.iter_mut().filter(running).nth(which)?;
        let mut report = match task.progress {
            Progress::Stopping => Report::not_run(Outcome::Cancelled),
            _ => compute(&task.input, task.attempt.1, liar),
        };
        report.worker = name;
        let attempt = task.attempt;
        task.progress = Progress::Finished(Box::new(report));
        if !self.ready {
            return None;
        }
        self.report(&[attempt])
    }

    pub fn running(&self) -> usize {
        let running = |t: &&Task| matches!(t.progress, Progress::Running | Progress::Stopping);
        self.tasks.iter().filter(running).count()
    }

    /// Whether it has done all that it had, and was told to drain.
    pub fn may_leave(&self) -> bool {
        self.ready && self.draining && self.tasks.is_empty()
    }
}

/// Kinds of jobs, by the first byte of their input.
pub const FAILS: u8 = 1;
pub const RUNS_OUT: u8 = 2;
/// Fails by no fault of its own in some attempts.
pub const FLAKY: u8 = 3;
/// Other workers confirm its result; liars lie.
pub const CONFIRMED: u8 = 4;

/// What a job gives.
pub fn compute(input: &Payload, attempt: u32, liar: bool) -> Report {
    let Payload::Inline(bytes) = input else {
        return Report::not_run(Outcome::Cancelled);
    };
    let number = bytes
        .iter()
        .fold(7, |sum, byte| mix(sum ^ u64::from(*byte)));
    let kind = bytes.first().copied().unwrap_or_default();
    let outcome = match kind {
        FAILS => Outcome::GuestError {
            code: 3,
            message: "no".to_owned(),
            chain: Vec::new(),
        },
        RUNS_OUT => Outcome::OutOfFuel,
        FLAKY if mix(number ^ u64::from(attempt)).is_multiple_of(2) => {
            Outcome::HostOutOfMemory("here".to_owned())
        }
        CONFIRMED if liar => Outcome::Ok(
            mix(number ^ u64::from(attempt))
                .to_le_bytes()
                .to_vec()
                .into(),
        ),
        _ => Outcome::Ok(number.to_le_bytes().to_vec().into()),
    };
    let fuel = if matches!(outcome, Outcome::HostOutOfMemory(_)) {
        0
    } else {
        number % 1000
    };
    Report {
        fuel,
        wall_us: 1000 + number % 50_000,
        ..Report::not_run(outcome)
    }
}
