//! The payloads of requests to the scheduler.

use std::{ops::RangeInclusive, str::FromStr};

use serde_json::{Map, Value};

use crate::{
    domain::{
        command::Target,
        scheduling::{Request, ScheduleProposal},
    },
    mqtt::decode::{Decoded, Fields, PayloadError, Scalar, Shown, decode_request},
};
use planner::OutletPath;

/// The requests that are passed on to the scheduler.
pub(super) const REQUESTS: [&str; 9] = [
    "schedule/list",
    "schedule/set",
    "schedule/remove",
    "schedule/enable",
    "schedule/reset",
    "override/list",
    "override/clear",
    "vacation",
    "plan",
];

/// How many days `plan` looks ahead by default.
const PLAN_DAYS: u8 = 7;

const GROUP: &str = "the id of a group";
const SCHEDULE: &str = "the id of a schedule";
const DEFINITION: &str = "an object with the keys of a [[group.schedule]], such as id, start and end";

/// Reads a request to the scheduler; `None` if it is none of those.
pub(super) fn decode(name: &str, payload: &[u8]) -> Option<Decoded<Request>> {
    Some(match name {
        "schedule/list" => decode_request(payload, |fields| Ok(Request::Schedules(group(fields)?))),
        "schedule/set" => decode_request(payload, |fields| set(fields, payload)),
        "schedule/remove" => decode_request(payload, |fields| {
            Ok(Request::RemoveSchedule {
                group: required(fields, "group", GROUP)?,
                schedule: required(fields, "schedule", SCHEDULE)?,
            })
        }),
        "schedule/enable" => decode_request(payload, |fields| {
            Ok(Request::EnableSchedule {
                group: required(fields, "group", GROUP)?,
                schedule: required(fields, "schedule", SCHEDULE)?,
                enabled: fields.take_bool("enabled")?.ok_or(PayloadError::MissingKey {
                    key: "enabled",
                    expected: "true or false",
                })?,
            })
        }),
        "schedule/reset" => decode_request(payload, reset),
        "override/list" => decode_request(payload, |_| Ok(Request::Overrides)),
        "override/clear" => decode_request(payload, clear),
        "vacation" => decode_request(payload, |fields| {
            Ok(Request::Vacation(fields.take_bool("enabled")?))
        }),
        "plan" => decode_request(payload, |fields| plan(fields, payload)),
        _ => return None,
    })
}

fn set(fields: &mut Fields, payload: &[u8]) -> Result<Request, PayloadError> {
    let (key, expected) = ("schedule", DEFINITION);
    Ok(Request::SetSchedule {
        group: required(fields, "group", GROUP)?,
        schedule: definition(fields, key, payload)?.ok_or(PayloadError::MissingKey { key, expected })?,
    })
}

fn reset(fields: &mut Fields) -> Result<Request, PayloadError> {
    let schedule = optional(fields, "schedule", SCHEDULE)?;
    match (group(fields)?, schedule) {
        (group, None) => Ok(Request::ResetSchedules(group)),
        (Some(group), Some(schedule)) => Ok(Request::ResetSchedule { group, schedule }),
        (None, Some(_)) => Err(PayloadError::MissingKey {
            key: "group",
            expected: GROUP,
        }),
    }
}

/// A schedule is a table of its own, which commands otherwise never have.
fn definition(fields: &mut Fields, key: &'static str, payload: &[u8]) -> Result<Option<Value>, PayloadError> {
    let Some(value) = fields.take(key) else {
        return Ok(None);
    };
    let object = serde_json::from_slice(payload)
        .ok()
        .and_then(|mut all: Map<String, Value>| all.remove(key))
        .filter(Value::is_object);
    object.map(Some).ok_or_else(|| PayloadError::InvalidValue {
        key,
        expected: DEFINITION,
        shown: value.shown(),
    })
}

fn clear(fields: &mut Fields) -> Result<Request, PayloadError> {
    let group = group(fields)?;
    let outlet: Option<OutletPath> = optional(
        fields,
        "outlet",
        "a device, or device/outlet for one outlet of a strip",
    )?;
    match (group, outlet) {
        (Some(_), Some(_)) => Err(PayloadError::ConflictingKeys {
            key: "group",
            other: "outlet",
        }),
        (Some(group), None) => Ok(Request::ClearOverrides(Some(Target::Group(group)))),
        (None, outlet) => Ok(Request::ClearOverrides(outlet.map(Target::Outlet))),
    }
}

