//! What is fuzzed: one function for each target. It takes any bytes, and panics where a promise is broken.

pub(crate) mod access;
pub(crate) mod canonical;
pub(crate) mod challenge;
pub(crate) mod key_file;
pub(crate) mod login;
pub(crate) mod metadata;
pub(crate) mod policy;
pub(crate) mod publish;
pub(crate) mod reference;
pub(crate) mod review;
pub(crate) mod route;
pub(crate) mod sealed;
pub(crate) mod upload;
