//! Writes: create, update, patch. Each is decided on the whole object under the store's lock.

use super::ask::Ask;
use super::defaults;
use super::failure::Failure;
use super::fields;
use super::kinds::Kind;
use super::merge;
use super::store::{Key, Store};
use super::{admission, clock, delete, effects, events, scale, strategic, validate};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a write left behind: the status code and the object.
pub(super) type Written = (u16, Arc<Value>);

/// Metadata that only the server writes.
const OURS: &[&str] = &[
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
    "name",
    "namespace",
    "selfLink",
];

pub(super) fn create(store: &mut Store, ask: &Ask) -> Result<Written, Failure> {
    let object = received(ask)?;
    created(store, ask, object)
}

/// Creates the object that a body, or a first server-side apply, says.
pub(super) fn created(store: &mut Store, ask: &Ask, mut object: Value) -> Result<Written, Failure> {
    let kind = &ask.kind;
    let key = named(ask, &mut object)?;
    home(store, kind, &key)?;
    if store.get(&kind.shelf(), &key).is_some() {
        return Err(Failure::exists(kind, &key.1));
    }
    if kind.status && !kind.is("", "nodes") {
        drop_field(&mut object, "status");
    }
    fresh(ask, &mut object);
    let object = admitted(store, ask, None, object)?;
    if ask.dry() {
        return Ok((201, Arc::new(object)));
    }
    let stored = store.put(&kind.shelf(), key, object);
    effects::after(store, kind, None, &stored);
    super::delete::abandoned(store, kind, &stored);
    Ok((201, stored))
}

pub(super) fn update(store: &mut Store, ask: &Ask) -> Result<Written, Failure> {
    if ask.sub == "scale" {
        return scale::update(store, ask);
    }
    let key = ask.key()?;
    let new = received(ask)?;
    let old = present(store, ask)?;
    if new["metadata"]["name"].as_str().is_some_and(|name| name != key.1) {
        let message = format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            new["metadata"]["name"], key.1
        );
        return Err(Failure::bad(message));
    }
    revised(store, ask, &old, new)
}

pub(super) fn patch(store: &mut Store, ask: &Ask) -> Result<Written, Failure> {
    if ask.applies() {
        return super::apply::apply(store, ask);
    }
    if ask.sub == "scale" {
        return scale::patch(store, ask);
    }
    let old = present(store, ask)?;
    let mut shown = events::to(&ask.kind, &old);
    patched(ask, &mut shown)?;
    let new = events::from(&ask.kind, shown);
    revised(store, ask, &old, new)
}

/// Applies the request's patch, of whatever type, to the object.
pub(super) fn patched(ask: &Ask, object: &mut Value) -> Result<(), Failure> {
    let patch = ask.json()?;
    match ask.content.as_str() {
        "application/merge-patch+json" => merge::merge(object, &patch),
        "application/json-patch+json" => merge::operations(object, &patch)?,
        "application/strategic-merge-patch+json" if ask.kind.custom.is_none() => {
            strategic::merge(object, &patch)?
        }
        other => {
            let message = format!("the body of the request was in an unknown format: {other:?}");
            return Err(Failure::new(415, "UnsupportedMediaType", message));
        }
    }
    Ok(())
}

pub(super) fn present(store: &Store, ask: &Ask) -> Result<Arc<Value>, Failure> {
    let key = ask.key()?;
    store
        .get(&ask.kind.shelf(), &key)
        .ok_or_else(|| Failure::not_found(&ask.kind, &key.1))
}

/// Replaces `old` by `new` as far as the endpoint may, and stores what came of it.
pub(super) fn revised(
    store: &mut Store,
    ask: &Ask,
    old: &Arc<Value>,
    mut new: Value,
) -> Result<Written, Failure> {
    let kind = &ask.kind;
    let key = ask.key()?;
    unmoved(kind, &key.1, old, &new)?;
    carry(ask, old, &mut new);
    let new = part(ask, old, new);
    let mut new = admitted(store, ask, Some(old), new)?;
    if same(old, &new) {
        return Ok((200, old.clone()));
    }
    if moved(kind, old, &new) {
        let generation = old["metadata"]["generation"].as_u64().unwrap_or_default();
        new["metadata"]["generation"] = generation.saturating_add(1).into();
    }
    if ask.dry() {
        return Ok((200, Arc::new(new)));
    }
    let stored = store.put(&kind.shelf(), key, new);
    effects::after(store, kind, Some(old), &stored);
    delete::finish(store, kind, &stored);
    Ok((200, stored))
}

