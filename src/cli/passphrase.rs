//! Where passphrases come from (notary-v1 §7.4): a file descriptor, docker's or notary's variables, the terminal. Never
//! the command line, which everybody on the machine can read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _, stdin};

use anyhow::{Context as _, anyhow, bail};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::complain;
use crate::keystore::{Entry, KeyStoreError};
use crate::tuf::{KeyFile, KeyFileError, PrivateKey};

/// Shortest passphrase of a new key, as docker and notary have it.
const SHORTEST: usize = 8;
/// How often the terminal is asked before giving up.
const TRIES: usize = 3;
/// Most that is read from a file descriptor: a hundred passphrases of a line each.
const MAX_INPUT: u64 = 64 * 1024;

/// The passphrases of one run of the program, each asked for once.
#[derive(Debug)]
pub(super) struct Passphrases {
    /// Lines of the file descriptor that have not been used, the next one last.
    lines: Option<Vec<SecretString>>,
    /// What opened a key of the role, or was chosen for one.
    known: BTreeMap<String, SecretString>,
    /// What was chosen for new keys of the role.
    chosen: BTreeMap<String, SecretString>,
}

/// A passphrase and where it came from, for messages.
struct Given {
    passphrase: SecretString,
    source: &'static str,
}

/// How often the terminal is asked for a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// For one that exists.
    Once,
    /// For a new one: nobody sees what they type.
    Twice,
}

impl Passphrases {
    /// Reads the file descriptor now, if there is one: one line for each role that will be asked for, in that order,
    /// the last line for all that follow.
    pub(super) fn new(descriptor: Option<u32>) -> anyhow::Result<Self> {
        Ok(Self {
            lines: descriptor.map(lines).transpose()?,
            known: BTreeMap::new(),
            chosen: BTreeMap::new(),
        })
    }

    /// The key of `entry`, with whatever opens it.
    pub(super) fn open(&mut self, entry: &Entry) -> anyhow::Result<PrivateKey> {
        let role = entry.role().unwrap_or("key").to_owned();
        let name = format!("{role} key {}", entry.id);
        self.try_each(&role, &name, entry.file.is_encrypted(), |passphrase| {
            entry.open(passphrase)
        })
    }

    /// The key of a file that is not in the store.
    pub(super) fn open_file(&mut self, file: &KeyFile, role: &str, name: &str) -> anyhow::Result<PrivateKey> {
        self.try_each(role, name, file.is_encrypted(), |passphrase| {
            file.open(passphrase).map_err(|source| KeyStoreError::Key {
                path: name.into(),
                source,
            })
        })
    }

    fn try_each(
        &mut self,
        role: &str,
        name: &str,
        encrypted: bool,
        open: impl Fn(Option<&SecretString>) -> Result<PrivateKey, KeyStoreError>,
    ) -> anyhow::Result<PrivateKey> {
        if !encrypted {
            return Ok(open(None)?);
        }
        if let Some(given) = self.given(role)? {
            let from = given.source;
            return open(Some(&given.passphrase)).with_context(|| format!("with the passphrase from {from}"));
        }
        if let Some(known) = self.known.get(role)
            && let Ok(key) = open(Some(known))
        {
            return Ok(key);
        }
        for _ in 0..TRIES {
            let passphrase = ask(&format!("Passphrase for {name}: "), &elsewhere(role))?;
            match open(Some(&passphrase)) {
                Err(KeyStoreError::Key {
                    source: KeyFileError::Passphrase,
                    ..
                }) => complain("the passphrase is wrong"),
                opened => {
                    let key = opened?;
                    self.known.insert(role.to_owned(), passphrase);
                    return Ok(key);
                }
            }
        }
        bail!("the passphrase for {name} was wrong {TRIES} times")
    }

