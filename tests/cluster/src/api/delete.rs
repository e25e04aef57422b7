//! Deleting: preconditions, finalizers, graceful pods, and what goes with an object.

use super::ask::Ask;
use super::failure::Failure;
use super::kinds::{Kind, Resource};
use super::store::{Key, Store};
use super::write::present;
use super::{clock, effects};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the caller wants of a deletion.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    grace: Option<i64>,
    dependents: Dependents,
    uid: Option<String>,
    revision: Option<String>,
    dry: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dependents {
    Background,
    Foreground,
    Orphan,
}

impl Wish {
    /// From the body (DeleteOptions) and the parameters.
    pub(super) fn parse(ask: &Ask) -> Result<Wish, Failure> {
        let options = if ask.body.is_empty() {
            Value::Null
        } else {
            ask.json()?
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let policy = options["propagationPolicy"]
            .as_str()
            .unwrap_or(ask.query.get("propagationPolicy"));
        let asked = ask
            .query
            .number("gracePeriodSeconds")?
            .and_then(|seconds| i64::try_from(seconds).ok());
        Ok(Wish {
            grace: options["gracePeriodSeconds"].as_i64().or(asked),
            dependents: match policy {
                "Orphan" => Dependents::Orphan,
                "Foreground" => Dependents::Foreground,
                _ => Dependents::Background,
            },
            uid: text(&options["preconditions"]["uid"]),
            revision: text(&options["preconditions"]["resourceVersion"]),
            dry: ask.dry() || options["dryRun"].as_array().is_some_and(|all| !all.is_empty()),
        })
    }
}

/// Deletes one object; answers the object where it stays for a while, else a Status.
pub(super) fn delete(store: &mut Store, ask: &Ask) -> Result<(u16, Arc<Value>), Failure> {
    let wish = Wish::parse(ask)?;
    let object = present(store, ask)?;
    one(store, &ask.kind, &object, &wish)
}

/// Deletes all the given objects.
pub(super) fn collection(store: &mut Store, ask: &Ask, objects: &[Arc<Value>]) -> Result<(), Failure> {
    let wish = Wish::parse(ask)?;
    objects
        .iter()
        .try_for_each(|object| one(store, &ask.kind, object, &wish).map(drop))
}

fn one(
    store: &mut Store,
    kind: &Kind,
    object: &Arc<Value>,
    wish: &Wish,
) -> Result<(u16, Arc<Value>), Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    precondition(kind, &name, object, wish)?;
    if wish.dry {
        return Ok((200, done(kind, object)));
    }
    let marked = marked(kind, object, wish);
    if !kind.is("", "namespaces") && !stays(store, kind, &marked) {
        gone(store, kind, &marked, wish.dependents == Dependents::Orphan);
        return Ok((200, done(kind, object)));
    }
    let stored = if marked == **object {
        object.clone()
    } else {
        store.put(&kind.shelf(), key(&marked), marked)
    };
    if kind.is("", "namespaces") {
        emptied(store, &name);
        finish(store, kind, &stored);
    }
    if wish.dependents == Dependents::Foreground {
        dependents(store, &stored);
        settle(store, kind, &stored);
    }
    Ok((200, stored))
}

/// After a write: an object that waits for nothing more goes.
pub(super) fn finish(store: &mut Store, kind: &Kind, object: &Arc<Value>) {
    if object["metadata"]["deletionTimestamp"].is_string() && !stays(store, kind, object) {
        gone(store, kind, object, false);
    }
}

fn precondition(kind: &Kind, name: &str, object: &Value, wish: &Wish) -> Result<(), Failure> {
    let check = |what: &str, field: &str, wanted: &Option<String>| {
        let found = object["metadata"][field].as_str().unwrap_or_default();
        match wanted.as_deref().filter(|wanted| *wanted != found) {
            None => Ok(()),
            Some(wanted) => {
                let why = format!(
                    "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
                );
                Err(Failure::conflict(kind, name, &why))
            }
        }
    };
    check("UID", "uid", &wish.uid)?;
    check("ResourceVersion", "resourceVersion", &wish.revision)
}

