//! `EncryptedPrivateKeyInfo` with PBES2 and PBKDF2 (RFC 8018; notary-v1 §7.3).

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA384, PBKDF2_HMAC_SHA512};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use spki::ObjectIdentifier;
use spki::der::asn1::{AnyRef, OctetStringRef};
use spki::der::{Decode as _, Reader, SliceReader, Tag};
use zeroize::Zeroizing;

use super::super::asn1::{NULL, OCTET_STRING, SEQUENCE, element, encoded, unsigned};
use super::super::private_key::{PrivateKey, PrivateKeyError};
use super::cipher::{Cipher, encrypt_aes256};
use super::{KeyFileError, Result, Strength};

/// Most iterations that are computed: ten seconds or so. A file could ask for an hour.
pub(super) const MAX_ITERATIONS: u32 = 10_000_000;
/// What is written: the reference's 2048 are no obstacle any more. Readers take the number from the file.
const ITERATIONS_SHA1: u32 = 600_000;
const ITERATIONS_SHA256: u32 = 1_000_000;
/// Bytes of salt that are written; the reference's eight are below what RFC 8018 calls enough today.
const SALT: usize = 16;
/// Longest salt that is read; eight to sixty-four are in use.
const MAX_SALT: usize = 1024;

const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
const CIPHERS: [(ObjectIdentifier, Cipher); 4] = [
    (AES_256_CBC, Cipher::Aes256),
    (
        ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.22"),
        Cipher::Aes192,
    ),
    (
        ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.2"),
        Cipher::Aes128,
    ),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.3.7"), Cipher::Des3),
];

/// The hash inside PBKDF2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prf {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Prf {
    const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    fn named(oid: ObjectIdentifier) -> Option<Self> {
        Self::ALL.into_iter().find(|prf| prf.oid() == oid)
    }

    const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha1 => ObjectIdentifier::new_unwrap("1.2.840.113549.2.7"),
            Self::Sha256 => ObjectIdentifier::new_unwrap("1.2.840.113549.2.9"),
            Self::Sha384 => ObjectIdentifier::new_unwrap("1.2.840.113549.2.10"),
            Self::Sha512 => ObjectIdentifier::new_unwrap("1.2.840.113549.2.11"),
        }
    }

    const fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => PBKDF2_HMAC_SHA1,
            Self::Sha256 => PBKDF2_HMAC_SHA256,
            Self::Sha384 => PBKDF2_HMAC_SHA384,
            Self::Sha512 => PBKDF2_HMAC_SHA512,
        }
    }
}

/// An encrypted key with all that its passphrase is turned into a key with.
#[derive(Clone)]
pub(super) struct Pbes2 {
    prf: Prf,
    salt: Vec<u8>,
    iterations: NonZeroU32,
    cipher: Cipher,
    iv: Vec<u8>,
    data: Vec<u8>,
}

/// The structure as it was read, before anything in it is judged.
struct Raw<'a> {
    scheme: ObjectIdentifier,
    kdf: ObjectIdentifier,
    salt: &'a [u8],
    iterations: u64,
    prf: Option<ObjectIdentifier>,
    cipher: ObjectIdentifier,
    iv: &'a [u8],
    data: &'a [u8],
}

impl Pbes2 {
    /// Reads the outside.
    pub(super) fn read(der: &[u8]) -> Result<Self> {
        let raw = match Raw::read(der) {
            Some(raw) => raw,
            // A scheme with other parameters is still a sequence that names it.
            None if is_whole_sequence(der) => return Err(KeyFileError::Encryption),
            None => return Err(KeyFileError::Damaged),
        };
        if raw.scheme != PBES2 || raw.kdf != PBKDF2 {
            return Err(KeyFileError::Encryption);
        }
        let count = raw.iterations;
        let iterations = u32::try_from(count).ok().filter(|count| *count <= MAX_ITERATIONS);
        let iterations = iterations.ok_or(KeyFileError::Iterations { count })?;
        let cipher = CIPHERS.into_iter().find(|(oid, _)| *oid == raw.cipher);
        let (_, cipher) = cipher.ok_or(KeyFileError::Encryption)?;
        let prf = raw.prf.map_or(Some(Prf::Sha1), Prf::named);
        let whole = raw.data.len().is_multiple_of(cipher.block_length()) && !raw.data.is_empty();
        if raw.salt.len() > MAX_SALT || raw.iv.len() != cipher.block_length() || !whole {
            return Err(KeyFileError::Damaged);
        }
        Ok(Self {
            prf: prf.ok_or(KeyFileError::Encryption)?,
            salt: raw.salt.to_vec(),
            iterations: NonZeroU32::new(iterations).ok_or(KeyFileError::Damaged)?,
            cipher,
            iv: raw.iv.to_vec(),
            data: raw.data.to_vec(),
        })
    }

    /// Decrypts and reads the key.
    ///
    /// OpenSSL uses the hash that the file names; the reference ignores the name and uses SHA-1 (§7.3). Both are tried,
    /// so that whatever either of them would open, opens.
    pub(super) fn open(&self, passphrase: &[u8]) -> Result<PrivateKey> {
        let fallback = (self.prf != Prf::Sha1).then_some(Prf::Sha1);
        for prf in std::iter::once(self.prf).chain(fallback) {
            let key = derive(prf, self.iterations, &self.salt, passphrase, self.cipher);
            let Some(plain) = self.cipher.decrypt(&key, &self.iv, &self.data) else {
                continue;
            };
            match PrivateKey::decode(&plain) {
                // One wrong passphrase in 256 leaves padding that looks right, but no key.
                Err(PrivateKeyError::Malformed) => {}
                other => return Ok(other?),
            }
        }
        Err(KeyFileError::Passphrase)
    }
}

