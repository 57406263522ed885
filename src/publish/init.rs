//! A repository's beginning (notary-v1 §7.9).

use std::sync::Arc;

use tokio::time::sleep;

use super::error::PublishError;
use super::keyring::{Held, Keyring};
use super::plan::Signing;
use super::report::Report;
use super::run::{attempts, pause};
use super::{Effect, Publisher};
use crate::trust::present;
use crate::tuf::edit::{Change, Draft, Signed};
use crate::tuf::{Algorithm, KeyId, PrivateKey, PublicKey, Role};

/// How a repository is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Initial {
    /// The root key to use; else the first at hand, else a new one.
    pub root: Option<KeyId>,
    /// Who makes the snapshot.
    pub snapshot: SnapshotBy,
}

/// Who makes the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotBy {
    /// The server: then signers can publish without the owner's keys. Docker's way.
    #[default]
    Server,
    /// Whoever holds its key.
    Publisher,
}

impl<K: Keyring> Publisher<'_, K> {
    /// Makes the repository, with `tags` signed in it from the beginning: one upload.
    ///
    /// Keys are stored before the server hears of them. What an interruption leaves in the key store is used by the
    /// next attempt.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; in particular [`PublishError::Initialised`].
    pub async fn init(&self, initial: &Initial, tags: &[Signing]) -> Result<Report, PublishError> {
        let now = present()?;
        let gun = self.site.gun();
        if !self.is_vacant().await? {
            return Err(PublishError::Initialised { gun: gun.clone() });
        }
        if self.options.effect == Effect::DryRun {
            return Ok(Report {
                initialised: true,
                ..Report::unchanged(gun.clone(), 0)
            });
        }
        let held = self.keys.held()?;
        let root = self.root_key(initial.root, &held)?;
        let certificate = root
            .root_certificate(gun, now)
            .map_err(|source| PublishError::Key {
                role: Role::Root,
                source,
            })?;
        let targets = self.own_key(&Role::Targets, &held)?;
        let snapshot = match initial.snapshot {
            SnapshotBy::Server => self.server_key(&Role::Snapshot).await?,
            SnapshotBy::Publisher => self.own_key(&Role::Snapshot, &held)?,
        };
        let timestamp = self.server_key(&Role::Timestamp).await?;
        let mut draft = Draft::initial(&[Arc::new(certificate)], &targets, &snapshot, &timestamp);
        for Signing { tag, sha256, length } in tags {
            draft.apply(&Change::Release {
                tag: tag.clone(),
                sha256: *sha256,
                length: *length,
                roles: [Role::Targets].into(),
            })?;
        }
        let signed = self.sign(draft, None, now)?;
        let mut report = self.found(&signed).await?;
        report.initialised = true;
        Ok(report)
    }

    /// Uploads the first files, again as long as the server could not store them and nothing is there.
    async fn found(&self, signed: &Signed) -> Result<Report, PublishError> {
        let mut failures = 0;
        while let Err(failure) = self.upload(signed).await {
            failures += 1;
            if failures >= attempts(&failure) {
                return Err(self.not_published(failure));
            }
            sleep(pause(failures)).await;
            if !self.is_vacant().await? {
                // Ours, and the answer got lost; or somebody else was first.
                let gun = self.site.gun().clone();
                let confirmed = self.confirm(signed, failures).await;
                return confirmed.map_err(|_| PublishError::Initialised { gun });
            }
        }
        self.confirm(signed, failures).await
    }

    /// Whether nobody has made the repository yet.
    async fn is_vacant(&self) -> Result<bool, PublishError> {
        match self.published(present()?, self.deadline()).await {
            Err(PublishError::NotInitialised { .. }) => Ok(true),
            Ok(_) | Err(PublishError::Unanchored { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The root key to use: one serves many repositories (§7.1).
    fn root_key(&self, wanted: Option<KeyId>, held: &[Held]) -> Result<Arc<PrivateKey>, PublishError> {
        let mut roots: Vec<_> = held
            .iter()
            .filter(|key| key.role == Role::Root.as_str())
            .map(|key| key.id)
            .collect();
        roots.sort();
        match wanted.or_else(|| roots.first().copied()) {
            Some(id) => self.sealed_root(&id, held),
            None => self.new_key(&Role::Root),
        }
    }

    /// A root key that trust is about to be founded on. One in clear is refused (§7.1): whoever could write into the key
    /// store may have put it there, under the id that comes first.
    pub(super) fn sealed_root(&self, id: &KeyId, held: &[Held]) -> Result<Arc<PrivateKey>, PublishError> {
        if held.iter().any(|key| key.id == *id && !key.sealed) {
            return Err(PublishError::ClearRoot { key: *id });
        }
        Ok(self.keys.unlock(id)?)
    }

    /// A key of this repository that an interrupted attempt to make it has left; or a new one. What is left was
    /// encrypted by us: our passphrase opens it.
    fn own_key(&self, role: &Role, held: &[Held]) -> Result<Arc<PublicKey>, PublishError> {
        let gun = self.site.gun().as_str();
        let kept = held
            .iter()
            .find(|key| key.role == role.as_str() && key.gun.as_deref() == Some(gun) && key.sealed);
        let key = match kept {
            Some(kept) => self.keys.unlock(&kept.id)?,
            None => self.new_key(role)?,
        };
        Ok(Arc::new(key.public().clone()))
    }

    /// Makes a key and stores it.
    pub(super) fn new_key(&self, role: &Role) -> Result<Arc<PrivateKey>, PublishError> {
        let key = PrivateKey::generate(Algorithm::EcdsaP256);
        let key = Arc::new(key.map_err(|source| PublishError::Key {
            role: role.clone(),
            source,
        })?);
        self.keys.keep(&key, role, self.site.gun())?;
        Ok(key)
    }

    pub(super) async fn server_key(&self, role: &Role) -> Result<Arc<PublicKey>, PublishError> {
        let server = self.site.server();
        let offered = server.key(self.site.gun(), role, self.deadline()).await;
        self.accept(role, offered)
    }

    /// A server's key must be its own: with one of ours it would lend our signature a second meaning.
    pub(super) fn accept(
        &self,
        role: &Role,
        offered: Result<PublicKey, crate::notary::PushError>,
    ) -> Result<Arc<PublicKey>, PublishError> {
        let key = offered.map_err(|source| PublishError::Push {
            gun: self.site.gun().clone(),
            source,
        })?;
        if self.held()?.contains(&key.canonical()) {
            return Err(PublishError::OwnKey {
                server: self.site.server().host().to_string(),
                role: role.clone(),
                key: key.canonical(),
            });
        }
        Ok(Arc::new(key))
    }
}
