//! Bearer tokens: what to ask a token service, and what its answer means (notary-v1 §1.7).

use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::{Error, Host, Request, Response, host_of, request};
use crate::credential::Credential;

/// What is asked of a token service.
#[derive(Clone, Debug)]
pub struct TokenRequest<'a> {
    /// Its address, from [`realm_url`].
    pub realm: &'a Url,
    /// What it calls the server the token is for.
    pub service: Option<&'a str>,
    /// `repository:<gun>:<actions>`; the scope of the challenge is ignored, as in the reference.
    pub scope: &'a str,
    /// The login; `None` asks for what everybody may do.
    pub login: Option<&'a Credential>,
}

impl TokenRequest<'_> {
    /// A `POST` for an identity token, else a `GET`, with Basic authentication if there is a user. A registry token
    /// is none of a token service's business.
    pub fn build(&self) -> Request {
        match self.login {
            None | Some(Credential::RegistryToken(_)) => Request::token(self.query(None), None),
            Some(Credential::Basic { user, password }) => {
                let authorization = request::basic(user, password);
                Request::token(self.query(Some(user)), None).authorized(authorization)
            }
            Some(Credential::IdentityToken(token)) => {
                Request::token(self.realm.clone(), Some(self.form(token)))
            }
        }
    }

    /// The realm's own query stays.
    fn query(&self, account: Option<&str>) -> Url {
        let mut url = self.realm.clone();
        let mut query = url.query_pairs_mut();
        if let Some(service) = self.service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", self.scope);
        if let Some(account) = account {
            query.append_pair("account", account);
        }
        drop(query);
        url
    }

    fn form(&self, token: &SecretString) -> SecretString {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", token.expose_secret())
            .append_pair("service", self.service.unwrap_or_default())
            .append_pair("scope", self.scope)
            .append_pair("client_id", CLIENT_ID);
        form.finish().into()
    }
}

/// A bearer token and how long it may be used.
#[derive(Clone, Debug)]
pub struct Token {
    /// The `Authorization` header; marked sensitive.
    pub authorization: HeaderValue,
    /// From when the answer came: the service's own term, less a margin for requests under way.
    pub lifetime: Duration,
}

/// Reads a token service's answer.
///
/// # Errors
///
/// What the status means, or [`Error::Protocol`] if there is no token in a success.
pub fn read_token(response: &Response) -> Result<Token, Error> {
    if !response.status.is_success() {
        return Err(response.refusal());
    }
    let protocol = |problem| Error::Protocol {
        host: host_of(&response.url),
        problem,
    };
    let body: TokenBody =
        serde_json::from_slice(&response.body).map_err(|_| protocol("a token is not JSON"))?;
    let lifetime = body.lifetime(response.date());
    let token = body.token().ok_or_else(|| protocol("no token in it"))?;
    let authorization = request::bearer(&token).ok_or_else(|| protocol("a token has control characters"))?;
    Ok(Token {
        authorization,
        lifetime,
    })
}

/// Where a server's challenge sends us, if a login may go there (T42): an absolute URL, https if the server is, with
/// no login of its own, and, if `allowed` is not empty, on one of those hosts or the server's own.
///
/// # Errors
///
/// [`Error::Realm`].
pub fn realm_url(server: &Url, realm: &str, allowed: &[String]) -> Result<Url, Error> {
    let hostile = |problem| Error::Realm {
        host: host_of(server),
        problem,
    };
    let url = Url::parse(realm).map_err(|_| hostile("its address is not an absolute URL"))?;
    match (server.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return Err(hostile("the server is https, and it is not")),
        _ => return Err(hostile("its address is neither https nor http")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(hostile("its address has a login of its own"));
    }
    if !allowed.is_empty() && !same_host(&url, server) && !on_list(&host_of(&url), allowed) {
        return Err(hostile("its host is not among those allowed"));
    }
    Ok(url)
}

fn same_host(left: &Url, right: &Url) -> bool {
    left.host_str() == right.host_str()
}

fn on_list(host: &Host, allowed: &[String]) -> bool {
    allowed.iter().any(|entry| entry.eq_ignore_ascii_case(host))
}

#[derive(Deserialize)]
struct TokenBody {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Number>,
    issued_at: Option<String>,
}

impl TokenBody {
    fn token(self) -> Option<SecretString> {
        let filled = |token: Option<String>| token.filter(|token| !token.is_empty());
        filled(self.access_token)
            .or(filled(self.token))
            .map(SecretString::from)
    }

    /// `issued_at` is held against the service's own `Date`, so that no clock of ours comes into it.
    fn lifetime(&self, date: Option<Timestamp>) -> Duration {
        let stated = self
            .expires_in
            .as_ref()
            .and_then(serde_json::Number::as_u64)
            .unwrap_or_default();
        let term = Duration::from_secs(stated).clamp(SHORTEST, LONGEST);
        let issued: Option<Timestamp> = self.issued_at.as_ref().and_then(|text| text.parse().ok());
        let age = date
            .zip(issued)
            .map_or(0, |(date, issued)| date.as_second() - issued.as_second());
        let age = Duration::from_secs(u64::try_from(age).unwrap_or_default());
        term.saturating_sub(age).saturating_sub(MARGIN)
    }
}

/// What we call ourselves; token services do not mind which.
const CLIENT_ID: &str = "countersign";
/// A shorter term is read as this one (notary-v1 §1.7).
const SHORTEST: Duration = Duration::from_secs(60);
/// A longer one as this: services say minutes or hours, and any instant can take a day more.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// For requests under way when a token ends (CRED-24).
const MARGIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
