//! Orders: an annotation of the Rollout with a number of its own, and the answer in its status.

use super::{Cluster, MANAGER, PATIENCE, rollout, rollout::Rollout};
use crate::fail::Failure;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use proxy::contract::{
    names::{ORDER, PREFIX},
    release::Command,
    rollout::{OrderStatus, Ordered},
};
use serde_json::json;
use tokio::time::timeout;

/// Gives it and waits for the answer; gives that back, with the Rollout as it stands then.
pub async fn give(
    cluster: &Cluster,
    name: &str,
    command: Command,
    why: Option<&str>,
) -> Result<(String, Rollout), Failure> {
    cluster.rollout(name).await?;
    let order = Ordered {
        id: crate::plane::random_token(),
        command,
        who: who(cluster).await,
        why: why.map(str::to_owned),
    };
    write(cluster, name, &order).await?;
    let mut changes = std::pin::pin!(cluster.changes(name));
    let answered = async {
        loop {
            let now = rollout::next(&mut changes, name).await?;
            if let Some(answer) = now.status.order.clone().filter(|o| o.id == order.id) {
                return settled(answer, now);
            }
        }
    };
    timeout(PATIENCE, answered)
        .await
        .unwrap_or_else(|_| Err(nobody()))
}

fn settled(answer: OrderStatus, now: Rollout) -> Result<(String, Rollout), Failure> {
    match answer.done {
        true => Ok((answer.answer, now)),
        false if answer.answer.is_empty() => {
            Err(Failure::refused("the controller refused it and did not say why"))
        }
        false => Err(Failure::refused(answer.answer)),
    }
}

fn nobody() -> Failure {
    Failure::usage(
        "the order is written, but the controller has not answered within 10 s; is it running? kubectl get pods -A -l app.kubernetes.io/name=serin-controller",
    )
}

/// The name that the API server knows the caller by; empty where it does not say.
pub async fn who(cluster: &Cluster) -> String {
    let reviews: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let review = cluster
        .ask(reviews.create(&PostParams::default(), &SelfSubjectReview::default()))
        .await;
    let user = review.ok().and_then(|r| r.status?.user_info?.username);
    user.unwrap_or_default()
}

async fn write(cluster: &Cluster, name: &str, order: &Ordered) -> Result<(), Failure> {
    let text = serde_json::to_string(order).map_err(Failure::refused)?;
    let patch = json!({"metadata": {"annotations": {format!("{PREFIX}{ORDER}"): text}}});
    let written = cluster
        .ask(cluster.api().patch(name, &params(), &Patch::Merge(patch)))
        .await;
    written
        .map(drop)
        .map_err(|t| t.told(&format!("patch rollouts.serin.dev {name}")))
}

/// As whom fields are written.
pub fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::rollout::tests::rollout;

    #[test]
    fn a_refusal_is_the_controllers_own_sentence() {
        let answer = |done, text: &str| OrderStatus {
            id: "1".into(),
            done,
            answer: text.into(),
        };
        let now = || rollout(json!({}));
        assert_eq!(
            settled(answer(true, "paused by ann"), now()).unwrap().0,
            "paused by ann"
        );
        let refused = settled(answer(false, "there is nothing to promote"), now()).unwrap_err();
        assert_eq!(refused.to_string(), "there is nothing to promote");
        assert!(
            !settled(answer(false, ""), now())
                .unwrap_err()
                .to_string()
                .is_empty()
        );
    }
}
