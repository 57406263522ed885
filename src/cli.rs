//! The command line: one file a command, results to standard output, talk to standard error.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

mod duration;
mod key_flags;
mod kube_flags;
mod log_flags;
mod passphrase;
mod policy;
mod policy_flags;
mod probe;
mod sandbox;
mod server;
mod serving_flags;
mod signs;
mod tls_flags;
mod trust;
mod trust_flags;
mod verify;
mod webhook;

use crate::policy::{crds, crds_yaml};
use crate::store::records::crd;

/// Content trust for Kubernetes: only signed tags run, rewritten to the digest that was signed.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the admission webhook: /mutate, /validate, /audit, /advise and /policy over TLS.
    Webhook(Box<webhook::Args>),
    /// Resolves one image as the webhook would and prints name:tag@sha256:…
    ///
    /// Exits with 0 if it is trusted, 1 if not, 2 on wrong usage or configuration, 3 if that could not be found out.
    Verify(Box<verify::Args>),
    /// Serves trust data: the whole Notary v1 protocol, over TLS, with keys of its own for snapshots and timestamps.
    Server(Box<server::Args>),
    /// Signs: looks after keys, and after what is remembered of repositories.
    Trust(Box<trust::Args>),
    /// Calls a registered webhook as the API server does, and says of each entry whether it answers.
    ///
    /// Exits with 0 if all do, 1 if not, 3 if the registration could not be read.
    Probe(probe::Args),
    /// Checks policies before they are in force, and says which rule speaks for an image.
    Policy(policy::Args),
    /// Tries all of it out: a registry, a trust server and the webhook on loopback, and the story of content trust.
    ///
    /// Stays up for commands to be tried by hand, which it prints. Exits with 1 if the story did not come out as told.
    Sandbox(sandbox::Args),
    /// Prints the custom resource definitions of policies and trust records, for kubectl apply.
    Crds,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The result alone; the reason for a refusal goes to standard error
    Text,
    /// One JSON object
    Json,
}

/// What a command comes to. The numbers are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// Yes, or done.
    Success = 0,
    /// The answer is no.
    Denied = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// It could not be found out.
    Unavailable = 3,
}

/// Parses the arguments, runs the command, and says how it ended.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Webhook(args) => webhook::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Server(args) => server::run(&args),
        Command::Trust(args) => trust::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Sandbox(args) => sandbox::run(&args),
        Command::Crds => print(&crds_yaml(crds().into_iter().chain([crd()]))).map(|()| Status::Success),
    };
    let status = outcome.unwrap_or_else(|error| {
        complain(&format!("error: {error:#}"));
        Status::Usage
    });
    ExitCode::from(status as u8)
}

/// Writes a result to standard output. A reader that has gone away has had enough: that is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{newline}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a file that only its owner can read, and that was not there.
fn create(path: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    let file = options.write(true).create_new(true).mode(PRIVATE).open(path);
    file.with_context(|| {
        format!(
            "cannot make {}; an existing file is not overwritten",
            path.display()
        )
    })
}

/// Nobody else's.
const PRIVATE: u32 = 0o600;

/// Says something to the person at the terminal.
fn complain(text: &str) {
    // With standard error gone there is nobody left to tell.
    let _gone = writeln!(anstream::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn below(command: &clap::Command) -> Vec<clap::Command> {
        let inner = command.get_subcommands();
        inner
            .flat_map(|inner| std::iter::once(inner.clone()).chain(below(inner)))
            .collect()
    }

    #[test]
    fn every_flag_has_an_environment_variable_of_its_own_name() {
        for command in below(&Cli::command()) {
            for flag in command
                .get_arguments()
                .filter(|flag| flag.get_long().is_some_and(|name| name != "help"))
            {
                let name = flag.get_long().unwrap();
                let wanted = format!("COUNTERSIGN_{}", name.replace('-', "_").to_uppercase());
                assert_eq!(
                    flag.get_env().and_then(|env| env.to_str()),
                    Some(wanted.as_str()),
                    "{name}"
                );
                assert!(flag.get_help().is_some(), "--{name} has no help");
            }
        }
    }
}
