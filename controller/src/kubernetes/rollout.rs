//! A Rollout as it is remembered: its words read once, and of its status what a successor needs.

use super::{api::Key, service::manager, workload::version_of};
use contract::{
    names::{CHANGED_BY, FINALIZER, ORDER},
    release::Decision,
    rollout::{GROUP, KIND, Ordered, RolloutSpec, RolloutStatus, VERSION},
};
use engine::{Order, State};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use std::sync::Arc;

/// A Rollout.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub version: u64,
    pub uid: String,
    pub generation: i64,
    /// Or why its words cannot be read.
    pub spec: Result<Arc<RolloutSpec>, String>,
    pub deleting: bool,
    pub finalizers: Vec<String>,
    pub asked: Option<Asked>,
    /// The status as it was written last, without the decisions but the last one.
    pub saved: RolloutStatus,
}

/// The annotation with an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub text: String,
    /// Who wrote it, as far as the API server knows.
    pub by: Option<Writer>,
}

/// Who wrote something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// A person, stamped by the admission policy.
    Stamped(String),
    /// The program.
    Manager(String),
}

impl Known {
    /// Reads an object.
    pub fn of(object: &DynamicObject, prefix: &str) -> Known {
        Known {
            version: version_of(object),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            spec: spec(&object.data["spec"]),
            deleting: object.metadata.deletion_timestamp.is_some(),
            finalizers: object.metadata.finalizers.clone().unwrap_or_default(),
            asked: Asked::of(object, prefix),
            saved: saved(&object.data["status"]),
        }
    }

    /// Whether our finalizer stands there.
    pub fn is_held(&self) -> bool {
        self.finalizers.iter().any(|f| f == FINALIZER)
    }

    /// For Events.
    pub fn reference(&self, key: &Key) -> ObjectReference {
        ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(KIND.to_owned()),
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }

