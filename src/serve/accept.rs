//! From a socket to a connection: caps, handshakes, and an end to accepting.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, debug_span, warn};

use super::certificates::Certificates;
use super::clients;
use super::connection::{self, Protocol, Shared};
use super::lifecycle::Stage;
use super::reply::Body;
use crate::telemetry::Metrics;
use crate::trustserver::access::Peer;

/// The port of a service, but for its socket.
pub(super) struct Acceptor<S> {
    pub(super) certificates: Arc<Certificates>,
    /// Answers a request, whatever it is, of whoever is on the other end of its connection.
    pub(super) service: S,
    pub(super) shared: Shared,
    pub(super) metrics: Arc<Metrics>,
    /// Whether every place for a connection is taken.
    pub(super) full: watch::Sender<bool>,
    /// Ends all connections at once.
    pub(super) abort: CancellationToken,
}

impl<S, F> Acceptor<S>
where
    S: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    /// Accepts until the server no longer wants connections.
    pub(super) async fn run(self, listener: TcpListener) {
        let mut stage = self.shared.stage.clone();
        let refusing = async { drop(stage.wait_for(|stage| *stage >= Stage::Refusing).await) };
        tokio::select! {
            biased;
            () = refusing => {}
            () = self.accept(&listener) => {}
        }
        if let Err(error) = self.empty_queue(listener) {
            warn!(error = %error, "connections may have been reset");
        }
    }

    /// Before the first certificate nothing is accepted: callers wait in the kernel's queue for the 10 s they allow a
    /// handshake, instead of failing it.
    async fn accept(&self, listener: &TcpListener) {
        self.certificates.loaded().await;
        let limits = &self.shared.limits;
        let most = limits
            .connections
            .saturating_add(limits.overflow)
            .min(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(most));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let crowded = room.available_permits() < limits.overflow;
                    self.full.send_replace(room.available_permits() == 0);
                    self.spawn(stream, peer, crowded, Some(place));
                }
                Err(error) => pause(&error).await,
            }
        }
    }

    /// Closing the socket resets connections that the kernel holds for us, and a reset is a failed call; a 503 is not.
    fn empty_queue(&self, listener: TcpListener) -> io::Result<()> {
        let listener = listener.into_std()?;
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true)?;
                    self.spawn(TcpStream::from_std(stream)?, peer, true, None);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn spawn(&self, stream: TcpStream, peer: SocketAddr, once: bool, place: Option<OwnedSemaphorePermit>) {
        let span = debug_span!("connection", %peer);
        let counted = self.metrics.connection();
        let service = self.service.clone();
        let metrics = Arc::clone(&self.metrics);
        let shared = self.shared.clone();
        let abort = self.abort.clone();
        let config = self.certificates.current();
        let work = async move {
            let _kept = (counted, place);
            let Some(acceptor) = config.map(TlsAcceptor::from) else {
                return;
            };
            let Some(stream) = handshake(acceptor, stream, shared.limits.handshake, &metrics).await else {
                return;
            };
            let protocol = Protocol::agreed(stream.get_ref().1.alpn_protocol());
            let peer = Arc::new(Peer {
                address: peer,
                names: clients::presented(stream.get_ref().1.peer_certificates()),
            });
            let service = move |request| service(request, Arc::clone(&peer));
            connection::serve(stream, protocol, once, service, &shared).await;
        };
        let work = async move {
            abort.run_until_cancelled(work).await;
        };
        drop(self.shared.tasks.spawn(work.instrument(span)));
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    limit: Duration,
    metrics: &Metrics,
) -> Option<TlsStream<TcpStream>> {
    // Verdicts are small and must not wait for more to send.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(error = %error, "cannot send small packets at once");
    }
    match timeout(limit, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            metrics.handshake("ok");
            Some(stream)
        }
        Ok(Err(error)) => {
            metrics.handshake("error");
            debug!(error = %error, "handshake failed");
            None
        }
        Err(_) => {
            metrics.handshake("timeout");
            debug!("handshake took too long");
            None
        }
    }
}

/// Errors of one connection are over with it. Others, such as too many open files, last a while.
pub(super) async fn pause(error: &io::Error) {
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    ) {
        return;
    }
    warn!(error = %error, "cannot accept connections");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Long enough not to spin, short against the 10 s that callers allow a handshake.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
