//! The whole way, from YAML to reply.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::reference::Digest;
use countersign::trust::{Kind, fake};

use super::*;

const POLICIES: &str = r#"
apiVersion: countersign.dev/v1alpha1
kind: ClusterTrustPolicy
metadata: {name: default}
spec:
  verifiers:
  - name: acme
    notary:
      server: https://trust.example.com
      root: {trustOnFirstUse: true}
  workloads: MODE
  rules:
  - images: ["registry.example.com/**"]
    verify: {anyOf: [acme]}
  - images: ["registry.k8s.io/**"]
    allow: {reason: "cluster plumbing"}
  - images: ["docker.io/**"]
    deny: {message: "only images of registry.example.com run here"}
---
apiVersion: countersign.dev/v1alpha1
kind: ClusterTrustPolicy
metadata: {name: watching}
spec:
  mode: Audit
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}
  rules:
  - images: ["registry.example.com/mesh"]
    deny: {message: "mesh is on its way out"}
  - images: ["**"]
    allow: {reason: "the rest"}
"#;

/// Signs every tag but those of `app` that begin with 1.
struct Acme;

impl Verify for Acme {
    async fn verify(
        &self,
        image: &Reference,
        verification: &Verification,
        _: &PullSources,
        _: Instant,
    ) -> Result<Pinned, Refusal> {
        assert_eq!(verification.verifiers[0].name, "acme");
        let tag = image.tag().unwrap();
        if image.gun().path() == "app" && tag.as_str().starts_with('1') {
            let cause = format!("tag {tag} is not signed in {}", image.gun());
            let similar = vec!["2.0".parse().unwrap()];
            return Err(fake::refusal(Kind::Untrusted, "not_signed", &cause, similar));
        }
        Ok(fake::pinned(Digest::sha256([0xab; 32])))
    }
}

/// A policy that wants templates pinned in namespace `shop`, and leaves the judgement to the others.
const PINNING: &str = r#"
---
apiVersion: countersign.dev/v1alpha1
kind: TrustPolicy
metadata: {name: pinning, namespace: shop}
spec:
  pinWorkloads: true
  rules:
  - images: ["**"]
    allow: {reason: "the cluster's policies judge"}
"#;

async fn response_under(workloads: &str, phase: Phase, body: &[u8]) -> Value {
    response_to(&POLICIES.replace("MODE", workloads), phase, body).await
}

async fn response_to(policies: &str, phase: Phase, body: &[u8]) -> Value {
    let text = policies.to_owned();
    let policies = PolicySet::parse([(PathBuf::from("policy.yaml"), text)]).unwrap();
    let policies = Arc::new(ArcSwap::from_pointee(policies));
    let metrics = Arc::new(Metrics::default());
    let admission = Admission::new(Arc::new(Acme), policies, metrics, Duration::from_secs(10));
    let reply = admission.answer(phase, body, None).await.unwrap();
    serde_json::from_slice::<Value>(&reply).unwrap()["response"].clone()
}

/// What the API server makes of the patch in `response`.
fn apply(response: &Value, object: &mut Value) {
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    json_patch::patch(object, &patch).unwrap();
}

/// ADM-20, ADM-21, ADM-52, design §3 and §8.
#[tokio::test]
async fn a_pod_is_pinned_and_then_judged() {
    let body = fixture("pod-create");
    let response = response_under("Advise", Phase::Mutate, &body).await;
    let mut review: Value = serde_json::from_slice(&body).unwrap();
    apply(&response, &mut review["request"]["object"]);
    let spec = &review["request"]["object"]["spec"];
    let digest = format!("sha256:{}", "ab".repeat(32));
    for (pointer, want) in [
        ("/containers/0/image", "registry.example.com/app:1.2".to_owned()),
        ("/containers/1/image", "nginx".to_owned()),
        (
            "/initContainers/0/image",
            format!("registry.example.com/setup:3@{digest}"),
        ),
        (
            "/initContainers/1/image",
            format!("registry.example.com/mesh:2@{digest}"),
        ),
        (
            "/volumes/1/image/reference",
            format!("registry.example.com/model:v1@{digest}"),
        ),
    ] {
        assert_eq!(spec.pointer(pointer).unwrap(), want.as_str(), "{pointer}");
    }
    let response = response_under("Advise", Phase::Validate, review.to_string().as_bytes()).await;
    assert_eq!(
        response["status"],
        json!({
            "status": "Failure", "code": 403, "reason": "Forbidden",
            "message": "container \"web\": registry.example.com/app:1.2 is not trusted: tag 1.2 is not signed in \
                        registry.example.com/app (policy default, rule 1, verifier acme at trust.example.com); \
                        signed tags: 2.0\n\
                        container \"log\": nginx is not admitted: only images of registry.example.com run here \
                        (policy default, rule 3)",
        })
    );
    assert_eq!(response["auditAnnotations"]["policy"], "default, watching");
}

