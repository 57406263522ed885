//! Where Notary kept keys up to 0.3 (notary-v1 §7.2).

use std::path::{Path, PathBuf};

use super::disk::entries;
use super::{EXTENSION, KeyStoreError, MAX_FILES, Result};
use crate::tuf::{KeyFile, KeyFileError, KeyId, Labels};

const ROOT_KEYS: &str = "root_keys";
const TUF_KEYS: &str = "tuf_keys";
/// Deepest directory of a GUN: 255 characters have 128 parts at most.
const MAX_DEPTH: usize = 128;

/// One key file of the old layout, and what its place says of it.
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) id: KeyId,
    role: Option<String>,
    gun: Option<String>,
}

impl Place {
    /// What the file is named: `<id>.key` or `<id>_<role>.key`.
    fn of(path: PathBuf, gun: Option<String>) -> Option<Self> {
        let stem = path.file_stem()?.to_str()?;
        let (id, role) = match stem.split_once('_') {
            Some((id, role)) => (id, Some(role.to_owned())),
            None => (stem, None),
        };
        let role = role.or_else(|| gun.is_none().then(|| "root".to_owned()));
        let id = id.parse().ok()?;
        Some(Self { path, id, role, gun })
    }

    /// Role and GUN: the file's own where it says, else the place's.
    pub(super) fn labels(&self, file: &KeyFile) -> std::result::Result<Labels, KeyFileError> {
        let mut labels = file.labels.clone();
        if let (None, Some(role)) = (labels.role(), &self.role) {
            labels = labels.with_role(role)?;
        }
        match (labels.gun(), &self.gun) {
            (None, Some(gun)) => labels.with_gun(gun),
            _ => Ok(labels),
        }
    }
}

/// Every key file of the old layout, sorted by path.
pub(super) fn places(directory: &Path) -> Result<Vec<Place>> {
    let mut found = Vec::new();
    let roots = entries(&directory.join(ROOT_KEYS))?;
    found.extend(keys(roots).filter_map(|path| Place::of(path, None)));
    walk(&directory.join(TUF_KEYS), "", 0, &mut found)?;
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn keys(paths: Vec<PathBuf>) -> impl Iterator<Item = PathBuf> {
    paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == EXTENSION))
}

/// The keys below `directory`, which belongs to `gun`. Symbolic links to directories are not followed: they may lead
/// in circles.
fn walk(directory: &Path, gun: &str, depth: usize, found: &mut Vec<Place>) -> Result<()> {
    let entries = entries(directory)?;
    let inner = entries.iter().filter(|path| path.is_dir() && !path.is_symlink());
    for folder in inner.filter(|_| depth < MAX_DEPTH) {
        let name = folder.file_name().and_then(|name| name.to_str());
        let Some(name) = name else { continue };
        let gun = if gun.is_empty() {
            name.to_owned()
        } else {
            format!("{gun}/{name}")
        };
        walk(folder, &gun, depth + 1, found)?;
    }
    found.extend(keys(entries).filter_map(|path| Place::of(path, Some(gun.to_owned()))));
    if found.len() > MAX_FILES {
        return Err(KeyStoreError::Full {
            path: directory.into(),
        });
    }
    Ok(())
}
