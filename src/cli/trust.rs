//! `countersign trust …`.

mod desk;
mod diff;
mod image;
mod initial_flags;
mod inspect;
mod key;
mod keyring;
mod owner;
mod sign;
mod signer;
mod site_flags;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Output, Status, complain, print};
use crate::clock;
use crate::cluster::connect;
use crate::reference::Gun;
use crate::store::records::{self, Note};
use crate::store::{Forgotten, Store};
use crate::telemetry::chain;

/// Arguments of `trust`.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes repositories: their keys, and trust data without a tag
    Init(Box<owner::Init>),
    /// Signs tags of images; a repository that has no trust data is made
    ///
    /// Where the repository has signers, a tag is signed by each of them whose key is at hand; else by its owner.
    /// Prints what was published; exits with 1 if nothing could be, 2 on wrong usage, 3 if it may be tried again.
    Sign(Box<sign::Sign>),
    /// Withdraws signatures of tags
    Revoke(Box<sign::Revoke>),
    /// Manages who may sign
    #[command(subcommand)]
    Signer(signer::Signer),
    /// Gives a role new keys
    Rotate(Box<owner::Rotate>),
    /// Signs files again as they are, so that they are good for longer
    Witness(Box<owner::Witness>),
    /// Shows signed tags, signers and keys, as docker trust inspect does
    Inspect(Box<inspect::Inspect>),
    /// Shows what changed between two versions of a role's file
    Diff(Box<diff::Diff>),
    /// Deletes the trust data of repositories
    Delete(Box<owner::Delete>),
    /// Makes, moves and lists the private keys that sign
    Key(key::Args),
    /// Forgets what was seen of a repository, so that it may begin anew
    ///
    /// The way out when a repository was deleted and initialised again, or its server restored from a backup. From
    /// then on what the server says is believed as at first contact: keys that are pinned still have to sign.
    /// Prints what was forgotten; exits with 1 if nothing was known, with 3 if the cluster could not be asked.
    Reset(Reset),
}

/// Where what was seen is remembered.
#[derive(ClapArgs, Debug)]
#[group(required = true, multiple = false)]
struct Place {
    /// Where what was seen is remembered, if that is this machine
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// It is remembered in the cluster: running replicas take notice
    #[arg(long, env = "COUNTERSIGN_KUBE")]
    kube: bool,
}

#[derive(ClapArgs, Debug)]
struct Reset {
    /// The repository, with its registry: registry.example.com/team/app
    gun: Gun,
    #[command(flatten)]
    place: Place,
    /// How to reach the API server [default: KUBECONFIG, else the service account of the pod]
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "state_dir",
        env = "COUNTERSIGN_KUBECONFIG"
    )]
    kubeconfig: Option<PathBuf>,
    /// Base URL of the trust server to forget it on [default: all]
    #[arg(
        long,
        visible_alias = "server",
        value_name = "URL",
        env = "COUNTERSIGN_TRUST_SERVER"
    )]
    trust_server: Option<Url>,
    /// Why, for the log of the replicas and the audit log of the cluster; at most 256 characters
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "state_dir",
        env = "COUNTERSIGN_REASON"
    )]
    reason: Option<String>,
    /// How to print what was forgotten
    #[arg(long, value_enum, default_value_t = Output::Text, env = "COUNTERSIGN_OUTPUT")]
    output: Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Status> {
    match &args.command {
        Command::Init(args) => owner::init(args),
        Command::Sign(args) => sign::sign(args),
        Command::Revoke(args) => sign::revoke(args),
        Command::Signer(command) => signer::run(command),
        Command::Rotate(args) => owner::rotate(args),
        Command::Witness(args) => owner::witness(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Delete(args) => owner::delete(args),
        Command::Key(args) => key::run(args),
        Command::Reset(args) => run_reset(args),
    }
}

fn run_reset(reset: &Reset) -> anyhow::Result<Status> {
    let forgotten = if reset.place.kube {
        match reset.in_cluster()? {
            Ok(forgotten) => forgotten,
            Err(error) => {
                complain(&format!("error: {}", chain(&error)));
                return Ok(Status::Unavailable);
            }
        }
    } else {
        reset.on_this_machine()?
    };
    if reset.output == Output::Json {
        print(&as_json(&reset.gun, &forgotten).to_string())?;
    }
    if forgotten.is_empty() {
        complain(&format!("nothing is known of {}", reset.gun));
        return Ok(Status::Denied);
    }
    if reset.output == Output::Text {
        for what in &forgotten {
            print(&told(&reset.gun, what))?;
        }
    }
    Ok(Status::Success)
}

impl Reset {
    fn server(&self) -> Option<&str> {
        self.trust_server.as_ref().map(Url::as_str)
    }

    fn on_this_machine(&self) -> anyhow::Result<Vec<Forgotten>> {
        let dir = self
            .place
            .state_dir
            .as_deref()
            .context("give --state-dir or --kube")?;
        if !dir.is_dir() {
            bail!("there is no state directory {}", dir.display());
        }
        let store = Store::open(dir)?;
        store
            .forget(self.server(), &self.gun)
            .context("nothing was forgotten")
    }

    fn in_cluster(&self) -> anyhow::Result<Result<Vec<Forgotten>, crate::store::StoreError>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let client = connect(self.kubeconfig.as_deref()).await?;
            let note = Note {
                reason: self.reason.clone(),
                at: clock::now(),
            };
            Ok(records::reset(&client, self.server(), &self.gun, &note).await)
        })
    }
}

fn told(gun: &Gun, what: &Forgotten) -> String {
    let versions: Vec<_> = what
        .versions
        .iter()
        .map(|(role, version)| format!("{role} {version}"))
        .collect();
    let Forgotten { server, roots, .. } = what;
    format!(
        "forgot {gun} on {server}: {roots} roots, versions {}",
        versions.join(", ")
    )
}

fn as_json(gun: &Gun, forgotten: &[Forgotten]) -> Value {
    let each = forgotten.iter().map(|what| {
        let versions = what
            .versions
            .iter()
            .map(|(role, version)| (role.clone(), json!(version)));
        json!({"server": what.server, "roots": what.roots, "versions": versions.collect::<Map<_, _>>()})
    });
    json!({"gun": gun.as_str(), "forgotten": each.collect::<Vec<_>>()})
}