/// Defaults, policies, checks and ownership, in the real server's order.
fn admitted(
    store: &mut Store,
    ask: &Ask,
    old: Option<&Arc<Value>>,
    mut new: Value,
) -> Result<Value, Failure> {
    let kind = &ask.kind;
    if kind.custom.is_none() {
        defaults::fill(kind, &mut new);
    }
    effects::before(store, ask, old, &mut new);
    admission::mutate(store, ask, old.map(Arc::as_ref), &mut new)?;
    validate::check(ask, old.map(Arc::as_ref), &mut new)?;
    admission::validate(store, ask, old.map(Arc::as_ref), &new)?;
    fields::updated(ask, old.map(Arc::as_ref), &mut new);
    Ok(new)
}

fn received(ask: &Ask) -> Result<Value, Failure> {
    let object = ask.json()?;
    let kind = &ask.kind;
    if !object.is_object() {
        return Err(Failure::bad("the object provided is unrecognized: not an object"));
    }
    let (api, name) = (kind.api_version(), &kind.kind);
    for (field, wanted) in [("apiVersion", &api), ("kind", name)] {
        if let Some(given) = object[field].as_str().filter(|given| given != wanted) {
            let message = format!(
                "{name} in version {api:?} cannot be handled as a {name}: {field} is {given:?}, not {wanted:?}"
            );
            return Err(Failure::bad(message));
        }
    }
    let mut object = events::from(kind, object);
    (object["apiVersion"], object["kind"]) = (events::api_version(kind).into(), name.clone().into());
    Ok(object)
}

/// Finds the name (or makes one from generateName) and the namespace, and writes both into the object.
fn named(ask: &Ask, object: &mut Value) -> Result<Key, Failure> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let metadata = &mut object["metadata"];
    if metadata["name"].as_str().unwrap_or_default().is_empty() {
        let prefix = metadata["generateName"].as_str().unwrap_or_default();
        if prefix.is_empty() {
            let cause = super::failure::Cause::required("metadata.name", "name or generateName is required");
            return Err(Failure::invalid(&ask.kind, "", &[cause]));
        }
        metadata["name"] = format!("{prefix}{}", effects::suffix()).into();
    }
    let namespace = ask.namespace.clone().unwrap_or_default();
    match metadata["namespace"].as_str().unwrap_or_default() {
        given if !given.is_empty() && given != namespace => {
            let message =
                "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Failure::bad(message));
        }
        _ if ask.kind.namespaced => metadata["namespace"] = namespace.clone().into(),
        _ => drop_field(metadata, "namespace"),
    }
    Ok((
        namespace,
        metadata["name"].as_str().unwrap_or_default().to_owned(),
    ))
}

/// The namespace must exist and must not be on its way out.
fn home(store: &Store, kind: &Kind, key: &Key) -> Result<(), Failure> {
    if !kind.namespaced {
        return Ok(());
    }
    let spaces = (String::new(), "namespaces".to_owned());
    let Some(found) = store.get(&spaces, &(String::new(), key.0.clone())) else {
        let message = format!("namespaces {:?} not found", key.0);
        let mut failure = Failure::new(404, "NotFound", message);
        failure.details = json!({"name": key.0, "kind": "namespaces"});
        return Err(failure);
    };
    if found["metadata"]["deletionTimestamp"].is_string() {
        let message = format!(
            "{} {:?} is forbidden: unable to create new content in namespace {} because it is being terminated",
            kind.resource(),
            key.1,
            key.0
        );
        return Err(Failure::forbidden(message).about(kind, &key.1));
    }
    Ok(())
}

/// What every new object gets.
fn fresh(ask: &Ask, object: &mut Value) {
    let metadata = &mut object["metadata"];
    for ours in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
        "selfLink",
    ] {
        drop_field(metadata, ours);
    }
    if !ask.applies() {
        drop_field(metadata, "managedFields");
    }
    metadata["uid"] = effects::uid().into();
    metadata["creationTimestamp"] = clock::now().into();
    drop_field(metadata, "generation");
    if ask.kind.counts_generations() {
        metadata["generation"] = 1.into();
    }
}

