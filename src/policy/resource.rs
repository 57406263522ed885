//! The policy resources as they are written: YAML in files, objects in a cluster (design §4).
//!
//! One set of types serves both. Their schema, derived here, is what `countersign crds` prints and what a policy
//! file is held against (`policy::shape`), so that a file is refused where the API server would refuse it. What a
//! schema cannot say is said once more by `policy::compile`, which trusts nothing that it has not seen itself.
//!
//! The doc comments are what `kubectl explain` shows: first what a field does, then its default and what it may
//! hold.
#![expect(
    unreachable_pub,
    reason = "KubeSchema derives from a copy of each struct that it keeps inside a function"
)]

use std::collections::BTreeMap;

use kube::core::Rule as Cel;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

mod status;

pub use status::{Condition, ConditionStatus, PolicyStatus};

use super::select::{Mode, Workloads};
use super::verifier::{DigestRule, ReleasesMissing};

/// What the images of a cluster must show to run. Every policy that applies to a namespace must admit an image.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "ClusterTrustPolicy",
    plural = "clustertrustpolicies",
    shortname = "ctp",
    category = "countersign",
    status = "PolicyStatus",
    derive = "PartialEq",
    doc = "What the images of a cluster must show to run. Every policy that applies to a namespace must admit an image.",
    selectable = ".spec.mode",
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason", "priority": 1}"#,
    printcolumn = r#"{"name": "Rules", "type": "integer", "jsonPath": ".status.rules", "priority": 1}"#,
    printcolumn = r#"{"name": "Reachable", "type": "string", "jsonPath": ".status.conditions[?(@.type=='TrustServerReachable')].status", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterTrustPolicySpec {
    /// What it demands, as in a namespaced policy.
    #[serde(flatten)]
    pub demands: Demands,
    /// Chooses the namespaces that the policy governs, by their labels. Default: every namespace that reaches the webhook.
    #[serde(default)]
    pub namespace_selector: NamespaceSelector,
}

/// What the images of one namespace must show to run, beyond what the cluster's policies demand of them. It can
/// only tighten: an image needs the consent of every policy.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "TrustPolicy",
    plural = "trustpolicies",
    namespaced,
    shortname = "tpol",
    category = "countersign",
    status = "PolicyStatus",
    derive = "PartialEq",
    doc = "What the images of one namespace must show to run, beyond what the cluster's policies demand of them. It can only tighten: an image needs the consent of every policy.",
    selectable = ".spec.mode",
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason", "priority": 1}"#,
    printcolumn = r#"{"name": "Rules", "type": "integer", "jsonPath": ".status.rules", "priority": 1}"#,
    printcolumn = r#"{"name": "Reachable", "type": "string", "jsonPath": ".status.conditions[?(@.type=='TrustServerReachable')].status", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct TrustPolicySpec {
    /// What it demands, as in a cluster's policy.
    #[serde(flatten)]
    pub demands: Demands,
}

/// The part of a policy that both kinds share.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Cel::new(
    "self.rules.all(r, !has(r.verify) || \
     (has(r.verify.anyOf) ? r.verify.anyOf : has(r.verify.allOf) ? r.verify.allOf : []).all(n, \
     has(self.verifiers) && self.verifiers.exists(v, v.name == n)))"
).message("a rule names a verifier that spec.verifiers does not define"))]
pub struct Demands {
    /// Whether refused images are denied (Enforce) or admitted with a warning (Audit). Default: Enforce.
    #[serde(default)]
    pub mode: Mode,
    /// What happens to refused images in pod templates of Deployments and the like: a warning (Advise), a denial
    /// (Deny), nothing (Ignore). Pods are judged in any case. Default: Advise.
    #[serde(default)]
    pub workloads: Workloads,
    /// Whether images in pod templates are rewritten to their digests, as those of pods are. Default: false, since
    /// tools that apply templates would see a difference.
    #[serde(default)]
    pub pin_workloads: bool,
    /// The ways to find out whether an image is trusted, for the rules to name. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub verifiers: Vec<VerifierSpec>,
    /// What is demanded of which images. The rule with the most specific pattern decides; two rules that tie are
    /// refused. An image that no rule covers is denied. 1 to 128.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rules: Vec<RuleSpec>,
}

