//! Requests and answers of the trust protocol (notary-v1 §2).

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

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
    /// Its body, within the limit.
    pub body: Bytes,
    /// Where it comes from.
    pub peer: Peer,
}
