//! The part of the API server: a Pod is on its way into a namespace, and the webhook is asked about it, over HTTPS and with
//! whole reviews. Which of the webhook's paths are asked is for the namespace's label to say, as in a cluster
//! (kubernetes-admission §0, ADM-60).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::fetch::{Ask, Client, Error, Options, Origin, Request, SetupError};

/// Asks one webhook.
#[derive(Debug)]
pub(super) struct ApiServer {
    client: Client,
    webhook: Url,
    /// Of the next review.
    next: u64,
}

/// A Pod with one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) namespace: &'static str,
    pub(super) image: String,
}

/// One question, and what the webhook said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    /// `/mutate` and so on.
    pub(super) path: &'static str,
    /// The image in the Pod.
    pub(super) image: String,
    pub(super) review: Value,
    pub(super) answer: Answer,
    /// The answer in full.
    pub(super) reply: Value,
}

/// What the webhook said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Yes; with the image that a patch puts in place of the Pod's, if there is a patch, and with warnings.
    Allowed {
        image: Option<String>,
        warnings: Vec<String>,
    },
    /// No, with a status and the reason.
    Denied { code: u64, message: String },
}

/// The webhook did not answer as a webhook.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It cannot be called.
    #[error("the webhook cannot be called")]
    Setup(#[from] SetupError),
    /// It did not answer.
    #[error("the webhook did not answer")]
    Fetch(#[from] Error),
    /// It answered something else than a reply to our review.
    #[error("the webhook did not answer the review")]
    Answer,
}

impl ApiServer {
    /// An API server that calls `webhook`, which `ca_pem` vouches for.
    pub(super) fn new(webhook: Url, ca_pem: String) -> Result<Self, AskError> {
        let client = Client::new(Options {
            server: webhook.clone(),
            origin: Origin::Configured,
            ca_pem: Some(ca_pem),
            identity: None,
            observer: None,
        })?;
        Ok(Self {
            client,
            webhook,
            next: 1,
        })
    }

    /// Asks about a Pod at `path`.
    pub(super) async fn ask(&mut self, path: &'static str, pod: &Pod) -> Result<Exchange, AskError> {
        let uid = format!("00000000-0000-4000-8000-{:012}", self.next);
        self.next += 1;
        let review = review(&uid, pod);
        let mut url = self.webhook.clone();
        url.set_path(path);
        url.set_query(Some("timeout=10s"));
        let ask = Ask::Post {
            content_type: Some(HeaderValue::from_static("application/json")),
            body: Bytes::from(review.to_string()),
        };
        let response = self
            .client
            .send(Request::change(url, ask), Instant::now() + TIMEOUT)
            .await?;
        if !response.status.is_success() {
            return Err(response.refusal().into());
        }
        let reply: Value = serde_json::from_slice(&response.body).map_err(|_| AskError::Answer)?;
        let answer = Answer::read(&reply, &uid).ok_or(AskError::Answer)?;
        Ok(Exchange {
            path,
            image: pod.image.clone(),
            review,
            answer,
            reply,
        })
    }
}

impl Answer {
    fn read(reply: &Value, uid: &str) -> Option<Self> {
        let response = reply.get("response")?;
        if response.get("uid")?.as_str()? != uid {
            return None;
        }
        if !response.get("allowed")?.as_bool()? {
            let status = response.get("status")?;
            return Some(Self::Denied {
                code: status.get("code")?.as_u64()?,
                message: status.get("message")?.as_str()?.to_owned(),
            });
        }
        let image = match response.get("patch") {
            None => None,
            Some(patch) => Some(replacement(patch.as_str()?)?),
        };
        let warnings = response.get("warnings").and_then(Value::as_array);
        let warnings = warnings.into_iter().flatten().filter_map(Value::as_str);
        Some(Self::Allowed {
            image,
            warnings: warnings.map(str::to_owned).collect(),
        })
    }
}

/// What a JSON Patch puts in the place of the one image there is.
fn replacement(patch: &str) -> Option<String> {
    let steps: Vec<Value> = serde_json::from_slice(&STANDARD.decode(patch).ok()?).ok()?;
    let step = steps
        .iter()
        .find(|step| step.get("op").and_then(Value::as_str) == Some("replace"))?;
    let image = step.get("path")?.as_str()? == IMAGE;
    image.then(|| step.get("value")?.as_str().map(str::to_owned))?
}

/// The review that an API server sends when somebody creates the Pod.
pub(super) fn review(uid: &str, pod: &Pod) -> Value {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": uid, "operation": "CREATE", "namespace": pod.namespace, "name": NAME,
            "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "userInfo": {"username": "you", "groups": ["system:authenticated"]},
            "object": {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME, "namespace": pod.namespace},
                "spec": {"containers": [{"name": NAME, "image": pod.image}]},
            },
            "oldObject": null, "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

/// Of every Pod, and of its container, as `kubectl run` has it.
const NAME: &str = "web";
const IMAGE: &str = "/spec/containers/0/image";
/// What a registration grants at most, and a little more.
const TIMEOUT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: &Value) -> Option<Answer> {
        Answer::read(&json!({"response": response}), "1")
    }

    #[test]
    fn answers_are_read_and_nothing_else_is_taken_for_one() {
        let patch = json!([
            {"op": "test", "path": IMAGE, "value": "a:1"},
            {"op": "replace", "path": IMAGE, "value": "a:1@sha256:…"},
        ]);
        let patch = STANDARD.encode(patch.to_string());
        let elsewhere = STANDARD.encode(r#"[{"op": "replace", "path": "/spec/nodeName", "value": "a"}]"#);
        let allowed = |image: Option<&str>, warnings: &[&str]| {
            Some(Answer::Allowed {
                image: image.map(str::to_owned),
                warnings: warnings.iter().map(|text| (*text).to_owned()).collect(),
            })
        };
        let denied = Answer::Denied {
            code: 403,
            message: "no".to_owned(),
        };
        for (response, want) in [
            (json!({"uid": "1", "allowed": true}), allowed(None, &[])),
            (
                json!({"uid": "1", "allowed": true, "warnings": ["w"]}),
                allowed(None, &["w"]),
            ),
            (
                json!({"uid": "1", "allowed": true, "patch": patch}),
                allowed(Some("a:1@sha256:…"), &[]),
            ),
            (json!({"uid": "1", "allowed": true, "patch": elsewhere}), None),
            (
                json!({"uid": "1", "allowed": false, "status": {"code": 403, "message": "no"}}),
                Some(denied),
            ),
            (json!({"uid": "2", "allowed": true}), None),
            (json!({"uid": "1"}), None),
            (json!({"uid": "1", "allowed": false}), None),
        ] {
            assert_eq!(answer(&response), want, "{response}");
        }
    }
}
