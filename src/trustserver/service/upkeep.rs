//! What a trust server does unasked: it signs again in time, and looks after what it has (notary-v1 §8.4, §8.6.5,
//! §8.6.6).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::super::storage::{Committed, Storage, StorageError};
use super::{ATTEMPTS, ServiceError, TrustServer, aside, has_expired};
use crate::clock;
use crate::reference::Gun;
use crate::telemetry::{Metrics, chain};
use crate::tuf::Role;
use crate::tuf::hosted::{self, Examined, Rejection};

/// How often the database is asked whether it is there.
const PING: Duration = Duration::from_secs(5);
/// How often it is looked whether something is due. What is due has a third of its life left, so this may take long;
/// it is short for those who set short lives.
const LOOK: Duration = Duration::from_secs(10);
/// Repositories renewed in one look. A thousand repositories of 14 days are due once in 14 minutes; where more are due, as
/// after an import, the next look follows at once.
const BATCH: usize = 64;
/// Repositories renewed at a time: signing takes little, and calls come first.
const AT_ONCE: usize = 4;
/// How long a repository is left alone that could not be renewed: hardly ever can it be a minute later.
const PAUSE: Duration = Duration::from_secs(600);
/// How often everything is held against the rules.
const SWEEP: Duration = Duration::from_secs(24 * 3600);
/// How many names are read at a time.
const PAGE: usize = 256;
/// Days before its end from which a file is mentioned, and from which that is a warning (§8.6.5).
const NOTICE_DAYS: i64 = 90;
const URGENT_DAYS: i64 = 30;

impl<S: Storage> TrustServer<S> {
    /// Renews what is due, and examines everything at the start and once a day, until `ending`. `reachable` hears over
    /// and over whether the database answers.
    pub async fn keep(self, reachable: impl Fn(bool), ending: CancellationToken) {
        tokio::select! {
            biased;
            () = ending.cancelled() => {}
            () = self.ping(reachable) => {}
            () = self.renew_in_time() => {}
            () = self.examine_daily() => {}
        }
    }

    async fn ping(&self, reachable: impl Fn(bool)) {
        let mut ticks = interval(PING);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let answer = self.inner.storage.ping().await;
            if let Err(error) = &answer {
                error!(error = %chain(error), "the database cannot be used");
            }
            self.inner.metrics.trust_server_database(answer.is_ok());
            reachable(answer.is_ok());
        }
    }

    async fn renew_in_time(&self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            while self.renew_batch().await {}
        }
    }

    /// Renews what is due; whether more of it is, most likely.
    async fn renew_batch(&self) -> bool {
        let due = match self.inner.storage.due(clock::now(), BATCH).await {
            Ok(due) => due,
            Err(error) => {
                error!(error = %chain(&error), "cannot find out what is to be renewed");
                return false;
            }
        };
        let full = due.len() == BATCH;
        let settled = stream::iter(due)
            .map(|gun| async move { self.renew_due(&gun).await })
            .buffer_unordered(AT_ONCE)
            .fold(true, |all, settled| async move { all && settled });
        // What could not even be put off would be found again and again.
        settled.await && full
    }

    /// Whether the repository is not due any more.
    async fn renew_due(&self, gun: &Gun) -> bool {
        let turn = self.inner.turns.take(gun).await;
        let renewed = self.renew(gun).await;
        drop(turn);
        let until = match renewed {
            Ok(Renewal::Signed) => return true,
            // It was noted as due by another clock, or for another life. Left as it is it would be looked at over and
            // over, before all that come to be due later.
            Ok(Renewal::NotDue { until: Some(until) }) => until,
            Ok(Renewal::NotDue { until: None }) => paused(),
            Err(error) => {
                error!(%gun, error = %chain(&error), "timestamp and snapshot were not renewed");
                paused()
            }
        };
        let postponed = self.inner.storage.postpone(gun, until).await;
        if let Err(error) = &postponed {
            error!(%gun, error = %chain(error), "the next attempt was not put off");
        }
        postponed.is_ok()
    }

    /// Signs again what has expired, for somebody who asks for it. Of many who ask at once one has it done.
    pub(super) async fn renew_for_reader(&self, gun: &Gun, role: &Role) -> Result<(), StorageError> {
        let _turn = self.inner.turns.take(gun).await;
        let file = self.inner.storage.current(gun, role).await?;
        let expired = file.as_ref().is_some_and(|file| has_expired(role, file));
        if !expired || self.inner.hopeless.contains_key(gun) {
            return Ok(());
        }
        if let Err(error) = self.renew(gun).await {
            warn!(%gun, %role, error = %chain(&error), "an expired file was not renewed");
            self.inner.hopeless.insert(gun.clone(), ());
        }
        Ok(())
    }

    /// Signs timestamp and snapshot again if they are due. Whose turn it is is for the caller to see to.
    async fn renew(&self, gun: &Gun) -> Result<Renewal, ServiceError> {
        let outcome = self.try_renew(gun).await;
        self.inner
            .metrics
            .trust_server_renewal(if outcome.is_ok() { "ok" } else { "error" });
        outcome
    }

    async fn try_renew(&self, gun: &Gun) -> Result<Renewal, ServiceError> {
        for _ in 0..ATTEMPTS {
            let desk = self.desk().await?;
            let (generation, holding) = self.holding(gun).await?;
            let keys = self.held(gun).await?;
            let now = clock::now();
            let (terms, limits, name) = (self.terms(now), self.inner.options.limits, gun.clone());
            let (renewed, until) = aside(desk, move || {
                let renewed = hosted::renew(&name, &holding, &keys, &terms, &limits);
                renewed.map(|renewed| (renewed, hosted::due_at(&holding, &keys, &terms)))
            })
            .await??;
            let Some(renewed) = renewed else {
                return Ok(Renewal::NotDue { until });
            };
            if self.store(gun, generation, &renewed, now).await? == Committed::Stored {
                let versions: Vec<_> = renewed
                    .files
                    .iter()
                    .map(|file| format!("{} {}", file.role, file.version))
                    .collect();
                info!(%gun, files = versions.join(", "), "signed again");
                return Ok(Renewal::Signed);
            }
        }
        Err(ServiceError::Crowded)
    }

    /// Holds every repository against the rules: after a restore, a disk that lies, or a bug, nothing is signed for what
    /// does not verify (`hosted` refuses that by itself), and this says so before somebody notices.
    async fn examine_daily(&self) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.examine_all().await {
                Ok(sums) => sums.tell(&self.inner.metrics),
                Err(error) => error!(error = %chain(&error), "repositories were not examined"),
            }
        }
    }

    async fn examine_all(&self) -> Result<Sums, ServiceError> {
        let mut sums = Sums::default();
        let mut last = None;
        loop {
            let page = self.inner.storage.repositories(last.as_ref(), PAGE).await?;
            for gun in &page {
                let examined = self.examine(gun).await?;
                self.recall(gun, examined.as_ref().ok()).await?;
                sums.add(gun, examined);
            }
            match page.into_iter().last() {
                Some(gun) => last = Some(gun),
                None => return Ok(sums),
            }
        }
    }

    /// Has a timestamp looked at that is good for longer than we make them: the time at which it would be due was
    /// computed when it was made, by a clock that was ahead perhaps.
    async fn recall(&self, gun: &Gun, examined: Option<&Examined>) -> Result<(), StorageError> {
        let now = clock::now();
        let longest = now.checked_add(self.inner.options.timestamp_life.saturating_add(hosted::ASTRAY));
        let expires = examined.and_then(|examined| examined.expires.get(&Role::Timestamp));
        if expires.is_some_and(|expires| longest.is_ok_and(|longest| *expires > longest)) {
            warn!(%gun, "a timestamp is good for longer than this server makes them, and is signed again");
            self.inner.storage.postpone(gun, now).await?;
        }
        Ok(())
    }

    async fn examine(&self, gun: &Gun) -> Result<Result<Examined, Rejection>, ServiceError> {
        let desk = self.desk().await?;
        let (_, holding) = self.holding(gun).await?;
        let (name, limits) = (gun.clone(), self.inner.options.limits);
        aside(desk, move || {
            hosted::examine(&name, &holding, clock::now(), &limits)
        })
        .await
    }
}

