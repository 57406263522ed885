//! A trust server that dies and comes back.

use std::process::Command;
use std::time::Duration;

use crate::objects::pod;
use crate::pki;
use crate::process::{eventually, output};
use crate::world::{cluster, front, trust};

/// Failures are remembered for seconds only.
const BACK: Duration = Duration::from_secs(90);

#[test]
fn a_dead_trust_server_stops_nothing_that_is_known_and_admits_nothing_that_is_not() {
    let trust = trust();
    let known = trust.repository(&trust.fragile, "known");
    let digest = trust.release(&known, "1.0", "known", None);
    let unknown = trust.repository(&trust.fragile, "unknown");
    trust.release(&unknown, "1.0", "unknown", None);
    front().namespace("outage", "enforce");
    let (known, unknown) = (format!("{}:1.0", known.gun), format!("{}:1.0", unknown.gun));
    let image_of_known = || {
        let pod = cluster().create(&pod("outage", &known));
        pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    assert_eq!(image_of_known(), format!("{known}@{digest}"));
    assert_eq!(verify(&known), Some(0));

    trust.fragile.server.kill();
    assert_eq!(image_of_known(), format!("{known}@{digest}"));
    let refusal = cluster().refusal(&pod("outage", &unknown));
    assert!(refusal.contains("(ServiceUnavailable)"), "{refusal}");
    assert!(!refusal.contains("is not trusted"), "{refusal}");
    assert_eq!(verify(&known), Some(3));

    trust.fragile.server.restart();
    eventually("the other repository is admitted", BACK, || {
        let output = cluster().kubectl_with(&["create", "-o", "name"], &pod("outage", &unknown));
        output.status.success().then_some(())
    });
    assert_eq!(image_of_known(), format!("{known}@{digest}"));
    assert_eq!(verify(&known), Some(0));
}

/// The exit status of `countersign verify`.
fn verify(image: &str) -> Option<i32> {
    let fragile = &trust().fragile;
    let status = output(
        Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["verify", image, "--trust-server", &fragile.server.url(), "--ca"])
            .arg(pki::authority())
            .arg("--root-key")
            .arg(&fragile.root_key),
    )
    .status;
    status.code()
}