/// The object with its deletion written down.
fn marked(kind: &Kind, object: &Value, wish: &Wish) -> Value {
    let mut marked = object.clone();
    let grace = grace(kind, object, wish);
    let metadata = &mut marked["metadata"];
    if metadata["deletionTimestamp"].is_string() {
        let left = metadata["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default();
        metadata["deletionGracePeriodSeconds"] = grace.min(left).into();
        return marked;
    }
    metadata["deletionTimestamp"] = clock::after(grace).into();
    metadata["deletionGracePeriodSeconds"] = grace.into();
    if let Some(generation) = metadata["generation"].as_u64() {
        metadata["generation"] = generation.saturating_add(1).into();
    }
    if kind.is("", "namespaces") {
        marked["status"]["phase"] = "Terminating".into();
    }
    if wish.dependents == Dependents::Foreground {
        finalizer(&mut marked, "foregroundDeletion");
    }
    marked
}

/// Only pods die slowly, and only those that a node has started.
fn grace(kind: &Kind, object: &Value, wish: &Wish) -> i64 {
    let started = object["spec"]["nodeName"]
        .as_str()
        .is_some_and(|node| !node.is_empty());
    let over = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !kind.is("", "pods") || !started || over {
        return 0;
    }
    let usual = object["spec"]["terminationGracePeriodSeconds"]
        .as_i64()
        .unwrap_or(30);
    wish.grace.unwrap_or(usual).max(0)
}

fn finalizer(object: &mut Value, name: &str) {
    let metadata = &mut object["metadata"];
    match metadata["finalizers"].as_array_mut() {
        Some(all) if all.iter().any(|known| known == name) => (),
        Some(all) => all.push(name.into()),
        None => metadata["finalizers"] = json!([name]),
    }
}

fn stays(store: &Store, kind: &Kind, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let held = metadata["finalizers"]
        .as_array()
        .is_some_and(|all| !all.is_empty());
    let graceful = kind.is("", "pods")
        && metadata["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default()
            > 0;
    held || graceful
        || kind.is("", "namespaces") && holds(store, metadata["name"].as_str().unwrap_or_default())
}

/// Removes the object and sees to those that it owned.
fn gone(store: &mut Store, kind: &Kind, object: &Value, orphan: bool) {
    if store.remove(&kind.shelf(), &key(object)).is_none() {
        return;
    }
    effects::removed(store, kind, object);
    for (kind, owned) in owned(store, object) {
        let owner = &object["metadata"]["uid"];
        if orphan {
            disown(store, &kind, &owned, owner);
        } else {
            collect(store, &kind, &owned, owner);
        }
    }
    waiting(store, object);
    left(
        store,
        object["metadata"]["namespace"].as_str().unwrap_or_default(),
    );
}

/// A namespace on its way out goes with the last thing in it.
fn left(store: &mut Store, namespace: &str) {
    let spaces = (String::new(), "namespaces".to_owned());
    let Some(found) = store.get(&spaces, &(String::new(), namespace.to_owned())) else {
        return;
    };
    if let Some(kind) = kind_of(store, &spaces) {
        finish(store, &kind, &found);
    }
}

fn holds(store: &Store, namespace: &str) -> bool {
    store.all().any(|(_, (space, _), _)| space == namespace)
}

/// Deletes what the object owns, before the object itself goes.
fn dependents(store: &mut Store, owner: &Value) {
    for (kind, owned) in owned(store, owner) {
        collect(store, &kind, &owned, &owner["metadata"]["uid"]);
    }
}

/// Lets an object go whose foreground deletion waited for its dependents, once none is left.
fn settle(store: &mut Store, kind: &Kind, owner: &Value) {
    let Some(current) = store.get(&kind.shelf(), &key(owner)) else {
        return;
    };
    let waits = current["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|all| all.iter().any(|f| f == "foregroundDeletion"));
    if !waits || !owned(store, &current).is_empty() {
        return;
    }
    let mut free = (*current).clone();
    if let Some(all) = free["metadata"]["finalizers"].as_array_mut() {
        all.retain(|name| name != "foregroundDeletion");
    }
    let stored = store.put(&kind.shelf(), key(&free), free);
    finish(store, kind, &stored);
}

/// After an object went: its owners may have waited for it.
fn waiting(store: &mut Store, object: &Value) {
    for reference in object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let Some(kind) = store.kinds.of_kind(text("apiVersion"), text("kind")) else {
            continue;
        };
        let space = if kind.namespaced {
            object["metadata"]["namespace"].as_str().unwrap_or_default()
        } else {
            ""
        };
        if let Some(owner) = store.get(&kind.shelf(), &(space.to_owned(), text("name").to_owned())) {
            settle(store, &kind, &owner);
        }
    }
}

fn owned(store: &Store, owner: &Value) -> Vec<(Arc<Kind>, Arc<Value>)> {
    let uid = &owner["metadata"]["uid"];
    let found = store
        .all()
        .filter(|(_, _, object)| references(object).any(|reference| &reference["uid"] == uid));
    found
        .filter_map(|(resource, _, object)| Some((kind_of(store, resource)?, object.clone())))
        .collect()
}

fn references(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
}

fn kind_of(store: &Store, resource: &Resource) -> Option<Arc<Kind>> {
    store
        .kinds
        .all()
        .find(|kind| (&kind.group, &kind.plural) == (&resource.0, &resource.1))
        .cloned()
}

/// Deletes an object that was made for owners of which none is left: a loop may have read its list before they went.
pub(super) fn abandoned(store: &mut Store, kind: &Kind, object: &Arc<Value>) {
    let gone = |reference: &Value| !lives(store, object, reference);
    if references(object).next().is_some() && references(object).all(gone) {
        collect(store, kind, object, &Value::Null);
    }
}

/// Deletes an object whose last living owner went; one with another owner only loses the reference.
fn collect(store: &mut Store, kind: &Kind, object: &Arc<Value>, owner: &Value) {
    if references(object).any(|reference| &reference["uid"] != owner && lives(store, object, reference)) {
        disown(store, kind, object, owner);
        return;
    }
    let wish = Wish {
        grace: None,
        dependents: Dependents::Background,
        uid: None,
        revision: None,
        dry: false,
    };
    let current = store.get(&kind.shelf(), &key(object));
    let _kept = current.map(|current| one(store, kind, &current, &wish));
}

fn lives(store: &Store, object: &Value, reference: &Value) -> bool {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let Some(kind) = store.kinds.of_kind(text("apiVersion"), text("kind")) else {
        return false;
    };
    let space = if kind.namespaced {
        object["metadata"]["namespace"].as_str().unwrap_or_default()
    } else {
        ""
    };
    let found = store.get(&kind.shelf(), &(space.to_owned(), text("name").to_owned()));
    found.is_some_and(|found| found["metadata"]["uid"] == reference["uid"])
}

fn disown(store: &mut Store, kind: &Kind, object: &Value, owner: &Value) {
    let mut free = object.clone();
    let Some(all) = free["metadata"]["ownerReferences"].as_array_mut() else {
        return;
    };
    all.retain(|reference| &reference["uid"] != owner);
    if all.is_empty() {
        super::write::drop_field(&mut free["metadata"], "ownerReferences");
    }
    store.put(&kind.shelf(), key(&free), free);
}

/// Deletes all that a namespace holds. Pods go at once: nobody is asked to wait for a namespace.
fn emptied(store: &mut Store, namespace: &str) {
    let held: Vec<_> = store
        .all()
        .filter(|(_, (space, _), _)| space == namespace && !namespace.is_empty())
        .map(|(resource, _, object)| (resource.clone(), object.clone()))
        .collect();
    let wish = Wish {
        grace: Some(0),
        dependents: Dependents::Background,
        uid: None,
        revision: None,
        dry: false,
    };
    for (resource, object) in held {
        let Some(kind) = kind_of(store, &resource) else {
            continue;
        };
        let current = store.get(&kind.shelf(), &key(&object));
        let _kept = current.map(|current| one(store, &kind, &current, &wish));
    }
}

fn key(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn done(kind: &Kind, object: &Arc<Value>) -> Arc<Value> {
    if kind.is("", "pods") {
        return object.clone();
    }
    Arc::new(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": object["metadata"]["name"], "group": kind.group, "kind": kind.plural, "uid": object["metadata"]["uid"]},
    }))
}
