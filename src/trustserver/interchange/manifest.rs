//! The first file of an archive: what is in it, in the order in which it follows.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{InterchangeError, Parcel, Result};
use crate::reference::Gun;
use crate::trustserver::storage::{Event, File};
use crate::tuf::{KeyId, Limits, Role};

/// What every archive says it is.
const FORMAT: &str = "countersign-repository";
/// The version of the format that this program writes; it reads none that is higher.
const VERSION: u64 = 1;

/// Most versions of all roles: fifty publishes a day, three files each, for four years.
pub(super) const MAX_FILES: usize = 220_000;
/// Most bytes of all files: one process holds a repository in memory while it is verified and stored.
pub(super) const MAX_BYTES: u64 = 1 << 30;
/// Most keys that a server holds for one repository: two, and two more for every rotation.
pub(super) const MAX_KEYS: usize = 1000;
/// Most roles, former ones too: verifiers read 64 at a time.
pub(super) const MAX_ROLES: usize = 10_000;
/// Most entries of the changefeed: one for each timestamp, and deletions.
pub(super) const MAX_CHANGES: usize = 400_000;

/// What the file says.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: String,
    version: u64,
    gun: String,
    exported_at: Timestamp,
    #[serde(deserialize_with = "few")]
    used: BTreeMap<String, u64>,
    keys: Vec<KeyEntry>,
    files: Vec<FileEntry>,
    changes: Vec<ChangeEntry>,
}

/// Only as much as tells whether the rest can be read.
#[derive(Deserialize)]
struct Preamble {
    format: String,
    version: u64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    role: String,
    version: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    current: bool,
    sha256: String,
    length: u64,
    stored_at: Timestamp,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    id: String,
    role: String,
    used: bool,
    created_at: Timestamp,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ChangeEntry {
    at: Timestamp,
    event: What,
    /// Of the timestamp that was stored; a deletion has neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Update,
    Deletion,
}

/// What a manifest says, read.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) gun: Gun,
    /// Role, what is said of the file, and its length.
    pub(super) files: Vec<Listed>,
    pub(super) current: BTreeMap<Role, u64>,
    pub(super) used: BTreeMap<Role, u64>,
    pub(super) changes: Vec<(Timestamp, Event)>,
    pub(super) keys: Vec<ListedKey>,
}

/// A file that is to follow.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) role: Role,
    pub(super) version: u64,
    pub(super) sha256: [u8; 32],
    pub(super) length: u64,
    pub(super) stored_at: Timestamp,
}

/// A key that is to follow.
#[derive(Debug)]
pub(super) struct ListedKey {
    pub(super) id: KeyId,
    pub(super) role: Role,
    pub(super) used: bool,
    pub(super) created_at: Timestamp,
}

impl Manifest {
    /// Of `parcel`, with its keys or without.
    pub(super) fn of(parcel: &Parcel, with_keys: bool, now: Timestamp) -> Self {
        let keys = parcel.keys.iter().filter(|_| with_keys);
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            gun: parcel.gun.to_string(),
            exported_at: now,
            used: parcel
                .used
                .iter()
                .map(|(role, version)| (role.to_string(), *version))
                .collect(),
            keys: keys
                .map(|key| KeyEntry {
                    id: key.key.id().to_string(),
                    role: key.role.to_string(),
                    used: key.used,
                    created_at: key.created_at,
                })
                .collect(),
            files: parcel
                .files
                .iter()
                .map(|(role, file)| {
                    FileEntry::of(role, file, parcel.current.get(role) == Some(&file.version))
                })
                .collect(),
            changes: parcel
                .changes
                .iter()
                .map(|(at, event)| ChangeEntry::of(*at, event))
                .collect(),
        }
    }

    /// Reads a manifest. What it says is sound in itself; whether it is so is for the files to show.
    pub(super) fn read(json: &[u8]) -> Result<Contents> {
        let preamble: Preamble = serde_json::from_slice(json).map_err(|_| InterchangeError::Foreign)?;
        if preamble.format != FORMAT {
            return Err(InterchangeError::Foreign);
        }
        if preamble.version != VERSION {
            return Err(InterchangeError::Version {
                version: preamble.version,
            });
        }
        let manifest: Self = serde_json::from_slice(json).map_err(|_| damaged())?;
        manifest.contents()
    }

    fn contents(self) -> Result<Contents> {
        within("files", self.files.len(), MAX_FILES)?;
        within("keys", self.keys.len(), MAX_KEYS)?;
        within("entries of the changefeed", self.changes.len(), MAX_CHANGES)?;
        let mut contents = Contents {
            gun: gun(&self.gun)?,
            files: Vec::with_capacity(self.files.len()),
            current: BTreeMap::new(),
            used: BTreeMap::new(),
            changes: Vec::with_capacity(self.changes.len()),
            keys: Vec::with_capacity(self.keys.len()),
        };
        for (name, version) in &self.used {
            contents.used.insert(role(name)?, *version);
        }
        contents.list_files(&self.files)?;
        for entry in self.changes {
            contents.changes.push((entry.at, entry.read()?));
        }
        for entry in self.keys {
            contents.keys.push(ListedKey {
                id: entry.id.parse().map_err(|_| damaged())?,
                role: role(&entry.role)?,
                used: entry.used,
                created_at: entry.created_at,
            });
        }
        Ok(contents)
    }
}

