//! `countersign probe`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;

use super::{Status, complain, duration, print};
use crate::cluster::{Cluster, Probed};
use crate::telemetry::chain;

/// Between two attempts: a registration or a certificate takes seconds to arrive.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `probe`.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    /// Name of the webhook configurations, of both kinds
    #[arg(long, value_name = "NAME", env = "COUNTERSIGN_WEBHOOK_CONFIGURATION")]
    webhook_configuration: String,
    /// How to reach the API server [default: KUBECONFIG, else the service account of the pod]
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Where to connect in place of the registered Service, for example to a forwarded port; the certificate must still
    /// be the Service's
    #[arg(long, value_name = "HOST:PORT", env = "COUNTERSIGN_CONNECT")]
    connect: Option<String>,
    /// How long to try again until everything answers
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse, env = "COUNTERSIGN_WAIT")]
    wait: Duration,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Status> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(probe(args))
}

async fn probe(args: &Args) -> anyhow::Result<Status> {
    let cluster = Cluster::connect(args.kubeconfig.as_deref(), "").await?;
    let began = Instant::now();
    loop {
        let probed = cluster
            .probe(&args.webhook_configuration, args.connect.as_deref())
            .await;
        let well = matches!(&probed, Ok(probed) if probed.iter().all(|entry| entry.outcome.is_ok()));
        if well || began.elapsed() + PAUSE > args.wait {
            return tell(probed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn tell(probed: Result<Vec<Probed>, kube::Error>) -> anyhow::Result<Status> {
    let probed = match probed {
        Ok(probed) => probed,
        Err(error) => {
            let error = chain(&error);
            complain(&format!("unavailable: the registration cannot be read: {error}"));
            return Ok(Status::Unavailable);
        }
    };
    let mut status = Status::Success;
    for Probed { name, outcome } in probed {
        match outcome {
            Ok(()) => print(&format!("{name}: answers"))?,
            Err(error) => {
                complain(&format!("{name}: {}", chain(&error)));
                status = Status::Denied;
            }
        }
    }
    Ok(status)
}
