//! What a write sets off beside the object itself: addresses, new kinds, uids.

use super::ask::Ask;
use super::clock;
use super::failure::Failure;
use super::kinds::{Custom, Kind, Scale};
use super::store::Store;
use serde_json::{Value, json};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Before an object is checked and stored.
pub(super) fn before(store: &mut Store, ask: &Ask, old: Option<&Arc<Value>>, new: &mut Value) {
    if ask.kind.is("", "services") {
        address(store, old.map(Arc::as_ref), new);
    }
}

/// After an object was stored.
pub(super) fn after(store: &mut Store, kind: &Kind, old: Option<&Arc<Value>>, new: &Arc<Value>) {
    if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
        define(store, old.map(Arc::as_ref), new);
    }
}

/// After an object is gone.
pub(super) fn removed(store: &mut Store, kind: &Kind, object: &Value) {
    if kind.is("", "services") {
        let address = object["spec"]["clusterIP"].as_str().unwrap_or_default();
        store.addresses.remove(address);
    }
    if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = (
            text(&object["spec"]["group"]),
            text(&object["spec"]["names"]["plural"]),
        );
        store.empty(&resource);
        store.kinds.remove(&resource);
    }
}

/// A Service keeps its address, and a new one gets the next of 198.19/16.
fn address(store: &mut Store, old: Option<&Value>, new: &mut Value) {
    let spec = &mut new["spec"];
    if spec["type"] == "ExternalName" {
        return;
    }
    if let Some(kept) = old
        .and_then(|old| old["spec"].get("clusterIP"))
        .filter(|_| spec.get("clusterIP").is_none())
    {
        spec["clusterIP"] = kept.clone();
    }
    if spec["clusterIP"].as_str().unwrap_or_default().is_empty() {
        // As many as are taken, and the next is mostly free: thousands of Services need no search each.
        let next = u16::try_from(store.addresses.len())
            .unwrap_or(0)
            .saturating_add(1);
        let free = (next..u16::MAX)
            .chain(1..next)
            .map(|n| format!("198.19.{}.{}", n >> 8, n & 255))
            .find(|ip| !store.addresses.contains(ip));
        spec["clusterIP"] = free.unwrap_or_default().into();
    }
    if let Some(taken) = spec["clusterIP"].as_str().filter(|ip| *ip != "None") {
        store.addresses.insert(taken.to_owned());
    }
    spec["clusterIPs"] = json!([spec["clusterIP"]]);
}

/// A definition's kind is served at once; its conditions say so.
fn define(store: &mut Store, old: Option<&Value>, definition: &Arc<Value>) {
    if let Some(kind) = defined(&definition["spec"]) {
        store.kinds.add(kind);
    }
    if old.is_some_and(|old| old["status"]["conditions"].is_array() && old["spec"] == definition["spec"]) {
        return;
    }
    let spec = &definition["spec"];
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": clock::now()});
    let mut known = (**definition).clone();
    known["status"] = json!({
        "acceptedNames": spec["names"],
        "storedVersions": spec["versions"].as_array().into_iter().flatten().map(|version| version["name"].clone()).collect::<Vec<_>>(),
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    });
    let resource = (
        "apiextensions.k8s.io".to_owned(),
        "customresourcedefinitions".to_owned(),
    );
    let name = known["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    store.put(&resource, (String::new(), name), known);
}

/// The kind that a definition's spec describes; its served version that is also stored, else the first.
fn defined(spec: &Value) -> Option<Kind> {
    let versions = spec["versions"].as_array()?;
    let version = versions
        .iter()
        .find(|version| version["storage"] == true)
        .or(versions.first())?;
    let names = &spec["names"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let list = |value: &Value| value.as_array().into_iter().flatten().filter_map(text).collect();
    let kind = text(&names["kind"])?;
    let columns = version["additionalPrinterColumns"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let schema = version["schema"]["openAPIV3Schema"].clone();
    Some(Kind {
        group: text(&spec["group"])?,
        version: text(&version["name"])?,
        plural: text(&names["plural"])?,
        singular: text(&names["singular"]).unwrap_or_else(|| kind.to_lowercase()),
        kind,
        short: list(&names["shortNames"]),
        categories: list(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        status: version["subresources"].get("status").is_some(),
        scale: version["subresources"].get("scale").map(scale),
        custom: Some(Custom {
            schema: Arc::new(schema),
            columns: Arc::new(columns),
        }),
        fleeting: false,
    })
}

fn scale(paths: &Value) -> Scale {
    let path = |field: &str| {
        let text = paths[field].as_str()?;
        Some(
            text.trim_start_matches('.')
                .split('.')
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    };
    Scale {
        spec: path("specReplicasPath").unwrap_or_default(),
        status: path("statusReplicasPath").unwrap_or_default(),
        selector: path("labelSelectorPath"),
    }
}

/// A uid in the usual form. Never the same twice in a process, and unlikely between two.
pub(super) fn uid() -> String {
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

/// Five letters for generateName, from the alphabet that the real server uses (no vowels, so no words).
pub(super) fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rest = random();
    let mut letter = || {
        let index = (rest % LETTERS.len() as u64) as usize;
        rest /= LETTERS.len() as u64;
        char::from(LETTERS[index])
    };
    (0..5).map(|_| letter()).collect()
}

/// Bits that nobody foresees: the standard library's seeded hash of a counter.
fn random() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one(COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A POST to a subresource of a pod: the scheduler's binding, or an eviction.
pub(super) fn posted(store: &mut Store, ask: &Ask) -> Result<(u16, Arc<Value>), Failure> {
    let pod = super::write::present(store, ask)?;
    match ask.sub.as_str() {
        "binding" => bind(store, ask, &pod),
        "eviction" => super::delete::delete(store, ask),
        _ => Err(Failure::unknown_path()),
    }
}

fn bind(store: &mut Store, ask: &Ask, pod: &Arc<Value>) -> Result<(u16, Arc<Value>), Failure> {
    let node = ask.json()?["target"]["name"].clone();
    let name = ask.name()?;
    if let Some(bound) = pod["spec"]["nodeName"].as_str() {
        let why = format!("pod {name} is already assigned to node {bound:?}");
        return Err(Failure::conflict(&ask.kind, name, &why));
    }
    let mut new = (**pod).clone();
    new["spec"]["nodeName"] = node;
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": clock::now()});
    new["status"]["conditions"] = json!([scheduled]);
    store.put(&ask.kind.shelf(), ask.key()?, new);
    Ok((
        201,
        Arc::new(
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
        ),
    ))
}

/// The namespaces that every cluster has.
pub(super) fn first(store: &mut Store) {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let space = json!({
            "kind": "Namespace", "apiVersion": "v1",
            "metadata": {"name": name, "uid": uid(), "creationTimestamp": clock::now(), "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        });
        store.put(
            &(String::new(), "namespaces".into()),
            (String::new(), name.into()),
            space,
        );
    }
}
