//! Calls to the API server: each counted, each under one name, each answered by the object as it is then.

use super::{lease::Trust, metrics::Meter};
use contract::{
    names::CONTROLLER,
    rollout::{GROUP, KIND, PLURAL, VERSION, WorkloadKind},
};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    coordination::v1::Lease,
    core::v1::{Pod, Secret, Service},
};
use kube::{
    Api, Client, Error,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// Longest wait for an answer: what must be done is tried again sooner than a dead connection is noticed.
const PATIENCE: Duration = Duration::from_secs(3);
const SILENCE: &str = "no answer in time";
const NOT_OURS: &str = "this controller does not lead any more";

/// What we speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Rollout,
    Service,
    Workload(WorkloadKind),
    Pod,
    Secret,
    Lease,
}

/// An object of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub namespace: String,
    pub name: String,
}

/// The API server.
#[derive(Clone)]
pub(super) struct Server {
    pub client: Client,
    pub meter: Arc<Meter>,
    pub trust: Trust,
}

type Answer = Result<DynamicObject, Error>;

impl Kind {
    /// As the API server knows it.
    pub fn resource(self) -> ApiResource {
        match self {
            Kind::Rollout => {
                ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, KIND), PLURAL)
            }
            Kind::Service => ApiResource::erase::<Service>(&()),
            Kind::Workload(WorkloadKind::Deployment) => ApiResource::erase::<Deployment>(&()),
            Kind::Workload(WorkloadKind::DaemonSet) => ApiResource::erase::<DaemonSet>(&()),
            Kind::Pod => ApiResource::erase::<Pod>(&()),
            Kind::Secret => ApiResource::erase::<Secret>(&()),
            Kind::Lease => ApiResource::erase::<Lease>(&()),
        }
    }
}

impl Key {
    /// Another object of the same namespace.
    pub fn beside(&self, name: impl Into<String>) -> Key {
        Key {
            namespace: self.namespace.clone(),
            name: name.into(),
        }
    }

    /// Of an object.
    pub fn of(object: &DynamicObject) -> Key {
        Key {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Server {
    /// All objects of a kind, in one namespace or in all.
    pub fn all(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = kind.resource();
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    fn of(&self, kind: Kind, key: &Key) -> Api<DynamicObject> {
        self.all(kind, Some(&key.namespace))
    }

    /// The object, if there is one.
    pub async fn get(&self, kind: Kind, key: &Key) -> Result<Option<DynamicObject>, Error> {
        let got = within(Instant::now() + PATIENCE, self.of(kind, key).get_opt(&key.name)).await;
        self.count("get", kind, code(&got));
        got
    }

    /// The same by a list, where there is no right to get one.
    pub async fn find(&self, kind: Kind, key: &Key) -> Result<Option<DynamicObject>, Error> {
        let named = ListParams::default().fields(&format!("metadata.name={}", key.name));
        let found = within(Instant::now() + PATIENCE, self.of(kind, key).list(&named)).await;
        self.count("list", kind, code(&found));
        Ok(found?.items.pop())
    }

    /// A person's order, which any controller may pass on: only the one that leads obeys it.
    pub async fn order(&self, key: &Key, body: &Value, manager: &str) -> Answer {
        let how = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        let (api, patch) = (self.of(Kind::Rollout, key), Patch::Merge(body));
        let done = within(Instant::now() + PATIENCE, api.patch(&key.name, &how, &patch)).await;
        self.count("patch", Kind::Rollout, code(&done));
        done
    }

    /// Makes an object.
    pub async fn create(&self, kind: Kind, namespace: &str, object: &DynamicObject) -> Answer {
        let api = self.all(kind, Some(namespace));
        let made = self.write(kind, api.create(&by_us(), object)).await;
        self.count("create", kind, code(&made));
        made
    }

    /// Replaces an object; its `resourceVersion` is the condition.
    pub async fn replace(&self, kind: Kind, object: &DynamicObject) -> Answer {
        let key = Key::of(object);
        let api = self.of(kind, &key);
        let put = self.write(kind, api.replace(&key.name, &by_us(), object)).await;
        self.count("update", kind, code(&put));
        put
    }

    /// Changes what the body names.
    pub async fn merge(&self, kind: Kind, key: &Key, body: &Value) -> Answer {
        let patch = Patch::Merge(body);
        let api = self.of(kind, key);
        let done = self
            .write(kind, api.patch(&key.name, &patching(false), &patch))
            .await;
        self.count("patch", kind, code(&done));
        done
    }

    /// Changes what the body names of the status.
    pub async fn merge_status(&self, kind: Kind, key: &Key, body: &Value) -> Answer {
        let patch = Patch::Merge(body);
        let (api, how) = (self.of(kind, key), patching(false));
        let done = self.write(kind, api.patch_status(&key.name, &how, &patch)).await;
        self.count("patch_status", kind, code(&done));
        done
    }

    /// Makes what the body names ours.
    pub async fn apply(&self, kind: Kind, key: &Key, body: &Value) -> Answer {
        let patch = Patch::Apply(body);
        let api = self.of(kind, key);
        let done = self
            .write(kind, api.patch(&key.name, &patching(true), &patch))
            .await;
        self.count("apply", kind, code(&done));
        done
    }

    /// Takes an object away; one that is not there is away.
    pub async fn delete(&self, kind: Kind, key: &Key) -> Result<(), Error> {
        let (api, how) = (self.of(kind, key), DeleteParams::background());
        let gone = self.write(kind, api.delete(&key.name, &how)).await;
        self.count("delete", kind, code(&gone));
        match gone {
            Err(e) if !is_absent(&e) => Err(e),
            _ => Ok(()),
        }
    }

    /// A write that is under way when a successor may act would land on what the successor has done.
    async fn write<T>(&self, kind: Kind, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let last = Instant::now() + PATIENCE;
        let last = match kind {
            Kind::Lease => Some(last),
            _ => self.trust.landing().map(|landing| landing.min(last)),
        };
        match last {
            Some(last) => within(last, call).await,
            None => Err(Error::Service(NOT_OURS.into())),
        }
    }

    fn count(&self, verb: &str, kind: Kind, code: u16) {
        self.meter.call(verb, &kind.resource().plural, code);
    }
}

async fn within<T>(last: Instant, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let answer = timeout_at(last, call).await;
    answer.unwrap_or_else(|_| Err(Error::Service(SILENCE.into())))
}

fn by_us() -> PostParams {
    PostParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PostParams::default()
    }
}

fn patching(force: bool) -> PatchParams {
    PatchParams {
        force,
        ..PatchParams::apply(CONTROLLER)
    }
}

fn code<T>(answer: &Result<T, Error>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(Error::Api(status)) => status.code,
        Err(_) => 0,
    }
}

/// Whether an error says that the object is not there.
pub(super) fn is_absent(e: &Error) -> bool {
    matches!(e, Error::Api(status) if status.code == 404)
}

/// Whether an error says that the object is another than we thought.
pub(super) fn is_conflict(e: &Error) -> bool {
    matches!(e, Error::Api(status) if status.code == 409)
}

/// Whether the same call may succeed in a moment.
pub(super) fn is_passing(e: &Error) -> bool {
    match e {
        Error::Api(status) => matches!(status.code, 409 | 429 | 500..=599),
        _ => true,
    }
}

/// An error as a clause.
pub(super) fn told(e: &Error) -> String {
    match e {
        Error::Api(status) => format!("the API server answered {}: {}", status.code, status.message),
        other => format!("the API server does not answer: {other}"),
    }
}
