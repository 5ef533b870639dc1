//! Workers that join, go away, come back and leave.

use std::rc::Rc;

use optwasm_protocol::message::{Instance, Stay, WorkerInfo};
use optwasm_protocol::{ContentId, JobId, WorkerId};
use optwasm_scheduler as sched;
use optwasm_store::{Record, Store};
use tokio::sync::Notify;

use super::{Connection, Hub, Now, Out, Peer, Session, claim, group, job, worker, worker_spec};

impl<S: Store> Hub<S> {
    /// The number of the worker that is known by `instance`: its own where it has been here
    /// before and its lease has not ended, else a new one.
    pub fn greet(&mut self, instance: Instance) -> WorkerId {
        if let Some(worker) = self.instances.get(&instance) {
            return *worker;
        }
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        worker
    }

    /// A worker that was greeted is ready, and holds `holds` from earlier; it leaves after `stay`, where
    /// that is given. Returns its session and what rings when there is something to send.
    pub fn join(
        &mut self,
        now: Now,
        id: WorkerId,
        info: WorkerInfo,
        address: String,
        holds: Vec<(JobId, u32)>,
        stay: Option<Stay>,
    ) -> (Session, Rc<Notify>) {
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        let wake = Rc::new(Notify::new());
        let known = self.workers.remove(&id);
        tracing::info!(
            "worker {id} ({}, {} slots) {} from {address}{}",
            info.name,
            info.slots,
            if known.is_some() { "is back" } else { "joined" },
            match holds.len() {
                0 => String::new(),
                held => format!(", holding {held} jobs"),
            }
        );
        if let Some(old) = known.as_ref().and_then(|peer| peer.connection.as_ref()) {
            // Its old connection is still thought to be alive: its task finds out that it is not.
            old.wake.notify_one();
        }
        let odd = self.workers.values().map(|peer| group(&peer.info));
        let odd: Vec<String> = odd.filter(|other| *other != group(&info)).collect();
        if !odd.is_empty() && odd.len() == self.workers.len() {
            tracing::warn!(
                "worker {id} ({}) computes otherwise than the others: another engine or processor",
                info.name
            );
        }
        self.remember_name(id, info.name.clone());
        self.instances.insert(info.instance, id);
        let spec = worker_spec(&info, stay);
        if self.store.is_durable() {
            let record = Record::Worker(id, Box::new(info.clone()));
            self.turn.records.push(record);
        }
        let connection = Connection {
            epoch,
            outbox: Vec::new(),
            wake: wake.clone(),
            reports: 0,
        };
        let peer = Peer {
            info,
            address,
            connection: Some(connection),
            done: known.map(|peer| peer.done).unwrap_or_default(),
        };
        self.workers.insert(id, peer);
        let holds = holds.into_iter().map(claim).collect();
        self.step(
            now,
            sched::Event::WorkerJoined {
                worker: worker(id),
                spec,
                holds,
            },
        );
        if self.draining {
            self.step(now, sched::Event::WorkerDraining { worker: worker(id) });
        } else if self
            .scheduler
            .worker(worker(id))
            .is_some_and(|s| s.draining)
        {
            // It may not have heard before its connection was lost.
            self.tell(id, Out::Drain);
        }
        self.settle(now);
        self.ring_all();
        (Session { worker: id, epoch }, wake)
    }

    /// A worker's connection is lost, and its lease goes on.
    pub fn lost(&mut self, now: Now, session: Session, why: &str) {
        if !self.is_current_session(session) {
            return;
        }
        if let Some(peer) = self.workers.get_mut(&session.worker) {
            peer.connection = None;
            tracing::info!(
                "worker {} ({}) is away: {why}",
                session.worker,
                peer.info.name
            );
        }
        self.step(
            now,
            sched::Event::WorkerAway {
                worker: worker(session.worker),
            },
        );
        self.settle(now);
        self.ring_all();
    }

    /// A worker has left in good order: it holds nothing and will not come back.
    pub fn leave(&mut self, now: Now, session: Session) {
        if !self.is_current_session(session) {
            return;
        }
        let id = session.worker;
        if let Some(peer) = self.workers.get(&id) {
            tracing::info!("worker {id} ({}) left", peer.info.name);
        }
        self.dismiss_one(now, id);
        self.settle(now);
        self.ring_all();
    }

    /// A worker is gone for good and runs nothing: what was on its way to it goes to others.
    fn dismiss_one(&mut self, now: Now, id: WorkerId) {
        self.forget_worker(id);
        let jobs = self.scheduler.claims_of(worker(id)).collect();
        self.step(now, sched::Event::WorkerDraining { worker: worker(id) });
        self.step(
            now,
            sched::Event::GivenBack {
                worker: worker(id),
                jobs,
            },
        );
        self.step(now, sched::Event::WorkerLost { worker: worker(id) });
    }

