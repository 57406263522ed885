//! What is asked of callers, as answers say it (notary-v1 §2.9).

use serde::Serialize;

use super::error::Denied;
use super::{Need, Refusal};

const BASIC: &str = r#"Basic realm="Countersign trust server""#;
/// Where certificates are the only way in there is nothing to send in a header, but RFC 9110 wants a challenge beside
/// every 401. Clients pass over schemes they do not know; `Basic` would have them ask for passwords.
const CERTIFICATE: &str = r#"Certificate realm="Countersign trust server""#;

/// An element of the `detail` of an `UNAUTHORIZED` error: one action that the call needs (§2.8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AccessItem {
    /// `repository` or `registry`.
    #[serde(rename = "Type")]
    pub kind: &'static str,
    /// Always empty; the reference has it.
    pub class: &'static str,
    /// The GUN, or `catalog`.
    pub name: String,
    /// `pull`, `push` or `*`.
    pub action: &'static str,
}

/// The ways in, as `WWW-Authenticate` names them.
#[derive(Debug, Default)]
pub(super) struct Schemes {
    /// `Bearer realm="…",service="…"`.
    pub(super) bearer: Option<String>,
    /// Whether names and passwords are taken.
    pub(super) basic: bool,
}

impl Schemes {
    pub(super) fn bearer(realm: &str, service: &str) -> String {
        format!("Bearer realm={},service={}", quoted(realm), quoted(service))
    }

    /// The answer to a call that lacks what it needs; `bearer`: a token was sent.
    pub(super) fn refuse(&self, need: &Need, why: Denied, bearer: bool) -> Refusal {
        Refusal::Unauthorized {
            challenges: self.challenges(need, why, bearer),
            detail: need.items(),
            why,
        }
    }

    /// Clients try all they know, bearer first (§1.7.3).
    fn challenges(&self, need: &Need, why: Denied, bearer: bool) -> Vec<String> {
        let mut challenges = Vec::new();
        if let Some(prefix) = &self.bearer {
            let error = match why {
                _ if !bearer => "",
                Denied::Insufficient => r#",error="insufficient_scope""#,
                Denied::NoCredentials
                | Denied::Malformed
                | Denied::Scheme
                | Denied::Password
                | Denied::Secret
                | Denied::Token(_) => r#",error="invalid_token""#,
            };
            challenges.push(format!("{prefix},scope=\"{}\"{error}", need.scope()));
        }
        if self.basic {
            challenges.push(BASIC.to_owned());
        }
        if challenges.is_empty() {
            challenges.push(CERTIFICATE.to_owned());
        }
        challenges
    }
}

impl Need {
    /// Type, name and actions of a token that would do.
    pub(super) fn wanted(&self) -> (&'static str, &str, &'static [&'static str]) {
        match self {
            // Clients ignore that scope, and log in for what they want (§2.9).
            Self::Known | Self::Catalog => ("registry", "catalog", &["*"]),
            Self::Pull(gun) => ("repository", gun.as_str(), &["pull"]),
            Self::Push(gun) => ("repository", gun.as_str(), &["push", "pull"]),
            Self::Admin(gun) => ("repository", gun.as_str(), &["*"]),
        }
    }

    fn scope(&self) -> String {
        let (kind, name, actions) = self.wanted();
        format!("{kind}:{name}:{}", actions.join(","))
    }

    fn items(&self) -> Vec<AccessItem> {
        let (kind, name, actions) = self.wanted();
        actions
            .iter()
            .map(|action| AccessItem {
                kind,
                class: "",
                name: name.to_owned(),
                action,
            })
            .collect()
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}
