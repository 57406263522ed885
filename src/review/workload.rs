//! Which requests carry a pod specification, and where in the object it is (§1.3, §1.4).

use crate::review::wire::{Kind, Operation, Request};

/// What a request is about, decided by resource and subresource, never by kind alone: `deployments/scale` has
/// kind `Scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Pod: the enforcement point.
    Pod,
    /// A template that Pods will be made from.
    Template {
        /// JSON pointer of the pod specification.
        root: &'static str,
    },
    /// Known to carry no image that could take effect.
    Harmless,
    /// Not registered by us: somebody widened the rules (ADM-15).
    Unknown,
}

impl Place {
    /// Where `request`'s images are.
    pub fn of(request: &Request<'_>) -> Self {
        let group = request.resource.group.as_str();
        let resource = request.resource.resource.as_str();
        match (group, resource, request.subresource.as_str()) {
            ("", "pods", "" | "ephemeralcontainers") => Self::Pod,
            ("", "pods", subresource) if HARMLESS.contains(&subresource) => Self::Harmless,
            // Of a later version, perhaps one through which images can be set: judged like a Pod.
            ("", "pods", _) if is_pod(&request.kind) => Self::Pod,
            ("", "pods", _) => Self::Harmless,
            _ => match (template(group, resource), request.subresource.is_empty()) {
                (Some(root), true) => Self::Template { root },
                (Some(_), false) => Self::Harmless,
                (None, _) => Self::Unknown,
            },
        }
    }

    /// JSON pointer of the pod specification, if there is one.
    pub const fn root(self) -> Option<&'static str> {
        match self {
            Self::Pod => Some(POD_ROOT),
            Self::Template { root } => Some(root),
            Self::Harmless | Self::Unknown => None,
        }
    }
}

/// The pod specification of a Pod.
pub const POD_ROOT: &str = "/spec";

/// Subresources of `pods` through which no image can be set: other kinds, or the specification is frozen or reset.
const HARMLESS: [&str; 9] = [
    "attach",
    "binding",
    "eviction",
    "exec",
    "log",
    "portforward",
    "proxy",
    "resize",
    "status",
];

fn is_pod(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Pod"
}

fn template(group: &str, resource: &str) -> Option<&'static str> {
    match (group, resource) {
        ("", "podtemplates") => Some("/template/spec"),
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "statefulsets" | "daemonsets" | "replicasets")
        | ("batch", "jobs") => Some("/spec/template/spec"),
        ("batch", "cronjobs") => Some("/spec/jobTemplate/spec/template/spec"),
        _ => None,
    }
}

/// Whether the images in a template may be rewritten (§1.3). Not those of a Job that exists: the API server refuses a
/// changed one. Not those of an object that a controller made from another and goes on comparing with it: it would make
/// the next one, for ever (ADM-34).
pub fn is_rewritable(request: &Request<'_>) -> bool {
    let group = request.resource.group.as_str();
    let resource = request.resource.resource.as_str();
    let listed = match (group, resource, request.operation) {
        (
            "apps",
            "deployments" | "statefulsets" | "daemonsets" | "replicasets",
            Operation::Create | Operation::Update,
        )
        | ("batch", "cronjobs", Operation::Create | Operation::Update)
        | ("batch", "jobs", Operation::Create) => request.subresource.is_empty(),
        _ => false,
    };
    listed && !request.is_controlled()
}

