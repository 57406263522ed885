//! `countersign trust inspect`: what a repository says, as `docker trust inspect` shows it (notary-v1 §6.5).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use super::super::{Status, complain, print};
use super::desk::{fail, worse};
use super::image::either;
use super::site_flags::SiteFlags;
use crate::publish::{self, expiring};
use crate::reference::{Gun, Tag};
use crate::review::verdict::printable;
use crate::tuf::Role;
use crate::tuf::edit::{Published, Row, SignerState};

/// Arguments of `trust inspect`.
#[derive(Args, Debug)]
pub(super) struct Inspect {
    /// Repositories, or tags of them
    #[arg(required = true, value_name = "IMAGE[:TAG]")]
    images: Vec<String>,
    /// How to print what there is
    #[arg(long, value_enum, default_value_t = Output::Table, env = "COUNTERSIGN_OUTPUT")]
    output: Output,
    #[command(flatten)]
    site: SiteFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// What docker trust inspect prints
    Json,
}

/// A repository as docker names its parts.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    name: String,
    signed_tags: Vec<SignedTag>,
    signers: Vec<Keyed>,
    administrative_keys: Vec<Keyed>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SignedTag {
    #[serde(rename = "SignedTag")]
    tag: String,
    /// Hexadecimal digits, without the algorithm.
    digest: String,
    signers: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Keyed {
    name: String,
    keys: Vec<Id>,
}

#[derive(Serialize)]
struct Id {
    #[serde(rename = "ID")]
    id: String,
}

pub(super) fn run(args: &Inspect) -> anyhow::Result<Status> {
    let images = args
        .images
        .iter()
        .map(|text| Ok((text, either(text)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut status = Status::Success;
    let mut found = Vec::new();
    for (text, (gun, tag)) in images {
        let outcome = show(&args.site, &gun, |published| {
            let inspected = Inspected::of(text, published, tag.as_ref());
            let unsigned = tag.is_some() && inspected.signed_tags.is_empty();
            if args.output == Output::Table {
                print(&inspected.table(&gun))?;
            }
            if unsigned {
                complain(&format!("no signatures for {text}"));
            }
            found.push(inspected);
            Ok(if unsigned { Status::Denied } else { Status::Success })
        })?;
        status = worse(status, outcome);
    }
    if args.output == Output::Json {
        print(&json(&found)?)?;
    }
    Ok(status)
}

/// Looks at a repository, lets `tell` show it, and says what is wrong with it. One that only a publisher could still use
/// is shown, and is a no.
pub(super) fn show(
    flags: &SiteFlags,
    gun: &Gun,
    tell: impl FnOnce(&Published) -> anyhow::Result<Status>,
) -> anyhow::Result<Status> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (site, vouched) = runtime.block_on(flags.to_look_at(gun))?;
    let (published, now) = match runtime.block_on(publish::look(&site, flags.timeout())) {
        Ok(found) => found,
        Err(error) => return Ok(fail(&error)),
    };
    if !vouched {
        complain(&format!(
            "warning: {gun} was never seen from here: what follows is what the server shows, and nothing vouches for it"
        ));
    }
    let status = tell(&published)?;
    for warning in expiring(&published, now) {
        complain(&format!("warning: {warning}"));
    }
    Ok(worse(status, soundness(&published, now)))
}

/// Whether the repository would be trusted as it is.
fn soundness(published: &Published, now: Timestamp) -> Status {
    let mut faults = Vec::new();
    for role in published.roles() {
        if published.expires(role).is_some_and(|at| at <= now) {
            faults.push(format!("{role} has expired"));
        }
    }
    for signer in published.delegations() {
        if let SignerState::Unsound(error) = &signer.state {
            faults.push(format!("{}: {error}", signer.name));
        }
    }
    for fault in &faults {
        let fault = printable(fault, usize::MAX);
        complain(&format!("{} is not trusted as it is: {fault}", published.gun()));
    }
    if faults.is_empty() {
        Status::Success
    } else {
        Status::Denied
    }
}

impl Inspected {
    fn of(name: &str, published: &Published, tag: Option<&Tag>) -> Self {
        let rows = published.rows().into_iter();
        let mut rows: Vec<_> = rows
            .filter(|row| tag.is_none_or(|tag| row.tag == *tag) && is_released(row))
            .collect();
        rows.sort_by(|a, b| natural(a.tag.as_str(), b.tag.as_str()));
        let delegations = published.delegations();
        let signers: BTreeMap<_, _> = delegations
            .iter()
            .filter(|signer| Role::Delegation(signer.name.clone()) != Role::releases())
            .map(|signer| {
                let keys = signer.keys.iter().map(ToString::to_string).collect();
                (signer.name.signer().to_owned(), keys)
            })
            .collect();
        let admin = |role: &Role| {
            let keys = published.keys(role);
            keys.iter().map(|key| key.id().to_string()).collect()
        };
        let administrative = [
            ("Root", admin(&Role::Root)),
            ("Repository", admin(&Role::Targets)),
        ];
        Self {
            name: name.to_owned(),
            signed_tags: rows.iter().map(SignedTag::of).collect(),
            signers: signers
                .into_iter()
                .rev()
                .map(|(name, keys)| Keyed::new(&name, keys))
                .collect(),
            administrative_keys: administrative
                .into_iter()
                .map(|(name, keys)| Keyed::new(name, keys))
                .collect(),
        }
    }

    fn table(&self, gun: &Gun) -> String {
        let mut text = format!("{gun}\n\n");
        let rows = self
            .signed_tags
            .iter()
            .map(|row| [row.tag.clone(), row.digest.clone(), row.signers.join(", ")]);
        text += &columns(["SIGNED TAG", "DIGEST", "SIGNERS"], rows.collect());
        let keyed = self.signers.iter().chain(&self.administrative_keys);
        let rows: Vec<_> = keyed
            .map(|keyed| {
                let ids: Vec<_> = keyed.keys.iter().map(|key| key.id.as_str()).collect();
                [keyed.name.clone(), ids.join(", "), String::new()]
            })
            .collect();
        text.push('\n');
        text + &columns(["SIGNER", "KEYS", ""], rows)
    }
}

impl SignedTag {
    fn of(row: &Row) -> Self {
        let signers = row.roles.iter().filter_map(|role| match role {
            Role::Delegation(name) if *role != Role::releases() => Some(name.signer().to_owned()),
            Role::Delegation(_) | Role::Root | Role::Targets | Role::Snapshot | Role::Timestamp => None,
        });
        let mut signers: Vec<_> = signers.collect();
        if signers.is_empty() {
            signers.push("Repo Admin".to_owned());
        }
        Self {
            tag: row.tag.to_string(),
            digest: hex::encode(row.digest.bytes()),
            signers,
        }
    }
}

impl Keyed {
    fn new(name: &str, ids: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            keys: ids.into_iter().map(|id| Id { id }).collect(),
        }
    }
}

fn is_released(row: &Row) -> bool {
    row.roles.contains(&Role::Targets) || row.roles.contains(&Role::releases())
}

/// Left-aligned columns, two spaces apart.
fn columns(head: [&str; 3], rows: Vec<[String; 3]>) -> String {
    let head = head.map(str::to_owned);
    let all: Vec<_> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; 3];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let lines = all.iter().map(|row| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    });
    lines.collect()
}

