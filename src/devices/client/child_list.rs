//! The children of a strip or hub: their list, which comes in pages of ten, and the settings of a thermostat.

use serde_json::{Value, json};
use tplink::{Client, Error};

use super::session::ThermostatSetting;

/// A hub takes 64 devices, and a page may be short.
const PAGES_MAX: u32 = 16;

/// The list of all children, as if it were one page.
pub(super) async fn child_list(client: &mut Client) -> Result<Value, Error> {
    let mut children = Vec::new();
    for _ in 0..PAGES_MAX {
        let start = json!({ "start_index": children.len() });
        let mut page = client.call("get_child_device_list", start).await?;
        let sum = page.get("sum").and_then(Value::as_u64).unwrap_or_default();
        let list = page.get_mut("child_device_list").map(Value::take);
        let Some(Value::Array(list)) = list.filter(|list| list != &json!([])) else {
            break;
        };
        children.extend(list);
        if children.len() as u64 >= sum {
            break;
        }
    }
    Ok(json!({ "child_device_list": children }))
}

/// Changes only what is set: a new target does not turn the thermostat on.
pub(super) async fn set_thermostat(
    client: &mut Client,
    id: &str,
    setting: ThermostatSetting,
) -> Result<Value, Error> {
    let mut params = serde_json::Map::new();
    if let Some(target) = setting.target {
        params.insert("target_temp".to_owned(), json!(target));
    }
    if let Some(is_on) = setting.is_on {
        params.insert("frost_protection_on".to_owned(), json!(!is_on));
    }
    let set = client.call_child(id, "set_device_info", params.into()).await;
    set.map(|_| Value::Null)
}
