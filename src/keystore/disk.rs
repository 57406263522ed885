//! The file system below a key store.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::{EXTENSION, KeyStoreError, MAX_FILE, MAX_FILES, Result, Warning};
use crate::tuf::KeyFileError;

/// What processes that change something hold. Docker and notary do not know of it; they ignore files of other names.
const LOCK: &str = ".lock";
/// A thousand times what a turn takes.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);
/// Nobody else's.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIRECTORY: u32 = 0o700;
/// Permission bits of group and others.
const OTHERS: u32 = 0o077;

fn failed(path: &Path) -> impl FnOnce(io::Error) -> KeyStoreError {
    let path = path.to_owned();
    |source| KeyStoreError::Access { path, source }
}

/// The key files of `directory`, sorted by name; none if there is no such directory.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<_> = entries(directory)?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == EXTENSION))
        .collect();
    found.sort();
    Ok(found)
}

/// Everything in `directory`, up to a limit.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(failed(directory))?,
    };
    let mut found = Vec::new();
    for entry in read.take(MAX_FILES + 1) {
        found.push(entry.map_err(failed(directory))?.path());
    }
    if found.len() > MAX_FILES {
        return Err(KeyStoreError::Full {
            path: directory.into(),
        });
    }
    Ok(found)
}

/// A key file's text. What is not a plain file is not opened: a pipe would never end.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>> {
    let size = fs::metadata(path).map_err(failed(path))?;
    if !size.is_file() || size.len() > MAX_FILE {
        return Err(KeyStoreError::Kind { path: path.into() });
    }
    let mut text = Zeroizing::new(String::with_capacity(
        usize::try_from(size.len()).unwrap_or_default() + 1,
    ));
    let file = File::open(path).map_err(failed(path))?;
    let read = file.take(MAX_FILE).read_to_string(&mut text);
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(KeyStoreError::Key {
            path: path.into(),
            source: KeyFileError::Pem,
        }),
        read => read.map(|_| text).map_err(failed(path)),
    }
}

/// Makes `directory` and what is above it, for nobody else.
pub(super) fn make_directory(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIRECTORY)
        .create(directory)
        .map_err(failed(directory))
}

/// Waits for other processes that change something, which takes them milliseconds.
pub(super) fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK);
    let mut options = File::options();
    let file = options.create(true).append(true).mode(PRIVATE_FILE);
    let file = file.open(&path).map_err(failed(&path))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                std::thread::sleep(BETWEEN_TRIES);
            }
            Err(TryLockError::WouldBlock) => return Err(KeyStoreError::Locked { path }),
            Err(TryLockError::Error(source)) => return Err(failed(&path)(source)),
        }
    }
}

/// Puts `bytes` in the place of a file, which is on the disk before this returns. A symbolic link is replaced itself,
/// not what it points to.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = folder(path);
    let written = written(directory, bytes).and_then(|file| file.persist(path).map_err(|error| error.error));
    written.map_err(failed(path))?;
    sync(directory)
}

/// The same for a file that is not there yet. Docker and notary do not take turns with us: what they put there in the
/// meantime stays, be it a file or a symbolic link.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = folder(path);
    let file = written(directory, bytes).map_err(failed(path))?;
    match file.persist_noclobber(path) {
        Ok(_) => sync(directory),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeyStoreError::Exists { path: path.into() })
        }
        Err(error) => Err(failed(path)(error.error)),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// `bytes` in a file of another name, on the disk.
fn written(directory: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(PRIVATE_FILE))
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

pub(super) fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(failed(path))?;
    path.parent().map_or(Ok(()), sync)
}

/// A new name in a directory lasts once the directory is written.
fn sync(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(failed(directory))
}

/// What is odd about the directory of keys, or a file in it.
pub(super) fn exposed(path: &Path) -> impl Iterator<Item = Warning> {
    let link = path.is_symlink().then(|| Warning::Link { path: path.into() });
    link.into_iter().chain(open_to_others(path))
}

/// Group or others may do something with the file or directory.
fn open_to_others(path: &Path) -> Option<Warning> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & OTHERS != 0).then(|| Warning::Open {
        path: path.into(),
        mode,
    })
}
