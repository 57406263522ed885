//! Flags that say whom to trust, for `verify` and `webhook` alike: they make a policy of one rule, so that flags and
//! files are judged by the same code.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use url::Url;

use super::duration;
use crate::policy::PolicySet;

/// What the policy made of flags is called in messages.
const NAME: &str = "command-line";

/// Whom to trust, in place of a policy file.
#[derive(Args, Debug)]
#[group(id = "trust", multiple = true)]
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
    pub(super) fn policy(&self, docker_config: Option<PathBuf>) -> anyhow::Result<PolicySet> {
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
            let lines: Vec<_> = findings
                .iter()
                .map(|finding| format!("{:#}", anyhow::anyhow!("{finding}")))
                .collect();
            anyhow::anyhow!(lines.join("\n"))
        })
    }

    fn verifier(&self, docker_config: Option<PathBuf>) -> anyhow::Result<Value> {
        let mut root = json!({});
        if !self.root_key.is_empty() {
            let keys = self
                .root_key
                .iter()
                .map(|path| read(path))
                .collect::<anyhow::Result<Vec<_>>>()?;
            root["keys"] = keys.into();
        }
        if !self.root_key_id.is_empty() {
            root["keyIDs"] = self.root_key_id.clone().into();
        }
        if let Some(path) = &self.root_ca {
            root["ca"] = read(path)?.into();
        }
        if self.tofu {
            root["trustOnFirstUse"] = true.into();
        }
        if self.skip_name_check {
            root["skipNameCheck"] = true.into();
        }
        let mut notary = json!({"root": root, "maxStaleness": format!("{}s", self.max_staleness.as_secs())});
        if let Some(server) = &self.trust_server {
            notary["server"] = server.as_str().into();
        }
        if let Some(path) = &self.ca {
            notary["ca"] = json!({"pem": read(path)?});
        }
        if let Some(path) = self.docker_config.clone().or(docker_config) {
            let path =
                std::path::absolute(&path).with_context(|| format!("{} is no path", path.display()))?;
            notary["credentials"] = json!({"dockerConfig": path});
        }
        if !self.signer.is_empty() {
            notary["signers"] = self
                .signer
                .iter()
                .map(|text| signer(text))
                .collect::<anyhow::Result<Vec<_>>>()?
                .into();
        }
        Ok(notary)
    }
}

/// `alice`, or `alice=alice.pem`.
fn signer(text: &str) -> anyhow::Result<Value> {
    match text.split_once('=') {
        Some((name, path)) => Ok(json!({"name": name, "key": read(Path::new(path))?})),
        None => Ok(json!({"name": text})),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
