//! The Service that is fronted, as it is remembered: its annotations are the one lever of a release.

use super::workload::version_of;
use contract::{
    annotations::{Annotations, Canary},
    names::{CANARY_SERVICE, CANARY_WEIGHT, CHANGE_CAUSE, CHANGED_BY, CONTROLLER, STABLE_SERVICE, TRACKS},
};
use engine::{Table, Tracks};
use kube::core::{DynamicObject, ObjectMeta};
use serde_json::Value;

/// A Service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub version: u64,
    pub uid: String,
    /// Our annotations.
    pub annotations: Annotations,
    /// Who owns the weight.
    pub manager: Option<String>,
    /// Whether the stamp, and the cause, are of whoever wrote the weight; an older hand's say nothing of it.
    pub stamped: bool,
    pub caused: bool,
    pub selector: super::template::Labels,
    /// `spec.ports` as text: needed only when it is copied.
    pub ports: Box<str>,
}

impl Known {
    /// Reads an object.
    pub fn of(object: &DynamicObject, prefix: &str) -> Known {
        let annotations = object.metadata.annotations.iter().flatten();
        let ours = annotations.filter(|(k, _)| k.starts_with(prefix));
        let owner = |key: &str| manager(&object.metadata, &format!("{prefix}{key}"));
        let (weight, stamp, cause) = (owner(CANARY_WEIGHT), owner(CHANGED_BY), owner(CHANGE_CAUSE));
        Known {
            // What an admission policy writes may have no owner.
            stamped: stamp.is_none() || stamp == weight,
            caused: cause == weight,
            version: version_of(object),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            annotations: ours.map(|(k, v)| (k.clone(), v.clone())).collect(),
            manager: weight,
            selector: super::workload::labels(&object.data["spec"]["selector"]),
            ports: object.data["spec"]["ports"].to_string().into(),
        }
    }

    /// One of our annotations.
    pub fn get(&self, prefix: &str, key: &str) -> Option<&str> {
        self.annotations
            .get(&format!("{prefix}{key}"))
            .map(String::as_str)
    }

    /// The names of the usual track Services: remembered, or as they stand there.
    pub fn usual(&self, prefix: &str) -> Result<[String; 2], String> {
        if let Some((stable, canary)) = self.get(prefix, TRACKS).and_then(|t| t.split_once(',')) {
            return Ok([stable.to_owned(), canary.to_owned()]);
        }
        let named = |key| self.get(prefix, key).filter(|v| !v.is_empty()).map(str::to_owned);
        match (named(STABLE_SERVICE), named(CANARY_SERVICE)) {
            (Some(stable), Some(canary)) => Ok([stable, canary]),
            _ => Err(format!(
                "the Service has no annotations {prefix}{STABLE_SERVICE} and {prefix}{CANARY_SERVICE}; `serin front` writes them"
            )),
        }
    }

    /// Whether all traffic is at the usual stable Service, whatever else is wrong with the annotations.
    pub fn is_home(&self, service: &str, prefix: &str) -> bool {
        let weight = self.get(prefix, CANARY_WEIGHT).unwrap_or("0").trim();
        let is_swapped = self.get(prefix, STABLE_SERVICE) == Some(&previous(service));
        weight.parse() == Ok(0.0) && !is_swapped
    }

    /// What is in force, for the engine, or every fault of the annotations.
    pub fn table(&self, service: &str, prefix: &str) -> Result<Table, Vec<contract::Fault>> {
        let canary = Canary::parse(&self.annotations, prefix)?;
        let previous = canary.stable_service.as_deref() == Some(&previous(service));
        Ok(Table {
            split: canary.split,
            hash: canary.hash(),
            changed_by: self.changed_by(prefix),
            cause: self
                .get(prefix, CHANGE_CAUSE)
                .filter(|_| self.caused)
                .map(str::to_owned),
            tracks: if previous { Tracks::Previous } else { Tracks::Usual },
        })
    }

    /// Who wrote the weight: the field's owner is known to the API server; a stamp says it better, where there is one.
    fn changed_by(&self, prefix: &str) -> Option<String> {
        self.get(prefix, CANARY_WEIGHT)?;
        let stamped = self
            .get(prefix, CHANGED_BY)
            .filter(|s| self.stamped && !s.is_empty() && *s != CONTROLLER);
        match self.manager.as_deref() {
            Some(CONTROLLER) => Some(CONTROLLER.to_owned()),
            Some(manager) => Some(stamped.unwrap_or(manager).to_owned()),
            None => stamped.or(self.get(prefix, CHANGED_BY)).map(str::to_owned),
        }
    }
}

/// Name of the Service of the old version.
pub(super) fn previous(service: &str) -> String {
    format!("{service}-previous")
}

