//! Reads of an object what is looked at, and skips the rest.
//!
//! JSON takes up to forty times the memory that it takes on the wire: 8 MiB of `[0],` are 350 MiB as a [`Value`], and
//! whoever reaches the port may send them. What no extractor asks for is therefore never built.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Members on the way to an image or a name, wherever they are.
const KEPT: [&str; 12] = [
    "containers",
    "ephemeralContainers",
    "generateName",
    "image",
    "initContainers",
    "jobTemplate",
    "metadata",
    "name",
    "reference",
    "spec",
    "template",
    "volumes",
];
/// Values kept of one object, some 11 MiB at worst. etcd's 1.5 MiB hold 10,000 containers with the members that the
/// API server adds to each, and of those an entry, its name and its image are kept.
const MOST: usize = 32 << 10;

/// What of `raw` is looked at; `None` if there is too much of it, or if it is nested too deep: `serde_json` stops at
/// 128 levels, far below what would exhaust a stack.
pub(super) fn read(raw: &RawValue) -> Option<Value> {
    let left = Cell::new(MOST);
    Kept(&left)
        .deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
        .ok()
}

/// A value without the members that nobody asks for, and how many more may be kept.
struct Kept<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Kept<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.0.get().checked_sub(1);
        self.0
            .set(left.ok_or_else(|| D::Error::custom("more values than an object has"))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Kept<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        while let Some(value) = list.next_element_seed(Kept(self.0))? {
            kept.push(value);
        }
        Ok(kept.into())
    }

    /// The last of several members of one name counts, as it does for the API server.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if KEPT.contains(&name.as_str()) {
                kept.insert(name, members.next_value_seed(Kept(self.0))?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(kept.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(text: &str) -> Option<Value> {
        read(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn only_what_leads_to_an_image_or_a_name_is_kept() {
        let pod = json!({
            "metadata": {"generateName": "web-", "labels": {"a": "b"}},
            "spec": {
                "nodeName": "n1",
                "containers": [{"name": "web", "image": "nginx", "env": [{"name": "TOKEN", "value": "hunter2"}]}],
                "volumes": [{"name": "model", "image": {"reference": "r.example/m:1", "pullPolicy": "Always"}}],
            },
            "status": {"containerStatuses": [{"image": "other"}]},
        });
        assert_eq!(
            kept(&pod.to_string()),
            Some(json!({
                "metadata": {"generateName": "web-"},
                "spec": {
                    "containers": [{"name": "web", "image": "nginx"}],
                    "volumes": [{"name": "model", "image": {"reference": "r.example/m:1"}}],
                },
            }))
        );
    }

    #[test]
    fn a_value_of_another_type_stays_one() {
        for text in [
            "null",
            "true",
            "-1",
            "7",
            "1.5",
            "\"x\"",
            "[]",
            "[1,[null]]",
            "{}",
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(kept(text), Some(value), "{text}");
        }
    }

    /// ADM-66, ADM-68: the bodies that blow up most.
    #[test]
    fn memory_is_bounded_whatever_is_sent() {
        let flood = |unit: &str| format!("[{}0]", unit.repeat((1 << 20) / unit.len()));
        for unit in ["[0],", "{},", "{\"name\":0},", "0,", "\"\","] {
            let list = flood(unit);
            assert_eq!(kept(&list), None, "{unit}");
            let spec = format!("{{\"spec\":{{\"containers\":{list}}}}}");
            assert_eq!(kept(&spec), None, "{unit}");
            let aside = format!("{{\"spec\":{{\"tolerations\":{list}}}}}");
            assert_eq!(kept(&aside), Some(json!({"spec": {}})), "{unit}");
        }
    }

    #[test]
    fn the_largest_pod_that_can_be_stored_is_read() {
        let container = r#"{"name":"a","image":"nginx","resources":{}}"#;
        let pod = format!(
            r#"{{"spec":{{"containers":[{}]}}}}"#,
            vec![container; 10_000].join(",")
        );
        let read = kept(&pod).unwrap();
        assert_eq!(read["spec"]["containers"].as_array().unwrap().len(), 10_000);
    }
}
