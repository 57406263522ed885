//! A verified repository as a publisher looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::super::canonical::Value;
use super::super::decode::{FormatError, Object};
use super::super::envelope::{Envelope, sha256_of};
use super::super::{DelegationName, Error, KeyId, PublicKey, Role, Seen, Verified};
use super::document::{Delegated, Document, RootDocument, SnapshotDocument, TargetsDocument};
use super::{Current, Draft};
use crate::reference::{Digest, Gun, Tag};

/// A repository that verified, with the files it is made of.
#[derive(Clone, Debug)]
pub struct Published {
    pub(super) gun: Gun,
    pub(super) root: RootDocument,
    pub(super) targets: TargetsDocument,
    pub(super) delegations: BTreeMap<DelegationName, TargetsDocument>,
    /// Published, and not verifying.
    pub(super) unsound: BTreeMap<DelegationName, Unsound>,
    pub(super) snapshot: SnapshotDocument,
    pub(super) files: BTreeMap<Role, Current>,
    pub(super) seen: BTreeMap<Role, Seen>,
}

/// The file of a delegation that does not verify.
#[derive(Clone, Debug)]
pub(super) struct Unsound {
    /// What is wrong with it.
    pub(super) error: Error,
    /// The file, if there is one.
    pub(super) file: Option<Bytes>,
    /// What it says, if it can be read.
    pub(super) document: Option<TargetsDocument>,
}

/// A signed tag, as docker shows it (§6.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The tag.
    pub tag: Tag,
    /// Its digest.
    pub digest: Digest,
    /// Length of the manifest as it was signed.
    pub length: u64,
    /// The roles that say so.
    pub roles: BTreeSet<Role>,
}

/// What one version of a targets role's file says, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Digests by tag.
    pub tags: BTreeMap<String, String>,
    /// Keys, threshold and paths by delegation.
    pub signers: BTreeMap<String, String>,
    /// Whether the keys that the role has now signed it.
    pub vouched: bool,
}

/// A delegation and who may sign for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerKeys {
    /// The delegation.
    pub name: DelegationName,
    /// Canonical ids of its keys.
    pub keys: BTreeSet<KeyId>,
    /// How many of them must sign.
    pub threshold: u64,
    /// Prefixes of the tags it may sign.
    pub paths: Vec<Box<str>>,
    /// Whether its file is published, and verifies.
    pub state: SignerState,
}

/// What became of a delegation's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignerState {
    /// It verifies.
    Published,
    /// There is none.
    Unpublished,
    /// There is one, and it does not verify.
    Unsound(Error),
    /// There is one, and it was not looked at.
    NotLoaded,
}

impl Published {
    /// Takes a verified repository apart.
    ///
    /// # Errors
    ///
    /// [`Error`] if a file of it is not what the verifier took it for, which cannot be.
    pub fn of(gun: &Gun, verified: &Verified) -> Result<Self, Error> {
        let state = &verified.state;
        let missing = |role: &Role| Error::Missing { role: role.clone() };
        let root = state.roots.last().ok_or_else(|| missing(&Role::Root))?;
        let mut files = BTreeMap::from([(Role::Root, Current::of(&Role::Root, root)?)]);
        for (role, file) in &state.files {
            files.insert(role.clone(), Current::of(role, file)?);
        }
        let file = |role: Role| state.files.get(&role).ok_or_else(|| missing(&role));
        let mut delegations = BTreeMap::new();
        for (role, file) in &state.files {
            if let Role::Delegation(name) = role {
                delegations.insert(name.clone(), TargetsDocument::read(role, file)?);
            }
        }
        let unsound = verified.unsound.iter().map(|(name, (error, file))| {
            let role = Role::Delegation(name.clone());
            let document = file
                .as_ref()
                .and_then(|file| TargetsDocument::read(&role, file).ok());
            let unsound = Unsound {
                error: error.clone(),
                file: file.clone(),
                document,
            };
            (name.clone(), unsound)
        });
        Ok(Self {
            gun: gun.clone(),
            root: RootDocument::read(&Role::Root, root)?,
            targets: TargetsDocument::read(&Role::Targets, file(Role::Targets)?)?,
            delegations,
            unsound: unsound.collect(),
            snapshot: SnapshotDocument::read(&Role::Snapshot, file(Role::Snapshot)?)?,
            files,
            seen: state.seen.clone(),
        })
    }

