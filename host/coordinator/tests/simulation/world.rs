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

use optwasm_coordinator::hub::{Hub, HubConfig, Now, Out, Session, SubmitError, Waiter};
use optwasm_protocol::message::{BatchSpec, LimitsChange, Memo, Which};
use optwasm_protocol::{BatchId, ContentId, JobId, Payload, Template, WorkerId};
use optwasm_store::{Commit, Committed, Store, StoreError};
use tokio::sync::oneshot;

use crate::Broken;
use crate::checker::{Check, Checker, Violation};
use crate::disk::Disk;
use crate::random::Random;
use crate::worker::{self, Attempt, Down, Place, Progress, Up, Worker};

/// How long a worker that is away keeps its jobs.
const LEASE_US: u64 = 2_000_000;

/// After the trouble: how long a step takes, and how long everything may.
const CALM_STEP_US: u64 = 10_000;
const CALM_MAX_US: u64 = 120_000_000;

/// Within which time a free slot gets a ready job.
const GRANT_US: u64 = 100_000;

/// A connection of a worker.
struct Link {
    place: Place,
    up: VecDeque<Up>,
    down: VecDeque<Down>,
    /// Nothing that is sent now arrives.
    cut: bool,
    /// What the coordinator knows of it; `None` where it has given it up.
    near: Option<Near>,
    /// Whether the worker has given it up.
    left: bool,
}

/// A connection as the coordinator sees it.
#[derive(Clone, Copy)]
enum Near {
    New,
    Greeted(WorkerId),
    Joined(Session),
}

/// Something that a client waits for.
struct Call {
    place: usize,
    what: Asked,
    waiter: Waiter,
}

#[derive(Clone, Copy)]
enum Asked {
    Submit(BatchId),
    Cancel,
    Retry,
    Remove,
}

/// How long the hub has not heard of a worker.
struct Away {
    since_us: u64,
}

pub struct World<D: Disk> {
    pub random: Random,
    broken: Broken,
    disk: D,
    store: Option<Rc<D::Store>>,
    hub: Option<Hub<D::Store>>,
    /// The commit that the hub waits for.
    commit: Option<oneshot::Receiver<Result<Committed, StoreError>>>,
    calls: Vec<Call>,
    links: BTreeMap<u32, Link>,
    next_link: u32,
    workers: Vec<Worker>,
    now: Now,
    checker: Checker,
    /// Which worker of the hub is which process.
    processes: BTreeMap<WorkerId, (Place, u64)>,
    /// Workers that the hub knows and has no connection to.
    away: BTreeMap<WorkerId, Away>,
    /// Attempts that workers were told to stop or that the hub took back from them.
    revoked: BTreeMap<(Place, u64), Vec<Attempt>>,
    /// Since when a slot has been free while a job was ready.
    idle_since_us: Option<u64>,
    is_full: bool,
    next_key: u64,
    confirmed: bool,
    trace: Option<Vec<String>>,
}

macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if let Some(trace) = &mut $world.trace {
            let now = $world.now.us;
            trace.push(format!("{now:>9} {}", format!($($text)*)));
        }
    };
}

