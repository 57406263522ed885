//! The trust server of notary-v1 §1–2, as a client sees it.
//!
//! A [`Server`] is asked for metadata files and says what it has of them. Before the first file it is asked once
//! what login it wants; after that, and with a token in hand, every file is one round trip, and files asked for at
//! once travel at once. Logins, tokens and connections are its own affair; what the files say is not.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::fetch::{
    self, Access, Ask, Client, Error, Host, Identity, Names, Observer, Options, Origin, Session, SetupError,
    host_of,
};
use crate::reference::{DOCKER_HUB, Gun};
use crate::tuf::{Answer, PublicKey, Request, Role};

mod answer;
mod push;

pub use push::PushError;

pub use crate::fetch::{Helpers, Login, MOST_LOGINS};

/// The trust server that docker asks for a repository when none is configured (notary-v1 §1.5): Docker Hub's own, or
/// the registry's host and port over https. Its [`Origin`] is [`Origin::Image`].
///
/// # Errors
///
/// [`SetupError::Registry`] if the registry's name, though a name to docker, is no host to a URL: `1.2.3.4.5`.
pub fn default_server(gun: &Gun) -> Result<Url, SetupError> {
    let host = if gun.host() == DOCKER_HUB {
        DOCKER_HUB_SERVER
    } else {
        gun.host()
    };
    Url::parse(&format!("https://{host}")).map_err(|_| SetupError::Registry {
        registry: gun.host().into(),
    })
}

/// A trust server and how to talk to it.
pub struct Config {
    /// Base URL; may have a path.
    pub base: Url,
    /// Who named it.
    pub origin: Origin,
    /// PEM certificates of authorities, added to the system's.
    pub ca_pem: Option<String>,
    /// Shown to servers that ask for a client certificate.
    pub identity: Option<Identity>,
    /// Where its login comes from.
    pub login: Login,
    /// Hosts (with port, if it is not the scheme's own) whose token services may see the login, beside the server's
    /// own; empty allows any that the server names (notary-v1 §1.7).
    pub realms: Vec<String>,
    /// Told of every exchange.
    pub observer: Option<Observer>,
}

impl Config {
    /// A server that an administrator named, asked without a login.
    pub const fn new(base: Url) -> Self {
        Self {
            base,
            origin: Origin::Configured,
            ca_pem: None,
            identity: None,
            login: Login::Anonymous,
            realms: Vec::new(),
            observer: None,
        }
    }
}

/// A trust server. Clones are one server: they share connections, tokens and what they know of it.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    host: Host,
    base: Base,
    session: Session,
    date: Mutex<Option<(Timestamp, Instant)>>,
}

