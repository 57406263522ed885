//! The rows of a dump in SQL: `INSERT` of both databases, and PostgreSQL's `COPY`.
//!
//! Which column is which is read from the statement, or from the `CREATE TABLE` before it: tables that were migrated
//! from version to version have their columns in another order than new ones.

use std::collections::HashMap;
use std::io::BufRead;

use super::token::{Dialect, Keep, Token, Tokens};
use super::{DumpError, Table};

/// Most columns of a table: the reference's have 14 at most.
const MAX_COLUMNS: usize = 64;
/// Most tables in a dump. The reference's databases have two or three each.
const MAX_TABLES: usize = 1000;

/// A value of a row: its bytes, or nothing if it is null.
pub(super) type Value = Option<Vec<u8>>;

/// A row, its values by the names of their columns.
pub(super) struct Row<'a> {
    columns: &'a [String],
    values: Vec<Value>,
}

impl<'a> Row<'a> {
    pub(super) const fn new(columns: &'a [String], values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// Takes the value of a column; `None` if it is null, or there is no such column.
    pub(super) fn take(&mut self, column: &str) -> Value {
        let at = self.columns.iter().position(|name| name == column)?;
        self.values.get_mut(at)?.take()
    }

    /// The value of a column that is text and not null.
    pub(super) fn text(&mut self, column: &'static str) -> Result<String, DumpError> {
        let text = self.take(column).ok_or(DumpError::Column { column })?;
        String::from_utf8(text).map_err(|_| DumpError::Column { column })
    }
}

/// Columns that hold bytes, which PostgreSQL writes as text.
const BINARY: [&str; 3] = ["data", "public", "private"];

/// Reads all of `tokens`, and gives `take` each row of the tables that we know.
pub(super) fn read<R: BufRead>(
    tokens: &mut Tokens<R>,
    take: &mut impl FnMut(Table, Row<'_>) -> Result<(), DumpError>,
) -> Result<(), DumpError> {
    let mut tables: HashMap<String, Vec<String>> = HashMap::new();
    loop {
        tokens.keep(Keep::Nothing);
        let Some(first) = tokens.next()? else {
            return Ok(());
        };
        if first.is("create") {
            create(tokens, &mut tables)?;
        } else if first.is("insert") || first.is("replace") {
            insert(tokens, &tables, take)?;
        } else if first.is("copy") {
            copy(tokens, take)?;
        } else {
            tokens.put_back(first);
            finish(tokens)?;
        }
    }
}

/// Skips the rest of a statement.
fn finish<R: BufRead>(tokens: &mut Tokens<R>) -> Result<(), DumpError> {
    tokens.keep(Keep::Nothing);
    while let Some(token) = tokens.next()? {
        if token == Token::Sign(b';') {
            return Ok(());
        }
    }
    Ok(())
}

/// `CREATE TABLE name (column …, …)`.
fn create<R: BufRead>(
    tokens: &mut Tokens<R>,
    tables: &mut HashMap<String, Vec<String>>,
) -> Result<(), DumpError> {
    let token = tokens.expect()?;
    if !token.is("table") {
        tokens.put_back(token);
        return finish(tokens);
    }
    let mut token = tokens.expect()?;
    while ["if", "not", "exists"].iter().any(|word| token.is(word)) {
        token = tokens.expect()?;
    }
    let name = table_name(tokens, token)?;
    let token = tokens.expect()?;
    if token != Token::Sign(b'(') {
        tokens.put_back(token);
        return finish(tokens);
    }
    let columns = columns(tokens)?;
    if tables.len() >= MAX_TABLES {
        return Err(DumpError::TooLong);
    }
    tables.insert(name, columns);
    finish(tokens)
}

/// What stands in a list of columns without being one.
const CONSTRAINTS: [&str; 11] = [
    "primary",
    "unique",
    "key",
    "index",
    "constraint",
    "check",
    "foreign",
    "fulltext",
    "spatial",
    "exclude",
    "like",
];

/// The first word of each item of a list in parentheses, the first of which was read.
fn columns<R: BufRead>(tokens: &mut Tokens<R>) -> Result<Vec<String>, DumpError> {
    let mut columns = Vec::new();
    let (mut depth, mut begins) = (0_usize, true);
    loop {
        let token = tokens.expect()?;
        match token {
            Token::Sign(b'(') => depth += 1,
            Token::Sign(b')') if depth == 0 => return Ok(columns),
            Token::Sign(b')') => depth -= 1,
            Token::Sign(b',') if depth == 0 => {
                begins = true;
                continue;
            }
            Token::Name(name) if begins => columns.push(name),
            Token::Word(word)
                if begins && !CONSTRAINTS.iter().any(|known| word.eq_ignore_ascii_case(known)) =>
            {
                columns.push(word.to_ascii_lowercase());
            }
            Token::Word(_) | Token::Name(_) | Token::Text(_) | Token::Sign(_) => {}
        }
        begins = false;
        if columns.len() > MAX_COLUMNS {
            return Err(DumpError::TooLong);
        }
    }
}

/// The name of a table without that of its schema.
fn table_name<R: BufRead>(tokens: &mut Tokens<R>, first: Token) -> Result<String, DumpError> {
    let mut token = first;
    loop {
        let name = match token {
            Token::Word(name) | Token::Name(name) => name,
            Token::Text(_) | Token::Sign(_) => return Err(DumpError::Statement),
        };
        let next = tokens.expect()?;
        // `public`."name": a dot of its own is a word here.
        if !next.is(".") {
            tokens.put_back(next);
            let last = name.rsplit('.').next().unwrap_or_default();
            return Ok(last.to_owned());
        }
        token = tokens.expect()?;
    }
}

/// `INSERT INTO name [(column, …)] VALUES (value, …), …;`
fn insert<R: BufRead>(
    tokens: &mut Tokens<R>,
    tables: &HashMap<String, Vec<String>>,
    take: &mut impl FnMut(Table, Row<'_>) -> Result<(), DumpError>,
) -> Result<(), DumpError> {
    let mut token = tokens.expect()?;
    while token.is("ignore") || token.is("into") {
        token = tokens.expect()?;
    }
    let name = table_name(tokens, token)?;
    let Some(table) = Table::named(&name) else {
        return finish(tokens);
    };
    let mut listed = None;
    loop {
        match tokens.expect()? {
            Token::Sign(b'(') => listed = Some(columns(tokens)?),
            token if token.is("values") => break,
            Token::Word(_) | Token::Name(_) => {}
            Token::Text(_) | Token::Sign(_) => return Err(DumpError::Statement),
        }
    }
    let listed = match (&listed, tables.get(&name)) {
        (Some(listed), _) => listed,
        (None, Some(created)) => created,
        (None, None) => return Err(DumpError::Columns { table: table.name() }),
    };
    tokens.keep(Keep::Values);
    loop {
        match tokens.expect()? {
            Token::Sign(b'(') => take(table, Row::new(listed, values(tokens, listed)?))?,
            Token::Sign(b',') => {}
            Token::Sign(b';') => return Ok(()),
            token if token.is("on") => return finish(tokens),
            Token::Word(_) | Token::Name(_) | Token::Text(_) | Token::Sign(_) => {
                return Err(DumpError::Statement);
            }
        }
    }
}

/// The values of one row, whose parenthesis was read.
fn values<R: BufRead>(tokens: &mut Tokens<R>, columns: &[String]) -> Result<Vec<Value>, DumpError> {
    let mut values: Vec<Value> = Vec::with_capacity(columns.len());
    let mut value: Option<Value> = None;
    loop {
        match tokens.expect()? {
            Token::Sign(end @ (b',' | b')')) => {
                let value = value.take().ok_or(DumpError::Statement)?;
                let column = columns.get(values.len()).ok_or(DumpError::Statement)?;
                values.push(binary(tokens.dialect(), column, value));
                if end == b')' {
                    let whole = values.len() == columns.len();
                    return if whole {
                        Ok(values)
                    } else {
                        Err(DumpError::Statement)
                    };
                }
            }
            Token::Text(text) => value = Some(Some(text)),
            // The character set of the string that follows.
            Token::Word(word) if word.starts_with('_') => {}
            Token::Word(word) if word.eq_ignore_ascii_case("null") => value = Some(None),
            Token::Word(word) if value.is_none() => value = Some(Some(word.into_bytes())),
            // A sign before a number, a cast after a string: of the columns that are read none has either.
            Token::Word(_) | Token::Name(_) | Token::Sign(_) => return Err(DumpError::Statement),
        }
    }
}

/// `COPY name (column, …) FROM stdin;` and its lines.
fn copy<R: BufRead>(
    tokens: &mut Tokens<R>,
    take: &mut impl FnMut(Table, Row<'_>) -> Result<(), DumpError>,
) -> Result<(), DumpError> {
    let token = tokens.expect()?;
    let name = table_name(tokens, token)?;
    if tokens.expect()? != Token::Sign(b'(') {
        return Err(DumpError::Statement);
    }
    let columns = columns(tokens)?;
    finish(tokens)?;
    // What is left of the line of the statement.
    tokens.line()?;
    let table = Table::named(&name);
    tokens.keep(Keep::Values);
    loop {
        let line = tokens.line()?.ok_or(DumpError::Truncated)?;
        if line == b"\\." {
            return Ok(());
        }
        let Some(table) = table else { continue };
        let fields = line.split(|byte| *byte == b'\t');
        // A line with more or fewer fields is a row of which nothing is known; the next line is another one.
        let whole = fields.clone().count() == columns.len();
        let fields = fields.zip(&columns).filter(|_| whole);
        let values = fields.map(|(field, column)| binary(Dialect::Postgres, column, copied(field)));
        take(table, Row::new(&columns, values.collect()))?;
    }
}

/// A field of a line of `COPY`.
fn copied(field: &[u8]) -> Value {
    if field == b"\\N" {
        return None;
    }
    let mut value = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        value.push(match (byte, byte == b'\\') {
            (_, true) => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => other,
                None => b'\\',
            },
            (byte, false) => byte,
        });
    }
    Some(value)
}

/// Bytes as PostgreSQL writes them, `\x` and digits, if that is what the column holds.
fn binary(dialect: Dialect, column: &str, value: Value) -> Value {
    let text = value?;
    if dialect != Dialect::Postgres || !BINARY.contains(&column) {
        return Some(text);
    }
    // Where the column is text, as in tables that were made by other means than the reference's, it is what it is.
    let Some(digits) = text.strip_prefix(b"\\x") else {
        return Some(text);
    };
    // Digits that are none stay what they are: no SHA-256 and no passphrase will fit them, and the row is left out.
    Some(hex::decode(digits).unwrap_or(text))
}
