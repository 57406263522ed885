//! Strict JSON in, canonical JSON out (notary-v1 §3.3).
//!
//! What is signed is the canonical encoding of a parsed value, so everything that two parsers could read
//! differently is refused here: duplicate members, numbers that are not plain integers, control characters,
//! lone surrogates, invalid UTF-8, a byte order mark. Typed documents are decoded from the same [`Value`] that
//! was canonicalised for the signature, never from the text a second time; that closes §3.10.

use std::fmt::Write as _;

/// Deepest nesting of arrays and objects. Real metadata needs seven; the limit keeps recursion off the stack's end.
const MAX_DEPTH: usize = 32;
/// Most values in one file: a tag takes four, so 200,000 tags and more. `[0,0,…]` takes sixteen times its length in
/// memory; this keeps what a file becomes below 50 MB.
const MAX_VALUES: usize = 1_000_000;
/// Integers beyond ±(2^53 − 1) change their value in parsers that use doubles.
const MAX_INTEGER: i64 = (1 << 53) - 1;

/// A JSON value without ambiguity. Members of an object are unique and sorted by their UTF-8 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number of at most 53 bits.
    Integer(i64),
    /// Text without control characters.
    String(Box<str>),
    /// `[…]`
    Array(Vec<Value>),
    /// `{…}`
    Object(Vec<(Box<str>, Value)>),
}

/// Why a text is not the JSON we read, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {offset}")]
pub struct JsonError {
    problem: &'static str,
    offset: usize,
}

impl Value {
    /// Reads one JSON value; white space may surround it.
    ///
    /// # Errors
    ///
    /// [`JsonError`] names the first byte that no strict reader accepts.
    pub fn parse(input: &[u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(input).map_err(|e| JsonError {
            problem: "invalid UTF-8",
            offset: e.valid_up_to(),
        })?;
        let mut reader = Reader {
            text,
            at: 0,
            values: 0,
        };
        let value = reader.value(0)?;
        reader.space();
        if reader.at == text.len() {
            Ok(value)
        } else {
            Err(reader.error("data after the value"))
        }
    }

    /// The one encoding of this value: sorted members, no white space, only `"` and `\` escaped.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        self.encode(&mut out);
        out
    }

    fn encode(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Integer(number) => drop(write!(out, "{number}")),
            Self::String(text) => encode_string(text, out),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.encode(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    encode_string(name, out);
                    out.push(':');
                    value.encode(out);
                }
                out.push('}');
            }
        }
    }
}

fn encode_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

