//! What others were told, said in our words: whole objects as people have them, each with what is lost on the way, and
//! every result taken by our own checks and by an API server with our CRD.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use cluster::api::{Options, Server};
use kube::{
    Client, Config,
    api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use proxy::contract::{Canary, names::PREFIX, rollout::RolloutSpec};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::{SERIN, serin, stderr, stdout};

const SOURCES: [&str; 3] = ["ingress-nginx", "flagger", "argo-rollouts"];
/// Objects of each source, at least.
const LEAST: usize = 10;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(source: &str) -> Vec<PathBuf> {
    let folder = root().join("tests/migrate").join(source);
    let mut all: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

/// What the first lines of a file promise: `# loss: KEY`, and `# KIND POINTER: JSON`.
fn promised<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let lines = text.lines().take_while(|l| l.starts_with('#'));
    lines
        .filter_map(|l| l.strip_prefix(&format!("# {word}: ")))
        .collect()
}

fn migrated(file: &Path) -> Value {
    let run = serin(&["migrate", file.to_str().unwrap(), "--output", "json"]);
    assert!(run.status.success(), "{}: {}", file.display(), stderr(&run));
    let told: Value = serde_json::from_slice(&run.stdout).unwrap();
    // Each loss is on standard error too, one line each.
    let losses = told["losses"].as_array().unwrap();
    let error = stderr(&run);
    assert_eq!(error.lines().count(), losses.len(), "{error}");
    for loss in losses {
        let key = loss["key"].as_str().unwrap();
        assert!(
            error.contains(key) && !loss["why"].as_str().unwrap().is_empty(),
            "{key}"
        );
    }
    told
}

#[test]
fn each_loss_is_named_and_nothing_else_is() {
    for source in SOURCES {
        let all = files(source);
        assert!(all.len() >= LEAST, "{source} has {}", all.len());
        for file in all {
            let text = fs::read_to_string(&file).unwrap();
            let told = migrated(&file);
            let lost: BTreeSet<&str> = told["losses"]
                .as_array()
                .unwrap()
                .iter()
                .map(|l| l["key"].as_str().unwrap())
                .collect();
            let wanted: BTreeSet<&str> = promised(&text, "loss").into_iter().collect();
            assert_eq!(lost, wanted, "{}", file.display());
        }
    }
}

#[test]
fn what_is_carried_stands_where_it_should() {
    let mut looked = 0;
    for file in SOURCES.into_iter().flat_map(files) {
        let text = fs::read_to_string(&file).unwrap();
        let objects = migrated(&file)["objects"].clone();
        let expected = promised(&text, "expect");
        assert!(!expected.is_empty(), "{} promises nothing", file.display());
        for line in expected {
            let (place, value) = line.split_once(" = ").unwrap();
            let (object, pointer) = place.split_once(' ').unwrap();
            let (kind, name) = object.split_once('/').unwrap();
            let found = objects
                .as_array()
                .unwrap()
                .iter()
                .find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
            let found = found.unwrap_or_else(|| panic!("{}: no {object}", file.display()));
            let wanted: Value = serde_json::from_str(value).unwrap();
            let is = found.pointer(pointer).cloned().unwrap_or_default();
            assert_eq!(is, wanted, "{} {place}", file.display());
            looked += 1;
        }
    }
    assert!(looked >= 60, "{looked}");
}

#[test]
fn every_result_passes_our_own_checks() {
    for file in SOURCES.into_iter().flat_map(files) {
        let objects = migrated(&file)["objects"].clone();
        let all = objects.as_array().unwrap();
        assert!(all.iter().any(|o| o["kind"] == "Rollout"), "{}", file.display());
        for object in all {
            if object["kind"] == "Rollout" {
                let spec: RolloutSpec = serde_json::from_value(object["spec"].clone()).unwrap();
                assert_eq!(spec.policy().faults("spec"), [], "{}", file.display());
            }
            let Some(notes) = object["metadata"]["annotations"].as_object() else {
                continue;
            };
            let notes = notes
                .iter()
                .map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned()))
                .collect();
            let canary =
                Canary::parse(&notes, PREFIX).unwrap_or_else(|f| panic!("{}: {f:?}", file.display()));
            proxy::table::Rules::compile(&canary, PREFIX).unwrap();
        }
    }
}

