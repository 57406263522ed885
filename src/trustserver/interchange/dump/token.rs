//! SQL as dump programs write it, a token at a time. Nothing is kept but the token at hand.

use std::io::{self, BufRead};

use super::DumpError;

/// Longest value: a targets file of 16 MiB, in hexadecimal digits, and some room.
const MAX_VALUE: usize = 40 << 20;

/// Whose SQL it is: the two write strings differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A backslash in a string begins an escape.
    MySql,
    /// A backslash in a string is a backslash, unless an `E` stands before it.
    Postgres,
}

/// What SQL is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A key word, number, or name without quotes.
    Word(String),
    /// A name in quotes.
    Name(String),
    /// A string, which may hold any bytes.
    Text(Vec<u8>),
    /// Any other character.
    Sign(u8),
}

impl Token {
    /// Whether this is the key word `word`, which is given in lower case.
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own.eq_ignore_ascii_case(word))
    }
}

/// Whether values are wanted, or only where they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Values,
    Nothing,
}

/// Reads tokens.
pub(super) struct Tokens<R> {
    from: R,
    dialect: Dialect,
    keep: Keep,
    /// Looked at and not taken.
    ahead: Option<Token>,
}

impl<R: BufRead> Tokens<R> {
    pub(super) const fn new(from: R, dialect: Dialect) -> Self {
        Self {
            from,
            dialect,
            keep: Keep::Values,
            ahead: None,
        }
    }

    pub(super) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether strings that follow are kept.
    pub(super) const fn keep(&mut self, keep: Keep) {
        self.keep = keep;
    }

    /// The next token; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Token>, DumpError> {
        match self.ahead.take() {
            Some(token) => Ok(Some(token)),
            None => self.read(),
        }
    }

    /// The next token, which has to be there.
    pub(super) fn expect(&mut self) -> Result<Token, DumpError> {
        self.next()?.ok_or(DumpError::Truncated)
    }

    /// Gives a token back.
    pub(super) fn put_back(&mut self, token: Token) {
        self.ahead = Some(token);
    }

    /// The rest of the line, which is not SQL; `None` at the end of the file.
    pub(super) fn line(&mut self) -> Result<Option<Vec<u8>>, DumpError> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                None if line.is_empty() => return Ok(None),
                None => return Err(DumpError::Truncated),
                Some(b'\n') => return Ok(Some(line)),
                Some(byte) => push(&mut line, byte, self.keep)?,
            }
        }
    }

    fn read(&mut self) -> Result<Option<Token>, DumpError> {
        self.skip()?;
        let Some(byte) = self.byte()? else { return Ok(None) };
        Ok(Some(match byte {
            b'\'' => Token::Text(self.string(self.dialect == Dialect::MySql)?),
            b'`' => Token::Name(self.name(b'`')?),
            b'"' => Token::Name(self.name(b'"')?),
            _ if is_word(byte) => self.word(byte)?,
            _ => Token::Sign(byte),
        }))
    }

    /// White space and comments. `MySQL` hides in comments what only some versions are to execute; of that nothing is
    /// rows of a table, so it is skipped like the rest.
    fn skip(&mut self) -> Result<(), DumpError> {
        loop {
            match (self.peek(0)?, self.peek(1)?) {
                (Some(byte), _) if byte.is_ascii_whitespace() => {
                    self.byte()?;
                }
                (Some(b'/'), Some(b'*')) => self.until(b"*/")?,
                // A backslash begins what `psql` reads itself, such as \connect.
                (Some(b'-'), Some(b'-')) | (Some(b'\\'), _) => self.until(b"\n")?,
                _ => return Ok(()),
            }
        }
    }

    fn until(&mut self, end: &[u8]) -> Result<(), DumpError> {
        let mut last = Vec::with_capacity(end.len() + 1);
        while let Some(byte) = self.byte()? {
            last.push(byte);
            if last.len() > end.len() {
                last.remove(0);
            }
            if last == end {
                return Ok(());
            }
        }
        Ok(())
    }

    fn word(&mut self, first: u8) -> Result<Token, DumpError> {
        let mut word = vec![first];
        while let Some(byte) = self.peek(0)?.filter(|byte| is_word(*byte)) {
            self.byte()?;
            push(&mut word, byte, Keep::Values)?;
        }
        let quoted = self.peek(0)? == Some(b'\'');
        match (word.as_slice(), quoted) {
            (b"E" | b"e", true) => {
                self.byte()?;
                return Ok(Token::Text(self.string(true)?));
            }
            (b"x" | b"X", true) => {
                self.byte()?;
                let digits = self.string(false)?;
                return Ok(Token::Text(hex::decode(digits).map_err(|_| DumpError::Value)?));
            }
            _ => {}
        }
        let hexadecimal = word
            .strip_prefix(b"0x")
            .filter(|_| self.dialect == Dialect::MySql);
        if let Some(digits) = hexadecimal {
            return Ok(Token::Text(hex::decode(digits).map_err(|_| DumpError::Value)?));
        }
        Ok(Token::Word(
            String::from_utf8(word).map_err(|_| DumpError::Value)?,
        ))
    }

    fn name(&mut self, quote: u8) -> Result<String, DumpError> {
        let mut name = Vec::new();
        loop {
            match self.byte()?.ok_or(DumpError::Truncated)? {
                byte if byte != quote => push(&mut name, byte, Keep::Values)?,
                _ if self.peek(0)? == Some(quote) => {
                    self.byte()?;
                    push(&mut name, quote, Keep::Values)?;
                }
                _ => return String::from_utf8(name).map_err(|_| DumpError::Value),
            }
        }
    }

    /// The rest of a string whose first quote was read.
    fn string(&mut self, escapes: bool) -> Result<Vec<u8>, DumpError> {
        let mut text = Vec::new();
        loop {
            match self.byte()?.ok_or(DumpError::Truncated)? {
                b'\'' if self.peek(0)? == Some(b'\'') => {
                    self.byte()?;
                    push(&mut text, b'\'', self.keep)?;
                }
                b'\'' => return Ok(text),
                b'\\' if escapes => {
                    let byte = self.byte()?.ok_or(DumpError::Truncated)?;
                    push(&mut text, unescaped(byte), self.keep)?;
                }
                byte => push(&mut text, byte, self.keep)?,
            }
        }
    }

    /// A byte that lies ahead; `at` is 0 or 1.
    fn peek(&mut self, at: usize) -> Result<Option<u8>, DumpError> {
        Ok(self.from.fill_buf()?.get(at).copied())
    }

    fn byte(&mut self) -> Result<Option<u8>, DumpError> {
        let byte = self.from.fill_buf()?.first().copied();
        if byte.is_some() {
            self.from.consume(1);
        }
        Ok(byte)
    }
}

