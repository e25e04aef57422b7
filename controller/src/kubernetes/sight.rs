//! One release as the cluster shows it now: the plan, and what is observed of workloads and annotations.

use super::{
    api::Key,
    rollout, service, template,
    template::{Labels, Terms},
    workload,
    world::{Thing, World},
};
use contract::{
    names::MADE_FOR,
    rollout::{RolloutSpec, Workload},
};
use engine::{InCluster, Plan, Table, Workloads};
use std::{collections::BTreeSet, sync::Arc};

/// A release that can be seen.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub spec: Arc<RolloutSpec>,
    pub service: Arc<service::Known>,
    /// The usual track Services.
    pub usual: [String; 2],
    pub terms: Terms,
    pub stable: Version,
    pub canary: Option<Version>,
    pub previous: Option<Version>,
    pub plan: Plan,
    /// Or what is wrong with the annotations.
    pub table: Result<Table, String>,
    /// Whether the cluster is still as seen here, as far as anybody knows.
    pub is_current: bool,
}

/// A workload and which version it is.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub known: Arc<workload::Known>,
    pub hash: String,
    pub name: String,
}

/// Longest part of a cause that is told with a decision: twenty of them stand in a status.
const LONGEST_CAUSE: usize = 300;

/// What a Rollout rests on, whether it can be seen or not.
pub(super) fn things(world: &World, key: &Key, spec: &RolloutSpec) -> BTreeSet<Thing> {
    let workload = |w: &Workload| Thing::Workload(w.kind, key.beside(&w.name));
    let service = key.beside(&spec.service);
    let front = world.service(&service);
    let usual = front.and_then(|s| s.usual(&world.prefix).ok());
    let tracks = usual
        .into_iter()
        .flatten()
        .map(|name| Thing::Service(key.beside(name)));
    let fixed = [
        workload(&spec.stable),
        workload(&spec.canary()),
        workload(&spec.previous()),
        Thing::Proxies(service.clone()),
        Thing::Service(service),
    ];
    fixed.into_iter().chain(tracks).collect()
}

/// What stands under a name that the old version is to have, and is somebody else's.
pub(super) fn in_the_way(world: &World, key: &Key, spec: &RolloutSpec) -> Option<String> {
    let previous = spec.previous();
    let kept = world.workload(previous.kind, key.beside(&previous.name));
    if kept.is_some_and(|w| w.made_for.as_ref() != Some(&key.name)) {
        return Some(foreign(&format!("{:?} {}", previous.kind, previous.name)));
    }
    let name = service::previous(&spec.service);
    let front = world.service(&key.beside(&name))?;
    let is_ours = front.get(&world.prefix, MADE_FOR) == Some(&key.name);
    (!is_ours).then(|| foreign(&format!("Service {name}")))
}

fn foreign(what: &str) -> String {
    format!("the {what} is not ours; rename it, for the old version is kept under that name")
}

impl Sight {
    /// Looks.
    ///
    /// # Errors
    /// What is missing or wrong, with the remedy.
    pub fn of(world: &World, key: &Key, rollout: &rollout::Known) -> Result<Sight, String> {
        let spec = rollout.spec.clone()?;
        if let Some((mover, thing)) = world.mover(key) {
            return Err(moved(&mover, &thing));
        }
        let name = &spec.service;
        let service = world.service(&key.beside(name)).ok_or_else(|| {
            format!("there is no Service {name}; make it, or name another one in spec.service")
        })?;
        let usual = service.usual(&world.prefix)?;
        let stable = world.workload(spec.stable.kind, key.beside(&spec.stable.name));
        let stable = stable.ok_or_else(|| {
            format!(
                "there is no {:?} {}; make it, or name another one in spec.stable",
                spec.stable.kind, spec.stable.name
            )
        })?;
        let find = |w: Workload| world.workload(w.kind, key.beside(&w.name));
        if spec.canary() == spec.previous() {
            return Err(format!(
                "the canary must not be {}: the old version is kept under that name; name another one in spec.canary",
                spec.previous().name
            ));
        }
        // What somebody else has made under that name is none of this release.
        let is_ours = |w: &Arc<workload::Known>| w.made_for.as_ref() == Some(&key.name);
        let (canary, previous) = (find(spec.canary()), find(spec.previous()).filter(is_ours));
        let terms = terms(world, key, &spec, &usual, [Some(&stable), canary.as_ref()])?;
        let version = |known: Arc<workload::Known>| Version::of(known, &terms);
        let (stable, canary, previous) = (version(stable), canary.map(version), previous.map(version));
        let plan = plan(&key.name, &spec, rollout.deleting, &stable, canary.as_ref())?;
        let table = service
            .table(name, &world.prefix)
            .map_err(|faults| contract::fault::listing(&faults));
        Ok(Sight {
            plan,
            table,
            terms,
            stable,
            canary,
            previous,
            usual,
            service,
            spec,
            is_current: true,
        })
    }

    /// The workloads, for the engine.
    pub fn workloads(&self) -> Workloads {
        Workloads {
            stable: self.stable.seen(),
            canary: self.canary.as_ref().map(Version::seen),
            previous: self.previous.as_ref().map(Version::seen),
        }
    }

    /// What is wrong with the annotations.
    pub fn fault(&self) -> Option<&str> {
        let fault = self.table.as_ref().err().filter(|_| self.is_current);
        fault.map(String::as_str)
    }

