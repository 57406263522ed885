//! What happens to a request of the API server before and after it is decided.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::request::Parts;
use http::{Request, Response};
use tokio::time::Instant;
use tracing::{Instrument as _, debug, error, info_span, warn};

use super::gate::Gate;
use super::reply::{self, Body, Refusal, Rejected};
use super::route::{self, Endpoint};

/// Reads requests, sheds what is too much, and lets `handler` decide the rest.
pub(super) struct Webhook<H> {
    handler: H,
    gate: Gate,
}

impl<H, F> Webhook<H>
where
    H: Fn(Endpoint, Bytes, Option<String>) -> F,
    F: Future<Output = Result<Vec<u8>, Rejected>>,
{
    pub(super) const fn new(handler: H, gate: Gate) -> Self {
        Self { handler, gate }
    }

    /// Answers `request`, whatever it is.
    pub(super) async fn respond<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        let _counted = self.gate.metrics.request();
        let (parts, body) = request.into_parts();
        let span = info_span!("request", trace_id = trace_id(&parts.headers));
        let response = match self.decide(&parts, body).instrument(span.clone()).await {
            Ok(verdict) => reply::json(verdict),
            Err(refusal) => span.in_scope(|| self.refuse(refusal)),
        };
        self.gate.metrics.response(response.status().as_u16());
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
                self.gate.discard(&parts.headers, body, deadline).await;
                return Err(refusal);
            }
        };
        let held = self.gate.read(body, deadline).await?;
        // Asked again, since reading took its time.
        self.gate.open(endpoint.needs_policies())?;
        let _slot = self.gate.slot()?;
        let query = parts.uri.query().map(str::to_owned);
        self.call(endpoint, held.bytes.clone(), query, deadline).await
    }

    /// All that can be said before the body is read.
    fn accept(&self, parts: &Parts) -> Result<Endpoint, Refusal> {
        let endpoint = route::route(&parts.method, &parts.uri, &parts.headers)?;
        self.gate.fits(&parts.headers)?;
        self.gate.open(endpoint.needs_policies())?;
        Ok(endpoint)
    }

    async fn call(
        &self,
        endpoint: Endpoint,
        body: Bytes,
        query: Option<String>,
        deadline: Instant,
    ) -> Result<Vec<u8>, Refusal> {
        let work = async { (self.handler)(endpoint, body, query).await };
        let ran = self.gate.run(work, deadline).await;
        match &ran {
            Err(Refusal::Late) => warn!(phase = endpoint.name(), "decision took too long"),
            Err(Refusal::Panicked) => error!(phase = endpoint.name(), "request panicked"),
            Err(_) | Ok(_) => {}
        }
        ran?.map_err(Refusal::Rejected)
    }

    /// Time from now until nobody waits for the answer any more.
    fn time(&self, query: Option<&str>) -> Duration {
        let most = self.gate.limits.request_time;
        let granted = route::timeout(query).unwrap_or(most);
        granted.max(LEAST_TIME).min(most)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        self.gate.count(&refusal);
        debug!(reason = ?refusal, "no verdict");
        refusal.into_response()
    }
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
