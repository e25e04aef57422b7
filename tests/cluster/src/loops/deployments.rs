//! Deployments: a ReplicaSet for each template, their sizes, their revisions, and the status that people wait for.

use super::{
    Outcome, Pass, all,
    family::{TEMPLATE_HASH, children, template_hash},
    progress,
    rolling::{Count, Update, resolve},
};
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec},
    api::core::v1::PodTemplateSpec,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const REVISION: &str = "deployment.kubernetes.io/revision";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Looks at every Deployment once.
pub async fn pass(client: Client) -> Pass {
    let sets = all::<ReplicaSet>(&client).await?;
    let mut outcome = Outcome::default();
    for deployment in all::<Deployment>(&client).await? {
        if deployment.metadata.deletion_timestamp.is_none() {
            outcome.add(turn(&client, &deployment, &sets).await);
        }
    }
    outcome.end()
}

/// One Deployment and the sets that it controls, oldest revision first.
pub(super) struct Family<'a> {
    client: &'a Client,
    pub deployment: &'a Deployment,
    pub spec: &'a DeploymentSpec,
    hash: String,
    pub new: Option<ReplicaSet>,
    pub old: Vec<ReplicaSet>,
}

async fn turn(client: &Client, deployment: &Deployment, sets: &[ReplicaSet]) -> Pass {
    let Some(spec) = &deployment.spec else {
        return Ok(None);
    };
    let hash = template_hash(&spec.template);
    let mut own = children(client, deployment, &spec.selector, sets).await?;
    own.retain(|s| s.metadata.deletion_timestamp.is_none());
    own.sort_by_key(|s| (revision(s), s.creation_timestamp()));
    let (mut new, old): (Vec<_>, Vec<_>) = own
        .into_iter()
        .partition(|s| s.labels().get(TEMPLATE_HASH) == Some(&hash));
    let mut family = Family {
        client,
        deployment,
        spec,
        hash,
        new: new.pop(),
        old,
    };
    family.act().await?;
    progress::tell(client, &family).await
}

