//! Where the policies of a cluster are: the flags of `webhook --kube`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::cluster::{Cluster, Configurations, ConnectError, PullSecrets};
use crate::policy::{Compiled, PolicySet, without_verifiers};
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

    fn release_namespace(&self) -> String {
        let given = self.release_namespace.clone();
        given
            .or_else(|| std::env::var("POD_NAMESPACE").ok())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "countersign-system".to_owned())
    }
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
            let before = compiled.fault.take();
            *compiled = without_verifiers(&compiled.policy, &own);
            if let (Some(before), Some(fault)) = (before, &mut compiled.fault) {
                fault.message = format!("{}; {}", before.message, fault.message);
            }
        }
        // What is not ready refuses.
        if !progress {
            return (set, policies);
        }
    }
}
