//! What happens to a request of the API server before and after it is decided.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderMap};
use http::request::Parts;
use http::{Request, Response};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, debug, error, info_span, warn};

use super::body::{self, Budget};
use super::config::Limits;
use super::lifecycle::Stage;
use super::ready::Ready;
use super::reply::{self, Body, Busy, Refusal, Rejected};
use super::route::{self, Endpoint};
use crate::telemetry::Metrics;

/// Reads requests, sheds what is too much, and lets `handler` decide the rest.
pub(super) struct Webhook<H> {
    handler: H,
    limits: Limits,
    slots: Semaphore,
    budget: Budget,
    ready: Ready,
    stage: watch::Receiver<Stage>,
    metrics: Arc<Metrics>,
}

impl<H, F> Webhook<H>
where
    H: Fn(Endpoint, Bytes, Option<String>) -> F,
    F: Future<Output = Result<Vec<u8>, Rejected>>,
{
    pub(super) fn new(
        handler: H,
        limits: Limits,
        ready: Ready,
        stage: watch::Receiver<Stage>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            handler,
            slots: Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS)),
            budget: Budget::new(limits.bodies),
            limits,
            ready,
            stage,
            metrics,
        }
    }

    /// Answers `request`, whatever it is.
    pub(super) async fn respond<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        let _counted = self.metrics.request();
        let (parts, body) = request.into_parts();
        let span = info_span!("request", trace_id = trace_id(&parts.headers));
        let response = match self.decide(&parts, body).instrument(span.clone()).await {
            Ok(verdict) => reply::json(verdict),
            Err(refusal) => span.in_scope(|| self.refuse(refusal)),
        };
        self.metrics.response(response.status().as_u16());
        response
    }

    async fn decide<B>(&self, parts: &Parts, body: B) -> Result<Vec<u8>, Refusal>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        let deadline = Instant::now() + self.time(parts.uri.query());
        let endpoint = match self.accept(parts) {
            Ok(endpoint) => endpoint,
            Err(refusal) => {
                // Who asks first learns the answer from the head alone.
                if !parts.headers.contains_key(EXPECT) {
                    body::discard(body, self.limits.body, deadline).await;
                }
                return Err(refusal);
            }
        };
        let held = body::read(body, self.limits.body, &self.budget, deadline).await?;
        // Asked again, since reading took its time. A slot is taken only now: a body that trickles in keeps none.
        self.open(endpoint)?;
        let _slot = self
            .slots
            .try_acquire()
            .map_err(|_| Refusal::Busy(Busy::Overload))?;
        let query = parts.uri.query().map(str::to_owned);
        self.call(endpoint, held.bytes.clone(), query, deadline).await
    }

    /// All that can be said before the body is read.
    fn accept(&self, parts: &Parts) -> Result<Endpoint, Refusal> {
        let endpoint = route::route(&parts.method, &parts.uri, &parts.headers)?;
        if declared(&parts.headers).is_some_and(|size| size > self.limits.body) {
            return Err(Refusal::TooLarge);
        }
        self.open(endpoint)?;
        Ok(endpoint)
    }

    /// Whether decisions can be taken at all.
    fn open(&self, endpoint: Endpoint) -> Result<(), Refusal> {
        if *self.stage.borrow() >= Stage::Refusing {
            return Err(Refusal::Busy(Busy::Draining));
        }
        if endpoint.needs_policies() && !self.ready.can_judge() {
            return Err(Refusal::Busy(Busy::NotReady));
        }
        Ok(())
    }

    /// Runs the handler. Neither a panic nor endless work of one request touches others (ADM-68).
    async fn call(
        &self,
        endpoint: Endpoint,
        body: Bytes,
        query: Option<String>,
        deadline: Instant,
    ) -> Result<Vec<u8>, Refusal> {
        let work = AssertUnwindSafe(async { (self.handler)(endpoint, body, query).await }).catch_unwind();
        match timeout_at(deadline, work).await {
            Err(_) => {
                warn!(phase = endpoint.name(), "decision took too long");
                Err(Refusal::Late)
            }
            Ok(Err(_)) => {
                error!(phase = endpoint.name(), "request panicked");
                self.metrics.panicked();
                Err(Refusal::Panicked)
            }
            Ok(Ok(answer)) => answer.map_err(Refusal::Rejected),
        }
    }

    /// Time from now until nobody waits for the answer any more.
    fn time(&self, query: Option<&str>) -> Duration {
        let granted = route::timeout(query).unwrap_or(self.limits.request_time);
        granted.max(LEAST_TIME).min(self.limits.request_time)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        if let Refusal::Busy(busy) = refusal {
            self.metrics.shed(busy.reason());
        }
        debug!(reason = ?refusal, "no verdict");
        refusal.into_response()
    }
}

fn declared(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The trace a request belongs to, from its W3C `traceparent` (ADM-09).
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let parent = headers.get("traceparent")?.to_str().ok()?;
    let id = parent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// The API server grants at least one second (ADM-01: rounded up).
const LEAST_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
