//! ReplicaSets: as many pods as asked for, and how many of them are ready and available.

use super::{
    Outcome, Pass, all,
    deployments::{manager, wanted},
    family::{active, available, children, delete, pod, ready_for},
    sooner,
};
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PostParams},
};
use serde_json::{Value, json};
use std::{cmp::Reverse, time::Duration};

/// Looks at every ReplicaSet once.
pub async fn pass(client: Client) -> Pass {
    let sets = all::<ReplicaSet>(&client).await?;
    let pods = all::<Pod>(&client).await?;
    let mut outcome = Outcome::default();
    for set in sets.iter().filter(|s| s.metadata.deletion_timestamp.is_none()) {
        outcome.add(turn(&client, set, &pods).await);
    }
    outcome.end()
}

async fn turn(client: &Client, set: &ReplicaSet, pods: &[Pod]) -> Pass {
    let Some(spec) = &set.spec else { return Ok(None) };
    let mut own = children(client, set, &spec.selector, pods).await?;
    own.retain(active);
    let made = resize(client, set, &mut own).await;
    let told = tell(client, set, &own).await;
    made.and(told)
}

/// Makes or deletes pods; `own` holds afterwards what is left.
async fn resize(client: &Client, set: &ReplicaSet, own: &mut Vec<Pod>) -> Result<(), kube::Error> {
    let wanted = wanted(set).max(0) as usize;
    own.sort_by_key(|p| (Reverse(ready_for(p)), p.creation_timestamp()));
    while own.len() > wanted {
        let Some(pod) = own.pop() else { break };
        delete(client, &pod).await?;
    }
    let Some(template) = set.spec.as_ref().and_then(|s| s.template.as_ref()) else {
        return Ok(());
    };
    let api = Api::<Pod>::namespaced(client.clone(), &set.namespace().unwrap_or_default());
    while own.len() < wanted {
        own.push(api.create(&PostParams::default(), &pod(set, template)).await?);
    }
    Ok(())
}

async fn tell(client: &Client, set: &ReplicaSet, own: &[Pod]) -> Pass {
    let min_ready = set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
    let min_ready = Duration::from_secs(min_ready.max(0) as u64);
    let ages: Vec<_> = own.iter().map(|p| available(p, min_ready)).collect();
    let status = json!({
        "replicas": own.len(),
        "fullyLabeledReplicas": number(own.len()),
        "readyReplicas": number(own.iter().filter(|p| ready_for(p).is_some()).count()),
        "availableReplicas": number(ages.iter().filter(|a| a.is_ok()).count()),
        "observedGeneration": set.metadata.generation,
    });
    if differs(&status, &serde_json::to_value(&set.status).unwrap_or_default()) {
        let api = Api::<ReplicaSet>::namespaced(client.clone(), &set.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(&set.name_any(), &manager(), &patch).await?;
    }
    Ok(ages.into_iter().filter_map(Result::err).fold(None, sooner))
}

/// Zero is left out, as the real controller does.
fn number(n: usize) -> Value {
    if n == 0 { Value::Null } else { n.into() }
}

/// Whether any key of `new` says something else in `old`; a missing key is null.
pub(super) fn differs(new: &Value, old: &Value) -> bool {
    let keys = new.as_object().into_iter().flatten();
    keys.into_iter()
        .any(|(key, value)| old.get(key).unwrap_or(&Value::Null) != value)
}
