//! Which clients may connect, where the cluster's operator gave the API server a certificate (ADM-08).

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Verifies the chain as usual, then that the certificate bears one of the names.
#[derive(Debug)]
pub(super) struct Named {
    chain: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl Named {
    /// Permits what `chain` does, with one of `names`, or with any name if there are none.
    pub(super) const fn new(chain: Arc<dyn ClientCertVerifier>, names: Vec<String>) -> Self {
        Self { chain, names }
    }

    fn permits(&self, certificate: &CertificateDer<'_>) -> bool {
        self.names.is_empty()
            || Certificate::from_der(certificate)
                .is_ok_and(|certificate| borne(&certificate).iter().any(|name| self.names.contains(name)))
    }
}

impl ClientCertVerifier for Named {
    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        if self.permits(end_entity) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The names in the certificate that a client presented and that was verified; none if it presented none.
pub(super) fn presented(certificates: Option<&[CertificateDer<'_>]>) -> Vec<String> {
    let leaf = certificates.and_then(<[_]>::first);
    leaf.and_then(|leaf| Certificate::from_der(leaf).ok())
        .map(|leaf| borne(&leaf))
        .unwrap_or_default()
}

/// The names in a certificate: its common name, and alternative names that are text.
fn borne(certificate: &Certificate) -> Vec<String> {
    let certificate = certificate.tbs_certificate();
    let mut names = Vec::new();
    if let Ok(Some(name)) = certificate.subject().common_name() {
        names.push(name.value().into_owned());
    }
    if let Ok(Some((_, SubjectAltName(alternatives)))) = certificate.get_extension() {
        names.extend(alternatives.iter().filter_map(text));
    }
    names
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other kinds of names are not text, and unknown kinds are no match"
)]
fn text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name)
        | GeneralName::Rfc822Name(name)
        | GeneralName::UniformResourceIdentifier(name) => Some(name.as_str().to_owned()),
        _ => None,
    }
}
