//! Flags that say whom to trust, for `verify` and `webhook` alike: they make a policy of one rule, so that flags and
//! files are judged by the same code.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};
use url::Url;

use super::duration;
use crate::policy::PolicySet;

/// What the policy made of flags is called in messages.
const NAME: &str = "command-line";

/// Whom to trust, in place of a policy file.
#[derive(Args, Debug)]
#[command(next_help_heading = "Trust, in place of --policy")]
pub(super) struct TrustFlags {
    /// Base URL of the trust server [default: docker's rule, https://<registry>, for docker.io notary.docker.io]
    #[arg(long, value_name = "URL", env = "COUNTERSIGN_TRUST_SERVER")]
    trust_server: Option<Url>,
    /// PEM certificates of authorities, added to the system's, for the trust server
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_CA")]
    ca: Option<PathBuf>,
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
    /// PEM certificates of authorities that must have issued the root certificate
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_ROOT_CA")]
    root_ca: Option<PathBuf>,
    /// Trust the first root seen, and remember it in --state-dir
    #[arg(long, env = "COUNTERSIGN_TOFU")]
    tofu: bool,
    /// Accept root certificates made out to any name
    #[arg(long, env = "COUNTERSIGN_SKIP_NAME_CHECK")]
    skip_name_check: bool,
    /// Signer that must have signed too, with this key if one is given; may be repeated, all are required
    #[arg(
        long,
        value_name = "NAME[=PEMFILE]",
        env = "COUNTERSIGN_SIGNER",
        value_delimiter = ','
    )]
    signer: Vec<String>,
    /// Docker configuration with the login for the trust server
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_DOCKER_CONFIG")]
    docker_config: Option<PathBuf>,
    /// How long verified metadata may serve while the trust server cannot be reached
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse, env = "COUNTERSIGN_MAX_STALENESS")]
    max_staleness: Duration,
}

impl TrustFlags {
    /// Whether any of them was given that a policy would replace.
    pub(super) fn given(&self) -> bool {
        self.trust_server.is_some()
            || self.ca.is_some()
            || !self.root_key.is_empty()
            || !self.root_key_id.is_empty()
            || self.root_ca.is_some()
            || self.tofu
            || self.skip_name_check
            || !self.signer.is_empty()
            || self.docker_config.is_some()
            || !self.max_staleness.is_zero()
    }

    /// The policy they amount to: every image must be verified. `docker_config` is used if none is given.
    pub(super) fn policy(&self, docker_config: Option<&Path>) -> anyhow::Result<PolicySet> {
        if self.root_key.is_empty() && self.root_key_id.is_empty() && self.root_ca.is_none() && !self.tofu {
            bail!(
                "nothing says whom to trust: give --policy, --root-key, --root-key-id, --root-ca or --tofu"
            );
        }
        let policy = json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "ClusterTrustPolicy", "metadata": {"name": NAME},
            "spec": {
                "verifiers": [{"name": NAME, "notary": self.verifier(docker_config)?}],
                "rules": [{"images": ["**"], "verify": {"anyOf": [NAME]}}],
            },
        });
        PolicySet::parse([(PathBuf::from("the command line"), policy.to_string())]).map_err(|findings| {
            let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
            anyhow!(lines.join("\n"))
        })
    }

    fn verifier(&self, docker_config: Option<&Path>) -> anyhow::Result<Value> {
        let authority = optional(self.ca.as_deref(), read)?;
        let login = optional(self.docker_config.as_deref().or(docker_config), absolute)?;
        Ok(object([
            (
                "server",
                self.trust_server.as_ref().map(|url| url.as_str().into()),
            ),
            ("ca", authority.map(|pem| json!({"pem": pem}))),
            ("credentials", login.map(|path| json!({"dockerConfig": path}))),
            ("root", Some(self.root()?)),
            ("signers", listed(&self.signer, |text| signer(text))?),
            (
                "maxStaleness",
                Some(format!("{}s", self.max_staleness.as_secs()).into()),
            ),
        ]))
    }

    fn root(&self) -> anyhow::Result<Value> {
        Ok(object([
            (
                "keys",
                listed(&self.root_key, |path| read(path).map(Value::from))?,
            ),
            ("keyIDs", listed(&self.root_key_id, |id| Ok(id.as_str().into()))?),
            ("ca", optional(self.root_ca.as_deref(), read)?.map(Value::from)),
            ("trustOnFirstUse", self.tofu.then(|| true.into())),
            ("skipNameCheck", self.skip_name_check.then(|| true.into())),
        ]))
    }
}

/// The members that have a value.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    members
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// What `read` makes of each, if there is any.
fn listed<T>(texts: &[T], read: impl Fn(&T) -> anyhow::Result<Value>) -> anyhow::Result<Option<Value>> {
    let values: Vec<_> = texts.iter().map(read).collect::<Result<_, _>>()?;
    Ok((!values.is_empty()).then(|| values.into()))
}

fn optional<T, U>(value: Option<T>, read: impl Fn(T) -> anyhow::Result<U>) -> anyhow::Result<Option<U>> {
    value.map(read).transpose()
}

/// `alice`, or `alice=alice.pem`.
fn signer(text: &str) -> anyhow::Result<Value> {
    match text.split_once('=') {
        Some((name, path)) => Ok(json!({"name": name, "key": read(Path::new(path))?})),
        None => Ok(json!({"name": text})),
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
