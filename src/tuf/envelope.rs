//! A metadata file: what is signed, and by whom (notary-v1 §3.1, §3.7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::canonical::Value;
use super::decode::{self, FormatError, Object};
use super::key::{KeyId, PublicKey};
use super::{Error, Role};

/// Most signatures in one file: each costs at most one verification, of up to half a millisecond (P-521). Real files
/// have one to five.
const MAX_SIGNATURES: usize = 64;

/// A file taken apart, nothing in it verified.
#[derive(Debug)]
pub(super) struct Envelope {
    signed: Value,
    /// The bytes that were signed.
    canonical: String,
    /// By the key id they name. Signers write one for each key; of several only the first is looked at, so that a
    /// file costs no more verifications than it has keys (T20).
    signatures: BTreeMap<String, Signature>,
}

#[derive(Debug)]
struct Signature {
    method: String,
    bytes: Vec<u8>,
}

impl Envelope {
    /// Takes `raw` apart. Nothing but one newline may follow the object.
    pub(super) fn parse(role: &Role, raw: &[u8]) -> Result<Self, Error> {
        Self::read(raw).map_err(|source| Error::Malformed {
            role: role.clone(),
            source,
        })
    }

    fn read(raw: &[u8]) -> Result<Self, FormatError> {
        let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
        if raw.last() != Some(&b'}') {
            return Err(FormatError::member("signatures", "is followed by other data"));
        }
        let file = Value::parse(raw).map_err(FormatError::Json)?;
        let object = Object::of(&file, "file", &["signed", "signatures"])?;
        let signatures = Signature::decode_all(object.array("signatures")?)?;
        let Value::Object(members) = file else {
            return Err(FormatError::member("file", "is not an object"));
        };
        let signed = members
            .into_iter()
            .find(|(name, _)| &**name == "signed")
            .map(|(_, value)| value);
        match signed {
            Some(signed @ Value::Object(_)) => Ok(Self {
                canonical: signed.canonical(),
                signed,
                signatures,
            }),
            _ => Err(FormatError::member("signed", "is not an object")),
        }
    }

    /// What was signed, to be decoded: the very tree that was canonicalised.
    pub(super) const fn signed(&self) -> &Value {
        &self.signed
    }

    /// Those of `keys` whose signature verifies.
    pub(super) fn verified<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a Arc<PublicKey>>,
    ) -> Vec<&'a PublicKey> {
        let signed_by = |key: &PublicKey| {
            let own = self.signatures.get(&key.id().to_string());
            own.is_some_and(|own| key.verify(&own.method, self.canonical.as_bytes(), &own.bytes))
        };
        let keys = keys.into_iter().map(Arc::as_ref);
        keys.filter(|key| signed_by(key)).collect()
    }

    /// The canonical ids of the role's keys that signed, if they reach its threshold.
    pub(super) fn verify(&self, role: &Role, keys: &RoleKeys) -> Result<BTreeSet<KeyId>, Error> {
        self.meets(role, &keys.keys, keys.threshold)
    }

    /// The one place where a threshold is held against signatures. What counts are distinct *canonical* ids: one
    /// private key in two certificates is one signer (§3.7, T19).
    pub(super) fn meets(
        &self,
        role: &Role,
        keys: &[Arc<PublicKey>],
        threshold: u64,
    ) -> Result<BTreeSet<KeyId>, Error> {
        if self.signatures.is_empty() {
            return Err(Error::NoSignatures { role: role.clone() });
        }
        let signers: BTreeSet<_> = self
            .verified(keys)
            .into_iter()
            .map(PublicKey::canonical)
            .collect();
        let valid = signers.len();
        if threshold >= 1 && u64::try_from(valid).is_ok_and(|valid| valid >= threshold) {
            Ok(signers)
        } else {
            Err(Error::Threshold {
                role: role.clone(),
                valid,
                threshold,
            })
        }
    }
}

impl Signature {
    fn decode_all(values: &[Value]) -> Result<BTreeMap<String, Self>, FormatError> {
        if values.len() > MAX_SIGNATURES {
            return Err(FormatError::member("signatures", "has too many entries"));
        }
        let mut signatures = BTreeMap::new();
        for value in values {
            let object = Object::of(value, "signatures", &["keyid", "method", "sig"])?;
            let signature = Self {
                method: object.string("method")?.to_owned(),
                bytes: object.base64("sig")?,
            };
            signatures
                .entry(object.string("keyid")?.to_owned())
                .or_insert(signature);
        }
        Ok(signatures)
    }
}

/// The keys that may sign for a role, and how many of them must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoleKeys {
    /// Each once, however often the role lists it.
    pub(super) keys: Vec<Arc<PublicKey>>,
    pub(super) threshold: u64,
}

impl RoleKeys {
    /// Reads `keyids` and `threshold` of a role; every id must be in `keys` (§3.8).
    pub(super) fn decode(role: Object<'_>, keys: &Keys) -> Result<Self, FormatError> {
        let mut listed = BTreeMap::new();
        for id in role.strings("keyids")? {
            let id: KeyId = id
                .parse()
                .map_err(|_| FormatError::member("keyids", "has an entry that is no key id"))?;
            let key = keys.0.get(&id);
            let key = key.ok_or_else(|| FormatError::member("keyids", "names a key that is not there"))?;
            listed.insert(id, Arc::clone(key));
        }
        Ok(Self {
            keys: listed.into_values().collect(),
            threshold: role.integer("threshold", 1)?,
        })
    }

