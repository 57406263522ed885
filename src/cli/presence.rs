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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;
    use tokio_util::task::TaskTracker;
    use tower_test::mock;

    use super::*;
    use crate::cluster::Cluster;
    use crate::telemetry::Exposition;

    #[tokio::test(start_paused = true)]
    async fn a_configuration_that_is_not_there_is_zero_in_the_metrics() {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let configurations = Cluster::new(Client::new(service, "default"), "release").configurations("ours");
        let metrics = Arc::new(Metrics::default());
        let watched = Arc::clone(&metrics);
        // It ends with the runtime of its test.
        TaskTracker::new().spawn(async move { watch(Some(configurations), &watched).await });
        for there in [true, false] {
            for kind in ["mutating", "validating"] {
                let (request, send) = handle.next_request().await.unwrap();
                let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/ours");
                assert_eq!(request.uri().path(), path);
                let (code, body) = if there {
                    (200, json!({"metadata": {"name": "ours"}}))
                } else {
                    (
                        404,
                        json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": ""}),
                    )
                };
                let answer = Response::builder().status(code);
                send.send_response(answer.body(Body::from(body.to_string().into_bytes())).unwrap());
            }
            let series = "countersign_webhook_configuration_present{kind=\"validating\"} ";
            let want = format!("{series}{}", u8::from(there));
            while !metrics.encode(Exposition::Classic).unwrap().contains(&want) {
                tokio::task::yield_now().await;
            }
        }
    }
}
