//! What the owner of a repository does with it as a whole: `init`, `rotate`, `witness`, `delete`.

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::super::Status;
use super::desk::{Desk, DeskFlags};
use super::image::repository;
use super::initial_flags::InitialFlags;
use crate::publish::{Report, Rotation, Witness as How};
use crate::reference::Gun;
use crate::tuf::{KeyId, Role};

/// Arguments of `trust init`.
#[derive(Args, Debug)]
pub(super) struct Init {
    /// Repositories to make, without a tag
    #[arg(required = true, value_name = "REPOSITORY")]
    repositories: Vec<String>,
    #[command(flatten)]
    initial: InitialFlags,
    #[command(flatten)]
    desk: DeskFlags,
}

pub(super) fn init(args: &Init) -> anyhow::Result<Status> {
    let guns = repositories(&args.repositories)?;
    let desk = Desk::new(&args.desk, false)?;
    let initial = args.initial.initial();
    desk.each(&guns, &async |publisher, _| publisher.init(&initial, &[]).await)
}

fn repositories(texts: &[String]) -> anyhow::Result<Vec<Gun>> {
    let mut guns = texts
        .iter()
        .map(|text| repository(text))
        .collect::<Result<Vec<_>, _>>()?;
    guns.dedup();
    Ok(guns)
}

/// Arguments of `trust rotate`.
#[derive(Args, Debug)]
pub(super) struct Rotate {
    /// Whose keys are replaced
    #[arg(value_enum)]
    role: Base,
    /// Repositories to rotate them in, without a tag
    #[arg(required = true, value_name = "REPOSITORY")]
    repositories: Vec<String>,
    /// root: keep the keys, and put them in new certificates, as when those are about to expire
    #[arg(long, conflicts_with = "to", env = "COUNTERSIGN_REISSUE")]
    reissue: bool,
    /// root: id of the key to rotate to [default: a new one]
    #[arg(long, value_name = "HEX", env = "COUNTERSIGN_TO")]
    to: Option<KeyId>,
    /// snapshot: let the server hold the key, so that signers publish without ours
    #[arg(long, env = "COUNTERSIGN_SERVER_MANAGED")]
    server_managed: bool,
    #[command(flatten)]
    desk: DeskFlags,
}

/// A role whose keys root lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Base {
    /// The anchor; signed by the old keys and the new
    Root,
    /// The owner's key for tags and signers
    Targets,
    /// The key that says which files belong together
    Snapshot,
    /// The server's key for its daily word
    Timestamp,
}

impl Rotate {
    fn rotation(&self) -> anyhow::Result<Rotation> {
        if (self.reissue || self.to.is_some()) && self.role != Base::Root {
            bail!("--reissue and --to are for root: other keys have no certificates, and are made anew");
        }
        Ok(match self.role {
            Base::Root if self.reissue => Rotation::Reissue,
            Base::Root => Rotation::Root(self.to),
            Base::Targets if self.server_managed => bail!("the server cannot hold the key of targets"),
            Base::Targets => Rotation::Targets,
            Base::Snapshot if self.server_managed => Rotation::ServerSnapshot,
            Base::Snapshot => Rotation::OwnSnapshot,
            Base::Timestamp => Rotation::Timestamp,
        })
    }
}

pub(super) fn rotate(args: &Rotate) -> anyhow::Result<Status> {
    let rotation = args.rotation()?;
    let guns = repositories(&args.repositories)?;
    let desk = Desk::new(&args.desk, false)?;
    desk.each(&guns, &async |publisher, _| publisher.rotate(rotation).await)
}

/// Arguments of `trust witness`.
#[derive(Args, Debug)]
pub(super) struct Witness {
    /// Repository, without a tag
    repository: String,
    /// Roles whose files are signed again: root, targets, or a delegation such as targets/releases
    #[arg(required = true, value_name = "ROLE")]
    roles: Vec<Role>,
    /// Vouch for the tags of a file that does not verify
    #[arg(long, conflicts_with = "empty", env = "COUNTERSIGN_ADOPT")]
    adopt: bool,
    /// Drop the tags of a file that does not verify
    #[arg(long, env = "COUNTERSIGN_EMPTY")]
    empty: bool,
    #[command(flatten)]
    desk: DeskFlags,
}

pub(super) fn witness(args: &Witness) -> anyhow::Result<Status> {
    let gun = repository(&args.repository)?;
    let how = match (args.adopt, args.empty) {
        (true, _) => How::Adopt,
        (_, true) => How::Empty,
        (false, false) => How::Renew,
    };
    let desk = Desk::new(&args.desk, false)?;
    desk.each([&gun], &async |publisher, _| {
        publisher.witness(&args.roles, how).await
    })
}

/// Arguments of `trust delete`.
#[derive(Args, Debug)]
pub(super) struct Delete {
    /// Repositories whose trust data is deleted, without a tag
    #[arg(required = true, value_name = "REPOSITORY")]
    repositories: Vec<String>,
    /// Do it: nothing brings signatures back
    #[arg(long, env = "COUNTERSIGN_YES")]
    yes: bool,
    #[command(flatten)]
    desk: DeskFlags,
}

pub(super) fn delete(args: &Delete) -> anyhow::Result<Status> {
    let guns = repositories(&args.repositories)?;
    if !args.yes && args.desk.publishing.effect() == crate::publish::Effect::Publish {
        bail!(
            "this deletes every signature of {}, and nothing brings them back: say --yes",
            listed(&guns)
        );
    }
    let desk = Desk::new(&args.desk, false)?;
    desk.each(&guns, &async |publisher, gun| {
        publisher.delete().await.map(|()| Report::deleted(gun.clone()))
    })
}

fn listed(guns: &[Gun]) -> String {
    let guns: Vec<_> = guns.iter().map(Gun::as_str).collect();
    guns.join(", ")
}
