//! What the real server writes into an object that leaves it out. Pod templates get the same everywhere,
//! since whoever hashes a template compares what two kinds hold.

use super::kinds::Kind;
use serde_json::{Map, Value, json};

/// Fills what is absent.
pub(super) fn fill(kind: &Kind, object: &mut Value) {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("apps", "deployments") => deployment(&mut object["spec"]),
        ("apps", "replicasets") => replica_set(&mut object["spec"]),
        ("apps", "daemonsets") => daemon_set(&mut object["spec"]),
        ("apps", "statefulsets") => stateful_set(&mut object["spec"]),
        ("", "pods") => pod(object),
        ("", "services") => service(object),
        ("", "secrets") => secret(object),
        ("", "namespaces") => namespace(object),
        ("discovery.k8s.io", "endpointslices") => each(object, "ports", |port| {
            set(port, "name", "".into());
            set(port, "protocol", "TCP".into());
        }),
        ("autoscaling", "horizontalpodautoscalers") => set(&mut object["spec"], "minReplicas", 1.into()),
        ("admissionregistration.k8s.io", plural) => policy(plural, object),
        ("rbac.authorization.k8s.io", plural) => rights(plural, object),
        _ => (),
    }
}

fn deployment(spec: &mut Value) {
    set(spec, "replicas", 1.into());
    set(spec, "strategy", json!({}));
    let strategy = &mut spec["strategy"];
    set(strategy, "type", "RollingUpdate".into());
    if strategy["type"] == "RollingUpdate" {
        set(strategy, "rollingUpdate", json!({}));
        set(&mut strategy["rollingUpdate"], "maxUnavailable", "25%".into());
        set(&mut strategy["rollingUpdate"], "maxSurge", "25%".into());
    }
    set(spec, "revisionHistoryLimit", 10.into());
    set(spec, "progressDeadlineSeconds", 600.into());
    template(&mut spec["template"]);
}

fn replica_set(spec: &mut Value) {
    set(spec, "replicas", 1.into());
    if spec.get("template").is_some() {
        template(&mut spec["template"]);
    }
}

fn daemon_set(spec: &mut Value) {
    set(spec, "updateStrategy", json!({}));
    let strategy = &mut spec["updateStrategy"];
    set(strategy, "type", "RollingUpdate".into());
    if strategy["type"] == "RollingUpdate" {
        set(strategy, "rollingUpdate", json!({}));
        set(&mut strategy["rollingUpdate"], "maxUnavailable", 1.into());
        set(&mut strategy["rollingUpdate"], "maxSurge", 0.into());
    }
    set(spec, "revisionHistoryLimit", 10.into());
    template(&mut spec["template"]);
}

fn stateful_set(spec: &mut Value) {
    set(spec, "replicas", 1.into());
    set(spec, "podManagementPolicy", "OrderedReady".into());
    set(
        spec,
        "updateStrategy",
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
    );
    set(spec, "revisionHistoryLimit", 10.into());
    let keep = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
    set(spec, "persistentVolumeClaimRetentionPolicy", keep);
    template(&mut spec["template"]);
}

fn template(template: &mut Value) {
    set(template, "metadata", json!({}));
    set(template, "spec", json!({}));
    pod_spec(&mut template["spec"]);
}

fn pod(object: &mut Value) {
    let spec = &mut object["spec"];
    pod_spec(spec);
    set(spec, "enableServiceLinks", true.into());
    set(spec, "serviceAccountName", "default".into());
    set(spec, "serviceAccount", spec["serviceAccountName"].clone());
    set(spec, "preemptionPolicy", "PreemptLowerPriority".into());
    set(spec, "priority", 0.into());
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| requests(&mut container["resources"]));
    }
    let class = class(&object["spec"]);
    set(object, "status", json!({}));
    set(&mut object["status"], "phase", "Pending".into());
    set(&mut object["status"], "qosClass", class.into());
}

/// How sure a pod is of what it uses.
fn class(spec: &Value) -> &'static str {
    let containers = ["initContainers", "containers"].map(|list| spec[list].as_array());
    let mut all = containers
        .into_iter()
        .flatten()
        .flatten()
        .map(|c| &c["resources"]);
    let whole = all.clone().all(|one| {
        let limits = one["limits"].as_object();
        ["cpu", "memory"]
            .iter()
            .all(|name| limits.is_some_and(|l| l.contains_key(*name)))
            && one["limits"] == one["requests"]
    });
    let some = all.any(|one| one["limits"].is_object() || one["requests"].is_object());
    match (whole, some) {
        (true, true) => "Guaranteed",
        (false, true) => "Burstable",
        _ => "BestEffort",
    }
}

