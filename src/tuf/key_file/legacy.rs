//! Encryption as RFC 1423 has it: announced in headers, by a key that MD5 makes of the passphrase (notary-v1 §7.3).
//! It is only read: one round of MD5 stops nobody who has the file.

use md5::{Digest as _, Md5};
use zeroize::{Zeroize as _, Zeroizing};

use super::cipher::Cipher;
use super::{KeyFileError, Result};

/// The header that names cipher and initialisation vector.
pub(super) const DEK_INFO: &str = "DEK-Info";
/// The value of `Proc-Type`.
pub(super) const IS_ENCRYPTED: &str = "4,ENCRYPTED";
/// Bytes of the initialisation vector that are the salt too.
const SALT: usize = 8;

const CIPHERS: [(&str, Cipher); 5] = [
    ("DES-CBC", Cipher::Des),
    ("DES-EDE3-CBC", Cipher::Des3),
    ("AES-128-CBC", Cipher::Aes128),
    ("AES-192-CBC", Cipher::Aes192),
    ("AES-256-CBC", Cipher::Aes256),
];

/// `DEK-Info: <cipher>,<initialisation vector in hex>`.
#[derive(Clone)]
pub(super) struct DekInfo {
    text: String,
    cipher: Cipher,
    iv: Vec<u8>,
}

impl DekInfo {
    pub(super) fn read(text: Option<&str>) -> Result<Self> {
        let text = text.ok_or(KeyFileError::Damaged)?;
        let (name, iv) = text.split_once(',').ok_or(KeyFileError::Damaged)?;
        let cipher = CIPHERS.into_iter().find(|(known, _)| *known == name);
        let (_, cipher) = cipher.ok_or(KeyFileError::Encryption)?;
        let iv = hex::decode(iv.trim()).map_err(|_| KeyFileError::Damaged)?;
        if iv.len() != cipher.block_length() {
            return Err(KeyFileError::Damaged);
        }
        Ok(Self {
            text: text.to_owned(),
            cipher,
            iv,
        })
    }

    /// The header's value.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What `data` holds.
    pub(super) fn open(&self, data: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        if data.is_empty() || !data.len().is_multiple_of(self.cipher.block_length()) {
            return Err(KeyFileError::Damaged);
        }
        let salt = self.iv.get(..SALT).ok_or(KeyFileError::Damaged)?;
        let key = derive(passphrase, salt, self.cipher.key_length());
        self.cipher
            .decrypt(&key, &self.iv, data)
            .ok_or(KeyFileError::Passphrase)
    }
}

/// Each round hashes the one before, the passphrase and the salt; the key is the first bytes of all rounds.
fn derive(passphrase: &[u8], salt: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(length + 16));
    let mut round = Zeroizing::new([0; 16]);
    while key.len() < length {
        let before: &[u8] = if key.is_empty() { &[] } else { round.as_slice() };
        let mut hash = Md5::new()
            .chain_update(before)
            .chain_update(passphrase)
            .chain_update(salt)
            .finalize();
        round.copy_from_slice(&hash);
        hash.as_mut_slice().zeroize();
        key.extend_from_slice(round.as_slice());
    }
    key.truncate(length);
    key
}
