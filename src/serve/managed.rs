//! Certificates of our own that a cluster keeps: the shell around [`rotation`](super::rotation).
//!
//! A turn reads the webhook configurations, then the Secret, and writes the first thing that is not as it has to be,
//! until nothing is left to write. The order matters: a `caBundle` is only written over one that was read before the
//! Secret it is made of, so a replica that was held up cannot put an older bundle over a newer one (TLS-05, TLS-06).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::authority::{Authority, RENEWAL, Signer, spent};
use super::config::Lifetimes;
use super::ready::Life;
use super::rotation::{Change, Keyring, View, read_certificates};
use super::self_signed::Current;
use super::tls::{self, TlsError};
use crate::cluster::{CertificateStore, CertificateStoreError, Configuration, ConfigurationKind};
use crate::fetch::random;
use crate::telemetry::{Metrics, chain};

/// What one replica knows and serves.
pub(super) struct Managed {
    store: CertificateStore,
    names: Vec<String>,
    lifetimes: Lifetimes,
    metrics: Arc<Metrics>,
    /// Thousandths of a leaf's life after which there is a new one: somewhat less than two thirds, in each replica
    /// different, so that not all renew at once (TLS-02).
    renewal: i64,
    /// As it was read last: an outage of the API server must not stop the renewal of the leaf.
    keyring: Keyring,
    /// Since when this replica has seen an authority in the `caBundle` of every entry.
    trusted: HashMap<CertificateDer<'static>, Instant>,
    /// What any entry trusts.
    published: HashSet<CertificateDer<'static>>,
    leaf: Option<Leaf>,
    complaint: Option<(String, Instant)>,
}

struct Leaf {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    life: Life,
    issuer: CertificateDer<'static>,
}

