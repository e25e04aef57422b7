//! Rollouts as the API server has them.

use super::{Cluster, Trouble, page};
use crate::{fail::Failure, guess, watch::Sight};
use futures_util::{Stream, StreamExt};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use proxy::contract::{
    Split,
    release::{Phase, Status},
    rollout::{GROUP, KIND, PLURAL, RolloutSpec, RolloutStatus, VERSION},
};
use serde::Serialize;
use serde_json::Value;
use std::pin::Pin;

/// Rollouts in one answer of a list.
const PAGE: u32 = 500;
/// Names that an error lists at most.
const LISTED: usize = 10;

/// One Rollout.
#[derive(Clone, Debug, Serialize)]
pub struct Rollout {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Of the spec.
    pub generation: Option<i64>,
    /// What is wanted.
    pub spec: RolloutSpec,
    /// Where it stands.
    pub status: RolloutStatus,
}

impl Rollout {
    /// # Errors
    /// A spec or a status that this version does not understand.
    pub fn read(object: DynamicObject) -> Result<Rollout, Failure> {
        let name = object.name_any();
        let wrong = |part: &str, e: serde_json::Error| {
            Failure::refused(format!(
                "the {part} of rollout {name} is not understood: {e}; are controller, definition (k8s/crd) and this program of one version?"
            ))
        };
        let part = |key: &str| object.data.get(key).cloned().unwrap_or(Value::Null);
        let spec = serde_json::from_value(part("spec")).map_err(|e| wrong("spec", e))?;
        let status: Option<RolloutStatus> =
            serde_json::from_value(part("status")).map_err(|e| wrong("status", e))?;
        Ok(Rollout {
            namespace: object.namespace().unwrap_or_default(),
            generation: object.metadata.generation,
            name,
            spec,
            status: status.unwrap_or_default(),
        })
    }

    /// For scripts: everything but the engine's own state.
    pub fn told(&self) -> Rollout {
        let mut told = self.clone();
        told.status.state = String::new();
        told
    }

    /// Wanted weight in percent, and the one that every proxy has taken.
    pub fn weight(&self) -> (Split, Option<f64>) {
        self.status.shares()
    }

    /// As a file's release is shown.
    pub fn shown(&self) -> Status {
        self.status.shown(&self.spec.service)
    }

    /// For the live view.
    pub fn sight(&self) -> Sight {
        let s = &self.status;
        Sight {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            status: self.shown(),
            explanation: None,
            places: format!("{} of {} proxies answer", s.proxies.heard, s.proxies.known),
            needs_you: page::ailment(self).map(str::to_owned),
        }
    }

    /// The number of the last decision.
    pub fn last_decision(&self) -> u64 {
        self.status.decisions.last().map_or(0, |d| d.number)
    }

    /// Why the release went where it went: the words of the decision that settled it.
    pub fn verdict_reason(&self) -> &str {
        let settled = |p: Phase| matches!(p, Phase::Promoting | Phase::RollingBack | Phase::Undecided);
        let decision = self.status.decisions.iter().rev().find(|d| settled(d.to));
        decision.map_or(&self.status.reason, |d| &d.reason)
    }
}

impl Cluster {
    /// The Rollouts of the namespace.
    pub fn api(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(GROUP, VERSION, KIND);
        let resource = ApiResource::from_gvk_with_plural(&kind, PLURAL);
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// One of them.
    pub async fn rollout(&self, name: &str) -> Result<Rollout, Failure> {
        match self.ask(self.api().get(name)).await {
            Ok(object) => Rollout::read(object),
            Err(trouble) if trouble.is_absent() => Err(self.no_such(name).await),
            Err(trouble) => Err(trouble.told(&format!("get rollouts.{GROUP} {name}"))),
        }
    }

    /// All of them.
    pub async fn rollouts(&self) -> Result<Vec<Rollout>, Failure> {
        let mut all = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = self.ask(self.api().list(&params)).await.map_err(no_list)?;
            let more = page.metadata.continue_.clone().filter(|token| !token.is_empty());
            for object in page.items {
                all.push(Rollout::read(object)?);
            }
            match more {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(all),
            }
        }
    }

