//! `WWW-Authenticate` (RFC 9110 §11.6.1, notary-v1 §1.7), read without ever failing.
//!
//! The header comes from a server that has proved nothing yet. What does not fit the grammar is skipped to the next
//! comma, so that junk before a challenge cannot hide it and no input panics.

/// One way in that a server offers. Schemes that we do not speak are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from the service at `realm`.
    Bearer {
        /// The token service's address as the server wrote it; not to be trusted yet.
        realm: String,
        /// What the token service calls this server.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads the values of every `WWW-Authenticate` header. A bearer challenge without a realm leads nowhere and is
    /// left out.
    pub fn parse_all<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        headers.into_iter().flat_map(parse).collect()
    }

    fn new(scheme: &str, mut parameters: Vec<(String, String)>) -> Option<Self> {
        // The last of several equal keys counts, as in the reference.
        let mut take = |name: &str| {
            let found = parameters.iter().rposition(|(key, _)| key == name)?;
            Some(parameters.swap_remove(found).1)
        };
        if scheme.eq_ignore_ascii_case("basic") {
            Some(Self::Basic)
        } else if scheme.eq_ignore_ascii_case("bearer") {
            Some(Self::Bearer {
                realm: take("realm")?,
                service: take("service"),
            })
        } else {
            None
        }
    }
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut scanner = Scanner { rest: header };
    let mut found = Vec::new();
    while !scanner.rest.is_empty() {
        scanner.separators();
        match scanner.token() {
            Some(scheme) => found.extend(Challenge::new(scheme, scanner.parameters())),
            None => scanner.junk(),
        }
    }
    found
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    /// `key=value` pairs up to the next scheme; keys in lower case.
    fn parameters(&mut self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        loop {
            let before = self.rest;
            self.separators();
            let Some((key, value)) = self.parameter() else {
                // Not a pair: the next challenge begins here.
                self.rest = before;
                return found;
            };
            found.push((key.to_ascii_lowercase(), value));
        }
    }

    fn parameter(&mut self) -> Option<(&'a str, String)> {
        let key = self.token()?;
        self.spaces();
        self.rest = self.rest.strip_prefix('=')?;
        self.spaces();
        let value = self.quoted().or_else(|| self.token().map(str::to_owned))?;
        Some((key, value))
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A quoted string without its quotes; a backslash takes the next character as it is. An open end ends it.
    fn quoted(&mut self) -> Option<String> {
        let mut chars = self.rest.strip_prefix('"')?.chars();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('"') | None => break,
                Some(other) => value.push(other),
            }
        }
        self.rest = chars.as_str();
        Some(value)
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn separators(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
    }

    /// Passes over what is neither scheme nor pair, to the next comma.
    fn junk(&mut self) {
        self.rest = self.rest.split_once(',').map_or("", |(_, rest)| rest);
    }
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_are_read_whatever_their_form() {
        for (label, header, want) in [
            (
                "the reference's own",
                r#"Bearer realm="https://auth.example/token",service="notary",scope="registry:catalog:*""#,
                vec![bearer("https://auth.example/token", Some("notary"))],
            ),
            (
                "scheme in capitals",
                r#"BEARER realm="r""#,
                vec![bearer("r", None)],
            ),
            (
                "key in capitals",
                r#"bearer Realm="r", SERVICE=s"#,
                vec![bearer("r", Some("s"))],
            ),
            (
                "escapes",
                r#"Bearer realm="a\"b\\c""#,
                vec![bearer(r#"a"b\c"#, None)],
            ),
            ("token value", "Bearer realm=r", vec![bearer("r", None)]),
            (
                "spaces about",
                "Bearer   realm = \"r\" , service = s",
                vec![bearer("r", Some("s"))],
            ),
            (
                "a comma inside quotes",
                r#"Bearer realm="r,s""#,
                vec![bearer("r,s", None)],
            ),
            (
                "two in one header",
                r#"Basic realm="x", Bearer realm="r""#,
                vec![Challenge::Basic, bearer("r", None)],
            ),
            (
                "a scheme alone",
                r#"Negotiate, Basic realm="x""#,
                vec![Challenge::Basic],
            ),
            (
                "token68 first",
                r#"Negotiate abc==, Basic realm="x""#,
                vec![Challenge::Basic],
            ),
            ("basic without realm", "basic", vec![Challenge::Basic]),
            ("bearer without realm", "Bearer service=s", vec![]),
            ("realm twice", "Bearer realm=a,realm=b", vec![bearer("b", None)]),
            ("open quote", r#"Bearer realm="r"#, vec![bearer("r", None)]),
            ("nothing", "", vec![]),
            ("junk", "=,;\"\u{0}é", vec![]),
        ] {
            assert_eq!(Challenge::parse_all([header]), want, "{label}");
        }
    }

    #[test]
    fn every_header_line_counts() {
        let headers = ["Basic realm=x", "Bearer realm=r"];
        assert_eq!(
            Challenge::parse_all(headers),
            [Challenge::Basic, bearer("r", None)]
        );
    }

    proptest! {
        #[test]
        fn no_header_panics_or_hangs(header in r#"[ \t,="\\a-zé]{0,64}|Bearer .{0,64}"#) {
            let _ = Challenge::parse_all([header.as_str()]);
        }

        #[test]
        fn a_quoted_realm_comes_back_as_it_was(realm in ".{0,64}") {
            let quoted = realm.replace('\\', r"\\").replace('"', "\\\"");
            let header = format!(r#"Bearer realm="{quoted}",service=s"#);
            prop_assert_eq!(Challenge::parse_all([header.as_str()]), [bearer(&realm, Some("s"))]);
        }
    }
}
