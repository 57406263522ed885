//! The engine: verifiers, servers, memory, and the runs under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, debug, info, warn};

use super::Verify;
use super::combine::combine;
use super::memory::{Failure, Key, Known, Memory};
use super::outcome::{Kind, Pinned, Refusal, Source};
use super::remote::{Remote, Setback};
use super::servers::{Connection, Servers};
use super::turns::Turns;
use super::verifier::{Fault, Notary, VerifierError};
use crate::clock;
use crate::fetch::Flights;
use crate::policy::{DigestRule, PolicySet, Verification, Verifier, VerifierKind};
use crate::reference::{Gun, Reference};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::tuf::{self, Answer, Limits, Resolution, Task, Unsigned};

/// A refusal from memory younger than this stands; an older one is worth asking the server again, because the tag
/// may have been signed a moment ago. It also bounds how often one repository makes us ask.
const RECHECK: Duration = Duration::from_secs(3);
/// After an outage this long passes before the server is asked again, so that a server that is down costs one image
/// in this time its deadline and not every one.
const RETRY_OUTAGE: Duration = Duration::from_secs(5);
/// How often the store is told that a server still vouches for what is there: staleness after a restart is counted
/// from then, and writing costs a disk sync.
const CONFIRM: Duration = Duration::from_mins(10);
/// Repositories refreshed at once in the background.
const REFRESHES: usize = 4;

/// How the engine works, whatever the policy.
#[derive(Clone, Debug)]
pub struct Options {
    /// One deadline for everything that a verification fetches.
    pub timeout: Duration,
    /// How long an answer of a trust server is believed before it is asked again.
    pub fresh_for: Duration,
    /// Caps on what a server may make us read.
    pub limits: Limits,
    /// Whether to find out who else signed, beyond what the policy asks.
    pub attribution: bool,
    /// Whether docker's credential helpers may be run.
    pub credential_helpers: bool,
    /// What time it is.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            fresh_for: Duration::from_mins(1),
            limits: Limits::default(),
            attribution: false,
            credential_helpers: false,
            clock: Clock::Real,
        }
    }
}

/// Where the time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The machine's clock, which must not be before this program was built.
    Real,
    /// A given instant, to judge as of then.
    At(Timestamp),
}

impl Clock {
    fn now(self) -> Result<Timestamp, tuf::Error> {
        match self {
            Self::At(instant) => Ok(instant),
            Self::Real => {
                let now = clock::now();
                if now < clock::built() {
                    Err(tuf::Error::Clock { now })
                } else {
                    Ok(now)
                }
            }
        }
    }
}

/// Verifies images against trust servers. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Trust {
    engine: Arc<Engine>,
}

#[derive(Debug)]
struct Engine {
    options: Options,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    servers: Servers,
    verifiers: ArcSwap<HashMap<Arc<Verifier>, Arc<Notary>>>,
    numbers: AtomicU64,
    memory: Memory,
    flights: Flights<Key, Result<Known, Failure>>,
    turns: Turns,
    tasks: TaskTracker,
}

impl Trust {
    /// An engine that knows no verifier yet.
    pub fn new(options: Options, store: Arc<Store>, metrics: Arc<Metrics>) -> Self {
        let servers = Servers::new(options.credential_helpers, Arc::clone(&metrics));
        let engine = Engine {
            options,
            store,
            metrics,
            servers,
            verifiers: ArcSwap::default(),
            numbers: AtomicU64::new(0),
            memory: Memory::new(),
            flights: Flights::default(),
            turns: Turns::new(),
            tasks: TaskTracker::new(),
        };
        Self {
            engine: Arc::new(engine),
        }
    }

    /// Makes the verifiers of `policies` ready, in place of all others. Those that stay as they were keep their
    /// memory. On error nothing changes.
    ///
    /// # Errors
    ///
    /// One [`VerifierError`] for each verifier that cannot be used.
    pub fn prepare(&self, policies: &PolicySet) -> Result<(), Vec<VerifierError>> {
        let named = policies
            .verifiers()
            .map(|(policy, verifier)| (policy.to_string(), verifier));
        self.engine.prepare(named)
    }

    /// Makes one verifier ready that no policy file defines.
    ///
    /// # Errors
    ///
    /// The [`VerifierError`] if it cannot be used.
    pub fn prepare_one(&self, verifier: &Arc<Verifier>) -> Result<(), Vec<VerifierError>> {
        self.engine
            .prepare([("of the command line".to_owned(), verifier)])
    }