fn plan(fields: &mut Fields, payload: &[u8]) -> Result<Request, PayloadError> {
    let group = group(fields)?;
    let set = definition(fields, "draft", payload)?.map(ScheduleProposal::Set);
    let removed = optional(fields, "without", SCHEDULE)?.map(ScheduleProposal::Removed);
    if set.is_some() && removed.is_some() {
        return Err(PayloadError::ConflictingKeys {
            key: "draft",
            other: "without",
        });
    }
    let draft = set.or(removed);
    if draft.is_some() && group.is_none() {
        return Err(PayloadError::MissingKey {
            key: "group",
            expected: GROUP,
        });
    }
    let days = whole_number(fields, "days", 1..=31, "a whole number from 1 to 31")?;
    let page = whole_number(fields, "page", 1..=u64::from(u32::MAX), "a whole number from 1")?;
    Ok(Request::Plan {
        group,
        days: days.unwrap_or(PLAN_DAYS),
        page: page.unwrap_or(1),
        draft,
    })
}

pub(super) fn whole_number<T: TryFrom<u64>>(
    fields: &mut Fields,
    key: &'static str,
    range: RangeInclusive<u64>,
    expected: &'static str,
) -> Result<Option<T>, PayloadError> {
    let Some(value) = fields.take(key) else {
        return Ok(None);
    };
    let shown = value.shown();
    let Scalar::Number(number) = value else {
        return Err(PayloadError::InvalidValue { key, expected, shown });
    };
    let number = number.as_u64().filter(|number| range.contains(number));
    match number.and_then(|number| T::try_from(number).ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(PayloadError::OutOfRange { key, expected, shown }),
    }
}

fn group<T: FromStr>(fields: &mut Fields) -> Result<Option<T>, PayloadError> {
    optional(fields, "group", GROUP)
}

/// A name that must be there.
pub(super) fn required<T: FromStr>(
    fields: &mut Fields,
    key: &'static str,
    expected: &'static str,
) -> Result<T, PayloadError> {
    optional(fields, key, expected)?.ok_or(PayloadError::MissingKey { key, expected })
}

