//! A whole state: every file of a repository, and how each is vouched for by the ones above it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jiff::Timestamp;

use super::super::decode::Object;
use super::super::edit::document::{Document as _, TargetsDocument};
use super::super::envelope::Envelope;
use super::super::metadata::{Root, Snapshot, Targets, TimestampFile};
use super::super::root::{Chain, RootRules};
use super::super::{DelegationName, Error, Limits, Role};
use super::Holding;
use super::rejection::Rejection;

/// The files of a repository, by role.
pub(super) type Files = BTreeMap<Role, Bytes>;

/// A state all of which verifies, but for its expiry: whatever was stored stays what it is when time goes by.
pub(super) struct Whole {
    pub(super) chain: Chain,
    pub(super) tree: Tree,
}

impl Whole {
    /// What is stored of a repository.
    pub(super) fn stored(
        holding: &Holding,
        rules: RootRules<'_>,
        limits: &Limits,
    ) -> Result<Self, Rejection> {
        Self::of(&holding.files, rules, limits).map_err(Rejection::damaged)
    }

    fn of(files: &Files, rules: RootRules<'_>, limits: &Limits) -> Result<Self, Error> {
        let file = files.get(&Role::Root);
        let file = file.ok_or(Error::Missing { role: Role::Root })?;
        let chain = Chain::anchored(Root::parse(file)?, file.clone(), rules)?;
        if !files.contains_key(&Role::Targets) {
            return Err(Error::Missing { role: Role::Targets });
        }
        let tree = Tree::of(files, chain.newest(), limits).map_err(|fault| fault.error)?;
        closed(files, chain.newest(), &tree, limits)?;
        Ok(Self { chain, tree })
    }
}

/// The targets roles: `targets`, and every delegation that a published role delegates to.
pub(super) struct Tree {
    nodes: BTreeMap<Role, Node>,
    /// Roles that nobody delegates to.
    pub(super) strays: BTreeSet<Role>,
}

/// One role's file.
enum Node {
    Sound(Targets),
    /// Its signatures do not meet its delegation. It stays part of the repository: whoever changes the keys of a
    /// delegation and cannot sign for it leaves this behind (§7.8), readers who have seen the role would take its
    /// absence for an attack (§5.7 step 9), and a publisher repairs it from what it was.
    Unsound(TargetsDocument, Error),
}

impl Node {
    fn delegates_to(&self, name: &DelegationName) -> bool {
        match self {
            Self::Sound(targets) => targets.delegation(name).is_some(),
            Self::Unsound(document, _) => document.delegation(name).is_some(),
        }
    }
}

/// A file that is not what it must be.
pub(super) struct Fault {
    pub(super) role: Role,
    pub(super) error: Error,
}

impl Fault {
    pub(super) const fn of(role: Role) -> impl FnOnce(Error) -> Self {
        move |error| Self { role, error }
    }
}

impl Tree {
    /// Takes the targets roles of `files` one by one, parents first.
    pub(super) fn of(files: &Files, root: &Root, limits: &Limits) -> Result<Self, Fault> {
        let mut tree = Self {
            nodes: BTreeMap::new(),
            strays: BTreeSet::new(),
        };
        for role in by_depth(files.keys()) {
            let Some(file) = files.get(role) else { continue };
            let node = match role {
                Role::Targets => Some(
                    Targets::verify(role, file, &root.targets, limits)
                        .map(Node::Sound)
                        .map_err(Fault::of(role.clone()))?,
                ),
                Role::Delegation(name) => tree.delegated(name, role, file, limits)?,
                Role::Root | Role::Snapshot | Role::Timestamp => continue,
            };
            match node {
                Some(node) => drop(tree.nodes.insert(role.clone(), node)),
                None => drop(tree.strays.insert(role.clone())),
            }
        }
        Ok(tree)
    }

