//! The trust server of the sandbox: `countersign server --open`, with its database and its key in the sandbox's folder.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::servers::{ServerError, config};
use crate::serve::{self, Addresses, Ready, ServeError, Stop};
use crate::telemetry::Metrics;
use crate::trustserver::access::{Access, Gatekeeper};
use crate::trustserver::audit::Audit;
use crate::trustserver::seal::{OperatorKey, Sealer};
use crate::trustserver::service::{self, Options};
use crate::trustserver::storage::sqlite::Sqlite;

/// What the trust server needs.
pub(super) struct TrustServer {
    /// Where certificates are.
    pub(super) tls: PathBuf,
    /// Where it listens; 0 is a free port.
    pub(super) port: u16,
    /// Where its database is.
    pub(super) data: PathBuf,
}

impl TrustServer {
    /// Serves until told to stop. Whoever reaches it may publish.
    pub(super) async fn run(self, stop: Stop, bound: oneshot::Sender<Addresses>) -> Result<(), ServerError> {
        let storage = Sqlite::open(&self.data).await?;
        let key = OperatorKey::of_file_or_new(&self.data.join(SEALING_KEY))?;
        let sealer = Sealer::open(&storage, &key).await?;
        let (metrics, ready) = (Arc::new(Metrics::default()), Ready::of_database());
        // It was opened just now; from here on it is pinged.
        ready.database(true);
        let gatekeeper = Arc::new(Gatekeeper::fixed(Access::open_to_all()));
        let server = service::TrustServer::new(
            storage,
            sealer,
            gatekeeper,
            Audit::default(),
            Options::default(),
            Arc::clone(&metrics),
        );
        let ending = CancellationToken::new();
        let _ended = ending.clone().drop_guard();
        let reachable = ready.clone();
        let keeping = server.clone().keep(move |up| reachable.database(up), ending);
        let admitting = server.clone();
        let admit = move |head| {
            let server = admitting.clone();
            async move { server.admit(&head).await }
        };
        let answer = move |call, admitted| {
            let server = server.clone();
            async move { server.answer(call, admitted).await }
        };
        let config = config(self.tls, SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
        tokio::select! {
            outcome = serve::run_trust_server(config, admit, answer, ready, metrics, stop, bound) => Ok(outcome?),
            () = keeping => Err(ServeError::Task(None).into()),
        }
    }
}

/// What the server's keys are sealed with, beside them: there is nobody to hide it from.
const SEALING_KEY: &str = "sealing.key";