/// A limit alone is a request too; in Pods only, not in templates.
fn requests(resources: &mut Value) {
    let Some(limits) = resources["limits"].as_object().cloned() else {
        return;
    };
    set(resources, "requests", json!({}));
    limits
        .into_iter()
        .for_each(|(name, limit)| set(&mut resources["requests"], &name, limit));
}

fn pod_spec(spec: &mut Value) {
    set(spec, "restartPolicy", "Always".into());
    set(spec, "terminationGracePeriodSeconds", 30.into());
    set(spec, "dnsPolicy", "ClusterFirst".into());
    set(spec, "securityContext", json!({}));
    set(spec, "schedulerName", "default-scheduler".into());
    if let Some(name) = spec.get("serviceAccountName").cloned() {
        set(spec, "serviceAccount", name);
    }
    let host = spec["hostNetwork"] == true;
    for list in ["initContainers", "containers"] {
        each(spec, list, |one| container(one, host));
    }
    each(spec, "volumes", volume);
}

fn container(container: &mut Value, host: bool) {
    set(container, "terminationMessagePath", "/dev/termination-log".into());
    set(container, "terminationMessagePolicy", "File".into());
    set(
        container,
        "imagePullPolicy",
        pull(container["image"].as_str().unwrap_or_default()).into(),
    );
    set(container, "resources", json!({}));
    each(container, "ports", |port| {
        set(port, "protocol", "TCP".into());
        if host {
            set(port, "hostPort", port["containerPort"].clone());
        }
    });
    each(container, "env", |env| {
        if let Some(field) = env.pointer_mut("/valueFrom/fieldRef") {
            set(field, "apiVersion", "v1".into());
        }
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = container.get_mut(name).filter(|found| found.is_object()) {
            probe(found);
        }
    }
    for hook in ["/lifecycle/preStop/httpGet", "/lifecycle/postStart/httpGet"] {
        if let Some(get) = container.pointer_mut(hook) {
            http_get(get);
        }
    }
}

fn pull(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or_default();
    let tagged = last.contains('@') || last.split_once(':').is_some_and(|(_, tag)| tag != "latest");
    if tagged { "IfNotPresent" } else { "Always" }
}

fn probe(probe: &mut Value) {
    set(probe, "timeoutSeconds", 1.into());
    set(probe, "periodSeconds", 10.into());
    set(probe, "successThreshold", 1.into());
    set(probe, "failureThreshold", 3.into());
    if let Some(get) = probe.get_mut("httpGet").filter(|get| get.is_object()) {
        http_get(get);
    }
    if let Some(grpc) = probe.get_mut("grpc").filter(|grpc| grpc.is_object()) {
        set(grpc, "service", "".into());
    }
}

fn http_get(get: &mut Value) {
    set(get, "path", "/".into());
    set(get, "scheme", "HTTP".into());
}

fn volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|fields| fields.len() == 1) {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["configMap", "secret", "projected", "downwardAPI"] {
        if let Some(found) = volume.get_mut(source).filter(|found| found.is_object()) {
            set(found, "defaultMode", 420.into());
        }
    }
    if let Some(path) = volume.get_mut("hostPath").filter(|path| path.is_object()) {
        set(path, "type", "".into());
    }
    for pointer in ["/downwardAPI", "/projected"] {
        let Some(source) = volume.pointer_mut(pointer) else {
            continue;
        };
        each(source, "items", field_version);
        each(source, "sources", |one| {
            if let Some(token) = one.get_mut("serviceAccountToken") {
                set(token, "expirationSeconds", 3600.into());
            }
            if let Some(fields) = one.get_mut("downwardAPI") {
                each(fields, "items", field_version);
            }
        });
    }
}

fn field_version(item: &mut Value) {
    if let Some(field) = item.get_mut("fieldRef") {
        set(field, "apiVersion", "v1".into());
    }
}

