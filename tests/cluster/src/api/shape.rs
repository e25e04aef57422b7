//! How the fields of a kind merge: which lists have keys, which maps are whole. Built-in kinds by a table, others by
//! their schema.

use super::kinds::Kind;
use serde_json::Value;

/// Where in a kind's type a walk stands.
#[derive(Clone, Copy)]
pub(super) struct Type<'a> {
    kind: &'a Kind,
    schema: Option<&'a Value>,
    name: &'a str,
    depth: usize,
    free: bool,
}

/// How a value merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// A scalar, or a value that has one owner as a whole.
    Atomic,
    /// Fields by name.
    Struct,
    /// Entries by name, each a member by itself, like labels.
    Map,
    /// Items by these fields.
    Keyed(Keys<'a>),
    /// Scalars, each a member by itself.
    Set,
}

/// The fields that tell one item of a list from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys<'a> {
    Known(&'static [&'static str]),
    Schema(&'a Value),
}

impl<'a> Keys<'a> {
    pub(super) fn names(self) -> Vec<&'a str> {
        match self {
            Keys::Known(names) => names.to_vec(),
            Keys::Schema(names) => names
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
        }
    }

    /// The key of an item, written as managedFields writes it. An absent protocol is TCP.
    pub(super) fn of(self, item: &Value) -> String {
        let mut key = serde_json::Map::new();
        for name in self.names() {
            match item.get(name) {
                Some(value) => key.insert(name.into(), value.clone()),
                None if name == "protocol" => key.insert(name.into(), "TCP".into()),
                None => None,
            };
        }
        Value::Object(key).to_string()
    }
}

impl<'a> Type<'a> {
    pub(super) fn root(kind: &'a Kind) -> Type<'a> {
        let schema = kind.custom.as_ref().map(|custom| custom.schema.as_ref());
        Type {
            kind,
            schema,
            name: "",
            depth: 0,
            free: false,
        }
    }

    /// The type of a field, or of an entry of a map.
    pub(super) fn field(self, name: &'a str) -> Type<'a> {
        if self.depth == 0 && name == "metadata" {
            return Type {
                schema: None,
                name,
                depth: 1,
                ..self
            };
        }
        let known = self.schema.map(|schema| {
            schema["properties"]
                .get(name)
                .unwrap_or(&schema["additionalProperties"])
        });
        Type {
            schema: known,
            name,
            depth: self.depth + 1,
            free: self.shape_of_map() == Shape::Map,
            ..self
        }
    }

    /// The type of a list's items.
    pub(super) fn item(self) -> Type<'a> {
        Type {
            schema: self.schema.map(|schema| &schema["items"]),
            name: "",
            depth: self.depth + 1,
            free: false,
            ..self
        }
    }

    pub(super) fn shape(self, value: &Value) -> Shape<'a> {
        match value {
            Value::Object(_) => self.shape_of_map(),
            Value::Array(_) => self.shape_of_list(),
            _ => Shape::Atomic,
        }
    }

    fn shape_of_map(self) -> Shape<'a> {
        if let Some(schema) = self.schema {
            return match schema["x-kubernetes-map-type"].as_str() {
                Some("atomic") => Shape::Atomic,
                _ if schema["additionalProperties"].is_object() => Shape::Map,
                _ => Shape::Struct,
            };
        }
        match self.name {
            _ if self.free => Shape::Struct,
            "labels" | "annotations" | "data" | "binaryData" | "limits" | "requests" => Shape::Map,
            name if ATOMIC.contains(&name) && self.depth > 0 => Shape::Atomic,
            _ => Shape::Struct,
        }
    }

    fn shape_of_list(self) -> Shape<'a> {
        if let Some(schema) = self.schema {
            return match schema["x-kubernetes-list-type"].as_str() {
                Some("map") => Shape::Keyed(Keys::Schema(&schema["x-kubernetes-list-map-keys"])),
                Some("set") => Shape::Set,
                _ => Shape::Atomic,
            };
        }
        let keys: &[&str] = match self.name {
            "finalizers" => return Shape::Set,
            "ports" if self.kind.plural == "services" => &["port", "protocol"],
            "ports" if self.kind.group == "apps" || self.kind.plural == "pods" => {
                &["containerPort", "protocol"]
            }
            "containers"
            | "initContainers"
            | "ephemeralContainers"
            | "env"
            | "volumes"
            | "imagePullSecrets" => &["name"],
            "volumeMounts" => &["mountPath"],
            "volumeDevices" => &["devicePath"],
            "conditions" => &["type"],
            "ownerReferences" => &["uid"],
            "hostAliases" => &["ip"],
            "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
            _ => return Shape::Atomic,
        };
        Shape::Keyed(Keys::Known(keys))
    }
}

/// Maps of built-in kinds that have one owner as a whole.
const ATOMIC: &[&str] = &[
    "selector",
    "nodeSelector",
    "labelSelector",
    "namespaceSelector",
    "objectSelector",
    "podSelector",
    "fieldRef",
    "secretKeyRef",
    "configMapKeyRef",
    "resourceFieldRef",
    "roleRef",
    "involvedObject",
    "regarding",
    "related",
    "targetRef",
];
