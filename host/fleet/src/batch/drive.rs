//! Runs the commands that a [`Scaler`] asks for, with a time limit each.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::sync::watch;

use crate::batch::folder::claim;
use crate::batch::scaler::{
    Config, Effect, Event, Failure, Id, Observation, Scaler, State, SubmitFailure,
};
use crate::batch::script::{JobSpec, ScriptError, token_file};
use crate::batch::system::{CommandLine, System, was_perhaps_heard};
use crate::command::{CallError, call};
use crate::secret::Secret;

/// What a fleet needs of the coordinator. Neither call may wait for ever.
pub trait Coordinator {
    /// The jobs that wait, and the workers that have the labels `fleet` with this name and
    /// `fleet-job`, which says the batch job.
    fn observe(&mut self, fleet: &str) -> impl Future<Output = Result<Observation, String>> + Send;

    /// Lets the workers of these batch jobs finish what they run and leave.
    fn drain(&mut self, ids: &[Id]) -> impl Future<Output = Result<(), DrainError>> + Send;
}

/// Why workers were not drained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// This fleet may not do that, now or later. Their batch jobs are cancelled when they idle.
    #[error("{0}")]
    Refused(String),
    /// The coordinator did not answer. It is tried again.
    #[error("{0}")]
    Unanswered(String),
}

/// A fleet on a batch system.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What its jobs are.
    pub job: JobSpec,
    /// How many there are.
    pub config: Config,
    /// Folder with the batch system's programs. Default: they are on the path.
    pub programs: Option<PathBuf>,
    /// Time limit of each command. Default 60 s.
    pub limit: Duration,
    /// How often the coordinator is asked. Default 5 s.
    pub observe_every: Duration,
    /// How long the coordinator may fail to answer before the fleet ends. Default 10 min.
    pub patience: Duration,
}

impl Settings {
    /// With everything but these by default, and as many workers a submission as the system takes.
    #[must_use]
    pub fn new(job: JobSpec, max: u32) -> Self {
        let per_submit = job.system.per_submit();
        let stay = job.stay();
        Self {
            job,
            config: Config {
                max,
                per_submit,
                stay,
                ..Config::default()
            },
            programs: None,
            limit: Duration::from_secs(60),
            observe_every: Duration::from_secs(5),
            patience: Duration::from_secs(600),
        }
    }
}

/// Why a fleet on a batch system ended.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// No script could be written; nothing was submitted.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// Too many failures, or no answer. Nothing is left, unless it says so.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The coordinator did not answer for too long. All jobs were cancelled.
    #[error("the coordinator does not answer: {0}")]
    Coordinator(String),
    /// Nobody knows whose jobs to list. `id -un` has to say it.
    #[error("this user has no name: {0}")]
    User(CallError),
}

type Answer = Pin<Box<dyn Future<Output = Event> + Send>>;

/// Keeps a fleet until `stop` becomes true, or its sender is dropped; then all its jobs are cancelled,
/// and its token file is removed. `say` is told what happens.
///
/// # Errors
///
/// [`BatchError`].
pub async fn run(
    settings: Settings,
    secret: &Secret,
    mut coordinator: impl Coordinator,
    mut stop: watch::Receiver<bool>,
    mut say: impl FnMut(&str),
) -> Result<(), BatchError> {
    settings.job.render()?;
    let folder = settings.job.folder()?;
    let _claim = claim(&folder)?;
    let user = user_name(settings.limit).await?;
    let script = settings.job.write(secret)?;
    let runner = Runner {
        system: settings.job.system,
        name: settings.job.job_name(),
        user,
        programs: settings.programs.clone(),
        limit: settings.limit,
        script,
    };
    let mut scaler = Scaler::new(settings.config.clone());
    let begin = Instant::now();
    let mut events = Vec::new();
    let mut answer: Option<Answer> = None;
    let mut seen = Instant::now();
    let mut verdict = Ok(());
    // Timers have no period of nothing.
    let mut ticks = tokio::time::interval(settings.observe_every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stopping = false;
    loop {
        tokio::select! {
            event = async { match &mut answer { Some(answer) => answer.await, None => std::future::pending().await } } => {
                answer = None;
                events.push(event);
            }
            () = asked(&mut stop), if !stopping => {
                stopping = true;
                ticks = tokio::time::interval(STOP_TICK);
                events.push(Event::Stop);
            }
            _ = ticks.tick() => {
                if stopping {
                    events.push(Event::Tick);
                } else {
                    match coordinator.observe(&settings.job.name).await {
                        Ok(observation) => {
                            seen = Instant::now();
                            events.push(Event::Observed(observation));
                        }
                        Err(why) => {
                            events.push(Event::Unobserved);
                            if seen.elapsed() >= settings.patience {
                                say(&format!("the coordinator does not answer: {why}"));
                                verdict = Err(BatchError::Coordinator(why));
                                stopping = true;
                                events.push(Event::Stop);
                            }
                        }
                    }
                }
            }
        }
        while let Some(event) = events.pop() {
            let mut effects = Vec::new();
            scaler.step(begin.elapsed(), event, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Submit(count) => answer = Some(Box::pin(runner.clone().submit(count))),
                    Effect::List => answer = Some(Box::pin(runner.clone().list())),
                    Effect::Cancel(ids) => answer = Some(Box::pin(runner.clone().cancel(ids))),
                    Effect::Drain(ids) => {
                        if let Err(error) = coordinator.drain(&ids).await {
                            say(&format!(
                                "cannot drain the workers of {}: {error}",
                                ids.join(" ")
                            ));
                            let refused = matches!(error, DrainError::Refused(_));
                            events.push(Event::NotDrained { ids, refused });
                        }
                    }
                    Effect::Say(text) => say(&text),
                    Effect::Ended(result) => {
                        let _ = std::fs::remove_file(token_file(&folder));
                        result?;
                        return verdict;
                    }
                }
            }
        }
    }
}

