//! The story on a page: what is typed, what is said, what to make of it.

use std::io::{self, Write};

use serde_json::Value;

use super::super::api_server::{Answer, Exchange};
use super::Ending;
use crate::reference::{Digest, Reference};
use crate::review::verdict::printable;

/// Writes the story. Colours are for the writer to leave out where there is no terminal.
pub(crate) struct Printer<'a> {
    out: &'a mut dyn Write,
    /// Whether reviews and answers are shown whole.
    whole: bool,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, whole: bool) -> Self {
        Self { out, whole }
    }

    /// A line as it is.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.write(format_args!("{text}"))
    }

    /// A line that stands out.
    pub(crate) fn heading(&mut self, text: &str) -> io::Result<()> {
        self.write(format_args!("{BOLD}{text}{PLAIN}\n"))
    }

    /// A name and what it stands for.
    pub(crate) fn entry(&mut self, name: &str, value: &str) -> io::Result<()> {
        self.write(format_args!("   {name:<15}{value}"))
    }

    /// A paragraph, wrapped.
    pub(crate) fn paragraph(&mut self, text: &str) -> io::Result<()> {
        let mut lines = wrapped(text, WIDTH).into_iter();
        lines.try_for_each(|line| self.line(&line))
    }

    /// A command to type.
    pub(crate) fn command(&mut self, command: &str) -> io::Result<()> {
        self.write(format_args!("   {BOLD}${PLAIN} {command}"))
    }

    pub(super) fn chapter(&mut self, number: usize, title: &str) -> io::Result<()> {
        self.heading(&format!("{number}. {title}"))
    }

    pub(super) fn pushed(&mut self, image: &Reference, digest: &Digest) -> io::Result<()> {
        self.command(&format!("docker push {image}"))?;
        let tag = image.tag().map_or("image", |tag| tag.as_str());
        self.write(format_args!("   {tag}: {digest}"))
    }

    pub(super) fn published(
        &mut self,
        verb: &str,
        image: &Reference,
        files: &[String],
        initialised: bool,
    ) -> io::Result<()> {
        self.command(&format!("countersign trust {verb} {image}"))?;
        let (gun, files) = (image.gun(), files.join(", "));
        match (files.as_str(), initialised) {
            ("", _) => self.write(format_args!("   {gun}: nothing to do, it is so already")),
            (files, true) => self.write(format_args!("   {gun}: initialised ({files})")),
            (files, false) => self.write(format_args!("   {gun}: published ({files})")),
        }
    }

    pub(super) fn runs(&mut self, namespace: &str, image: &str) -> io::Result<()> {
        self.command(&format!(
            "kubectl --namespace {namespace} run web --image {image}"
        ))
    }

    /// What the webhook was asked, and what it said.
    pub(super) fn exchange(&mut self, namespace: &str, exchange: &Exchange) -> io::Result<()> {
        let Exchange { path, image, .. } = exchange;
        let image = short(image);
        self.write(format_args!(
            "   POST {path:<10} CREATE Pod {namespace}/web, image {image}"
        ))?;
        if self.whole {
            self.json(&exchange.review)?;
        }
        match &exchange.answer {
            Answer::Allowed { image, warnings } => {
                match image {
                    None => self.write(format_args!("      {GREEN}allowed{PLAIN}"))?,
                    Some(image) => self.write(format_args!(
                        "      {GREEN}allowed{PLAIN}, with a patch: replace {IMAGE} by\n      {image}"
                    ))?,
                }
                for warning in warnings {
                    self.quoted((YELLOW, "warning"), ":", warning)?;
                }
            }
            Answer::Denied { code, message } => {
                self.quoted((RED, "denied"), &format!(" ({code}):"), message)?;
            }
        }
        if self.whole {
            self.json(&exchange.reply)?;
        }
        Ok(())
    }

    /// What to make of it, and room for what comes next.
    pub(super) fn moral(&mut self, ends: Ending, moral: &str) -> io::Result<()> {
        let word = match ends {
            Ending::Pinned(_) => "runs, pinned",
            Ending::AsWritten => "runs",
            Ending::Denied(_) => "does not run",
            Ending::Warned(_) => "runs, with a warning",
        };
        self.write(format_args!("   {BOLD}=> {word}{PLAIN}: {moral}\n"))
    }

    /// The webhook's own words, behind a word in colour.
    fn quoted(&mut self, (color, word): (&str, &str), then: &str, words: &str) -> io::Result<()> {
        let text = format!("{then} {}", printable(words, usize::MAX));
        let mut lines = wrapped(&text, WIDTH - 15).into_iter();
        let first = lines.next().unwrap_or_default();
        self.write(format_args!("      {color}{word}{PLAIN}{first}"))?;
        lines.try_for_each(|line| self.write(format_args!("        {line}")))
    }

    fn json(&mut self, value: &Value) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        let mut lines = text.lines();
        lines.try_for_each(|line| self.write(format_args!("      {line}")))
    }

    /// A reader that has gone away has had enough, which is no reason to stop serving.
    fn write(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        match writeln!(self.out, "{text}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome,
        }
    }
}

/// An image with as much of its digest as docker shows.
fn short(image: &str) -> String {
    match image.split_once("@sha256:") {
        Some((name, digest)) => format!("{name}@sha256:{}…", digest.get(..12).unwrap_or_default()),
        None => image.to_owned(),
    }
}

/// `text` in lines of at most `width` characters, but for words that are longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

const IMAGE: &str = "/spec/containers/0/image";
/// A line of text. Images with their digests are longer, and stay whole to be copied.
const WIDTH: usize = 100;
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_blanks_and_long_words_stay_whole() {
        let long = "x".repeat(30);
        assert_eq!(
            wrapped(&format!("one two three {long} four"), 9),
            ["one two", "three", long.as_str(), "four"]
        );
        assert_eq!(wrapped("", 9), [""]);
    }

    #[test]
    fn what_somebody_else_says_cannot_steer_the_terminal() {
        let mut page = Vec::new();
        let mut printer = Printer::new(&mut page, false);
        printer.quoted(("", "denied"), ":", "a\x1b[2Jb\nc").unwrap();
        let page = String::from_utf8(page).unwrap().replace(PLAIN, "");
        assert!(!page.contains('\x1b') && page.lines().count() == 1, "{page:?}");
    }
}