    /// For what is made on its behalf.
    pub fn owner(&self, key: &Key) -> Value {
        json!([{ "apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND, "name": key.name, "uid": self.uid }])
    }
}

impl Asked {
    fn of(object: &DynamicObject, prefix: &str) -> Option<Asked> {
        let annotations = object.metadata.annotations.as_ref()?;
        let key = format!("{prefix}{ORDER}");
        let text = annotations.get(&key)?.clone();
        let stamped = annotations
            .get(&format!("{prefix}{CHANGED_BY}"))
            .filter(|s| !s.is_empty());
        let by = match stamped {
            Some(name) => Some(Writer::Stamped(name.clone())),
            None => manager(&object.metadata, &key).map(Writer::Manager),
        };
        Some(Asked { text, by })
    }

    /// What is asked, and by whom: the API server's word first, then the claim, then the program.
    ///
    /// # Errors
    /// What to write instead.
    pub fn order(&self) -> Result<(String, Order), String> {
        let Ordered {
            id,
            command,
            who,
            why,
        } = Ordered::parse(&self.text)?;
        let who = match &self.by {
            Some(Writer::Stamped(name)) => name.clone(),
            _ if !who.trim().is_empty() => who.trim().to_owned(),
            Some(Writer::Manager(name)) => name.clone(),
            None => "somebody".to_owned(),
        };
        Ok((id, Order { command, who, why }))
    }
}

fn saved(status: &Value) -> RolloutStatus {
    // A status that an other version wrote in other words still has its state.
    let state = status["state"].as_str().unwrap_or_default();
    let mut saved: RolloutStatus = serde_json::from_value(status.clone()).unwrap_or_default();
    state.clone_into(&mut saved.state);
    saved.decisions = saved.decisions.pop().into_iter().collect();
    saved
}

fn spec(value: &Value) -> Result<Arc<RolloutSpec>, String> {
    serde_json::from_value(value.clone())
        .map(Arc::new)
        .map_err(|e| format!("the spec cannot be read: {e}; `kubectl explain rollout.spec` has its words"))
}

/// The engine's state as it stands in a status.
pub(super) fn packed(state: &State) -> Result<String, serde_json::Error> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = serde_json::to_vec(state)?;
    Ok(STANDARD.encode(miniz_oxide::deflate::compress_to_vec(&text, LEVEL)))
}

/// Level of deflate: the last levels cost much and bring little.
const LEVEL: u8 = 6;
/// Most octets of a state: what claims to be larger is none of ours.
const LARGEST_STATE: usize = 4 * 1024 * 1024;

/// The state that was saved, or why it is damaged.
pub(super) fn unpacked(text: &str) -> Result<State, String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let bytes = STANDARD.decode(text).map_err(|_| "it is no base64".to_owned())?;
    let json = miniz_oxide::inflate::decompress_to_vec_with_limit(&bytes, LARGEST_STATE)
        .map_err(|_| "it cannot be inflated".to_owned())?;
    let state: State = serde_json::from_slice(&json).map_err(|e| format!("it cannot be understood: {e}"))?;
    if state.schema() == engine::SCHEMA {
        Ok(state)
    } else {
        Err(format!(
            "its schema is {}, and this version knows {}",
            state.schema(),
            engine::SCHEMA
        ))
    }
}

/// The state to go on from, and what to say of it.
pub(super) fn restored(saved: &str, decisions: impl FnOnce() -> Vec<Decision>) -> (State, Option<String>) {
    if saved.is_empty() {
        return (State::fresh(), None);
    }
    match unpacked(saved) {
        Ok(state) => (state, None),
        Err(why) => {
            let note = format!("the state in the status is ignored, because {why}; the release starts over");
            (State::recovered(decisions(), &note), Some(note))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::release::Command;

    fn known(metadata: Value, rest: Value) -> Known {
        let mut object =
            json!({ "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": metadata });
        object
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        Known::of(&serde_json::from_value(object).unwrap(), "serin.dev/")
    }

    #[test]
    fn a_state_comes_back_from_a_status_and_a_damaged_one_is_told() {
        let text = packed(&State::fresh()).unwrap();
        assert_eq!(restored(&text, Vec::new), (State::fresh(), None));
        assert_eq!(restored("", Vec::new), (State::fresh(), None));
        for damaged in [&text[..text.len() / 2], "!", "AAAA"] {
            let (_, note) = restored(damaged, Vec::new);
            assert!(note.unwrap().contains("the release starts over"), "{damaged}");
        }
    }

    #[test]
    fn an_order_names_who_the_api_server_knows_then_who_claims() {
        let asked = |text: &str, stamp: Option<&str>| {
            let mut annotations = json!({ "serin.dev/order": text });
            if let Some(stamp) = stamp {
                annotations["serin.dev/changed-by"] = stamp.into();
            }
            known(json!({ "name": "echo", "annotations": annotations }), json!({}))
                .asked
                .unwrap()
        };
        let json = r#"{"id":"7","command":"abort","who":"ann"}"#;
        assert_eq!(asked(json, Some("bob")).order().unwrap().1.who, "bob");
        assert_eq!(asked(json, None).order().unwrap().1.who, "ann");
        let (id, order) = asked("pause", None).order().unwrap();
        assert_eq!(
            (id.as_str(), order.command, order.who.as_str()),
            ("pause", Command::Pause, "somebody")
        );
        assert!(asked("stop", None).order().is_err());
    }

    #[test]
    fn a_spec_that_cannot_be_read_says_why() {
        let good = known(
            json!({ "name": "echo" }),
            json!({ "spec": { "service": "echo", "stable": { "name": "server" } } }),
        );
        assert_eq!(good.spec.unwrap().canary().name, "server-canary");
        let bad = known(
            json!({ "name": "echo" }),
            json!({ "spec": { "service": "echo" } }),
        );
        assert!(bad.spec.unwrap_err().contains("stable"));
    }
}