impl<'a> Raw<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let mut reader = SliceReader::new(der).ok()?;
        let raw = reader.sequence(|outer| {
            let raw = outer.sequence(|algorithm| {
                let scheme = ObjectIdentifier::decode(algorithm)?;
                algorithm.sequence(|parameters| {
                    let (kdf, (salt, iterations, prf)) = parameters.sequence(|kdf| {
                        Ok::<_, spki::der::Error>((ObjectIdentifier::decode(kdf)?, kdf.sequence(derivation)?))
                    })?;
                    let (cipher, iv) = parameters.sequence(|cipher| {
                        let oid = ObjectIdentifier::decode(cipher)?;
                        let iv = <&OctetStringRef>::decode(cipher)?.as_bytes();
                        Ok::<_, spki::der::Error>((oid, iv))
                    })?;
                    Ok::<_, spki::der::Error>(Self {
                        scheme,
                        kdf,
                        salt,
                        iterations,
                        prf,
                        cipher,
                        iv,
                        data: &[],
                    })
                })
            })?;
            let data = <&OctetStringRef>::decode(outer)?.as_bytes();
            Ok::<_, spki::der::Error>(Self { data, ..raw })
        });
        let raw = raw.ok()?;
        reader.finish().ok()?;
        Some(raw)
    }
}

/// The parameters of PBKDF2: salt, iterations, and the hash if one is named. The length of the key follows from the
/// cipher, whatever the file says.
fn derivation<'a>(
    reader: &mut SliceReader<'a>,
) -> spki::der::Result<(&'a [u8], u64, Option<ObjectIdentifier>)> {
    let salt = <&OctetStringRef>::decode(reader)?.as_bytes();
    let iterations = u64::decode(reader)?;
    let _key_length = Option::<u64>::decode(reader)?;
    if reader.is_finished() {
        return Ok((salt, iterations, None));
    }
    let prf = reader.sequence(|prf| {
        let oid = ObjectIdentifier::decode(prf)?;
        Option::<AnyRef<'_>>::decode(prf)?;
        Ok::<_, spki::der::Error>(oid)
    })?;
    Ok((salt, iterations, Some(prf)))
}

fn derive(
    prf: Prf,
    iterations: NonZeroU32,
    salt: &[u8],
    passphrase: &[u8],
    cipher: Cipher,
) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; cipher.key_length()]);
    pbkdf2::derive(prf.algorithm(), iterations, salt, passphrase, &mut key);
    key
}

/// `plain` as an `EncryptedPrivateKeyInfo`.
pub(super) fn seal(plain: &[u8], passphrase: &[u8], strength: Strength) -> Result<Vec<u8>> {
    let mut salt = [0; SALT];
    SystemRandom::new().fill(&mut salt)?;
    let (prf, iterations) = match strength {
        Strength::Interoperable => (Prf::Sha1, ITERATIONS_SHA1),
        Strength::Strong => (Prf::Sha256, ITERATIONS_SHA256),
    };
    let count = NonZeroU32::new(iterations).ok_or(KeyFileError::Damaged)?;
    let key = derive(prf, count, &salt, passphrase, Cipher::Aes256);
    let (data, iv) = encrypt_aes256(&key, plain)?;
    // SHA-1 is the default, and DER leaves defaults out.
    let named = if prf == Prf::Sha1 {
        Zeroizing::default()
    } else {
        element(SEQUENCE, &[&encoded(prf.oid()), &NULL])
    };
    let iterations = unsigned(&iterations.to_be_bytes());
    let parameters = element(SEQUENCE, &[&element(OCTET_STRING, &[&salt]), &iterations, &named]);
    let kdf = element(SEQUENCE, &[&encoded(PBKDF2), &parameters]);
    let cipher = element(SEQUENCE, &[&encoded(AES_256_CBC), &element(OCTET_STRING, &[&iv])]);
    let scheme = element(SEQUENCE, &[&kdf, &cipher]);
    let algorithm = element(SEQUENCE, &[&encoded(PBES2), &scheme]);
    Ok(element(SEQUENCE, &[&algorithm, &element(OCTET_STRING, &[&data])]).to_vec())
}

/// Whether `der` is one sequence and nothing more.
pub(super) fn is_whole_sequence(der: &[u8]) -> bool {
    AnyRef::from_der(der).is_ok_and(|any| spki::der::Tagged::tag(&any) == Tag::Sequence)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A structure that asks for `count` iterations, around nothing.
    pub(in super::super) fn with_iterations(count: u64) -> Vec<u8> {
        let salt = element(OCTET_STRING, &[&[1; 8]]);
        let parameters = element(SEQUENCE, &[&salt, &unsigned(&count.to_be_bytes())]);
        let kdf = element(SEQUENCE, &[&encoded(PBKDF2), &parameters]);
        let iv = element(OCTET_STRING, &[&[2; 16]]);
        let cipher = element(SEQUENCE, &[&encoded(AES_256_CBC), &iv]);
        let scheme = element(SEQUENCE, &[&kdf, &cipher]);
        let algorithm = element(SEQUENCE, &[&encoded(PBES2), &scheme]);
        let data = element(OCTET_STRING, &[&[3; 16]]);
        element(SEQUENCE, &[&algorithm, &data]).to_vec()
    }

    impl Pbes2 {
        /// What an attacker who has the file works with: iterations, salt, initialisation vector.
        pub(in super::super) fn parameters(&self) -> (u32, &[u8], &[u8]) {
            (self.iterations.get(), &self.salt, &self.iv)
        }
    }
}
