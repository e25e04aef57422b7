//! The JSONPath that printer columns use: fields, indices and a filter by equality.

use serde_json::Value;

/// The first value at the path; none where the path leads nowhere.
pub(super) fn first<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut rest = path;
    let mut found = object;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, after) = inner.split_once(']')?;
            found = bracket(found, step)?;
            rest = after;
        } else {
            let (name, after) = field(rest.strip_prefix('.').unwrap_or(rest));
            if !name.is_empty() {
                found = found.get(name)?;
            }
            rest = after;
        }
    }
    Some(found)
}

/// The next field's name, in which a dot may be escaped, and what follows.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '\\' => name.extend(letters.next().map(|(_, next)| next)),
            '.' | '[' => return (name, &text[index..]),
            other => name.push(other),
        }
    }
    (name, "")
}

fn bracket<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    if let Ok(index) = step.parse::<usize>() {
        return value.get(index);
    }
    if let Some(name) = step.strip_prefix('\'').and_then(|name| name.strip_suffix('\'')) {
        return value.get(name.replace("\\.", "."));
    }
    let (field, wanted) = step.strip_prefix("?(@.")?.strip_suffix(')')?.split_once("==")?;
    let wanted = wanted.trim().trim_matches(['"', '\'']);
    value
        .as_array()?
        .iter()
        .find(|item| first(item, field.trim()).and_then(Value::as_str) == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_through_fields_filters_and_indices() {
        let object = json!({"status": {"phase": "Idle", "conditions": [{"type": "A", "status": "x"}, {"type": "Ready", "status": "True"}]},
            "metadata": {"annotations": {"serin.dev/a": "1"}}});
        for (path, wanted) in [
            (".status.phase", "Idle"),
            (".status.conditions[?(@.type==\"Ready\")].status", "True"),
            (".status.conditions[0].status", "x"),
            (".metadata.annotations.serin\\.dev/a", "1"),
            (".metadata.annotations['serin.dev/a']", "1"),
        ] {
            assert_eq!(first(&object, path), Some(&json!(wanted)), "{path}");
        }
        for none in [
            ".none",
            ".status.conditions[9]",
            ".status[",
            ".status.conditions[?(@.type==\"No\")].status",
        ] {
            assert_eq!(first(&object, none), None, "{none}");
        }
    }
}