/// What became of an attempt to sign again.
enum Renewal {
    /// There are new files.
    Signed,
    /// Nothing is due before that.
    NotDue { until: Option<Timestamp> },
}

fn paused() -> Timestamp {
    clock::now().checked_add(PAUSE).unwrap_or(Timestamp::MAX)
}

/// What an examination of all repositories comes to.
#[derive(Default)]
struct Sums {
    sound: i64,
    unsound: i64,
    /// The first end of a life, by the kind of file.
    expiry: BTreeMap<&'static str, Timestamp>,
}

impl Sums {
    fn add(&mut self, gun: &Gun, examined: Result<Examined, Rejection>) {
        let examined = match examined {
            Ok(examined) => examined,
            Err(rejection) => {
                self.unsound += 1;
                error!(%gun, error = %rejection, "a repository does not verify: nothing is signed for it");
                return;
            }
        };
        self.sound += 1;
        let certificate = examined.certificate_expires.map(|at| ("certificate", at));
        let files = examined.expires.iter().map(|(role, at)| (kind(role), *at));
        for (kind, at) in files.chain(certificate) {
            let first = self.expiry.entry(kind).or_insert(at);
            *first = at.min(*first);
            warn_of(gun, kind, at);
        }
    }

    fn tell(&self, metrics: &Metrics) {
        metrics.trust_server_repositories("sound", self.sound);
        metrics.trust_server_repositories("unsound", self.unsound);
        for (kind, at) in &self.expiry {
            metrics.trust_server_expiry(kind, at.as_second());
        }
        info!(
            sound = self.sound,
            unsound = self.unsound,
            "repositories examined"
        );
    }
}

/// The word for a role in metrics, which must not grow with what is signed.
const fn kind(role: &Role) -> &'static str {
    match role {
        Role::Root => "root",
        Role::Targets => "targets",
        Role::Snapshot => "snapshot",
        Role::Timestamp => "timestamp",
        Role::Delegation(_) => "delegation",
    }
}

/// Says, once a day, what only publishers can renew (§8.6.5). Timestamps are renewed here, and reported if not.
fn warn_of(gun: &Gun, kind: &'static str, at: Timestamp) {
    let left = at.duration_since(clock::now()).as_hours() / 24;
    if kind == "timestamp" || left > NOTICE_DAYS {
        return;
    }
    if left > URGENT_DAYS {
        info!(%gun, kind, days = left, expires = %at, "expires: its publisher has to sign again");
    } else {
        warn!(%gun, kind, days = left, expires = %at, "expires soon: its publisher has to sign again");
    }
}
