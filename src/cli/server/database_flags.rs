//! Where a trust server keeps what it has, and what its keys are sealed with.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use secrecy::SecretString;

use crate::trustserver::seal::OperatorKey;

/// The database, and the key of its keys.
#[derive(Args, Debug)]
#[command(next_help_heading = "Database")]
pub(super) struct DatabaseFlags {
    /// Folder for a database of our own, for one server
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "database",
        env = "COUNTERSIGN_DATA"
    )]
    data: Option<PathBuf>,
    /// PostgreSQL database that several servers may share, postgresql://user@host/name
    #[arg(long, value_name = "URL", env = "COUNTERSIGN_DATABASE")]
    database: Option<String>,
    /// File with the password of that database
    #[arg(
        long,
        value_name = "FILE",
        requires = "database",
        env = "COUNTERSIGN_DATABASE_PASSWORD_FILE"
    )]
    database_password_file: Option<PathBuf>,
    /// PEM certificates of authorities of that database's server, besides those of the system
    #[arg(
        long,
        value_name = "FILE",
        requires = "database",
        env = "COUNTERSIGN_DATABASE_CA"
    )]
    database_ca: Option<PathBuf>,
    /// File with the key that keys in the database are sealed with; made if it is not there and --data is given.
    /// COUNTERSIGN_SEALING_KEY may hold the key itself instead
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "sealing_command",
        env = "COUNTERSIGN_SEALING_KEY_FILE"
    )]
    sealing_key_file: Option<PathBuf>,
    /// Program that wraps and unwraps the key of keys, as one of a key management service: it is called with wrap or
    /// unwrap and reads and writes base64
    #[arg(long, value_name = "PROGRAM", env = "COUNTERSIGN_SEALING_COMMAND")]
    sealing_command: Option<PathBuf>,
}

/// A database that is to be opened.
pub(super) enum Place {
    /// A folder of our own.
    Folder(PathBuf),
    /// PostgreSQL.
    Url {
        /// With the password.
        url: SecretString,
        /// Authorities besides the system's.
        authorities: Option<PathBuf>,
    },
}