/// Who this is, as the batch system knows it.
async fn user_name(limit: Duration) -> Result<String, BatchError> {
    let name = call(Command::new("id").arg("-un"), b"", limit).await;
    Ok(name.map_err(BatchError::User)?.trim().to_owned())
}

/// Waits until it is true, or nobody can say so any more.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// How often the scaler is told the time while it ends: somebody waits.
const STOP_TICK: Duration = Duration::from_millis(200);

/// Runs commands, and makes events of their answers.
#[derive(Clone)]
struct Runner {
    system: System,
    /// The name of the batch jobs.
    name: String,
    user: String,
    programs: Option<PathBuf>,
    limit: Duration,
    script: PathBuf,
}

impl Runner {
    async fn call(&self, line: CommandLine) -> Result<String, CallError> {
        let program = match &self.programs {
            Some(folder) => folder.join(line.program),
            None => line.program.into(),
        };
        let mut command = Command::new(&program);
        // Batch systems hand the environment on to the job.
        command
            .args(&line.args)
            .env_remove("OPTWASM_TOKEN")
            .env("LC_ALL", "C");
        let input = if line.script_as_input {
            let read = tokio::fs::read(&self.script).await;
            read.map_err(|error| CallError::Spawn {
                program: line.program.to_owned(),
                why: format!("{}: {error}", self.script.display()),
            })?
        } else {
            Vec::new()
        };
        call(&mut command, &input, self.limit).await
    }

    async fn submit(self, count: u32) -> Event {
        let line = self.system.submit(&self.script, count);
        let program = line.program;
        let result = match self.call(line).await {
            Ok(answer) => self
                .system
                .submitted(&answer, count)
                .ok_or_else(|| SubmitFailure {
                    why: not_understood(program, &answer).to_string(),
                    // It did not fail, so there may be a job.
                    unsure: true,
                }),
            Err(error) => Err(SubmitFailure {
                unsure: match &error {
                    CallError::Spawn { .. } => false,
                    CallError::TimedOut { .. } | CallError::Answer { .. } => true,
                    // No code where a signal ended it.
                    CallError::Failed { code, stderr, .. } => {
                        code.parse::<i32>().is_err() || was_perhaps_heard(stderr)
                    }
                },
                why: error.to_string(),
            }),
        };
        Event::Submitted(result)
    }

    async fn list(self) -> Event {
        let line = self.system.list(&self.name, &self.user);
        let program = line.program;
        Event::Listed(match self.call(line).await {
            Ok(answer) => match self.system.listed(&answer, &self.name) {
                Some(jobs) => Ok(jobs),
                None => Err(not_understood(program, &answer).to_string()),
            },
            Err(CallError::Failed { stderr, .. }) if self.system.nothing_listed(&stderr) => {
                Ok(Vec::<(Id, State)>::new())
            }
            Err(error) => Err(error.to_string()),
        })
    }

    async fn cancel(self, ids: Vec<Id>) -> Event {
        let mut result = Ok(());
        for ids in ids.chunks(CANCEL_MAX) {
            if let Err(error) = self.call(self.system.cancel(ids)).await {
                result = Err(error.to_string());
            }
        }
        Event::Cancelled(result)
    }
}

/// Jobs that one command cancels: their identities, of at most 255 bytes, fit the 128 KiB that Linux
/// takes for one line of arguments on the oldest systems.
const CANCEL_MAX: usize = 400;

fn not_understood(program: &str, answer: &str) -> CallError {
    CallError::Answer {
        program: program.to_owned(),
        answer: answer.chars().take(200).collect(),
    }
}
