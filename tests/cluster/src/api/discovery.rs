//! What the server serves, as clients ask for it before anything else.

use super::kinds::Kind;
use super::openapi;
use super::store::Store;
use serde_json::{Value, json};
use std::sync::Arc;

/// The answer to a path that names no resource; none where nothing is there.
pub(super) fn answer(store: &Store, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version"] => Some(version()),
        ["healthz" | "readyz" | "livez"] => Some("ok".into()),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["apis"] => Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups(store)})),
        ["apis", name] => groups(store).into_iter().find(|group| group["name"] == *name),
        ["api", version] => resources(store, "", version),
        ["apis", group, version] => resources(store, group, version),
        ["openapi", "v3"] => Some(openapi::index(store)),
        ["openapi", "v3", "api", version] => Some(openapi::document(store, "", version)),
        ["openapi", "v3", "apis", group, version] => Some(openapi::document(store, group, version)),
        _ => None,
    }
}

fn version() -> Value {
    json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "platform": "linux/amd64", "goVersion": "none"})
}

/// Groups but for core, each with its one version.
fn groups(store: &Store) -> Vec<Value> {
    let mut names: Vec<(&str, &str)> = store
        .kinds
        .all()
        .map(|kind| (kind.group.as_str(), kind.version.as_str()))
        .collect();
    names.dedup_by_key(|(group, _)| *group);
    names.retain(|(group, _)| !group.is_empty());
    names.into_iter().map(group).collect()
}

fn group((name, version): (&str, &str)) -> Value {
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [version], "preferredVersion": version})
}

fn resources(store: &Store, group: &str, version: &str) -> Option<Value> {
    let kinds: Vec<&Arc<Kind>> = store
        .kinds
        .all()
        .filter(|kind| kind.group == group && kind.version == version)
        .collect();
    let api = kinds.first()?.api_version();
    let all: Vec<Value> = kinds.iter().flat_map(|kind| entries(kind)).collect();
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api, "resources": all}))
}

fn entries(kind: &Kind) -> Vec<Value> {
    let verbs: &[&str] = if kind.fleeting {
        &["create"]
    } else {
        &[
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ]
    };
    let mut all = vec![json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs,
        "shortNames": kind.short, "categories": kind.categories,
    })];
    let part = |name: &str, shown: &str| {
        json!({
            "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced, "kind": shown,
            "verbs": ["get", "patch", "update"],
        })
    };
    if kind.status {
        all.push(part("status", &kind.kind));
    }
    if kind.scale.is_some() {
        let mut scale = part("scale", "Scale");
        (scale["group"], scale["version"]) = ("autoscaling".into(), "v1".into());
        all.push(scale);
    }
    all
}
