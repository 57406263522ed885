//! Publishing against a server that validates what it is sent.

mod attacks;
mod commands;
mod edit;
mod signers;
