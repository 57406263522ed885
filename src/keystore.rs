//! The key files of people who sign, shared with docker and notary (notary-v1 §7.2).
//!
//! ```text
//! <trust dir>/private/<canonical key id>.key        mode 0600, directory 0700
//! <trust dir>/private/root_keys/<id>[_root].key     up to Notary 0.3: read, never changed
//! <trust dir>/private/tuf_keys/<GUN>/<id>[_<role>].key
//! ```
//!
//! Each file is replaced in one step, so that a crash leaves the old one or the new one, and whoever reads in between
//! sees one of the two. Processes that change something take turns, and nobody overwrites what he has not read.

mod disk;
mod error;
mod old;

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

pub use self::error::{KeyStoreError, Warning};
use crate::tuf::{KeyFile, KeyId, PrivateKey};

/// The directory of the keys within a trust directory.
const DIRECTORY: &str = "private";
/// What key files end with.
const EXTENSION: &str = "key";
/// Largest file that is read: ten times the largest key.
const MAX_FILE: u64 = 320 * 1024;
/// Most files of a key store. A publisher of a thousand repositories has two thousand keys.
const MAX_FILES: usize = 50_000;

type Result<T> = std::result::Result<T, KeyStoreError>;

/// A directory of key files.
#[derive(Clone, Debug)]
pub struct KeyStore {
    directory: PathBuf,
}

/// One key of the store.
#[derive(Clone)]
pub struct Entry {
    /// The id that the file is named by. Whether it is the key's is known when the key is open.
    pub id: KeyId,
    /// The file's content, still encrypted.
    pub file: KeyFile,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it lies where Notary up to 0.3 put keys: to be read, not to be changed.
    pub old_layout: bool,
    /// What the file was when it was read, to see whether it still is.
    text: zeroize::Zeroizing<String>,
}

/// What a store holds, and what is odd about it.
#[derive(Debug, Default)]
pub struct Listing {
    /// The keys, sorted by id.
    pub keys: Vec<Entry>,
    /// What a person should look at. None of it keeps the keys from being used.
    pub warnings: Vec<Warning>,
}

impl Entry {
    /// The role of the key, if the file says.
    pub fn role(&self) -> Option<&str> {
        self.file.labels.role()
    }

    /// The repository of the key, if it belongs to one.
    pub fn gun(&self) -> Option<&str> {
        self.file.labels.gun()
    }

    /// The key inside.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError::Key`] if it does not open, [`KeyStoreError::Misnamed`] if it is another than the file's name
    /// says: somebody has exchanged it.
    pub fn open(&self, passphrase: Option<&SecretString>) -> Result<PrivateKey> {
        let key = self.file.open(passphrase).map_err(|source| KeyStoreError::Key {
            path: self.path.clone(),
            source,
        })?;
        if key.id() == self.id {
            Ok(key)
        } else {
            Err(KeyStoreError::Misnamed {
                path: self.path.clone(),
                found: key.id(),
            })
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let id = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let id = id.ok_or_else(|| KeyStoreError::Name { path: path.into() })?;
        let text = disk::read(path)?;
        let file = KeyFile::parse(&text).map_err(|source| KeyStoreError::Key {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            id,
            file,
            path: path.into(),
            old_layout: false,
            text,
        })
    }

    fn read_old(place: &old::Place) -> Result<Self> {
        let text = disk::read(&place.path)?;
        let error = |source| KeyStoreError::Key {
            path: place.path.clone(),
            source,
        };
        let mut file = KeyFile::parse(&text).map_err(error)?;
        file.labels = place.labels(&file).map_err(error)?;
        Ok(Self {
            id: place.id,
            file,
            path: place.path.clone(),
            old_layout: true,
            text,
        })
    }

    /// Fails unless the file is still what was read.
    fn still(&self) -> Result<()> {
        if disk::read(&self.path).is_ok_and(|text| text == self.text) {
            Ok(())
        } else {
            Err(KeyStoreError::Changed {
                path: self.path.clone(),
            })
        }
    }
}

impl fmt::Debug for Entry {
    /// Without the text: of a key in clear it is the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Listing {
    /// The keys of `role`; for a role that belongs to a repository, of that repository.
    pub fn of_role(&self, role: &str, gun: Option<&str>) -> Vec<&Entry> {
        let keys = self.keys.iter();
        keys.filter(|key| key.role() == Some(role) && (gun.is_none() || key.gun() == gun))
            .collect()
    }

