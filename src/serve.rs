//! Sockets, TLS, probes, drain: what stands between the API server and a decision, and between clients of the trust
//! protocol and a trust server.
//!
//! The handler decides and nothing else; that a request reaches it, that an answer leaves, and that no call fails while
//! replicas come and go is arranged here (kubernetes-admission §1.1, §2.3, §2.4, §3).

mod accept;
mod admin;
mod authority;
mod body;
mod certificates;
mod clients;
mod config;
mod connection;
mod gate;
mod guard;
mod lifecycle;
mod managed;
mod ready;
mod reply;
mod rotation;
mod route;
mod self_signed;
mod tls;
mod trust_server;
mod unread;
mod webhook;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::accept::Acceptor;
use self::admin::Admin;
use self::certificates::Certificates;
pub use self::config::{Certificate, Clients, Config, Drain, Lifetimes, Limits, Tls, Version};
use self::connection::Shared;
use self::gate::Gate;
pub use self::lifecycle::{Stage, Stop, StopHandle};
pub use self::ready::{Conditions, Life, Ready};
use self::reply::Body;
pub use self::reply::Rejected;
pub use self::route::Endpoint;
pub use self::self_signed::SelfSignedError;
pub use self::tls::TlsError;
use self::trust_server::TrustServer;
use self::webhook::Webhook;
use crate::clock;
use crate::telemetry::Metrics;
use crate::trustserver::access::Peer;
use crate::trustserver::http::Call;

/// The server could not start, or ended otherwise than it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A port is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The TLS settings are wrong.
    #[error("the TLS settings cannot be used")]
    Tls(#[source] TlsError),
    /// A part of the server ended, which takes the rest with it: half a server is harder to notice than none.
    #[error("a task of the server ended unexpectedly")]
    Task(#[source] Option<JoinError>),
    /// A second request to stop cut the drain short.
    #[error("stopped at once, with {unfinished} connections open")]
    Aborted {
        /// Connections that were open.
        unfinished: usize,
    },
}

/// The ports in use, which differ from the configured ones where those were 0.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The webhook port.
    pub webhook: SocketAddr,
    /// The plain port, if there is one.
    pub admin: Option<SocketAddr>,
}

