//! Break-glass: only who has the verb, only for their own request, and in the audit log.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster_policy::{apply, becomes, front, policy, verdict};
use crate::process::{eventually, text};
use crate::world::{cluster, pod};

const NAMESPACE: &str = "glass";
/// The audit log is written a moment after the answer.
const WRITTEN: Duration = Duration::from_secs(15);
/// A role counts within a second; a busy machine may take longer.
const GRANTED: Duration = Duration::from_secs(15);

/// A name, what it may do with Pods, and whether it may bypass.
fn grant(user: &str, verbs: &Value, resources: &Value, group: &str) {
    let name = format!("{user}-{}", verbs[0].as_str().unwrap());
    cluster().create(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name, "namespace": NAMESPACE},
        "rules": [{"apiGroups": [group], "resources": resources, "verbs": verbs}],
    }));
    cluster().create(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }));
}

/// A Pod that no policy admits, with the annotation.
fn hotfix(name: &str, reason: &str) -> Value {
    let mut pod = pod(NAMESPACE, "forbidden.example.com/app:hotfix");
    pod["metadata"] = json!({
        "name": name, "namespace": NAMESPACE,
        "annotations": {"countersign.dev/disable-content-trust": reason},
    });
    pod
}

fn create(user: &[&str], object: &Value) -> Output {
    cluster().kubectl_with(&[&["create"], user].concat(), object)
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success(), "{}", text(&output.stdout));
    text(&output.stderr)
}

#[test]
fn only_who_has_the_verb_gets_an_unsigned_image_in() {
    front().namespace(NAMESPACE, "enforce");
    let rules = json!([{"images": ["**"], "deny": {"message": "nothing runs here"}}]);
    apply(&policy("glass", NAMESPACE, &json!([]), &rules));
    becomes("the policy is in force", || {
        verdict(NAMESPACE, "nginx").is_err_and(|said| said.contains("nothing runs here"))
    });
    let pods = json!(["create", "get", "patch", "update"]);
    for user in ["oncall", "mallory"] {
        grant(user, &pods, &json!(["pods", "pods/ephemeralcontainers"]), "");
    }
    let bypass = json!(["bypass"]);
    grant("oncall", &bypass, &json!(["trustpolicies"]), "countersign.dev");

    let (oncall, mallory) = (
        ["--as=oncall"].as_slice(),
        ["--as=mallory", "--as-group=oncall"].as_slice(),
    );
    let admitted = eventually("the right is seen", GRANTED, || {
        let output = create(oncall, &hotfix("first", "incident 4711"));
        output.status.success().then_some(output)
    });
    let said = text(&admitted.stderr);
    assert!(
        said.contains("Warning: content trust is disabled for this object: \"incident 4711\"")
            && said.contains("Warning: would be denied: container \"web\": forbidden.example.com/app:hotfix"),
        "{said}"
    );
    let event = eventually("the audit log has it", WRITTEN, || {
        let events = cluster().audit_events(NAMESPACE);
        events.into_iter().find(|event| {
            event["annotations"]["validate.countersign.dev/bypass"] == "incident 4711"
                && event["responseStatus"]["code"] == 201
        })
    });
    assert_eq!(event["impersonatedUser"]["username"], "oncall");

    let said = refusal(&create(mallory, &hotfix("second", "I said so")));
    assert!(
        said.contains("nothing runs here")
            && said.contains("you need the verb bypass on trustpolicies.countersign.dev in namespace glass"),
        "{said}"
    );
    let dry = [oncall, &["--dry-run=server"]].concat();
    assert!(create(&dry, &hotfix("dry", "trying")).status.success());
    assert!(refusal(&create(oncall, &hotfix("third", " "))).contains("give a reason"));

    // What oncall left behind is no permit for others.
    let change = |user: &[&str]| {
        let arguments = [
            "set",
            "image",
            "-n",
            NAMESPACE,
            "pod/first",
            "web=forbidden.example.com/app:evil",
        ];
        cluster().kubectl(&[&arguments, user].concat())
    };
    assert!(refusal(&change(mallory)).contains("does not count"));
    assert!(change(oncall).status.success());

    // A controller's account has no right, whoever wrote the template.
    let template = json!({
        "metadata": {"labels": {"app": "web"}, "annotations": {"countersign.dev/disable-content-trust": "please"}},
        "spec": {"containers": [{"name": "web", "image": "forbidden.example.com/app:hotfix"}]},
    });
    cluster().create(&json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }));
    eventually("the controller is refused", WRITTEN, || {
        let set = cluster().get(NAMESPACE, "replicaset/web");
        let failure = set["status"]["conditions"]
            .as_array()?
            .iter()
            .find(|condition| condition["type"] == "ReplicaFailure")?;
        failure["message"]
            .as_str()?
            .contains("does not count")
            .then_some(())
    });
}