    /// The root keys, sorted by id as docker sorts them: the first is the one it uses for a new repository (§7.1).
    pub fn roots(&self) -> Vec<&Entry> {
        self.of_role("root", None)
    }

    /// The key called `id`, exactly.
    pub fn key(&self, id: KeyId) -> Option<&Entry> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl KeyStore {
    /// The store in `trust_dir`. Nothing is read or made yet.
    pub fn new(trust_dir: &Path) -> Self {
        Self {
            directory: trust_dir.join(DIRECTORY),
        }
    }

    /// The directory of the key files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Every key. Files that are none are told of and left out; a store that does not exist is empty.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError::Access`] if the directory cannot be read, [`KeyStoreError::Full`] if it holds too much.
    pub fn list(&self) -> Result<Listing> {
        let mut listing = Listing {
            warnings: disk::exposed(&self.directory).collect(),
            ..Listing::default()
        };
        for path in disk::files(&self.directory)? {
            match Entry::read(&path) {
                Ok(entry) => {
                    listing.warnings.extend(disk::exposed(&path));
                    let clear = !entry.file.is_encrypted();
                    listing.warnings.extend(clear.then_some(Warning::Clear { path }));
                    listing.keys.push(entry);
                }
                Err(source) => listing.warnings.push(Warning::Skipped { path, source }),
            }
        }
        self.list_old(&mut listing)?;
        listing.keys.sort_by_key(|key| key.id);
        Ok(listing)
    }

    /// Adds the keys of the old layout. A key that has been copied to its new place is not listed twice.
    fn list_old(&self, listing: &mut Listing) -> Result<()> {
        for place in old::places(&self.directory)? {
            match Entry::read_old(&place) {
                Ok(entry) if listing.key(entry.id).is_none() => listing.keys.push(entry),
                Ok(_) => {}
                Err(source) => listing.warnings.push(Warning::Skipped {
                    path: place.path,
                    source,
                }),
            }
        }
        Ok(())
    }

    /// Stores a key that is new here.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError::Exists`] if there is a file for this id already, which is left as it is.
    pub fn add(&self, id: KeyId, file: &KeyFile) -> Result<PathBuf> {
        disk::make_directory(&self.directory)?;
        let _turn = disk::lock(&self.directory)?;
        let path = self.path(id);
        disk::create(&path, file.to_pem().as_bytes())?;
        Ok(path)
    }

    /// Puts `file` in the place of `entry`, which must still be what was read.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError::Changed`] if another process has changed or removed it since.
    pub fn replace(&self, entry: &Entry, file: &KeyFile) -> Result<()> {
        let _turn = disk::lock(&self.directory)?;
        entry.still()?;
        disk::replace(&entry.path, file.to_pem().as_bytes())
    }

    /// Removes a key from the disk.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError::Changed`] if another process has changed or removed it since.
    pub fn remove(&self, entry: &Entry) -> Result<()> {
        let _turn = disk::lock(&self.directory)?;
        entry.still()?;
        disk::remove(&entry.path)
    }

    /// Copies every key of the old layout to where docker and notary look today. The old files stay: only a person
    /// knows whether there is a backup. Returns the copies.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`] if one cannot be written; those before it are.
    pub fn migrate(&self, listing: &Listing) -> Result<Vec<PathBuf>> {
        let old = listing.keys.iter().filter(|key| key.old_layout);
        old.map(|key| self.add(key.id, &key.file)).collect()
    }

    fn path(&self, id: KeyId) -> PathBuf {
        self.directory.join(format!("{id}.{EXTENSION}"))
    }
}

#[cfg(test)]
mod tests;
