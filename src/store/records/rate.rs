//! How often a replica may write.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Writes at once. A policy that covers many repositories begins with a burst of first sights.
const BURST: u32 = 50;
/// Time between writes after that: 10 a second of each replica, while an API server takes thousands and etcd hundreds.
const PACE: Duration = Duration::from_millis(100);

/// A token bucket, kept as the time from which it would be full.
#[derive(Debug)]
pub(super) struct Writes(Mutex<Instant>);

impl Writes {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Waits for a turn. False if there is none before the deadline; then none was taken.
    pub(super) async fn turn(&self, deadline: Instant) -> bool {
        let Some(at) = self.reserve(Instant::now(), deadline) else {
            return false;
        };
        sleep_until(at).await;
        true
    }

    fn reserve(&self, now: Instant, deadline: Instant) -> Option<Instant> {
        let mut full = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*full).max(now) + PACE;
        let at = next.checked_sub(PACE * BURST).map_or(now, |at| at.max(now));
        if at > deadline {
            return None;
        }
        *full = next;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_burst_writes_keep_their_pace() {
        let writes = Writes::new();
        let begun = Instant::now();
        let late = begun + Duration::from_secs(60);
        for _ in 0..BURST {
            assert!(writes.turn(late).await);
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            assert!(writes.turn(late).await);
        }
        let took = begun.elapsed();
        assert!((PACE * 10..PACE * 11).contains(&took), "{took:?}");
        assert!(!writes.turn(Instant::now()).await, "no turn in time");
        tokio::time::advance(PACE * BURST * 2).await;
        for _ in 0..BURST {
            assert!(writes.turn(Instant::now()).await, "full again, and no fuller");
        }
        assert!(!writes.turn(Instant::now()).await);
    }
}
