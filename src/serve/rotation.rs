//! What is next for an authority that several replicas share: from what is stored and what callers trust, without a
//! clock or a network of its own.
//!
//! ```text
//! nothing ─ founded ─▶ signing ─ announced ─▶ signing + next ─ promoted ─▶ signing (the next)
//!                                  lost ─ recovered ─▶ next, old ones trusted ─┘
//! ```
//!
//! An authority is promoted by a replica that has itself seen it in every `caBundle` for long enough, by a clock that
//! only measures intervals: no time that one replica wrote down is compared with the clock of another (TLS-06). What is
//! stored as signing may therefore be used at once by whoever reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::authority::{Authority, due};
use super::tls;
use crate::cluster::Entries;

/// The authorities of a Secret.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    /// Signs leaves.
    pub(super) signing: Option<Authority>,
    /// Announced, to sign when it is known everywhere.
    pub(super) next: Option<Authority>,
    /// All that callers are to trust, without keys.
    pub(super) bundle: Vec<Authority>,
}

/// What a step is taken on.
pub(super) struct View<'a> {
    pub(super) now: Timestamp,
    /// How long a new authority is good.
    pub(super) lifetime: Duration,
    /// An operator asks for a new one.
    pub(super) forced: bool,
    /// Authorities known otherwise than from the Secret, in case it is lost.
    pub(super) known: &'a [CertificateDer<'static>],
    /// Whether every caller has had time to learn of an authority.
    pub(super) settled: &'a dyn Fn(&CertificateDer<'_>) -> bool,
}

/// What a step changed, as metrics and logs say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The first authority, which nothing has to wait for.
    Founded,
    /// A new one in place of one that cannot sign any more, while leaves of older ones are still served.
    Recovered,
    /// The next one.
    Announced,
    /// The next one signs from now on.
    Promoted,
    /// What is over or broken was taken out.
    Mended,
}

impl Change {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Founded => "founded",
            Self::Recovered => "recovered",
            Self::Announced => "announced",
            Self::Promoted => "promoted",
            Self::Mended => "mended",
        }
    }

    /// Whether there is an authority that was not there before.
    pub(super) const fn is_new(self) -> bool {
        match self {
            Self::Founded | Self::Recovered | Self::Announced => true,
            Self::Promoted | Self::Mended => false,
        }
    }
}

impl Keyring {
    /// What `entries` hold. What cannot be read is as good as lost.
    pub(super) fn read(entries: &Entries) -> Self {
        let part = |key: &str| entries.get(key).map(|bytes| bytes.as_slice());
        Self {
            signing: pair(part(SIGNING), part(SIGNING_KEY)),
            next: pair(part(NEXT), part(NEXT_KEY)),
            bundle: authorities(&part(BUNDLE).map(read_certificates).unwrap_or_default()),
        }
    }

    /// What of a Secret's data is ours.
    pub(super) fn own(entries: &Entries) -> Entries {
        let ours = entries.iter().filter(|(key, _)| KEYS.contains(&key.as_str()));
        ours.map(|(key, bytes)| (key.clone(), bytes.clone())).collect()
    }

    /// As it is stored.
    pub(super) fn entries(&self) -> Entries {
        let mut entries = BTreeMap::new();
        let mut add = |key: &str, text: &str| {
            entries.insert(key.to_owned(), Zeroizing::new(text.as_bytes().to_vec()));
        };
        for (authority, certificate, key) in [
            (&self.signing, SIGNING, SIGNING_KEY),
            (&self.next, NEXT, NEXT_KEY),
        ] {
            if let Some(authority) = authority
                && let Some(pem) = authority.key_pem()
            {
                add(certificate, &authority.pem());
                add(key, &pem);
            }
        }
        add(BUNDLE, &self.bundle_pem());
        entries
    }

    /// What `caBundle` has to be.
    pub(super) fn bundle_pem(&self) -> String {
        self.bundle.iter().map(Authority::pem).collect()
    }

