//! One repository of a dump, as the reference would serve it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::SecretString;
use serde::Deserialize;

use super::DumpError;
use super::jwe::{self, JweError};
use super::staging::Staging;
use crate::reference::Gun;
use crate::trustserver::interchange::{
    InterchangeError, MAX_BYTES, MAX_CHANGES, MAX_FILES, Parcel, ParcelKey,
};
use crate::trustserver::storage::File;
use crate::tuf::hosted::{Holding, listed_keys};
use crate::tuf::{KeyId, PrivateKey, PrivateKeyError, Role};

/// A repository, and what could not be taken along.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) parcel: Parcel,
    /// How many old versions were too much.
    pub(super) left_behind: usize,
    pub(super) faults: Vec<KeyFault>,
}

/// Why a repository of a dump was not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// Its name is not one.
    #[error("not the name of a repository")]
    Name,
    /// The newest timestamp leads to a file that the dump has not, or cannot be read.
    #[error("its {role} is missing, or is not the file that the one above it names")]
    Incomplete {
        /// The role.
        role: Role,
    },
    /// The import refused it.
    #[error(transparent)]
    Refused(#[from] InterchangeError),
}

/// A key that root lists for the server, and that was not taken over.
#[derive(Debug)]
pub struct KeyFault {
    /// The key.
    pub id: KeyId,
    /// What it is for.
    pub role: Role,
    /// Why.
    pub why: WhyNoKey,
}

/// Why a key was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhyNoKey {
    /// The dump has it not. A snapshot key may be the publisher's own.
    #[error("not in the signer's dump")]
    Absent,
    /// Nobody gave the passphrase.
    #[error("there is no passphrase for its alias")]
    Locked,
    /// It does not open.
    #[error(transparent)]
    Jwe(#[from] JweError),
    /// What is inside is none.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// Another key is inside.
    #[error("what is kept under its id is another key")]
    Id,
}

/// Only what leads on to other files. Whether any of it is true is looked at later.
#[derive(Deserialize)]
struct Above {
    signed: Meta,
}

#[derive(Deserialize)]
struct Meta {
    meta: BTreeMap<String, Hashes>,
}

#[derive(Deserialize)]
struct Hashes {
    hashes: BTreeMap<String, String>,
}

type Named = BTreeMap<String, [u8; 32]>;

/// Puts together what the dump has of `name`.
pub(super) fn assemble(
    staging: &Staging,
    name: &str,
    passphrases: &BTreeMap<String, SecretString>,
) -> Result<Result<Assembled, Unusable>, DumpError> {
    let Some(gun) = name.parse().ok().filter(|gun: &Gun| gun.as_str() == name) else {
        return Ok(Err(Unusable::Name));
    };
    let state = match state(staging, name)? {
        Ok(state) => state,
        Err(role) => return Ok(Err(Unusable::Incomplete { role })),
    };
    let current: BTreeMap<_, _> = state
        .iter()
        .map(|(role, file)| (role.clone(), file.version))
        .collect();
    let (files, used, left_behind) = history(staging, name, &current)?;
    let (keys, faults) = keys(staging, &state, passphrases)?;
    let parcel = Parcel {
        changes: staging.changes(name, MAX_CHANGES)?,
        gun,
        files,
        current,
        used,
        keys,
    };
    Ok(Ok(Assembled {
        parcel,
        left_behind,
        faults,
    }))
}

/// The current file of every role, or the role whose file is not to be had.
fn state(staging: &Staging, gun: &str) -> Result<Result<BTreeMap<Role, File>, Role>, DumpError> {
    let Some(timestamp) = staging.newest(gun, &Role::Timestamp)? else {
        return Ok(Err(Role::Timestamp));
    };
    let Some(hash) = named(&timestamp.bytes).and_then(|named| named.get("snapshot").copied()) else {
        return Ok(Err(Role::Timestamp));
    };
    let Some(snapshot) = staging.hashed(gun, &Role::Snapshot, &hash)? else {
        return Ok(Err(Role::Snapshot));
    };
    let Some(named) = named(&snapshot.bytes) else {
        return Ok(Err(Role::Snapshot));
    };
    let mut files = BTreeMap::from([(Role::Timestamp, timestamp), (Role::Snapshot, snapshot)]);
    for (name, hash) in named {
        // The reference never takes entries away: one that leads nowhere may be of a delegation that is no more. If it
        // is of one that is, the state does not verify.
        let Ok(role) = name.parse::<Role>() else { continue };
        match staging.hashed(gun, &role, &hash)? {
            Some(file) => drop(files.insert(role, file)),
            None if matches!(role, Role::Delegation(_)) => {}
            None => return Ok(Err(role)),
        }
    }
    for role in [Role::Root, Role::Targets] {
        if !files.contains_key(&role) {
            return Ok(Err(role));
        }
    }
    Ok(Ok(files))
}

