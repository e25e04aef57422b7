//! What a failed test shows: objects, events, the last lines of each log.

use super::World;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet},
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
    events::v1::Event,
};
use kube::{Api, Resource, ResourceExt, api::ListParams, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt::Debug, fmt::Write, fs, time::Duration};

const LINES: usize = 15;

/// Everything in the test's namespace, in short.
pub fn of(world: &World) -> String {
    let mut text = format!("--- the world, in namespace {}\n", world.namespace());
    part::<Deployment>(world, &mut text, "/status");
    part::<DaemonSet>(world, &mut text, "/status");
    part::<ReplicaSet>(world, &mut text, "/status");
    part::<Pod>(world, &mut text, "/status");
    part::<Service>(world, &mut text, "/metadata/annotations");
    part::<EndpointSlice>(world, &mut text, "/endpoints");
    for event in list::<Event>(world) {
        let about = event.regarding.and_then(|r| r.name).unwrap_or_default();
        let (reason, note) = (event.reason.unwrap_or_default(), event.note.unwrap_or_default());
        let _ = writeln!(text, "Event {about} {reason}: {note}");
    }
    logs(world, &mut text);
    text
}

fn part<K>(world: &World, text: &mut String, pointer: &str)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    for object in list::<K>(world) {
        let value = serde_json::to_value(&object).unwrap_or_default();
        let part = value.pointer(pointer).unwrap_or(&Value::Null);
        let _ = writeln!(text, "{} {}: {part}", K::kind(&()), object.name_any());
    }
}

/// Nothing where the server does not answer: the dump must not hide the failure.
fn list<K>(world: &World) -> Vec<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api = Api::<K>::namespaced(world.client(), world.namespace());
    world.run(async {
        let whole = ListParams::default();
        let list = tokio::time::timeout(Duration::from_secs(2), api.list(&whole)).await;
        list.ok()
            .and_then(Result::ok)
            .map(|l| l.items)
            .unwrap_or_default()
    })
}

fn logs(world: &World, text: &mut String) {
    let Ok(files) = fs::read_dir(world.folder().join("logs")) else {
        return;
    };
    for file in files.flatten() {
        let content = fs::read_to_string(file.path()).unwrap_or_default();
        let lines: Vec<_> = content.lines().collect();
        let last = lines.len().saturating_sub(LINES);
        let _ = writeln!(text, "--- {}", file.file_name().to_string_lossy());
        for line in &lines[last..] {
            let _ = writeln!(text, "{line}");
        }
    }
}
