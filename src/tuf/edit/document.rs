//! The documents as a publisher edits and writes them: exactly the members that the reference knows, in exactly the
//! bytes that it would write (notary-v1 §3.2, §3.8). A server that re-serialises an upload before it hashes it then
//! gets the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use jiff::Timestamp;

use super::super::canonical::Value;
use super::super::decode::{FormatError, Object};
use super::super::envelope::Envelope;
use super::super::key::{KeyId, PublicKey};
use super::super::{DelegationName, Error, Role};

/// Which keys sign for a role, and how many of them must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Signers {
    pub(in super::super) keyids: Vec<KeyId>,
    pub(in super::super) threshold: u64,
}

impl Signers {
    fn decode(role: Object<'_>) -> Result<Self, FormatError> {
        let ids = role.strings("keyids")?.into_iter().map(str::parse);
        Ok(Self {
            keyids: ids
                .collect::<Result<_, _>>()
                .map_err(|_| FormatError::member("keyids", "has an entry that is no key id"))?,
            threshold: role.integer("threshold", 1)?,
        })
    }

    fn encode(&self) -> [(&'static str, Value); 2] {
        let ids = self.keyids.iter().map(|id| string(&id.to_string())).collect();
        [
            ("keyids", Value::Array(ids)),
            ("threshold", integer(self.threshold)),
        ]
    }
}

/// The keys of a document, by the id under which it lists them.
pub(in super::super) type Keys = BTreeMap<KeyId, Arc<PublicKey>>;

fn decode_keys(map: Object<'_>) -> Result<Keys, FormatError> {
    let keys = map.members().iter().map(|(_, value)| {
        let key = PublicKey::decode(value)?;
        Ok((key.id(), Arc::new(key)))
    });
    keys.collect()
}

fn encode_keys(keys: &Keys) -> Value {
    sorted(keys.iter().map(|(id, key)| (id.to_string(), key.listed())))
}

/// What a document is to be when it is signed.
pub(in super::super) trait Document: Sized {
    /// Takes the document out of a file.
    fn read(role: &Role, file: &[u8]) -> Result<Self, Error> {
        let envelope = Envelope::parse(role, file)?;
        Self::decode(envelope.signed()).map_err(|source| Error::Malformed {
            role: role.clone(),
            source,
        })
    }

    fn decode(signed: &Value) -> Result<Self, FormatError>;

    /// What is signed, as `version`, good until `expires`.
    fn encode(&self, version: u64, expires: Timestamp) -> Value;
}

/// `root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct RootDocument {
    consistent: bool,
    pub(in super::super) keys: Keys,
    /// The four base roles, and whatever else is there.
    pub(in super::super) roles: BTreeMap<Box<str>, Signers>,
    pub(in super::super) version: u64,
}

impl RootDocument {
    /// A root that lists nothing yet.
    pub(in super::super) const fn new() -> Self {
        Self {
            consistent: false,
            keys: Keys::new(),
            roles: BTreeMap::new(),
            version: 0,
        }
    }

    /// The keys of a base role.
    pub(in super::super) fn keys_of(&self, role: &Role) -> Vec<&Arc<PublicKey>> {
        self.signers_of(role).map_or_else(Vec::new, |signers| {
            signers.keyids.iter().filter_map(|id| self.keys.get(id)).collect()
        })
    }

    pub(in super::super) fn signers_of(&self, role: &Role) -> Option<&Signers> {
        self.roles.get(role.as_str())
    }

    /// Gives a base role other keys; how many of them must sign stays. Keys that no role lists any more go, except old
    /// root certificates, which the reference leaves where they are (§3.8).
    pub(in super::super) fn replace(&mut self, role: &Role, keys: &[Arc<PublicKey>]) {
        let signers = Signers {
            keyids: keys.iter().map(|key| key.id()).collect(),
            threshold: self.signers_of(role).map_or(1, |signers| signers.threshold),
        };
        self.keys
            .extend(keys.iter().map(|key| (key.id(), Arc::clone(key))));
        let old = self.roles.insert(role.as_str().into(), signers);
        let used = |id: &KeyId| self.roles.values().any(|signers| signers.keyids.contains(id));
        let gone = old.map_or_else(Vec::new, |old| old.keyids);
        for id in gone.into_iter().filter(|id| *role != Role::Root && !used(id)) {
            self.keys.remove(&id);
        }
    }
}

