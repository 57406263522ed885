//! Reviews, as an API server sends them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use countersign::reference::{Digest, Reference};
use countersign::review::images;
use countersign::review::patch::{Patch, Pin};
use countersign::review::verdict::Ruling;
use countersign::review::wire::{self, Reply};
use divan::black_box;
use serde_json::{Value, json};

use crate::repo::GUN;

/// A recorded review of a Pod, with so many containers of one repository, each of a tag of its own.
pub fn of_pod(containers: usize) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/review/pod-create.json");
    let mut review: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let container = |number: usize| {
        json!({
            "name": format!("c{number}"), "image": format!("{GUN}:v{number:07}"), "imagePullPolicy": "IfNotPresent",
            "env": [{"name": "MODE", "value": "production"}], "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "1", "memory": "128Mi"}, "requests": {"cpu": "100m"}},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        })
    };
    let spec = review.pointer_mut("/request/object/spec").unwrap();
    *spec = json!({"containers": (0..containers).map(container).collect::<Vec<_>>()});
    review.to_string().into_bytes()
}

/// Reads a review and answers with the patch for all its images, without asking anybody about them.
pub fn pin(body: &[u8]) -> Vec<u8> {
    let request = wire::parse(black_box(body)).unwrap();
    let object = request.object().unwrap();
    let images = images::changed(images::extract(&object, None, "/spec").unwrap()).unwrap();
    let digest = Digest::sha256([7; 32]);
    let pins = images.iter().filter_map(|image| {
        let reference = Reference::parse(image.text()).unwrap();
        Pin::new(image, &reference, &digest)
    });
    let ruling = Ruling::Allowed {
        patch: Patch::new(pins),
        warnings: Vec::new(),
    };
    let (uid, annotations) = (request.uid, BTreeMap::new());
    Reply {
        uid,
        ruling,
        annotations,
    }
    .to_bytes()
}
