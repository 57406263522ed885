//! Server-held keys at rest: sealed under a data key, which is sealed under the operator's key.
//!
//! ```text
//! operator's key ─ seals ─▶ data key ─ seals ─▶ private key of a role of a repository
//! (never stored by us)      (one a database)    (bound to its repository, role and id)
//! ```
//!
//! So the operator's key can be changed without touching a single key, and one that lives in a key management service
//! is asked once, when the server starts. All of it is AES-256-GCM with random nonces, of which a data key may use four
//! thousand million. Whoever can write the database but has no operator's key cannot make a sealed key, nor move one
//! to another repository or role, where its signatures would mean something else.
//!
//! What is sealed begins with a byte that names its form; other forms are of newer programs.

mod cipher;
mod operator;
mod program;
mod wrapped;

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use self::cipher::{Opening, Secret};
pub use self::operator::OperatorKey;
pub use self::program::ProgramError;
use super::storage::{SealedKey, Storage, StorageError};
use crate::reference::Gun;
use crate::tuf::{KeyId, PrivateKey, PrivateKeyError, Role};

/// The form in which private keys are sealed.
const FORM: u8 = 1;

/// Seals and opens the keys of one database.
#[derive(Debug)]
pub struct Sealer {
    data_key: Secret,
    /// The data key as the database keeps it.
    wrapped: Vec<u8>,
}

impl Sealer {
    /// Opens the data key of the database; makes one and keeps it if there is none. Any number of servers may do so at
    /// the same time: all have the same one then.
    ///
    /// # Errors
    ///
    /// [`SealError`] says whether it is the operator's key that is not the right one, the data key that is damaged, or
    /// the database or a program that does not answer.
    pub async fn open(storage: &impl Storage, operator: &OperatorKey) -> Result<Self, SealError> {
        if let Some(sealer) = Self::of_present(storage, operator).await? {
            return Ok(sealer);
        }
        let data_key = Secret::generate()?;
        let wrapped = operator.wrap(&data_key).await?;
        if storage.keep_data_key(None, &wrapped).await? {
            return Ok(Self { data_key, wrapped });
        }
        let theirs = storage.data_key().await?.ok_or(SealError::Raced)?;
        Self::unwrap(theirs, operator).await
    }

    /// Opens the data key of the database; `None` if there is none yet.
    ///
    /// # Errors
    ///
    /// Those of [`Sealer::open`].
    pub async fn of_present(
        storage: &impl Storage,
        operator: &OperatorKey,
    ) -> Result<Option<Self>, SealError> {
        match storage.data_key().await? {
            Some(wrapped) => Self::unwrap(wrapped, operator).await.map(Some),
            None => Ok(None),
        }
    }

    async fn unwrap(wrapped: Vec<u8>, operator: &OperatorKey) -> Result<Self, SealError> {
        let data_key = operator.unwrap(&wrapped).await?;
        Ok(Self { data_key, wrapped })
    }

    /// Seals the data key under another operator's key. The old one opens nothing in this database from then on, but
    /// older copies of it.
    ///
    /// # Errors
    ///
    /// [`SealError::Raced`] if somebody else has done so since this sealer was opened; other [`SealError`]s if the new
    /// key or the database does not do its work. The old one counts still.
    pub async fn rewrap(
        &mut self,
        storage: &impl Storage,
        new_operator: &OperatorKey,
    ) -> Result<(), SealError> {
        let wrapped = new_operator.wrap(&self.data_key).await?;
        // A program may wrap what it does not unwrap; better to learn that while the old key still works.
        new_operator.unwrap(&wrapped).await?;
        if !storage.keep_data_key(Some(&self.wrapped), &wrapped).await? {
            return Err(SealError::Raced);
        }
        self.wrapped = wrapped;
        Ok(())
    }

    /// Seals `key` as one of `gun` for `role`, made at `created_at` and not used yet.
    ///
    /// # Errors
    ///
    /// [`SealError::Refused`] if the system has no randomness.
    pub fn seal(
        &self,
        gun: &Gun,
        role: &Role,
        key: &PrivateKey,
        created_at: Timestamp,
    ) -> Result<SealedKey, SealError> {
        let id = key.id();
        let plain = key.encode()?;
        let sealed = self.data_key.seal(FORM, &place(gun, role, id), &plain)?;
        Ok(SealedKey {
            id,
            role: role.clone(),
            sealed,
            used: false,
            created_at,
        })
    }

    /// Opens a key of `gun`.
    ///
    /// # Errors
    ///
    /// [`SealError::Damaged`] if it was sealed for another repository or role, under another id or data key, or was
    /// changed since; [`SealError::Newer`] if a newer program sealed it.
    pub fn unseal(&self, gun: &Gun, key: &SealedKey) -> Result<PrivateKey, SealError> {
        let damaged = || SealError::Damaged {
            gun: gun.clone(),
            role: key.role.clone(),
            id: key.id,
        };
        let place = place(gun, &key.role, key.id);
        let plain = self.data_key.open(FORM, &place, &key.sealed);
        let plain = plain.map_err(|opening| match opening {
            Opening::Newer => SealError::Newer,
            Opening::Refused => damaged(),
        })?;
        let opened = PrivateKey::decode(&plain).map_err(|_| damaged())?;
        // Sealed by us it is; that it is the one by whose id it is looked for is for the key itself to say.
        (opened.id() == key.id).then_some(opened).ok_or_else(damaged)
    }
}

/// Where a key belongs, written so that no two places read the same: no name holds a zero.
fn place(gun: &Gun, role: &Role, id: KeyId) -> Vec<u8> {
    format!("countersign server key\0{}\0{role}\0{id}", gun.as_str()).into_bytes()
}

/// Why a key is not sealed or not opened. None of them tells anything of a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The database did not do its part.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file of the operator's key cannot be read or made.
    #[error("the sealing key file {path} cannot be used")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The operator's key is not one.
    #[error("a sealing key is 32 bytes, written in base64 or as 64 hex digits")]
    Text,
    /// The operator's program did not do its part.
    #[error("the sealing program {program} did not {verb} the data key")]
    Program {
        /// Which.
        program: PathBuf,
        /// `wrap` or `unwrap`.
        verb: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// The data key is there and whole, as far as can be told, but the operator's key is not the one for it.
    #[error("the data key of this database is sealed with another sealing key than the given one")]
    WrongKey,
    /// The operator's key is the right one, but what it sealed is not any more what it was.
    #[error(
        "the data key of this database is damaged: its sealing key is the given one, but does not open it"
    )]
    DataKey,
    /// A private key does not open.
    #[error("the sealed {role} key {id} of {gun} is damaged, or was sealed for another place")]
    Damaged {
        /// Whose.
        gun: Gun,
        /// Of which role.
        role: Role,
        /// Under which id.
        id: KeyId,
    },
    /// Sealed in a form that we do not know.
    #[error("it was sealed by a newer version of this program, or is damaged")]
    Newer,
    /// Another process changed the data key meanwhile.
    #[error("another process has changed how the data key is sealed in the meantime")]
    Raced,
    /// The cryptographic library failed, for lack of randomness or memory.
    #[error("the cryptographic library failed")]
    Refused(#[from] PrivateKeyError),
}

impl From<aws_lc_rs::error::Unspecified> for SealError {
    fn from(source: aws_lc_rs::error::Unspecified) -> Self {
        Self::Refused(source.into())
    }
}

#[cfg(test)]
mod tests;
