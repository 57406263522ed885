//! What a policy in a cluster leaves to other objects: logins in Secrets, certificates in `ConfigMap`s.
//!
//! A name is all a policy can say; the namespace follows from where the policy is, so that no policy can lend what is
//! in another namespace (CRED-20). Who reads the objects hands what is in them to [`super::compile_object`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::compile::is_object_name;
use super::resource::ca_crt;

/// Something to be read from the namespace that goes with a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lookup {
    /// A login, from the Secret of this name.
    Secret(String),
    /// Certificates, from one entry of a `ConfigMap`.
    ConfigMap {
        /// Its name.
        name: String,
        /// The entry.
        key: String,
    },
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "Secret {name:?}"),
            Self::ConfigMap { name, .. } => write!(f, "ConfigMap {name:?}"),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// In a Secret.
    Login(Login),
    /// In a `ConfigMap`.
    Text(String),
}

/// What was found of everything that was looked up.
pub type Answers = BTreeMap<Lookup, Result<Material, LookupError>>;

/// A docker `config.json` from a Secret. Two are equal if their SHA-256 is; `Debug` prints nothing of either.
#[derive(Clone)]
pub struct Login {
    json: SecretString,
    hash: [u8; 32],
}

impl Login {
    /// Keeps `json`, the text of a docker `config.json`.
    pub fn new(json: SecretString) -> Self {
        let hash = Sha256::digest(json.expose_secret()).into();
        Self { json, hash }
    }

    /// The text, for the one who logs in.
    pub fn expose(&self) -> &str {
        self.json.expose_secret()
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Login {}

impl Hash for Login {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

/// Why there is nothing to use. Never quotes what is in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Not a name that an object can have.
    #[error("{what} cannot exist: names have lower-case letters, digits, \"-\" and \".\"")]
    Name {
        /// What was looked up.
        what: Lookup,
    },
    /// No such object.
    #[error("{what} is not in namespace {namespace}: create it there")]
    Missing {
        /// What was looked up.
        what: Lookup,
        /// Where.
        namespace: Box<str>,
    },
    /// A Secret of another type.
    #[error("{what} has type {found:?}: kubernetes.io/dockerconfigjson is needed")]
    Type {
        /// What was looked up.
        what: Lookup,
        /// Its type.
        found: Box<str>,
    },
    /// No such entry.
    #[error("{what} has no entry {key:?}")]
    Key {
        /// What was looked up.
        what: Lookup,
        /// The entry.
        key: Box<str>,
    },
    /// Not what docker writes.
    #[error("{what} holds no docker configuration: make it with kubectl create secret docker-registry")]
    Shape {
        /// What was looked up.
        what: Lookup,
    },
    /// The API server did not let us see it.
    #[error("{what} cannot be read from namespace {namespace}: {reason}")]
    Unreadable {
        /// What was looked up.
        what: Lookup,
        /// Where.
        namespace: Box<str>,
        /// The API server's words.
        reason: Box<str>,
    },
    /// Nobody has looked.
    #[error("{what} has not been read yet")]
    Pending {
        /// What is to be looked up.
        what: Lookup,
    },
}

/// Everything that a policy object names, whatever else may be wrong with it. Names that no object can have are left
/// out: they would be parts of a path.
pub fn lookups(object: &Value) -> BTreeSet<Lookup> {
    let verifiers = object.pointer("/spec/verifiers").and_then(Value::as_array);
    verifiers
        .into_iter()
        .flatten()
        .flat_map(|verifier| [login(verifier), authorities(verifier)])
        .flatten()
        .filter(is_possible)
        .collect()
}

fn login(verifier: &Value) -> Option<Lookup> {
    let name = verifier.pointer("/notary/credentials/secretRef/name")?.as_str()?;
    Some(Lookup::Secret(name.to_owned()))
}

fn authorities(verifier: &Value) -> Option<Lookup> {
    let reference = verifier.pointer("/notary/ca/configMapRef")?;
    Some(Lookup::ConfigMap {
        name: reference.get("name")?.as_str()?.to_owned(),
        key: reference
            .get("key")
            .and_then(Value::as_str)
            .map_or_else(ca_crt, str::to_owned),
    })
}

fn is_possible(lookup: &Lookup) -> bool {
    let (Lookup::Secret(name) | Lookup::ConfigMap { name, .. }) = lookup;
    is_object_name(name)
}

/// What `answers` say.
pub(super) fn answer<'a>(answers: &'a Answers, what: &Lookup) -> Result<&'a Material, LookupError> {
    let what = || what.clone();
    match answers.get(&what()) {
        Some(Ok(material)) => Ok(material),
        Some(Err(error)) => Err(error.clone()),
        None if is_possible(&what()) => Err(LookupError::Pending { what: what() }),
        None => Err(LookupError::Name { what: what() }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_login_is_told_apart_by_its_content_and_never_printed() {
        let login = |text: &str| Login::new(text.into());
        assert_eq!(login("hunter2"), login("hunter2"));
        assert_ne!(login("hunter2"), login("hunter3"));
        assert_eq!(
            HashSet::from([login("hunter2"), login("hunter2"), login("hunter3")]).len(),
            2
        );
        assert!(!format!("{:?}", Ok::<_, ()>(Material::Login(login("hunter2")))).contains("hunter2"));
    }

    #[test]
    fn lookups_are_found_in_whatever_else_is_broken_and_paths_are_no_names() {
        let object = json!({"spec": {"mode": 7, "verifiers": [
            {"notary": {"credentials": {"secretRef": {"name": "login"}}, "ca": {"configMapRef": {"name": "cas"}}}},
            {"notary": {"credentials": {"secretRef": {"name": "../../other/secrets/login"}}}},
            {"notary": {"ca": {"configMapRef": {"name": "cas", "key": "b.pem"}}}},
            "nonsense",
        ]}});
        let config_map = |key: &str| Lookup::ConfigMap {
            name: "cas".to_owned(),
            key: key.to_owned(),
        };
        let want = [
            Lookup::Secret("login".to_owned()),
            config_map("b.pem"),
            config_map("ca.crt"),
        ];
        assert_eq!(lookups(&object), BTreeSet::from(want));
    }
}
