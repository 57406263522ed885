//! What may serve while a trust server cannot be reached (design §9.5).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::super::memory::{Failure, Key, Known};
use super::super::remote::{Reach, Remote};
use super::super::servers::Servers;
use super::super::verifier::Notary;
use super::Engine;
use super::consult::Inquiry;

impl Engine {
    /// Verified metadata that may serve because its server cannot be reached, and its age (design §9.5).
    pub(super) async fn stale(
        self: &Arc<Self>,
        inquiry: &Inquiry,
        failure: &Failure,
        deadline: Instant,
    ) -> Option<(Known, Duration)> {
        let Inquiry { notary, key, .. } = inquiry;
        if !failure.outage || notary.max_staleness().is_zero() {
            return None;
        }
        let now = self.options.clock.now().ok()?;
        let known = match (self.newest_known(key, notary, deadline).await, inquiry.reach()) {
            (Some(known), _) => known,
            // The store does not know who may be told.
            (None, Reach::Holders) => return None,
            (None, Reach::All) => timeout_at(deadline, self.replay(notary, key, now)).await.ok()??,
        };
        let expires = known.collection.expires();
        let age = age_in_outage(known.verified_at, expires, now, notary.max_staleness())?;
        Some((known, age))
    }

    /// What is in memory, unless somebody has seen more since.
    async fn newest_known(&self, key: &Key, notary: &Notary, deadline: Instant) -> Option<Known> {
        let known = self.memory(key).known(key)?;
        let server = Servers::name(&notary.policy, &key.gun)?;
        let newest = self
            .store
            .remembers(&server, &key.gun, known.timestamp, deadline)
            .await;
        newest.is_ok_and(|newest| newest).then_some(known)
    }

    /// Verifies again what the store kept, after a restart during an outage.
    async fn replay(&self, notary: &Notary, key: &Key, now: Timestamp) -> Option<Known> {
        let since = now.checked_sub(notary.max_staleness()).ok()?;
        let deadline = Instant::now() + self.options.timeout;
        let _turn = self.turns.take(notary.names_server(), deadline).await?;
        let connection = self.servers.of(&notary.policy, &key.gun).ok()?;
        let remote = Remote {
            connection: &connection,
            store: &self.store,
            reach: Reach::All,
        };
        let verified = remote
            .replay(self.task(notary, &key.gun, now), since, deadline)
            .await?;
        let verified_at = verified.state.verified_at?;
        let known = Known::of(verified, verified_at, None)?;
        self.memory.keep(key, known.clone());
        Some(known)
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
