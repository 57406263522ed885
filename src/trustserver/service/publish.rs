//! An update: decided upon what is stored, and stored only if that is still so (notary-v1 §8.2, §8.3).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use tracing::info;

use super::super::access::Caller;
use super::super::audit::Entry;
use super::super::http::{self as wire, Call, ProtocolError};
use super::super::storage::{Change, Committed, File, Storage, StorageError};
use super::{ATTEMPTS, ServiceError, TrustServer, aside};
use crate::clock;
use crate::reference::Gun;
use crate::telemetry::chain;
use crate::tuf::hosted::{self, Accepted};
use crate::tuf::{Role, sha256};

impl<S: Storage> TrustServer<S> {
    pub(super) async fn update(
        &self,
        gun: &Gun,
        call: &Call,
        caller: &Caller,
    ) -> Result<Response<Bytes>, ProtocolError> {
        let upload = wire::upload(call, &self.inner.options.limits).await?;
        let outcome = self.publish(gun, upload, call, caller).await;
        let result = match &outcome {
            Ok(()) => "accepted",
            Err(ServiceError::Rejected(rejection)) if rejection.is_version() => "conflict",
            Err(ServiceError::Rejected(_)) => "rejected",
            Err(_) => "error",
        };
        self.inner.metrics.trust_server_publish(result);
        if let Err(ServiceError::Rejected(rejection)) = &outcome {
            info!(%gun, caller = caller.name, reason = rejection.name(), error = %chain(rejection), "update refused");
        }
        outcome
            .map(|()| wire::empty())
            .map_err(ServiceError::for_publisher)
    }

    /// Decides again as long as others are faster: two publishers who change different files both succeed, and of two
    /// who change the same one the second is told that it was (§8.3).
    async fn publish(
        &self,
        gun: &Gun,
        upload: BTreeMap<Role, Bytes>,
        call: &Call,
        caller: &Caller,
    ) -> Result<(), ServiceError> {
        let _turn = self.inner.turns.take(gun).await;
        let upload = Arc::new(upload);
        for _ in 0..ATTEMPTS {
            let desk = self.desk().await?;
            let (generation, holding) = self.holding(gun).await?;
            let keys = self.held(gun).await?;
            let now = clock::now();
            let (terms, limits) = (self.terms(now), self.inner.options.limits);
            let (name, files) = (gun.clone(), Arc::clone(&upload));
            let accepted = aside(desk, move || {
                hosted::accept(&name, &holding, &files, &keys, &terms, &limits)
            })
            .await??;
            let (me, gun) = (self.clone(), gun.clone());
            let (caller, peer) = (caller.clone(), call.peer.clone());
            let stored = self.to_its_end(async move {
                let committed = me.store(&gun, generation, &accepted, now).await?;
                if committed == Committed::Stored {
                    let entry = Entry::new(now, "publish", &gun, &caller, &peer).with_files(&accepted.files);
                    me.inner.audit.write(&entry);
                }
                Ok(committed)
            });
            if stored.await? == Committed::Stored {
                return Ok(());
            }
        }
        Err(ServiceError::Crowded)
    }

    pub(super) async fn store(
        &self,
        gun: &Gun,
        generation: u64,
        accepted: &Accepted,
        now: Timestamp,
    ) -> Result<Committed, StorageError> {
        let files = accepted.files.iter().map(|file| {
            let stored = File {
                version: file.version,
                sha256: sha256(&file.bytes),
                bytes: file.bytes.clone(),
                stored_at: now,
            };
            (file.role.clone(), stored)
        });
        let change = Change {
            files: files.collect(),
            dropped: accepted.dropped.clone(),
            renew_at: accepted.renew_at,
            keys_used: accepted.keys_used.clone(),
            at: now,
        };
        let committed = self.inner.storage.commit(gun, generation, change).await?;
        self.inner.hopeless.invalidate(gun);
        Ok(committed)
    }
}
