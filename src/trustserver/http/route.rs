//! What a request asks for (notary-v1 §2.1, §2.2).

use http::{Method, Uri};
use url::form_urlencoded;

use super::error::ProtocolError;
use super::path;
use crate::reference::Gun;
use crate::trustserver::storage::Page;
use crate::tuf::Role;

/// A request of the trust protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /_notary_server/health`: whether calls are answered; for everybody (§2.1).
    Health,
    /// `GET /v2/`: whether this is a trust server, and who calls.
    Version,
    /// `POST tuf/`: new files, all at once.
    Update(Gun),
    /// `GET tuf/….json`: a file.
    Read {
        /// Of this repository.
        gun: Gun,
        /// Of this role.
        role: Role,
        /// Which of its files.
        form: Form,
    },
    /// `GET tuf/{role}.key` and `POST tuf/{role}.key`: a key that the server holds.
    Key {
        /// For this repository.
        gun: Gun,
        /// For this role: snapshot or timestamp.
        role: Role,
        /// Whether a new one is wanted (`POST`).
        rotate: bool,
    },
    /// `DELETE tuf/`: the repository is to be deleted.
    Delete(Gun),
    /// `GET changefeed`: what happened.
    Changefeed {
        /// In this repository, or in all.
        gun: Option<Gun>,
        /// Which part of it.
        page: Page,
    },
}

/// Which of a role's files is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The current one.
    Current,
    /// The one with this SHA-256.
    Hash([u8; 32]),
    /// The one with this version.
    Version(u64),
}

impl Route {
    /// Reads a request line.
    ///
    /// HEAD is answered like GET, which RFC 9110 §9.3.2 asks for and the reference does not do; except for keys, where
    /// a GET may make one, and HEAD must change nothing. There it is 404, as the reference has it everywhere.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Moved`] for a path that is not clean, [`ProtocolError::Unsupported`] for a method that the
    /// protocol does not know, [`ProtocolError::InvalidGun`] for an update of what cannot be a repository,
    /// [`ProtocolError::InvalidParameters`] for a changefeed's, and [`ProtocolError::NotFound`] for all else.
    pub fn parse(method: &Method, uri: &Uri) -> Result<Self, ProtocolError> {
        let clean = canonical(uri)?;
        let place = clean.as_deref().and_then(Place::parse);
        if !KNOWN.contains(&method) {
            return Err(ProtocolError::Unsupported {
                allow: place.map_or(ANY, |place| place.methods()),
            });
        }
        place
            .and_then(|place| place.asked(method, uri))
            .unwrap_or(Err(ProtocolError::NotFound))
    }

    /// The word in logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Version => "version",
            Self::Update(_) => "update",
            Self::Read { .. } => "read",
            Self::Key { rotate: false, .. } => "key",
            Self::Key { rotate: true, .. } => "rotate",
            Self::Delete(_) => "delete",
            Self::Changefeed { .. } => "changefeed",
        }
    }
}

/// The path, decoded; `None` for what is no path at all, such as the `*` of OPTIONS.
fn canonical(uri: &Uri) -> Result<Option<String>, ProtocolError> {
    let Some(decoded) = path::decode(uri.path()).filter(|path| path.starts_with('/')) else {
        return Ok(None);
    };
    let clean = path::clean(&decoded);
    if clean == *decoded {
        return Ok(Some(clean));
    }
    let mut location = path::encode(&clean);
    if let Some(query) = uri.query() {
        location.push('?');
        location.push_str(query);
    }
    Err(ProtocolError::Moved { location })
}

/// What a path leads to, whatever the method.
enum Place<'a> {
    Health,
    Version,
    /// `tuf/` of a repository.
    Repository(&'a str),
    /// `tuf/{file}` of a repository, without `.json`.
    File {
        gun: &'a str,
        file: &'a str,
    },
    Key {
        gun: &'a str,
        role: Role,
    },
    Changefeed {
        gun: Option<&'a str>,
    },
}

impl<'a> Place<'a> {
    /// Finds the place of a clean path. No component of a GUN begins with an underscore, so the first `/_trust/` ends
    /// it.
    fn parse(path: &'a str) -> Option<Self> {
        if path == HEALTH {
            return Some(Self::Health);
        }
        let path = path.strip_prefix("/v2/")?;
        if path.is_empty() {
            return Some(Self::Version);
        }
        if path == "_trust/changefeed" {
            return Some(Self::Changefeed { gun: None });
        }
        let (gun, rest) = path.split_once("/_trust/")?;
        if rest == "changefeed" {
            return Some(Self::Changefeed { gun: Some(gun) });
        }
        let file = rest.strip_prefix("tuf/")?;
        if file.is_empty() {
            return Some(Self::Repository(gun));
        }
        if let Some(file) = file.strip_suffix(".json") {
            return Some(Self::File { gun, file });
        }
        let role = match file {
            "snapshot.key" => Role::Snapshot,
            "timestamp.key" => Role::Timestamp,
            _ => return None,
        };
        Some(Self::Key { gun, role })
    }

