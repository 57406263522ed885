//! `countersign policy …`: policies on the desk of who writes them.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Output;
use super::{Status, complain, print};
use crate::policy::{
    Combine, Demand, Examined, Home, Labels, MAX_FILE_BYTES, Mode, PolicyError, Requirement, examine_files,
};
use crate::policy_files::read_texts;
use crate::reference::Reference;
use crate::review::verdict::printable;
use crate::store::Store;
use crate::telemetry::{Metrics, chain};
use crate::trust::{Options, Trust};

/// Arguments of `policy`.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Finds everything that is wrong with policies
    ///
    /// What the API server and the webhook would refuse is an error; what can be used and is hardly meant is a
    /// warning. Exits with 0 if there is no error, 1 if there is one, 2 if a file cannot be read.
    Lint(Lint),
    /// Says which rule of which policy speaks for an image
    ///
    /// Nothing is verified. Exits with 0 if the image may run, perhaps after verification, 1 if a rule denies it, no
    /// rule covers it or no policy applies, 2 if the policies have errors.
    Explain(Explain),
}

#[derive(ClapArgs, Debug)]
struct Lint {
    /// Policy files, folders of them, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the policies are going to be: each place has fields that the other does not know
    #[arg(
        long = "for",
        value_name = "PLACE",
        default_value = "cluster",
        env = "COUNTERSIGN_FOR"
    )]
    place: Place,
    /// How to print the findings
    #[arg(long, value_enum, default_value_t = Output::Text, env = "COUNTERSIGN_OUTPUT")]
    output: Output,
}

#[derive(ClapArgs, Debug)]
struct Explain {
    /// The image
    image: String,
    /// Policy file or folder, or - for standard input; may be repeated
    #[arg(
        long,
        required = true,
        value_name = "FILE",
        env = "COUNTERSIGN_POLICY",
        value_delimiter = ','
    )]
    policy: Vec<PathBuf>,
    /// Namespace that the image is to run in
    #[arg(
        long,
        value_name = "NAME",
        default_value = "default",
        env = "COUNTERSIGN_NAMESPACE"
    )]
    namespace: String,
    /// Label of that namespace; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, value_delimiter = ',', env = "COUNTERSIGN_LABEL")]
    label: Vec<(String, String)>,
    /// Where the policies are going to be
    #[arg(
        long = "for",
        value_name = "PLACE",
        default_value = "cluster",
        env = "COUNTERSIGN_FOR"
    )]
    place: Place,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = Output::Text, env = "COUNTERSIGN_OUTPUT")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Place {
    /// Objects of a cluster, for `webhook --kube`
    Cluster,
    /// Files, for `--policy`
    Files,
}