/// A stale resourceVersion or another uid is a conflict.
fn unmoved(kind: &Kind, name: &str, old: &Value, new: &Value) -> Result<(), Failure> {
    let differs = |field: &str| {
        let given = new["metadata"][field].as_str().unwrap_or_default();
        !given.is_empty() && old["metadata"][field] != given
    };
    if differs("uid") {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            new["metadata"]["uid"].as_str().unwrap_or_default(),
            old["metadata"]["uid"].as_str().unwrap_or_default()
        );
        return Err(Failure::conflict(kind, name, &why));
    }
    if differs("resourceVersion") {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        return Err(Failure::conflict(kind, name, why));
    }
    Ok(())
}

/// The server's own metadata stays as it was.
fn carry(ask: &Ask, old: &Value, new: &mut Value) {
    if !new["metadata"].is_object() {
        new["metadata"] = json!({});
    }
    let Some(metadata) = new["metadata"].as_object_mut() else {
        return;
    };
    for &field in OURS {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None => metadata.remove(field),
        };
    }
    if !ask.applies() {
        books(old, metadata);
    }
    metadata.retain(|_, value| !value.is_null());
    (new["apiVersion"], new["kind"]) = (old["apiVersion"].clone(), old["kind"].clone());
}

/// Books that the caller sent are not believed; an empty list of them resets them.
fn books(old: &Value, metadata: &mut Map<String, Value>) {
    let reset = metadata
        .get("managedFields")
        .is_some_and(|entries| entries == &json!([{}]) || entries == &json!([]));
    match old["metadata"].get("managedFields").filter(|_| !reset) {
        Some(entries) => metadata.insert("managedFields".into(), entries.clone()),
        None => metadata.remove("managedFields"),
    };
}

/// The part of the object that the endpoint may write: `/status` the status, the main one all else.
pub(super) fn part(ask: &Ask, old: &Value, mut new: Value) -> Value {
    match ask.sub.as_str() {
        "status" => {
            let mut kept = old.clone();
            replace_field(&mut kept, "status", new.get("status"));
            kept["metadata"]["managedFields"] = new["metadata"]["managedFields"].clone();
            kept
        }
        "" if ask.kind.status => {
            replace_field(&mut new, "status", old.get("status"));
            new
        }
        _ => new,
    }
}

/// Whether anything but the books about it differs.
fn same(old: &Value, new: &Value) -> bool {
    let Some(new_fields) = new.as_object() else {
        return false;
    };
    let Some(old_fields) = old.as_object() else {
        return false;
    };
    let quiet = |object: &Map<String, Value>| object.iter().filter(|(_, value)| !value.is_null()).count();
    if quiet(new_fields) != quiet(old_fields) {
        return false;
    }
    let equal = |(field, value): (&String, &Value)| {
        field == "metadata" || old_fields.get(field) == Some(value) || value.is_null()
    };
    new_fields.iter().all(equal) && same_metadata(&old["metadata"], &new["metadata"])
}

fn same_metadata(old: &Value, new: &Value) -> bool {
    let bare = |metadata: &Value| {
        let mut bare = metadata.clone();
        if let Some(fields) = bare.as_object_mut() {
            fields.remove("resourceVersion");
            fields.retain(|_, value| !value.is_null() && value != &json!({}) && value != &json!([]));
        }
        fields::timeless(&mut bare);
        bare
    };
    bare(old) == bare(new)
}

/// Whether the generation goes up. Deployments count their annotations too, as the real server has them do.
fn moved(kind: &Kind, old: &Value, new: &Value) -> bool {
    if !kind.counts_generations() {
        return false;
    }
    let spec = |object: &Value| {
        let mut spec = object.clone();
        drop_field(&mut spec, "status");
        drop_field(&mut spec, "metadata");
        spec
    };
    let annotated =
        kind.is("apps", "deployments") && old["metadata"]["annotations"] != new["metadata"]["annotations"];
    annotated || spec(old) != spec(new)
}

pub(super) fn drop_field(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

fn replace_field(object: &mut Value, field: &str, value: Option<&Value>) {
    match value {
        Some(value) => object[field] = value.clone(),
        None => drop_field(object, field),
    }
}
