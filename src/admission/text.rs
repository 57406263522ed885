//! What users read (§1.10, design §8): which image, why not, whose rule, and what would help.

use std::fmt::Write as _;
use std::time::Duration;

use super::finding::{Cause, Objection};
use crate::reference::{Digest, Tag};
use crate::review::images::Image;
use crate::review::verdict::{Complaint, printable};
use crate::telemetry::chain;
use crate::trust::{Kind, Refusal};

/// Longest image string shown, in bytes: a GUN of 255 leaves room for the reason.
const MAX_IMAGE: usize = 256;
/// Longest name shown, in bytes. Valid ones have 63.
const MAX_NAME: usize = 63;
/// Longest cause shown, in bytes: half a message.
const MAX_CAUSE: usize = 512;

/// One line about one image: its first objection in full, further policies' in brief.
pub(super) fn complaint<'a>(
    image: &Image,
    objections: impl IntoIterator<Item = &'a Objection>,
) -> Option<Complaint> {
    let mut objections = objections.into_iter();
    let first = objections.next()?;
    let mut advice = advice(&first.cause);
    for further in objections {
        let _ = write!(
            advice,
            "; also {}{}",
            because(&further.cause),
            printable(&origin(further), MAX_CAUSE)
        );
    }
    let text = format!(
        "{} {} {}{}",
        place(image),
        verb(&first.cause),
        printable(&because(&first.cause), MAX_CAUSE),
        origin(first)
    );
    Some(Complaint::new(&text, &advice))
}

/// That `image` was verified with metadata of some age.
pub(super) fn stale(image: &Image, age: Duration, server: &str) -> String {
    let minutes = age.as_secs() / 60;
    format!(
        "{} was verified with metadata {}h{}m old: trust server {server} could not be asked",
        place(image),
        minutes / 60,
        minutes % 60
    )
}

/// `container "web": registry.example.com/app:1.2`.
fn place(image: &Image) -> String {
    let name = printable(&image.name, MAX_NAME);
    let text = printable(image.text(), MAX_IMAGE);
    if text.is_empty() {
        format!("{} \"{name}\":", image.list)
    } else {
        format!("{} \"{name}\": {text}", image.list)
    }
}

const fn verb(cause: &Cause) -> &'static str {
    match cause {
        Cause::Blank => "names no",
        Cause::Unparsable(_) => "is not an image reference:",
        Cause::NoPolicy { .. } | Cause::Uncovered | Cause::Denied { .. } => "is not admitted:",
        Cause::Deadline => "could not be verified:",
        Cause::Refused(refusal) => match refusal.kind() {
            Kind::Unavailable => "could not be verified:",
            Kind::Untrusted => "is not trusted:",
        },
        Cause::NotPinned { .. } => "is",
        Cause::Disagree { .. } => "is not trusted:",
    }
}

/// The cause itself, as a clause.
pub(super) fn because(cause: &Cause) -> String {
    match cause {
        Cause::Blank => "image".to_owned(),
        Cause::Unparsable(error) => chain(error),
        Cause::NoPolicy { namespace } => format!("no policy applies in namespace {namespace}"),
        Cause::Uncovered => "no rule covers it".to_owned(),
        Cause::Denied { message } => message.as_ref().to_owned(),
        Cause::Refused(refusal) => chain(refusal),
        Cause::Deadline => "verification did not finish in the time this request has".to_owned(),
        Cause::NotPinned { .. } => {
            "not pinned to a digest (the mutating step did not run or could not verify it)".to_owned()
        }
        Cause::Disagree { signed, other } => format!(
            "{} is signed here, but {} by its own digest or another policy",
            short(signed),
            short(other)
        ),
    }
}

/// `(policy default, rule 1, verifier acme at trust.example.com)`, with a blank before it.
fn origin(objection: &Objection) -> String {
    let Some((policy, rule)) = &objection.origin else {
        return String::new();
    };
    let mut text = format!(" (policy {policy}");
    if let Some(rule) = rule {
        let _ = write!(text, ", rule {rule}");
    }
    if let Cause::Refused(refusal) = &objection.cause {
        for source in refusal.sources() {
            let _ = write!(text, ", {source}");
        }
    }
    text.push(')');
    text
}

/// What would help, with the punctuation before it.
fn advice(cause: &Cause) -> String {
    match cause {
        Cause::NoPolicy { .. } => "; a ClusterTrustPolicy has to select it".to_owned(),
        Cause::Uncovered => "; the policy needs a rule for it".to_owned(),
        Cause::NotPinned { pinned } => format!("; create it again, or write {pinned}"),
        Cause::Deadline => AGAIN.to_owned(),
        Cause::Refused(refusal) => refusal_advice(refusal),
        Cause::Blank | Cause::Unparsable(_) | Cause::Denied { .. } | Cause::Disagree { .. } => String::new(),
    }
}

const AGAIN: &str = "; try again";

fn refusal_advice(refusal: &Refusal) -> String {
    match (refusal.kind(), refusal.similar()) {
        (Kind::Unavailable, _) => AGAIN.to_owned(),
        (Kind::Untrusted, []) => String::new(),
        (Kind::Untrusted, similar) => {
            let tags: Vec<_> = similar.iter().take(MAX_SIMILAR).map(Tag::as_str).collect();
            format!("; signed tags: {}", tags.join(", "))
        }
    }
}

/// Signed tags shown when the tag is the problem (design §8).
const MAX_SIMILAR: usize = 5;

/// Enough of a digest to tell two apart.
fn short(digest: &Digest) -> String {
    let text = digest.to_string();
    match text.get(..SHORT) {
        Some(start) => format!("{start}…"),
        None => text,
    }
}

/// `sha256:` and 12 hex digits, as docker prints them.
const SHORT: usize = 19;

#[cfg(test)]
mod tests;
