//! How the server leaves without a failed call (AVL-20…23).

use std::io;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::config::Drain;
use super::ready::Ready;

/// Where the server is on its way out. Stages only ever advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Serving,
    /// Serving, but unready, and every answer asks its client to close the connection: the API server stays on the
    /// connections it has, even to a pod that left the endpoints, so this is the only way to move it (AVL-22).
    Leaving,
    /// Not accepting connections, not deciding; what still arrives is answered 503, to be repeated elsewhere.
    Refusing,
    /// Closing connections as they become idle.
    Closing,
}

/// Requests to stop, of which a second one means "at once".
#[derive(Debug)]
pub struct Stop(mpsc::Receiver<()>);

/// Asks a server to stop, in place of a signal.
#[derive(Clone, Debug)]
pub struct StopHandle(mpsc::Sender<()>);

impl StopHandle {
    /// Asks to stop. The first time the server drains, the second time it ends at once.
    pub fn stop(&self) {
        // A full queue holds two requests already, and a closed one has no server any more.
        let _enough = self.0.try_send(());
    }
}

impl Stop {
    /// Stops when told to by a handle.
    pub fn by_hand() -> (StopHandle, Self) {
        let (sender, receiver) = mpsc::channel(2);
        (StopHandle(sender), Self(receiver))
    }

    /// Stops on SIGTERM and SIGINT. `tasks` runs the listener.
    ///
    /// # Errors
    ///
    /// When the process cannot listen for signals.
    pub fn on_signals(tasks: &TaskTracker) -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (handle, stop) = Self::by_hand();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tasks.spawn(async move {
            while tokio::select! { got = terminate.recv() => got, got = interrupt.recv() => got }.is_some() {
                handle.stop();
            }
        });
        Ok(stop)
    }

    /// Waits for the next request. If nobody can ask any more, waits for ever.
    pub(super) async fn requested(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Serves on while callers move elsewhere, then wants no more connections.
pub(super) async fn leave(times: &Drain, ready: &Ready, stage: &watch::Sender<Stage>) {
    info!(delay_seconds = times.delay.as_secs(), "leaving");
    ready.draining();
    stage.send_replace(Stage::Leaving);
    tokio::time::sleep(times.delay).await;
    stage.send_replace(Stage::Refusing);
}

/// Ends when all of `connections` have, or when their time is up. None may be added any more.
pub(super) async fn finish(times: &Drain, stage: &watch::Sender<Stage>, connections: &TaskTracker) {
    connections.close();
    if timeout(times.refuse, connections.wait()).await.is_ok() {
        return;
    }
    stage.send_replace(Stage::Closing);
    if timeout(times.grace, connections.wait()).await.is_err() {
        warn!(unfinished = connections.len(), "time to drain is over");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    async fn drained_after(connection: Option<Duration>) -> (Duration, Vec<(u64, Stage)>) {
        let (ready, stage, tasks) = (
            Ready::default(),
            watch::Sender::new(Stage::Serving),
            TaskTracker::new(),
        );
        if let Some(time) = connection {
            tasks.spawn(tokio::time::sleep(time));
        }
        let began = Instant::now();
        let mut changes = stage.subscribe();
        let watcher = async {
            let mut seen = Vec::new();
            while changes.changed().await.is_ok() {
                seen.push((began.elapsed().as_secs(), *changes.borrow_and_update()));
            }
            seen
        };
        let leaving = async {
            leave(&Drain::default(), &ready, &stage).await;
            finish(&Drain::default(), &stage, &tasks).await;
            drop(stage);
            began.elapsed()
        };
        let (took, seen) = tokio::join!(leaving, watcher);
        assert!(ready.watch().borrow().draining);
        (took, seen)
    }

    #[tokio::test(start_paused = true)]
    async fn stages_follow_one_another_until_all_connections_are_gone() {
        use Stage::{Closing, Leaving, Refusing};
        let early = vec![(0, Leaving), (10, Refusing)];
        let all = vec![(0, Leaving), (10, Refusing), (15, Closing)];
        for (connection, took, stages) in [
            (None, 10, &early),
            (Some(12), 12, &early),
            (Some(20), 20, &all),
            (Some(1_000), 45, &all),
        ] {
            let (time, seen) = drained_after(connection.map(Duration::from_secs)).await;
            assert_eq!(
                (time.as_secs(), &seen),
                (took, stages),
                "connection of {connection:?} s"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_that_nobody_can_ask_for_never_comes() {
        let (handle, mut stop) = Stop::by_hand();
        handle.stop();
        drop(handle);
        stop.requested().await;
        assert!(
            timeout(Duration::from_secs(3_600), stop.requested())
                .await
                .is_err()
        );
    }
}
