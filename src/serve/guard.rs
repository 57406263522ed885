//! Time limits that the HTTP library does not keep (ADM-04, ADM-69).
//!
//! Its one header timeout runs from the end of a request to the end of the next one's head, so it must be longer than
//! any client keeps an idle connection, and is then far too long for a head that trickles in. Here the clock starts
//! with the first byte of a head; and a client that does not read its answer is given up likewise.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

/// What a connection is doing. Cloned handles see the same connection.
#[derive(Clone, Debug)]
pub(super) struct Progress(watch::Sender<Activity>);

/// Requests of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Activity {
    /// Ever begun.
    pub(super) begun: u64,
    /// Not yet answered.
    pub(super) running: u64,
}

/// A request that is being answered.
pub(super) struct Running(watch::Sender<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0
            .send_modify(|activity| activity.running = activity.running.saturating_sub(1));
    }
}

impl Progress {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Activity::default()))
    }

    /// A request has begun: its head is complete.
    pub(super) fn begin(&self) -> Running {
        self.0.send_modify(|activity| {
            activity.begun = activity.begun.wrapping_add(1);
            activity.running = activity.running.saturating_add(1);
        });
        Running(self.0.clone())
    }

    pub(super) fn watch(&self) -> watch::Receiver<Activity> {
        self.0.subscribe()
    }

    fn now(&self) -> Activity {
        *self.0.borrow()
    }
}

/// A stream with those limits.
#[derive(Debug)]
pub(super) struct Guarded<IO> {
    io: IO,
    progress: Progress,
    head: Timer,
    /// How many requests had begun when the head began that is being read.
    reading: Option<u64>,
    write: Timer,
}

impl<IO> Guarded<IO> {
    /// Allows `limit` for a head, from its first byte, and for each pause of a client that reads its answer.
    pub(super) fn new(io: IO, progress: Progress, limit: Duration) -> Self {
        Self {
            io,
            progress,
            head: Timer::new(limit),
            reading: None,
            write: Timer::new(limit),
        }
    }

    fn head_began(&mut self) {
        let Activity { begun, running } = self.progress.now();
        if running == 0 && self.reading != Some(begun) {
            self.reading = Some(begun);
            self.head.stop();
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Activity { begun, running } = self.progress.now();
        if running == 0 && self.reading == Some(begun) {
            self.head.poll(cx)
        } else {
            self.reading = None;
            self.head.stop();
            Poll::Pending
        }
    }

    /// Passes on the outcome of a write, and gives up when it stays pending.
    fn written<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_pending() {
            return self.write.poll(cx).map(Err);
        }
        self.write.stop();
        outcome
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut me.io).poll_read(cx, buffer) {
            Poll::Ready(outcome) => {
                if buffer.filled().len() > before {
                    me.head_began();
                }
                Poll::Ready(outcome)
            }
            Poll::Pending => me.poll_head(cx).map(Err),
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let outcome = Pin::new(&mut me.io).poll_write(cx, bytes);
        me.written(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let outcome = Pin::new(&mut me.io).poll_write_vectored(cx, slices);
        me.written(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let outcome = Pin::new(&mut me.io).poll_flush(cx);
        me.written(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let outcome = Pin::new(&mut me.io).poll_shutdown(cx);
        me.written(cx, outcome)
    }
}

/// A deadline that is set when first waited for.
#[derive(Debug)]
struct Timer {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Timer {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            sleep: None,
            running: false,
        }
    }

    fn stop(&mut self) {
        self.running = false;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let deadline = Instant::now() + self.limit;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.running {
            self.running = true;
            sleep.as_mut().reset(deadline);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}
