//! One run for all who want the same.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

/// Runs that are under way, by what they are for.
///
/// All who join one wait for the same run and share its outcome. It is driven by whoever still waits, so one who
/// gives up cancels nobody else; when the last gives up the run ends too, and the next to come starts anew.
#[derive(Debug)]
pub struct Flights<K, V: Clone> {
    running: Mutex<HashMap<K, WeakShared<BoxFuture<'static, V>>>>,
}

impl<K: Clone + Eq + Hash, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// Joins the run for `key`, or starts the one that `start` makes.
    pub async fn join(&self, key: K, start: impl FnOnce() -> BoxFuture<'static, V>) -> V {
        let flight = self.under_way(key, start);
        flight.await
    }

    fn under_way(
        &self,
        key: K,
        start: impl FnOnce() -> BoxFuture<'static, V>,
    ) -> Shared<BoxFuture<'static, V>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let found = running.get(&key).and_then(WeakShared::upgrade);
        // One that is over is not joined: its outcome is from before this call.
        if let Some(flight) = found.filter(|flight| flight.peek().is_none()) {
            return flight;
        }
        running.retain(|_, flight| flight.upgrade().is_some());
        let flight = start().shared();
        running.extend(flight.downgrade().map(|weak| (key, weak)));
        flight
    }
}

impl<K, V: Clone> Default for Flights<K, V> {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// Flights whose runs wait for `go` and return their number.
    #[derive(Default)]
    struct Runs {
        flights: Flights<&'static str, usize>,
        started: Arc<AtomicUsize>,
        go: Arc<Notify>,
    }

    impl Runs {
        async fn join(&self, key: &'static str) -> usize {
            let (started, go) = (Arc::clone(&self.started), Arc::clone(&self.go));
            self.flights
                .join(key, || {
                    async move {
                        let number = started.fetch_add(1, Ordering::SeqCst);
                        go.notified().await;
                        number
                    }
                    .boxed()
                })
                .await
        }
    }

    #[tokio::test]
    async fn those_who_want_the_same_share_one_run() {
        let runs = Runs::default();
        let go = async { runs.go.notify_one() };
        assert_eq!(
            tokio::join!(runs.join("a"), runs.join("a"), runs.join("a"), go),
            (0, 0, 0, ())
        );
        runs.go.notify_one();
        assert_eq!(runs.join("a").await, 1, "what is over is not joined");
    }

    #[tokio::test]
    async fn one_who_gives_up_cancels_nobody_else() {
        let runs = Runs::default();
        let mut first = Box::pin(runs.join("a"));
        let mut second = Box::pin(runs.join("a"));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        runs.go.notify_one();
        assert_eq!(second.await, 0);
    }

    #[tokio::test]
    async fn a_run_that_all_gave_up_is_started_anew() {
        let runs = Runs::default();
        assert!(Box::pin(runs.join("a")).as_mut().now_or_never().is_none());
        runs.go.notify_one();
        assert_eq!(runs.join("a").await, 1);
    }
}
