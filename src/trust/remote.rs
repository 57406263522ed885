//! One run of `tuf::Update` against a trust server, with its memory in the store.

use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::debug;

use super::servers::Connection;
use crate::fetch;
use crate::reference::Gun;
use crate::store::{Record, Store, StoreError};
use crate::tuf::{self, Answer, Form, Request, Role, State, Step, Task, Update, Verified};

/// How often a run is begun again because another process wrote the same repository's state.
const ATTEMPTS: usize = 3;

/// Why there is nothing to believe.
#[derive(Debug, thiserror::Error)]
pub(super) enum Setback {
    /// The metadata cannot be trusted.
    #[error(transparent)]
    Untrusted(#[from] tuf::Error),
    /// The server did not answer.
    #[error(transparent)]
    Unavailable(#[from] fetch::Error),
    /// What was seen cannot be remembered, and without memory there is no rollback protection.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A trust server and the place where its repositories are remembered.
pub(super) struct Remote<'a> {
    pub(super) connection: &'a Connection,
    pub(super) store: &'a Store,
}

impl Remote<'_> {
    /// Verifies the repository of `task` anew: one parallel round in the ordinary case (design §6).
    pub(super) async fn update(&self, task: &Task, deadline: Instant) -> Result<Verified, Setback> {
        let mut attempt = 1;
        loop {
            let record = self.load(&task.gun)?;
            match self.run(task, &record, deadline).await {
                Err(Setback::Store(StoreError::Conflict { .. })) if attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn run(&self, task: &Task, record: &Record, deadline: Instant) -> Result<Verified, Setback> {
        let (mut update, mut requests) = Update::begin(task.clone(), record.state.clone());
        loop {
            let step = match self.fetch_all(&task.gun, requests, deadline).await {
                Ok(answers) => update.supply(answers).map_err(Setback::from),
                Err(error) => Err(error.into()),
            };
            match step {
                Ok(Step::Fetch(more)) => requests = more,
                Ok(Step::Done(verified)) => {
                    self.store
                        .save(&self.connection.name, &task.gun, record, &verified.state)?;
                    return Ok(*verified);
                }
                Err(setback) => {
                    self.keep_roots(&task.gun, record, &update);
                    return Err(setback);
                }
            }
        }
    }

    /// Roots are kept one by one, whatever becomes of the rest (design §9.7). That they could not be is no worse
    /// than the failure that is reported anyway.
    fn keep_roots(&self, gun: &Gun, record: &Record, update: &Update) {
        let Some(state) = update.trusted_roots() else {
            return;
        };
        if let Err(error) = self.store.save(&self.connection.name, gun, record, state) {
            debug!(%gun, %error, "verified roots were not kept");
        }
    }

    /// The bytes of the current timestamp: if they are those already verified, nothing has changed.
    pub(super) async fn timestamp(
        &self,
        gun: &Gun,
        limit: u64,
        deadline: Instant,
    ) -> Result<Answer, fetch::Error> {
        let request = Request {
            role: Role::Timestamp,
            form: Form::Current,
            limit,
            speculative: false,
        };
        self.connection.server.fetch(gun, &request, deadline).await
    }

    /// Fetches all of `requests` at once. What was only speculative may fail.
    async fn fetch_all(
        &self,
        gun: &Gun,
        requests: Vec<Request>,
        deadline: Instant,
    ) -> Result<Vec<(Request, Answer)>, fetch::Error> {
        let fetches = requests.into_iter().map(async |request| {
            let answer = self.connection.server.fetch(gun, &request, deadline).await;
            (request, answer)
        });
        let mut answers = Vec::new();
        for (request, answer) in join_all(fetches).await {
            match answer {
                Ok(answer) => answers.push((request, answer)),
                Err(error) if request.speculative => debug!(%gun, %request, %error, "not fetched ahead"),
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }

    /// Verifies the repository again from the files in the store, as of `task.now`, without the server.
    pub(super) fn replay(&self, task: &Task) -> Option<Verified> {
        let record = self.load(&task.gun).ok()?;
        let (mut update, mut requests) = Update::begin(task.clone(), record.state.clone());
        loop {
            let answers = requests.into_iter().map(|request| {
                let answer = remembered(&record.state, &request);
                (request, answer)
            });
            match update.supply(answers.collect::<Vec<_>>()).ok()? {
                Step::Fetch(more) => requests = more,
                Step::Done(mut verified) => {
                    verified.state.verified_at = record.state.verified_at;
                    return Some(*verified);
                }
            }
        }
    }

    /// Notes that the server still vouches for what was verified before.
    pub(super) fn confirm(&self, gun: &Gun, at: jiff::Timestamp) -> Result<(), StoreError> {
        let record = self.load(gun)?;
        let state = State {
            verified_at: Some(at),
            ..record.state.clone()
        };
        self.store
            .save(&self.connection.name, gun, &record, &state)
            .map(drop)
    }

    fn load(&self, gun: &Gun) -> Result<Record, StoreError> {
        self.store.load(&self.connection.name, gun)
    }
}

fn remembered(state: &State, request: &Request) -> Answer {
    let file = match (&request.role, &request.form) {
        (Role::Root, Form::Current) => state.roots.last(),
        (Role::Root, _) => None,
        (role, Form::Current | Form::Hash(_)) => state.files.get(role),
        (_, Form::Version(_)) => None,
    };
    file.map_or(Answer::Absent, |file| Answer::Found(file.clone()))
}
