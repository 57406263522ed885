//! What verification asks a trust server for, as data.

use std::fmt;

use bytes::Bytes;

use super::Role;

/// One metadata file to be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Whose file.
    pub role: Role,
    /// Which of its versions.
    pub form: Form,
    /// Most bytes the file may have, after decompression; more is refused while reading.
    pub limit: u64,
    /// Asked for ahead of need: a failure is ignored, and what turns out to be needed is asked for again.
    pub speculative: bool,
}

/// The three forms of a metadata URL (notary-v1 §2.1, rows 3 to 5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `{role}.json`: what the server holds as newest.
    Current,
    /// `{role}.{sha256}.json`.
    Hash([u8; 32]),
    /// `{version}.{role}.json`.
    Version(u64),
}

impl Request {
    /// The file's name below `/v2/{gun}/_trust/tuf/`.
    pub fn path(&self) -> String {
        let role = &self.role;
        match &self.form {
            Form::Current => format!("{role}.json"),
            Form::Hash(sha256) => format!("{role}.{}.json", hex::encode(sha256)),
            Form::Version(version) => format!("{version}.{role}.json"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// What the trust server said to a [`Request`]. Everything else it may do is an error of `fetch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The file's bytes, at most `limit` of them.
    Found(Bytes),
    /// The server holds no such file.
    Absent,
}
