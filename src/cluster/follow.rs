//! The Rollouts of a namespace, whenever one of them changes.

use super::{Cluster, rollout, rollout::Rollout};
use crate::{fail::Failure, watch::Sight};
use futures_util::StreamExt;
use kube::{
    ResourceExt,
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use std::{collections::BTreeMap, pin::pin};

/// Until nobody listens, or all that were named are gone. An outage of the API server is waited out.
pub async fn follow(
    cluster: &Cluster,
    names: &[String],
    mut tell: impl FnMut(Vec<Sight>) -> bool,
) -> Result<(), Failure> {
    let mut config = watcher::Config::default();
    if let [name] = names {
        config = config.fields(&format!("metadata.name={name}"));
    }
    let mut changes = pin!(watcher::watcher(cluster.api(), config).default_backoff());
    let (mut all, mut listed) = (BTreeMap::new(), BTreeMap::new());
    while let Some(change) = changes.next().await {
        match change {
            // Until the list is whole, what is not in it is not gone.
            Ok(Event::Init) => {
                listed = BTreeMap::new();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                take(&mut listed, object, names)?;
                continue;
            }
            Ok(Event::InitDone) => all = std::mem::take(&mut listed),
            Ok(Event::Apply(object)) => take(&mut all, object, names)?,
            Ok(Event::Delete(object)) => drop(all.remove(&object.name_any())),
            Err(e) => {
                rollout::lost(e)?;
                continue;
            }
        }
        if all.is_empty() && !names.is_empty() {
            return Err(Failure::usage(format!(
                "the rollout {} was deleted",
                names.join(", ")
            )));
        }
        if !tell(all.values().cloned().collect()) {
            return Ok(());
        }
    }
    Ok(())
}

fn take(into: &mut BTreeMap<String, Sight>, object: DynamicObject, names: &[String]) -> Result<(), Failure> {
    if names.is_empty() || names.contains(&object.name_any()) {
        let rollout = Rollout::read(object)?;
        into.insert(rollout.name.clone(), rollout.sight());
    }
    Ok(())
}
