//! Why there is no answer, or none that counts.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::guard::Forbidden;
use super::{Host, Response, retry};
use crate::credential::ConfigError;

/// What went wrong with a request. Cheap to clone: callers that waited for one exchange share its failure.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The deadline came first.
    #[error("{host} did not answer in time")]
    Timeout {
        /// Who was asked.
        host: Host,
    },
    /// A body arrived, but at less than the least pace: slow retrieval (T11).
    #[error("{host} sends too slowly")]
    Slow {
        /// Who was asked.
        host: Host,
    },
    /// No connection, or one that broke off.
    #[error("cannot reach {host}")]
    Network {
        /// Who was asked.
        host: Host,
        /// The transport's account.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// The handshake failed: a certificate that does not verify, or a client certificate that is missing.
    #[error("no trusted TLS connection to {host}: if its certificate has an authority of its own, name that")]
    Tls {
        /// Who was asked.
        host: Host,
        /// The transport's account.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// More bytes than such an answer may have: endless data (T10).
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge {
        /// Who was asked.
        host: Host,
        /// Most bytes allowed, after decompression.
        limit: u64,
    },
    /// A redirect where none is followed, or one too many, or to a place it may not lead to.
    #[error("{host} answered with a redirect ({status}): name the server that has the metadata itself")]
    Redirect {
        /// Who was asked.
        host: Host,
        /// The status.
        status: StatusCode,
    },
    /// 401, and no login is left to try.
    #[error("{host} refuses access (401): it wants a login, or another one")]
    Unauthorized {
        /// Who was asked.
        host: Host,
    },
    /// 403.
    #[error("{host} denies access (403)")]
    Forbidden {
        /// Who was asked.
        host: Host,
    },
    /// 429.
    #[error("{host} is throttling (429)")]
    Throttled {
        /// Who was asked.
        host: Host,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// 5xx.
    #[error("{host} is broken ({status})")]
    Server {
        /// Who was asked.
        host: Host,
        /// The status.
        status: StatusCode,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// Any other status that is not the success asked for.
    #[error("{host} answered {status}")]
    Status {
        /// Who was asked.
        host: Host,
        /// The status.
        status: StatusCode,
    },
    /// An answer that is not what such a server sends.
    #[error("the answer of {host} makes no sense: {problem}")]
    Protocol {
        /// Who was asked.
        host: Host,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An address that may not be asked (CRED-22).
    #[error("{host} has an address that an image must not make us ask: name the trust server if it is meant")]
    ForbiddenAddress {
        /// Who was not asked.
        host: Host,
    },
    /// A token service that no login may be shown to (T42).
    #[error("{host} names a token service that gets no login: {problem}")]
    Realm {
        /// The server that names it.
        host: Host,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The login could not be read.
    #[error("the login for {host} cannot be read")]
    Login {
        /// Whom it is for.
        host: Host,
        /// What is wrong with it.
        #[source]
        source: LoginError,
    },
}

/// Why a login could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The configuration file could not be read.
    #[error("the docker configuration cannot be read")]
    File(#[source] Arc<io::Error>),
    /// The configuration file is larger than one can be.
    #[error("the docker configuration is larger than {limit} bytes")]
    FileTooLarge {
        /// Most bytes allowed.
        limit: u64,
    },
    /// It was read and makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A credential helper failed.
    #[error("the credential helper {program} failed")]
    Helper {
        /// The program.
        program: String,
        /// Why it could not be run, if that is why.
        #[source]
        source: Option<Arc<io::Error>>,
    },
    /// A secret that cannot be sent in a header.
    #[error("the secret has characters that no header may have")]
    Secret,
}

impl Error {
    /// Stable `snake_case` word for metrics, JSON output and tests.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Slow { .. } => "slow_retrieval",
            Self::Network { .. } => "network",
            Self::Tls { .. } => "tls",
            Self::TooLarge { .. } => "too_large",
            Self::Redirect { .. } => "redirect",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::Throttled { .. } => "throttled",
            Self::Server { .. } => "server_error",
            Self::Status { .. } => "unexpected_status",
            Self::Protocol { .. } => "protocol",
            Self::ForbiddenAddress { .. } => "forbidden_address",
            Self::Realm { .. } => "hostile_realm",
            Self::Login { .. } => "login",
        }
    }

    /// Whether verified metadata may serve in the meantime (design §9.5): network errors, timeouts, 429 and 5xx.
    ///
    /// Nothing that a server said about access (401, 403) counts, and neither does a TLS failure: somebody in
    /// between can cause one at will, with an answer of their own in hand, and it does not pass by itself.
    pub const fn is_outage(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Slow { .. }
            | Self::Network { .. }
            | Self::Throttled { .. }
            | Self::Server { .. } => true,
            Self::Tls { .. }
            | Self::TooLarge { .. }
            | Self::Redirect { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Status { .. }
            | Self::Protocol { .. }
            | Self::ForbiddenAddress { .. }
            | Self::Realm { .. }
            | Self::Login { .. } => false,
        }
    }

    /// How long the server asked to be left alone.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } | Self::Server { retry_after, .. } => *retry_after,
            Self::Timeout { .. }
            | Self::Slow { .. }
            | Self::Network { .. }
            | Self::Tls { .. }
            | Self::TooLarge { .. }
            | Self::Redirect { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Status { .. }
            | Self::Protocol { .. }
            | Self::ForbiddenAddress { .. }
            | Self::Realm { .. }
            | Self::Login { .. } => None,
        }
    }

    pub(super) fn from_status(response: &Response) -> Self {
        let (host, status) = (super::host_of(&response.url), response.status);
        match status.as_u16() {
            401 => Self::Unauthorized { host },
            403 => Self::Forbidden { host },
            429 => Self::Throttled {
                host,
                retry_after: retry::after(response),
            },
            300..=399 => Self::Redirect { host, status },
            500..=599 => Self::Server {
                host,
                status,
                retry_after: retry::after(response),
            },
            _ => Self::Status { host, status },
        }
    }

    /// Sorts a transport error by what lies at its bottom. Its URL is dropped: a token service's has names in it.
    pub(super) fn from_transport(host: &Host, error: reqwest::Error) -> Self {
        let host = Arc::clone(host);
        let reading = error.is_decode();
        let cause = Cause::of(&error);
        let source = Arc::new(error.without_url());
        match cause {
            Cause::Forbidden => Self::ForbiddenAddress { host },
            Cause::Garbled if reading => Self::Protocol {
                host,
                problem: "its compression is broken",
            },
            // What rustls reports through HTTP/2 keeps only its kind.
            Cause::Tls | Cause::Garbled => Self::Tls { host, source },
            Cause::Parse => Self::Protocol {
                host,
                problem: "it is not HTTP",
            },
            Cause::Other => Self::Network { host, source },
        }
    }
}

/// What lies at the bottom of a transport error.
#[derive(Clone, Copy)]
enum Cause {
    Forbidden,
    Tls,
    Parse,
    Garbled,
    Other,
}

impl Cause {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut found = Self::Other;
        let mut current = Some(error);
        while let Some(error) = current {
            found = Self::at(error).unwrap_or(found);
            // An `io::Error` skips what it wraps when asked for its source.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            current = inner.map_or_else(|| error.source(), |inner| Some(inner));
        }
        found
    }

    fn at(error: &(dyn StdError + 'static)) -> Option<Self> {
        if error.is::<Forbidden>() {
            Some(Self::Forbidden)
        } else if error.is::<rustls::Error>() {
            Some(Self::Tls)
        } else if error
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_parse)
        {
            Some(Self::Parse)
        } else if let Some(error) = error.downcast_ref::<io::Error>() {
            (error.kind() == io::ErrorKind::InvalidData).then_some(Self::Garbled)
        } else {
            None
        }
    }
}

/// Why no client could be made: configuration to be mended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Not a URL a server can have.
    #[error(
        "the URL of trust server {host:?} must be https:// (or, if configured, http://), a host and a path"
    )]
    Url {
        /// The host in it.
        host: Host,
    },
    /// The registry's name makes no URL.
    #[error("registry {registry:?} cannot be the host of a trust server: name the server")]
    Registry {
        /// The registry, with its port.
        registry: Box<str>,
    },
    /// The certificates of the authority cannot be read.
    #[error("the CA certificates cannot be read: PEM is expected")]
    Authority(#[source] reqwest::Error),
    /// There is none in the text.
    #[error("there is no certificate in what should be the CA certificates: PEM is expected")]
    NoAuthority,
    /// Client certificate or key cannot be read.
    #[error("the client certificate or its key cannot be read: PEM is expected")]
    Identity(#[source] reqwest::Error),
    /// Anything else: no system roots, or a key that does not fit its certificate.
    #[error(
        "no HTTP client can be made: system CA certificates must be installed, and a client key must fit its certificate"
    )]
    Client(#[source] reqwest::Error),
}
