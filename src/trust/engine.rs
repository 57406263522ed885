//! The engine: verifiers, servers, memory, and the runs under way.

mod ask;
mod consult;
mod others;
mod outage;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::{join, join_all};
use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use self::consult::Inquiry;
use super::Verify;
use super::combine::combine;
use super::contact::{Contact, Contacts};
use super::keeper::Keeper;
use super::memory::{Failure, Key, Known, Memory};
use super::options::Options;
use super::outcome::{Kind, Pinned, Refusal, Source};
use super::servers::Servers;
use super::turns::Turns;
use super::verifier::{Fault, Notary, VerifierError};
use crate::fetch::Flights;
use crate::policy::{DigestRule, Policy, PolicySet, Verification, Verifier, VerifierKind};
use crate::reference::{Gun, Reference};
use crate::review::logins::PullSources;
use crate::telemetry::Metrics;
use crate::tuf::{Collection, Purpose, Resolution, Task, Unsigned};

/// A refusal from memory younger than this stands; an older one is worth asking the server again, because the tag
/// may have been signed a moment ago. It also bounds how often one repository makes us ask.
const RECHECK: Duration = Duration::from_secs(3);
/// After an outage this long passes before the server is asked again, so that a server that is down costs one image
/// in this time its deadline and not every one.
const RETRY_OUTAGE: Duration = Duration::from_secs(5);
/// Repositories refreshed at once in the background.
const REFRESHES: usize = 4;

/// Verifies images against trust servers. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Trust {
    engine: Arc<Engine>,
}

#[derive(Debug)]
struct Engine {
    options: Options,
    store: Keeper,
    metrics: Arc<Metrics>,
    servers: Servers,
    verifiers: ArcSwap<HashMap<Arc<Verifier>, Arc<Notary>>>,
    numbers: AtomicU64,
    memory: Memory,
    /// What was found with workloads' own logins. Nothing in it is refreshed: the logins are gone by then.
    private: Memory,
    flights: Flights<Key, Result<Known, Failure>>,
    turns: Turns,
    contacts: Contacts,
    tasks: TaskTracker,
}

