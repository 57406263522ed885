//! Whole repositories in and out: archives of our own, and dumps of the reference server's databases.
//!
//! ```text
//! storage ─ export ─▶ Parcel ─ archive::write ─▶ file ─ Archive::read ─▶ Parcel ─ import ─▶ storage
//!                                      dump of the reference ─ notary ─▶ Parcel ─┘
//! ```
//!
//! A parcel proves nothing. Whatever way it came, [`import`] stores it only if its current files are a state of its
//! repository that verifies, and never takes a repository back to older versions without being told to.
//!
//! | attack | stopped by |
//! | --- | --- |
//! | another repository's files, or an owner of its own making | `examine`; over a repository that is there, `severed` |
//! | roots that no client can walk, or that lead elsewhere than to the current one | `Parcel::walk` |
//! | a key that its maker knows, to be given out for the next root | `seal`: none that comes along is given out anew |
//! | a version after which there is none left to sign with | `MAX_VERSION` |
//! | a time of storing that puts the next signature off for ever | `renew_at` |
//! | lists, files and lengths without end | `manifest`, `tar`, `Parcel::is_sound` |

pub mod archive;
pub mod dump;

mod error;
mod manifest;
mod parcel;
mod sealing;
mod tar;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

pub use self::archive::Archive;
pub use self::error::InterchangeError;
use self::manifest::{MAX_BYTES, MAX_CHANGES, MAX_FILES, most, within};
use self::parcel::MAX_VERSION;
pub use self::parcel::{Parcel, ParcelKey};
use self::sealing::{seal, unseal};
use super::seal::Sealer;
use super::storage::{Committed, Event, Page, Repository, SealedKey, Storage, Whole};
use crate::reference::Gun;
use crate::tuf::hosted::{Examined, examine};
use crate::tuf::{KeyId, Limits, Role};

type Result<T> = std::result::Result<T, InterchangeError>;

/// How often a repository that is being written to is read again before that is given up.
const ATTEMPTS: usize = 5;
/// Entries of the changefeed that are read at once.
const PAGE: usize = 1000;

/// What an import may write over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// Nothing: the repository must not be there.
    #[default]
    Nothing,
    /// A repository that is there, if no role goes back to an older version by it, or to another file of the same, and
    /// the roots that are there are among the new ones.
    Older,
    /// Whatever is there: clients that saw newer versions will refuse what they see then.
    Anything,
}

/// A role that an import took back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// The role.
    pub role: Role,
    /// Its version in the import.
    pub offered: u64,
    /// The version that clients may have seen.
    pub used: u64,
}

/// A repository that was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Its name.
    pub gun: Gun,
    /// The version of each role that is current now.
    pub current: BTreeMap<Role, u64>,
    /// How many versions there are of all roles together.
    pub files: usize,
    /// Which of the keys that root wants of a server are held now.
    pub held: BTreeMap<Role, KeyId>,
    /// Until when the timestamp is good: as long as the repository is served if the server cannot sign a new one.
    pub served_until: Option<Timestamp>,
    /// What went back to older versions.
    pub rollbacks: Vec<Rollback>,
    /// The first root that was there and is no more: clients that trust it cannot get to the new ones.
    pub severed: Option<u64>,
    /// Roles that have expired.
    pub expired: BTreeSet<Role>,
}

impl Imported {
    /// Whether the server can go on signing timestamps. If not, nobody can publish, and the repository is served until
    /// [`Self::served_until`].
    pub fn is_signed_here(&self) -> bool {
        self.held.contains_key(&Role::Timestamp)
    }
}

/// Takes a whole repository out of `storage`, as it is at one instant.
///
/// # Errors
///
/// [`InterchangeError`] if there is none, it is too large, it is written to all the time, or something stored cannot
/// be read.
pub async fn export<S: Storage>(storage: &S, sealer: &Sealer, gun: &Gun) -> Result<Parcel> {
    for _ in 0..ATTEMPTS {
        let before = present(storage, gun).await?;
        let parcel = collect(storage, sealer, gun, &before).await?;
        if storage.repository(gun).await?.map(|now| now.generation) == Some(before.generation) {
            return Ok(parcel);
        }
    }
    Err(InterchangeError::Busy { gun: gun.clone() })
}

async fn present<S: Storage>(storage: &S, gun: &Gun) -> Result<Repository> {
    let repository = storage.repository(gun).await?;
    repository.ok_or_else(|| InterchangeError::Absent { gun: gun.clone() })
}

