//! What a trust server accepts and signs (notary-v1 §8.2, §8.4, §8.6), without I/O.
//!
//! ```text
//! what is stored + an upload + the server's keys + one clock reading ─ accept ─▶ what to store, all of it | Rejection
//! ```
//!
//! Nothing is stored that does not verify as a whole, by the rules of the verifier next door, and nothing is signed for
//! a repository whose stored state does not. Versions only rise, so no two files ever have the same role and version.
//!
//! What the reference's server lets pass, and what stops it here:
//!
//! | defect | stopped by |
//! | --- | --- |
//! | files that it hashes otherwise than they are (T47), ambiguous JSON (T15, T24, T25) | `exact` |
//! | a new root under which `targets` does not verify any more | `Upload::targets` |
//! | a root whose timestamp key, or threshold, the server cannot meet | `Hands::require`, before anything else |
//! | an expired root certificate that bars its own replacement (T27) | `Whole::stored`: dates of what is stored do not count |
//! | gaps in versions, fast-forward (T6) | `Upload::follows` |
//! | a publisher's snapshot that omits or misstates files that are not in the upload (T8) | `whole::linked` |
//! | entries of former delegations that stay in the snapshot for ever | `Desk::snapshot` |
//! | files of a former delegation that come back with its name (T49) | `Upload::candidates` |
//! | an empty upload, or one with a timestamp, that succeeds | `Upload::accept` |
//! | renewal only after expiry, and only if asked for | [`Accepted::renew_at`], [`renew`] |
//! | sizes and counts without end (T10) | `whole::within`, `whole::size` |
//!
//! One thing that does not verify is kept: a delegation's file whose signers the delegation has lost. Publishers leave
//! it behind when they remove a signer and cannot sign for the role themselves (§7.8). Readers who need the role refuse
//! it, as they must; without its entry readers who have seen it before would refuse the whole repository (§5.7 step
//! 9), and publishers could not repair it. It can only come about by an upload that somebody signed who may decide on
//! the delegation.

mod exact;
mod rejection;
mod server;
mod upload;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

pub use rejection::Rejection;
pub(crate) use server::ASTRAY;

use self::rejection::Why;
use self::server::{Desk, Hands};
use self::upload::Upload;
use self::whole::{Stated, Whole};
use super::edit::SignedFile;
use super::edit::document::{Document as _, RootDocument};
use super::metadata::Root;
use super::root::{Chain, RootRules};
use super::{Error, KeyId, Limits, Pin, PrivateKey, Role};
use crate::reference::Gun;

/// A repository as the server has it. Empty before the first publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The current file of every role.
    pub files: BTreeMap<Role, Bytes>,
    /// The highest version that was ever stored of every role. Of an earlier life of the repository, only those of
    /// snapshot and timestamp: publishers begin the others anew and could not know (§8.6.8).
    pub used: BTreeMap<Role, u64>,
}

/// The keys that the server holds for a repository, by id.
pub type HeldKeys = BTreeMap<KeyId, Arc<PrivateKey>>;

/// How long what the server signs is good, and from when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The present.
    pub now: Timestamp,
    /// Of snapshots.
    pub snapshot: Duration,
    /// Of timestamps.
    pub timestamp: Duration,
}

/// What is to be stored, all of it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// New files, uploaded and signed here, in the order in which they depend on each other.
    pub files: Vec<SignedFile>,
    /// Roles that are no part of the repository any more.
    pub dropped: BTreeSet<Role>,
    /// Keys of the server that the new state relies on.
    pub keys_used: BTreeSet<KeyId>,
    /// When the server should sign again; `None` if nothing can be signed any more, such as under a root that expires
    /// before that.
    pub renew_at: Option<Timestamp>,
}

/// A whole stored state that verifies, and what will become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Until when each file is good. Those that have expired are among them.
    pub expires: BTreeMap<Role, Timestamp>,
    /// The roles whose file has expired.
    pub expired: BTreeSet<Role>,
    /// Until when root's certificates are good: the last of them to expire, for one of them keeps root in force.
    pub certificate_expires: Option<Timestamp>,
    /// TUF ids of the snapshot keys that root lists.
    pub snapshot_keys: Vec<KeyId>,
    /// How many of them must sign.
    pub snapshot_threshold: u64,
    /// TUF ids of the timestamp keys that root lists.
    pub timestamp_keys: Vec<KeyId>,
    /// How many of them must sign.
    pub timestamp_threshold: u64,
    /// Delegations that are published and whose file lost its signatures when the delegation was changed: somebody
    /// who may sign has to publish them anew.
    pub unsound: BTreeSet<Role>,
}

/// Judges an upload: what it, and what the server signs for it, changes.
///
/// # Errors
///
/// [`Rejection`], the first mistake in the reference's order of checks. Nothing is to be stored then.
pub fn accept(
    gun: &Gun,
    holding: &Holding,
    upload: &BTreeMap<Role, Bytes>,
    keys: &HeldKeys,
    terms: &Terms,
    limits: &Limits,
) -> Result<Accepted, Rejection> {
    let pin = Pin::first_use();
    let rules = rules(gun, &pin, terms.now);
    let upload = Upload {
        files: upload,
        holding,
        keys,
        terms,
        limits,
        rules,
    };
    upload.accept()
}

