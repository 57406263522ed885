//! New keys for old roles, and the end of a repository (notary-v1 §7.11).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::PublishError;
use super::keyring::{Held, Keyring};
use super::report::Report;
use super::{Effect, Publisher};
use crate::trust::present;
use crate::tuf::edit::{Change, Published};
use crate::tuf::{KeyId, PublicKey, Role};

/// Which keys a role gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// A new root key; with a key id, that one, which must be at hand.
    Root(Option<KeyId>),
    /// The same root keys in new certificates: what an expiring certificate needs (§4.6).
    Reissue,
    /// A new targets key.
    Targets,
    /// A new snapshot key of our own: whoever publishes from now on needs it.
    OwnSnapshot,
    /// A new key of the server's for the snapshot.
    ServerSnapshot,
    /// A new key of the server's for the timestamp.
    Timestamp,
}

impl Rotation {
    /// The role whose keys change.
    pub const fn role(self) -> Role {
        match self {
            Self::Root(_) | Self::Reissue => Role::Root,
            Self::Targets => Role::Targets,
            Self::OwnSnapshot | Self::ServerSnapshot => Role::Snapshot,
            Self::Timestamp => Role::Timestamp,
        }
    }
}

impl<K: Keyring> Publisher<'_, K> {
    /// Gives a role new keys. Those of `targets` and the snapshot that are replaced are removed from the key store once
    /// the server has accepted (T51); root keys stay, since other repositories may have them.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub async fn rotate(&self, rotation: Rotation) -> Result<Report, PublishError> {
        let role = rotation.role();
        let now = present()?;
        let before = self.published(now, self.deadline()).await?;
        let old = before.key_ids(&role);
        let keys = self.rotated(rotation, &before).await?;
        let Some(keys) = keys else {
            // A dry run makes no key, and asks the server for none.
            return Ok(Report::unchanged(self.site.gun().clone(), 0));
        };
        let change = Change::Replace {
            role: role.clone(),
            keys,
        };
        let lost = self.lost_timestamp(&role, &before).await?;
        let mut report = self
            .change(|published, conflicts| {
                if conflicts > 0 && has(published, &change) {
                    // Ours, and the answer got lost.
                    Ok(Vec::new())
                } else if published.key_ids(&role) == old {
                    Ok([&change].into_iter().chain(&lost).cloned().collect())
                } else {
                    // What we would put in their place may be just what the other meant to be rid of.
                    let gun = published.gun().clone();
                    Err(PublishError::Rotated {
                        gun,
                        role: role.clone(),
                    })
                }
            })
            .await?;
        if lost.is_some() {
            let told = "the server has not the key of the timestamp: it got a new one too";
            report.warnings.push(told.to_owned());
        }
        if self.options.effect == Effect::Publish && matches!(role, Role::Targets | Role::Snapshot) {
            // A key that is a signer's too, or root's, goes on signing.
            let mut needed = before.key_ids(&Role::Root);
            needed.extend(before.delegations().into_iter().flat_map(|signer| signer.keys));
            let old = old.difference(&needed).copied().collect();
            report.warnings.extend(self.discard(&role, &old, &change));
        }
        Ok(report)
    }

    /// A new timestamp key beside that of the snapshot, if the server has not the one that root lists: it came to the
    /// repository without its keys, and takes no root under which it cannot sign both, so one rotation after the
    /// other would be refused.
    async fn lost_timestamp(
        &self,
        rotated: &Role,
        before: &Published,
    ) -> Result<Option<Change>, PublishError> {
        let role = Role::Timestamp;
        if *rotated != Role::Snapshot {
            return Ok(None);
        }
        let key = self.server_key(&role).await?;
        let held = before.keys(&role).iter().any(|listed| listed.id() == key.id());
        let keys = vec![key];
        Ok((!held).then_some(Change::Replace { role, keys }))
    }

    async fn rotated(
        &self,
        rotation: Rotation,
        before: &Published,
    ) -> Result<Option<Vec<Arc<PublicKey>>>, PublishError> {
        let dry = self.options.effect == Effect::DryRun;
        match rotation {
            Rotation::Reissue => self.certificates(before.key_ids(&Role::Root)).map(Some),
            Rotation::Root(Some(id)) => self.certificates([id].into()).map(Some),
            _ if dry => Ok(None),
            Rotation::Root(None) => {
                let id = self.new_key(&Role::Root)?.id();
                self.certificates([id].into()).map(Some)
            }
            Rotation::Targets | Rotation::OwnSnapshot => {
                // Always a new one: a key for the role that lies around may be the one that an earlier rotation was to be
                // rid of, come back with a backup or never removed.
                let key = self.new_key(&rotation.role())?;
                Ok(Some(vec![Arc::new(key.public().clone())]))
            }
            Rotation::ServerSnapshot | Rotation::Timestamp => {
                let role = rotation.role();
                let server = self.site.server();
                let offered = server.new_key(self.site.gun(), &role, self.deadline()).await;
                Ok(Some(vec![self.accept(&role, offered)?]))
            }
        }
    }

    fn certificates(&self, ids: BTreeSet<KeyId>) -> Result<Vec<Arc<PublicKey>>, PublishError> {
        let now = present()?;
        let held = self.keys.held()?;
        let certificates = ids.into_iter().map(|id| {
            let key = self.sealed_root(&id, &held)?;
            let certificate = key.root_certificate(self.site.gun(), now);
            certificate.map(Arc::new).map_err(|source| PublishError::Key {
                role: Role::Root,
                source,
            })
        });
        certificates.collect()
    }

    /// Removes replaced keys; that one could not be is no failure of the rotation. One that was not made for this role
    /// of this repository may serve another: it stays, and that is told.
    fn discard(&self, role: &Role, old: &BTreeSet<KeyId>, change: &Change) -> Vec<String> {
        let Change::Replace { keys, .. } = change else {
            return Vec::new();
        };
        let held = self.keys.held().unwrap_or_default().into_iter();
        let replaced =
            held.filter(|key| old.contains(&key.id) && keys.iter().all(|new| new.canonical() != key.id));
        let kept = replaced.filter_map(|Held { id, role: made_for, gun, .. }| {
            if made_for != role.as_str() || gun.as_deref() != Some(self.site.gun().as_str()) {
                return Some(format!(
                    "the replaced key {id} was not removed: it was made for something else, and may serve there"
                ));
            }
            let error = self.keys.remove(&id).err()?;
            Some(format!("the replaced key {id} was not removed: {error}"))
        });
        kept.collect()
    }

    /// Deletes the repository's trust data, and what was seen of it. Keys stay.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub async fn delete(&self) -> Result<(), PublishError> {
        if self.options.effect == Effect::DryRun {
            return Ok(());
        }
        let gun = self.site.gun();
        let deleted = self.site.server().delete(gun, self.deadline()).await;
        deleted.map_err(|source| PublishError::Push {
            gun: gun.clone(),
            source,
        })?;
        Ok(self.site.forget()?)
    }
}

/// Whether the repository has the keys already that the change is to give it.
fn has(published: &Published, change: &Change) -> bool {
    let Change::Replace { role, keys } = change else {
        return false;
    };
    let listed: BTreeSet<_> = published.keys(role).iter().map(|key| key.id()).collect();
    listed == keys.iter().map(|key| key.id()).collect()
}