    /// A passphrase for a new key of `role`. The terminal is asked twice, and once for all keys of a role.
    pub(super) fn choose(&mut self, role: &str) -> anyhow::Result<SecretString> {
        if let Some(given) = self.given(role)? {
            let from = given.source;
            return long_enough(given.passphrase).with_context(|| format!("the passphrase from {from}"));
        }
        if let Some(chosen) = self.chosen.get(role) {
            return Ok(chosen.clone());
        }
        let passphrase = ask_twice(role, &elsewhere(role))?;
        self.known.insert(role.to_owned(), passphrase.clone());
        self.chosen.insert(role.to_owned(), passphrase.clone());
        Ok(passphrase)
    }

    /// The passphrase of `what`, which is no key of the store: the next line of the file descriptor, the variable `name`,
    /// or what the terminal answers.
    pub(super) fn named(&mut self, what: &str, name: &str, asked: Asked) -> anyhow::Result<SecretString> {
        let given = match &mut self.lines {
            Some(lines) if lines.len() > 1 => lines.pop(),
            Some(lines) => Some(
                lines
                    .last()
                    .cloned()
                    .with_context(|| format!("--passphrase-fd holds no passphrase for {what}"))?,
            ),
            None => variable(name)?,
        };
        let elsewhere = format!("--passphrase-fd or the variable {name}");
        match (given, asked) {
            (Some(given), Asked::Once) => Ok(given),
            (Some(given), Asked::Twice) => {
                long_enough(given).with_context(|| format!("the passphrase for {what}"))
            }
            (None, Asked::Once) => ask(&format!("Passphrase for {what}: "), &elsewhere),
            (None, Asked::Twice) => ask_for_new(what, &elsewhere),
        }
    }

    /// What needs no asking: the file descriptor before the environment.
    fn given(&mut self, role: &str) -> anyhow::Result<Option<Given>> {
        if let Some(lines) = &mut self.lines {
            let next = match self.known.get(role) {
                Some(known) => Some(known.clone()),
                None if lines.len() > 1 => lines.pop(),
                None => lines.last().cloned(),
            };
            let passphrase = next.ok_or_else(|| anyhow!("--passphrase-fd holds no passphrase for {role}"))?;
            self.known.insert(role.to_owned(), passphrase.clone());
            return Ok(Some(Given {
                passphrase,
                source: "--passphrase-fd",
            }));
        }
        for source in variables(role) {
            if let Some(passphrase) = variable(source)? {
                return Ok(Some(Given { passphrase, source }));
            }
        }
        Ok(None)
    }
}

/// The new passphrase of a key that has one: from `descriptor` or the terminal, not from the environment, which has
/// the old one.
pub(super) fn new_for(role: &str, descriptor: Option<u32>) -> anyhow::Result<SecretString> {
    let Some(descriptor) = descriptor else {
        return ask_twice(role, "--new-passphrase-fd");
    };
    let passphrase = lines(descriptor)?.pop().unwrap_or_default();
    long_enough(passphrase).context("the passphrase from --new-passphrase-fd")
}

/// The variables that may hold the passphrase of a key of `role`: docker's, then notary's.
fn variables(role: &str) -> [&'static str; 2] {
    const REPOSITORY: &str = "DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE";
    match role {
        "root" => ["DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE", "NOTARY_ROOT_PASSPHRASE"],
        "targets" => [REPOSITORY, "NOTARY_TARGETS_PASSPHRASE"],
        "snapshot" => [REPOSITORY, "NOTARY_SNAPSHOT_PASSPHRASE"],
        _ => [REPOSITORY, "NOTARY_DELEGATION_PASSPHRASE"],
    }
}

/// A variable's value as it is; empty is the same as not set, as docker has it.
fn variable(name: &str) -> anyhow::Result<Option<SecretString>> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    let text = value.map(std::ffi::OsString::into_string).transpose();
    let text = text.map_err(|_| anyhow!("{name} is not UTF-8"))?;
    Ok(text.map(SecretString::from))
}

/// The lines of an open file descriptor, the first one last.
fn lines(descriptor: u32) -> anyhow::Result<Vec<SecretString>> {
    let path = format!("/dev/fd/{descriptor}");
    let mut text = Zeroizing::new(String::with_capacity(4096));
    File::open(&path)
        .and_then(|file| file.take(MAX_INPUT).read_to_string(&mut text))
        .with_context(|| format!("cannot read passphrases from file descriptor {descriptor}"))?;
    Ok(text.lines().rev().map(SecretString::from).collect())
}