    /// Keeps the repositories in use fresh until `stop`, so that an admission does not wait for a trust server
    /// twice. The caller spawns it.
    pub async fn keep_fresh(self, stop: CancellationToken) {
        let age = self.engine.options.fresh_for / 2;
        let mut ticks = tokio::time::interval(age.max(Duration::from_millis(100)) / 2);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let due = self.engine.memory.due(age);
            let refreshes = stream::iter(due).for_each_concurrent(REFRESHES, |key| {
                let trust = self.clone();
                async move { trust.refresh(key).await }
            });
            stop.run_until_cancelled(refreshes).await;
            self.engine.report_expiry();
        }
    }

    async fn refresh(&self, key: Key) {
        let verifiers = self.engine.verifiers.load();
        let Some(notary) = verifiers.values().find(|notary| notary.number == key.0).cloned() else {
            return;
        };
        drop(verifiers);
        let deadline = Instant::now() + self.engine.options.timeout;
        if let Err(failure) = self.engine.fly(&notary, &key.1, deadline).await {
            debug!(gun = %key.1, error = %failure.refusal, "repository not refreshed");
        }
    }

    /// Waits for the runs that are under way. What they find is kept for the next start.
    pub async fn finish(&self) {
        self.engine.tasks.close();
        self.engine.tasks.wait().await;
    }
}

impl Verify for Trust {
    async fn verify(
        &self,
        image: &Reference,
        verification: &Verification,
        deadline: Instant,
    ) -> Result<Pinned, Refusal> {
        if verification.digests == DigestRule::Allow
            && let Some(digest) = image.digest()
        {
            return Ok(Pinned::unverified(digest.clone()));
        }
        let verifiers = verification.verifiers.iter();
        let results = join_all(verifiers.map(|verifier| self.engine.verify(image, verifier, deadline))).await;
        combine(verification.combine, results)
    }
}

impl Engine {
    fn prepare<'a>(
        &self,
        verifiers: impl IntoIterator<Item = (String, &'a Arc<Verifier>)>,
    ) -> Result<(), Vec<VerifierError>> {
        let present = self.verifiers.load();
        let mut ready = HashMap::new();
        let mut faults = Vec::new();
        for (policy, verifier) in verifiers {
            if let Some(notary) = present.get(verifier) {
                ready.insert(Arc::clone(verifier), Arc::clone(notary));
                continue;
            }
            match self.compile(verifier) {
                Ok(notary) => drop(ready.insert(Arc::clone(verifier), Arc::new(notary))),
                Err(source) => faults.push(VerifierError {
                    policy,
                    verifier: verifier.name.clone(),
                    source,
                }),
            }
        }
        if faults.is_empty() {
            self.verifiers.store(Arc::new(ready));
            Ok(())
        } else {
            Err(faults)
        }
    }

    fn compile(&self, verifier: &Verifier) -> Result<Notary, Fault> {
        let VerifierKind::Notary(settings) = &verifier.kind;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let notary = Notary::compile(number, &verifier.name, settings)?;
        self.servers.admit(&notary.policy).map(|()| notary)
    }

    /// Holds `image` against one verifier, and counts what came of it.
    async fn verify(
        self: &Arc<Self>,
        image: &Reference,
        verifier: &Arc<Verifier>,
        deadline: Instant,
    ) -> Result<Pinned, Refusal> {
        let begun = Instant::now();
        let ready = self.verifiers.load().get(verifier).cloned();
        // A request that began before its policy was replaced still asks the verifier of then.
        let notary = match ready.map_or_else(|| self.compile(verifier).map(Arc::new), Ok) {
            Ok(notary) => notary,
            Err(fault) => return Err(Refusal::setup(&fault)),
        };
        let (result, cache) = self.judge(image, &notary, deadline).await;
        let (word, reason) = match &result {
            Ok(_) => ("trusted", "signed"),
            Err(refusal) => (refusal.kind.word(), refusal.reason),
        };
        self.metrics
            .verification("notary", word, reason, cache, begun.elapsed());
        result
    }

