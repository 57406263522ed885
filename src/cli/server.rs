//! `countersign server`.

mod access_flags;
mod database_flags;
mod signing_flags;
mod transfer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use self::access_flags::AccessFlags;
use self::database_flags::{DatabaseFlags, Place};
use self::signing_flags::SigningFlags;
use self::transfer::Transfer;
use super::Status;
use super::log_flags::LogFlags;
use super::tls_flags::TlsFlags;
use crate::serve::{self, Clients, Config, Ready, ServeError, Stop};
use crate::telemetry::Metrics;
use crate::trustserver::seal::Sealer;
use crate::trustserver::service::TrustServer;
use crate::trustserver::storage::Storage;
use crate::trustserver::storage::postgres::Postgres;
use crate::trustserver::storage::sqlite::Sqlite;

/// Arguments of `server`.
#[derive(ClapArgs, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Args {
    #[command(subcommand)]
    transfer: Option<Transfer>,
    #[command(flatten)]
    serve: Serve,
}

/// Arguments of serving.
#[derive(ClapArgs, Debug)]
struct Serve {
    #[command(flatten)]
    database: DatabaseFlags,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    signing: SigningFlags,
    /// Address and port that publishers and readers call
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0:4443",
        env = "COUNTERSIGN_LISTEN",
        help_heading = "Serving"
    )]
    listen: SocketAddr,
    #[command(flatten, next_help_heading = "Serving")]
    tls: TlsFlags,
    /// PEM certificates of authorities; a client with a certificate of theirs is known by its names
    #[arg(
        long,
        value_name = "FILE",
        env = "COUNTERSIGN_CLIENT_CA",
        help_heading = "Serving"
    )]
    client_ca: Option<PathBuf>,
    /// Most bytes of one update
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 16 << 20,
        env = "COUNTERSIGN_MAX_UPLOAD",
        help_heading = "Serving"
    )]
    max_upload: usize,
    #[command(flatten)]
    logs: LogFlags,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Status> {
    if let Some(transfer) = &args.transfer {
        return transfer.run();
    }
    let args = &args.serve;
    args.logs.install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.database.place()? {
            Place::Folder(folder) => {
                let storage = Sqlite::open(&folder).await?;
                if let Some(regression) = storage.regressed() {
                    error!(
                        error = %regression,
                        "the database is older than what this server has served: clients that saw more will refuse it"
                    );
                }
                serve(args, storage).await
            }
            Place::Url { url, options } => serve(args, Postgres::open(&url, options).await?).await,
        }
    })
}

impl Serve {
    fn config(&self) -> anyhow::Result<Config> {
        let certificate = self
            .tls
            .certificate()
            .context("no certificate to serve with: give --tls-cert and --tls-key, or --self-signed-dir")?;
        let mut config = Config::new(certificate);
        self.tls.apply(&mut config);
        config.listen = self.listen;
        config.limits.body = self.max_upload;
        config.tls.clients = self.client_ca.clone().map(|ca| Clients {
            ca,
            names: Vec::new(),
            optional: true,
        });
        Ok(config)
    }
}

/// Runs the server and what belongs to it. A part that ends takes the process with it.
async fn serve<S: Storage>(args: &Serve, storage: S) -> anyhow::Result<Status> {
    let sealed_before = storage.data_key().await?.is_some();
    let sealer = Sealer::open(&storage, &args.database.operator_key(sealed_before)?).await?;
    let (metrics, ready) = (Arc::new(Metrics::default()), Ready::of_database());
    let gatekeeper = Arc::new(args.access.gatekeeper()?);
    let config = args.config()?;
    let server = TrustServer::new(
        storage,
        sealer,
        Arc::clone(&gatekeeper),
        args.access.audit()?,
        args.signing.options(),
        Arc::clone(&metrics),
    );
    info!(version = env!("CARGO_PKG_VERSION"), listen = %config.listen, "starting");
    let (tasks, ending) = (TaskTracker::new(), CancellationToken::new());
    let stop = Stop::on_signals(&tasks).context("cannot listen for signals")?;
    let (bound, _unheard) = oneshot::channel();
    let reachable = ready.clone();
    let keeping = server
        .clone()
        .keep(move |up| reachable.database(up), ending.clone());
    let keeping = tasks.spawn(keeping);
    let (admitting, answering) = (server.clone(), server.clone());
    let admit = move |head| {
        let server = admitting.clone();
        async move { server.admit(&head).await }
    };
    let answer = move |call, admitted| {
        let server = answering.clone();
        async move { server.answer(call, admitted).await }
    };
    let outcome = tokio::select! {
        outcome = serve::run_trust_server(config, admit, answer, ready, metrics, stop, bound) => outcome,
        ended = keeping => Err(ServeError::Task(ended.err())),
        _never = gatekeeper.keep_fresh() => Err(ServeError::Task(None)),
    };
    ending.cancel();
    // What was begun is stored by now, or in a moment.
    if timeout(SETTLING, server.settle()).await.is_err() {
        error!("changes were still being stored at the end: they may not be in the audit log");
    }
    outcome.map(|()| Status::Success).map_err(anyhow::Error::from)
}

/// Longest time for what is being stored when no more calls come: a little more than any database has for it.
const SETTLING: Duration = Duration::from_secs(20);
