//! What is done to workloads and to the annotations. Each act looks at the object as it is now, tolerates that it is done
//! already, and writes under the version that it has read.

use super::{
    api::{Key, Kind, Server, is_conflict, is_passing, told},
    rollout, service,
    sight::{self, Sight},
    template::Image,
    workload,
    world::World,
};
use contract::{
    Split,
    names::{
        CANARY_SERVICE, CANARY_WEIGHT, CANARY_WEIGHT_TOTAL, CHANGE_CAUSE, CHANGED_BY, CONTROLLER, MADE_FOR,
        SCALED_FROM, STABLE_SERVICE, TRACKS,
    },
    rollout::{Workload, WorkloadKind},
};
use engine::{Hand, Tracks};
use kube::{Error, core::DynamicObject};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::sleep;

/// What `kubectl rollout history` shows.
const HISTORY: &str = "kubernetes.io/change-cause";
/// Longest cause, in characters.
const LONGEST_CAUSE: usize = 1000;
/// Attempts at a fall within one turn, and the time between two.
const FALLS: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(100);

/// Acts for one Rollout.
pub(super) struct Hands<'a> {
    pub server: &'a Server,
    pub world: &'a World,
    pub key: &'a Key,
    pub rollout: &'a rollout::Known,
    pub sight: &'a Sight,
}

/// A split to put in force.
#[derive(Clone, Debug)]
pub(super) struct Change<'a> {
    pub split: Split,
    pub tracks: Tracks,
    pub force: bool,
    pub cause: &'a str,
}

/// A Service whose weight is moved; without its usual tracks the weight alone is written.
pub(super) struct Front<'a> {
    pub key: Key,
    pub known: &'a service::Known,
    pub usual: Option<&'a [String; 2]>,
}

type Done = Result<(), String>;

