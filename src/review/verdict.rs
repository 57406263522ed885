//! Yes or no, and the words for it, cut to what the API server and its clients let through (§1.10–1.12).

use std::fmt::Write as _;

use serde::Serialize;

use crate::review::patch::Patch;

/// Longest denial in bytes: controllers copy it into an Event, whose note holds 1,024 (ADM-51).
const MAX_MESSAGE: usize = 1024;
/// Images named in one denial; 5 lines of 200 bytes fill it.
const MAX_LINES: usize = 5;
/// Longest warning in characters: beyond 4,096 in all, the API server cuts each to this (ADM-54).
const MAX_WARNING: usize = 256;
/// Warnings of one answer, the summary included (ADM-54).
const MAX_WARNINGS: usize = 10;
/// Longest audit annotation in bytes (ADM-56).
pub const MAX_ANNOTATION: usize = 1024;

/// What the API server is to do. A denial has neither patch nor warnings (ADM-55, §1.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Go on.
    Allowed {
        /// Given in the mutating phase only: elsewhere it would invalidate the answer (§1.8).
        patch: Option<Patch>,
        /// For the user's terminal.
        warnings: Vec<String>,
    },
    /// Stop.
    Denied {
        /// Which kind of no.
        status: Status,
        /// For the user's terminal.
        message: String,
    },
}

impl Ruling {
    /// Go on, and nothing to say.
    pub const fn allowed() -> Self {
        Self::Allowed {
            patch: None,
            warnings: Vec::new(),
        }
    }
}

/// The kinds of no, so that operators can tell an outage from an attack (ADM-50). Greater is more final: what
/// several images deserve is the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// We could not find out.
    ServiceUnavailable,
    /// What was written is no image reference, or no object.
    BadRequest,
    /// Policy says no.
    Forbidden,
}

impl Status {
    /// HTTP status code.
    pub const fn code(self) -> u16 {
        match self {
            Self::ServiceUnavailable => 503,
            Self::BadRequest => 400,
            Self::Forbidden => 403,
        }
    }

    /// `metav1.StatusReason`: what kubectl shows in brackets.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::BadRequest => "BadRequest",
            Self::Forbidden => "Forbidden",
        }
    }
}

/// What is wrong with one image, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    text: String,
    advice: String,
}

impl Complaint {
    /// `text` says which image and what is wrong; `advice` what would help. Advice is left out first when space is
    /// short, and starts with its own punctuation.
    pub fn new(text: &str, advice: &str) -> Self {
        Self {
            text: printable(text, MAX_MESSAGE),
            advice: printable(advice, MAX_MESSAGE),
        }
    }

    /// Both parts, on one line.
    pub fn full(&self) -> String {
        format!("{}{}", self.text, self.advice)
    }
}

/// One line per image, at most five, at most 1,024 bytes (ADM-51, ADM-52).
pub fn message(complaints: &[Complaint]) -> String {
    let most = complaints.len().min(MAX_LINES);
    (1..=most)
        .rev()
        .flat_map(|shown| [lines(complaints, shown, true), lines(complaints, shown, false)])
        .find(|text| text.len() <= MAX_MESSAGE)
        .unwrap_or_else(|| cut(&lines(complaints, 1, false), MAX_MESSAGE))
}

/// `message` with a last line that is kept whole, in at most 1,024 bytes.
pub fn with_note(message: &str, note: &str) -> String {
    let note = printable(note, MAX_MESSAGE / 2);
    format!("{}\n{note}", cut(message, MAX_MESSAGE - 1 - note.len()))
}

fn lines(complaints: &[Complaint], shown: usize, advise: bool) -> String {
    let mut text = complaints
        .iter()
        .take(shown)
        .map(|complaint| {
            if advise {
                complaint.full()
            } else {
                complaint.text.clone()
            }
        })
        .collect::<Vec<_>>()
        .join("\n");
    if complaints.len() > shown {
        let _ = write!(text, "\nand {} more", complaints.len() - shown);
    }
    text
}

/// `texts` as the API server lets them through: each once, short, on one line, and the last one says how many are
/// missing (ADM-54).
pub fn warnings(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for text in texts {
        let text = cut_chars(&printable(&text, usize::MAX), MAX_WARNING);
        if !kept.contains(&text) {
            kept.push(text);
        }
    }
    if kept.len() > MAX_WARNINGS {
        let missing = kept.len() - (MAX_WARNINGS - 1);
        kept.truncate(MAX_WARNINGS - 1);
        kept.push(format!("and {missing} more warnings"));
    }
    kept
}

/// `text` as the value of an audit annotation.
pub fn annotation(text: &str) -> String {
    printable(text, MAX_ANNOTATION)
}

/// What came of one image, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome<'a> {
    /// JSON pointer of the image.
    pub path: &'a str,
    /// The image as written, escaped and cut; in logs only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The digest that was signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `trusted`, `allowed`, `denied`, `unavailable`.
    pub result: &'static str,
    /// A stable word.
    pub reason: &'static str,
}

/// Compact JSON of as many outcomes as fit into `limit` bytes, and how many more there are.
pub fn outcomes(outcomes: &[Outcome<'_>], limit: usize) -> String {
    let texts: Vec<_> = outcomes
        .iter()
        .filter_map(|one| serde_json::to_string(one).ok())
        .collect();
    // An outcome has at least 40 bytes, so there is no need to try with more of them than this.
    (0..=texts.len().min(limit / 40))
        .rev()
        .map(|shown| array(&texts, shown))
        .find(|text| text.len() <= limit)
        .unwrap_or_default()
}

fn array(texts: &[String], shown: usize) -> String {
    let mut items: Vec<_> = texts.iter().take(shown).cloned().collect();
    if texts.len() > shown {
        items.push(format!(r#"{{"more":{}}}"#, texts.len() - shown));
    }
    format!("[{}]", items.join(","))
}

/// `text` on one line and in at most `limit` bytes: what a user wrote may not forge a line of a log or a terminal
/// (OBS-21), and the API server drops a warning that has a control character.
pub fn printable(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        if misleading(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
        if line.len() > limit {
            return cut(&line, limit);
        }
    }
    line
}

/// Control characters, and those that reorder or hide the text around them.
fn misleading(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// What stands for the rest of a text that was cut.
const ELLIPSIS: &str = "…";

fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(ELLIPSIS.len());
    let kept = text
        .char_indices()
        .map(|(start, character)| start + character.len_utf8())
        .take_while(|end| *end <= room)
        .last()
        .unwrap_or_default();
    format!("{}{ELLIPSIS}", text.get(..kept).unwrap_or_default())
}

fn cut_chars(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit - 1).chain(ELLIPSIS.chars()).collect()
}

#[cfg(test)]
mod tests;
