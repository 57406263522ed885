//! One run of `tuf::Update` against a trust server, with its memory in the store.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::keeper::{Keeper, is_newest};
use super::servers::Connection;
use crate::fetch;
use crate::reference::Gun;
use crate::store::{Record, StoreError, aside};
use crate::tuf::{self, Answer, Form, Request, Role, State, Step, Task, Update, Verified};

/// How often a run is begun again because somebody else wrote the same repository's state: another process, or another
/// verifier that loads other signers.
const ATTEMPTS: usize = 5;
/// Files fetched at once by one run: the ordinary first round and some signers; walks of roots and attribution take
/// turns.
const FETCHES: usize = 16;
/// For what has to be noted although the run's own deadline may have passed: a read and a write of 2 s each.
const NOTE: Duration = Duration::from_secs(4);

/// Why there is nothing to believe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Setback {
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

impl Setback {
    /// Whether verified metadata may serve instead (design §9.5).
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(error) if error.is_outage())
    }

    /// Whether the server has answered, and not vouched for what it vouched for before. What only this verifier's
    /// anchor objects to is not among that: it objects to remembered files just as well.
    const fn disowns(&self) -> bool {
        match self {
            Self::Untrusted(tuf::Error::Pin { .. } | tuf::Error::Name { .. } | tuf::Error::Certificate)
            | Self::Store(_) => false,
            Self::Untrusted(_) => true,
            Self::Unavailable(error) => !error.is_outage(),
        }
    }
}

/// A trust server and the place where its repositories are remembered.
pub(super) struct Remote<'a> {
    pub(super) connection: &'a Connection,
    pub(super) store: &'a Keeper,
    pub(super) reach: Reach,
}

/// Who may be told what a run finds. Versions are remembered for all in any case: that is the protection from rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Everybody, also from the store after a restart.
    All,
    /// Those who have the logins, or are governed by the same policies of namespaces; from the store nobody, as it knows
    /// neither (CRED-24).
    Holders,
}

impl Reach {
    /// `state` as it may be kept in place of `before`.
    fn limit(self, state: State, before: &State) -> State {
        match self {
            Self::All => state,
            Self::Holders => State {
                verified_at: before.verified_at.filter(|_| before.files == state.files),
                ..state
            },
        }
    }
}