/// Which field manager owns an annotation; of several the one that wrote last.
pub(super) fn manager(metadata: &ObjectMeta, key: &str) -> Option<String> {
    let field = format!("f:{key}");
    let owns = |fields: &Value| !fields["f:metadata"]["f:annotations"][&field].is_null();
    let entries = metadata.managed_fields.iter().flatten();
    let owners = entries.filter(|e| e.fields_v1.as_ref().is_some_and(|f| owns(&f.0)));
    let last = owners.max_by_key(|e| e.time.as_ref().map(|t| t.0));
    last.and_then(|e| e.manager.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(annotations: Value, managers: &[(&str, &str)]) -> Known {
        let fields = json!({ "f:metadata": { "f:annotations": { "f:serin.dev/canary-weight": {} } } });
        let managed: Vec<Value> = managers
            .iter()
            .map(|(m, time)| json!({ "manager": m, "operation": "Update", "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields }))
            .collect();
        let object = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "echo", "resourceVersion": "5", "annotations": annotations, "managedFields": managed },
            "spec": { "selector": { "a": "b" }, "ports": [{ "port": 80 }] },
        }));
        Known::of(&object.unwrap(), "serin.dev/")
    }

    fn by(annotations: Value, managers: &[(&str, &str)]) -> Option<String> {
        service(annotations, managers)
            .table("echo", "serin.dev/")
            .unwrap()
            .changed_by
    }

    #[test]
    fn the_owner_of_the_weight_says_who_changed_it() {
        let weight = json!({ "serin.dev/canary-weight": "5" });
        assert_eq!(
            by(weight.clone(), &[("kubectl-annotate", "2026-01-01T00:00:00Z")]).unwrap(),
            "kubectl-annotate"
        );
        let both = [
            ("serin-controller", "2026-01-01T00:00:00Z"),
            ("kubectl-annotate", "2026-01-01T00:00:01Z"),
        ];
        assert_eq!(by(weight.clone(), &both).unwrap(), "kubectl-annotate");
        assert_eq!(
            by(weight, &[("serin-controller", "2026-01-01T00:00:00Z")]).unwrap(),
            CONTROLLER
        );
        assert_eq!(by(json!({}), &[]), None);
    }

    #[test]
    fn a_stamp_names_the_person_unless_the_last_write_was_ours() {
        let stamped = |who: &str| json!({ "serin.dev/canary-weight": "5", "serin.dev/changed-by": who });
        let kubectl = [("kubectl-annotate", "2026-01-01T00:00:00Z")];
        assert_eq!(by(stamped("ann"), &kubectl).unwrap(), "ann");
        assert_eq!(by(stamped(CONTROLLER), &kubectl).unwrap(), "kubectl-annotate");
        assert_eq!(
            by(stamped("ann"), &[("serin-controller", "2026-01-01T00:00:00Z")]).unwrap(),
            CONTROLLER
        );
    }

    #[test]
    fn a_stamp_or_a_cause_of_an_older_hand_says_nothing_of_the_weight() {
        let owns = |manager: &str, keys: &[&str]| {
            let fields: Value = keys
                .iter()
                .map(|k| (format!("f:serin.dev/{k}"), json!({})))
                .collect();
            json!({ "manager": manager, "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:metadata": { "f:annotations": fields } } })
        };
        let seen = |managed: &[Value]| {
            let annotations = json!({ "serin.dev/canary-weight": "5", "serin.dev/changed-by": "ann", "serin.dev/change-cause": "ticket 3" });
            let object = serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "name": "echo", "annotations": annotations, "managedFields": managed },
            }));
            let table = Known::of(&object.unwrap(), "serin.dev/")
                .table("echo", "serin.dev/")
                .unwrap();
            (table.changed_by.unwrap(), table.cause)
        };
        let ticket = Some("ticket 3".to_owned());
        let all = owns("serin", &["canary-weight", "changed-by", "change-cause"]);
        assert_eq!(seen(&[all]), ("ann".into(), ticket.clone()));
        let older = owns("serin", &["changed-by", "change-cause"]);
        let weight = owns("kubectl-edit", &["canary-weight"]);
        assert_eq!(seen(&[older, weight]), ("kubectl-edit".into(), None));
        let unstamped = owns("kubectl-edit", &["canary-weight", "change-cause"]);
        assert_eq!(seen(&[unstamped]), ("ann".into(), ticket));
    }

    #[test]
    fn home_is_weight_0_and_the_usual_tracks_whatever_else_is_wrong() {
        let is_home = |annotations| service(annotations, &[]).is_home("echo", "serin.dev/");
        assert!(is_home(json!({})));
        assert!(is_home(
            json!({ "serin.dev/canary-weight": "0", "serin.dev/canary-weight-total": "none" })
        ));
        for weight in ["1", "0.5", "x", ""] {
            assert!(!is_home(json!({ "serin.dev/canary-weight": weight })), "{weight}");
        }
        assert!(!is_home(
            json!({ "serin.dev/canary-weight": "0", "serin.dev/stable-service": "echo-previous" })
        ));
    }

    #[test]
    fn the_tracks_are_remembered_across_a_promotion() {
        let usual =
            json!({ "serin.dev/stable-service": "echo-stable", "serin.dev/canary-service": "echo-canary" });
        let known = service(usual, &[]);
        assert_eq!(known.usual("serin.dev/").unwrap(), ["echo-stable", "echo-canary"]);
        assert_eq!(known.table("echo", "serin.dev/").unwrap().tracks, Tracks::Usual);
        let swapped = json!({
            "serin.dev/stable-service": "echo-previous", "serin.dev/canary-service": "echo-stable",
            "serin.dev/tracks": "echo-stable,echo-canary",
        });
        let known = service(swapped, &[]);
        assert_eq!(known.usual("serin.dev/").unwrap(), ["echo-stable", "echo-canary"]);
        assert_eq!(
            known.table("echo", "serin.dev/").unwrap().tracks,
            Tracks::Previous
        );
        assert!(
            service(json!({}), &[])
                .usual("serin.dev/")
                .unwrap_err()
                .contains("serin front")
        );
        assert!(
            service(json!({ "serin.dev/canary-weight": "x" }), &[])
                .table("echo", "serin.dev/")
                .is_err()
        );
    }
}
