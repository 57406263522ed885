//! The targets roles, as far as they are needed, and what they come to (notary-v1 §5.7 steps 8 to 10, §6.4).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jiff::Timestamp;

use super::super::collection::{Collection, Published, SignerTags};
use super::super::envelope::Meta;
use super::super::metadata::{Delegation, Root, Signed, Snapshot, Targets, TimestampFile};
use super::super::root::Chain;
use super::super::{Answer, DelegationName, Error, Form, Request, Role, Seen, State};
use super::{Pause, Purpose, Update, Verified};

/// The targets roles that have verified so far.
pub(super) struct Tree {
    pub(super) targets: Targets,
    delegations: BTreeMap<DelegationName, Loaded>,
    /// Delegated, and never published.
    unpublished: BTreeSet<DelegationName>,
    /// Published, and not what it should be.
    unsound: BTreeMap<DelegationName, (Error, Option<Bytes>)>,
}

struct Loaded {
    targets: Targets,
    /// Effective paths (§6.4).
    paths: Vec<String>,
    /// Whether the policy needs it, or it only attributes.
    required: bool,
}

impl Tree {
    pub(super) fn new(targets: Targets) -> Self {
        Self {
            targets,
            delegations: BTreeMap::new(),
            unpublished: BTreeSet::new(),
            unsound: BTreeMap::new(),
        }
    }

    /// How the parent of `role` delegates to it, and the parent's own effective paths (`None`: everything).
    fn delegating(&self, role: &Role) -> Option<(&Delegation, Option<&[String]>)> {
        let Role::Delegation(name) = role else { return None };
        match role.parent()? {
            Role::Targets => Some((self.targets.delegation(name)?, None)),
            Role::Delegation(parent) => {
                let parent = self.delegations.get(&parent)?;
                Some((parent.targets.delegation(name)?, Some(&parent.paths)))
            }
            Role::Root | Role::Snapshot | Role::Timestamp => None,
        }
    }
}

impl Update {
    /// Asks for everything the snapshot lists and we need, at once, as far as the first round did not bring it and it
    /// fits into what the run may read.
    pub(super) fn fetch_ahead(&mut self, snapshot: &Snapshot) -> Result<(), Pause> {
        let mut wanted = vec![(Role::Targets, &snapshot.targets)];
        for name in self.needed_delegations() {
            if let Some((name, meta)) = snapshot.delegations.get_key_value(&name) {
                wanted.push((Role::Delegation(name.clone()), meta));
            }
        }
        self.ask_ahead(wanted)
    }

    fn ask_ahead(&mut self, wanted: Vec<(Role, &Meta)>) -> Result<(), Pause> {
        let mut requests = Vec::new();
        let mut room = self.room();
        for (role, meta) in wanted {
            let form = Form::Hash(meta.sha256);
            let known =
                self.pooled(&role, meta).is_some() || self.asked.contains(&(role.clone(), form.clone()));
            if !known && meta.length <= self.task.limits.targets_bytes.min(room) {
                room -= meta.length;
                self.asked.insert((role.clone(), form.clone()));
                requests.push(Request {
                    limit: meta.length,
                    ..self.request(role, form, true)
                });
            }
        }
        if requests.is_empty() {
            Ok(())
        } else {
            Err(Pause::Need(requests))
        }
    }

    pub(super) fn load_targets(
        &self,
        root: &Root,
        snapshot: &Snapshot,
        memory: &BTreeMap<Role, Seen>,
    ) -> Result<Targets, Pause> {
        let file = self.described(&Role::Targets, &snapshot.targets, &Role::Snapshot)?;
        let targets = Targets::verify(&Role::Targets, &file, &root.targets, &self.task.limits)?;
        self.admit(&Role::Targets, &targets.signed, memory)?;
        Ok(targets)
    }

    /// `targets/releases`, the required signers, and whatever lies between them and `targets`, parents first.
    pub(super) fn needed_delegations(&self) -> Vec<DelegationName> {
        let mut needed = Vec::new();
        let mut need = |role: Role| {
            let mut line = vec![role];
            while let Some(parent) = line.last().and_then(Role::parent) {
                line.push(parent);
            }
            for role in line.into_iter().rev() {
                if let Role::Delegation(name) = role
                    && !needed.contains(&name)
                {
                    needed.push(name);
                }
            }
        };
        if self.task.purpose == Purpose::Trust {
            need(Role::releases());
        }
        self.task
            .signers
            .iter()
            .for_each(|name| need(Role::Delegation(name.clone())));
        needed
    }

    /// A role that was seen and is still delegated must still be listed (step 9, T8).
    pub(super) fn refuse_omissions(&self, parent: &Targets, snapshot: &Snapshot) -> Result<(), Error> {
        for name in parent.delegations.iter().map(|delegation| &delegation.name) {
            let role = Role::Delegation(name.clone());
            if self.prior.seen.contains_key(&role) && !snapshot.delegations.contains_key(name) {
                return Err(Error::Omitted { role });
            }
        }
        Ok(())
    }

