//! Taking an update apart (notary-v1 §2.4).

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use jiff::Timestamp;
use multer::{Field, Multipart};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Call;
use super::error::ProtocolError;
use crate::tuf::{Limits, Role};

/// The files of an update, by role.
///
/// Stricter than the reference, which stores trailing bytes, lets the last of two files of a role win, ignores
/// timestamps and signs anew for an empty upload (§2.4).
///
/// # Errors
///
/// [`ProtocolError::MalformedUpload`] for a body that is no form, holds no file or a role twice, or more or larger
/// files than `limits` has any verifier read; for each part in turn [`ProtocolError::NoFilename`],
/// [`ProtocolError::InvalidRole`] (also for a timestamp, which only the server signs) and
/// [`ProtocolError::MalformedJson`].
pub async fn upload(call: &Call, limits: &Limits) -> Result<BTreeMap<Role, Bytes>, ProtocolError> {
    let boundary = boundary(&call.headers)?;
    if !is_framed(&call.body, &boundary) {
        return Err(malformed(
            "the body is not exactly one form with the stated boundary",
        ));
    }
    let body = stream::iter([Ok::<_, Infallible>(call.body.clone())]);
    let mut parts = Multipart::new(body, boundary);
    let mut files = BTreeMap::new();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let role = role(&part)?;
        if files.contains_key(&role) {
            return Err(malformed("two files of one role"));
        }
        if files.len() >= limits.roles {
            return Err(malformed("more files than any verifier reads"));
        }
        let file = part.bytes().await.map_err(broken)?;
        if exceeds(file.len(), &role, limits) {
            return Err(malformed("a file is larger than any verifier reads"));
        }
        if !is_metadata(&file) {
            return Err(ProtocolError::MalformedJson);
        }
        files.insert(role, file);
    }
    if files.is_empty() {
        return Err(malformed("no files"));
    }
    Ok(files)
}

const fn malformed(problem: &'static str) -> ProtocolError {
    ProtocolError::MalformedUpload { problem }
}

fn broken(_: multer::Error) -> ProtocolError {
    malformed("the form breaks off, or a part of it has no proper headers")
}

fn boundary(headers: &HeaderMap) -> Result<String, ProtocolError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let boundary = kind.and_then(|kind| multer::parse_boundary(kind).ok());
    boundary
        .filter(|boundary| (1..=LONGEST_BOUNDARY).contains(&boundary.len()))
        .ok_or(malformed(
            "the content type is not multipart/form-data with a boundary",
        ))
}

/// Whether the form begins with its first byte and ends with its last, but for a line end: nothing before the first
/// boundary, nothing after the last. Both would be ignored, and are no place to hide bytes in.
fn is_framed(body: &[u8], boundary: &str) -> bool {
    let open = format!("--{boundary}");
    let close = format!("{open}--");
    let mut lines = body.split(|&byte| byte == b'\n');
    let closed = lines.any(|line| line.strip_suffix(b"\r").unwrap_or(line) == close.as_bytes());
    body.starts_with(open.as_bytes()) && closed && lines.all(<[u8]>::is_empty) && body.last() != Some(&b'\r')
}

/// Whose file a part is: its file name, whole, but for one `.json`. Libraries take what stands behind the last slash
/// for the name (RFC 7578 §4.2), which would make `targets/releases` another role (§2.4).
fn role(part: &Field<'_>) -> Result<Role, ProtocolError> {
    let disposition = part.headers().get(CONTENT_DISPOSITION);
    let disposition = disposition.ok_or(ProtocolError::NoFilename)?;
    let disposition = String::from_utf8_lossy(disposition.as_bytes());
    let name = file_name(&disposition)?.unwrap_or_default();
    let name = name.strip_suffix(".json").unwrap_or(name);
    if name.is_empty() {
        return Err(ProtocolError::NoFilename);
    }
    match name.parse() {
        Ok(Role::Timestamp) | Err(_) => Err(ProtocolError::InvalidRole {
            role: name.to_owned(),
        }),
        Ok(role) => Ok(role),
    }
}

/// The `filename` parameter, as it is written.
///
/// Roles have no character that needs escaping, so an escape only serves to be read differently by two readers, and so
/// do a second name and the `filename*` of RFC 5987: all of these are refused. The library's own reading is not used:
/// it finds a `filename=` inside of other parameters' quotes.
fn file_name(disposition: &str) -> Result<Option<&str>, ProtocolError> {
    const UNCLEAR: ProtocolError = malformed("a part's content disposition can be read in several ways");
    let mut found = None;
    let (_, mut rest) = disposition.split_once(';').unwrap_or((disposition, ""));
    while !rest.trim().is_empty() {
        let (name, value) = rest.split_once('=').ok_or(UNCLEAR)?;
        let name = name.trim();
        let value = value.trim_start();
        let (value, after) = if let Some(quoted) = value.strip_prefix('"') {
            let (value, after) = quoted.split_once('"').ok_or(UNCLEAR)?;
            let after = after.trim_start();
            (
                value,
                after
                    .strip_prefix(';')
                    .or(after.is_empty().then_some(""))
                    .ok_or(UNCLEAR)?,
            )
        } else {
            let (value, after) = value.split_once(';').unwrap_or((value, ""));
            (value.trim_end(), after)
        };
        if name.contains([';', '"', '*']) || value.contains(['\\', '"']) {
            return Err(UNCLEAR);
        }
        if name.eq_ignore_ascii_case("filename") && found.replace(value).is_some() {
            return Err(UNCLEAR);
        }
        rest = after;
    }
    Ok(found)
}

/// Whether our own verifiers would refuse a file of this size unread.
fn exceeds(bytes: usize, role: &Role, limits: &Limits) -> bool {
    let most = match role {
        Role::Root => limits.root_bytes,
        Role::Snapshot => limits.snapshot_bytes,
        Role::Timestamp => limits.timestamp_bytes,
        Role::Targets | Role::Delegation(_) => limits.targets_bytes,
    };
    u64::try_from(bytes).is_ok_and(|bytes| bytes > most)
}

/// Whether a file has the members that all metadata has, and nothing behind its end but one newline. What they say is
/// judged by [`crate::tuf::hosted`].
fn is_metadata(file: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(rename = "signed")]
        _signed: Signed,
        #[serde(rename = "signatures")]
        _signatures: Vec<IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Signed {
        #[serde(rename = "_type")]
        _kind: String,
        #[serde(rename = "expires")]
        _expires: Timestamp,
        #[serde(rename = "version")]
        _version: i64,
    }
    let file = file.strip_suffix(b"\n").unwrap_or(file);
    file.last() == Some(&b'}') && serde_json::from_slice::<Envelope>(file).is_ok()
}

/// The longest there may be (RFC 2046 §5.1.1).
const LONGEST_BOUNDARY: usize = 70;

#[cfg(test)]
mod tests;
