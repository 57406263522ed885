//! Docker's `config.json`, and the pull secrets that have its shape.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::reference::{DOCKER_HUB, Gun};

use super::{Credential, glob};

/// Logins by host, and the names of helpers that know more.
///
/// Hosts are matched as the kubelet matches them (kubernetes-admission §5.2), with one extension: an entry's
/// `identitytoken` and `registrytoken` count.
#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    /// In reverse order of their places, so that longer paths of one host come first.
    logins: Vec<(Place, Credential)>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

impl DockerConfig {
    /// Reads a `config.json`, or a secret's `.dockerconfigjson`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it is not JSON of that shape or an entry's `auth` cannot be read.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let file: File = serde_json::from_slice(json).map_err(|_| ConfigError::Json)?;
        Ok(Self {
            logins: logins(file.auths)?,
            helpers: file.cred_helpers,
            store: file.creds_store.filter(|name| !name.is_empty()),
        })
    }

    /// Reads a secret's `.dockercfg`: the map of entries alone.
    ///
    /// # Errors
    ///
    /// As [`DockerConfig::parse`].
    pub fn parse_legacy(json: &[u8]) -> Result<Self, ConfigError> {
        let auths: BTreeMap<String, Entry> = serde_json::from_slice(json).map_err(|_| ConfigError::Json)?;
        Ok(Self {
            logins: logins(auths)?,
            ..Self::default()
        })
    }

    /// The logins for a repository's registry, best first. Docker Hub also answers to `index.docker.io`.
    pub fn for_registry(&self, gun: &Gun) -> Vec<&Credential> {
        let found = self.matching(gun.host(), gun.path());
        if found.is_empty() && gun.host() == DOCKER_HUB {
            self.at(DEFAULT_REGISTRY)
        } else {
            found
        }
    }

    /// The logins for a repository at a trust server that are for its own host, and not for the registry's.
    pub fn for_server(&self, server: &str, gun: &Gun) -> Vec<&Credential> {
        self.matching(server, gun.as_str())
    }

    /// The logins for a repository at a trust server (host, and port if it is not the scheme's own): those for the
    /// server first, then those for the registry, where docker keeps them (notary-v1 §1.7). In an entry for the
    /// trust server a path is the beginning of a GUN.
    pub fn for_trust(&self, server: &str, gun: &Gun) -> Vec<&Credential> {
        let mut found = self.matching(server, gun.as_str());
        if server != gun.host() || found.is_empty() {
            found.extend(self.for_registry(gun));
        }
        found
    }

    /// The helper that knows the login for `server`: a host, or [`registry_key`]. `credHelpers` names one for a
    /// host, `credsStore` one for all others.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Helper`] if it is not the name of a program: it would be run.
    pub fn helper(&self, server: &str) -> Result<Option<HelperName>, ConfigError> {
        let name = self.helpers.get(server).or(self.store.as_ref());
        name.filter(|name| !name.is_empty())
            .map(|name| name.parse())
            .transpose()
    }

    fn matching(&self, host: &str, path: &str) -> Vec<&Credential> {
        let (host, port) = split_port(host);
        self.logins
            .iter()
            .filter(|(place, _)| place.covers(host, port, path))
            .map(|(_, credential)| credential)
            .collect()
    }

    fn at(&self, host: &str) -> Vec<&Credential> {
        self.logins
            .iter()
            .filter(|(place, _)| place.0 == host)
            .map(|(_, credential)| credential)
            .collect()
    }
}

/// What docker calls a repository's registry in its configuration and towards helpers: the host, but for Docker Hub
/// an address of old.
pub fn registry_key(gun: &Gun) -> &str {
    if gun.host() == DOCKER_HUB {
        "https://index.docker.io/v1/"
    } else {
        gun.host()
    }
}

/// Where an entry applies: `host[:port][/path]`, scheme and API version cut off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(String);

impl Place {
    fn new(entry: &str) -> Self {
        let bare = entry
            .strip_prefix("https://")
            .or_else(|| entry.strip_prefix("http://"))
            .unwrap_or(entry);
        let bare = bare.split_once(['?', '#']).map_or(bare, |(before, _)| before);
        let (host, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
        let path = if path.starts_with("/v1/") || path.starts_with("/v2/") {
            path.get(3..).unwrap_or_default()
        } else {
            path
        };
        let path = if path == "/" { "" } else { path };
        Self(format!("{host}{path}"))
    }

    /// Ports are equal as strings; labels are globs and equally many; the path is a string prefix, in the middle of
    /// a segment too.
    fn covers(&self, host: &str, port: &str, path: &str) -> bool {
        let (own, own_path) = self.0.split_once('/').unwrap_or((&self.0, ""));
        let (own_host, own_port) = split_port(own);
        own_port == port && path.starts_with(own_path) && labels_match(own_host, host)
    }
}

fn labels_match(pattern: &str, host: &str) -> bool {
    pattern.split('.').count() == host.split('.').count()
        && pattern
            .split('.')
            .zip(host.split('.'))
            .all(|(pattern, label)| pattern == label || glob::matches(pattern, label))
}

/// Host and port; an IPv6 literal keeps its brackets.
fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
        Some(_) | None => (host, ""),
    }
}

