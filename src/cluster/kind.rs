//! The two kinds of policy, as objects of which nothing is believed but the metadata.

use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource as _};
use serde_json::{Value, json};

use crate::policy::PolicyName;
use crate::policy::resource::{ClusterTrustPolicy, TrustPolicy};

/// A kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Cluster,
    Namespaced,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Cluster, Self::Namespaced];

    pub(super) const fn of(name: &PolicyName) -> Self {
        match name.namespace {
            Some(_) => Self::Namespaced,
            None => Self::Cluster,
        }
    }

    pub(super) fn resource(self) -> ApiResource {
        match self {
            Self::Cluster => ApiResource::erase::<ClusterTrustPolicy>(&()),
            Self::Namespaced => ApiResource::erase::<TrustPolicy>(&()),
        }
    }

    /// All objects of the kind.
    pub(super) fn api(self, client: &Client) -> Api<DynamicObject> {
        Api::all_with(client.clone(), &self.resource())
    }

    /// What of `object` decides, as it stands in the API. A list need not say of each what it is, and of a status the
    /// most part is our own.
    pub(super) fn value(self, object: &DynamicObject) -> Value {
        let ApiResource {
            api_version, kind, ..
        } = self.resource();
        let metadata = object.meta();
        json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": metadata.name,
                "namespace": metadata.namespace,
                "uid": metadata.uid,
                "generation": metadata.generation,
            },
            "spec": object.data.get("spec"),
        })
    }
}
