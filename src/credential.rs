//! Docker logins: which credential belongs to which host.
//!
//! Pure: a docker `config.json` or a pull secret goes in as bytes, [`Credential`]s come out in the order in which
//! they are to be tried (kubernetes-admission §5.2), and so do the challenges of servers (notary-v1 §1.7). Running a
//! credential helper is I/O and belongs to `notary`; here it is only a name.

use secrecy::SecretString;

mod challenge;
mod config;
mod glob;

pub use challenge::Challenge;
pub use config::{ConfigError, DockerConfig, HelperName, helper_answer, registry_key};

/// What a server may be shown. `Debug` cannot print the secret part.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A user and a password, for Basic authentication and for token services.
    Basic {
        /// The user; not secret.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token, which a token service takes by `POST` (docker's `identitytoken`).
    IdentityToken(SecretString),
    /// A bearer token for the server itself, no token service involved (docker's `registrytoken`).
    RegistryToken(SecretString),
}
