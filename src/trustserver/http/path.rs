//! Paths as the reference reads them: decoded once, then cleaned.

use std::borrow::Cow;

/// Decodes percent escapes, once. `None` for an escape that is none, and for what is not UTF-8.
pub(super) fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            decoded.push(byte);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        let mut value = [0];
        hex::decode_to_slice(digits, &mut value).ok()?;
        decoded.extend_from_slice(&value);
        rest = tail;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The path without empty, `.` and `..` segments; a slash at its end stays.
pub(super) fn clean(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let mut clean = format!("/{}", kept.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

/// Escapes what may not stand in a path, and the backslash that browsers take for a slash. So no `Location` made of a
/// clean path leads to another host.
pub(super) fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || UNESCAPED.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

/// What may stand in a path besides letters and digits (RFC 3986 §3.3), and the brackets of IPv6 literals.
const UNESCAPED: &[u8] = b"/-._~!$&'()*+,;=:@[]";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_decoded_once() {
        for (path, want) in [
            ("/v2/", Some("/v2/")),
            ("/%5B::1%5d/a", Some("/[::1]/a")),
            ("/a%2Fb", Some("/a/b")),
            ("/a%252Fb", Some("/a%2Fb")),
            ("/%C3%A9", Some("/é")),
            ("/%", None),
            ("/%4", None),
            ("/%zz", None),
            ("/%+1", None),
            ("/%ff", None),
        ] {
            assert_eq!(decode(path).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, want) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/v2/", "/v2/"),
            ("/v2//", "/v2/"),
            ("/v2/./a", "/v2/a"),
            ("/v2/a/..", "/v2"),
            ("/v2/a/../", "/v2/"),
            ("/../../etc", "/etc"),
            ("//evil.example/..", "/"),
            ("/a...b/..c", "/a...b/..c"),
        ] {
            assert_eq!(clean(path), want, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_clean_path_stays_as_it_is_and_never_names_a_host(path in "[/.a\\\\%?#é \\x00]{0,20}") {
            let once = clean(&path);
            prop_assert_eq!(&clean(&once), &once);
            let location = encode(&once);
            prop_assert!(location.starts_with('/') && !location.starts_with("//"));
            prop_assert!(!location.contains(['\\', '?', '#', ' ']));
            let decoded = decode(&location);
            prop_assert_eq!(decoded.as_deref(), Some(once.as_str()));
        }
    }
}
