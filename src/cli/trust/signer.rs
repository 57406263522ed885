//! `countersign trust signer …`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::super::{Status, print};
use super::desk::{Desk, DeskFlags};
use super::image::repository;
use super::initial_flags::InitialFlags;
use super::inspect::show;
use super::site_flags::{SiteFlags, read};
use crate::clock;
use crate::publish::{NewSigner, PublishError};
use crate::tuf::edit::{Published, SignerState};
use crate::tuf::{DelegationName, PublicKey};

/// Signers of repositories.
#[derive(Debug, Subcommand)]
pub(super) enum Signer {
    /// Lets a signer sign tags: needs the key of targets
    Add(Box<Add>),
    /// Takes a signer's rights away: needs the key of targets
    Remove(Box<Remove>),
    /// Lists who may sign, with which keys, and whether their files verify
    List(Box<List>),
}

#[derive(Args, Debug)]
pub(super) struct Add {
    /// The signer's name: lower-case letters, digits, - and _
    name: String,
    /// Repositories, without a tag
    #[arg(required = true, value_name = "REPOSITORY")]
    repositories: Vec<String>,
    /// PEM file with the signer's public key, or a certificate of it; may be repeated
    #[arg(
        long,
        required = true,
        value_name = "PEMFILE",
        env = "COUNTERSIGN_KEY",
        value_delimiter = ','
    )]
    key: Vec<PathBuf>,
    /// Beginning of the tags the signer may sign; may be repeated [default: every tag]
    #[arg(long, value_name = "PREFIX", env = "COUNTERSIGN_PATH", value_delimiter = ',')]
    path: Vec<String>,
    /// How many of the signer's keys must sign in the signer's own role [default: as many as did, 1 for a new signer]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), env = "COUNTERSIGN_THRESHOLD")]
    threshold: Option<u64>,
    /// Do it even if tags lose their only signature by it, or a file that does not verify does again
    #[arg(long, env = "COUNTERSIGN_FORCE")]
    force: bool,
    #[command(flatten)]
    initial: InitialFlags,
    #[command(flatten)]
    desk: DeskFlags,
}

#[derive(Args, Debug)]
pub(super) struct Remove {
    /// The signer's name
    name: String,
    /// Repositories, without a tag
    #[arg(required = true, value_name = "REPOSITORY")]
    repositories: Vec<String>,
    /// Do it even if released tags lose their only signature
    #[arg(long, env = "COUNTERSIGN_FORCE")]
    force: bool,
    #[command(flatten)]
    desk: DeskFlags,
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// Repository, without a tag
    repository: String,
    #[command(flatten)]
    site: SiteFlags,
}

pub(super) fn run(command: &Signer) -> anyhow::Result<Status> {
    match command {
        Signer::Add(args) => add(args),
        Signer::Remove(args) => remove(args),
        Signer::List(args) => list(args),
    }
}

fn add(args: &Add) -> anyhow::Result<Status> {
    let name = signer(&args.name)?;
    let keys = args.key.iter().map(|path| {
        let key = PublicKey::of_signer(&read(path)?, clock::now());
        key.map(Arc::new)
            .with_context(|| format!("{} holds no public key of a signer", path.display()))
    });
    let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
    let paths: Vec<Box<str>> = if args.path.is_empty() {
        vec!["".into()]
    } else {
        args.path.iter().map(|path| path.as_str().into()).collect()
    };
    let initial = args.initial.initial();
    let guns = args
        .repositories
        .iter()
        .map(|text| repository(text))
        .collect::<Result<Vec<_>, _>>()?;
    let signer = NewSigner {
        name,
        keys,
        threshold: args.threshold,
        paths,
    };
    let desk = Desk::new(&args.desk, args.force)?;
    desk.each(&guns, &async |publisher, _| {
        publisher.add_signer(&signer, &initial).await
    })
}

fn remove(args: &Remove) -> anyhow::Result<Status> {
    let name = signer(&args.name)?;
    let guns = args
        .repositories
        .iter()
        .map(|text| repository(text))
        .collect::<Result<Vec<_>, _>>()?;
    let desk = Desk::new(&args.desk, args.force)?;
    desk.each(&guns, &async |publisher, _| publisher.remove_signer(&name).await)
}

/// The delegation of a signer, whom docker would take by that name too (§3.9).
pub(super) fn signer(name: &str) -> anyhow::Result<DelegationName> {
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !first || name.contains('/') || name == "releases" {
        bail!(
            "{name:?} is no name for a signer: it begins with a lower-case letter or digit, has - and _ besides, and is \
             not releases"
        );
    }
    format!("targets/{name}")
        .parse()
        .with_context(|| format!("{name:?} is no name for a signer"))
}

fn list(args: &List) -> anyhow::Result<Status> {
    let gun = repository(&args.repository)?;
    show(&args.site, &gun, |published: &Published| {
        for signer in published.delegations() {
            let keys: Vec<_> = signer.keys.iter().map(ToString::to_string).collect();
            let paths: Vec<_> = signer.paths.iter().map(|path| format!("{path:?}")).collect();
            let state = match signer.state {
                SignerState::Published => "published".to_owned(),
                SignerState::Unpublished => "nothing published yet".to_owned(),
                SignerState::Unsound(error) => format!("does not verify: {error}"),
                SignerState::NotLoaded => "not looked at".to_owned(),
            };
            let line = format!(
                "{}\tkeys {}\tthreshold {} of {}\tpaths {}\t{state}",
                signer.name.signer(),
                keys.join(" "),
                signer.threshold,
                keys.len(),
                paths.join(" ")
            );
            print(&line)?;
        }
        Ok::<_, PublishError>(Status::Success).map_err(Into::into)
    })
}