/// A reader that always shows two bytes ahead, as long as there are two: comments begin with two characters.
pub(super) struct Ahead<R> {
    from: R,
    buffer: Vec<u8>,
    at: usize,
}

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

impl<R: io::Read> Ahead<R> {
    pub(super) const fn new(from: R) -> Self {
        Self {
            from,
            buffer: Vec::new(),
            at: 0,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        while self.buffer.len() < 2 {
            let held = self.buffer.len();
            self.buffer.resize(held + CHUNK, 0);
            let (_, room) = self.buffer.split_at_mut(held);
            let read = match self.from.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.buffer.truncate(held);
                    continue;
                }
                read => read?,
            };
            self.buffer.truncate(held + read);
            if read == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl<R: io::Read> io::Read for Ahead<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut ready = self.fill_buf()?;
        let read = ready.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: io::Read> BufRead for Ahead<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffer.len().saturating_sub(self.at) < 2 {
            self.fill()?;
        }
        Ok(self.buffer.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at = self.buffer.len().min(self.at + count);
    }
}

fn push(out: &mut Vec<u8>, byte: u8, keep: Keep) -> Result<(), DumpError> {
    if keep == Keep::Nothing {
        return Ok(());
    }
    if out.len() >= MAX_VALUE {
        return Err(DumpError::TooLong);
    }
    out.push(byte);
    Ok(())
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.' | b'@') || byte >= 0x80
}

/// What a backslash and `byte` stand for in a string: the list of `MySQL`, of which those of `PostgreSQL` use none but `\\`.
const fn unescaped(byte: u8) -> u8 {
    match byte {
        b'0' => 0,
        b'b' => 8,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'Z' => 26,
        _ => byte,
    }
}
