//! `countersign verify IMAGE`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::key_flags::docker_folder;
use super::policy_flags::{PolicyFlags, prepare, store};
use super::{Output, Status, complain, duration, print};
use crate::policy::{Demand, Mode, Requirement};
use crate::reference::{Digest, Reference};
use crate::review::logins::PullSources;
use crate::review::verdict::printable;
use crate::telemetry::Metrics;
use crate::trust::{Clock, Kind, Options, Pinned, Refusal, Trust, Verify as _};

/// Arguments of `verify`.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    /// Image to verify: a tag, a digest, or both
    image: String,
    /// Namespace the policies are asked about
    #[arg(
        long,
        value_name = "NAME",
        default_value = "default",
        env = "COUNTERSIGN_NAMESPACE"
    )]
    namespace: String,
    /// Where to remember what was seen, without which there is no rollback protection between runs
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Judge as of that instant
    #[arg(long, value_name = "RFC3339", env = "COUNTERSIGN_AT")]
    at: Option<Timestamp>,
    /// One deadline for the whole verification
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse, env = "COUNTERSIGN_TIMEOUT")]
    timeout: Duration,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Text, env = "COUNTERSIGN_OUTPUT")]
    output: Output,
    // Last: the heading of these flags would be that of all that follow.
    #[command(flatten)]
    policies: PolicyFlags,
}

/// What became of the image.
struct Verdict {
    status: Status,
    digest: Option<Digest>,
    role: Option<String>,
    signers: Vec<String>,
    reason: &'static str,
    message: String,
    similar: Vec<String>,
    /// Age of the metadata, if the trust server could not be asked.
    stale: Option<Duration>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Status> {
    let image = Reference::parse(&args.image)
        .with_context(|| format!("{:?} is not an image reference", args.image))?;
    let (_, policies) = args.policies.read(docker_config().as_deref())?;
    let store = store(args.state_dir.as_deref(), |what| {
        complain(&format!("warning: {what}"));
    })?;
    let options = Options {
        timeout: args.timeout,
        attribution: true,
        credential_helpers: true,
        clock: args.at.map_or(Clock::Real, Clock::At),
        ..Options::default()
    };
    let trust = Trust::new(options, Arc::new(store), Arc::new(Metrics::default()));
    prepare(&trust, &policies)?;
    let requirements = policies.select(&args.namespace, &BTreeMap::new(), &image);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let verdict = runtime.block_on(async {
        let verdict = judge(&trust, &image, &requirements, Instant::now() + args.timeout).await;
        trust.finish().await;
        verdict
    });
    show(args, &image, &verdict)?;
    Ok(verdict.status)
}

/// Docker's own configuration, if there is one.
fn docker_config() -> Option<PathBuf> {
    Some(docker_folder()?.join("config.json")).filter(|path| path.exists())
}

/// Holds the image against every requirement, as the webhook does. Policies that only audit are heard, not obeyed; but
/// where none of the others speaks, nothing vouches for the image either, and what they say is the answer.
async fn judge(trust: &Trust, image: &Reference, requirements: &[Requirement], deadline: Instant) -> Verdict {
    let mut verdict: Option<Verdict> = None;
    let mut heard = None;
    for requirement in requirements {
        let next = meet(trust, image, requirement, deadline).await;
        if requirement.mode == Mode::Audit && next.status != Status::Success {
            complain(&format!(
                "warning: would be denied, but the policy only audits: {}",
                next.message
            ));
            heard.get_or_insert(next);
            continue;
        }
        verdict = Some(match verdict {
            None => next,
            Some(before) => before.and(next),
        });
    }
    verdict
        .or(heard)
        .unwrap_or_else(|| Verdict::denied("no_policy", "no policy applies to the image"))
}

async fn meet(trust: &Trust, image: &Reference, requirement: &Requirement, deadline: Instant) -> Verdict {
    let place = match requirement.rule {
        Some(rule) => format!("policy {}, rule {rule}", requirement.policy),
        None => format!("policy {}", requirement.policy),
    };
    match &requirement.demand {
        Demand::Allow { reason } => {
            Verdict::allowed(&format!("{image} is admitted unverified ({place}): {reason}"))
        }
        Demand::Deny { message } => Verdict::denied(
            "denied_by_rule",
            &format!("{image} is denied ({place}): {message}"),
        ),
        Demand::Uncovered => Verdict::denied("no_rule", &format!("no rule covers {image} ({place})")),
        Demand::Verify(verification) => match trust
            .verify(image, verification, &PullSources::default(), deadline)
            .await
        {
            Ok(pinned) => Verdict::trusted(image, &pinned, &place),
            Err(refusal) => Verdict::refused(image, &refusal, &place),
        },
    }
}

impl Verdict {
    fn trusted(image: &Reference, pinned: &Pinned, place: &str) -> Self {
        let (reason, message) = match pinned.verifier() {
            Some(source) => (
                "signed",
                format!("{image} is signed as {} ({source})", pinned.digest()),
            ),
            None => (
                "digest_allowed",
                format!("{image} is admitted unverified ({place}): digests are allowed"),
            ),
        };
        Self {
            digest: Some(pinned.digest().clone()),
            role: pinned.role().map(str::to_owned),
            signers: pinned.signers().to_vec(),
            stale: pinned.stale(),
            ..Self::plain(Status::Success, reason, &message)
        }
    }