    /// A draft that changes nothing yet.
    pub fn edit(self: &Arc<Self>) -> Draft {
        Draft {
            before: Some(Arc::clone(self)),
            root: self.root.clone(),
            targets: self.targets.clone(),
            delegations: self.delegations.clone(),
            snapshot: self.snapshot.clone(),
            dirty: BTreeSet::new(),
            floors: BTreeMap::new(),
        }
    }

    /// Whose repository it is.
    pub const fn gun(&self) -> &Gun {
        &self.gun
    }

    /// The version of a role's file, if there is one that verified.
    pub fn version(&self, role: &Role) -> Option<u64> {
        self.files.get(role)?;
        self.seen.get(role).map_or_else(
            || (*role == Role::Root).then_some(self.root.version),
            |seen| Some(seen.version),
        )
    }

    /// Until when a role's file is good.
    pub fn expires(&self, role: &Role) -> Option<Timestamp> {
        self.files.get(role).map(|current| current.expires)
    }

    /// Until when the root's certificates are good, the first to expire first.
    pub fn certificate_expires(&self) -> Option<Timestamp> {
        let keys = self.root.keys_of(&Role::Root).into_iter();
        keys.filter_map(|key| Some(key.bundle()?.leaf().not_after()))
            .min()
    }

    /// Every role with a file that verified, in order of their names.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.files.keys()
    }

    /// The bytes of a role's file.
    pub fn file(&self, role: &Role) -> Option<&[u8]> {
        self.files.get(role).map(|current| &current.file[..])
    }

    /// The keys of a base role, as root lists them.
    pub fn keys(&self, role: &Role) -> Vec<Arc<PublicKey>> {
        self.root.keys_of(role).into_iter().cloned().collect()
    }

    /// Every key that may sign for `role`: canonical ids.
    pub fn key_ids(&self, role: &Role) -> BTreeSet<KeyId> {
        let keys = match role {
            Role::Delegation(name) => {
                let delegation = self.targets.delegation(name);
                delegation.map_or_else(Vec::new, |delegation| self.targets.keys_of(delegation))
            }
            Role::Root | Role::Targets | Role::Snapshot | Role::Timestamp => self.root.keys_of(role),
        };
        keys.iter().map(|key| key.canonical()).collect()
    }

    /// The delegations directly below `targets`, `targets/releases` with them, in the publisher's order.
    pub fn delegations(&self) -> Vec<SignerKeys> {
        let delegations = self.targets.delegations.iter();
        delegations
            .map(|delegation| self.signer_keys(delegation))
            .collect()
    }

    fn signer_keys(&self, delegation: &Delegated) -> SignerKeys {
        let keys = self.targets.keys_of(delegation).into_iter();
        SignerKeys {
            name: delegation.name.clone(),
            keys: keys.map(|key| key.canonical()).collect(),
            threshold: delegation.signers.threshold,
            paths: delegation.paths.clone(),
            state: self.state_of(&delegation.name),
        }
    }

    fn state_of(&self, name: &DelegationName) -> SignerState {
        let listed = self.snapshot.meta.contains_key(&*name.to_string());
        match (self.delegations.contains_key(name), self.unsound.get(name)) {
            (true, _) => SignerState::Published,
            (false, Some(unsound)) => SignerState::Unsound(unsound.error.clone()),
            (false, None) if listed => SignerState::NotLoaded,
            (false, None) => SignerState::Unpublished,
        }
    }

    /// Whether the snapshot lists a file of `role`, be it delegated or not.
    pub fn is_listed(&self, role: &Role) -> bool {
        self.snapshot.meta.contains_key(role.as_str())
    }

    /// Whether a file of `role` was ever seen: whoever has seen it too takes a role without one for an omission (T8).
    pub fn was_seen(&self, role: &Role) -> bool {
        self.seen.contains_key(role)
    }

    /// The tags in the file of a delegation that does not verify.
    pub fn unsound_tags(&self, name: &DelegationName) -> Vec<String> {
        let document = self
            .unsound
            .get(name)
            .and_then(|unsound| unsound.document.as_ref());
        document.map_or_else(Vec::new, |document| {
            document.targets.keys().map(ToString::to_string).collect()
        })
    }

    /// The roles directly below `targets` that may sign `tag` and one of whose keys is among `held`; `targets` if
    /// nothing is delegated (§6.5).
    ///
    /// `targets/releases` lists every signer's keys for every tag. Signers whose own role may not sign the tag do not get
    /// round that there: only a key that is no other role's, or of one that may, counts.
    pub fn signable(&self, tag: &Tag, held: &BTreeSet<KeyId>) -> BTreeSet<Role> {
        if self.targets.delegations.is_empty() {
            return [Role::Targets].into();
        }
        let (shared, own): (Vec<_>, Vec<_>) = self
            .delegations()
            .into_iter()
            .partition(|delegation| delegation.name == DelegationName::releases());
        let covers = |delegation: &SignerKeys| {
            let mut paths = delegation.paths.iter();
            paths.any(|path| tag.as_str().starts_with(&**path))
        };
        let able: Vec<_> = own
            .iter()
            .filter(|signer| covers(signer) && !signer.keys.is_disjoint(held))
            .collect();
        let lends = |key: &KeyId| {
            able.iter().any(|signer| signer.keys.contains(key))
                || own.iter().all(|signer| !signer.keys.contains(key))
        };
        let releases = shared
            .iter()
            .filter(|shared| covers(shared) && shared.keys.intersection(held).any(lends));
        let able = able.iter().copied().chain(releases);
        able.map(|delegation| Role::Delegation(delegation.name.clone()))
            .collect()
    }

    /// Whether as many of the role's keys are among `held` as must sign.
    pub fn is_signable(&self, role: &Role, held: &BTreeSet<KeyId>) -> bool {
        let threshold = match role {
            Role::Delegation(name) => self
                .targets
                .delegation(name)
                .map(|delegation| delegation.signers.threshold),
            Role::Root | Role::Targets | Role::Snapshot | Role::Timestamp => {
                self.root.signers_of(role).map(|signers| signers.threshold)
            }
        };
        let at_hand = self.key_ids(role).intersection(held).count();
        threshold.is_some_and(|threshold| u64::try_from(at_hand).is_ok_and(|at_hand| at_hand >= threshold))
    }

    /// The roles in which `tag` is signed.
    pub fn signed_in(&self, tag: &Tag) -> BTreeSet<Role> {
        let has = |document: &TargetsDocument| document.targets.contains_key(tag.as_str());
        let delegations = self.delegations.iter().filter(|(_, document)| has(document));
        let mut roles: BTreeSet<_> = delegations
            .map(|(name, _)| Role::Delegation(name.clone()))
            .collect();
        if has(&self.targets) {
            roles.insert(Role::Targets);
        }
        roles
    }

    /// Every tag and digest that some role signed, as far as the role's paths allow it; in order of the tags.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: BTreeMap<(Tag, [u8; 32]), Row> = BTreeMap::new();
        let all = std::iter::once((Role::Targets, &self.targets)).chain(
            self.delegations
                .iter()
                .map(|(name, document)| (Role::Delegation(name.clone()), document)),
        );
        for (role, document) in all {
            for (tag, (sha256, length)) in document.entries() {
                if !self.may_sign(&role, &tag) {
                    continue;
                }
                let row = rows.entry((tag.clone(), sha256)).or_insert_with(|| Row {
                    tag,
                    digest: Digest::sha256(sha256),
                    length,
                    roles: BTreeSet::new(),
                });
                row.roles.insert(role.clone());
            }
        }
        rows.into_values().collect()
    }

    /// What `file`, a version of a role's file old or new, says.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if it is no such file, or of another version.
    pub fn content(&self, role: &Role, version: u64, file: &[u8]) -> Result<Content, Error> {
        let document = TargetsDocument::read(role, file)?;
        if document.version != version {
            return Err(Error::Malformed {
                role: role.clone(),
                source: FormatError::member("version", "is another than the one asked for"),
            });
        }
        let tags = document.entries().map(|(tag, (sha256, _))| {
            let digest = Digest::sha256(sha256);
            (tag.to_string(), digest.to_string())
        });
        let signers = document.delegations.iter().map(|delegation| {
            let keys = document.keys_of(delegation).into_iter();
            let keys: Vec<_> = keys.map(|key| key.canonical().to_string()).collect();
            let (threshold, paths) = (delegation.signers.threshold, &delegation.paths);
            let text = format!("keys {} threshold {threshold} paths {paths:?}", keys.join(" "));
            (delegation.name.to_string(), text)
        });
        Ok(Content {
            tags: tags.collect(),
            signers: signers.collect(),
            vouched: self.vouches(role, file),
        })
    }

    fn vouches(&self, role: &Role, file: &[u8]) -> bool {
        let (keys, threshold) = match role {
            Role::Delegation(name) => match self.targets.delegation(name) {
                Some(delegation) => (self.targets.keys_of(delegation), delegation.signers.threshold),
                None => return false,
            },
            Role::Root | Role::Targets | Role::Snapshot | Role::Timestamp => {
                let threshold = self
                    .root
                    .signers_of(role)
                    .map_or(u64::MAX, |signers| signers.threshold);
                (self.root.keys_of(role), threshold)
            }
        };
        let keys: Vec<_> = keys.into_iter().cloned().collect();
        Envelope::parse(role, file).is_ok_and(|envelope| envelope.meets(role, &keys, threshold).is_ok())
    }

    /// The digest and length that `role` has signed for `tag`.
    pub fn entry(&self, role: &Role, tag: &Tag) -> Option<([u8; 32], u64)> {
        let document = match role {
            Role::Targets => &self.targets,
            Role::Delegation(name) => self.delegations.get(name)?,
            Role::Root | Role::Snapshot | Role::Timestamp => return None,
        };
        document.entry(tag)
    }

    fn may_sign(&self, role: &Role, tag: &Tag) -> bool {
        let Role::Delegation(name) = role else { return true };
        let paths = paths_of(&self.targets, &self.delegations, name);
        paths.iter().any(|path| tag.as_str().starts_with(&**path))
    }
}

