//! Where a trust server keeps what it has, and what its keys are sealed with.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;
use zeroize::Zeroizing;

use crate::trustserver::seal::OperatorKey;
use crate::trustserver::storage::postgres;

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
    /// URL of a PostgreSQL database, which several servers may share
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
    /// File with the key that keys in the database are sealed with; made if it is not there and --data is given. The
    /// variable without the last word may hold the key itself instead
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
        /// How to get there.
        options: postgres::Options,
    },
}

impl DatabaseFlags {
    /// Where the database is.
    pub(super) fn place(&self) -> anyhow::Result<Place> {
        match (&self.data, &self.database) {
            (Some(folder), None) => Ok(Place::Folder(folder.clone())),
            (None, Some(url)) => Ok(Place::Url {
                url: self.with_password(url)?,
                options: postgres::Options {
                    authorities: self.database_ca.clone(),
                    ..postgres::Options::default()
                },
            }),
            _ => bail!("no database: give --data for a folder of our own, or --database for PostgreSQL"),
        }
    }

    fn with_password(&self, url: &str) -> anyhow::Result<SecretString> {
        let Some(file) = &self.database_password_file else {
            return Ok(url.into());
        };
        let name = || file.display().to_string();
        let password = Zeroizing::new(fs::read_to_string(file).with_context(name)?);
        let mut url = Url::parse(url).context("--database is no URL")?;
        let taken = url.set_password(Some(password.trim_end_matches(['\r', '\n'])));
        taken.map_err(|()| anyhow!("--database names no server that a password could be for"))?;
        Ok(String::from(url).into())
    }

    /// What keys are sealed with. For a folder of our own one may be made, but not where keys were sealed before: a new
    /// one would open none of them, and be taken for the one that is lost.
    pub(super) fn operator_key(&self, sealed_before: bool) -> anyhow::Result<OperatorKey> {
        let variable = std::env::var(SEALING_KEY).ok().map(SecretString::from);
        match (&self.sealing_key_file, &self.sealing_command, variable) {
            (Some(file), None, None) if self.data.is_some() && !sealed_before => {
                Ok(OperatorKey::of_file_or_new(file)?)
            }
            (Some(file), None, None) => Ok(OperatorKey::of_file(file)?),
            (None, Some(program), None) => Ok(OperatorKey::program(program.clone())),
            (None, None, Some(key)) => Ok(OperatorKey::of_text(key.expose_secret())?),
            (None, None, None) => bail!(
                "nothing to seal the server's keys with: give --sealing-key-file or --sealing-command, or set {SEALING_KEY}"
            ),
            _ => bail!(
                "keys are sealed with one key: of --sealing-key-file, --sealing-command and {SEALING_KEY} give one"
            ),
        }
    }
}

/// The key itself, which no flag may hold.
const SEALING_KEY: &str = "COUNTERSIGN_SEALING_KEY";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealing_key_that_is_lost_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sealing.key");
        let flags = DatabaseFlags {
            data: Some(folder.path().to_owned()),
            database: None,
            database_password_file: None,
            database_ca: None,
            sealing_key_file: Some(file.clone()),
            sealing_command: None,
        };
        assert!(flags.operator_key(true).is_err());
        assert!(!file.exists(), "whoever looks for the key would find another one");
        assert!(flags.operator_key(false).is_ok());
        assert!(file.exists());
    }
}