    /// The file of a delegation; `None` if it is none.
    fn delegated(
        &self,
        name: &DelegationName,
        role: &Role,
        file: &[u8],
        limits: &Limits,
    ) -> Result<Option<Node>, Fault> {
        let fault = || Fault::of(role.clone());
        let unsound = |error| {
            let document = TargetsDocument::read(role, file).map_err(fault())?;
            Ok(Some(Node::Unsound(document, error)))
        };
        match role.parent().and_then(|parent| self.nodes.get(&parent)) {
            Some(Node::Sound(parent)) => match parent.delegation(name) {
                None => Ok(None),
                Some(delegation) => match Targets::verify(role, file, &delegation.keys, limits) {
                    Ok(targets) => Ok(Some(Node::Sound(targets))),
                    Err(error @ (Error::Threshold { .. } | Error::NoSignatures { .. })) => unsound(error),
                    Err(error) => Err(fault()(error)),
                },
            },
            Some(parent @ Node::Unsound(_, error)) if parent.delegates_to(name) => unsound(error.clone()),
            Some(Node::Unsound(..)) | None => Ok(None),
        }
    }

    /// Every role of the tree, parents first.
    pub(super) fn roles(&self) -> Vec<&Role> {
        by_depth(self.nodes.keys())
    }

    pub(super) fn contains(&self, role: &Role) -> bool {
        self.nodes.contains_key(role)
    }

    /// Whether a published role delegates to `name`, which may or may not be published itself.
    pub(super) fn delegates_to(&self, name: &DelegationName) -> bool {
        let parent = Role::Delegation(name.clone()).parent();
        parent
            .and_then(|parent| self.nodes.get(&parent))
            .is_some_and(|parent| parent.delegates_to(name))
    }

    /// The role's document, if it verifies.
    pub(super) fn sound(&self, role: &Role) -> Option<&Targets> {
        match self.nodes.get(role)? {
            Node::Sound(targets) => Some(targets),
            Node::Unsound(..) => None,
        }
    }

    /// Why the role's file does not verify, if that is so.
    pub(super) fn defect(&self, role: &Role) -> Option<&Error> {
        match self.nodes.get(role)? {
            Node::Sound(_) => None,
            Node::Unsound(_, error) => Some(error),
        }
    }
}

/// Parents before children, else in order of their names; `targets` first of the targets roles.
pub(super) fn by_depth<'a>(roles: impl IntoIterator<Item = &'a Role>) -> Vec<&'a Role> {
    let mut roles: Vec<_> = roles.into_iter().collect();
    roles.sort_by_key(|role| rank(role));
    roles
}

/// The order in which files depend on each other.
pub(super) fn rank(role: &Role) -> (usize, &Role) {
    let depth = match role {
        Role::Root => 0,
        Role::Targets => 1,
        Role::Delegation(name) => 1 + name.depth(),
        Role::Snapshot => usize::MAX - 1,
        Role::Timestamp => usize::MAX,
    };
    (depth, role)
}

/// Holds the snapshot of `files` against all of them: each must be listed as it is, and nothing listed may be missing.
pub(super) fn linked(files: &Files, snapshot: &Snapshot, tree: &Tree) -> Result<(), Link> {
    let mismatch = |role: &Role| Link::Differs { role: role.clone() };
    for (role, meta) in [(Role::Root, &snapshot.root), (Role::Targets, &snapshot.targets)] {
        if !files.get(&role).is_some_and(|file| meta.describes(file)) {
            return Err(mismatch(&role));
        }
    }
    for role in tree.roles() {
        let Role::Delegation(name) = role else { continue };
        let meta = snapshot.delegations.get(name);
        let meta = meta.ok_or_else(|| Link::Unlisted { role: role.clone() })?;
        if !files.get(role).is_some_and(|file| meta.describes(file)) {
            return Err(mismatch(role));
        }
    }
    for name in snapshot.delegations.keys() {
        let role = Role::Delegation(name.clone());
        // Of what nobody delegates to no reader looks for a file.
        if tree.delegates_to(name) && !tree.contains(&role) {
            return Err(Link::Absent { role });
        }
    }
    Ok(())
}