    /// One step, which changes nothing if nothing is to be done.
    pub(super) fn advance(self, view: &View<'_>) -> Result<(Self, Change), rcgen::Error> {
        let now = view.now;
        let usable = |authority: Option<Authority>| authority.filter(|authority| authority.usable(now));
        let found = || Authority::found(view.lifetime, now);
        let mut old = self.bundle;
        let (signing, next, change) = match (usable(self.signing), usable(self.next)) {
            (None, None) => {
                old.extend(authorities(view.known).into_iter().filter(Authority::ours));
                old.retain(|authority| !authority.expired(now));
                if old.is_empty() {
                    (Some(found()?), None, Change::Founded)
                } else {
                    (None, Some(found()?), Change::Recovered)
                }
            }
            (_, Some(next)) if (view.settled)(&next.certificate) => (Some(next), None, Change::Promoted),
            (Some(signing), None) if view.forced || due_by_any_clock(&signing, now) => {
                (Some(signing), Some(found()?), Change::Announced)
            }
            (signing, next) => (signing, next, Change::Mended),
        };
        let bundle = bundle([next.as_ref(), signing.as_ref()], &old, now);
        let keyring = Self {
            signing,
            next,
            bundle,
        };
        Ok((keyring, change))
    }

    /// Who signs the leaf of a replica. `trusted` says whether every entry trusts an authority, `served` whose leaf the
    /// replica serves, if that is trusted. With a leaf that is trusted it waits for a promotion; without one it takes
    /// what there is, as nothing could be worse.
    pub(super) fn signer(
        &self,
        served: Option<&CertificateDer<'_>>,
        trusted: impl Fn(&CertificateDer<'_>) -> bool,
    ) -> Option<&Authority> {
        let (authority, waits) = match (&self.signing, &self.next) {
            (Some(signing), _) => (signing, false),
            (None, next) => (next.as_ref()?, true),
        };
        if served == Some(&authority.certificate) {
            return Some(authority);
        }
        (trusted(&authority.certificate) && !(waits && served.is_some())).then_some(authority)
    }
}

/// That an authority has not begun is no reason to replace it while clocks may differ so far.
fn due_by_any_clock(authority: &Authority, now: Timestamp) -> bool {
    due(authority.life, now.max(authority.life.not_before))
}

/// First those that sign or will, then the others in their order, each once, and only so many as long as they are good.
fn bundle(own: [Option<&Authority>; 2], old: &[Authority], now: Timestamp) -> Vec<Authority> {
    let mut bundle: Vec<CertificateDer<'static>> = Vec::new();
    let old = old.iter().filter(|authority| !authority.expired(now));
    for authority in own.into_iter().flatten().chain(old) {
        if bundle.len() < MOST && !bundle.contains(&authority.certificate) {
            bundle.push(authority.certificate.clone());
        }
    }
    authorities(&bundle)
}

/// A certificate and the key that belongs to it.
fn pair(certificate: Option<&[u8]>, key: Option<&[u8]>) -> Option<Authority> {
    let certificate = read_certificates(certificate?).into_iter().next()?;
    let key = KeyPair::try_from(&PrivateKeyDer::from_pem_slice(key?).ok()?).ok()?;
    Authority::resume(certificate, &mut vec![Zeroizing::new(key)]).ok()
}

/// The certificates of a text, none if there is anything else in it.
pub(super) fn read_certificates(text: &[u8]) -> Vec<CertificateDer<'static>> {
    tls::certificates(text).unwrap_or_default()
}

fn authorities(certificates: &[CertificateDer<'static>]) -> Vec<Authority> {
    let resume =
        |certificate: &CertificateDer<'static>| Authority::resume(certificate.clone(), &mut Vec::new()).ok();
    certificates.iter().filter_map(resume).collect()
}

const SIGNING: &str = "tls.crt";
const SIGNING_KEY: &str = "tls.key";
const NEXT: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const BUNDLE: &str = "ca.crt";
const KEYS: [&str; 5] = [SIGNING, SIGNING_KEY, NEXT, NEXT_KEY, BUNDLE];
/// Authorities in a bundle: the next, the signing one, and one that is not over yet, with room for rotations by hand.
const MOST: usize = 8;

#[cfg(test)]
mod tests;
