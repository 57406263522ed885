//! From PEM to a TLS server that speaks only what TLS-21 permits.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite as suites, default_provider};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};
use x509_cert::der::Decode as _;
use zeroize::Zeroizing;

use super::clients::Named;
use super::config::{Tls, Version};
use super::ready::Life;

/// A key pair could not be put to use. The one before stays in service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is not there or not ours to read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate file is not a chain in PEM.
    #[error("the certificate is not in PEM")]
    Chain(#[source] pem::Error),
    /// There is no certificate in the file.
    #[error("the certificate file holds no certificate")]
    Empty,
    /// The certificate is no certificate inside.
    #[error("the certificate cannot be read")]
    Certificate(#[source] x509_cert::der::Error),
    /// The key file is not a private key in PEM.
    #[error("the private key is not in PEM")]
    Key(#[source] pem::Error),
    /// The key is of no kind that TLS can use, or belongs to another certificate.
    #[error("the private key does not fit the certificate")]
    Mismatch(#[source] rustls::Error),
    /// The certificate is not good now.
    #[error("the certificate is good from {} until {} only", life.not_before, life.not_after)]
    Expired {
        /// When it is.
        life: Life,
    },
    /// A cipher suite is unknown or not permitted.
    #[error("{name} is no cipher suite of TLS 1.2 or 1.3 with forward secrecy and authenticated encryption")]
    Suite {
        /// As configured.
        name: String,
    },
    /// A name that no client could ask for, or none at all.
    #[error("{name:?} is neither a host name nor an address to make a certificate for")]
    Name {
        /// As configured.
        name: String,
    },
    /// Versions and suites leave nothing to speak.
    #[error("no cipher suite is left for the TLS versions to speak")]
    Nothing(#[source] rustls::Error),
    /// The authorities of clients cannot be used.
    #[error("the client authorities cannot be used")]
    Clients(#[source] rustls::Error),
    /// The authorities of clients are not a list of them.
    #[error("the client authorities are not verifiable certificates in PEM")]
    ClientVerifier(#[source] rustls::server::VerifierBuilderError),
}

/// What was read, not yet believed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    pub(super) chain: Vec<u8>,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) clients: Option<Vec<u8>>,
}

/// A server that can be put to use.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    pub(super) life: Life,
    /// The end of the authority's life, if its certificate came along.
    pub(super) authority: Option<Timestamp>,
}

/// What is spoken, fixed when the program starts.
#[derive(Debug)]
pub(super) struct Dialect {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    names: Vec<String>,
    /// Whether clients need no certificate where authorities for them are known.
    optional: bool,
}

impl Dialect {
    /// Reads the settings that do not change.
    ///
    /// # Errors
    ///
    /// [`TlsError::Suite`] for a suite that TLS-21 does not permit.
    pub(super) fn new(settings: &Tls) -> Result<Self, TlsError> {
        Ok(Self {
            provider: Arc::new(CryptoProvider {
                cipher_suites: chosen(&settings.suites)?,
                ..default_provider()
            }),
            versions: match settings.minimum {
                Version::Tls12 => vec![&version::TLS13, &version::TLS12],
                Version::Tls13 => vec![&version::TLS13],
            },
            names: settings
                .clients
                .as_ref()
                .map(|clients| clients.names.clone())
                .unwrap_or_default(),
            optional: settings.clients.as_ref().is_some_and(|clients| clients.optional),
        })
    }

    /// Makes a server of `material`: the pair belongs together and is good at `now` (TLS-20).
    pub(super) fn load(&self, material: &Material, now: Timestamp) -> Result<Loaded, TlsError> {
        let chain = certificates(&material.chain).map_err(TlsError::Chain)?;
        let (leaf, rest) = chain.split_first().ok_or(TlsError::Empty)?;
        let life = life(leaf)?;
        if !life.contains(now) {
            return Err(TlsError::Expired { life });
        }
        let authority = rest
            .last()
            .map(self::life)
            .transpose()?
            .map(|life| life.not_after);
        let config = self.config(chain, &material.key, material.clients.as_deref())?;
        Ok(Loaded {
            config: Arc::new(config),
            life,
            authority,
        })
    }

    fn config(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: &[u8],
        clients: Option<&[u8]>,
    ) -> Result<ServerConfig, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &self.provider)
            .and_then(|pair| pair.keys_match())
            .map_err(TlsError::Mismatch)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&self.versions)
            .map_err(TlsError::Nothing)?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authorities) => builder.with_client_cert_verifier(Arc::new(self.verifier(authorities)?)),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Mismatch)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if clients.is_some() {
            // A resumed session would skip the verification of the client's certificate (TLS-21).
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }

    fn verifier(&self, authorities: &[u8]) -> Result<Named, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(authorities).map_err(TlsError::Chain)? {
            roots.add(certificate).map_err(TlsError::Clients)?;
        }
        let any = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider));
        let any = if self.optional {
            any.allow_unauthenticated()
        } else {
            any
        };
        let any = any.build().map_err(TlsError::ClientVerifier)?;
        Ok(Named::new(any, self.names.clone()))
    }
}

