//! Canonical JSON: accepted means unambiguous, so that any other reader sees the same document.

use countersign::tuf::canonical::Value;
use serde_json::Value as Json;

/// Nesting that is certainly below the reader's limit.
const SHALLOW: usize = 30;
/// Integers that any reader keeps.
const EXACT: i64 = (1 << 53) - 1;

pub(crate) fn run(data: &[u8]) {
    let other = serde_json::from_slice::<Json>(data);
    if let Ok(value) = Value::parse(data) {
        let text = value.canonical();
        let again = Value::parse(text.as_bytes());
        assert_eq!(
            again.as_ref(),
            Ok(&value),
            "the canonical form reads as another value"
        );
        assert_eq!(
            again.unwrap().canonical(),
            text,
            "the canonical form is not a fixed point"
        );
        let canonical: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(other.unwrap(), canonical, "two readers see two documents");
    } else if let Ok(json) = other
        && plain(&json, 0)
    {
        // Written out by the other reader it has no duplicate members, no byte order mark and no odd notation.
        let text = json.to_string();
        assert!(
            Value::parse(text.as_bytes()).is_ok(),
            "refused without need: {text}"
        );
    }
}

/// Whether nothing in `json` is of the kind that we refuse.
fn plain(json: &Json, depth: usize) -> bool {
    let text = |text: &str| !text.chars().any(char::is_control);
    depth < SHALLOW
        && match json {
            Json::Null | Json::Bool(_) => true,
            Json::Number(number) => number.as_i64().is_some_and(|n| (-EXACT..=EXACT).contains(&n)),
            Json::String(string) => text(string),
            Json::Array(items) => items.iter().all(|item| plain(item, depth + 1)),
            Json::Object(members) => members
                .iter()
                .all(|(name, value)| text(name) && plain(value, depth + 1)),
        }
}
