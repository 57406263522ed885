//! What other replicas have seen, and what an administrator has reset.

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::super::keeper::Keeper;
use super::super::servers::Servers;
use super::{Engine, Trust};
use crate::reference::Gun;
use crate::store::records::Change;

impl Trust {
    /// Follows what the other replicas of a cluster see until `stop`, so that what one of them knows counts for all: what
    /// is in memory is believed only as long as nobody has seen more. Calls `listed` when all that was remembered has been seen. Where memory is local there are no others.
    pub async fn follow(self, stop: CancellationToken, listed: impl Fn()) {
        let Keeper::Cluster(records) = &self.engine.store else {
            return stop.cancelled().await;
        };
        let watching = records.watch(|change| {
            if change == Change::Listed {
                listed();
            }
            self.engine.learn(&change);
        });
        stop.run_until_cancelled(watching).await;
    }
}

impl Engine {
    fn learn(&self, change: &Change) {
        match change {
            Change::Listed => {}
            Change::Lost => self.metrics.trust_record_lost(),
            Change::Reset { server, gun } => {
                for verifier in self.who_asks(server, gun) {
                    self.memory.forget(verifier, gun);
                    self.private.forget(verifier, gun);
                }
                info!(%gun, server, "what was known of the repository is forgotten");
            }
        }
    }

    /// The numbers of the verifiers that ask `server` about the repository.
    fn who_asks(&self, server: &str, gun: &Gun) -> Vec<u64> {
        let verifiers = self.verifiers.load();
        let asks = verifiers
            .values()
            .filter(|notary| Servers::name(&notary.policy, gun).as_deref() == Some(server));
        asks.map(|notary| notary.number).collect()
    }
}
