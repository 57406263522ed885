//! The keys that the server holds for each repository (notary-v1 §2.5, §8.5).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use super::super::access::{Caller, Charge};
use super::super::audit::Entry;
use super::super::http::{self as wire, Call, ProtocolError};
use super::super::storage::Storage;
use super::{ServiceError, TrustServer};
use crate::clock;
use crate::reference::Gun;
use crate::tuf::hosted::{self, HeldKeys, Holding};
use crate::tuf::{PrivateKey, Role};

impl<S: Storage> TrustServer<S> {
    /// Every key that is held for a repository, opened.
    pub(super) async fn held(&self, gun: &Gun) -> Result<HeldKeys, ServiceError> {
        let sealed = self.inner.storage.keys(gun).await?;
        let opened = sealed.into_iter().map(|key| {
            let id = key.id;
            let opened = self.inner.sealer.unseal(gun, &key)?;
            Ok((id, Arc::new(opened)))
        });
        opened.collect()
    }

    /// The key of a role: the one that root lists, or one for the root to come. `rotate` asks for another one, which
    /// takes effect when a root lists it; one that nothing lists yet is given out again.
    pub(super) async fn key(
        &self,
        gun: &Gun,
        role: &Role,
        rotate: bool,
        call: &Call,
        caller: &Caller,
    ) -> Result<Response<Bytes>, ProtocolError> {
        let _turn = self.inner.turns.take(gun).await;
        if !rotate && let Some(listed) = self.listed(gun, role).await.map_err(ServiceError::internal)? {
            return Ok(wire::key(listed.public()));
        }
        self.charge(caller, call, Charge::NewKey, gun)?;
        let key = self
            .spare(gun, role, call, caller)
            .await
            .map_err(ServiceError::internal)?;
        Ok(wire::key(key.public()))
    }

    /// The first key of the role in the current root that is held here.
    async fn listed(&self, gun: &Gun, role: &Role) -> Result<Option<Arc<PrivateKey>>, ServiceError> {
        // Root alone: whoever asks for keys over and over should not have all of a repository read each time.
        let root = self.inner.storage.current(gun, &Role::Root).await?;
        let holding = Holding {
            files: root.map(|root| (Role::Root, root.bytes)).into_iter().collect(),
            used: BTreeMap::new(),
        };
        let Some(listed) = hosted::listed_keys(&holding, role) else {
            return Ok(None);
        };
        let held = self.held(gun).await?;
        Ok(listed.iter().find_map(|id| held.get(id)).cloned())
    }

    /// A key that nothing relies on yet.
    async fn spare(
        &self,
        gun: &Gun,
        role: &Role,
        call: &Call,
        caller: &Caller,
    ) -> Result<PrivateKey, ServiceError> {
        let now = clock::now();
        let fresh = PrivateKey::generate(self.inner.options.algorithm)?;
        let sealed = self.inner.sealer.seal(gun, role, &fresh, now)?;
        let id = sealed.id;
        let (me, name, caller, peer) = (self.clone(), gun.clone(), caller.clone(), call.peer.clone());
        let kept = self.to_its_end(async move {
            let kept = me.inner.storage.keep_key(&name, sealed).await?;
            if kept.id == id {
                me.inner.metrics.trust_server_change("key_made");
                let entry = Entry::new(now, "key", &name, &caller, &peer).with_key(&id);
                me.inner.audit.write(&entry);
            }
            Ok(kept)
        });
        Ok(self.inner.sealer.unseal(gun, &kept.await?)?)
    }
}
