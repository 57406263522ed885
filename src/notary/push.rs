//! Changing what a trust server holds (notary-v1 §2.4–2.6): requests as data, and what its refusals mean (§2.8).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;

use crate::fetch::{Ask, Error, Host, Response};
use crate::tuf::Role;
use crate::tuf::sha256;

/// Why the server did not take a change.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// It did not answer, or not to us.
    #[error(transparent)]
    Fetch(#[from] Error),
    /// Somebody else published meanwhile, or the server could not store it: look again, and try again.
    #[error("{host} has newer metadata by now, or could not store this: another publisher is at work")]
    Conflict {
        /// The server.
        host: Host,
    },
    /// A server built with Go 1.17 or later sees the last part of a delegation's name only (§2.4).
    #[error(
        "{host} takes no delegations: it was built with a Go release that cuts {role} down to its last part; have its \
         operator install a repaired server, or sign without signers"
    )]
    Delegations {
        /// The server.
        host: Host,
        /// The delegation.
        role: Role,
    },
    /// Neither we nor the server hold the key of the snapshot.
    #[error(
        "{host} does not hold the repository's snapshot key, and neither do we: publish from where that key is, or hand \
         it to the server with countersign trust rotate snapshot --server-managed"
    )]
    SnapshotKey {
        /// The server.
        host: Host,
    },
    /// The server does not accept the change.
    #[error("{host} refuses the change: {}", said(code, message))]
    Refused {
        /// The server.
        host: Host,
        /// The kind of refusal.
        code: Box<str>,
        /// What it says about it.
        message: Box<str>,
    },
    /// More than the server takes at once.
    #[error("{host} refuses the change: it is larger than the server takes (413)")]
    TooLarge {
        /// The server.
        host: Host,
    },
    /// There is no trust server, or none that keeps this repository.
    #[error(
        "{host} knows no place for this repository (404): is it a trust server, and does it accept the name?"
    )]
    Absent {
        /// The server.
        host: Host,
    },
    /// The server's key is none that it could sign with.
    #[error("{host} offers a key for {role} that cannot be used: {problem}")]
    Key {
        /// The server.
        host: Host,
        /// What for.
        role: Role,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl PushError {
    /// Whether the change may have been taken all the same, or might be if it is tried again.
    pub fn is_worth_another_try(&self) -> bool {
        match self {
            Self::Fetch(error) => error.is_outage(),
            Self::Conflict { .. } => true,
            Self::Delegations { .. }
            | Self::SnapshotKey { .. }
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Absent { .. }
            | Self::Key { .. } => false,
        }
    }
}

fn said(code: &str, message: &str) -> String {
    if message.is_empty() {
        code.to_owned()
    } else {
        format!("{message} ({code})")
    }
}

/// The upload of `files`, each the file of a role: one part for each, named after its role (§2.4).
pub(super) fn upload(files: &[(Role, Bytes)]) -> Ask {
    // No file holds the hash of all of them, so no file holds the boundary.
    let all: Vec<u8> = files.iter().flat_map(|(_, file)| file.iter().copied()).collect();
    let boundary = hex::encode(sha256(&all));
    let mut body = Vec::with_capacity(all.len() + 256 * (files.len() + 1));
    for (role, file) in files {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{role}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let content_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
    Ask::Post {
        content_type: content_type.ok(),
        body: body.into(),
    }
}

/// Success is 200 and nothing else; everything else is told by its body, as far as that is the server's own.
pub(super) fn read(host: &Host, response: Response) -> Result<Bytes, PushError> {
    let host = || Arc::clone(host);
    if response.status == StatusCode::OK {
        return Ok(response.body);
    }
    let problem = Problem::read(&response.body);
    let code = problem.as_ref().map_or("", |problem| problem.code.as_str());
    match (response.status.as_u16(), code, &problem) {
        (400, "VERSION", _) | (500, "UPDATING", _) => Err(PushError::Conflict { host: host() }),
        (400, "INVALID_ROLE", Some(problem)) => Err(problem.invalid_role(host())),
        (400, "INVALID_UPDATE", Some(problem)) if problem.misses_snapshot() => {
            Err(PushError::SnapshotKey { host: host() })
        }
        (400, _, Some(problem)) => Err(PushError::Refused {
            host: host(),
            code: problem.code.as_str().into(),
            message: problem.told().into(),
        }),
        (404, ..) => Err(PushError::Absent { host: host() }),
        (413, ..) => Err(PushError::TooLarge { host: host() }),
        _ => Err(response.refusal().into()),
    }
}

/// One error of the server (§2.8).
#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: serde_json::Value,
}

impl Problem {
    fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<Problem>,
        }
        let Errors { errors } = serde_json::from_slice(body).ok()?;
        errors.into_iter().next()
    }

    /// A delegation whose name arrived without its beginning tells how the server was built.
    fn invalid_role(&self, host: Host) -> PushError {
        let name = self.detail.as_str().unwrap_or_default();
        match Role::signer(name) {
            Ok(role) if !name.starts_with("targets") => PushError::Delegations { host, role },
            Ok(_) | Err(_) => PushError::Refused {
                host,
                code: self.code.as_str().into(),
                message: self.told().into(),
            },
        }
    }

    /// The text at a JSON pointer into the detail.
    fn detail(&self, pointer: &str) -> Option<&str> {
        self.detail.pointer(pointer)?.as_str()
    }

    fn misses_snapshot(&self) -> bool {
        self.detail("/Name") == Some("ErrBadHierarchy") && self.detail("/Error/Missing") == Some("snapshot")
    }

    /// What the server says, its reason behind it, on one line and not for ever: it is another's text.
    fn told(&self) -> String {
        let reason = self.detail("/Error/Msg");
        let text = match reason.or(self.detail.as_str()) {
            Some(reason) => format!("{} {reason}", self.message),
            None => self.message.clone(),
        };
        text.chars().filter(|c| !c.is_control()).take(MOST_TOLD).collect()
    }
}