async fn collect<S: Storage>(storage: &S, sealer: &Sealer, gun: &Gun, now: &Repository) -> Result<Parcel> {
    let versions = storage.versions(gun).await?;
    within("files", versions.len(), MAX_FILES)?;
    let mut files = Vec::with_capacity(versions.len());
    let mut total: u64 = 0;
    for (role, version) in versions {
        // One that is gone again was deleted with the repository: the generation will say so.
        let Some(file) = storage.by_version(gun, &role, version).await? else {
            continue;
        };
        total = total.saturating_add(u64::try_from(file.bytes.len()).unwrap_or(u64::MAX));
        most("bytes of files", total, MAX_BYTES)?;
        files.push((role, file));
    }
    let mut keys = Vec::new();
    for key in storage.keys(gun).await? {
        keys.push(unseal(sealer, gun, key)?);
    }
    let current = now.files.iter().map(|(role, file)| (role.clone(), file.version));
    Ok(Parcel {
        gun: gun.clone(),
        files,
        current: current.collect(),
        used: now.used.clone(),
        changes: changes(storage, gun).await?,
        keys,
    })
}

async fn changes<S: Storage>(storage: &S, gun: &Gun) -> Result<Vec<(Timestamp, Event)>> {
    let mut changes = Vec::new();
    let mut after = 0;
    loop {
        let page = storage.changes(Some(gun), Page::After(after, PAGE)).await?;
        let Some(last) = page.last() else {
            return Ok(changes);
        };
        after = last.id;
        changes.extend(page.into_iter().map(|record| (record.created_at, record.event)));
        within("entries of the changefeed", changes.len(), MAX_CHANGES)?;
    }
}

/// Stores a repository, if it verifies and `over` lets it. As far as the server holds the keys, it signs it anew in
/// time; what went back at once, under versions that nobody has seen.
///
/// # Errors
///
/// [`InterchangeError`] says why nothing was stored.
pub async fn import<S: Storage>(
    storage: &S,
    sealer: &Sealer,
    parcel: &Parcel,
    over: Over,
    now: Timestamp,
) -> Result<Imported> {
    parcel.is_sound()?;
    let examined = examine(&parcel.gun, &parcel.holding(), now, &Limits::default()).map_err(|source| {
        InterchangeError::Unverified {
            gun: parcel.gun.clone(),
            source: Box::new(source),
        }
    })?;
    parcel.walk(now)?;
    let present = storage.repository(&parcel.gun).await?;
    let (generation, used) = match &present {
        Some(_) if over == Over::Nothing => {
            return Err(InterchangeError::Exists {
                gun: parcel.gun.clone(),
            });
        }
        Some(repository) => (repository.generation, repository.used.clone()),
        None => storage.vacancy(&parcel.gun).await?,
    };
    let rollbacks = rollbacks(parcel, present.as_ref(), &used);
    if let Some(rollback) = rollbacks.first().filter(|_| over != Over::Anything) {
        return Err(InterchangeError::Rollback {
            gun: parcel.gun.clone(),
            rollback: rollback.clone(),
        });
    }
    let severed = match present {
        Some(_) => severed(storage, parcel).await?,
        None => None,
    };
    if let Some(version) = severed.filter(|_| over != Over::Anything) {
        return Err(InterchangeError::Severed {
            gun: parcel.gun.clone(),
            version,
        });
    }
    let held = storage.keys(&parcel.gun).await?;
    let keys = wanted(parcel, &held, &examined);
    let known = !storage
        .changes(Some(&parcel.gun), Page::Newest(1))
        .await?
        .is_empty();
    let whole = Whole {
        files: parcel.files.clone(),
        current: parcel.current.clone(),
        used: parcel.used.clone(),
        renew_at: renew_at(parcel, &examined, &used, now).filter(|_| keys.contains_key(&Role::Timestamp)),
        keys: seal(sealer, parcel)?,
        changes: announced(parcel, known, now),
    };
    match storage.restore(&parcel.gun, generation, whole).await? {
        Committed::Stored => Ok(Imported {
            rollbacks,
            severed,
            ..report(parcel, &examined, keys)
        }),
        Committed::Conflict => Err(InterchangeError::Busy {
            gun: parcel.gun.clone(),
        }),
    }
}

