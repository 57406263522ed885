//! How many runs there may be at once, whatever asks for them (design §6).

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Runs at once against servers that administrators name. A run reads some 100 KiB, so all of them about 6 MB; at 100 ms
/// each they verify 640 repositories a second. One repository at its limits costs 64 MiB.
const ADMINISTERED: usize = 64;
/// Runs at once against servers that images imply or policies of namespaces name. Whoever may create a pod or such a policy
/// chooses those, and they may be slow or endless on purpose; so they have turns of their own, few, and keep nobody
/// else waiting.
const OTHERS: usize = 16;

/// Turns to run.
#[derive(Debug)]
pub(super) struct Turns {
    administered: Semaphore,
    others: Semaphore,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            administered: Semaphore::new(ADMINISTERED),
            others: Semaphore::new(OTHERS),
        }
    }

    /// Waits for a turn; `None` if the deadline comes first.
    pub(super) async fn take(&self, administered: bool, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        let turns = if administered {
            &self.administered
        } else {
            &self.others
        };
        timeout_at(deadline, turns.acquire()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn servers_of_others_keep_those_of_administrators_from_nothing() {
        let turns = Turns::new();
        let soon = Instant::now() + Duration::from_secs(1);
        let mut taken = Vec::new();
        for _ in 0..OTHERS {
            taken.push(turns.take(false, soon).await.unwrap());
        }
        assert!(turns.take(false, soon).await.is_none(), "every turn is taken");
        assert!(turns.take(true, soon).await.is_some());
        taken.pop();
        assert!(turns.take(false, soon).await.is_some());
    }
}