/// Characters of a server's message that are repeated.
const MOST_TOLD: usize = 300;

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use url::Url;

    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response {
            url: Url::parse("https://trust.example.com").unwrap(),
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
        }
    }

    fn word(status: u16, body: &str) -> String {
        let host: Host = "trust.example.com".into();
        match read(&host, response(status, body)) {
            Ok(_) => "taken".to_owned(),
            Err(PushError::Fetch(error)) => error.reason().to_owned(),
            Err(PushError::Conflict { .. }) => "conflict".to_owned(),
            Err(PushError::Delegations { role, .. }) => format!("no delegations: {role}"),
            Err(PushError::SnapshotKey { .. }) => "snapshot key".to_owned(),
            Err(PushError::Refused { code, message, .. }) => format!("{code}: {message}"),
            Err(PushError::TooLarge { .. }) => "too large".to_owned(),
            Err(PushError::Absent { .. }) => "absent".to_owned(),
            Err(PushError::Key { .. }) => "key".to_owned(),
        }
    }

    #[test]
    fn what_a_server_refuses_is_told_by_its_reason() {
        let error = |rest: &str| format!(r#"{{"errors":[{{{rest}}}]}}"#) + "\n";
        for (status, body, want) in [
            (200, String::new(), "taken"),
            (204, String::new(), "unexpected_status"),
            (
                400,
                error(r#""code":"VERSION","message":"A newer version","detail":{}"#),
                "conflict",
            ),
            (
                500,
                error(r#""code":"UPDATING","message":"An error""#),
                "conflict",
            ),
            (
                400,
                error(r#""code":"INVALID_ROLE","message":"m","detail":"releases""#),
                "no delegations: targets/releases",
            ),
            (
                400,
                error(r#""code":"INVALID_ROLE","message":"m","detail":"targets/A""#),
                "INVALID_ROLE: m targets/A",
            ),
            (
                400,
                error(
                    r#""code":"INVALID_UPDATE","message":"m","detail":{"Name":"ErrBadHierarchy","Error":{"Missing":"snapshot","Msg":"x"}}"#,
                ),
                "snapshot key",
            ),
            (
                400,
                error(
                    r#""code":"INVALID_UPDATE","message":"m.","detail":{"Name":"ErrBadTargets","Error":{"Msg":"why"}}"#,
                ),
                "INVALID_UPDATE: m. why",
            ),
            (400, "nonsense".to_owned(), "unexpected_status"),
            (401, String::new(), "unauthorized"),
            (403, String::new(), "forbidden"),
            (404, String::new(), "absent"),
            (413, String::new(), "too large"),
            (500, String::new(), "server_error"),
            (503, String::new(), "server_error"),
        ] {
            assert_eq!(word(status, &body), want, "{status} {body}");
        }
    }

    #[test]
    fn what_a_server_says_cannot_write_on_a_terminal() {
        let body = r#"{"errors":[{"code":"X","message":"a\u001b[2Jb"}]}"#;
        assert_eq!(word(400, body), "X: a[2Jb");
        let long = format!(
            r#"{{"errors":[{{"code":"X","message":"{}"}}]}}"#,
            "a".repeat(5000)
        );
        assert!(word(400, &long).len() < 400);
    }

    #[test]
    fn an_upload_has_a_part_for_each_role_under_its_whole_name() {
        let files = [
            (Role::Targets, Bytes::from_static(b"{\"a\":1}")),
            (Role::releases(), Bytes::from_static(b"{}")),
        ];
        let Ask::Post {
            content_type: Some(kind),
            body,
        } = upload(&files)
        else {
            panic!("no upload");
        };
        let boundary = kind.to_str().unwrap().split_once("boundary=").unwrap().1;
        let part = |role: &str, file: &str| {
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{role}\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n{file}\r\n"
            )
        };
        let want =
            part("targets", "{\"a\":1}") + &part("targets/releases", "{}") + &format!("--{boundary}--\r\n");
        assert_eq!(String::from_utf8(body.to_vec()).unwrap(), want);
    }
}
