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
    /// The key that everything in the folder is bound to is gone.
    #[error("the root key {id}, which the sandbox was begun with, is not in its key store any more")]
    Lost {
        /// Its id.
        id: KeyId,
    },
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
    /// The root key, and the owner's keys of `gun`, open; each is made if `store` has none yet. `pinned` is the root key
    /// that there must be, where one was made before.
    pub(super) async fn ready(store: KeyStore, gun: &Gun, pinned: Option<KeyId>) -> Result<Self, KeysError> {
        let keys = Self {
            store,
            open: Arc::default(),
        };
        let listing = Arc::new(keys.store.list()?);
        let of = |role: Role, pinned: Option<KeyId>| {
            let (keys, listing, gun) = (keys.clone(), Arc::clone(&listing), gun.clone());
            spawn_blocking(move || keys.prepare(&listing, &role, &gun, pinned))
        };
        let (root, targets) = tokio::join!(of(Role::Root, pinned), of(Role::Targets, None));
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

    /// Opens the keys of `role` that there are, or makes one. What somebody else has put there with a passphrase of his
    /// own is left alone, as long as one opens.
    fn prepare(
        &self,
        listing: &Listing,
        role: &Role,
        gun: &Gun,
        pinned: Option<KeyId>,
    ) -> Result<(), KeysError> {
        let of_gun = (*role != Role::Root).then_some(gun.as_str());
        let passphrase = SecretString::from(PASSPHRASE);
        let entries = listing.of_role(role.as_str(), of_gun).into_iter();
        let wanted = entries.filter(|entry| pinned.is_none_or(|id| entry.id == id));
        let mut refused = pinned.map(|id| KeysError::Lost { id });
        let mut opened = false;
        for entry in wanted {
            match entry.open(Some(&passphrase)) {
                Ok(key) => {
                    opened = true;
                    self.remember(Arc::new(key), role, gun);
                }
                Err(error) => refused = Some(error.into()),
            }
        }
        match refused {
            _ if opened => Ok(()),
            Some(error) => Err(error),
            None => self.add(&Arc::new(PrivateKey::generate(Algorithm::EcdsaP256)?), role, gun),
        }
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
            sealed: true,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(passphrase: &str, role: &str) -> (KeyId, KeyFile) {
        let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
        let labels = Labels::new(role, None).unwrap();
        let file = KeyFile::seal(&key, labels, &passphrase.into(), Strength::Interoperable).unwrap();
        (key.id(), file)
    }

    #[tokio::test]
    async fn keys_are_found_again_whatever_else_is_put_beside_them() {
        let home = tempfile::tempdir().unwrap();
        let store = || KeyStore::new(home.path());
        let gun: Gun = "localhost:5000/docker/trusttest".parse().unwrap();
        let first = Keys::ready(store(), &gun, None).await.unwrap();
        let root = first.root_pem().unwrap();
        let pinned = crate::tuf::pinned_key(&root).unwrap();
        for passphrase in ["somebody-elses", PASSPHRASE] {
            let (id, file) = sealed(passphrase, "root");
            store().add(id, &file).unwrap();
        }
        let again = Keys::ready(store(), &gun, Some(pinned)).await.unwrap();
        assert_eq!(again.root_pem().unwrap(), root);
        assert_eq!(again.held().unwrap(), first.held().unwrap());
        store()
            .remove(store().list().unwrap().key(pinned).unwrap())
            .unwrap();
        let lost = Keys::ready(store(), &gun, Some(pinned)).await;
        assert!(
            matches!(lost, Err(KeysError::Lost { id }) if id == pinned),
            "{lost:?}"
        );
    }
}
