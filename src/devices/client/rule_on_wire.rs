//! A schedule rule as a device has it, and as [`GetRules`](super::session::DeviceRequest::GetRules) returns it.

use serde_json::{Value, json};

use super::readings::TEXT_MAX;
use crate::domain::off_rules::WeeklyOff;

/// An outlet holds so many rules, and returns five at a time.
pub(super) const RULES_MAX: usize = 32;
pub(super) const RULE_PAGES: u32 = 7;

/// An OFF at a minute of some days of the week. The date is none, but devices expect one.
pub(super) fn weekly(rule: WeeklyOff) -> Value {
    json!({
        "enable": true, "mode": "repeat", "week_day": rule.days.bits(),
        "s_type": "normal", "s_min": rule.minute, "time_offset": 0, "desired_states": { "on": false },
        "e_type": "normal", "e_min": 0, "e_action": "none", "year": 1970, "month": 1, "day": 1,
    })
}

/// The same for a rule or countdown that exists.
pub(super) fn with_id(mut rule: Value, id: &str) -> Value {
    if let Value::Object(members) = &mut rule {
        members.insert("id".to_owned(), id.into());
    }
    rule
}

/// The rule; none of a kind that is not known, or with an id that is too long to be kept and published.
pub(super) fn rule_of(wire: &Value) -> Option<Value> {
    let text = |name| wire.get(name).and_then(Value::as_str);
    let time = match text("s_type")? {
        "normal" => {
            let minute = wire.get("s_min")?.as_u64()?;
            json!({ "clock": { "hour": minute / 60, "minute": minute % 60 } })
        }
        sun @ ("sunrise" | "sunset") => json!({ (sun): { "offset_minutes": wire.get("time_offset")? } }),
        _ => return None,
    };
    let days = match text("mode")? {
        "once" => None,
        "repeat" => Some(wire.get("week_day")?.as_u64()? & 0x7f),
        _ => return None,
    };
    let to = match wire.pointer("/desired_states/on").and_then(Value::as_bool) {
        Some(true) => "on",
        Some(false) => "off",
        None => text("s_action")?,
    };
    Some(json!({
        "id": text("id").filter(|id| id.len() <= TEXT_MAX)?,
        "enabled": wire.get("enable")?.as_bool()?,
        "time": time,
        "days": days,
        "desired_state": to,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::report::Weekdays;

    #[test]
    fn what_is_written_is_read_back() {
        let off = WeeklyOff {
            minute: 22 * 60 + 5,
            days: Weekdays::from_bits(0b100_0001),
        };
        let mut wire = weekly(off);
        assert_eq!(rule_of(&wire), None, "the device gives the id");
        wire["id"] = "S1".into();
        let mut rule = json!({ "id": "S1", "enabled": true, "days": 0b100_0001, "desired_state": "off",
            "time": { "clock": { "hour": 22, "minute": 5 } } });
        assert_eq!(rule_of(&wire), Some(rule.clone()));
        wire["s_type"] = "sunset".into();
        wire["time_offset"] = (-30).into();
        wire["mode"] = "once".into();
        rule["time"] = json!({ "sunset": { "offset_minutes": -30 } });
        rule["days"] = Value::Null;
        assert_eq!(rule_of(&wire), Some(rule));
        for (member, unknown) in [("s_type", "moonrise"), ("mode", "monthly")] {
            let mut other = wire.clone();
            other[member] = unknown.into();
            assert_eq!(rule_of(&other), None);
        }
        wire["id"] = "x".repeat(TEXT_MAX + 1).into();
        assert_eq!(rule_of(&wire), None);
    }
}
