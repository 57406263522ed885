//! Certificates, clients and leaving: what all servers are told alike.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration;
use crate::serve::{Certificate, Config, Version};

/// How connections are secured, and how the server leaves.
#[derive(Args, Debug)]
pub(super) struct TlsFlags {
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
        conflicts_with = "self_signed_dir",
        env = "COUNTERSIGN_TLS_CERT"
    )]
    tls_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "COUNTERSIGN_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Folder for an authority and certificates of our own, renewed in time; ca.crt in it is what clients trust
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_SELF_SIGNED_DIR")]
    self_signed_dir: Option<PathBuf>,
    /// Name or address in those certificates; may be repeated
    #[arg(long, value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"], value_delimiter = ',', env = "COUNTERSIGN_SELF_SIGNED_NAME")]
    pub(super) self_signed_name: Vec<String>,
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

impl TlsFlags {
    /// The certificate in files or in a folder of our own, if one is named.
    pub(super) fn certificate(&self) -> Option<Certificate> {
        match (&self.tls_cert, &self.tls_key, &self.self_signed_dir) {
            (Some(certificate), Some(key), _) => Some(Certificate::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            (_, _, Some(directory)) => Some(Certificate::SelfSigned {
                directory: directory.clone(),
                names: self.self_signed_name.clone(),
            }),
            _ => None,
        }
    }

    /// All but the certificate.
    pub(super) fn apply(&self, config: &mut Config) {
        config.admin = Some(self.admin_listen);
        config.tls.minimum = self.tls_min_version;
        config.tls.suites.clone_from(&self.tls_cipher_suites);
        config.drain.delay = self.drain_delay;
    }
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "1.2" => Ok(Version::Tls12),
        "1.3" => Ok(Version::Tls13),
        _ => Err("1.2 or 1.3 is expected".to_owned()),
    }
}
