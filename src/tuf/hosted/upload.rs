//! An upload, held against the state it is to change (notary-v1 §8.2, §8.6.2).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::edit::{MAX_VERSION, SignedFile};
use super::super::envelope::{Envelope, RoleKeys};
use super::super::key::PublicKey;
use super::super::metadata::{Root, Snapshot};
use super::super::root::{Chain, Gap, RootRules};
use super::super::{Error, KeyId, Limits, Role};
use super::exact::exact;
use super::rejection::{Kind, Rejection, Why};
use super::server::{Desk, Hands};
use super::whole::{Fault, Files, Link, Stated, Tree, Whole, by_depth, closed, linked, size, within};
use super::{Accepted, HeldKeys, Holding, Terms};

/// Highest version that a role may begin with: what is left to come must not be used up by one upload, since versions
/// of the snapshot are not forgotten when a repository is deleted (T6). Real ones begin with 1 or 2, or where another
/// server ended.
const MOST_AT_FIRST: u64 = 1 << 32;
/// Versions a first root may have: the reference's client counts what it kept in its cache (§7.8).
const FIRST_ROOTS: [u64; 2] = [1, 2];

/// One upload being judged.
pub(super) struct Upload<'a> {
    pub(super) files: &'a BTreeMap<Role, Bytes>,
    pub(super) holding: &'a Holding,
    pub(super) keys: &'a HeldKeys,
    pub(super) terms: &'a Terms,
    pub(super) limits: &'a Limits,
    pub(super) rules: RootRules<'a>,
}

