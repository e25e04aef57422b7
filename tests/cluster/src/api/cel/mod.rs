//! The Common Expression Language, as far as schema rules and admission policies of ours use it: operators, macros
//! over lists and maps, strings, optional fields, and messages as maps. Numbers are JSON numbers; a duration is its seconds.

mod eval;
mod parse;

use serde_json::Value;
use std::collections::BTreeMap;

/// The names that an expression may use.
pub(super) type Names = BTreeMap<String, Value>;

/// The value of an expression.
pub(super) fn value(text: &str, names: &Names) -> Result<Value, String> {
    let tree = parse::parse(text).map_err(|fault| format!("{text:?}: {fault}"))?;
    eval::eval(&tree, names).map_err(|fault| format!("expression {text:?} resulted in error: {fault}"))
}

/// Whether an expression holds.
pub(super) fn holds(text: &str, names: &Names) -> Result<bool, String> {
    value(text, names)?
        .as_bool()
        .ok_or_else(|| format!("expression {text:?} is not a condition"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names() -> Names {
        let object = json!({"metadata": {"name": "web", "annotations": {"serin.dev/canary-weight": "50"}}, "spec": {"n": 3, "list": [1, 2, 3]}});
        BTreeMap::from([
            ("object".to_owned(), object),
            ("oldObject".to_owned(), Value::Null),
        ])
    }

    #[test]
    fn conditions_hold_or_not() {
        for yes in [
            "object.spec.n == 3 && object.spec.n + 2 * 2 > 6 || false",
            "!has(object.spec.none)",
            "has(object.spec.n) ? true : 1 / 0 == 1",
            "object.spec.list.all(x, x > 0) && object.spec.list.exists(x, x == 2)",
            "size(object.spec.list) == 3",
            "'web' in ['web', \"db\"]",
            "object.metadata.annotations['serin.dev/canary-weight'].matches('^[0-9]+$')",
            "int(object.metadata.annotations['serin.dev/canary-weight']) <= 100",
            "oldObject == null || oldObject.spec.n == 1",
            "object.metadata.?labels[?'x'].orValue('none') == 'none'",
            "object.spec.list.filter(x, x != 2).map(x, x * 2) == [2, 6]",
            "duration('90s') < duration('2m')",
            "'serin.dev/canary-weight' in object.metadata.annotations",
            "object.metadata.name.startsWith('w') && object.metadata.name.size() == 3",
        ] {
            assert_eq!(holds(yes, &names()), Ok(true), "{yes}");
        }
        for fault in [
            "object.spec.none > 1",
            "1 +",
            "nobody",
            "object.spec.n",
            "1 / 0 == 1",
        ] {
            assert!(holds(fault, &names()).is_err(), "{fault}");
        }
    }

    #[test]
    fn messages_are_maps() {
        let made = value(
            "Object{metadata: Object.metadata{annotations: {'x/changed-by': object.metadata.name}}}",
            &names(),
        );
        assert_eq!(
            made,
            Ok(json!({"metadata": {"annotations": {"x/changed-by": "web"}}}))
        );
        let patch = value(
            "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('x/y'), value: 1}]",
            &names(),
        );
        assert_eq!(patch, Ok(json!([{"op": "add", "path": "/a/x~1y", "value": 1}])));
    }
}
