//! The methods of a hub, and of what is connected to it.

use serde_json::{Value, json};

use super::device::{PAGE, components};
use crate::{
    core::Core,
    hub::HubChild,
    reply::{Answer, Refusal},
};

/// None if the method is not one that only hubs have.
pub(super) fn answer(core: &Core, method: &str, params: &Value) -> Option<Answer> {
    Some(Ok(Some(match method {
        "get_child_device_list" => page(core, params, "child_device_list", |child| child.info().into()),
        "get_child_device_component_list" => page(core, params, "child_component_list", |child| {
            let mut entry = components(&[child.model.components()]);
            if let Value::Object(entry) = &mut entry {
                entry.insert("device_id".to_owned(), json!(child.id()));
            }
            entry
        }),
        "get_alarm_configure" => json!({ "duration": 10, "type": "Alarm 1", "volume": "high" }),
        "get_device_load_info" => json!({
            "cur_load_num": core.read(|state, _| state.children.len()), "load_level": "light",
            "max_load_num": 64, "total_memory": 4352, "used_memory": 1451,
        }),
        _ => return None,
    })))
}

/// None if the method is not one of such a child.
pub(super) fn child_answer(core: &Core, index: usize, method: &str, params: &Value) -> Option<Answer> {
    core.with_state(|state, _| {
        let child = state.children.get_mut(index)?;
        Some(match method {
            "component_nego" => Ok(Some(components(&[child.model.components()]))),
            "get_device_info" => Ok(Some(child.info().into())),
            "get_trigger_logs" if child.has_log() => {
                child.trigger_logs(params).ok_or(Refusal::PARAMS).map(Some)
            }
            "set_device_info" if child.set_info(params) => Ok(None),
            "set_device_info" => Err(Refusal::PARAMS),
            _ => return None,
        })
    })
}

fn page(core: &Core, params: &Value, list: &str, entry: impl Fn(&HubChild) -> Value) -> Value {
    let start = params.get("start_index").and_then(Value::as_u64).unwrap_or(0);
    let skip = usize::try_from(start).unwrap_or(usize::MAX);
    core.read(|state, _| {
        let page = state.children.iter().skip(skip).take(PAGE).map(&entry);
        let page: Vec<Value> = page.collect();
        json!({ list: page, "start_index": start, "sum": state.children.len() })
    })
}
