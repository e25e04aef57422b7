//! Strategic merge patch: lists of built-in kinds merge by key, and `$` directives say what a merge cannot.

use super::failure::Failure;
use serde_json::{Map, Value};

pub(super) fn merge(target: &mut Value, patch: &Value) -> Result<(), Failure> {
    let Value::Object(patch) = patch else {
        return Err(Failure::bad("a strategic merge patch is an object"));
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return Ok(());
    };
    fields(target, patch)
}

fn fields(target: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), Failure> {
    if patch
        .get("$patch")
        .is_some_and(|directive| directive == "replace")
    {
        target.clear();
    }
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        target.retain(|name, _| kept.iter().any(|keep| keep == name));
    }
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        field(target, name, value)?;
    }
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let items = target.get_mut(list).and_then(Value::as_array_mut);
            items
                .into_iter()
                .for_each(|items| items.retain(|item| !contains(value, item)));
        }
        if let Some(list) = name.strip_prefix("$setElementOrder/") {
            let items = target.get_mut(list).and_then(Value::as_array_mut);
            items.into_iter().for_each(|items| order(list, items, value));
        }
    }
    Ok(())
}

fn field(target: &mut Map<String, Value>, name: &str, value: &Value) -> Result<(), Failure> {
    match value {
        Value::Null => drop(target.remove(name)),
        Value::Object(below) if below.get("$patch").is_some_and(|directive| directive == "delete") => {
            drop(target.remove(name))
        }
        Value::Object(_) => merge(target.entry(name).or_insert(Value::Null), value)?,
        Value::Array(items) if name == "finalizers" => set(target.entry(name).or_insert(Value::Null), items),
        Value::Array(items) => match key(name, items) {
            Some(key) => list(target.entry(name).or_insert(Value::Null), key, items)?,
            None => drop(target.insert(name.into(), without_directives(items))),
        },
        scalar => drop(target.insert(name.into(), scalar.clone())),
    }
    Ok(())
}

fn list(target: &mut Value, key: &str, items: &[Value]) -> Result<(), Failure> {
    let mut known = target.as_array().cloned().unwrap_or_default();
    if items.iter().any(|item| item["$patch"] == "replace") {
        known.clear();
    }
    for item in items.iter().filter(|item| item["$patch"] != "replace") {
        let id = item
            .get(key)
            .ok_or_else(|| Failure::bad(format!("map: {item} does not contain declared merge key: {key}")))?;
        if item["$patch"] == "delete" {
            known.retain(|other| &other[key] != id);
            continue;
        }
        let place = known.iter().position(|other| &other[key] == id);
        let place = place.unwrap_or_else(|| {
            known.push(Value::Object(Map::new()));
            known.len() - 1
        });
        merge(&mut known[place], item)?;
    }
    *target = known.into();
    Ok(())
}

/// The merge key of a list of a built-in kind; none where the list is replaced as a whole.
fn key(name: &str, items: &[Value]) -> Option<&'static str> {
    Some(match name {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "secrets" => "name",
        "ports" if items.iter().any(|item| item.get("containerPort").is_some()) => "containerPort",
        "ports" if items.iter().all(|item| item.get("port").is_some()) => "port",
        "ports" => return None,
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "conditions" => "type",
        "ownerReferences" => "uid",
        "hostAliases" => "ip",
        "topologySpreadConstraints" => "topologyKey",
        _ => return None,
    })
}

fn set(target: &mut Value, items: &[Value]) {
    let mut known = target.as_array().cloned().unwrap_or_default();
    for item in items {
        if !known.contains(item) {
            known.push(item.clone());
        }
    }
    *target = known.into();
}

fn without_directives(items: &[Value]) -> Value {
    items
        .iter()
        .filter(|item| item.get("$patch").is_none())
        .cloned()
        .collect()
}

fn contains(list: &Value, item: &Value) -> bool {
    list.as_array().is_some_and(|all| all.contains(item))
}

/// Puts the items in the order that the patch names; those it does not name keep theirs, behind.
fn order(list: &str, items: &mut [Value], wanted: &Value) {
    let Some(wanted) = wanted.as_array() else { return };
    let key = key(list, items);
    let place = |item: &Value| {
        let same = |other: &Value| key.map_or(other == item, |key| other[key] == item[key]);
        wanted.iter().position(same).unwrap_or(usize::MAX)
    };
    items.sort_by_key(place);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_and_env_merge_by_name() {
        let mut pod = json!({"containers": [{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "b:1"}]});
        let patch = json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
            "containers": [{"name": "a", "image": "a:2", "env": [{"name": "Y", "value": "2"}, {"name": "X", "$patch": "delete"}]}]});
        merge(&mut pod, &patch).unwrap();
        assert_eq!(
            pod,
            json!({"containers": [{"name": "b", "image": "b:1"}, {"name": "a", "image": "a:2", "env": [{"name": "Y", "value": "2"}]}]})
        );
    }

    #[test]
    fn directives_replace_retain_and_delete() {
        let mut object = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}, "labels": {"a": "1"}, "finalizers": ["x", "y"], "gone": {"a": 1}});
        let patch = json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}, "labels": {"$patch": "replace", "b": "2"},
            "$deleteFromPrimitiveList/finalizers": ["x"], "finalizers": ["z"], "gone": {"$patch": "delete"}});
        merge(&mut object, &patch).unwrap();
        assert_eq!(
            object,
            json!({"strategy": {"type": "Recreate"}, "labels": {"b": "2"}, "finalizers": ["y", "z"]})
        );
    }
}
