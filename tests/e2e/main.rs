//! The story of the README against real peers.