    fn refused(image: &Reference, refusal: &Refusal, place: &str) -> Self {
        let (status, words) = match refusal.kind() {
            Kind::Untrusted => (Status::Denied, "is not trusted"),
            Kind::Unavailable => (Status::Unavailable, "could not be verified"),
        };
        let said: Vec<_> = std::iter::once(place.to_owned())
            .chain(refusal.sources().iter().map(ToString::to_string))
            .collect();
        let similar: Vec<_> = refusal.similar().iter().map(ToString::to_string).collect();
        let tags = if similar.is_empty() {
            String::new()
        } else {
            format!("; signed tags: {}", similar.join(", "))
        };
        let message = format!("{image} {words}: {refusal} ({}){tags}", said.join(", "));
        Self {
            similar,
            ..Self::plain(status, refusal.reason(), &message)
        }
    }

    fn allowed(message: &str) -> Self {
        Self::plain(Status::Success, "allowed_by_rule", message)
    }

    fn denied(reason: &'static str, message: &str) -> Self {
        Self::plain(Status::Denied, reason, message)
    }

    /// The message may quote a trust server, which is not to write on a terminal as it likes.
    fn plain(status: Status, reason: &'static str, message: &str) -> Self {
        Self {
            status,
            digest: None,
            role: None,
            signers: Vec::new(),
            reason,
            message: printable(message, usize::MAX),
            similar: Vec::new(),
            stale: None,
        }
    }

    /// Both must hold. A denial settles it; two digests that differ are one.
    fn and(self, other: Self) -> Self {
        match (self.status, other.status) {
            (Status::Success, Status::Success) => self.agreeing(other),
            (Status::Success, _) | (Status::Unavailable, Status::Denied) => other,
            (_, _) => self,
        }
    }

    fn agreeing(self, other: Self) -> Self {
        match (&self.digest, &other.digest) {
            (Some(one), Some(two)) if one != two => Self::denied(
                "policies_disagree",
                &format!("policies vouch for different digests: {one} and {two}"),
            ),
            (Some(_), _) => self,
            (None, _) => other,
        }
    }

    const fn word(&self) -> &'static str {
        match self.status {
            Status::Success => "trusted",
            Status::Denied | Status::Usage => "denied",
            Status::Unavailable => "unavailable",
        }
    }

    fn json(&self, args: &Args, image: &Reference) -> Value {
        json!({
            "image": args.image,
            "reference": self.reference(image).to_string(),
            "verdict": self.word(),
            "digest": self.digest,
            "role": self.role,
            "signers": self.signers,
            "reason": self.reason,
            "message": self.message,
            "similar": self.similar,
            "staleSeconds": self.stale.map(|age| age.as_secs()),
        })
    }

    fn reference(&self, image: &Reference) -> Reference {
        self.digest
            .as_ref()
            .map_or_else(|| image.clone(), |digest| image.with_digest(digest.clone()))
    }
}

fn show(args: &Args, image: &Reference, verdict: &Verdict) -> anyhow::Result<()> {
    if let Some(age) = verdict.stale {
        complain(&format!(
            "warning: the trust server could not be asked: its metadata is {}s old",
            age.as_secs()
        ));
    }
    match args.output {
        Output::Json => print(&verdict.json(args, image).to_string()),
        Output::Text if verdict.status == Status::Success => print(&verdict.reference(image).to_string()),
        Output::Text => {
            complain(&format!("{}: {}", verdict.word(), verdict.message));
            Ok(())
        }
    }
}
