//! The files of a draft, signed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::super::canonical::Value;
use super::super::envelope::Envelope;
use super::super::{DelegationName, Error, KeyId, PrivateKey, PublicKey, Role};
use super::document::{self, Document, TargetsDocument};
use super::{Draft, EditError};

/// The largest version there is: integers beyond change their value in parsers that use doubles.
pub(in super::super) const MAX_VERSION: u64 = (1 << 53) - 1;

/// How long what is signed is good, and from when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The present.
    pub now: Timestamp,
    /// Of root.
    pub root: Duration,
    /// Of `targets` and delegations.
    pub targets: Duration,
    /// Of the snapshot.
    pub snapshot: Duration,
}

impl Terms {
    /// The reference's terms (§7.10): ten years, three years, three years.
    pub const fn reference(now: Timestamp) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        Self {
            now,
            root: YEAR.saturating_mul(10),
            targets: YEAR.saturating_mul(3),
            snapshot: YEAR.saturating_mul(3),
        }
    }

    fn end(&self, role: &Role) -> Timestamp {
        let term = match role {
            Role::Root => self.root,
            Role::Targets | Role::Delegation(_) => self.targets,
            Role::Snapshot | Role::Timestamp => self.snapshot,
        };
        // An end beyond the calendar is its last day.
        self.now.checked_add(term).unwrap_or(Timestamp::MAX)
    }
}

/// Whose signature a draft needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The file.
    pub role: Role,
    /// Canonical ids of the keys that may sign it.
    pub keys: BTreeSet<KeyId>,
    /// How many of them must.
    pub threshold: u64,
    /// Whether the change can do without: what is in the file loses its signature then.
    pub optional: bool,
}

/// What is to be uploaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// In the order in which they depend on each other.
    pub files: Vec<SignedFile>,
    /// Delegations whose file does not verify any more, since nobody who may sign it is at hand.
    pub orphans: Vec<Role>,
    /// Delegations whose file did not verify, and does so with the keys they have after the change, although nobody has
    /// adopted it (T49).
    pub revived: Vec<Role>,
}

/// One signed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFile {
    /// Whose file.
    pub role: Role,
    /// Its version.
    pub version: u64,
    /// Its bytes, which must not be changed.
    pub bytes: Bytes,
    /// Canonical ids of the keys that signed.
    pub signers: BTreeSet<KeyId>,
}

/// A file's keys and their threshold, as the role above lists them.
struct Authority<'a> {
    keys: Vec<&'a Arc<PublicKey>>,
    threshold: u64,
}

impl Authority<'_> {
    fn ids(&self) -> BTreeSet<KeyId> {
        self.keys.iter().map(|key| key.canonical()).collect()
    }

    fn vouches(&self, role: &Role, file: &[u8]) -> Result<(), Error> {
        let keys: Vec<Arc<PublicKey>> = self.keys.iter().map(|key| Arc::clone(key)).collect();
        Envelope::parse(role, file)?
            .meets(role, &keys, self.threshold)
            .map(drop)
    }
}

