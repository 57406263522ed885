//! Requests and answers of the trust protocol (notary-v1 §2), without I/O.
//!
//! ```text
//! method, path ─ Route::parse ─▶ Route        body ─ upload ─▶ files by role
//! file, key, changes ─ metadata, key, changefeed ─▶ Response        ProtocolError ─ into_response ─▶ Response
//! ```

mod answer;
mod error;
mod path;
mod route;
mod upload;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

pub use self::answer::{
    CacheAges, changefeed, empty, expires, headers_only, health, keep_private, key, metadata, version,
};
pub use self::error::{InvalidUpdate, ProtocolError};
pub use self::route::{Form, Route};
pub use self::upload::upload;
use super::access::Peer;

/// A request that arrived whole.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, within the limit; only updates have one.
    pub body: Bytes,
    /// Where it comes from.
    pub peer: Peer,
}
