//! The real kubectl on the stand-in: what people and pipelines type; and on a real API server where
//! `SERIN_CLUSTER_KUBECONFIG` names one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

use cluster::api::{Options, Server};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const MANIFEST: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: 'app:1', env: [{name: A, value: a}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
";

const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: cakes.test.serin.dev}
spec:
  group: test.serin.dev
  scope: Namespaced
  names: {plural: cakes, singular: cake, kind: Cake, shortNames: [ck]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Layers, type: integer, jsonPath: .spec.layers}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, description: What to bake., properties: {layers: {type: integer, minimum: 1, description: How high.}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
";

/// kubectl with a server of its own, or a namespace of its own on a real one.
struct Kubectl {
    server: Option<Server>,
    config: PathBuf,
}

impl Kubectl {
    fn new(name: &str) -> Kubectl {
        let version = Command::new("kubectl").args(["version", "--client"]).output();
        let version = version
            .expect("kubectl is not on the PATH: install it from https://kubernetes.io/docs/tasks/tools/");
        println!("{}", String::from_utf8_lossy(&version.stdout));
        let config = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.kubeconfig"));
        match std::env::var_os("SERIN_CLUSTER_KUBECONFIG") {
            Some(path) => Kubectl::real(name, config, &std::fs::read(path).unwrap()),
            None => {
                let server = Server::start(Options::default()).unwrap();
                std::fs::write(&config, server.kubeconfig("admin", &["system:masters"])).unwrap();
                let server = Some(server);
                Kubectl { server, config }
            }
        }
    }

    fn real(name: &str, config: PathBuf, text: &[u8]) -> Kubectl {
        std::fs::write(&config, text).unwrap();
        let kubectl = Kubectl { server: None, config };
        let space = format!("kubectl-{name}-{}", std::process::id());
        kubectl.ok(&format!("create namespace {space}"), "");
        kubectl.ok(&format!("config set-context --current --namespace={space}"), "");
        kubectl
    }

    /// The last part of the cache's name: a stand-in at another port is another cluster.
    fn cluster(&self) -> String {
        let url = self.server.as_ref().map(Server::url);
        url.unwrap_or_else(|| std::process::id().to_string())
            .replace(['/', ':'], "")
    }

    fn run(&self, arguments: &str, input: &str) -> Output {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(&self.config)
            .arg("--cache-dir")
            .arg(self.config.with_extension(self.cluster()));
        command
            .args(arguments.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What a command that must succeed prints.
    fn ok(&self, arguments: &str, input: &str) -> String {
        let output = self.run(arguments, input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn fails(&self, arguments: &str, input: &str) -> String {
        let output = self.run(arguments, input);
        assert!(!output.status.success(), "kubectl {arguments} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[test]
fn manifests_are_applied_changed_and_shown() {
    let kubectl = Kubectl::new("manifests");
    let made = kubectl.ok("apply -f -", MANIFEST);
    assert_eq!(made, "deployment.apps/web created\nservice/web created\n");
    assert_eq!(
        kubectl.ok("apply -f -", MANIFEST),
        "deployment.apps/web unchanged\nservice/web unchanged\n"
    );
    let changed = MANIFEST
        .replace("app:1", "app:2")
        .replace("{name: A, value: a}", "{name: B, value: b}");
    assert_eq!(
        kubectl.ok("apply -f -", &changed),
        "deployment.apps/web configured\nservice/web unchanged\n"
    );
    let env = kubectl.ok(
        "get deploy web -o jsonpath={.spec.template.spec.containers[0].env[*].name}",
        "",
    );
    assert_eq!(env, "B");
    kubectl.ok("set image deployment/web app=app:3", "");
    kubectl.ok("scale deployment/web --replicas=5", "");
    kubectl.ok("annotate service web serin.dev/canary-weight=10 --overwrite", "");
    kubectl.ok("label service web track=stable", "");
    let wide = kubectl.ok("get deployments -o wide", "");
    assert!(
        wide.contains("app:3") && wide.contains("0/5") && wide.contains("CONTAINERS"),
        "{wide}"
    );
    assert!(kubectl.ok("get svc,deploy", "").contains("service/web"));
    assert!(
        kubectl
            .ok("describe service web", "")
            .contains("serin.dev/canary-weight: 10")
    );
    let events = kubectl.ok("get events", "");
    assert!(events.is_empty() || kubectl.server.is_none(), "{events}");
    kubectl.ok("delete deployment web --timeout=10s", "");
    assert!(
        kubectl
            .fails("get deployment web", "")
            .contains("deployments.apps \"web\" not found")
    );
}

#[test]
fn server_side_conflicts_name_the_manager() {
    let kubectl = Kubectl::new("conflicts");
    kubectl.ok("apply --server-side --field-manager=git -f -", MANIFEST);
    let other = MANIFEST.replace("replicas: 2", "replicas: 3");
    let refused = kubectl.fails("apply --server-side --field-manager=other -f -", &other);
    assert!(
        refused.contains("conflict with \"git\": .spec.replicas"),
        "{refused}"
    );
    kubectl.ok(
        "apply --server-side --field-manager=other --force-conflicts -f -",
        &other,
    );
    assert_eq!(kubectl.ok("get deploy web -o jsonpath={.spec.replicas}", ""), "3");
}

#[test]
fn custom_kinds_have_columns_waits_and_explanations() {
    let kubectl = Kubectl::new("custom");
    kubectl.ok("apply -f -", DEFINITION);
    kubectl.ok(
        "wait --for=condition=Established crd/cakes.test.serin.dev --timeout=10s",
        "",
    );
    let cake = "apiVersion: test.serin.dev/v1\nkind: Cake\nmetadata: {name: one}\nspec: {layers: 3}\n";
    kubectl.ok("apply -f -", cake);
    let shown = kubectl.ok("get ck", "");
    assert!(shown.contains("LAYERS") && shown.contains('3'), "{shown}");
    assert_eq!(
        kubectl.ok("apply -f -", &cake.replace('3', "4")),
        "cake.test.serin.dev/one configured\n"
    );
    kubectl.ok("patch cake one --subresource=status --type=merge -p {\"status\":{\"conditions\":[{\"type\":\"Done\",\"status\":\"True\"}]}}", "");
    kubectl.ok("wait --for=condition=Done cake/one --timeout=10s", "");
    // A real server's documents come a moment later.
    let until = Instant::now() + Duration::from_secs(20);
    while !kubectl.run("explain cake.spec", "").status.success() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(kubectl.ok("explain cake.spec", "").contains("How high."));
    let refused = kubectl.fails("apply -f -", &cake.replace('3', "0"));
    assert!(
        refused.contains("should be greater than or equal to 1"),
        "{refused}"
    );
    let unknown = kubectl.fails("apply -f -", &cake.replace("layers", "lairs"));
    assert!(unknown.contains("unknown field \"spec.lairs\""), "{unknown}");
    kubectl.ok("delete cake one --timeout=10s", "");
}
