//! A workload as it is remembered: not the object, but what is looked at, with the template as one compact text.

use super::template::{self, Labels};
use contract::{
    Fault,
    annotations::mistyped,
    names::{CHANGE_CAUSE, DEPLOY_IMAGE, MADE_FOR, SCALED_FROM, WORKLOAD_KEYS},
    rollout::WorkloadKind,
};
use kube::core::DynamicObject;
use serde_json::Value;
use std::sync::Arc;

/// A Deployment or a DaemonSet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub version: u64,
    pub made_for: Option<String>,
    pub scaled_from: Option<u32>,
    pub deploy_image: Option<String>,
    pub cause: Option<String>,
    pub template: Arc<str>,
    /// Keys of ours that nobody reads, and what was probably meant.
    pub mistyped: Vec<Fault>,
    /// `spec.selector` as text: it is needed only when the workload is copied.
    pub selector: Arc<str>,
    pub counts: Counts,
}

/// The numbers of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Pods that it should have.
    pub wanted: u32,
    pub ready: u32,
    pub settled: bool,
    pub stuck: Option<String>,
}

impl Known {
    /// Reads an object.
    pub fn of(object: &DynamicObject, kind: WorkloadKind, prefix: &str) -> Known {
        let annotations = object.metadata.annotations.as_ref();
        let ours = |key: &str| annotations?.get(&format!("{prefix}{key}")).cloned();
        let template = &object.data["spec"]["template"];
        let away = !template["spec"]["nodeSelector"][template::nowhere(prefix)].is_null();
        Known {
            version: version_of(object),
            made_for: ours(MADE_FOR),
            scaled_from: ours(SCALED_FROM).map(|n| n.parse().unwrap_or(1)),
            deploy_image: ours(DEPLOY_IMAGE),
            cause: ours(CHANGE_CAUSE),
            mistyped: annotations.map_or_else(Vec::new, |a| mistyped(a, prefix, &WORKLOAD_KEYS)),
            template: template.to_string().into(),
            selector: object.data["spec"]["selector"].to_string().into(),
            counts: match kind {
                WorkloadKind::Deployment => Counts::of_deployment(object),
                WorkloadKind::DaemonSet => Counts::of_daemon_set(object, away),
            },
        }
    }

    /// The template.
    pub fn template(&self) -> Value {
        serde_json::from_str(&self.template).unwrap_or_default()
    }

    /// The selector.
    pub fn selector(&self) -> Value {
        serde_json::from_str(&self.selector).unwrap_or_default()
    }

    /// The labels that its selector names.
    pub fn matched(&self) -> Labels {
        labels(&self.selector()["matchLabels"])
    }

    /// Whether somebody other than us has taken its pods away.
    pub fn is_put_away(&self) -> bool {
        self.counts.wanted == 0 && self.scaled_from.is_none()
    }

    /// Whether it has pods and yet a mark that we have taken them away: the next time that somebody else does would
    /// look like ours.
    pub fn is_mismarked(&self) -> bool {
        self.counts.wanted > 0 && self.scaled_from.is_some()
    }
}

impl Counts {
    fn of_deployment(object: &DynamicObject) -> Counts {
        let (spec, status) = (&object.data["spec"], &object.data["status"]);
        let wanted = spec["replicas"].as_u64().map_or(1, small);
        let [all, updated, ready, available] = [
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
        ]
        .map(|k| number(status, k));
        let fresh = is_observed(object);
        Counts {
            wanted,
            ready: if fresh { ready.min(updated) } else { 0 },
            settled: fresh && [all, updated, ready, available] == [wanted; 4],
            stuck: stuck(status),
        }
    }

    fn of_daemon_set(object: &DynamicObject, away: bool) -> Counts {
        let status = &object.data["status"];
        let names = [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "updatedNumberScheduled",
            "numberReady",
            "numberAvailable",
        ];
        let [wanted, all, updated, ready, available] = names.map(|k| number(status, k));
        let wanted = if away { 0 } else { wanted };
        let fresh = is_observed(object);
        Counts {
            wanted,
            ready: if fresh { ready.min(updated) } else { 0 },
            settled: fresh
                && [all, updated, ready, available] == [wanted; 4]
                && number(status, "numberMisscheduled") == 0,
            stuck: None,
        }
    }
}

fn is_observed(object: &DynamicObject) -> bool {
    object.data["status"]["observedGeneration"].as_i64() >= object.metadata.generation
}