struct Reader<'a> {
    text: &'a str,
    /// Always on a character boundary.
    at: usize,
    /// How many values have begun.
    values: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.rest().bytes().next()
    }

    fn error(&self, problem: &'static str) -> JsonError {
        JsonError {
            problem,
            offset: self.at,
        }
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.error("too many values"));
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(|text| Value::String(text.into())),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            _ if self.eat("null") => Ok(Value::Null),
            _ if self.eat("true") => Ok(Value::Bool(true)),
            _ if self.eat("false") => Ok(Value::Bool(false)),
            _ => Err(self.error("no JSON value")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.eat("]") {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.eat("]") {
                return Ok(Value::Array(items));
            }
            if !self.eat(",") {
                return Err(self.error("no comma or end of array"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        let start = self.at;
        self.at += 1;
        let mut members = Vec::new();
        self.space();
        if self.eat("}") {
            return Ok(Value::Object(members));
        }
        loop {
            members.push(self.member(depth)?);
            self.space();
            if self.eat("}") {
                break;
            }
            if !self.eat(",") {
                return Err(self.error("no comma or end of object"));
            }
        }
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        let twice = members
            .windows(2)
            .any(|pair| matches!(pair, [(a, _), (b, _)] if a == b));
        if twice {
            return Err(JsonError {
                problem: "duplicate member in the object",
                offset: start,
            });
        }
        Ok(Value::Object(members))
    }

    fn member(&mut self, depth: usize) -> Result<(Box<str>, Value), JsonError> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.error("no member name"));
        }
        let name = self.string()?;
        self.space();
        if !self.eat(":") {
            return Err(self.error("no colon"));
        }
        Ok((name.into(), self.value(depth + 1)?))
    }

    /// Only `-?(0|[1-9][0-9]*)`, not `-0`, within [`MAX_INTEGER`]: other notations canonicalise to another text.
    fn integer(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        let negative = self.eat("-");
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let text = self.rest().get(..digits).unwrap_or_default();
        let plain = text == "0" && !negative || !text.is_empty() && !text.starts_with('0');
        self.at += digits;
        let fraction = matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        let number = text.parse::<i64>().ok().filter(|number| *number <= MAX_INTEGER);
        match number {
            Some(number) if plain && !fraction => Ok(Value::Integer(if negative { -number } else { number })),
            _ => Err(JsonError {
                problem: "number is not a plain integer below 2^53",
                offset: start,
            }),
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let plain = self
                .rest()
                .find(|c: char| matches!(c, '"' | '\\') || c.is_control());
            let plain = plain.ok_or_else(|| self.error("unterminated string"))?;
            out.push_str(self.rest().get(..plain).unwrap_or_default());
            self.at += plain;
            if self.eat("\"") {
                return Ok(out);
            }
            if !self.eat("\\") {
                return Err(self.error("control character in a string"));
            }
            let c = self.escape()?;
            if c.is_control() {
                return Err(self.error("control character in a string"));
            }
            out.push(c);
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        for (token, c) in [
            ("\"", '"'),
            ("\\", '\\'),
            ("/", '/'),
            ("b", '\u{8}'),
            ("f", '\u{c}'),
            ("n", '\n'),
        ] {
            if self.eat(token) {
                return Ok(c);
            }
        }
        if self.eat("r") {
            return Ok('\r');
        }
        if self.eat("t") {
            return Ok('\t');
        }
        if !self.eat("u") {
            return Err(self.error("unknown escape"));
        }
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff if self.eat("\\u") => match self.hex4()? {
                low @ 0xdc00..=0xdfff => 0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00),
                _ => return Err(self.error("lone surrogate")),
            },
            _ => first,
        };
        char::from_u32(code).ok_or_else(|| self.error("lone surrogate"))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self
            .rest()
            .get(..4)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code = code.ok_or_else(|| self.error("escape without four hex digits"))?;
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(input: &str) -> Result<String, JsonError> {
        Value::parse(input.as_bytes()).map(|value| value.canonical())
    }

    #[test]
    fn values_encode_as_the_table_of_appendix_a_says() {
        for (input, output) in [
            (
                r#"{"b":1,"a":2,"A":3,"é":4,"Z":0}"#,
                r#"{"A":3,"Z":0,"a":2,"b":1,"é":4}"#,
            ),
            (r#"{"a":"\u003c&\/\"\\"}"#, r#"{"a":"<&/\"\\"}"#),
            (r#"{"a":"caf\u00e9"}"#, r#"{"a":"café"}"#),
            (r#"{"a":"cafe\u0301"}"#, "{\"a\":\"cafe\u{301}\"}"),
            (r#"{"a":"\ud83d\ude00"}"#, r#"{"a":"😀"}"#),
            (r#" {"c":[1, 2 ,{}],"a":null} "#, r#"{"a":null,"c":[1,2,{}]}"#),
            (
                "[-1,0,9007199254740991,true,false]",
                "[-1,0,9007199254740991,true,false]",
            ),
        ] {
            assert_eq!(canonical(input).as_deref(), Ok(output), "{input}");
        }
    }

    #[test]
    fn ambiguous_or_malformed_json_is_refused() {
        let deep = format!("{}1{}", "[".repeat(33), "]".repeat(33));
        for input in [
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":-0}"#,
            r#"{"a":1.5}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":9007199254740993}"#,
            r#"{"a":99999999999999999999}"#,
            r#"{"a":01}"#,
            r#"{"a":+1}"#,
            r#"{"a":-}"#,
            r#"{"a":"x\ny"}"#,
            "{\"a\":\"x\ny\"}",
            r#"{"a":"\u007f"}"#,
            r#"{"a":"\ud83d"}"#,
            r#"{"a":"\ude00"}"#,
            r#"{"a":"\ud83dx"}"#,
            r#"{"a":"\ud83d\u0041"}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            "\u{feff}{}",
            "{} x",
            "{}{}",
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "nul",
            r#""\x""#,
            r#""\u12g4""#,
            "NaN",
            &deep,
        ] {
            assert!(canonical(input).is_err(), "{input} was accepted");
        }
        assert!(Value::parse(b"\"\xff\"").is_err());
        assert!(canonical(&format!("{}1{}", "[".repeat(32), "]".repeat(32))).is_ok());
    }

    #[test]
    fn a_file_has_so_many_values_and_no_more() {
        let zeros = |count| Value::parse(format!("[{}]", vec!["0"; count].join(",")).as_bytes());
        assert!(zeros(MAX_VALUES - 1).is_ok());
        assert_eq!(zeros(MAX_VALUES).unwrap_err().problem, "too many values");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-MAX_INTEGER..=MAX_INTEGER).prop_map(Value::Integer),
            "[^\\p{Cc}]{0,8}".prop_map(|s| Value::String(s.into())),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::btree_map("[^\\p{Cc}]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().map(|(k, v)| (k.into(), v)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn encoding_is_the_inverse_of_parsing(value in any_value()) {
            let text = value.canonical();
            prop_assert_eq!(Value::parse(text.as_bytes()).unwrap(), value);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            drop(Value::parse(&bytes));
        }

        #[test]
        fn what_parses_is_json_to_others_too(text in "[\\[\\]{}:,\"a-c0-9\\\\u.eE+ -]{0,24}") {
            if Value::parse(text.as_bytes()).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
