//! The four documents, decoded from the tree whose canonical form was signed (notary-v1 §3.8).
//!
//! Decoding checks structure only. Each type is made by a function that also takes what vouches for the file, so
//! that a document whose signatures were not verified cannot be held.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::decode::{self, FormatError, Object};
use super::envelope::{Envelope, Keys, Meta, RoleKeys};
use super::key::{KeyId, sha256};
use super::{DelegationName, Error, Limits, Role, Seen};
use crate::reference::Tag;

fn malformed(role: &Role) -> impl Fn(FormatError) -> Error {
    let role = role.clone();
    move |source| Error::Malformed {
        role: role.clone(),
        source,
    }
}

/// A root document whose structure is right; who signed it is for `root` to say.
#[derive(Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "the root role is one of the roles that root lists"
)]
pub(super) struct Root {
    pub(super) envelope: Envelope,
    pub(super) version: u64,
    pub(super) expires: Timestamp,
    pub(super) sha256: [u8; 32],
    pub(super) root: RoleKeys,
    pub(super) targets: RoleKeys,
    pub(super) snapshot: RoleKeys,
    pub(super) timestamp: RoleKeys,
}

impl Root {
    pub(super) fn parse(raw: &[u8]) -> Result<Self, Error> {
        let envelope = Envelope::parse(&Role::Root, raw)?;
        Self::decode(envelope, raw).map_err(malformed(&Role::Root))
    }

    fn decode(envelope: Envelope, raw: &[u8]) -> Result<Self, FormatError> {
        const KNOWN: [&str; 6] = [
            "_type",
            "consistent_snapshot",
            "expires",
            "keys",
            "roles",
            "version",
        ];
        let object = Object::of(envelope.signed(), "signed", &KNOWN)?;
        let signed = Signed::decode(object, "Root", raw)?;
        let keys = Keys::decode(object.submap("keys")?)?;
        let roles = object.submap("roles")?;
        let role = |name: &str| RoleKeys::decode(roles.object(name, &["keyids", "threshold"])?, &keys);
        let (root, targets) = (role("root")?, role("targets")?);
        let (snapshot, timestamp) = (role("snapshot")?, role("timestamp")?);
        let Signed {
            seen: Seen { version, sha256 },
            expires,
        } = signed;
        Ok(Self {
            envelope,
            version,
            expires,
            sha256,
            root,
            targets,
            snapshot,
            timestamp,
        })
    }
}

/// The version that a root file states. Its structure is right; nothing is said of its signatures.
///
/// # Errors
///
/// [`Error::Malformed`] or what else is wrong with its structure.
pub fn root_version(file: &[u8]) -> Result<u64, Error> {
    Root::parse(file).map(|root| root.version)
}

/// What all documents have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed {
    pub(super) seen: Seen,
    pub(super) expires: Timestamp,
}

impl Signed {
    /// Reads what every document begins with; `raw` is the whole file.
    fn decode(object: Object<'_>, kind: &str, raw: &[u8]) -> Result<Self, FormatError> {
        if object.string("_type")? != kind {
            return Err(FormatError::member("_type", "is of another document"));
        }
        let seen = Seen {
            version: object.integer("version", 1)?,
            sha256: sha256(raw),
        };
        Ok(Self {
            seen,
            expires: object.time("expires")?,
        })
    }
}

/// The entry of a base role, which must be there.
fn base_entry(meta: Object<'_>, name: &str) -> Result<Meta, FormatError> {
    let entry = meta
        .get(name)
        .ok_or_else(|| FormatError::member(name, "is missing"))?;
    Meta::decode(entry, name)
}

/// A timestamp, verified.
#[derive(Debug)]
pub(super) struct TimestampFile {
    pub(super) signed: Signed,
    pub(super) snapshot: Meta,
}

impl TimestampFile {
    /// Accepts `raw` if `keys` signed it.
    pub(super) fn verify(raw: &[u8], keys: &RoleKeys) -> Result<Self, Error> {
        const ROLE: Role = Role::Timestamp;
        let envelope = Envelope::parse(&ROLE, raw)?;
        envelope.verify(&ROLE, keys)?;
        let decoded = (|| {
            let object = Object::of(
                envelope.signed(),
                "signed",
                &["_type", "expires", "meta", "version"],
            )?;
            let signed = Signed::decode(object, "Timestamp", raw)?;
            Ok(Self {
                signed,
                snapshot: base_entry(object.submap("meta")?, "snapshot")?,
            })
        })();
        decoded.map_err(malformed(&ROLE))
    }
}

/// A snapshot, verified: the exact bytes of every other file.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) signed: Signed,
    pub(super) root: Meta,
    pub(super) targets: Meta,
    pub(super) delegations: BTreeMap<DelegationName, Meta>,
}

impl Snapshot {
    /// Accepts `raw` if `keys` signed it.
    pub(super) fn verify(raw: &[u8], keys: &RoleKeys) -> Result<Self, Error> {
        const ROLE: Role = Role::Snapshot;
        let envelope = Envelope::parse(&ROLE, raw)?;
        envelope.verify(&ROLE, keys)?;
        Self::decode(&envelope, raw).map_err(malformed(&ROLE))
    }

