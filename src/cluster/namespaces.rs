//! Labels of namespaces.

use std::fmt;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::REQUEST;
use super::signs::MODES;
use crate::policy::Labels;

pub(super) type Meta = PartialObjectMeta<Namespace>;
pub(super) type Writer = reflector::store::Writer<Meta>;

/// How a namespace joins.
const MODE_LABEL: &str = "countersign.dev/mode";

/// The labels of namespaces. Outside of a cluster no namespace has any.
#[derive(Clone, Default)]
pub struct Namespaces(Option<(Client, Store<Meta>)>);

impl Namespaces {
    pub(super) fn watched(client: Client) -> (Self, Writer) {
        let (store, writer) = reflector::store();
        (Self(Some((client, store))), writer)
    }

    /// The labels of one namespace. One that was made a moment ago is asked for, until the deadline at the latest; if
    /// there is no answer its labels are unknown.
    pub async fn labels(&self, name: &str, deadline: Instant) -> Option<Labels> {
        let Some((client, store)) = &self.0 else {
            return Some(Labels::new());
        };
        if let Some(seen) = store.get(&ObjectRef::new(name)) {
            return Some(seen.labels().clone());
        }
        let api: Api<Meta> = Api::all(client.clone());
        let deadline = deadline.min(Instant::now() + REQUEST / 2);
        match timeout_at(deadline, api.get(name)).await {
            Ok(Ok(found)) => Some(found.labels().clone()),
            Ok(Err(error)) => {
                warn!(namespace = name, %error, "labels of a namespace are unknown: every policy is taken to apply");
                None
            }
            Err(_) => {
                warn!(
                    namespace = name,
                    "labels of a namespace are unknown, the API server does not answer: every policy is taken to apply"
                );
                None
            }
        }
    }
}

/// How many namespaces have each of [`MODES`].
pub(super) fn by_mode(store: &Store<Meta>) -> [usize; MODES.len()] {
    let mut counts = [0; MODES.len()];
    for namespace in store.state() {
        let mode = namespace.labels().get(MODE_LABEL).map_or("none", String::as_str);
        let known = MODES.iter().position(|known| *known == mode && *known != "other");
        if let Some(count) = counts.get_mut(known.unwrap_or(MODES.len() - 1)) {
            *count += 1;
        }
    }
    counts
}

impl fmt::Debug for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.0.as_ref().map(|(_, store)| store.len());
        f.debug_struct("Namespaces").field("seen", &seen).finish()
    }
}
