//! Objects of a world: apply, look, scale, kill.

use super::World;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{GroupVersionKind, NamespaceResourceScope},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    fmt::Debug,
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

/// Kinds without a namespace.
const CLUSTER_KINDS: [&str; 10] = [
    "Namespace",
    "Node",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "PriorityClass",
];

impl World {
    /// Creates or merges each document of a YAML text, in the test's namespace where the text names none.
    ///
    /// # Panics
    /// When a document is refused.
    pub fn apply(&self, yaml: &str) {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(yaml).unwrap_or_else(|e| panic!("{e} in:\n{yaml}"));
        for document in documents.into_iter().filter(|d| !d.is_null()) {
            self.run(self.put(&document))
                .unwrap_or_else(|e| panic!("{e} for:\n{document:#}"));
        }
    }

    async fn put(&self, document: &Value) -> Result<(), kube::Error> {
        let (api, name) = self.dynamic(document);
        let object: DynamicObject =
            serde_json::from_value(document.clone()).map_err(kube::Error::SerdeError)?;
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(e)) if e.code == 409 => {
                let patch = Patch::Merge(document);
                api.patch(&name, &PatchParams::default(), &patch).await.map(drop)
            }
            made => made.map(drop),
        }
    }

    fn dynamic(&self, document: &Value) -> (Api<DynamicObject>, String) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&document["apiVersion"]), text(&document["kind"]));
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let meta = &document["metadata"];
        let namespace = meta["namespace"].as_str().unwrap_or(self.namespace());
        let api = if CLUSTER_KINDS.contains(&kind.as_str()) {
            Api::all_with(self.client(), &resource)
        } else {
            Api::namespaced_with(self.client(), namespace, &resource)
        };
        (api, text(&meta["name"]))
    }

    /// All objects of a kind in the test's namespace that fit the label selector.
    pub fn list<K>(&self, selector: &str) -> Vec<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client(), self.namespace());
        self.run(api.list(&ListParams::default().labels(selector)))
            .unwrap()
            .items
    }

    /// One object, if it is there.
    pub fn get<K>(&self, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client(), self.namespace());
        self.run(api.get_opt(name)).unwrap()
    }

    /// One object of any kind as JSON, if it is there; `kind` as in `v1/Service` or `serin.dev/v1alpha1/Rollout`.
    pub fn json(&self, kind: &str, name: &str) -> Option<Value> {
        let (version, kind) = kind.rsplit_once('/').unwrap_or(("v1", kind));
        let document = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        let (api, name) = self.dynamic(&document);
        let found = self.run(api.get_opt(&name)).unwrap();
        found.map(|object| serde_json::to_value(object).unwrap())
    }

    /// A merge patch of any kind; see [`World::json`].
    pub fn merge(&self, kind: &str, name: &str, patch: &Value) {
        let (version, kind) = kind.rsplit_once('/').unwrap_or(("v1", kind));
        let document = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        let (api, name) = self.dynamic(&document);
        self.run(api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)))
            .unwrap_or_else(|e| panic!("{e} for {kind} {name}: {patch}"));
    }

    /// The same for the status; see [`World::json`].
    pub fn merge_status(&self, kind: &str, name: &str, patch: &Value) {
        let (version, kind) = kind.rsplit_once('/').unwrap_or(("v1", kind));
        let document = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        let (api, name) = self.dynamic(&document);
        self.run(api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)))
            .unwrap_or_else(|e| panic!("{e} for the status of {kind} {name}: {patch}"));
    }

    /// Deletes any kind; see [`World::json`]. Not to be there is no failure.
    pub fn delete(&self, kind: &str, name: &str) {
        let (version, kind) = kind.rsplit_once('/').unwrap_or(("v1", kind));
        let document = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        let (api, name) = self.dynamic(&document);
        match self.run(api.delete(&name, &DeleteParams::default())) {
            Err(kube::Error::Api(e)) if e.code == 404 => {}
            other => drop(other.unwrap_or_else(|e| panic!("{e} for {kind} {name}"))),
        }
    }

    /// Pods that fit the label selector.
    pub fn pods(&self, selector: &str) -> Vec<Pod> {
        self.list(selector)
    }

    /// Waits until exactly `count` pods fit the selector and all are ready; those pods.
    pub fn ready(&self, selector: &str, count: usize, limit: Duration) -> Vec<Pod> {
        let what = format!("{count} ready pods of {selector}");
        self.wait(&what, limit, || {
            let pods = self.pods(selector);
            (pods.len() == count && pods.iter().all(is_ready)).then_some(pods)
        })
    }

    /// Sets the size of a Deployment.
    pub fn scale(&self, deployment: &str, replicas: u32) {
        self.merge(
            "apps/v1/Deployment",
            deployment,
            &json!({"spec": {"replicas": replicas}}),
        );
    }

    /// Waits until a Deployment has rolled out, as `kubectl rollout status` does.
    pub fn rolled_out(&self, deployment: &str, limit: Duration) {
        self.wait(&format!("{deployment} rolled out"), limit, || {
            let deployment = self.get::<Deployment>(deployment)?;
            let (spec, status) = (deployment.spec?, deployment.status?);
            let all = spec.replicas.filter(|n| *n > 0);
            let same =
                status.updated_replicas == all && status.replicas == all && status.available_replicas == all;
            (same && status.observed_generation == deployment.metadata.generation).then_some(())
        });
    }

    /// Addresses that a Service's clients may choose now.
    pub fn addresses(&self, service: &str) -> Vec<SocketAddr> {
        let slices = self.list::<EndpointSlice>(&format!("kubernetes.io/service-name={service}"));
        slices.iter().flat_map(crate::load::open_addresses).collect()
    }

    /// The processes of a pod, by container.
    pub fn processes(&self, pod: &str) -> Vec<(String, u32)> {
        let nodes = self.nodes.iter();
        nodes.flat_map(|n| n.processes(self.namespace(), pod)).collect()
    }

    /// SIGKILL to all processes of a pod; its object stays, and it is restarted by its policy.
    pub fn kill(&self, pod: &str) {
        self.signal(pod, "KILL");
    }

    /// A signal, such as `STOP` or `TERM`, to all processes of a pod.
    pub fn signal(&self, pod: &str, signal: &str) {
        for (_, pid) in self.processes(pod) {
            let sent = Command::new("sh")
                .args(["-c", &format!("kill -{signal} {pid}")])
                .stdin(Stdio::null())
                .status();
            assert!(sent.unwrap().success(), "cannot send {signal} to {pid} of {pod}");
        }
    }

    /// SIGKILL to all pods that fit the selector; their names.
    pub fn kill_all(&self, selector: &str) -> Vec<String> {
        let names: Vec<_> = self.pods(selector).iter().map(|p| p.name_any()).collect();
        for name in &names {
            self.kill(name);
        }
        names
    }

    /// SIGKILL to the controller's pods, leader or not; their names.
    pub fn kill_controller(&self) -> Vec<String> {
        self.kill_all(super::story::CONTROLLER)
    }

    /// What a pod has printed, all its containers.
    pub fn logs(&self, pod: &str) -> String {
        let prefix = format!("{}_{pod}_", self.namespace());
        let Ok(files) = fs::read_dir(self.folder().join("logs")) else {
            return String::new();
        };
        let own = files
            .flatten()
            .filter(|f| f.file_name().to_string_lossy().starts_with(&prefix));
        own.map(|f| fs::read_to_string(f.path()).unwrap_or_default())
            .collect()
    }
}

/// Whether a pod is ready and not about to end.
pub fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none() && conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}
