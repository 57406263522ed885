//! Sockets and certificates: the flags of `webhook` that are about serving.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::duration;
use super::tls_flags::TlsFlags;
use crate::cluster::CertificateStore;
use crate::serve::{Certificate, Clients, Config, Lifetimes};

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
    #[command(flatten)]
    tls: TlsFlags,
    /// Secret of the release namespace for an authority of our own, shared by all replicas, each with a certificate in
    /// memory; caBundle is kept right
    #[arg(
        long,
        value_name = "NAME",
        requires_all = ["kube", "webhook_configuration"],
        conflicts_with_all = ["tls_cert", "self_signed_dir"],
        env = "COUNTERSIGN_SELF_SIGNED_SECRET"
    )]
    self_signed_secret: Option<String>,
    /// How long that authority is good, 10s at least
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = lifetime, requires = "self_signed_secret", env = "COUNTERSIGN_CA_LIFETIME")]
    ca_lifetime: Duration,
    /// How long a certificate of that authority is good
    #[arg(long, value_name = "DURATION", default_value = "168h", value_parser = lifetime, requires = "self_signed_secret", env = "COUNTERSIGN_LEAF_LIFETIME")]
    leaf_lifetime: Duration,
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
}

impl ServingFlags {
    /// The Secret of certificates of our own, if they are in the cluster.
    pub(super) fn secret(&self) -> Option<&str> {
        self.self_signed_secret.as_deref()
    }

    /// What the server is told; `store` is where [`Self::secret`] is.
    pub(super) fn config(&self, store: Option<CertificateStore>) -> anyhow::Result<Config> {
        let certificate = match store {
            Some(store) => Some(Certificate::Cluster {
                store: Box::new(store),
                names: self.tls.self_signed_name.clone(),
                lifetimes: Lifetimes {
                    authority: self.ca_lifetime,
                    leaf: self.leaf_lifetime,
                },
            }),
            None => self.tls.certificate(),
        };
        let certificate = certificate.context(
            "no certificate to serve with: give --tls-cert and --tls-key, --self-signed-dir, or --self-signed-secret",
        )?;
        let mut config = Config::new(certificate);
        config.listen = self.listen;
        self.tls.apply(&mut config);
        config.tls.clients = self.client_ca.clone().map(|ca| Clients {
            ca,
            names: self.client_name.clone(),
            optional: false,
        });
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