    /// The one that is named, or the only one.
    pub async fn named_or_only(&self, name: Option<&str>) -> Result<Rollout, Failure> {
        if let Some(name) = name {
            return self.rollout(name).await;
        }
        let mut all = self.rollouts().await?;
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                all.push(last);
                Err(Failure::usage(format!("say which rollout: {}", names(&all))))
            }
            (None, _) => Err(Failure::refused(format!(
                "there is no rollout in namespace {}",
                self.namespace
            ))),
        }
    }

    async fn no_such(&self, name: &str) -> Failure {
        match self.rollouts().await {
            Err(failure) => failure,
            Ok(all) if all.is_empty() => Failure::refused(format!(
                "there is no rollout {name}, nor any other, in namespace {}; choose another with -n, or apply one as in k8s/tracks/rollout.yml",
                self.namespace
            )),
            Ok(all) => {
                let known: Vec<&str> = all.iter().map(|r| r.name.as_str()).collect();
                let meant = guess::nearest(name, &known);
                let meant = meant.map_or(String::new(), |near| format!("; did you mean {near}?"));
                Failure::refused(format!(
                    "there is no rollout {name} in namespace {}{meant}; there are: {}",
                    self.namespace,
                    names(&all)
                ))
            }
        }
    }

    /// The Rollout now, and whenever it changes; `None`: it is not there any more.
    pub fn changes(
        &self,
        name: &str,
    ) -> impl Stream<Item = watcher::Result<Option<DynamicObject>>> + Send + use<> {
        watcher::watch_object(self.api(), name).default_backoff()
    }
}

/// The next change, when there is one. An outage of the API server is waited out: the release goes on without it.
pub async fn next<S>(changes: &mut Pin<&mut S>, name: &str) -> Result<Rollout, Failure>
where
    S: Stream<Item = watcher::Result<Option<DynamicObject>>>,
{
    loop {
        match changes.next().await {
            Some(Ok(Some(object))) => return Rollout::read(object),
            Some(Ok(None)) | None => return Err(Failure::usage(format!("the rollout {name} was deleted"))),
            Some(Err(e)) => lost(e)?,
        }
    }
}

/// What a watch that broke means: an outage passes, a refusal does not.
pub fn lost(error: watcher::Error) -> Result<(), Failure> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(s))
        | watcher::Error::WatchStartFailed(kube::Error::Api(s))
            if matches!(s.code, 401 | 403) =>
        {
            Err(Trouble::Refused(s).told(&format!("watch rollouts.{GROUP}")))
        }
        other => {
            tracing::info!("the API server is not heard, trying again: {other}");
            Ok(())
        }
    }
}

fn no_list(trouble: Trouble) -> Failure {
    if trouble.is_absent() {
        return Failure::refused(
            "this cluster does not know Rollouts; install Serin there first: kubectl apply -k k8s/controller",
        );
    }
    trouble.told(&format!("list rollouts.{GROUP}"))
}

fn names(all: &[Rollout]) -> String {
    let mut names: Vec<&str> = all.iter().take(LISTED).map(|r| r.name.as_str()).collect();
    if all.len() > LISTED {
        names.push("…");
    }
    names.join(", ")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// A Rollout with this status.
    pub fn rollout(status: Value) -> Rollout {
        let object = json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "echo", "namespace": "shop", "generation": 2},
            "spec": {"service": "echo", "stable": {"name": "server"}}, "status": status,
        });
        Rollout::read(serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn weights_are_read_as_the_status_has_them() {
        let weight = |text: &str| rollout(json!({"weight": text})).weight();
        assert_eq!(weight("20/5").0.percent(), 20.0);
        assert_eq!(weight("20/5").1, Some(0.05));
        assert_eq!(weight("0.5/?"), (Split::parse("0.5", None, "").unwrap(), None));
        assert_eq!(weight(""), (Split::NONE, None));
    }

    #[test]
    fn an_object_without_a_status_is_idle_and_one_that_is_odd_is_told() {
        assert_eq!(rollout(Value::Null).status.phase, Phase::Idle);
        let odd = json!({"metadata": {"name": "x"}, "spec": {"service": 1}});
        let failure = Rollout::read(serde_json::from_value(odd).unwrap()).unwrap_err();
        assert!(failure.to_string().contains("spec of rollout x"));
    }
}