impl Trust {
    /// An engine that knows no verifier yet.
    pub fn new(options: Options, store: impl Into<Keeper>, metrics: Arc<Metrics>) -> Self {
        let servers = Servers::new(options.credential_helpers, Arc::clone(&metrics));
        let engine = Engine {
            options,
            store: store.into(),
            metrics,
            servers,
            verifiers: ArcSwap::default(),
            numbers: AtomicU64::new(0),
            memory: Memory::new(),
            private: Memory::private(),
            flights: Flights::default(),
            turns: Turns::new(),
            contacts: Contacts::default(),
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

    /// Whether a verifier could be made ready. Nothing is kept of it.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(&self, verifier: &Verifier) -> Result<(), Fault> {
        let VerifierKind::Notary(settings) = &verifier.kind;
        let notary = Notary::compile(0, &verifier.name, settings)?;
        self.engine.servers.check(&notary.policy)
    }

    /// Whether the servers that `policy` names answered when they were last asked. Nothing is asked for it.
    pub fn contact(&self, policy: &Policy) -> Contact {
        let ready = self.engine.verifiers.load();
        let notaries = policy.verifiers().filter_map(|verifier| ready.get(verifier));
        self.engine.contacts.of(notaries.map(|notary| &**notary))
    }

    /// Keeps the repositories in use fresh until `stop`, so that an admission does not wait for a trust server
    /// twice, and drops workloads' logins that are too old. The caller spawns it.
    pub async fn keep_fresh(self, stop: CancellationToken) {
        let sweeping = self.engine.options.pull_secrets.sweep();
        join(self.refresh_due(&stop), stop.run_until_cancelled(sweeping)).await;
    }

    async fn refresh_due(&self, stop: &CancellationToken) {
        let age = self.engine.options.fresh_for / 2;
        let mut ticks = interval(age.max(Duration::from_millis(100)) / 2);
        // A server that hangs makes rounds late, which are not to be caught up with.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
        let Some(notary) = verifiers
            .values()
            .find(|notary| notary.number == key.verifier)
            .cloned()
        else {
            return;
        };
        drop(verifiers);
        let deadline = Instant::now() + self.engine.options.timeout;
        let inquiry = Inquiry::own(&notary, &key.gun);
        if let Err(failure) = self.engine.fly(&inquiry, deadline).await {
            debug!(gun = %key.gun, error = %failure.refusal, "repository not refreshed");
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
        sources: &PullSources,
        deadline: Instant,
    ) -> Result<Pinned, Refusal> {
        if verification.digests == DigestRule::Allow
            && let Some(digest) = image.digest()
        {
            return Ok(Pinned::unverified(digest.clone()));
        }
        let verifiers = verification.verifiers.iter();
        let results =
            join_all(verifiers.map(|verifier| self.engine.verify(image, verifier, sources, deadline))).await;
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
            self.contacts
                .keep(|number| ready.values().any(|notary| notary.number == number));
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
        sources: &PullSources,
        deadline: Instant,
    ) -> Result<Pinned, Refusal> {
        let begun = Instant::now();
        let ready = self.verifiers.load().get(verifier).cloned();
        // A request that began before its policy was replaced still asks the verifier of then.
        let notary = match ready.map_or_else(|| self.compile(verifier).map(Arc::new), Ok) {
            Ok(notary) => notary,
            Err(fault) => return Err(Refusal::setup(&fault)),
        };
        let (result, cache) = self.consult(image, &notary, sources, deadline).await;
        let (word, reason) = match &result {
            Ok(_) => ("trusted", "signed"),
            Err(refusal) => (refusal.kind.word(), refusal.reason),
        };
        self.metrics
            .verification("notary", word, reason, cache, begun.elapsed());
        result
    }

    fn memory(&self, key: &Key) -> &Memory {
        match key.scope {
            None => &self.memory,
            Some(_) => &self.private,
        }
    }

    /// The judgement, and whether memory alone could give it.
    async fn judge(
        self: &Arc<Self>,
        image: &Reference,
        inquiry: &Inquiry,
        deadline: Instant,
    ) -> (Result<Pinned, Refusal>, &'static str) {
        let Inquiry { notary, key, .. } = inquiry;
        self.memory(key).touch(key);
        let fresh = self.fresh(key, notary);
        if let Some(known) = &fresh {
            let resolved = self.resolve(image, notary, known);
            if resolved.is_ok() || known.younger_than(RECHECK) {
                return (settle(image, notary, known, resolved, None), "hit");
            }
        }
        let failure = match self.recent_failure(key) {
            Some(failure) => failure,
            None => match self.fly(inquiry, deadline).await {
                Ok(known) => {
                    let resolved = self.resolve(image, notary, &known);
                    return (settle(image, notary, &known, resolved, None), "miss");
                }
                Err(failure) => failure,
            },
        };
        if let Some(known) = fresh.filter(|_| failure.outage) {
            // Asked again only because of a refusal, which stands as long as memory is fresh.
            return (
                settle(image, notary, &known, self.resolve(image, notary, &known), None),
                "hit",
            );
        }
        match self.stale(inquiry, &failure, deadline).await {
            Some((known, age)) => {
                self.metrics.stale_served();
                (
                    settle(
                        image,
                        notary,
                        &known,
                        self.resolve(image, notary, &known),
                        Some(age),
                    ),
                    "hit",
                )
            }
            None => (Err(failure.refusal.of(source(notary, &key.gun))), "miss"),
        }
    }

    /// What was verified lately enough to be believed without asking.
    fn fresh(&self, key: &Key, notary: &Notary) -> Option<Known> {
        let known = self
            .memory(key)
            .known(key)
            .filter(|known| known.younger_than(self.options.fresh_for))?;
        let server = Servers::name(&notary.policy, &key.gun)?;
        if self.store.knows_better(&server, &key.gun, known.timestamp) {
            return None;
        }
        let now = self.options.clock.now().ok()?;
        (now < known.collection.expires()).then_some(known)
    }

    fn recent_failure(&self, key: &Key) -> Option<Failure> {
        let failure = self.memory(key).failure(key, RETRY_OUTAGE)?;
        let lately = if failure.outage { RETRY_OUTAGE } else { RECHECK };
        (failure.at.elapsed() < lately).then_some(failure)
    }

    /// What the repository says of the image.
    ///
    /// A digest that its tag had until a moment ago passes too: another replica, which has not asked since, may have
    /// pinned it just now. So a change takes effect within twice `fresh_for` of the last look before it, on all
    /// replicas, and none denies what another pins.
    fn resolve(&self, image: &Reference, notary: &Notary, known: &Known) -> Result<Resolution, Unsigned> {
        let ask =
            |collection: &Collection| collection.resolve(image.tag(), image.digest(), &notary.conditions);
        ask(&known.collection).or_else(|unsigned| {
            let before = self.before(known).filter(|_| image.digest().is_some());
            before.and_then(|before| ask(before).ok()).ok_or(unsigned)
        })
    }

    /// What the repository said until less than `fresh_for` ago, unless that has expired.
    fn before<'a>(&self, known: &'a Known) -> Option<&'a Collection> {
        let before = known
            .before
            .as_ref()
            .filter(|before| before.replaced.elapsed() < self.options.fresh_for)?;
        let now = self.options.clock.now().ok()?;
        (now < before.collection.expires()).then_some(&*before.collection)
    }

    fn task(&self, notary: &Notary, gun: &Gun, now: Timestamp) -> Task {
        Task {
            gun: gun.clone(),
            pin: Arc::clone(&notary.pin),
            signers: notary.signers(),
            attribution: self.options.attribution,
            purpose: Purpose::Trust,
            limits: self.options.limits,
            now,
        }
    }
}

fn source(notary: &Notary, gun: &Gun) -> Source {
    Source {
        verifier: notary.name.clone(),
        server: Servers::host(&notary.policy, gun),
    }
}

fn settle(
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