impl Server {
    /// Prepares to talk to a server; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if URL, certificates or key cannot be used.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        let Config {
            base,
            origin,
            ca_pem,
            identity,
            login,
            realms,
            observer,
        } = config;
        let host = host_of(&base);
        let client = Client::new(Options {
            server: base.clone(),
            origin,
            ca_pem,
            identity,
            observer,
        })?;
        let base = Base::new(&base);
        let ping = base.below("").map_err(|_| SetupError::Url {
            host: Arc::clone(&host),
        })?;
        Ok(Self(Arc::new(Inner {
            host,
            session: Session::new(client, ping, login, realms, Names::Gun),
            base,
            date: Mutex::default(),
        })))
    }

    /// The same server over the same connections, with another login and its own tokens. Both end with the value.
    #[must_use]
    pub fn with_login(&self, login: Login) -> Self {
        Self(Arc::new(Inner {
            host: Arc::clone(&self.0.host),
            base: self.0.base.clone(),
            session: self.0.session.with_login(login),
            date: Mutex::default(),
        }))
    }

    /// Its host, with its port if that is not the scheme's own, for messages.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// What its clock showed when, by ours, it last answered: a difference beyond the age of an answer is skew
    /// (T44).
    pub fn date(&self) -> Option<(Timestamp, Instant)> {
        *self.0.date.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for one metadata file of `gun`, logging in where that is wanted, all before `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error`] for everything but the file and its absence. In particular 401 and 403 are errors that are no
    /// outage, 429 and 5xx are errors that are one, and a redirect is not followed.
    pub async fn fetch(&self, gun: &Gun, request: &Request, deadline: Instant) -> Result<Answer, Error> {
        let url = self.0.base.metadata(gun, request).map_err(|_| Error::Protocol {
            host: Arc::clone(&self.0.host),
            problem: "a repository's name makes no URL",
        })?;
        let asked = fetch::Request::metadata(url, request.limit);
        let response = timeout_at(deadline, self.0.session.send(gun, Access::Pull, asked, deadline))
            .await
            .map_err(|_| Error::Timeout {
                host: Arc::clone(&self.0.host),
            })??;
        self.note(&response);
        answer::read(request, response)
    }

    /// Publishes `files` of `gun`, all or none.
    ///
    /// # Errors
    ///
    /// [`PushError`]. After one that [may mean success](PushError::is_worth_another_try) it is to be looked whether the
    /// files are there.
    pub async fn publish(
        &self,
        gun: &Gun,
        files: &[(Role, Bytes)],
        deadline: Instant,
    ) -> Result<(), PushError> {
        self.change(gun, Access::Push, "", push::upload(files), deadline)
            .await
            .map(drop)
    }

    /// The public key with which the server signs `role` of `gun`: one is made if there is none (§2.5).
    ///
    /// # Errors
    ///
    /// [`PushError`]; in particular [`PushError::Key`] if what it answers is no key that could sign.
    pub async fn key(&self, gun: &Gun, role: &Role, deadline: Instant) -> Result<PublicKey, PushError> {
        let path = format!("{role}.key");
        let answer = self.change(gun, Access::Push, &path, Ask::Get, deadline).await?;
        self.read_key(role, &answer)
    }

    /// A new key for that, which counts once a root lists it.
    ///
    /// # Errors
    ///
    /// As [`Server::key`].
    pub async fn new_key(&self, gun: &Gun, role: &Role, deadline: Instant) -> Result<PublicKey, PushError> {
        let path = format!("{role}.key");
        let ask = Ask::Post {
            content_type: None,
            body: Bytes::new(),
        };
        let answer = self.change(gun, Access::All, &path, ask, deadline).await?;
        self.read_key(role, &answer)
    }

    /// Deletes all metadata of `gun`; that there was none is no error.
    ///
    /// # Errors
    ///
    /// [`PushError`].
    pub async fn delete(&self, gun: &Gun, deadline: Instant) -> Result<(), PushError> {
        self.change(gun, Access::All, "", Ask::Delete, deadline)
            .await
            .map(drop)
    }

    async fn change(
        &self,
        gun: &Gun,
        access: Access,
        path: &str,
        ask: Ask,
        deadline: Instant,
    ) -> Result<Bytes, PushError> {
        let host = self.host();
        let url = self.0.base.below(&format!("{gun}/_trust/tuf/{path}"));
        let url = url.map_err(|_| Error::Protocol {
            host: Arc::clone(host),
            problem: "a repository's name makes no URL",
        })?;
        let asked = fetch::Request::change(url, ask);
        let response = timeout_at(deadline, self.0.session.send(gun, access, asked, deadline))
            .await
            .map_err(|_| Error::Timeout {
                host: Arc::clone(host),
            })??;
        self.note(&response);
        push::read(host, response)
    }

    fn read_key(&self, role: &Role, answer: &[u8]) -> Result<PublicKey, PushError> {
        let unusable = |problem| PushError::Key {
            host: Arc::clone(self.host()),
            role: role.clone(),
            problem,
        };
        let key = PublicKey::parse(answer).map_err(|_| unusable("it is no key object"))?;
        if key.is_usable() {
            Ok(key)
        } else {
            Err(unusable(
                "its type or its bytes are none that signatures are verified with",
            ))
        }
    }

    fn note(&self, response: &fetch::Response) {
        if let Some(date) = response.date() {
            *self.0.date.lock().unwrap_or_else(PoisonError::into_inner) = Some((date, Instant::now()));
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.0.host).finish()
    }
}

/// The base URL with `/v2/` after it.
#[derive(Clone)]
struct Base(String);

impl Base {
    fn new(url: &Url) -> Self {
        Self(format!("{}/v2/", url.as_str().trim_end_matches('/')))
    }

    fn below(&self, path: &str) -> Result<Url, url::ParseError> {
        Url::parse(&format!("{}{path}", self.0))
    }

    /// The GUN goes in as it is (§1.5). Neither it nor a role can have a segment `..`: their grammars see to that.
    fn metadata(&self, gun: &Gun, request: &Request) -> Result<Url, url::ParseError> {
        self.below(&format!("{gun}/_trust/tuf/{}", request.path()))
    }
}

const DOCKER_HUB_SERVER: &str = "notary.docker.io";

#[cfg(test)]
mod tests;
