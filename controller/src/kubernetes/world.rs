//! What the cluster is like: everything that Rollouts rest on is watched, and remembered in few words.
//!
//! A change wakes the Rollouts that it concerns and no other.

use super::{
    api::{Key, Kind, Server},
    rollout, service,
    watching::follow,
    workload,
};
use contract::{
    names::{PROXY, SIGNALS_PORT},
    rollout::WorkloadKind,
};
use kube::{
    core::DynamicObject,
    runtime::watcher::{self, Event},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::mpsc;

/// Port of signals where a pod does not name one.
const SIGNALS: u16 = 9901;

/// Something that a Rollout rests on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Thing {
    Rollout(Key),
    Service(Key),
    Workload(WorkloadKind, Key),
    /// The proxies of a Service.
    Proxies(Key),
}

/// A pod that is a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub version: u64,
    /// The Service that it is a proxy of.
    service: Key,
    pub address: Option<SocketAddr>,
    pub ready: bool,
    /// Whether it was told to end.
    pub leaving: bool,
    /// Whether it can still answer: neither finished nor failed.
    alive: bool,
}

/// All that is known.
#[derive(Debug)]
pub(super) struct World {
    pub prefix: String,
    known: Mutex<Memory>,
    dirty: mpsc::UnboundedSender<Key>,
}

#[derive(Debug, Default)]
struct Memory {
    rollouts: HashMap<Key, Arc<rollout::Known>>,
    services: HashMap<Key, Arc<service::Known>>,
    workloads: HashMap<(WorkloadKind, Key), Arc<workload::Known>>,
    pods: HashMap<Key, Arc<Pod>>,
    /// By Service: its proxies.
    fronts: HashMap<Key, BTreeSet<Key>>,
    /// Mostly one: a set's first node would be larger than all the rest.
    concerns: HashMap<Thing, Vec<Key>>,
    /// By Rollout: what it rests on.
    rests: HashMap<Key, BTreeSet<Thing>>,
    /// By what may have one mover alone: the Rollouts that would move it.
    claims: HashMap<Thing, Vec<Key>>,
    /// Kinds whose first list is whole.
    listed: BTreeSet<Kind>,
}

impl World {
    /// Nothing is known yet; the receiver gets the Rollouts that have something to look at.
    pub fn new(prefix: &str) -> (Arc<World>, mpsc::UnboundedReceiver<Key>) {
        let (dirty, news) = mpsc::unbounded_channel();
        let world = World {
            prefix: prefix.to_owned(),
            known: Mutex::default(),
            dirty,
        };
        (Arc::new(world), news)
    }

    /// Watches for ever, all kinds side by side.
    pub async fn watch(self: Arc<World>, server: Server, namespace: Option<String>) {
        let one = |kind| {
            let (world, server, namespace) = (self.clone(), server.clone(), namespace.clone());
            async move { world.follow(kind, &server, namespace.as_deref()).await }
        };
        tokio::join!(
            one(Kind::Rollout),
            one(Kind::Service),
            one(Kind::Workload(WorkloadKind::Deployment)),
            one(Kind::Workload(WorkloadKind::DaemonSet)),
            one(Kind::Pod),
        );
    }

    /// Whether every first list is whole: before that, what is missing may only not be known.
    pub fn is_whole(&self) -> bool {
        self.memory().listed.len() == KINDS
    }

