//! What can be read of a part of the file that is damaged.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, map::Entry};

/// A part of the file as far as it can be read.
#[derive(Debug)]
pub(super) struct Salvaged<T> {
    /// What was read; `None` if nothing could be.
    pub(super) value: Option<T>,
    /// What was left out first, and why.
    pub(super) fault: Option<String>,
}

impl<T: DeserializeOwned> Salvaged<T> {
    /// Reads a part. One that cannot be read whole is read without the members, or the entries of a member, that are
    /// damaged: one relay costs no other.
    pub(super) fn read(part: Value) -> Self {
        let error = match serde_json::from_value(part.clone()) {
            Ok(value) => {
                return Self {
                    value: Some(value),
                    fault: None,
                };
            }
            Err(error) => error.to_string(),
        };
        let (mut kept, mut fault) = (Map::new(), None);
        for (name, member) in object(part) {
            let Err(error) = read_alone::<T>([(name.clone(), member.clone())]) else {
                kept.insert(name, member);
                continue;
            };
            if !member.is_object() {
                fault.get_or_insert(format!("{name}: {error}"));
                continue;
            }
            for (key, entry) in object(member) {
                let one = Map::from_iter([(key.clone(), entry.clone())]);
                match read_alone::<T>([(name.clone(), one.into())]) {
                    Ok(()) => insert(&mut kept, &name, key, entry),
                    Err(error) => drop(fault.get_or_insert(format!("{name}.{key}: {error}"))),
                }
            }
        }
        Self {
            value: serde_json::from_value(kept.into()).ok(),
            fault: fault.or(Some(error)),
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn read_alone<T: DeserializeOwned>(member: [(String, Value); 1]) -> serde_json::Result<()> {
    serde_json::from_value::<T>(Value::Object(member.into_iter().collect())).map(drop)
}

fn insert(kept: &mut Map<String, Value>, name: &str, key: String, entry: Value) {
    let member = match kept.entry(name) {
        Entry::Vacant(vacant) => vacant.insert(Map::new().into()),
        Entry::Occupied(occupied) => occupied.into_mut(),
    };
    if let Value::Object(member) = member {
        member.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Part {
        relays: BTreeMap<String, u8>,
        away: bool,
    }

    #[track_caller]
    fn check(part: Value, relays: &[(&str, u8)], away: bool, fault: Option<&str>) {
        let salvaged = Salvaged::<Part>::read(part);
        let relays = relays.iter().map(|(name, value)| ((*name).to_owned(), *value));
        let expected = Part {
            relays: relays.collect(),
            away,
        };
        assert_eq!(salvaged.value, Some(expected));
        let found = salvaged.fault.as_deref();
        assert_eq!(found.is_some(), fault.is_some(), "{found:?}");
        assert!(
            found.unwrap_or_default().starts_with(fault.unwrap_or_default()),
            "{found:?}"
        );
    }

    #[test]
    fn one_damaged_entry_costs_no_other() {
        let whole = json!({ "relays": { "a": 1, "b": 2 }, "away": true });
        check(whole, &[("a", 1), ("b", 2)], true, None);
        let entry = json!({ "relays": { "a": 1, "b": "x", "c": 3 }, "away": true });
        check(entry, &[("a", 1), ("c", 3)], true, Some("relays.b: invalid type"));
        let member = json!({ "relays": { "a": 1 }, "away": 3 });
        check(member, &[("a", 1)], false, Some("away: invalid type"));
        let list = json!({ "relays": [1], "away": true });
        check(list, &[], true, Some("relays: invalid type"));
        check(json!(7), &[], false, Some("invalid type"));
    }
}
