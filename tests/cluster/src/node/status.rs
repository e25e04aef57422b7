//! What the API server is told of a pod. Pure.

use super::container::{End, Phase, State};
use k8s_openapi::{
    api::core::v1::{Container, Pod},
    jiff::Timestamp,
};
use kube::ResourceExt;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// What the node knows of a pod.
pub struct Facts<'a> {
    /// The pod as the API server has it.
    pub pod: &'a Pod,
    /// Its address.
    pub address: Ipv4Addr,
    /// When the node took it.
    pub began: Timestamp,
    /// Its containers, those for the start first.
    pub states: &'a [State],
}

/// Since when each condition says what it says.
#[derive(Default)]
pub struct Times(BTreeMap<&'static str, (bool, Timestamp)>);

impl Facts<'_> {
    /// The status as a patch.
    pub fn status(&self, times: &mut Times) -> Value {
        let initial = self.initial().len();
        let (first, main) = self.states.split_at(initial.min(self.states.len()));
        json!({
            "phase": self.phase(first, main),
            "podIP": self.address.to_string(),
            "podIPs": [{"ip": self.address.to_string()}],
            "hostIP": "198.18.0.1",
            "startTime": seconds(self.began),
            "conditions": self.conditions(first, main, times),
            "initContainerStatuses": statuses(self.initial(), first),
            "containerStatuses": statuses(self.containers(), main),
        })
    }

    fn initial(&self) -> &[Container] {
        let spec = self.pod.spec.as_ref();
        spec.and_then(|s| s.init_containers.as_deref())
            .unwrap_or_default()
    }

    fn containers(&self) -> &[Container] {
        self.pod
            .spec
            .as_ref()
            .map(|s| s.containers.as_slice())
            .unwrap_or_default()
    }

    fn phase(&self, first: &[State], main: &[State]) -> &'static str {
        let failed = |s: &State| matches!(&s.phase, Phase::Terminated(end) if end.code != 0);
        if first.iter().any(failed) {
            return "Failed";
        }
        let ends: Vec<_> = main
            .iter()
            .filter_map(|s| {
                if let Phase::Terminated(end) = &s.phase {
                    Some(end.code)
                } else {
                    None
                }
            })
            .collect();
        if !main.is_empty() && ends.len() == main.len() {
            return if ends.iter().all(|c| *c == 0) {
                "Succeeded"
            } else {
                "Failed"
            };
        }
        let begun = |s: &State| s.last.is_some() || !matches!(s.phase, Phase::Waiting(..));
        if main.iter().all(begun) {
            "Running"
        } else {
            "Pending"
        }
    }

    fn conditions(&self, first: &[State], main: &[State], times: &mut Times) -> Value {
        let initialized = self.initial().iter().zip(first).all(|(c, s)| past(c, s));
        let sidecars = self.initial().iter().zip(first).filter(|(c, _)| sidecar(c));
        let containers =
            initialized && main.iter().all(|s| s.ready) && sidecars.into_iter().all(|(_, s)| s.ready);
        let ready = containers && self.gates();
        let facts = [
            ("PodScheduled", true),
            ("Initialized", initialized),
            ("ContainersReady", containers),
            ("Ready", ready),
        ];
        facts
            .map(|(kind, holds)| self.condition(kind, holds, times))
            .into()
    }

    /// Conditions that others must set before the pod is ready.
    fn gates(&self) -> bool {
        let gates = self
            .pod
            .spec
            .iter()
            .flat_map(|s| s.readiness_gates.iter().flatten());
        let conditions = || self.pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        gates
            .into_iter()
            .all(|g| conditions().any(|c| c.type_ == g.condition_type && c.status == "True"))
    }

    fn condition(&self, kind: &'static str, holds: bool, times: &mut Times) -> Value {
        let now = Timestamp::now();
        let since = times.0.entry(kind).or_insert((holds, now));
        if since.0 != holds {
            *since = (holds, now);
        }
        let mut condition = json!({
            "type": kind,
            "status": if holds { "True" } else { "False" },
            "lastTransitionTime": seconds(since.1),
        });
        if !holds {
            condition["reason"] = if kind == "Initialized" {
                "ContainersNotInitialized"
            } else {
                "ContainersNotReady"
            }
            .into();
            condition["message"] = format!("containers with unready status: [{}]", self.unready()).into();
        }
        condition
    }

    fn unready(&self) -> String {
        let main = self.states.iter().skip(self.initial().len());
        let unready = self.containers().iter().zip(main).filter(|(_, s)| !s.ready);
        unready
            .map(|(c, _)| c.name.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Whether an init container goes on beside the others.
pub fn sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether the next container may start.
fn past(container: &Container, state: &State) -> bool {
    match &state.phase {
        Phase::Terminated(end) => end.code == 0,
        Phase::Running(_) => sidecar(container) && state.started,
        Phase::Waiting(..) => sidecar(container) && state.last.is_some(),
    }
}

fn statuses(containers: &[Container], states: &[State]) -> Vec<Value> {
    let both = containers.iter().zip(states);
    both.map(|(container, state)| status(container, state)).collect()
}

fn status(container: &Container, state: &State) -> Value {
    let image = container.image.clone().unwrap_or_default();
    json!({
        "name": container.name,
        "image": image,
        "imageID": format!("process://{image}"),
        "ready": state.ready,
        "started": state.started,
        "restartCount": state.restarts,
        "state": phase(&state.phase),
        "lastState": state.last.as_ref().map_or(json!({}), |end| json!({"terminated": terminated(end)})),
    })
}

fn phase(phase: &Phase) -> Value {
    match phase {
        Phase::Waiting(reason, message) if message.is_empty() => json!({"waiting": {"reason": reason}}),
        Phase::Waiting(reason, message) => json!({"waiting": {"reason": reason, "message": message}}),
        Phase::Running(since) => json!({"running": {"startedAt": seconds(*since)}}),
        Phase::Terminated(end) => json!({"terminated": terminated(end)}),
    }
}

fn terminated(end: &End) -> Value {
    let mut value = json!({
        "exitCode": end.code,
        "reason": end.reason,
        "startedAt": seconds(end.span.0),
        "finishedAt": seconds(end.span.1),
    });
    if !end.message.is_empty() {
        value["message"] = end.message.clone().into();
    }
    value
}

fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// The names by which the pod's processes are known.
pub fn place(pod: &Pod, container: &Container) -> super::Place {
    (
        pod.namespace().unwrap_or_default(),
        pod.name_any(),
        container.name.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(phase: Phase, ready: bool) -> Value {
        let mut pod = Pod::default();
        let container = Container {
            name: "app".into(),
            ..Default::default()
        };
        pod.spec.get_or_insert_default().containers = vec![container];
        let state = State {
            phase,
            last: None,
            restarts: 0,
            ready,
            started: ready,
        };
        let facts = Facts {
            pod: &pod,
            address: Ipv4Addr::new(198, 18, 1, 1),
            began: Timestamp::now(),
            states: &[state],
        };
        facts.status(&mut Times::default())
    }

    fn ready(status: &Value) -> &Value {
        &status["conditions"][3]["status"]
    }

    #[test]
    fn a_pod_is_pending_then_running_then_ready() {
        let waiting = told(Phase::Waiting("ImagePullBackOff", "no".into()), false);
        assert_eq!(
            (waiting["phase"].as_str(), ready(&waiting)),
            (Some("Pending"), &json!("False"))
        );
        let running = told(Phase::Running(Timestamp::now()), false);
        assert_eq!(
            (running["phase"].as_str(), ready(&running)),
            (Some("Running"), &json!("False"))
        );
        assert_eq!(
            ready(&told(Phase::Running(Timestamp::now()), true)),
            &json!("True")
        );
    }

    #[test]
    fn an_exit_code_makes_the_last_phase() {
        let end = |code| End {
            code,
            reason: "Error",
            message: String::new(),
            span: (Timestamp::now(), Timestamp::now()),
        };
        assert_eq!(told(Phase::Terminated(end(0)), false)["phase"], "Succeeded");
        assert_eq!(told(Phase::Terminated(end(3)), false)["phase"], "Failed");
    }
}
