//! Static tokens, of which only hashes are kept.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use sha2::{Digest as _, Sha256};

/// The owners of static tokens, by SHA-256 of the token. A fast hash is enough for what is random; the file's
/// documentation says how to make one.
#[derive(Debug, Default)]
pub(super) struct Secrets(pub(super) Vec<(String, [u8; 32])>);

impl Secrets {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose token it is. Takes the same time whichever it is, and whichever it is not.
    pub(super) fn owner(&self, token: &str) -> Option<&str> {
        let hash = Sha256::digest(token);
        let mut owner = None;
        for (name, expected) in &self.0 {
            if verify_slices_are_equal(&hash, expected).is_ok() {
                owner = Some(name.as_str());
            }
        }
        owner
    }
}
