//! The directory of `--self-signed-dir`.
//!
//! | file | holds |
//! | --- | --- |
//! | `ca.crt` | the authorities that clients trust: the newest first, older ones until they expire (TLS-06) |
//! | `ca.key` | their keys |
//! | `tls.crt`, `tls.key` | the leaf that is served |
//!
//! Each file is replaced in one step. A key is written before its certificate, so that a crash in between leaves a key
//! without use, never a certificate without key. Processes that share the directory take turns.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rcgen::KeyPair;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::authority::{Authority, Pair, Signer, due, vouched};
use super::config::Lifetimes;
use super::tls;

/// The directory cannot hold our certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelfSignedError {
    /// A file cannot be read or replaced.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has been busy here for too long.
    #[error("{} is held by another process", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A certificate could not be made, most likely for a name that is none.
    #[error("cannot make a certificate")]
    Certificate(#[source] rcgen::Error),
}

/// The directory and the names its leaf is for.
#[derive(Clone, Debug)]
pub(super) struct SelfSigned {
    directory: PathBuf,
    names: Vec<String>,
}

/// The pair in service, and the end of its authority's life.
pub(super) struct Current {
    pub(super) chain: Vec<u8>,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) authority: Option<Timestamp>,
}

impl SelfSigned {
    pub(super) const fn new(directory: PathBuf, names: Vec<String>) -> Self {
        Self { directory, names }
    }

    /// Renews what is due at `now`, makes what is missing or broken, keeps the rest, and reads the pair to serve.
    pub(super) fn maintain(&self, now: Timestamp) -> Result<Current, SelfSignedError> {
        fs::create_dir_all(&self.directory).map_err(|source| self.error(Path::new(""), source))?;
        let _turn = self.lock()?;
        let authorities = self.authorities(now)?;
        let (chain, key) = match self.leaf(&authorities, now) {
            Some(current) => current,
            None => self.renew(&authorities, now)?,
        };
        let authority = authorities.iter().map(|authority| authority.life.not_after).max();
        Ok(Current {
            chain,
            key,
            authority,
        })
    }

    /// The authorities in service at `now`, a new one among them if the newest is due.
    fn authorities(&self, now: Timestamp) -> Result<Vec<Authority>, SelfSignedError> {
        let mut known = self.stored_authorities(now);
        if known
            .iter()
            .any(|authority| authority.signs(now) && !due(authority.life, now))
        {
            return Ok(known);
        }
        if known.is_empty() && self.path(AUTHORITIES).exists() {
            warn!(directory = %self.directory.display(), "certificate authority is lost, making a new one: clients must be given ca.crt again");
        }
        let new =
            Authority::found(Lifetimes::default().authority, now).map_err(SelfSignedError::Certificate)?;
        let all = || std::iter::once(&new).chain(&known);
        let keys: Vec<_> = all().filter_map(Authority::key_pem).collect();
        let keys = Zeroizing::new(keys.iter().map(|key| key.as_str()).collect::<String>());
        self.replace(AUTHORITY_KEYS, keys.as_bytes(), PRIVATE)?;
        let bundle: String = all().map(Authority::pem).collect();
        self.replace(AUTHORITIES, bundle.as_bytes(), PUBLIC)?;
        info!(directory = %self.directory.display(), "made a certificate authority");
        known = self.stored_authorities(now);
        Ok(known)
    }

    /// What `ca.crt` and `ca.key` hold that is not over at `now`. What cannot be read is as good as lost.
    fn stored_authorities(&self, now: Timestamp) -> Vec<Authority> {
        let bundle = self.read(AUTHORITIES).unwrap_or_default();
        let keys = Zeroizing::new(self.read(AUTHORITY_KEYS).unwrap_or_default());
        let mut keys: Vec<_> = PrivateKeyDer::pem_slice_iter(&keys)
            .filter_map(|key| KeyPair::try_from(&key.ok()?).ok().map(Zeroizing::new))
            .collect();
        tls::certificates(&bundle)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|certificate| Authority::resume(certificate, &mut keys).ok())
            .filter(|authority| authority.life.contains(now))
            .collect()
    }

    /// The stored leaf, if it can go on.
    fn leaf(&self, authorities: &[Authority], now: Timestamp) -> Option<(Vec<u8>, Zeroizing<Vec<u8>>)> {
        let chain = self.read(LEAF).ok()?;
        let key = Zeroizing::new(self.read(LEAF_KEY).ok()?);
        let leaf = tls::certificates(&chain).ok()?.into_iter().next()?;
        let keys = KeyPair::try_from(&PrivateKeyDer::from_pem_slice(&key).ok()?).ok()?;
        let own = Authority::resume(leaf.clone(), &mut vec![Zeroizing::new(keys)]).ok()?;
        let good = own.signs(now) && !due(own.life, now) && vouched(&leaf, &self.names, authorities, now);
        good.then_some((chain, key))
    }

    fn renew(
        &self,
        authorities: &[Authority],
        now: Timestamp,
    ) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), SelfSignedError> {
        let signer = Signer::choose(authorities, now).ok_or_else(|| {
            let lost = io::Error::other("no authority in it can sign");
            self.error(Path::new(AUTHORITIES), lost)
        })?;
        let Pair { certificate, key } = signer
            .issue(&self.names, Lifetimes::default().leaf, now)
            .map_err(SelfSignedError::Certificate)?;
        self.replace(LEAF_KEY, key.as_bytes(), PRIVATE)?;
        self.replace(LEAF, certificate.as_bytes(), PUBLIC)?;
        info!(directory = %self.directory.display(), "made a serving certificate");
        Ok((certificate.into_bytes(), Zeroizing::new(key.as_bytes().to_vec())))
    }

    /// Waits for other processes that maintain the directory, which takes them milliseconds.
    fn lock(&self) -> Result<File, SelfSignedError> {
        let path = self.path(LOCK);
        let file = File::create(&path).map_err(|source| self.error(Path::new(LOCK), source))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(BETWEEN_TRIES);
                }
                Err(TryLockError::WouldBlock) => return Err(SelfSignedError::Locked { path }),
                Err(TryLockError::Error(source)) => return Err(self.error(Path::new(LOCK), source)),
            }
        }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(name))
    }

    /// Puts `bytes` in the place of a file, so that a reader sees the old or the new ones.
    fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), SelfSignedError> {
        let written = tempfile::Builder::new()
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(&self.directory)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.as_file().sync_all()?;
                file.persist(self.path(name)).map_err(|error| error.error)
            });
        written
            .map(drop)
            .map_err(|source| self.error(Path::new(name), source))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn error(&self, name: &Path, source: io::Error) -> SelfSignedError {
        SelfSignedError::File {
            path: self.directory.join(name),
            source,
        }
    }
}

const AUTHORITIES: &str = "ca.crt";
const AUTHORITY_KEYS: &str = "ca.key";
const LEAF: &str = "tls.crt";
const LEAF_KEY: &str = "tls.key";
const LOCK: &str = ".lock";
/// For keys: nobody else's (TLS-23).
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
/// A thousand times what a turn takes.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
