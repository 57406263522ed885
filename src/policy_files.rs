//! Policies read from files, and read again when they change.
//!
//! Contents are polled and compared byte for byte. A mounted `ConfigMap` rotates by swapping a symlink two folders up,
//! which a watch on the file sees at most once (style §7); a poll sees it every time, and a second of delay is well
//! within what a policy change may take (kubernetes-admission CRD-33). New contents count once two polls in a row have
//! seen them: half of a file that is being written can be a policy too, and a more permissive one.
//!
//! A change that cannot be read leaves the last good policies in force, loudly. A file has no other place where the
//! wanted state could be seen, and to deny everything for a slip of the hand would be an outage.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::policy::{MAX_FILE_BYTES, PolicyError, PolicySet};

/// Time between polls: with the second look that a change needs, it is in force after two seconds (CRD-33). Reading a few
/// cached files of some KiB takes well under a millisecond.
pub const POLL: Duration = Duration::from_secs(1);

/// The files of a policy, and what was last in them.
#[derive(Debug)]
pub struct PolicyFiles {
    paths: Arc<[PathBuf]>,
    /// What the policies in force, or the last errors, were made of.
    contents: Contents,
}

/// What was found in the files, in the order of the paths; folders by name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Contents(Vec<Result<(PathBuf, String), FileError>>);

impl PolicyFiles {
    /// Reads all policies in `paths`. A path is a file, or a folder all of whose `*.yaml` and `*.yml` count, hidden
    /// ones left out.
    ///
    /// # Errors
    ///
    /// [`PolicyFilesError`] lists everything that is wrong with any of them.
    pub fn open(paths: impl IntoIterator<Item = PathBuf>) -> Result<(Self, PolicySet), PolicyFilesError> {
        let paths: Arc<[PathBuf]> = paths.into_iter().collect();
        let contents = Contents::read(&paths);
        let policies = contents.compile()?;
        Ok((Self { paths, contents }, policies))
    }

    /// Reads the files again every [`POLL`], and tells `on_change` about each change: the new policies, or everything
    /// that is wrong with them, once for the same contents. On an error the caller keeps what it has, and says so.
    ///
    /// Never returns; to be dropped, or spawned by the caller.
    pub async fn watch(
        mut self,
        mut on_change: impl FnMut(Result<PolicySet, PolicyFilesError>),
    ) -> Infallible {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = self.contents.clone();
        loop {
            ticks.tick().await;
            let paths = Arc::clone(&self.paths);
            // The read is cancelled only when the runtime ends, and this loop with it.
            let Ok(now) = spawn_blocking(move || Contents::read(&paths)).await else {
                continue;
            };
            if now == before && now != self.contents {
                on_change(now.compile());
                self.contents.clone_from(&now);
            }
            before = now;
        }
    }
}

/// Reads the texts of the files in `paths`, as [`PolicyFiles::open`] does, and what kept others from being read.
pub fn read_texts(paths: &[PathBuf]) -> (Vec<(PathBuf, String)>, Vec<FileError>) {
    let (mut texts, mut errors) = (Vec::new(), Vec::new());
    for file in Contents::read(paths).0 {
        match file {
            Ok(text) => texts.push(text),
            Err(error) => errors.push(error),
        }
    }
    (texts, errors)
}

impl Contents {
    fn read(paths: &[PathBuf]) -> Self {
        Self(paths.iter().flat_map(|path| read(path)).collect())
    }

    /// Compiles what could be read even if something could not, to report what is wrong with that as well.
    fn compile(&self) -> Result<PolicySet, PolicyFilesError> {
        let mut errors: Vec<_> = self.0.iter().filter_map(|file| file.clone().err()).collect();
        match PolicySet::parse(self.0.iter().filter_map(|file| file.clone().ok())) {
            Ok(policies) if errors.is_empty() => return Ok(policies),
            Ok(_) => {}
            Err(found) => errors.extend(found.into_iter().map(|error| FileError::Policy(Box::new(error)))),
        }
        Err(PolicyFilesError(errors))
    }
}

fn read(path: &Path) -> Vec<Result<(PathBuf, String), FileError>> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => match list(path) {
            Ok(files) if files.is_empty() => vec![Err(FileError::EmptyFolder {
                path: path.to_owned(),
            })],
            Ok(files) => files.iter().flat_map(|file| read(file)).collect(),
            Err(error) => vec![Err(FileError::unreadable(path, &error))],
        },
        // Opening anything else, a pipe say, could wait for ever.
        Ok(found) if !found.is_file() => vec![Err(FileError::NotAFile {
            path: path.to_owned(),
        })],
        Ok(_) => vec![read_file(path)],
        Err(error) => vec![Err(FileError::unreadable(path, &error))],
    }
}

/// The policy files of a folder by name. Folders within it are left out, and so are hidden files: editors keep copies
/// there, and a mounted `ConfigMap` its versions.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let path = entry.path();
        let yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<(PathBuf, String), FileError> {
    let mut bytes = Vec::new();
    // One byte more than the limit is enough for `policy` to see that it is passed.
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| FileError::unreadable(path, &error))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok((path.to_owned(), text)),
        Err(_) => Err(FileError::NotText {
            path: path.to_owned(),
        }),
    }
}

/// Everything that is wrong with a set of policy files; one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFilesError(Vec<FileError>);

impl PolicyFilesError {
    /// The findings; at least one.
    pub fn findings(&self) -> &[FileError] {
        &self.0
    }
}

impl fmt::Display for PolicyFilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, finding) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyFilesError {}

/// One thing that is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's words.
        reason: Box<str>,
    },
    /// A folder without policies, which would govern nothing.
    #[error("{}: no *.yaml or *.yml file in this folder", path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A pipe, a device.
    #[error("{}: neither a file nor a folder, so it cannot be read twice", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Not UTF-8.
    #[error("{}: not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Read, and wrong.
    #[error(transparent)]
    Policy(Box<PolicyError>),
}

impl FileError {
    fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            reason: error.to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests;