/// Roles that would go back to a version that is not above what was used, unless it is the very file that is there.
fn rollbacks(parcel: &Parcel, present: Option<&Repository>, used: &BTreeMap<Role, u64>) -> Vec<Rollback> {
    let mut rollbacks = Vec::new();
    for (role, file) in parcel.current_files() {
        let Some(used) = used.get(role).copied() else {
            continue;
        };
        let same = present
            .and_then(|repository| repository.files.get(role))
            .is_some_and(|stored| stored.version == file.version && stored.sha256 == file.sha256);
        // Of a repository that was deleted nobody knows which file the version was.
        let above = file.version > used || (file.version == used && present.is_none());
        if !same && !above {
            rollbacks.push(Rollback {
                role: role.clone(),
                offered: file.version,
                used,
            });
        }
    }
    rollbacks
}

/// The first root that is there and not in the parcel as it is. Whoever trusts it could not get to what is imported,
/// which may be anybody's: a repository of that name is quickly made.
async fn severed<S: Storage>(storage: &S, parcel: &Parcel) -> Result<Option<u64>> {
    let offered: BTreeMap<_, _> = parcel.roots().map(|file| (file.version, file.sha256)).collect();
    for (role, version) in storage.versions(&parcel.gun).await? {
        if role != Role::Root {
            continue;
        }
        let stored = storage.by_version(&parcel.gun, &role, version).await?;
        if stored.is_some_and(|file| offered.get(&version) != Some(&file.sha256)) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// Which of the keys that root wants of a server are held after the import, if they are as many as root wants.
fn wanted(parcel: &Parcel, held: &[SealedKey], examined: &Examined) -> BTreeMap<Role, KeyId> {
    let brought = parcel.keys.iter().map(|key| key.key.id());
    let ids: BTreeSet<_> = brought.chain(held.iter().map(|key| key.id)).collect();
    let roles = [
        (
            Role::Snapshot,
            &examined.snapshot_keys,
            examined.snapshot_threshold,
        ),
        (
            Role::Timestamp,
            &examined.timestamp_keys,
            examined.timestamp_threshold,
        ),
    ];
    let mut wanted = BTreeMap::new();
    for (role, listed, threshold) in roles {
        let held: BTreeSet<_> = listed.iter().filter(|id| ids.contains(id)).collect();
        let enough = u64::try_from(held.len()).is_ok_and(|held| held >= threshold);
        if let Some(first) = listed.iter().find(|id| enough && ids.contains(id)) {
            wanted.insert(role, *first);
        }
    }
    wanted
}

/// When the server has to sign again: after two thirds of the life of its timestamp or snapshot, as it does with those
/// that it made itself (§8.6.5); at once if either went back, as clients that saw the newer one wait for one above it.
///
/// Else nothing is signed at once, though it could be: the server that the repository came from may still run, and
/// clients that see two files of one version take that for an attack.
fn renew_at(
    parcel: &Parcel,
    examined: &Examined,
    used: &BTreeMap<Role, u64>,
    now: Timestamp,
) -> Option<Timestamp> {
    let highest = |role: &Role| used.get(role).max(parcel.used.get(role)).copied();
    let signed = parcel
        .current_files()
        .filter(|(role, _)| matches!(role, Role::Snapshot | Role::Timestamp));
    signed
        .filter_map(|(role, file)| {
            if highest(role).is_some_and(|highest| highest > file.version) {
                return Some(now);
            }
            // A time that is still to come is made up: what it puts off might never be done.
            let since = file.stored_at.min(now);
            let life = examined.expires.get(role)?.duration_since(since);
            since.checked_add(life.checked_mul(2)?.checked_div(3)?).ok()
        })
        .map(|at| at.max(now))
        .min()
}

fn report(parcel: &Parcel, examined: &Examined, held: BTreeMap<Role, KeyId>) -> Imported {
    Imported {
        gun: parcel.gun.clone(),
        current: parcel.current.clone(),
        files: parcel.files.len(),
        held,
        served_until: examined.expires.get(&Role::Timestamp).copied(),
        rollbacks: Vec::new(),
        severed: None,
        expired: examined.expired.clone(),
    }
}

/// What is added to the changefeed. Its past only if nothing is known of the repository here, since nobody wants to
/// hear everything twice; what is current in any case, so that who follows the changefeed hears of the import.
fn announced(parcel: &Parcel, known: bool, now: Timestamp) -> Vec<(Timestamp, Event)> {
    let mut changes = if known { Vec::new() } else { parcel.changes.clone() };
    let timestamp = parcel.current_files().find(|(role, _)| *role == Role::Timestamp);
    let current = timestamp.map(|(_, file)| Event::Update {
        version: file.version,
        sha256: file.sha256,
    });
    if let Some(current) = current.filter(|current| changes.last().map(|(_, last)| last) != Some(current)) {
        changes.push((now, current));
    }
    changes
}

#[cfg(test)]
mod tests;
