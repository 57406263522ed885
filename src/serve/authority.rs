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

/// A certificate that signs, and its key if we have it: old authorities stay known after they stopped signing.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) life: Life,
    key: Option<KeyPair>,
}

/// A pair as it is written.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: Zeroizing<String>,
}

impl Authority {
    /// Takes up `certificate` again, with whichever of `keys` belongs to it.
    pub(super) fn resume(
        certificate: CertificateDer<'static>,
        keys: &mut Vec<KeyPair>,
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
    /// Who signs a leaf made now: the newest authority that has been in `ca.crt` long enough for clients to have read
    /// it; else the oldest, which clients have known longest.
    pub(super) fn choose(authorities: &'a [Authority], now: Timestamp) -> Option<Self> {
        let mut able: Vec<_> = authorities
            .iter()
            .filter(|authority| authority.signs(now))
            .collect();
        able.sort_by_key(|authority| Reverse(authority.life.not_before));
        let known = |authority: &&&Authority| plus(authority.life.not_before, ANNOUNCED) <= now;
        let chosen = able.iter().find(known).or(able.last())?;
        Some(Self {
            life: chosen.life,
            key: chosen.key.as_ref()?,
        })
    }

    /// Signs a fresh key for `names`, for a week or the rest of the authority's own life.
    pub(super) fn issue(&self, names: &[String], now: Timestamp) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named(LEAF_NAME);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        good(&mut params, now, plus(now, LEAF_LIFE).min(self.life.not_after));
        let certificate = params.signed_by(&key, &Issuer::from_params(&authority_params(now), self.key))?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }
}

/// Makes an authority for a year.
pub(super) fn found(now: Timestamp) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = authority_params(now).self_signed(&key)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: Zeroizing::new(key.serialize_pem()),
    })
}

/// Whether two thirds of a life are over (TLS-02), or it has not begun: the clock was wrong when it was made.
pub(super) fn due(life: Life, now: Timestamp) -> bool {
    let whole = life
        .not_after
        .as_second()
        .saturating_sub(life.not_before.as_second());
    let over = now.as_second().saturating_sub(life.not_before.as_second());
    over < 0 || over.saturating_mul(3) >= whole.saturating_mul(2)
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

fn authority_params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(AUTHORITY_NAME);
    good(&mut params, now, plus(now, AUTHORITY_LIFE));
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

fn plus(at: Timestamp, hours: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_hours(hours))
        .unwrap_or(Timestamp::MAX)
}

fn minus(at: Timestamp, minutes: i64) -> Timestamp {
    at.checked_sub(SignedDuration::from_mins(minutes))
        .unwrap_or(Timestamp::MIN)
}

const AUTHORITY_NAME: &str = "Countersign webhook authority";
const LEAF_NAME: &str = "Countersign webhook";
/// Hours: a year (TLS-01).
const AUTHORITY_LIFE: i64 = 365 * 24;
/// Hours: a week (TLS-01).
const LEAF_LIFE: i64 = 7 * 24;
/// Hours that a new authority is shown in `ca.crt` before it signs (TLS-06): whoever copies that file somewhere once a
/// day has it in time.
const ANNOUNCED: i64 = 24;
/// Minutes of clock difference between machines (TLS-01).
const BACKDATED: i64 = 5;
