//! A certificate authority of our own, and what it signs (TLS-01).

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use zeroize::Zeroizing;

use super::ready::Life;
use super::tls::{self, TlsError};
use crate::tuf::certificate_pem;

/// A certificate that signs, and its key if we have it: old authorities stay known after they stopped signing.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) life: Life,
    key: Option<Zeroizing<KeyPair>>,
}

/// A pair as it is written.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: Zeroizing<String>,
}

impl Authority {
    /// Makes one that is good for `life` from `now`.
    pub(super) fn found(life: Duration, now: Timestamp) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = authority_params(life, now);
        let certificate = params.self_signed(&key)?.der().clone();
        // As it is in the certificate: to the second.
        let second = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap_or(at);
        Ok(Self {
            life: Life {
                not_before: second(minus(now, BACKDATED)),
                not_after: second(plus(now, life)),
            },
            certificate,
            key: Some(Zeroizing::new(key)),
        })
    }

    /// Takes up `certificate` again, with whichever of `keys` belongs to it.
    pub(super) fn resume(
        certificate: CertificateDer<'static>,
        keys: &mut Vec<Zeroizing<KeyPair>>,
    ) -> Result<Self, TlsError> {
        let parsed = Certificate::from_der(&certificate).map_err(TlsError::Certificate)?;
        let public = parsed
            .tbs_certificate()
            .subject_public_key_info()
            .to_der()
            .map_err(TlsError::Certificate)?;
        let at = keys
            .iter()
            .position(|key| key.subject_public_key_info() == public);
        Ok(Self {
            life: tls::life(&certificate)?,
            key: at.map(|at| keys.swap_remove(at)),
            certificate,
        })
    }

    /// Whether it can sign at `now`.
    pub(super) fn signs(&self, now: Timestamp) -> bool {
        self.key.is_some() && self.life.contains(now)
    }

    /// Whether it could sign by a clock that differs from its maker's as much as clocks do: of several replicas one
    /// whose clock is behind must not think that what another made is broken.
    pub(super) fn usable(&self, now: Timestamp) -> bool {
        self.key.is_some() && !self.expired(now) && self.life.not_before <= plus(now, CLOCKS_DIFFER)
    }

    pub(super) fn expired(&self, now: Timestamp) -> bool {
        self.life.not_after < now
    }

    /// Whether the certificate says that it is an authority of our own making.
    pub(super) fn ours(&self) -> bool {
        let own = format!("CN={AUTHORITY_NAME}");
        Certificate::from_der(&self.certificate).is_ok_and(|certificate| {
            let certificate = certificate.tbs_certificate();
            certificate.subject().to_string() == own && certificate.issuer().to_string() == own
        })
    }

    /// Its certificate as it is written.
    pub(super) fn pem(&self) -> String {
        certificate_pem(&self.certificate)
    }

    /// Its key as it is written, if there is one.
    pub(super) fn key_pem(&self) -> Option<Zeroizing<String>> {
        self.key.as_ref().map(|key| Zeroizing::new(key.serialize_pem()))
    }
}

/// An authority that can sign.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signer<'a> {
    life: Life,
    key: &'a KeyPair,
}

impl<'a> Signer<'a> {
    /// One that is certain.
    pub(super) fn of(authority: &'a Authority) -> Option<Self> {
        Some(Self {
            life: authority.life,
            key: authority.key.as_deref()?,
        })
    }

    /// Who signs a leaf made now: the newest authority that has been in `ca.crt` long enough for clients to have read
    /// it; else the oldest, which clients have known longest.
    pub(super) fn choose(authorities: &'a [Authority], now: Timestamp) -> Option<Self> {
        let mut able: Vec<_> = authorities
            .iter()
            .filter(|authority| authority.signs(now))
            .collect();
        able.sort_by_key(|authority| Reverse(authority.life.not_before));
        let known = |authority: &&&Authority| plus(authority.life.not_before, ANNOUNCED) <= now;
        Self::of(able.iter().find(known).or(able.last())?)
    }

