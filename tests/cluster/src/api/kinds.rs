//! Which kinds the server serves: names, scope, subresources, columns.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Group and plural: what a path names and a store keeps apart.
pub(super) type Resource = (String, String);

/// One kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Kind {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) singular: String,
    pub(super) kind: String,
    pub(super) short: Vec<String>,
    pub(super) categories: Vec<String>,
    pub(super) namespaced: bool,
    pub(super) status: bool,
    pub(super) scale: Option<Scale>,
    /// Made by a CustomResourceDefinition.
    pub(super) custom: Option<Custom>,
    /// Answers at once and is never stored (reviews).
    pub(super) fleeting: bool,
}

/// Where the scale subresource finds its numbers, as paths of fields.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) spec: Vec<String>,
    pub(super) status: Vec<String>,
    pub(super) selector: Option<Vec<String>>,
}

/// What a definition says beyond the names.
#[derive(Clone, Debug, Default)]
pub(super) struct Custom {
    pub(super) schema: Arc<Value>,
    pub(super) columns: Arc<Vec<Value>>,
}

/// All kinds by group and plural.
#[derive(Clone, Debug)]
pub(super) struct Kinds {
    by_resource: BTreeMap<Resource, Arc<Kind>>,
}

impl Kind {
    /// `apps/v1`, or `v1` for the core group.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`, or `pods` for the core group.
    pub(super) fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `Deployment.apps`, or `Pod` for the core group.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.kind.clone()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }

    /// The shelf in the store. Both groups of events share one.
    pub(super) fn shelf(&self) -> Resource {
        if self.is("events.k8s.io", "events") {
            return (String::new(), "events".into());
        }
        (self.group.clone(), self.plural.clone())
    }

    pub(super) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// Whether the kind counts its generations: those whose spec is a wish that somebody carries out.
    pub(super) fn counts_generations(&self) -> bool {
        self.custom.is_some() || GENERATIONS.iter().any(|(group, plural)| self.is(group, plural))
    }
}

impl Kinds {
    pub(super) fn builtin() -> Kinds {
        let kinds = TABLE
            .iter()
            .map(built)
            .map(|kind| ((kind.group.clone(), kind.plural.clone()), Arc::new(kind)));
        Kinds {
            by_resource: kinds.collect(),
        }
    }

    pub(super) fn get(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let kind = self.by_resource.get(&(group.to_owned(), plural.to_owned()))?;
        (kind.version == version).then(|| kind.clone())
    }

    /// By kind name, as owner references and role references name it.
    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        self.all()
            .find(|known| known.kind == kind && known.api_version() == api_version)
            .cloned()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.by_resource.values()
    }

    pub(super) fn add(&mut self, kind: Kind) {
        self.by_resource
            .insert((kind.group.clone(), kind.plural.clone()), Arc::new(kind));
    }

    pub(super) fn remove(&mut self, resource: &Resource) {
        self.by_resource.remove(resource);
    }
}

/// Built-in kinds that count generations, as seen on a real server: Services and ConfigMaps do not.
const GENERATIONS: &[(&str, &str)] = &[
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "daemonsets"),
    ("apps", "statefulsets"),
    ("", "pods"),
    ("discovery.k8s.io", "endpointslices"),
    ("policy", "poddisruptionbudgets"),
    ("networking.k8s.io", "networkpolicies"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
    ),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
];

/// group, version, plural, kind, short names, flags: n namespaced, s status, c scale, a category `all`, f fleeting.
type Line = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const TABLE: &[Line] = &[
    ("", "v1", "namespaces", "Namespace", "ns", "s"),
    ("", "v1", "pods", "Pod", "po", "nsa"),
    ("", "v1", "services", "Service", "svc", "nsa"),
    ("", "v1", "secrets", "Secret", "", "n"),
    ("", "v1", "configmaps", "ConfigMap", "cm", "n"),
    ("", "v1", "serviceaccounts", "ServiceAccount", "sa", "n"),
    ("", "v1", "nodes", "Node", "no", "s"),
    ("", "v1", "events", "Event", "ev", "n"),
    ("", "v1", "endpoints", "Endpoints", "ep", "n"),
    ("apps", "v1", "deployments", "Deployment", "deploy", "nsca"),
    ("apps", "v1", "replicasets", "ReplicaSet", "rs", "nsca"),
    ("apps", "v1", "daemonsets", "DaemonSet", "ds", "nsa"),
    ("apps", "v1", "statefulsets", "StatefulSet", "sts", "nsca"),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", "", "n"),
    (
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        "EndpointSlice",
        "",
        "n",
    ),
    ("coordination.k8s.io", "v1", "leases", "Lease", "", "n"),
    ("events.k8s.io", "v1", "events", "Event", "ev", "n"),
    (
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        "hpa",
        "nsa",
    ),
    (
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        "pdb",
        "ns",
    ),
    (
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        "NetworkPolicy",
        "netpol",
        "n",
    ),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", "", "n"),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "rolebindings",
        "RoleBinding",
        "",
        "n",
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterroles",
        "ClusterRole",
        "",
        "",
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
        "",
        "",
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "crd,crds",
        "s",
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "mutatingadmissionpolicies",
        "MutatingAdmissionPolicy",
        "",
        "",
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "mutatingadmissionpolicybindings",
        "MutatingAdmissionPolicyBinding",
        "",
        "",
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        "",
        "s",
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        "",
        "",
    ),
    (
        "authentication.k8s.io",
        "v1",
        "selfsubjectreviews",
        "SelfSubjectReview",
        "",
        "f",
    ),
    (
        "authorization.k8s.io",
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        "",
        "f",
    ),
];

fn built(&(group, version, plural, kind, short, flags): &Line) -> Kind {
    Kind {
        group: group.into(),
        version: version.into(),
        plural: plural.into(),
        singular: kind.to_lowercase(),
        kind: kind.into(),
        short: short
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        categories: if flags.contains('a') {
            vec!["all".into()]
        } else {
            Vec::new()
        },
        namespaced: flags.contains('n'),
        status: flags.contains('s'),
        scale: flags.contains('c').then(replicas),
        custom: None,
        fleeting: flags.contains('f'),
    }
}

fn replicas() -> Scale {
    let path = |fields: &[&str]| fields.iter().map(|&field| field.to_owned()).collect::<Vec<_>>();
    Scale {
        spec: path(&["spec", "replicas"]),
        status: path(&["status", "replicas"]),
        selector: Some(path(&["spec", "selector"])),
    }
}
