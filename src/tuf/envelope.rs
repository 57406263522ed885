//! A metadata file: what is signed, and by whom (notary-v1 §3.1, §3.7).

use std::collections::BTreeSet;

use super::canonical::Value;
use super::decode::{self, FormatError, Object};
use super::key::{KeyId, PublicKey};
use super::{Error, Role};

/// Most signatures in one file: each costs a verification. Real files have one to five.
const MAX_SIGNATURES: usize = 256;

/// A file taken apart, nothing in it verified.
#[derive(Debug)]
pub(super) struct Envelope {
    signed: Value,
    /// The bytes that were signed.
    canonical: String,
    signatures: Vec<Signature>,
}

#[derive(Debug)]
struct Signature {
    key: String,
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
        let signatures = object.array("signatures")?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(FormatError::member("signatures", "has too many entries"));
        }
        let signatures = signatures
            .iter()
            .map(Signature::decode)
            .collect::<Result<_, _>>()?;
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
    pub(super) fn verified<'a>(&self, keys: impl IntoIterator<Item = &'a PublicKey>) -> Vec<&'a PublicKey> {
        let signed_by = |key: &PublicKey| {
            let id = key.id().to_string();
            let mut own = self.signatures.iter().filter(|signature| signature.key == id);
            own.any(|signature| key.verify(&signature.method, self.canonical.as_bytes(), &signature.bytes))
        };
        keys.into_iter().filter(|key| signed_by(key)).collect()
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
        keys: &[PublicKey],
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
    fn decode(value: &Value) -> Result<Self, FormatError> {
        let object = Object::of(value, "signatures", &["keyid", "method", "sig"])?;
        Ok(Self {
            key: object.string("keyid")?.to_owned(),
            method: object.string("method")?.to_owned(),
            bytes: object.base64("sig")?,
        })
    }
}

/// The keys that may sign for a role, and how many of them must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoleKeys {
    pub(super) keys: Vec<PublicKey>,
    pub(super) threshold: u64,
}

impl RoleKeys {
    /// Reads `keyids` and `threshold` of a role; every id must be in `keys` (§3.8).
    pub(super) fn decode(role: Object<'_>, keys: &Keys) -> Result<Self, FormatError> {
        let mut listed = Vec::new();
        for id in role.strings("keyids")? {
            let id: KeyId = id
                .parse()
                .map_err(|_| FormatError::member("keyids", "has an entry that is no key id"))?;
            let key = keys.0.iter().find(|key| key.id() == id);
            listed.push(
                key.ok_or_else(|| FormatError::member("keyids", "names a key that is not there"))?
                    .clone(),
            );
        }
        Ok(Self {
            keys: listed,
            threshold: role.integer("threshold", 1)?,
        })
    }

    /// The distinct bare keys, whatever certificates they are in.
    pub(super) fn canonical(&self) -> BTreeSet<KeyId> {
        self.keys.iter().map(PublicKey::canonical).collect()
    }
}

/// A `keys` map, every entry filed under its own id (T21).
pub(super) struct Keys(Vec<PublicKey>);

impl Keys {
    pub(super) fn decode(map: Object<'_>) -> Result<Self, FormatError> {
        let mut keys = Vec::new();
        for (id, value) in map.members() {
            let key = PublicKey::decode(value)?;
            if key.id().to_string() != **id {
                return Err(FormatError::member("keys", "files a key under a foreign id"));
            }
            keys.push(key);
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
