//! The JSON Patch that pins images (§1.9).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;

use crate::reference::{Digest, Reference};
use crate::review::images::Image;

/// An image string and what replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pointer: String,
    old: String,
    new: String,
}

impl Pin {
    /// `image`, which reads as `reference`, with the digest that was signed.
    ///
    /// `None` if there is nothing to write: a reference that has a digest is never rewritten (ADM-25).
    pub fn new(image: &Image, reference: &Reference, digest: &Digest) -> Option<Self> {
        if reference.digest().is_some() {
            return None;
        }
        Some(Self {
            pointer: image.pointer.clone(),
            old: image.image.clone(),
            new: pinned_text(image, &reference.with_digest(digest.clone())),
        })
    }
}

/// The stored text, if it says the same: applying the tag form again must not change the object (ADM-32).
/// Otherwise host, repository, tag and digest in full (ADM-24).
fn pinned_text(image: &Image, pinned: &Reference) -> String {
    match &image.old {
        Some(old) if Reference::parse(old.trim()).as_ref() == Ok(pinned) => old.clone(),
        Some(_) | None => pinned.to_string(),
    }
}

/// A patch that replaces image strings and nothing else. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Patch(Vec<Step>);

/// `test` before `replace`, so that a wrong index fails loudly instead of pinning another container (ADM-41).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Step {
    Test { path: String, value: String },
    Replace { path: String, value: String },
}

impl Patch {
    /// The patch for `pins`, in their order; `None` if there are none.
    pub fn new(pins: impl IntoIterator<Item = Pin>) -> Option<Self> {
        let steps: Vec<_> = pins.into_iter().flat_map(steps).collect();
        (!steps.is_empty()).then_some(Self(steps))
    }

    /// How many images it pins.
    pub const fn images(&self) -> usize {
        self.0.len() / 2
    }

    /// As the API server wants it: base64 with padding, of a JSON array (§1.8).
    pub fn to_base64(&self) -> String {
        STANDARD.encode(json!(self).to_string())
    }
}

fn steps(pin: Pin) -> [Step; 2] {
    let Pin { pointer, old, new } = pin;
    [
        Step::Test {
            path: pointer.clone(),
            value: old,
        },
        Step::Replace {
            path: pointer,
            value: new,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::images::List;

    fn digest() -> Digest {
        Digest::sha256([0xab; 32])
    }

    fn image(text: &str, old: Option<&str>) -> Image {
        Image {
            pointer: "/spec/containers/0/image".to_owned(),
            list: List::Containers,
            name: "web".to_owned(),
            image: text.to_owned(),
            old: old.map(str::to_owned),
        }
    }

    fn rewritten(text: &str, old: Option<&str>) -> Option<String> {
        let reference = Reference::parse(text.trim()).unwrap();
        Pin::new(&image(text, old), &reference, &digest()).map(|pin| pin.new)
    }

    /// ADM-24, checklist 24.
    #[test]
    fn a_pinned_reference_names_its_host_and_keeps_its_tag() {
        let hex = "ab".repeat(32);
        for (text, want) in [
            ("nginx", format!("docker.io/library/nginx:latest@sha256:{hex}")),
            ("nginx:1.27", format!("docker.io/library/nginx:1.27@sha256:{hex}")),
            (" acme/app:1 ", format!("docker.io/acme/app:1@sha256:{hex}")),
            (
                "r.example:5000/a/b:c",
                format!("r.example:5000/a/b:c@sha256:{hex}"),
            ),
        ] {
            let got = rewritten(text, None).unwrap();
            assert_eq!(got, want, "{text}");
            assert_eq!(Reference::parse(&got).unwrap().to_string(), got, "{text}");
        }
    }

    /// ADM-25.
    #[test]
    fn a_reference_with_a_digest_is_left_as_it_is() {
        let hex = "cd".repeat(32);
        assert_eq!(rewritten(&format!("nginx@sha256:{hex}"), None), None);
        assert_eq!(rewritten(&format!("nginx:1@sha256:{hex}"), None), None);
    }

    /// ADM-32, checklist 18.
    #[test]
    fn applying_the_tag_form_again_restores_the_stored_text() {
        let hex = "ab".repeat(32);
        let stored = format!("nginx:1.27@sha256:{hex}");
        assert_eq!(rewritten("nginx:1.27", Some(&stored)), Some(stored.clone()));
        let other_tag = format!("nginx:1.26@sha256:{hex}");
        assert_eq!(
            rewritten("nginx:1.27", Some(&other_tag)),
            Some(format!("docker.io/library/nginx:1.27@sha256:{hex}"))
        );
    }

    /// ADM-40, ADM-41.
    #[test]
    fn every_replacement_is_preceded_by_a_test_of_the_text_as_written() {
        let reference = Reference::parse("nginx").unwrap();
        let pin = Pin::new(&image(" nginx", None), &reference, &digest());
        let patch = Patch::new(pin).unwrap();
        assert_eq!(
            serde_json::to_value(&patch).unwrap(),
            serde_json::json!([
                {"op": "test", "path": "/spec/containers/0/image", "value": " nginx"},
                {"op": "replace", "path": "/spec/containers/0/image",
                 "value": format!("docker.io/library/nginx:latest@sha256:{}", "ab".repeat(32))},
            ])
        );
        assert_eq!(patch.images(), 1);
        assert_eq!(Patch::new([]), None);
    }
}
