//! PEM text into DER, with the headers that docker writes above key data.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// One `-----BEGIN …-----` block.
pub(super) struct Block<'a> {
    /// The words after `BEGIN`.
    pub(super) label: &'a str,
    /// The decoded bytes.
    pub(super) der: Vec<u8>,
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
        let end = format!("-----END {label}-----");
        let mut data = String::new();
        loop {
            let line = lines.next().ok_or(PemError)?.trim();
            if line == end {
                break;
            }
            // Headers come before all data; a colon after it is no base64 and refused as such.
            if !(data.is_empty() && line.contains(':')) {
                data.push_str(line);
            }
        }
        blocks.push(Block {
            label,
            der: BASE64_STANDARD.decode(data).map_err(|_| PemError)?,
        });
    }
    Ok(blocks)
}
