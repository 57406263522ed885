//! Where the engine's memory is kept: on this machine, or in the cluster for all replicas.

use std::sync::Arc;

use tokio::time::Instant;

use crate::reference::Gun;
use crate::store::records::Records;
use crate::store::{Record, Store, StoreError, aside};
use crate::tuf::{Role, State};

/// Keeps what was seen of repositories.
#[derive(Clone, Debug)]
pub enum Keeper {
    /// A database of this machine.
    Local(Arc<Store>),
    /// The trust records of a cluster.
    Cluster(Arc<Records>),
}

impl From<Arc<Store>> for Keeper {
    fn from(store: Arc<Store>) -> Self {
        Self::Local(store)
    }
}

impl From<Arc<Records>> for Keeper {
    fn from(records: Arc<Records>) -> Self {
        Self::Cluster(records)
    }
}

impl Keeper {
    /// What is remembered of `gun` on `server`; empty if it was never seen.
    pub(super) async fn load(
        &self,
        server: &str,
        gun: &Gun,
        deadline: Instant,
    ) -> Result<Record, StoreError> {
        match self {
            Self::Local(store) => {
                let (store, server, gun) = (Arc::clone(store), server.to_owned(), gun.clone());
                aside(move || store.load(&server, &gun)).await
            }
            Self::Cluster(records) => records.load(server, gun, deadline).await,
        }
    }

    /// Replaces what is remembered by `state`, which was derived from `loaded`; [`StoreError::Conflict`] if somebody
    /// has seen other versions since.
    pub(super) async fn save(
        &self,
        server: &str,
        gun: &Gun,
        loaded: &Record,
        state: State,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        match self {
            Self::Local(store) => {
                let (store, server, gun) = (Arc::clone(store), server.to_owned(), gun.clone());
                let loaded = loaded.clone();
                aside(move || store.save(&server, &gun, &loaded, &state).map(drop)).await
            }
            Self::Cluster(records) => {
                let saved = records.save(server, gun, loaded, &state, deadline).await;
                saved.map(drop)
            }
        }
    }

    /// Whether another replica is known to have seen another timestamp than the one with that hash. Costs no request.
    pub(super) fn knows_better(&self, server: &str, gun: &Gun, timestamp: [u8; 32]) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Cluster(records) => !records.remembers(server, gun, timestamp),
        }
    }

    /// Whether the timestamp with that hash is the newest that anybody has told of. In a cluster the others have told of
    /// it if the watch has brought it, so that what is warm costs no request.
    pub(super) async fn remembers(
        &self,
        server: &str,
        gun: &Gun,
        timestamp: [u8; 32],
        deadline: Instant,
    ) -> Result<bool, StoreError> {
        if let Self::Cluster(records) = self {
            return Ok(records.remembers(server, gun, timestamp));
        }
        let record = self.load(server, gun, deadline).await?;
        Ok(is_newest(&record, timestamp))
    }
}

/// Whether the timestamp with that hash is the newest in `record`.
pub(super) fn is_newest(record: &Record, timestamp: [u8; 32]) -> bool {
    let seen = record.state.seen.get(&Role::Timestamp);
    seen.is_some_and(|seen| seen.sha256 == timestamp)
}
