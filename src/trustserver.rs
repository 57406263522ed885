//! A trust server: the other end of the trust protocol (notary-v1 §2, §8).
//!
//! ```text
//! request ─ http ─▶ Call ─ access ─▶ Caller ─ service ─▶ tuf::hosted decides ─▶ storage: one commit, or none ─▶ answer
//! ```
//!
//! What may be stored is decided without I/O, by [`crate::tuf::hosted`], from what is stored already; storing it is
//! one transaction that only succeeds if nobody else has written meanwhile. Then the decision is taken again, from
//! what is stored by then. So there is no lock, and any number of servers may share a database.

pub mod access;
pub mod audit;
pub mod http;
pub mod interchange;
pub mod seal;
pub mod service;
pub mod storage;
