//! The fields of an event and the two ways to write them.

use std::error::Error;
use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde_json::Value;
use tracing::Metadata;
use tracing::field::{Field, Visit};

use crate::telemetry::chain;

/// Fields in the order they were recorded; a later value replaces an earlier one of the same name.
#[derive(Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    pub(super) fn extend(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            self.put(name, value.clone());
        }
    }

    fn put(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn take_text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        let value = self.0.remove(at).1;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(
            field.name(),
            Value::String(shortened(field.name(), format!("{value:?}"))),
        );
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(
            field.name(),
            Value::String(shortened(field.name(), value.to_owned())),
        );
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value.into());
    }

    /// The whole chain, joined with `: `.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field.name(), Value::String(shortened(field.name(), chain(value))));
    }
}

/// One event, ready to be written.
pub(super) struct Line {
    at: String,
    level: &'static str,
    target: String,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    pub(super) fn new(now: Timestamp, metadata: &Metadata<'_>, mut fields: Fields) -> Self {
        // Libraries that use `log` arrive under the target "log", their own beside it.
        let target = fields
            .take_text("log.target")
            .unwrap_or_else(|| metadata.target().to_owned());
        let message = fields.take_text("message").unwrap_or_default();
        fields.0.retain(|(name, _)| !name.starts_with("log."));
        Self {
            at: format!("{now:.3}"),
            level: metadata.level().as_str(),
            target,
            message,
            fields: fields.0,
        }
    }

    pub(super) fn json(self) -> String {
        let head = [
            ("ts", Value::String(self.at)),
            ("level", Value::String(self.level.to_ascii_lowercase())),
            ("msg", Value::String(self.message)),
            ("target", Value::String(self.target)),
        ];
        let mut out = String::from("{");
        for (name, value) in head.into_iter().chain(self.fields) {
            if out.len() > 1 {
                out.push(',');
            }
            // A field name is an identifier of ours, and a value's own quotes and backslashes are escaped by now.
            let _infallible = write!(out, "\"{name}\":{}", escaped(&value.to_string(), json_escape));
        }
        out.push_str("}\n");
        out
    }

    pub(super) fn text(self) -> String {
        let mut out = format!(
            "{} {:>5} {}: {}",
            self.at,
            self.level,
            self.target,
            plain(&self.message)
        );
        for (name, value) in self.fields {
            let value = match value.as_str() {
                Some(text) if is_word(text) => text.to_owned(),
                _ => escaped(&value.to_string(), json_escape),
            };
            let _infallible = write!(out, " {name}={value}");
        }
        out.push('\n');
        out
    }
}

/// Text outside quotes: only what could break the line is changed.
fn plain(text: &str) -> String {
    escaped(text, |c| c.escape_default().to_string())
}

fn escaped(text: &str, escape: fn(char) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if forges(c) {
            out.push_str(&escape(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Inside a JSON string every character may stand as `\uXXXX`; all that we escape are below U+FFFF.
fn json_escape(c: char) -> String {
    format!("\\u{:04x}", u32::from(c))
}

/// Control characters (JSON leaves those above U+007E alone), line separators, and marks that reorder what follows.
fn forges(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a text value can stand without quotes.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\'))
}

fn shortened(name: &str, mut text: String) -> String {
    let limit = if LONG.contains(&name) { LONG_LIMIT } else { LIMIT };
    if text.len() > limit {
        let end = (0..=limit)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Bytes of a value (OBS-21).
const LIMIT: usize = 512;
/// Fields that we compose of several values, each limited where it came in.
const LONG: [&str; 4] = ["message", "error", "images", "reason"];
/// Four times a deny message, whose limit is 1,024 bytes (design §8).
const LONG_LIMIT: usize = 4_096;
