//! What a repository's root is pinned to (notary-v1 §4.2, design §9.1–9.3).

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::certificate::{self, Certificate, CertificateError};
use super::key::{self, KeyError, KeyId, PublicKey};
use super::metadata::Root;

/// The anchor a policy configures. It is held against the root chain on every run; what is stored never stands in
/// for it (§4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    anchor: Anchor,
    /// How many pinned keys must have signed.
    minimum: usize,
    /// Whether any common name will do.
    any_name: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Anchor {
    /// Canonical ids of bare public keys.
    Keys(BTreeSet<KeyId>),
    /// Key ids, TUF or canonical.
    KeyIds(BTreeSet<KeyId>),
    /// Authorities, one of which must have issued the root certificate.
    Authorities(Vec<Certificate>),
    /// The first root seen.
    FirstUse,
}

impl Pin {
    const fn to(anchor: Anchor) -> Self {
        Self {
            anchor,
            minimum: 1,
            any_name: false,
        }
    }

    /// Pins root public keys, given as PEM `PUBLIC KEY` or `CERTIFICATE` blocks. The pin survives re-issue of the
    /// certificate, so the dates of a pinned key's certificate are not looked at (§5.7 step 4).
    ///
    /// # Errors
    ///
    /// [`KeyError`] for the first text that is no key.
    pub fn keys<'a>(pems: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        pems.into_iter()
            .map(key::pinned_key)
            .collect::<Result<_, _>>()
            .map(|ids| Self::to(Anchor::Keys(ids)))
    }

    /// Pins key ids: TUF ids, as notary's `trust_pinning` has them, or canonical ids of bare keys.
    ///
    /// # Errors
    ///
    /// [`KeyError`] for the first text that is no key id.
    pub fn key_ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        ids.into_iter()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(|ids| Self::to(Anchor::KeyIds(ids)))
    }

    /// Pins the bare keys with those canonical ids: those that a publisher holds. None of them is met by nothing.
    pub fn held(ids: impl IntoIterator<Item = KeyId>) -> Self {
        Self::to(Anchor::Keys(ids.into_iter().collect()))
    }

    /// Pins authorities, as PEM certificates.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] if the text is not PEM certificates.
    pub fn authorities(pem: &str) -> Result<Self, CertificateError> {
        certificate::parse_all(pem).map(|authorities| Self::to(Anchor::Authorities(authorities)))
    }

    /// Trusts the first root seen, and its successors.
    pub const fn first_use() -> Self {
        Self::to(Anchor::FirstUse)
    }

    /// Asks for `minimum` pinned keys among those that signed (at least one).
    #[must_use]
    pub fn minimum(self, minimum: usize) -> Self {
        Self {
            minimum: minimum.max(1),
            ..self
        }
    }

    /// Accepts root certificates made out to any name, and root keys without certificates.
    #[must_use]
    pub fn any_name(self) -> Self {
        Self {
            any_name: true,
            ..self
        }
    }

    pub(super) const fn accepts_any_name(&self) -> bool {
        self.any_name
    }

    pub(super) const fn trusts_first_use(&self) -> bool {
        matches!(self.anchor, Anchor::FirstUse)
    }

    /// Whether enough pinned keys are among the `keys` of `root` whose signature on it verifies (design §9.2).
    ///
    /// A root that nothing vouches for yet is looked at here, perhaps a thousand of them: only keys that are pinned
    /// are worth the verification of a signature.
    pub(super) fn met_by(&self, root: &Root, keys: &[Arc<PublicKey>], now: Timestamp) -> bool {
        let named = keys.iter().filter(|key| match &self.anchor {
            Anchor::Keys(ids) => ids.contains(&key.canonical()),
            Anchor::KeyIds(ids) => ids.contains(&key.id()) || ids.contains(&key.canonical()),
            // Building a path costs more than the signature, and comes after it.
            Anchor::Authorities(_) => true,
            Anchor::FirstUse => false,
        });
        let signed = root.envelope.verified(named).into_iter();
        let pinned = signed.filter(|key| match &self.anchor {
            Anchor::Authorities(authorities) => issued_by(key, authorities, now),
            Anchor::Keys(_) | Anchor::KeyIds(_) | Anchor::FirstUse => true,
        });
        pinned.map(PublicKey::canonical).collect::<BTreeSet<_>>().len() >= self.minimum
    }

    /// Whether `key` itself is pinned, so that the dates of the certificate around it do not matter.
    pub(super) fn pins_bare(&self, key: &PublicKey) -> bool {
        match &self.anchor {
            Anchor::Keys(ids) | Anchor::KeyIds(ids) => ids.contains(&key.canonical()),
            Anchor::Authorities(_) | Anchor::FirstUse => false,
        }
    }
}

/// Whether an authority that is itself unexpired and sound issued the key's certificate.
fn issued_by(key: &PublicKey, authorities: &[Certificate], now: Timestamp) -> bool {
    let sound: Vec<_> = authorities
        .iter()
        .filter(|ca| ca.defect(Some(now)).is_none())
        .cloned()
        .collect();
    key.bundle().is_some_and(|bundle| bundle.issued_by(&sound, now))
}
