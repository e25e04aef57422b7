//! JSON merge patch (RFC 7396) and JSON patch (RFC 6902).

use super::failure::Failure;
use serde_json::Value;

/// RFC 7396: objects merge, null removes, everything else replaces.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// RFC 6902, one operation after another; any that fails refuses the whole patch.
pub(super) fn operations(target: &mut Value, patch: &Value) -> Result<(), Failure> {
    let Value::Array(steps) = patch else {
        return Err(Failure::bad("a JSON patch is a list of operations"));
    };
    steps
        .iter()
        .try_for_each(|step| operation(target, step).map_err(unprocessable))
}

fn unprocessable(why: String) -> Failure {
    Failure::new(
        422,
        "Invalid",
        format!("the server rejected our request due to an error in our request: {why}"),
    )
}

fn operation(target: &mut Value, step: &Value) -> Result<(), String> {
    let path = step["path"].as_str().ok_or("an operation without a path")?;
    let value = || {
        step.get("value")
            .cloned()
            .ok_or(format!("operation on {path} without a value"))
    };
    let from = || {
        step["from"]
            .as_str()
            .ok_or(format!("operation on {path} without from"))
    };
    match step["op"].as_str().unwrap_or_default() {
        "add" => add(target, path, value()?),
        "remove" => remove(target, path).map(drop),
        "replace" => {
            *target
                .pointer_mut(path)
                .ok_or(format!("replace: {path} does not exist"))? = value()?;
            Ok(())
        }
        "move" => {
            let moved = remove(target, from()?)?;
            add(target, path, moved)
        }
        "copy" => {
            let from = from()?;
            let copied = target
                .pointer(from)
                .cloned()
                .ok_or(format!("copy: {from} does not exist"))?;
            add(target, path, copied)
        }
        "test" if target.pointer(path).unwrap_or(&Value::Null) == &value()? => Ok(()),
        "test" => Err(format!("testing value {path} failed")),
        other => Err(format!("unknown operation {other:?}")),
    }
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let Some((parent, last)) = path.rsplit_once('/') else {
        *target = value;
        return Ok(());
    };
    let last = last.replace("~1", "/").replace("~0", "~");
    match target.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.insert(last, value);
            Ok(())
        }
        Some(Value::Array(list)) if last == "-" => {
            list.push(value);
            Ok(())
        }
        Some(Value::Array(list)) => {
            let index: usize = last.parse().map_err(|_| format!("{path} is not an index"))?;
            if index > list.len() {
                return Err(format!("add: index {index} is out of range at {path}"));
            }
            list.insert(index, value);
            Ok(())
        }
        _ => Err(format!(
            "add operation does not apply: doc is missing path: {path}"
        )),
    }
}

fn remove(target: &mut Value, path: &str) -> Result<Value, String> {
    let missing = || format!("remove operation does not apply: doc is missing path: {path}");
    let (parent, last) = path.rsplit_once('/').ok_or_else(missing)?;
    let last = last.replace("~1", "/").replace("~0", "~");
    match target.pointer_mut(parent) {
        Some(Value::Object(map)) => map.remove(&last).ok_or_else(missing),
        Some(Value::Array(list)) => {
            let index = last
                .parse()
                .ok()
                .filter(|&index: &usize| index < list.len())
                .ok_or_else(missing)?;
            Ok(list.remove(index))
        }
        _ => Err(missing()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_replaces_lists_and_removes_nulls() {
        let mut target = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
        merge(
            &mut target,
            &json!({"a": {"b": null, "c": [3], "e": {"f": null, "g": 1}}}),
        );
        assert_eq!(target, json!({"a": {"c": [3], "e": {"g": 1}}, "d": 1}));
    }

    #[test]
    fn operations_follow_the_standard() {
        let mut target = json!({"a": [1, 3], "b": {"x/y": 1}});
        let patch = json!([
            {"op": "test", "path": "/b/x~1y", "value": 1}, {"op": "add", "path": "/a/1", "value": 2},
            {"op": "add", "path": "/a/-", "value": 4}, {"op": "remove", "path": "/b/x~1y"},
            {"op": "copy", "from": "/a/0", "path": "/b/z"}, {"op": "move", "from": "/b/z", "path": "/c"},
            {"op": "replace", "path": "/c", "value": 9},
        ]);
        operations(&mut target, &patch).unwrap();
        assert_eq!(target, json!({"a": [1, 2, 3, 4], "b": {}, "c": 9}));
        for bad in [
            json!([{"op": "remove", "path": "/none"}]),
            json!([{"op": "test", "path": "/c", "value": 1}]),
            json!([{"op": "add", "path": "/a/9", "value": 1}]),
            json!({}),
        ] {
            assert!(operations(&mut target, &bad).is_err(), "{bad}");
        }
    }
}