    /// The distinct bare keys, whatever certificates they are in.
    pub(super) fn canonical(&self) -> BTreeSet<KeyId> {
        self.keys.iter().map(|key| key.canonical()).collect()
    }
}

/// A `keys` map, every entry filed under its own id (T21). Roles share the keys: a short id that is listed a hundred
/// thousand times must not become as many copies of a long certificate (T10).
pub(super) struct Keys(BTreeMap<KeyId, Arc<PublicKey>>);

impl Keys {
    pub(super) fn decode(map: Object<'_>) -> Result<Self, FormatError> {
        let mut keys = BTreeMap::new();
        for (id, value) in map.members() {
            let key = PublicKey::decode(value)?;
            if key.id().to_string() != **id {
                return Err(FormatError::member("keys", "files a key under a foreign id"));
            }
            keys.insert(key.id(), Arc::new(key));
        }
        Ok(Self(keys))
    }
}

/// Expected length and hashes of a file, as the file above it states them (§3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) length: u64,
    pub(super) sha256: [u8; 32],
    sha512: Option<Vec<u8>>,
}

impl Meta {
    /// Reads a `meta` entry. SHA-256 is required; SHA-512 counts if it is there; others are unknown to us (T53).
    pub(super) fn decode(value: &Value, name: &str) -> Result<Self, FormatError> {
        let object = Object::of(value, name, &["hashes", "length"])?;
        let hashes = object.submap("hashes")?;
        let sha256 = sha256_of(hashes)?.ok_or_else(|| FormatError::member("hashes", "has no sha256"))?;
        let sha512 = hashes
            .get("sha512")
            .map(|hash| decode::base64(decode::string(hash, "sha512")?, "sha512"));
        let sha512 = sha512.transpose()?;
        if sha512.as_ref().is_some_and(|hash| hash.len() != 64) {
            return Err(FormatError::member("sha512", "is not 64 bytes"));
        }
        Ok(Self {
            length: object.integer("length", 0)?,
            sha256,
            sha512,
        })
    }

    /// Whether `raw` is the file this entry means: every hash, and the exact length.
    pub(super) fn describes(&self, raw: &[u8]) -> bool {
        use aws_lc_rs::digest::{SHA512, digest};
        u64::try_from(raw.len()) == Ok(self.length)
            && super::key::sha256(raw) == self.sha256
            && self
                .sha512
                .as_ref()
                .is_none_or(|hash| digest(&SHA512, raw).as_ref() == hash.as_slice())
    }
}

/// The `sha256` of a `hashes` map, if it has one.
pub(super) fn sha256_of(hashes: Object<'_>) -> Result<Option<[u8; 32]>, FormatError> {
    let Some(hash) = hashes.get("sha256") else {
        return Ok(None);
    };
    let bytes = decode::base64(decode::string(hash, "sha256")?, "sha256")?;
    bytes
        .try_into()
        .map(Some)
        .map_err(|_| FormatError::member("sha256", "is not 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_role_lists_often_is_there_once_and_shared() {
        let id = KeyId::of("ed25519", &[1; 32]).to_string();
        let public = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let keys =
            format!(r#"{{"{id}":{{"keytype":"ed25519","keyval":{{"private":null,"public":"{public}"}}}}}}"#);
        let ids = vec![format!("\"{id}\""); 1000].join(",");
        let role = format!(r#"{{"keyids":[{ids}],"threshold":1}}"#);
        let (keys, role) = (Value::parse(keys.as_bytes()), Value::parse(role.as_bytes()));
        let (keys, role) = (keys.unwrap(), role.unwrap());
        let keys = Keys::decode(Object::map(&keys, "keys").unwrap()).unwrap();
        let role = RoleKeys::decode(Object::map(&role, "role").unwrap(), &keys).unwrap();
        assert_eq!(role.keys.len(), 1);
        assert_eq!(Arc::strong_count(&role.keys[0]), 2, "shared, not copied");
    }

    #[test]
    fn of_several_signatures_that_name_one_key_the_first_is_looked_at() {
        let signature = |sig: &str| format!(r#"{{"keyid":"a","method":"ecdsa","sig":"{sig}"}}"#);
        let file = |count: usize| {
            let signatures = [vec![signature("AQ==")], vec![signature("Ag=="); count - 1]].concat();
            format!(r#"{{"signed":{{}},"signatures":[{}]}}"#, signatures.join(","))
        };
        let envelope = Envelope::parse(&Role::Root, file(64).as_bytes()).unwrap();
        assert_eq!(envelope.signatures.len(), 1);
        assert_eq!(envelope.signatures["a"].bytes, [1]);
        assert!(
            Envelope::parse(&Role::Root, file(65).as_bytes()).is_err(),
            "too many"
        );
    }
}
