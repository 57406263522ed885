//! The kind `TrustRecord`: what the replicas of a cluster remember of one repository (design §5).
//!
//! The doc comments are what `kubectl explain` shows. The rules hold every writer to notary-v1 §5.7, also one that is
//! no replica: a version that was seen is never taken back by an edit.
#![expect(
    unreachable_pub,
    reason = "KubeSchema derives from a copy of each struct that it keeps inside a function"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Rule as Cel;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What was seen of one repository on one trust server, so that nothing older is believed again. Written by
/// countersign; forget one with `countersign trust reset`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "TrustRecord",
    plural = "trustrecords",
    shortname = "trec",
    category = "countersign",
    derive = "PartialEq",
    doc = "What was seen of one repository on one trust server, so that nothing older is believed again. Written by countersign; forget one with `countersign trust reset`.",
    printcolumn = r#"{"name": "Server", "type": "string", "jsonPath": ".spec.server"}"#,
    printcolumn = r#"{"name": "Repository", "type": "string", "jsonPath": ".spec.gun"}"#,
    printcolumn = r#"{"name": "Root", "type": "integer", "jsonPath": ".spec.root.version"}"#,
    printcolumn = r#"{"name": "Timestamp", "type": "integer", "jsonPath": ".spec.timestamp.version"}"#,
    printcolumn = r#"{"name": "Verified", "type": "date", "jsonPath": ".spec.verifiedAt"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    // Step 3: roots only follow one another.
    validation = Cel::new(
        "self.root.version > oldSelf.root.version || \
         self.root.version == oldSelf.root.version && self.root.sha256 == oldSelf.root.sha256"
    ).message("the root that was seen cannot be replaced by an older or another one"),
    // Step 5: with other keys of the server, which only another root can name, these two begin anew.
    validation = Cel::new(
        "self.root.sha256 != oldSelf.root.sha256 || !has(oldSelf.timestamp) || has(self.timestamp) && \
         (self.timestamp.version > oldSelf.timestamp.version || self.timestamp == oldSelf.timestamp)"
    ).message("the timestamp that was seen cannot be replaced by an older or another one under the same root"),
    validation = Cel::new(
        "self.root.sha256 != oldSelf.root.sha256 || !has(oldSelf.snapshot) || has(self.snapshot) && \
         (self.snapshot.version > oldSelf.snapshot.version || self.snapshot == oldSelf.snapshot)"
    ).message("the snapshot that was seen cannot be replaced by an older or another one under the same root"),
    // Steps 5 and 8: what publishers sign never goes back, whatever the root.
    validation = Cel::new(
        "!has(oldSelf.targets) || has(self.targets) && \
         (self.targets.version > oldSelf.targets.version || self.targets == oldSelf.targets)"
    ).message("the targets that were seen cannot be replaced by older or other ones"),
    validation = Cel::new(
        "!has(oldSelf.delegations) || has(self.delegations) && oldSelf.delegations.all(name, name in self.delegations && \
         (self.delegations[name].version > oldSelf.delegations[name].version || \
         self.delegations[name] == oldSelf.delegations[name]))"
    ).message("a delegation that was seen cannot be replaced by an older or another one"),
)]
pub struct TrustRecordSpec {
    /// Base URL of the trust server. It cannot be changed. Example: `https://trust.example.com/`.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Cel::new("self == oldSelf").message("a record is of one server for ever"))]
    pub server: String,
    /// Name of the repository with its registry (the GUN of its metadata). It cannot be changed. Example:
    /// registry.example.com/team/app.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Cel::new("self == oldSelf").message("a record is of one repository for ever"))]
    pub gun: String,
    /// The trusted root, and those that lead to it.
    pub root: TrustedRoot,
    /// The newest timestamp seen. Absent after the server's keys were replaced, until there is one by the new keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<SeenFile>,
    /// The newest snapshot seen. Absent after the server's keys were replaced, until there is one by the new keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SeenFile>,
    /// The newest targets seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<SeenFile>,
    /// The newest file seen of each delegation, by its name, which begins with targets/. At most 256.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 256, "x-kubernetes-map-type" = "atomic"))]
    pub delegations: BTreeMap<String, SeenFile>,
    /// When the server last vouched for this, up to 20 minutes later than it says. Absent when the server has since
    /// said otherwise: then nothing of it serves in an outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Time>,
    /// The files themselves, to verify them again while the server cannot be reached: name and content by turns, each
    /// after its length in 4 bytes, compressed by zlib, in base64. Absent if that is more than 256 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 349_528))]
    pub files: Option<String>,
}

/// The trusted root, and those that lead to it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustedRoot {
    /// Version of the newest root.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub version: i64,
    /// SHA-256 of the newest root's file in lower-case hex.
    #[schemars(length(min = 64, max = 64), pattern("^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// All roots from the first trusted one to the newest: each file after its length in 4 bytes, compressed by zlib, in
    /// base64. At most 384 KiB before base64.
    #[schemars(length(min = 1, max = 524_288))]
    pub chain: String,
}

/// One version of one file.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenFile {
    /// Its version.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub version: i64,
    /// SHA-256 of its bytes in lower-case hex.
    #[schemars(length(min = 64, max = 64), pattern("^[0-9a-f]{64}$"))]
    pub sha256: String,
}
