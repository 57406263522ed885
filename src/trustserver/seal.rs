//! Server-held keys at rest: sealed under a data key, which is sealed under the operator's key.