/// The effective paths of a delegation (§6.4): its own, as far as they extend one of its parent's.
pub(super) fn paths_of(
    targets: &TargetsDocument,
    delegations: &BTreeMap<DelegationName, TargetsDocument>,
    name: &DelegationName,
) -> Vec<Box<str>> {
    let own = |document: &TargetsDocument| {
        document
            .delegation(name)
            .map_or_else(Vec::new, |delegation| delegation.paths.clone())
    };
    match Role::Delegation(name.clone()).parent() {
        Some(Role::Delegation(parent)) => {
            let above = paths_of(targets, delegations, &parent);
            let mut paths = delegations.get(&parent).map_or_else(Vec::new, own);
            paths.retain(|path| above.iter().any(|prefix| path.starts_with(&**prefix)));
            paths
        }
        Some(Role::Root | Role::Targets | Role::Snapshot | Role::Timestamp) | None => own(targets),
    }
}

impl TargetsDocument {
    pub(super) fn entry(&self, tag: &Tag) -> Option<([u8; 32], u64)> {
        read_entry(self.targets.get(tag.as_str())?)
    }

    fn entries(&self) -> impl Iterator<Item = (Tag, ([u8; 32], u64))> {
        let entries = self.targets.iter();
        entries.filter_map(|(name, entry)| Some((name.parse().ok()?, read_entry(entry)?)))
    }
}

fn read_entry(entry: &Value) -> Option<([u8; 32], u64)> {
    let entry = Object::map(entry, "targets").ok()?;
    let sha256 = sha256_of(entry.submap("hashes").ok()?).ok()??;
    Some((sha256, entry.integer("length", 0).ok()?))
}

impl Current {
    fn of(role: &Role, file: &Bytes) -> Result<Self, Error> {
        let envelope = Envelope::parse(role, file)?;
        let expires = || -> Result<Timestamp, FormatError> {
            Object::map(envelope.signed(), "signed")?.time("expires")
        };
        Ok(Self {
            file: file.clone(),
            expires: expires().map_err(|source| Error::Malformed {
                role: role.clone(),
                source,
            })?,
        })
    }
}
