//! Keys in clear: PKCS#8, and the older forms for one kind of key each (notary-v1 §7.3).

use aws_lc_rs::encoding::{AsBigEndian as _, AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use spki::ObjectIdentifier;
use spki::der::asn1::{AnyRef, BitStringRef, OctetStringRef, UintRef};
use spki::der::{Decode as _, Reader, SliceReader, TagMode, TagNumber};
use zeroize::Zeroizing;

use super::super::asn1::{BIT_STRING, OCTET_STRING, SEQUENCE, element, encoded, unsigned};
use super::super::key::{EC_PUBLIC_KEY, ED25519_KEY, P256, P384, P521, RSA_ENCRYPTION};
use super::{Curve, Pair, PrivateKey, PrivateKeyError};

/// What the reference calls an Ed25519 private key: the number that Libgcrypt gives the curve (§7.3).
const ED25519_OF_NOTARY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11591.15.1");
/// Bytes of an Ed25519 public key, and of the seed of a private one.
const ED25519_LENGTH: usize = 32;
/// Bits of the RSA moduli that verifiers accept (§3.7) and the library computes with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

type Result<T> = std::result::Result<T, PrivateKeyError>;

/// Reads a `PrivateKeyInfo`. Lenient where writers differ: the version is 0 or 1, whatever follows it; the parameters
/// of RSA are NULL or missing; attributes and a second public key at the end are skipped.
pub(super) fn decode(der: &[u8]) -> Result<PrivateKey> {
    let info = Info::read(der).ok_or(PrivateKeyError::Malformed)?;
    match info.algorithm {
        EC_PUBLIC_KEY => {
            let curve = info.curve.and_then(Curve::named);
            ecdsa(info.key, Some(curve.ok_or(PrivateKeyError::Unsupported)?))
        }
        RSA_ENCRYPTION => rsa(info.key),
        ED25519_KEY => {
            let seed = <&OctetStringRef>::from_der(info.key).map_err(|_| PrivateKeyError::Damaged)?;
            ed25519_seed(seed.as_bytes())
        }
        ED25519_OF_NOTARY => ed25519(info.key),
        _ => Err(PrivateKeyError::Unsupported),
    }
}

struct Info<'a> {
    algorithm: ObjectIdentifier,
    curve: Option<ObjectIdentifier>,
    key: &'a [u8],
}

impl<'a> Info<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let mut reader = SliceReader::new(der).ok()?;
        let info = reader.sequence(|body| {
            let version = u8::decode(body)?;
            let (algorithm, curve) = body.sequence(|algorithm| {
                let oid = ObjectIdentifier::decode(algorithm)?;
                let parameters = Option::<AnyRef<'_>>::decode(algorithm)?;
                let curve = parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
                Ok::<_, spki::der::Error>((oid, curve))
            })?;
            let key = <&OctetStringRef>::decode(body)?.as_bytes();
            skip_rest(body)?;
            Ok::<_, spki::der::Error>((version <= 1).then_some(Self {
                algorithm,
                curve,
                key,
            }))
        });
        let info = info.ok()??;
        reader.finish().ok()?;
        Some(info)
    }
}

fn skip_rest<'a>(reader: &mut impl Reader<'a>) -> spki::der::Result<()> {
    while !reader.is_finished() {
        AnyRef::decode(reader)?;
    }
    Ok(())
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    fn named(oid: ObjectIdentifier) -> Option<Self> {
        Self::ALL.into_iter().find(|curve| curve.oid() == oid)
    }

    const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::P256 => P256,
            Self::P384 => P384,
            Self::P521 => P521,
        }
    }

    /// Bytes of a scalar.
    const fn length(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// Reads an `ECPrivateKey` (SEC 1). The curve may be said outside, inside, or both if they agree; a public key in it
/// must be that of the secret.
pub(super) fn ecdsa(der: &[u8], outside: Option<Curve>) -> Result<PrivateKey> {
    let key = EcKey::read(der).ok_or(PrivateKeyError::Damaged)?;
    let inside = match key.curve.map(Curve::named) {
        Some(None) => return Err(PrivateKeyError::Unsupported),
        Some(curve) => curve,
        None => None,
    };
    if outside.is_some() && inside.is_some() && outside != inside {
        return Err(PrivateKeyError::Damaged);
    }
    let curve = outside.or(inside).ok_or(PrivateKeyError::Unsupported)?;
    let pair = key.pair(curve).ok_or(PrivateKeyError::Damaged)?;
    PrivateKey::of(Pair::Ecdsa(curve, pair))
}

struct EcKey<'a> {
    scalar: &'a [u8],
    curve: Option<ObjectIdentifier>,
    point: Option<&'a [u8]>,
}

