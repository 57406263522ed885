//! What a trust server's answer to a request for metadata means.

use http::StatusCode;
use serde::Deserialize;

use crate::fetch::{Error, Response};
use crate::tuf::{Answer, Form, Request, Role};

/// 200 is the file, 404 its absence, all else an error. One form of 500 is absence too, but only where a file is
/// asked for that need not be there.
pub(super) fn read(request: &Request, response: Response) -> Result<Answer, Error> {
    match response.status {
        StatusCode::OK => Ok(Answer::Found(response.body)),
        StatusCode::NOT_FOUND => Ok(Answer::Absent),
        StatusCode::INTERNAL_SERVER_ERROR
            if may_be_unknown(request) && is_unknown(&request.role, &response.body) =>
        {
            Ok(Answer::Absent)
        }
        _ => Err(response.refusal()),
    }
}

/// The reference answers 500 for a role that a repository does not have (notary-v1 §2.2). A probe for a delegation
/// takes that for what it is; in answer to a request for a file that is known to exist it stays a breakdown.
fn may_be_unknown(request: &Request) -> bool {
    request.speculative && request.form == Form::Current && matches!(request.role, Role::Delegation(_))
}

fn is_unknown(role: &Role, body: &[u8]) -> bool {
    serde_json::from_slice::<Errors>(body).is_ok_and(|Errors { errors }| match errors.as_slice() {
        [
            Problem {
                code,
                detail: Some(detail),
            },
        ] => code == "UNKNOWN" && detail.role == role.as_str(),
        _ => false,
    })
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: Option<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(rename = "Role")]
    role: String,
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use url::Url;

    use super::*;

    const UNKNOWN: &str =
        r#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"Role":"targets/releases"}}]}"#;

    fn request(role: Role, form: Form, speculative: bool) -> Request {
        Request {
            role,
            form,
            limit: 1000,
            speculative,
        }
    }

    fn response(status: u16, body: &str) -> Response {
        Response {
            url: Url::parse("https://trust.example.com").unwrap(),
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
        }
    }

    fn word(got: Result<Answer, Error>) -> &'static str {
        match got {
            Ok(Answer::Found(_)) => "found",
            Ok(Answer::Absent) => "absent",
            Err(error) => error.reason(),
        }
    }

    #[test]
    fn absent_refused_throttled_and_broken_are_kept_apart() {
        let request = request(Role::Timestamp, Form::Current, false);
        for (status, want) in [
            (200, "found"),
            (204, "unexpected_status"),
            (206, "unexpected_status"),
            (301, "redirect"),
            (400, "unexpected_status"),
            (401, "unauthorized"),
            (403, "forbidden"),
            (404, "absent"),
            (410, "unexpected_status"),
            (429, "throttled"),
            (500, "server_error"),
            (503, "server_error"),
        ] {
            assert_eq!(word(read(&request, response(status, ""))), want, "{status}");
        }
    }

    #[test]
    fn a_500_is_absence_only_to_a_probe_for_that_delegation() {
        let releases = Role::releases;
        let other = || Role::signer("alice").unwrap();
        for (label, request, status, body, want) in [
            (
                "a probe",
                request(releases(), Form::Current, true),
                500,
                UNKNOWN,
                "absent",
            ),
            (
                "needed",
                request(releases(), Form::Current, false),
                500,
                UNKNOWN,
                "server_error",
            ),
            (
                "by hash",
                request(releases(), Form::Hash([0; 32]), true),
                500,
                UNKNOWN,
                "server_error",
            ),
            (
                "another role",
                request(other(), Form::Current, true),
                500,
                UNKNOWN,
                "server_error",
            ),
            (
                "a base role",
                request(Role::Targets, Form::Current, true),
                500,
                UNKNOWN,
                "server_error",
            ),
            (
                "another status",
                request(releases(), Form::Current, true),
                503,
                UNKNOWN,
                "server_error",
            ),
            (
                "no body",
                request(releases(), Form::Current, true),
                500,
                "",
                "server_error",
            ),
            (
                "no detail",
                request(releases(), Form::Current, true),
                500,
                r#"{"errors":[{"code":"UNKNOWN"}]}"#,
                "server_error",
            ),
            (
                "other detail",
                request(releases(), Form::Current, true),
                500,
                r#"{"errors":[{"code":"UNKNOWN","detail":{}}]}"#,
                "server_error",
            ),
            (
                "no errors",
                request(releases(), Form::Current, true),
                500,
                r#"{"errors":[]}"#,
                "server_error",
            ),
        ] {
            assert_eq!(word(read(&request, response(status, body))), want, "{label}");
        }
    }
}
