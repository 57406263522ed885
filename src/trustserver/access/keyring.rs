//! The keys that tokens may be signed with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sha2::{Digest as _, Sha256};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned};
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter,
    anchor_from_trusted_cert,
};
use x509_cert::Certificate;
use x509_cert::der::asn1::Uint;
use x509_cert::der::{Decode as _, Encode as _};

use super::error::{AccessError, TokenError};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// Certificates of a token: no service has more than three above its own.
const MAX_CHAIN: usize = 8;
/// What a libtrust key id is made of.
const FINGERPRINT_BYTES: usize = 30;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A public key, and the algorithms that are its own: a token cannot choose another (§9 T22).
#[derive(Clone, Debug)]
pub(super) struct Key {
    kind: Kind,
    /// As in a certificate: PKCS#1 of RSA, the point of an elliptic curve.
    bits: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Key {
    pub(super) fn has(&self, algorithm: Algorithm) -> bool {
        let own: &[Algorithm] = match self.kind {
            Kind::Rsa => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            Kind::P256 => &[Algorithm::ES256],
            Kind::P384 => &[Algorithm::ES384],
            Kind::Ed25519 => &[Algorithm::EdDSA],
        };
        own.contains(&algorithm)
    }

    pub(super) fn decoding(&self) -> DecodingKey {
        match self.kind {
            Kind::Rsa => DecodingKey::from_rsa_der(&self.bits),
            Kind::P256 | Kind::P384 => DecodingKey::from_ec_der(&self.bits),
            Kind::Ed25519 => DecodingKey::from_ed_der(&self.bits),
        }
    }

    /// `None` for a key that no algorithm of ours goes with.
    fn from_spki(spki: &SubjectPublicKeyInfoOwned) -> Option<Self> {
        let curve = || spki.algorithm.parameters.as_ref()?.decode_as().ok();
        let kind = match spki.algorithm.oid {
            RSA => Kind::Rsa,
            ED25519 => Kind::Ed25519,
            EC => match curve()? {
                P256 => Kind::P256,
                P384 => Kind::P384,
                _ => return None,
            },
            _ => return None,
        };
        let bits = spki.subject_public_key.as_bytes()?.to_vec();
        Some(Self { kind, bits })
    }

    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if let AlgorithmParameters::RSA(key) = &jwk.algorithm {
            let number = |text| Uint::new(&decode(text)?).ok();
            let bits = vec![number(&key.n)?, number(&key.e)?].to_der().ok()?;
            Some(Self {
                kind: Kind::Rsa,
                bits,
            })
        } else if let AlgorithmParameters::EllipticCurve(key) = &jwk.algorithm {
            let (kind, length) = if key.curve == EllipticCurve::P256 {
                (Kind::P256, 32)
            } else if key.curve == EllipticCurve::P384 {
                (Kind::P384, 48)
            } else {
                return None;
            };
            let (x, y) = (decode(&key.x)?, decode(&key.y)?);
            let bits = [&[4], x.as_slice(), y.as_slice()].concat();
            (x.len() == length && y.len() == length).then_some(Self { kind, bits })
        } else if let AlgorithmParameters::OctetKeyPair(key) = &jwk.algorithm {
            let bits = decode(&key.x)?;
            (key.curve == EllipticCurve::Ed25519 && bits.len() == 32).then_some(Self {
                kind: Kind::Ed25519,
                bits,
            })
        } else {
            None
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.bits == other.bits
    }
}

/// All that is trusted of a token service.
#[derive(Clone, Debug, Default)]
pub(super) struct Keyring {
    authorities: Vec<CertificateDer<'static>>,
    keys: Vec<Arc<Key>>,
    by_id: BTreeMap<String, Arc<Key>>,
}

impl Keyring {
    /// Adds the certificates of a PEM file: their keys, and whatever they certify.
    pub(super) fn add_bundle(&mut self, path: &Path, pem: &[u8]) -> Result<(), AccessError> {
        let wrong = || AccessError::Bundle {
            path: path.to_owned(),
        };
        let before = self.authorities.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| wrong())?;
            let spki = public_key(&certificate).ok_or_else(wrong)?;
            if let Some(key) = Key::from_spki(&spki) {
                let key = Arc::new(key);
                self.by_id
                    .insert(fingerprint(&spki).ok_or_else(wrong)?, Arc::clone(&key));
                self.keys.push(key);
            }
            self.authorities.push(certificate);
        }
        if self.authorities.len() == before {
            return Err(wrong());
        }
        Ok(())
    }

    /// Adds the public keys of a JSON Web Key Set. Those that tokens cannot be verified with are left out.
    pub(super) fn add_jwks(&mut self, path: &Path, json: &[u8]) -> Result<(), AccessError> {
        let wrong = || AccessError::Jwks {
            path: path.to_owned(),
        };
        let set: JwkSet = serde_json::from_slice(json).map_err(|_| wrong())?;
        let before = self.keys.len();
        for jwk in &set.keys {
            if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
                return Err(AccessError::SecretKey {
                    path: path.to_owned(),
                });
            }
            if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
                continue;
            }
            let Some(key) = Key::from_jwk(jwk).map(Arc::new) else {
                continue;
            };
            if let Some(id) = &jwk.common.key_id
                && let Some(other) = self.by_id.insert(id.clone(), Arc::clone(&key))
                && !other.is(&key)
            {
                return Err(AccessError::Twice {
                    path: path.to_owned(),
                    name: id.as_str().into(),
                });
            }
            self.keys.push(key);
        }
        if self.keys.len() == before {
            return Err(wrong());
        }
        Ok(())
    }

    /// The key that a token says it was signed with, if that is trusted. Only the first way that the header names
    /// counts: nothing falls back from a chain that leads nowhere. Addresses in the header (`jku`, `x5u`) are not
    /// looked at: whoever makes a token would choose where its key comes from.
    pub(super) fn key_of(&self, header: &Header, now: Timestamp) -> Result<Arc<Key>, TokenError> {
        if let Some(chain) = &header.x5c {
            self.certified(chain, now)
        } else if let Some(jwk) = &header.jwk {
            let named = Key::from_jwk(jwk).ok_or(TokenError::Key)?;
            let own = self.keys.iter().find(|key| key.is(&named));
            own.cloned().ok_or(TokenError::Key)
        } else {
            let id = header.kid.as_ref().ok_or(TokenError::Key)?;
            self.by_id.get(id).cloned().ok_or(TokenError::Key)
        }
    }

    fn certified(&self, chain: &[String], now: Timestamp) -> Result<Arc<Key>, TokenError> {
        if chain.len() > MAX_CHAIN {
            return Err(TokenError::Chain);
        }
        let chain: Result<Vec<CertificateDer<'static>>, _> = chain
            .iter()
            .map(|der| STANDARD.decode(der).map(CertificateDer::from))
            .collect();
        let chain = chain.map_err(|_| TokenError::Malformed)?;
        let (leaf, above) = chain.split_first().ok_or(TokenError::Chain)?;
        let spki = public_key(leaf).ok_or(TokenError::Malformed)?;
        let key = Key::from_spki(&spki).ok_or(TokenError::Key)?;
        // Many services have one certificate that signed itself, and put that into both bundle and token. Its key is
        // trusted under its own id as well.
        if let Some(own) = self.keys.iter().find(|own| own.is(&key)) {
            return Ok(Arc::clone(own));
        }
        if self.certifies(leaf, above, now) {
            Ok(Arc::new(key))
        } else {
            Err(TokenError::Chain)
        }
    }

    fn certifies(&self, leaf: &CertificateDer<'_>, above: &[CertificateDer<'_>], now: Timestamp) -> bool {
        let anchors: Vec<TrustAnchor<'_>> = self
            .authorities
            .iter()
            .filter_map(|authority| anchor_from_trusted_cert(authority).ok())
            .collect();
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        EndEntityCert::try_from(leaf).is_ok_and(|leaf| {
            leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, above, time, AnyUsage, None, None)
                .is_ok()
        })
    }
}

/// Token services have certificates for whatever their authority makes them for (§2.9).
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn public_key(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoOwned> {
    let certificate = Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate().subject_public_key_info().clone())
}

/// How libtrust names a key: base32 of the first 30 bytes of the SHA-256 of its DER form, in twelve groups of four.
fn fingerprint(spki: &SubjectPublicKeyInfoOwned) -> Option<String> {
    let hash = Sha256::digest(spki.to_der().ok()?);
    let mut text = String::new();
    let digits = hash.get(..FINGERPRINT_BYTES)?.chunks(5).flat_map(|five| {
        let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        (0..8).rev().filter_map(move |i| {
            let digit = usize::try_from(bits >> (5 * i) & 31).ok()?;
            BASE32.get(digit).map(|digit| char::from(*digit))
        })
    });
    for (i, digit) in digits.enumerate() {
        if i > 0 && i % 4 == 0 {
            text.push(':');
        }
        text.push(digit);
    }
    Some(text)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
