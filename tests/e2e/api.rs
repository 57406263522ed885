//! The API server without kubectl: what is done many times a second, or may not fail.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, Method};
use serde_json::Value;

use crate::cluster::{Cluster, authorization};
use crate::pki;

/// A connection of an administrator, for one thread.
#[derive(Debug)]
pub(crate) struct Api {
    client: Client,
    url: String,
    runtime: tokio::runtime::Runtime,
}

/// Status and message of an answer that is no success; 0 if there was none.
pub(crate) type Failure = (u16, String);

impl Api {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self {
            client: client(),
            url: cluster.url.clone(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, "application/json", None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, "application/json", Some(body))
    }

    pub(crate) fn delete(&self, path: &str, options: &Value) -> Result<Value, Failure> {
        self.call(Method::DELETE, path, "application/json", Some(options))
    }

    /// A merge patch.
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::PATCH, path, "application/merge-patch+json", Some(body))
    }

    fn call(&self, method: Method, path: &str, kind: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.url))
            .header("authorization", authorization())
            .header(CONTENT_TYPE, kind);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        self.runtime.block_on(async {
            let no_answer = |error: reqwest::Error| (0, format!("{error:?}"));
            let answer = request.send().await.map_err(no_answer)?;
            let status = answer.status();
            let body: Value = answer.json().await.map_err(no_answer)?;
            if status.is_success() {
                Ok(body)
            } else {
                Err((status.as_u16(), body["message"].to_string()))
            }
        })
    }
}

/// A client that knows the authority of every server of the tests.
pub(crate) fn client() -> Client {
    Client::builder()
        .tls_certs_only([Certificate::from_pem(pki::authority_pem().as_bytes()).unwrap()])
        .build()
        .unwrap()
}
