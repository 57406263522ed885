//! A repository with all its past, outside of any database.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use super::archive::is_version_of;
use super::manifest::{MAX_BYTES, MAX_CHANGES, MAX_FILES, MAX_KEYS, MAX_ROLES, most, within};
use super::{InterchangeError, Result};
use crate::reference::Gun;
use crate::trustserver::storage::{Event, File};
use crate::tuf::hosted::{self, Holding};
use crate::tuf::{Limits, PrivateKey, Role};

/// A repository with all its past, on its way from one server to another.
#[derive(Debug)]
pub struct Parcel {
    /// Its name.
    pub gun: Gun,
    /// Every version of every role.
    pub files: Vec<(Role, File)>,
    /// Which of them are current.
    pub current: BTreeMap<Role, u64>,
    /// The highest version that was ever used of every role.
    pub used: BTreeMap<Role, u64>,
    /// What the changefeed tells of it, the oldest first.
    pub changes: Vec<(Timestamp, Event)>,
    /// The server's keys of it.
    pub keys: Vec<ParcelKey>,
}

/// A key that a server holds for a repository, in clear.
pub struct ParcelKey {
    /// The key.
    pub key: PrivateKey,
    /// `snapshot` or `timestamp`.
    pub role: Role,
    /// Whether anything that was stored relies on it.
    pub used: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl fmt::Debug for ParcelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParcelKey")
            .field("id", &self.key.id())
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Parcel {
    /// Whether the parts fit together, and into the limits. What the files say is looked at no further than that.
    pub(super) fn is_sound(&self) -> Result<()> {
        within("files", self.files.len(), MAX_FILES)?;
        within("keys", self.keys.len(), MAX_KEYS)?;
        within("entries of the changefeed", self.changes.len(), MAX_CHANGES)?;
        within("roles", self.used.len(), MAX_ROLES)?;
        for key in &self.keys {
            if !matches!(key.role, Role::Snapshot | Role::Timestamp) {
                let id = key.key.id();
                return Err(InterchangeError::KeyRole { id });
            }
        }
        let mut versions = BTreeSet::new();
        let mut total: u64 = 0;
        for (role, file) in &self.files {
            let length = u64::try_from(file.bytes.len()).unwrap_or(u64::MAX);
            total = total.saturating_add(length);
            most("bytes of one file", length, Limits::default().targets_bytes)?;
            most("bytes of files", total, MAX_BYTES)?;
            let new = file.version > 0 && versions.insert((role.clone(), file.version));
            let used = self.used.get(role).is_some_and(|used| *used >= file.version);
            if !new || !used || !is_version_of(&file.bytes, role, file.version) {
                return Err(self.odd(role, file.version));
            }
        }
        for (role, version) in &self.current {
            let there = versions.contains(&(role.clone(), *version));
            let used = self.used.get(role).is_some_and(|used| used >= version);
            if !there || !used {
                return Err(self.odd(role, *version));
            }
        }
        let highest = self.used.values().max().copied().unwrap_or_default();
        most("a version", highest, MAX_VERSION)
    }

    /// Whether clients can walk the roots, which they ask for by version: each signed as the one before it wants it, up
    /// to the current one and no further.
    pub(super) fn walk(&self, now: Timestamp) -> Result<()> {
        let roots: BTreeMap<_, _> = self.roots().map(|file| (file.version, &file.bytes)).collect();
        let ahead = roots.keys().next_back().copied();
        if let Some(version) = ahead.filter(|highest| self.current.get(&Role::Root) != Some(highest)) {
            return Err(InterchangeError::Ahead {
                gun: self.gun.clone(),
                version,
            });
        }
        let roots: Vec<_> = roots.into_values().cloned().collect();
        hosted::walk_roots(&self.gun, &roots, now, &Limits::default()).map_err(|source| {
            InterchangeError::Chain {
                gun: self.gun.clone(),
                source: Box::new(source),
            }
        })
    }

    pub(super) fn roots(&self) -> impl Iterator<Item = &File> {
        let roots = self.files.iter().filter(|(role, _)| *role == Role::Root);
        roots.map(|(_, file)| file)
    }

    fn odd(&self, role: &Role, version: u64) -> InterchangeError {
        InterchangeError::File {
            gun: self.gun.clone(),
            role: role.clone(),
            version,
        }
    }

    /// What is current.
    pub(super) fn holding(&self) -> Holding {
        let current = self.current_files();
        Holding {
            files: current
                .map(|(role, file)| (role.clone(), file.bytes.clone()))
                .collect(),
            used: self.used.clone(),
        }
    }

    pub(super) fn current_files(&self) -> impl Iterator<Item = &(Role, File)> {
        self.files
            .iter()
            .filter(|(role, file)| self.is_current(role, file))
    }

    pub(super) fn is_current(&self, role: &Role, file: &File) -> bool {
        self.current.get(role) == Some(&file.version)
    }
}

/// Highest version: half of the largest integer that every JSON parser reads alike (§3.3), so that there are versions
/// left for what is signed here.
pub(super) const MAX_VERSION: u64 = 1 << 52;
