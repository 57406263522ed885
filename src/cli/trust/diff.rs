//! `countersign trust diff`: what changed between two versions of a role's file.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use clap::Args;
use tokio::time::Instant;

use super::super::{Status, complain, print};
use super::desk::fail;
use super::image::repository;
use super::site_flags::SiteFlags;
use crate::publish::{self, PublishError};
use crate::trust::Setback;
use crate::tuf::Role;
use crate::tuf::edit::{Content, Published};

/// Arguments of `trust diff`.
#[derive(Args, Debug)]
pub(super) struct Diff {
    /// Repository, without a tag
    repository: String,
    /// The role [default: targets/releases where there is one, else targets]
    #[arg(long, env = "COUNTERSIGN_ROLE")]
    role: Option<Role>,
    /// The older version [default: the one before the newer]
    #[arg(long, value_name = "VERSION", env = "COUNTERSIGN_FROM")]
    from: Option<u64>,
    /// The newer version [default: the present one]
    #[arg(long, value_name = "VERSION", env = "COUNTERSIGN_TO_VERSION")]
    to_version: Option<u64>,
    #[command(flatten)]
    site: SiteFlags,
}

pub(super) fn run(args: &Diff) -> anyhow::Result<Status> {
    let gun = repository(&args.repository)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (site, _) = runtime.block_on(args.site.to_look_at(&gun))?;
    let timeout = args.site.timeout();
    let published = match runtime.block_on(publish::look(&site, timeout)) {
        Ok((published, _)) => published,
        Err(error) => return Ok(fail(&error)),
    };
    let role = args.role.clone().unwrap_or_else(|| usual(&published));
    if !matches!(role, Role::Targets | Role::Delegation(_)) {
        bail!("{role} has no tags: name targets or a delegation");
    }
    let Some(present) = published.version(&role) else {
        bail!("{gun} has no {role} that verifies");
    };
    let to = args.to_version.unwrap_or(present);
    let from = args.from.unwrap_or(to.saturating_sub(1));
    let fetch = |version| {
        runtime.block_on(async {
            if version == 0 {
                return Ok(Some(Content::default()));
            }
            let deadline = Instant::now() + timeout;
            let file = site.file(&role, version, deadline).await;
            let file = file.map_err(|source| PublishError::Look {
                gun: gun.clone(),
                source: Setback::Unavailable(source),
            })?;
            let Some(file) = file else { return Ok(None) };
            Ok::<_, PublishError>(Some(published.content(&role, version, &file)?))
        })
    };
    let mut contents = Vec::new();
    for version in [from, to] {
        match fetch(version) {
            Ok(Some(content)) => {
                if !content.vouched && version > 0 {
                    complain(&format!(
                        "warning: {role} version {version} is not signed by the role's present keys: it shows what the server \
                         says it was"
                    ));
                }
                contents.push(content);
            }
            Ok(None) => {
                complain(&format!("the server has no version {version} of {role}"));
                return Ok(Status::Denied);
            }
            Err(error) => return Ok(fail(&error)),
        }
    }
    let [older, newer] = contents.as_slice() else {
        bail!("two versions make a difference");
    };
    for line in differences(&older.tags, &newer.tags)
        .into_iter()
        .chain(differences(&older.signers, &newer.signers))
    {
        print(&line)?;
    }
    Ok(Status::Success)
}

fn usual(published: &Published) -> Role {
    let releases = Role::releases();
    if published.version(&releases).is_some() {
        releases
    } else {
        Role::Targets
    }
}

/// A line for each name that came, went, or is another thing now.
fn differences(older: &BTreeMap<String, String>, newer: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<_> = older.keys().chain(newer.keys()).collect();
    let lines = names
        .into_iter()
        .filter_map(|name| match (older.get(name), newer.get(name)) {
            (None, Some(now)) => Some(format!("+ {name} {now}")),
            (Some(then), None) => Some(format!("- {name} {then}")),
            (Some(then), Some(now)) if then != now => Some(format!("~ {name} {then} -> {now}")),
            (Some(_) | None, _) => None,
        });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_went_and_changed_is_told_and_nothing_else() {
        let map = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let older = map(&[("1.0", "a"), ("1.1", "b"), ("1.2", "c")]);
        let newer = map(&[("1.0", "a"), ("1.1", "x"), ("2.0", "d")]);
        assert_eq!(
            differences(&older, &newer),
            ["~ 1.1 b -> x", "- 1.2 c", "+ 2.0 d"]
        );
    }
}