impl Upload<'_> {
    /// The reference's steps in the reference's order, so that a client hears of the same mistake first.
    pub(super) fn accept(&self) -> Result<Accepted, Rejection> {
        if self.files.is_empty() {
            return Err(Rejection::invalid(Why::Empty));
        }
        if self.files.contains_key(&Role::Timestamp) {
            return Err(Rejection::invalid(Why::Timestamp));
        }
        let (chain, before) = if self.holding.files.is_empty() {
            (None, None)
        } else {
            let Whole { chain, tree } = Whole::stored(self.holding, self.rules, self.limits)?;
            (Some(chain), Some(tree))
        };
        let (chain, hands) = self.root(chain)?;
        let root = chain.newest();
        let mut files = self.candidates(before.as_ref());
        let tree = self.targets(&files, root)?;
        files.retain(|role, _| matches!(role, Role::Root | Role::Snapshot) || tree.contains(role));
        let mut signed = self.uploaded(&chain, &tree)?;
        let desk = Desk {
            holding: self.holding,
            hands: &hands,
            terms: self.terms,
        };
        let snapshot = if let Some(snapshot) = self.files.get(&Role::Snapshot) {
            self.snapshot(snapshot, &files, root, &tree)?
        } else {
            desk.snapshot(&files, &tree)?
        };
        let timestamp = desk.timestamp(&snapshot.bytes)?;
        for file in [snapshot, timestamp] {
            files.insert(file.role.clone(), file.bytes.clone());
            signed.push(file);
        }
        within(&files, self.limits).map_err(|fault| Rejection::file(&fault.role, fault.error))?;
        // What was made here is held against the verifier's own rules before it leaves.
        closed(&files, root, &tree, self.limits).map_err(Rejection::damaged)?;
        let gone = self.holding.files.keys();
        Ok(Accepted {
            dropped: gone.filter(|role| !files.contains_key(role)).cloned().collect(),
            keys_used: hands.ids(),
            renew_at: desk.renew_at(&files, &chain, self.rules),
            files: signed,
        })
    }

    /// The uploaded file of `role`, if it has the right size and form.
    fn file(&self, role: &Role) -> Result<Option<&Bytes>, Rejection> {
        let Some(file) = self.files.get(role) else {
            return Ok(None);
        };
        size(role, file, self.limits).map_err(|error| Rejection::file(role, error))?;
        exact(role, file).map_err(|source| {
            let role = role.clone();
            Rejection::of(&role.clone(), Why::Inexact { role, source })
        })?;
        Ok(Some(file))
    }

    /// The chain up to the root that is to be in force, and what the server can sign under it.
    fn root(&self, chain: Option<Chain>) -> Result<(Chain, Hands), Rejection> {
        let bad = |error| Rejection::file(&Role::Root, error);
        let needs_snapshot = !self.files.contains_key(&Role::Snapshot);
        let (chain, hands) = match (chain, self.file(&Role::Root)?) {
            (None, None) => return Err(Rejection::invalid(Why::NoRoot)),
            (Some(chain), None) => {
                let hands = Hands::of(chain.newest(), self.keys);
                hands.require(needs_snapshot)?;
                (chain, hands)
            }
            (chain, Some(file)) => {
                let root = Root::parse(file).map_err(bad)?;
                let hands = Hands::of(&root, self.keys);
                hands.require(needs_snapshot)?;
                let chain = self.succession(chain, root, file.clone())?;
                (chain, hands)
            }
        };
        chain.in_force(self.rules).map_err(bad)?;
        Ok((chain, hands))
    }

    fn succession(&self, chain: Option<Chain>, root: Root, file: Bytes) -> Result<Chain, Rejection> {
        let bad = |error| Rejection::file(&Role::Root, error);
        let offered = root.version;
        let Some(mut chain) = chain else {
            if FIRST_ROOTS.contains(&offered) {
                return Chain::anchored(root, file, self.rules).map_err(bad);
            }
            let why = Why::RootVersion { current: 1, offered };
            return Err(Rejection::of(&Role::Root, why));
        };
        let current = chain.newest().version;
        if offered <= current {
            return Err(stale(&Role::Root, offered, current));
        }
        if offered != current + 1 {
            let why = Why::RootVersion { current, offered };
            return Err(Rejection::of(&Role::Root, why));
        }
        chain.extend(root, file, self.rules, Gap::Refused).map_err(bad)?;
        Ok(chain)
    }

    /// Root and targets roles as they would be: what was part of the repository, and what is uploaded. A file that
    /// nobody delegated to is not brought back by delegating to its name anew (T49).
    fn candidates(&self, before: Option<&Tree>) -> Files {
        let kept = |role: &Role| match role {
            Role::Root => true,
            Role::Targets | Role::Delegation(_) => before.is_some_and(|tree| tree.contains(role)),
            Role::Snapshot | Role::Timestamp => false,
        };
        let mut files = self.holding.files.clone();
        files.retain(|role, _| kept(role));
        for (role, file) in self.files {
            files.insert(role.clone(), file.clone());
        }
        files
    }

    /// The targets roles under `root`, all of which must verify but for those that their own delegation left behind.
    fn targets(&self, files: &Files, root: &Root) -> Result<Tree, Rejection> {
        let mut uploaded = by_depth(self.files.keys());
        uploaded.retain(|role| matches!(role, Role::Targets | Role::Delegation(_)));
        for role in &uploaded {
            if let Some(file) = self.file(role)? {
                self.follows(role, file)?;
            }
        }
        if !files.contains_key(&Role::Targets) {
            return Err(Rejection::invalid(Why::NoTargets));
        }
        let tree = Tree::of(files, root, self.limits).map_err(|fault| self.blamed(fault))?;
        for role in uploaded {
            self.sound(role, &tree)?;
        }
        Ok(tree)
    }

    /// Whose fault it is that a targets role does not verify.
    fn blamed(&self, fault: Fault) -> Rejection {
        let Fault { role, error } = fault;
        if self.files.contains_key(&role) {
            Rejection::file(&role, error)
        } else if role == Role::Targets && self.files.contains_key(&Role::Root) {
            Rejection::of(&Role::Root, Why::TargetsLeftBehind { source: error })
        } else {
            Rejection::damaged(error)
        }
    }

    /// An uploaded targets role must be delegated, signed and unexpired.
    fn sound(&self, role: &Role, tree: &Tree) -> Result<(), Rejection> {
        if let Some(targets) = tree.sound(role) {
            return self.unexpired(role, targets.signed.expires);
        }
        let parent = role.parent().filter(|parent| tree.defect(parent).is_some());
        let role = role.clone();
        let why = match (parent, tree.defect(&role)) {
            (_, None) => Why::NotDelegated { role },
            (Some(_), Some(_)) => Why::ParentUnsound { role },
            (None, Some(error)) => Why::Metadata(error.clone()),
        };
        Err(Rejection::new(Kind::Targets, why))
    }

    fn unexpired(&self, role: &Role, expires: jiff::Timestamp) -> Result<(), Rejection> {
        if expires > self.terms.now {
            return Ok(());
        }
        let role = role.clone();
        Err(Rejection::file(
            &role.clone(),
            Error::Expired { role, at: expires },
        ))
    }

    /// Versions rise by one. Nothing is overwritten, and nobody can use them all up.
    fn follows(&self, role: &Role, file: &Bytes) -> Result<(), Rejection> {
        let offered = Stated::of(role, file)
            .map_err(|error| Rejection::file(role, error))?
            .version;
        let stored = self.stored(role)?;
        let why = if stored == 0 && offered > MOST_AT_FIRST {
            let role = role.clone();
            Why::FarAhead { role, offered }
        } else if stored == 0 || offered == stored + 1 {
            return Ok(());
        } else if offered <= stored {
            return Err(stale(role, offered, stored));
        } else {
            let role = role.clone();
            Why::Gap {
                role,
                current: stored,
                offered,
            }
        };
        Err(Rejection::of(role, why))
    }

    /// The version that an upload of the role has to follow; 0 if any may be the first.
    fn stored(&self, role: &Role) -> Result<u64, Rejection> {
        let file = self.holding.files.get(role);
        let current = file.map_or(Ok(0), |file| Ok(Stated::of(role, file)?.version));
        let current = current.map_err(Rejection::damaged)?;
        // A publisher's snapshot follows the one that is there. What an earlier life of the repository used up binds
        // the server alone: no publisher could know it.
        let used = self.holding.used.get(role).filter(|_| *role != Role::Snapshot);
        let stored = current.max(used.copied().unwrap_or_default());
        if stored >= MAX_VERSION {
            return Err(Rejection::of(role, Why::Exhausted { role: role.clone() }));
        }
        Ok(stored)
    }

    /// A publisher's snapshot: it must be right about every file, uploaded or not.
    fn snapshot(
        &self,
        file: &Bytes,
        files: &Files,
        root: &Root,
        tree: &Tree,
    ) -> Result<SignedFile, Rejection> {
        let bad = |why| Rejection::of(&Role::Snapshot, why);
        self.file(&Role::Snapshot)?;
        self.follows(&Role::Snapshot, file)?;
        let snapshot = Snapshot::verify(file, &root.snapshot).map_err(|error| bad(error.into()))?;
        linked(files, &snapshot, tree).map_err(|link| {
            bad(match link {
                Link::Unlisted { role } => Why::NotListed { role },
                Link::Absent { role } => Why::NotThere { role },
                differs @ Link::Differs { .. } => Why::Metadata(differs.into()),
            })
        })?;
        self.unexpired(&Role::Snapshot, snapshot.signed.expires)?;
        Ok(SignedFile {
            role: Role::Snapshot,
            version: snapshot.signed.seen.version,
            bytes: file.clone(),
            signers: signers(&Role::Snapshot, file, &root.snapshot)?,
        })
    }

    /// The uploaded files of root and the targets roles, in the order in which they depend on each other.
    fn uploaded(&self, chain: &Chain, tree: &Tree) -> Result<Vec<SignedFile>, Rejection> {
        let mut signed = Vec::new();
        for role in by_depth(self.files.keys()) {
            let Some(bytes) = self.files.get(role) else {
                continue;
            };
            let (version, signers) = match tree.sound(role) {
                Some(targets) => (targets.signed.seen.version, targets.signers.clone()),
                None if *role == Role::Root => {
                    let root = chain.newest();
                    (root.version, signers(role, bytes, &root.root)?)
                }
                None => continue,
            };
            signed.push(SignedFile {
                role: role.clone(),
                version,
                bytes: bytes.clone(),
                signers,
            });
        }
        Ok(signed)
    }
}

fn stale(role: &Role, offered: u64, stored: u64) -> Rejection {
    let role = role.clone();
    Rejection::new(
        Kind::Version,
        Why::Stale {
            role,
            offered,
            stored,
        },
    )
}

/// Canonical ids of the role's keys that signed.
fn signers(role: &Role, file: &[u8], keys: &RoleKeys) -> Result<BTreeSet<KeyId>, Rejection> {
    let envelope = Envelope::parse(role, file).map_err(|error| Rejection::file(role, error))?;
    let verified = envelope.verified(&keys.keys).into_iter();
    Ok(verified.map(PublicKey::canonical).collect())
}
