//! Tokens of the registry's token service (notary-v1 §2.9).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use moka::sync::Cache;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Need;
use super::error::TokenError;
use super::keyring::Keyring;

/// Most bytes of a token: a hundred repositories of 255 bytes would not fit, but clients ask for one. Servers and
/// proxies commonly take 8 to 16 KiB of headers.
pub(super) const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Most entries of `access`, see there.
const MAX_ACCESS: usize = 100;
/// Most bytes of the subject, which is written into logs.
const MAX_SUBJECT_BYTES: usize = 256;
/// How far the clocks of the service and ours may be apart (§2.9).
const LEEWAY_SECONDS: f64 = 60.0;
/// How long a verified token is not verified again. Its own end counts all the same; that of its certificates may pass
/// unnoticed for so long.
const MEMORY: Duration = Duration::from_secs(60);
/// Tokens that are remembered: at 1 KiB each, 10 MiB.
const MAX_REMEMBERED: u64 = 10_000;

/// A token service that we trust.
#[derive(Debug)]
pub(super) struct TokenService {
    issuer: String,
    service: String,
    keyring: Keyring,
    /// By SHA-256 of the whole token, signature included.
    verified: Cache<[u8; 32], Arc<Verified>>,
}

/// What a good token says.
#[derive(Debug)]
pub(super) struct Verified {
    subject: Option<String>,
    not_before: Option<f64>,
    expires: f64,
    access: Vec<Granted>,
}

/// The claims that matter.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    sub: Option<String>,
    // Go writes an empty list as null.
    access: Option<Vec<Granted>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// What a token grants.
#[derive(Debug, Deserialize)]
struct Granted {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Option<Vec<String>>,
}

impl TokenService {
    pub(super) fn new(issuer: String, service: String, keyring: Keyring) -> Self {
        Self {
            issuer,
            service,
            keyring,
            verified: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(MEMORY)
                .build(),
        }
    }

    /// A token that was verified a moment ago, and is still good.
    pub(super) fn remembered(&self, token: &str, now: Timestamp) -> Option<Arc<Verified>> {
        let verified = self.verified.get(&hash(token))?;
        verified.in_time(now).is_ok().then_some(verified)
    }

    /// Nothing that the token says is believed before its signature: only which of our keys that is to be verified
    /// with.
    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Verified>, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let verified = Arc::new(self.claims(token, now)?.verify(self)?);
        verified.in_time(now)?;
        self.verified.insert(hash(token), Arc::clone(&verified));
        Ok(verified)
    }

    fn claims(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        // `none` is not even a name that the library knows.
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let key = self.keyring.key_of(&header, now)?;
        if !key.has(header.alg) {
            return Err(TokenError::Algorithm);
        }
        decode(token, &key.decoding(), &signature_only(header.alg))
            .map(|token| token.claims)
            .map_err(|error| {
                if *error.kind() == ErrorKind::InvalidSignature {
                    TokenError::Signature
                } else {
                    TokenError::Malformed
                }
            })
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The claims are looked at here: the library reads the clock itself.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

impl Claims {
    fn verify(self, service: &TokenService) -> Result<Verified, TokenError> {
        if self.iss != service.issuer {
            return Err(TokenError::Issuer);
        }
        let ours = match &self.aud {
            Audience::One(one) => *one == service.service,
            Audience::Many(many) => many.contains(&service.service),
        };
        if !ours {
            return Err(TokenError::Audience);
        }
        let access = self.access.unwrap_or_default();
        let subject = self.sub.filter(|subject| !subject.is_empty());
        let printable =
            |name: &String| name.len() <= MAX_SUBJECT_BYTES && !name.chars().any(char::is_control);
        if access.len() > MAX_ACCESS || !subject.iter().all(printable) {
            return Err(TokenError::Malformed);
        }
        Ok(Verified {
            subject,
            not_before: self.nbf,
            expires: self.exp,
            access,
        })
    }
}

impl Verified {
    /// Who has it; anonymous tokens are nobody's.
    pub(super) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// Whether one entry grants all that is needed, or several together.
    pub(super) fn permits(&self, need: &Need) -> bool {
        if *need == Need::Known {
            return true;
        }
        let (kind, name, actions) = need.wanted();
        actions.iter().all(|action| {
            self.access
                .iter()
                .filter(|granted| granted.kind == kind && granted.name == name)
                .flat_map(|granted| granted.actions.iter().flatten())
                .any(|granted| granted == action || granted == "*")
        })
    }

    /// Whether the token is good now.
    fn in_time(&self, now: Timestamp) -> Result<(), TokenError> {
        let now = now.as_duration().as_secs_f64();
        if now >= self.expires + LEEWAY_SECONDS {
            Err(TokenError::Expired)
        } else if self.not_before.is_some_and(|begin| now + LEEWAY_SECONDS < begin) {
            Err(TokenError::NotYet)
        } else {
            Ok(())
        }
    }
}