/// The name of a credential helper: `docker-credential-<name>` is run, so it is a plain word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HelperName(Box<str>);

impl HelperName {
    /// The program to look for in `PATH`.
    pub fn program(&self) -> String {
        format!("docker-credential-{}", self.0)
    }
}

impl FromStr for HelperName {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !text.is_empty() && text.len() <= MAX_HELPER_NAME && text.bytes().all(word) {
            Ok(Self(text.into()))
        } else {
            Err(ConfigError::Helper { name: text.into() })
        }
    }
}

impl fmt::Display for HelperName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads what a helper printed for `get`. The user `<token>` means that the secret is an identity token; an answer
/// without a secret is no login.
///
/// # Errors
///
/// [`ConfigError::Json`] if it is not the helpers' JSON.
pub fn helper_answer(json: &[u8]) -> Result<Option<Credential>, ConfigError> {
    let answer: HelperAnswer = serde_json::from_slice(json).map_err(|_| ConfigError::Json)?;
    let Some(secret) = answer.secret.map(|secret| secret.0) else {
        return Ok(None);
    };
    Ok(match answer.username {
        Some(user) if user == "<token>" => Some(Credential::IdentityToken(secret)),
        Some(user) if !user.is_empty() => Some(Credential::Basic {
            user,
            password: secret,
        }),
        Some(_) | None => None,
    })
}

/// Why a docker configuration cannot be used. Never quotes it: it is full of secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON, or not of docker's shape.
    #[error("this is not JSON as docker writes it")]
    Json,
    /// An entry's `auth` is not the base64 of `user:password`.
    #[error("the entry for {place:?} has an auth that is not the base64 of user:password: log in again")]
    Auth {
        /// The entry's key.
        place: Box<str>,
    },
    /// A helper's name is not a plain word.
    #[error("{name:?} is not the name of a credential helper")]
    Helper {
        /// The text in the name's place.
        name: Box<str>,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
    registrytoken: Option<Secret>,
}

#[derive(Deserialize)]
struct HelperAnswer {
    #[serde(rename = "Username")]
    username: Option<String>,
    #[serde(rename = "Secret")]
    secret: Option<Secret>,
}

struct Secret(SecretString);

impl Secret {
    fn text(&self) -> &str {
        self.0.expose_secret()
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl Entry {
    /// `None` is an entry without a login: docker writes those beside a credential store.
    fn credential(self, place: &str) -> Result<Option<Credential>, ConfigError> {
        let filled = |secret: Option<Secret>| secret.filter(|secret| !secret.text().is_empty());
        if let Some(token) = filled(self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token.0)));
        }
        if let Some(token) = filled(self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(token.0)));
        }
        let (user, password) = match filled(self.auth) {
            Some(auth) => decode(auth.text()).ok_or_else(|| ConfigError::Auth { place: place.into() })?,
            None => (
                self.username.unwrap_or_default(),
                self.password
                    .map_or_else(SecretString::default, |secret| secret.0),
            ),
        };
        let empty = user.is_empty() && password.expose_secret().is_empty();
        Ok((!empty).then_some(Credential::Basic { user, password }))
    }
}

/// Splits the base64 of `user:password` at the first colon: passwords may contain more.
fn decode(auth: &str) -> Option<(String, SecretString)> {
    let text = Zeroizing::new(auth.replace(['\r', '\n'], ""));
    let bytes = Zeroizing::new(BASE64.decode(text.as_bytes()).ok()?);
    let (user, password) = str::from_utf8(&bytes).ok()?.split_once(':')?;
    // Docker pads with NUL bytes what it once encoded.
    Some((user.to_owned(), password.trim_matches('\0').into()))
}

fn logins(auths: BTreeMap<String, Entry>) -> Result<Vec<(Place, Credential)>, ConfigError> {
    let mut found = Vec::new();
    for (place, entry) in auths {
        if let Some(credential) = entry.credential(&place)? {
            found.push((Place::new(&place), credential));
        }
    }
    found.sort_by(|(left, _), (right, _)| right.cmp(left));
    Ok(found)
}

/// The entry of Docker Hub, once normalised.
const DEFAULT_REGISTRY: &str = "index.docker.io";
/// Longest helper name in bytes; the longest in use, `ecr-login` and the like, have about ten.
const MAX_HELPER_NAME: usize = 64;
/// Padded or not, as both occur.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests;