/// Serves until told to stop, then drains (AVL-20…23).
///
/// `handler` gets the entry, the body and the query string of each request, and returns the body of a 200 answer. It is
/// dropped when the caller goes away or its time is over. `bound` hears of the ports as soon as both listen; readiness
/// follows with the first certificate and [`Ready::policies_loaded`].
///
/// # Errors
///
/// [`ServeError::Listen`] and [`ServeError::Tls`] before anything is served; [`ServeError::Task`] and
/// [`ServeError::Aborted`] later. A drain that ran out of time is no error (AVL-23).
pub async fn run<H, F>(
    config: Config,
    handler: H,
    ready: Ready,
    metrics: Arc<Metrics>,
    stop: Stop,
    bound: oneshot::Sender<Addresses>,
) -> Result<(), ServeError>
where
    H: Fn(Endpoint, Bytes, Option<String>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Vec<u8>, Rejected>> + Send + 'static,
{
    let service = |gate| {
        let webhook = Arc::new(Webhook::new(handler, gate));
        move |request, _| {
            let webhook = Arc::clone(&webhook);
            async move { webhook.respond(request).await }
        }
    };
    run_service(config, service, ready, metrics, stop, bound).await
}

/// Serves the trust protocol until told to stop, then drains, all as [`run`] does.
///
/// `admit` gets each request that can be one before anything of its body is read, and says what is to be known of it
/// then, or how it is refused: bodies of those who may not send any take nobody's memory. `answer` gets what was
/// admitted, when its body is there; only updates have one. What is answered to HEAD is sent without its body. An
/// answer counts against [`Limits::answers`] until its client has read it, and has a time for that. Requests that cannot be answered, for whatever reason, get an error of the protocol
/// (notary-v1 §2.8). With [`Clients::optional`], callers with a certificate have names and others have none.
/// [`Addresses::webhook`] is the port of this service. Readiness follows with the first certificate and
/// [`Ready::database`].
///
/// # Errors
///
/// Those of [`run`].
pub async fn run_trust_server<A, W, T, H, F>(
    config: Config,
    admit: A,
    answer: H,
    ready: Ready,
    metrics: Arc<Metrics>,
    stop: Stop,
    bound: oneshot::Sender<Addresses>,
) -> Result<(), ServeError>
where
    A: Fn(Call) -> W + Send + Sync + 'static,
    W: Future<Output = Result<T, Response<Bytes>>> + Send + 'static,
    T: Send + 'static,
    H: Fn(Call, T) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Bytes>> + Send + 'static,
{
    let service = |gate| {
        let server = Arc::new(TrustServer::new(admit, answer, gate));
        move |request, peer: Arc<Peer>| {
            let server = Arc::clone(&server);
            async move { server.respond(request, &peer).await }
        }
    };
    run_service(config, service, ready, metrics, stop, bound).await
}

/// Serves what `service` makes of a gate.
async fn run_service<S, F>(
    config: Config,
    service: impl FnOnce(Gate) -> S,
    ready: Ready,
    metrics: Arc<Metrics>,
    mut stop: Stop,
    bound: oneshot::Sender<Addresses>,
) -> Result<(), ServeError>
where
    S: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let certificates =
        Certificates::new(config.tls, ready.clone(), Arc::clone(&metrics)).map_err(ServeError::Tls)?;
    let certificates = Arc::new(certificates);
    certificates.begin(clock::now()).await;
    let listener = listen(config.listen).await?;
    let admin = match config.admin {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    announce(&listener, admin.as_ref(), bound)?;

    let stage = watch::Sender::new(Stage::Serving);
    let full = watch::Sender::new(false);
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    let _cut = abort.clone().drop_guard();
    let acceptor = Acceptor {
        service: service(Gate::new(
            config.limits.clone(),
            ready.clone(),
            stage.subscribe(),
            Arc::clone(&metrics),
        )),
        certificates: Arc::clone(&certificates),
        shared: Shared {
            limits: config.limits,
            stage: stage.subscribe(),
            full: full.subscribe(),
            tasks: connections.clone(),
        },
        full,
        metrics: Arc::clone(&metrics),
        abort,
    };
    let mut parts = Parts::default();
    parts.accepting.spawn(acceptor.run(listener));
    parts.always.spawn(certificates.keep_fresh(clock::now));
    if let Some(listener) = admin {
        let ready = ready.clone();
        parts.always.spawn(Admin { ready, metrics }.run(listener));
    }
    parts.until_asked(&mut stop).await?;
    let leaving = async {
        lifecycle::leave(&config.drain, &ready, &stage).await;
        parts.accepting.join_next().await;
        lifecycle::finish(&config.drain, &stage, &connections).await;
    };
    tokio::select! {
        biased;
        () = leaving => info!("stopped"),
        ended = parts.always.join_next() => return Err(ended_early(ended)),
        () = stop.requested() => return Err(aborted(&connections)),
    }
    Ok(())
}

/// What runs beside the connections. Dropped, and with it ended, when the server returns.
#[derive(Default)]
struct Parts {
    /// Ends in a drain.
    accepting: JoinSet<()>,
    /// Runs until the end.
    always: JoinSet<()>,
}

impl Parts {
    /// Waits for the first request to stop.
    async fn until_asked(&mut self, stop: &mut Stop) -> Result<(), ServeError> {
        tokio::select! {
            biased;
            ended = self.always.join_next() => Err(ended_early(ended)),
            ended = self.accepting.join_next() => Err(ended_early(ended)),
            () = stop.requested() => Ok(()),
        }
    }
}

fn aborted(connections: &TaskTracker) -> ServeError {
    let unfinished = connections.len();
    warn!(unfinished, "stopping at once");
    ServeError::Aborted { unfinished }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

fn announce(
    webhook: &TcpListener,
    admin: Option<&TcpListener>,
    bound: oneshot::Sender<Addresses>,
) -> Result<(), ServeError> {
    let address = |listener: &TcpListener| {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        listener.local_addr().map_err(|source| ServeError::Listen {
            address: unknown,
            source,
        })
    };
    let addresses = Addresses {
        webhook: address(webhook)?,
        admin: admin.map(address).transpose()?,
    };
    info!(address = %addresses.webhook, admin = ?addresses.admin, "listening");
    // Nobody has to listen.
    let _unheard = bound.send(addresses);
    Ok(())
}

fn ended_early(ended: Option<Result<(), JoinError>>) -> ServeError {
    ServeError::Task(ended.and_then(Result::err))
}
