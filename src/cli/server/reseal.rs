//! `countersign server reseal`: another sealing key for the same database.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::super::{Status, print};
use super::database_flags::{DatabaseFlags, Place};
use crate::trustserver::seal::{OperatorKey, Sealer};
use crate::trustserver::storage::Storage;
use crate::trustserver::storage::postgres::Postgres;
use crate::trustserver::storage::sqlite::Sqlite;

/// Arguments of `server reseal`.
#[derive(Args, Debug)]
pub(super) struct Reseal {
    #[command(flatten)]
    database: DatabaseFlags,
    /// File with the new key; made if it is not there
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "new_sealing_command",
        env = "COUNTERSIGN_NEW_SEALING_KEY_FILE"
    )]
    new_sealing_key_file: Option<PathBuf>,
    /// Program that wraps and unwraps the key of keys from now on
    #[arg(long, value_name = "PROGRAM", env = "COUNTERSIGN_NEW_SEALING_COMMAND")]
    new_sealing_command: Option<PathBuf>,
}

impl Reseal {
    pub(super) fn run(&self) -> anyhow::Result<Status> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            match self.database.place()? {
                Place::Folder(folder) => self.reseal(&Sqlite::open(&folder).await?).await,
                Place::Url { url, options } => self.reseal(&Postgres::open(&url, options).await?).await,
            }
        })
    }

    async fn reseal(&self, storage: &impl Storage) -> anyhow::Result<Status> {
        // Opened first: with a wrong old key no new one is made.
        let Some(mut sealer) = Sealer::of_present(storage, &self.database.present_operator_key()?).await?
        else {
            bail!("nothing is sealed in this database yet: start the server with the new key");
        };
        sealer.rewrap(storage, &self.new_key()?).await?;
        print(
            "resealed: the server needs the new key from its next start on, and so do backups made from now on",
        )?;
        Ok(Status::Success)
    }

    fn new_key(&self) -> anyhow::Result<OperatorKey> {
        match (&self.new_sealing_key_file, &self.new_sealing_command) {
            (Some(file), None) => Ok(OperatorKey::of_file_or_new(file)?),
            (None, Some(program)) => Ok(OperatorKey::program(program.clone())),
            _ => bail!("no new key: give --new-sealing-key-file or --new-sealing-command"),
        }
    }
}
