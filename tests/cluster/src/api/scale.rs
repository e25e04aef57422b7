//! The scale subresource: an object's replicas under one form for all kinds.

use super::ask::Ask;
use super::failure::Failure;
use super::kinds::Scale;
use super::store::Store;
use super::write::{Written, patched, present, revised};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn get(store: &Store, ask: &Ask) -> Result<Value, Failure> {
    let object = present(store, ask)?;
    Ok(view(paths(ask)?, &object))
}

pub(super) fn update(store: &mut Store, ask: &Ask) -> Result<Written, Failure> {
    let wanted = ask.json()?;
    write(store, ask, &wanted)
}

pub(super) fn patch(store: &mut Store, ask: &Ask) -> Result<Written, Failure> {
    let mut shown = get(store, ask)?;
    patched(ask, &mut shown)?;
    write(store, ask, &shown)
}

fn write(store: &mut Store, ask: &Ask, wanted: &Value) -> Result<Written, Failure> {
    let scale = paths(ask)?;
    let old = present(store, ask)?;
    let replicas = &wanted["spec"]["replicas"];
    if !replicas.is_null() && replicas.as_u64().is_none() {
        let message = format!("spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0");
        return Err(Failure::new(422, "Invalid", message));
    }
    let mut new = (*old).clone();
    new["metadata"]["resourceVersion"] = wanted["metadata"]["resourceVersion"].clone();
    let replicas = replicas.as_u64().unwrap_or_default();
    *scale.spec.iter().fold(&mut new, |value, field| &mut value[field]) = replicas.into();
    let (code, object) = revised(store, ask, &old, new)?;
    Ok((code, Arc::new(view(scale, &object))))
}

fn paths(ask: &Ask) -> Result<&Scale, Failure> {
    ask.kind.scale.as_ref().ok_or_else(Failure::unknown_path)
}

fn view(scale: &Scale, object: &Value) -> Value {
    let at = |path: &[String]| path.iter().fold(object, |value, field| &value[field]);
    let number = |path: &[String]| at(path).as_u64().unwrap_or_default();
    let metadata = &object["metadata"];
    let mut view = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": number(&scale.spec)},
        "status": {"replicas": number(&scale.status)},
    });
    if let Some(selector) = scale
        .selector
        .as_deref()
        .map(at)
        .filter(|selector| !selector.is_null())
    {
        view["status"]["selector"] = written(selector).into();
    }
    view
}

/// A selector in the form of a query.
fn written(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(",")
}
