//! `countersign server`.

mod access_flags;
mod database_flags;
mod reseal;
mod signing_flags;
mod transfer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Args as ClapArgs, Subcommand};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use self::access_flags::AccessFlags;
use self::database_flags::{DatabaseFlags, Place};
use self::reseal::Reseal;
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
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

/// What is done instead of serving.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Transfer(Transfer),
    /// Seals the keys in the database with another sealing key
    ///
    /// Servers that run go on; at their next start they need the new key. Older backups still need the old one.
    Reseal(Box<Reseal>),
}

/// Arguments of serving.
#[derive(ClapArgs, Debug)]
struct Serve {
    #[command(flatten)]
    database: DatabaseFlags,
    /// Serve from a database that is older than what was served before; to be given once, after a backup was put back
    #[arg(
        long,
        requires = "data",
        env = "COUNTERSIGN_ACCEPT_OLDER_DATABASE",
        help_heading = "Database"
    )]
    accept_older_database: bool,
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
    match &args.command {
        Some(Command::Transfer(transfer)) => return transfer.run(),
        Some(Command::Reseal(reseal)) => return reseal.run(),
        None => {}
    }
    let args = &args.serve;
    args.logs.install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.database.place()? {
            Place::Folder(folder) => {
                let storage = Sqlite::open(&folder).await?;
                args.hold_to_newest(&storage).await?;
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
        config.limits.bodies = BODIES.max(self.max_upload);
        config.limits.request_time = REQUEST_TIME;
        config.tls.clients = self.client_ca.clone().map(|ca| Clients {
            ca,
            names: Vec::new(),
            optional: true,
        });
        Ok(config)
    }

    /// Refuses an older database until somebody who knows of it says otherwise: readers who come for the first time
    /// would take what was revoked since for good, and the server would sign other files under numbers that it gave out
    /// before (§8.6.6).
    async fn hold_to_newest(&self, storage: &Sqlite) -> anyhow::Result<()> {
        let Some(regression) = storage.regressed() else {
            if self.accept_older_database {
                warn!(
                    "--accept-older-database is given without need: take it away, so that the next older database is noticed"
                );
            }
            return Ok(());
        };
        if !self.accept_older_database {
            return Err(anyhow!(regression).context(
                "the database is not the one that this server served last, and nothing is served from it: put the \
                 newest one back, or give --accept-older-database once, after which clients that have seen more refuse \
                 what is served until publishers have signed again",
            ));
        }
        storage.accept_regression().await?;
        warn!(error = %regression, "an older database is accepted: clients that saw more will refuse what it serves");
        Ok(())
    }
}

/// Longest time for a request from its head to its answer. The largest update, 16 MiB, takes it over an uplink of
/// 1.1 Mbit/s; a minute or two more would only keep memory for those who never come to an end.
const REQUEST_TIME: Duration = Duration::from_secs(120);

/// Bytes of all updates that are arriving or being judged: two of the largest, or thousands of usual size. Taken apart
/// and read beside what it replaces, one of 9 MiB took 130 MiB, so these may come to half a gigabyte.
const BODIES: usize = 32 << 20;

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