impl Hands<'_> {
    /// Puts a split in force. A fall is tried again at once; whoever changed something that we have not seen keeps it
    /// from rising.
    pub async fn set(&self, change: &Change<'_>) -> Done {
        let front = Front {
            key: self.key.beside(&self.sight.spec.service),
            known: &self.sight.service,
            usual: Some(&self.sight.usual),
        };
        front.set(self.server, self.world, change).await
    }

    /// Brings a workload a step further.
    pub async fn hand(&self, hand: Hand) -> Done {
        match hand {
            Hand::Raise => self.raise().await,
            Hand::Room(share) => self.widen(share).await,
            Hand::Keep { up } => self.keep(up).await,
            Hand::Copy => self.copy().await,
            Hand::Restore => self.restore().await,
            Hand::Clear { canary } => {
                if canary {
                    self.put_away(&self.sight.spec.canary()).await?;
                }
                match self.sight.previous {
                    Some(_) => self.put_away(&self.sight.spec.previous()).await,
                    None => Ok(()),
                }
            }
        }
    }

    async fn raise(&self) -> Done {
        let workload = self.sight.spec.canary();
        let Some(canary) = &self.sight.canary else {
            return Ok(());
        };
        let Some(replicas) = canary.known.scaled_from else {
            return Ok(());
        };
        let up = canary.known.counts.wanted > 0;
        let scaled = format!("{}{SCALED_FROM}", self.world.prefix);
        let mut body = json!({ "metadata": { "annotations": { scaled: null } } });
        match workload.kind {
            _ if up => {}
            WorkloadKind::Deployment => body["spec"]["replicas"] = replicas.max(1).into(),
            WorkloadKind::DaemonSet => body["spec"] = self.nowhere(Value::Null),
        }
        self.merge(&workload, &body).await
    }

    async fn widen(&self, share: f64) -> Done {
        let workload = self.sight.spec.canary();
        let Some(canary) = &self.sight.canary else {
            return Ok(());
        };
        let pods = workload::pods_for(share, self.sight.stable.known.counts.wanted);
        let is_ours = canary.known.made_for.as_deref() == Some(&self.key.name);
        if !is_ours || workload.kind != WorkloadKind::Deployment || canary.known.counts.wanted >= pods {
            return Ok(());
        }
        self.merge(&workload, &json!({ "spec": { "replicas": pods } }))
            .await
    }

    /// The old version is copied as long as stable is it, and never once stable is the new one.
    async fn keep(&self, up: bool) -> Done {
        self.may_keep()?;
        let (workload, stable) = (self.sight.spec.previous(), &self.sight.stable);
        let is_copied = self.sight.canary.as_ref().is_some_and(|c| c.hash == stable.hash);
        let is_kept = self
            .sight
            .previous
            .as_ref()
            .is_some_and(|p| p.hash == stable.hash);
        if !is_copied && !is_kept {
            self.store_previous(&workload, up).await?;
        } else if self.sight.previous.is_some() {
            self.scale_previous(&workload, up).await?;
        }
        self.front_previous().await
    }

    /// What somebody else has made under our names is not touched.
    fn may_keep(&self) -> Done {
        sight::in_the_way(self.world, self.key, &self.sight.spec).map_or(Ok(()), Err)
    }

    async fn store_previous(&self, workload: &Workload, up: bool) -> Done {
        let stable = &self.sight.spec.stable;
        let original = self.required(stable).await?;
        let spec = &original.data["spec"];
        let copy = self.sight.terms.kept(&spec["selector"], &spec["template"]);
        let mut spec = spec.clone();
        (spec["selector"], spec["template"]) = (copy.selector, copy.template);
        self.set_size(workload.kind, &mut spec, up);
        self.write(workload, spec, json!({})).await
    }

    async fn scale_previous(&self, workload: &Workload, up: bool) -> Done {
        let wanted = if up {
            self.sight.stable.known.counts.wanted
        } else {
            0
        };
        let has = self.sight.previous.as_ref().map_or(0, |p| p.known.counts.wanted);
        if (has > 0) == up && (has == wanted || workload.kind == WorkloadKind::DaemonSet) {
            return Ok(());
        }
        let body = match workload.kind {
            WorkloadKind::Deployment => json!({ "spec": { "replicas": wanted } }),
            WorkloadKind::DaemonSet if up => json!({ "spec": self.nowhere(Value::Null) }),
            WorkloadKind::DaemonSet => json!({ "spec": self.nowhere("true".into()) }),
        };
        self.merge(workload, &body).await
    }

    fn set_size(&self, kind: WorkloadKind, spec: &mut Value, up: bool) {
        match kind {
            WorkloadKind::Deployment => {
                spec["replicas"] = if up {
                    self.sight.stable.known.counts.wanted
                } else {
                    0
                }
                .into();
            }
            WorkloadKind::DaemonSet if !up => {
                spec["template"]["spec"]["nodeSelector"][self.sight.terms.nowhere()] = "true".into();
            }
            WorkloadKind::DaemonSet => {}
        }
    }

    /// The Service of the old version.
    async fn front_previous(&self) -> Done {
        let name = service::previous(&self.sight.spec.service);
        let key = self.key.beside(&name);
        if self.world.service(&key).is_some() {
            return Ok(());
        }
        let stable = &self.sight.stable.known;
        let kept = self.sight.terms.kept(&stable.selector(), &stable.template());
        let of = self.world.service(&self.key.beside(&self.sight.usual[0]));
        let ports: Value = of
            .and_then(|s| serde_json::from_str(&s.ports).ok())
            .unwrap_or_default();
        let ports: Vec<Value> = ports.as_array().into_iter().flatten().map(port).collect();
        let mut object = DynamicObject::new(&name, &Kind::Service.resource()).within(&self.key.namespace);
        object.data = json!({ "spec": { "selector": kept.selector["matchLabels"], "ports": ports } });
        self.mark(&mut object, json!({}));
        match self
            .server
            .create(Kind::Service, &self.key.namespace, &object)
            .await
        {
            Ok(made) => {
                self.world.learn(Kind::Service, &made);
                Ok(())
            }
            Err(e) if is_conflict(&e) => Ok(()),
            Err(e) => Err(format!("the Service {name}: {}", told(&e))),
        }
    }

    async fn copy(&self) -> Done {
        let (of, onto) = (self.sight.spec.canary(), &self.sight.spec.stable);
        let canary = self.required(&of).await?;
        let template = &canary.data["spec"]["template"];
        if self.sight.terms.hash(template) != self.sight.plan.canary.hash {
            return Err(format!(
                "{} has become another version; it is not copied",
                of.name
            ));
        }
        self.retemplate(onto, template, self.cause(&canary)).await
    }

    async fn restore(&self) -> Done {
        self.may_keep()?;
        let (of, onto) = (self.sight.spec.previous(), &self.sight.spec.stable);
        let previous = self.required(&of).await?;
        let cause = format!(
            "back to {}",
            super::template::version(&previous.data["spec"]["template"])
        );
        self.retemplate(onto, &previous.data["spec"]["template"], Some(cause))
            .await
    }

    /// A whole replacement, for what the new template has not must go, whoever wrote it.
    async fn retemplate(&self, onto: &Workload, template: &Value, cause: Option<String>) -> Done {
        let mut object = self.required(onto).await?;
        let terms = &self.sight.terms;
        if terms.hash(&object.data["spec"]["template"]) == terms.hash(template) {
            return Ok(());
        }
        let copy = terms.copied(template, &object.data["spec"]["template"]);
        object.data["spec"]["template"] = copy;
        if let Some(cause) = cause {
            object
                .metadata
                .annotations
                .get_or_insert_default()
                .insert(HISTORY.to_owned(), cause);
        }
        self.replace(onto, object).await
    }

    fn cause(&self, canary: &DynamicObject) -> Option<String> {
        let annotations = canary.metadata.annotations.as_ref();
        let ours = format!("{}{CHANGE_CAUSE}", self.world.prefix);
        let own = annotations.and_then(|a| a.get(&ours).or_else(|| a.get(HISTORY)).cloned());
        let stable = self.sight.stable.known.cause.clone();
        own.or(stable).or_else(|| {
            Some(format!(
                "{} promoted by Serin",
                super::template::version(&canary.data["spec"]["template"])
            ))
        })
    }

    async fn put_away(&self, workload: &Workload) -> Done {
        let found = self
            .world
            .workload(workload.kind, self.key.beside(&workload.name));
        let Some(known) = found.filter(|k| k.counts.wanted > 0) else {
            return Ok(());
        };
        let scaled = format!("{}{SCALED_FROM}", self.world.prefix);
        let spec = match workload.kind {
            WorkloadKind::Deployment => json!({ "replicas": 0 }),
            WorkloadKind::DaemonSet => self.nowhere("true".into()),
        };
        let body = json!({ "metadata": { "annotations": { scaled: known.counts.wanted.to_string() } }, "spec": spec });
        self.merge(workload, &body).await
    }

    /// Makes the canary from stable's template with another image, or brings the one that is there to it.
    pub async fn release(&self, image: &Image) -> Done {
        let (of, onto) = (&self.sight.spec.stable, self.sight.spec.canary());
        let stable = self.required(of).await?;
        let spec = &stable.data["spec"];
        let terms = &self.sight.terms;
        let cause = format!("{}{CHANGE_CAUSE}", self.world.prefix);
        let causes = match &self.sight.stable.known.cause {
            Some(text) => json!({ cause: text }),
            None => json!({}),
        };
        if let Some(mut canary) = self.found(&onto).await? {
            let template = terms.updated(&canary.data["spec"]["template"], &spec["template"], image)?;
            canary.data["spec"]["template"] = template;
            self.wake_up(onto.kind, &mut canary);
            let annotations = canary.metadata.annotations.get_or_insert_default();
            annotations.extend(workload::labels(&causes));
            return self.replace(&onto, canary).await;
        }
        let made = terms.released(&spec["selector"], &spec["template"], image)?;
        let mut spec = spec.clone();
        (spec["selector"], spec["template"]) = (made.selector, made.template);
        if onto.kind == WorkloadKind::Deployment {
            spec["replicas"] = 1.into();
        }
        self.write(&onto, spec, causes).await
    }

    fn wake_up(&self, kind: WorkloadKind, canary: &mut DynamicObject) {
        let scaled = format!("{}{SCALED_FROM}", self.world.prefix);
        let from = canary
            .metadata
            .annotations
            .as_mut()
            .and_then(|a| a.remove(&scaled));
        if kind == WorkloadKind::Deployment && canary.data["spec"]["replicas"] == 0 {
            let replicas: u32 = from.and_then(|n| n.parse().ok()).unwrap_or(1);
            canary.data["spec"]["replicas"] = replicas.max(1).into();
        }
    }

    /// Takes away what was made for the Rollout.
    pub async fn tidy(&self) -> Done {
        let spec = &self.sight.spec;
        for workload in [spec.canary(), spec.previous()] {
            let key = self.key.beside(&workload.name);
            let ours = self.world.workload(workload.kind, key.clone());
            if ours.is_some_and(|k| k.made_for.as_deref() == Some(&self.key.name)) {
                let gone = self.server.delete(Kind::Workload(workload.kind), &key).await;
                gone.map_err(|e| format!("{}: {}", workload.name, told(&e)))?;
            }
        }
        let key = self.key.beside(service::previous(&spec.service));
        let front = self.world.service(&key);
        if front.is_some_and(|s| s.get(&self.world.prefix, MADE_FOR) == Some(&self.key.name)) {
            let gone = self.server.delete(Kind::Service, &key).await;
            gone.map_err(|e| format!("{}: {}", key.name, told(&e)))?;
        }
        Ok(())
    }

    fn nowhere(&self, value: Value) -> Value {
        json!({ "template": { "spec": { "nodeSelector": { self.sight.terms.nowhere(): value } } } })
    }

    async fn found(&self, workload: &Workload) -> Result<Option<DynamicObject>, String> {
        let key = self.key.beside(&workload.name);
        let got = self.server.get(Kind::Workload(workload.kind), &key).await;
        got.map_err(|e| format!("{}: {}", workload.name, told(&e)))
    }

    async fn required(&self, workload: &Workload) -> Result<DynamicObject, String> {
        let found = self.found(workload).await?;
        found.ok_or_else(|| format!("there is no {:?} {}", workload.kind, workload.name))
    }

    /// Makes a workload of ours, or gives the one that is there this template and size.
    async fn write(&self, workload: &Workload, spec: Value, annotations: Value) -> Done {
        if let Some(mut object) = self.found(workload).await? {
            for part in ["template", "replicas"] {
                if let Some(value) = spec.get(part) {
                    object.data["spec"][part] = value.clone();
                }
            }
            return self.replace(workload, object).await;
        }
        let kind = Kind::Workload(workload.kind);
        let mut object = DynamicObject::new(&workload.name, &kind.resource()).within(&self.key.namespace);
        object.metadata.labels = Some(workload::labels(&spec["selector"]["matchLabels"]));
        object.data = json!({ "spec": spec });
        self.mark(&mut object, annotations);
        let made = self.server.create(kind, &self.key.namespace, &object).await;
        self.learn(workload, made)
    }

    fn mark(&self, object: &mut DynamicObject, annotations: Value) {
        let made_for = (format!("{}{MADE_FOR}", self.world.prefix), self.key.name.clone());
        let mut all = workload::labels(&annotations);
        all.extend([made_for]);
        object.metadata.annotations = Some(all);
        object.metadata.owner_references = serde_json::from_value(self.rollout.owner(self.key)).ok();
    }

    async fn merge(&self, workload: &Workload, body: &Value) -> Done {
        let key = self.key.beside(&workload.name);
        let done = self.server.merge(Kind::Workload(workload.kind), &key, body).await;
        self.learn(workload, done)
    }

    async fn replace(&self, workload: &Workload, object: DynamicObject) -> Done {
        let done = self.server.replace(Kind::Workload(workload.kind), &object).await;
        self.learn(workload, done)
    }

    fn learn(&self, workload: &Workload, done: Result<DynamicObject, Error>) -> Done {
        let object = done.map_err(|e| format!("{}: {}", workload.name, told(&e)))?;
        self.world.learn(Kind::Workload(workload.kind), &object);
        Ok(())
    }
}

