//! Drives a search: evaluations become jobs on a coordinator's workers, or in this process.
//!
//! The objective is a module. The input of its job is a CBOR map: `config`, a map of the active
//! parameters; `budget`, a number; `id`, the array `[iteration, stage, index]`; `seed`, an integer
//! below 2^53. Its output is a map with `loss`, a number, and `info`, which may be anything or be
//! left out: as CBOR, or as a JSON object. A loss alone, as CBOR, will do too.
//!
//! Evaluations are asked for as many at once as keep all slots busy, and what is asked for at one
//! time travels as one batch. Each line of the journal is written before what it stands for is sent or
//! shown, so that a search whose process was killed goes on where it was; its jobs end with it
//! ([attached](BatchSpec::attached) batches), and are asked for again.
//!
//! The search is asked on another thread, since its sampler may take its time. Meanwhile its answers are
//! sent as they come, and what ends is told to it when it is back.

mod evaluate;
mod output;
mod window;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use optwasm_client::{BatchSpec, Client, ClientError};
use thiserror::Error;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout_at;

use crate::{Ask, Entry, SamplerError, Search, TellError, Told, Trial, TrialId};
use evaluate::{Ended, Evaluator, Event};
use window::Window;

/// How long answers of a search are gathered before they are sent: slots wait for them.
const ROUND: Duration = Duration::from_millis(20);
/// How often an evaluation is asked for again whose worker was lost, or whose host failed, beyond the
/// coordinator's own attempts. An objective that brings every host down is a crash.
const LOST_MAX: u32 = 3;

/// How a search is driven.
#[derive(Clone, Debug)]
pub struct Drive {
    /// Module, limits, blobs and the rest of the jobs.
    pub spec: BatchSpec,
    /// Evaluations at once. Default: as many as keep all slots busy.
    pub parallel: Option<usize>,
    /// When to stop asking, and to give up what is being evaluated. Default never.
    pub until: Option<Instant>,
}

/// Why a search was not driven to its end. Its journal holds what was known by then.
#[derive(Debug, Error)]
pub enum DriveError {
    /// The coordinator, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The sampler, an external program for instance, gives no configuration.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The journal cannot be written. Make room, and resume.
    #[error("the journal: {0}")]
    Journal(#[from] io::Error),
}

/// The seconds of a search, also of one that is continued.
#[derive(Clone, Copy)]
struct Clock {
    begun: Instant,
    /// What the time was when it was begun.
    before: f64,
}

impl Clock {
    fn now(self) -> f64 {
        self.before + self.begun.elapsed().as_secs_f64()
    }
}

/// A search that has been asked.
struct Asked {
    search: Search,
    then: Result<Then, SamplerError>,
}

/// One of its answers, and what is to be written before it is sent.
type Answer = (Trial, Vec<Entry>);

/// What is after the answer.
enum Then {
    /// There may be more.
    More,
    /// Nothing before the next result.
    Wait,
    /// Nothing any more.
    Done,
}

impl Drive {
    /// Drives `search` until nothing is left to be evaluated, or its time is over; gives it back,
    /// unless its sampler has not answered by then. Lines go to `journal`; `heard` is called with
    /// every result, after it was written.
    ///
    /// Dropped before its end, it takes the search with it, which is continued from the journal.
    ///
    /// # Errors
    ///
    /// [`DriveError`].
    pub async fn run(
        &self,
        client: &Client,
        mut search: Search,
        journal: &mut (dyn Write + Send),
        mut heard: impl FnMut(&Told),
    ) -> Result<Option<Search>, DriveError> {
        write(search.take_entries(), journal)?;
        let clock = Clock {
            begun: Instant::now(),
            before: search.latest(),
        };
        let (sender, mut events) = mpsc::unbounded_channel();
        let (answering, mut answers) = mpsc::unbounded_channel();
        let evaluator = Evaluator::new(client, &self.spec, sender);
        let mut looking = pin!(evaluator.look());
        let mut batches = FuturesUnordered::new();
        let mut window = Window::new(self.parallel);
        let mut results = Results::default();
        // It is in one of the two.
        let (mut home, mut away) = (Some(search), None);
        let mut in_flight = 0;
        let mut then = Then::More;
        let mut sent = Instant::now();
        loop {
            if let Some(search) = &mut home
                && results.tell(search, journal, &mut heard)?
            {
                then = Then::More;
            }
            if self.until.is_some_and(|until| Instant::now() >= until) {
                if let Some(search) = &mut home {
                    search.stop();
                }
                // What is in flight ends with the batches' streams.
                return Ok(home);
            }
            match then {
                Then::More => {
                    let count = window.room(in_flight);
                    if count > 0
                        && let Some(search) = home.take()
                    {
                        sent = Instant::now();
                        let answering = answering.clone();
                        let ask = move || ask(search, count, clock, &answering);
                        away = Some(spawn_blocking(ask));
                    }
                }
                Then::Wait => {}
                // Batches are still being removed.
                Then::Done if !batches.is_empty() => {}
                Then::Done => return Ok(home),
            }
            tokio::select! {
                biased;
                () = over(self.until) => {}
                asked = round(&mut away, sent), if away.is_some() => {
                    let trials = take(&mut answers, journal)?;
                    if let Some(Asked { search, then: next }) = asked {
                        away = None;
                        home = Some(search);
                        then = next?;
                    }
                    sent = Instant::now();
                    if !trials.is_empty() {
                        in_flight += trials.len();
                        batches.push(evaluator.evaluate(trials));
                    }
                }
                error = &mut looking, if self.parallel.is_none() => return Err(error.into()),
                Some(ended) = batches.next() => ended?,
                Some(event) = events.recv() => {
                    // All that have come, so that what follows from them travels together.
                    let mut next = Some(event);
                    while let Some(event) = next {
                        match event {
                            Event::Slots(slots) => window.slots = Some(slots),
                            Event::Ended(ended) => {
                                in_flight = in_flight.saturating_sub(1);
                                window.note(ended.time);
                                results.note(ended, clock.now());
                            }
                        }
                        next = events.try_recv().ok();
                    }
                }
            }
        }
    }
}

/// Results that the search has not been told.
#[derive(Default)]
struct Results {
    new: Vec<Ended>,
    /// How often evaluations were interrupted.
    lost: BTreeMap<(TrialId, u64), u32>,
}

impl Results {
    fn note(&mut self, mut ended: Ended, now: f64) {
        ended.report.finished = now;
        self.new.push(ended);
    }

