//! Changes applied to the documents of a draft.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::{DelegationName, KeyId, PublicKey, Role};
use super::document::{Delegated, Signers, TargetsDocument, target};
use super::published::paths_of;
use super::{Change, Draft, EditError};
use crate::reference::Tag;

impl Draft {
    /// Makes one change; on error the draft is as it was, or of no use.
    ///
    /// What is already so is no change: nothing is signed for it.
    ///
    /// # Errors
    ///
    /// [`EditError`] says what the change does not fit.
    pub fn apply(&mut self, change: &Change) -> Result<(), EditError> {
        match change {
            Change::Release {
                tag,
                sha256,
                length,
                roles,
            } => {
                for role in roles {
                    self.release(role, tag, sha256, *length)?;
                }
                Ok(())
            }
            Change::Withdraw { tag, roles } => {
                for role in roles {
                    self.withdraw(role, tag)?;
                }
                Ok(())
            }
            Change::Delegate {
                name,
                keys,
                threshold,
                paths,
            } => self.delegate(name, keys, *threshold, paths),
            Change::RemoveKeys { name, keys } => self.remove_keys(name, keys),
            Change::Undelegate { name } => self.undelegate(name),
            Change::Replace { role, keys } => self.replace(role, keys),
            Change::Resign { role } => self.resign(role),
            Change::Adopt { name } => self.take_over(name, true),
            Change::Empty { name } => self.take_over(name, false),
        }
    }

    fn release(&mut self, role: &Role, tag: &Tag, sha256: &[u8; 32], length: u64) -> Result<(), EditError> {
        if let Role::Delegation(name) = role {
            let paths = paths_of(&self.targets, &self.delegations, name);
            if !paths.iter().any(|path| tag.as_str().starts_with(&**path)) {
                return Err(EditError::Path {
                    role: role.clone(),
                    tag: tag.clone(),
                });
            }
        }
        let document = self.document(role)?;
        if document.entry(tag) == Some((*sha256, length)) {
            return Ok(());
        }
        document
            .targets
            .insert(tag.as_str().into(), target(sha256, length));
        self.dirty.insert(role.clone());
        Ok(())
    }

    fn withdraw(&mut self, role: &Role, tag: &Tag) -> Result<(), EditError> {
        let document = self.document(role)?;
        if document.targets.remove(tag.as_str()).is_none() {
            return Err(EditError::NoSuchTag {
                tag: tag.clone(),
                role: role.clone(),
            });
        }
        self.dirty.insert(role.clone());
        Ok(())
    }

    /// The document of a targets role, made if the role is delegated and has none.
    fn document(&mut self, role: &Role) -> Result<&mut TargetsDocument, EditError> {
        let name = match role {
            Role::Targets => return Ok(&mut self.targets),
            Role::Delegation(name) => name,
            Role::Root | Role::Snapshot | Role::Timestamp => {
                return Err(EditError::NoSuchRole { role: role.clone() });
            }
        };
        if !self.delegations.contains_key(name) {
            self.may_begin(name)?;
        }
        Ok(self.delegations.entry(name.clone()).or_default())
    }

    /// Whether the delegation has no file yet: one that was not loaded, or does not verify, must not be replaced.
    fn may_begin(&self, name: &DelegationName) -> Result<(), EditError> {
        let role = Role::Delegation(name.clone());
        if self.targets.delegation(name).is_none() {
            return Err(EditError::NoSuchRole { role });
        }
        if let Some(unsound) = self.before.as_ref().and_then(|before| before.unsound.get(name)) {
            let source = unsound.error.clone();
            return Err(EditError::Unsound { role, source });
        }
        // Whatever the server's snapshot still lists of a role that was not delegated is of an earlier life.
        let was_delegated = self
            .before
            .as_ref()
            .is_some_and(|before| before.targets.delegation(name).is_some());
        if was_delegated && self.snapshot.meta.contains_key(role.as_str()) {
            return Err(EditError::NotLoaded { role });
        }
        Ok(())
    }

    fn delegate(
        &mut self,
        name: &DelegationName,
        keys: &[Arc<PublicKey>],
        threshold: Option<u64>,
        paths: &[Box<str>],
    ) -> Result<(), EditError> {
        if name.depth() != 1 {
            return Err(EditError::Nested { name: name.clone() });
        }
        let before = self.targets.clone();
        if let Some(threshold) = threshold {
            let listed = before
                .delegation(name)
                .map_or_else(Vec::new, |delegation| before.keys_of(delegation));
            let all = ids_of(listed.into_iter().chain(keys));
            enough(&Role::Delegation(name.clone()), &all, threshold)?;
        }
        if self.targets.delegation(name).is_none() {
            let signers = Signers {
                keyids: Vec::new(),
                threshold: 1,
            };
            self.targets.delegations.push(Delegated {
                name: name.clone(),
                signers,
                paths: Vec::new(),
            });
        }
        let delegations = self.targets.delegations.iter_mut();
        for delegation in delegations.filter(|delegation| delegation.name == *name) {
            for key in keys {
                if !delegation.signers.keyids.contains(&key.id()) {
                    delegation.signers.keyids.push(key.id());
                }
            }
            if let Some(threshold) = threshold {
                delegation.signers.threshold = threshold;
            }
            for path in paths {
                if !covers(&delegation.paths, path) {
                    delegation.paths.push(path.clone());
                }
            }
        }
        self.targets
            .keys
            .extend(keys.iter().map(|key| (key.id(), Arc::clone(key))));
        self.targets_changed(&before);
        Ok(())
    }