/// A name, if there is one.
pub(super) fn optional<T: FromStr>(
    fields: &mut Fields,
    key: &'static str,
    expected: &'static str,
) -> Result<Option<T>, PayloadError> {
    let Some(text) = fields.take_text(key, expected)? else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| PayloadError::InvalidValue {
        key,
        expected,
        shown: Shown::text(&text),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(name: &str, payload: &str) -> Result<Request, String> {
        match decode(name, payload.as_bytes()).expect("a request to the scheduler") {
            Decoded::Accepted { command, .. } => Ok(command),
            Decoded::Refused { error, .. } => Err(error.to_string()),
            Decoded::Ignored => Err("ignored".to_owned()),
        }
    }

    #[test]
    fn every_request_is_read() {
        let driveway = || "driveway".parse().unwrap();
        let morning = || "morning".parse().unwrap();
        let cases = [
            ("schedule/list", "", Request::Schedules(None)),
            (
                "schedule/list",
                r#"{"group":"driveway"}"#,
                Request::Schedules(Some(driveway())),
            ),
            (
                "schedule/set",
                r#"{"group":"driveway","schedule":{"id":"x","days":["mon"],"safety":{"max_on":"1h"}}}"#,
                Request::SetSchedule {
                    group: driveway(),
                    schedule: json!({"id": "x", "days": ["mon"], "safety": {"max_on": "1h"}}),
                },
            ),
            (
                "schedule/remove",
                r#"{"group":"driveway","schedule":"morning","transaction":3}"#,
                Request::RemoveSchedule {
                    group: driveway(),
                    schedule: morning(),
                },
            ),
            (
                "schedule/enable",
                r#"{"group":"driveway","schedule":"morning","enabled":false}"#,
                Request::EnableSchedule {
                    group: driveway(),
                    schedule: morning(),
                    enabled: false,
                },
            ),
            ("schedule/reset", "{}", Request::ResetSchedules(None)),
            ("override/list", "", Request::Overrides),
            ("override/clear", "", Request::ClearOverrides(None)),
            (
                "override/clear",
                r#"{"group":"driveway"}"#,
                Request::ClearOverrides(Some(Target::Group(driveway()))),
            ),
            (
                "override/clear",
                r#"{"outlet":"mats/1"}"#,
                Request::ClearOverrides(Some(Target::Outlet("mats/1".parse().unwrap()))),
            ),
            ("vacation", "", Request::Vacation(None)),
            ("vacation", r#"{"enabled":true}"#, Request::Vacation(Some(true))),
            (
                "plan",
                "",
                Request::Plan {
                    group: None,
                    days: 7,
                    page: 1,
                    draft: None,
                },
            ),
            (
                "plan",
                r#"{"group":"driveway","days":31,"page":2}"#,
                Request::Plan {
                    group: Some(driveway()),
                    days: 31,
                    page: 2,
                    draft: None,
                },
            ),
        ];
        for (name, payload, expected) in cases {
            assert_eq!(request(name, payload), Ok(expected), "{name} {payload}");
        }
        for name in REQUESTS {
            assert!(decode(name, b"").is_some(), "{name}");
        }
        assert_eq!(decode("restart", b""), None);
    }

    #[test]
    fn a_draft_and_one_schedule_are_of_one_group() {
        let planned = |draft| Request::Plan {
            group: Some("g".parse().unwrap()),
            days: 7,
            page: 1,
            draft: Some(draft),
        };
        let schedule = || "s".parse().unwrap();
        let definition = json!({"id": "x", "when": []});
        for (name, payload, expected) in [
            (
                "plan",
                r#"{"group":"g","draft":{"id":"x","when":[]}}"#,
                Ok(planned(ScheduleProposal::Set(definition))),
            ),
            (
                "plan",
                r#"{"group":"g","without":"s"}"#,
                Ok(planned(ScheduleProposal::Removed(schedule()))),
            ),
            (
                "schedule/reset",
                r#"{"group":"g","schedule":"s"}"#,
                Ok(Request::ResetSchedule {
                    group: "g".parse().unwrap(),
                    schedule: schedule(),
                }),
            ),
            (
                "schedule/reset",
                r#"{"schedule":"s"}"#,
                Err("the key group is missing"),
            ),
            ("plan", r#"{"draft":{}}"#, Err("the key group is missing")),
            (
                "plan",
                r#"{"group":"g","draft":"s"}"#,
                Err("draft: expected an object"),
            ),
            (
                "plan",
                r#"{"group":"g","draft":{},"without":"s"}"#,
                Err("draft does not go together with without"),
            ),
        ] {
            match (request(name, payload), expected) {
                (Ok(request), Ok(expected)) => assert_eq!(request, expected),
                (Err(error), Err(start)) => assert!(error.starts_with(start), "{error}"),
                (found, expected) => panic!("{payload}: {found:?}, {expected:?}"),
            }
        }
    }

    #[test]
    fn errors_name_what_was_expected() {
        let deep = format!(
            r#"{{"group":"g","schedule":{}1{}}}"#,
            r#"{"a":"#.repeat(200),
            "}".repeat(200)
        );
        let cases = [
            (
                "schedule/list",
                r#"{"group":"Drive Way"}"#,
                "group: expected the id of a group, got Drive Way",
            ),
            (
                "schedule/remove",
                r#"{"group":"g"}"#,
                "the key schedule is missing; expected the id of a schedule",
            ),
            (
                "schedule/enable",
                r#"{"group":"g","schedule":"s"}"#,
                "the key enabled is missing; expected true or false",
            ),
            (
                "schedule/enable",
                r#"{"group":"g","schedule":"s","enabled":"yes"}"#,
                "enabled: expected true or false, got yes",
            ),
            (
                "schedule/set",
                r#"{"group":"g"}"#,
                "the key schedule is missing; expected an object",
            ),
            (
                "schedule/set",
                r#"{"group":"g","schedule":"morning"}"#,
                "schedule: expected an object",
            ),
            ("schedule/set", deep.as_str(), "schedule: expected an object"),
            (
                "override/clear",
                r#"{"group":"g","outlet":"o"}"#,
                "group does not go together with outlet",
            ),
            (
                "override/clear",
                r#"{"outlet":"a/b/c"}"#,
                "outlet: expected a device, or device/outlet",
            ),
            (
                "override/list",
                r#"{"group":"g"}"#,
                "unknown key group; known are transaction",
            ),
            (
                "vacation",
                "ON",
                "expected an empty payload or a JSON object, got ON",
            ),
            (
                "vacation",
                r#"{"enabled":1}"#,
                "enabled: expected true or false, got 1",
            ),
            (
                "plan",
                r#"{"days":0}"#,
                "days: expected a whole number from 1 to 31, got 0",
            ),
            (
                "plan",
                r#"{"page":0}"#,
                "page: expected a whole number from 1, got 0",
            ),
            (
                "plan",
                r#"{"days":1.5}"#,
                "days: expected a whole number from 1 to 31, got 1.5",
            ),
            (
                "plan",
                r#"{"days":"7"}"#,
                "days: expected a whole number from 1 to 31, got 7",
            ),
        ];
        for (name, payload, message) in cases {
            let error = request(name, payload).expect_err(payload);
            assert!(error.starts_with(message), "{name} {payload}: {error}");
        }
    }
}
