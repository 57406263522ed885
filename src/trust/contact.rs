//! Whether trust servers answer, as far as it was seen while they were asked for images. Nothing is asked for the sake of
//! this: there is no repository that every server has.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Refusal;
use super::outcome::Kind;
use super::verifier::Notary;
use crate::fetch::host_of;

/// A server is called silent after it failed for this long, and more than once: a restart of it is no news.
const SILENT: Duration = Duration::from_secs(20);

/// What is known of the servers of some verifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// None of them names a server: each image implies its own.
    NoServer,
    /// Nothing is known of some, and nothing bad of the others.
    NotAsked,
    /// All answered when they were last asked.
    Answering,
    /// Some did not.
    Silent {
        /// The first one's failure: a word of [`Refusal::reason`].
        reason: &'static str,
        /// Which, and why.
        message: String,
    },
}

/// How the servers of verifiers answered, by the number of the verifier.
#[derive(Debug, Default)]
pub(super) struct Contacts(Mutex<HashMap<u64, Seen>>);

#[derive(Clone, Copy, Debug)]
enum Seen {
    Answer,
    /// Failures without an answer between them, and what was known before them.
    Failing {
        reason: &'static str,
        first: Instant,
        last: Instant,
        answered: bool,
    },
}

impl Contacts {
    /// Notes how a run ended. That metadata is not trusted is an answer.
    pub(super) fn note(&self, notary: &Notary, refusal: Option<&Refusal>) {
        if !notary.names_server() {
            return;
        }
        let failure = refusal.filter(|refusal| refusal.kind() == Kind::Unavailable);
        let now = Instant::now();
        let mut seen = self.seen();
        let next = match failure.map(Refusal::reason) {
            None => Seen::Answer,
            // Ours, and no word about the server.
            Some("state" | "setup" | "clock" | "internal") => return,
            Some(reason) => match seen.get(&notary.number) {
                Some(Seen::Failing { first, answered, .. }) => Seen::Failing {
                    reason,
                    first: *first,
                    last: now,
                    answered: *answered,
                },
                before => Seen::Failing {
                    reason,
                    first: now,
                    last: now,
                    answered: before.is_some(),
                },
            },
        };
        seen.insert(notary.number, next);
    }

    /// Forgets all but the verifiers that `stays` knows.
    pub(super) fn keep(&self, stays: impl Fn(u64) -> bool) {
        self.seen().retain(|number, _| stays(*number));
    }

    pub(super) fn of<'a>(&self, notaries: impl Iterator<Item = &'a Notary>) -> Contact {
        let seen = self.seen();
        let (mut named, mut unknown, mut silent) = (false, false, Vec::new());
        for notary in notaries {
            let Some(server) = &notary.policy.server else {
                continue;
            };
            named = true;
            match seen.get(&notary.number) {
                None | Some(Seen::Failing { answered: false, .. }) => unknown = true,
                Some(_) => {}
            }
            if let Some(Seen::Failing {
                reason, first, last, ..
            }) = seen.get(&notary.number)
                && last.duration_since(*first) >= SILENT
            {
                let text = format!("verifier {} at {}: {reason}", notary.name, host_of(server));
                silent.push((*reason, text));
            }
        }
        match silent.first() {
            Some((reason, _)) => Contact::Silent {
                reason,
                message: silent
                    .iter()
                    .map(|(_, text)| text.as_str())
                    .collect::<Vec<_>>()
                    .join("; "),
            },
            None if !named => Contact::NoServer,
            None if unknown => Contact::NotAsked,
            None => Contact::Answering,
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<u64, Seen>> {
        // A map is whole whatever became of who held it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Lending, Notary as Settings, ReleasesMissing, Root};

    fn notary(number: u64, server: Option<&str>) -> Notary {
        let settings = Settings {
            server: server.map(|server| server.parse().unwrap()),
            ca: None,
            credentials: None,
            root: Root {
                trust_on_first_use: true,
                minimum: 1,
                ..Root::default()
            },
            signers: Vec::new(),
            max_staleness: Duration::ZERO,
            releases_missing: ReleasesMissing::Allow,
            lending: Lending::default(),
        };
        Notary::compile(number, "acme", &settings).unwrap()
    }

    fn refusal(kind: Kind, reason: &'static str) -> Refusal {
        super::super::fake::refusal(kind, reason, "", Vec::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_silent_only_after_it_failed_for_a_while() {
        let (contacts, acme) = (Contacts::default(), notary(1, Some("https://trust.example.com")));
        let of = || contacts.of([&acme].into_iter());
        assert_eq!(of(), Contact::NotAsked);
        contacts.note(&acme, Some(&refusal(Kind::Unavailable, "network")));
        assert_eq!(of(), Contact::NotAsked);
        contacts.note(&acme, None);
        assert_eq!(of(), Contact::Answering);
        let failed = refusal(Kind::Unavailable, "network");
        contacts.note(&acme, Some(&failed));
        tokio::time::advance(SILENT).await;
        assert_eq!(of(), Contact::Answering, "one failure is no news");
        contacts.note(&acme, Some(&refusal(Kind::Unavailable, "state")));
        assert_eq!(of(), Contact::Answering, "the failure is ours");
        contacts.note(&acme, Some(&failed));
        let message = "verifier acme at trust.example.com: network".to_owned();
        assert_eq!(
            of(),
            Contact::Silent {
                reason: "network",
                message
            }
        );
        contacts.note(&acme, Some(&refusal(Kind::Untrusted, "expired")));
        assert_eq!(of(), Contact::Answering, "an answer that is not trusted is one");
        contacts.keep(|_| false);
        assert_eq!(of(), Contact::NotAsked);
    }

    #[tokio::test]
    async fn servers_that_images_choose_do_not_count() {
        let (contacts, docker) = (Contacts::default(), notary(1, None));
        contacts.note(&docker, Some(&refusal(Kind::Unavailable, "network")));
        assert_eq!(contacts.of([&docker].into_iter()), Contact::NoServer);
        let named = notary(2, Some("https://trust.example.com"));
        contacts.note(&named, None);
        assert_eq!(contacts.of([&docker, &named].into_iter()), Contact::Answering);
        assert_eq!(contacts.of([].into_iter()), Contact::NoServer);
    }
}
