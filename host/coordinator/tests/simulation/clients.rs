//! What clients send.

use optwasm_coordinator::hub::SubmitError;
use optwasm_protocol::message::{BatchSpec, LimitsChange, Memo, Which};
use optwasm_protocol::{ContentId, JobId, Namespace, Payload, Template};

use crate::checker::{Check, Violation};
use crate::disk::Disk;
use crate::worker;
use crate::world::{Asked, Call, World, note};

impl<D: Disk> World<D> {
    pub(crate) fn submit_new(&mut self) {
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
    pub(crate) fn submit(&mut self, place: usize) {
        let submission = &self.checker.submissions[place];
        let Some(hub) = &mut self.hub else { return };
        if submission.removed {
            return;
        }
        let sent = hub.submit(
            self.now,
            &Namespace::default(),
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
            Err(SubmitError::Draining | SubmitError::Quota(_)) => {}
        }
    }

    /// A client does something with a batch that it knows.
    pub(crate) fn ask(&mut self) -> Check {
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
                (Asked::Retry, retried.ok().map(|(_, waiter)| waiter))
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
}