    /// Whether the canary has pods and still says that we have taken them away.
    pub fn is_mismarked(&self) -> bool {
        let canary = self.canary.as_ref().filter(|_| self.is_current);
        canary.is_some_and(|c| c.known.is_mismarked())
    }

    /// The largest share that there is room for.
    pub fn room(&self) -> Option<f64> {
        let present = self.table.as_ref().map_or(0.0, |t| t.split.share());
        let canary = self.canary.as_ref()?;
        workload::room(&self.stable.known.counts, &canary.known.counts, present)
    }
}

impl Version {
    fn of(known: Arc<workload::Known>, terms: &Terms) -> Version {
        let template = known.template();
        Version {
            hash: terms.hash(&template),
            name: template::version(&template),
            known,
        }
    }

    fn seen(&self) -> engine::Workload {
        let counts = &self.known.counts;
        engine::Workload {
            hash: self.hash.clone(),
            wanted: counts.wanted,
            ready: counts.ready,
            settled: counts.settled,
            stuck: counts.stuck.clone(),
        }
    }

    /// Why it was made, in the words of whoever made it.
    fn cause(&self) -> Option<String> {
        let told = self.known.cause.as_deref()?.trim();
        (!told.is_empty()).then(|| {
            told.chars()
                .filter(|c| !c.is_control())
                .take(LONGEST_CAUSE)
                .collect()
        })
    }

    fn named(&self) -> (String, String) {
        (self.name.clone(), self.hash.clone())
    }
}

fn terms(
    world: &World,
    key: &Key,
    spec: &RolloutSpec,
    usual: &[String; 2],
    workloads: [Option<&Arc<workload::Known>>; 2],
) -> Result<Terms, String> {
    let mut tracks: [Labels; 2] = Default::default();
    for (track, name) in tracks.iter_mut().zip(usual) {
        let found = world.service(&key.beside(name));
        let found = found
            .ok_or_else(|| format!("there is no track Service {name}; make it, or `serin front` makes it"))?;
        track.clone_from(&found.selector);
    }
    let matched: Vec<Labels> = workloads.into_iter().flatten().map(|w| w.matched()).collect();
    let matched: Vec<&Labels> = matched.iter().collect();
    let terms = Terms::new(
        tracks,
        &matched,
        spec.promotion.leave_behind.clone(),
        &world.prefix,
    );
    if terms.differing().is_empty() {
        let [stable, canary] = usual;
        return Err(format!(
            "the Services {stable} and {canary} select the same pods; give their selectors a label that differs, such as track"
        ));
    }
    Ok(terms)
}

fn moved(mover: &Key, thing: &Thing) -> String {
    let what = match thing {
        Thing::Workload(kind, key) => format!("{kind:?} {}", key.name),
        Thing::Service(key) | Thing::Rollout(key) | Thing::Proxies(key) => format!("Service {}", key.name),
    };
    format!(
        "the {what} is moved by the rollout {} already: delete one of them",
        mover.name
    )
}

fn plan(
    name: &str,
    spec: &RolloutSpec,
    leaving: bool,
    stable: &Version,
    canary: Option<&Version>,
) -> Result<Plan, String> {
    let canary = canary.filter(|c| !c.known.is_put_away());
    let told = InCluster {
        name: name.to_owned(),
        service: spec.service.clone(),
        policy: spec.policy(),
        stable: stable.named(),
        canary: canary.map(Version::named),
        suspended: spec.suspend,
        leaving,
        cause: canary.and_then(Version::cause),
    };
    Plan::in_cluster(told).map_err(|faults| contract::fault::listing(&faults))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::api::Kind;
    use contract::rollout::WorkloadKind;
    use kube::core::DynamicObject;
    use serde_json::{Value, json};

    fn object(kind: &str, name: &str, made_for: Option<&str>) -> DynamicObject {
        let annotations = made_for.map_or(Value::Null, |m| json!({ "serin.dev/made-for": m }));
        let metadata =
            json!({ "name": name, "namespace": "n", "resourceVersion": "1", "annotations": annotations });
        serde_json::from_value(json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata })).unwrap()
    }

    #[test]
    fn what_somebody_else_keeps_under_our_names_is_told() {
        let key = Key {
            namespace: "n".into(),
            name: "echo".into(),
        };
        let spec: RolloutSpec =
            serde_json::from_value(json!({ "service": "echo", "stable": { "name": "server" } })).unwrap();
        let (world, _news) = World::new("serin.dev/");
        let workload = Kind::Workload(WorkloadKind::Deployment);
        let found = |kind, object| {
            world.learn(kind, &object);
            in_the_way(&world, &key, &spec)
        };
        assert_eq!(in_the_way(&world, &key, &spec), None);
        let foreign = found(workload, object("Deployment", "server-previous", None)).unwrap();
        assert!(
            foreign.contains("Deployment server-previous is not ours"),
            "{foreign}"
        );
        let other = found(workload, object("Deployment", "server-previous", Some("other")));
        assert!(other.is_some());
        let ours = found(workload, object("Deployment", "server-previous", Some("echo")));
        assert_eq!(ours, None);
        let foreign = found(Kind::Service, object("Service", "echo-previous", None)).unwrap();
        assert!(foreign.contains("Service echo-previous is not ours"), "{foreign}");
        let ours = found(Kind::Service, object("Service", "echo-previous", Some("echo")));
        assert_eq!(ours, None);
    }
}
