//! What happens to a request of the trust protocol before and after it is answered (notary-v1 §2).

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;
use tracing::{Instrument as _, debug, debug_span, error, warn};

use super::body::Held;
use super::gate::Gate;
use super::reply::{Body, Refusal};
use crate::trustserver::access::Peer;
use crate::trustserver::http::{Call, ProtocolError, Route, headers_only};

/// Sheds what is too much, asks `admit` whom to let in, reads what those send, and lets `answer` answer them.
pub(super) struct TrustServer<A, H> {
    admit: A,
    answer: H,
    gate: Gate,
}

/// Why a request gets no answer of the handler's.
#[derive(Debug)]
enum Unanswered {
    /// Nobody could answer it.
    Senseless(ProtocolError),
    /// It cannot be answered here and now.
    Refused(Refusal),
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<A, W, T, H, F> TrustServer<A, H>
where
    A: Fn(Call) -> W,
    W: Future<Output = Result<T, Response<Bytes>>>,
    H: Fn(Call, T) -> F,
    F: Future<Output = Response<Bytes>>,
{
    pub(super) const fn new(admit: A, answer: H, gate: Gate) -> Self {
        Self { admit, answer, gate }
    }

    /// Answers `request`, whatever it is.
    pub(super) async fn respond<B>(&self, request: Request<B>, peer: &Peer) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        let _counted = self.gate.metrics.request();
        let (parts, body) = request.into_parts();
        let head = parts.method == Method::HEAD;
        let span = debug_span!("request", method = %parts.method, path = parts.uri.path());
        let response = async {
            let response = match self.decide(parts, body, peer).await {
                Ok(response) => response,
                Err(Unanswered::Senseless(error)) => error.into_response(),
                Err(Unanswered::Refused(refusal)) => self.refuse(&refusal),
            };
            debug!(
                status = response.status().as_u16(),
                bytes = response.body().len(),
                "answered"
            );
            response
        };
        let response = response.instrument(span).await;
        let response = if head { headers_only(response) } else { response };
        let response = self
            .gate
            .hold(response)
            .unwrap_or_else(|refusal| self.refuse(&refusal).map(Full::new));
        self.gate.metrics.response(response.status().as_u16());
        response
    }

    async fn decide<B>(&self, parts: Parts, body: B, peer: &Peer) -> Result<Response<Bytes>, Unanswered>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        let deadline = Instant::now() + self.gate.limits.request_time;
        let route = match self.accept(&parts) {
            Ok(route) => route,
            Err(unanswered) => {
                self.gate.discard(&parts.headers, body, deadline).await;
                return Err(unanswered);
            }
        };
        let mut call = Call {
            method: parts.method,
            uri: parts.uri,
            headers: discreet(parts.headers),
            body: Bytes::new(),
            peer: peer.clone(),
        };
        let admitted = match self.admitted(&route, call.clone(), deadline).await {
            Ok(Ok(admitted)) => admitted,
            refused => {
                self.gate.discard(&call.headers, body, deadline).await;
                return Ok(refused?.err().unwrap_or_default());
            }
        };
        let held = self.body(&route, &call.headers, body, deadline).await?;
        // Asked again, since reading took its time.
        self.gate.open(true)?;
        call.body = held.as_ref().map(|held| held.bytes.clone()).unwrap_or_default();
        let answer = async { (self.answer)(call, admitted).await };
        Ok(self.run(&route, answer, deadline).await?)
    }

    /// Asks whether the caller may, by the head of the request alone.
    async fn admitted(
        &self,
        route: &Route,
        head: Call,
        deadline: Instant,
    ) -> Result<Result<T, Response<Bytes>>, Refusal> {
        self.run(route, async { (self.admit)(head).await }, deadline)
            .await
    }

    async fn run<R>(
        &self,
        route: &Route,
        work: impl Future<Output = R>,
        deadline: Instant,
    ) -> Result<R, Refusal> {
        let _slot = self.gate.slot()?;
        let ran = self.gate.run(work, deadline).await;
        match &ran {
            Err(Refusal::Late) => warn!(route = route.name(), "answer took too long"),
            Err(Refusal::Panicked) => error!(route = route.name(), "request panicked"),
            Err(_) | Ok(_) => {}
        }
        ran
    }

    /// All that can be said before the body is read.
    fn accept(&self, parts: &Parts) -> Result<Route, Unanswered> {
        self.gate.open(true)?;
        let route = Route::parse(&parts.method, &parts.uri).map_err(Unanswered::Senseless)?;
        self.gate.fits(&parts.headers)?;
        Ok(route)
    }

    /// The body of an update. Nothing else has one: it would only take memory from others.
    async fn body<B>(
        &self,
        route: &Route,
        headers: &HeaderMap,
        body: B,
        deadline: Instant,
    ) -> Result<Option<Held>, Refusal>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        if matches!(route, Route::Update(_)) {
            return self.gate.read(body, deadline).await.map(Some);
        }
        self.gate.discard(headers, body, deadline).await;
        Ok(None)
    }

    fn refuse(&self, refusal: &Refusal) -> Response<Bytes> {
        self.gate.count(refusal);
        debug!(reason = ?refusal, "not answered");
        let mut response = worded(refusal).into_response();
        if CLOSING.contains(&response.status()) {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A refusal in the words of the protocol.
fn worded(refusal: &Refusal) -> ProtocolError {
    match refusal {
        Refusal::Busy(_) => ProtocolError::Unavailable {
            retry_after: RETRY_AFTER,
        },
        Refusal::TooLarge => ProtocolError::TooLarge,
        Refusal::TooSlow => ProtocolError::TooSlow,
        Refusal::Broken => ProtocolError::MalformedUpload {
            problem: "the body broke off",
        },
        Refusal::Late => ProtocolError::Late,
        // The last four are the webhook's own.
        Refusal::Panicked | Refusal::Path | Refusal::Method | Refusal::MediaType | Refusal::Rejected(_) => {
            ProtocolError::Unknown
        }
    }
}

/// Headers whose secrets do not show when they are written to a log.
fn discreet(mut headers: HeaderMap) -> HeaderMap {
    for secret in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
        if let http::header::Entry::Occupied(mut entry) = headers.entry(secret) {
            entry.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
    headers
}

/// Answers after which the connection is of no use: another one most likely reaches another replica, and what is left
/// of a body need not be read.
const CLOSING: [StatusCode; 3] = [
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
];
/// As for the webhook: another replica can answer at once.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
