//! Flags of all commands that use private keys.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::complain;
use super::passphrase::Passphrases;
use crate::keystore::{KeyStore, Listing};
use crate::review::verdict::printable;
use crate::telemetry::chain;

/// Where keys are, and what opens them.
#[derive(Args, Debug)]
#[command(next_help_heading = "Keys")]
pub(super) struct KeyFlags {
    /// Directory whose `private` holds the keys [default: docker's, ~/.docker/trust]
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_TRUST_DIR")]
    trust_dir: Option<PathBuf>,
    /// Open file descriptor with passphrases: a line for each role, in the order they are needed, the last for the rest
    #[arg(long, value_name = "N", env = "COUNTERSIGN_PASSPHRASE_FD")]
    passphrase_fd: Option<u32>,
}

impl KeyFlags {
    /// The key store.
    pub(super) fn store(&self) -> anyhow::Result<KeyStore> {
        let trust_dir = match &self.trust_dir {
            Some(folder) => folder.clone(),
            None => docker_folder()
                .context("there is no home directory: say where keys are with --trust-dir")?
                .join("trust"),
        };
        Ok(KeyStore::new(&trust_dir))
    }

    /// What opens keys.
    pub(super) fn passphrases(&self) -> anyhow::Result<Passphrases> {
        Passphrases::new(self.passphrase_fd)
    }
}

/// Every key of `store`, with what is odd about it told.
pub(super) fn listing(store: &KeyStore) -> anyhow::Result<Listing> {
    let listing = store.list()?;
    for warning in &listing.warnings {
        // Whoever may put a file there may call it what they like.
        complain(&format!("warning: {}", printable(&chain(warning), usize::MAX)));
    }
    Ok(listing)
}

/// Where docker keeps its configuration.
pub(super) fn docker_folder() -> Option<PathBuf> {
    match env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()) {
        Some(folder) => Some(folder.into()),
        None => Some(Path::new(&env::var_os("HOME")?).join(".docker")),
    }
}
