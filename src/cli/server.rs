//! `countersign server`.

mod database_flags;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::database_flags::{DatabaseFlags, Place};
use super::log_flags::LogFlags;
use super::tls_flags::TlsFlags;
use super::{Status, duration};
use crate::clock;
use crate::serve::{self, Clients, Config, Ready, ServeError, Stop};
use crate::telemetry::Metrics;
use crate::trustserver::access::Doors;
use crate::trustserver::audit::Audit;
use crate::trustserver::seal::Sealer;
use crate::trustserver::service::{Options, TrustServer};
use crate::trustserver::storage::Storage;
use crate::trustserver::storage::postgres::Postgres;
use crate::trustserver::storage::sqlite::Sqlite;
use crate::tuf::Algorithm;

/// Arguments of `server`.
#[derive(ClapArgs, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
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
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_CLIENT_CA", help_heading = "Serving")]
    client_ca: Option<PathBuf>,
    /// Most bytes of one update
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = MAX_UPLOAD,
        env = "COUNTERSIGN_MAX_UPLOAD",
        help_heading = "Serving"
    )]
    max_upload: usize,
    #[command(flatten)]
    logs: LogFlags,
}
