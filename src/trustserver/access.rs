//! Who may do what (notary-v1 §2.9).
//!
//! ```text
//! headers, peer ─ credentials ─▶ Identity ─ limits ─ rules, or the token's own access ─▶ Caller | Refusal
//! ```
//!
//! There are four ways to be somebody: a token of the registry's token service, a static token, a password, and a
//! client certificate. Whoever is nobody may do what the file grants to `anonymous`, and whoever is somebody may do
//! that too. What no rule grants is refused, always with 401: Go clients turn any other status into "server
//! unavailable", and log in after a 401 only (§1.7).
//!
//! `GET /v2/` is refused to anybody in particular unless anonymous callers may do everything, because its 401 is the
//! only place where docker and notary look for a way to log in. Behind a token service that costs nothing: they fetch
//! an anonymous token and read on (§1.7.3). With passwords, docker gives up when it has none to send; so with
//! `htpasswd` or `tokens` and no token service, `anonymous: [pull]` serves clients that log in only when a request of
//! theirs is refused, as `countersign` does; docker needs an account for reading, and the reading commands of `notary`,
//! which have no password to send either, fall back to their cache. The other way round, without the challenge,
//! neither could ever publish.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;

use self::challenge::Schemes;
use self::credentials::Credentials;
use self::file::Sources;
use self::limits::{Key, Limits, Logins};
use self::passwords::Passwords;
use self::rules::Rules;
use self::secrets::Secrets;
use self::token::{TokenService, Verified};
use crate::reference::Gun;

mod challenge;
mod credentials;
mod error;
mod file;
mod gatekeeper;
mod keyring;
mod limits;
mod passwords;
mod rules;
mod secrets;
mod token;

pub use self::challenge::AccessItem;
pub use self::error::{AccessError, Denied, PasswordFileError, TokenError};
pub use self::gatekeeper::Gatekeeper;
pub use self::limits::Limit;

/// What a call needs to be permitted (§2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// To be known at all: `GET /v2/`.
    Known,
    /// To read a repository.
    Pull(Gun),
    /// To write a repository, and read it.
    Push(Gun),
    /// To delete a repository, or change its keys: `*`.
    Admin(Gun),
    /// To read what happens in all repositories: `registry:catalog:*`.
    Catalog,
}

/// Where a call comes from, as far as the connection says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address and port of the other end.
    pub address: SocketAddr,
    /// Names in its certificate, if it presented one that the authorities signed; common name first.
    pub names: Vec<String>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name in audit logs and limits; `None` for anybody.
    pub name: Option<String>,
    /// How that was proven: `token`, `static`, `htpasswd`, `certificate` or `anonymous`.
    pub by: &'static str,
}

impl Caller {
    /// Whoever says nothing of themselves.
    pub(super) const fn anybody() -> Self {
        Self {
            name: None,
            by: "anonymous",
        }
    }
}

/// What a permitted call does that is counted by itself, beside the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// An update of a repository: signatures are verified, and much is written.
    Publish,
    /// A new key: it is kept for ever (§8.6.7).
    NewKey,
}

/// Why a call is not served, with all that the answer needs (§2.8, §2.9).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 401 `UNAUTHORIZED`.
    #[error("authentication required")]
    Unauthorized {
        /// Values of `WWW-Authenticate`, one header each (§1.7.2). Never empty.
        challenges: Vec<String>,
        /// The `detail` of the error.
        detail: Vec<AccessItem>,
        /// For the audit log only: the answer does not tell a wrong name from a wrong password.
        #[source]
        why: Denied,
    },
    /// 429 `TOOMANYREQUESTS`.
    #[error("too many {limit}")]
    TooMany {
        /// When it is worth trying again; rounded up to whole seconds for `Retry-After`, and never zero.
        retry_after: Duration,
        /// Of what.
        limit: Limit,
    },
}

/// Rules in force. They do not change: a [`Gatekeeper`] replaces them.
#[derive(Debug)]
pub struct Access(Option<Checked>);