    /// The value of `Allow`.
    const fn methods(&self) -> &'static str {
        match self {
            Self::Health | Self::Version | Self::File { .. } | Self::Changefeed { .. } => "GET, HEAD",
            Self::Repository(_) => "DELETE, POST",
            Self::Key { .. } => "GET, POST",
        }
    }

    /// What `method` asks of this place; `None` if nothing.
    fn asked(self, method: &Method, uri: &Uri) -> Option<Result<Route, ProtocolError>> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        Some(match self {
            Self::Health if reads => Ok(Route::Health),
            Self::Version if reads => Ok(Route::Version),
            Self::Repository(gun) if method == Method::POST => gun
                .parse()
                .map(Route::Update)
                .map_err(|_| ProtocolError::InvalidGun),
            Self::Repository(gun) if method == Method::DELETE => found(gun).map(Route::Delete),
            Self::File { gun, file } if reads => {
                let (role, form) = named(file)?;
                found(gun).map(|gun| Route::Read { gun, role, form })
            }
            Self::Key { gun, role } if matches!(*method, Method::GET | Method::POST) => {
                let rotate = method == Method::POST;
                found(gun).map(|gun| Route::Key { gun, role, rotate })
            }
            Self::Changefeed { gun } if reads => {
                let gun = gun.map(found).transpose();
                gun.and_then(|gun| page(uri).map(|page| Route::Changefeed { gun, page }))
            }
            Self::Health
            | Self::Version
            | Self::Repository(_)
            | Self::File { .. }
            | Self::Key { .. }
            | Self::Changefeed { .. } => return None,
        })
    }
}

fn found(gun: &str) -> Result<Gun, ProtocolError> {
    gun.parse().map_err(|_| ProtocolError::NotFound)
}

/// `role`, `role.hash` or `version.role`. No role has a dot in its name, so each text has one reading at most.
///
/// The reference lets hashes of 96 and 128 digits through and then knows only those of 64 (§2.2): 404 either way.
fn named(file: &str) -> Option<(Role, Form)> {
    let Some((first, second)) = file.split_once('.') else {
        return Some((file.parse().ok()?, Form::Current));
    };
    if !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some((second.parse().ok()?, Form::Version(first.parse().ok()?)));
    }
    let mut hash = [0; 32];
    hex::decode_to_slice(second, &mut hash).ok()?;
    Some((first.parse().ok()?, Form::Hash(hash)))
}

/// Reads `records` and `change_id` (§2.7). Of a parameter that is given twice the first counts, as in the reference.
fn page(uri: &Uri) -> Result<Page, ProtocolError> {
    let parameter = |name: &str| {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        pairs
            .into_iter()
            .find_map(|(key, value)| (key == name).then_some(value))
    };
    let integer = |text: &str| text.parse::<i64>().map_err(|_| ProtocolError::InvalidParameters);
    let records = integer(&parameter("records").ok_or(ProtocolError::InvalidParameters)?)?;
    let start = match parameter("change_id").as_deref() {
        None | Some("") => 0,
        Some(text) => integer(text)?,
    };
    let count = match records.unsigned_abs() {
        0 => DEFAULT_RECORDS,
        count => usize::try_from(count).unwrap_or(MOST_RECORDS).min(MOST_RECORDS),
    };
    Ok(match u64::try_from(start) {
        Err(_) => Page::Newest(count),
        Ok(0) if records < 0 => Page::Newest(count),
        Ok(start) if records < 0 => Page::Before(start, count),
        Ok(start) => Page::After(start, count),
    })
}

/// Methods that a path can be unknown to; others are unknown to the server (§2.1).
const KNOWN: [&Method; 5] = [
    &Method::GET,
    &Method::POST,
    &Method::PUT,
    &Method::HEAD,
    &Method::DELETE,
];
/// What the server knows at all.
const ANY: &str = "DELETE, GET, HEAD, POST";
/// Where the reference is asked whether it is well, and what monitors old servers keeps working with ours.
const HEALTH: &str = "/_notary_server/health";
/// What `records=0` means (§2.7).
const DEFAULT_RECORDS: usize = 100;
/// Most entries in one answer. An entry with a GUN of 255 bytes takes 430, so an answer stays below half a megabyte;
/// whoever wants more asks again from the last id, as with any page.
const MOST_RECORDS: usize = 1_000;

#[cfg(test)]
mod tests;
