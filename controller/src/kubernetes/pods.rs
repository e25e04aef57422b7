//! The pods of a canary that is starting: where smoke requests go, and why it does not become ready. Watched only then.

use super::{
    api::{Kind, Server},
    template::Labels,
    watching::follow,
    world::is_ready,
};
use kube::{
    core::DynamicObject,
    runtime::watcher::{self, Event},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::Notify, task::JoinHandle};

/// Most characters of a pod's own words.
const LONGEST: usize = 200;

/// A watch that ends when it is dropped.
#[derive(Debug)]
pub(super) struct Pods {
    labels: Labels,
    known: Arc<Mutex<BTreeMap<String, Pod>>>,
    watch: JoinHandle<()>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pod {
    ip: Option<String>,
    ready: bool,
    /// Named ports.
    ports: BTreeMap<String, u64>,
    /// Why it is not ready, in its own words.
    trouble: Option<String>,
}

impl Pods {
    /// Watches the pods with these labels; `news` is told of changes.
    pub fn watch(server: &Server, namespace: &str, labels: Labels, news: Arc<Notify>) -> Pods {
        let known = Arc::new(Mutex::new(BTreeMap::new()));
        let selector: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let config = watcher::Config::default().labels(&selector.join(","));
        let api = server.all(Kind::Pod, Some(namespace));
        let memory = known.clone();
        let watch = tokio::spawn(async move {
            follow("the canary's pods", api, config, |event| {
                take(&mut lock(&memory), event);
                news.notify_one();
            })
            .await;
        });
        Pods { labels, known, watch }
    }

    /// Whether it is these that are watched.
    pub fn are(&self, labels: &Labels) -> bool {
        self.labels == *labels
    }

    /// What the first pod in trouble says of itself.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.known).values().find_map(|p| p.trouble.clone())
    }

    /// Where the ready ones listen: `port` is a number, or a name.
    pub fn endpoints(&self, port: &Value) -> Vec<String> {
        let known = lock(&self.known);
        let ready = known.values().filter(|p| p.ready);
        ready
            .filter_map(|p| {
                let number = port.as_u64().or_else(|| p.ports.get(port.as_str()?).copied())?;
                let ip = p.ip.as_ref()?;
                Some(if ip.contains(':') {
                    format!("[{ip}]:{number}")
                } else {
                    format!("{ip}:{number}")
                })
            })
            .collect()
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn lock(known: &Mutex<BTreeMap<String, Pod>>) -> MutexGuard<'_, BTreeMap<String, Pod>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(known: &mut BTreeMap<String, Pod>, event: Event<DynamicObject>) {
    let name = |o: &DynamicObject| o.metadata.name.clone().unwrap_or_default();
    match event {
        Event::Init => known.clear(),
        Event::InitApply(object) | Event::Apply(object) if object.metadata.deletion_timestamp.is_none() => {
            known.insert(name(&object), Pod::of(&object));
        }
        Event::InitApply(object) | Event::Apply(object) | Event::Delete(object) => {
            known.remove(&name(&object));
        }
        Event::InitDone => {}
    }
}

impl Pod {
    fn of(object: &DynamicObject) -> Pod {
        let status = &object.data["status"];
        let ready = is_ready(status);
        let containers = object.data["spec"]["containers"].as_array().into_iter().flatten();
        let ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
        Pod {
            ip: status["podIP"].as_str().map(str::to_owned),
            ready,
            ports: ports
                .filter_map(|p| Some((p["name"].as_str()?.to_owned(), p["containerPort"].as_u64()?)))
                .collect(),
            trouble: if ready { None } else { trouble(status) },
        }
    }
}

/// What a container waits for, and how it ended before; else why the pod has no node.
fn trouble(status: &Value) -> Option<String> {
    let of = |key: &str| {
        status[key]
            .as_array()
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
    };
    let containers = [of("initContainerStatuses"), of("containerStatuses")].concat();
    let said = containers
        .iter()
        .filter(|c| c["ready"] != true)
        .find_map(container_trouble);
    let conditions = of("conditions");
    let unplaced = || {
        let found = conditions
            .iter()
            .find(|c| c["type"] == "PodScheduled" && c["status"] == "False")?;
        Some(sentence(&found["reason"], &found["message"]))
    };
    said.or_else(unplaced)
        .map(|text| text.chars().take(LONGEST).collect())
}

fn container_trouble(container: &Value) -> Option<String> {
    let waiting = &container["state"]["waiting"];
    let ended = [
        &container["state"]["terminated"],
        &container["lastState"]["terminated"],
    ];
    let exit = ended.iter().find_map(|t| t["exitCode"].as_i64());
    let exit = exit.map(|code| format!("the last run ended with exit code {code}"));
    let reason = waiting["reason"]
        .as_str()
        .filter(|r| *r != "ContainerCreating" && *r != "PodInitializing");
    match (reason, exit) {
        (Some(_), None) => Some(sentence(&waiting["reason"], &waiting["message"])),
        (Some(reason), Some(exit)) => Some(format!("{reason}: {exit}")),
        (None, exit) => exit,
    }
}

fn sentence(reason: &Value, message: &Value) -> String {
    match (reason.as_str(), message.as_str()) {
        (Some(reason), Some(message)) if !message.is_empty() => format!("{reason}: {message}"),
        (Some(reason), _) => reason.to_owned(),
        (None, message) => message.unwrap_or("it does not say why").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trouble_of(container: Value) -> Option<String> {
        trouble(&json!({ "containerStatuses": [container] }))
    }

    #[test]
    fn a_pod_says_itself_why_it_is_not_ready() {
        let image = json!({ "ready": false, "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } } });
        assert_eq!(trouble_of(image).unwrap(), "ImagePullBackOff: no such image");
        let crash = json!({ "ready": false, "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } }, "lastState": { "terminated": { "exitCode": 3 } } });
        assert_eq!(
            trouble_of(crash).unwrap(),
            "CrashLoopBackOff: the last run ended with exit code 3"
        );
        assert_eq!(
            trouble_of(json!({ "ready": false, "state": { "waiting": { "reason": "ContainerCreating" } } })),
            None
        );
        let unplaced = json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes" }] });
        assert_eq!(trouble(&unplaced).unwrap(), "Unschedulable: 0/3 nodes");
    }

    #[test]
    fn smoke_requests_go_to_ready_pods_by_number_or_name() {
        let pod = |ready: &str| {
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": ready },
                "spec": { "containers": [{ "ports": [{ "name": "http", "containerPort": 8080 }] }] },
                "status": { "podIP": "198.18.1.2", "conditions": [{ "type": "Ready", "status": ready }] } })
        };
        let mut known = BTreeMap::new();
        for ready in ["True", "False"] {
            take(
                &mut known,
                Event::Apply(serde_json::from_value(pod(ready)).unwrap()),
            );
        }
        assert_eq!(known.len(), 2);
        assert!(known["True"].ready && !known["False"].ready);
        assert_eq!(known["True"].ports["http"], 8080);
    }
}
