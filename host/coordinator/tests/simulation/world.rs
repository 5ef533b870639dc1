//! One history: a coordinator, its disk, workers, clients and the network between them, and what
//! happens to them by chance.
//!
//! What a connection carries arrives in order or not at all, as QUIC has it: a connection that
//! breaks loses what had not arrived in either direction, and each side finds out in its own time.
//! Messages of different connections overtake each other freely, those of a worker's old and new
//! connection included. Every step is one thing that happens; between any two of them the
//! coordinator may die.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use optwasm_coordinator::hub::{Hub, HubConfig, Now, Session, Waiter};
use optwasm_protocol::{BatchId, WorkerId};
use optwasm_store::{Commit, Committed, StoreError};
use tokio::sync::oneshot;

use crate::Broken;
use crate::checker::{Check, Checker};
use crate::disk::Disk;
use crate::network::break_off;
use crate::random::Random;
use crate::worker::{Attempt, Down, Place, Up, Worker};

/// How long a worker that is away keeps its jobs.
pub const LEASE_US: u64 = 2_000_000;

/// A connection of a worker.
pub struct Link {
    pub place: Place,
    pub up: VecDeque<Up>,
    pub down: VecDeque<Down>,
    /// Nothing that is sent now arrives.
    pub cut: bool,
    /// What the coordinator knows of it; `None` where it has given it up.
    pub near: Option<Near>,
    /// Whether the worker has given it up.
    pub left: bool,
}

/// A connection as the coordinator sees it.
#[derive(Clone, Copy)]
pub enum Near {
    New,
    Greeted(WorkerId),
    Joined(Session),
}

/// Something that a client waits for.
pub struct Call {
    pub place: usize,
    pub what: Asked,
    pub waiter: Waiter,
}

#[derive(Clone, Copy)]
pub enum Asked {
    Submit(BatchId),
    Cancel,
    Retry,
    Remove,
}

pub struct World<D: Disk> {
    pub random: Random,
    pub broken: Broken,
    pub disk: D,
    pub store: Option<Rc<D::Store>>,
    pub hub: Option<Hub<D::Store>>,
    /// The commit that the hub waits for.
    pub commit: Option<oneshot::Receiver<Result<Committed, StoreError>>>,
    pub calls: Vec<Call>,
    pub links: BTreeMap<u32, Link>,
    pub next_link: u32,
    pub workers: Vec<Worker>,
    pub now: Now,
    pub checker: Checker,
    /// Which worker of the hub is which process.
    pub processes: BTreeMap<WorkerId, (Place, u64)>,
    /// Workers that the hub knows and has no connection to, and since when.
    pub away: BTreeMap<WorkerId, u64>,
    /// Attempts that workers were told to stop or that the hub took back from them.
    pub revoked: BTreeMap<(Place, u64), Vec<Attempt>>,
    /// Since when a slot has been free while a job was ready.
    pub idle_since_us: Option<u64>,
    pub is_full: bool,
    pub next_key: u64,
    pub confirmed: bool,
    pub trace: Option<Vec<String>>,
}

/// Notes what happens, where that is wanted.
macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if let Some(trace) = &mut $world.trace {
            let now = $world.now.us;
            trace.push(format!("{now:>9} {}", format!($($text)*)));
        }
    };
}
pub(crate) use note;

impl<D: Disk> World<D> {
    pub fn new(seed: u64, disk: D, broken: Broken, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let confirmed = random.chance(20);
        let workers = match confirmed {
            true => 3 + random.below(2),
            false => 1 + random.below(4),
        };
        let workers = (0..workers as usize).map(|place| {
            let mut worker =
                Worker::new(place, 1 + random.below(3) as u32, confirmed && place == 0);
            if place > 0 && random.chance(30) {
                worker.die();
            }
            worker
        });
        let workers = workers.collect();
        Self {
            random,
            broken,
            disk,
            store: None,
            hub: None,
            commit: None,
            calls: Vec::new(),
            links: BTreeMap::new(),
            next_link: 0,
            workers,
            now: Now { us: 0, ms: 1_000 },
            checker: Checker::default(),
            processes: BTreeMap::new(),
            away: BTreeMap::new(),
            revoked: BTreeMap::new(),
            idle_since_us: None,
            is_full: false,
            next_key: 0,
            confirmed,
            trace: trace.then(Vec::new),
        }
    }