    /// Loads delegation `name` into `tree` if its parent delegates to it and it is published. What is delegated and
    /// published must verify: nothing falls back to another role (step 10, T9).
    pub(super) fn load(
        &self,
        tree: &mut Tree,
        name: &DelegationName,
        snapshot: &Snapshot,
    ) -> Result<(), Pause> {
        let role = Role::Delegation(name.clone());
        let limits = &self.task.limits;
        if name.depth() > limits.depth {
            let most = u64::try_from(limits.depth).unwrap_or(u64::MAX);
            return Err(Error::Limit {
                what: "levels of delegation",
                most,
            }
            .into());
        }
        let Some((delegation, parent_paths)) = tree.delegating(&role) else {
            return Ok(());
        };
        let Some(meta) = snapshot.delegations.get(name) else {
            tree.unpublished.insert(name.clone());
            return Ok(());
        };
        if tree.delegations.len() + 1 >= limits.roles {
            let most = u64::try_from(limits.roles).unwrap_or(u64::MAX);
            return Err(Error::Limit { what: "roles", most }.into());
        }
        let file = self.described(&role, meta, &Role::Snapshot)?;
        let targets = Targets::verify(&role, &file, &delegation.keys, limits)?;
        self.admit(&role, &targets.signed, &self.prior.seen)?;
        self.refuse_omissions(&targets, snapshot)?;
        let paths = effective_paths(&delegation.paths, parent_paths);
        tree.delegations.insert(
            name.clone(),
            Loaded {
                targets,
                paths,
                required: true,
            },
        );
        Ok(())
    }

    /// Loads the direct delegations that nobody requires, to say who signed. One that does not verify says nothing,
    /// and blocks nothing (T41).
    pub(super) fn load_other_signers(&mut self, tree: &mut Tree, snapshot: &Snapshot) -> Result<(), Pause> {
        let room = self.task.limits.roles.saturating_sub(tree.delegations.len() + 1);
        let others: Vec<_> = tree
            .targets
            .delegations
            .iter()
            .map(|delegation| delegation.name.clone())
            .collect();
        let others: Vec<_> = others
            .into_iter()
            .filter(|name| !tree.delegations.contains_key(name))
            .take(room)
            .collect();
        let listed = others
            .iter()
            .filter_map(|name| Some((name, snapshot.delegations.get(name)?)));
        self.ask_ahead(
            listed
                .map(|(name, meta)| (Role::Delegation(name.clone()), meta))
                .collect(),
        )?;
        for name in others {
            match (self.task.purpose, self.load(tree, &name, snapshot)) {
                // Whatever is wrong with it, or missing of it, is not our question.
                (Purpose::Trust, _) | (Purpose::Publish, Ok(())) => {}
                (Purpose::Publish, Err(Pause::Refused(error))) if error.is_repairable() => {
                    let file = snapshot.delegations.get(&name);
                    let file = file.and_then(|meta| self.pooled(&Role::Delegation(name.clone()), meta));
                    tree.unsound.insert(name.clone(), (error, file));
                }
                (Purpose::Publish, Err(pause)) => return Err(pause),
            }
            if let Some(loaded) = tree.delegations.get_mut(&name) {
                loaded.required = false;
            }
        }
        Ok(())
    }

    pub(super) fn finish(
        &self,
        chain: &Chain,
        timestamp: &TimestampFile,
        snapshot: &Snapshot,
        mut tree: Tree,
        expires: Timestamp,
    ) -> Verified {
        let unsound = std::mem::take(&mut tree.unsound);
        let mut state = State {
            roots: chain.files().to_vec(),
            seen: self.prior.seen.clone(),
            files: BTreeMap::new(),
            verified_at: Some(self.task.now),
        };
        let mut remember = |role: Role, signed: &Signed, meta: Option<&Meta>| {
            let current = || match self.pool.get(&(role.clone(), Form::Current)) {
                Some(Answer::Found(file)) => Some(file.clone()),
                Some(Answer::Absent) | None => None,
            };
            let file = meta.map_or_else(current, |meta| self.pooled(&role, meta));
            state.files.extend(file.map(|file| (role.clone(), file)));
            state.seen.insert(role, signed.seen);
        };
        remember(Role::Timestamp, &timestamp.signed, None);
        remember(Role::Snapshot, &snapshot.signed, Some(&timestamp.snapshot));
        remember(Role::Targets, &tree.targets.signed, Some(&snapshot.targets));
        for (name, loaded) in &tree.delegations {
            remember(
                Role::Delegation(name.clone()),
                &loaded.targets.signed,
                snapshot.delegations.get(name),
            );
        }
        Verified {
            state,
            collection: self.collection(tree, expires),
            unsound,
        }
    }

    fn collection(&self, tree: Tree, expires: Timestamp) -> Collection {
        let Tree {
            targets,
            delegations,
            unpublished,
            unsound: _,
        } = tree;
        let required = delegations.values().filter(|loaded| loaded.required);
        let expires = required
            .map(|loaded| loaded.targets.signed.expires)
            .fold(expires, Timestamp::min);
        let mut collection = Collection::new(self.task.gun.clone(), expires);
        collection.release(Published::Targets, targets.entries);
        for (name, Loaded { targets, paths, .. }) in delegations {
            let covered =
                |tag: &crate::reference::Tag| paths.iter().any(|path| tag.as_str().starts_with(path));
            let entries = targets
                .entries
                .into_iter()
                .filter(|(tag, _)| covered(tag))
                .collect();
            if Role::Delegation(name.clone()) == Role::releases() {
                collection.release(Published::Releases, entries);
            } else {
                collection.attribute(
                    name,
                    SignerTags {
                        keys: targets.signers,
                        entries,
                    },
                );
            }
        }
        for name in unpublished {
            collection.unpublished(name);
        }
        collection
    }
}

/// The child's paths that extend one of the parent's; others are dropped, not intersected (§6.4, T39).
fn effective_paths(own: &[String], parent: Option<&[String]>) -> Vec<String> {
    let within =
        |path: &&String| parent.is_none_or(|parent| parent.iter().any(|prefix| path.starts_with(prefix)));
    own.iter().filter(within).cloned().collect()
}