/// What is asked of callers, where anything is.
#[derive(Debug)]
struct Checked {
    token: Option<TokenService>,
    secrets: Secrets,
    passwords: Option<Passwords>,
    client_certificates: bool,
    rules: Rules,
    schemes: Schemes,
    limits: Arc<Limits>,
}

/// Who was recognised.
enum Identity<'a> {
    Anonymous,
    /// By a static token or a password.
    Named {
        name: String,
        by: &'static str,
    },
    /// By a certificate with these names.
    Certified(&'a [String]),
    /// By the token service.
    Vouched(Arc<Verified>),
}

impl Access {
    /// Everybody may do everything, as often as they like: for sandboxes and tests.
    pub const fn open_to_all() -> Self {
        Self(None)
    }

    /// Reads the rules from a file, and what it names from others. Blocks: they are small files, read at the start.
    ///
    /// # Errors
    ///
    /// [`AccessError`] names the file, and the line or field in it.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        Sources::read(path)?.compile()
    }

    /// Whether it is [`open_to_all`](Self::open_to_all), which wants a warning.
    pub const fn is_open_to_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether repositories of this name are kept here at all (§2.9: 404 on reads and 400 `INVALID_GUN` on updates
    /// if not). Says nothing about anybody's rights.
    pub fn hosts(&self, gun: &Gun) -> bool {
        self.0.as_ref().is_none_or(|checked| checked.rules.hosts(gun))
    }

    /// Finds out who calls, and whether they may.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unauthorized`] for credentials that are not good, or not enough; [`Refusal::TooMany`].
    pub async fn admit(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        need: &Need,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        let Some(checked) = &self.0 else {
            return Ok(Identity::Anonymous.caller());
        };
        let identity = checked.identify(peer, headers, need, now).await?;
        checked.limits.request(&identity.key(peer))?;
        if checked.permits(&identity, need) {
            return Ok(identity.caller());
        }
        let why = match identity {
            Identity::Anonymous => Denied::NoCredentials,
            Identity::Named { .. } | Identity::Certified(_) | Identity::Vouched(_) => Denied::Insufficient,
        };
        let bearer = credentials::is_bearer(headers.get(AUTHORIZATION));
        Err(checked.schemes.refuse(need, why, bearer))
    }

    /// Counts what an admitted caller is about to do.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooMany`] if that is more than the file allows them.
    pub fn charge(&self, caller: &Caller, peer: &Peer, charge: Charge) -> Result<(), Refusal> {
        let Some(checked) = &self.0 else {
            return Ok(());
        };
        checked.limits.charge(&Key::of(caller, peer), charge)
    }
}

