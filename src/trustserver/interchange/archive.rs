//! Archives of our own: a tar file for each repository.
//!
//! ```text
//! manifest.json              format and version; which files and keys follow, in this order; versions used; changefeed
//! files/<SHA-256>.json       each version of each role, byte for byte, once
//! keys/<KEY ID>.key          each server-held key, encrypted, as `countersign trust key` and docker store keys
//! manifest.json.sha256       what `sha256sum -c` reads; the rest is in the manifest by hash or key id
//! ```
//!
//! Everything can be looked at with `tar`, `jq` and `openssl`, and written and read in one pass. The reader takes
//! nothing that the manifest does not name, in no other order and of no other length, so there is no name to be
//! careful with and no end to wait for.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::manifest::{Contents, Listed, ListedKey, Manifest};
use super::tar::{Reader, TarError, Writer};
use super::{InterchangeError, Parcel, ParcelKey, Result};
use crate::reference::Gun;
use crate::trustserver::storage::File;
use crate::tuf::{KeyFile, Labels, Role, Strength, sha256};

const MANIFEST: &str = "manifest.json";
/// Against damage. It proves no more than that: whoever can change the one can change the other.
const SUM: &str = "manifest.json.sha256";
/// Largest manifest: 300 bytes for each of the most files, as much again for changes.
const MAX_MANIFEST: u64 = 192 << 20;
/// Largest key file: an RSA key of 8192 bits takes 9 KB in base64.
const MAX_KEY: u64 = 64 << 10;

/// Writes `parcel` as an archive. Without a passphrase, its keys are left out.
///
/// # Errors
///
/// [`InterchangeError`] if it cannot be written, or a key cannot be encrypted.
pub fn write<W: Write>(
    parcel: &Parcel,
    passphrase: Option<&SecretString>,
    now: Timestamp,
    out: W,
) -> Result<W> {
    let manifest = serde_json::to_vec_pretty(&Manifest::of(parcel, passphrase.is_some(), now));
    let manifest = manifest.map_err(|error| InterchangeError::Write(error.into()))?;
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let mut tar = Writer::new(out, seconds);
    tar.append(MANIFEST, &manifest).map_err(InterchangeError::Write)?;
    let mut written = HashSet::new();
    for (_, file) in &parcel.files {
        if written.insert(file.sha256) {
            tar.append(&file_name(&file.sha256), &file.bytes)
                .map_err(InterchangeError::Write)?;
        }
    }
    for key in passphrase.map_or(&[][..], |_| &parcel.keys) {
        let Some(passphrase) = passphrase else { continue };
        let pem = key.lock(&parcel.gun, passphrase)?.to_pem();
        tar.append(&key_name(&key.key.id().to_string()), pem.as_bytes())
            .map_err(InterchangeError::Write)?;
    }
    tar.append(SUM, sum(&manifest).as_bytes())
        .map_err(InterchangeError::Write)?;
    tar.finish().map_err(InterchangeError::Write)
}

/// An archive that was read: what it holds fits together, and nothing of it is believed yet.
#[derive(Debug)]
pub struct Archive {
    parcel: Parcel,
    keys: Vec<(ListedKey, KeyFile)>,
}

impl Archive {
    /// Reads an archive.
    ///
    /// # Errors
    ///
    /// [`InterchangeError`] says whether it is none, or one that is damaged, of a newer program, or too large.
    pub fn read(from: impl Read) -> Result<Self> {
        let mut tar = Reader::new(from);
        let manifest = tar.member().map_err(|_| InterchangeError::Foreign)?;
        let manifest = manifest
            .filter(|member| member.name == MANIFEST)
            .ok_or(InterchangeError::Foreign)?;
        let json = tar.bytes(&manifest, MAX_MANIFEST).map_err(damage("manifest"))?;
        let Contents {
            gun,
            files,
            current,
            used,
            changes,
            keys,
        } = Manifest::read(&json)?;
        let files = read_files(&mut tar, files)?;
        let keys = read_keys(&mut tar, keys)?;
        let wanted = sum(&json);
        let length = u64::try_from(wanted.len()).unwrap_or(u64::MAX);
        if read_member(&mut tar, SUM, length, "end")? != wanted.as_bytes() {
            return Err(InterchangeError::Damaged { what: "manifest" });
        }
        if tar.member().map_err(damage("end"))?.is_some() {
            return Err(InterchangeError::Damaged { what: "end" });
        }
        let parcel = Parcel {
            gun,
            files,
            current,
            used,
            changes,
            keys: Vec::new(),
        };
        parcel.is_sound()?;
        Ok(Self { parcel, keys })
    }

    /// The repository that it holds, by its own account.
    pub const fn gun(&self) -> &Gun {
        &self.parcel.gun
    }

