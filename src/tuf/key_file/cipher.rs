//! The block ciphers of key files, all in CBC mode with padding that is checked.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
#[expect(
    deprecated,
    reason = "for files of the last century only; nothing is encrypted with them"
)]
use aws_lc_rs::cipher::{DES_EDE3_FOR_LEGACY_USE_ONLY, DES_FOR_LEGACY_USE_ONLY};
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

use super::Result;

/// A cipher that key files are encrypted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cipher {
    Des,
    Des3,
    Aes128,
    Aes192,
    Aes256,
}

impl Cipher {
    /// Bytes of a key.
    pub(super) const fn key_length(self) -> usize {
        match self {
            Self::Des => 8,
            Self::Aes128 => 16,
            Self::Des3 | Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// Bytes of a block, and of the initialisation vector.
    pub(super) const fn block_length(self) -> usize {
        match self {
            Self::Des | Self::Des3 => 8,
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
        }
    }

    #[expect(
        deprecated,
        reason = "for files of the last century only; nothing is encrypted with them"
    )]
    const fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Des => &DES_FOR_LEGACY_USE_ONLY,
            Self::Des3 => &DES_EDE3_FOR_LEGACY_USE_ONLY,
            Self::Aes128 => &AES_128,
            Self::Aes192 => &AES_192,
            Self::Aes256 => &AES_256,
        }
    }

    /// What `data` holds, or nothing if its padding is wrong under this key.
    pub(super) fn decrypt(self, key: &[u8], iv: &[u8], data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let context = match self.block_length() {
            8 => DecryptionContext::Iv64(FixedLength::from(<[u8; 8]>::try_from(iv).ok()?)),
            _ => DecryptionContext::Iv128(FixedLength::from(<[u8; 16]>::try_from(iv).ok()?)),
        };
        let key = UnboundCipherKey::new(self.algorithm(), key).ok()?;
        let mut data = Zeroizing::new(data.to_vec());
        let plain = PaddedBlockDecryptingKey::cbc_pkcs7(key)
            .ok()?
            .decrypt(&mut data, context)
            .ok()?
            .len();
        data.truncate(plain);
        Some(data)
    }
}

/// `plain` encrypted with AES-256, and the random initialisation vector that was used.
pub(super) fn encrypt_aes256(key: &[u8], plain: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let key = UnboundCipherKey::new(&AES_256, key)?;
    // Room for the padding, so that no copy of the plain text is left behind.
    let mut data = Zeroizing::new(Vec::with_capacity(
        plain.len() + 2 * Cipher::Aes256.block_length(),
    ));
    data.extend_from_slice(plain);
    let context = PaddedBlockEncryptingKey::cbc_pkcs7(key)?.encrypt(&mut *data)?;
    let iv = <&[u8]>::try_from(&context)?;
    Ok((data.to_vec(), iv.to_vec()))
}