async fn client(server: &Server) -> Client {
    let config = Kubeconfig::from_yaml(&server.kubeconfig("admin", &["system:masters"])).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// Server-side apply, as `kubectl apply --server-side` sends it.
async fn apply(client: &Client, by: &str, object: &Value) -> Result<(), String> {
    let words = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let version = words("apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &words("kind")));
    let name = object["metadata"]["name"].as_str().unwrap();
    let is_global = matches!(
        object["kind"].as_str(),
        Some("Namespace" | "CustomResourceDefinition")
    );
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let api: Api<DynamicObject> = match is_global {
        true => Api::all_with(client.clone(), &kind),
        false => Api::namespaced_with(client.clone(), namespace, &kind),
    };
    let parameters = PatchParams::apply(by).validation_strict();
    let done = api.patch(name, &parameters, &Patch::Apply(object)).await;
    done.map(drop)
        .map_err(|e| format!("{} {name}: {e}", object["kind"]))
}

#[test]
fn an_api_server_with_our_crd_takes_every_result() {
    let crd: Value =
        serde_saphyr::from_str(&fs::read_to_string(root().join("k8s/crd/crd.yaml")).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for file in SOURCES.into_iter().flat_map(files) {
            let server = Server::start(Options::default()).unwrap();
            let client = client(&server).await;
            apply(&client, "serin", &crd).await.unwrap();
            for name in ["default", "shop", "store"] {
                apply(&client, "serin", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await.unwrap();
            }
            let objects = migrated(&file)["objects"].clone();
            for object in objects.as_array().unwrap() {
                if object["kind"] == "Service" && object["spec"].is_null() {
                    // Annotations for a Service that is there.
                    let mut there = object.clone();
                    there["metadata"]["annotations"] = Value::Null;
                    there["spec"] = json!({"selector": {"app": "a"}, "ports": [{"port": 80}]});
                    apply(&client, "helm", &there).await.unwrap();
                }
                let done = apply(&client, "serin", object).await;
                done.unwrap_or_else(|e| panic!("{}: {e}\n{object:#}", file.display()));
            }
            // It would refuse one that is wrong.
            let wrong = json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "wrong"},
                "spec": {"service": "a", "stable": {"name": "a"}, "canary": {"name": "a"}}});
            assert!(apply(&client, "serin", &wrong).await.is_err());
        }
    });
}

#[test]
fn yaml_and_json_say_the_same_and_losses_are_comments() {
    for file in SOURCES.into_iter().flat_map(files) {
        let told = migrated(&file);
        let run = serin(&["migrate", file.to_str().unwrap()]);
        let text = stdout(&run);
        let read: Vec<Value> = serde_saphyr::from_str_multiple(&text).unwrap();
        let read: Vec<&Value> = read.iter().filter(|v| !v.is_null()).collect();
        let wanted: Vec<&Value> = told["objects"].as_array().unwrap().iter().collect();
        assert_eq!(read, wanted, "{}", file.display());
        for loss in stderr(&run).lines() {
            assert!(text.contains(&format!("#   {loss}\n")), "{loss}");
        }
    }
}

#[test]
fn nothing_to_read_is_exit_code_2_and_standard_input_is_a_file() {
    let run = |text: &str| {
        let mut child = Command::new(SERIN)
            .args(["migrate", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    for (text, says) in [
        ("", "no canary Ingress"),
        ("kind: ConfigMap\n", "no canary Ingress"),
        ("{", "document 1"),
        (
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a, annotations: {nginx.ingress.kubernetes.io/canary: \"true\"}}\n",
            "nothing could be carried",
        ),
        (
            "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: a}\nspec: {targetRef: {kind: Service, name: a}}\n",
            "nothing could be carried",
        ),
    ] {
        let done = run(text);
        assert_eq!(done.status.code(), Some(2), "{text}");
        assert!(stderr(&done).contains(says), "{text}: {}", stderr(&done));
    }
    assert_eq!(serin(&["migrate", "/nonexistent.yaml"]).status.code(), Some(2));
    let file = files("flagger").remove(0);
    let done = run(&fs::read_to_string(&file).unwrap());
    assert_eq!(
        stdout(&done),
        stdout(&serin(&["migrate", file.to_str().unwrap()]))
    );
}

#[test]
fn the_tables_of_the_document_are_those_of_the_code() {
    let page = fs::read_to_string(root().join("docs/migrate.md")).unwrap();
    let (_, tables) = page.split_once("<!-- serin migrate --fields -->\n").unwrap();
    assert_eq!(
        tables.trim(),
        stdout(&serin(&["migrate", "--fields"])).trim(),
        "docs/migrate.md is not what the code says; put `serin migrate --fields` after the marker"
    );
}
