//! Docker logins: which credential belongs to which host.
//!
//! Pure: a docker `config.json` or a pull secret goes in as bytes, [`Credential`]s come out in the order in which
//! they are to be tried (kubernetes-admission §5.2), and so do the challenges of servers (notary-v1 §1.7). Running a
//! credential helper is I/O and belongs to `notary`; here it is only a name.

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

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

/// Tells lists of logins apart: equal for the same ones in the same order, and no way back to them.
pub fn fingerprint(logins: &[Credential]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for login in logins {
        let (kind, user, secret) = match login {
            Credential::Basic { user, password } => (b'b', user.as_str(), password),
            Credential::IdentityToken(token) => (b'i', "", token),
            Credential::RegistryToken(token) => (b'r', "", token),
        };
        hash.update([kind]);
        for part in [user, secret.expose_secret()] {
            // With its length, so that no two lists run together into one.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_logins_are_told_apart_by_kind_order_and_every_byte() {
        let basic = |user: &str, password: &str| Credential::Basic {
            user: user.to_owned(),
            password: password.into(),
        };
        let lists = [
            vec![],
            vec![basic("ab", "c")],
            vec![basic("a", "bc")],
            vec![basic("", "abc")],
            vec![Credential::IdentityToken("abc".into())],
            vec![Credential::RegistryToken("abc".into())],
            vec![basic("a", "b"), basic("c", "d")],
            vec![basic("c", "d"), basic("a", "b")],
        ];
        for (i, one) in lists.iter().enumerate() {
            for (j, other) in lists.iter().enumerate() {
                assert_eq!(
                    fingerprint(one) == fingerprint(other),
                    i == j,
                    "{one:?} {other:?}"
                );
            }
        }
    }
}
