//! The policy resources.
