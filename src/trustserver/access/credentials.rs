//! The `Authorization` header (RFC 6750, RFC 7617), read without ever failing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::error::{Denied, TokenError};
use super::token::MAX_TOKEN_BYTES;

/// Most bytes of name and password: a name has 128, and bcrypt looks at 72 bytes of a password. A static token may be
/// sent in its place, and some services make them of a few KiB.
const MAX_BASIC_BYTES: usize = 8 << 10;

/// What a client sends to be recognised by.
pub(super) enum Credentials {
    Bearer(Zeroizing<String>),
    Basic {
        user: String,
        password: Zeroizing<String>,
    },
}

impl Credentials {
    pub(super) fn parse(value: &HeaderValue) -> Result<Self, Denied> {
        let text = value.to_str().map_err(|_| Denied::Malformed)?;
        let (scheme, rest) = text.split_once(' ').ok_or(Denied::Malformed)?;
        let rest = rest.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") {
            bearer(rest)
        } else if scheme.eq_ignore_ascii_case("basic") {
            basic(rest)
        } else {
            Err(Denied::Scheme)
        }
    }
}

/// Whether a token was sent, good or bad: the challenge then says what is wrong with it (§2.9).
pub(super) fn is_bearer(value: Option<&HeaderValue>) -> bool {
    value
        .and_then(|value| value.as_bytes().get(..7))
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
}

fn bearer(token: &str) -> Result<Credentials, Denied> {
    if token.is_empty() {
        Err(Denied::Malformed)
    } else if token.len() > MAX_TOKEN_BYTES {
        Err(TokenError::TooLong.into())
    } else {
        Ok(Credentials::Bearer(token.to_owned().into()))
    }
}

fn basic(encoded: &str) -> Result<Credentials, Denied> {
    if encoded.len() > MAX_BASIC_BYTES {
        return Err(Denied::Malformed);
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| Denied::Malformed)?);
    let text = std::str::from_utf8(&decoded).map_err(|_| Denied::Malformed)?;
    let (user, password) = text.split_once(':').ok_or(Denied::Malformed)?;
    if user.is_empty() || password.is_empty() {
        return Err(Denied::Malformed);
    }
    Ok(Credentials::Basic {
        user: user.to_owned(),
        password: password.to_owned().into(),
    })
}
