//! The one HTTP client.
//!
//! Whatever is asked of another machine goes through [`Client::send`], which holds every answer to the same rules:
//!
//! * one deadline for the exchange, retries and all, and a least pace at which a body must arrive (T11);
//! * a byte limit that counts after decompression (T10, notary-v1 §2.10);
//! * metadata is never taken from where a redirect leads; pings and tokens follow five at most, never from https to
//!   http, and a login stays with the host it was meant for (CRED-21);
//! * addresses that an image's author must not make us talk to are refused after name resolution (CRED-22);
//! * a request is repeated only where no answer was given, so that a repetition cannot mask one.
//!
//! TLS is 1.2 or later, verified for every host, loopback included (T43): there is no switch to turn that off.
//! Proxies come from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`. Behind a proxy it is the proxy that
//! resolves names, so there the address rules cover literal addresses only.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::StatusCode;
use http::header;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

mod access;
mod body;
mod error;
mod flight;
mod guard;
mod helper;
mod login;
mod request;
mod retry;
mod session;
mod token;

pub use access::{Access, Names};
pub use error::{Error, LoginError, SetupError};
pub use flight::Flights;
pub use guard::Origin;
pub use login::{Helpers, Login, MOST as MOST_LOGINS};
pub use request::{Ask, Redirects, Request, basic, bearer};
pub(crate) use retry::random;
pub use session::Session;
pub use token::{Token, TokenRequest, read_token, realm_url};

use guard::Guard;

/// The host of a URL, with its port if that is not the scheme's own, for messages and logins.
pub type Host = Arc<str>;

/// Told of every exchange; what it does is its own affair.
pub type Observer = Arc<dyn Fn(Observation) + Send + Sync>;

/// One exchange with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What for.
    pub kind: Kind,
    /// The class of the status (`2xx` to `5xx`), or `error` if no whole answer came.
    pub outcome: &'static str,
    /// From the request to the end of the body.
    pub took: Duration,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Trust metadata.
    Trust,
    /// A bearer token.
    Token,
    /// The question what login a server wants.
    Ping,
    /// A change of trust metadata.
    Publish,
    /// A manifest.
    Registry,
}

impl Kind {
    /// The word for it in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Token => "token",
            Self::Ping => "ping",
            Self::Publish => "publish",
            Self::Registry => "registry",
        }
    }
}

/// What a [`Client`] is made of.
pub struct Options {
    /// The server it is for. Token services are reached through the same client.
    pub server: Url,
    /// Who named that server.
    pub origin: Origin,
    /// PEM certificates of authorities, added to the system's.
    pub ca_pem: Option<String>,
    /// Shown to servers that ask for a client certificate.
    pub identity: Option<Identity>,
    /// Told of every exchange.
    pub observer: Option<Observer>,
}

/// A client certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate and those of its issuers, PEM.
    pub cert_pem: String,
    /// Its private key, PEM.
    pub key_pem: SecretString,
}

/// What a server answered, whatever its status.
#[derive(Clone, Debug)]
pub struct Response {
    /// Who answered: after redirects not always who was asked.
    pub url: Url,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body after decompression; of an error at most its first KiB.
    pub body: bytes::Bytes,
}

impl Response {
    /// The error that the status means to a caller who needed success.
    pub fn refusal(&self) -> Error {
        Error::from_status(self)
    }

    /// The server's clock when it answered.
    pub fn date(&self) -> Option<Timestamp> {
        let text = self.headers.get(header::DATE)?.to_str().ok()?;
        parse_date(text)
    }
}

/// The HTTP client for one server. Keeps its connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    server: Url,
    guard: Arc<Guard>,
    observer: Option<Observer>,
}

impl Client {
    /// Prepares a client; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the URL, the certificates or the key cannot be used.
    pub fn new(options: Options) -> Result<Self, SetupError> {
        let Options {
            server,
            origin,
            ca_pem,
            identity,
            observer,
        } = options;
        server_url(&server, origin)?;
        let guard = Arc::new(Guard::new(&server, origin));
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tls_backend_rustls()
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .dns_resolver(Arc::clone(&guard));
        if let Some(pem) = ca_pem {
            builder = builder.tls_certs_merge(authorities(&pem)?);
        }
        if let Some(identity) = identity {
            builder = builder.identity(identity.read()?);
        }
        let http = builder.build().map_err(SetupError::Client)?;
        Ok(Self {
            http,
            server,
            guard,
            observer,
        })
    }

    /// Whose client this is.
    pub const fn server(&self) -> &Url {
        &self.server
    }

    /// Sends `request` and reads the answer before `deadline`, repeating it at most twice where the server gave
    /// none: connection errors, 429, 502, 503 and 504. A wait the server asks for is kept, and one that outlasts
    /// the deadline ends the attempt at once.
    ///
    /// # Errors
    ///
    /// [`Error`] if there is no answer, or one that breaks the rules of this module. Statuses are answers.
    pub async fn send(&self, request: Request, deadline: Instant) -> Result<Response, Error> {
        let mut attempt = 0;
        loop {
            let outcome = self.follow(&request, deadline).await;
            let pause = retry::pause(&request, &outcome, attempt, random());
            match pause {
                Some(pause) if Instant::now() + pause < deadline => sleep(pause).await,
                Some(_) | None => return outcome,
            }
            attempt += 1;
        }
    }

