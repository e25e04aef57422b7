//! managedFields: who owns which field, as sets of paths.

use super::ask::Ask;
use super::clock;
use super::kinds::Kind;
use super::shape::{Shape, Type};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A path in managedFields' own notation: `f:field`, `k:{"key":"value"}`, `v:"scalar"`.
pub(super) type Path = Vec<String>;

/// The members of an object with their values; a member that only holds others has none.
pub(super) type Members<'a> = BTreeMap<Path, Option<&'a Value>>;

/// One manager's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: String,
    pub(super) version: String,
    pub(super) sub: String,
    pub(super) time: String,
    pub(super) paths: BTreeSet<Path>,
}

/// Metadata that nobody owns.
const UNOWNED: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "selfLink",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// Records that the caller changed what differs between the old object and the new. An apply has said so already.
pub(super) fn updated(ask: &Ask, old: Option<&Value>, new: &mut Value) {
    if ask.applies() {
        return;
    }
    let none = Value::Null;
    let (before, after) = (members(&ask.kind, old.unwrap_or(&none)), members(&ask.kind, new));
    let changed: BTreeSet<Path> = after
        .iter()
        .filter(|(path, value)| before.get(*path) != Some(value))
        .map(|(path, _)| path.clone())
        .collect();
    let removed: BTreeSet<Path> = before
        .keys()
        .filter(|path| !after.contains_key(*path))
        .cloned()
        .collect();
    if changed.is_empty() && removed.is_empty() {
        return;
    }
    let mut entries = read(new);
    for entry in &mut entries {
        entry
            .paths
            .retain(|path| !changed.contains(path) && !removed.contains(path));
    }
    let own = Entry::of(ask, "Update");
    match entries.iter_mut().find(|entry| entry.same(&own)) {
        Some(entry) => {
            entry.time = own.time;
            entry.paths.extend(changed);
        }
        None => entries.push(Entry {
            paths: changed,
            ..own
        }),
    }
    write(new, &entries);
}

impl Entry {
    /// The caller's entry, empty.
    pub(super) fn of(ask: &Ask, operation: &str) -> Entry {
        Entry {
            manager: ask.manager(),
            operation: operation.into(),
            version: ask.kind.api_version(),
            sub: ask.sub.clone(),
            time: clock::now(),
            paths: BTreeSet::new(),
        }
    }

    /// Whether both are of one manager doing the same.
    pub(super) fn same(&self, other: &Entry) -> bool {
        (&self.manager, &self.operation, &self.sub) == (&other.manager, &other.operation, &other.sub)
    }
}

/// The members of an object, those aside that nobody can own.
pub(super) fn members<'a>(kind: &'a Kind, object: &'a Value) -> Members<'a> {
    let mut found = Members::new();
    let Some(fields) = object.as_object() else {
        return found;
    };
    for (name, value) in fields
        .iter()
        .filter(|(name, _)| *name != "apiVersion" && *name != "kind")
    {
        let mut path = vec![format!("f:{name}")];
        walk(Type::root(kind).field(name), value, &mut path, &mut found);
    }
    found.retain(|path, _| {
        path.len() != 2 || path[0] != "f:metadata" || !UNOWNED.iter().any(|name| path[1][2..] == **name)
    });
    found.retain(|path, _| path.len() < 2 || path[0] != "f:metadata" || path[1] != "f:managedFields");
    found
}

fn walk<'a>(kind: Type<'a>, value: &'a Value, path: &mut Path, found: &mut Members<'a>) {
    let shape = kind.shape(value);
    match (shape, value) {
        (Shape::Struct | Shape::Map, Value::Object(fields)) if !fields.is_empty() => {
            for (name, value) in fields {
                path.push(format!("f:{name}"));
                walk(kind.field(name), value, path, found);
                path.pop();
            }
        }
        (Shape::Keyed(keys), Value::Array(items)) if !items.is_empty() => {
            for item in items {
                path.push(format!("k:{}", keys.of(item)));
                found.insert(path.clone(), None);
                walk(kind.item(), item, path, found);
                path.pop();
            }
        }
        (Shape::Set, Value::Array(items)) if !items.is_empty() => {
            for item in items {
                path.push(format!("v:{item}"));
                found.insert(path.clone(), None);
                path.pop();
            }
        }
        _ => {
            found.insert(path.clone(), Some(value));
        }
    }
}

/// The entries in an object's metadata. What is unreadable is left out.
pub(super) fn read(object: &Value) -> Vec<Entry> {
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(entry)
        .collect()
}

/// Writes the entries that still own something.
pub(super) fn write(object: &mut Value, entries: &[Entry]) {
    let shown: Vec<Value> = entries
        .iter()
        .filter(|entry| !entry.paths.is_empty())
        .map(shown)
        .collect();
    if shown.is_empty() {
        super::write::drop_field(&mut object["metadata"], "managedFields");
    } else {
        object["metadata"]["managedFields"] = shown.into();
    }
}

/// Takes the times out, so that books can be compared.
pub(super) fn timeless(metadata: &mut Value) {
    for entry in metadata["managedFields"].as_array_mut().into_iter().flatten() {
        super::write::drop_field(entry, "time");
    }
}

fn entry(value: &Value) -> Entry {
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let mut paths = BTreeSet::new();
    flat(&value["fieldsV1"], &mut Vec::new(), &mut paths);
    Entry {
        manager: text("manager"),
        operation: text("operation"),
        version: text("apiVersion"),
        sub: text("subresource"),
        time: text("time"),
        paths,
    }
}

fn flat(tree: &Value, path: &mut Path, paths: &mut BTreeSet<Path>) {
    for (step, below) in tree.as_object().into_iter().flatten() {
        if step == "." {
            paths.insert(path.clone());
            continue;
        }
        path.push(step.clone());
        if below.as_object().is_none_or(Map::is_empty) {
            paths.insert(path.clone());
        } else {
            flat(below, path, paths);
        }
        path.pop();
    }
}

fn shown(entry: &Entry) -> Value {
    let mut tree = json!({});
    for path in &entry.paths {
        let end = path.iter().fold(&mut tree, |tree, step| {
            if !tree.is_object() {
                *tree = json!({});
            }
            &mut tree[step]
        });
        if end.is_null() {
            *end = json!({});
        }
    }
    for path in &entry.paths {
        let end = path.iter().fold(&mut tree, |tree, step| &mut tree[step]);
        if end.as_object().is_some_and(|below| !below.is_empty()) {
            end["."] = json!({});
        }
    }
    let mut value = json!({
        "manager": entry.manager, "operation": entry.operation, "apiVersion": entry.version, "time": entry.time,
        "fieldsType": "FieldsV1", "fieldsV1": tree,
    });
    if !entry.sub.is_empty() {
        value["subresource"] = entry.sub.clone().into();
    }
    value
}

/// A path as messages show it: `.spec.containers[name="app"].image`.
pub(super) fn dotted(path: &Path) -> String {
    path.iter().map(|step| dotted_step(step)).collect()
}

fn dotted_step(step: &str) -> String {
    if let Some(name) = step.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(value) = step.strip_prefix("v:") {
        return format!("[={value}]");
    }
    let key: Map<String, Value> = step
        .strip_prefix("k:")
        .and_then(|key| serde_json::from_str(key).ok())
        .unwrap_or_default();
    let parts: Vec<String> = key
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("[{}]", parts.join(","))
}