impl Draft {
    /// The signatures that this draft needs. Each may come from any of the keys named; a root whose keys change needs
    /// the old ones too (§4.5).
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        for role in &self.dirty {
            for authority in self.authorities(role) {
                needs.push(Need {
                    role: role.clone(),
                    keys: authority.ids(),
                    threshold: authority.threshold,
                    optional: false,
                });
            }
        }
        needs.extend(self.orphaned().into_iter().filter_map(|role| {
            let authority = self.authorities(&role).into_iter().next()?;
            Some(Need {
                keys: authority.ids(),
                threshold: authority.threshold,
                role,
                optional: true,
            })
        }));
        needs
    }

    /// Canonical ids of the keys that sign the snapshot: whoever has one of them makes it, else the server does.
    pub fn snapshot_keys(&self) -> BTreeSet<KeyId> {
        let keys = self.root.keys_of(&Role::Snapshot).into_iter();
        keys.map(|key| key.canonical()).collect()
    }

    /// Signs what has changed with those of `keys` (by canonical id) that may, each role by all of them. The snapshot
    /// is made here if its key is among them.
    ///
    /// # Errors
    ///
    /// [`EditError::Keys`] if too few are there, and others if they do not sign, or what they signed would not verify.
    pub fn sign(
        mut self,
        keys: &BTreeMap<KeyId, Arc<PrivateKey>>,
        terms: &Terms,
    ) -> Result<Signed, EditError> {
        let mut signed = Signed {
            revived: self.revived(),
            ..Signed::default()
        };
        for role in self.orphaned() {
            let enough = self.authorities(&role).iter().all(|authority| {
                let held = authority.ids().iter().filter(|id| keys.contains_key(id)).count();
                u64::try_from(held).is_ok_and(|held| held >= authority.threshold)
            });
            if enough {
                self.dirty.insert(role);
            } else {
                signed.orphans.push(role);
            }
        }
        let holds_snapshot = self.snapshot_keys().iter().any(|id| keys.contains_key(id));
        for role in &self.dirty {
            signed.files.push(self.sign_role(role, keys, terms)?);
        }
        if holds_snapshot && !signed.files.is_empty() {
            for file in &signed.files {
                self.snapshot.describe(&file.role, &file.bytes);
            }
            signed.files.push(self.sign_role(&Role::Snapshot, keys, terms)?);
        }
        Ok(signed)
    }

    fn sign_role(
        &self,
        role: &Role,
        keys: &BTreeMap<KeyId, Arc<PrivateKey>>,
        terms: &Terms,
    ) -> Result<SignedFile, EditError> {
        let version = self.next_version(role)?;
        let document = self.encode(role, version, terms.end(role))?;
        let authorities = self.authorities(role);
        let mut signatures = BTreeMap::new();
        let mut signers = BTreeSet::new();
        let message = document.canonical();
        for listed in authorities.iter().flat_map(|authority| &authority.keys) {
            let canonical = listed.canonical();
            let Some(key) = keys.get(&canonical) else {
                continue;
            };
            let bytes = key
                .sign(message.as_bytes())
                .map_err(|source| EditError::Signature {
                    key: canonical,
                    role: role.clone(),
                    source,
                })?;
            signatures.insert(listed.id(), (key.method(), bytes));
            signers.insert(canonical);
        }
        for authority in &authorities {
            let held = authority.ids().intersection(&signers).count();
            if !u64::try_from(held).is_ok_and(|held| held >= authority.threshold) {
                return Err(EditError::Keys {
                    role: role.clone(),
                    held,
                    threshold: authority.threshold,
                    keys: authority.ids(),
                });
            }
        }
        let signatures: Vec<_> = signatures
            .into_iter()
            .map(|(id, (method, bytes))| (id, method, bytes))
            .collect();
        let bytes = document::file(&document, &signatures);
        for authority in &authorities {
            authority
                .vouches(role, &bytes)
                .map_err(|source| EditError::Refused {
                    role: role.clone(),
                    source,
                })?;
        }
        Ok(SignedFile {
            role: role.clone(),
            version,
            bytes,
            signers,
        })
    }

    /// One above everything that was ever seen of the role.
    fn next_version(&self, role: &Role) -> Result<u64, EditError> {
        let document = match role {
            Role::Root => self.root.version,
            Role::Targets => self.targets.version,
            Role::Delegation(name) => self.delegations.get(name).map_or(0, |document| document.version),
            Role::Snapshot | Role::Timestamp => self.snapshot.version,
        };
        let seen = self.before.as_ref().and_then(|before| before.seen.get(role));
        // The chain of roots has no gaps: whatever was seen of it is its version.
        let seen = seen
            .filter(|_| *role != Role::Root)
            .map_or(0, |seen| seen.version);
        let floor = self.floors.get(role).copied().unwrap_or_default();
        let version = document.max(seen).max(floor).saturating_add(1);
        if version > MAX_VERSION {
            return Err(EditError::Exhausted { role: role.clone() });
        }
        Ok(version)
    }

    fn encode(&self, role: &Role, version: u64, expires: Timestamp) -> Result<Value, EditError> {
        let no_such_role = || EditError::NoSuchRole { role: role.clone() };
        match role {
            Role::Root => Ok(self.root.encode(version, expires)),
            Role::Targets => Ok(self.targets.encode(version, expires)),
            Role::Snapshot => Ok(self.snapshot.encode(version, expires)),
            Role::Delegation(name) => {
                let document = self.delegations.get(name).ok_or_else(no_such_role)?;
                Ok(document.encode(version, expires))
            }
            Role::Timestamp => Err(no_such_role()),
        }
    }

    /// Who signs a file: one set of keys, or, for a root with other keys than the one before, two.
    fn authorities(&self, role: &Role) -> Vec<Authority<'_>> {
        match role {
            Role::Root => {
                let now = of_root(&self.root, role);
                let before = self
                    .before
                    .as_ref()
                    .and_then(|before| of_root(&before.root, role));
                match (before, now) {
                    (Some(before), Some(now)) if same(&before, &now) => vec![now],
                    (before, now) => before.into_iter().chain(now).collect(),
                }
            }
            Role::Targets | Role::Snapshot | Role::Timestamp => {
                of_root(&self.root, role).into_iter().collect()
            }
            Role::Delegation(name) => self.delegating(name).into_iter().collect(),
        }
    }

    fn delegating(&self, name: &DelegationName) -> Option<Authority<'_>> {
        delegating(&self.targets, &self.delegations, name)
    }

    /// Delegations whose file counts again, without being written anew, only because of who may sign it now.
    fn revived(&self) -> Vec<Role> {
        let Some(before) = &self.before else {
            return Vec::new();
        };
        let unsound = before.unsound.iter().filter_map(|(name, unsound)| {
            let role = Role::Delegation(name.clone());
            let file = unsound.file.as_ref().filter(|_| !self.dirty.contains(&role))?;
            let vouched = |authority: Option<Authority<'_>>| {
                authority.is_some_and(|authority| authority.vouches(&role, file).is_ok())
            };
            let was = vouched(delegating(&before.targets, &before.delegations, name));
            (!was && vouched(self.delegating(name))).then_some(role)
        });
        unsound.collect()
    }

    /// Delegations whose file, as it is, was signed by nobody who may sign it after the change.
    fn orphaned(&self) -> Vec<Role> {
        let Some(before) = &self.before else {
            return Vec::new();
        };
        let kept = self.delegations.keys().map(|name| Role::Delegation(name.clone()));
        kept.filter(|role| !self.dirty.contains(role))
            .filter(|role| {
                let file = before.file(role);
                file.is_some_and(|file| {
                    let authorities = self.authorities(role);
                    authorities.is_empty()
                        || authorities
                            .iter()
                            .any(|authority| authority.vouches(role, file).is_err())
                })
            })
            .collect()
    }
}

/// Who signs the file of a delegation, as the role above it says.
fn delegating<'a>(
    targets: &'a TargetsDocument,
    delegations: &'a BTreeMap<DelegationName, TargetsDocument>,
    name: &DelegationName,
) -> Option<Authority<'a>> {
    let document = match Role::Delegation(name.clone()).parent()? {
        Role::Targets => targets,
        Role::Delegation(parent) => delegations.get(&parent)?,
        Role::Root | Role::Snapshot | Role::Timestamp => return None,
    };
    let delegation = document.delegation(name)?;
    Some(Authority {
        keys: document.keys_of(delegation),
        threshold: delegation.signers.threshold,
    })
}

fn of_root<'a>(root: &'a document::RootDocument, role: &Role) -> Option<Authority<'a>> {
    let signers = root.signers_of(role)?;
    Some(Authority {
        keys: root.keys_of(role),
        threshold: signers.threshold,
    })
}

fn same(one: &Authority<'_>, other: &Authority<'_>) -> bool {
    let ids =
        |authority: &Authority<'_>| -> BTreeSet<_> { authority.keys.iter().map(|key| key.id()).collect() };
    one.threshold == other.threshold && ids(one) == ids(other)
}
