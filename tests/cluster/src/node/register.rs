//! The Node object and its Lease.

use super::RETRY;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, Node},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time;

const LEASES: &str = "kube-node-lease";
/// A node is taken for lost after 40 s.
const RENEW: Duration = Duration::from_secs(10);

/// Makes both, and renews the Lease for ever.
pub async fn keep(client: Client, name: String) {
    loop {
        let pause = match write(&client, &name).await {
            Ok(()) => RENEW,
            Err(e) => {
                tracing::debug!("the node {name}: {e}");
                RETRY
            }
        };
        time::sleep(pause).await;
    }
}

async fn write(client: &Client, name: &str) -> Result<(), kube::Error> {
    let nodes = Api::<Node>::all(client.clone());
    if nodes.get_opt(name).await?.is_none() {
        nodes.create(&PostParams::default(), &node(name)).await?;
    }
    let patch = Patch::Strategic(json!({"status": status()}));
    nodes.patch_status(name, &PatchParams::default(), &patch).await?;
    renew(client, name).await
}

async fn renew(client: &Client, name: &str) -> Result<(), kube::Error> {
    let namespaces = Api::<Namespace>::all(client.clone());
    if namespaces.get_opt(LEASES).await?.is_none() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(LEASES.into());
        namespaces.create(&PostParams::default(), &namespace).await?;
    }
    let leases = Api::<Lease>::namespaced(client.clone(), LEASES);
    let now = format!("{:.6}", Timestamp::now());
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
    });
    let apply = PatchParams::apply("process-node").force();
    leases.patch(name, &apply, &Patch::Apply(lease)).await.map(drop)
}

fn node(name: &str) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(name.into());
    let label = ("kubernetes.io/hostname".into(), name.into());
    node.metadata.labels = Some([label].into());
    node
}

fn status() -> Value {
    let now = format!("{:.0}", Timestamp::now());
    let room = json!({"cpu": "64", "memory": "64Gi", "pods": "500"});
    json!({
        "capacity": room, "allocatable": room,
        "addresses": [{"type": "InternalIP", "address": "198.18.0.1"}],
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "runs pods as processes",
            "lastHeartbeatTime": now,
        }],
    })
}
