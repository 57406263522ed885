//! Private keys: made, read, written, and signing as metadata wants it (notary-v1 §3.5–3.7, §7.1, §7.3).
//!
//! The secret itself lives in the cryptographic library, which clears its memory; every encoding of it here clears
//! itself when it is dropped, and nothing prints it.

mod certificate;
mod pkcs8;

use std::fmt;

use aws_lc_rs::digest::{Digest, SHA384};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA256_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PSS_SHA256,
};
use zeroize::Zeroizing;

use super::key::{KeyId, PublicKey, sha256};
use super::pem;

/// A key that can sign.
pub struct PrivateKey {
    pair: Pair,
    public: PublicKey,
}

/// What the library holds.
enum Pair {
    Ecdsa(Curve, EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The curves whose keys we use. P-224 is read by the reference and refused here: it is weaker than all the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const fn algorithm(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            // Of P-384 the library signs with SHA-384 only; see `sign`.
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &ECDSA_P521_SHA256_FIXED_SIGNING,
        }
    }
}

/// What kinds of key are made. All others are only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA over P-256: keys of people, which docker and notary read too.
    EcdsaP256,
    /// Ed25519: keys that a server holds.
    Ed25519,
}

impl PrivateKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// [`PrivateKeyError::Refused`] if the system has no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<Self, PrivateKeyError> {
        let pair = match algorithm {
            Algorithm::EcdsaP256 => {
                Pair::Ecdsa(Curve::P256, EcdsaKeyPair::generate(Curve::P256.algorithm())?)
            }
            Algorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate()?),
        };
        Self::of(pair)
    }

    /// Reads a DER PKCS#8 `PrivateKeyInfo` in any of the spellings that docker, notary and OpenSSL write (§7.3).
    ///
    /// # Errors
    ///
    /// [`PrivateKeyError`] says whether it is no key at all, one that is damaged, or one we do not use.
    pub fn decode(der: &[u8]) -> Result<Self, PrivateKeyError> {
        pkcs8::decode(der)
    }

    /// Reads a DER `ECPrivateKey` (SEC 1) that names its curve.
    pub(super) fn decode_ec(der: &[u8]) -> Result<Self, PrivateKeyError> {
        pkcs8::ecdsa(der, None)
    }

    /// Reads a DER `RSAPrivateKey` (PKCS #1).
    pub(super) fn decode_rsa(der: &[u8]) -> Result<Self, PrivateKeyError> {
        pkcs8::rsa(der)
    }

    /// Reads the 96 bytes that the reference writes of an Ed25519 key.
    pub(super) fn decode_ed25519(bytes: &[u8]) -> Result<Self, PrivateKeyError> {
        pkcs8::ed25519(bytes)
    }

    /// DER PKCS#8 `PrivateKeyInfo`, version 0, which the reference and strict readers both take. Ed25519 is the
    /// exception: the reference knows only a spelling of its own, and that is what is written (§7.3).
    ///
    /// # Errors
    ///
    /// [`PrivateKeyError::Refused`] if the library does not give the key away; it always does.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, PrivateKeyError> {
        pkcs8::encode(&self.pair)
    }

    /// Reads a private key as the reference holds one in memory, and keeps one in its signer's database (§3.5): SEC 1 of
    /// `ecdsa`, PKCS #1 of `rsa`, 96 bytes of `ed25519`.
    ///
    /// # Errors
    ///
    /// [`PrivateKeyError`] says whether it is no key at all, one that is damaged, or one we do not use.
    pub fn decode_plain(keytype: &str, bytes: &[u8]) -> Result<Self, PrivateKeyError> {
        match keytype {
            "ecdsa" => Self::decode_ec(bytes),
            "rsa" => Self::decode_rsa(bytes),
            "ed25519" => Self::decode_ed25519(bytes),
            _ => Err(PrivateKeyError::Unsupported),
        }
    }

    fn of(pair: Pair) -> Result<Self, PrivateKeyError> {
        let (keytype, public) = match &pair {
            Pair::Ecdsa(_, pair) => ("ecdsa", spki(pair.public_key())?),
            Pair::Rsa(pair) => ("rsa", spki(pair.public_key())?),
            Pair::Ed25519(pair) => ("ed25519", pair.public_key().as_ref().to_vec()),
        };
        let public = PublicKey::new(keytype, public);
        Ok(Self { pair, public })
    }

    /// The public half as metadata lists it bare, without a certificate.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The public half as PEM, with a header that names `role`, as `docker trust signer add` wants it (§7.5).
    ///
    /// # Errors
    ///
    /// [`PrivateKeyError::Unsupported`] for Ed25519, which nobody takes in that form.
    pub fn public_pem(&self, role: &str) -> Result<String, PrivateKeyError> {
        if matches!(self.pair, Pair::Ed25519(_)) {
            return Err(PrivateKeyError::Unsupported);
        }
        let pem = pem::encode("PUBLIC KEY", &[("role", role)], self.public.public());
        Ok(pem.to_string())
    }

    /// The canonical id, by which key files are named; the TUF id too, unless a certificate is put around the key.
    pub const fn id(&self) -> KeyId {
        self.public.id()
    }

    /// The name of the signing method in a signature object (§3.7).
    pub const fn method(&self) -> &'static str {
        match self.pair {
            Pair::Ecdsa(..) => "ecdsa",
            Pair::Rsa(_) => "rsapss",
            Pair::Ed25519(_) => "eddsa",
        }
    }

    /// The signature over `message`, which is the canonical form of a document: for ECDSA `r ‖ s` over SHA-256
    /// whatever the curve, for RSA PSS with a salt of 32 bytes (§3.7).
    ///
    /// # Errors
    ///
    /// [`PrivateKeyError::Refused`] if the system has no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, PrivateKeyError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(Curve::P384, pair) => {
                let signature = pair.sign_digest(&widened(message)?)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Ecdsa(Curve::P256 | Curve::P521, pair) => {
                Ok(pair.sign(&random, message)?.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
            Pair::Ed25519(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
        }
    }
}

/// SHA-256 of `message` as P-384 takes it. The library wants a digest of 48 bytes for this curve; ECDSA reads a digest
/// as a number, and zeros in front leave that number what it is.
fn widened(message: &[u8]) -> Result<Digest, PrivateKeyError> {
    let mut wide = [0; 48];
    let (_, low) = wide.split_at_mut(16);
    low.copy_from_slice(&sha256(message));
    Ok(Digest::import_less_safe(&wide, &SHA384)?)
}

/// DER `SubjectPublicKeyInfo`.
fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<Vec<u8>, PrivateKeyError> {
    Ok(key.as_der()?.as_ref().to_vec())
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.id())
    }
}

/// Why bytes are not a private key that we use, or it does not do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateKeyError {
    /// Not PKCS#8 or another form of private key at all.
    #[error("not a private key")]
    Malformed,
    /// The outside is that of a key, but numbers in it are missing, out of range, or contradict each other.
    #[error("the private key is damaged")]
    Damaged,
    /// A key of another kind.
    #[error("the private key is not ECDSA (P-256, P-384, P-521), RSA (2048 to 8192 bits) or Ed25519")]
    Unsupported,
    /// The cryptographic library failed, for lack of randomness or memory.
    #[error("the cryptographic library failed")]
    Refused,
}

impl From<aws_lc_rs::error::Unspecified> for PrivateKeyError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Refused
    }
}

#[cfg(test)]
mod tests;
