//! Public keys, their ids, and the signatures they make (notary-v1 §3.5–3.7).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA256_ASN1, ECDSA_P521_SHA256_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use spki::der::{Decode as _, Encode as _};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};

use super::asn1;
use super::canonical::Value;
use super::certificate::Bundle;
use super::decode::{FormatError, Object};
use super::pem;

pub(super) const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(super) const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
pub(super) const ED25519_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
pub(super) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(super) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
pub(super) const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
/// Bytes of one half of a P-384 signature.
const P384_HALF: usize = 48;

/// A key id: SHA-256 over the canonical form of a key, written as 64 lower-case hex digits (§3.6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// The id of a key of type `keytype` whose `public` member holds `public`, not yet in base64.
    pub(super) fn of(keytype: &str, public: &[u8]) -> Self {
        Self(sha256(listed(keytype, public).canonical().as_bytes()))
    }
}

/// A key object of a `keys` map (§3.5).
fn listed(keytype: &str, public: &[u8]) -> Value {
    let keyval = Value::Object(vec![
        ("private".into(), Value::Null),
        (
            "public".into(),
            Value::String(BASE64_STANDARD.encode(public).into()),
        ),
    ]);
    Value::Object(vec![
        ("keytype".into(), Value::String(keytype.into())),
        ("keyval".into(), keyval),
    ])
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 32];
        let lower = text.bytes().all(|b| !b.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut id) {
            Ok(()) if lower => Ok(Self(id)),
            _ => Err(KeyError::Id),
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// A key as metadata lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    keytype: Box<str>,
    public: Vec<u8>,
    id: KeyId,
    canonical: KeyId,
    material: Material,
    bundle: Option<Bundle>,
}

/// What signatures are verified with. A key we cannot use is not an error: its signatures never verify (§3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Vec<u8>),
    /// DER `SubjectPublicKeyInfo`.
    Rsa(Vec<u8>),
    Ed25519(Vec<u8>),
    Unusable,
}

impl PublicKey {
    /// Reads a key object of a `keys` map.
    pub(super) fn decode(value: &Value) -> Result<Self, FormatError> {
        let key = Object::of(value, "keys", &["keytype", "keyval"])?;
        let keytype = key.string("keytype")?;
        let public = key.object("keyval", &["public", "private"])?.base64("public")?;
        Ok(Self::new(keytype, public))
    }

    /// Reads a key object by itself, as a trust server answers it: the order of its members is not canonical (§2.5).
    ///
    /// # Errors
    ///
    /// [`FormatError`] if it is none.
    pub fn parse(json: &[u8]) -> Result<Self, FormatError> {
        Self::decode(&Value::parse(json).map_err(FormatError::Json)?)
    }

    /// The key of type `keytype` whose `public` member holds `public`, not yet in base64 (§3.5).
    pub fn new(keytype: &str, public: Vec<u8>) -> Self {
        let id = KeyId::of(keytype, &public);
        let bundle = if matches!(keytype, "ecdsa-x509" | "rsa-x509") {
            Bundle::parse(&public).ok()
        } else {
            None
        };
        let (canonical, material) = match (keytype, &bundle) {
            ("ecdsa-x509" | "rsa-x509", Some(bundle)) => {
                // A key in a certificate with a broken hash or a short modulus never verifies, whatever its role (T52).
                let sound = bundle.leaf().defect(None).is_none();
                let material = Material::of_spki(bundle.leaf().spki()).filter(|m| sound && m.fits(keytype));
                (canonical_id(bundle.leaf().spki()).unwrap_or(id), material)
            }
            ("ecdsa" | "rsa", _) => (id, Material::of_spki(&public).filter(|m| m.fits(keytype))),
            ("ed25519", _) if public.len() == 32 => (id, Some(Material::Ed25519(public.clone()))),
            _ => (id, None),
        };
        Self {
            keytype: keytype.into(),
            public,
            id,
            canonical,
            material: material.unwrap_or(Material::Unusable),
            bundle,
        }
    }

    /// A signer's public key as people hand it over: the first PEM block of `text`, a `PUBLIC KEY` or a `CERTIFICATE`
    /// that is good at `now` (§7.5). Headers such as docker's `role: alice` are skipped.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it is neither, or its key is not ECDSA or RSA: the reference knows no others here.
    pub fn of_signer(text: &str, now: Timestamp) -> Result<Self, KeyError> {
        let blocks = pem::blocks(text).map_err(|_| KeyError::Pem)?;
        let block = blocks.into_iter().next().ok_or(KeyError::Pem)?;
        let (spki, public, suffix) = match block.label {
            "PUBLIC KEY" => (block.der.to_vec(), block.der.to_vec(), ""),
            "CERTIFICATE" => {
                let public = pem::encode(block.label, &[], &block.der).as_bytes().to_vec();
                let bundle = Bundle::parse(&public).map_err(|_| KeyError::Unusable)?;
                if bundle.leaf().defect(Some(now)).is_some() {
                    return Err(KeyError::Certificate);
                }
                (bundle.leaf().spki().to_vec(), public, "-x509")
            }
            _ => return Err(KeyError::Pem),
        };
        let family = match Material::of_spki(&spki) {
            Some(Material::Rsa(_)) => "rsa",
            Some(Material::P256(_) | Material::P384(_) | Material::P521(_)) => "ecdsa",
            Some(Material::Ed25519(_) | Material::Unusable) | None => return Err(KeyError::Unusable),
        };
        Ok(Self::new(&format!("{family}{suffix}"), public))
    }

    /// The type under which metadata lists the key: `ecdsa`, `ecdsa-x509`, `rsa`, `rsa-x509`, `ed25519`, or one we do
    /// not know.
    pub fn keytype(&self) -> &str {
        &self.keytype
    }