/// Makes sure that clients can ask for each of `names`.
pub(super) fn presentable(names: &[String]) -> Result<(), TlsError> {
    let bad = |name: &&String| ServerName::try_from(name.as_str()).is_err();
    let none = String::new();
    let wrong = names.iter().find(bad).or(names.is_empty().then_some(&none));
    wrong.map_or(Ok(()), |name| Err(TlsError::Name { name: name.clone() }))
}

/// All certificates of a PEM text, in its order.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(text).collect()
}

/// When a certificate is good.
pub(super) fn life(certificate: &CertificateDer<'_>) -> Result<Life, TlsError> {
    let certificate = x509_cert::Certificate::from_der(certificate).map_err(TlsError::Certificate)?;
    let validity = certificate.tbs_certificate().validity();
    Ok(Life {
        not_before: instant(validity.not_before),
        not_after: instant(validity.not_after),
    })
}

/// Dates of certificates end in the year 9999, those of [`Timestamp`] a moment earlier or later; the difference is
/// none.
fn instant(time: x509_cert::time::Time) -> Timestamp {
    i64::try_from(time.to_unix_duration().as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

fn chosen(names: &[String]) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    if names.is_empty() {
        return Ok(PERMITTED.to_vec());
    }
    if let Some(name) = names
        .iter()
        .find(|name| PERMITTED.iter().all(|suite| iana_name(suite) != **name))
    {
        return Err(TlsError::Suite { name: name.clone() });
    }
    let wanted = |suite: &&SupportedCipherSuite| names.contains(&iana_name(suite));
    Ok(PERMITTED.iter().filter(wanted).copied().collect())
}

/// `TLS_AES_128_GCM_SHA256`; the library writes its own `TLS13_` in front of those of 1.3.
fn iana_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

/// TLS 1.3, and of 1.2 what has forward secrecy and authenticated encryption, in the order of preference.
static PERMITTED: &[SupportedCipherSuite] = &[
    suites::TLS13_AES_256_GCM_SHA384,
    suites::TLS13_AES_128_GCM_SHA256,
    suites::TLS13_CHACHA20_POLY1305_SHA256,
    suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::config::Certificate;

    fn settings(suites: &[&str], minimum: Version) -> Tls {
        Tls {
            suites: suites.iter().map(|&name| name.to_owned()).collect(),
            minimum,
            ..Tls::new(Certificate::self_signed(PathBuf::new()))
        }
    }

    #[test]
    fn every_suite_has_forward_secrecy_and_authenticated_encryption() {
        let dialect = Dialect::new(&settings(&[], Version::Tls12)).unwrap();
        assert_eq!(dialect.provider.cipher_suites.len(), 9);
        for suite in &dialect.provider.cipher_suites {
            let name = iana_name(suite);
            assert!(
                name.contains("GCM") || name.contains("CHACHA20_POLY1305"),
                "{name}"
            );
            assert!(name.contains("_ECDHE_") || !name.contains("_WITH_"), "{name}");
        }
    }

    #[test]
    fn names_are_those_a_client_can_ask_for() {
        for (names, fine) in [
            (
                &["localhost", "webhook.countersign.svc", "127.0.0.1", "::1"][..],
                true,
            ),
            (&["localhost", "not a name"], false),
            (&["localhost", ""], false),
            (&["bücher.example"], false),
            (&[], false),
        ] {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(presentable(&names).is_ok(), fine, "{names:?}");
        }
    }

    #[test]
    fn suites_are_chosen_by_their_registered_names() {
        for (names, want) in [
            (&["TLS_AES_128_GCM_SHA256"][..], Some(1)),
            (
                &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"],
                Some(2),
            ),
            (&["TLS_RSA_WITH_AES_128_GCM_SHA256"], None),
            (&["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"], None),
            (&["TLS_AES_128_GCM_SHA256", "AES128-SHA"], None),
        ] {
            let got = Dialect::new(&settings(names, Version::Tls12)).ok();
            assert_eq!(
                got.map(|dialect| dialect.provider.cipher_suites.len()),
                want,
                "{names:?}"
            );
        }
    }
}