impl Family<'_> {
    /// What `spec.replicas` says, with its default.
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// Pods that may be missing in a rolling update.
    pub fn unavailable(&self) -> i32 {
        let rolling = self
            .spec
            .strategy
            .as_ref()
            .and_then(|s| s.rolling_update.as_ref());
        let most = rolling.and_then(|r| r.max_unavailable.as_ref());
        let unavailable = resolve(most, "25%", self.replicas(), false);
        // Both zero would never move: the real controller allows one to be missing then.
        if self.surge() == 0 {
            unavailable.max(1)
        } else {
            unavailable
        }
    }

    fn surge(&self) -> i32 {
        let rolling = self
            .spec
            .strategy
            .as_ref()
            .and_then(|s| s.rolling_update.as_ref());
        resolve(
            rolling.and_then(|r| r.max_surge.as_ref()),
            "25%",
            self.replicas(),
            true,
        )
    }

    /// All its sets, the new one last.
    pub fn sets(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    async fn act(&mut self) -> Result<(), kube::Error> {
        if self.spec.paused == Some(true) {
            return self.act_paused().await;
        }
        let recreate = self.spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate");
        if recreate && !self.stop_old().await? {
            return Ok(());
        }
        self.number().await?;
        self.roll().await?;
        self.forget().await
    }

    /// A paused Deployment starts no set; only its size is followed, in the largest set.
    async fn act_paused(&self) -> Result<(), kube::Error> {
        let others = |set: &ReplicaSet| self.sets().map(wanted).sum::<i32>() - wanted(set);
        match self.sets().max_by_key(|s| wanted(s)) {
            Some(set) => self.size(set, (self.replicas() - others(set)).max(0)).await,
            None => Ok(()),
        }
    }

    /// Scales old sets to zero; whether all their pods are gone.
    async fn stop_old(&self) -> Result<bool, kube::Error> {
        for set in &self.old {
            self.size(set, 0).await?;
        }
        Ok(self.old.iter().all(|s| status(s, |s| Some(s.replicas)) == 0))
    }

    async fn roll(&self) -> Result<(), kube::Error> {
        let Some(new) = &self.new else { return Ok(()) };
        let update = Update {
            replicas: self.replicas(),
            surge: self.surge(),
            unavailable: self.unavailable(),
            new: count(new),
            old: self.old.iter().map(count).collect(),
        };
        let (size, sizes) = update.sizes();
        self.size(new, size).await?;
        for (set, size) in self.old.iter().zip(sizes) {
            self.size(set, size).await?;
        }
        Ok(())
    }

    async fn size(&self, set: &ReplicaSet, replicas: i32) -> Result<(), kube::Error> {
        if wanted(set) == replicas {
            return Ok(());
        }
        self.merge(set, json!({"spec": {"replicas": replicas}})).await
    }

    /// Makes the set of the present template when it is missing, and gives it the highest revision.
    async fn number(&mut self) -> Result<(), kube::Error> {
        let last = self.old.iter().map(revision).max().unwrap_or(0);
        let Some(new) = &self.new else {
            return self.create(last + 1).await;
        };
        let revision = revision(new).max(last + 1);
        let annotations = self.annotations(revision);
        if annotations
            .iter()
            .any(|(k, v)| new.annotations().get(k) != Some(v))
        {
            self.merge(new, json!({"metadata": {"annotations": annotations}}))
                .await?;
        }
        self.note(revision).await
    }

    async fn create(&mut self, revision: i64) -> Result<(), kube::Error> {
        let set = self.fresh(revision);
        let made = self.api().create(&PostParams::default(), &set).await;
        self.new = Some(match made {
            Err(kube::Error::Api(e)) if e.code == 409 => self.api().get(&set.name_any()).await?,
            made => made?,
        });
        self.note(revision).await
    }

    async fn note(&self, revision: i64) -> Result<(), kube::Error> {
        let revision = revision.to_string();
        if self.deployment.annotations().get(REVISION) == Some(&revision) {
            return Ok(());
        }
        let api = Api::<Deployment>::namespaced(self.client.clone(), &self.namespace());
        let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
        api.patch(&self.deployment.name_any(), &manager(), &Patch::Merge(patch))
            .await
            .map(drop)
    }

    fn fresh(&self, revision: i64) -> ReplicaSet {
        let mut template = self.spec.template.clone();
        label(&mut template, &self.hash);
        let mut selector = self.spec.selector.clone();
        let labels = selector.match_labels.get_or_insert_default();
        labels.insert(TEMPLATE_HASH.into(), self.hash.clone());
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{}", self.deployment.name_any(), self.hash)),
                namespace: self.deployment.namespace(),
                labels: template.metadata.as_ref().and_then(|m| m.labels.clone()),
                annotations: Some(self.annotations(revision)),
                owner_references: self.deployment.controller_owner_ref(&()).map(|o| vec![o]),
                ..Default::default()
            },
            spec: Some(self.set_spec(selector, template)),
            status: None,
        }
    }

    fn set_spec(&self, selector: LabelSelector, template: PodTemplateSpec) -> ReplicaSetSpec {
        ReplicaSetSpec {
            min_ready_seconds: self.spec.min_ready_seconds,
            replicas: Some(0),
            selector,
            template: Some(template),
        }
    }

    /// The Deployment's own words go to the set, so that `rollout history` tells the cause of each revision.
    fn annotations(&self, revision: i64) -> BTreeMap<String, String> {
        let mut annotations = self.deployment.annotations().clone();
        annotations.remove(LAST_APPLIED);
        annotations.insert(REVISION.into(), revision.to_string());
        annotations
    }

    /// Empty sets beyond the history limit go, oldest first.
    async fn forget(&self) -> Result<(), kube::Error> {
        let keep = self.spec.revision_history_limit.unwrap_or(10).max(0) as usize;
        let empty = |s: &&ReplicaSet| wanted(s) == 0 && status(s, |s| Some(s.replicas)) == 0;
        let spent: Vec<_> = self.old.iter().filter(empty).collect();
        for set in spent.iter().take(spent.len().saturating_sub(keep)) {
            self.api()
                .delete(&set.name_any(), &DeleteParams::background())
                .await?;
        }
        Ok(())
    }

    async fn merge(&self, set: &ReplicaSet, patch: Value) -> Result<(), kube::Error> {
        self.api()
            .patch(&set.name_any(), &manager(), &Patch::Merge(patch))
            .await
            .map(drop)
    }

    fn api(&self) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), &self.namespace())
    }

    /// The Deployment's namespace.
    pub fn namespace(&self) -> String {
        self.deployment.namespace().unwrap_or_default()
    }
}

/// The name under which the real controller's fields are owned.
pub(super) fn manager() -> PatchParams {
    PatchParams {
        field_manager: Some("kube-controller-manager".into()),
        ..Default::default()
    }
}

/// `spec.replicas` of a set.
pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// A number of a set's status; 0 when it is not there.
pub(super) fn status(
    set: &ReplicaSet,
    number: impl Fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>,
) -> i32 {
    set.status.as_ref().and_then(number).unwrap_or(0)
}

fn count(set: &ReplicaSet) -> Count {
    Count {
        wanted: wanted(set),
        available: status(set, |s| s.available_replicas),
    }
}

fn revision(set: &ReplicaSet) -> i64 {
    let text = set.annotations().get(REVISION);
    text.and_then(|r| r.parse().ok()).unwrap_or(0)
}

fn label(template: &mut PodTemplateSpec, hash: &str) {
    let metadata = template.metadata.get_or_insert_default();
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(TEMPLATE_HASH.into(), hash.into());
}