/// Where a snapshot and the files differ.
pub(super) enum Link {
    /// The file is another than the one listed.
    Differs { role: Role },
    /// It is published and not listed.
    Unlisted { role: Role },
    /// It is listed, delegated, and not there.
    Absent { role: Role },
}

impl From<Link> for Error {
    fn from(link: Link) -> Self {
        match link {
            Link::Differs { role } => Self::Hash {
                role,
                by: Role::Snapshot,
            },
            Link::Unlisted { role } => Self::Omitted { role },
            Link::Absent { role } => Self::Missing { role },
        }
    }
}

/// Verifies the snapshot and the timestamp of `files`, and that they vouch for exactly these.
pub(super) fn closed(files: &Files, root: &Root, tree: &Tree, limits: &Limits) -> Result<(), Error> {
    within(files, limits).map_err(|fault| fault.error)?;
    let file = |role: Role| files.get(&role).ok_or(Error::Missing { role });
    let timestamp = TimestampFile::verify(file(Role::Timestamp)?, &root.timestamp)?;
    let raw = file(Role::Snapshot)?;
    if !timestamp.snapshot.describes(raw) {
        return Err(Error::Hash {
            role: Role::Snapshot,
            by: Role::Timestamp,
        });
    }
    let snapshot = Snapshot::verify(raw, &root.snapshot)?;
    Ok(linked(files, &snapshot, tree)?)
}

/// Holds every file, and all together, to what a verifier reads of a repository (T10).
pub(super) fn within(files: &Files, limits: &Limits) -> Result<(), Fault> {
    let mut total = 0_u64;
    for (role, file) in files {
        let length = size(role, file, limits).map_err(Fault::of(role.clone()))?;
        total = total.saturating_add(length);
    }
    let limit = |what, most| Fault {
        role: Role::Targets,
        error: Error::Limit { what, most },
    };
    if total > limits.total_bytes {
        return Err(limit("bytes of metadata", limits.total_bytes));
    }
    let roles = files
        .keys()
        .filter(|role| matches!(role, Role::Targets | Role::Delegation(_)));
    if roles.count() > limits.roles {
        return Err(limit("roles", u64::try_from(limits.roles).unwrap_or(u64::MAX)));
    }
    Ok(())
}

/// The length of a file, if it is not too long, nor its role too deep.
pub(super) fn size(role: &Role, file: &[u8], limits: &Limits) -> Result<u64, Error> {
    let most = match role {
        Role::Root => limits.root_bytes,
        Role::Timestamp => limits.timestamp_bytes,
        Role::Snapshot => limits.snapshot_bytes,
        Role::Targets | Role::Delegation(_) => limits.targets_bytes,
    };
    let depth = match role {
        Role::Delegation(name) => name.depth(),
        Role::Root | Role::Targets | Role::Snapshot | Role::Timestamp => 0,
    };
    if depth > limits.depth {
        return Err(Error::Limit {
            what: "levels of delegation",
            most: u64::try_from(limits.depth).unwrap_or(u64::MAX),
        });
    }
    let length = u64::try_from(file.len()).unwrap_or(u64::MAX);
    if length > most {
        return Err(Error::Limit {
            what: "bytes of a metadata file",
            most,
        });
    }
    Ok(length)
}

/// What every document says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) version: u64,
    pub(super) expires: Timestamp,
}

impl Stated {
    /// Reads what `file` states; nothing is said of its signatures.
    pub(super) fn of(role: &Role, file: &[u8]) -> Result<Self, Error> {
        let envelope = Envelope::parse(role, file)?;
        let read = || {
            let signed = Object::map(envelope.signed(), "signed")?;
            Ok(Self {
                version: signed.integer("version", 1)?,
                expires: signed.time("expires")?,
            })
        };
        read().map_err(|source| Error::Malformed {
            role: role.clone(),
            source,
        })
    }
}
