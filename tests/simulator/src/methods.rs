//! What the JSON methods of a device answer.

mod device;
mod hub;
mod outlet;

use serde_json::{Map, Value, json};

use crate::{
    Fault, FaultKind,
    core::Core,
    reply::{Answer, Refusal, reply},
};

/// Requests are nested in one another at most this deep.
const MAX_DEPTH: usize = 4;

/// Whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Device,
    /// The outlet at this position of a strip.
    Outlet(u8),
    /// This child of a hub.
    HubChild(usize),
}

/// The methods of a request, its own first and then those inside it.
pub(crate) fn methods_of(request: &Value) -> Vec<String> {
    let mut methods = Vec::new();
    collect_methods(request, &mut methods, MAX_DEPTH);
    methods
}

fn collect_methods(request: &Value, methods: &mut Vec<String>, depth: usize) {
    let Some(method) = request.get("method").and_then(Value::as_str) else {
        return;
    };
    methods.push(method.to_owned());
    if depth == 0 {
        return;
    }
    if let Some(inner) = request.pointer("/params/requestData") {
        collect_methods(inner, methods, depth - 1);
    }
    for inner in requests_in(request.get("params").unwrap_or(&Value::Null)) {
        collect_methods(inner, methods, depth - 1);
    }
}

/// The reply to a request.
pub(crate) fn answer(core: &Core, request: &Value) -> Map<String, Value> {
    answer_for(core, Target::Device, request, MAX_DEPTH)
}

fn answer_for(core: &Core, target: Target, request: &Value, depth: usize) -> Map<String, Value> {
    let Some(method) = request.get("method").and_then(Value::as_str) else {
        return reply(Err(Refusal::PARAMS));
    };
    if depth == 0 {
        return reply(Err(Refusal::PARAMS));
    }
    let params = request.get("params").unwrap_or(&Value::Null);
    match (method, target) {
        ("multipleRequest", _) => reply(match refused(core, target, method) {
            Some(refusal) => Err(refusal),
            None => multiple(core, target, params, depth - 1),
        }),
        ("control_child", Target::Device) if core.spec.is_strip() || core.spec.is_hub() => {
            reply(control_child(core, params, depth - 1))
        }
        _ => {
            let mut answer = dispatch(core, target, method, params);
            if let Ok(Some(result)) = &mut answer {
                distort(core, result);
            }
            reply(answer)
        }
    }
}

/// Requests are answered in order; a device does not go on after the first error.
fn multiple(core: &Core, target: Target, params: &Value, depth: usize) -> Answer {
    if !params.get("requests").is_some_and(Value::is_array) {
        return Err(Refusal::PARAMS);
    }
    let mut responses = Vec::new();
    for request in requests_in(params) {
        let mut response = answer_for(core, target, request, depth);
        let failed = response.get("error_code") != Some(&json!(0));
        if let Some(method) = request.get("method") {
            response.insert("method".to_owned(), method.clone());
        }
        responses.push(response);
        if failed {
            break;
        }
    }
    Ok(Some(json!({ "responses": responses })))
}

fn requests_in(params: &Value) -> impl Iterator<Item = &Value> {
    params
        .get("requests")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn control_child(core: &Core, params: &Value, depth: usize) -> Answer {
    let child_id = params
        .get("device_id")
        .and_then(Value::as_str)
        .ok_or(Refusal::PARAMS)?;
    let request = params.get("requestData").ok_or(Refusal::PARAMS)?;
    let child = core.read(|state, _| {
        let mut outlets = state.outlets.iter();
        let outlet = outlets.find(|outlet| outlet.child_id.as_deref() == Some(child_id));
        let outlet = outlet.map(|outlet| Target::Outlet(outlet.position));
        let connected = || state.children.iter().position(|child| child.id() == child_id);
        outlet.or_else(|| connected().map(Target::HubChild))
    });
    let child = child.ok_or(Refusal::PARAMS)?;
    let mut response = answer_for(core, child, request, depth);
    if response.contains_key("result")
        && request
            .get("method")
            .is_some_and(|method| method == "multipleRequest")
    {
        // Inside `responseData` the responses stand without an error code of their own (P304M 1.4.2).
        response.remove("error_code");
    }
    Ok(Some(json!({ "responseData": response })))
}

fn dispatch(core: &Core, target: Target, method: &str, params: &Value) -> Answer {
    if let Some(refusal) = refused(core, target, method) {
        return Err(refusal);
    }
    if core.faults.is_set(FaultKind::ClockUnset) && outlet::needs_clock(method) {
        return Err(Refusal::TIME);
    }
    let answer = match target {
        Target::Device if core.spec.is_hub() => {
            hub::answer(core, method, params).or_else(|| device::answer(core, method, params))
        }
        Target::Device if core.spec.is_strip() => device::answer(core, method, params),
        Target::Device => {
            device::answer(core, method, params).or_else(|| outlet::answer(core, 1, method, params))
        }
        Target::Outlet(position) => outlet::answer(core, position, method, params),
        Target::HubChild(index) => hub::child_answer(core, index, method, params),
    };
    answer.unwrap_or(Err(Refusal::UNKNOWN_METHOD))
}

/// The fault that refuses a request where it stands.
fn refused(core: &Core, target: Target, method: &str) -> Option<Refusal> {
    let outlet = match target {
        Target::Device | Target::HubChild(_) => None,
        Target::Outlet(position) => Some(position),
    };
    let methods = [method.to_owned()];
    match core
        .faults
        .hit(FaultKind::Refuse, &methods, |fault| fault.refuses(outlet))
    {
        Some(Fault::Refuse { code, .. }) => Some(Refusal(code)),
        _ => None,
    }
}

/// Leaves out and replaces the fields that faults name.
pub(crate) fn distort(core: &Core, result: &mut Value) {
    if let Some(Fault::MissingFields { fields }) = core.faults.get(FaultKind::MissingFields) {
        for_each_object(result, &|object| object.retain(|name, _| !fields.contains(name)));
    }
    if let Some(Fault::FieldValues { values }) = core.faults.get(FaultKind::FieldValues) {
        for_each_object(result, &|object| {
            for (name, value) in &mut *object {
                if let Some(chosen) = values.get(name) {
                    value.clone_from(chosen);
                }
            }
        });
    }
}

fn for_each_object(value: &mut Value, change: &impl Fn(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            object
                .values_mut()
                .for_each(|value| for_each_object(value, change));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| for_each_object(value, change)),
        _ => {}
    }
}

/// The fields that devices and children have in common.
fn common_info(core: &Core) -> Map<String, Value> {
    let info = json!({
        "fw_id": "00000000000000000000000000000000",
        "fw_ver": core.spec.fw_ver,
        "has_set_location_info": true,
        "hw_id": core.identity.hw_id,
        "hw_ver": core.spec.hw_ver,
        "latitude": 0,
        "longitude": 0,
        "model": core.spec.model,
        "oem_id": core.identity.oem_id,
        "region": "UTC",
        "type": core.spec.device_type,
    });
    into_map(info)
}

pub(crate) fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
