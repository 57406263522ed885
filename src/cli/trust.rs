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

use anyhow::Context as _;
use clap::{Args as ClapArgs, Subcommand};
use url::Url;

use super::{Status, complain, print};
use crate::reference::Gun;
use crate::store::{Forgotten, Store};

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
    /// Prints what was forgotten; exits with 1 if nothing was known.
    Reset(Reset),
}

#[derive(ClapArgs, Debug)]
struct Reset {
    /// The repository, with its registry: registry.example.com/team/app
    gun: Gun,
    /// Where what was seen is remembered
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_STATE_DIR")]
    state_dir: PathBuf,
    /// Base URL of the trust server to forget it on [default: all]
    #[arg(long, value_name = "URL", env = "COUNTERSIGN_TRUST_SERVER")]
    trust_server: Option<Url>,
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
    if !reset.state_dir.is_dir() {
        anyhow::bail!("there is no state directory {}", reset.state_dir.display());
    }
    let store = Store::open(&reset.state_dir)?;
    let server = reset.trust_server.as_ref().map(Url::as_str);
    let forgotten = store
        .forget(server, &reset.gun)
        .context("nothing was forgotten")?;
    if forgotten.is_empty() {
        complain(&format!("nothing is known of {}", reset.gun));
        return Ok(Status::Denied);
    }
    for what in &forgotten {
        print(&told(&reset.gun, what))?;
    }
    Ok(Status::Success)
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