/// Labels that a namespace must have. Both parts must hold; an empty selector matches every namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels and the values they must have. At most 16. Example: kubernetes.io/metadata.name: shop.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on labels. All must hold. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Vec<LabelCondition>,
}

/// A condition on one label.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Cel::new(
    "self.operator in ['In', 'NotIn'] == (has(self.values) && size(self.values) > 0)"
).message("In and NotIn need values; Exists and DoesNotExist take none"))]
pub struct LabelCondition {
    /// The label's key. Example: kubernetes.io/metadata.name.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label relates to the values: `In`, `NotIn` (also met by a missing label), `Exists` or
    /// `DoesNotExist`.
    pub operator: Operator,
    /// The values of `In` and `NotIn`; none for `Exists` and `DoesNotExist`. At most 128.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub values: Vec<String>,
}

/// How a label relates to the values of its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[schemars(inline)]
pub enum Operator {
    /// Present, with one of the values.
    In,
    /// Absent, or present with another value.
    NotIn,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

/// A named way to find out whether an image is trusted, of exactly one kind.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Cel::new("has(self.notary)")
    .message("a verifier needs exactly one kind: notary").reason(Reason::FieldValueRequired))]
pub struct VerifierSpec {
    /// What rules and messages call the verifier. Lower-case letters, digits and dashes; at most 63 characters.
    #[schemars(length(min = 1, max = 63), pattern("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// A Notary v1 trust server (Docker content trust).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notary: Option<NotarySpec>,
}

/// A Notary v1 trust server, what its repositories are pinned to, and who must have signed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotarySpec {
    /// The base URL of the trust server: https, or http on loopback. Default: docker's rule, `https://` and the
    /// image's registry, or `https://notary.docker.io` for Docker Hub. Example: `https://trust.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), pattern("^https?://"))]
    #[x_kube(validation = Cel::new(
        "isURL(self) && (url(self).getScheme() == 'https' || \
         url(self).getHostname() in ['localhost', '127.0.0.1', '[::1]', '::1'])"
    ).message("must be an https URL; http is for loopback only"))]
    pub server: Option<String>,
    /// Certificates that may vouch for the server's TLS, in addition to the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSpec>,
    /// The login for the trust server. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsSpec>,
    /// What the root of every repository is pinned to.
    pub root: RootSpec,
    /// Signers who must each have signed the same digest for the tag, in their own delegations. Default: none
    /// beyond the repository's own publisher. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub signers: Vec<SignerSpec>,
    /// How long verified metadata may serve while the server cannot be reached, never past its own expiry. Default:
    /// 0s, not at all. Hours, minutes and seconds, at most 366 days. Example: 12h, 1h30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), pattern("^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    pub max_staleness: Option<String>,
    /// What it means that targets/releases is delegated but was never published: look in targets as docker does
    /// (Allow), or refuse (Deny). Default: Allow.
    #[serde(default)]
    pub releases_missing: ReleasesMissing,
}

/// Certificates, written out or kept in a `ConfigMap`; exactly one of the two.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Cel::new("has(self.pem) != has(self.configMapRef)")
    .message("exactly one of pem and configMapRef is needed"))]
pub struct CaSpec {
    /// PEM certificates. At most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub pem: Option<String>,
    /// A `ConfigMap` that holds PEM certificates; in the cluster only. It is in the policy's own namespace, or in that of
    /// the webhook for a cluster's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapRef>,
}

/// One entry of a `ConfigMap`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapRef {
    /// The `ConfigMap`'s name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The entry that holds the certificates. Default: ca.crt.
    #[serde(default = "ca_crt")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

pub(super) fn ca_crt() -> String {
    "ca.crt".to_owned()
}

/// Where the login for a trust server is kept; exactly one of the two.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Cel::new("has(self.secretRef) && !has(self.dockerConfig)")
    .message("secretRef is needed; dockerConfig is for policy files").reason(Reason::FieldValueForbidden))]
pub struct CredentialsSpec {
    /// A Secret of type kubernetes.io/dockerconfigjson; in the cluster only. It is in the policy's own namespace, or in
    /// that of the webhook for a cluster's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// The path of a docker config.json; in policy files only. Relative to the policy file's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub docker_config: Option<String>,
}

