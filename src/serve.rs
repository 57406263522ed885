//! Sockets, TLS, probes, drain.