    /// Signs a fresh key for `names`, good for `life` or the rest of the authority's own.
    pub(super) fn issue(
        &self,
        names: &[String],
        life: Duration,
        now: Timestamp,
    ) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named(LEAF_NAME);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        good(&mut params, now, plus(now, life).min(self.life.not_after));
        let issuer = authority_params(life, now);
        let certificate = params.signed_by(&key, &Issuer::from_params(&issuer, self.key))?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }
}

/// Whether two thirds of a life are over (TLS-02), or it has not begun: the clock was wrong when it was made.
pub(super) fn due(life: Life, now: Timestamp) -> bool {
    now < life.not_before || spent(life, RENEWAL, now)
}

/// Whether so many thousandths of a life are over. It counts from when the certificate was made.
pub(super) fn spent(life: Life, thousandths: i64, now: Timestamp) -> bool {
    let made = plus(life.not_before, BACKDATED).as_second();
    let whole = life.not_after.as_second().saturating_sub(made);
    let over = now.as_second().saturating_sub(made);
    over.saturating_mul(1000) >= whole.saturating_mul(thousandths)
}

/// Whether `leaf` is for exactly `names`, and one of `authorities` vouches for it at `now` (TLS-03).
pub(super) fn vouched(
    leaf: &CertificateDer<'_>,
    names: &[String],
    authorities: &[Authority],
    now: Timestamp,
) -> bool {
    let anchors: Vec<_> = authorities
        .iter()
        .filter_map(|authority| anchor_from_trusted_cert(&authority.certificate).ok())
        .collect();
    let time = UnixTime::since_unix_epoch(since_epoch(now));
    let chains = EndEntityCert::try_from(leaf).is_ok_and(|leaf| {
        let usage = KeyUsage::server_auth();
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &[],
            time,
            usage,
            None,
            None,
        )
        .is_ok()
    });
    chains && names_of(leaf) == names.iter().map(|name| canonical(name)).collect()
}

/// The host names and addresses of a certificate.
fn names_of(certificate: &CertificateDer<'_>) -> BTreeSet<String> {
    let Ok(certificate) = Certificate::from_der(certificate) else {
        return BTreeSet::new();
    };
    match certificate.tbs_certificate().get_extension() {
        Ok(Some((_, SubjectAltName(names)))) => names.iter().filter_map(name).collect(),
        _ => BTreeSet::new(),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "we sign no other kinds of names")]
fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let short = <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)));
            let long = || <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::from(Ipv6Addr::from(bytes)));
            short.or_else(|_| long()).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// `0:0::1` and `::1` are one address.
fn canonical(name: &str) -> String {
    name.parse::<IpAddr>()
        .map_or_else(|_| name.to_owned(), |address| address.to_string())
}

fn authority_params(life: Duration, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(AUTHORITY_NAME);
    good(&mut params, now, plus(now, life));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Sets a life from a little before `now`. The library's dates are of a crate that we do not need otherwise.
fn good(params: &mut CertificateParams, now: Timestamp, until: Timestamp) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(minus(now, BACKDATED));
    params.not_after = epoch + since_epoch(until);
}

fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_secs(at.as_second().try_into().unwrap_or_default())
}

fn plus(at: Timestamp, time: Duration) -> Timestamp {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    at.checked_add(time).unwrap_or(Timestamp::MAX)
}

fn minus(at: Timestamp, time: Duration) -> Timestamp {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    at.checked_sub(time).unwrap_or(Timestamp::MIN)
}

const AUTHORITY_NAME: &str = "Countersign webhook authority";
const LEAF_NAME: &str = "Countersign webhook";
/// Thousandths of a life after which there has to be a new one (TLS-02).
pub(super) const RENEWAL: i64 = 667;
/// How long a new authority is shown in `ca.crt` of a folder before it signs (TLS-06): whoever copies that file somewhere
/// once a day has it in time.
const ANNOUNCED: Duration = Duration::from_secs(24 * 3600);
/// Certificates are good from so long before they are made, for clocks that are behind (TLS-01).
const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// One clock five minutes ahead, another five behind.
const CLOCKS_DIFFER: Duration = Duration::from_secs(10 * 60);
