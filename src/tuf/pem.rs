//! PEM as Go reads and writes it, with the headers that docker and notary put above key data (notary-v1 §7.3).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

/// Characters on a line of data.
const WIDTH: usize = 64;
/// The header that comes first, whatever the alphabet says (RFC 1421).
pub(super) const PROC_TYPE: &str = "Proc-Type";

/// One `-----BEGIN …-----` block.
pub(super) struct Block<'a> {
    /// The words after `BEGIN`.
    pub(super) label: &'a str,
    /// `name: value` lines above the data, trimmed, in their order.
    pub(super) headers: Vec<(&'a str, &'a str)>,
    /// The decoded bytes.
    pub(super) der: Zeroizing<Vec<u8>>,
}

impl<'a> Block<'a> {
    /// The value of the last header called `name`, which is the one that Go keeps.
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers
            .iter()
            .rfind(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }
}

/// The text is not a sequence of PEM blocks.
#[derive(Debug)]
pub(super) struct PemError;

/// Every block of `text`. Lines outside blocks are skipped, as Go skips them; an unfinished block is an error.
pub(super) fn blocks(text: &str) -> Result<Vec<Block<'_>>, PemError> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(label) = line
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.trim_end().strip_suffix("-----"))
        else {
            continue;
        };
        blocks.push(block(label, &mut lines, text.len())?);
    }
    Ok(blocks)
}

/// The rest of a block whose first line is read. `most` is what the whole text has: data that fits at once leaves no
/// copies of a secret behind.
fn block<'a>(label: &'a str, lines: &mut std::str::Lines<'a>, most: usize) -> Result<Block<'a>, PemError> {
    let end = format!("-----END {label}-----");
    let mut headers = Vec::new();
    let mut data = Zeroizing::new(String::with_capacity(most));
    loop {
        let line = lines.next().ok_or(PemError)?.trim();
        if line == end {
            break;
        }
        match line.split_once(':') {
            // Headers come before all data; a colon after it is no base64 and refused as such.
            Some((name, value)) if data.is_empty() => headers.push((name.trim(), value.trim())),
            _ => data.push_str(line),
        }
    }
    let mut der = Zeroizing::new(Vec::with_capacity(data.len()));
    BASE64_STANDARD
        .decode_vec(data.as_bytes(), &mut der)
        .map_err(|_| PemError)?;
    Ok(Block { label, headers, der })
}

/// One block, its headers in Go's order. Names and values must be of one line each.
pub(super) fn encode(label: &str, headers: &[(&str, &str)], der: &[u8]) -> Zeroizing<String> {
    let mut headers = headers.to_vec();
    headers.sort_by_key(|(name, _)| (*name != PROC_TYPE, *name));
    let data = Zeroizing::new(BASE64_STANDARD.encode(der));
    let above: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 3)
        .sum();
    let room =
        2 * (label.len() + "-----BEGIN -----\n".len()) + above + 1 + data.len() + data.len() / WIDTH + 1;
    let mut out = Zeroizing::new(String::with_capacity(room));
    let mut line = |parts: &[&str]| {
        for part in parts {
            out.push_str(part);
        }
        out.push('\n');
    };
    line(&["-----BEGIN ", label, "-----"]);
    for (name, value) in &headers {
        line(&[name, ": ", value]);
    }
    if !headers.is_empty() {
        line(&[]);
    }
    let mut rest = data.as_str();
    while let Some((now, later)) = rest
        .split_at_checked(rest.len().min(WIDTH))
        .filter(|(now, _)| !now.is_empty())
    {
        line(&[now]);
        rest = later;
    }
    line(&["-----END ", label, "-----"]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_looks_as_go_writes_it() {
        let der = vec![7; 50];
        let headers = [("role", "root"), ("gun", "a/b"), (PROC_TYPE, "4,ENCRYPTED")];
        let text = encode("PRIVATE KEY", &headers, &der);
        assert!(text.starts_with(
            "-----BEGIN PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\ngun: a/b\nrole: root\n\nBwcH"
        ));
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        let [block] = blocks(&text).unwrap().try_into().ok().unwrap();
        assert_eq!((block.label, block.header("gun")), ("PRIVATE KEY", Some("a/b")));
        assert_eq!(*block.der, der);
        assert_eq!(*encode("X", &[], b""), "-----BEGIN X-----\n-----END X-----\n");
    }

    proptest::proptest! {
        #[test]
        fn reading_is_the_inverse_of_writing(
            der in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            role in "[!-~]([ -~]{0,20}[!-~])?",
        ) {
            let text = encode("PRIVATE KEY", &[("role", &role)], &der);
            let [block] = blocks(&text).unwrap().try_into().ok().unwrap();
            proptest::prop_assert_eq!(block.header("role"), Some(role.as_str()));
            proptest::prop_assert_eq!(&*block.der, &der);
        }
    }

    #[test]
    fn a_header_is_no_data_and_data_is_no_header() {
        let text = "talk\n-----BEGIN X-----\nrole : a:b \nrole: c\n\nAAAA\n-----END X-----\ntalk";
        let [block] = blocks(text).unwrap().try_into().ok().unwrap();
        assert_eq!(block.headers, [("role", "a:b"), ("role", "c")]);
        assert_eq!(block.header("role"), Some("c"));
        for bad in [
            "-----BEGIN X-----\nAAAA\nrole: a\n-----END X-----\n",
            "-----BEGIN X-----\nAAAA\n",
            "-----BEGIN X-----\nAAA\n-----END X-----\n",
            "-----BEGIN X-----\nAAAA\n-----END Y-----\n",
        ] {
            assert!(blocks(bad).is_err(), "{bad}");
        }
    }
}
