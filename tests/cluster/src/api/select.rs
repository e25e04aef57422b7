//! Label and field selectors.

use super::failure::Failure;
use serde_json::Value;

/// What a list or watch asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Selector, Failure> {
        let labels = parts(labels)
            .iter()
            .map(|part| label(part))
            .collect::<Result<_, _>>()?;
        let fields = parts(fields)
            .iter()
            .map(|part| field(part))
            .collect::<Result<_, _>>()?;
        Ok(Selector { labels, fields })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels
            .iter()
            .all(|wanted| wanted.test.holds(labels.get(&wanted.key).and_then(Value::as_str)))
            && self
                .fields
                .iter()
                .all(|wanted| wanted.test.holds(Some(&at(object, &wanted.key))))
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|other| other != value)),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
        }
    }
}

/// Splits at commas outside parentheses.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => (),
        }
        match (letter, parts.last_mut()) {
            (',', _) if depth == 0 => parts.push(String::new()),
            (_, Some(last)) => last.push(letter),
            _ => (),
        }
    }
    parts
        .into_iter()
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

fn label(part: &str) -> Result<Requirement, Failure> {
    if let Some((key, values)) = part.split_once(" notin ") {
        return Ok(Requirement {
            key: key.trim().into(),
            test: Test::NotIn(set(values)),
        });
    }
    if let Some((key, values)) = part.split_once(" in ") {
        return Ok(Requirement {
            key: key.trim().into(),
            test: Test::In(set(values)),
        });
    }
    if let Some(compared) = comparison(part) {
        return Ok(compared);
    }
    let (key, test) = match part.strip_prefix('!') {
        Some(key) => (key.trim(), Test::Absent),
        None => (part, Test::Exists),
    };
    if key.contains(char::is_whitespace) || key.contains('(') {
        return Err(Failure::bad(format!(
            "unable to parse requirement: {part:?} is not a valid label selector"
        )));
    }
    Ok(Requirement {
        key: key.into(),
        test,
    })
}

fn field(part: &str) -> Result<Requirement, Failure> {
    comparison(part)
        .ok_or_else(|| Failure::bad(format!("invalid field selector: {part:?}; can't understand it")))
}

fn comparison(part: &str) -> Option<Requirement> {
    let (key, value, equal) = if let Some((key, value)) = part.split_once("!=") {
        (key, value, false)
    } else if let Some((key, value)) = part.split_once("==") {
        (key, value, true)
    } else {
        let (key, value) = part.split_once('=')?;
        (key, value, true)
    };
    let values = vec![value.trim().to_owned()];
    let test = if equal {
        Test::In(values)
    } else {
        Test::NotIn(values)
    };
    Some(Requirement {
        key: key.trim().into(),
        test,
    })
}

fn set(text: &str) -> Vec<String> {
    let inner = text.trim().trim_start_matches('(').trim_end_matches(')');
    inner.split(',').map(|value| value.trim().to_owned()).collect()
}

/// A field by its dotted path; absent fields are empty, as selectors see them.
fn at(object: &Value, path: &str) -> String {
    let found = path.split('.').fold(object, |value, field| &value[field]);
    match found {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(labels: &str, fields: &str) -> bool {
        let object = json!({"metadata": {"name": "a", "labels": {"app": "web", "track": "canary"}}, "spec": {"nodeName": "n"}});
        Selector::parse(labels, fields).unwrap().matches(&object)
    }

    #[test]
    fn labels_by_equality_sets_and_presence() {
        for yes in [
            "",
            "app=web",
            "app==web,track!=stable",
            "app in (web, db)",
            "track notin (stable)",
            "app",
            "!gone",
            "gone!=x",
        ] {
            assert!(matches(yes, ""), "{yes}");
        }
        for no in [
            "app=db",
            "app!=web",
            "app notin (web,db)",
            "!app",
            "gone",
            "gone in (x)",
        ] {
            assert!(!matches(no, ""), "{no}");
        }
        assert!(Selector::parse("app in web db", "").is_ok());
        assert!(Selector::parse("two words", "").is_err());
    }

    #[test]
    fn fields_by_path() {
        assert!(matches("", "metadata.name=a,spec.nodeName=n"));
        assert!(matches("", "spec.nodeName!=,status.phase="));
        assert!(!matches("", "metadata.name=b"));
        assert!(Selector::parse("", "metadata.name").is_err());
    }
}
