//! The coordinator, as a fleet on a batch system sees it.
//!
//! The fleet may be driven by any thread, the client only by its own: so the client answers questions in
//! a task that stays where it is.

use std::collections::BTreeMap;
use std::time::Duration;

use optwasm_client::{Client, ClientError, ErrorCode, Offer, WorkerStatus};
use optwasm_fleet::batch::scaler::{Id, Observation};
use optwasm_fleet::batch::system::is_id;
use optwasm_fleet::batch::{Coordinator, DrainError};
use optwasm_fleet::{LABEL_FLEET, LABEL_JOB};
use tokio::sync::{mpsc, oneshot};

use crate::exit::Failure;
use crate::settings::Settings;

/// How long one question may take, connecting again included; the next one comes soon.
const LIMIT: Duration = Duration::from_secs(20);

/// Asks the coordinator what a fleet has to know.
pub struct Observer {
    questions: mpsc::Sender<Question>,
}

type Answer<T> = oneshot::Sender<Result<T, NoAnswer>>;

/// Why there is no answer.
enum NoAnswer {
    /// The coordinator does not do that for this client.
    Refused(String),
    /// It could not be asked, or had another reason.
    Failed(String),
}

enum Question {
    Observe(Answer<Observation>),
    Drain(Vec<Id>, Answer<()>),
}

impl Observer {
    /// Connects to the coordinator that is configured, for a fleet whose workers would have the labels of
    /// `offer`: jobs that such a worker could not take are not waited for.
    ///
    /// Must be called on a [`tokio::task::LocalSet`].
    pub async fn connect(settings: &Settings, fleet: &str, offer: Offer) -> Result<Self, Failure> {
        let mut client = settings.client().await?;
        client.patience(LIMIT);
        let eyes = Eyes {
            client,
            offer,
            fleet: fleet.to_owned(),
        };
        // The fleet asks one question at a time.
        let (questions, asked) = mpsc::channel(1);
        tokio::task::spawn_local(eyes.answer(asked));
        Ok(Self { questions })
    }

    async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> Result<T, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        // The task ends only with this.
        let _ = self.questions.send(question(answer)).await;
        let gone = |_| Err(NoAnswer::Failed("the connection has ended".to_owned()));
        answered.await.unwrap_or_else(gone)
    }
}

impl Coordinator for Observer {
    async fn observe(&mut self, _fleet: &str) -> Result<Observation, String> {
        let seen = self.ask(Question::Observe).await;
        seen.map_err(|(NoAnswer::Refused(why) | NoAnswer::Failed(why))| why)
    }

    async fn drain(&mut self, ids: &[Id]) -> Result<(), DrainError> {
        let drained = self.ask(|answer| Question::Drain(ids.to_vec(), answer));
        drained.await.map_err(|error| match error {
            NoAnswer::Refused(why) => DrainError::Refused(why),
            NoAnswer::Failed(why) => DrainError::Unanswered(why),
        })
    }
}

/// What answers.
struct Eyes {
    client: Client,
    offer: Offer,
    fleet: String,
}

impl Eyes {
    async fn answer(self, mut questions: mpsc::Receiver<Question>) {
        while let Some(question) = questions.recv().await {
            // Whoever does not wait for the answer any more needs none.
            match question {
                Question::Observe(answer) => {
                    let _ = answer.send(in_time(self.observation()).await);
                }
                Question::Drain(ids, answer) => {
                    let _ = answer.send(in_time(self.drain(&ids)).await);
                }
            }
        }
        self.client.close().await;
    }

    /// The connected workers of the fleet, with their batch jobs. What they say of those is theirs to
    /// choose: what no batch system gives is passed over.
    async fn workers(&self) -> Result<Vec<(Id, WorkerStatus)>, ClientError> {
        let all = self.client.workers().await?;
        let own = all.into_iter().filter_map(|worker| {
            let labels = &worker.info.labels;
            let is_own = labels.get(LABEL_FLEET) == Some(&self.fleet) && worker.away_ms.is_none();
            let id = labels.get(LABEL_JOB).filter(|id| is_own && is_id(id))?;
            let id = id.clone();
            Some((id, worker))
        });
        Ok(own.collect())
    }

    async fn observation(&self) -> Result<Observation, ClientError> {
        let waiting = self.client.demand(self.offer.clone()).await?;
        let mut workers = BTreeMap::new();
        for (id, worker) in self.workers().await? {
            // Where several say that they are in one job, it works while one of them does.
            *workers.entry(id).or_insert(true) &= worker.held == 0;
        }
        Ok(Observation { waiting, workers })
    }

    async fn drain(&self, ids: &[Id]) -> Result<(), ClientError> {
        for (id, worker) in self.workers().await? {
            if ids.contains(&id) {
                self.client.drain_worker(worker.worker).await?;
            }
        }
        Ok(())
    }
}

/// The answer, where it comes in time.
async fn in_time<T>(answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, NoAnswer> {
    match tokio::time::timeout(LIMIT, answer).await {
        Ok(result) => result.map_err(|error| match error {
            ClientError::Request(error) if error.code == ErrorCode::Unauthorized => {
                NoAnswer::Refused(error.message)
            }
            error => NoAnswer::Failed(error.to_string()),
        }),
        Err(_) => {
            let text = format!("no answer within {} s", LIMIT.as_secs());
            Err(NoAnswer::Failed(text))
        }
    }
}
