//! The keys of the sandbox's publisher: a key store like everybody's, with a passphrase that everybody knows.
//!
//! A passphrase is slow to try by design (notary-v1 §7.3), and that is the same here. So the keys of the story are made
//! or opened side by side while the servers start, and nothing waits for them one after the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secrecy::SecretString;
use tokio::task::{JoinError, spawn_blocking};

use crate::keystore::{KeyStore, KeyStoreError, Listing};
use crate::publish::{Held, Keyring, KeyringError};
use crate::reference::Gun;
use crate::tuf::{
    Algorithm, KeyFile, KeyFileError, KeyId, Labels, PrivateKey, PrivateKeyError, Role, Strength,
};

/// What opens every key of a sandbox. It is printed: nothing that it protects is worth protecting.
pub(super) const PASSPHRASE: &str = "sandbox-passphrase";

/// A key store, and those of its keys that are open.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    store: KeyStore,
    open: Arc<Mutex<BTreeMap<KeyId, Open>>>,
}

#[derive(Clone)]
struct Open {
    held: Held,
    key: Arc<PrivateKey>,
}

/// A key of the sandbox cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The key store does not do as it is told, or a key does not open with the sandbox's passphrase.
    #[error(transparent)]
    Store(#[from] KeyStoreError),
    /// No key could be made.
    #[error("no key could be made")]
    Made(#[from] PrivateKeyError),
    /// No key file could be made.
    #[error("no key file could be made")]
    File(#[from] KeyFileError),
    /// Making one was cut short.
    #[error("a key was not finished")]
    Task(#[from] JoinError),
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.held.fmt(f)
    }
}

impl Keys {
    /// The root key, and the owner's key of `gun`, open; each is made if `store` has none yet.
    pub(super) async fn ready(store: KeyStore, gun: &Gun) -> Result<Self, KeysError> {
        let keys = Self {
            store,
            open: Arc::default(),
        };
        let listing = Arc::new(keys.store.list()?);
        let of = |role: Role| {
            let (keys, listing, gun) = (keys.clone(), Arc::clone(&listing), gun.clone());
            spawn_blocking(move || keys.prepare(&listing, &role, &gun))
        };
        let (root, targets) = tokio::join!(of(Role::Root), of(Role::Targets));
        root??;
        targets??;
        Ok(keys)
    }

    /// The root key's public half as PEM, which policies pin.
    pub(super) fn root_pem(&self) -> Result<String, KeysError> {
        let root = Role::Root;
        let open = self.open();
        let key = open.values().find(|open| open.held.role == root.as_str());
        let pem = key
            .ok_or(PrivateKeyError::Refused)?
            .key
            .public_pem(root.as_str())?;
        // Docker's header says whose key it is; a policy takes the key alone.
        let plain = pem
            .lines()
            .filter(|line| !line.is_empty() && !line.contains(": "));
        Ok(plain.flat_map(|line| [line, "\n"]).collect())
    }

    /// Opens the first key of `role` that there is, or makes one.
    fn prepare(&self, listing: &Listing, role: &Role, gun: &Gun) -> Result<(), KeysError> {
        let of_gun = (*role != Role::Root).then_some(gun.as_str());
        let passphrase = SecretString::from(PASSPHRASE);
        if let Some(entry) = listing.of_role(role.as_str(), of_gun).first() {
            let key = entry.open(Some(&passphrase))?;
            self.remember(Arc::new(key), role, gun);
            return Ok(());
        }
        let key = Arc::new(PrivateKey::generate(Algorithm::EcdsaP256)?);
        self.add(&key, role, gun)
    }

    fn add(&self, key: &Arc<PrivateKey>, role: &Role, gun: &Gun) -> Result<(), KeysError> {
        let of_gun = (*role != Role::Root).then_some(gun.as_str());
        let labels = Labels::new(role.as_str(), of_gun)?;
        let file = KeyFile::seal(key, labels, &PASSPHRASE.into(), Strength::Interoperable)?;
        self.store.add(key.id(), &file)?;
        self.remember(Arc::clone(key), role, gun);
        Ok(())
    }

    fn remember(&self, key: Arc<PrivateKey>, role: &Role, gun: &Gun) {
        let held = Held {
            id: key.id(),
            role: role.as_str().to_owned(),
            gun: (*role != Role::Root).then(|| gun.as_str().to_owned()),
        };
        self.open().insert(key.id(), Open { held, key });
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<KeyId, Open>> {
        // Nothing panics half way through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The story signs with the sandbox's own keys, and with no others that somebody has put into its store.
impl Keyring for Keys {
    fn held(&self) -> Result<Vec<Held>, KeyringError> {
        Ok(self.open().values().map(|open| open.held.clone()).collect())
    }

    fn unlock(&self, id: &KeyId) -> Result<Arc<PrivateKey>, KeyringError> {
        let open = self.open().get(id).map(|open| Arc::clone(&open.key));
        open.ok_or_else(|| failed("a key is not open", PrivateKeyError::Refused))
    }

    fn keep(&self, key: &Arc<PrivateKey>, role: &Role, gun: &Gun) -> Result<(), KeyringError> {
        self.add(key, role, gun)
            .map_err(|source| failed("a new key cannot be stored", source))
    }

    fn remove(&self, id: &KeyId) -> Result<(), KeyringError> {
        let removed = || -> Result<(), KeyStoreError> {
            let listing = self.store.list()?;
            listing.key(*id).map_or(Ok(()), |entry| self.store.remove(entry))
        };
        removed().map_err(|source| failed("a key cannot be removed", source))?;
        self.open().remove(id);
        Ok(())
    }
}

fn failed(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> KeyringError {
    KeyringError {
        what,
        source: Arc::new(source),
    }
}