    /// What happened, where it was to be noted.
    pub fn trace(&self) -> String {
        self.trace.as_deref().unwrap_or_default().join("\n")
    }

    /// Trouble for some steps, then calm until everything has ended.
    pub fn run(&mut self) -> Check {
        self.start()?;
        for _ in 0..40 + self.random.below(160) {
            self.step()?;
        }
        self.calm()
    }

    pub(crate) fn pass(&mut self, us: u64) {
        self.now.us += us;
        self.now.ms += us / 1000;
    }

    // The coordinator and its disk.

    pub(crate) fn start(&mut self) -> Check {
        note!(self, "the coordinator starts");
        self.now.us = self.now.us.max(1);
        let config = HubConfig {
            lease_us: LEASE_US,
            max_queued: u64::MAX,
            engine: "engine".to_owned(),
        };
        let opened = self.disk.open();
        let store = match opened {
            Ok(store) => store,
            // The disk fails again; the next start is another step.
            Err(_) if self.is_full => return Ok(()),
            Err(error) => {
                note!(self, "the store does not open: {error}");
                return Ok(());
            }
        };
        let hub = match Hub::new(store.clone(), config, self.now) {
            Ok(hub) => hub,
            Err(error) => {
                note!(self, "the store cannot be read: {error}");
                drop(store);
                return Ok(());
            }
        };
        for status in hub.worker_statuses(self.now, None) {
            self.away.insert(status.worker, self.now.us);
        }
        self.checker.look(&*store)?;
        self.store = Some(store);
        self.hub = Some(hub);
        Ok(())
    }

    /// It dies: what it had not written, and what was on its way to and from it, is gone.
    pub(crate) fn crash(&mut self) {
        note!(self, "the coordinator dies");
        self.hub = None;
        self.store = None;
        self.commit = None;
        self.calls.clear();
        self.away.clear();
        for link in self.links.values_mut() {
            link.near = None;
            link.up.clear();
            break_off(link, &mut self.random);
        }
        self.disk.crash(&mut self.random);
        self.checker.crashed();
        self.is_full = false;
    }

    /// The commits that have come out are followed by what waits for them.
    pub(crate) fn follow_commits(&mut self) -> Check {
        loop {
            let Some(hub) = &mut self.hub else {
                return Ok(());
            };
            if self.commit.is_none() {
                self.commit = match hub.next_commit() {
                    Some(Commit::Pending(receiver)) => Some(receiver),
                    Some(Commit::Done(committed)) => {
                        hub.committed(self.now, Ok(committed));
                        continue;
                    }
                    None => break,
                };
            }
            let Some(commit) = &mut self.commit else {
                break;
            };
            let Some(outcome) = self.disk.poll(commit) else {
                break;
            };
            self.commit = None;
            hub.committed(self.now, outcome);
            if self.random.chance(30) {
                break;
            }
        }
        self.answer_calls()?;
        let failure = self.hub.as_ref().and_then(|hub| hub.failure());
        if let Some(error) = failure {
            note!(self, "the store failed: {error}");
            self.crash();
        }
        Ok(())
    }

