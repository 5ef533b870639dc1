//! Decides which worker runs which job: a pure state machine.
//!
//! [`Scheduler::step`] takes the time and one [`Event`] and appends [`Effect`]s. There is no I/O,
//! no clock, no randomness, no thread: the same events at the same times give the same effects,
//! so every behaviour can be replayed and tested.
//!
//! # The life of a job
//!
//! A job is in exactly one of four states. **Waiting**: a number inside a range of its batch, or,
//! if it came back from a worker, an entry of a small map. **Held**: handed to one worker under an
//! attempt number. **Parked**: kept apart by the caller, who expects its outcome from elsewhere.
//! **Finished**: nothing is kept; a job that is none of the others has finished. Each job finishes
//! exactly once, by [`Effect::Done`], a place in one [`Effect::Cancelled`] range, or
//! [`Event::Answered`]; only [`Event::Reopen`] gives it another life.
//!
//! Every hand-out raises the job's attempt number. A report counts only if it comes from the worker
//! that holds the job and names the current attempt; anything else is [`Effect::Superseded`]. What
//! becomes of the job then is the caller's choice: [`Then`].
//!
//! # Leases and restarts
//!
//! A worker whose connection is lost is *away*: it keeps what it holds for [`Config::lease_us`] and
//! is told nothing: no job is assigned to it, revoked or recalled. If it joins again in time, it
//! says what it holds, and the difference is settled; if not, it is lost. The lease of a connected
//! worker does not end, so a long job needs no renewal. No job has two holders, because a job
//! that is handed out again was taken from its holder before.
//!
//! Nothing of this is written anywhere. A caller that starts again submits its batches with what it
//! kept ([`Known`]) and restores the workers that it knew ([`Event::WorkerRestored`]): they are
//! away until they join.
//!
//! # Whose turn it is
//!
//! First a namespace's, by its weight and the time that its jobs have taken: see `share`. Whatever
//! priorities, weights and numbers of batches and jobs one namespace has changes nothing for others.
//!
//! Within a namespace batches are grouped in classes by what they ask of a worker (labels, memory and
//! time),
//! so a batch that no worker can run never stands in the way of another. A worker looks at the batches
//! of all classes it satisfies in one order: higher priority first, then the smaller *pass*. Passes are
//! those of stride scheduling (Waldspurger and Weihl, "Stride Scheduling", MIT/LCS/TM-528, 1995):
//! each hand-out raises the batch's pass by the expected service time over its weight, and the report
//! corrects it to the real one. A batch that becomes ready starts at the pass its class and its
//! neighbours were last served at, so waiting or being new earns no arrears.
//!
//! # How much a worker holds
//!
//! A worker with a free slot gets a ready job in the same step (the exceptions are below). Beyond
//! its slots it holds a short look-ahead, see [`Window`]: about 4 ms of work, nothing behind long
//! jobs, and never more than its share of what is left. The look-ahead is topped up when the worker
//! reports and when jobs or workers arrive. Nothing is handed ahead past a batch whose turn it is.
//! [`Event::Tick`] calls unstarted jobs back from a worker that is stuck while another is idle.
//!
//! *Memory*: the `slots` largest of the jobs a worker holds must fit its memory together, which is
//! sound whatever order it runs them in.
//!
//! *Time*: a worker may leave at a set time ([`Stay`]). It gets no job that may run for longer than that
//! worker stays, and, of jobs of which nobody said how long they may run, none once little time is left.
//! Time that has passed is taken into account at each [`Event::Tick`].
//!
//! # Failures
//!
//! After [`Then::Retry`] a job is tried again up to the batch's `retries`, on another matching
//! worker if one is connected.
//!
//! When a worker is lost we cannot know what it ran, only that it starts jobs in the order it got
//! them. So the first `slots` jobs it held each get a *loss*, and all jobs it held return as
//! *careful*: they are handed only into a free slot, never ahead, so that next time there is no
//! doubt. A job with one loss left before its limit runs *alone* on an otherwise empty worker, and only
//! a loss suffered alone is its last: a job that kills workers is found out with evidence, and
//! jobs that ran or waited beside it are not blamed.
//!
//! A worker on which several different jobs in a row end by a fault of the host, or whose results are
//! found wrong, is *put aside*: it takes no more jobs while others can do its work. It is a property of
//! the worker and outlasts its reconnects; if one day a batch has nobody else, it is taken back.
//!
//! # Confirmation
//!
//! After [`Then::Confirm`] a job waits for a worker that has not had it under `Confirm`. Unlike the
//! choice of another worker for a retry, this is kept whatever happens: where there is no other
//! worker, the job waits.
//!
//! # Room
//!
//! A job that runs alone, or one whose memory does not fit beside what a worker holds, is overtaken by
//! others for at most [`Config::patience_us`]; after that one worker is kept for it: it gets no other
//! job that stands later in the order until the job fits. These, and a worker that runs a job alone,
//! are the only cases in which a slot stays free while a matching job is ready.
//!
//! # Cost
//!
//! A report costs O(log n) in the number of batches and of held jobs, times the number of classes
//! its worker satisfies in the namespaces it looks at: that whose turn it is, and before it those that
//! have waiting jobs and none for this worker. Submitting, extending and job returns cost O(workers) more, since any of them
//! may take the new jobs; so do workers that come, go or are put aside. Reopening and cancelling read
//! the whole batch. A worker passes by the batches of which it has had all waiting jobs under `Confirm`
//! one by one. Waiting and parked jobs cost no memory of their own; jobs that came back cost an entry.

mod aside;
mod batch;
mod batches;
mod check;
mod class;
mod config;
mod dispatch;
mod estimate;
mod event;
mod ids;
mod membership;
mod ranges;
mod returned;
mod scheduler;
mod share;
mod status;
mod worker;

pub use config::{Config, Window};
pub use event::{
    BatchSpec, Claim, Distrust, Effect, Event, Ignored, Known, OutcomeClass, RetryReason, Stay,
    Then, Verdict, WorkerSpec,
};
pub use ids::{BatchId, JobId, NamespaceId, Time, WorkerId};
pub use scheduler::Scheduler;
pub use status::{BatchStatus, DoneCounts, JobState, WaitReason, WorkerStatus};
