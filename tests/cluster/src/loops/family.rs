//! Who owns whom: by owner reference, and by selector for orphans.

use super::since;
use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::{NamespaceResourceScope, Selector, SelectorExt},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{fmt::Debug, time::Duration};

/// The label by which pods of one template are told from those of another.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// The objects among `all` that this owner controls, after taking in orphans that its selector matches.
pub async fn children<K>(
    client: &Client,
    owner: &impl Resource<DynamicType = ()>,
    selector: &LabelSelector,
    all: &[K],
) -> Result<Vec<K>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let (Some(reference), Ok(selector)) = (
        owner.controller_owner_ref(&()),
        Selector::try_from(selector.clone()),
    ) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for child in all.iter().filter(|c| c.namespace() == owner.meta().namespace) {
        match controller(child.meta()) {
            Some(uid) if uid == reference.uid => found.push(child.clone()),
            None if fits(child.meta(), &selector) => found.push(adopt(client, child, &reference).await?),
            _ => {}
        }
    }
    Ok(found)
}

fn controller(meta: &ObjectMeta) -> Option<&str> {
    let owners = meta.owner_references.iter().flatten();
    owners
        .filter(|o| o.controller == Some(true))
        .map(|o| o.uid.as_str())
        .next()
}

fn fits(meta: &ObjectMeta, selector: &Selector) -> bool {
    let none = Default::default();
    meta.deletion_timestamp.is_none() && selector.matches(meta.labels.as_ref().unwrap_or(&none))
}

async fn adopt<K>(client: &Client, child: &K, owner: &OwnerReference) -> Result<K, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let meta = child.meta();
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.push(owner.clone());
    let patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "ownerReferences": owners}});
    let api = Api::<K>::namespaced(client.clone(), &child.namespace().unwrap_or_default());
    api.patch(&child.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await
}

/// A short name for what a template says. Letters that make no words, as in real hashes.
pub fn template_hash(template: &PodTemplateSpec) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = serde_json::to_string(template).unwrap_or_default();
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    (0..10)
        .map(|_| {
            let letter = LETTERS[(hash % 27) as usize];
            hash /= 27;
            char::from(letter)
        })
        .collect()
}

/// A pod that its owner still counts: not terminating, not finished.
pub fn active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !finished(pod)
}

/// Whether the pod has come to its end.
pub fn finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// How long the pod has been ready; `None` when it is not.
pub fn ready_for(pod: &Pod) -> Option<Duration> {
    let mut conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions.find(|c| c.type_ == "Ready" && c.status == "True")?;
    Some(ready.last_transition_time.as_ref().map(since).unwrap_or_default())
}

/// Whether it is available, or after how long it will be.
pub fn available(pod: &Pod, min_ready: Duration) -> Result<(), Option<Duration>> {
    match ready_for(pod) {
        None => Err(None),
        Some(time) if time >= min_ready => Ok(()),
        Some(time) => Err(Some(min_ready - time)),
    }
}

/// Deletes a pod as its owner does, with its own grace.
pub async fn delete(client: &Client, pod: &Pod) -> Result<(), kube::Error> {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let exactly = Preconditions {
        uid: pod.uid(),
        resource_version: None,
    };
    match api
        .delete(&pod.name_any(), &DeleteParams::default().preconditions(exactly))
        .await
    {
        Err(kube::Error::Api(e)) if e.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// A pod of this template, for this owner.
pub fn pod(owner: &impl Resource<DynamicType = ()>, template: &PodTemplateSpec) -> Pod {
    let mut metadata = template.metadata.clone().unwrap_or_default();
    metadata.generate_name = Some(format!("{}-", owner.meta().name.as_deref().unwrap_or_default()));
    metadata.namespace = owner.meta().namespace.clone();
    metadata.owner_references = owner.controller_owner_ref(&()).map(|o| vec![o]);
    metadata.creation_timestamp = None;
    Pod {
        metadata,
        spec: template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_one_short_name() {
        let mut template = PodTemplateSpec::default();
        let before = template_hash(&template);
        assert_eq!(before.len(), 10);
        assert_eq!(before, template_hash(&template));
        template.spec = Some(Default::default());
        assert_ne!(before, template_hash(&template));
    }
}
