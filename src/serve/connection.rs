//! One connection, whatever carries it: HTTP/1.1 for API servers, HTTP/2 for loopback URLs and meshes (ADM-02).

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug};

use super::config::Limits;
use super::guard::{Guarded, Progress};
use super::lifecycle::Stage;
use super::reply::Body;
use super::unread::Waiting;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// What ALPN agreed on; a client without it speaks HTTP/1.1 (ADM-02).
    pub(super) fn agreed(alpn: Option<&[u8]>) -> Self {
        match alpn {
            Some(b"h2") => Self::Http2,
            _ => Self::Http1,
        }
    }
}

/// What all connections of a port share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) stage: watch::Receiver<Stage>,
    /// Whether every place for a connection is taken.
    pub(super) full: watch::Receiver<bool>,
    pub(super) tasks: TaskTracker,
}

/// Serves `io` until either side closes it.
///
/// `once` asks the client to close it after the first answer, to make room for others.
pub(super) async fn serve<IO, S, F>(io: IO, protocol: Protocol, once: bool, service: S, shared: &Shared)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (progress, slow) = (Progress::new(), CancellationToken::new());
    let opened = *shared.stage.borrow();
    let service = service_fn(|request| {
        let running = progress.begin();
        let answer = service(request);
        let (stage, tasks, slow) = (shared.stage.clone(), shared.tasks.clone(), slow.clone());
        async move {
            let mut response = answer.await;
            if let Some(waiting) = response.extensions_mut().remove() {
                drop(tasks.spawn(watch_over(waiting, slow)));
            }
            mark(&mut response, protocol, once || *stage.borrow() >= Stage::Leaving);
            drop(running);
            Ok::<_, Infallible>(response)
        }
    });
    // A waiting HTTP/2 connection is silent in many ways; its own pings and `leave` watch over it.
    let head = match protocol {
        Protocol::Http1 => shared.limits.head,
        Protocol::Http2 => shared.limits.idle,
    };
    let io = TokioIo::new(Guarded::new(io, progress.clone(), head));
    let builder = builder(protocol, shared);
    let mut connection = pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = leave(protocol, opened, once, &progress, shared) => {
            connection.as_mut().graceful_shutdown();
            timeout(shared.limits.request_time + CLOSING, connection).await
        }
        // Nothing runs, and a peer that is silent would not hear of it either.
        () = displaced(&progress, shared) => {
            connection.as_mut().graceful_shutdown();
            timeout(shared.limits.idle_when_full, connection).await
        }
        // Its flow control knows no end, and pings are answered by machines.
        () = slow.cancelled() => {
            debug!("an answer was not read in time");
            return;
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(error = %error, "connection ended"),
        Err(_) => debug!("connection did not close in time"),
    }
}

/// Asks the client to close the connection after this answer, in the way its protocol knows.
fn mark(response: &mut Response<Body>, protocol: Protocol, last: bool) {
    let headers = response.headers_mut();
    match protocol {
        // Forbidden there; `leave` sends GOAWAY instead.
        Protocol::Http2 => drop(headers.remove(CONNECTION)),
        Protocol::Http1 if last => drop(headers.insert(CONNECTION, HeaderValue::from_static("close"))),
        Protocol::Http1 => {}
    }
}

/// Waits until the connection should be closed by us.
///
/// HTTP/1.1 is left to the client as long as possible: it cannot know that we are about to close, and its request would
/// be lost (ADM-04). GOAWAY loses none, so HTTP/2 connections are asked to leave at once, new ones after a request.
async fn leave(protocol: Protocol, opened: Stage, once: bool, progress: &Progress, shared: &Shared) {
    let mut stage = shared.stage.clone();
    match protocol {
        Protocol::Http1 => reached(&mut stage, Stage::Closing).await,
        Protocol::Http2 => {
            // A connection that was opened to this stage is there for a request; it gets an answer first.
            let limit = if opened == Stage::Serving {
                Stage::Leaving
            } else {
                Stage::Closing
            };
            let mut first = progress.watch();
            let served = async { drop(first.wait_for(|activity| activity.begun > 0).await) };
            tokio::select! {
                () = reached(&mut stage, limit) => {}
                () = served, if once || opened > Stage::Serving => {}
                () = idle(progress, shared.limits.idle) => {}
            }
        }
    }
}

/// Waits until an answer is sent, and says so if that takes too long.
async fn watch_over(Waiting { sent, limit }: Waiting, slow: CancellationToken) {
    if timeout(limit, sent.cancelled()).await.is_err() {
        slow.cancel();
    }
}

async fn reached(stage: &mut watch::Receiver<Stage>, wanted: Stage) {
    if stage.wait_for(|stage| *stage >= wanted).await.is_err() {
        // Nobody is left who could advance it.
        std::future::pending::<()>().await;
    }
}

/// Waits until others want this connection's place and it has no use for it.
async fn displaced(progress: &Progress, shared: &Shared) {
    let mut full = shared.full.clone();
    while full.wait_for(|full| *full).await.is_ok() {
        idle(progress, shared.limits.idle_when_full).await;
        if *full.borrow() {
            return;
        }
    }
    // Nobody accepts connections any more.
    std::future::pending::<()>().await;
}

/// Waits until no request has run for `limit`.
async fn idle(progress: &Progress, limit: Duration) {
    let mut activity = progress.watch();
    loop {
        let begun = activity.borrow_and_update().begun;
        let resumed = activity.wait_for(|now| now.running > 0 || now.begun != begun);
        if timeout(limit, resumed).await.is_err() {
            return;
        }
        drop(activity.wait_for(|now| now.running == 0).await);
    }
}

fn builder(protocol: Protocol, shared: &Shared) -> Builder<Tracked> {
    let mut builder = Builder::new(Tracked(shared.tasks.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.idle)
        .max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .max_header_list_size(HEADER_LIST_BYTES)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    }
}

/// Runs the streams of HTTP/2 connections where a drain waits for them.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        drop(self.0.spawn(future.in_current_span()));
    }
}

/// Time for the last answer to be read, on top of the time for deciding it.
const CLOSING: Duration = Duration::from_secs(5);
/// The API server's requests have heads below 1 KiB; 64 KiB also bounds what is read ahead of a slow handler.
const HEAD_BYTES: usize = 64 << 10;
const HEADER_LIST_BYTES: u32 = 16 << 10;
/// Streams of one HTTP/2 connection: the number that Go and nginx settled on.
const STREAMS: u32 = 100;
/// Streams reset before they were served, before the connection is closed (rapid reset, CVE-2023-44487).
const RESETS: usize = 20;
/// Bytes that one HTTP/2 connection may send ahead of the handler.
const WINDOW: u32 = 1 << 20;
/// Silent peers of HTTP/2 are noticed after 50 s.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
