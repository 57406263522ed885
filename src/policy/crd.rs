//! The custom resource definitions, as `countersign crds` prints them.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;

use super::resource::{ClusterTrustPolicy, TrustPolicy};

/// The definitions of both kinds, the cluster's first.
pub fn crds() -> [CustomResourceDefinition; 2] {
    [ClusterTrustPolicy::crd(), TrustPolicy::crd()].map(strict)
}

/// Definitions as YAML documents, for `kubectl apply`. The text is the same every time.
#[expect(clippy::missing_panics_doc, reason = "it cannot, as said below")]
pub fn crds_yaml(crds: impl IntoIterator<Item = CustomResourceDefinition>) -> String {
    let mut text = String::new();
    for crd in crds {
        #[expect(
            clippy::expect_used,
            reason = "a definition is strings, numbers, lists and maps with text keys"
        )]
        let document = serde_saphyr::to_string(&crd).expect("a definition has a YAML form");
        let _infallible = write!(text, "---\n{document}");
    }
    text
}

/// Makes an explicit null an error everywhere, as it is in a policy file: `verify:` with nothing behind it is a
/// mistake, not a rule without `verify`, and CEL's `has` would have taken it for present.
pub fn strict(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|validation| validation.open_api_v3_schema.as_mut())
        {
            refuse_null(schema);
        }
    }
    crd
}

/// Recursion is bounded by the depth of our own types.
fn refuse_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for property in schema.properties.iter_mut().flat_map(|map| map.values_mut()) {
        refuse_null(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => refuse_null(items),
        Some(JSONSchemaPropsOrArray::Schemas(list)) => list.iter_mut().for_each(refuse_null),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        refuse_null(values);
    }
}