    /// The scheduler has taken a worker's jobs away: it did not come back.
    pub(super) fn lease_ended(&mut self, id: WorkerId) {
        if let Some(peer) = self.workers.get(&id) {
            let name = &peer.info.name;
            tracing::warn!("worker {id} ({name}) did not come back; its jobs go to others");
        }
        self.forget_worker(id);
        self.ring_all();
    }

    fn forget_worker(&mut self, id: WorkerId) {
        if let Some(peer) = self.workers.remove(&id) {
            self.instances.remove(&peer.info.instance);
        }
        for live in self.live.values_mut() {
            live.workers.remove(&id);
        }
        if self.store.is_durable() {
            self.turn.records.push(Record::WorkerGone(id));
        }
    }

    /// Whether a worker's task still speaks for it.
    pub fn is_current_session(&self, session: Session) -> bool {
        let peer = self.workers.get(&session.worker);
        let connection = peer.and_then(|peer| peer.connection.as_ref());
        connection.is_some_and(|connection| connection.epoch == session.epoch)
    }

    /// A worker takes no more jobs.
    pub fn draining(&mut self, now: Now, session: Session) {
        if self.is_current_session(session) {
            let worker = worker(session.worker);
            self.step(now, sched::Event::WorkerDraining { worker });
            self.settle(now);
        }
    }

    /// A worker gives back what it has not begun.
    pub fn give_back(&mut self, now: Now, session: Session, jobs: Vec<(JobId, u32)>) {
        if !self.is_current_session(session) {
            return;
        }
        self.step(
            now,
            sched::Event::GivenBack {
                worker: worker(session.worker),
                jobs: jobs.into_iter().map(claim).collect(),
            },
        );
        self.settle(now);
    }

    /// Has a worker finish what it runs, and leave; `false` where there is none of that number.
    pub fn drain_worker(&mut self, now: Now, id: WorkerId) -> bool {
        if !self.workers.contains_key(&id) {
            return false;
        }
        self.step(now, sched::Event::WorkerDraining { worker: worker(id) });
        self.tell(id, Out::Drain);
        self.settle(now);
        true
    }

    /// Hands out no more jobs and takes no new ones.
    pub fn drain(&mut self, now: Now) {
        self.draining = true;
        let all: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in all {
            self.step(now, sched::Event::WorkerDraining { worker: worker(id) });
        }
        self.settle(now);
    }

    /// Whether the hub is draining and no worker holds a job any more.
    pub fn is_drained(&self) -> bool {
        self.draining && self.scheduler.held() == 0 && self.pending.is_empty()
    }

    /// Has all connected workers leave at once, and hands out no more jobs; what they ran waits for
    /// the next start.
    pub fn dismiss(&mut self, now: Now) {
        self.drain(now);
        let all = self.workers.iter();
        let connected = all.filter(|(_, peer)| peer.connection.is_some());
        let connected: Vec<WorkerId> = connected.map(|(id, _)| *id).collect();
        for id in connected {
            self.tell(id, Out::Leave);
        }
    }

    /// Has all connected workers drop a blob.
    pub fn discard(&mut self, blob: ContentId) {
        let all = self.workers.iter();
        let connected = all.filter(|(_, peer)| peer.connection.is_some());
        let connected: Vec<WorkerId> = connected.map(|(id, _)| *id).collect();
        for id in connected {
            self.tell(id, Out::Discard(blob));
        }
    }

    /// What a worker's task is to send now; `None` where that connection was replaced.
    pub fn take_outbox(&mut self, session: Session) -> Option<Vec<Out>> {
        let peer = self.workers.get_mut(&session.worker)?;
        let connection = peer.connection.as_mut()?;
        (connection.epoch == session.epoch).then(|| std::mem::take(&mut connection.outbox))
    }

    /// Whether a worker has that attempt in its hands.
    pub(super) fn holds(&self, id: WorkerId, held: JobId, attempt: u32) -> bool {
        matches!(
            self.scheduler.job(job(held)),
            Some(sched::JobState::Held { worker: holder, attempt: number, .. })
                if holder.0 == id.0 && number == attempt
        )
    }

    /// Workers whose connection is alive.
    pub(super) fn connected(&self) -> usize {
        let peers = self.workers.values();
        peers.filter(|peer| peer.connection.is_some()).count()
    }
}