    /// What the `public` member holds, not yet in base64: DER, PEM certificates or raw bytes, as the type says.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The key object as metadata lists it.
    pub fn listed(&self) -> Value {
        listed(&self.keytype, &self.public)
    }

    /// The TUF key id: what roles list and signatures name.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The id of the bare key, the same for every certificate around it.
    pub const fn canonical(&self) -> KeyId {
        self.canonical
    }

    /// The certificates around the key, if it came in any that can be read.
    pub const fn bundle(&self) -> Option<&Bundle> {
        self.bundle.as_ref()
    }

    /// Whether signatures by it can verify at all.
    pub const fn is_usable(&self) -> bool {
        !matches!(self.material, Material::Unusable)
    }

    /// Whether `signature` is this key's over `message` by `method`, in any letter case (§3.7). A method that
    /// does not belong to the key's type, or one we do not know, never verifies.
    pub fn verify(&self, method: &str, message: &[u8], signature: &[u8]) -> bool {
        match (method.to_ascii_lowercase().as_str(), &self.material) {
            ("ecdsa", Material::P256(point)) => verify(&ECDSA_P256_SHA256_FIXED, point, message, signature),
            ("ecdsa", Material::P521(point)) => verify(&ECDSA_P521_SHA256_FIXED, point, message, signature),
            // No fixed-length variant of P-384 hashes with SHA-256, so the halves go in as DER.
            ("ecdsa", Material::P384(point)) => {
                signature.len() == 2 * P384_HALF
                    && verify(
                        &ECDSA_P384_SHA256_ASN1,
                        point,
                        message,
                        &asn1::signature(signature),
                    )
            }
            ("rsapss", Material::Rsa(key)) => verify(&RSA_PSS_2048_8192_SHA256, key, message, signature),
            ("rsapkcs1v15", Material::Rsa(key)) => {
                verify(&RSA_PKCS1_2048_8192_SHA256, key, message, signature)
            }
            ("eddsa", Material::Ed25519(key)) => verify(&ED25519, key, message, signature),
            _ => false,
        }
    }
}

fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .is_ok()
}

impl Material {
    fn of_spki(der: &[u8]) -> Option<Self> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).ok()?;
        // Uncompressed points only, as the reference reads them: a second spelling would be a second id of one key
        // (T19), and the cryptographic library would read yet others.
        let point = || {
            let point = spki.subject_public_key.as_bytes()?;
            (point.first() == Some(&0x04)).then(|| point.to_vec())
        };
        if spki.algorithm.oid == RSA_ENCRYPTION {
            return Some(Self::Rsa(der.to_vec()));
        }
        if spki.algorithm.oid != EC_PUBLIC_KEY {
            return None;
        }
        match spki.algorithm.parameters_oid().ok()? {
            P256 => Some(Self::P256(point()?)),
            P384 => Some(Self::P384(point()?)),
            P521 => Some(Self::P521(point()?)),
            // P-224 among them: below the strength of everything else here.
            _ => None,
        }
    }

    fn fits(&self, keytype: &str) -> bool {
        matches!(self, Self::Rsa(_)) == keytype.starts_with("rsa")
    }
}

/// The id of the bare key in a DER `SubjectPublicKeyInfo`, as Notary names its key files (§3.6).
fn canonical_id(spki: &[u8]) -> Option<KeyId> {
    let info = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
    match info.algorithm.oid {
        EC_PUBLIC_KEY => Some(KeyId::of("ecdsa", spki)),
        RSA_ENCRYPTION => Some(KeyId::of("rsa", spki)),
        ED25519_KEY => Some(KeyId::of("ed25519", info.subject_public_key.as_bytes()?)),
        _ => None,
    }
}

/// The canonical id of a public key that a person wrote down: a PEM `PUBLIC KEY`, or a `CERTIFICATE` for the key
/// in it. Headers such as docker's `role: alice` are skipped.
///
/// # Errors
///
/// [`KeyError`] if there is not exactly one such block, or it holds no ECDSA, RSA or Ed25519 key.
pub fn pinned_key(text: &str) -> Result<KeyId, KeyError> {
    let blocks = pem::blocks(text).map_err(|_| KeyError::Pem)?;
    let [block] = blocks.as_slice() else {
        return Err(KeyError::Pem);
    };
    let spki = match block.label {
        "PUBLIC KEY" => {
            let info = SubjectPublicKeyInfoOwned::from_der(&block.der).map_err(|_| KeyError::Unusable)?;
            info.to_der().map_err(|_| KeyError::Unusable)?
        }
        "CERTIFICATE" => Bundle::parse(text.as_bytes())
            .map_err(|_| KeyError::Unusable)?
            .leaf()
            .spki()
            .to_vec(),
        _ => return Err(KeyError::Pem),
    };
    let usable = Material::of_spki(&spki).is_some();
    canonical_id(&spki)
        .filter(|_| usable || is_ed25519(&spki))
        .ok_or(KeyError::Unusable)
}

fn is_ed25519(spki: &[u8]) -> bool {
    SubjectPublicKeyInfoRef::from_der(spki).is_ok_and(|info| info.algorithm.oid == ED25519_KEY)
}

/// Why a text is not a key or a key id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a key id.
    #[error("a key id is 64 lower-case hex digits")]
    Id,
    /// Not one PEM block of the right kind.
    #[error("a key is one PEM block of type PUBLIC KEY or CERTIFICATE")]
    Pem,
    /// A certificate that does not count any more, or yet.
    #[error("the certificate is expired, not yet valid, or weak")]
    Certificate,
    /// No key of a supported type.
    #[error("the key is not ECDSA (P-256, P-384, P-521), RSA or Ed25519")]
    Unusable,
}

#[cfg(test)]
mod tests;
