//! A registry of images, in memory and on loopback only: enough of the OCI distribution specification for docker, skopeo
//! and our own client to push and pull.
//!
//! Plain HTTP: docker, containerd's clients and Countersign take that from the machine itself, where there is no network
//! on the way, and nobody has to hand an authority to a daemon for it. What vouches for an image is its signature.

mod call;
mod shelf;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, warn};

use self::call::{Call, Failure};
use self::shelf::{Held, Shelf};
use super::image::Image;
use crate::reference::{Gun, Tag};

/// A registry that listens.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    address: SocketAddr,
    shelf: Arc<Shelf>,
}

impl Registry {
    /// Listens at `address` and serves until `stop`; `tasks` runs it.
    ///
    /// # Errors
    ///
    /// If the port is taken.
    pub(super) async fn start(
        address: SocketAddr,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let registry = Self {
            address: listener.local_addr()?,
            shelf: Arc::new(Shelf::new(ROOM)),
        };
        let serving = registry.clone().serve(listener, tasks.clone(), stop);
        drop(tasks.spawn(serving.in_current_span()));
        Ok(registry)
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same, as images name it.
    pub(super) fn host(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// Puts `image` there under `tag`, as a push does, and says whether there was room for it.
    pub(super) fn push(&self, gun: &Gun, tag: &Tag, image: &Image) -> bool {
        let all = [&image.config, &image.layer, &image.manifest].map(|bytes| self.shelf.hold(bytes));
        let [Some(config), Some(layer), Some(manifest)] = all else {
            return false;
        };
        self.shelf.keep_blob(config);
        self.shelf.keep_blob(layer);
        let kind = image.media_type.to_owned();
        self.shelf.keep_manifest(gun.path(), Some(tag), kind, manifest);
        true
    }

    async fn serve(self, listener: TcpListener, tasks: TaskTracker, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let stream = match stop.run_until_cancelled(accepted).await {
                None | Some((Err(_), _)) => return,
                Some((Ok(place), Ok((stream, _)))) => (place, stream),
                Some((_, Err(error))) => {
                    warn!(%error, "the registry cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (registry, stop) = (self.clone(), stop.clone());
            let connection = async move {
                let (_place, stream) = stream;
                stop.run_until_cancelled(registry.connection(stream)).await;
            };
            drop(tasks.spawn(connection.in_current_span()));
        }
    }

    async fn connection(self, stream: TcpStream) {
        let service = service_fn(|request| {
            let registry = self.clone();
            async move { Ok::<_, Infallible>(registry.respond(request).await) }
        });
        let ended = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = ended {
            debug!(%error, "connection to the registry ended");
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let answer = async {
            let call = Call::read(&parts)?;
            let body = match timeout(PATIENCE, self.read(body, call.limit())).await {
                Ok(body) => body?,
                Err(_) => return Err(Failure::Slow),
            };
            call.answer(&self.shelf, body)
        };
        let mut answer = answer
            .await
            .unwrap_or_else(|failure: Failure| failure.into_response());
        let version = HeaderValue::from_static("registry/2.0");
        answer
            .headers_mut()
            .insert("docker-distribution-api-version", version);
        answer
    }

    /// The body, charged against the room there is as it arrives.
    async fn read(&self, mut body: Incoming, limit: usize) -> Result<Held, Failure> {
        let mut held = Held::nothing();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Failure::Broken)?.into_data() else {
                continue;
            };
            if held.len() + data.len() > limit {
                return Err(Failure::TooLarge);
            }
            self.shelf.append(&mut held, &data).ok_or(Failure::Full)?;
        }
        Ok(held)
    }
}

/// Bytes of all images together. Some usual images fit; who wants more wants a real registry.
const ROOM: usize = 512 << 20;
/// Docker pushes five layers at once, skopeo six; a few of each.
const CONNECTIONS: usize = 64;
/// How long a connection may be silent between requests.
const IDLE: Duration = Duration::from_secs(60);
/// To send one layer over loopback, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
