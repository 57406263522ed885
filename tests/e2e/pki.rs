//! One certificate authority for every server of the tests.

use std::path::PathBuf;
use std::sync::LazyLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::process;

/// A certificate and its key, as files.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The certificate as DER.
    pub(crate) der: Vec<u8>,
    /// The key as PKCS #8.
    pub(crate) pkcs8: Vec<u8>,
}

static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "e2e");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
});

/// The authority's certificate.
pub(crate) fn authority_pem() -> String {
    AUTHORITY.pem()
}

/// The authority's certificate as a file.
pub(crate) fn authority() -> PathBuf {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| process::write("ca.pem", authority_pem()));
    FILE.clone()
}

/// A Service, and its namespace, for whose name the servers' certificate is valid too.
pub(crate) const SERVICE: &str = "replicas";

/// The identity of every server on loopback; also a client's towards the signer.
pub(crate) fn loopback() -> &'static Identity {
    static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
        let service = format!("{SERVICE}.{SERVICE}.svc");
        issue("loopback", &["localhost", "127.0.0.1", &service])
    });
    &IDENTITY
}

/// A certificate for `names`, which are DNS names or addresses.
pub(crate) fn issue(file: &str, names: &[&str]) -> Identity {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, file);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &*AUTHORITY).unwrap();
    Identity {
        certificate: process::write(&format!("{file}.pem"), certificate.pem()),
        key: process::write(&format!("{file}.key"), key.serialize_pem()),
        der: certificate.der().to_vec(),
        pkcs8: key.serialize_der(),
    }
}
