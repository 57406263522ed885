//! The folder of a sandbox.
//!
//! | file | holds |
//! | --- | --- |
//! | `sandbox.json` | the ports, by which repositories are named, and whether the story was told |
//! | `env` | the environment to try things in, for a shell to read |
//! | `tls/` | the authority and the certificate of both servers |
//! | `docker/` | what `DOCKER_CONFIG` names: keys, and the authority where docker looks for it |
//! | `server/`, `webhook/`, `state/` | what the trust server keeps; what the webhook and publishers have seen |
//! | `policy.yaml`, `root.pem`, `registration.yaml`, `review.json` | the policy, the key it pins, and what to try it with |

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// A folder that is ours alone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Removes it in the end.
    temporary: Option<TempDir>,
    /// Keeps others out as long as it is open.
    _lock: File,
    begun: Option<Begun>,
}

/// What an earlier run left word of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Begun {
    /// Where everything listened.
    pub(super) ports: Ports,
    /// Whether the story came out as told.
    pub(super) told: bool,
}

/// Where everything listens. The registry's port is part of the names of repositories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ports {
    pub(super) registry: u16,
    pub(super) trust_server: u16,
    pub(super) webhook: u16,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder with something else in it.
    #[error("{} holds something else than a sandbox: name a folder that is empty or not there yet", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// Another sandbox is running in it.
    #[error("{} is in use by another sandbox", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// What an earlier run wrote there is not readable.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Folder {
    /// The folder at `path`, made if it is not there; a temporary one if none is named.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, FolderError> {
        let temporary = match path {
            Some(_) => None,
            None => Some(temporary()?),
        };
        let path = match (&temporary, path) {
            (Some(temporary), _) => temporary.path(),
            (None, path) => path.unwrap_or(Path::new(".")),
        };
        let access = |source| FolderError::Access {
            path: path.to_owned(),
            source,
        };
        // Keys are in it.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(access)?;
        // What is printed is to be of use in any folder.
        let path = path.canonicalize().map_err(access)?;
        let begun = begun(&path)?;
        let lock = lock(&path)?;
        Ok(Self {
            path,
            temporary,
            _lock: lock,
            begun,
        })
    }

    /// What an earlier run left word of.
    pub(super) const fn begun(&self) -> Option<Begun> {
        self.begun
    }

    /// Whether it ends with this run.
    pub(super) const fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file in it, and the folders on the way.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, FolderError> {
        let path = self.join(name);
        let parent = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .map_err(|source| FolderError::Access {
                path: path.clone(),
                source,
            })?;
        Ok(path)
    }

    /// The text of a file in it.
    pub(super) fn read(&self, name: &str) -> Result<String, FolderError> {
        let path = self.join(name);
        fs::read_to_string(&path).map_err(|source| FolderError::Access { path, source })
    }

    /// Leaves word for the next run.
    pub(super) fn note(&self, begun: Begun) -> Result<(), FolderError> {
        let text = serde_json::to_string_pretty(&begun).unwrap_or_default();
        self.write(NOTE, &format!("{text}\n")).map(drop)
    }

    /// Removes it, if it is temporary.
    pub(super) fn close(self) -> Result<(), FolderError> {
        let path = self.path;
        let closed = self.temporary.map_or(Ok(()), TempDir::close);
        closed.map_err(|source| FolderError::Access { path, source })
    }
}

fn temporary() -> Result<TempDir, FolderError> {
    let made = tempfile::Builder::new().prefix("countersign-sandbox-").tempdir();
    made.map_err(|source| FolderError::Access {
        path: std::env::temp_dir(),
        source,
    })
}

/// What an earlier run left word of. A folder in which there is something else is not ours to write in.
fn begun(path: &Path) -> Result<Option<Begun>, FolderError> {
    let access = |source| FolderError::Access {
        path: path.to_owned(),
        source,
    };
    let note = path.join(NOTE);
    match fs::read(&note) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| FolderError::Damaged { path: note, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let foreign = fs::read_dir(path)
                .map_err(access)?
                .any(|entry| entry.is_ok_and(|entry| entry.file_name() != LOCK));
            if foreign {
                return Err(FolderError::Foreign {
                    path: path.to_owned(),
                });
            }
            Ok(None)
        }
        Err(source) => Err(FolderError::Access { path: note, source }),
    }
}

fn lock(path: &Path) -> Result<File, FolderError> {
    let name = path.join(LOCK);
    let access = |source| FolderError::Access {
        path: name.clone(),
        source,
    };
    let file = File::create(&name).map_err(access)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FolderError::Busy {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(access(source)),
    }
}

const NOTE: &str = "sandbox.json";
const LOCK: &str = ".lock";

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: Begun = Begun {
        ports: Ports {
            registry: 5000,
            trust_server: 5001,
            webhook: 5002,
        },
        told: true,
    };

    #[test]
    fn a_folder_is_found_again_as_it_was_left() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/sandbox");
        let folder = Folder::open(Some(&path)).unwrap();
        assert_eq!((folder.begun(), folder.is_temporary()), (None, false));
        folder.note(BEGUN).unwrap();
        folder.close().unwrap();
        let folder = Folder::open(Some(&path)).unwrap();
        assert_eq!(folder.begun(), Some(BEGUN));
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("thesis.txt"), "").unwrap();
        let refused = Folder::open(Some(home.path()));
        assert!(matches!(refused, Err(FolderError::Foreign { .. })), "{refused:?}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_sandboxes_do_not_share_a_folder() {
        let home = tempfile::tempdir().unwrap();
        let _first = Folder::open(Some(home.path())).unwrap();
        let second = Folder::open(Some(home.path()));
        assert!(matches!(second, Err(FolderError::Busy { .. })), "{second:?}");
    }

    #[test]
    fn a_note_that_cannot_be_read_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(NOTE), "{").unwrap();
        let damaged = Folder::open(Some(home.path()));
        assert!(matches!(damaged, Err(FolderError::Damaged { .. })), "{damaged:?}");
    }

    #[test]
    fn a_temporary_folder_is_gone_in_the_end() {
        let folder = Folder::open(None).unwrap();
        let path = folder.path().to_owned();
        folder.write("docker/tls/ca.crt", "x").unwrap();
        assert_eq!(folder.read("docker/tls/ca.crt").unwrap(), "x");
        folder.close().unwrap();
        assert!(!path.exists());
    }
}
