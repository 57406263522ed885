//! Publishing against a server that validates what it is sent.

mod commands;
mod edit;