/// The SHA-256 of every file that a timestamp or snapshot names.
fn named(file: &[u8]) -> Option<Named> {
    let above: Above = serde_json::from_slice(file).ok()?;
    let entries = above.signed.meta.into_iter();
    let read = entries.map(|(name, meta)| {
        let hash = BASE64_STANDARD.decode(meta.hashes.get("sha256")?).ok()?;
        Some((name, hash.try_into().ok()?))
    });
    read.collect()
}

type History = (Vec<(Role, File)>, BTreeMap<Role, u64>, usize);

/// Every version of every role; of a repository that has too much, what is current, the roots, without which nobody
/// gets from an old root to the new one, and the newest of the rest.
fn history(staging: &Staging, gun: &str, current: &BTreeMap<Role, u64>) -> Result<History, DumpError> {
    let mut versions = staging.versions(gun)?;
    let mut used = BTreeMap::new();
    for listed in &versions {
        let highest: &mut u64 = used.entry(listed.role.clone()).or_default();
        *highest = (*highest).max(listed.version);
    }
    for (role, version) in staging.lost(gun)? {
        let highest = used.entry(role).or_default();
        *highest = (*highest).max(version);
    }
    let needed = |role: &Role, version: u64| *role == Role::Root || current.get(role) == Some(&version);
    versions.sort_by_key(|listed| !needed(&listed.role, listed.version));
    let (mut bytes, mut kept): (u64, BTreeSet<(Role, u64)>) = (0, BTreeSet::new());
    let mut left_behind = 0;
    for listed in versions {
        let sum = bytes.saturating_add(listed.length);
        if sum > MAX_BYTES || kept.len() >= MAX_FILES {
            left_behind += 1;
        } else {
            bytes = sum;
            kept.insert((listed.role, listed.version));
        }
    }
    let mut files = Vec::with_capacity(kept.len());
    for (role, version) in kept {
        if let Some(file) = staging.file_at(gun, &role, version)? {
            files.push((role, file));
        }
    }
    Ok((files, used, left_behind))
}

/// Most keys of a role that are looked for, as opening one takes a while. The reference lists one, and another one
/// while it is rotated.
const MAX_LISTED: usize = 16;

type Keys = (Vec<ParcelKey>, Vec<KeyFault>);

/// The keys that root lists for the server's two roles. They are found by their ids: the signer did not always write
/// down of which repository a key was.
fn keys(
    staging: &Staging,
    state: &BTreeMap<Role, File>,
    passphrases: &BTreeMap<String, SecretString>,
) -> Result<Keys, DumpError> {
    let files = state
        .iter()
        .map(|(role, file)| (role.clone(), file.bytes.clone()));
    let holding = Holding {
        files: files.collect(),
        used: BTreeMap::new(),
    };
    let (mut keys, mut faults) = Keys::default();
    for role in [Role::Snapshot, Role::Timestamp] {
        let listed = listed_keys(&holding, &role).unwrap_or_default();
        for id in listed.into_iter().take(MAX_LISTED) {
            match key(staging, id, &role, passphrases)? {
                Ok(key) => keys.push(key),
                Err(why) => faults.push(KeyFault {
                    id,
                    role: role.clone(),
                    why,
                }),
            }
        }
    }
    Ok((keys, faults))
}

fn key(
    staging: &Staging,
    id: KeyId,
    role: &Role,
    passphrases: &BTreeMap<String, SecretString>,
) -> Result<Result<ParcelKey, WhyNoKey>, DumpError> {
    let Some(kept) = staging.kept_key(&id.to_string())? else {
        return Ok(Err(WhyNoKey::Absent));
    };
    let Some(passphrase) = passphrases.get(&kept.alias) else {
        return Ok(Err(WhyNoKey::Locked));
    };
    let opened = jwe::open(&kept.secret, passphrase).map_err(WhyNoKey::from);
    let opened = opened.and_then(|plain| Ok(PrivateKey::decode_plain(&kept.algorithm, &plain)?));
    Ok(opened.and_then(|key| {
        if key.id() != id {
            return Err(WhyNoKey::Id);
        }
        Ok(ParcelKey {
            key,
            role: role.clone(),
            used: true,
            created_at: kept.created_at,
        })
    }))
}
