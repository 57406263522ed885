//! Files exactly as the reference's client writes them (notary-v1 §3.2, §3.4, §3.8).
//!
//! Other servers hash their own re-serialisation of what was uploaded (T47), and other clients sign it again. So a file
//! must have the very members, in the very bytes, that reading and writing it again leaves as they are.

use super::super::Role;
use super::super::canonical::Value;
use super::super::decode::{FormatError, Object};
use super::super::edit::document;

type Checked = Result<(), FormatError>;

/// Whether `raw` is what the reference would write of its own content.
pub(super) fn exact(role: &Role, raw: &[u8]) -> Checked {
    let file = Value::parse(raw).map_err(FormatError::Json)?;
    let [(_, signatures), (_, signed)] = only(&file, "file", &["signatures", "signed"], &[])? else {
        return Err(FormatError::member("file", "is not an object"));
    };
    for signature in list(signatures, "signatures")? {
        let object = typed(signature, "signatures", &["keyid", "method", "sig"], &[])?;
        object.string("keyid")?;
        object.base64("sig")?;
        if object.string("method")?.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(FormatError::member("method", "is not in lower case"));
        }
    }
    match role {
        Role::Root => root(signed)?,
        Role::Targets | Role::Delegation(_) => targets(signed)?,
        Role::Snapshot | Role::Timestamp => snapshot(signed)?,
    }
    if document::enveloped(signed, signatures).as_bytes() == raw {
        Ok(())
    } else {
        Err(FormatError::member("file", "is not in canonical form"))
    }
}

fn root(signed: &Value) -> Checked {
    let own = [
        "_type",
        "consistent_snapshot",
        "expires",
        "keys",
        "roles",
        "version",
    ];
    let root = common(signed, &own)?;
    if !matches!(root.get("consistent_snapshot"), Some(Value::Bool(_))) {
        return Err(FormatError::member(
            "consistent_snapshot",
            "is neither true nor false",
        ));
    }
    keys(root)?;
    for (name, role) in root.submap("roles")?.members() {
        signers(typed(role, name, &["keyids", "threshold"], &[])?)?;
    }
    Ok(())
}

fn targets(signed: &Value) -> Checked {
    let own = ["_type", "delegations", "expires", "targets", "version"];
    let targets = common(signed, &own)?;
    let delegations = targets.get("delegations").unwrap_or(&Value::Null);
    let delegations = typed(delegations, "delegations", &["keys", "roles"], &[])?;
    keys(delegations)?;
    for role in delegations.array("roles")? {
        let role = typed(role, "roles", &["keyids", "name", "threshold"], &["paths"])?;
        signers(role)?;
        // What is empty is left out.
        if holds(role, "paths") && role.strings("paths")?.is_empty() {
            return Err(FormatError::member("paths", "is there and empty"));
        }
    }
    entries(targets.submap("targets")?)
}

fn snapshot(signed: &Value) -> Checked {
    let meta = common(signed, &["_type", "expires", "meta", "version"])?.submap("meta")?;
    if let Some((name, _)) = meta
        .members()
        .iter()
        .find(|(name, _)| name.parse::<Role>().is_err())
    {
        return Err(FormatError::member(name, "is no role"));
    }
    entries(meta)
}

/// What all documents have, and nothing but `own`.
fn common<'a>(signed: &'a Value, own: &[&str]) -> Result<Object<'a>, FormatError> {
    let object = typed(signed, "signed", own, &[])?;
    object.integer("version", 1)?;
    object.time("expires")?;
    if survives(object.string("expires")?) {
        Ok(object)
    } else {
        Err(FormatError::member(
            "expires",
            "is not written as it would be written again",
        ))
    }
}

/// Whether Go writes the time as it read it (§3.4): at most nine digits of a fraction, no zero at their end, and `Z`
/// where there is no offset.
fn survives(time: &str) -> bool {
    let (_, rest) = time.split_at_checked(19).unwrap_or((time, ""));
    let zone = rest.trim_start_matches(['.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    let fraction = rest.strip_suffix(zone).unwrap_or(rest);
    fraction.len() <= 10 && !fraction.ends_with('0') && !matches!(zone, "+00:00" | "-00:00")
}

/// A `keys` map: public keys only.
fn keys(object: Object<'_>) -> Checked {
    for (id, key) in object.submap("keys")?.members() {
        let key = typed(key, id, &["keytype", "keyval"], &[])?;
        key.string("keytype")?;
        let value = key.get("keyval").unwrap_or(&Value::Null);
        let value = typed(value, "keyval", &["private", "public"], &[])?;
        value.base64("public")?;
        if value.get("private").is_some() {
            return Err(FormatError::member(
                "private",
                "is there: a private key must not be published",
            ));
        }
    }
    Ok(())
}

fn signers(role: Object<'_>) -> Checked {
    role.strings("keyids")?;
    role.integer("threshold", 1).map(drop)
}

/// Entries of tags or files.
fn entries(map: Object<'_>) -> Checked {
    for (name, entry) in map.members() {
        let entry = typed(entry, name, &["hashes", "length"], &["custom"])?;
        entry.integer("length", 0)?;
        let hashes = entry.submap("hashes")?;
        for (algorithm, _) in hashes.members() {
            hashes.base64(algorithm)?;
        }
        match entry.get("custom") {
            Some(custom) => plain(custom)?,
            None if holds(entry, "custom") => {
                return Err(FormatError::member("custom", "is there and null"));
            }
            None => {}
        }
    }
    Ok(())
}

/// Whether `custom` data can be signed again by the reference: it signs them with these characters escaped, which no
/// verifier does (§3.8).
fn plain(custom: &Value) -> Checked {
    let safe = |text: &str| !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
    match custom {
        Value::Null | Value::Bool(_) | Value::Integer(_) => Ok(()),
        Value::String(text) if safe(text) => Ok(()),
        Value::Array(items) => items.iter().try_for_each(plain),
        Value::Object(members) => members
            .iter()
            .try_for_each(|(name, value)| plain(&Value::String(name.clone())).and_then(|()| plain(value))),
        Value::String(_) => Err(FormatError::member(
            "custom",
            "has a character that no publisher of the reference can sign: <, >, &, U+2028 or U+2029",
        )),
    }
}

/// Whether the member is there, be it `null`.
fn holds(object: Object<'_>, name: &str) -> bool {
    object.members().iter().any(|(member, _)| **member == *name)
}

/// An object with all of `required` and nothing else but `optional`.
fn typed<'a>(
    value: &'a Value,
    name: &str,
    required: &[&str],
    optional: &[&str],
) -> Result<Object<'a>, FormatError> {
    only(value, name, required, optional)?;
    Object::map(value, name)
}

fn only<'a>(
    value: &'a Value,
    name: &str,
    required: &[&str],
    optional: &[&str],
) -> Result<&'a [(Box<str>, Value)], FormatError> {
    let Value::Object(members) = value else {
        return Err(FormatError::member(name, "is not an object"));
    };
    let has = |wanted: &str| members.iter().any(|(member, _)| **member == *wanted);
    if let Some(missing) = required.iter().find(|wanted| !has(wanted)) {
        return Err(FormatError::member(missing, "is missing"));
    }
    let known = |member: &str| required.contains(&member) || optional.contains(&member);
    match members.iter().find(|(member, _)| !known(member)) {
        Some((member, _)) => Err(FormatError::member(member, "is not known to the reference")),
        None => Ok(members),
    }
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a [Value], FormatError> {
    if let Value::Array(items) = value {
        Ok(items)
    } else {
        Err(FormatError::member(name, "is not an array"))
    }
}
