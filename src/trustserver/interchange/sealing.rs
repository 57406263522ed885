//! Keys from the storage's form to that of a parcel, and back.

use super::{InterchangeError, Parcel, ParcelKey, Result};
use crate::reference::Gun;
use crate::trustserver::seal::{SealError, Sealer};
use crate::trustserver::storage::SealedKey;
use crate::tuf::KeyId;

/// Opens a key of `gun`.
pub(super) fn unseal(sealer: &Sealer, gun: &Gun, key: SealedKey) -> Result<ParcelKey> {
    let opened = sealer.unseal(gun, &key).map_err(failed(gun, key.id))?;
    Ok(ParcelKey {
        key: opened,
        role: key.role,
        used: key.used,
        created_at: key.created_at,
    })
}

/// Seals the keys of `parcel` as this server's. Whether they were used is not believed: one that was not would be given
/// out for the next root, and whoever made the parcel may know it (§2.5).
pub(super) fn seal(sealer: &Sealer, parcel: &Parcel) -> Result<Vec<SealedKey>> {
    let gun = &parcel.gun;
    let mut keys = Vec::with_capacity(parcel.keys.len());
    for ParcelKey {
        key,
        role,
        created_at,
        used: _,
    } in &parcel.keys
    {
        let new = sealer
            .seal(gun, role, key, *created_at)
            .map_err(failed(gun, key.id()))?;
        keys.push(SealedKey { used: true, ..new });
    }
    Ok(keys)
}

fn failed(gun: &Gun, id: KeyId) -> impl FnOnce(SealError) -> InterchangeError {
    move |source| InterchangeError::Seal {
        gun: gun.clone(),
        id,
        source: Box::new(source),
    }
}