impl Document for RootDocument {
    fn decode(signed: &Value) -> Result<Self, FormatError> {
        let root = Object::map(signed, "signed")?;
        let roles = root.submap("roles")?.members().iter();
        let roles = roles.map(|(name, role)| Ok((name.clone(), Signers::decode(Object::map(role, name)?)?)));
        Ok(Self {
            consistent: root.get("consistent_snapshot") == Some(&Value::Bool(true)),
            keys: decode_keys(root.submap("keys")?)?,
            roles: roles.collect::<Result<_, FormatError>>()?,
            version: root.integer("version", 1)?,
        })
    }

    fn encode(&self, version: u64, expires: Timestamp) -> Value {
        let roles = self.roles.iter();
        let roles = sorted(roles.map(|(name, signers)| (name.to_string(), object(signers.encode()))));
        object([
            ("_type", string("Root")),
            ("consistent_snapshot", Value::Bool(self.consistent)),
            ("expires", time(expires)),
            ("keys", encode_keys(&self.keys)),
            ("roles", roles),
            ("version", integer(version)),
        ])
    }
}

/// A role below another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Delegated {
    pub(in super::super) name: DelegationName,
    pub(in super::super) signers: Signers,
    pub(in super::super) paths: Vec<Box<str>>,
}

/// `targets`, or a delegation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct TargetsDocument {
    pub(in super::super) keys: Keys,
    /// In the publisher's order, which is the order of search.
    pub(in super::super) delegations: Vec<Delegated>,
    /// Entries as they are, `custom` with them.
    pub(in super::super) targets: BTreeMap<Box<str>, Value>,
    pub(in super::super) version: u64,
}

impl TargetsDocument {
    pub(in super::super) fn delegation(&self, name: &DelegationName) -> Option<&Delegated> {
        self.delegations
            .iter()
            .find(|delegation| delegation.name == *name)
    }

    /// The keys that may sign for the delegation `name`.
    pub(in super::super) fn keys_of(&self, delegation: &Delegated) -> Vec<&Arc<PublicKey>> {
        let ids = delegation.signers.keyids.iter();
        ids.filter_map(|id| self.keys.get(id)).collect()
    }

    /// Drops keys that no delegation lists.
    pub(in super::super) fn prune(&mut self) {
        let delegations = &self.delegations;
        let used = |id: &KeyId| {
            delegations
                .iter()
                .any(|delegation| delegation.signers.keyids.contains(id))
        };
        self.keys.retain(|id, _| used(id));
    }
}

impl Document for TargetsDocument {
    fn decode(signed: &Value) -> Result<Self, FormatError> {
        let file = Object::map(signed, "signed")?;
        let delegations = file.submap("delegations")?;
        let roles = delegations.array("roles")?.iter().map(|role| {
            let role = Object::map(role, "roles")?;
            let name = role.string("name")?.parse();
            Ok(Delegated {
                name: name.map_err(|_| FormatError::member("name", "is not a delegation's"))?,
                signers: Signers::decode(role)?,
                paths: role.strings("paths")?.into_iter().map(Box::from).collect(),
            })
        });
        let entries = file.submap("targets")?.members().iter();
        let entries = entries.map(|(name, entry)| Ok((name.clone(), entry_of(entry)?)));
        Ok(Self {
            keys: decode_keys(delegations.submap("keys")?)?,
            delegations: roles.collect::<Result<_, FormatError>>()?,
            targets: entries.collect::<Result<_, FormatError>>()?,
            version: file.integer("version", 1)?,
        })
    }

    fn encode(&self, version: u64, expires: Timestamp) -> Value {
        let roles = self.delegations.iter().map(|delegation| {
            let [keyids, threshold] = delegation.signers.encode();
            let name = ("name", string(&delegation.name.to_string()));
            let paths = delegation.paths.iter().map(|path| string(path)).collect();
            let paths = (!delegation.paths.is_empty()).then_some(("paths", Value::Array(paths)));
            object([keyids, name, threshold].into_iter().chain(paths))
        });
        let delegations = object([
            ("keys", encode_keys(&self.keys)),
            ("roles", Value::Array(roles.collect())),
        ]);
        let targets = self.targets.iter();
        object([
            ("_type", string("Targets")),
            ("delegations", delegations),
            ("expires", time(expires)),
            (
                "targets",
                sorted(targets.map(|(name, entry)| (name.to_string(), entry.clone()))),
            ),
            ("version", integer(version)),
        ])
    }
}

/// `snapshot`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct SnapshotDocument {
    /// Length and hashes of every file, by role.
    pub(in super::super) meta: BTreeMap<Box<str>, Value>,
    pub(in super::super) version: u64,
}