    /// Tells them; whether there were any.
    fn tell(
        &mut self,
        search: &mut Search,
        journal: &mut (dyn Write + Send),
        heard: &mut impl FnMut(&Told),
    ) -> io::Result<bool> {
        if self.new.is_empty() {
            return Ok(false);
        }
        let mut all = Vec::with_capacity(self.new.len());
        for Ended {
            trial,
            report,
            interrupted,
            ..
        } in self.new.drain(..)
        {
            let Trial { id, budget, .. } = trial;
            if interrupted {
                let times = self.lost.entry((id, budget.to_bits())).or_default();
                *times += 1;
                if *times <= LOST_MAX {
                    // It is in flight, since it was asked for and is not told.
                    let _: Result<(), TellError> = search.lost(id, budget);
                    continue;
                }
            }
            all.extend(search.tell(id, budget, report));
        }
        write(search.take_entries(), journal)?;
        all.iter().for_each(heard);
        Ok(true)
    }
}

/// Asks for so many evaluations, or as many as there are in a round, and at least for one.
fn ask(mut search: Search, count: usize, clock: Clock, answers: &UnboundedSender<Answer>) -> Asked {
    let begun = Instant::now();
    let mut then = Ok(Then::More);
    for _ in 0..count {
        match search.ask(clock.now()) {
            // Nobody listens any more when the drive was dropped.
            Ok(Ask::Evaluate(trial)) => drop(answers.send((trial, search.take_entries()))),
            Ok(Ask::Wait) => then = Ok(Then::Wait),
            Ok(Ask::Done) => then = Ok(Then::Done),
            Err(error) => then = Err(error),
        }
        if !matches!(then, Ok(Then::More)) || begun.elapsed() >= ROUND {
            break;
        }
    }
    Asked { search, then }
}

/// The search when it is back, or none when answers have been gathered for a round.
async fn round(away: &mut Option<JoinHandle<Asked>>, since: Instant) -> Option<Asked> {
    let asking = away.as_mut()?;
    match timeout_at((since + ROUND).into(), asking).await {
        Ok(Ok(asked)) => Some(asked),
        // Nobody aborts it, so it has panicked.
        Ok(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// The answers that there are, when they are written down.
fn take(
    answers: &mut UnboundedReceiver<Answer>,
    journal: &mut (dyn Write + Send),
) -> io::Result<Vec<Trial>> {
    let (mut trials, mut entries) = (Vec::new(), Vec::new());
    while let Ok((trial, of_trial)) = answers.try_recv() {
        trials.push(trial);
        entries.extend(of_trial);
    }
    write(entries, journal)?;
    Ok(trials)
}

/// The end of the time, if there is one.
async fn over(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

fn write(entries: Vec<Entry>, journal: &mut (dyn Write + Send)) -> io::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut lines = String::new();
    for entry in entries {
        lines.push_str(&entry.to_line());
        lines.push('\n');
    }
    journal.write_all(lines.as_bytes())?;
    journal.flush()
}