/// As docker prints it: indented by four spaces.
fn json(found: &[Inspected]) -> anyhow::Result<String> {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    found.serialize(&mut serde_json::Serializer::with_formatter(&mut out, format))?;
    Ok(String::from_utf8(out)?)
}

/// Tags as people count: `1.9` before `1.10`.
fn natural(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        let ((head, rest), (other_head, other_rest)) = (run_of(one), run_of(other));
        let ordering = match (number(head), number(other_head)) {
            (Some(one), Some(other)) => one.cmp(&other).then_with(|| head.cmp(other_head)),
            (_, _) => head.cmp(other_head),
        };
        if ordering != Ordering::Equal || head.is_empty() {
            return ordering;
        }
        (one, other) = (rest, other_rest);
    }
}

/// The digits, or the other characters, that a text begins with, and what follows.
fn run_of(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text
        .find(|c: char| c.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Digits by their value, which is the length without zeros, then the text.
fn number(digits: &str) -> Option<(usize, &str)> {
    let bare = digits.trim_start_matches('0');
    digits
        .starts_with(|c: char| c.is_ascii_digit())
        .then_some((bare.len(), bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_in_the_order_in_which_people_count() {
        let mut tags = ["v1.10", "latest", "v1.9", "1", "02", "v1.9-rc1", "10", "2"];
        tags.sort_by(|a, b| natural(a, b));
        assert_eq!(
            tags,
            ["1", "02", "2", "10", "latest", "v1.9", "v1.9-rc1", "v1.10"]
        );
    }

    #[test]
    fn json_has_dockers_names_order_and_indentation() {
        let found = [Inspected {
            name: "app".to_owned(),
            signed_tags: vec![SignedTag {
                tag: "1.0".to_owned(),
                digest: "ab".to_owned(),
                signers: vec!["alice".to_owned()],
            }],
            signers: vec![Keyed::new("alice", vec!["12".to_owned()])],
            administrative_keys: vec![Keyed::new("Root", vec!["34".to_owned()])],
        }];
        insta::assert_snapshot!(json(&found).unwrap(), @r#"
        [
            {
                "Name": "app",
                "SignedTags": [
                    {
                        "SignedTag": "1.0",
                        "Digest": "ab",
                        "Signers": [
                            "alice"
                        ]
                    }
                ],
                "Signers": [
                    {
                        "Name": "alice",
                        "Keys": [
                            {
                                "ID": "12"
                            }
                        ]
                    }
                ],
                "AdministrativeKeys": [
                    {
                        "Name": "Root",
                        "Keys": [
                            {
                                "ID": "34"
                            }
                        ]
                    }
                ]
            }
        ]
        "#);
    }
}
