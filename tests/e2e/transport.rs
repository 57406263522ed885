//! The two ways in which an API server calls a webhook.

use std::time::Duration;

use crate::objects::pod;
use crate::process::{self, eventually};
use crate::webhook::{Certificate, Webhook};
use crate::world::{Front, cluster, front, policy, trust};

const SERVICE: &str = "countersign";

#[test]
fn a_url_on_loopback_is_called_over_http2() {
    front().namespace("by-url", "enforce");
    cluster().create(&pod("by-url", "registry.k8s.io/pause:3.10"));
    let offers = front().balancer.offers_of_http2();
    assert!(
        !offers.is_empty() && offers.iter().all(|&offered| offered),
        "{offers:?}"
    );
}

#[test]
fn a_service_is_called_over_http1_with_a_certificate_that_the_webhook_made_for_its_name() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "by-service");
    let digest = trust.release(&repository, "1.0", "by service", None);
    let folder = process::new_folder("self-signed");
    let certificate = Certificate::SelfSigned {
        folder: folder.clone(),
        name: "countersign.countersign.svc",
    };
    let webhook = Webhook::start("webhook-service", policy(), &certificate);
    let authority = eventually("the authority it made", Duration::from_secs(10), || {
        std::fs::read_to_string(folder.join("ca.crt")).ok()
    });
    let front = Front::by_service("service", SERVICE, vec![webhook], &authority);

    front.namespace("by-service", "enforce");
    let tag = format!("{}:1.0", repository.gun);
    let stored = cluster().create(&pod("by-service", &tag));
    assert_eq!(
        stored["spec"]["containers"][0]["image"],
        format!("{tag}@{digest}")
    );
    let refusal = cluster().refusal(&pod("by-service", &format!("{}:2.0", repository.gun)));
    assert!(refusal.contains("tag 2.0 is not signed"), "{refusal}");
    let offers = front.balancer.offers_of_http2();
    assert!(
        !offers.is_empty() && !offers.iter().any(|&offered| offered),
        "{offers:?}"
    );
}
