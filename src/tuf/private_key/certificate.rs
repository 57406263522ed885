//! The certificate that a root key is wrapped in, one for each GUN (notary-v1 §3.11).

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use jiff::Timestamp;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA256, PKCS_RSA_SHA256,
    PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey, date_time_ymd,
};

use super::super::asn1;
use super::super::certificate::certificate_pem;
use super::super::key::PublicKey;
use super::{Curve, Pair, PrivateKey, PrivateKeyError};
use crate::reference::Gun;

/// How long a root certificate is good: ten years of 365 days, as the reference makes them.
const LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Bytes of a serial number; the reference draws it below 2^128.
const SERIAL: usize = 16;
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
/// An empty sequence: no authority.
const NO_AUTHORITY: [u8; 2] = [0x30, 0];

impl PrivateKey {
    /// This key in a new certificate made out to `gun` and valid from `now` for ten years: what a root role lists.
    /// Called again later it re-issues, under another key id (§3.6).
    ///
    /// # Errors
    ///
    /// [`PrivateKeyError::Unsupported`] for Ed25519, whose certificates the reference cannot use;
    /// [`PrivateKeyError::Refused`] if the library fails.
    pub fn root_certificate(&self, gun: &Gun, now: Timestamp) -> Result<PublicKey, PrivateKeyError> {
        let signer = Signer::of(self)?;
        let parameters = parameters(gun, now).ok_or(PrivateKeyError::Refused)?;
        let certificate = parameters
            .self_signed(&signer)
            .map_err(|_| PrivateKeyError::Refused)?;
        let pem = certificate_pem(certificate.der());
        Ok(PublicKey::new(signer.keytype, pem.into_bytes()))
    }
}

fn parameters(gun: &Gun, now: Timestamp) -> Option<CertificateParams> {
    let mut serial = [0; SERIAL];
    SystemRandom::new().fill(&mut serial).ok()?;
    // Positive and of full length, so that it has one encoding.
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    // No limit of 64 characters is kept: the name is the GUN, however long (§3.11).
    parameters
        .distinguished_name
        .push(DnType::CommonName, DnValue::Utf8String(gun.to_string()));
    parameters.serial_number = Some(SerialNumber::from_slice(&serial));
    let epoch = date_time_ymd(1970, 1, 1);
    let since = Duration::from_secs(u64::try_from(now.as_second()).ok()?);
    parameters.not_before = epoch + since;
    parameters.not_after = epoch + since + LIFE;
    parameters.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    // Written by hand: rcgen's own comes with a subject key identifier, which the reference has not.
    let mut constraints = CustomExtension::from_oid_content(BASIC_CONSTRAINTS, NO_AUTHORITY.to_vec());
    constraints.set_criticality(true);
    parameters.custom_extensions = vec![constraints];
    Some(parameters)
}

/// The key as rcgen wants to see it.
struct Signer<'a> {
    key: &'a PrivateKey,
    keytype: &'static str,
    algorithm: &'static SignatureAlgorithm,
}

impl<'a> Signer<'a> {
    fn of(key: &'a PrivateKey) -> Result<Self, PrivateKeyError> {
        let (keytype, algorithm) = match &key.pair {
            Pair::Ecdsa(Curve::P256, _) => ("ecdsa-x509", &PKCS_ECDSA_P256_SHA256),
            Pair::Ecdsa(Curve::P384, _) => ("ecdsa-x509", &PKCS_ECDSA_P384_SHA384),
            Pair::Ecdsa(Curve::P521, _) => ("ecdsa-x509", &PKCS_ECDSA_P521_SHA256),
            Pair::Rsa(_) => ("rsa-x509", &PKCS_RSA_SHA256),
            Pair::Ed25519(_) => return Err(PrivateKeyError::Unsupported),
        };
        Ok(Self {
            key,
            keytype,
            algorithm,
        })
    }

    /// The signature that a certificate has: of ECDSA as DER, of RSA by PKCS #1.
    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, PrivateKeyError> {
        let random = SystemRandom::new();
        match &self.key.pair {
            Pair::Ecdsa(_, pair) => Ok(asn1::signature(pair.sign(&random, message)?.as_ref())),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
            Pair::Ed25519(_) => Err(PrivateKeyError::Unsupported),
        }
    }
}

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        match &self.key.pair {
            Pair::Ecdsa(_, pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signature(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