/// What is wrong at the end of a turn.
#[derive(Debug, thiserror::Error)]
enum ManagedError {
    #[error(transparent)]
    Store(#[from] CertificateStoreError),
    #[error("no webhook configuration {name} has entries")]
    Unregistered { name: String },
    #[error("a certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How far a turn is.
#[derive(PartialEq, Eq)]
enum Pass {
    /// Something was written, or has to be read again.
    Again,
    /// All is as it has to be.
    Done,
}

impl Managed {
    pub(super) fn new(
        store: CertificateStore,
        names: Vec<String>,
        lifetimes: Lifetimes,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            names,
            lifetimes,
            metrics,
            renewal: RENEWAL - i64::from(random()) % SPREAD,
            keyring: Keyring::default(),
            trusted: HashMap::new(),
            published: HashSet::new(),
            leaf: None,
            complaint: None,
        }
    }

    /// Brings everything up to date as far as that can be, and gives the pair to serve, if there is one. What cannot be
    /// done is logged once a minute and tried again in the next turn.
    pub(super) async fn turn(&mut self, now: Timestamp) -> Option<Current> {
        let began = Instant::now();
        let reconciled = self.reconcile(now, began).await;
        // Whatever became of that, and however long it took.
        let renewed = self.renew(later(now, began));
        match reconciled.and(renewed) {
            Ok(()) => self.complaint = None,
            Err(error) => self.complain(&chain(&error)),
        }
        let leaf = self.leaf.as_ref()?;
        let signing = self.keyring.signing.as_ref().or(self.keyring.next.as_ref());
        Some(Current {
            chain: leaf.chain.clone(),
            key: leaf.key.clone(),
            authority: signing.map(|authority| authority.life.not_after),
        })
    }

    async fn reconcile(&mut self, now: Timestamp, began: Instant) -> Result<(), ManagedError> {
        let enough = settle_time(&self.lifetimes) / 4;
        for _ in 0..PASSES {
            match self.pass(later(now, began)).await {
                Ok(Pass::Done) => return Ok(()),
                Ok(Pass::Again) | Err(ManagedError::Store(CertificateStoreError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
            // With slow answers the leaf comes first, which is renewed when the turn is over.
            if began.elapsed() >= enough {
                break;
            }
        }
        // Others are writing, or all is slow: the next turn sees what it came to.
        Ok(())
    }

    /// Reads everything, and writes one thing at most of each object.
    async fn pass(&mut self, now: Timestamp) -> Result<Pass, ManagedError> {
        let configurations = self.store.configurations().read().await?;
        self.observe(&configurations);
        let stored = self.store.authority().await?;
        let entries = stored.as_ref().map(|stored| Keyring::own(&stored.entries));
        let entries = entries.unwrap_or_default();
        let forced = stored.as_ref().is_some_and(|stored| stored.rotate);
        let (keyring, change) = Keyring::read(&entries).advance(&View {
            now,
            lifetime: self.lifetimes.authority,
            forced,
            known: &self.known(),
            settled: &|authority| self.settled(authority),
        })?;
        let wanted = keyring.entries();
        if wanted != entries {
            self.store
                .write(stored.as_ref(), &entries, &wanted, forced && change.is_new())
                .await?;
            self.note(change, &keyring);
            // Stored is stored, even if the next pass fails: a leaf of the promoted authority must not wait for it.
            self.keyring = keyring;
            return Ok(Pass::Again);
        }
        self.keyring = keyring;
        self.publish(&configurations).await
    }

    /// Takes note of what the entries trust.
    fn observe(&mut self, configurations: &[Configuration]) {
        let there = |kind| configurations.iter().any(|found| found.kind == kind);
        for kind in ConfigurationKind::ALL {
            self.metrics
                .webhook_configuration_present(kind.as_str(), there(kind));
        }
        let entries = configurations.iter().flat_map(|found| &found.entries);
        let bundles: Vec<_> = entries.map(|(_, bundle)| read_certificates(bundle)).collect();
        self.published = bundles.iter().flatten().cloned().collect();
        let everywhere = |authority: &CertificateDer<'_>| {
            !bundles.is_empty()
                && bundles
                    .iter()
                    .all(|bundle| bundle.iter().any(|it| it == authority))
        };
        self.trusted.retain(|authority, _| everywhere(authority));
        let seen = Instant::now();
        for authority in self.published.iter().filter(|authority| everywhere(authority)) {
            self.trusted.entry(authority.clone()).or_insert(seen);
        }
    }

    /// Authorities whose leaves may be in service although the Secret does not know of them: what entries trust, and
    /// what was in the Secret before.
    fn known(&self) -> Vec<CertificateDer<'static>> {
        let remembered = self.keyring.bundle.iter().map(|it| it.certificate.clone());
        remembered.chain(self.published.iter().cloned()).collect()
    }

    fn settled(&self, authority: &CertificateDer<'_>) -> bool {
        let since = self.trusted.get(authority);
        since.is_some_and(|since| since.elapsed() >= settle_time(&self.lifetimes))
    }

    /// Makes every entry trust the bundle (TLS-08, TLS-09).
    async fn publish(&self, configurations: &[Configuration]) -> Result<Pass, ManagedError> {
        let store = self.store.configurations();
        if configurations.iter().all(|found| found.entries.is_empty()) {
            let name = store.name().to_owned();
            return Err(ManagedError::Unregistered { name });
        }
        let bundle = self.keyring.bundle_pem().into_bytes();
        let mut pass = Pass::Done;
        for found in configurations {
            let Some(deviation) = Deviation::of(found, &bundle) else {
                continue;
            };
            store.publish(found, &bundle).await?;
            pass = Pass::Again;
            let (kind, name, reason) = (found.kind.kind(), store.name(), deviation.as_str());
            self.metrics.ca_bundle_write(reason);
            match deviation {
                Deviation::Foreign => warn!(kind, name, "foreign caBundle replaced by ours"),
                Deviation::Missing | Deviation::Outdated => info!(kind, name, reason, "caBundle written"),
            }
        }
        Ok(pass)
    }

    fn note(&self, change: Change, keyring: &Keyring) {
        self.metrics.authority_change(change.as_str());
        let (change, trusted) = (change.as_str(), keyring.bundle.len());
        if change == Change::Recovered.as_str() {
            warn!(
                change,
                trusted, "certificate authority is lost, a new one is made"
            );
        } else {
            info!(change, trusted, "certificate authority stored");
        }
    }

    /// Makes a new leaf if there is none, if it is time, or if another authority signs now.
    fn renew(&mut self, now: Timestamp) -> Result<(), ManagedError> {
        let served = self.leaf.as_ref().filter(|leaf| leaf.life.contains(now));
        let issuer = served.map(|leaf| &leaf.issuer);
        let trusted = issuer.filter(|issuer| self.trusted.contains_key(*issuer));
        let signer = self
            .keyring
            .signer(trusted, |authority| self.trusted.contains_key(authority));
        let Some(signer) = signer.filter(|signer| signer.usable(now)) else {
            return Ok(());
        };
        if let Some(leaf) = served
            && leaf.issuer == signer.certificate
            && !spent(leaf.life, self.renewal, now)
        {
            return Ok(());
        }
        self.leaf = issue(signer, &self.names, self.lifetimes.leaf, now)?;
        Ok(())
    }

    fn complain(&mut self, said: &str) {
        self.metrics.certificate_reload("error");
        let known = |(before, at): &(String, Instant)| before == said && at.elapsed() < LOGGED;
        if self.complaint.as_ref().is_some_and(known) {
            return;
        }
        if self.leaf.is_some() {
            warn!(
                error = said,
                "certificates in the cluster cannot be kept up to date, the last ones stay"
            );
        } else {
            warn!(error = said, "waiting for a serving certificate");
        }
        self.complaint = Some((said.to_owned(), Instant::now()));
    }
}

fn issue(
    authority: &Authority,
    names: &[String],
    life: Duration,
    now: Timestamp,
) -> Result<Option<Leaf>, ManagedError> {
    let Some(signer) = Signer::of(authority) else {
        return Ok(None);
    };
    let pair = signer.issue(names, life, now)?;
    let chain = pair.certificate.into_bytes();
    let certificates = read_certificates(&chain);
    let leaf = certificates.first().ok_or(TlsError::Empty)?;
    Ok(Some(Leaf {
        life: tls::life(leaf)?,
        key: Zeroizing::new(pair.key.as_bytes().to_vec()),
        issuer: authority.certificate.clone(),
        chain,
    }))
}

/// How the entries of a configuration differ from what they have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deviation {
    /// Some of our authorities.
    Outdated,
    /// Nothing.
    Missing,
    /// Something else.
    Foreign,
}

impl Deviation {
    /// The gravest among the entries.
    fn of(found: &Configuration, wanted: &[u8]) -> Option<Self> {
        let of_entry = |bundle: &[u8]| {
            let certificates = read_certificates(bundle);
            let ours = |certificate: &CertificateDer<'static>| {
                Authority::resume(certificate.clone(), &mut Vec::new()).is_ok_and(|it| it.ours())
            };
            match bundle {
                [] => Self::Missing,
                _ if certificates.is_empty() || !certificates.iter().all(ours) => Self::Foreign,
                _ => Self::Outdated,
            }
        };
        let bundles = found.entries.iter().map(|(_, bundle)| bundle.as_slice());
        bundles.filter(|bundle| *bundle != wanted).map(of_entry).max()
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Outdated => "outdated",
            Self::Missing => "missing",
            Self::Foreign => "foreign",
        }
    }
}

