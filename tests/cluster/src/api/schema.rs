//! A definition's schema: what is unknown goes, what is absent gets its default, what is wrong is refused.

use super::cel::{self, Names};
use super::failure::Cause;
use regex::Regex;
use serde_json::Value;

/// Removes what the schema does not know; answers the paths of it.
pub(super) fn prune(schema: &Value, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    pruned(schema, value, "", true, &mut unknown);
    unknown
}

fn pruned(schema: &Value, value: &mut Value, path: &str, root: bool, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let keeps = schema["x-kubernetes-preserve-unknown-fields"] == true
                || schema["x-kubernetes-int-or-string"] == true;
            let others = &schema["additionalProperties"];
            fields.retain(|name, below| {
                let here = joined(path, name);
                if let Some(known) = schema["properties"]
                    .get(name)
                    .filter(|_| !(root && name == "metadata"))
                {
                    pruned(known, below, &here, false, unknown);
                } else if others.is_object() {
                    pruned(others, below, &here, false, unknown);
                } else if !(keeps || others == true || root && OWN.contains(&name.as_str())) {
                    unknown.push(here);
                    return false;
                }
                true
            });
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                pruned(
                    &schema["items"],
                    item,
                    &format!("{path}[{index}]"),
                    false,
                    unknown,
                );
            }
        }
        _ => (),
    }
}

/// Fields that every object has, whatever its schema says.
const OWN: &[&str] = &["apiVersion", "kind", "metadata"];

/// Fills defaults.
pub(super) fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, known) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = known
                    .get("default")
                    .filter(|_| fields.get(name).is_none_or(Value::is_null))
                {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, below) in fields.iter_mut() {
                let known = schema["properties"]
                    .get(name)
                    .unwrap_or(&schema["additionalProperties"]);
                fill(known, below);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(&schema["items"], item)),
        _ => (),
    }
}

/// All that is wrong with a value.
pub(super) fn check(schema: &Value, value: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    checked(schema, value, old, "", &mut causes);
    causes
}

fn checked(schema: &Value, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if !typed(schema, value) {
        let found = type_of(value);
        let wanted = schema["type"].as_str().unwrap_or_default();
        causes.push(Cause::new(
            "FieldValueTypeInvalid",
            path,
            format!("Invalid value: {found:?}: {path} in body must be of type {wanted}: {found:?}"),
        ));
        return;
    }
    chosen(schema, value, path, causes);
    match value {
        Value::Number(_) => numbers(schema, value, path, causes),
        Value::String(text) => strings(schema, text, path, causes),
        Value::Array(items) => list(schema, items, path, causes),
        Value::Object(_) => object(schema, value, old, path, causes),
        _ => (),
    }
    rules(schema, value, old, path, causes);
}

fn typed(schema: &Value, value: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_i64() || value.is_u64() || value.is_string();
    }
    match schema["type"].as_str() {
        None => true,
        Some("integer") => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|value| value.fract() == 0.0)
        }
        Some(wanted) => wanted == type_of(value) || wanted == "number" && value.is_number(),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn chosen(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(choices) = schema["enum"]
        .as_array()
        .filter(|choices| !choices.contains(value))
    else {
        return;
    };
    let all: Vec<String> = choices.iter().map(Value::to_string).collect();
    causes.push(Cause::new(
        "FieldValueNotSupported",
        path,
        format!("Unsupported value: {value}: supported values: {}", all.join(", ")),
    ));
}

fn numbers(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(number) = value.as_f64() else { return };
    let mut refuse = |bound: &Value, words: &str| {
        causes.push(Cause::invalid(
            path,
            value,
            &format!("{path} in body should be {words} {bound}"),
        ))
    };
    if let Some(least) = schema["minimum"].as_f64() {
        let strict = schema["exclusiveMinimum"] == true;
        if number < least || strict && number == least {
            refuse(
                &schema["minimum"],
                if strict {
                    "greater than"
                } else {
                    "greater than or equal to"
                },
            );
        }
    }
    if let Some(most) = schema["maximum"].as_f64() {
        let strict = schema["exclusiveMaximum"] == true;
        if number > most || strict && number == most {
            refuse(
                &schema["maximum"],
                if strict {
                    "less than"
                } else {
                    "less than or equal to"
                },
            );
        }
    }
}