impl<D: Disk> World<D> {
    pub fn new(seed: u64, disk: D, broken: Broken, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let confirmed = random.chance(20);
        let workers = match confirmed {
            true => 3 + random.below(2),
            false => 1 + random.below(4),
        };
        let workers = (0..workers as usize).map(|place| {
            let mut worker = Worker::new(place, 1 + random.below(3) as u32, confirmed && place == 0);
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

    fn pass(&mut self, us: u64) {
        self.now.us += us;
        self.now.ms += us / 1000;
    }

    // The coordinator and its disk.

    fn start(&mut self) -> Check {
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
        for status in hub.worker_statuses(self.now) {
            let since_us = self.now.us;
            self.away.insert(status.worker, Away { since_us });
        }
        self.checker.look(&*store)?;
        self.store = Some(store);
        self.hub = Some(hub);
        Ok(())
    }

    /// It dies: what it had not written, and what was on its way to and from it, is gone.
    fn crash(&mut self) {
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
        self.is_full = false;
    }

    /// The commits that have come out are followed by what waits for them.
    fn follow_commits(&mut self) -> Check {
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
            let Some(commit) = &mut self.commit else { break };
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
    fn answer_calls(&mut self) -> Check {
        let mut waiting = Vec::new();
        for mut call in std::mem::take(&mut self.calls) {
            match call.waiter.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => waiting.push(call),
                Err(oneshot::error::TryRecvError::Closed) | Ok(Err(_)) => {}
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

    // The network.

    /// The coordinator reads one message of a worker.
    fn hear(&mut self, id: u32) {
        let Some(hub) = &mut self.hub else { return };
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let Some(near) = link.near else { return };
        let Some(message) = link.up.pop_front() else {
            return;
        };
        let worker = &self.workers[link.place];
        match (message, near) {
            (Up::Hello(instance), _) => {
                let known = hub.greet(instance);
                link.near = Some(Near::Greeted(known));
                let process = u64::from_le_bytes(instance.0[8..].try_into().unwrap());
                self.processes.insert(known, (link.place, process));
                say(link, Down::Welcome);
            }
            (Up::Ready(held), Near::Greeted(known)) => {
                note!(self, "worker {known} joins as w{} with {held:?}", link.place);
                let (session, _) =
                    hub.join(self.now, known, worker.info(), String::new(), held);
                link.near = Some(Near::Joined(session));
                self.away.remove(&known);
            }
            (Up::Finished(reports), Near::Joined(session)) => {
                note!(self, "worker {} reports {:?}", session.worker, ids(&reports));
                hub.finished(self.now, session, reports);
            }
            (Up::GiveBack(attempts), Near::Joined(session)) => {
                note!(self, "worker {} gives back {attempts:?}", session.worker);
                hub.give_back(self.now, session, attempts);
            }
            (Up::Draining, Near::Joined(session)) => hub.draining(self.now, session),
            (Up::Bye, Near::Joined(session)) => {
                note!(self, "worker {} leaves", session.worker);
                hub.leave(self.now, session);
                link.near = None;
            }
            _ => panic!("a worker says what it must not"),
        }
    }

    /// The coordinator sends what it has for a worker.
    fn send(&mut self, id: u32) -> Check {
        let Some(hub) = &mut self.hub else {
            return Ok(());
        };
        let Some(link) = self.links.get_mut(&id) else {
            return Ok(());
        };
        let Some(Near::Joined(session)) = link.near else {
            return Ok(());
        };
        let Some(outbox) = hub.take_outbox(session) else {
            // It has connected again.
            link.near = None;
            break_off(link, &mut self.random);
            return Ok(());
        };
        let process = self.processes[&session.worker];
        let mut given = Vec::new();
        for out in outbox {
            match out {
                Out::Assign(job, attempt) => match hub.assignment(job) {
                    Ok(Some(data)) => {
                        given.push((job, attempt));
                        say(link, Down::Assign(job, attempt, data.input));
                    }
                    Ok(None) => {}
                    Err(error) => return Err(Violation(1, format!("input of {job}: {error}"))),
                },
                Out::Revoke(job, attempt) => {
                    let revoked = self.revoked.entry(process).or_default();
                    revoked.push((job, attempt));
                    say(link, Down::Revoke(job, attempt));
                }
                Out::Recall(job, attempt) => say(link, Down::Recall(job, attempt)),
                Out::Stored(count) => say(link, Down::Stored(count)),
                Out::Drain => say(link, Down::Drain),
                Out::Leave => say(link, Down::Leave),
                Out::Forget(_) => {}
            }
        }
        for attempt in given {
            note!(self, "worker {} is given {attempt:?}", session.worker);
            self.check_alone(attempt, process)?;
        }
        Ok(())
    }

    /// Nobody else runs what a worker is given, but those whose lease has ended.
    fn check_alone(&self, (job, attempt): Attempt, to: (Place, u64)) -> Check {
        if self.checker.asked_again.contains(&job) {
            return Ok(());
        }
        for worker in &self.workers {
            let process = (worker.place, worker.started);
            let runs = worker.tasks.iter().find(|task| {
                task.attempt.0 == job
                    && matches!(task.progress, Progress::Waiting | Progress::Running)
            });
            let Some(runs) = runs.filter(|_| process != to) else {
                continue;
            };
            let revoked = self.revoked.get(&process);
            if revoked.is_some_and(|revoked| revoked.contains(&runs.attempt)) {
                continue;
            }
            let mut known = self.processes.iter().filter(|(_, known)| **known == process);
            // A worker that the hub has forgotten was away before, for the length of its lease.
            let held = known.any(|(id, _)| match self.away.get(id) {
                Some(away) => self.now.us - away.since_us < LEASE_US,
                None => self.is_joined(*id),
            });
            if held {
                let text = format!(
                    "{job} is given to w{} as attempt {attempt} while w{} runs {:?}",
                    to.0, worker.place, runs.attempt
                );
                return Err(Violation(3, text));
            }
        }
        Ok(())
    }

    fn is_joined(&self, id: WorkerId) -> bool {
        self.links
            .values()
            .any(|link| matches!(link.near, Some(Near::Joined(session)) if session.worker == id))
    }

    /// A worker reads one message.
    fn deliver(&mut self, id: u32) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let worker = &mut self.workers[link.place];
        if !worker.is_up() || worker.link != Some(id) {
            return;
        }
        let Some(message) = link.down.pop_front() else {
            return;
        };
        let prepared = self.random.chance(70);
        for answer in worker.hear(message, prepared) {
            if !link.cut {
                link.up.push_back(answer);
            }
        }
        if !worker.alive {
            self.worker_died(id);
        }
    }

    fn worker_died(&mut self, id: u32) {
        if let Some(link) = self.links.get_mut(&id) {
            link.left = true;
            break_off(link, &mut self.random);
        }
    }

    /// A side finds out that its connection is lost.
    fn notice(&mut self, id: u32) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.cut) else {
            return;
        };
        if self.random.chance(50) {
            if let (Some(Near::Joined(session)), Some(hub)) = (link.near, &mut self.hub) {
                note!(self, "worker {} is away", session.worker);
                let is_current = hub.is_current_session(session);
                hub.lost(self.now, session, "lost");
                if is_current {
                    let since_us = self.now.us;
                    self.away.insert(session.worker, Away { since_us });
                }
            }
            link.near = None;
            link.up.clear();
        } else {
            link.left = true;
            let worker = &mut self.workers[link.place];
            if worker.link == Some(id) && worker.is_up() {
                worker.disconnect();
            }
        }
        if link.left && link.near.is_none() {
            self.links.remove(&id);
        }
    }

    /// A worker that has no connection makes one.
    fn connect(&mut self, place: Place) {
        if self.broken == Broken::WorkersStayAway && self.next_link >= self.workers.len() as u32 {
            return;
        }
        let worker = &mut self.workers[place];
        if !worker.is_up() || worker.link.is_some() || self.hub.is_none() || worker.draining {
            return;
        }
        let id = self.next_link;
        self.next_link += 1;
        let link = Link {
            place,
            up: VecDeque::from([Up::Hello(worker.instance())]),
            down: VecDeque::new(),
            cut: false,
            near: Some(Near::New),
            left: false,
        };
        self.links.insert(id, link);
        worker.link = Some(id);
    }

    // Workers.

    /// A worker works.
    fn work(&mut self, place: Place) -> Check {
        let worker = &mut self.workers[place];
        if !worker.is_up() {
            return Ok(());
        }
        let process = worker.started;
        for attempt in worker.begin() {
            note!(self, "w{place} begins {attempt:?}");
            self.checker.begins(attempt, place, process)?;
        }
        let worker = &mut self.workers[place];
        let running = worker.running() as u64;
        if running > 0 && self.random.chance(60) {
            let which = self.random.below(running) as usize;
            let said = worker.finish(which);
            self.tell(place, said);
        }
        let worker = &self.workers[place];
        if worker.may_leave() {
            let link = worker.link;
            self.tell(place, Some(Up::Bye));
            self.workers[place].die();
            if let Some(link) = link.and_then(|link| self.links.get_mut(&link)) {
                link.left = true;
            }
        }
        Ok(())
    }

    fn tell(&mut self, place: Place, said: Option<Up>) {
        let link = self.workers[place].link;
        let link = link.and_then(|link| self.links.get_mut(&link));
        if let (Some(said), Some(link)) = (said, link)
            && !link.cut
        {
            link.up.push_back(said);
        }
    }

    fn kill(&mut self, place: Place) {
        let worker = &mut self.workers[place];
        if !worker.alive {
            return;
        }
        note!(self, "w{place} dies");
        for task in &worker.tasks {
            *self.checker.lost.entry(task.attempt.0).or_default() += 1;
        }
        let link = worker.link;
        worker.die();
        if let Some(link) = link {
            self.lose_tasks_on_the_way(link);
            self.worker_died(link);
        }
    }

    /// What was on its way to a worker that is lost, it may have had for all that the hub knows.
    fn lose_tasks_on_the_way(&mut self, id: u32) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        for message in &link.down {
            if let Down::Assign(job, ..) = message {
                *self.checker.lost.entry(*job).or_default() += 1;
            }
        }
    }

    // Clients.

    fn submit_new(&mut self) {
        let key = self.next_key;
        self.next_key += 1;
        let mut spec = BatchSpec::new(Template::new(ContentId::of(b"module")));
        spec.id = Some(format!("key {key}"));
        spec.priority = self.random.below(2) as i32;
        spec.retries = self.random.below(3) as u32;
        let confirmed = self.confirmed && self.random.chance(60);
        if confirmed {
            spec.verify = 2;
        }
        if !self.disk.has_memo() || confirmed || self.random.chance(30) {
            spec.memo = Memo::Off;
        }
        let count = 1 + self.random.below(7);
        let inputs = (0..count).map(|index| {
            let kind = match self.random.below(8) {
                _ if confirmed => worker::CONFIRMED,
                0 => worker::FAILS,
                1 => worker::RUNS_OUT,
                // Whether it fails depends on the attempt, which a memo does not know.
                2 if spec.memo == Memo::Off => worker::FLAKY,
                _ => 0,
            };
            // Few enough to be the same at times, where that makes a difference.
            let number = match spec.memo {
                Memo::Off => 1000 * key + index,
                _ => self.random.below(6),
            };
            let mut bytes = vec![kind];
            bytes.extend(number.to_le_bytes());
            Payload::from(bytes)
        });
        let inputs = inputs.collect();
        self.checker.submitting(spec, inputs);
        self.submit(key as usize);
    }

    /// A client sends a submission, perhaps again.
    fn submit(&mut self, place: usize) {
        let submission = &self.checker.submissions[place];
        let Some(hub) = &mut self.hub else { return };
        if submission.removed {
            return;
        }
        let sent = hub.submit(
            self.now,
            submission.spec.clone(),
            submission.inputs.clone(),
        );
        match sent {
            Ok((batch, waiter)) => {
                note!(self, "client {place} submits batch {batch}");
                self.calls.push(Call {
                    place,
                    what: Asked::Submit(batch),
                    waiter,
                });
            }
            Err(SubmitError::Store(error)) => {
                note!(self, "a submission is refused: {error}");
            }
            Err(SubmitError::KeyTaken(key, batch)) => {
                panic!("key {key} is taken by batch {batch}, which is the same")
            }
            Err(SubmitError::Draining) => {}
        }
    }

    /// A client does something with a batch that it knows.
    fn ask(&mut self) -> Check {
        let known: Vec<_> = self.checker.known().collect();
        let Some((place, batch)) = self.random.pick(&known) else {
            return Ok(());
        };
        let (Some(hub), Some(store)) = (&mut self.hub, &self.store) else {
            return Ok(());
        };
        let (what, waiter) = match self.random.below(20) {
            0 => {
                note!(self, "batch {batch} is cancelled");
                self.checker.submissions[place].cancelling = true;
                (Asked::Cancel, hub.cancel(self.now, batch))
            }
            1 => {
                let which = match self.random.chance(50) {
                    true => Which::All,
                    false => Which::Failed,
                };
                note!(self, "{which:?} of batch {batch} runs again");
                self.checker.runs_again(place);
                let retried = hub.retry(self.now, batch, &which, LimitsChange::default());
                (Asked::Retry, retried.map(|(_, waiter)| waiter))
            }
            2 if hub.bell(batch).is_none() && self.calls.is_empty() => {
                match hub.remove(self.now, batch) {
                    Some(Ok(waiter)) => {
                        note!(self, "batch {batch} is removed");
                        self.checker.removes(place);
                        (Asked::Remove, Some(waiter))
                    }
                    _ => return Ok(()),
                }
            }
            3 => {
                self.submit(place);
                return Ok(());
            }
            4 => {
                let explained = hub.explain(self.now, JobId(batch, 0));
                return match explained {
                    Some(_) => Ok(()),
                    None => Err(Violation(1, format!("{batch}.0 is unknown"))),
                };
            }
            _ => return self.checker.follow(place, &**store),
        };
        if let Some(waiter) = waiter {
            self.calls.push(Call {
                place,
                what,
                waiter,
            });
        }
        Ok(())
    }

    // What happens.

    fn step(&mut self) -> Check {
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
    fn submit_again(&mut self) {
        let all = self.checker.submissions.iter().enumerate();
        let open = all.filter(|(_, submission)| submission.batch.is_none());
        let open: Vec<usize> = open.map(|(place, _)| place).collect();
        if let Some(place) = self.random.pick(&open) {
            self.submit(place);
        }
    }

    fn tick(&mut self) -> Check {
        if let Some(hub) = &mut self.hub {
            hub.tick(self.now);
        }
        Ok(())
    }

    fn trouble(&mut self, place: Place) -> Check {
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
                let statuses = self.hub.as_ref().map(|hub| hub.worker_statuses(self.now));
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

    /// Everything that is broken is mended, and everybody does what is to be done, until all jobs
    /// have ended.
    fn calm(&mut self) -> Check {
        note!(self, "calm");
        self.disk.set_full(false);
        self.is_full = false;
        let begun = self.now.us;
        for place in 0..self.workers.len() {
            self.workers[place].paused = false;
        }
        while !self.is_done() {
            if self.now.us - begun > CALM_MAX_US {
                return Err(Violation(5, "not all jobs have ended".to_owned()));
            }
            self.calm_step()?;
        }
        let Some(store) = self.store.clone() else {
            return Err(Violation(5, "the coordinator does not start".to_owned()));
        };
        self.checker.look(&*store)?;
        self.checker.finish(&*store)?;
        self.forget_all()
    }

    fn is_done(&self) -> bool {
        let Some(hub) = &self.hub else { return false };
        let all_known = self.checker.submissions.iter().all(|s| s.batch.is_some() || s.removed);
        all_known && hub.footprint().batches == (0, 0) && self.calls.is_empty()
    }

    fn calm_step(&mut self) -> Check {
        self.pass(CALM_STEP_US);
        if self.hub.is_none() {
            self.disk.set_full(false);
            self.start()?;
        }
        self.tick()?;
        for place in 0..self.workers.len() {
            if !self.workers[place].alive {
                self.workers[place].start();
            }
            self.connect(place);
        }
        for _ in 0..3 {
            let links: Vec<u32> = self.links.keys().copied().collect();
            for id in links {
                while self.links.get(&id).is_some_and(|link| !link.up.is_empty() && link.near.is_some()) && self.hub.is_some() {
                    self.hear(id);
                }
                if self.broken != Broken::SlowToSend || self.now.us / 300_000 % 2 == 0 {
                    self.send(id)?;
                }
                while self.links.get(&id).is_some_and(|link| {
                    !link.down.is_empty() && self.workers[link.place].link == Some(id)
                }) {
                    self.deliver(id);
                }
                self.notice(id);
            }
            self.disk.sync(&mut self.random);
            self.follow_commits()?;
        }
        for place in 0..self.workers.len() {
            self.work(place)?;
        }
        self.submit_again();
        self.check_grants()
    }

    /// With a ready job and a free slot, a lease is granted in time.
    fn check_grants(&mut self) -> Check {
        let Some(hub) = &self.hub else {
            self.idle_since_us = None;
            return Ok(());
        };
        let idle = hub.worker_statuses(self.now).into_iter().any(|status| {
            let usable = !status.draining && status.away_ms.is_none() && status.aside.is_none();
            let connected = self.workers.iter().any(|worker| {
                self.processes.get(&status.worker) == Some(&(worker.place, worker.started))
                    && worker.ready
                    && worker.tasks.is_empty()
            });
            usable && connected
        });
        let ready = idle && self.has_ready_job(hub);
        match (ready, self.idle_since_us) {
            (false, _) => self.idle_since_us = None,
            (true, None) => self.idle_since_us = Some(self.now.us),
            (true, Some(since)) if self.now.us - since > GRANT_US => {
                return Err(Violation(4, "a job and a worker wait for each other".to_owned()));
            }
            (true, Some(_)) => {}
        }
        Ok(())
    }

    /// Whether there is a job that any worker may run at once: one that has not failed, taken a
    /// worker with it, or to be confirmed.
    fn has_ready_job(&self, hub: &Hub<D::Store>) -> bool {
        let Some(store) = &self.store else {
            return false;
        };
        self.checker.known().any(|(place, batch)| {
            let submission = &self.checker.submissions[place];
            let jobs = 0..submission.inputs.len() as u32;
            submission.spec.verify == 1
                && hub.bell(batch).is_some()
                && jobs.map(|index| JobId(batch, index)).any(|job| {
                    store.result(job).is_none()
                        && store.attempts(job).is_empty()
                        && !self.checker.lost.contains_key(&job)
                        && hub.explain(self.now, job).is_some_and(|e| is_ready(&e.phase))
                })
        })
    }

    /// All batches are removed; then nothing is left of them.
    fn forget_all(&mut self) -> Check {
        let known: Vec<_> = self.checker.known().collect();
        for (place, batch) in known {
            let Some(hub) = &mut self.hub else {
                return Ok(());
            };
            self.checker.removes(place);
            match hub.remove(self.now, batch) {
                Some(Ok(waiter)) => self.calls.push(Call {
                    place,
                    what: Asked::Remove,
                    waiter,
                }),
                _ => return Err(Violation(9, format!("batch {batch} cannot be removed"))),
            }
        }
        for _ in 0..500 {
            self.calm_step()?;
        }
        let Some(hub) = &self.hub else {
            return Err(Violation(5, "the coordinator is gone".to_owned()));
        };
        let footprint = hub.footprint();
        let connected = self.workers.iter().filter(|worker| worker.ready).count();
        let bounded = footprint.batches == (0, 0)
            && footprint.keys == 0
            && footprint.pending == 0
            && footprint.workers <= connected;
        if !bounded {
            let text = format!("{footprint:?} with {connected} workers and no batch");
            return Err(Violation(9, text));
        }
        match &self.store {
            Some(store) if !store_is_empty(&**store) => {
                Err(Violation(9, "batches are left in the store".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

fn store_is_empty(store: &impl optwasm_store::Store) -> bool {
    store.batches(10).is_empty()
}

fn is_ready(phase: &optwasm_protocol::message::Phase) -> bool {
    matches!(phase, optwasm_protocol::message::Phase::Waiting(_))
}

fn ids(reports: &[(JobId, u32, optwasm_protocol::Report)]) -> Vec<Attempt> {
    reports.iter().map(|(job, attempt, _)| (*job, *attempt)).collect()
}

/// Puts a message on its way, where it can arrive.
fn say(link: &mut Link, message: Down) {
    if !link.cut {
        link.down.push_back(message);
    }
}

/// A connection breaks: what is on its way arrives up to some point, and nothing after it.
fn break_off(link: &mut Link, random: &mut Random) {
    link.cut = true;
    let (up, down) = (link.up.len() as u64, link.down.len() as u64);
    link.up.truncate(random.below(up + 1) as usize);
    link.down.truncate(random.below(down + 1) as usize);
}