/// Signs timestamp and snapshot again, as far as the server holds their keys and two thirds of their life have passed;
/// `None` if nothing is due. A snapshot that is made anew loses its entries of former delegations.
///
/// # Errors
///
/// [`Rejection`] if what is stored is damaged, its root has expired, or the server has not the keys.
pub fn renew(
    gun: &Gun,
    holding: &Holding,
    keys: &HeldKeys,
    terms: &Terms,
    limits: &Limits,
) -> Result<Option<Accepted>, Rejection> {
    let pin = Pin::first_use();
    let rules = rules(gun, &pin, terms.now);
    let Some(file) = holding.files.get(&Role::Root) else {
        return Err(Rejection::invalid(Why::NoRoot));
    };
    let hands = Hands::of(&Root::parse(file).map_err(Rejection::damaged)?, keys);
    let desk = Desk {
        holding,
        hands: &hands,
        terms,
    };
    let mut due = desk.due(&holding.files).map_err(Rejection::damaged)?;
    due.retain(|_, at| *at <= terms.now);
    if due.is_empty() {
        return Ok(None);
    }
    let Whole { chain, tree } = Whole::stored(holding, rules, limits)?;
    hands.require(false)?;
    chain
        .in_force(rules)
        .map_err(|error| Rejection::file(&Role::Root, error))?;
    let mut files = holding.files.clone();
    files.retain(|role, _| !tree.strays.contains(role));
    let mut signed = Vec::new();
    if due.contains_key(&Role::Snapshot) {
        signed.push(desk.snapshot(&files, &tree)?);
    }
    let snapshot = signed.last().map(|file| &file.bytes);
    let snapshot = snapshot.or_else(|| holding.files.get(&Role::Snapshot));
    let snapshot = snapshot.ok_or_else(|| {
        let role = Role::Snapshot;
        Rejection::damaged(Error::Missing { role })
    })?;
    signed.push(desk.timestamp(snapshot)?);
    files.extend(signed.iter().map(|file| (file.role.clone(), file.bytes.clone())));
    whole::closed(&files, chain.newest(), &tree, limits).map_err(Rejection::damaged)?;
    Ok(Some(Accepted {
        files: signed,
        dropped: tree.strays,
        keys_used: hands.ids(),
        renew_at: desk.renew_at(&files, &chain, rules),
    }))
}

/// Holds a whole stored state to the rules of a verifier. What has expired is told, and is no fault: it was good when
/// it was stored.
///
/// # Errors
///
/// [`Rejection`] if some file is missing, or not what it was when it was stored.
pub fn examine(gun: &Gun, holding: &Holding, now: Timestamp, limits: &Limits) -> Result<Examined, Rejection> {
    let pin = Pin::first_use();
    if holding.files.is_empty() {
        return Err(Rejection::invalid(Why::NoRoot));
    }
    let whole = Whole::stored(holding, rules(gun, &pin, now), limits)?;
    let mut expires = BTreeMap::new();
    for (role, file) in &holding.files {
        let stated = Stated::of(role, file).map_err(Rejection::damaged)?;
        expires.insert(role.clone(), stated.expires);
    }
    let root = whole.chain.newest();
    let certificates = root.root.keys.iter();
    let certificates = certificates.filter_map(|key| Some(key.bundle()?.leaf().not_after()));
    let unsound = whole.tree.roles().into_iter();
    let unsound = unsound.filter(|role| whole.tree.defect(role).is_some());
    let listed = |role| listed_keys(holding, &role).unwrap_or_default();
    Ok(Examined {
        expired: expires
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(role, _)| role.clone())
            .collect(),
        expires,
        certificate_expires: certificates.max(),
        snapshot_keys: listed(Role::Snapshot),
        snapshot_threshold: root.snapshot.threshold,
        timestamp_keys: listed(Role::Timestamp),
        timestamp_threshold: root.timestamp.threshold,
        unsound: unsound.cloned().collect(),
    })
}

/// When timestamp or snapshot are to be signed again, as far as the server holds their keys; `None` if what is stored
/// does not say.
pub fn due_at(holding: &Holding, keys: &HeldKeys, terms: &Terms) -> Option<Timestamp> {
    let root = Root::parse(holding.files.get(&Role::Root)?).ok()?;
    let hands = Hands::of(&root, keys);
    let desk = Desk {
        holding,
        hands: &hands,
        terms,
    };
    desk.due(&holding.files).ok()?.into_values().min()
}

/// Holds roots of a repository, the oldest first, to the rule by which clients walk them: each meets the threshold of
/// the one before it, and its own (§4.5).
///
/// # Errors
///
/// [`Rejection`] of the first root that does not follow from the one before it.
pub fn walk_roots(gun: &Gun, roots: &[Bytes], now: Timestamp, limits: &Limits) -> Result<(), Rejection> {
    for root in roots {
        whole::size(&Role::Root, root, limits).map_err(Rejection::damaged)?;
    }
    let pin = Pin::first_use();
    let chain = Chain::restored(roots, rules(gun, &pin, now));
    chain.map(drop).map_err(Rejection::damaged)
}

/// TUF ids of the keys that the current root lists for a base role, in its order; `None` if there is no root.
pub fn listed_keys(holding: &Holding, role: &Role) -> Option<Vec<KeyId>> {
    let root = RootDocument::read(&Role::Root, holding.files.get(&Role::Root)?).ok()?;
    Some(
        root.signers_of(role)
            .map_or_else(Vec::new, |signers| signers.keyids.clone()),
    )
}

/// What roots are held to here: the repository's name, not who they are. Whoever made a repository is its owner.
const fn rules<'a>(gun: &'a Gun, pin: &'a Pin, now: Timestamp) -> RootRules<'a> {
    RootRules { gun, pin, now }
}

#[cfg(test)]
mod tests;
