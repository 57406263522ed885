//! Who may do what (notary-v1 §2.9).

use std::net::SocketAddr;

use crate::reference::Gun;

/// What a call needs to be permitted (§2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// To be known at all: `GET /v2/`.
    Known,
    /// To read a repository.
    Pull(Gun),
    /// To write a repository, and read it.
    Push(Gun),
    /// To delete a repository, or change its keys: `*`.
    Admin(Gun),
    /// To read what happens in all repositories: `registry:catalog:*`.
    Catalog,
}

/// Where a call comes from, as far as the connection says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address and port of the other end.
    pub address: SocketAddr,
    /// Names in its certificate, if it presented one that the authorities signed; common name first.
    pub names: Vec<String>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name in audit logs and limits; `None` for anybody.
    pub name: Option<String>,
    /// How that was proven: `token`, `static`, `htpasswd`, `certificate` or `anonymous`.
    pub by: &'static str,
}
