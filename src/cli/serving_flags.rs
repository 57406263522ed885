//! Sockets and certificates: the flags of `webhook` that are about serving.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use super::duration;
use crate::cluster::CertificateStore;
use crate::serve::{Certificate, Clients, Config, Lifetimes, Version};

/// Where to listen, and with which certificate.
#[derive(Args, Debug)]
#[command(next_help_heading = "Serving")]
pub(super) struct ServingFlags {
    /// Address and port the API server calls
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0:8443",
        env = "COUNTERSIGN_LISTEN"
    )]
    listen: SocketAddr,
    /// Address and port of /livez, /readyz and /metrics, plain HTTP
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0:8080",
        env = "COUNTERSIGN_ADMIN_LISTEN"
    )]
    admin_listen: SocketAddr,
    /// PEM certificate chain, read again when it changes
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        conflicts_with_all = ["self_signed_dir", "self_signed_secret"],
        env = "COUNTERSIGN_TLS_CERT"
    )]
    tls_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "COUNTERSIGN_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Folder for an authority and certificates of our own, renewed in time; ca.crt in it is the caBundle
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "self_signed_secret",
        env = "COUNTERSIGN_SELF_SIGNED_DIR"
    )]
    self_signed_dir: Option<PathBuf>,
    /// Secret of the release namespace for an authority of our own, shared by all replicas, each with a certificate in
    /// memory; caBundle is kept right
    #[arg(
        long,
        value_name = "NAME",
        requires_all = ["kube", "webhook_configuration"],
        env = "COUNTERSIGN_SELF_SIGNED_SECRET"
    )]
    self_signed_secret: Option<String>,
    /// How long that authority is good, 10s at least
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = lifetime, requires = "self_signed_secret", env = "COUNTERSIGN_CA_LIFETIME")]
    ca_lifetime: Duration,
    /// How long a certificate of that authority is good
    #[arg(long, value_name = "DURATION", default_value = "168h", value_parser = lifetime, requires = "self_signed_secret", env = "COUNTERSIGN_LEAF_LIFETIME")]
    leaf_lifetime: Duration,
    /// Name or address in those certificates; may be repeated
    #[arg(long, value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"], value_delimiter = ',', env = "COUNTERSIGN_SELF_SIGNED_NAME")]
    self_signed_name: Vec<String>,
    /// PEM certificates of authorities that clients must have a certificate of
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_CLIENT_CA")]
    client_ca: Option<PathBuf>,
    /// Name that a client's certificate must have; may be repeated, any of them will do
    #[arg(
        long,
        value_name = "NAME",
        requires = "client_ca",
        value_delimiter = ',',
        env = "COUNTERSIGN_CLIENT_NAME"
    )]
    client_name: Vec<String>,
    /// Oldest TLS version spoken: 1.2 or 1.3
    #[arg(long, value_name = "VERSION", default_value = "1.2", value_parser = version, env = "COUNTERSIGN_TLS_MIN_VERSION")]
    tls_min_version: Version,
    /// Cipher suites to offer, by IANA name [default: all with forward secrecy and authenticated encryption]
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        env = "COUNTERSIGN_TLS_CIPHER_SUITES"
    )]
    tls_cipher_suites: Vec<String>,
    /// How long to go on serving after SIGTERM, unready, until callers have moved elsewhere
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse, env = "COUNTERSIGN_DRAIN_DELAY")]
    drain_delay: Duration,
}

impl ServingFlags {
    /// The Secret of certificates of our own, if they are in the cluster.
    pub(super) fn secret(&self) -> Option<&str> {
        self.self_signed_secret.as_deref()
    }

    /// What the server is told; `store` is where [`Self::secret`] is.
    pub(super) fn config(&self, store: Option<CertificateStore>) -> anyhow::Result<Config> {
        let names = || self.self_signed_name.clone();
        let certificate = match (store, &self.tls_cert, &self.tls_key, &self.self_signed_dir) {
            (Some(store), None, None, None) => Certificate::Cluster {
                store: Box::new(store),
                names: names(),
                lifetimes: Lifetimes {
                    authority: self.ca_lifetime,
                    leaf: self.leaf_lifetime,
                },
            },
            (None, Some(certificate), Some(key), None) => Certificate::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            (None, None, None, Some(directory)) => Certificate::SelfSigned {
                directory: directory.clone(),
                names: names(),
            },
            _ => bail!(
                "no certificate to serve with: give --tls-cert and --tls-key, --self-signed-dir, or --self-signed-secret"
            ),
        };
        let mut config = Config::new(certificate);
        config.listen = self.listen;
        config.admin = Some(self.admin_listen);
        config.tls.minimum = self.tls_min_version;
        config.tls.suites.clone_from(&self.tls_cipher_suites);
        config.tls.clients = self.client_ca.clone().map(|ca| Clients {
            ca,
            names: self.client_name.clone(),
            optional: false,
        });
        config.drain.delay = self.drain_delay;
        Ok(config)
    }
}

/// A life that leaves time for what has to happen in it.
fn lifetime(text: &str) -> Result<Duration, String> {
    let life = duration::parse(text)?;
    if life < SHORTEST {
        return Err("at least 10s is expected".to_owned());
    }
    Ok(life)
}

/// A twelfth of it is several turns of reading and writing.
const SHORTEST: Duration = Duration::from_secs(10);

fn version(text: &str) -> Result<Version, String> {
    match text {
        "1.2" => Ok(Version::Tls12),
        "1.3" => Ok(Version::Tls13),
        _ => Err("1.2 or 1.3 is expected".to_owned()),
    }
}