impl Contents {
    fn list_files(&mut self, entries: &[FileEntry]) -> Result<()> {
        let mut total: u64 = 0;
        for entry in entries {
            let role = role(&entry.role)?;
            total = total.saturating_add(entry.length);
            most("bytes of one file", entry.length, Limits::default().targets_bytes)?;
            most("bytes of files", total, MAX_BYTES)?;
            if entry.current && self.current.insert(role.clone(), entry.version).is_some() {
                return Err(damaged());
            }
            self.files.push(Listed {
                role,
                version: entry.version,
                sha256: hash(&entry.sha256)?,
                length: entry.length,
                stored_at: entry.stored_at,
            });
        }
        Ok(())
    }
}

impl FileEntry {
    fn of(role: &Role, file: &File, current: bool) -> Self {
        Self {
            role: role.to_string(),
            version: file.version,
            current,
            sha256: hex::encode(file.sha256),
            length: u64::try_from(file.bytes.len()).unwrap_or(u64::MAX),
            stored_at: file.stored_at,
        }
    }
}

impl ChangeEntry {
    fn of(at: Timestamp, event: &Event) -> Self {
        let (event, version, sha256) = match event {
            Event::Update { version, sha256 } => (What::Update, Some(*version), Some(hex::encode(sha256))),
            Event::Deletion => (What::Deletion, None, None),
        };
        Self {
            at,
            event,
            version,
            sha256,
        }
    }

    fn read(self) -> Result<Event> {
        match (self.event, self.version, self.sha256) {
            (What::Update, Some(version), Some(sha256)) => Ok(Event::Update {
                version,
                sha256: hash(&sha256)?,
            }),
            (What::Deletion, None, None) => Ok(Event::Deletion),
            (What::Update | What::Deletion, ..) => Err(damaged()),
        }
    }
}

/// A map that ends early: entries of a few bytes each would take ten times the room of their text.
fn few<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<BTreeMap<String, u64>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = BTreeMap<String, u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_ROLES} roles, none twice")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> std::result::Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((name, version)) = from.next_entry()? {
                if map.len() == MAX_ROLES || map.insert(name, version).is_some() {
                    return Err(A::Error::invalid_length(map.len(), &self));
                }
            }
            Ok(map)
        }
    }

    from.deserialize_map(Few)
}

/// A name as the GUN of a repository: exactly as it stands there, which is what keys and certificates are made for.
pub(super) fn gun(name: &str) -> Result<Gun> {
    let gun: Option<Gun> = name.parse().ok();
    gun.filter(|gun| gun.as_str() == name).ok_or_else(damaged)
}

fn role(name: &str) -> Result<Role> {
    name.parse().map_err(|_| damaged())
}

fn hash(text: &str) -> Result<[u8; 32]> {
    let mut hash = [0; 32];
    let lower = text.bytes().all(|byte| !byte.is_ascii_uppercase());
    let read = hex::decode_to_slice(text, &mut hash).is_ok() && lower;
    read.then_some(hash).ok_or_else(damaged)
}

const fn damaged() -> InterchangeError {
    InterchangeError::Damaged { what: "manifest" }
}

pub(super) fn within(what: &'static str, count: usize, limit: usize) -> Result<()> {
    let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    most(what, wide(count), wide(limit))
}

pub(super) const fn most(what: &'static str, count: u64, limit: u64) -> Result<()> {
    if count > limit {
        return Err(InterchangeError::Limit { what, most: limit });
    }
    Ok(())
}
