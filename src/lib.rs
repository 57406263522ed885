//! Countersign: content trust for Kubernetes.
//!
//! ```text
//! AdmissionReview ─ review ─▶ images ─ policy ─▶ requirement ─ trust ─▶ Pinned | Refusal ─ review ─▶ patch + verdict ─▶ reply
//!                 (pure)              (pure)               (tuf is pure; notary fetches bytes)       (pure)
//! ```
//!
//! Arrows point down only; `tests/it/layers.rs` holds the source to this table.
//!
//! | layer | modules |
//! | --- | --- |
//! | 0 | [`mod@reference`] |
//! | 1, pure | [`tuf`], [`policy`], [`review`], [`credential`] |
//! | 2, I/O | [`fetch`] |
//! | 3, I/O | [`notary`], [`registry`], [`store`], [`keystore`], [`policy_files`], [`cluster`] |
//! | 4 | [`trust`]: one image in, a pinned digest or a refusal out |
//! | 5 | [`admission`]: the pipeline above on one screen; [`publish`]: the other way, from a wish to signed files; [`trustserver`]: where they are kept |
//! | 6 | [`serve`]; [`sandbox`]: all of it in one process; [`cli`] |
//! | beside | [`clock`], [`telemetry`] |

pub mod admission;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod credential;
pub mod fetch;
pub mod keystore;
pub mod notary;
pub mod policy;
pub mod policy_files;
pub mod publish;
pub mod reference;
pub mod registry;
pub mod review;
pub mod sandbox;
pub mod serve;
pub mod store;
pub mod telemetry;
pub mod trust;
pub mod trustserver;
pub mod tuf;