/// A Secret. There is no namespace in it: a policy cannot lend another namespace's secrets.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What the root of every repository is pinned to. Exactly one of keys, keyIDs, ca and trustOnFirstUse is needed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Cel::new(
        "[has(self.keys) && size(self.keys) > 0, has(self.keyIDs) && size(self.keyIDs) > 0, has(self.ca), \
         has(self.trustOnFirstUse) && self.trustOnFirstUse].filter(anchor, anchor).size() == 1"
    ).message("exactly one of keys, keyIDs, ca and trustOnFirstUse is needed"),
    validation = Cel::new(
        "!has(self.minimum) || self.minimum <= \
         (has(self.keys) ? size(self.keys) : 0) + (has(self.keyIDs) ? size(self.keyIDs) : 0)"
    ).message("minimum asks for more keys than are pinned").field_path(".minimum"),
)]
pub struct RootSpec {
    /// PEM public keys or certificates, any of which anchors a repository whose root it signed. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 16_384)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub keys: Vec<String>,
    /// Key ids, any of which anchors: the TUF id that notary's `trust_pinning` takes, or the canonical one. 64 lower-case
    /// hex digits each. At most 16.
    #[serde(default, rename = "keyIDs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64), pattern("^[0-9a-f]{64}$")))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub key_ids: Vec<String>,
    /// PEM certificates, one of which must have issued the root certificate. At most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub ca: Option<String>,
    /// Whether the first root seen of a repository is trusted from then on. Default: false. Whoever serves that first
    /// answer decides what runs.
    #[serde(default)]
    pub trust_on_first_use: bool,
    /// How many of keys or keyIDs must have signed the root. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub minimum: Option<i32>,
    /// Whether the root certificate may carry another name than the repository's. Default: false. With it, one
    /// repository's root passes for another's.
    #[serde(default)]
    pub skip_name_check: bool,
}

/// A signer every image needs.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignerSpec {
    /// The signer's delegation without targets/. Lower-case letters, digits, dashes and underscores, in segments.
    #[schemars(length(min = 1, max = 247), pattern("^[a-z0-9_-]+(/[a-z0-9_-]+)*$"))]
    pub name: String,
    /// The PEM public key that must have signed. Default: whatever keys the delegation lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16_384))]
    pub key: Option<String>,
}

/// What is demanded of some images. Exactly one of verify, allow and deny is needed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Cel::new("[has(self.verify), has(self.allow), has(self.deny)].filter(action, action).size() == 1")
        .message("exactly one of verify, allow and deny is needed"),
    validation = Cel::new("!has(self.digests) || has(self.verify)")
        .message("digests goes with verify only").field_path(".digests"),
)]
pub struct RuleSpec {
    /// Patterns of image names, compared with the complete name (`nginx` is `docker.io/library/nginx`). `*` stays within
    /// one segment of the path, `**` stands for one or more whole segments; `:` and a pattern of tags may follow. 1 to
    /// 32. Example: `registry.example.com/**`, `docker.io/library/*`, `*.example.com/team/*:1.*`.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 384)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub images: Vec<String>,
    /// The images run if these verifiers vouch for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifySpec>,
    /// The images run unverified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<AllowSpec>,
    /// The images do not run, whatever their signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny: Option<DenySpec>,
    /// What an image that names a digest must show: a signature for that digest (Require), or nothing, as docker had it
    /// (Allow). Goes with verify. Default: Require.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<DigestRule>,
}

/// The verifiers of a rule. Exactly one of anyOf and allOf is needed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Cel::new("has(self.anyOf) != has(self.allOf)")
    .message("exactly one of anyOf and allOf is needed"))]
pub struct VerifySpec {
    /// Verifiers one of which must vouch for the image. 1 to 8 names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub any_of: Option<Vec<String>>,
    /// Verifiers all of which must vouch for the same digest. 1 to 8 names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub all_of: Option<Vec<String>>,
}

/// Why images run unverified.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowSpec {
    /// The reason, for those who read the policy and its audit log. 1 to 256 characters.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
}

/// Why images do not run.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DenySpec {
    /// What the person who is denied reads. 1 to 256 characters.
    #[schemars(length(min = 1, max = 256))]
    pub message: String,
}
