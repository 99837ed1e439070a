//! The requests of our own client about the schedule rules of an outlet.

use serde_json::{Value, json};
use tplink::{Client, Error};

use super::{
    own_client::call,
    readings::TEXT_MAX,
    rule_on_wire::{RULE_PAGES, RULES_MAX, rule_of, weekly, with_id},
};
use crate::domain::off_rules::WeeklyOff;

async fn page(client: &mut Client, child: Option<&str>, start: usize) -> Result<Value, Error> {
    let start = json!({ "start_index": start });
    call(client, child, "get_schedule_rules", start).await
}

/// All rules.
pub(super) async fn get(client: &mut Client, child: Option<&str>) -> Result<Value, Error> {
    let (mut rules, mut fetched) = (Vec::new(), 0);
    for _ in 0..RULE_PAGES {
        let page = page(client, child, fetched).await?;
        let list = page.get("rule_list").and_then(Value::as_array);
        let list = list.map(Vec::as_slice).unwrap_or_default();
        fetched += list.len();
        rules.extend(list.iter().filter_map(rule_of));
        let sum = page.get("sum").and_then(Value::as_u64).unwrap_or_default();
        if list.is_empty() || fetched as u64 >= sum {
            break;
        }
    }
    rules.truncate(RULES_MAX);
    Ok(rules.into())
}

/// How many rules there can be.
pub(super) async fn room(client: &mut Client, child: Option<&str>) -> Result<Value, Error> {
    let page = page(client, child, 0).await?;
    let room = page.get("schedule_rule_max_count").cloned();
    room.ok_or(Error::Unreadable("it does not say how many rules it holds"))
}

/// Adds a rule, and returns its id. Without an id it may exist all the same, and the next reading shows it.
pub(super) async fn add(client: &mut Client, child: Option<&str>, rule: WeeklyOff) -> Result<Value, Error> {
    let added = call(client, child, "add_schedule_rule", weekly(rule)).await?;
    let id = added.get("id").and_then(Value::as_str);
    Ok(id
        .filter(|id| id.len() <= TEXT_MAX)
        .map_or(Value::Null, |id| json!({ "id": id })))
}

/// Replaces the content of a rule.
pub(super) async fn edit(
    client: &mut Client,
    child: Option<&str>,
    id: &str,
    rule: WeeklyOff,
) -> Result<Value, Error> {
    let rule = with_id(weekly(rule), id);
    let edited = call(client, child, "edit_schedule_rule", rule).await;
    edited.map(|_| Value::Null)
}

/// Removes a rule.
pub(super) async fn remove(client: &mut Client, child: Option<&str>, id: &str) -> Result<Value, Error> {
    let rules = json!({ "remove_all": false, "rule_list": [{ "id": id }] });
    let removed = call(client, child, "remove_schedule_rules", rules).await;
    removed.map(|_| Value::Null)
}
