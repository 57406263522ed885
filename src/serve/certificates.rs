//! The certificate in service, and its renewal while connections go on (TLS-14, TLS-20, TLS-22).

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::ServerConfig;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::config::{Certificate, Tls};
use super::managed::{self, Managed};
use super::ready::{Life, Ready};
use super::self_signed::{Current, SelfSigned, SelfSignedError};
use super::tls::{self, Dialect, Loaded, Material, TlsError};
use crate::telemetry::{Metrics, chain};

/// Reads key pairs and swaps them in whole: a handshake sees the old pair or the new one, and an established connection
/// keeps what it has.
pub(super) struct Certificates {
    settings: Tls,
    dialect: Dialect,
    /// Where they are kept in a cluster.
    managed: Option<tokio::sync::Mutex<Managed>>,
    current: ArcSwapOption<ServerConfig>,
    seen: Mutex<Seen>,
    ready: Ready,
    metrics: Arc<Metrics>,
}

/// The last attempt, so that a file that stays as it is is not taken up, or complained about, again and again.
#[derive(Default)]
struct Seen {
    serving: Option<(Material, Life)>,
    complaint: Option<String>,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    SelfSigned(#[from] SelfSignedError),
}

impl Certificates {
    /// Serves nothing yet.
    ///
    /// # Errors
    ///
    /// [`TlsError::Suite`] or [`TlsError::Name`] when the settings themselves are wrong, whatever the files hold.
    pub(super) fn new(settings: Tls, ready: Ready, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let managed = match &settings.certificate {
            Certificate::Files { .. } => None,
            Certificate::SelfSigned { names, .. } => {
                tls::presentable(names)?;
                None
            }
            Certificate::Cluster {
                store,
                names,
                lifetimes,
            } => {
                tls::presentable(names)?;
                let managed = Managed::new(*store.clone(), names.clone(), *lifetimes, Arc::clone(&metrics));
                Some(managed.into())
            }
        };
        Ok(Self {
            managed,
            dialect: Dialect::new(&settings)?,
            settings,
            current: ArcSwapOption::empty(),
            seen: Mutex::default(),
            ready,
            metrics,
        })
    }

    /// What the next handshake uses.
    pub(super) fn current(&self) -> Option<Arc<ServerConfig>> {
        self.current.load_full()
    }

    /// Waits for the first pair.
    pub(super) async fn loaded(&self) {
        drop(
            self.ready
                .watch()
                .wait_for(|state| state.certificate.is_some())
                .await,
        );
    }

    /// Takes up what files hold. An API server may keep us waiting, which probes must not: that is left to
    /// [`keep_fresh`](Self::keep_fresh).
    pub(super) async fn begin(self: &Arc<Self>, now: Timestamp) {
        if self.managed.is_none() {
            self.refresh(now).await;
        }
    }

    /// Refreshes for ever. The clock is read at each turn: a timer would miss the moment after a suspend (TLS-02).
    pub(super) async fn keep_fresh(self: Arc<Self>, clock: fn() -> Timestamp) {
        if self.managed.is_some() {
            self.refresh(clock()).await;
        }
        loop {
            tokio::time::sleep(self.pause()).await;
            self.refresh(clock()).await;
        }
    }

    fn pause(&self) -> Duration {
        match &self.settings.certificate {
            Certificate::Cluster { lifetimes, .. } => self.settings.poll.min(managed::pause(lifetimes)),
            Certificate::Files { .. } | Certificate::SelfSigned { .. } => self.settings.poll,
        }
    }

    /// Takes up a pair that changed, or makes a new one if that is due. On a failure the old one stays.
    pub(super) async fn refresh(self: &Arc<Self>, now: Timestamp) {
        let mut made = None;
        if let Some(managed) = &self.managed {
            made = managed.lock().await.turn(now).await;
            if made.is_none() {
                return;
            }
        }
        let me = Arc::clone(self);
        if let Err(panic) = tokio::task::spawn_blocking(move || me.refresh_now(made, now)).await {
            error!(error = %panic, "certificate reload broke off");
        }
    }

    /// Takes up what was `made` elsewhere, or what the files hold.
    fn refresh_now(&self, made: Option<Current>, now: Timestamp) {
        let Ok(mut seen) = self.seen.lock() else {
            return;
        };
        match self.attempt(&seen, made, now) {
            Ok(None) => seen.complaint = None,
            Ok(Some((material, loaded))) => {
                *seen = Seen {
                    serving: Some((material, loaded.life)),
                    complaint: None,
                };
                self.serve(&loaded);
            }
            Err(failure) => self.complain(&mut seen, &failure),
        }
    }

    /// `None` if what is there is in service already, and still good.
    fn attempt(
        &self,
        seen: &Seen,
        made: Option<Current>,
        now: Timestamp,
    ) -> Result<Option<(Material, Loaded)>, ReloadError> {
        let (material, authority) = self.read(made, now)?;
        if let Some((serving, life)) = &seen.serving
            && *serving == material
            && life.contains(now)
        {
            return Ok(None);
        }
        let mut loaded = self.dialect.load(&material, now)?;
        loaded.authority = authority.or(loaded.authority);
        Ok(Some((material, loaded)))
    }

    fn serve(&self, loaded: &Loaded) {
        self.current.store(Some(Arc::clone(&loaded.config)));
        self.ready.certificate_loaded(loaded.life);
        self.metrics.certificate_reload("ok");
        self.metrics
            .certificate_not_after("leaf", loaded.life.not_after.as_second());
        if let Some(authority) = loaded.authority {
            self.metrics.certificate_not_after("ca", authority.as_second());
        }
        info!(not_after = %loaded.life.not_after, "serving certificate loaded");
    }

    /// Counts each failed attempt, and writes it down when it is not the same as the last.
    fn complain(&self, seen: &mut Seen, failure: &ReloadError) {
        self.metrics.certificate_reload("error");
        let chain = chain(failure);
        if seen.complaint.as_ref() != Some(&chain) {
            if self.current.load().is_some() {
                error!(error = %chain, "serving certificate cannot be replaced, the old one stays");
            } else {
                warn!(error = %chain, "no serving certificate yet");
            }
            seen.complaint = Some(chain);
        }
    }

    fn read(
        &self,
        made: Option<Current>,
        now: Timestamp,
    ) -> Result<(Material, Option<Timestamp>), ReloadError> {
        let clients = self
            .settings
            .clients
            .as_ref()
            .map(|clients| read(&clients.ca))
            .transpose()?;
        let current = match (made, &self.settings.certificate) {
            (Some(made), _) => made,
            (None, Certificate::Files { certificate, key }) => Current {
                chain: read(certificate)?,
                key: Zeroizing::new(read(key)?),
                authority: None,
            },
            (None, Certificate::SelfSigned { directory, names }) => {
                SelfSigned::new(directory.clone(), names.clone()).maintain(now)?
            }
            (None, Certificate::Cluster { .. }) => return Err(TlsError::Empty.into()),
        };
        let Current {
            chain,
            key,
            authority,
        } = current;
        Ok((Material { chain, key, clients }, authority))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