    async fn follow(&self, kind: Kind, server: &Server, namespace: Option<&str>) {
        let config = match kind {
            Kind::Pod => watcher::Config::default().labels(&format!("{}{PROXY}", self.prefix)),
            _ => watcher::Config::default(),
        };
        let mut listed = BTreeSet::new();
        let what = kind.resource().plural;
        follow(&what, server.all(kind, namespace), config, |event| match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(Key::of(&object));
                self.learn(kind, &object);
            }
            Event::InitDone => self.complete(kind, &listed),
            Event::Apply(object) => self.learn(kind, &object),
            Event::Delete(object) => self.forget(kind, &Key::of(&object)),
        })
        .await;
    }

    /// Takes an object as it is now, from a watch or from an answer to us.
    pub fn learn(&self, kind: Kind, object: &DynamicObject) {
        let key = Key::of(object);
        let thing = match kind {
            Kind::Rollout => self
                .memory()
                .rollout(&key, rollout::Known::of(object, &self.prefix)),
            Kind::Service => self
                .memory()
                .service(&key, service::Known::of(object, &self.prefix)),
            Kind::Workload(of) => {
                let known = workload::Known::of(object, of, &self.prefix);
                self.memory().workload(of, &key, known)
            }
            Kind::Pod => Pod::of(object, &self.prefix).and_then(|pod| self.memory().pod(&key, pod)),
            Kind::Secret | Kind::Lease => None,
        };
        self.wake(thing);
    }

    /// An object that is not there any more.
    pub fn forget(&self, kind: Kind, key: &Key) {
        let heirs = match kind {
            Kind::Rollout => self.memory().rivals(key),
            _ => Vec::new(),
        };
        let thing = self.memory().forget(kind, key);
        self.wake(thing);
        for (heir, _) in heirs {
            let _ = self.dirty.send(heir);
        }
    }

    fn complete(&self, kind: Kind, listed: &BTreeSet<Key>) {
        let gone = self.memory().missing(kind, listed);
        for key in gone {
            self.forget(kind, &key);
        }
        let whole = {
            let mut memory = self.memory();
            memory.listed.insert(kind) && memory.listed.len() == KINDS
        };
        if whole {
            self.wake_all();
        }
    }

    /// Has every Rollout looked at.
    pub fn wake_all(&self) {
        let keys: Vec<Key> = self.memory().rollouts.keys().cloned().collect();
        for key in keys {
            let _ = self.dirty.send(key);
        }
    }

    fn wake(&self, thing: Option<Thing>) {
        let Some(thing) = thing else { return };
        let concerned: Vec<Key> = match &thing {
            Thing::Rollout(key) => {
                let rivals = self.memory().rivals(key).into_iter().map(|(rival, _)| rival);
                std::iter::once(key.clone()).chain(rivals).collect()
            }
            other => self
                .memory()
                .concerns
                .get(other)
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
        };
        for key in concerned {
            // Nobody listens any more when the controller stops.
            let _ = self.dirty.send(key);
        }
    }

    /// What a Rollout rests on, so that changes of it wake the Rollout.
    pub fn concern(&self, rollout: &Key, things: BTreeSet<Thing>) {
        self.memory().concern(rollout, things);
    }

    /// A Rollout.
    pub fn rollout(&self, key: &Key) -> Option<Arc<rollout::Known>> {
        self.memory().rollouts.get(key).cloned()
    }

    /// The Rollout that moves something of this one's already, and what: the first one by name does.
    pub fn mover(&self, key: &Key) -> Option<(Key, Thing)> {
        let rivals = self.memory().rivals(key);
        rivals.into_iter().filter(|(rival, _)| rival < key).min()
    }

    /// A Service.
    pub fn service(&self, key: &Key) -> Option<Arc<service::Known>> {
        self.memory().services.get(key).cloned()
    }

    /// A workload.
    pub fn workload(&self, kind: WorkloadKind, key: Key) -> Option<Arc<workload::Known>> {
        self.memory().workloads.get(&(kind, key)).cloned()
    }

    /// The pods that are proxies of a Service, by name.
    pub fn proxies(&self, service: &Key) -> BTreeMap<String, Arc<Pod>> {
        let memory = self.memory();
        let keys = memory.fronts.get(service).into_iter().flatten();
        keys.filter_map(|k| Some((k.name.clone(), memory.pods.get(k)?.clone())))
            .filter(|(_, pod)| pod.alive)
            .collect()
    }

    /// All Rollouts, by namespace and name.
    pub fn rollouts(&self) -> BTreeMap<Key, Arc<rollout::Known>> {
        let memory = self.memory();
        let all = memory.rollouts.iter();
        all.map(|(key, known)| (key.clone(), known.clone())).collect()
    }

    /// Rollouts by phase.
    pub fn phases(&self) -> BTreeMap<String, i64> {
        let mut phases = BTreeMap::new();
        for rollout in self.memory().rollouts.values() {
            *phases.entry(rollout.saved.phase.to_string()).or_default() += 1;
        }
        phases
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Whoever panicked while holding it left whole entries behind: each is replaced at once.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many kinds are watched.
const KINDS: usize = 5;

impl Memory {
    fn rollout(&mut self, key: &Key, new: rollout::Known) -> Option<Thing> {
        let old = self.rollouts.get(key);
        if old.is_some_and(|o| o.version > new.version && o.uid == new.uid) {
            return None;
        }
        // Our own writes of the status come back, and need no step.
        let told = old.is_none_or(|o| {
            (o.generation, o.deleting, &o.finalizers, &o.asked)
                != (new.generation, new.deleting, &new.finalizers, &new.asked)
        });
        self.disclaim(key);
        for thing in claims(key, &new) {
            self.claims.entry(thing).or_default().push(key.clone());
        }
        self.rollouts.insert(key.clone(), Arc::new(new));
        told.then(|| Thing::Rollout(key.clone()))
    }

    fn disclaim(&mut self, key: &Key) {
        let Some(known) = self.rollouts.get(key) else {
            return;
        };
        for thing in claims(key, known) {
            if let Some(movers) = self.claims.get_mut(&thing) {
                movers.retain(|mover| mover != key);
                if movers.is_empty() {
                    self.claims.remove(&thing);
                }
            }
        }
    }

    /// The other Rollouts that would move what this one moves.
    fn rivals(&self, key: &Key) -> Vec<(Key, Thing)> {
        let Some(known) = self.rollouts.get(key) else {
            return Vec::new();
        };
        let mut rivals = Vec::new();
        for thing in claims(key, known) {
            let others = self.claims.get(&thing).into_iter().flatten();
            rivals.extend(others.filter(|k| *k != key).map(|k| (k.clone(), thing.clone())));
        }
        rivals
    }

    fn service(&mut self, key: &Key, new: service::Known) -> Option<Thing> {
        let old = self.services.get(key);
        if old.is_some_and(|o| o.version > new.version && o.uid == new.uid) {
            return None;
        }
        let told = old.is_none_or(|o| {
            let author = |s: &service::Known| (s.manager.clone(), s.stamped, s.caused);
            (&o.annotations, author(o), &o.selector, &o.ports)
                != (&new.annotations, author(&new), &new.selector, &new.ports)
        });
        self.services.insert(key.clone(), Arc::new(new));
        told.then(|| Thing::Service(key.clone()))
    }

    fn workload(&mut self, kind: WorkloadKind, key: &Key, new: workload::Known) -> Option<Thing> {
        let place = (kind, key.clone());
        let old = self.workloads.get(&place);
        let told = old.is_none_or(|o| {
            workload::Known {
                version: new.version,
                ..(**o).clone()
            } != new
        });
        self.workloads.insert(place, Arc::new(new));
        told.then(|| Thing::Workload(kind, key.clone()))
    }

    fn pod(&mut self, key: &Key, new: Pod) -> Option<Thing> {
        let service = new.service.clone();
        let told = self.pods.get(key).is_none_or(|o| {
            Pod {
                version: new.version,
                ..(**o).clone()
            } != new
        });
        self.fronts
            .entry(service.clone())
            .or_default()
            .insert(key.clone());
        self.pods.insert(key.clone(), Arc::new(new));
        told.then_some(Thing::Proxies(service))
    }

    fn forget(&mut self, kind: Kind, key: &Key) -> Option<Thing> {
        match kind {
            Kind::Rollout => {
                self.disclaim(key);
                self.rollouts.remove(key)?;
                self.concern(key, BTreeSet::new());
                Some(Thing::Rollout(key.clone()))
            }
            Kind::Service => self.services.remove(key).map(|_| Thing::Service(key.clone())),
            Kind::Workload(of) => {
                let gone = self.workloads.remove(&(of, key.clone()));
                gone.map(|_| Thing::Workload(of, key.clone()))
            }
            Kind::Pod => {
                let pod = self.pods.remove(key)?;
                let front = self.fronts.get_mut(&pod.service);
                if front.is_some_and(|pods| pods.remove(key) && pods.is_empty()) {
                    self.fronts.remove(&pod.service);
                }
                Some(Thing::Proxies(pod.service.clone()))
            }
            Kind::Secret | Kind::Lease => None,
        }
    }

    fn missing(&self, kind: Kind, listed: &BTreeSet<Key>) -> Vec<Key> {
        let all: Vec<&Key> = match kind {
            Kind::Rollout => self.rollouts.keys().collect(),
            Kind::Service => self.services.keys().collect(),
            Kind::Workload(of) => self
                .workloads
                .keys()
                .filter(|(k, _)| *k == of)
                .map(|(_, key)| key)
                .collect(),
            Kind::Pod => self.pods.keys().collect(),
            Kind::Secret | Kind::Lease => Vec::new(),
        };
        all.into_iter().filter(|k| !listed.contains(k)).cloned().collect()
    }

    fn concern(&mut self, rollout: &Key, things: BTreeSet<Thing>) {
        let before = self.rests.remove(rollout).unwrap_or_default();
        for gone in before.difference(&things) {
            if let Some(concerned) = self.concerns.get_mut(gone) {
                concerned.retain(|key| key != rollout);
                if concerned.is_empty() {
                    self.concerns.remove(gone);
                }
            }
        }
        for new in things.difference(&before) {
            self.concerns
                .entry(new.clone())
                .or_default()
                .push(rollout.clone());
        }
        if !things.is_empty() {
            self.rests.insert(rollout.clone(), things);
        }
    }
}

/// What may have one mover alone.
fn claims(key: &Key, known: &rollout::Known) -> Vec<Thing> {
    let Ok(spec) = &known.spec else {
        return Vec::new();
    };
    let stable = key.beside(&spec.stable.name);
    vec![
        Thing::Service(key.beside(&spec.service)),
        Thing::Workload(spec.stable.kind, stable),
    ]
}

impl Pod {
    fn of(object: &DynamicObject, prefix: &str) -> Option<Pod> {
        let labels = object.metadata.labels.as_ref()?;
        let service = labels.get(&format!("{prefix}{PROXY}"))?;
        let status = &object.data["status"];
        let ip = status["podIP"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
        let port = signals_port(&object.data["spec"]);
        Some(Pod {
            version: workload::version_of(object),
            service: Key::of(object).beside(service),
            address: ip.map(|ip| SocketAddr::new(ip, port)),
            ready: is_ready(status) && object.metadata.deletion_timestamp.is_none(),
            leaving: object.metadata.deletion_timestamp.is_some(),
            alive: !matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")),
        })
    }
}

/// Whether a pod's status says that it is ready.
pub(super) fn is_ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn signals_port(spec: &Value) -> u16 {
    let containers = spec["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
    let found = ports.find(|p| p["name"] == SIGNALS_PORT);
    let number = found.and_then(|p| p["containerPort"].as_u64());
    number.and_then(|n| u16::try_from(n).ok()).unwrap_or(SIGNALS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn service(version: u32, weight: &str) -> DynamicObject {
        object(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "echo", "namespace": "n", "uid": "u", "resourceVersion": version.to_string(), "annotations": { "serin.dev/canary-weight": weight } },
        }))
    }

    fn key(name: &str) -> Key {
        Key {
            namespace: "n".into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_change_wakes_whom_it_concerns_once_and_what_is_older_changes_nothing() {
        let (world, mut news) = World::new("serin.dev/");
        world.concern(&key("rollout"), [Thing::Service(key("echo"))].into());
        world.learn(Kind::Service, &service(5, "1"));
        assert_eq!(news.try_recv().unwrap(), key("rollout"));
        world.learn(Kind::Service, &service(6, "1"));
        world.learn(Kind::Service, &service(4, "9"));
        assert!(news.try_recv().is_err());
        let table = world
            .service(&key("echo"))
            .unwrap()
            .table("echo", "serin.dev/")
            .unwrap();
        assert_eq!(table.split.weight(), "1");
        world.forget(Kind::Service, &key("echo"));
        assert_eq!(news.try_recv().unwrap(), key("rollout"));
        world.concern(&key("rollout"), BTreeSet::new());
        world.learn(Kind::Service, &service(7, "1"));
        assert!(news.try_recv().is_err());
    }

    #[test]
    fn proxies_are_found_by_their_label_with_the_port_that_they_name() {
        let pod = |ports: Value, phase: &str, ready: &str| {
            object(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": "p-1", "namespace": "n", "resourceVersion": "3", "labels": { "serin.dev/proxy": "echo" } },
                "spec": { "containers": [{ "ports": ports }] },
                "status": { "podIP": "198.18.1.1", "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
            }))
        };
        let (world, _news) = World::new("serin.dev/");
        world.learn(
            Kind::Pod,
            &pod(
                json!([{ "name": "signals", "containerPort": 7 }]),
                "Running",
                "True",
            ),
        );
        let found = world.proxies(&key("echo"));
        assert_eq!(
            (
                found["p-1"].address.unwrap().to_string().as_str(),
                found["p-1"].ready
            ),
            ("198.18.1.1:7", true)
        );
        world.learn(Kind::Pod, &pod(json!(null), "Running", "False"));
        assert_eq!(
            world.proxies(&key("echo"))["p-1"].address.unwrap().port(),
            SIGNALS
        );
        world.learn(Kind::Pod, &pod(json!(null), "Failed", "False"));
        assert!(world.proxies(&key("echo")).is_empty());
        world.forget(Kind::Pod, &key("p-1"));
        assert!(world.memory().fronts.is_empty());
    }

    #[test]
    fn of_two_that_would_move_the_same_the_first_by_name_does() {
        let rollout = |name: &str, service: &str, stable: &str| {
            object(json!({
                "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
                "metadata": { "name": name, "namespace": "n", "uid": name, "resourceVersion": "1" },
                "spec": { "service": service, "stable": { "name": stable } },
            }))
        };
        let (world, mut news) = World::new("serin.dev/");
        world.learn(Kind::Rollout, &rollout("b", "echo", "server"));
        world.learn(Kind::Rollout, &rollout("c", "other", "server"));
        assert_eq!(world.mover(&key("b")), None);
        let stable = Thing::Workload(WorkloadKind::Deployment, key("server"));
        assert_eq!(world.mover(&key("c")), Some((key("b"), stable)));
        world.learn(Kind::Rollout, &rollout("a", "echo", "another"));
        assert_eq!(
            world.mover(&key("b")),
            Some((key("a"), Thing::Service(key("echo"))))
        );
        while news.try_recv().is_ok() {}
        world.forget(Kind::Rollout, &key("a"));
        assert_eq!(world.mover(&key("b")), None);
        let woken: Vec<Key> = std::iter::from_fn(|| news.try_recv().ok()).collect();
        assert!(woken.contains(&key("b")), "{woken:?}");
        world.forget(Kind::Rollout, &key("b"));
        world.forget(Kind::Rollout, &key("c"));
        assert!(world.memory().claims.is_empty());
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let (world, _news) = World::new("serin.dev/");
        world.learn(Kind::Service, &service(5, "1"));
        world.complete(Kind::Service, &BTreeSet::new());
        assert!(world.service(&key("echo")).is_none());
    }
}
