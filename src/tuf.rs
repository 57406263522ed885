//! Notary's dialect of The Update Framework, verified without I/O.
//!
//! Bytes, prior state, limits and one clock reading in; trusted data, a request for more bytes, or an error out.
//! Section numbers are those of the project's protocol specification, notary-v1.
//!
//! Known attacks on other clients, and what stops each here:
//!
//! | attack | stopped by |
//! | --- | --- |
//! | rollback of any role, also of delegations (T1, T2) | [`State::seen`], held against every file in `update::admit` |
//! | equivocation: one version, two contents (T3) | `update::admit` |
//! | freeze (T4, T5) | expiry in `update::admit`; a known repository that is gone is [`Error::Gone`] |
//! | mix-and-match (T7) | `update::described`: every hash and the exact length |
//! | omission and downgrade of delegations (T8, T9, T54) | `update::refuse_omissions`, `update::load` |
//! | endless data, deep nesting (T10, T26) | [`Limits`], and the depth limit of [`canonical`] |
//! | duplicate members inject tags (T15); case variants (T25) | [`canonical`]; `decode::Object::of` |
//! | one key counted twice (T19, T20), foreign key ids (T21) | `envelope::meets`; `envelope::Keys` |
//! | algorithm confusion, ambiguous encodings (T22–T24) | `key::PublicKey::verify` |
//! | wildcard names, shared roots (T28, T29, T33) | `root::RootRules`: the name is exactly the GUN |
//! | pins ignored once a root is cached (T30) | `root::Chain::meets_pin`, on every run |
//! | a digest in the reference skips the check (T34) | [`Collection::resolve`] |

mod asn1;
mod collection;
mod decode;
mod envelope;
mod error;
mod key;
mod key_file;
mod limits;
mod metadata;
mod pem;
mod pin;
mod private_key;
mod request;
mod role;
mod root;
mod state;
mod update;

pub mod canonical;
mod certificate;
pub mod edit;
pub mod hosted;

pub use certificate::{Bundle, Certificate, CertificateError, certificate_pem};
pub use collection::{Collection, Conditions, RequiredSigner, Resolution, Unsigned};
pub use decode::FormatError;
pub use error::Error;
pub use key::{KeyError, KeyId, PublicKey, pinned_key, sha256};
pub use key_file::{KeyFile, KeyFileError, Labels, Strength, has_gun};
pub use limits::Limits;
pub use metadata::root_version;
pub use pin::Pin;
pub use private_key::{Algorithm, PrivateKey, PrivateKeyError};
pub use request::{Answer, Form, Request};
pub use role::{DelegationName, Role, RoleError};
pub use state::{Seen, State};
pub use update::{Purpose, Step, Task, Update, Verified};