    fn remove_keys(&mut self, name: &DelegationName, keys: &BTreeSet<KeyId>) -> Result<(), EditError> {
        let role = Role::Delegation(name.clone());
        let before = self.targets.clone();
        let Some(delegation) = before.delegation(name) else {
            return Err(EditError::NoSuchRole { role });
        };
        let listed = before.keys_of(delegation);
        for key in keys {
            if !listed.iter().any(|listed| listed.canonical() == *key) {
                return Err(EditError::NoSuchKey { key: *key, role });
            }
        }
        let gone = |id: &KeyId| {
            before
                .keys
                .get(id)
                .is_some_and(|listed| keys.contains(&listed.canonical()))
        };
        let delegations = self.targets.delegations.iter_mut();
        for delegation in delegations.filter(|delegation| delegation.name == *name) {
            delegation.signers.keyids.retain(|id| !gone(id));
        }
        self.targets.prune();
        self.targets_changed(&before);
        Ok(())
    }

    fn undelegate(&mut self, name: &DelegationName) -> Result<(), EditError> {
        let role = Role::Delegation(name.clone());
        let before = self.targets.clone();
        if before.delegation(name).is_none() {
            return Err(EditError::NoSuchRole { role });
        }
        self.targets
            .delegations
            .retain(|delegation| delegation.name != *name);
        self.targets.prune();
        let below = format!("{role}/");
        let gone = |other: &str| other == role.as_str() || other.starts_with(&below);
        self.delegations.retain(|other, _| !gone(&other.to_string()));
        self.dirty.retain(|other| !gone(other.as_str()));
        self.snapshot.meta.retain(|other, _| !gone(other));
        self.targets_changed(&before);
        Ok(())
    }

    fn targets_changed(&mut self, before: &TargetsDocument) {
        if self.targets != *before {
            self.dirty.insert(Role::Targets);
        }
    }

    /// A rotation. With new keys `targets` is signed anew, for its present signatures count no more; the snapshot is
    /// made with every change anyway.
    fn replace(&mut self, role: &Role, keys: &[Arc<PublicKey>]) -> Result<(), EditError> {
        if keys.is_empty() || matches!(role, Role::Delegation(_)) {
            return Err(EditError::NoRotation { role: role.clone() });
        }
        if let Some(signers) = self.root.signers_of(role) {
            enough(role, &ids_of(keys), signers.threshold)?;
        }
        self.root.replace(role, keys);
        self.dirty.insert(Role::Root);
        if *role == Role::Targets {
            self.dirty.insert(Role::Targets);
        }
        Ok(())
    }

    fn resign(&mut self, role: &Role) -> Result<(), EditError> {
        match role {
            Role::Targets | Role::Root => {}
            Role::Delegation(name) if self.delegations.contains_key(name) => {}
            Role::Delegation(name) => {
                self.may_begin(name)?;
                self.delegations.entry(name.clone()).or_default();
            }
            Role::Snapshot | Role::Timestamp => {
                return Err(EditError::NoSuchRole { role: role.clone() });
            }
        }
        self.dirty.insert(role.clone());
        Ok(())
    }

    /// Makes a file that does not verify the role's own again: with its tags, or without any.
    fn take_over(&mut self, name: &DelegationName, with_tags: bool) -> Result<(), EditError> {
        let role = Role::Delegation(name.clone());
        if self.targets.delegation(name).is_none() {
            return Err(EditError::NoSuchRole { role });
        }
        let unsound = self.before.as_ref().and_then(|before| before.unsound.get(name));
        let Some(unsound) = unsound else {
            return Err(EditError::Sound { role });
        };
        let document = match (&unsound.document, with_tags) {
            (Some(document), true) => document.clone(),
            (Some(document), false) => TargetsDocument {
                version: document.version,
                ..TargetsDocument::default()
            },
            (None, false) => TargetsDocument::default(),
            (None, true) => {
                let source = unsound.error.clone();
                return Err(EditError::Unsound { role, source });
            }
        };
        self.delegations.insert(name.clone(), document);
        self.dirty.insert(role);
        Ok(())
    }
}

/// Each key once, in however many certificates it comes (T19).
fn ids_of<'a>(keys: impl IntoIterator<Item = &'a Arc<PublicKey>>) -> BTreeSet<KeyId> {
    keys.into_iter().map(|key| key.canonical()).collect()
}

/// A role must have as many keys as must sign, or nobody signs it ever again.
fn enough(role: &Role, keys: &BTreeSet<KeyId>, threshold: u64) -> Result<(), EditError> {
    if threshold >= 1 && u64::try_from(keys.len()).is_ok_and(|keys| keys >= threshold) {
        return Ok(());
    }
    Err(EditError::Threshold {
        role: role.clone(),
        threshold,
        keys: keys.len(),
    })
}

/// Whether everything that begins with `path` begins with one of `paths`.
fn covers(paths: &[Box<str>], path: &str) -> bool {
    paths.iter().any(|prefix| path.starts_with(&**prefix))
}
