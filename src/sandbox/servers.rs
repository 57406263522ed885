//! What both servers of the sandbox have in common: certificates of one authority, loopback, and a quick end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::SandboxError;
use super::registry::Registry;
use crate::policy_files::PolicyFilesError;
use crate::serve::{Addresses, Certificate, Config, Drain, ServeError, Stop, StopHandle};
use crate::store::StoreError;
use crate::trustserver::seal::SealError;
use crate::trustserver::storage::StorageError;

/// Every server of the sandbox, and how to end it.
#[derive(Debug, Default)]
pub(super) struct Servers {
    handles: Vec<StopHandle>,
    running: JoinSet<Result<(), SandboxError>>,
    /// Ends the registry.
    ending: CancellationToken,
    connections: TaskTracker,
}

impl Servers {
    /// Starts the registry.
    pub(super) async fn registry(&self, address: SocketAddr) -> Result<Registry, SandboxError> {
        let registry = Registry::start(address, &self.connections, self.ending.clone()).await;
        registry.map_err(|source| SandboxError::Listen { address, source })
    }

    /// Starts a server, and says where it listens.
    pub(super) async fn start<F>(
        &mut self,
        run: impl FnOnce(Stop, oneshot::Sender<Addresses>) -> F,
        error: fn(ServerError) -> SandboxError,
    ) -> Result<u16, SandboxError>
    where
        F: Future<Output = Result<(), ServerError>> + Send + 'static,
    {
        let (handle, stop) = Stop::by_hand();
        let (bound, listening) = oneshot::channel();
        let serving = run(stop, bound);
        self.running.spawn(async move { serving.await.map_err(error) });
        self.handles.push(handle);
        match listening.await {
            Ok(addresses) => Ok(addresses.webhook.port()),
            Err(_) => Err(self.broken().await),
        }
    }

    /// Waits until a server ends that was not told to.
    pub(super) async fn broken(&mut self) -> SandboxError {
        match self.running.join_next().await {
            Some(ended) => failed(ended).unwrap_or(SandboxError::Ended(None)),
            None => SandboxError::Ended(None),
        }
    }

    /// Ends all of them, whatever they are at.
    pub(super) async fn end(mut self) -> Result<(), SandboxError> {
        self.ending.cancel();
        self.handles.iter().for_each(StopHandle::stop);
        let mut first = Ok(());
        while let Some(ended) = self.running.join_next().await {
            first = first.and(failed(ended).map_or(Ok(()), Err));
        }
        self.connections.close();
        self.connections.wait().await;
        first
    }
}

fn failed(ended: Result<Result<(), SandboxError>, JoinError>) -> Option<SandboxError> {
    match ended {
        Ok(outcome) => outcome.err(),
        Err(error) => Some(SandboxError::Ended(Some(error))),
    }
}

/// A server of the sandbox could not start, or ended otherwise than it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Its socket or its certificate.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Its policy.
    #[error(transparent)]
    Policy(#[from] PolicyFilesError),
    /// What its policy asks for.
    #[error("the policy cannot be used: {0}")]
    Verifier(String),
    /// Its memory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The key that its keys are sealed with.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Serves at `address` with a certificate of the authority in `tls`, which is made if it is not there.
pub(super) fn config(tls: PathBuf, address: SocketAddr) -> Config {
    let mut config = Config::new(Certificate::self_signed(tls));
    config.listen = address;
    config.admin = None;
    config.drain = DRAIN;
    config
}

/// Nobody else has to be told before they stop; what is in flight on loopback takes no time.
const DRAIN: Drain = Drain {
    delay: Duration::ZERO,
    refuse: Duration::ZERO,
    grace: Duration::from_secs(2),
};
