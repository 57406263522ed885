//! Whether the cluster calls us at all: the metric for webhook configurations that somebody took away (AVL-36).

use std::convert::Infallible;
use std::time::Duration;

use tracing::{debug, warn};

use crate::cluster::{ConfigurationKind, Configurations};
use crate::telemetry::{Metrics, chain};

/// A configuration that is gone is no longer than this taken to be there.
const EVERY: Duration = Duration::from_secs(60);

/// Looks for `configurations` every now and then.
pub(super) async fn watch(configurations: Option<Configurations>, metrics: &Metrics) -> Infallible {
    let Some(configurations) = configurations else {
        return std::future::pending().await;
    };
    loop {
        match configurations.read().await {
            Ok(found) => {
                for kind in ConfigurationKind::ALL {
                    let present = found.iter().any(|configuration| configuration.kind == kind);
                    metrics.webhook_configuration_present(kind.as_str(), present);
                    if !present {
                        let (kind, name) = (kind.kind(), configurations.name());
                        warn!(kind, name, "a webhook configuration is not there");
                    }
                }
            }
            Err(error) => debug!(error = %chain(&error), "webhook configurations not read"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
