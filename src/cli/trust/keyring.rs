//! The key store and its passphrases, as publishing needs keys.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::complain;
use super::super::key_flags::{KeyFlags, listing};
use super::super::passphrase::Passphrases;
use crate::keystore::KeyStore;
use crate::publish::{Held, Keyring, KeyringError};
use crate::reference::Gun;
use crate::tuf::{KeyFile, KeyId, Labels, PrivateKey, Role, Strength};

/// Keys of the key store; each is unlocked once.
pub(super) struct Keys {
    store: KeyStore,
    passphrases: RefCell<Passphrases>,
    open: RefCell<BTreeMap<KeyId, Arc<PrivateKey>>>,
    /// Whether what is odd about the store was told.
    told: Cell<bool>,
}

impl Keys {
    pub(super) fn new(flags: &KeyFlags) -> anyhow::Result<Self> {
        Ok(Self {
            store: flags.store()?,
            passphrases: RefCell::new(flags.passphrases()?),
            open: RefCell::default(),
            told: Cell::new(false),
        })
    }

    fn open(&self, id: &KeyId) -> anyhow::Result<PrivateKey> {
        let listing = self.store.list()?;
        let entry = listing.key(*id);
        let entry = entry
            .ok_or_else(|| anyhow::anyhow!("there is no key {id} in {}", self.store.directory().display()))?;
        self.passphrases.borrow_mut().open(entry)
    }

    fn add(&self, key: &PrivateKey, role: &Role, gun: &Gun) -> anyhow::Result<()> {
        let labels = Labels::new(role.as_str(), (*role != Role::Root).then_some(gun.as_str()))?;
        let passphrase = self.passphrases.borrow_mut().choose(role.as_str())?;
        let file = KeyFile::seal(key, labels, &passphrase, Strength::Interoperable)?;
        let path = self.store.add(key.id(), &file)?;
        let id = key.id();
        if *role == Role::Root {
            complain(&format!(
                "a root key was made, {id}: back it up now (countersign trust key export --all), and keep it off this \
                 machine; without it no repository made with it survives the loss of another key"
            ));
        } else {
            complain(&format!("a key of {role} for {gun} was made: {}", path.display()));
        }
        Ok(())
    }
}

impl Keyring for Keys {
    fn held(&self) -> Result<Vec<Held>, KeyringError> {
        let listing = if self.told.replace(true) {
            self.store.list().map_err(anyhow::Error::from)
        } else {
            listing(&self.store)
        };
        let listing = listing.map_err(failed("the key store cannot be read"))?;
        let keys = listing.keys.iter().map(|entry| Held {
            id: entry.id,
            role: entry.role().unwrap_or_default().to_owned(),
            gun: entry.gun().map(str::to_owned),
            sealed: entry.file.is_encrypted(),
        });
        Ok(keys.collect())
    }

    fn unlock(&self, id: &KeyId) -> Result<Arc<PrivateKey>, KeyringError> {
        if let Some(key) = self.open.borrow().get(id) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(self.open(id).map_err(failed("a key cannot be unlocked"))?);
        self.open.borrow_mut().insert(*id, Arc::clone(&key));
        Ok(key)
    }

    fn keep(&self, key: &Arc<PrivateKey>, role: &Role, gun: &Gun) -> Result<(), KeyringError> {
        self.add(key, role, gun)
            .map_err(failed("a new key cannot be stored"))?;
        self.open.borrow_mut().insert(key.id(), Arc::clone(key));
        Ok(())
    }

    fn remove(&self, id: &KeyId) -> Result<(), KeyringError> {
        let removed = || -> anyhow::Result<()> {
            let listing = self.store.list()?;
            Ok(listing
                .key(*id)
                .map_or(Ok(()), |entry| self.store.remove(entry))?)
        };
        removed().map_err(failed("a key cannot be removed"))
    }
}

fn failed(what: &'static str) -> impl Fn(anyhow::Error) -> KeyringError {
    move |source| KeyringError {
        what,
        source: Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(source)),
    }
}