    /// Whether there are keys in it, for which [`Self::open`] needs the passphrase.
    pub const fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// What it holds, with its keys opened; without a passphrase, without them.
    ///
    /// # Errors
    ///
    /// [`InterchangeError::Key`] if one does not open, and [`InterchangeError::KeyId`] if another key is inside than
    /// its name says.
    pub fn open(mut self, passphrase: Option<&SecretString>) -> Result<Parcel> {
        let Some(passphrase) = passphrase else {
            return Ok(self.parcel);
        };
        for (listed, file) in self.keys {
            let ListedKey {
                id,
                role,
                used,
                created_at,
            } = listed;
            let key = file
                .open(Some(passphrase))
                .map_err(|source| InterchangeError::Key { id, source })?;
            if key.id() != id {
                return Err(InterchangeError::KeyId { id });
            }
            self.parcel.keys.push(ParcelKey {
                key,
                role,
                used,
                created_at,
            });
        }
        Ok(self.parcel)
    }
}

impl ParcelKey {
    fn lock(&self, gun: &Gun, passphrase: &SecretString) -> Result<KeyFile> {
        Labels::new(self.role.as_str(), Some(gun.as_str()))
            .and_then(|labels| KeyFile::seal(&self.key, labels, passphrase, Strength::Interoperable))
            .map_err(|source| InterchangeError::Key {
                id: self.key.id(),
                source,
            })
    }
}

/// Only as much of a file as says what it is.
#[derive(Deserialize)]
struct Envelope {
    signed: Head,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "_type")]
    kind: String,
    version: u64,
}

/// Whether a file says that it is this version of this role. Old versions are not verified beyond that: they are not
/// what the repository says any more, and who asks for one verifies it.
pub(super) fn is_version_of(bytes: &[u8], role: &Role, version: u64) -> bool {
    let kind = match role {
        Role::Root => "root",
        Role::Targets | Role::Delegation(_) => "targets",
        Role::Snapshot => "snapshot",
        Role::Timestamp => "timestamp",
    };
    serde_json::from_slice(bytes).is_ok_and(|file: Envelope| {
        // The reference takes either spelling of the first letter (§3.8).
        file.signed.kind.eq_ignore_ascii_case(kind) && file.signed.version == version
    })
}

fn read_files<R: Read>(tar: &mut Reader<R>, listed: Vec<Listed>) -> Result<Vec<(Role, File)>> {
    let mut read: HashMap<[u8; 32], Bytes> = HashMap::new();
    let mut files = Vec::with_capacity(listed.len());
    for entry in listed {
        let bytes = if let Some(bytes) = read.get(&entry.sha256) {
            bytes.clone()
        } else {
            let bytes = read_member(tar, &file_name(&entry.sha256), entry.length, "file")?;
            if sha256(&bytes) != entry.sha256 {
                return Err(InterchangeError::Damaged { what: "file" });
            }
            let bytes = Bytes::from(bytes);
            read.insert(entry.sha256, bytes.clone());
            bytes
        };
        let file = File {
            version: entry.version,
            sha256: entry.sha256,
            bytes,
            stored_at: entry.stored_at,
        };
        files.push((entry.role, file));
    }
    Ok(files)
}

fn read_keys<R: Read>(tar: &mut Reader<R>, listed: Vec<ListedKey>) -> Result<Vec<(ListedKey, KeyFile)>> {
    let mut keys = Vec::with_capacity(listed.len());
    for entry in listed {
        let member = tar.member().map_err(damage("key"))?;
        let name = key_name(&entry.id.to_string());
        let member = member.filter(|member| member.name == name);
        let member = member.ok_or(InterchangeError::Damaged { what: "key" })?;
        let pem = tar.bytes(&member, MAX_KEY).map_err(damage("key"))?;
        let pem = std::str::from_utf8(&pem).map_err(|_| InterchangeError::Damaged { what: "key" })?;
        let file = KeyFile::parse(pem).map_err(|source| InterchangeError::Key { id: entry.id, source })?;
        keys.push((entry, file));
    }
    Ok(keys)
}

fn read_member<R: Read>(tar: &mut Reader<R>, name: &str, length: u64, what: &'static str) -> Result<Vec<u8>> {
    let member = tar.member().map_err(damage(what))?;
    let member = member.filter(|member| member.name == name && member.length == length);
    let member = member.ok_or(InterchangeError::Damaged { what })?;
    let mut bytes = tar.bytes(&member, length).map_err(damage(what))?;
    Ok(std::mem::take(&mut *bytes))
}

fn damage(what: &'static str) -> impl Fn(TarError) -> InterchangeError {
    move |error| match error {
        TarError::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            InterchangeError::Read(error)
        }
        TarError::Io(_) | TarError::Header | TarError::Length => InterchangeError::Damaged { what },
    }
}

/// As `sha256sum` writes it.
fn sum(manifest: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", hex::encode(sha256(manifest)))
}

fn file_name(hash: &[u8; 32]) -> String {
    format!("files/{}.json", hex::encode(hash))
}

fn key_name(id: &str) -> String {
    format!("keys/{id}.key")
}