fn long_enough(passphrase: SecretString) -> anyhow::Result<SecretString> {
    if passphrase.expose_secret().chars().count() < SHORTEST {
        bail!("a passphrase has at least {SHORTEST} characters");
    }
    Ok(passphrase)
}

/// Where the passphrase of a key of `role` may come from without a terminal.
fn elsewhere(role: &str) -> String {
    let [docker, _] = variables(role);
    format!("--passphrase-fd or the variable {docker}")
}

fn ask_twice(role: &str, elsewhere: &str) -> anyhow::Result<SecretString> {
    ask_for_new(&format!("the {role} key"), elsewhere)
}

fn ask_for_new(what: &str, elsewhere: &str) -> anyhow::Result<SecretString> {
    for _ in 0..TRIES {
        let first = ask(&format!("New passphrase for {what}: "), elsewhere)?;
        let first = match long_enough(first) {
            Ok(first) => first,
            Err(error) => {
                complain(&error.to_string());
                continue;
            }
        };
        let second = ask("The same once more: ", elsewhere)?;
        if first.expose_secret() == second.expose_secret() {
            return Ok(first);
        }
        complain("these are two different passphrases");
    }
    bail!("no passphrase was chosen")
}

/// Asks at the terminal. White space around the answer is cut off, as docker and notary do.
fn ask(prompt: &str, elsewhere: &str) -> anyhow::Result<SecretString> {
    if !stdin().is_terminal() {
        bail!("there is no terminal to ask for a passphrase: give it with {elsewhere}");
    }
    let answer = Zeroizing::new(rpassword::prompt_password(prompt).context("cannot ask for a passphrase")?);
    Ok(SecretString::from(answer.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_but_root_shares_dockers_repository_variable() {
        assert_eq!(variables("root")[0], "DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE");
        for (role, notary) in [
            ("targets", "NOTARY_TARGETS_PASSPHRASE"),
            ("snapshot", "NOTARY_SNAPSHOT_PASSPHRASE"),
            ("alice", "NOTARY_DELEGATION_PASSPHRASE"),
            ("targets/alice", "NOTARY_DELEGATION_PASSPHRASE"),
        ] {
            assert_eq!(
                variables(role),
                ["DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE", notary]
            );
        }
    }

    #[test]
    fn lines_of_a_descriptor_answer_in_turn_and_the_last_one_answers_the_rest() {
        let lines = ["third", "second", "first"].map(SecretString::from).into();
        let mut passphrases = Passphrases {
            lines: Some(lines),
            known: BTreeMap::new(),
            chosen: BTreeMap::new(),
        };
        for (role, answer) in [
            ("root", "first"),
            ("targets", "second"),
            ("root", "first"),
            ("alice", "third"),
            ("bob", "third"),
        ] {
            let given = passphrases.given(role).unwrap().unwrap();
            assert_eq!(given.passphrase.expose_secret(), answer, "{role}");
        }
    }

    #[test]
    fn a_named_passphrase_takes_its_line_of_the_descriptor() {
        let lines = ["second one", "first one"].map(SecretString::from).into();
        let mut passphrases = Passphrases {
            lines: Some(lines),
            known: BTreeMap::new(),
            chosen: BTreeMap::new(),
        };
        for answer in ["first one", "second one", "second one"] {
            let given = passphrases
                .named("an archive", "NOBODY_SETS_THIS", Asked::Once)
                .unwrap();
            assert_eq!(given.expose_secret(), answer);
        }
        let empty = Some(vec![SecretString::from("short")]);
        let mut passphrases = Passphrases {
            lines: empty,
            ..passphrases
        };
        assert!(
            passphrases
                .named("an archive", "NOBODY_SETS_THIS", Asked::Twice)
                .is_err()
        );
    }

    #[test]
    fn seven_characters_are_too_few_and_eight_are_enough() {
        assert!(long_enough("äöüäöüä".into()).is_err());
        assert!(long_enough("äöüäöüäö".into()).is_ok());
    }
}
