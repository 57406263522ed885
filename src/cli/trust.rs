//! `countersign trust …`.

mod key;

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
