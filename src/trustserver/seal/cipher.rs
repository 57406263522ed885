//! Keys of 256 bits, and sealing with them: a byte for the form, a nonce, then what AES-256-GCM makes.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::tuf::sha256;

/// Bytes of a key.
pub(super) const KEY: usize = 32;
/// Bytes of a nonce.
const NONCE: usize = 12;
/// Bytes that show that nothing was changed.
const TAG: usize = 16;
/// Bytes of a fingerprint: nobody finds a second key by chance, and the key is not to be guessed from any number.
pub(super) const FINGERPRINT: usize = 16;

/// A secret key. It clears itself when it is dropped, and nothing prints it.
pub(super) struct Secret(Zeroizing<[u8; KEY]>);

/// Why something does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// It begins with a form that we do not know.
    Newer,
    /// It was not sealed with this key for this place, or was changed since.
    Refused,
}

impl Secret {
    pub(super) fn generate() -> Result<Self, Unspecified> {
        let mut key = Zeroizing::new([0; KEY]);
        rand::fill(key.as_mut_slice())?;
        Ok(Self(key))
    }

    /// `None` if these are not as many bytes as a key has.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY]);
        (bytes.len() == KEY).then(|| key.copy_from_slice(bytes))?;
        Some(Self(key))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }

    /// Tells keys apart without telling anything else of them.
    pub(super) fn fingerprint(&self) -> [u8; FINGERPRINT] {
        const WHAT: &[u8] = b"countersign fingerprint of a key\0";
        let mut told = Zeroizing::new([0; WHAT.len() + KEY]);
        let (what, key) = told.split_at_mut(WHAT.len());
        what.copy_from_slice(WHAT);
        key.copy_from_slice(self.0.as_slice());
        let mut fingerprint = [0; FINGERPRINT];
        for (to, from) in fingerprint.iter_mut().zip(sha256(told.as_slice())) {
            *to = from;
        }
        fingerprint
    }

    /// Seals `plain` in the form `form`, for a place that has to be named again to open it.
    pub(super) fn seal(&self, form: u8, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, Unspecified> {
        // With its final size from the start, so that no copy of the plain bytes is left anywhere.
        let mut hidden = Zeroizing::new(Vec::with_capacity(plain.len() + TAG));
        hidden.extend_from_slice(plain);
        let nonce = self
            .cipher()?
            .seal_in_place_append_tag(Aad::from(bound(form, place)), &mut *hidden)?;
        Ok([&[form], &nonce.as_ref()[..], &hidden].concat())
    }

    /// Opens what was sealed in this form for this place.
    pub(super) fn open(&self, form: u8, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Opening> {
        let (&[found], rest) = sealed.split_first_chunk().ok_or(Opening::Refused)?;
        if found != form {
            return Err(Opening::Newer);
        }
        let (nonce, hidden) = rest.split_first_chunk::<NONCE>().ok_or(Opening::Refused)?;
        let mut plain = Zeroizing::new(hidden.to_vec());
        let cipher = self.cipher().map_err(|_| Opening::Refused)?;
        let place = Aad::from(bound(form, place));
        let opened = cipher.open_in_place(Nonce::from(nonce), place, &mut plain);
        let length = opened.map_err(|_| Opening::Refused)?.len();
        plain.truncate(length);
        Ok(plain)
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, Unspecified> {
        RandomizedNonceKey::new(&AES_256_GCM, self.0.as_slice())
    }
}

/// The form belongs to what must not be changed.
fn bound(form: u8, place: &[u8]) -> Vec<u8> {
    [&[form], place].concat()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
