//! The Helm chart and the plain manifests, as they lie in the repository. What needs Helm is in `tests/e2e/chart.rs`.

mod generated;
mod manifests;
mod values;
