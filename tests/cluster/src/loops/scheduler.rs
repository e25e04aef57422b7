//! The scheduler: each pending pod goes to the node with the fewest pods.

use super::{Outcome, Pass, all, family::active};
use k8s_openapi::{
    api::core::v1::{Binding, Node, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status},
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use std::collections::BTreeMap;

/// Looks at every pod without a node once.
pub async fn pass(client: Client) -> Pass {
    let pods = all::<Pod>(&client).await?;
    let waiting: Vec<_> = pods.iter().filter(|p| node(p).is_none() && active(p)).collect();
    if waiting.is_empty() {
        return Ok(None);
    }
    let mut load = loads(&all::<Node>(&client).await?, &pods);
    let mut outcome = Outcome::default();
    for pod in waiting {
        let Some((node, pods)) = load.iter_mut().min_by_key(|(_, pods)| **pods) else {
            break;
        };
        *pods += 1;
        outcome.add(bind(&client, pod, node).await);
    }
    outcome.end()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref())
}

/// Pods on each node that is ready and takes some.
fn loads(nodes: &[Node], pods: &[Pod]) -> BTreeMap<String, usize> {
    let open = nodes.iter().filter(|n| ready(n) && !cordoned(n));
    open.map(|n| {
        let name = n.name_any();
        let pods = pods.iter().filter(|p| node(p) == Some(&name)).count();
        (name, pods)
    })
    .collect()
}

fn ready(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

fn cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true)
}

async fn bind(client: &Client, pod: &Pod, node: &str) -> Pass {
    let binding = Binding {
        metadata: ObjectMeta {
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            ..Default::default()
        },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.into()),
            ..Default::default()
        },
    };
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    api.create_subresource::<_, Status>("binding", &pod.name_any(), &PostParams::default(), &binding)
        .await
        .map(|_| None)
}
