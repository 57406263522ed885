//! What is wrong with the rules, and with credentials.

use std::io;
use std::path::PathBuf;

/// The rules cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A file is not there, or not for us.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pipe, a folder: opening it could wait for ever.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// What.
        path: PathBuf,
    },
    /// A file is larger than any of its kind.
    #[error("{} has more than {limit} bytes", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// How much is read.
        limit: u64,
    },
    /// The rules are not YAML of the right form.
    #[error("{}{}: {message}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Yaml {
        /// The file of the rules.
        path: PathBuf,
        /// Where, if that is known.
        line: Option<u64>,
        /// What the parser says, which names the field.
        message: Box<str>,
    },
    /// A token service without any key of it.
    #[error("{}: token names neither rootCertBundle nor jwks", path.display())]
    NoKeys {
        /// The file of the rules.
        path: PathBuf,
    },
    /// A rule that would grant nothing.
    #[error("{}: catalog is granted for repositories other than **", path.display())]
    Catalog {
        /// The file of the rules.
        path: PathBuf,
    },
    /// Two callers by one name, who could not be told apart.
    #[error("{}: {name} is there twice", path.display())]
    Twice {
        /// The file it is in for the second time.
        path: PathBuf,
        /// The name, or key id.
        name: Box<str>,
    },
    /// A bundle without a certificate, or with something that is none.
    #[error("{} holds no usable PEM certificates", path.display())]
    Bundle {
        /// Which.
        path: PathBuf,
    },
    /// No JSON Web Key Set, or one without a key that may verify tokens.
    #[error("{} holds no key set with public RSA, P-256, P-384 or Ed25519 keys", path.display())]
    Jwks {
        /// Which.
        path: PathBuf,
    },
    /// A secret key, with which anybody who can read it could make tokens.
    #[error("{} holds a secret key, tokens are verified by public keys only", path.display())]
    SecretKey {
        /// Which.
        path: PathBuf,
    },
    /// A line of a password file.
    #[error("{}:{line}", path.display())]
    Passwords {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: PasswordFileError,
    },
    /// The system has no randomness to give.
    #[error("no random key can be made")]
    Randomness,
}

/// What is wrong with a line of a password file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordFileError {
    /// Not `name:hash`.
    #[error("not a name, a colon and a bcrypt hash")]
    Line,
    /// A hash that can be guessed by the billion.
    #[error("the password is not hashed with bcrypt; write it with htpasswd -B")]
    NotBcrypt,
    /// A hash that takes seconds, or none at all.
    #[error("the cost of bcrypt is not between 4 and 14")]
    Cost,
    /// A name that no client can send, or that breaks lines of logs.
    #[error("the name is empty, longer than 128 bytes, or not plain text")]
    Name,
    /// Too many lines.
    #[error("more than 10000 users")]
    TooMany,
}

/// Why credentials do not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// There are none.
    #[error("no credentials were sent")]
    NoCredentials,
    /// The header is not what RFC 7617 or RFC 6750 say, or there are two.
    #[error("the authorization header cannot be read")]
    Malformed,
    /// Neither `Basic` nor `Bearer`.
    #[error("the authorization scheme is not known")]
    Scheme,
    /// A wrong password, or nobody of that name.
    #[error("name or password are wrong")]
    Password,
    /// A bearer token that is none of the static ones, where there is no token service.
    #[error("the token is not known")]
    Secret,
    /// Something is wrong with a token of the token service.
    #[error("the token is refused")]
    Token(#[from] TokenError),
    /// The caller is known, and nothing grants what is asked.
    #[error("nothing grants that to the caller")]
    Insufficient,
}

impl Denied {
    /// Stable word for metrics and audit logs.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::Malformed => "malformed",
            Self::Scheme => "scheme",
            Self::Password => "password",
            Self::Secret => "secret",
            Self::Token(error) => error.reason(),
            Self::Insufficient => "insufficient",
        }
    }
}

/// What is wrong with a token of the token service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than any token.
    #[error("the token is too long")]
    TooLong,
    /// No JWT, or claims of another shape.
    #[error("the token cannot be read")]
    Malformed,
    /// An algorithm that is none, symmetric, or not that of the key.
    #[error("the token's algorithm does not belong to its key")]
    Algorithm,
    /// Extensions that have to be understood, and are not.
    #[error("the token has critical extensions")]
    Critical,
    /// It names no key, or none that we trust.
    #[error("the token's key is not known")]
    Key,
    /// Its certificates do not lead to an authority of the bundle.
    #[error("the token's certificates lead to no authority of the bundle")]
    Chain,
    /// It was changed, or signed by another key.
    #[error("the token's signature is wrong")]
    Signature,
    /// It is another service's.
    #[error("the token is of another issuer")]
    Issuer,
    /// It is for another server.
    #[error("the token is for another service")]
    Audience,
    /// It was good.
    #[error("the token has expired")]
    Expired,
    /// It will be good.
    #[error("the token is not valid yet")]
    NotYet,
}

impl TokenError {
    /// Stable word for metrics and audit logs.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "token_too_long",
            Self::Malformed => "token_malformed",
            Self::Algorithm => "token_algorithm",
            Self::Critical => "token_critical",
            Self::Key => "token_key",
            Self::Chain => "token_chain",
            Self::Signature => "token_signature",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Expired => "token_expired",
            Self::NotYet => "token_not_yet",
        }
    }
}
