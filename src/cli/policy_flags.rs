//! What images are judged by, and what was seen before: the flags that `verify` and `webhook` share.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::Args;

use super::trust_flags::TrustFlags;
use crate::policy::PolicySet;
use crate::policy_files::PolicyFiles;
use crate::store::Store;
use crate::telemetry::chain;
use crate::trust::Trust;

/// Policy files, or flags in their place.
#[derive(Args, Debug)]
pub(super) struct PolicyFlags {
    /// Policy file or folder; may be repeated. The webhook reads it again when it changes
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_POLICY", value_delimiter = ',')]
    policy: Vec<PathBuf>,
    #[command(flatten)]
    trust: TrustFlags,
}

impl PolicyFlags {
    /// Whether a policy or anything in its place was given.
    pub(super) fn given(&self) -> bool {
        !self.policy.is_empty() || self.trust.given()
    }

    /// The policies, and their files if they are in files. `docker_config` has the login if no flag says where one is.
    pub(super) fn read(
        &self,
        docker_config: Option<&Path>,
    ) -> anyhow::Result<(Option<PolicyFiles>, PolicySet)> {
        if self.policy.is_empty() {
            return Ok((None, self.trust.policy(docker_config)?));
        }
        if self.trust.given() {
            bail!("--policy says whom to trust: leave the trust flags and their variables away");
        }
        let (files, policies) = PolicyFiles::open(self.policy.iter().cloned())?;
        Ok((Some(files), policies))
    }
}

/// Makes the verifiers of `policies` ready; an error names all that cannot be.
pub(super) fn prepare(trust: &Trust, policies: &PolicySet) -> anyhow::Result<()> {
    trust.prepare(policies).map_err(|faults| {
        let lines: Vec<_> = faults.iter().map(|fault| chain(fault)).collect();
        anyhow!(lines.join("\n"))
    })
}

/// What was seen before. Where nothing was, `warn` is told what that costs.
pub(super) fn store(dir: Option<&Path>, warn: impl FnOnce(&str)) -> anyhow::Result<Store> {
    let Some(dir) = dir else {
        warn("no --state-dir: what is seen is forgotten at the end, and a rollback after it goes unnoticed");
        return Ok(Store::memory()?);
    };
    let store = Store::open(dir)?;
    if store.is_new() {
        warn(
            "the state directory is new: a rollback to before now goes unnoticed; if it had been used, its state is lost",
        );
    }
    Ok(store)
}
