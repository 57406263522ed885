//! The status of a policy in a cluster. A file has none that counts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the webhook makes of a policy.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// The generation of the policy that the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many rules are in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<i32>,
    /// What is known of the policy. Ready: it was read whole and is in force. Degraded: what it would have governed is
    /// denied. `TrustServerReachable`: the servers of its verifiers answered when they were last asked. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// One aspect of a policy's state: `metav1.Condition` with bounds.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The aspect: Ready, Degraded or `TrustServerReachable`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub kind: String,
    /// Whether it holds: True, False or Unknown.
    pub status: ConditionStatus,
    /// The generation of the policy that the condition is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status last changed.
    pub last_transition_time: Time,
    /// Why, as one CamelCase word.
    #[schemars(length(min = 1, max = 64), pattern("^[A-Za-z][A-Za-z0-9]*$"))]
    pub reason: String,
    /// Why, for people. At most 1024 characters.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[schemars(inline)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// That could not be found out.
    Unknown,
}
