//! Signing in the sandbox: what `countersign trust sign` and `revoke` do, with the same parts, over HTTPS to the sandbox's
//! own trust server.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::keys::Keys;
use crate::fetch::Login;
use crate::policy::{Lending, Notary, ReleasesMissing, Root};
use crate::publish::{
    Anchor, Effect, Initial, Lifetimes, Options, Progress, PublishError, Publisher, Report, Signing,
};
use crate::reference::{Algorithm, Digest, Reference};
use crate::registry::{Config, Registry, RegistryError};
use crate::store::{Store, StoreError};
use crate::trust::{Fault, Sites};

/// Signs tags of the sandbox's repositories.
pub(super) struct Signer {
    sites: Sites,
    keys: Keys,
}

/// A tag was not signed, or not revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The image's registry does not say what the tag stands for.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Not something that can be signed.
    #[error("{image} names no tag, or is no SHA-256")]
    Image {
        /// The image.
        image: Reference,
    },
    /// The trust server cannot be asked.
    #[error(transparent)]
    Site(#[from] Fault),
    /// What was seen cannot be remembered.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was not published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Signer {
    /// A signer at `server`, which `ca_pem` vouches for; repositories are held to `root_pem` and to what `store` knows.
    pub(super) fn new(
        server: Url,
        ca_pem: String,
        root_pem: String,
        store: Store,
        keys: Keys,
    ) -> Result<Self, SignError> {
        let settings = Notary {
            server: Some(server),
            ca: Some(ca_pem),
            credentials: None,
            root: Root {
                keys: vec![root_pem],
                minimum: 1,
                ..Root::default()
            },
            signers: Vec::new(),
            max_staleness: Duration::ZERO,
            releases_missing: ReleasesMissing::Allow,
            lending: Lending::default(),
        };
        Ok(Self {
            sites: Sites::new(&settings, Arc::new(store))?,
            keys,
        })
    }

    /// Signs the tag of `image` as what the registry has under it.
    pub(super) async fn sign(&self, image: &Reference) -> Result<Report, SignError> {
        let signing = signing(image).await?;
        let site = self.sites.site(image.gun())?;
        let publisher = Publisher::new(&site, &self.keys, options(), &unseen);
        Ok(publisher.sign_tags(&[signing], &[], &Initial::default()).await?)
    }

    /// Withdraws every signature of the tag of `image`.
    pub(super) async fn revoke(&self, image: &Reference) -> Result<Report, SignError> {
        let tag = image.tag().cloned().ok_or_else(|| unsignable(image))?;
        let site = self.sites.site(image.gun())?;
        let publisher = Publisher::new(&site, &self.keys, options(), &unseen);
        Ok(publisher.revoke(Some(&[tag])).await?)
    }
}

/// What the registry has under a tag now; found out over HTTP, as any publisher does.
pub(super) async fn found(image: &Reference) -> Result<(Digest, u64), SignError> {
    let tag = image.tag().ok_or_else(|| unsignable(image))?;
    let config = Config {
        ca_pem: None,
        identity: None,
        login: Login::Anonymous,
    };
    let registry = Registry::new(image.gun(), &config)?;
    let manifest = registry
        .by_tag(image.gun(), tag, Instant::now() + TIMEOUT)
        .await?;
    Ok((manifest.digest, manifest.size))
}

async fn signing(image: &Reference) -> Result<Signing, SignError> {
    let (digest, length) = found(image).await?;
    let sha256 = <[u8; 32]>::try_from(digest.bytes()).ok();
    let sha256 = sha256.filter(|_| digest.algorithm() == Algorithm::Sha256);
    match (image.tag(), sha256) {
        (Some(tag), Some(sha256)) => Ok(Signing {
            tag: tag.clone(),
            sha256,
            length,
        }),
        _ => Err(unsignable(image)),
    }
}

fn unsignable(image: &Reference) -> SignError {
    SignError::Image { image: image.clone() }
}

fn options() -> Options {
    Options {
        timeout: TIMEOUT,
        terms: Lifetimes::default(),
        effect: Effect::Publish,
        anchor: Anchor::Configured,
        force: false,
    }
}

/// Nobody waits long enough to want to see progress.
fn unseen(_: Progress) {}

/// For one attempt, on a machine that is busy.
const TIMEOUT: Duration = Duration::from_secs(30);
