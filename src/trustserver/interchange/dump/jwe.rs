//! How the reference's signer keeps private keys: JSON Web Encryption in its compact form (RFC 7516), the content key
//! wrapped under a passphrase (RFC 7518 §4.8), and nothing else of that large family.

use std::num::NonZeroU32;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::key_wrap::{AES_128, AesKek, KeyWrap as _};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

/// How the content key is wrapped.
const ALGORITHM: &str = "PBES2-HS256+A128KW";
/// How the content is encrypted.
const ENCRYPTION: &str = "A256GCM";
/// Longest text: an RSA key of 8192 bits takes 7 KB.
const MAX_TEXT: usize = 64 * 1024;
/// Most rounds of PBKDF2 that are computed, half a second's work: a dump may have many keys. The signer writes 8192.
const MAX_ITERATIONS: u32 = 1_000_000;

/// The protected header. Other members have no meaning for these algorithms but `zip` and `crit`, with which the
/// content would be something else than we take it for.
#[derive(Deserialize)]
struct Header {
    alg: String,
    enc: String,
    p2s: String,
    p2c: NonZeroU32,
    zip: Option<serde_json::Value>,
    crit: Option<serde_json::Value>,
}

/// Decrypts `text` with `passphrase`.
pub(super) fn open(text: &str, passphrase: &SecretString) -> Result<Zeroizing<Vec<u8>>, JweError> {
    if text.len() > MAX_TEXT {
        return Err(JweError::Malformed);
    }
    let parts: Vec<_> = text.split('.').collect();
    let [protected, wrapped, nonce, cipher, tag] = *parts.as_slice() else {
        return Err(JweError::Malformed);
    };
    let header: Header = serde_json::from_slice(&decode(protected)?).map_err(|_| JweError::Malformed)?;
    if header.alg != ALGORITHM || header.enc != ENCRYPTION || header.zip.is_some() || header.crit.is_some() {
        return Err(JweError::Unsupported);
    }
    if header.p2c.get() > MAX_ITERATIONS {
        return Err(JweError::Unsupported);
    }
    let key = unwrap(&header, &decode(wrapped)?, passphrase)?;
    let nonce: [u8; NONCE_LEN] = decode(nonce)?.try_into().map_err(|_| JweError::Malformed)?;
    let mut content = Zeroizing::new(decode(cipher)?);
    content.extend_from_slice(&decode(tag)?);
    let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| JweError::Malformed)?;
    let plain = LessSafeKey::new(key)
        .open_in_place(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(protected.as_bytes()),
            &mut content,
        )
        .map_err(|_| JweError::Passphrase)?;
    Ok(Zeroizing::new(plain.to_vec()))
}

/// The content key. A wrong passphrase shows here, as the wrapping carries a check of its own.
fn unwrap(
    header: &Header,
    wrapped: &[u8],
    passphrase: &SecretString,
) -> Result<Zeroizing<Vec<u8>>, JweError> {
    let salt = [header.alg.as_bytes(), &[0], &decode(&header.p2s)?].concat();
    let mut outer = Zeroizing::new([0; 16]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        header.p2c,
        &salt,
        passphrase.expose_secret().as_bytes(),
        outer.as_mut_slice(),
    );
    let outer = AesKek::new(&AES_128, outer.as_slice()).map_err(|_| JweError::Malformed)?;
    let mut key = Zeroizing::new(vec![0; wrapped.len()]);
    let length = outer
        .unwrap(wrapped, &mut key)
        .map_err(|_| JweError::Passphrase)?
        .len();
    key.truncate(length);
    Ok(key)
}

fn decode(part: &str) -> Result<Vec<u8>, JweError> {
    BASE64_URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| JweError::Malformed)
}

/// Why a text does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JweError {
    /// It has not the form.
    #[error("not a JWE in compact form")]
    Malformed,
    /// It asks for algorithms that the reference never uses, or for far more work.
    #[error("encrypted in a way that the reference's signer does not encrypt")]
    Unsupported,
    /// The wrong passphrase, or damage that looks like it.
    #[error("the passphrase is wrong")]
    Passphrase,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appendix C of RFC 7517 has another content encryption, so this one was made by the reference's own library
    /// (`tests/tools/record-notary-dump` prints it).
    const RECORDED: &str = include_str!("../../../../tests/fixtures/notary-dump/example.jwe");

    fn passphrase(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn what_the_references_library_wrote_is_read() {
        let plain = open(RECORDED.trim_end(), &passphrase("correct horse battery")).unwrap();
        assert_eq!(*plain, b"the content of an example");
    }

    #[test]
    fn a_wrong_passphrase_is_called_that() {
        let error = open(RECORDED.trim_end(), &passphrase("correct horse batterz")).unwrap_err();
        assert_eq!(error, JweError::Passphrase);
    }

    #[test]
    fn every_change_of_a_character_is_noticed() {
        let text = RECORDED.trim_end();
        // Around the dots, where parts begin and end; the last character of a part may hold bits that nobody reads.
        for at in text.match_indices('.').map(|(at, _)| at + 1) {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(
                open(&changed, &passphrase("correct horse battery")).is_err(),
                "{at}"
            );
        }
    }

    #[test]
    fn other_algorithms_and_endless_work_are_refused_before_any_is_done() {
        let rest = RECORDED.trim_end().split_once('.').unwrap().1;
        for header in [
            r#"{"alg":"dir","enc":"A256GCM","p2s":"AAAA","p2c":1}"#,
            r#"{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2s":"AAAA","p2c":1}"#,
            r#"{"alg":"PBES2-HS256+A128KW","enc":"A256GCM","p2s":"AAAA","p2c":4000000000}"#,
            r#"{"alg":"PBES2-HS256+A128KW","enc":"A256GCM","p2s":"AAAA","p2c":1,"zip":"DEF"}"#,
        ] {
            let text = format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(header));
            assert_eq!(
                open(&text, &passphrase("x")).unwrap_err(),
                JweError::Unsupported,
                "{header}"
            );
        }
        for text in ["", "a.b.c.d", "....", "a.b.c.d.e.f", &"A".repeat(MAX_TEXT + 1)] {
            assert_eq!(open(text, &passphrase("x")).unwrap_err(), JweError::Malformed);
        }
    }
}
