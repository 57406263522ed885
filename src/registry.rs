//! The registry of an image, asked for one thing: which bytes a tag is (notary-v1 §6.1, §7.12).
//!
//! An index is kept whole: its digest covers every platform. What counts is the hash of the bytes that came, never what
//! the registry says their hash is.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::fetch::{
    Access, Client, Error, Host, Identity, Login, Names, Options, Origin, Request, Response, Session,
    SetupError, host_of,
};
use crate::reference::{DOCKER_HUB, Digest, Gun, Tag};
use crate::tuf::sha256;

/// What a tag points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest: SHA-256 over its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it says it is.
    pub media_type: String,
}

/// How to reach registries.
#[derive(Clone)]
pub struct Config {
    /// PEM certificates of authorities, added to the system's.
    pub ca_pem: Option<String>,
    /// Shown to registries that ask for a client certificate.
    pub identity: Option<Identity>,
    /// Where logins come from.
    pub login: Login,
}

/// Why a digest cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry cannot be asked.
    #[error("the registry cannot be used")]
    Setup(#[source] Arc<SetupError>),
    /// It did not answer, or not to us.
    #[error(transparent)]
    Fetch(#[from] Error),
    /// It has no such image.
    #[error("{host} has no image {gun}:{wanted}: push it first")]
    Absent {
        /// The registry.
        host: Host,
        /// The repository.
        gun: Gun,
        /// Tag or digest.
        wanted: String,
    },
    /// The bytes are not those that the registry, or we, call by that digest (T35).
    #[error("{host} says that the image is {said}, but its bytes are {found}: nothing was signed")]
    Lie {
        /// The registry.
        host: Host,
        /// The digest that was said or asked for.
        said: String,
        /// The digest of the bytes.
        found: Digest,
    },
    /// The tag is another image than the one that was to be signed.
    #[error("{gun}:{tag} is {found} in the registry, not {wanted}: nothing was signed")]
    Other {
        /// The repository.
        gun: Gun,
        /// The tag.
        tag: Tag,
        /// What it is.
        found: Digest,
        /// What was to be signed.
        wanted: Digest,
    },
    /// Not a manifest that has a digest over its own bytes.
    #[error("{host} answered with {found:?}, which is no manifest or index that can be signed")]
    MediaType {
        /// The registry.
        host: Host,
        /// What it says it is.
        found: String,
    },
}

/// One registry.
pub struct Registry {
    host: Host,
    /// In the order in which they are tried: https, and http on the machine itself.
    ways: Vec<(Url, Session)>,
}

impl Registry {
    /// Prepares to talk to the registry of `gun`; nothing is sent yet. One on the loopback interface may serve http, as
    /// docker has it: there is no network on the way there.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Setup`] if its name, the certificates or the key cannot be used.
    pub fn new(gun: &Gun, config: &Config) -> Result<Self, RegistryError> {
        let host = if gun.host() == DOCKER_HUB {
            DOCKER_HUB_REGISTRY
        } else {
            gun.host()
        };
        let setup = |error| RegistryError::Setup(Arc::new(error));
        let mut ways = Vec::new();
        let schemes: &[&str] = if is_loopback(host) {
            &["https", "http"]
        } else {
            &["https"]
        };
        for scheme in schemes {
            let base = Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|_| {
                setup(SetupError::Registry {
                    registry: host.into(),
                })
            })?;
            let client = Client::new(Options {
                server: base.clone(),
                origin: Origin::Configured,
                ca_pem: config.ca_pem.clone(),
                identity: config.identity.clone(),
                observer: None,
            });
            let (client, login) = (client.map_err(setup)?, config.login.clone());
            let session = Session::new(client, base.clone(), login, Vec::new(), Names::Path);
            ways.push((base, session));
        }
        Ok(Self {
            host: host.into(),
            ways,
        })
    }

    /// What `tag` points to, as it is now.
    ///
    /// # Errors
    ///
    /// [`RegistryError`].
    pub async fn by_tag(&self, gun: &Gun, tag: &Tag, deadline: Instant) -> Result<Manifest, RegistryError> {
        self.manifest(gun, tag.as_str(), None, deadline).await
    }

    /// The manifest of that digest, if the registry has it.
    ///
    /// # Errors
    ///
    /// [`RegistryError`].
    pub async fn by_digest(
        &self,
        gun: &Gun,
        digest: &Digest,
        deadline: Instant,
    ) -> Result<Manifest, RegistryError> {
        self.manifest(gun, &digest.to_string(), Some(digest), deadline)
            .await
    }

    async fn manifest(
        &self,
        gun: &Gun,
        wanted: &str,
        expected: Option<&Digest>,
        deadline: Instant,
    ) -> Result<Manifest, RegistryError> {
        let response = self.ask(gun, wanted, deadline).await?;
        match response.status {
            StatusCode::OK => self.read(&response, expected),
            StatusCode::NOT_FOUND => Err(RegistryError::Absent {
                host: Arc::clone(&self.host),
                gun: gun.clone(),
                wanted: wanted.to_owned(),
            }),
            _ => Err(response.refusal().into()),
        }
    }

    /// The first way that leads anywhere is the way.
    async fn ask(&self, gun: &Gun, wanted: &str, deadline: Instant) -> Result<Response, Error> {
        let mut failure = Error::Protocol {
            host: Arc::clone(&self.host),
            problem: "a repository's name makes no URL",
        };
        for (base, session) in &self.ways {
            let Ok(url) = base.join(&format!("{}/manifests/{wanted}", gun.path())) else {
                continue;
            };
            let request = Request::manifest(url, HeaderValue::from_static(ACCEPTED), MANIFEST);
            match timeout_at(deadline, session.send(gun, Access::Pull, request, deadline)).await {
                Ok(Err(error @ (Error::Tls { .. } | Error::Network { .. }))) => failure = error,
                Ok(outcome) => return outcome,
                Err(_) => {
                    return Err(Error::Timeout { host: host_of(base) });
                }
            }
        }
        Err(failure)
    }

    fn read(&self, response: &Response, expected: Option<&Digest>) -> Result<Manifest, RegistryError> {
        let header = |name: &str| {
            let value = response.headers.get(name)?;
            Some(value.to_str().unwrap_or_default().to_owned())
        };
        let digest = Digest::sha256(sha256(&response.body));
        // A registry may name its manifests by another algorithm; only the same one can be compared. What we have asked
        // for is compared in any case.
        let said = match expected {
            Some(expected) => Some(expected.to_string()),
            None => header("docker-content-digest").filter(|said| said.starts_with("sha256:")),
        };
        if let Some(said) = said.filter(|said| *said != digest.to_string()) {
            return Err(RegistryError::Lie {
                host: Arc::clone(&self.host),
                said: said.chars().filter(|c| !c.is_control()).take(80).collect(),
                found: digest,
            });
        }
        let media_type = header(header::CONTENT_TYPE.as_str()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let known = ACCEPTED.split(", ").any(|known| known == media_type);
        let is_object =
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&response.body).is_ok();
        if !(known && is_object) {
            return Err(RegistryError::MediaType {
                host: Arc::clone(&self.host),
                found: media_type.chars().take(80).collect(),
            });
        }
        Ok(Manifest {
            digest,
            size: u64::try_from(response.body.len()).unwrap_or(u64::MAX),
            media_type,
        })
    }
}

fn is_loopback(host: &str) -> bool {
    let name = Url::parse(&format!("http://{host}/"));
    match name.as_ref().ok().and_then(Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

const DOCKER_HUB_REGISTRY: &str = "registry-1.docker.io";
/// Every kind whose digest is the hash of its bytes. Docker's schema 1 is left out: its digest is that of a part.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                        application/vnd.docker.distribution.manifest.list.v2+json, \
                        application/vnd.docker.distribution.manifest.v2+json";
/// Registries take manifests of 4 MiB at most (OCI distribution-spec, "Pushing manifests").
const MANIFEST: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_the_machine_itself() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["registry.example.com", "10.0.0.1:5000", "localhost.example.com"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
