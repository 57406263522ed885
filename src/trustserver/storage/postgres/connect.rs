//! From a URL to a pool of connections, and which of them are encrypted.

use std::borrow::Cow;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use deadpool_postgres::{
    BuildError, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls_platform_verifier::Verifier;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Options;
use super::session::{CONNECT, CREATE, KEEPALIVE, SETTINGS, SILENCE, WAIT};

/// A database server, and how to talk to it.
pub(super) struct Target {
    config: Config,
}

/// Why a URL is not used. Nothing of it is repeated: where a password was not written as it has to be, any part may
/// be one.
#[derive(Debug, thiserror::Error)]
pub(super) enum UrlError {
    /// Not even its beginning is as it should be.
    #[error("its URL does not begin with postgresql:// or postgres://")]
    Scheme,
    /// Most often a password with a character that has a meaning in URLs.
    #[error(
        "its URL cannot be read: is a special character of the password not percent-encoded, or a parameter unknown?"
    )]
    Grammar,
    /// A word that we do not know.
    #[error("sslmode of its URL is none of disable, prefer, require, verify-ca and verify-full")]
    SslMode,
    /// It names no server.
    #[error("its URL names no host")]
    Host,
}

/// Why there is no pool of connections.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    /// The file of authorities cannot be read.
    #[error("cannot read the authorities in {}", path.display())]
    Authorities {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    /// There is no certificate in it.
    #[error("no certificate is in {}", path.display())]
    NoAuthority { path: PathBuf },
    /// The authorities of the system, or ours, are not fit to verify with.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The pool cannot be built.
    #[error("cannot set up connections")]
    Pool(#[source] BuildError),
}

/// What a URL wishes for; see [`super::Postgres::open`] for what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Disable,
    Prefer,
    Require,
}

impl FromStr for Wish {
    type Err = UrlError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" | "verify-ca" | "verify-full" => Ok(Self::Require),
            _ => Err(UrlError::SslMode),
        }
    }
}

impl Target {
    pub(super) fn parse(url: &SecretString) -> Result<Self, UrlError> {
        let url = url.expose_secret();
        if !["postgresql://", "postgres://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            return Err(UrlError::Scheme);
        }
        // A second one ends the password too early, and its rest would be taken for a host.
        if url.matches('@').count() > 1 {
            return Err(UrlError::Grammar);
        }
        let (plain, wish) = without_sslmode(url)?;
        let mut config: Config = plain.parse().map_err(|_| UrlError::Grammar)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(UrlError::Host);
        }
        config.ssl_mode(match wish {
            Wish::Disable => SslMode::Disable,
            Wish::Prefer if stays_here(&config) => SslMode::Disable,
            Wish::Prefer | Wish::Require => SslMode::Require,
        });
        limit(&mut config);
        Ok(Self { config })
    }

    #[cfg(test)]
    pub(super) fn ssl_mode(&self) -> SslMode {
        self.config.get_ssl_mode()
    }

    /// The database as messages name it.
    pub(super) fn place(&self) -> String {
        let ports = self.config.get_ports();
        let named = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => Cow::from(name),
            Host::Unix(path) => path.to_string_lossy(),
        });
        let addresses = self.config.get_hostaddrs().iter().map(IpAddr::to_string);
        let hosts: Vec<_> = if self.config.get_hosts().is_empty() {
            addresses.collect()
        } else {
            named.map(Cow::into_owned).collect()
        };
        let hosts: Vec<_> = hosts
            .iter()
            .enumerate()
            .map(|(i, host)| {
                let port = ports.get(i).or(ports.first()).copied().unwrap_or(PORT);
                format!("{host}:{port}")
            })
            .collect();
        let database = self.config.get_dbname().or(self.config.get_user());
        format!(
            "postgresql://{}/{}",
            hosts.join(","),
            database.unwrap_or_default()
        )
    }

    /// Connections, none of them made yet.
    pub(super) fn pool(self, options: &Options) -> Result<Pool, SetupError> {
        let tls = MakeRustlsConnect::new(tls(options.authorities.as_deref())?);
        let recycling = ManagerConfig {
            // Whether a connection was closed is known without asking; one that hangs is thrown away by
            // `Session::settle`.
            recycling_method: RecyclingMethod::Fast,
        };
        Pool::builder(Manager::from_config(self.config, tls, recycling))
            .max_size(options.connections.max(1))
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(CREATE))
            .recycle_timeout(Some(CREATE))
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move { client.batch_execute(SETTINGS).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(SetupError::Pool)
    }
}

/// The URL without its `sslmode`, of which the driver does not know every word, and what that says.
fn without_sslmode(url: &str) -> Result<(String, Wish), UrlError> {
    let Some((base, query)) = url.rsplit_once('?') else {
        return Ok((url.to_owned(), Wish::Prefer));
    };
    let mut wish = Wish::Prefer;
    let mut others = Vec::new();
    for pair in query.split('&') {
        match pair.strip_prefix("sslmode=") {
            Some(word) => wish = word.parse()?,
            None => others.push(pair),
        }
    }
    Ok((format!("{base}?{}", others.join("&")), wish))
}

/// Whether no host is on another machine.
fn stays_here(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) if name == "localhost" => true,
        Host::Tcp(name) => name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        Host::Unix(_) => true,
    })
}

/// Gives up where a URL does not say when.
fn limit(config: &mut Config) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE);
    }
    config.keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE);
    if config.get_application_name().is_none() {
        config.application_name("countersign");
    }
    // Of several hosts it is the one that can be written to; a standby is of no use to us.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
}

fn tls(authorities: Option<&Path>) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(default_provider());
    let extra = authorities.map(certificates).transpose()?.unwrap_or_default();
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).map_err(SetupError::Tls)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // Keeps a connection meant for another protocol from being led here; servers since 17 ask for it.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let found = fs::read(path)
        .map_err(pem::Error::Io)
        .and_then(|text| CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>())
        .map_err(|source| SetupError::Authorities {
            path: path.into(),
            source,
        })?;
    if found.is_empty() {
        Err(SetupError::NoAuthority { path: path.into() })
    } else {
        Ok(found)
    }
}

/// PostgreSQL's own.
const PORT: u16 = 5432;
