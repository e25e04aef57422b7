//! The weight by hand: the Service's annotations, as `kubectl annotate` would write them.

use super::{Cluster, PATIENCE, order, page, rollout, rollout::Rollout};
use crate::{calls::print_text, fail::Failure};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, api::Patch};
use proxy::contract::{
    Split,
    names::{CANARY_WEIGHT, CANARY_WEIGHT_TOTAL, CHANGE_CAUSE, CHANGED_BY, PREFIX},
    split::DEFAULT_TOTAL,
};
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use tokio::time::timeout;

/// How far the share that proxies tell may be from the one that was written: rounding in the status.
const NEAR: f64 = 1e-4;

/// Writes it, and waits until every proxy has taken it.
pub async fn set(
    cluster: &Cluster,
    name: &str,
    split: Split,
    cause: Option<&str>,
) -> Result<ExitCode, Failure> {
    let before = cluster.rollout(name).await?;
    let service = &before.spec.service;
    let patch = json!({"metadata": {"annotations": notes(split, &order::who(cluster).await, cause)}});
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let written = cluster
        .ask(services.patch(service, &order::params(), &Patch::Merge(patch)))
        .await;
    written.map_err(|t| t.told(&format!("patch services {service}")))?;
    match timeout(PATIENCE, taken(cluster, name, split)).await {
        Ok(now) => print_text(&page::table(&[now?], &cluster.namespace)),
        Err(_) if before.status.phase.is_final() => print_text(&format!(
            "canary-weight {split} is written; no release is under way, so nobody has asked the proxies\n"
        )),
        Err(_) => {
            return Err(Failure::usage(format!(
                "canary-weight {split} is written, but not every proxy has taken it within 10 s; `serin status {name}` says why"
            )));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is written beside the weight; `null` takes away what an earlier change has left.
fn notes(split: Split, who: &str, cause: Option<&str>) -> Map<String, Value> {
    let total = (split.total() != DEFAULT_TOTAL).then(|| split.total().to_string());
    let who = Some(who.to_owned()).filter(|w| !w.is_empty());
    [
        (CANARY_WEIGHT, Some(split.weight())),
        (CANARY_WEIGHT_TOTAL, total),
        (CHANGED_BY, who),
        (CHANGE_CAUSE, cause.map(str::to_owned)),
    ]
    .into_iter()
    .map(|(key, value)| (format!("{PREFIX}{key}"), json!(value)))
    .collect()
}

async fn taken(cluster: &Cluster, name: &str, split: Split) -> Result<Rollout, Failure> {
    let mut changes = std::pin::pin!(cluster.changes(name));
    loop {
        let now = rollout::next(&mut changes, name).await?;
        if is_taken(&now, split) {
            return Ok(now);
        }
    }
}

fn is_taken(now: &Rollout, split: Split) -> bool {
    let near = |share: f64| (share - split.share()).abs() < NEAR;
    let (wanted, taken) = now.weight();
    near(wanted.share()) && taken.is_some_and(near)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::rollout::tests::rollout;

    #[test]
    fn a_weight_brings_its_total_and_its_author_and_takes_old_ones_away() {
        let third = notes(
            Split::parse("1", Some("3"), "").unwrap(),
            "ann",
            Some("ticket 12"),
        );
        assert_eq!(third["serin.dev/canary-weight"], "1");
        assert_eq!(third["serin.dev/canary-weight-total"], "3");
        assert_eq!(third["serin.dev/changed-by"], "ann");
        assert_eq!(third["serin.dev/change-cause"], "ticket 12");
        let plain = notes(Split::parse("0.5", None, "").unwrap(), "", None);
        assert_eq!(plain["serin.dev/canary-weight"], "0.5");
        for key in ["canary-weight-total", "changed-by", "change-cause"] {
            assert_eq!(plain[&format!("serin.dev/{key}")], Value::Null);
        }
    }

    #[test]
    fn a_weight_is_taken_when_every_proxy_says_so() {
        let ten = Split::parse("10", None, "").unwrap();
        let taken = |weight: &str| is_taken(&rollout(json!({"weight": weight})), ten);
        assert!(taken("10/10"));
        assert!(!taken("10/5") && !taken("5/10") && !taken("10/?") && !taken(""));
    }
}