fn stuck(status: &Value) -> Option<String> {
    let conditions = status["conditions"].as_array()?;
    let found = conditions
        .iter()
        .find(|c| c["type"] == "Progressing" && c["status"] == "False")?;
    let late = found["reason"] == "ProgressDeadlineExceeded";
    late.then(|| {
        found["message"]
            .as_str()
            .unwrap_or("its progress deadline has passed")
            .to_owned()
    })
}

fn number(status: &Value, key: &str) -> u32 {
    status[key].as_u64().map_or(0, small)
}

fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Labels from JSON.
pub(super) fn labels(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect()
}

/// The version of an object: what is older must not replace what is newer.
pub(super) fn version_of(object: &DynamicObject) -> u64 {
    let version = object.metadata.resource_version.as_deref();
    version.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Largest share that the canary's ready pods can take, and stable's could take back; without all of stable's pods the
/// present share is the most.
pub(super) fn room(stable: &Counts, canary: &Counts, present: f64) -> Option<f64> {
    let all = f64::from(stable.ready) + f64::from(canary.ready);
    if all == 0.0 {
        return Some(0.0);
    }
    let share = f64::from(canary.ready) / all;
    Some(if stable.ready >= stable.wanted {
        share
    } else {
        share.min(present)
    })
}

/// Pods that a canary of ours needs for a share.
pub(super) fn pods_for(share: f64, stable: u32) -> u32 {
    let share = if share.is_finite() {
        share.clamp(0.0, 0.99)
    } else {
        0.0
    };
    let pods = (share / (1.0 - share) * f64::from(stable)).ceil();
    (pods as u32).clamp(1, stable.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(status: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "server", "generation": 2, "resourceVersion": "17", "annotations": { "serin.dev/scaled-from": "3" } },
            "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "echo" } }, "template": {} },
            "status": status,
        }))
        .unwrap()
    }

    fn counts(status: Value) -> Counts {
        Known::of(&deployment(status), WorkloadKind::Deployment, "serin.dev/").counts
    }

    #[test]
    fn settled_is_all_pods_new_ready_and_no_other() {
        let good = json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2 });
        let settled = counts(good.clone());
        assert_eq!((settled.wanted, settled.ready, settled.settled), (2, 2, true));
        for (key, value) in [
            ("observedGeneration", 1),
            ("replicas", 3),
            ("updatedReplicas", 1),
            ("readyReplicas", 1),
            ("availableReplicas", 0),
        ] {
            let mut status = good.clone();
            status[key] = value.into();
            assert!(!counts(status).settled, "{key}");
        }
        assert_eq!(counts(json!({})).ready, 0);
    }

    #[test]
    fn a_workload_says_that_it_is_stuck_and_where_it_was() {
        let late = json!({ "conditions": [{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "no progress" }] });
        let known = Known::of(&deployment(late), WorkloadKind::Deployment, "serin.dev/");
        assert_eq!(known.counts.stuck.as_deref(), Some("no progress"));
        assert_eq!((known.scaled_from, known.version), (Some(3), 17));
        assert_eq!(
            counts(json!({ "conditions": [{ "type": "Progressing", "status": "True" }] })).stuck,
            None
        );
    }

    #[test]
    fn only_with_pods_is_the_mark_of_being_taken_away_wrong() {
        let at = |replicas: u32, marked: bool| {
            let mut object = deployment(json!({}));
            object.data["spec"]["replicas"] = replicas.into();
            if !marked {
                object.metadata.annotations = None;
            }
            let known = Known::of(&object, WorkloadKind::Deployment, "serin.dev/");
            (known.is_mismarked(), known.is_put_away())
        };
        assert_eq!(at(1, true), (true, false));
        assert_eq!(at(1, false), (false, false));
        assert_eq!(at(0, true), (false, false), "our own doing");
        assert_eq!(at(0, false), (false, true));
    }

    #[test]
    fn room_is_the_ready_share_and_no_more_while_stable_lacks_pods() {
        let of = |wanted, ready| Counts {
            wanted,
            ready,
            ..Counts::default()
        };
        assert_eq!(room(&of(3, 3), &of(1, 1), 0.0), Some(0.25));
        assert_eq!(room(&of(3, 2), &of(2, 2), 0.1), Some(0.1));
        assert_eq!(room(&of(3, 0), &of(2, 0), 0.1), Some(0.0));
    }

    #[test]
    fn a_canary_of_ours_has_pods_for_its_share() {
        assert_eq!(
            [0.0, 0.1, 0.25, 0.5, 0.9, f64::NAN].map(|s| pods_for(s, 4)),
            [1, 1, 2, 4, 4, 1]
        );
        assert_eq!(pods_for(0.5, 0), 1);
    }
}
