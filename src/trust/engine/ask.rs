//! Asking a trust server about one repository, once for all who want to know.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span, debug, info, warn};

use super::super::memory::{Failure, Key, Known, Memory};
use super::super::options::Clock;
use super::super::outcome::Refusal;
use super::super::remote::{Remote, Setback};
use super::super::servers::Connection;
use super::super::verifier::Notary;
use super::Engine;
use super::consult::Inquiry;
use crate::reference::Gun;
use crate::tuf::{self, Answer};

/// How often the store is told that a server still vouches for what is there: staleness after a restart is counted
/// from then, and writing costs a disk sync.
const CONFIRM: Duration = Duration::from_secs(10 * 60);

impl Engine {
    /// Joins the run for this repository, or starts it. The run is a task of its own: it ends by its own deadline,
    /// whoever still waits.
    pub(super) async fn fly(
        self: &Arc<Self>,
        inquiry: &Inquiry,
        deadline: Instant,
    ) -> Result<Known, Failure> {
        let (engine, inquiry) = (Arc::clone(self), inquiry.clone());
        let flight = self.flights.join(inquiry.key.clone(), move || {
            let tasks = engine.tasks.clone();
            let run = async move { engine.run(&inquiry).await };
            let task = tasks.spawn(run.instrument(Span::current()));
            async move {
                task.await
                    .unwrap_or_else(|_| Err(Failure::of(Refusal::crashed(), false)))
            }
            .boxed()
        });
        timeout_at(deadline, flight)
            .await
            .unwrap_or_else(|_| Err(Failure::of(Refusal::late(), true)))
    }

    /// Asks the server about one repository, and remembers what came of it.
    async fn run(self: Arc<Self>, inquiry: &Inquiry) -> Result<Known, Failure> {
        let begun = Instant::now();
        let key = &inquiry.key;
        let outcome = self.ask(inquiry, begun + self.options.timeout).await;
        let result = match &outcome {
            Ok(_) => "ok",
            Err(failure) => failure.refusal.kind.word(),
        };
        self.metrics.trust_fetch(result, begun.elapsed());
        // That a login is wanted is an answer.
        let silence = outcome.as_ref().err().map(|failure| &failure.refusal);
        let silence = silence.filter(|refusal| !self.may_be_opened(inquiry, refusal));
        self.contacts.note(&inquiry.notary, silence);
        let outcome = match outcome {
            Ok(known) => Ok(self.memory(key).remember(key, known, self.options.fresh_for)),
            Err(failure) => {
                let (reason, error) = (failure.refusal.reason, &failure.refusal);
                if self.may_be_opened(inquiry, error) {
                    debug!(gun = %key.gun, reason, %error, "repository not verified with the policy's login");
                } else {
                    warn!(gun = %key.gun, reason, %error, "repository not verified");
                }
                self.memory(key).fail(key, failure.clone());
                Err(failure)
            }
        };
        self.report_expiry();
        outcome
    }

    async fn ask(&self, inquiry: &Inquiry, deadline: Instant) -> Result<Known, Failure> {
        let Inquiry { notary, key, .. } = inquiry;
        let gun = &key.gun;
        let Some(_turn) = self.turns.take(notary.names_server(), deadline).await else {
            return Err(Failure::of(Refusal::late(), true));
        };
        let now = self
            .options
            .clock
            .now()
            .map_err(|error| Failure::of(Refusal::clock(&error), false))?;
        let connection = self.servers.of(&notary.policy, gun);
        let mut connection = connection.map_err(|fault| Failure::of(Refusal::setup(&fault), false))?;
        if let Some(logins) = &inquiry.logins {
            connection = Arc::new(connection.with_logins(Arc::clone(logins)));
        }
        let remote = Remote {
            connection: &connection,
            store: &self.store,
            reach: inquiry.reach(),
        };
        let looked = self.look(&remote, notary, key, now, deadline).await;
        self.report_skew(&connection, now);
        match looked {
            Ok(known) => known.ok_or_else(|| Failure::of(Refusal::crashed(), false)),
            Err(setback) => {
                remote.note(gun, &setback).await;
                Err(failure(&connection, &setback))
            }
        }
    }

    /// The repository as the server serves it now; `None` never, unless a run is not what it should be.
    async fn look(
        &self,
        remote: &Remote<'_>,
        notary: &Notary,
        key: &Key,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Option<Known>, Setback> {
        let gun = &key.gun;
        if let Some(known) = self
            .memory(key)
            .known(key)
            .filter(|known| now < known.collection.expires())
            && self.unchanged(remote, gun, &known, deadline).await?
            // Last, so that what others tell meanwhile counts.
            && remote.remembers(gun, known.timestamp, deadline).await?
            && let Some(confirmed) = self.confirmed(remote, gun, known, now, deadline).await
        {
            return Ok(Some(confirmed));
        }
        let task = self.task(notary, gun, now);
        let verified = remote.update(&task, deadline).await?;
        let server = &remote.connection.name;
        info!(%gun, server, expires = %verified.collection.expires(), "repository verified");
        Ok(Known::of(verified, now, Some(Instant::now())))
    }

    /// Whether the server still serves the timestamp that was verified: then nothing below it can differ.
    async fn unchanged(
        &self,
        remote: &Remote<'_>,
        gun: &Gun,
        known: &Known,
        deadline: Instant,
    ) -> Result<bool, Setback> {
        let limit = self.options.limits.timestamp_bytes;
        match remote.timestamp(gun, limit, deadline).await? {
            Answer::Found(bytes) => Ok(tuf::sha256(&bytes) == known.timestamp),
            Answer::Absent => Ok(false),
        }
    }

    /// What is known, asked for just now; `None` if somebody has seen more.
    async fn confirmed(
        &self,
        remote: &Remote<'_>,
        gun: &Gun,
        known: Known,
        now: Timestamp,
        deadline: Instant,
    ) -> Option<Known> {
        let since = Duration::try_from(now.duration_since(known.confirmed_at)).unwrap_or_default();
        let confirmed_at = if since >= CONFIRM {
            match remote.confirm(gun, known.timestamp, now, deadline).await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => warn!(%gun, %error, "trust state not confirmed"),
            }
            now
        } else {
            known.confirmed_at
        };
        Some(Known {
            verified_at: now,
            asked: Some(Instant::now()),
            confirmed_at,
            ..known
        })
    }

    /// What the server's `Date` header says of our clock, which decides what has expired (T44).
    fn report_skew(&self, connection: &Connection, now: Timestamp) {
        if self.options.clock == Clock::Real
            && let Some((theirs, _)) = connection.server.date()
        {
            self.metrics.clock_skew(theirs.duration_since(now).as_secs_f64());
        }
    }

    pub(super) fn report_expiry(&self) {
        let all = [&self.memory, &self.private].map(Memory::nearest_expiry);
        let nearest = all.into_iter().flatten().min();
        self.metrics
            .nearest_metadata_expiry(nearest.map(Timestamp::as_second));
    }
}

fn failure(connection: &Connection, setback: &Setback) -> Failure {
    let outage = setback.is_outage();
    if let Setback::Unavailable(error) = setback {
        debug!(server = connection.name, %error, outage, "trust server did not answer");
    }
    Failure::of(Refusal::from(setback), outage)
}
