//! How the manifests were before: written down on the Service and the Deployments that are changed, so that the way back
//! is exact.

use proxy::contract::names::{FRONTED_BY, PLAIN, PREFIX, PROXY, RECORD_KEYS, SIDECAR, TRAFFIC_KEYS};
use serde_json::{Map, Value, json};

/// The label that tells the tracks apart.
pub const TRACK: &str = "track";

/// An annotation's key.
pub fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// What a Service was before.
pub fn of_service(service: &Value) -> Value {
    json!({
        "selector": service["spec"]["selector"],
        "ports": service["spec"]["ports"],
        "annotations": service["metadata"]["annotations"],
    })
}

/// What a Deployment was before: its pods' labels and what else a sidecar changes.
pub fn of_deployment(deployment: &Value) -> Value {
    let pod = &deployment["spec"]["template"]["spec"];
    json!({
        "labels": deployment["spec"]["template"]["metadata"]["labels"],
        "account": pod["serviceAccountName"],
        "automount": pod["automountServiceAccountToken"],
        "annotations": deployment["metadata"]["annotations"],
    })
}

/// Whether the object was changed before.
pub fn is_changed(object: &Value) -> bool {
    !object["metadata"]["annotations"][key(PLAIN)].is_null()
}

/// Writes it down.
pub fn keep(object: &mut Value, was: &Value) {
    annotate(object, &key(PLAIN), &was.to_string());
}

/// Sets an annotation.
pub fn annotate(object: &mut Value, key: &str, value: &str) {
    set(&mut object["metadata"], "annotations", key, value);
}

/// Sets `key` in the map `field`, which is made where it is missing.
pub fn set(parent: &mut Value, field: &str, key: &str, value: &str) {
    let map = &mut parent[field];
    if !map.is_object() {
        *map = json!({});
    }
    map[key] = value.into();
}

/// Gives Services and Deployments back as they were; names the Services.
///
/// # Errors
/// A record that is no record any more, or no object with one.
pub fn restore(objects: &mut [&mut Value], service: Option<&str>) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for object in objects.iter_mut() {
        let Some(text) = object["metadata"]["annotations"][key(PLAIN)].as_str() else {
            continue;
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let was: Value = serde_json::from_str(text).map_err(|e| {
            format!(
                "{name}: the annotation {PREFIX}{PLAIN} is damaged ({e}); take the plain manifests from git"
            )
        })?;
        match object["kind"].as_str() {
            Some("Service") if service.is_none_or(|s| s == name) => {
                restore_service(object, &was);
                found.push(name);
            }
            Some("Deployment") if service.is_none_or(|s| is_for(object, s)) => {
                found.extend(of(object));
                restore_deployment(object, &was);
            }
            _ => {}
        }
    }
    if found.is_empty() {
        return Err(format!(
            "nothing here was changed by serin: no object has the annotation {PREFIX}{PLAIN}"
        ));
    }
    found.dedup();
    Ok(found)
}

/// The Service that a Deployment was changed for.
fn of(deployment: &Value) -> Option<String> {
    let key = key(FRONTED_BY);
    deployment["metadata"]["annotations"][key]
        .as_str()
        .map(str::to_owned)
}

fn is_for(deployment: &Value, service: &str) -> bool {
    of(deployment).is_some_and(|name| name == service)
}

fn restore_service(service: &mut Value, was: &Value) {
    put(&mut service["spec"], "selector", &was["selector"]);
    put(&mut service["spec"], "ports", &was["ports"]);
    restore_annotations(service, &was["annotations"]);
}

fn restore_deployment(deployment: &mut Value, was: &Value) {
    let template = &mut deployment["spec"]["template"];
    put(&mut template["metadata"], "labels", &was["labels"]);
    let pod = &mut template["spec"];
    put(pod, "serviceAccountName", &was["account"]);
    put(pod, "automountServiceAccountToken", &was["automount"]);
    if let Some(containers) = pod["containers"].as_array_mut() {
        containers.retain(|c| c["name"] != SIDECAR);
    }
    restore_annotations(deployment, &was["annotations"]);
}

/// Ours go; those of others, which may have come since, stay.
fn restore_annotations(object: &mut Value, was: &Value) {
    let empty = Map::new();
    let before = was.as_object().unwrap_or(&empty);
    let Some(now) = object["metadata"]["annotations"].as_object_mut() else {
        return;
    };
    let ours: Vec<String> = TRAFFIC_KEYS.iter().chain(&RECORD_KEYS).map(|k| key(k)).collect();
    let records = [key(PLAIN), key(FRONTED_BY)];
    now.retain(|key, _| !records.contains(key) && (before.contains_key(key) || !ours.contains(key)));
    for (key, value) in before {
        now.insert(key.clone(), value.clone());
    }
    if now.is_empty() && was.as_object().is_none() {
        put(&mut object["metadata"], "annotations", &Value::Null);
    }
}

/// `null` takes the key away.
fn put(parent: &mut Value, key: &str, value: &Value) {
    let Some(map) = parent.as_object_mut() else { return };
    match value {
        Value::Null => map.remove(key),
        value => map.insert(key.to_owned(), value.clone()),
    };
}

/// The label of proxy pods.
pub fn proxy_label() -> String {
    format!("{PREFIX}{PROXY}")
}
