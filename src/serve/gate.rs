//! What every request passes on its way in, whatever it asks for: bounds, and protection of the others.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Response;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderMap};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use super::body::{self, Budget, Held};
use super::config::Limits;
use super::lifecycle::Stage;
use super::ready::Ready;
use super::reply::{Body, Busy, Refusal};
use super::unread::Unread;
use crate::telemetry::Metrics;

/// The bounds of a port.
pub(super) struct Gate {
    pub(super) limits: Limits,
    slots: Semaphore,
    budget: Budget,
    unread: Unread,
    ready: Ready,
    stage: watch::Receiver<Stage>,
    pub(super) metrics: Arc<Metrics>,
}

impl Gate {
    pub(super) fn new(
        limits: Limits,
        ready: Ready,
        stage: watch::Receiver<Stage>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            slots: Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS)),
            budget: Budget::new(limits.bodies),
            unread: Unread::new(limits.answers),
            limits,
            ready,
            stage,
            metrics,
        }
    }

    /// Whether the server is not on its way out, and, if the request `needs` it, has all it answers from.
    pub(super) fn open(&self, needs: bool) -> Result<(), Refusal> {
        if *self.stage.borrow() >= Stage::Refusing {
            return Err(Refusal::Busy(Busy::Draining));
        }
        if needs && !self.ready.can_judge() {
            return Err(Refusal::Busy(Busy::NotReady));
        }
        Ok(())
    }

    /// Whether the body is not announced as too large.
    pub(super) fn fits(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let declared = headers.get(CONTENT_LENGTH).and_then(|size| size.to_str().ok());
        let declared = declared.and_then(|size| size.parse().ok());
        if declared.is_some_and(|size: usize| size > self.limits.body) {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }

    /// Reads a body.
    pub(super) async fn read<B>(&self, body: B, deadline: Instant) -> Result<Held, Refusal>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        body::read(body, self.limits.body, &self.budget, deadline).await
    }

    /// Throws a body away that nobody wants, so that its sender gets to reading the answer.
    pub(super) async fn discard<B>(&self, headers: &HeaderMap, body: B, deadline: Instant)
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        // Who asks first learns the answer from the head alone.
        if !headers.contains_key(EXPECT) {
            body::discard(body, self.limits.body, deadline).await;
        }
    }

    /// A place among those that are worked on. Taken when the body is there: one that trickles in keeps none.
    pub(super) fn slot(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.slots
            .try_acquire()
            .map_err(|_| Refusal::Busy(Busy::Overload))
    }

    /// Memory for an answer until its client has read it.
    pub(super) fn hold(&self, response: Response<Bytes>) -> Result<Response<Body>, Refusal> {
        self.unread.hold(response)
    }

    /// Runs `work`. Neither a panic nor endless work of one request touches others (ADM-68).
    pub(super) async fn run<T>(
        &self,
        work: impl Future<Output = T>,
        deadline: Instant,
    ) -> Result<T, Refusal> {
        let work = AssertUnwindSafe(work).catch_unwind();
        match timeout_at(deadline, work).await {
            Err(_) => Err(Refusal::Late),
            Ok(Err(_)) => {
                self.metrics.panicked();
                Err(Refusal::Panicked)
            }
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// Counts a refusal that is to be repeated elsewhere.
    pub(super) fn count(&self, refusal: &Refusal) {
        if let Refusal::Busy(busy) = refusal {
            self.metrics.shed(busy.reason());
        }
    }
}