    /// The judgement, and whether memory alone could give it.
    async fn judge(
        self: &Arc<Self>,
        image: &Reference,
        notary: &Arc<Notary>,
        deadline: Instant,
    ) -> (Result<Pinned, Refusal>, &'static str) {
        let gun = image.gun();
        let key = (notary.number, gun.clone());
        self.memory.touch(&key);
        if let Some(known) = self.fresh(&key) {
            let resolved = resolve(image, notary, &known);
            if resolved.is_ok() || known.younger_than(RECHECK) {
                return (self.settle(image, notary, &known, resolved, None), "hit");
            }
        }
        let failure = match self.recent_failure(&key) {
            Some(failure) => failure,
            None => match self.fly(notary, gun, deadline).await {
                Ok(known) => {
                    let resolved = resolve(image, notary, &known);
                    return (self.settle(image, notary, &known, resolved, None), "miss");
                }
                Err(failure) => failure,
            },
        };
        match self.stale(&key, notary, &failure, deadline).await {
            Some((known, age)) => {
                let resolved = resolve(image, notary, &known);
                (self.settle(image, notary, &known, resolved, Some(age)), "hit")
            }
            None => (Err(failure.refusal.of(source(notary, gun))), "miss"),
        }
    }

    /// What was verified lately enough to be believed without asking.
    fn fresh(&self, key: &Key) -> Option<Known> {
        let known = self
            .memory
            .known(key)
            .filter(|known| known.younger_than(self.options.fresh_for))?;
        let now = self.options.clock.now().ok()?;
        (now < known.collection.expires()).then_some(known)
    }

    fn recent_failure(&self, key: &Key) -> Option<Failure> {
        let failure = self.memory.failure(key, RETRY_OUTAGE)?;
        let lately = if failure.outage { RETRY_OUTAGE } else { RECHECK };
        (failure.at.elapsed() < lately).then_some(failure)
    }

    /// Verified metadata that may serve because its server cannot be reached, and its age (design §9.5).
    async fn stale(
        self: &Arc<Self>,
        key: &Key,
        notary: &Arc<Notary>,
        failure: &Failure,
        deadline: Instant,
    ) -> Option<(Known, Duration)> {
        if !failure.outage || notary.max_staleness().is_zero() {
            return None;
        }
        let now = self.options.clock.now().ok()?;
        let known = match self.memory.known(key) {
            Some(known) => known,
            None => timeout_at(deadline, self.replay(notary, &key.1, now))
                .await
                .ok()??,
        };
        let expires = known.collection.expires();
        let age = age_in_outage(known.verified_at, expires, now, notary.max_staleness())?;
        Some((known, age))
    }

    /// Verifies again what the store kept, after a restart during an outage.
    async fn replay(&self, notary: &Notary, gun: &Gun, now: Timestamp) -> Option<Known> {
        let since = now.checked_sub(notary.max_staleness()).ok()?;
        let deadline = Instant::now() + self.options.timeout;
        let _turn = self.turns.take(notary.names_server(), deadline).await?;
        let connection = self.servers.of(&notary.policy, gun).ok()?;
        let remote = Remote {
            connection: &connection,
            store: &self.store,
        };
        let verified = remote.replay(self.task(notary, gun, now), since).await?;
        let verified_at = verified.state.verified_at?;
        let known = Known::of(verified, verified_at, None)?;
        self.memory.keep(&(notary.number, gun.clone()), known.clone());
        Some(known)
    }

    fn settle(
        &self,
        image: &Reference,
        notary: &Notary,
        known: &Known,
        resolved: Result<Resolution, Unsigned>,
        stale: Option<Duration>,
    ) -> Result<Pinned, Refusal> {
        let source = source(notary, image.gun());
        match resolved {
            Ok(Resolution {
                digest,
                role,
                signers,
            }) => Ok(Pinned {
                digest,
                role: Some(role.to_string()),
                signers,
                verifier: Some(source),
                stale,
            }),
            Err(unsigned) => Err(Refusal {
                kind: Kind::Untrusted,
                reason: unsigned.reason(),
                cause: unsigned.to_string(),
                sources: vec![source],
                similar: unsigned
                    .unsigned_tag()
                    .map(|tag| known.collection.similar(tag))
                    .unwrap_or_default(),
            }),
        }
    }

    fn task(&self, notary: &Notary, gun: &Gun, now: Timestamp) -> Task {
        Task {
            gun: gun.clone(),
            pin: Arc::clone(&notary.pin),
            signers: notary.signers(),
            attribution: self.options.attribution,
            limits: self.options.limits,
            now,
        }
    }