    /// Clients hear what became of what they asked for; some answers are lost.
    pub(crate) fn answer_calls(&mut self) -> Check {
        let mut waiting = Vec::new();
        for mut call in std::mem::take(&mut self.calls) {
            match call.waiter.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => waiting.push(call),
                Err(oneshot::error::TryRecvError::Closed) | Ok(Err(_)) => {}
                Ok(Ok(())) if matches!(call.what, Asked::Retry) => {
                    self.checker.submissions[call.place].reopening = false;
                }
                Ok(Ok(())) if self.random.chance(20) => {}
                Ok(Ok(())) => {
                    let submission = &mut self.checker.submissions[call.place];
                    match call.what {
                        Asked::Submit(batch) => {
                            note!(self, "client {} has batch {batch}", call.place);
                            self.checker.acknowledged(call.place, batch)?;
                        }
                        Asked::Cancel => submission.cancelled = true,
                        Asked::Remove => submission.gone = true,
                        Asked::Retry => {}
                    }
                }
            }
        }
        self.calls = waiting;
        Ok(())
    }

    // What happens.

    pub(crate) fn step(&mut self) -> Check {
        if self.random.chance(40) {
            let us = 1 + self.random.below(40_000);
            self.pass(us);
        }
        let links: Vec<u32> = self.links.keys().copied().collect();
        let link = self.random.pick(&links);
        let place = self.random.below(self.workers.len() as u64) as usize;
        match self.random.below(100) {
            0..20 => link.into_iter().for_each(|link| self.hear(link)),
            20..35 => link.map_or(Ok(()), |link| self.send(link))?,
            35..50 => link.into_iter().for_each(|link| self.deliver(link)),
            50..62 => self.work(place)?,
            62..70 => self.disk.sync(&mut self.random),
            70..78 => self.follow_commits()?,
            78..81 => self.connect(place),
            81..84 if self.checker.submissions.len() < 4 => self.submit_new(),
            81..87 => self.ask()?,
            87..91 => self.trouble(place)?,
            91..93 => link.into_iter().for_each(|link| self.notice(link)),
            93..97 => self.tick()?,
            _ => self.submit_again(),
        }
        Ok(())
    }

    /// A client that has no answer sends its submission again.
    pub(crate) fn submit_again(&mut self) {
        let all = self.checker.submissions.iter().enumerate();
        let open = all.filter(|(_, submission)| submission.batch.is_none());
        let open: Vec<usize> = open.map(|(place, _)| place).collect();
        if let Some(place) = self.random.pick(&open) {
            self.submit(place);
        }
    }

    pub(crate) fn tick(&mut self) -> Check {
        if let Some(hub) = &mut self.hub {
            hub.tick(self.now);
        }
        Ok(())
    }

    pub(crate) fn trouble(&mut self, place: Place) -> Check {
        match self.random.below(16) {
            0..3 if self.hub.is_some() => self.crash(),
            0..5 if self.hub.is_none() => self.start()?,
            5..8 => {
                let open: Vec<u32> = self.links.keys().copied().collect();
                if let Some(link) = self.random.pick(&open).and_then(|l| self.links.get_mut(&l)) {
                    note!(self, "the link of w{} breaks", link.place);
                    break_off(link, &mut self.random);
                }
            }
            8 => self.kill(place),
            9 if !self.workers[place].alive => self.workers[place].start(),
            9 | 10 => {
                let worker = &mut self.workers[place];
                worker.paused = worker.alive && !worker.paused;
            }
            11 => {
                let us = self.random.below(LEASE_US * 3 / 2);
                self.pass(us);
            }
            12 => {
                let said = match self.workers[place].is_up() && self.workers[place].ready {
                    true => self.workers[place].drain(),
                    false => Vec::new(),
                };
                for said in said {
                    self.tell(place, Some(said));
                }
            }
            13 => {
                self.is_full = !self.is_full;
                self.disk.set_full(self.is_full);
            }
            14 if self.hub.is_some() && !self.is_full => self.disk.fail_later(&mut self.random),
            _ => {
                let statuses = self
                    .hub
                    .as_ref()
                    .map(|hub| hub.worker_statuses(self.now, None));
                let all: Vec<WorkerId> = statuses.iter().flatten().map(|s| s.worker).collect();
                if let (Some(id), Some(hub)) = (self.random.pick(&all), &mut self.hub)
                    && self.random.chance(20)
                {
                    hub.drain_worker(self.now, id);
                }
            }
        }
        Ok(())
    }
}
