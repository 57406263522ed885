//! Private keys, as publishing needs them.

use std::sync::Arc;

use crate::reference::Gun;
use crate::tuf::{KeyId, PrivateKey, Role};

/// Where private keys are kept. What unlocks them (a passphrase, asked or given) is its own affair.
pub trait Keyring {
    /// Every key there is; none is unlocked for that.
    ///
    /// # Errors
    ///
    /// [`KeyringError`] if the place cannot be read.
    fn held(&self) -> Result<Vec<Held>, KeyringError>;

    /// The key itself.
    ///
    /// # Errors
    ///
    /// [`KeyringError`] if it is not there or cannot be unlocked.
    fn unlock(&self, id: &KeyId) -> Result<Arc<PrivateKey>, KeyringError>;

    /// Keeps a new key: a root key for every repository, another for that of `gun`.
    ///
    /// # Errors
    ///
    /// [`KeyringError`] if it cannot be kept, durably.
    fn keep(&self, key: &Arc<PrivateKey>, role: &Role, gun: &Gun) -> Result<(), KeyringError>;

    /// Removes a key that nothing needs any more.
    ///
    /// # Errors
    ///
    /// [`KeyringError`] if it cannot be removed.
    fn remove(&self, id: &KeyId) -> Result<(), KeyringError>;
}

/// A key that is kept somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its canonical id.
    pub id: KeyId,
    /// The role it was made for, or the name of a signer. Nobody vouches for that: it helps to find a key, and never
    /// decides whether one may sign.
    pub role: String,
    /// The repository it was made for.
    pub gun: Option<String>,
    /// Whether it takes a passphrase to use it. One that does not may have been put there by anybody (T50).
    pub sealed: bool,
}

/// What went wrong with a key, as the place where it is kept tells it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct KeyringError {
    /// What did not work.
    pub what: &'static str,
    /// Why.
    #[source]
    pub source: Arc<dyn std::error::Error + Send + Sync>,
}
