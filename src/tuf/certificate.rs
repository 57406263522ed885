//! Certificates around root keys: names, dates, and the checks of notary-v1 §3.11.

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use spki::ObjectIdentifier;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate as X509;
use x509_cert::der::asn1::Uint;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::BasicConstraints;

use super::pem;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// Signature algorithms whose hash is broken: a forger could make a second certificate for the same signature.
/// MD5 is on the list too; the reference forgets it (§3.11).
const BROKEN: [ObjectIdentifier; 5] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"), // md5WithRSAEncryption
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"), // sha1WithRSAEncryption
    ObjectIdentifier::new_unwrap("1.3.14.3.2.29"),        // sha1WithRSA, the older name
    ObjectIdentifier::new_unwrap("1.2.840.10040.4.3"),    // dsa-with-sha1
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"),    // ecdsa-with-SHA1
];
/// How far `notBefore` may lie in the future: clocks differ (§3.11).
const LEEWAY: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
/// `codeSigning`, `serverAuth`, `anyExtendedKeyUsage` as encoded OIDs: what a root certificate under a pinned CA may
/// be for, if it says so at all (§4.2). Notary's own certificates carry the first only.
const USAGES: [KeyUsage; 3] = [
    KeyUsage::required_if_present(&[0x2b, 6, 1, 5, 5, 7, 3, 3]),
    KeyUsage::required_if_present(&[0x2b, 6, 1, 5, 5, 7, 3, 1]),
    KeyUsage::required_if_present(&[0x55, 0x1d, 0x25, 0]),
];

/// The certificates of one root key: the leaf, whose key it is, and the authorities above it (§4.4 step 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    leaf: Certificate,
    intermediates: Vec<Certificate>,
}

impl Bundle {
    /// Reads PEM text of `CERTIFICATE` blocks only, of which the first is the leaf.
    pub(super) fn parse(text: &[u8]) -> Result<Self, CertificateError> {
        let text = std::str::from_utf8(text).map_err(|_| CertificateError::Malformed)?;
        let mut certificates = parse_all(text)?.into_iter();
        let leaf = certificates.next().ok_or(CertificateError::Malformed)?;
        Ok(Self {
            leaf,
            intermediates: certificates.collect(),
        })
    }

    /// Whether the leaf is no authority and all others are. The reference asks that of root keys; the certificate of
    /// a delegation's key may be one that OpenSSL makes without being told otherwise, an authority (§4.4 step 2).
    pub(super) fn is_one_leaf_with_authorities(&self) -> bool {
        !self.leaf.authority && self.intermediates.iter().all(|certificate| certificate.authority)
    }

    /// The certificate whose key signs.
    pub const fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// Whether a chain leads from the leaf through the bundle's own intermediates to one of `authorities` at `now`.
    pub(super) fn issued_by(&self, authorities: &[Certificate], now: Timestamp) -> bool {
        let anchors: Vec<TrustAnchor<'_>> = authorities
            .iter()
            .filter_map(|ca| anchor_from_trusted_cert(&ca.der).ok())
            .collect();
        let intermediates: Vec<_> = self
            .intermediates
            .iter()
            .filter(|certificate| certificate.defect(Some(now)).is_none())
            .map(|certificate| certificate.der.clone())
            .collect();
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            u64::try_from(now.as_second()).unwrap_or_default(),
        ));
        EndEntityCert::try_from(&self.leaf.der).is_ok_and(|leaf| {
            USAGES.into_iter().any(|usage| {
                leaf.verify_for_usage(
                    ALL_VERIFICATION_ALGS,
                    &anchors,
                    &intermediates,
                    time,
                    usage,
                    None,
                    None,
                )
                .is_ok()
            })
        })
    }
}

/// One certificate, as far as trust decisions need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    common_name: Option<String>,
    not_before: Timestamp,
    not_after: Timestamp,
    spki: Vec<u8>,
    authority: bool,
    broken_hash: bool,
    /// Bits of an RSA modulus.
    rsa_bits: Option<usize>,
}

impl Certificate {
    fn parse(der: Vec<u8>) -> Option<Self> {
        let certificate = X509::from_der(&der).ok()?;
        let body = certificate.tbs_certificate();
        let constraints = body.get_extension::<BasicConstraints>().ok()?;
        let seconds = |time: x509_cert::time::Time| {
            Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok()
        };
        Some(Self {
            common_name: common_name(body.subject()),
            not_before: seconds(body.validity().not_before)?,
            not_after: seconds(body.validity().not_after)?,
            spki: body.subject_public_key_info().to_der().ok()?,
            authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
            broken_hash: BROKEN.contains(&certificate.signature_algorithm().oid)
                || BROKEN.contains(&body.signature().oid),
            rsa_bits: rsa_bits(body.subject_public_key_info()),
            der: der.into(),
        })
    }

    /// The subject's common name, if it has exactly one.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Last instant of validity.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// DER `SubjectPublicKeyInfo`.
    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// What is wrong with the certificate; with `now`, its dates are looked at too (§3.11).
    pub(super) fn defect(&self, now: Option<Timestamp>) -> Option<Defect> {
        if self.not_before > self.not_after
            || self.broken_hash
            || self.rsa_bits.is_some_and(|bits| bits < 2048)
        {
            return Some(Defect::Weak);
        }
        let now = now?;
        let early = now
            .checked_add(LEEWAY)
            .is_ok_and(|latest| self.not_before > latest);
        if self.not_after < now || early {
            Some(Defect::Dates)
        } else {
            None
        }
    }
}

/// What disqualifies a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    /// SHA-1 or MD5, short RSA, or dates in the wrong order: never acceptable.
    Weak,
    /// Expired, or not yet valid.
    Dates,
}

/// Every certificate of a PEM text, which may hold nothing else.
pub(super) fn parse_all(text: &str) -> Result<Vec<Certificate>, CertificateError> {
    let blocks = pem::blocks(text).map_err(|_| CertificateError::Malformed)?;
    if blocks.is_empty() || blocks.iter().any(|block| block.label != "CERTIFICATE") {
        return Err(CertificateError::Malformed);
    }
    let parsed: Option<Vec<_>> = blocks
        .into_iter()
        .map(|block| Certificate::parse(block.der.to_vec()))
        .collect();
    parsed.ok_or(CertificateError::Malformed)
}

fn common_name(subject: &x509_cert::name::Name) -> Option<String> {
    let mut names = subject.iter().filter(|attribute| attribute.oid == COMMON_NAME);
    let name = names.next()?;
    let alone = names.next().is_none();
    std::str::from_utf8(name.value.value())
        .ok()
        .filter(|_| alone)
        .map(str::to_owned)
}

/// Bits of the modulus, if the key is RSA (PKCS#1 `RSAPublicKey`).
fn rsa_bits(spki: &spki::SubjectPublicKeyInfoOwned) -> Option<usize> {
    if spki.algorithm.oid != RSA_ENCRYPTION {
        return None;
    }
    let parts = Vec::<Uint>::from_der(spki.subject_public_key.as_bytes()?).ok()?;
    let modulus = parts.first()?.as_bytes();
    let unused = modulus.first()?.leading_zeros();
    Some(modulus.len() * 8 - usize::try_from(unused).ok()?)
}

/// The text is not PEM certificates, or not in the order a root key needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The only kind.
    #[error("not PEM certificates with one leaf first and authorities after it")]
    Malformed,
}

/// A certificate as it is written in files.
pub fn certificate_pem(der: &[u8]) -> String {
    pem::encode("CERTIFICATE", &[], der).as_str().to_owned()
}
