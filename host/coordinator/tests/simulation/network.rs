//! What passes between the coordinator and its workers, and what workers do.

use std::collections::VecDeque;

use optwasm_coordinator::hub::Out;
use optwasm_protocol::{JobId, Report, WorkerId};

use crate::Broken;
use crate::checker::{Check, Violation};
use crate::disk::Disk;
use crate::random::Random;
use crate::worker::{Attempt, Down, Place, Progress, Up};
use crate::world::{LEASE_US, Link, Near, World, note};

impl<D: Disk> World<D> {
    /// The coordinator reads one message of a worker.
    pub(crate) fn hear(&mut self, id: u32) {
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
                note!(
                    self,
                    "worker {known} joins as w{} with {held:?}",
                    link.place
                );
                let (session, _) =
                    hub.join(self.now, known, worker.info(), String::new(), held, None);
                link.near = Some(Near::Joined(session));
                self.away.remove(&known);
            }
            (Up::Finished(reports), Near::Joined(session)) => {
                note!(
                    self,
                    "worker {} reports {:?}",
                    session.worker,
                    ids(&reports)
                );
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
    pub(crate) fn send(&mut self, id: u32) -> Check {
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
                Out::Forget(_) | Out::Discard(_) => {}
            }
        }
        for attempt in given {
            note!(self, "worker {} is given {attempt:?}", session.worker);
            self.check_alone(attempt, process)?;
        }
        Ok(())
    }

    /// Nobody else runs what a worker is given, but those whose lease has ended.
    pub(crate) fn check_alone(&self, (job, attempt): Attempt, to: (Place, u64)) -> Check {
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
            let mut known = self
                .processes
                .iter()
                .filter(|(_, known)| **known == process);
            // A worker that the hub has forgotten was away before, for the length of its lease.
            let held = known.any(|(id, _)| match self.away.get(id) {
                Some(since) => self.now.us - since < LEASE_US,
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

    pub(crate) fn is_joined(&self, id: WorkerId) -> bool {
        self.links
            .values()
            .any(|link| matches!(link.near, Some(Near::Joined(session)) if session.worker == id))
    }

    /// A worker reads one message.
    pub(crate) fn deliver(&mut self, id: u32) {
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

    pub(crate) fn worker_died(&mut self, id: u32) {
        if let Some(link) = self.links.get_mut(&id) {
            link.left = true;
            break_off(link, &mut self.random);
        }
    }

    /// A side finds out that its connection is lost.
    pub(crate) fn notice(&mut self, id: u32) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.cut) else {
            return;
        };
        if self.random.chance(50) {
            if self.broken != Broken::NeverHangsUp
                && let (Some(Near::Joined(session)), Some(hub)) = (link.near, &mut self.hub)
            {
                note!(self, "worker {} is away", session.worker);
                let is_current = hub.is_current_session(session);
                hub.lost(self.now, session, "lost");
                if is_current {
                    self.away.insert(session.worker, self.now.us);
                }
            }
            link.near = None;
            link.up.clear();
        } else {
            let worker = &mut self.workers[link.place];
            if worker.link == Some(id) && worker.is_up() {
                worker.disconnect();
            }
            link.left = worker.link != Some(id);
        }
        if link.left && link.near.is_none() {
            self.links.remove(&id);
        }
    }

    /// A worker that has no connection makes one.
    pub(crate) fn connect(&mut self, place: Place) {
        if self.broken == Broken::WorkersStayAway && self.next_link >= self.workers.len() as u32 {
            return;
        }
        let worker = &mut self.workers[place];
        if !worker.is_up() || worker.link.is_some() || self.hub.is_none() {
            return;
        }
        if worker.draining && worker.tasks.is_empty() {
            return worker.die();
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

    /// A worker works.
    pub(crate) fn work(&mut self, place: Place) -> Check {
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

    pub(crate) fn tell(&mut self, place: Place, said: Option<Up>) {
        let link = self.workers[place].link;
        let link = link.and_then(|link| self.links.get_mut(&link));
        if let (Some(said), Some(link)) = (said, link)
            && !link.cut
        {
            link.up.push_back(said);
        }
    }

    pub(crate) fn kill(&mut self, place: Place) {
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
    pub(crate) fn lose_tasks_on_the_way(&mut self, id: u32) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        for message in &link.down {
            if let Down::Assign(job, ..) = message {
                *self.checker.lost.entry(*job).or_default() += 1;
            }
        }
    }
}

fn ids(reports: &[(JobId, u32, Report)]) -> Vec<Attempt> {
    reports
        .iter()
        .map(|(job, attempt, _)| (*job, *attempt))
        .collect()
}

/// Puts a message on its way, where it can arrive.
fn say(link: &mut Link, message: Down) {
    if !link.cut {
        link.down.push_back(message);
    }
}

/// A connection breaks: what is on its way arrives up to some point, and nothing after it.
pub fn break_off(link: &mut Link, random: &mut Random) {
    link.cut = true;
    let (up, down) = (link.up.len() as u64, link.down.len() as u64);
    link.up.truncate(random.below(up + 1) as usize);
    link.down.truncate(random.below(down + 1) as usize);
}