fn strings(schema: &Value, text: &str, path: &str, causes: &mut Vec<Cause>) {
    let length = text.chars().count() as u64;
    let value = Value::from(text);
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        causes.push(Cause::new(
            "FieldValueTooLong",
            path,
            format!("Too long: may not be more than {most} bytes"),
        ));
    }
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        causes.push(Cause::invalid(
            path,
            &value,
            &format!("{path} in body should be at least {least} chars long"),
        ));
    }
    let pattern = schema["pattern"].as_str();
    if let Some(pattern) =
        pattern.filter(|pattern| Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text)))
    {
        causes.push(Cause::invalid(
            path,
            &value,
            &format!("{path} in body should match '{pattern}'"),
        ));
    }
}

fn list(schema: &Value, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    if let Some(most) = schema["maxItems"]
        .as_u64()
        .filter(|most| items.len() as u64 > *most)
    {
        causes.push(Cause::new(
            "FieldValueTooMany",
            path,
            format!("Too many: {}: must have at most {most} items", items.len()),
        ));
    }
    if let Some(least) = schema["minItems"]
        .as_u64()
        .filter(|least| (items.len() as u64) < *least)
    {
        causes.push(Cause::invalid(
            path,
            &items.len().into(),
            &format!("{path} in body should have at least {least} items"),
        ));
    }
    for (index, item) in items.iter().enumerate() {
        checked(&schema["items"], item, None, &format!("{path}[{index}]"), causes);
    }
}

fn object(schema: &Value, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    let Some(fields) = value.as_object() else { return };
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !fields.contains_key(name) {
            causes.push(Cause::required(joined(path, name), ""));
        }
    }
    if let Some(most) = schema["maxProperties"]
        .as_u64()
        .filter(|most| fields.len() as u64 > *most)
    {
        causes.push(Cause::new(
            "FieldValueTooMany",
            path,
            format!("Too many: {}: must have at most {most} items", fields.len()),
        ));
    }
    for (name, below) in fields {
        let known = schema["properties"]
            .get(name)
            .unwrap_or(&schema["additionalProperties"]);
        checked(
            known,
            below,
            old.and_then(|old| old.get(name)),
            &joined(path, name),
            causes,
        );
    }
}

/// `x-kubernetes-validations`. A rule about the old value holds where there is none.
fn rules(schema: &Value, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = rule["rule"].as_str().unwrap_or_default();
        if text.contains("oldSelf") && old.is_none() {
            continue;
        }
        let mut names = Names::from([("self".to_owned(), value.clone())]);
        names.extend(old.map(|old| ("oldSelf".to_owned(), old.clone())));
        match cel::holds(text, &names) {
            Ok(true) => (),
            Ok(false) => causes.push(Cause::invalid(path, value, &words(rule, text, &names))),
            Err(fault) => causes.push(Cause::invalid(path, value, &fault)),
        }
    }
}

fn words(rule: &Value, text: &str, names: &Names) -> String {
    let made = rule["messageExpression"]
        .as_str()
        .and_then(|expression| cel::value(expression, names).ok());
    let made = made.and_then(|message| message.as_str().map(str::to_owned));
    made.or_else(|| rule["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| format!("failed rule: {text}"))
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.into()
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_pruned_filled_and_checked() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["service"], "properties": {
            "service": {"type": "string", "maxLength": 4, "pattern": "^[a-z]+$"}, "weight": {"type": "integer", "minimum": 0, "maximum": 100, "default": 5},
            "mode": {"enum": ["a", "b"]}}, "x-kubernetes-validations": [{"rule": "self.weight != 7", "message": "not seven"}]}}});
        let mut value = json!({"metadata": {"name": "a"}, "spec": {"service": "web", "odd": 1}});
        assert_eq!(prune(&schema, &mut value), ["spec.odd"]);
        fill(&schema, &mut value);
        assert_eq!(value["spec"], json!({"service": "web", "weight": 5}));
        assert!(check(&schema, &value, None).is_empty());
        for (spec, wanted) in [
            (json!({"weight": 1}), "Required value"),
            (
                json!({"service": "x", "weight": 101}),
                "less than or equal to 100",
            ),
            (json!({"service": "toolong", "weight": 1}), "Too long"),
            (json!({"service": "A", "weight": 1}), "should match"),
            (json!({"service": "a", "weight": "1"}), "must be of type integer"),
            (json!({"service": "a", "weight": 7}), "not seven"),
            (
                json!({"service": "a", "weight": 1, "mode": "c"}),
                "supported values: \"a\", \"b\"",
            ),
        ] {
            let causes = check(&schema, &json!({"spec": spec}), None);
            assert!(
                causes.len() == 1 && causes[0].message.contains(wanted),
                "{spec}: {causes:?}"
            );
        }
    }
}
