//! Server-side apply: an applier owns what it sent, takes nothing from others unless forced, and what it no longer sends goes.

use super::ask::Ask;
use super::failure::Failure;
use super::fields::{self, Entry, Members, Path};
use super::shape::{Keys, Shape, Type};
use super::store::Store;
use super::write::{Written, created, drop_field, revised};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn apply(store: &mut Store, ask: &Ask) -> Result<Written, Failure> {
    let mut patch = checked(ask)?;
    let mut own = Entry::of(ask, "Apply");
    own.paths = fields::members(&ask.kind, &patch)
        .into_keys()
        .filter(|path| writable(ask, path))
        .collect();
    let Some(old) = store.get(&ask.kind.shelf(), &ask.key()?) else {
        fields::write(&mut patch, &[own]);
        return created(store, ask, patch);
    };
    let mut entries = fields::read(&old);
    let clashes = clashes(ask, &old, &patch, &own, &entries);
    if !clashes.is_empty() && !ask.query.is("force") {
        return Err(refused(ask, &clashes));
    }
    for (entry, path) in clashes {
        entries
            .iter_mut()
            .filter(|other| other.same(&entry))
            .for_each(|other| {
                other.paths.remove(&path);
            });
    }
    let previous = entries
        .iter()
        .position(|entry| entry.same(&own))
        .map(|index| entries.remove(index));
    let mut new = (*old).clone();
    merge(Type::root(&ask.kind), &mut new, &patch);
    for path in dropped(previous, &own, &entries) {
        remove(Type::root(&ask.kind), &mut new, &path);
    }
    entries.insert(0, own);
    fields::write(&mut new, &entries);
    revised(store, ask, &old, new)
}

fn checked(ask: &Ask) -> Result<Value, Failure> {
    if ask.query.get("fieldManager").is_empty() {
        let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
        return Err(Failure::new(422, "Invalid", message));
    }
    let text = String::from_utf8_lossy(&ask.body);
    let mut patch: Value = serde_saphyr::from_str(&text)
        .map_err(|fault| Failure::bad(format!("error decoding YAML: {fault}")))?;
    if patch["metadata"]["managedFields"]
        .as_array()
        .is_some_and(|entries| !entries.is_empty())
    {
        return Err(Failure::bad("metadata.managedFields must be nil"));
    }
    let kind = &ask.kind;
    for (field, wanted) in [("apiVersion", kind.api_version()), ("kind", kind.kind.clone())] {
        if patch[field] != wanted {
            return Err(Failure::bad(format!(
                "{field} of an applied object must be {wanted:?}, not {}",
                patch[field]
            )));
        }
    }
    if patch["metadata"].is_null() {
        patch["metadata"] = json!({});
    }
    patch["metadata"]["name"] = ask.name()?.into();
    drop_field(&mut patch["metadata"], "managedFields");
    Ok(patch)
}

/// Whether the endpoint writes the field at all; what it ignores it does not own.
fn writable(ask: &Ask, path: &Path) -> bool {
    let status = path.first().is_some_and(|step| step == "f:status");
    if ask.sub == "status" {
        status
    } else {
        !(status && ask.kind.status)
    }
}

/// Fields that others own with another value.
fn clashes(ask: &Ask, old: &Value, patch: &Value, own: &Entry, entries: &[Entry]) -> Vec<(Entry, Path)> {
    let live = fields::members(&ask.kind, old);
    let wanted = fields::members(&ask.kind, patch);
    let differs = |path: &&Path| differs(&live, &wanted, path);
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.same(own)) {
        let paths = own.paths.intersection(&entry.paths).filter(differs);
        found.extend(paths.map(|path| {
            (
                Entry {
                    paths: BTreeSet::new(),
                    ..entry.clone()
                },
                path.clone(),
            )
        }));
    }
    found
}

fn differs(live: &Members, wanted: &Members, path: &Path) -> bool {
    live.get(path) != wanted.get(path)
}

fn refused(ask: &Ask, clashes: &[(Entry, Path)]) -> Failure {
    let causes: Vec<Value> = clashes
        .iter()
        .map(|(entry, path)| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {}", manager(entry)), "field": fields::dotted(path)})
        })
        .collect();
    let message = match clashes {
        [(entry, path)] => format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            manager(entry),
            fields::dotted(path)
        ),
        many => format!("Apply failed with {} conflicts: {}", many.len(), grouped(many)),
    };
    let mut failure =
        Failure::new(409, "Conflict", message).about(&ask.kind, ask.name.as_deref().unwrap_or_default());
    failure.details["causes"] = causes.into();
    failure
}