    async fn follow(&self, request: &Request, deadline: Instant) -> Result<Response, Error> {
        let mut current = self.observed(request, deadline).await?;
        if request.redirects == Redirects::Refuse {
            return Ok(current);
        }
        let mut next = request.clone();
        for _ in 0..MAX_REDIRECTS {
            let Some(redirected) = next.redirected(&current)? else {
                return Ok(current);
            };
            next = redirected;
            current = self.observed(&next, deadline).await?;
        }
        if current.status.is_redirection() {
            Err(current.refusal())
        } else {
            Ok(current)
        }
    }

    async fn observed(&self, request: &Request, deadline: Instant) -> Result<Response, Error> {
        let mut watch = Watch {
            observer: self.observer.as_ref(),
            kind: request.kind,
            started: Instant::now(),
            outcome: "error",
        };
        let response = self.exchange(request, deadline).await?;
        watch.outcome = class(response.status);
        Ok(response)
    }

    async fn exchange(&self, request: &Request, deadline: Instant) -> Result<Response, Error> {
        let host = host_of(&request.url);
        self.guard.admit(&request.url)?;
        let mut response = timeout_at(deadline, self.prepare(request).send())
            .await
            .map_err(|_| Error::Timeout {
                host: Arc::clone(&host),
            })?
            .map_err(|error| Error::from_transport(&host, error))?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let limits = body::Limits {
            host,
            limit: request.limit,
            deadline,
        };
        let body = if status.is_success() {
            limits.read(announced(&headers), response.bytes_stream()).await?
        } else {
            limits.read_some(ERROR_BODY, response.bytes_stream()).await
        };
        Ok(Response {
            url: request.url.clone(),
            status,
            headers,
            body,
        })
    }

    fn prepare(&self, request: &Request) -> reqwest::RequestBuilder {
        let url = request.url.clone();
        let mut builder = match &request.ask {
            Ask::Get => self.http.get(url),
            Ask::Form(form) => self
                .http
                .post(url)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.expose_secret().to_owned()),
            Ask::Post { content_type, body } => {
                let post = self.http.post(url).body(body.clone());
                content_type.iter().fold(post, |post, content_type| {
                    post.header(header::CONTENT_TYPE, content_type.clone())
                })
            }
            Ask::Delete => self.http.delete(url),
        };
        if let Some(accept) = &request.accept {
            builder = builder.header(header::ACCEPT, accept.clone());
        }
        if let Some(authorization) = &request.authorization {
            builder = builder.header(header::AUTHORIZATION, authorization.clone());
        }
        builder
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.server.as_str())
            .finish_non_exhaustive()
    }
}

/// Tells the observer when dropped, so that an exchange its caller gives up counts too.
struct Watch<'a> {
    observer: Option<&'a Observer>,
    kind: Kind,
    started: Instant,
    outcome: &'static str,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(observer) = self.observer {
            observer(Observation {
                kind: self.kind,
                outcome: self.outcome,
                took: self.started.elapsed(),
            });
        }
    }
}

impl Identity {
    fn read(&self) -> Result<reqwest::Identity, SetupError> {
        let pem = SecretString::from(format!("{}\n{}", self.cert_pem, self.key_pem.expose_secret()));
        reqwest::Identity::from_pem(pem.expose_secret().as_bytes()).map_err(SetupError::Identity)
    }
}

/// Host of `url`, and its port if that is not the scheme's own.
pub fn host_of(url: &Url) -> Host {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}").into(),
        None => host.into(),
    }
}

/// A server's URL is plain: nothing in it but scheme, host, port and path. One taken from an image is https.
fn server_url(url: &Url, origin: Origin) -> Result<(), SetupError> {
    let scheme = match origin {
        Origin::Configured | Origin::Namespace => matches!(url.scheme(), "https" | "http"),
        Origin::Image => url.scheme() == "https",
    };
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if scheme && plain && url.has_host() {
        Ok(())
    } else {
        Err(SetupError::Url { host: host_of(url) })
    }
}

fn authorities(pem: &str) -> Result<Vec<reqwest::Certificate>, SetupError> {
    let found = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(SetupError::Authority)?;
    if found.is_empty() {
        Err(SetupError::NoAuthority)
    } else {
        Ok(found)
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn parse_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "error",
    }
}

const USER_AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));
/// To connect and shake hands. A server in reach needs well under a second; the rest of an admission's 5 s deadline
/// would be lost anyway.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an unused connection is kept: longer than the pauses between admissions, shorter than the minutes after
/// which load balancers forget one.
const IDLE: Duration = Duration::from_secs(90);
/// One cold verification asks for five files at once; HTTP/1.1 needs a connection for each.
const IDLE_CONNECTIONS: usize = 8;
/// As CRED-22 has it.
const MAX_REDIRECTS: usize = 5;
/// Bytes of an error's body that are looked at (notary-v1 §2.10).
const ERROR_BODY: u64 = 1024;

#[cfg(test)]
mod tests;
