//! Events have two groups and one store: what events.k8s.io writes, core reads, each under its own field names.

use super::kinds::Kind;
use serde_json::Value;
use std::borrow::Cow;

/// The name in events.k8s.io and the name in core.
const NAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// The object as the kind's group shows it.
pub(super) fn to(kind: &Kind, object: &Value) -> Value {
    let mut shown = object.clone();
    if newer(kind) {
        NAMES.iter().for_each(|(new, core)| rename(&mut shown, core, new));
        shown["apiVersion"] = kind.api_version().into();
    }
    shown
}

/// Like [`to`], without a copy where nothing changes.
pub(super) fn shown<'a>(kind: &Kind, object: &'a Value) -> Cow<'a, Value> {
    if newer(kind) {
        Cow::Owned(to(kind, object))
    } else {
        Cow::Borrowed(object)
    }
}

/// The object as it is stored.
pub(super) fn from(kind: &Kind, mut object: Value) -> Value {
    if newer(kind) {
        NAMES
            .iter()
            .for_each(|(new, core)| rename(&mut object, new, core));
    }
    object
}

/// The version under which objects of the kind are stored.
pub(super) fn api_version(kind: &Kind) -> String {
    if newer(kind) {
        "v1".into()
    } else {
        kind.api_version()
    }
}

fn newer(kind: &Kind) -> bool {
    kind.group == "events.k8s.io"
}

fn rename(object: &mut Value, from: &str, to: &str) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    if let Some(value) = fields.remove(from) {
        fields.insert(to.into(), value);
    }
}