/// How long an authority is in every `caBundle` before it signs: a minute, so that each API server has seen it (TLS-06),
/// or a twelfth of a shorter life, which leaves three twelfths until the old one ends.
fn settle_time(lifetimes: &Lifetimes) -> Duration {
    SETTLE.min(lifetimes.authority / 12)
}

/// How long to wait between turns: a tenth more or less, so that replicas do not ask in step.
pub(super) fn pause(lifetimes: &Lifetimes) -> Duration {
    let poll = POLL.min(settle_time(lifetimes) / 4);
    poll.mul_f64(0.9 + 0.2 * f64::from(random()) / f64::from(u16::MAX))
}

/// `now` as it was at `began`, brought up to date.
fn later(now: Timestamp, began: Instant) -> Timestamp {
    now.checked_add(began.elapsed()).unwrap_or(Timestamp::MAX)
}

const SETTLE: Duration = Duration::from_secs(60);
/// A lost Secret is to be there again within seconds (TLS-07); three small requests each time.
const POLL: Duration = Duration::from_secs(5);
/// Reads in one turn: what a rotation takes, and as many conflicts.
const PASSES: u32 = 8;
/// Thousandths of its life by which a leaf may be renewed early.
const SPREAD: i64 = 67;
/// The same complaint is logged as often as this.
const LOGGED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
