//! What people apply: every folder builds with the kustomize of kubectl, and its parts fit together.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s")
}

/// Every folder with a kustomization.
fn folders(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(folders(&path));
        } else if path.ends_with("kustomization.yaml") {
            found.push(under.to_owned());
        }
    }
    found
}

fn build(folder: &Path) -> Vec<Value> {
    let run = Command::new("kubectl").arg("kustomize").arg(folder).output();
    let run = run.expect("kubectl is not on the PATH; get it from https://kubernetes.io/docs/tasks/tools/");
    assert!(
        run.status.success(),
        "{}: {}",
        folder.display(),
        String::from_utf8_lossy(&run.stderr)
    );
    serde_saphyr::from_str_multiple(&String::from_utf8(run.stdout).unwrap()).unwrap()
}

fn built(folder: &str) -> Vec<Value> {
    build(&root().join(folder))
}

fn find<'a>(all: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |v: &&Value| v["kind"] == kind && v["metadata"]["name"] == name;
    all.iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn templates(all: &[Value]) -> Vec<(String, &Value)> {
    let deployments = all.iter().filter(|v| v["kind"] == "Deployment");
    deployments
        .map(|d| (d["metadata"]["name"].to_string(), &d["spec"]["template"]))
        .collect()
}

#[test]
fn every_folder_builds() {
    let all = folders(&root());
    assert!(all.len() >= 11, "{all:?}");
    for folder in all {
        for object in build(&folder) {
            assert!(
                object["apiVersion"].is_string() && object["metadata"]["name"].is_string(),
                "{object}"
            );
        }
    }
}

#[test]
fn no_pod_may_do_more_than_it_must() {
    for folder in [
        "controller",
        "controller-namespaced",
        "overlays/front",
        "overlays/sidecar",
    ] {
        let all = built(folder);
        for (name, template) in templates(&all) {
            let pod = &template["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            assert_eq!(
                pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
                "{name}"
            );
            for container in pod["containers"].as_array().unwrap() {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(security["capabilities"]["drop"][0], "ALL", "{name}");
                assert_eq!(container["image"], "serin:dev", "{name}");
                assert!(container["resources"]["requests"]["cpu"].is_string(), "{name}");
                assert!(
                    container["readinessProbe"].is_object() && container["livenessProbe"].is_object(),
                    "{name}"
                );
                assert!(
                    container["command"].is_null(),
                    "{name}: the entrypoint is the program"
                );
            }
        }
    }
}

#[test]
fn both_installations_have_the_same_rights_and_no_secret_but_their_own() {
    let rules = |folder: &str, kind: &str| find(&built(folder), kind, "serin-controller")["rules"].clone();
    let rights = rules("controller", "ClusterRole");
    assert_eq!(rights, rules("controller-namespaced", "Role"));
    for rule in rights.as_array().unwrap() {
        let text = rule.to_string();
        assert!(!text.contains('*'), "{text}");
        let reads = rule["verbs"].as_array().unwrap().iter().any(|v| v != "create");
        if text.contains("secrets") && reads {
            assert_eq!(rule["resourceNames"][0], "serin-evidence");
        }
    }
    let namespaced = built("controller-namespaced");
    let kinds: BTreeSet<_> = namespaced.iter().map(|v| v["kind"].as_str().unwrap()).collect();
    assert!(
        kinds
            .iter()
            .all(|k| !k.starts_with("Cluster") && *k != "CustomResourceDefinition"),
        "{kinds:?}"
    );
    assert!(namespaced.iter().all(|v| v["metadata"]["namespace"] == "default"));
    let binding = find(&namespaced, "RoleBinding", "serin-controller");
    assert_eq!(binding["subjects"][0]["namespace"], "default");
}