impl From<Place> for Home {
    fn from(place: Place) -> Self {
        match place {
            Place::Cluster => Self::Cluster,
            Place::Files => Self::Files,
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn run(args: &Args) -> anyhow::Result<Status> {
    match &args.command {
        Command::Lint(lint) => self::lint(lint),
        Command::Explain(explain) => self::explain(explain),
    }
}

fn lint(args: &Lint) -> anyhow::Result<Status> {
    let examined = try_verifiers(examine_files(read(&args.files)?, args.place.into()))?;
    match args.output {
        Output::Json => print(&findings_json(&examined).to_string())?,
        Output::Text => {
            let lines: Vec<_> = findings(&examined)
                .map(|(severity, finding)| {
                    format!("{severity}: {}", printable(&finding.to_string(), usize::MAX))
                })
                .collect();
            if !lines.is_empty() {
                print(&lines.join("\n"))?;
            }
            complain(&format!(
                "{} policies, {} errors, {} warnings",
                examined.policies,
                examined.errors.len(),
                examined.warnings.len()
            ));
        }
    }
    Ok(if examined.errors.is_empty() {
        Status::Success
    } else {
        Status::Denied
    })
}

fn findings(examined: &Examined) -> impl Iterator<Item = (&'static str, &PolicyError)> {
    let errors = examined.errors.iter().map(|finding| ("error", finding));
    errors.chain(examined.warnings.iter().map(|finding| ("warning", finding)))
}

fn findings_json(examined: &Examined) -> Value {
    let findings = findings(examined).map(|(severity, finding)| {
        let place = &finding.place;
        json!({
            "severity": severity, "kind": finding.problem.kind(), "message": finding.problem.to_string(),
            "file": place.file, "line": place.line, "document": place.document, "path": place.path.to_string(),
        })
    });
    json!({"policies": examined.policies, "findings": findings.collect::<Vec<_>>()})
}

/// Adds what only shows when a verifier is made ready.
fn try_verifiers(examined: Examined) -> anyhow::Result<Examined> {
    let trust = Trust::new(
        Options::default(),
        Arc::new(Store::memory()?),
        Arc::new(Metrics::default()),
    );
    Ok(examined.unusable(|verifier| trust.check(verifier).err().map(|fault| chain(&fault))))
}

fn explain(args: &Explain) -> anyhow::Result<Status> {
    let image = Reference::parse(&args.image)
        .with_context(|| format!("{:?} is not an image reference", args.image))?;
    let policies = examine_files(read(&args.policy)?, args.place.into()).into_policies();
    let policies = policies.map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow!(lines.join("\n"))
    })?;
    let labels: Labels = args.label.iter().cloned().collect();
    let found = policies.select(&args.namespace, &labels, &image);
    let admits = |requirement: &Requirement| {
        requirement.mode == Mode::Audit
            || matches!(requirement.demand, Demand::Allow { .. } | Demand::Verify(_))
    };
    let runs = !found.is_empty() && found.iter().all(admits);
    match args.output {
        Output::Json => {
            let policies: Vec<_> = found.iter().map(said_json).collect();
            let answer = json!({
                "image": args.image, "reference": image.to_string(), "namespace": args.namespace,
                "admits": runs, "policies": policies,
            });
            print(&answer.to_string())?;
        }
        Output::Text if found.is_empty() => print(&format!(
            "no policy applies in namespace {}, so no image runs there",
            args.namespace
        ))?,
        Output::Text => {
            let lines: Vec<_> = found.iter().map(said).collect();
            print(&lines.join("\n"))?;
        }
    }
    Ok(if runs { Status::Success } else { Status::Denied })
}

/// `policy default, rule 1: verify anyOf acme`.
fn said(requirement: &Requirement) -> String {
    let (action, more) = action(&requirement.demand);
    let rule = requirement
        .rule
        .map(|rule| format!(", rule {rule}"))
        .unwrap_or_default();
    let audit = match requirement.mode {
        Mode::Audit => " (mode: Audit, so only a warning)",
        Mode::Enforce => "",
    };
    let text = format!("policy {}{rule}: {action}{more}{audit}", requirement.policy);
    printable(&text, usize::MAX)
}

fn said_json(requirement: &Requirement) -> Value {
    let (action, more) = action(&requirement.demand);
    json!({
        "policy": requirement.policy.to_string(), "rule": requirement.rule, "mode": requirement.mode,
        "action": action, "details": more.trim_start_matches([':', ' ']),
    })
}

/// A word, and what goes with it.
fn action(demand: &Demand) -> (&'static str, String) {
    match demand {
        Demand::Allow { reason } => ("allow", format!(": {reason}")),
        Demand::Deny { message } => ("deny", format!(": {message}")),
        Demand::Uncovered => (
            "uncovered",
            ": no rule covers the image, so it is denied".to_owned(),
        ),
        Demand::Verify(verification) => {
            let combine = match verification.combine {
                Combine::Any => "anyOf",
                Combine::All => "allOf",
            };
            let names: Vec<_> = verification
                .verifiers
                .iter()
                .map(|verifier| verifier.name.as_str())
                .collect();
            ("verify", format!(": {combine} {}", names.join(", ")))
        }
    }
}

/// The texts of all files; none if one of them cannot be read.
fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let (stdin, paths): (Vec<_>, Vec<_>) = paths.iter().cloned().partition(|path| path == Path::new("-"));
    let (mut texts, errors) = read_texts(&paths);
    if !errors.is_empty() {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        return Err(anyhow!(lines.join("\n")));
    }
    if !stdin.is_empty() {
        let mut text = String::new();
        // One byte more than the limit is enough to see that it is passed.
        let reading = io::stdin().take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
        reading.context("standard input cannot be read")?;
        texts.push((PathBuf::from("standard input"), text));
    }
    Ok(texts)
}
