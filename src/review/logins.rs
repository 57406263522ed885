//! Where the logins are that a workload's images are pulled with (kubernetes-admission §5.1).

use serde_json::{Map, Value};

/// Pull secrets looked at. Nodes have no limit; each costs a read, and a dozen registries are many.
const MOST: usize = 16;
/// The account of a Pod that names none.
const DEFAULT_ACCOUNT: &str = "default";

/// What a pod specification says of its logins. The names are the user's to write, and perhaps none that an object can
/// have; the namespace is the request's (CRED-20).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullSources {
    /// Where everything is.
    pub namespace: String,
    /// Names of Secrets, in the order in which they are tried.
    pub secrets: Vec<String>,
    /// The service account that names them, if there are none.
    pub account: Option<String>,
}

impl PullSources {
    /// Those of the pod specification at `root` of `object`. What cannot be read names nothing: an image is judged
    /// without it (CRED-02).
    pub fn of(object: &Value, root: &str, namespace: &str) -> Self {
        let spec = object.pointer(root).and_then(Value::as_object);
        let secrets = spec.map(secrets).unwrap_or_default();
        let account = secrets.is_empty().then(|| {
            let named = spec
                .and_then(|spec| spec.get("serviceAccountName"))
                .and_then(Value::as_str);
            named
                .filter(|name| !name.is_empty())
                .unwrap_or(DEFAULT_ACCOUNT)
                .to_owned()
        });
        Self {
            namespace: namespace.to_owned(),
            secrets,
            account,
        }
    }
}

/// Each name once; empty ones are passed over, as nodes do.
fn secrets(spec: &Map<String, Value>) -> Vec<String> {
    let listed = spec.get("imagePullSecrets").and_then(Value::as_array);
    let mut names = Vec::new();
    for name in listed
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("name")?.as_str())
    {
        if names.len() < MOST && !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_those_of_the_pod_and_else_its_accounts() {
        let sources = |spec: Value| PullSources::of(&json!({"spec": spec}), "/spec", "shop");
        let found = sources(json!({
            "imagePullSecrets": [{"name": "b"}, {"name": ""}, {}, "x", {"name": "a"}, {"name": "b"}],
            "serviceAccountName": "builder",
        }));
        assert_eq!((found.namespace.as_str(), found.account), ("shop", None));
        assert_eq!(found.secrets, ["b", "a"]);
        for (spec, account) in [
            (
                json!({"serviceAccountName": "builder", "imagePullSecrets": []}),
                "builder",
            ),
            (
                json!({"serviceAccountName": "", "imagePullSecrets": [{"name": ""}]}),
                "default",
            ),
            (json!({"imagePullSecrets": "x"}), "default"),
            (Value::Null, "default"),
        ] {
            let found = sources(spec);
            assert_eq!(
                (found.secrets.len(), found.account.as_deref()),
                (0, Some(account))
            );
        }
        let many: Vec<_> = (0..100).map(|i| json!({"name": format!("s{i}")})).collect();
        assert_eq!(sources(json!({"imagePullSecrets": many})).secrets.len(), MOST);
    }
}