#[test]
fn the_front_finds_proxies_and_the_tracks_find_the_application() {
    let all = built("example");
    let selects = |service: &str| find(&all, "Service", service)["spec"]["selector"].clone();
    let labels = |deployment: &str| {
        find(&all, "Deployment", deployment)["spec"]["template"]["metadata"]["labels"].clone()
    };
    let fits =
        |selector: &Value, labels: &Value| selector.as_object().unwrap().iter().all(|(k, v)| labels[k] == *v);
    assert!(fits(&selects("echo"), &labels("echo-proxy")) && !fits(&selects("echo"), &labels("server")));
    assert!(
        fits(&selects("echo-stable"), &labels("server")) && !fits(&selects("echo-canary"), &labels("server"))
    );
    let rollout = find(&all, "Rollout", "echo");
    assert_eq!(rollout["spec"]["stable"]["name"], "server");
    let role = find(&all, "Role", "serin-proxy");
    assert_eq!(role["rules"][0]["resourceNames"][0], "echo");
}

#[test]
fn no_front_carries_a_weight_that_would_pause_a_release_when_it_is_applied_again() {
    for folder in ["example", "overlays/front", "overlays/sidecar"] {
        let notes = find(&built(folder), "Service", "echo")["metadata"]["annotations"].clone();
        assert_eq!(notes["serin.dev/canary-service"], "echo-canary", "{folder}");
        assert!(notes["serin.dev/canary-weight"].is_null(), "{folder}: {notes}");
    }
}

#[test]
fn in_the_sidecar_layout_the_service_leads_to_the_sidecar() {
    let all = built("overlays/sidecar");
    let pod = &find(&all, "Deployment", "server")["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["serin.dev/proxy"], "echo");
    let names: Vec<_> = pod["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].clone())
        .collect();
    assert!(
        names.contains(&"serin-proxy".into()) && names.contains(&"server".into()),
        "{names:?}"
    );
    let service = &find(&all, "Service", "echo")["spec"];
    assert_eq!(service["ports"][0]["targetPort"], "proxy");
    assert_eq!(service["selector"]["track"], "stable");
}

#[test]
fn every_policy_is_bound_and_exempts_the_controller() {
    let mut all = built("policies");
    all.extend(built("policies/change-cause"));
    let policies: Vec<_> = all
        .iter()
        .filter(|v| v["kind"].as_str().unwrap().ends_with("Policy"))
        .collect();
    assert_eq!(policies.len(), 5);
    for policy in policies {
        let name = policy["metadata"]["name"].as_str().unwrap();
        let kind = format!("{}Binding", policy["kind"].as_str().unwrap());
        assert_eq!(find(&all, &kind, name)["spec"]["policyName"], name);
        let exempt = policy
            .to_string()
            .contains("system:serviceaccount:serin-system:serin-controller");
        assert_eq!(
            exempt,
            name != "serin-weight",
            "{name}: an impossible weight is nobody's"
        );
    }
}

#[test]
fn a_filled_in_canary_differs_from_stable_by_its_track_and_version_alone() {
    let fill = |file: &str, version: &str| -> Value {
        let text = fs::read_to_string(root().join("pipeline").join(file)).unwrap();
        let text = text
            .replace("{{VERSION}}", version)
            .replace("{{IMAGE}}", "serin:dev")
            .replace("{{REPLICAS}}", "1");
        assert!(!text.contains("{{"), "{text}");
        serde_saphyr::from_str(&text).unwrap()
    };
    let (stable, mut canary) = (fill("stable.yml", "v1.0.0"), fill("canary.yml", "v2.0.0"));
    assert_eq!(canary["spec"]["selector"]["matchLabels"]["track"], "canary");
    canary["metadata"]["name"] = "server".into();
    canary["spec"]["selector"]["matchLabels"]["track"] = "stable".into();
    canary["spec"]["template"]["metadata"]["labels"]["track"] = "stable".into();
    canary["spec"]["template"]["metadata"]["labels"]["version"] = "v1.0.0".into();
    assert_eq!(canary, stable);
}
