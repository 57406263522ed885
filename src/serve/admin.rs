//! The plain port: probes for the kubelet, metrics for Prometheus (AVL-19, OBS-01).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, ALLOW, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::accept::pause;
use super::config::Limits;
use super::connection::{self, Protocol, Shared};
use super::lifecycle::Stage;
use super::ready::Ready;
use super::reply::{self, Body};
use crate::clock;
use crate::telemetry::{Exposition, Metrics};

/// What the port tells.
pub(super) struct Admin {
    pub(super) ready: Ready,
    pub(super) metrics: Arc<Metrics>,
}

impl Admin {
    /// Serves until dropped. Stays up through a drain: a probe must read "draining", not fail to connect.
    pub(super) async fn run(self, listener: TcpListener) {
        let always = watch::Sender::new(Stage::Serving);
        let shared = Shared {
            limits: Limits {
                idle: IDLE,
                ..Limits::default()
            },
            stage: always.subscribe(),
            full: watch::channel(false).1,
            tasks: TaskTracker::new(),
        };
        let admin = Arc::new(self);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            };
            let (admin, connection) = (Arc::clone(&admin), shared.clone());
            let work = async move {
                let service = move |request| {
                    let answer = admin.respond(&request, clock::now());
                    async { answer }
                };
                connection::serve(stream, Protocol::Http1, false, service, &connection).await;
                drop(place);
            };
            drop(shared.tasks.spawn(work.in_current_span()));
        }
    }

    fn respond<B>(&self, request: &Request<B>, now: Timestamp) -> Response<Body> {
        let answer = match request.uri().path() {
            "/livez" | "/healthz" => reply::text(StatusCode::OK, "ok".to_owned()),
            "/readyz" => self.readyz(request.uri().query(), now),
            "/metrics" => self.metrics(request.headers()),
            _ => return reply::text(StatusCode::NOT_FOUND, PATHS.to_owned()),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD".to_owned());
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        answer
    }

    /// `ok`, or the conditions by name when asked for them or when one does not hold.
    fn readyz(&self, query: Option<&str>, now: Timestamp) -> Response<Body> {
        let conditions = self.ready.conditions(now);
        let ready = conditions.clone().all(|(_, holds)| holds);
        let verbose = query.is_some_and(|query| {
            query
                .split('&')
                .any(|word| word.split('=').next() == Some("verbose"))
        });
        if ready && !verbose {
            return reply::text(StatusCode::OK, "ok".to_owned());
        }
        let mut text = String::new();
        for (name, holds) in conditions {
            text.push_str(if holds { "[+]" } else { "[-]" });
            text.push_str(name);
            text.push_str(if holds { " ok\n" } else { " failed\n" });
        }
        for (name, fact) in self.ready.facts() {
            let _infallible = writeln!(text, "[i]{name} {fact}");
        }
        let (status, verdict) = if ready {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        };
        text.push_str(verdict);
        reply::text(status, text)
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Body> {
        let exposition = Exposition::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
        match self.metrics.encode(exposition) {
            Ok(text) => reply::with_type(StatusCode::OK, exposition.content_type(), text),
            Err(_) => reply::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics cannot be written".to_owned(),
            ),
        }
    }
}

const PATHS: &str = "no such path: there are /livez, /readyz and /metrics";
/// A kubelet, some scrapers, and people.
const CONNECTIONS: usize = 256;
/// Short, so that idle connections do not keep the kubelet out for long. Clients repeat a GET by themselves.
const IDLE: Duration = Duration::from_secs(10);
