//! Calls a webhook as the API server does: to the address that its registration names, trusting the authority that
//! stands there and nobody else (CHT-05).

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::{Api, Client, Config};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Cluster, REQUEST};

/// Names the question and its answer; any text would do.
const UID: &str = "countersign-probe";
/// What the API server waits where a registration says nothing.
const DEFAULT: Duration = Duration::from_secs(10);

/// What one entry of a registration came to.
#[derive(Debug)]
pub struct Probed {
    /// Name of the entry, or of a configuration that is not there.
    pub name: String,
    /// Whether it answers.
    pub outcome: Result<(), ProbeError>,
}

/// Why the API server could not use a webhook.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Nothing of that name is registered.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// The registration names no authority, or one that cannot be read.
    #[error("its caBundle is missing or no list of PEM certificates")]
    Authority,
    /// Neither a Service nor a URL that can be called.
    #[error("its clientConfig names nothing that can be called")]
    Address,
    /// No connection, a certificate that is not trusted, or an answer other than success.
    #[error("it cannot be called")]
    Call(#[source] Box<kube::Error>),
    /// No answer within its `timeoutSeconds`.
    #[error("it does not answer in time")]
    Timeout,
    /// An answer that is no review, or a refusal of what nobody may refuse.
    #[error("its answer is not the one that a DELETE gets")]
    Answer,
}

impl Cluster {
    /// Calls each entry of both webhook configurations called `name`. With `connect`, a host and a port, connections go
    /// there instead; certificates still have to be those of the registered Service.
    ///
    /// # Errors
    ///
    /// What the API server says if the configurations cannot be read.
    pub async fn probe(&self, name: &str, connect: Option<&str>) -> Result<Vec<Probed>, kube::Error> {
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let (mut entries, mut probed) = (Vec::new(), Vec::new());
        let mut missing = |kind| {
            let outcome = Err(ProbeError::Missing(kind));
            probed.push(Probed {
                name: name.to_owned(),
                outcome,
            });
        };
        match mutating.get_opt(name).await? {
            Some(found) => entries.extend(found.webhooks.into_iter().flatten().map(|entry| {
                Entry::new(
                    entry.name,
                    entry.client_config,
                    entry.rules,
                    entry.timeout_seconds,
                )
            })),
            None => missing("MutatingWebhookConfiguration"),
        }
        match validating.get_opt(name).await? {
            Some(found) => entries.extend(found.webhooks.into_iter().flatten().map(|entry| {
                Entry::new(
                    entry.name,
                    entry.client_config,
                    entry.rules,
                    entry.timeout_seconds,
                )
            })),
            None => missing("ValidatingWebhookConfiguration"),
        }
        for entry in entries {
            let outcome = entry.call(connect).await;
            probed.push(Probed {
                name: entry.name,
                outcome,
            });
        }
        Ok(probed)
    }
}

/// An entry, of either kind.
struct Entry {
    name: String,
    client: WebhookClientConfig,
    rules: Vec<RuleWithOperations>,
    timeout: Duration,
}

impl Entry {
    fn new(
        name: String,
        client: WebhookClientConfig,
        rules: Option<Vec<RuleWithOperations>>,
        timeout: Option<i32>,
    ) -> Self {
        let seconds = timeout.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            name,
            client,
            rules: rules.unwrap_or_default(),
            timeout: seconds.map_or(DEFAULT, Duration::from_secs),
        }
    }

    async fn call(&self, connect: Option<&str>) -> Result<(), ProbeError> {
        let (client, path) = self.caller(connect)?;
        let mut request = http::Request::post(path)
            .body(self.review().to_string().into_bytes())
            .map_err(|_| ProbeError::Address)?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        let answer = timeout(self.timeout, client.request_text(request)).await;
        let text = answer
            .map_err(|_| ProbeError::Timeout)?
            .map_err(|error| ProbeError::Call(Box::new(error)))?;
        let answer: Value = serde_json::from_str(&text).map_err(|_| ProbeError::Answer)?;
        let response = answer.get("response").unwrap_or(&Value::Null);
        let ours = response.get("uid").and_then(Value::as_str) == Some(UID);
        let allowed = response.get("allowed").and_then(Value::as_bool) == Some(true);
        (ours && allowed).then_some(()).ok_or(ProbeError::Answer)
    }

    /// A client for this entry alone, and the path to call.
    fn caller(&self, connect: Option<&str>) -> Result<(Client, String), ProbeError> {
        let (authority, path) = self.address()?;
        let address = format!("https://{}", connect.unwrap_or(&authority));
        let mut config = Config::new(address.parse().map_err(|_| ProbeError::Address)?);
        let host = authority
            .rsplit_once(':')
            .map_or(authority.as_str(), |(host, _)| host);
        config.tls_server_name = Some(host.to_owned());
        config.root_cert = self.authorities()?;
        config.connect_timeout = Some(REQUEST);
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| ProbeError::Call(Box::new(error)))?;
        Ok((client, path))
    }

    /// Host with port, and path.
    fn address(&self) -> Result<(String, String), ProbeError> {
        if let Some(service) = &self.client.service {
            let port = service.port.unwrap_or(443);
            let authority = format!("{}.{}.svc:{port}", service.name, service.namespace);
            return Ok((authority, service.path.clone().unwrap_or_else(|| "/".to_owned())));
        }
        let url = self.client.url.as_deref().unwrap_or_default();
        let url: http::Uri = url.parse().map_err(|_| ProbeError::Address)?;
        let authority = url.authority().ok_or(ProbeError::Address)?;
        Ok((authority.to_string(), url.path().to_owned()))
    }

    /// Without any, the API server trusts the system's, which vouch for no Service.
    fn authorities(&self) -> Result<Option<Vec<Vec<u8>>>, ProbeError> {
        let pem = self.client.ca_bundle.as_ref().map_or(&[][..], |bundle| &bundle.0);
        if pem.is_empty() && self.client.service.is_none() {
            return Ok(None);
        }
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem)
            .map(|certificate| certificate.map(|certificate| certificate.to_vec()))
            .collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(Some(found)),
            Ok(_) | Err(_) => Err(ProbeError::Authority),
        }
    }

    /// The question whether something that the entry is for may be deleted: it always may, and nothing is fetched for it.
    fn review(&self) -> Value {
        let rule = self.rules.first();
        let first =
            |list: Option<&Vec<String>>| list.and_then(|list| list.first().cloned()).unwrap_or_default();
        let resource = json!({
            "group": first(rule.and_then(|rule| rule.api_groups.as_ref())),
            "version": first(rule.and_then(|rule| rule.api_versions.as_ref())),
            "resource": first(rule.and_then(|rule| rule.resources.as_ref())),
        });
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": UID, "operation": "DELETE", "dryRun": true, "resource": resource, "requestResource": resource,
                "namespace": "default", "name": UID, "userInfo": {"username": UID},
            },
        })
    }
}
