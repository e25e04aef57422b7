//! DaemonSets: one pod on each node, replaced a few at a time.

use super::{
    Outcome, Pass, all,
    deployments::manager,
    family::{active, available, children, delete, pod, ready_for, template_hash},
    replicasets::differs,
    rolling::resolve,
    sooner,
};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, DaemonSetSpec},
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PostParams},
};
use serde_json::json;
use std::time::Duration;

/// The label by which pods of one template are told from those of another.
const HASH: &str = "controller-revision-hash";

/// Looks at every DaemonSet once.
pub async fn pass(client: Client) -> Pass {
    let nodes = all::<Node>(&client).await?;
    let pods = all::<Pod>(&client).await?;
    let mut outcome = Outcome::default();
    for set in all::<DaemonSet>(&client).await? {
        if set.metadata.deletion_timestamp.is_none() {
            outcome.add(turn(&client, &set, &nodes, &pods).await);
        }
    }
    outcome.end()
}

struct Daemons<'a> {
    client: &'a Client,
    set: &'a DaemonSet,
    spec: &'a DaemonSetSpec,
    hash: String,
    nodes: Vec<String>,
    own: Vec<Pod>,
}

async fn turn(client: &Client, set: &DaemonSet, nodes: &[Node], pods: &[Pod]) -> Pass {
    let Some(spec) = &set.spec else { return Ok(None) };
    let mut daemons = Daemons {
        client,
        set,
        spec,
        hash: template_hash(&spec.template),
        nodes: nodes
            .iter()
            .filter(|n| suits(spec, n))
            .map(|n| n.name_any())
            .collect(),
        own: children(client, set, &spec.selector, pods).await?,
    };
    daemons.act().await?;
    daemons.tell().await
}

fn suits(spec: &DaemonSetSpec, node: &Node) -> bool {
    let wanted = spec.template.spec.as_ref().and_then(|s| s.node_selector.as_ref());
    let mut wanted = wanted.into_iter().flatten();
    wanted.all(|(key, value)| node.labels().get(key) == Some(value))
}

impl Daemons<'_> {
    async fn act(&mut self) -> Result<(), kube::Error> {
        for node in self.nodes.clone() {
            // A node whose old pod still ends gets its next one afterwards: without surge there is one at most.
            if !self.own.iter().any(|p| on(p, &node)) {
                let made = self.create(&node).await?;
                self.own.push(made);
            }
        }
        self.leave().await?;
        self.replace().await
    }

    async fn create(&self, node: &str) -> Result<Pod, kube::Error> {
        let mut pod = pod(self.set, &self.spec.template);
        pod.labels_mut().insert(HASH.into(), self.hash.clone());
        if let Some(spec) = &mut pod.spec {
            spec.node_name = Some(node.into());
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), &self.set.namespace().unwrap_or_default());
        api.create(&PostParams::default(), &pod).await
    }

    /// Pods on nodes that it does not want any more.
    async fn leave(&self) -> Result<(), kube::Error> {
        for pod in self.own.iter().filter(|p| active(p)) {
            if !self.nodes.iter().any(|n| on(pod, n)) {
                delete(self.client, pod).await?;
            }
        }
        Ok(())
    }

    /// Old pods that are not available go at once, others as `maxUnavailable` allows.
    async fn replace(&self) -> Result<(), kube::Error> {
        let strategy = self.spec.update_strategy.as_ref();
        if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
            return Ok(());
        }
        let most = strategy.and_then(|s| s.rolling_update.as_ref()?.max_unavailable.as_ref());
        let most = most
            .map_or(1, |m| resolve(Some(m), "1", self.nodes.len() as i32, true))
            .max(1);
        let mut spare = most - (self.nodes.len() as i32 - self.available());
        for pod in self.own.iter().filter(|p| active(p) && !self.current(p)) {
            let serves = self.serves(pod).is_ok();
            if !serves || spare > 0 {
                delete(self.client, pod).await?;
                spare -= i32::from(serves);
            }
        }
        Ok(())
    }

    fn current(&self, pod: &Pod) -> bool {
        pod.labels().get(HASH) == Some(&self.hash)
    }

    fn serves(&self, pod: &Pod) -> Result<(), Option<Duration>> {
        if !active(pod) {
            return Err(None);
        }
        available(
            pod,
            Duration::from_secs(self.spec.min_ready_seconds.unwrap_or(0).max(0) as u64),
        )
    }

    fn available(&self) -> i32 {
        self.own.iter().filter(|p| self.serves(p).is_ok()).count() as i32
    }

    async fn tell(&self) -> Pass {
        let wanted = self.nodes.len() as i32;
        let living: Vec<_> = self.own.iter().filter(|p| active(p)).collect();
        let count = |keep: &dyn Fn(&Pod) -> bool| living.iter().filter(|p| keep(p)).count();
        let available = self.available();
        let missing = wanted - available;
        let status = json!({
            "desiredNumberScheduled": wanted,
            "currentNumberScheduled": living.len(),
            "numberMisscheduled": 0,
            "numberReady": count(&|p| ready_for(p).is_some()),
            "updatedNumberScheduled": count(&|p| self.current(p)),
            "numberAvailable": available,
            "numberUnavailable": (missing > 0).then_some(missing),
            "observedGeneration": self.set.metadata.generation,
        });
        self.write(status).await?;
        let waits = self.own.iter().filter_map(|p| self.serves(p).err());
        Ok(waits.fold(None, sooner))
    }

    async fn write(&self, status: serde_json::Value) -> Result<(), kube::Error> {
        if !differs(
            &status,
            &serde_json::to_value(&self.set.status).unwrap_or_default(),
        ) {
            return Ok(());
        }
        let api =
            Api::<DaemonSet>::namespaced(self.client.clone(), &self.set.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(&self.set.name_any(), &manager(), &patch)
            .await
            .map(drop)
    }
}

fn on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node)
}
