//! Policies read from files, and read again when they change.
