//! `countersign probe`: a real server behind a registration that a fake API server tells of.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use countersign::serve::{Certificate, Endpoint, Rejected};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::tls_support::{Ca, Server, config};

/// Far more than the command needs, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);
const SERVICE: &str = "countersign";

/// Answers as the webhook does: a DELETE is always allowed, `/advise` of this one refuses.
async fn answers(endpoint: Endpoint, body: Bytes, _: Option<String>) -> Result<Vec<u8>, Rejected> {
    let review: Value = serde_json::from_slice(&body).unwrap();
    let allowed = review["request"]["operation"] == "DELETE" && endpoint != Endpoint::Advise;
    let response = json!({"uid": review["request"]["uid"], "allowed": allowed});
    Ok(json!({"response": response}).to_string().into_bytes())
}

fn entry(service: &str, path: &str, authority: &str) -> Value {
    let mut entry = json!({
        "name": format!("{}.countersign.dev", &path[1..]), "timeoutSeconds": 10, "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": service, "namespace": "countersign-system", "path": path, "port": 443}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
    });
    if !authority.is_empty() {
        entry["clientConfig"]["caBundle"] = STANDARD.encode(authority).into();
    }
    entry
}

/// An API server that knows one name: its mutating configuration has `mutating`, the other has `validating`.
async fn api_server(mutating: Value, validating: Value) -> SocketAddr {
    let found = async move |Path((kind, name)): Path<(String, String)>| -> Response {
        let (object, entry) = match kind.as_str() {
            "mutatingwebhookconfigurations" => ("MutatingWebhookConfiguration", &mutating),
            _ => ("ValidatingWebhookConfiguration", &validating),
        };
        if name != "known" {
            let status = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": ""});
            return (StatusCode::NOT_FOUND, axum::Json(status)).into_response();
        }
        axum::Json(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": object,
            "metadata": {"name": name}, "webhooks": [entry],
        }))
        .into_response()
    };
    let router = Router::new().route("/apis/admissionregistration.k8s.io/v1/{kind}/{name}", get(found));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
    address
}

/// Exit status, and everything that was said.
async fn probe(api_server: SocketAddr, name: &str, webhook: SocketAddr) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [],
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{api_server}")}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": ""}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let mut command = Command::new(cargo_bin!("countersign"));
    command
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .args(["probe", "--webhook-configuration", name])
        .args(["--connect", &webhook.to_string(), "--kubeconfig"])
        .arg(&kubeconfig);
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn a_registration_is_tried_as_the_api_server_would_use_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(
        config(Certificate::SelfSigned {
            directory: folder.path().to_owned(),
            names: vec![format!("{SERVICE}.countersign-system.svc")],
        }),
        answers,
    )
    .await;
    let authority = std::fs::read_to_string(folder.path().join("ca.crt")).unwrap();
    let good = || entry(SERVICE, "/mutate", &authority);
    for (label, name, validating, status, said) in [
        (
            "all is well",
            "known",
            entry(SERVICE, "/validate", &authority),
            0,
            "validate.countersign.dev: answers",
        ),
        (
            "not registered",
            "unknown",
            good(),
            1,
            "there is no such ValidatingWebhookConfiguration",
        ),
        (
            "another authority",
            "known",
            entry(SERVICE, "/validate", &Ca::new("other").pem()),
            1,
            "validate.countersign.dev: it cannot be called: ",
        ),
        (
            "another name",
            "known",
            entry("other", "/validate", &authority),
            1,
            "validate.countersign.dev: it cannot be called: ",
        ),
        (
            "no authority yet",
            "known",
            entry(SERVICE, "/validate", ""),
            1,
            "its caBundle is missing",
        ),
        (
            "no such path",
            "known",
            entry(SERVICE, "/nothing", &authority),
            1,
            "it cannot be called: ",
        ),
        (
            "another answer",
            "known",
            entry(SERVICE, "/advise", &authority),
            1,
            "its answer is not the one",
        ),
    ] {
        let api_server = api_server(good(), validating).await;
        let (ended, text) = probe(api_server, name, server.webhook).await;
        assert_eq!(ended, Some(status), "{label}: {text}");
        assert!(text.contains(said), "{label}: {text}");
    }
}

#[tokio::test]
async fn without_an_api_server_nothing_is_found_out() {
    let nobody = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let (ended, text) = probe(nobody, "known", nobody).await;
    assert_eq!(ended, Some(3), "{text}");
    assert!(text.starts_with("unavailable: "), "{text}");
}