/// The request's resource as a word of a closed set, for metrics.
pub fn resource_word(request: &Request<'_>) -> &'static str {
    let known = |word: &&&str| **word == request.resource.resource;
    match (Place::of(request), request.subresource.as_str()) {
        (Place::Unknown, "") if request.resource.group == "countersign.dev" => {
            POLICIES.iter().find(known).copied().unwrap_or("other")
        }
        (Place::Unknown, _) => "other",
        (Place::Pod, "ephemeralcontainers") => "pods/ephemeralcontainers",
        (_, "") => RESOURCES.iter().find(known).copied().unwrap_or("other"),
        _ => "subresource",
    }
}

const POLICIES: [&str; 2] = ["clustertrustpolicies", "trustpolicies"];
const RESOURCES: [&str; 9] = [
    "cronjobs",
    "daemonsets",
    "deployments",
    "jobs",
    "pods",
    "podtemplates",
    "replicasets",
    "replicationcontrollers",
    "statefulsets",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::wire;

    fn place(group: &str, resource: &str, subresource: &str, kind: &str) -> Place {
        let body = serde_json::json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "1",
                "kind": {"group": "", "version": "v1", "kind": kind},
                "resource": {"group": group, "version": "v1", "resource": resource},
                "subResource": subresource,
            },
        });
        Place::of(&wire::parse(body.to_string().as_bytes()).unwrap())
    }

    /// ADM-14, ADM-15, §1.3.
    #[test]
    fn a_request_is_placed_by_resource_and_subresource() {
        const TEMPLATE: Place = Place::Template {
            root: "/spec/template/spec",
        };
        for (group, resource, subresource, kind, want) in [
            ("", "pods", "", "Pod", Place::Pod),
            ("", "pods", "ephemeralcontainers", "Pod", Place::Pod),
            ("", "pods", "status", "Pod", Place::Harmless),
            ("", "pods", "resize", "Pod", Place::Harmless),
            ("", "pods", "binding", "Binding", Place::Harmless),
            ("", "pods", "exec", "PodExecOptions", Place::Harmless),
            ("", "pods", "comingsoon", "Pod", Place::Pod),
            ("", "pods", "comingsoon", "Scale", Place::Harmless),
            ("apps", "deployments", "", "Deployment", TEMPLATE),
            ("apps", "deployments", "", "Scale", TEMPLATE),
            ("apps", "deployments", "scale", "Scale", Place::Harmless),
            ("apps", "deployments", "status", "Deployment", Place::Harmless),
            ("apps", "statefulsets", "", "StatefulSet", TEMPLATE),
            ("apps", "daemonsets", "", "DaemonSet", TEMPLATE),
            ("apps", "replicasets", "", "ReplicaSet", TEMPLATE),
            ("batch", "jobs", "", "Job", TEMPLATE),
            (
                "",
                "replicationcontrollers",
                "",
                "ReplicationController",
                TEMPLATE,
            ),
            ("", "configmaps", "", "Pod", Place::Unknown),
            ("example.com", "pods", "", "Pod", Place::Unknown),
            ("example.com", "deployments", "", "Deployment", Place::Unknown),
        ] {
            assert_eq!(
                place(group, resource, subresource, kind),
                want,
                "{group}/{resource}/{subresource} {kind}"
            );
        }
    }

    /// §1.3, the column "mutate"; ADM-34.
    #[test]
    fn a_template_is_rewritable_by_resource_operation_and_owner() {
        let rewritable = |group: &str, resource: &str, subresource: &str, operation: &str, owners| {
            let body = serde_json::json!({
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "request": {
                    "uid": "1",
                    "resource": {"group": group, "version": "v1", "resource": resource},
                    "subResource": subresource,
                    "operation": operation,
                    "object": {"metadata": {"ownerReferences": owners}},
                },
            });
            is_rewritable(&wire::parse(body.to_string().as_bytes()).unwrap())
        };
        let controller = || serde_json::json!([{"controller": true}]);
        for (group, resource, create, update) in [
            ("apps", "deployments", true, true),
            ("apps", "statefulsets", true, true),
            ("apps", "daemonsets", true, true),
            ("apps", "replicasets", true, true),
            ("batch", "cronjobs", true, true),
            ("batch", "jobs", true, false),
            ("", "podtemplates", false, false),
            ("", "replicationcontrollers", false, false),
            ("", "pods", false, false),
            ("example.com", "deployments", false, false),
        ] {
            for (operation, want) in [("CREATE", create), ("UPDATE", update), ("DELETE", false)] {
                let of = |subresource, owners| rewritable(group, resource, subresource, operation, owners);
                let label = format!("{group}/{resource} {operation}");
                assert_eq!(of("", serde_json::Value::Null), want, "{label}");
                assert!(!of("", controller()), "{label}");
                assert!(!of("scale", serde_json::Value::Null), "{label}");
            }
        }
    }

    #[test]
    fn templates_and_cron_jobs_have_their_own_roots() {
        for (group, resource, want) in [
            ("", "podtemplates", "/template/spec"),
            ("batch", "cronjobs", "/spec/jobTemplate/spec/template/spec"),
        ] {
            assert_eq!(place(group, resource, "", "").root(), Some(want), "{resource}");
        }
    }
}