fn grouped(clashes: &[(Entry, Path)]) -> String {
    let mut by_manager: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (entry, path) in clashes {
        by_manager
            .entry(manager(entry))
            .or_default()
            .push(format!("- {}", fields::dotted(path)));
    }
    let lines = by_manager
        .iter()
        .map(|(manager, paths)| format!("conflicts with {manager}:\n{}", paths.join("\n")));
    lines.collect::<Vec<_>>().join("\n")
}

fn manager(entry: &Entry) -> String {
    let mut text = format!("{:?}", entry.manager);
    if !entry.sub.is_empty() {
        text.push_str(&format!(" with subresource {:?}", entry.sub));
    }
    if entry.operation == "Update" {
        text.push_str(&format!(" using {}", entry.version));
    }
    text
}

/// What the applier owned, no longer sends, and nobody else owns. An item that goes takes its fields along.
fn dropped(previous: Option<Entry>, own: &Entry, others: &[Entry]) -> Vec<Path> {
    let mut paths: Vec<Path> = previous.into_iter().flat_map(|entry| entry.paths).collect();
    paths.retain(|path| !own.paths.contains(path) && !others.iter().any(|other| holds(other, path)));
    let whole: Vec<Path> = paths
        .iter()
        .filter(|path| path.last().is_some_and(|step| !step.starts_with("f:")))
        .cloned()
        .collect();
    paths.retain(|path| {
        !whole
            .iter()
            .any(|item| path.len() > item.len() && path.starts_with(item))
    });
    paths
}

/// Whether the entry owns the path or anything below it.
fn holds(entry: &Entry, path: &Path) -> bool {
    entry
        .paths
        .range(path.clone()..)
        .next()
        .is_some_and(|found| found.starts_with(path))
}

/// Lays what was sent over what is there.
fn merge<'a>(kind: Type<'a>, target: &mut Value, patch: &'a Value) {
    match (kind.shape(patch), patch) {
        (Shape::Struct | Shape::Map, Value::Object(fields)) => {
            if !target.is_object() {
                *target = json!({});
            }
            for (name, value) in fields {
                merge(kind.field(name), &mut target[name], value);
            }
        }
        (Shape::Keyed(keys), Value::Array(items)) => merge_items(kind, keys, target, items),
        (Shape::Set, Value::Array(items)) if target.is_array() => {
            let Some(known) = target.as_array_mut() else {
                return;
            };
            for item in items {
                if !known.contains(item) {
                    known.push(item.clone());
                }
            }
        }
        _ => target.clone_from(patch),
    }
}

/// Items that both have keep their place among those that only the target has; with none such, the order is the sender's.
fn merge_items<'a>(kind: Type<'a>, keys: Keys<'a>, target: &mut Value, items: &'a [Value]) {
    let mut known: Vec<Value> = target.as_array().cloned().unwrap_or_default();
    let mut sent = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let key = keys.of(item);
        let place = known.iter().position(|other| keys.of(other) == key);
        let place = place.unwrap_or_else(|| {
            known.push(json!({}));
            known.len() - 1
        });
        merge(kind.item(), &mut known[place], item);
        sent.insert(key, index);
    }
    if known.iter().all(|item| sent.contains_key(&keys.of(item))) {
        known.sort_by_key(|item| sent.get(&keys.of(item)).copied());
    }
    *target = known.into();
}

/// Removes one member, and the map that it leaves empty.
fn remove<'a>(kind: Type<'a>, target: &mut Value, path: &'a [String]) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    if let Some(name) = step.strip_prefix("f:") {
        let below = kind.field(name);
        let Some(found) = target.get_mut(name) else { return };
        remove(below, found, rest);
        if rest.is_empty() || found == &json!({}) || found == &json!([]) {
            drop_field(target, name);
        }
        return;
    }
    let shape = kind.shape(target);
    let Some(items) = target.as_array_mut() else {
        return;
    };
    let matches = |item: &Value| match shape {
        Shape::Keyed(keys) => format!("k:{}", keys.of(item)) == *step,
        _ => format!("v:{item}") == *step,
    };
    if rest.is_empty() {
        items.retain(|item| !matches(item));
    } else if let Some(item) = items.iter_mut().find(|item| matches(item)) {
        remove(kind.item(), item, rest);
    }
}