/// Design §3: a policy in audit mode warns, in a namespace that is enforced.
#[tokio::test]
async fn a_policy_that_watches_only_warns() {
    let mut review: Value = serde_json::from_slice(&fixture("pod-dry-run")).unwrap();
    let image = format!("registry.example.com/mesh:2@sha256:{}", "ab".repeat(32));
    review["request"]["object"]["spec"]["containers"][0]["image"] = json!(image);
    let response = response_under("Advise", Phase::Validate, review.to_string().as_bytes()).await;
    assert_eq!(response["allowed"], true, "{response}");
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("would be denied: container \"web\":"),
        "{warning}"
    );
    assert!(
        warning.contains("mesh is on its way out (policy watching, rule 1)"),
        "{warning}"
    );
    review["request"]["namespace"] = json!("elsewhere");
    let response = response_under("Advise", Phase::Validate, review.to_string().as_bytes()).await;
    assert!(response.get("warnings").is_none(), "{response}");
}

/// ADM-13, ADM-34, design §4.
#[tokio::test]
async fn every_template_is_treated_as_policy_says() {
    for name in [
        "deployments",
        "replicasets",
        "statefulsets",
        "daemonsets",
        "jobs",
        "cronjobs",
        "podtemplates",
    ] {
        let body = fixture(name);
        for (workloads, allowed, warnings) in [("Advise", true, 3), ("Deny", false, 0), ("Ignore", true, 1)] {
            let mutated = response_under(workloads, Phase::Mutate, &body).await;
            assert!(
                mutated["allowed"] == true && mutated.get("patch").is_none(),
                "{name}"
            );
            let response = response_under(workloads, Phase::Advise, &body).await;
            assert_eq!(response["allowed"], allowed, "{name} {workloads}");
            // The third, or the only one, is that of the policy that watches.
            let got = response["warnings"].as_array().map_or(0, Vec::len);
            assert_eq!(got, warnings, "{name} {workloads} {response}");
        }
    }
}

fn pinning() -> String {
    format!("{}{PINNING}", POLICIES.replace("MODE", "Ignore"))
}

/// ADM-34, ADM-37, §1.3: `pinWorkloads` of one policy that applies in the namespace.
#[tokio::test]
async fn templates_are_pinned_where_a_policy_wants_it() {
    for (name, root) in [
        ("deployments", "/spec/template/spec"),
        ("statefulsets", "/spec/template/spec"),
        ("daemonsets", "/spec/template/spec"),
        ("jobs", "/spec/template/spec"),
        ("cronjobs", "/spec/jobTemplate/spec/template/spec"),
    ] {
        let mut review: Value = serde_json::from_slice(&fixture(name)).unwrap();
        let response = response_to(&pinning(), Phase::Mutate, &fixture(name)).await;
        assert!(response.get("warnings").is_none(), "{name} {response}");
        let mut want = review["request"]["object"].clone();
        for place in [
            "initContainers/0/image",
            "initContainers/1/image",
            "volumes/1/image/reference",
        ] {
            let image = want.pointer_mut(&format!("{root}/{place}")).unwrap();
            *image = json!(format!("{}@sha256:{}", image.as_str().unwrap(), "ab".repeat(32)));
        }
        apply(&response, &mut review["request"]["object"]);
        assert_eq!(review["request"]["object"], want, "{name}");
        let again = response_to(&pinning(), Phase::Mutate, review.to_string().as_bytes()).await;
        assert!(again.get("patch").is_none(), "{name} {again}");
        review["request"]["namespace"] = json!("elsewhere");
        review["request"]["object"] =
            serde_json::from_slice::<Value>(&fixture(name)).unwrap()["request"]["object"].clone();
        let elsewhere = response_to(&pinning(), Phase::Mutate, review.to_string().as_bytes()).await;
        assert!(elsewhere.get("patch").is_none(), "{name} {elsewhere}");
    }
}

/// ADM-31, ADM-34, §1.3: what a controller made, what cannot change, and what did not.
#[tokio::test]
async fn no_other_template_is_touched() {
    for name in [
        "replicasets",
        "jobs-of-cronjob",
        "jobs-resume",
        "deployments-annotate",
        "deployments-scale",
        "podtemplates",
        "replicationcontrollers",
    ] {
        let response = response_to(&pinning(), Phase::Mutate, &fixture(name)).await;
        assert_eq!(response["allowed"], true, "{name}");
        for member in ["patch", "warnings", "auditAnnotations"] {
            assert!(response.get(member).is_none(), "{name} {response}");
        }
    }
    let mut review: Value = serde_json::from_slice(&fixture("replicasets")).unwrap();
    let metadata = review["request"]["object"]["metadata"].as_object_mut().unwrap();
    metadata.remove("ownerReferences").unwrap();
    let response = response_to(&pinning(), Phase::Mutate, review.to_string().as_bytes()).await;
    assert!(response.get("patch").is_some(), "one of its own: {response}");
}

/// ADM-32, checklist 18.
#[tokio::test]
async fn a_template_applied_again_in_its_tag_form_stays_as_it_is_stored() {
    let mut review: Value = serde_json::from_slice(&fixture("deployments-reapply")).unwrap();
    let response = response_to(&pinning(), Phase::Mutate, review.to_string().as_bytes()).await;
    apply(&response, &mut review["request"]["object"]);
    let request = &review["request"];
    assert_eq!(request["object"]["spec"], request["oldObject"]["spec"]);
}
