//! Trust servers: one client for each, kept while it is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use secrecy::SecretString;
use url::Url;

use super::verifier::Fault;
use crate::credential::{Credential, DockerConfig};
use crate::fetch::{Identity, Observation, Observer, Origin, host_of};
use crate::notary::{Config, Helpers, Login, Server, default_server};
use crate::policy::{self, Credentials};
use crate::reference::Gun;
use crate::telemetry::Metrics;

/// Servers kept at most. Without a configured server each registry an image names is one, so users choose them.
const MOST: u64 = 256;
/// How long an unused one is kept.
const IDLE: Duration = Duration::from_secs(3600);

/// Every server in use.
pub(super) struct Servers {
    helpers: Helpers,
    observer: Observer,
    known: Cache<Choice, Arc<Connection>>,
}

/// What makes two servers the same one.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Choice {
    base: Url,
    configured: bool,
    ca: Option<String>,
    credentials: Option<Credentials>,
}

/// A server, and what it is called in the store.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) server: Server,
    pub(super) name: String,
}

impl Connection {
    /// The same server asked with `logins`, which end with the value.
    pub(super) fn with_logins(&self, logins: Arc<[Credential]>) -> Self {
        Self {
            server: self.server.with_login(Login::Several(logins)),
            name: self.name.clone(),
        }
    }
}

impl Servers {
    pub(super) fn new(credential_helpers: bool, metrics: Arc<Metrics>) -> Self {
        let observer = move |seen: Observation| metrics.upstream(seen.kind.name(), seen.outcome, seen.took);
        Self {
            helpers: if credential_helpers {
                Helpers::Run
            } else {
                Helpers::Ignore
            },
            observer: Arc::new(observer),
            known: Cache::builder().max_capacity(MOST).time_to_idle(IDLE).build(),
        }
    }

    /// Makes sure that a verifier's server can be used, if the policy names one.
    pub(super) fn admit(&self, policy: &policy::Notary) -> Result<(), Fault> {
        match &policy.server {
            Some(base) => self.connection(Choice::of(policy, base.clone())).map(drop),
            None => Ok(()),
        }
    }

    /// The same, of a policy that is not in force: nothing is kept.
    pub(super) fn check(&self, policy: &policy::Notary) -> Result<(), Fault> {
        let Some(base) = &policy.server else { return Ok(()) };
        let config = self.config(&Choice::of(policy, base.clone()))?;
        Server::new(config).map(drop).map_err(Fault::Server)
    }

    /// The server that speaks for `gun`.
    pub(super) fn of(&self, policy: &policy::Notary, gun: &Gun) -> Result<Arc<Connection>, Fault> {
        self.connection(Choice::of(policy, base_of(policy, gun)?))
    }

    /// Host and port of the server that speaks for `gun`, for messages.
    pub(super) fn host(policy: &policy::Notary, gun: &Gun) -> String {
        base_of(policy, gun).map_or_else(|_| gun.host().to_owned(), |base| host_of(&base).to_string())
    }

    /// What the server that speaks for `gun` is called in the store.
    pub(super) fn name(policy: &policy::Notary, gun: &Gun) -> Option<String> {
        base_of(policy, gun).ok().map(|base| base.to_string())
    }

    fn connection(&self, choice: Choice) -> Result<Arc<Connection>, Fault> {
        if let Some(known) = self.known.get(&choice) {
            return Ok(known);
        }
        let server = Server::new(self.config(&choice)?).map_err(Fault::Server)?;
        let connection = Arc::new(Connection {
            server,
            name: choice.base.to_string(),
        });
        self.known.insert(choice, Arc::clone(&connection));
        Ok(connection)
    }

    fn config(&self, choice: &Choice) -> Result<Config, Fault> {
        let mut config = Config {
            origin: if choice.configured {
                Origin::Configured
            } else {
                Origin::Image
            },
            ca_pem: choice.ca.clone(),
            observer: Some(Arc::clone(&self.observer)),
            ..Config::new(choice.base.clone())
        };
        match &choice.credentials {
            None => {}
            Some(Credentials::Login(login)) => {
                let known = DockerConfig::parse(login.expose().as_bytes()).map_err(Fault::Login)?;
                config.login = Login::Config(Arc::new(known));
            }
            Some(Credentials::DockerConfig(path)) => self.use_docker(&mut config, path, &choice.base)?,
        }
        Ok(config)
    }

    /// Login and certificates as docker keeps them in its folder.
    fn use_docker(&self, config: &mut Config, path: &Path, base: &Url) -> Result<(), Fault> {
        config.login = Login::File {
            path: path.to_owned(),
            helpers: self.helpers,
        };
        let folder = path
            .parent()
            .unwrap_or(Path::new("."))
            .join("tls")
            .join(&*host_of(base));
        let tls = DockerTls::read(&folder)?;
        config.ca_pem = [config.ca_pem.take(), tls.authorities]
            .into_iter()
            .flatten()
            .reduce(|all, more| all + &more);
        config.identity = tls.identity;
        Ok(())
    }
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Servers")
            .field("known", &self.known.entry_count())
            .finish_non_exhaustive()
    }
}

impl Choice {
    fn of(policy: &policy::Notary, base: Url) -> Self {
        Self {
            base,
            configured: policy.server.is_some(),
            ca: policy.ca.clone(),
            credentials: policy.credentials.clone(),
        }
    }
}

fn base_of(policy: &policy::Notary, gun: &Gun) -> Result<Url, Fault> {
    match &policy.server {
        Some(base) => Ok(base.clone()),
        None => default_server(gun).map_err(Fault::Server),
    }
}

/// What docker keeps for a server beside its `config.json`, in `tls/<host>/` (notary-v1 §1.6): every `*.crt` is an
/// authority, `*.cert` with `*.key` a client certificate.
#[derive(Default)]
struct DockerTls {
    authorities: Option<String>,
    identity: Option<Identity>,
}

impl DockerTls {
    fn read(folder: &Path) -> Result<Self, Fault> {
        let mut found = Self::default();
        for path in files(folder)? {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => found.authorities.get_or_insert_default().push_str(&text(&path)?),
                Some("cert") => {
                    let key_pem = SecretString::from(text(&path.with_extension("key"))?);
                    found.identity.get_or_insert(Identity {
                        cert_pem: text(&path)?,
                        key_pem,
                    });
                }
                Some("key") if !path.with_extension("cert").exists() => return Err(Fault::TlsPair { path }),
                Some(_) | None => {}
            }
        }
        Ok(found)
    }
}

/// The folder's files in order; none if there is no such folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let fault = |source| Fault::TlsFolder {
        path: folder.into(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fault(error)),
    };
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(fault)?;
    paths.sort();
    Ok(paths)
}

fn text(path: &Path) -> Result<String, Fault> {
    fs::read_to_string(path).map_err(|source| Fault::TlsFolder {
        path: path.into(),
        source,
    })
}
