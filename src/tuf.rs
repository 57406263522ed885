//! Notary's dialect of The Update Framework, verified without I/O.
//!
//! Bytes, prior state, limits and one clock reading in; trusted data, a request for more bytes, or an error out.

mod request;
mod role;

pub use request::{Answer, Form, Request};
pub use role::{DelegationName, Role, RoleError};
