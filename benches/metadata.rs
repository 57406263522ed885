//! Metadata files: read, verified, looked up in.

use std::collections::BTreeMap;

use countersign::tuf::canonical::Value;
use countersign::tuf::{Collection, Conditions, Resolution};
use divan::black_box;

use crate::repo::{Files, Repo};
use crate::verify::View;

/// A tag that every repository here has.
const TAG: &str = "v0000001";

/// What a publisher signed, in memory, and how it is looked at.
pub struct Repository {
    files: Files,
    view: View,
}

impl Repository {
    /// Alice signed so many tags, and `targets/releases` has them.
    pub fn with_tags(tags: usize) -> Self {
        let mut repo = Repo::new().with_alice(&[]);
        repo.delegation("targets/releases").tags = named(tags);
        repo.delegation("targets/alice").tags = named(tags);
        Self {
            files: repo.publish().by_hash(),
            view: View::new().attribution(),
        }
    }

    /// A whole run from nothing, without a network.
    pub fn update(&self) -> Collection {
        self.view.collection(black_box(&self.files))
    }
}

fn named(tags: usize) -> BTreeMap<String, String> {
    (0..tags)
        .map(|number| (format!("v{number:07}"), format!("content {number}")))
        .collect()
}

/// A signed `targets.json` with so many tags.
pub fn targets(tags: usize) -> Vec<u8> {
    let mut repo = Repo::new();
    repo.tags = named(tags);
    repo.publish().0.remove("targets.json").unwrap()
}

/// Reads a file.
pub fn parse(file: &[u8]) -> Value {
    Value::parse(black_box(file)).unwrap()
}

/// Reads a file without our strictness.
pub fn parse_elsewhere(file: &[u8]) -> serde_json::Value {
    serde_json::from_slice(black_box(file)).unwrap()
}

/// Looks one tag up.
pub fn resolve(collection: &Collection) -> Resolution {
    let tag = black_box(TAG).parse().unwrap();
    collection
        .resolve(Some(&tag), None, &Conditions::default())
        .unwrap()
}
