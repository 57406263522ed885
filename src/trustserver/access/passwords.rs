//! Names and passwords of an `htpasswd` file.
//!
//! Only bcrypt: the other forms that the tool writes are guessed by the billion a second on rented machines.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use bcrypt::HashParts;
use moka::sync::Cache;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Refusal;
use super::error::{AccessError, PasswordFileError};
use super::limits::{Limit, Logins, too_many};

/// What a hash may cost: 2^4 is the least that bcrypt knows, 2^14 takes about a second of a core, and each more twice
/// that. `htpasswd -B` writes 5, most advise 10 to 12.
const COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// A few MiB of users; more have a token service.
const MAX_USERS: usize = 10_000;
/// As for static tokens.
const MAX_NAME_BYTES: usize = 128;
/// Verifications at once: two cores are busy with guesses at most, and the rest serves those who are known already.
const MAX_AT_ONCE: usize = 2;
/// How long one waits for its turn. A client gives up after some 10 s anyway, and then asks again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a good password is not verified again: publishing is a dozen requests in a few seconds.
const MEMORY: Duration = Duration::from_secs(60);
/// As many as there may be users.
const MAX_REMEMBERED: u64 = 10_000;

/// Users and their passwords' hashes.
#[derive(Debug)]
pub(super) struct Passwords {
    users: BTreeMap<Box<str>, Arc<str>>,
    /// What the passwords of nobody are held against, so that names cannot be told by the time it takes.
    decoy: Arc<str>,
    /// Names and passwords that were good, under a key that only this process has.
    good: Cache<[u8; 32], ()>,
    key: hmac::Key,
    turns: Arc<Semaphore>,
}

impl Passwords {
    /// Reads the lines of a file: `name:hash`, empty, or a comment.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, AccessError> {
        let mut users = BTreeMap::new();
        let mut dearest = *COSTS.start();
        for (i, line) in text.lines().enumerate() {
            let wrong = |source| AccessError::Passwords {
                path: path.to_owned(),
                line: i + 1,
                source,
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if users.len() >= MAX_USERS {
                return Err(wrong(PasswordFileError::TooMany));
            }
            let (name, hash, cost) = entry(line).map_err(wrong)?;
            dearest = dearest.max(cost);
            if users.insert(name.into(), hash.into()).is_some() {
                return Err(AccessError::Twice {
                    path: path.to_owned(),
                    name: name.into(),
                });
            }
        }
        Ok(Self {
            users,
            decoy: decoy(dearest),
            good: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(MEMORY)
                .build(),
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
                .map_err(|_| AccessError::Randomness)?,
            turns: Arc::new(Semaphore::new(MAX_AT_ONCE)),
        })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// Whether this very password was good a moment ago.
    pub(super) fn remembers(&self, user: &str, password: &str) -> bool {
        self.good.contains_key(&self.fingerprint(user, password))
    }

    /// Whether the password is the user's. Costs the same for users who are not there.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooMany`] if too many wait, or too many failed.
    pub(super) async fn verify(
        &self,
        user: &str,
        password: &str,
        logins: Logins<'_>,
    ) -> Result<bool, Refusal> {
        let busy = || too_many(PATIENCE, Limit::Passwords);
        let turn = timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        // Of many requests at once, the first was the one to wait for.
        if self.remembers(user, password) {
            return Ok(true);
        }
        // Not before: those that wait have not guessed yet, and many jobs begin at once.
        let attempt = logins.attempt()?;
        let hash = Arc::clone(self.users.get(user).unwrap_or(&self.decoy));
        let secret = Zeroizing::new(password.to_owned());
        // The turn ends with the work, not with the client's patience.
        let work = spawn_blocking(move || {
            let good = bcrypt::verify(secret.as_str(), &hash).unwrap_or(false);
            drop(turn);
            good
        });
        let good = work.await.unwrap_or(false) && self.has(user);
        if good {
            attempt.forgive();
            self.good.insert(self.fingerprint(user, password), ());
        }
        Ok(good)
    }

    /// No name has a colon in it.
    fn fingerprint(&self, user: &str, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(user.as_bytes());
        context.update(b":");
        context.update(password.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.sign().as_ref());
        bytes
    }
}

/// Whether a caller may have this name: it is sent before a colon, and stands in lines of logs.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && c != ':';
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.trim() == name && name.chars().all(plain)
}

fn entry(line: &str) -> Result<(&str, &str, u32), PasswordFileError> {
    let (name, hash) = line.split_once(':').ok_or(PasswordFileError::Line)?;
    if !is_name(name) {
        return Err(PasswordFileError::Name);
    }
    if !["$2a$", "$2b$", "$2y$"]
        .iter()
        .any(|prefix| hash.starts_with(prefix))
    {
        return Err(PasswordFileError::NotBcrypt);
    }
    let parts: HashParts = hash.parse().map_err(|_| PasswordFileError::Line)?;
    let cost = parts.get_cost();
    if COSTS.contains(&cost) {
        Ok((name, hash, cost))
    } else {
        Err(PasswordFileError::Cost)
    }
}

/// A hash of nothing in particular.
pub(super) fn decoy(cost: u32) -> Arc<str> {
    format!("$2b${cost:02}${}", ".".repeat(53)).into()
}
