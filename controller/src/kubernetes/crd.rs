//! The CustomResourceDefinition of `Rollout`, made from its words, so that the two cannot part.
//!
//! An API server takes *structural* schemas alone: one type a value, no alternatives of shapes, no references. What serde
//! and schemars say beyond that is brought into this form, or left out where it only repeats what reading does anyway.

use contract::rollout::{GROUP, KIND, PLURAL, RolloutSpec, RolloutStatus, VERSION};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// The whole object, for `kubectl apply -f -`.
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{PLURAL}.{GROUP}") },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": format!("{KIND}List"),
                "plural": PLURAL,
                "singular": "rollout",
                "shortNames": ["srn"],
                "categories": ["all"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": schema() },
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns(),
            }],
        },
    })
}

fn schema() -> Value {
    let mut spec = of::<RolloutSpec>();
    let mut status = of::<RolloutStatus>();
    structural(&mut spec);
    structural(&mut status);
    without_defaults(&mut status);
    json!({
        "description": "A service whose new versions Serin takes from canary to stable, or back.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": status,
        },
    })
}

/// What `kubectl get rollout` answers in one line.
fn columns() -> Value {
    let column = |name: &str, kind: &str, path: &str| json!({ "name": name, "type": kind, "jsonPath": path });
    json!([
        column("Phase", "string", ".status.phase"),
        column("Step", "string", ".status.step"),
        column("Weight", "string", ".status.weight"),
        column("Verdict", "string", ".status.verdict"),
        column("Reason", "string", ".status.reason"),
        column("Age", "date", ".metadata.creationTimestamp"),
    ])
}

fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
        s.transforms.clear();
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn structural(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for key in [
        "$schema",
        "title",
        "additionalProperties",
        "uniqueItems",
        "writeOnly",
    ] {
        map.remove(key);
    }
    one_of_words(map);
    one_shape(map);
    one_type(map);
    plain_number(map);
    // Other defaults would be written into every object, and stay there when a later version has better ones; a
    // validation rule reads these, though, and fails on what is absent.
    if !map.contains_key("enum") {
        map.remove("default");
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(structural);
    }
    if let Some(items) = map.get_mut("items") {
        structural(items);
    }
    require_keys(map);
}

/// By what a list tells its items apart every item must have; API servers refuse the definition otherwise.
fn require_keys(map: &mut Map<String, Value>) {
    if let Some(keys) = map.get("x-kubernetes-list-map-keys").cloned()
        && let Some(items) = map.get_mut("items")
    {
        items["required"] = keys;
    }
}

/// `oneOf` of documented words becomes an `enum`.
fn one_of_words(map: &mut Map<String, Value>) {
    let words = |s: &Value| {
        s.get("const")
            .cloned()
            .map(|w| vec![w])
            .or_else(|| s.get("enum")?.as_array().cloned())
    };
    let Some(Value::Array(variants)) = map.get("oneOf") else {
        return;
    };
    let Some(found) = variants.iter().map(words).collect::<Option<Vec<_>>>() else {
        return;
    };
    map.remove("oneOf");
    map.insert("type".into(), "string".into());
    map.insert("enum".into(), found.concat().into());
}

/// "This or null" becomes "this, nullable".
fn one_shape(map: &mut Map<String, Value>) {
    let is_null =
        |s: &Value| s.get("type").is_some_and(|t| t == "null") || s.get("const").is_some_and(Value::is_null);
    let Some(Value::Array(shapes)) = map.get("anyOf") else {
        return;
    };
    let mut others = shapes.iter().filter(|s| !is_null(s));
    let (Some(Value::Object(shape)), None) = (others.next().cloned(), others.next()) else {
        return;
    };
    map.remove("anyOf");
    for (key, value) in shape {
        map.entry(key).or_insert(value);
    }
    map.insert("nullable".into(), true.into());
    one_of_words(map);
}

fn one_type(map: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = map.get("type") else {
        return;
    };
    let kept: Vec<Value> = types.iter().filter(|t| *t != "null").cloned().collect();
    let nullable = kept.len() < types.len();
    if let [only] = &kept[..] {
        map.insert("type".into(), only.clone());
    }
    if nullable {
        map.insert("nullable".into(), true.into());
    }
}

/// Formats that an API server does not know are only warned about.
fn plain_number(map: &mut Map<String, Value>) {
    let known = match map.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16" | "int8" | "int16") => "int32",
        Some("uint32" | "uint64" | "uint") => "int64",
        _ => return,
    };
    map.insert("format".into(), known.into());
}

fn without_defaults(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove("default");
            map.values_mut().for_each(without_defaults);
        }
        Value::Array(list) => list.iter_mut().for_each(without_defaults),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every schema below this one, with its path.
    fn all(path: &str, schema: &Value, seen: &mut Vec<(String, Value)>) {
        seen.push((path.to_owned(), schema.clone()));
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            all(&format!("{path}.{name}"), inner, seen);
        }
        if !schema["items"].is_null() {
            all(&format!("{path}[]"), &schema["items"], seen);
        }
    }

    fn schemas() -> Vec<(String, Value)> {
        let mut seen = Vec::new();
        all("", &schema(), &mut seen);
        seen
    }

    #[test]
    fn the_schema_is_structural() {
        let known = [
            "type",
            "description",
            "properties",
            "items",
            "required",
            "enum",
            "format",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "pattern",
            "nullable",
            "default",
            "x-kubernetes-validations",
            "x-kubernetes-list-type",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-preserve-unknown-fields",
        ];
        let seen = schemas();
        assert!(seen.len() > 100, "{}", seen.len());
        for (path, schema) in &seen {
            let map = schema.as_object().unwrap();
            for key in map.keys() {
                assert!(known.contains(&key.as_str()), "{path} has {key}");
            }
            let is_typed = map.get("type").is_some_and(Value::is_string);
            assert!(
                is_typed || map.contains_key("x-kubernetes-preserve-unknown-fields"),
                "{path} has no type: {schema}"
            );
            assert!(
                map.get("type").is_none_or(|t| t != "array") || map.contains_key("items"),
                "{path} has no items"
            );
            let keys = &map.get("x-kubernetes-list-map-keys");
            assert!(
                keys.is_none_or(|keys| schema["items"]["required"] == *keys),
                "{path}: items may lack their key"
            );
        }
    }

    #[test]
    fn a_workload_is_a_deployment_unless_it_says_otherwise() {
        let seen = schemas();
        let kind = &seen
            .iter()
            .find(|(path, _)| path == ".spec.stable.kind")
            .unwrap()
            .1;
        assert_eq!(kind["default"], "Deployment");
        assert_eq!(kind["enum"], json!(["Deployment", "DaemonSet"]));
        let alpha = &seen
            .iter()
            .find(|(path, _)| path == ".spec.judgement.alpha")
            .unwrap()
            .1;
        assert_eq!(
            (&alpha["type"], &alpha["default"]),
            (&json!("number"), &Value::Null)
        );
        let status = seen.iter().filter(|(path, _)| path.starts_with(".status"));
        assert!(status.clone().count() > 30 && status.clone().all(|(_, s)| s["default"].is_null()));
    }
}
