//! Which request is meant for whom (ADM-01, ADM-67). Routes on the path alone.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Method, Uri};

use super::reply::Refusal;

/// The entries of the webhook configuration (ADM-60).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/mutate`: pins what it can prove, never denies.
    Mutate,
    /// `/validate`: the authority.
    Validate,
    /// `/audit`: allows, and says what would have been denied.
    Audit,
    /// `/advise`: warns about workload templates.
    Advise,
    /// `/policy`: judges policies when they are written.
    Policy,
}

impl Endpoint {
    /// The entry of a path.
    fn parse(path: &str) -> Option<Self> {
        Some(match path {
            "/mutate" => Self::Mutate,
            "/validate" => Self::Validate,
            "/audit" => Self::Audit,
            "/advise" => Self::Advise,
            "/policy" => Self::Policy,
            _ => return None,
        })
    }

    /// The word in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Validate => "validate",
            Self::Audit => "audit",
            Self::Advise => "advise",
            Self::Policy => "policy",
        }
    }

    /// Whether there is nothing to say before policies are loaded.
    pub(super) const fn needs_policies(self) -> bool {
        !matches!(self, Self::Policy)
    }
}

/// Finds the entry a request is for, or refuses it unread.
pub(super) fn route(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Endpoint, Refusal> {
    let endpoint = Endpoint::parse(uri.path()).ok_or(Refusal::Path)?;
    if method != Method::POST {
        return Err(Refusal::Method);
    }
    if !is_json(headers) {
        return Err(Refusal::MediaType);
    }
    Ok(endpoint)
}

/// The `timeout` parameter (ADM-01). The API server rounds up to whole seconds; anything else is as good as none.
pub(super) fn timeout(query: Option<&str>) -> Option<Duration> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("timeout="))?;
    value.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let kind = value.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_post_of_json_to_a_known_path_is_read() {
        let json = Some("application/json");
        for (method, uri, kind, want) in [
            ("POST", "/mutate", json, Ok(Endpoint::Mutate)),
            ("POST", "/validate?timeout=10s", json, Ok(Endpoint::Validate)),
            (
                "POST",
                "/audit",
                Some("Application/JSON; charset=utf-8"),
                Ok(Endpoint::Audit),
            ),
            ("POST", "/advise", json, Ok(Endpoint::Advise)),
            ("POST", "/policy", json, Ok(Endpoint::Policy)),
            ("POST", "/policies", json, Err(Refusal::Path)),
            ("POST", "/", json, Err(Refusal::Path)),
            ("POST", "/validate/", json, Err(Refusal::Path)),
            ("POST", "/Validate", json, Err(Refusal::Path)),
            ("GET", "/metrics", json, Err(Refusal::Path)),
            ("GET", "/validate", json, Err(Refusal::Method)),
            ("HEAD", "/validate", None, Err(Refusal::Method)),
            ("POST", "/validate", None, Err(Refusal::MediaType)),
            (
                "POST",
                "/validate",
                Some("application/yaml"),
                Err(Refusal::MediaType),
            ),
            (
                "POST",
                "/validate",
                Some("application/json-patch+json"),
                Err(Refusal::MediaType),
            ),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(kind) = kind {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            let got = route(&method.parse().unwrap(), &uri.parse().unwrap(), &headers);
            assert_eq!(got, want, "{method} {uri} {kind:?}");
        }
    }

    #[test]
    fn the_time_a_caller_grants_is_read_in_whole_seconds() {
        for (query, want) in [
            (None, None),
            (Some("timeout=2s"), Some(2)),
            (Some("a=b&timeout=10s"), Some(10)),
            (Some("timeout=2"), None),
            (Some("timeout=-2s"), None),
            (Some("timeout=99999999999999999999s"), None),
            (Some("xtimeout=2s"), None),
        ] {
            assert_eq!(timeout(query), want.map(Duration::from_secs), "{query:?}");
        }
    }
}
