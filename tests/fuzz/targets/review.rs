//! Reviews: what is read of them, the images in them, and a patch that changes images only.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign::reference::{Digest, Reference};
use countersign::review::images::{self, Image};
use countersign::review::patch::{Patch, Pin};
use countersign::review::wire::{self, Request};
use countersign::review::workload::{Place, is_rewritable};
use serde_json::Value;

const DIGEST: [u8; 32] = [7; 32];

pub(crate) fn run(data: &[u8]) {
    let Ok(request) = wire::parse(data) else {
        return;
    };
    assert!(!request.uid.is_empty());
    assert!(!(is_rewritable(&request) && request.is_controlled()));
    let object = request.object();
    let place = Place::of(&request).root().unwrap_or("/spec");
    if let Some(object) = &object {
        look(&request, object, place);
    }
}

fn look(request: &Request<'_>, object: &Value, root: &str) {
    let old = request.old_object();
    let Ok(images) = images::extract(object, old.as_ref(), root) else {
        return;
    };
    for image in &images {
        let found = object.pointer(&image.pointer);
        let written = found.is_some_and(|text| text.as_str() == Some(&image.image));
        assert!(
            written || image.image.is_empty(),
            "{} is not there",
            image.pointer
        );
    }
    if let Ok(changed) = images::changed(images) {
        pin(object, &changed);
    }
}

/// Patches `object` and puts the images back: nothing else may have changed.
fn pin(object: &Value, changed: &[Image]) {
    let pins = changed.iter().filter_map(|image| {
        let reference = Reference::parse(image.text()).ok()?;
        Pin::new(image, &reference, &Digest::sha256(DIGEST))
    });
    let Some(patch) = Patch::new(pins) else { return };
    let json = BASE64_STANDARD.decode(patch.to_base64()).unwrap();
    let mut patched = object.clone();
    json_patch::patch(
        &mut patched,
        &serde_json::from_slice::<json_patch::Patch>(&json).unwrap(),
    )
    .unwrap();
    assert_ne!(&patched, object);
    for image in changed {
        let Some(Value::String(text)) = patched.pointer_mut(&image.pointer) else {
            continue;
        };
        if *text != image.image {
            let pinned = Reference::parse(text.trim()).unwrap();
            assert_eq!(pinned.digest(), Some(&Digest::sha256(DIGEST)), "{text}");
            text.clone_from(&image.image);
        }
    }
    assert_eq!(&patched, object, "the patch changes more than images");
}