impl Remote<'_> {
    /// Verifies the repository of `task` anew: one parallel round in the ordinary case (design §6).
    pub(super) async fn update(&self, task: &Task, deadline: Instant) -> Result<Verified, Setback> {
        let mut attempt = 1;
        loop {
            let record = self.load(&task.gun, deadline).await?;
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
                Ok(answers) => {
                    let supplied = aside(move || {
                        let step = update.supply(answers);
                        (update, step)
                    });
                    let step;
                    (update, step) = supplied.await;
                    step.map_err(Setback::from)
                }
                Err(error) => Err(error.into()),
            };
            match step {
                Ok(Step::Fetch(more)) => requests = more,
                Ok(Step::Done(verified)) => {
                    let state = self.reach.limit(verified.state.clone(), &record.state);
                    self.save(&task.gun, record, state, deadline).await?;
                    return Ok(*verified);
                }
                Err(setback) => {
                    self.keep_roots(&task.gun, record, &update).await;
                    return Err(setback);
                }
            }
        }
    }

    /// Roots are kept one by one, whatever becomes of the rest (design §9.7). That they could not be is no worse
    /// than the failure that is reported anyway.
    async fn keep_roots(&self, gun: &Gun, record: &Record, update: &Update) {
        let Some(state) = update.trusted_roots() else {
            return;
        };
        if let Err(error) = self.save(gun, record, state.clone(), Instant::now() + NOTE).await {
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
        let fetches = stream::iter(fetches).buffer_unordered(FETCHES);
        for (request, answer) in fetches.collect::<Vec<_>>().await {
            match answer {
                Ok(answer) => answers.push((request, answer)),
                Err(error) if request.speculative => debug!(%gun, %request, %error, "not fetched ahead"),
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }

    /// Verifies the repository again from the files in the store, as of `task.now`, without the server; `None` if
    /// they do not verify, or the server has not vouched for them since `since`.
    pub(super) async fn replay(&self, task: Task, since: Timestamp, deadline: Instant) -> Option<Verified> {
        let record = self.load(&task.gun, deadline).await.ok()?;
        let verified_at = record.state.verified_at.filter(|at| *at >= since)?;
        let mut verified = aside(move || replay(task, &record.state)).await?;
        verified.state.verified_at = Some(verified_at);
        Some(verified)
    }

    /// Whether the timestamp with that hash is still the newest that anybody has seen: another verifier or process
    /// may know better than the caller's memory.
    pub(super) async fn remembers(
        &self,
        gun: &Gun,
        timestamp: [u8; 32],
        deadline: Instant,
    ) -> Result<bool, StoreError> {
        let server = &self.connection.name;
        self.store.remembers(server, gun, timestamp, deadline).await
    }

    /// Notes that the server still vouches for what was verified before. Gives whether that is still the newest that
    /// anybody has seen; else nothing is noted.
    pub(super) async fn confirm(
        &self,
        gun: &Gun,
        timestamp: [u8; 32],
        at: Timestamp,
        deadline: Instant,
    ) -> Result<bool, StoreError> {
        let record = self.load(gun, deadline).await?;
        if !is_newest(&record, timestamp) {
            return Ok(false);
        }
        if self.reach == Reach::Holders {
            return Ok(true);
        }
        let noted = self.vouched(gun, &record, Some(at), deadline).await;
        noted.map(|()| true)
    }

    /// Notes what a setback means for remembered files: what the server vouches for no more must not serve again
    /// when it is away, not even after a restart (design §9.5).
    pub(super) async fn note(&self, gun: &Gun, setback: &Setback) {
        // What somebody's own logins or policies do not open says nothing about the others'.
        if self.reach == Reach::Holders || !setback.disowns() {
            return;
        }
        let deadline = Instant::now() + NOTE;
        let noted = async {
            let record = self.load(gun, deadline).await?;
            self.vouched(gun, &record, None, deadline).await
        };
        if let Err(error) = noted.await {
            warn!(%gun, %error, "remembered files may serve in an outage, though the server disowned them");
        }
    }

    async fn vouched(
        &self,
        gun: &Gun,
        record: &Record,
        at: Option<Timestamp>,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        if record.state.verified_at == at {
            return Ok(());
        }
        let state = State {
            verified_at: at,
            ..record.state.clone()
        };
        self.save(gun, record, state, deadline).await
    }

    async fn load(&self, gun: &Gun, deadline: Instant) -> Result<Record, StoreError> {
        self.store.load(&self.connection.name, gun, deadline).await
    }

    async fn save(
        &self,
        gun: &Gun,
        loaded: &Record,
        state: State,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let server = &self.connection.name;
        if !self.connection.administered && !self.store.has_room(server, gun) {
            return Err(StoreError::Full { gun: gun.clone() });
        }
        self.store.save(server, gun, loaded, state, deadline).await
    }
}

fn replay(task: Task, state: &State) -> Option<Verified> {
    let (mut update, mut requests) = Update::begin(task, state.clone());
    loop {
        let answers = requests.into_iter().map(|request| {
            let answer = remembered(state, &request);
            (request, answer)
        });
        match update.supply(answers.collect::<Vec<_>>()).ok()? {
            Step::Fetch(more) => requests = more,
            Step::Done(verified) => return Some(*verified),
        }
    }
}

fn remembered(state: &State, request: &Request) -> Answer {
    let file = match (&request.role, &request.form) {
        (Role::Root, Form::Current) => state.roots.last(),
        (Role::Root, _) | (_, Form::Version(_)) => None,
        (role, Form::Current | Form::Hash(_)) => state.files.get(role),
    };
    file.map_or(Answer::Absent, |file| Answer::Found(file.clone()))
}
