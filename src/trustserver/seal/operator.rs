//! The operator's key: in a file, in the environment, or behind a program that asks a key management service.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::SealError;
use super::cipher::{KEY, Secret};

/// Nobody else's.
const PRIVATE: u32 = 0o600;
/// A key in hex has 64 bytes; comfortably more, as editors add line ends.
const LONGEST: u64 = 256;

/// What seals the data key. Nothing prints the secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum OperatorKey {
    /// A key that is given to this process.
    Key(LocalKey),
    /// A program that is run with `wrap` or `unwrap` as its only argument: it reads the data key, plain or wrapped, in
    /// base64 on its standard input, and prints it wrapped or plain, in base64 again. It has ten seconds.
    Program(PathBuf),
}

/// 256 secret bits that an operator gave to this process.
#[derive(Debug)]
pub struct LocalKey(pub(super) Secret);

impl OperatorKey {
    /// A key as text: 32 bytes in base64, or 64 hex digits. White space around it does not count.
    ///
    /// # Errors
    ///
    /// [`SealError::Text`] if it is not one.
    pub fn of_text(text: &str) -> Result<Self, SealError> {
        let text = text.trim();
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST.try_into().unwrap_or(KEY)));
        if text.len() == 2 * KEY {
            bytes.resize(KEY, 0);
            hex::decode_to_slice(text, &mut bytes).map_err(|_| SealError::Text)?;
        } else if text.len() <= 2 * KEY {
            BASE64_STANDARD
                .decode_vec(text, &mut bytes)
                .map_err(|_| SealError::Text)?;
        }
        let key = Secret::of(&bytes).ok_or(SealError::Text)?;
        Ok(Self::Key(LocalKey(key)))
    }

    /// The key in a file.
    ///
    /// # Errors
    ///
    /// [`SealError::File`] if it cannot be read, [`SealError::Text`] if it holds no key.
    pub fn of_file(path: &Path) -> Result<Self, SealError> {
        Self::of_text(&read(path).map_err(failed(path))?)
    }

    /// The key in a file; if there is no such file, one is made with a new key, for nobody else, which is on the disk
    /// before anything can be sealed with it. Of several who do so at the same time, all have the same key.
    ///
    /// # Errors
    ///
    /// As [`OperatorKey::of_file`].
    pub fn of_file_or_new(path: &Path) -> Result<Self, SealError> {
        if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let key = Secret::generate()?;
            create(path, &key).map_err(failed(path))?;
        }
        Self::of_file(path)
    }

    /// A key that only a program can use; see [`OperatorKey::Program`].
    pub const fn program(program: PathBuf) -> Self {
        Self::Program(program)
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SealError {
    let path = path.to_owned();
    |source| SealError::File { path, source }
}

/// A short plain file; a pipe would never end.
fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    let mut text = Zeroizing::new(String::with_capacity(LONGEST.try_into().unwrap_or_default()));
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Puts a new file there, unless somebody else has by now.
fn create(path: &Path, key: &Secret) -> io::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(PRIVATE))
        .tempfile_in(dir)?;
    let text = Zeroizing::new(BASE64_STANDARD.encode(key.bytes()));
    writeln!(file, "{}", text.as_str())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => return Err(error.error),
        _ => {}
    }
    // A new name in a folder lasts once the folder is written.
    File::open(dir)?.sync_all()
}
