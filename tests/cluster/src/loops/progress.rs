//! The status of a Deployment: its numbers, and whether it gets on.

use super::{
    Pass,
    deployments::{Family, manager, status},
    since,
};
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{Api, Client, ResourceExt, api::Patch};
use serde_json::json;
use std::time::Duration;

/// Writes the status when it differs, and says when the progress deadline has to be looked at.
pub(super) async fn tell(client: &Client, family: &Family<'_>) -> Pass {
    let before = family.deployment.status.clone().unwrap_or_default();
    let mut after = numbers(family);
    let (progressing, wake) = progressing(family, &before, &after);
    after.conditions = Some(vec![
        keep_time(&before, available(family, &after)),
        keep_time(&before, progressing),
    ]);
    after.collision_count = before.collision_count;
    if after != before {
        let api = Api::<Deployment>::namespaced(client.clone(), &family.namespace());
        let patch = Patch::Merge(json!({"status": explicit(&after)}));
        api.patch_status(&family.deployment.name_any(), &manager(), &patch)
            .await?;
    }
    Ok(wake)
}

/// Zeros are written as nulls, as the real controller leaves them out.
fn explicit(status: &DeploymentStatus) -> serde_json::Value {
    json!({
        "observedGeneration": status.observed_generation,
        "replicas": status.replicas,
        "updatedReplicas": status.updated_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "unavailableReplicas": status.unavailable_replicas,
        "conditions": status.conditions,
    })
}

fn numbers(family: &Family<'_>) -> DeploymentStatus {
    let sum = |number: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>| {
        let total: i32 = family.sets().map(|s| status(s, number)).sum();
        (total > 0).then_some(total)
    };
    let replicas = sum(|s| Some(s.replicas));
    let available = sum(|s| s.available_replicas);
    let updated = family.new.as_ref().map_or(0, |s| status(s, |s| Some(s.replicas)));
    let wanted: i32 = family.sets().map(super::deployments::wanted).sum();
    let missing = wanted.max(family.replicas()) - available.unwrap_or(0);
    DeploymentStatus {
        observed_generation: family.deployment.metadata.generation,
        replicas,
        updated_replicas: (updated > 0).then_some(updated),
        ready_replicas: sum(|s| s.ready_replicas),
        available_replicas: available,
        unavailable_replicas: (missing > 0).then_some(missing),
        ..Default::default()
    }
}

fn available(family: &Family<'_>, status: &DeploymentStatus) -> DeploymentCondition {
    let least = family.replicas() - family.unavailable();
    if status.available_replicas.unwrap_or(0) >= least {
        let message = "Deployment has minimum availability.";
        return condition("Available", "True", "MinimumReplicasAvailable", message.into());
    }
    let message = "Deployment does not have minimum availability.";
    condition("Available", "False", "MinimumReplicasUnavailable", message.into())
}

fn progressing(
    family: &Family<'_>,
    before: &DeploymentStatus,
    after: &DeploymentStatus,
) -> (DeploymentCondition, Option<Duration>) {
    let set = family.new.as_ref().map(|s| s.name_any()).unwrap_or_default();
    let make = |status, reason, message| condition("Progressing", status, reason, message);
    if family.spec.paused == Some(true) {
        return (
            make("Unknown", "DeploymentPaused", "Deployment is paused".into()),
            None,
        );
    }
    if complete(family, after) {
        let message = format!("ReplicaSet \"{set}\" has successfully progressed.");
        return (make("True", "NewReplicaSetAvailable", message), None);
    }
    let deadline = Duration::from_secs(family.spec.progress_deadline_seconds.unwrap_or(600).max(0) as u64);
    let stood = if advanced(before, after) {
        Duration::ZERO
    } else {
        standing(before)
    };
    if stood > deadline {
        let message = format!("ReplicaSet \"{set}\" has timed out progressing.");
        return (make("False", "ProgressDeadlineExceeded", message), None);
    }
    let message = format!("ReplicaSet \"{set}\" is progressing.");
    let mut condition = make("True", "ReplicaSetUpdated", message);
    if !stood.is_zero() {
        condition.last_update_time = last(before, "Progressing").and_then(|c| c.last_update_time.clone());
    }
    (
        condition,
        Some(deadline.saturating_sub(stood) + Duration::from_secs(1)),
    )
}

/// How long nothing has moved, by the time of the last progress; zero after a completion or in the beginning.
fn standing(before: &DeploymentStatus) -> Duration {
    let condition =
        last(before, "Progressing").filter(|c| c.reason.as_deref() != Some("NewReplicaSetAvailable"));
    let time = condition.and_then(|c| c.last_update_time.as_ref());
    time.map(since).unwrap_or_default()
}

fn complete(family: &Family<'_>, status: &DeploymentStatus) -> bool {
    let all = Some(family.replicas()).filter(|n| *n > 0);
    family.new.is_some()
        && status.updated_replicas == all
        && status.replicas == all
        && status.available_replicas == all
}

fn advanced(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let old = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    before.observed_generation != after.observed_generation
        || after.updated_replicas > before.updated_replicas
        || old(after) < old(before)
        || after.ready_replicas > before.ready_replicas
        || after.available_replicas > before.available_replicas
}

fn condition(kind: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
    let now = now();
    DeploymentCondition {
        last_transition_time: Some(now.clone()),
        last_update_time: Some(now),
        message: Some(message),
        reason: Some(reason.into()),
        status: status.into(),
        type_: kind.into(),
    }
}

/// Now, in whole seconds, as the wire carries it: else each comparison with what was read would differ.
fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn last<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

/// A condition that says what it said before keeps its times.
fn keep_time(before: &DeploymentStatus, mut condition: DeploymentCondition) -> DeploymentCondition {
    let Some(old) = last(before, &condition.type_) else {
        return condition;
    };
    if old.status == condition.status {
        condition.last_transition_time = old.last_transition_time.clone();
        let settled = condition.reason.as_deref() != Some("ReplicaSetUpdated");
        if settled && old.reason == condition.reason && old.message == condition.message {
            condition.last_update_time = old.last_update_time.clone();
        }
    }
    condition
}
