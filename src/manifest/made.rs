//! Objects that come beside those of the file.

use super::{
    Wish,
    plain::{TRACK, proxy_label},
};
use proxy::contract::{
    names::{CANARY_SERVICE, EVIDENCE_SECRET, PREFIX, SIDECAR, STABLE_SERVICE},
    rollout::{GROUP, KIND, VERSION},
};
use serde_json::{Value, json};

/// Where a proxy in a pod of its own listens.
pub const LISTEN: u16 = 8080;
/// Where proxies tell what they have seen.
const SIGNALS: u16 = 9901;
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const INSTANCE: &str = "app.kubernetes.io/instance";

/// Whether the object was made here for this Service.
pub fn is_made_for(object: &Value, service: &str) -> bool {
    let labels = &object["metadata"]["labels"];
    labels[MANAGED_BY] == "serin" && labels[INSTANCE] == service
}

/// The Service that is fronted, as what is made for it needs to know it.
pub struct Fronted {
    /// Its name.
    pub name: String,
    /// Its namespace, if it says so.
    pub namespace: Option<String>,
    /// Selector of the stable track.
    pub selector: Value,
    /// Its ports as they were.
    pub ports: Value,
    /// The Deployment behind it.
    pub deployment: String,
    /// The account of the pods with a proxy.
    pub account: Option<String>,
}

impl Fronted {
    /// The annotations that make it a front. No weight: none is 0, and one that is applied again would move a release.
    pub fn notes(&self) -> [(String, String); 2] {
        [
            (STABLE_SERVICE, format!("{}-stable", self.name)),
            (CANARY_SERVICE, format!("{}-canary", self.name)),
        ]
        .map(|(key, value)| (format!("{PREFIX}{key}"), value))
    }

    /// What both layouts need: the tracks, the proxies' rights, the Rollout.
    pub fn common(&self, wish: &Wish) -> Vec<Value> {
        let mut canary = self.selector.clone();
        canary[TRACK] = "canary".into();
        let mut all = vec![
            self.track("stable", &self.selector),
            self.track("canary", &canary),
        ];
        if self.account.is_none() {
            all.push(self.object("v1", "ServiceAccount", SIDECAR, json!({})));
        }
        all.extend([self.role(), self.binding(wish), self.rollout()]);
        all
    }

    fn object(&self, version: &str, kind: &str, name: &str, more: Value) -> Value {
        let mut object = json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": name, "labels": {MANAGED_BY: "serin", INSTANCE: self.name}},
        });
        if let Some(namespace) = &self.namespace {
            object["metadata"]["namespace"] = namespace.clone().into();
        }
        for (key, value) in more.as_object().into_iter().flatten() {
            object[key] = value.clone();
        }
        object
    }

    fn track(&self, track: &str, selector: &Value) -> Value {
        let name = format!("{}-{track}", self.name);
        let mut ports = self.ports.clone();
        for port in ports.as_array_mut().into_iter().flatten() {
            if let Some(port) = port.as_object_mut() {
                port.remove("nodePort");
            }
        }
        self.object(
            "v1",
            "Service",
            &name,
            json!({"spec": {"selector": selector, "ports": ports}}),
        )
    }

    fn role(&self) -> Value {
        let read = json!(["get", "list", "watch"]);
        let rules = json!([
            {"apiGroups": [""], "resources": ["services"], "resourceNames": [self.name], "verbs": read},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [EVIDENCE_SECRET], "verbs": read},
        ]);
        self.object(
            "rbac.authorization.k8s.io/v1",
            "Role",
            &self.proxies(),
            json!({"rules": rules}),
        )
    }

    fn binding(&self, wish: &Wish) -> Value {
        let namespace = self.namespace.as_ref().unwrap_or(&wish.namespace);
        let account = self.account.as_deref().unwrap_or(SIDECAR);
        let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": namespace});
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": self.proxies()});
        let more = json!({"roleRef": role, "subjects": [subject]});
        self.object(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            &self.proxies(),
            more,
        )
    }

    fn rollout(&self) -> Value {
        let spec = json!({"service": self.name, "stable": {"name": self.deployment}});
        self.object(
            &format!("{GROUP}/{VERSION}"),
            KIND,
            &self.name,
            json!({"spec": spec}),
        )
    }

    fn proxies(&self) -> String {
        format!("{}-proxy", self.name)
    }

    /// The proxies in pods of their own, and what keeps one of them there.
    pub fn proxy_pods(&self, wish: &Wish) -> Vec<Value> {
        let label = json!({proxy_label(): self.name});
        let mut container = container(wish, &self.name, LISTEN, None);
        container["name"] = "proxy".into();
        let spread = json!({"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": label}});
        let template = json!({"metadata": {"labels": label}, "spec": {
            "serviceAccountName": SIDECAR,
            "terminationGracePeriodSeconds": 40,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "topologySpreadConstraints": [spread],
            "containers": [container],
        }});
        let deployment = json!({"replicas": wish.proxies, "selector": {"matchLabels": label},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}, "template": template});
        let budget = json!({"maxUnavailable": 1, "selector": {"matchLabels": label}});
        vec![
            self.object(
                "apps/v1",
                "Deployment",
                &self.proxies(),
                json!({"spec": deployment}),
            ),
            self.object(
                "policy/v1",
                "PodDisruptionBudget",
                &self.proxies(),
                json!({"spec": budget}),
            ),
        ]
    }
}

/// A proxy; with `local` stable is in the same pod, at this port.
pub fn container(wish: &Wish, service: &str, listen: u16, local: Option<u16>) -> Value {
    let mut args = vec![
        "proxy".to_owned(),
        format!("--service={service}"),
        format!("--listen=$(POD_IP):{listen}"),
        format!("--signals=$(POD_IP):{SIGNALS}"),
        "--admin=127.0.0.1:0".to_owned(),
        "--drain-grace=5s".to_owned(),
        "--drain-deadline=30s".to_owned(),
    ];
    args.extend(local.map(|port| format!("--local=127.0.0.1:{port}")));
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let probe = |path: &str, seconds: u32, failures: u32| json!({"httpGet": {"path": path, "port": "signals"}, "periodSeconds": seconds, "failureThreshold": failures});
    json!({
        "name": SIDECAR,
        "image": wish.image,
        "args": args,
        "env": [field("POD_NAMESPACE", "metadata.namespace"), field("POD_IP", "status.podIP")],
        "ports": [{"name": "proxy", "containerPort": listen}, {"name": "signals", "containerPort": SIGNALS}],
        "readinessProbe": probe("/readyz", 1, 2),
        "livenessProbe": probe("/healthz", 10, 3),
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "runAsUser": 65532, "capabilities": {"drop": ["ALL"]}},
    })
}
