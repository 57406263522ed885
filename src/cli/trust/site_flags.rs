//! Flags that say where a repository is published, and what vouches for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::time::Instant;
use url::Url;

use super::super::duration;
use super::super::key_flags::docker_folder;
use crate::policy::{Credentials, Lending, Notary, ReleasesMissing, Root};
use crate::publish::{Anchor, Effect, Lifetimes, Options};
use crate::reference::Gun;
use crate::store::Store;
use crate::trust::{Site, Sites};

/// Where repositories are published, and what vouches for them.
#[derive(Args, Debug)]
#[command(next_help_heading = "Trust server")]
pub(super) struct SiteFlags {
    /// Base URL of the trust server [default: `DOCKER_CONTENT_TRUST_SERVER`, else docker's rule, https://<registry>]
    #[arg(long, value_name = "URL", env = "COUNTERSIGN_TRUST_SERVER")]
    trust_server: Option<Url>,
    /// PEM certificates of authorities, added to the system's, for trust server and registry
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_CA")]
    ca: Option<PathBuf>,
    /// Docker configuration with the logins [default: `config.json` in `DOCKER_CONFIG` or `~/.docker`]
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_DOCKER_CONFIG")]
    docker_config: Option<PathBuf>,
    /// Where what was seen is remembered, which is what a rollback is told by [default: countersign in docker's trust
    /// folder]
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// PEM file with a root public key (or its certificate) to pin; may be repeated, any of them anchors
    #[arg(
        long,
        value_name = "PEMFILE",
        env = "COUNTERSIGN_ROOT_KEY",
        value_delimiter = ','
    )]
    root_key: Vec<PathBuf>,
    /// Root key id to pin, TUF or canonical; may be repeated, any of them anchors
    #[arg(
        long,
        value_name = "HEX",
        env = "COUNTERSIGN_ROOT_KEY_ID",
        value_delimiter = ','
    )]
    root_key_id: Vec<String>,
    /// Believe what the server shows of a repository that was never seen and whose root key is not ours
    #[arg(long, env = "COUNTERSIGN_TOFU")]
    tofu: bool,
    /// One deadline for each attempt: to look, to sign, to upload
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse, env = "COUNTERSIGN_TIMEOUT")]
    timeout: Duration,
}

/// How what is signed is published.
#[derive(Args, Debug)]
#[command(next_help_heading = "Publishing")]
pub(super) struct PublishFlags {
    /// Do everything but the upload; no key is made, stored or removed
    #[arg(long, env = "COUNTERSIGN_DRY_RUN")]
    dry_run: bool,
    /// How long a root that is signed is good
    #[arg(long, value_name = "DURATION", default_value = "87600h", value_parser = lifetime, env = "COUNTERSIGN_ROOT_LIFETIME")]
    root_lifetime: Duration,
    /// How long tags that are signed are good
    #[arg(long, value_name = "DURATION", default_value = "26280h", value_parser = lifetime, env = "COUNTERSIGN_TARGETS_LIFETIME")]
    targets_lifetime: Duration,
    /// How long a snapshot is good, where we make it
    #[arg(long, value_name = "DURATION", default_value = "26280h", value_parser = lifetime, env = "COUNTERSIGN_SNAPSHOT_LIFETIME")]
    snapshot_lifetime: Duration,
}

impl PublishFlags {
    pub(super) const fn effect(&self) -> Effect {
        if self.dry_run {
            Effect::DryRun
        } else {
            Effect::Publish
        }
    }

    pub(super) const fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            root: self.root_lifetime,
            targets: self.targets_lifetime,
            snapshot: self.snapshot_lifetime,
        }
    }
}

impl SiteFlags {
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The options of a publisher.
    pub(super) fn options(&self, publishing: &PublishFlags, force: bool) -> Options {
        Options {
            timeout: self.timeout,
            terms: publishing.lifetimes(),
            effect: publishing.effect(),
            anchor: self.anchor(),
            force,
        }
    }

