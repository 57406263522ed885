//! The watches, and what a change in them sets in motion.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{BoxStream, SelectAll, StreamExt as _};
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{Lookup, Store, store::Writer};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::kind::Kind;
use super::lookup::{Again, Notebook};
use super::namespaces::{self, Meta};
use super::report::Report;
use super::signs::{Hooks, Sign};
use crate::policy::{Compiled, compile_object};

/// How often what could not be read of Secrets and `ConfigMap`s is tried again (CRED-24).
const RETRY: Duration = Duration::from_secs(10);
/// Every how many of those all of them are read again: not all may be watched, and a watch may die silently.
const ROUNDS: u32 = 3;
/// Most changes taken as one: two pages of a list.
const BURST: usize = 1_000;
/// A watch that fails is logged as often as this (CRD-35).
const LOGGED: Duration = Duration::from_secs(60);

/// A watch that has not failed for this long is up again: one that fails is begun again every 30 seconds at the latest.
const MENDED: Duration = Duration::from_secs(90);

/// What is watched.
const WATCHED: [&str; 3] = ["clustertrustpolicies", "trustpolicies", "namespaces"];

/// Something happened in the watch of this number.
enum Seen {
    /// Its store holds all there is.
    Listed(usize),
    /// Its store has changed.
    Changed(usize),
    /// Objects of a list that is not complete yet.
    Partial,
    /// Its store stays as it was.
    Failed(usize, watcher::Error),
}

/// All watches and what was made of them.
pub(super) struct Watching {
    changes: SelectAll<BoxStream<'static, Seen>>,
    policies: [(Kind, Store<DynamicObject>); 2],
    notebook: Notebook,
    listed: [bool; WATCHED.len()],
    logged: [Option<Instant>; WATCHED.len()],
    /// When each failed last, until something is heard of it again.
    failed: [Option<Instant>; WATCHED.len()],
    namespaces: Store<Meta>,
    hooks: Hooks,
    /// Cluster-wide policies for a cluster that has none.
    default: Vec<Value>,
    /// What the policies in force were made of.
    adopted: Option<Vec<Value>>,
    /// The policies in force.
    compiled: Vec<Compiled>,
}

impl Watching {
    pub(super) fn new(client: &Client, labels: namespaces::Writer, notebook: Notebook) -> Self {
        let mut changes = SelectAll::new();
        let mut numbers = 0..;
        let policies = Kind::ALL.map(|kind| {
            let writer = Writer::new(kind.resource());
            let store = writer.as_reader();
            changes.push(seen(numbers.next().unwrap_or_default(), kind.api(client), writer));
            (kind, store)
        });
        let namespaces = labels.as_reader();
        let api: Api<Meta> = Api::all(client.clone());
        changes.push(seen(numbers.next().unwrap_or_default(), api, labels));
        Self {
            changes,
            policies,
            notebook,
            listed: [false; WATCHED.len()],
            logged: [None; WATCHED.len()],
            failed: [None; WATCHED.len()],
            namespaces,
            hooks: Hooks::default(),
            default: Vec::new(),
            adopted: None,
            compiled: Vec::new(),
        }
    }

    pub(super) fn with(self, hooks: Hooks, default: Vec<Value>) -> Self {
        Self {
            hooks,
            default,
            ..self
        }
    }