    /// Joins the run for this repository, or starts it. The run is a task of its own: it ends by its own deadline,
    /// whoever still waits.
    async fn fly(
        self: &Arc<Self>,
        notary: &Arc<Notary>,
        gun: &Gun,
        deadline: Instant,
    ) -> Result<Known, Failure> {
        let (engine, notary, key) = (Arc::clone(self), Arc::clone(notary), (notary.number, gun.clone()));
        let flight = self.flights.join(key.clone(), move || {
            let tasks = engine.tasks.clone();
            let run = async move { engine.run(&notary, &key).await };
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
    async fn run(self: Arc<Self>, notary: &Notary, key: &Key) -> Result<Known, Failure> {
        let begun = Instant::now();
        let outcome = self.ask(notary, key, begun + self.options.timeout).await;
        let result = match &outcome {
            Ok(_) => "ok",
            Err(failure) => failure.refusal.kind.word(),
        };
        self.metrics.trust_fetch(result, begun.elapsed());
        match &outcome {
            Ok(known) => self.memory.remember(key, known.clone()),
            Err(failure) => {
                warn!(gun = %key.1, reason = failure.refusal.reason, error = %failure.refusal, "repository not verified");
                self.memory.fail(key, failure.clone());
            }
        }
        self.report_expiry();
        outcome
    }

    async fn ask(&self, notary: &Notary, key: &Key, deadline: Instant) -> Result<Known, Failure> {
        let gun = &key.1;
        let Some(_turn) = self.turns.take(notary.names_server(), deadline).await else {
            return Err(Failure::of(Refusal::late(), true));
        };
        let now = self
            .options
            .clock
            .now()
            .map_err(|error| Failure::of(Refusal::clock(&error), false))?;
        let connection = self.servers.of(&notary.policy, gun);
        let connection = connection.map_err(|fault| Failure::of(Refusal::setup(&fault), false))?;
        let remote = Remote {
            connection: &connection,
            store: &self.store,
        };
        match self.look(&remote, notary, key, now, deadline).await {
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
        let gun = &key.1;
        if let Some(known) = self
            .memory
            .known(key)
            .filter(|known| now < known.collection.expires())
            && remote.remembers(gun, known.timestamp).await?
            && self.unchanged(remote, gun, &known, deadline).await?
        {
            return Ok(Some(self.confirmed(remote, gun, known, now).await));
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

    async fn confirmed(&self, remote: &Remote<'_>, gun: &Gun, known: Known, now: Timestamp) -> Known {
        let since = Duration::try_from(now.duration_since(known.confirmed_at)).unwrap_or_default();
        let confirmed_at = if since >= CONFIRM {
            if let Err(error) = remote.confirm(gun, now).await {
                warn!(%gun, %error, "trust state not confirmed");
            }
            now
        } else {
            known.confirmed_at
        };
        Known {
            verified_at: now,
            asked: Some(Instant::now()),
            confirmed_at,
            ..known
        }
    }

    fn report_expiry(&self) {
        self.metrics
            .nearest_metadata_expiry(self.memory.nearest_expiry().map(Timestamp::as_second));
    }
}

/// The age of metadata that may serve in an outage: at most `most`, and never past its expiry. What was verified in the
/// future was verified by a clock that was wrong, and its age is unknown.
fn age_in_outage(
    verified_at: Timestamp,
    expires: Timestamp,
    now: Timestamp,
    most: Duration,
) -> Option<Duration> {
    let age = Duration::try_from(now.duration_since(verified_at)).ok()?;
    (age <= most && now < expires).then_some(age)
}

fn resolve(image: &Reference, notary: &Notary, known: &Known) -> Result<Resolution, Unsigned> {
    known
        .collection
        .resolve(image.tag(), image.digest(), &notary.conditions)
}

fn failure(connection: &Connection, setback: &Setback) -> Failure {
    let outage = setback.is_outage();
    if let Setback::Unavailable(error) = setback {
        debug!(server = connection.name, %error, outage, "trust server did not answer");
    }
    Failure::of(Refusal::from(setback), outage)
}

fn source(notary: &Notary, gun: &Gun) -> Source {
    Source {
        verifier: notary.name.clone(),
        server: Servers::host(&notary.policy, gun),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_serves_in_an_outage_within_its_staleness_and_before_its_expiry() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let most = Duration::from_secs(100);
        for (what, now, expires, age) in [
            ("just verified", 1_000, 2_000, Some(0)),
            ("as stale as allowed", 1_100, 2_000, Some(100)),
            ("too stale", 1_101, 2_000, None),
            ("not yet expired", 1_050, 1_051, Some(50)),
            ("expired", 1_050, 1_050, None),
            ("verified in the future", 999, 2_000, None),
        ] {
            let found = age_in_outage(at(1_000), at(expires), at(now), most);
            assert_eq!(found, age.map(Duration::from_secs), "{what}");
        }
    }
}
