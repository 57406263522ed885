//! Where the policies of a cluster are: the flags of `webhook --kube`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;
use serde_json::Value;

use crate::cluster::{Cluster, Configurations, ConnectError, PullSecrets};
use crate::policy::{Compiled, Document, Home, Mode, PolicySet, examine_files, read, without_verifiers};
use crate::policy_files::read_texts;
use crate::telemetry::chain;
use crate::trust::Trust;

/// Policies from the cluster, in place of files.
#[derive(Args, Debug)]
#[command(next_help_heading = "Policies from the cluster, in place of --policy")]
pub(super) struct KubeFlags {
    /// Take policies from the cluster, where they are objects of their own kinds, and remember there what was seen
    #[arg(long, env = "COUNTERSIGN_KUBE")]
    kube: bool,
    /// How to reach the API server [default: KUBECONFIG, else the service account of the pod]
    #[arg(long, value_name = "FILE", requires = "kube", env = "COUNTERSIGN_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the Secrets that cluster-wide policies name [default: the pod's, else countersign-system]
    #[arg(
        long,
        value_name = "NAME",
        requires = "kube",
        env = "COUNTERSIGN_RELEASE_NAMESPACE"
    )]
    release_namespace: Option<String>,
    /// Name of the webhook configurations, of both kinds, that call this webhook
    #[arg(
        long,
        value_name = "NAME",
        requires = "kube",
        env = "COUNTERSIGN_WEBHOOK_CONFIGURATION"
    )]
    webhook_configuration: Option<String>,
    /// Ask trust servers that want a login with those of the workload too: its imagePullSecrets, or its service account's
    #[arg(long, requires = "kube", env = "COUNTERSIGN_WORKLOAD_PULL_SECRETS")]
    workload_pull_secrets: bool,
    /// Policy file that is in force while the cluster has no cluster-wide policy
    #[arg(
        long,
        value_name = "FILE",
        requires = "kube",
        env = "COUNTERSIGN_DEFAULT_POLICY"
    )]
    default_policy: Option<PathBuf>,
}

impl KubeFlags {
    /// Whether policies are in the cluster.
    pub(super) const fn given(&self) -> bool {
        self.kube
    }

    /// The cluster; nothing is asked of it yet.
    pub(super) async fn connect(&self) -> Result<Cluster, ConnectError> {
        Cluster::connect(self.kubeconfig.as_deref(), &self.release_namespace()).await
    }

    /// The webhook configurations that call us, if they are named.
    pub(super) fn configurations(&self, cluster: &Cluster) -> Option<Configurations> {
        let name = self.webhook_configuration.as_deref()?;
        Some(cluster.configurations(name))
    }

    /// The logins of workloads, if they are to be used.
    pub(super) fn pull_secrets(&self, cluster: &Cluster) -> PullSecrets {
        if self.workload_pull_secrets {
            cluster.pull_secrets()
        } else {
            PullSecrets::default()
        }
    }

    /// Whether there is a default for a cluster without policies.
    pub(super) const fn has_default(&self) -> bool {
        self.default_policy.is_some()
    }

    /// `cluster` with the default that was given, and with an eye on who calls us.
    pub(super) fn equip(&self, cluster: Cluster, trust: &Trust, mode: Mode) -> anyhow::Result<Cluster> {
        let cluster = match &self.default_policy {
            Some(path) => cluster.with_default(default_policies(path, trust)?),
            None => cluster,
        };
        Ok(match &self.webhook_configuration {
            Some(name) => cluster.registered_as(name, mode == Mode::Enforce),
            None => cluster,
        })
    }

    fn release_namespace(&self) -> String {
        let given = self.release_namespace.clone();
        given
            .or_else(|| std::env::var("POD_NAMESPACE").ok())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "countersign-system".to_owned())
    }
}

/// The policies of a file that stands in for those of a cluster, as the objects they would be there.
fn default_policies(path: &Path, trust: &Trust) -> anyhow::Result<Vec<Value>> {
    let (texts, errors) = read_texts(&[path.to_owned()]);
    let mut lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let documents: Vec<_> = texts.iter().flat_map(|(file, text)| read(file, text).0).collect();
    if documents.iter().any(|document| !document.is_cluster_wide()) {
        lines.push("only a ClusterTrustPolicy can stand in for those of a cluster".to_owned());
    }
    let examined = examine_files(texts, Home::Cluster);
    let examined = examined.unusable(|verifier| trust.check(verifier).err().map(|fault| chain(&fault)));
    lines.extend(examined.errors.iter().map(ToString::to_string));
    if lines.is_empty() {
        return Ok(documents.iter().map(Document::to_json).collect());
    }
    Err(anyhow!(lines.join("\n")).context("--default-policy cannot be used"))
}

/// Makes the verifiers of `policies` ready. Those that cannot be are taken out of their policies, whose rules for them
/// then deny. Gives what is in force.
pub(super) fn prepare_each(trust: &Trust, mut policies: Vec<Compiled>) -> (PolicySet, Vec<Compiled>) {
    loop {
        let set = PolicySet::new(policies.iter().map(|compiled| Arc::clone(&compiled.policy)));
        let Err(faults) = trust.prepare(&set) else {
            return (set, policies);
        };
        // Each round takes out the verifiers that are to blame, so the rounds have an end.
        let mut progress = false;
        for compiled in &mut policies {
            let name = compiled.policy.name.to_string();
            let own = faults.iter().filter(|fault| fault.policy == name);
            let own: BTreeMap<_, _> = own
                .map(|fault| (fault.verifier.clone(), chain(&fault.source)))
                .collect();
            if own.is_empty() {
                continue;
            }
            progress = true;
            *compiled = without_verifiers(compiled, &own);
        }
        // What is not ready refuses.
        if !progress {
            return (set, policies);
        }
    }
}
