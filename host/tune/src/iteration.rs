//! One iteration under way: a bracket with its configurations.
//!
//! Only the current stage has members. When the last of them is told, the lowest losses are promoted
//! and make up the next stage, in the order of their identities; places that nobody is good enough
//! for are filled with new configurations, so that a bracket always has as many evaluations as its
//! plan says and always ends.

use crate::plan::Stage;
use crate::{Config, Observation, TrialId};

#[derive(Clone, Debug)]
pub(crate) struct Iteration {
    number: u32,
    /// The stages that are still to come, after the current one.
    coming: std::collections::VecDeque<Stage>,
    /// The position of the current stage.
    stage: u32,
    budget: f64,
    members: Vec<Member>,
    /// How many members have been asked for, the first ones.
    asked: usize,
    /// How many members have been told.
    told: usize,
    finished: bool,
    /// The results of completed stages.
    results: Vec<Observation>,
}

/// A place in a stage.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: TrialId,
    /// `None` until it is drawn.
    pub(crate) config: Option<Config>,
    pub(crate) submitted: f64,
    status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    Waiting,
    Pending,
    /// With its loss, if it did not crash.
    Told(Option<f64>),
}

impl Iteration {
    pub(crate) fn new(number: u32, bracket: &[Stage]) -> Self {
        let mut iteration = Iteration {
            number,
            coming: bracket.iter().copied().collect(),
            stage: 0,
            budget: 0.0,
            members: Vec::new(),
            asked: 0,
            told: 0,
            finished: false,
            results: Vec::new(),
        };
        iteration.enter_next(Vec::new(), 0);
        iteration
    }

    pub(crate) fn stage(&self) -> u32 {
        self.stage
    }

    /// How many stages it has in all.
    pub(crate) fn stages(&self) -> u32 {
        self.stage + 1 + self.coming.len() as u32
    }

    /// The budget of the current stage.
    pub(crate) fn budget(&self) -> f64 {
        self.budget
    }

    /// Whether all stages are complete.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The next member of this stage that was not asked for.
    pub(crate) fn next(&self) -> Option<&Member> {
        self.members.get(self.asked).filter(|_| !self.finished)
    }

    /// Marks the next member as asked for.
    pub(crate) fn ask_next(&mut self, config: Config, submitted: f64) {
        if let Some(member) = self.members.get_mut(self.asked) {
            member.config = Some(config);
            member.submitted = submitted;
            member.status = Status::Pending;
            self.asked += 1;
        }
    }

    /// A member of the current stage that was asked for and not told.
    pub(crate) fn pending(&mut self, id: TrialId) -> Option<&mut Member> {
        // Members stand in the order of their identities.
        let position = self.members.binary_search_by_key(&id, |member| member.id);
        let member = self.members.get_mut(position.ok()?)?;
        (member.status == Status::Pending).then_some(member)
    }

    /// The identities of those that were asked for and not told.
    pub(crate) fn all_pending(&self) -> impl Iterator<Item = TrialId> {
        let pending = |member: &&Member| member.status == Status::Pending;
        self.members.iter().filter(pending).map(|member| member.id)
    }

    /// Takes the result of a pending member in.
    pub(crate) fn tell(&mut self, id: TrialId, loss: Option<f64>) {
        let Some(member) = self.pending(id) else {
            return;
        };
        member.status = Status::Told(loss);
        self.told += 1;
        if self.told == self.members.len() {
            self.complete_stage();
        }
    }

    /// The results of all stages, in the order of stages and identities.
    pub(crate) fn into_results(self) -> Vec<Observation> {
        self.results
    }

    fn complete_stage(&mut self) {
        let places = self.coming.front().map_or(0, |stage| stage.size as usize);
        let promoted = self.promote(places);
        for member in std::mem::take(&mut self.members) {
            if let (Status::Told(loss), Some(config)) = (member.status, member.config) {
                self.results.push(Observation {
                    id: member.id,
                    config,
                    budget: self.budget,
                    loss,
                });
            }
        }
        self.enter_next(promoted, self.stage + 1);
    }

    /// The lowest losses, of equal ones the first identities; crashes never. In the order of
    /// identities.
    fn promote(&self, places: usize) -> Vec<Member> {
        let mut ranked: Vec<(f64, &Member)> = self
            .members
            .iter()
            .filter_map(|member| match member.status {
                Status::Told(Some(loss)) => Some((loss, member)),
                Status::Told(None) | Status::Waiting | Status::Pending => None,
            })
            .collect();
        // Stable, and members stand in the order of their identities. Partial, for -0.0 equals 0.0.
        ranked.sort_by(|(one, _), (other, _)| {
            one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal)
        });
        ranked.truncate(places);
        let mut promoted: Vec<Member> = ranked
            .into_iter()
            .map(|(_, member)| Member {
                status: Status::Waiting,
                ..member.clone()
            })
            .collect();
        promoted.sort_by_key(|member| member.id);
        promoted
    }

    fn enter_next(&mut self, promoted: Vec<Member>, stage: u32) {
        let Some(next) = self.coming.pop_front() else {
            self.finished = true;
            return;
        };
        self.stage = stage;
        self.budget = next.budget;
        self.members = promoted;
        let iteration = self.number;
        let free = self.members.len() as u32..next.size;
        self.members.extend(free.map(|index| Member {
            id: TrialId {
                iteration,
                stage,
                index,
            },
            config: None,
            submitted: 0.0,
            status: Status::Waiting,
        }));
        self.asked = 0;
        self.told = 0;
    }
}
