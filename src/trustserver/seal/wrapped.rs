//! The data key as the database keeps it. Beside it stand fingerprints, so that another operator's key is told from
//! damage.

use super::SealError;
use super::cipher::{FINGERPRINT, Opening, Secret};
use super::operator::{LocalKey, OperatorKey};
use super::program;

/// `1`, the fingerprint of the operator's key, then the data key sealed with it.
const BY_KEY: u8 = 1;
/// `2`, the fingerprint of the data key, then what the program made of it.
const BY_PROGRAM: u8 = 2;
/// What the data key is sealed for.
const PLACE: &[u8] = b"countersign data key\0";

impl OperatorKey {
    /// Seals the data key.
    pub(super) async fn wrap(&self, data_key: &Secret) -> Result<Vec<u8>, SealError> {
        match self {
            Self::Key(LocalKey(key)) => {
                let sealed = key.seal(BY_KEY, PLACE, data_key.bytes())?;
                Ok([&[BY_KEY], &key.fingerprint()[..], &sealed].concat())
            }
            Self::Program(program) => {
                let wrapped = program::wrap(program, data_key).await?;
                Ok([&[BY_PROGRAM], &data_key.fingerprint()[..], &wrapped].concat())
            }
        }
    }

    /// Opens what [`Self::wrap`] made.
    pub(super) async fn unwrap(&self, wrapped: &[u8]) -> Result<Secret, SealError> {
        let (&[form], rest) = wrapped.split_first_chunk().ok_or(SealError::DataKey)?;
        let (fingerprint, sealed) = rest
            .split_first_chunk::<FINGERPRINT>()
            .ok_or(SealError::DataKey)?;
        match (form, self) {
            (BY_KEY, Self::Key(LocalKey(key))) => unseal(key, fingerprint, sealed),
            (BY_PROGRAM, Self::Program(program)) => {
                let data_key = program::unwrap(program, sealed).await?;
                // A service that has another key by the same name may answer with anything.
                let same = data_key.fingerprint() == *fingerprint;
                same.then_some(data_key).ok_or(SealError::WrongKey)
            }
            (BY_KEY | BY_PROGRAM, _) => Err(SealError::WrongKey),
            _ => Err(SealError::Newer),
        }
    }
}

fn unseal(key: &Secret, fingerprint: &[u8; FINGERPRINT], sealed: &[u8]) -> Result<Secret, SealError> {
    if key.fingerprint() != *fingerprint {
        return Err(SealError::WrongKey);
    }
    match key.open(BY_KEY, PLACE, sealed) {
        Ok(plain) => Secret::of(&plain).ok_or(SealError::DataKey),
        Err(Opening::Refused | Opening::Newer) => Err(SealError::DataKey),
    }
}
