//! The requests of our own client about the countdown of an outlet.

use std::time::Duration;

use serde_json::{Value, json};
use tplink::{Client, Error, ErrorCode};

use super::{batches::Batches, own_client::call, readings::TEXT_MAX, rule_on_wire::with_id};

const GET: &str = "get_countdown_rules";
const ADD: &str = "add_countdown_rule";
const EDIT: &str = "edit_countdown_rule";

/// The countdown, or `Null`.
pub(super) async fn get(client: &mut Client, child: Option<&str>) -> Result<Value, Error> {
    timer_of(&call(client, child, GET, Value::Null).await?)
}

/// Arms it to OFF, and returns it as it was read back. `rule` is the one that was read last: it is changed in place, so that
/// at no moment is the outlet without one.
pub(super) async fn set(
    client: &mut Client,
    batches: &mut Batches,
    child: Option<&str>,
    length: Duration,
    rule: Option<&str>,
) -> Result<Value, Error> {
    let new = json!({ "enable": true, "delay": length.as_secs(), "desired_states": { "on": false } });
    let add = (ADD, new.clone());
    let first = rule.map_or_else(|| add.clone(), |id| (EDIT, with_id(new, id)));
    let armed = change(client, batches, child, first).await;
    let replaces = match &armed {
        // Firmware that cannot change it in place.
        Err(Error::UnknownRequest(_)) => rule.is_some(),
        // One runs that it does not list. Another one than was read may be the app's.
        Err(Error::Device(ErrorCode::COUNTDOWN_CONFLICT)) => get(client, child).await?.is_null(),
        _ => false,
    };
    if !replaces {
        return armed;
    }
    clear(client, child).await?;
    change(client, batches, child, add).await
}

/// Clears it.
pub(super) async fn clear(client: &mut Client, child: Option<&str>) -> Result<Value, Error> {
    let all = json!({ "remove_all": true });
    let cleared = call(client, child, "remove_countdown_rules", all).await;
    cleared.map(|_| Value::Null)
}

/// Changes it and reads it back: in one request where the firmware takes that.
async fn change(
    client: &mut Client,
    batches: &mut Batches,
    child: Option<&str>,
    (method, params): (&str, Value),
) -> Result<Value, Error> {
    if batches.are_taken() {
        let requests = [(method, params.clone()), (GET, Value::Null)];
        let results = match child {
            Some(id) => client.batch_child(id, &requests).await,
            None => client.batch(&requests).await,
        };
        match results.map(|results| <[_; 2]>::try_from(results).map_err(|mut rest| rest.pop())) {
            Ok(Ok([changed, read])) => {
                changed?;
                return timer_of(&read?);
            }
            // It stopped at the change, without which there is nothing to read.
            Ok(Err(Some(Err(refused)))) => return Err(refused),
            Ok(Err(_)) => return get(client, child).await,
            Err(error) if batches.on_failure(&error) => {}
            Err(error) => return Err(error),
        }
    }
    call(client, child, method, params).await?;
    get(client, child).await
}

/// The only countdown of an outlet, as it is on the wire.
fn rule_of(list: &Value) -> Option<&Value> {
    list.get("rule_list")?.as_array()?.first()
}

fn timer_of(list: &Value) -> Result<Value, Error> {
    let Some(rule) = rule_of(list) else {
        return Ok(Value::Null);
    };
    let on = rule.pointer("/desired_states/on").and_then(Value::as_bool);
    let on = on.or_else(|| match rule.get("action")?.as_str()? {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    });
    let on = on.ok_or(Error::Unreadable("its countdown does not say to what"))?;
    let seconds = |name| rule.get(name).and_then(Value::as_u64);
    let length = seconds("delay").ok_or(Error::Unreadable("its countdown has no length"))?;
    let id = rule.get("id").and_then(Value::as_str);
    let id = id.filter(|id| id.len() <= TEXT_MAX);
    Ok(
        json!({ "on": on, "length_s": length, "remaining_s": seconds("remain").unwrap_or_default(), "id": id }),
    )
}