    pub(super) async fn run(
        mut self,
        mut adopt: impl FnMut(Vec<Compiled>) -> Vec<Compiled>,
        reports: watch::Sender<Vec<Report>>,
    ) -> Infallible {
        let mut ticks = interval(RETRY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = 0;
        loop {
            let mut tick = false;
            let again = tokio::select! {
                Some(seen) = self.changes.next() => {
                    if !self.note_all(seen) {
                        continue;
                    }
                    Again::Nothing
                }
                Some(()) = self.notebook.change() => Again::Nothing,
                _ = ticks.tick() => {
                    tick = true;
                    round = (round + 1) % ROUNDS;
                    if round == 0 { Again::Everything } else { Again::Failures }
                }
            };
            if self.listed.iter().all(|listed| *listed) {
                let news = self.adopt(again, &mut adopt).await;
                // What is known of trust servers changes without any policy, and others write the status too.
                if news || tick {
                    reports.send_replace(self.reports());
                }
            }
            if tick {
                self.tell();
            }
        }
    }

    /// Tells what is known to be up to date, and of namespaces.
    fn tell(&self) {
        for ((what, listed), failed) in WATCHED.iter().zip(self.listed).zip(self.failed) {
            if listed && failed.is_none_or(|failed| failed.elapsed() >= MENDED) {
                (self.hooks.tell)(Sign::Synced(what));
            }
        }
        if self.listed.last() == Some(&true) {
            (self.hooks.tell)(Sign::Namespaces(namespaces::by_mode(&self.namespaces)));
        }
    }

    /// Takes a change with all that came with it, so that many at once are one. Gives what [`Self::note`] gives.
    fn note_all(&mut self, first: Seen) -> bool {
        let mut news = self.note(first);
        for _ in 0..BURST {
            let Some(Some(seen)) = self.changes.next().now_or_never() else {
                break;
            };
            news |= self.note(seen);
        }
        news
    }

    /// Whether policies may be other than before.
    fn note(&mut self, seen: Seen) -> bool {
        match seen {
            Seen::Partial => false,
            Seen::Listed(number) => {
                if let Some(listed) = self.listed.get_mut(number) {
                    *listed = true;
                }
                self.fail(number, None);
                true
            }
            Seen::Changed(number) => {
                self.fail(number, None);
                number < self.policies.len()
            }
            Seen::Failed(number, error) => {
                self.fail(number, Some(Instant::now()));
                self.log(number, &error);
                false
            }
        }
    }

    fn fail(&mut self, number: usize, when: Option<Instant>) {
        if let Some(failed) = self.failed.get_mut(number) {
            *failed = when;
        }
    }

    fn log(&mut self, number: usize, error: &watcher::Error) {
        let what = WATCHED.get(number).copied().unwrap_or_default();
        (self.hooks.tell)(Sign::Failed(what));
        let Some(logged) = self.logged.get_mut(number) else {
            return;
        };
        if logged.is_some_and(|logged| logged.elapsed() < LOGGED) {
            debug!(what, %error, "a watch failed");
            return;
        }
        *logged = Some(Instant::now());
        warn!(what, %error, "a watch failed and is begun again: what was seen last stays in force");
    }

    /// Gives whether anything is other than it was.
    async fn adopt(&mut self, again: Again, adopt: &mut impl FnMut(Vec<Compiled>) -> Vec<Compiled>) -> bool {
        let policies = self.values();
        let news = self.notebook.read(&policies, again).await;
        if !news && self.adopted.as_ref() == Some(&policies) {
            return false;
        }
        let compiled = policies
            .iter()
            .map(|policy| compile_object(policy, &self.notebook.answers(policy)))
            .collect();
        self.compiled = adopt(compiled);
        self.adopted = Some(policies);
        true
    }

    /// What policies are made of: the objects of the cluster, and the default where it has none for all namespaces.
    fn values(&self) -> Vec<Value> {
        let objects = self.objects();
        let governed = objects.iter().any(|(kind, _)| *kind == Kind::Cluster);
        let default = self.default.iter().filter(|_| !governed).cloned();
        let own = objects.iter().map(|(kind, object)| kind.value(object));
        default.chain(own).collect()
    }

    /// What is to be said about each policy that is stored.
    fn reports(&self) -> Vec<Report> {
        let objects = self.objects();
        let stored = self
            .compiled
            .iter()
            .filter(|compiled| compiled.generation.is_some());
        let told = stored.filter_map(|compiled| {
            let name = &compiled.policy.name;
            let same = |object: &DynamicObject| {
                object.metadata.name.as_ref() == Some(&name.name)
                    && object.metadata.namespace == name.namespace
                    // A newer one is adopted first.
                    && object.metadata.generation == compiled.generation
            };
            let (_, object) = objects
                .iter()
                .find(|(kind, object)| *kind == Kind::of(name) && same(object))?;
            Some(Report::new(
                object,
                compiled,
                self.hooks.contact(&compiled.policy),
            ))
        });
        told.collect()
    }

    /// Every policy, in an order that is always the same.
    fn objects(&self) -> Vec<(Kind, std::sync::Arc<DynamicObject>)> {
        let of = |(kind, store): &(Kind, Store<DynamicObject>)| {
            let mut objects = store.state();
            objects.sort_by(|a, b| {
                let key = |object: &DynamicObject| {
                    (object.metadata.namespace.clone(), object.metadata.name.clone())
                };
                key(a).cmp(&key(b))
            });
            let kind = *kind;
            objects.into_iter().map(move |object| (kind, object))
        };
        self.policies.iter().flat_map(of).collect()
    }
}

/// Watches all objects of `api` into the store of `writer`.
fn seen<K>(number: usize, api: Api<K>, writer: Writer<K>) -> BoxStream<'static, Seen>
where
    K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static,
    <K as Lookup>::DynamicType: Eq + std::hash::Hash + Clone + Send + Sync,
{
    watcher(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .map(move |event| match event {
            Ok(Event::Init | Event::InitApply(_)) => Seen::Partial,
            Ok(Event::InitDone) => Seen::Listed(number),
            Ok(Event::Apply(_) | Event::Delete(_)) => Seen::Changed(number),
            Err(error) => Seen::Failed(number, error),
        })
        .boxed()
}