    fn decode(envelope: &Envelope, raw: &[u8]) -> Result<Self, FormatError> {
        let object = Object::of(
            envelope.signed(),
            "signed",
            &["_type", "expires", "meta", "version"],
        )?;
        let signed = Signed::decode(object, "Snapshot", raw)?;
        let meta = object.submap("meta")?;
        let mut delegations = BTreeMap::new();
        for (name, entry) in meta.members() {
            // Names that no delegation can have are never looked up, and so may say what they like.
            if let Ok(delegation) = name.parse() {
                delegations.insert(delegation, Meta::decode(entry, name)?);
            }
        }
        Ok(Self {
            signed,
            root: base_entry(meta, "root")?,
            targets: base_entry(meta, "targets")?,
            delegations,
        })
    }
}

/// `targets` or a delegation, verified.
#[derive(Debug)]
pub(super) struct Targets {
    pub(super) signed: Signed,
    /// Canonical ids of the keys whose signatures verified.
    pub(super) signers: BTreeSet<KeyId>,
    /// In the publisher's order, which is the order of search.
    pub(super) delegations: Vec<Delegation>,
    /// Tag to SHA-256; `None` where the entry has no usable one (T53). Names that are no tags are left out (T38).
    pub(super) entries: BTreeMap<Tag, Option<[u8; 32]>>,
}

/// A role below another, and what it may sign.
#[derive(Debug)]
pub(super) struct Delegation {
    pub(super) name: DelegationName,
    pub(super) keys: RoleKeys,
    /// Plain prefixes of tags (§6.4).
    pub(super) paths: Vec<String>,
}

impl Targets {
    /// Accepts `raw` as the file of `role` if `keys` signed it.
    pub(super) fn verify(role: &Role, raw: &[u8], keys: &RoleKeys, limits: &Limits) -> Result<Self, Error> {
        let envelope = Envelope::parse(role, raw)?;
        let signers = envelope.verify(role, keys)?;
        let (entries, delegations, signed) = decode_targets(role, &envelope, raw).map_err(malformed(role))?;
        if entries.len() > limits.targets_per_role {
            let most = u64::try_from(limits.targets_per_role).unwrap_or(u64::MAX);
            return Err(Error::Limit {
                what: "targets of a role",
                most,
            });
        }
        Ok(Self {
            signed,
            signers,
            delegations,
            entries,
        })
    }

    /// Whether `name` is delegated here, and how.
    pub(super) fn delegation(&self, name: &DelegationName) -> Option<&Delegation> {
        self.delegations
            .iter()
            .find(|delegation| delegation.name == *name)
    }
}

type Entries = BTreeMap<Tag, Option<[u8; 32]>>;

fn decode_targets(
    role: &Role,
    envelope: &Envelope,
    raw: &[u8],
) -> Result<(Entries, Vec<Delegation>, Signed), FormatError> {
    const KNOWN: [&str; 5] = ["_type", "delegations", "expires", "targets", "version"];
    let object = Object::of(envelope.signed(), "signed", &KNOWN)?;
    let signed = Signed::decode(object, "Targets", raw)?;
    let mut entries = BTreeMap::new();
    for (name, entry) in object.submap("targets")?.members() {
        let sha256 = entry_sha256(entry)?;
        if let Ok(tag) = name.parse() {
            entries.insert(tag, sha256);
        }
    }
    Ok((entries, decode_delegations(role, object)?, signed))
}

fn entry_sha256(entry: &super::canonical::Value) -> Result<Option<[u8; 32]>, FormatError> {
    let object = Object::of(entry, "targets", &["custom", "hashes", "length"])?;
    object.integer("length", 0)?;
    let Some(hash) = object.submap("hashes")?.get("sha256") else {
        return Ok(None);
    };
    Ok(decode::base64(decode::string(hash, "sha256")?, "sha256")?
        .try_into()
        .ok())
}

fn decode_delegations(role: &Role, object: Object<'_>) -> Result<Vec<Delegation>, FormatError> {
    let Some(value) = object.get("delegations") else {
        return Ok(Vec::new());
    };
    let delegations = Object::of(value, "delegations", &["keys", "roles"])?;
    let keys = Keys::decode(delegations.submap("keys")?)?;
    let mut decoded = Vec::new();
    let mut names = BTreeSet::new();
    for value in delegations.array("roles")? {
        let delegation = decode_delegation(role, value, &keys)?;
        if !names.insert(delegation.name.clone()) {
            return Err(FormatError::member("roles", "delegates to one name twice"));
        }
        decoded.push(delegation);
    }
    Ok(decoded)
}

fn decode_delegation(
    role: &Role,
    value: &super::canonical::Value,
    keys: &Keys,
) -> Result<Delegation, FormatError> {
    let object = Object::of(value, "roles", &["keyids", "name", "paths", "threshold"])?;
    let name: DelegationName = object
        .string("name")?
        .parse()
        .map_err(|_| FormatError::member("name", "is not a delegation's"))?;
    if Role::Delegation(name.clone()).parent().as_ref() != Some(role) {
        return Err(FormatError::member(
            "name",
            "is not directly below the delegating role",
        ));
    }
    let paths = object.strings("paths")?.into_iter().map(str::to_owned).collect();
    Ok(Delegation {
        name,
        keys: RoleKeys::decode(object, keys)?,
        paths,
    })
}
