//! The character-level rules of notary-v1 §1.1. All classes are ASCII.

/// Longest tag in characters.
const MAX_TAG: usize = 128;

/// `domain = host [ ":" 1*DIGIT ]`, where the host is a DNS name or an IPv6 literal in brackets.
pub(super) fn is_host(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[') {
        return literal.split_once(']').is_some_and(|(address, port)| {
            !address.is_empty()
                && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        });
    }
    match text.split_once(':') {
        Some((name, port)) => is_dns_name(name) && is_port(port),
        None => is_dns_name(text),
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_dns_name(text: &str) -> bool {
    text.split('.').all(|label| {
        label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && label.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
            && label.as_bytes().last().is_some_and(u8::is_ascii_alphanumeric)
    })
}

/// `path = pcomp *( "/" pcomp )`.
pub(super) fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// `pcomp = 1*LOWALNUM *( sep 1*LOWALNUM )` with `sep = "." / "_" / "__" / 1*"-"`.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|&&b| alphanumeric(b)).count();
        let (word, tail) = rest.split_at(word);
        if word.is_empty() {
            return false;
        }
        let separator = tail.iter().take_while(|&&b| !alphanumeric(b)).count();
        let (separator, tail) = tail.split_at(separator);
        if separator.is_empty() {
            return tail.is_empty();
        }
        if !matches!(separator, b"." | b"_" | b"__") && separator.iter().any(|&b| b != b'-') {
            return false;
        }
        rest = tail;
    }
}

/// `tag = WORD *127( WORD / "." / "-" )`.
pub(super) fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= MAX_TAG
        && bytes.first().is_some_and(|&b| word(b))
        && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-')
}

/// 64 lower-case hex digits: ambiguous with a local image id.
pub(super) fn is_image_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