impl Checked {
    async fn identify<'a>(
        &self,
        peer: &'a Peer,
        headers: &HeaderMap,
        need: &Need,
        now: Timestamp,
    ) -> Result<Identity<'a>, Refusal> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Ok(self.unasked(peer));
        };
        let bearer = credentials::is_bearer(Some(value));
        let refuse = |why| self.schemes.refuse(need, why, bearer);
        // Two headers: a proxy before us may have looked at the other one.
        let credentials = match values.next() {
            None => Credentials::parse(value),
            Some(_) => Err(Denied::Malformed),
        };
        let failure = match credentials {
            Ok(credentials) => match self.recognise(peer, &credentials, now).await? {
                Ok(identity) => return Ok(identity),
                Err(why) => why,
            },
            Err(why) => why,
        };
        self.limits.request(&Key::Address(limits::network(peer)))?;
        Err(refuse(failure))
    }

    /// Who it is that says nothing about it.
    fn unasked<'a>(&self, peer: &'a Peer) -> Identity<'a> {
        if self.client_certificates && !peer.names.is_empty() {
            Identity::Certified(&peer.names)
        } else {
            Identity::Anonymous
        }
    }

    /// Credentials that were good a moment ago are looked up; the others cost an attempt of the peer's.
    async fn recognise<'a>(
        &self,
        peer: &Peer,
        credentials: &Credentials,
        now: Timestamp,
    ) -> Result<Result<Identity<'a>, Denied>, Refusal> {
        if let Some(identity) = self.remembered(credentials, now) {
            return Ok(Ok(identity));
        }
        let logins = self.limits.logins(peer, now);
        logins.left()?;
        match credentials {
            Credentials::Bearer(token) => {
                let attempt = logins.attempt()?;
                let found = self.prove_bearer(token, now);
                // A token that was good, or will be, is that of a late client, not a guess.
                if matches!(
                    found,
                    Ok(_) | Err(Denied::Token(TokenError::Expired | TokenError::NotYet))
                ) {
                    attempt.forgive();
                }
                Ok(found)
            }
            Credentials::Basic { user, password } => self.prove_basic(user, password, logins).await,
        }
    }

    fn remembered<'a>(&self, credentials: &Credentials, now: Timestamp) -> Option<Identity<'a>> {
        match credentials {
            Credentials::Bearer(token) => {
                let verified = self.token.as_ref()?.remembered(token, now)?;
                Some(Identity::Vouched(verified))
            }
            Credentials::Basic { user, password } => {
                let known = self.passwords.as_ref()?.remembers(user, password);
                known.then(|| Identity::by_password(user))
            }
        }
    }

    /// A static token does as the password of its name: many clients know names and passwords only.
    async fn prove_basic<'a>(
        &self,
        user: &str,
        password: &str,
        logins: Logins<'_>,
    ) -> Result<Result<Identity<'a>, Denied>, Refusal> {
        if self.secrets.owner(password) == Some(user) {
            return Ok(Ok(Identity::by_secret(user)));
        }
        let Some(passwords) = &self.passwords else {
            let _counted = logins.attempt()?;
            return Ok(Err(Denied::Password));
        };
        let good = passwords.verify(user, password, logins).await?;
        Ok(good.then(|| Identity::by_password(user)).ok_or(Denied::Password))
    }

    fn prove_bearer<'a>(&self, token: &str, now: Timestamp) -> Result<Identity<'a>, Denied> {
        if let Some(owner) = self.secrets.owner(token) {
            return Ok(Identity::by_secret(owner));
        }
        let service = self.token.as_ref().ok_or(Denied::Secret)?;
        Ok(Identity::Vouched(service.verify(token, now)?))
    }

    fn permits(&self, identity: &Identity<'_>, need: &Need) -> bool {
        match identity {
            Identity::Anonymous => self.rules.permit_anonymous(need),
            Identity::Named { name, .. } => self.rules.permit_named(name, need),
            Identity::Certified(names) => self.rules.permit_certified(names, need),
            Identity::Vouched(token) => token.permits(need) || self.rules.permit_anonymous(need),
        }
    }
}

impl Identity<'_> {
    fn by_secret(name: &str) -> Self {
        Self::Named {
            name: name.to_owned(),
            by: "static",
        }
    }

    fn by_password(name: &str) -> Self {
        Self::Named {
            name: name.to_owned(),
            by: "htpasswd",
        }
    }

    fn caller(self) -> Caller {
        match self {
            Self::Anonymous => Caller::anybody(),
            Self::Named { name, by } => Caller { name: Some(name), by },
            Self::Certified(names) => Caller {
                name: names.first().cloned(),
                by: "certificate",
            },
            Self::Vouched(token) => Caller {
                name: token.subject().map(str::to_owned),
                by: "token",
            },
        }
    }

    fn key(&self, peer: &Peer) -> Key {
        match self {
            Self::Anonymous => Key::new(None, "anonymous", peer),
            Self::Named { name, by } => Key::new(Some(name), by, peer),
            Self::Certified(names) => Key::new(names.first().map(String::as_str), "certificate", peer),
            Self::Vouched(token) => Key::new(token.subject(), "token", peer),
        }
    }
}

#[cfg(test)]
mod tests;