impl SnapshotDocument {
    /// States `file` as that of `role`.
    pub(in super::super) fn describe(&mut self, role: &Role, file: &[u8]) {
        self.meta.insert(role.as_str().into(), description(file));
    }
}

/// Length and hashes of a file.
fn description(file: &[u8]) -> Value {
    use aws_lc_rs::digest::{SHA512, digest};
    let hash = |bytes: &[u8]| string(&BASE64_STANDARD.encode(bytes));
    let hashes = object([
        ("sha256", hash(&super::super::sha256(file))),
        ("sha512", hash(digest(&SHA512, file).as_ref())),
    ]);
    let length = integer(u64::try_from(file.len()).unwrap_or(u64::MAX));
    object([("hashes", hashes), ("length", length)])
}

impl Document for SnapshotDocument {
    fn decode(signed: &Value) -> Result<Self, FormatError> {
        let file = Object::map(signed, "signed")?;
        let meta = file.submap("meta")?.members().iter();
        let meta = meta.map(|(name, entry)| Ok((name.clone(), entry_of(entry)?)));
        Ok(Self {
            meta: meta.collect::<Result<_, FormatError>>()?,
            version: file.integer("version", 1)?,
        })
    }

    fn encode(&self, version: u64, expires: Timestamp) -> Value {
        let meta = self.meta.iter();
        object([
            ("_type", string("Snapshot")),
            ("expires", time(expires)),
            (
                "meta",
                sorted(meta.map(|(name, entry)| (name.to_string(), entry.clone()))),
            ),
            ("version", integer(version)),
        ])
    }
}

/// What is signed of a timestamp of `version`, good until `expires`, that names `snapshot`.
pub(in super::super) fn timestamp(snapshot: &[u8], version: u64, expires: Timestamp) -> Value {
    object([
        ("_type", string("Timestamp")),
        ("expires", time(expires)),
        ("meta", object([("snapshot", description(snapshot))])),
        ("version", integer(version)),
    ])
}

/// The entry of a tag or file: what the reference keeps of it, `custom` as it is.
fn entry_of(value: &Value) -> Result<Value, FormatError> {
    let entry = Object::map(value, "targets")?;
    let kept = ["custom", "hashes", "length"].into_iter();
    Ok(object(
        kept.filter_map(|name| Some((name, entry.get(name)?.clone()))),
    ))
}

/// The entry of a tag: its manifest's digest and length (§6.1).
pub(in super::super) fn target(sha256: &[u8; 32], length: u64) -> Value {
    let hash = string(&BASE64_STANDARD.encode(sha256));
    object([
        ("hashes", object([("sha256", hash)])),
        ("length", integer(length)),
    ])
}

/// A file: what is signed, and signatures by key id and method (§3.1).
pub(in super::super) fn file(signed: &Value, signatures: &[(KeyId, &str, Vec<u8>)]) -> Bytes {
    let signatures = signatures.iter().map(|(id, method, bytes)| {
        object([
            ("keyid", string(&id.to_string())),
            ("method", string(method)),
            ("sig", string(&BASE64_STANDARD.encode(bytes))),
        ])
    });
    enveloped(signed, &Value::Array(signatures.collect())).into()
}

/// The text of a file, as the reference's encoder writes it (§3.2).
pub(in super::super) fn enveloped(signed: &Value, signatures: &Value) -> String {
    let (signed, signatures) = (escaped(&signed.canonical()), escaped(&signatures.canonical()));
    format!(r#"{{"signed":{signed},"signatures":{signatures}}}"#)
}

/// What Go's encoder escapes in text that is canonical already (§3.2 step 2).
fn escaped(canonical: &str) -> String {
    let mut text = String::with_capacity(canonical.len());
    for c in canonical.chars() {
        match c {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            c => text.push(c),
        }
    }
    text
}

fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    sorted(members.into_iter().map(|(name, value)| (name.to_owned(), value)))
}

/// An object, its members in canonical order.
fn sorted(members: impl Iterator<Item = (String, Value)>) -> Value {
    let members: BTreeMap<_, _> = members.collect();
    let members = members.into_iter().map(|(name, value)| (name.into(), value));
    Value::Object(members.collect())
}

fn string(text: &str) -> Value {
    Value::String(text.into())
}

/// Versions, lengths and thresholds were read as, or are counted to, far less than the largest integer there is.
fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// UTC and whole seconds: the form that survives the reference's clock and encoder (§3.4).
fn time(at: Timestamp) -> Value {
    string(&at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