    fn anchor(&self) -> Anchor {
        if !self.root_key.is_empty() || !self.root_key_id.is_empty() {
            Anchor::Configured
        } else if self.tofu {
            Anchor::FirstUse
        } else {
            Anchor::OwnRoot
        }
    }

    /// Trust servers, and the memory of what was seen there.
    pub(super) fn sites(&self) -> anyhow::Result<Sites> {
        let folder = match &self.state_dir {
            Some(folder) => folder.clone(),
            None => docker_folder()
                .context("there is no home directory: say what was seen is kept with --state-dir")?
                .join("trust")
                .join("countersign"),
        };
        let store = Store::open(&folder)?;
        Sites::new(&self.settings()?, Arc::new(store)).context("the trust server cannot be used")
    }

    fn settings(&self) -> anyhow::Result<Notary> {
        let keys = self
            .root_key
            .iter()
            .map(|path| read(path))
            .collect::<Result<Vec<_>, _>>()?;
        if !keys.is_empty() && !self.root_key_id.is_empty() {
            bail!("give only one of --root-key and --root-key-id: each is another way to trust");
        }
        if self.tofu && self.anchor() == Anchor::Configured {
            bail!("give only one of --tofu and --root-key or --root-key-id: each is another way to trust");
        }
        Ok(Notary {
            server: self.server()?,
            ca: self.authorities()?,
            credentials: self.login()?.map(Credentials::DockerConfig),
            root: Root {
                trust_on_first_use: self.anchor() != Anchor::Configured,
                keys,
                key_ids: self.root_key_id.clone(),
                minimum: 1,
                ..Root::default()
            },
            signers: Vec::new(),
            max_staleness: Duration::ZERO,
            releases_missing: ReleasesMissing::Allow,
            lending: Lending::default(),
        })
    }

    /// The server named by flag or, as docker reads it, by its variable.
    fn server(&self) -> anyhow::Result<Option<Url>> {
        if self.trust_server.is_some() {
            return Ok(self.trust_server.clone());
        }
        let Some(named) = env::var("DOCKER_CONTENT_TRUST_SERVER")
            .ok()
            .filter(|text| !text.is_empty())
        else {
            return Ok(None);
        };
        let url: Url = named
            .parse()
            .with_context(|| format!("DOCKER_CONTENT_TRUST_SERVER is no URL: {named:?}"))?;
        if url.scheme() != "https" {
            bail!("DOCKER_CONTENT_TRUST_SERVER must be https, as for docker: {url}");
        }
        Ok(Some(url))
    }

    pub(super) fn authorities(&self) -> anyhow::Result<Option<String>> {
        self.ca.as_deref().map(read).transpose()
    }

    /// The docker configuration with the logins, if there is one.
    pub(super) fn login(&self) -> anyhow::Result<Option<PathBuf>> {
        let path = match &self.docker_config {
            Some(path) => path.clone(),
            None => match docker_folder() {
                Some(folder) => folder.join("config.json"),
                None => return Ok(None),
            },
        };
        Ok(Some(
            std::path::absolute(&path).with_context(|| format!("{} is no path", path.display()))?,
        ))
    }

    /// A repository that is only to be looked at, and whether something vouches for it. Where nothing does, what is seen
    /// is not remembered: a look is no reason to sign on top of what was looked at.
    pub(super) async fn to_look_at(&self, gun: &Gun) -> anyhow::Result<(Site, bool)> {
        let site = self.sites()?.site(gun)?;
        // A memory that cannot be read is told by the look itself.
        let known = site.is_known(Instant::now() + self.timeout).await.unwrap_or(true);
        if known || self.anchor() != Anchor::OwnRoot {
            Ok((site, true))
        } else {
            Ok((site.forgetful()?, false))
        }
    }
}

/// A duration after which what is signed is of no use. Shorter than the difference of two clocks, nobody would ever
/// trust it: such a root blocks its repository for everybody.
fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration::parse(text)?;
    if lifetime < SHORTEST_LIFE {
        return Err(format!(
            "{text:?} is less than an hour: it would be over before anybody sees it"
        ));
    }
    Ok(lifetime)
}

const SHORTEST_LIFE: Duration = Duration::from_secs(3600);

pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
