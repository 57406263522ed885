//! Who published what: one line of JSON for every change of a repository (notary-v1 §8.6.10).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use tracing::{error, info};

use super::access::{Caller, Peer};
use crate::reference::Gun;
use crate::tuf::edit::SignedFile;

/// Where the lines go, besides the log.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    file: Option<PathBuf>,
}

/// A change of a repository.
#[derive(Clone, Debug, Serialize)]
pub struct Entry<'a> {
    at: Timestamp,
    event: &'static str,
    gun: &'a str,
    /// `null` where anybody may do it.
    caller: Option<&'a str>,
    /// How the caller proved to be that.
    by: &'static str,
    /// Address of the other end of the connection.
    peer: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<Written<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// A file of a change.
#[derive(Clone, Debug, Serialize)]
struct Written<'a> {
    role: &'a str,
    version: u64,
    sha256: String,
    /// Canonical ids of the keys that signed.
    keys: Vec<String>,
}

impl<'a> Entry<'a> {
    /// Something happened to a repository.
    pub(super) fn new(
        at: Timestamp,
        event: &'static str,
        gun: &'a Gun,
        caller: &'a Caller,
        peer: &Peer,
    ) -> Self {
        Self {
            at,
            event,
            gun: gun.as_str(),
            caller: caller.name.as_deref(),
            by: caller.by,
            peer: peer.address.to_string(),
            files: Vec::new(),
            key: None,
        }
    }

    /// These files were stored.
    pub(super) fn with_files(mut self, files: &'a [SignedFile]) -> Self {
        let written = files.iter().map(|file| Written {
            role: file.role.as_str(),
            version: file.version,
            sha256: hex::encode(crate::tuf::sha256(&file.bytes)),
            keys: file.signers.iter().map(ToString::to_string).collect(),
        });
        self.files = written.collect();
        self
    }

    /// This key was given out.
    pub(super) fn with_key(mut self, key: &impl ToString) -> Self {
        self.key = Some(key.to_string());
        self
    }
}

impl Audit {
    /// Appends to `file`, which is made if it does not exist. It is opened for every line, so that it may be moved away
    /// at any time.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn to_file(file: &Path) -> io::Result<Self> {
        append(file)?;
        Ok(Self {
            file: Some(file.to_owned()),
        })
    }

    /// Writes an entry. The change is stored already, so a failure is told as loudly as can be, and no more.
    pub(super) fn write(&self, entry: &Entry<'_>) {
        let (event, gun, caller, by, peer) = (entry.event, entry.gun, entry.caller, entry.by, &*entry.peer);
        let roles: Vec<_> = entry
            .files
            .iter()
            .map(|file| format!("{} {}", file.role, file.version))
            .collect();
        info!(target: "countersign::audit", event, gun, caller, by, peer, files = roles.join(", "), key = entry.key, "repository changed");
        let Some(file) = &self.file else { return };
        let written = serde_json::to_vec(entry)
            .map_err(io::Error::from)
            .and_then(|mut line| {
                line.push(b'\n');
                append(file)?.write_all(&line)
            });
        if let Err(error) = written {
            error!(%error, file = %file.display(), event, gun, "the audit log was not written");
        }
    }
}

fn append(file: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(file)
}
