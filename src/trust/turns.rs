//! How many runs there may be at once, whatever asks for them (design §6).

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Runs at once against servers that a policy names. A run reads some 100 KiB, so all of them about 6 MB; at 100 ms
/// each they verify 640 repositories a second. One repository at its limits costs 64 MiB.
const CONFIGURED: usize = 64;
/// Runs at once against servers that images imply. Whoever may create a pod chooses those, and they may be slow or
/// endless on purpose; so they have turns of their own, few, and keep nobody else waiting.
const IMPLIED: usize = 16;

/// Turns to run.
#[derive(Debug)]
pub(super) struct Turns {
    configured: Semaphore,
    implied: Semaphore,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            configured: Semaphore::new(CONFIGURED),
            implied: Semaphore::new(IMPLIED),
        }
    }

    /// Waits for a turn; `None` if the deadline comes first.
    pub(super) async fn take(&self, configured: bool, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        let turns = if configured {
            &self.configured
        } else {
            &self.implied
        };
        timeout_at(deadline, turns.acquire()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn servers_of_images_keep_those_of_policies_from_nothing() {
        let turns = Turns::new();
        let soon = Instant::now() + Duration::from_secs(1);
        let mut taken = Vec::new();
        for _ in 0..IMPLIED {
            taken.push(turns.take(false, soon).await.unwrap());
        }
        assert!(turns.take(false, soon).await.is_none(), "every turn is taken");
        assert!(turns.take(true, soon).await.is_some());
        taken.pop();
        assert!(turns.take(false, soon).await.is_some());
    }
}