impl Front<'_> {
    /// Writes the annotations.
    pub async fn set(&self, server: &Server, world: &World, change: &Change<'_>) -> Done {
        let body = self.annotations(&world.prefix, change);
        let mut left = if change.force { FALLS } else { 1 };
        loop {
            left -= 1;
            match server.apply(Kind::Service, &self.key, &body).await {
                Ok(now) => {
                    world.learn(Kind::Service, &now);
                    return Ok(());
                }
                Err(e) if left == 0 || !is_passing(&e) => return Err(told(&e)),
                Err(_) => sleep(BETWEEN).await,
            }
        }
    }

    fn annotations(&self, prefix: &str, change: &Change<'_>) -> Value {
        let cause: String = change.cause.chars().take(LONGEST_CAUSE).collect();
        let mut keys = Map::new();
        let mut put = |key: &str, value: String| keys.insert(format!("{prefix}{key}"), value.into());
        put(CANARY_WEIGHT, change.split.weight());
        put(CANARY_WEIGHT_TOTAL, change.split.total().to_string());
        put(CHANGED_BY, CONTROLLER.to_owned());
        put(CHANGE_CAUSE, cause);
        // Once ours, these must stay in what we apply, or the API server takes them away.
        let swapped = self.known.get(prefix, TRACKS).is_some();
        if let Some([stable, canary]) = self.usual
            && (swapped || change.tracks == Tracks::Previous)
        {
            let (first, second) = match change.tracks {
                Tracks::Usual => (stable.clone(), canary.clone()),
                Tracks::Previous => (service::previous(&self.key.name), stable.clone()),
            };
            put(STABLE_SERVICE, first);
            put(CANARY_SERVICE, second);
            put(TRACKS, format!("{stable},{canary}"));
        }
        let mut body = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": self.key.name, "annotations": keys },
        });
        if !change.force {
            body["metadata"]["resourceVersion"] = self.known.version.to_string().into();
        }
        body
    }
}

/// A port as another Service may have it.
fn port(port: &Value) -> Value {
    let mut copy = port.clone();
    if let Some(map) = copy.as_object_mut() {
        map.remove("nodePort");
    }
    copy
}
