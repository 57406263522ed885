//! Reads of an object what is looked at, and skips the rest.
//!
//! JSON takes up to forty times the memory that it takes on the wire: 8 MiB of `[0],` are 350 MiB as a [`Value`], and
//! whoever reaches the port may send them. What no extractor asks for is therefore never built.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Members on the way to an image, a name or a login's place, wherever they are.
const KEPT: [&str; 14] = [
    "containers",
    "ephemeralContainers",
    "generateName",
    "image",
    "imagePullSecrets",
    "initContainers",
    "jobTemplate",
    "metadata",
    "name",
    "reference",
    "serviceAccountName",
    "spec",
    "template",
    "volumes",
];
/// Members on the way to what owners claim.
const OWNERS: [&str; 3] = ["controller", "metadata", "ownerReferences"];
/// Values kept of one object, some 11 MiB at worst. etcd's 1.5 MiB hold 10,000 containers with the members that the
/// API server adds to each, and of those an entry, its name and its image are kept.
const MOST: usize = 32 << 10;

/// What of `raw` is looked at; `None` if there is too much of it, or if it is nested too deep: `serde_json` stops at
/// 128 levels, far below what would exhaust a stack.
pub(super) fn read(raw: &RawValue) -> Option<Value> {
    keep(raw, &KEPT)
}

/// Whether an owner of `raw` claims to control it. So does one that cannot be read: what is taken for a controller's
/// is only left alone (ADM-34).
pub(super) fn is_controlled(raw: &RawValue) -> bool {
    keep(raw, &OWNERS).is_none_or(|object| claimed(&object) != Some(false))
}

/// The text of an annotation of `raw`.
pub(super) fn annotation(raw: &RawValue, name: &str) -> Option<String> {
    let object = keep(raw, &["metadata", "annotations", name])?;
    let value = object.get("metadata")?.get("annotations")?.get(name)?;
    value.as_str().map(str::to_owned)
}

/// `None` if a member has another type than it must have.
fn claimed(object: &Value) -> Option<bool> {
    let metadata = match object.as_object()?.get("metadata") {
        None | Some(Value::Null) => return Some(false),
        Some(metadata) => metadata.as_object()?,
    };
    let owners = match metadata.get("ownerReferences") {
        None | Some(Value::Null) => return Some(false),
        Some(owners) => owners.as_array()?,
    };
    let claims: Option<Vec<_>> = owners.iter().map(claim).collect();
    Some(claims?.contains(&true))
}

fn claim(owner: &Value) -> Option<bool> {
    match owner.as_object()?.get("controller") {
        None | Some(Value::Null) => Some(false),
        Some(claim) => claim.as_bool(),
    }
}

fn keep(raw: &RawValue, names: &[&str]) -> Option<Value> {
    let left = Cell::new(MOST);
    Kept { names, left: &left }
        .deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
        .ok()
}

/// A value without the members that nobody asks for.
#[derive(Clone, Copy)]
struct Kept<'a> {
    /// Of the members that are asked for.
    names: &'a [&'a str],
    /// How many more values may be kept.
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Kept<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left
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
        while let Some(value) = list.next_element_seed(self)? {
            kept.push(value);
        }
        Ok(kept.into())
    }

    /// The last of several members of one name counts, as it does for the API server.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if self.names.contains(&name.as_str()) {
                kept.insert(name, members.next_value_seed(self)?);
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

    fn controlled(text: &str) -> bool {
        is_controlled(&RawValue::from_string(text.to_owned()).unwrap())
    }

    /// ADM-34.
    #[test]
    fn an_object_is_controlled_if_one_of_its_owners_says_so() {
        for (owners, want) in [
            ("null", false),
            ("[]", false),
            (r#"[{"kind":"Team","name":"shop"}]"#, false),
            (
                r#"[{"name":"a","controller":null},{"name":"b","controller":false}]"#,
                false,
            ),
            (
                r#"[{"name":"a","controller":false},{"name":"b","controller":true}]"#,
                true,
            ),
            (r#"[{"controller":false,"controller":true}]"#, true),
        ] {
            let object = format!(r#"{{"metadata":{{"ownerReferences":{owners}}},"spec":{{}}}}"#);
            assert_eq!(controlled(&object), want, "{owners}");
        }
        for unowned in ["{}", r#"{"metadata":null}"#, r#"{"metadata":{"name":"a"}}"#] {
            assert!(!controlled(unowned), "{unowned}");
        }
        let elsewhere = r#"{"ownerReferences":[{"controller":true}],
            "spec":{"template":{"metadata":{"ownerReferences":[{"controller":true}]}}}}"#;
        assert!(!controlled(elsewhere));
    }

    #[test]
    fn owners_that_cannot_be_read_are_taken_for_controllers() {
        for owners in [
            "7",
            "\"a\"",
            "true",
            "{}",
            "[null]",
            "[true]",
            "[[]]",
            "[[false]]",
            r#"[{"controller":"true"}]"#,
            r#"[{"controller":0}]"#,
            r#"[{"controller":[]}]"#,
            r#"[{"controller":true},null]"#,
        ] {
            let object = format!(r#"{{"metadata":{{"ownerReferences":{owners}}}}}"#);
            assert!(controlled(&object), "{owners}");
        }
        for object in ["null", "[]", "\"a\"", r#"{"metadata":[]}"#, r#"{"metadata":"a"}"#] {
            assert!(controlled(object), "{object}");
        }
        let flood = "{},".repeat(MOST);
        assert!(controlled(&format!(
            r#"{{"metadata":{{"ownerReferences":[{flood}{{}}]}}}}"#
        )));
    }

    #[test]
    fn owners_take_nothing_from_what_may_be_kept_of_an_object() {
        let owners = vec![r#"{"name":"a","controller":true}"#; MOST].join(",");
        let object = format!(r#"{{"metadata":{{"ownerReferences":[{owners}]}}}}"#);
        assert_eq!(kept(&object), Some(json!({"metadata": {}})));
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