fn service(object: &mut Value) {
    let spec = &mut object["spec"];
    set(spec, "sessionAffinity", "None".into());
    set(spec, "type", "ClusterIP".into());
    let external = spec["type"] == "ExternalName";
    each(spec, "ports", |port| {
        set(port, "protocol", "TCP".into());
        set(port, "targetPort", port["port"].clone());
    });
    if !external {
        set(spec, "internalTrafficPolicy", "Cluster".into());
        set(spec, "ipFamilies", json!(["IPv4"]));
        set(spec, "ipFamilyPolicy", "SingleStack".into());
    }
    if matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        set(spec, "externalTrafficPolicy", "Cluster".into());
    }
    set(object, "status", json!({"loadBalancer": {}}));
}

fn secret(object: &mut Value) {
    set(object, "type", "Opaque".into());
    let texts = object
        .as_object_mut()
        .and_then(|fields| fields.remove("stringData"));
    let Some(Value::Object(texts)) = texts else { return };
    set(object, "data", json!({}));
    for (name, text) in texts {
        use base64::Engine;
        let bytes = text.as_str().unwrap_or_default();
        object["data"][name] = base64::engine::general_purpose::STANDARD.encode(bytes).into();
    }
}

fn namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    set(&mut object["metadata"], "labels", json!({}));
    set(
        &mut object["metadata"]["labels"],
        "kubernetes.io/metadata.name",
        name,
    );
    set(object, "spec", json!({"finalizers": ["kubernetes"]}));
    set(object, "status", json!({"phase": "Active"}));
}

fn policy(plural: &str, object: &mut Value) {
    let spec = &mut object["spec"];
    if plural.ends_with("bindings") {
        return;
    }
    set(spec, "failurePolicy", "Fail".into());
    if let Some(matching) = spec
        .get_mut("matchConstraints")
        .filter(|matching| matching.is_object())
    {
        set(matching, "matchPolicy", "Equivalent".into());
        set(matching, "namespaceSelector", json!({}));
        set(matching, "objectSelector", json!({}));
        each(matching, "resourceRules", |rule| set(rule, "scope", "*".into()));
    }
}

fn rights(plural: &str, object: &mut Value) {
    if !plural.ends_with("bindings") {
        set(object, "rules", Value::Null);
        return;
    }
    set(
        &mut object["roleRef"],
        "apiGroup",
        "rbac.authorization.k8s.io".into(),
    );
    each(object, "subjects", |subject| {
        if subject["kind"] != "ServiceAccount" {
            set(subject, "apiGroup", "rbac.authorization.k8s.io".into());
        }
    });
}

/// Sets a field that is absent or null. What is no object is left for validation to refuse.
fn set(target: &mut Value, field: &str, value: Value) {
    if target.is_null() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    if fields.get(field).is_none_or(Value::is_null) && !(value.is_null() && fields.contains_key(field)) {
        fields.insert(field.into(), value);
    }
}

fn each(target: &mut Value, list: &str, visit: impl FnMut(&mut Value)) {
    let items = target.get_mut(list).and_then(Value::as_array_mut);
    items
        .into_iter()
        .flatten()
        .filter(|item| item.is_object())
        .for_each(visit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_alike_in_every_kind() {
        let spec = || {
            json!({"template": {"spec": {"containers": [{"name": "a", "image": "r:5000/a", "readinessProbe":
            {"httpGet": {"port": 1}}, "ports": [{"containerPort": 1}]}], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}}})
        };
        let (mut one, mut two, mut three) = (spec(), spec(), spec());
        deployment(&mut one);
        replica_set(&mut two);
        daemon_set(&mut three);
        assert_eq!(one["template"], two["template"]);
        assert_eq!(one["template"], three["template"]);
        let container = &one["template"]["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["readinessProbe"]["httpGet"]["scheme"], "HTTP");
        assert_eq!(
            one["template"]["spec"]["volumes"][0]["secret"]["defaultMode"],
            420
        );
    }

    #[test]
    fn tags_decide_about_pulling() {
        for (image, policy) in [
            ("a", "Always"),
            ("a:latest", "Always"),
            ("a:1", "IfNotPresent"),
            ("r:1/a", "Always"),
            ("a@sha256:0", "IfNotPresent"),
        ] {
            assert_eq!(pull(image), policy, "{image}");
        }
    }
}
