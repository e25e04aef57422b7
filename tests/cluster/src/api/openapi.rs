//! OpenAPI documents: as much as kubectl reads. That is, whether the server checks fields, and the schemas of
//! custom kinds for `kubectl explain`.

use super::kinds::Kind;
use super::store::Store;
use serde_json::{Map, Value, json};

/// Where each group's document is.
pub(super) fn index(store: &Store) -> Value {
    let mut paths = Map::new();
    for kind in store.kinds.all() {
        let place = place(kind);
        let version = store.revision;
        paths.insert(
            place.clone(),
            json!({"serverRelativeURL": format!("/openapi/v3/{place}?hash={version}")}),
        );
    }
    json!({"paths": paths})
}

/// One group's document.
pub(super) fn document(store: &Store, group: &str, version: &str) -> Value {
    let kinds = store
        .kinds
        .all()
        .filter(|kind| kind.group == group && kind.version == version);
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for kind in kinds {
        let scope = if kind.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let path = format!("/{}{scope}/{}", place(kind), kind.plural);
        paths.insert(path.clone(), operations(kind, &["get", "post"]));
        paths.insert(
            format!("{path}/{{name}}"),
            operations(kind, &["get", "put", "patch", "delete"]),
        );
        schemas.insert(
            format!("{}.{}.{}", reversed(&kind.group), kind.version, kind.kind),
            schema(kind),
        );
    }
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.0"}, "paths": paths, "components": {"schemas": schemas}})
}

fn place(kind: &Kind) -> String {
    if kind.group.is_empty() {
        format!("api/{}", kind.version)
    } else {
        format!("apis/{}/{}", kind.group, kind.version)
    }
}

fn operations(kind: &Kind, methods: &[&str]) -> Value {
    let checked = json!([{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]);
    let one = |method: &&str| {
        let operation =
            json!({"parameters": checked, "responses": {}, "x-kubernetes-group-version-kind": named(kind)});
        ((*method).to_owned(), operation)
    };
    Value::Object(methods.iter().map(one).collect())
}

fn schema(kind: &Kind) -> Value {
    let mut schema = match &kind.custom {
        Some(custom) => (*custom.schema).clone(),
        None => json!({"type": "object"}),
    };
    let text = json!({"type": "string"});
    for field in ["apiVersion", "kind"] {
        if schema["properties"][field].is_null() {
            schema["properties"][field] = text.clone();
        }
    }
    if schema["properties"]["metadata"].is_null() {
        schema["properties"]["metadata"] = json!({"type": "object"});
    }
    schema["x-kubernetes-group-version-kind"] = json!([named(kind)]);
    schema
}

fn named(kind: &Kind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn reversed(group: &str) -> String {
    group.split('.').rev().collect::<Vec<_>>().join(".")
}