impl<'a> EcKey<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let mut reader = SliceReader::new(der).ok()?;
        let key = reader.sequence(|body| {
            let version = u8::decode(body)?;
            let scalar = <&OctetStringRef>::decode(body)?.as_bytes();
            let curve = body.context_specific(TagNumber(0), TagMode::Explicit)?;
            let point = body.context_specific::<BitStringRef<'_>>(TagNumber(1), TagMode::Explicit)?;
            skip_rest(body)?;
            let key = Self {
                scalar,
                curve,
                point: point.and_then(|bits| bits.as_bytes()),
            };
            Ok::<_, spki::der::Error>((version == 1).then_some(key))
        });
        let key = key.ok()??;
        reader.finish().ok()?;
        Some(key)
    }

    /// The key pair, its point computed from the scalar.
    fn pair(&self, curve: Curve) -> Option<EcdsaKeyPair> {
        // Old writers left leading zeros out; others wrote one too many (as Go accepts both).
        let zeros = self.scalar.iter().take_while(|digit| **digit == 0).count();
        let digits = self.scalar.get(zeros..)?;
        let padding = vec![0; curve.length().checked_sub(digits.len())?];
        let scalar = element(OCTET_STRING, &[&padding, digits]);
        let name = element(CURVE, &[&encoded(curve.oid())]);
        let whole = element(SEQUENCE, &[&unsigned(&[1]), &scalar, &name]);
        let pair = EcdsaKeyPair::from_private_key_der(curve.algorithm(), &whole).ok()?;
        let known = self.point.is_none_or(|point| point == pair.public_key().as_ref());
        known.then_some(pair)
    }
}

/// The tags of curve and point in an `ECPrivateKey`.
const CURVE: u8 = 0xa0;
const POINT: u8 = 0xa1;

/// Reads an `RSAPrivateKey` (PKCS #1).
pub(super) fn rsa(der: &[u8]) -> Result<PrivateKey> {
    let bits = rsa_bits(der).ok_or(PrivateKeyError::Damaged)?;
    if !RSA_BITS.contains(&bits) {
        return Err(PrivateKeyError::Unsupported);
    }
    let pair = RsaKeyPair::from_der(der).map_err(|_| PrivateKeyError::Damaged)?;
    PrivateKey::of(Pair::Rsa(pair))
}

/// Bits of the modulus.
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(der).ok()?;
    let bits = reader.sequence(|body| {
        u8::decode(body)?;
        let modulus = UintRef::decode(body)?;
        let unused = modulus
            .as_bytes()
            .first()
            .map_or(0, |first| first.leading_zeros());
        skip_rest(body)?;
        Ok::<_, spki::der::Error>(modulus.as_bytes().len() * 8 - usize::try_from(unused).unwrap_or(0))
    });
    bits.ok()
}

/// Reads what the reference writes of an Ed25519 key: public, seed, public (§7.3).
pub(super) fn ed25519(bytes: &[u8]) -> Result<PrivateKey> {
    let parts: Vec<&[u8]> = bytes.chunks(ED25519_LENGTH).collect();
    let [public, seed, again] = parts.as_slice() else {
        return Err(PrivateKeyError::Damaged);
    };
    let key = ed25519_seed(seed)?;
    if *public == key.public.public() && public == again {
        Ok(key)
    } else {
        Err(PrivateKeyError::Damaged)
    }
}

fn ed25519_seed(seed: &[u8]) -> Result<PrivateKey> {
    if seed.len() != ED25519_LENGTH {
        return Err(PrivateKeyError::Damaged);
    }
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| PrivateKeyError::Damaged)?;
    PrivateKey::of(Pair::Ed25519(pair))
}

/// The one form that is written for each kind of key.
pub(super) fn encode(pair: &Pair) -> Result<Zeroizing<Vec<u8>>> {
    match pair {
        Pair::Ecdsa(curve, pair) => {
            // The library leaves out what it was not given itself; written here, a key has one form.
            let scalar = element(OCTET_STRING, &[pair.private_key().as_be_bytes()?.as_ref()]);
            let point = element(BIT_STRING, &[&[0], pair.public_key().as_ref()]);
            let name = element(CURVE, &[&encoded(curve.oid())]);
            let key = element(
                SEQUENCE,
                &[&unsigned(&[1]), &scalar, &name, &element(POINT, &[&point])],
            );
            Ok(info(&[EC_PUBLIC_KEY, curve.oid()], &key))
        }
        Pair::Rsa(pair) => {
            let key: Pkcs8V1Der<'_> = pair.as_der()?;
            Ok(Zeroizing::new(key.as_ref().to_vec()))
        }
        Pair::Ed25519(pair) => {
            let seed = pair.seed()?.as_be_bytes()?;
            let public = pair.public_key().as_ref();
            let key = Zeroizing::new([public, seed.as_ref(), public].concat());
            Ok(info(&[ED25519_OF_NOTARY], &key))
        }
    }
}

/// A `PrivateKeyInfo` of version 0.
fn info(algorithm: &[ObjectIdentifier], key: &[u8]) -> Zeroizing<Vec<u8>> {
    let names: Vec<u8> = algorithm.iter().copied().flat_map(encoded).collect();
    element(
        SEQUENCE,
        &[
            &unsigned(&[0]),
            &element(SEQUENCE, &[&names]),
            &element(OCTET_STRING, &[key]),
        ],
    )
}
