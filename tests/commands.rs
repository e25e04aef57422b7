//! Every command line of README and docs is typed into a shell as it is printed, page by page (`tests/typist`).
//!
//! Each page has a network of its own, so that its ports are free, and a folder that looks like the repository. `serin` is
//! the built program, and so is `cargo run --release --`, by a shim that takes that form and `cargo build --release` and
//! refuses all else; `tests/record`, which CI runs with `--all`, types the same lines into a fresh clone with the real one.
//! Pages that speak to a cluster get the suite's. Service addresses lead nowhere in it, so requests come from the suite.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;
#[path = "support/town.rs"]
#[allow(dead_code)] // each test binary uses its part
mod town;

use cluster::{harness::own_network, load::Traffic};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};
use support::*;
use town::{Controller, Town};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Requests a second to the Service `echo`.
const RATE: f64 = 400.0;

/// Kinds of others that pages speak of: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 7] = [
    ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
    ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
    ("networking.k8s.io", "v1", "Ingress", "ingresses"),
    ("flagger.app", "v1beta1", "Canary", "canaries"),
    ("flagger.app", "v1beta1", "MetricTemplate", "metrictemplates"),
    ("argoproj.io", "v1alpha1", "Rollout", "rollouts"),
    ("argoproj.io", "v1alpha1", "AnalysisTemplate", "analysistemplates"),
];

/// Pages may share the machine; README's stories have it alone. Where the system holds up the canary's process and not
/// stable's, the canary is slower in truth, and rightly rolled back.
static MACHINE: RwLock<()> = RwLock::new(());

/// What stands before the first line of a page is typed: what its text says.
enum Ground {
    /// Nothing.
    Bare,
    /// The two backends and the file of README, running.
    Machine,
    /// A cluster.
    Cluster,
    /// A cluster with controller and example.
    Example,
    /// The same, with the kinds of others, and an object of each in `shop`.
    Others,
}

/// Pages and sections, the ground they stand on, and the test that types them.
const TYPED: [(&str, &[&str], &str); 15] = [
    ("README.md", &["See it"], "readme_see_it"),
    (
        "README.md",
        &["Use it for your own two backends"],
        "readme_own_backends",
    ),
    ("README.md", &["In a cluster"], "readme_cluster"),
    (
        "docs/start.md",
        &["On one machine", "Before it starts"],
        "start_on_one_machine",
    ),
    (
        "docs/start.md",
        &["In a cluster", "Your own manifests"],
        "start_in_a_cluster",
    ),
    ("docs/pipeline.md", &[], "pipeline"),
    ("docs/databases.md", &[], "databases"),
    ("docs/operations.md", &[], "operations"),
    ("docs/security.md", &[], "security"),
    ("docs/audit.md", &[], "audit"),
    ("docs/page.md", &["The page"], "page_of_a_release"),
    ("docs/page.md", &["In a cluster"], "page_of_a_cluster"),
    ("docs/migrate.md", &[], "migrate"),
    ("docs/metrics.md", &[], "metrics"),
    ("k8s/policies/README.md", &[], "policies"),
];

/// The words of `tests/typist list`.
fn lines() -> Vec<Value> {
    let out = Command::new(format!("{ROOT}/tests/typist"))
        .arg("list")
        .output()
        .expect("python3 runs; Debian package python3");
    assert!(out.status.success(), "{}", stderr(&out));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn every_page_with_commands_has_its_test() {
    let mut found = BTreeSet::new();
    for line in lines() {
        let (page, section) = (line["page"].as_str().unwrap(), line["section"].as_str().unwrap());
        if let Some(why) = line["elsewhere"].as_str() {
            println!("NOT RUN: {page}: {}: {why}", line["line"].as_str().unwrap());
            continue;
        }
        let typed = TYPED
            .iter()
            .find(|(p, sections, _)| *p == page && (sections.is_empty() || sections.contains(&section)));
        let (.., test) = typed.unwrap_or_else(|| panic!("no test types {page}, {section}: {}", line["line"]));
        found.insert(*test);
    }
    let all: BTreeSet<&str> = TYPED.iter().map(|(.., test)| *test).collect();
    assert_eq!(found, all, "a test types what is no longer there");
}

/// The shim, and the program under its name.
fn programs(folder: &Path) -> String {
    let bin = folder.join(".bin");
    fs::create_dir_all(&bin).unwrap();
    symlink(SERIN, bin.join("serin")).unwrap();
    let shim = format!(
        "#!/bin/sh\n# Stands for the two forms of README; `tests/record` types them into the real one.\ncase \"$*\" in\n\
         'build --release') echo 'the program is built already' ;;\n\
         'run --release -- '*) shift 3; exec {SERIN} \"$@\" ;;\n\
         *) echo \"the shim of tests/commands.rs does not stand for: cargo $*\" >&2; exit 97 ;;\nesac\n"
    );
    fs::write(bin.join("cargo"), shim).unwrap();
    fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default())
}

/// A folder that goes with the test. Process numbers are small in a namespace, and the same for two tests.
fn scratch(test: &str) -> Scratch {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let path = std::env::temp_dir().join(format!("serin-{test}-{}", now.as_nanos()));
    fs::create_dir_all(&path).unwrap();
    Scratch(path)
}

/// Everything of the repository, by its names.
fn furnish(folder: &Path) {
    for entry in fs::read_dir(ROOT).unwrap() {
        let name = entry.unwrap().file_name();
        let hidden = name.to_string_lossy().starts_with('.') || name == "target";
        if !hidden && !folder.join(&name).exists() {
            symlink(Path::new(ROOT).join(&name), folder.join(&name)).unwrap();
        }
    }
}

/// Types lines of a page; what was typed and said.
fn typed(test: &str, folder: &Path, environment: &[(&str, PathBuf)]) {
    try_typed(test, folder, environment).unwrap_or_else(|why| panic!("{test}: {why}"));
}

/// The same, or what went wrong.
fn try_typed(test: &str, folder: &Path, environment: &[(&str, PathBuf)]) -> Result<String, String> {
    let (page, sections, _) = TYPED.iter().find(|(.., t)| *t == test).unwrap();
    furnish(folder);
    let mut command = Command::new(format!("{ROOT}/tests/typist"));
    command.args(["type", page]);
    for section in *sections {
        command.args(["--section", section]);
    }
    command
        .current_dir(folder)
        .env("PATH", programs(folder))
        .env("SERIN_ACTOR", "ann")
        .env_remove("KUBECONFIG")
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null());
    let out = command.output().expect("python3 runs; Debian package python3");
    let text = stdout(&out);
    println!("{text}");
    if out.status.success() {
        Ok(text)
    } else {
        Err(stderr(&out))
    }
}

/// Types a page on its ground, in a network of its own.
fn page(test: &str, ground: &Ground) {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    own_network(test, || match ground {
        Ground::Bare => typed(test, &scratch(test).0, &[]),
        Ground::Machine => {
            let scratch = scratch(test);
            let _running = machine(&scratch);
            typed(test, &scratch.0, &[]);
        }
        Ground::Cluster => in_a_cluster(test, &Town::empty()),
        Ground::Example => {
            let town = Town::empty();
            town.found(Controller::Cluster);
            in_a_cluster(test, &town);
        }
        Ground::Others => {
            let town = Town::empty();
            town.found(Controller::Cluster);
            others(&town);
            in_a_cluster(test, &town);
        }
    });
}

/// The kinds of others, as far as there are not: open to any field. And what somebody has in the namespace `shop`.
fn others(town: &Town) {
    for (group, version, kind, plural) in KINDS {
        let single = kind.to_lowercase();
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": single, "listKind": format!("{kind}List")},
                "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        });
        let known = town.try_sh(&format!("kubectl get {plural}.{group}"));
        if !known.status.success() {
            fs::write(town.world.folder().join("kind.json"), crd.to_string()).unwrap();
            town.sh("kubectl apply -f kind.json");
            town.sh(&format!(
                "kubectl wait --for=condition=Established crd/{plural}.{group}"
            ));
        }
    }
    for name in ["shop", "monitoring"] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        fs::write(town.world.folder().join("namespace.json"), namespace.to_string()).unwrap();
        town.sh("kubectl apply -f namespace.json");
    }
    for file in [
        "-n shop -f k8s/../tests/migrate/ingress-nginx/weight.yaml",
        "-f k8s/../tests/migrate/flagger/metric-template.yaml",
        "-n shop -f k8s/../tests/migrate/argo-rollouts/step-analysis.yaml",
    ] {
        town.sh(&format!("kubectl apply {file}"));
    }
}

/// README's own two backends, and users.
fn machine(scratch: &Scratch) -> (Process, [Process; 2], Users) {
    let apps = [app(8081, "v1.0.0", &[]), app(8082, "v2.0.0", &[])];
    scratch.replace("serin.toml", &stdout(&serin(&["run", "--example"])));
    let run = Process::start(
        Command::new(SERIN)
            .args(["run", "-f", "serin.toml"])
            .current_dir(&scratch.0),
    );
    until("serin run is ready", town::LIMIT, || {
        get(loopback(9901), "/readyz").filter(|a| a.status == 200)
    });
    (run, apps, Users::start(loopback(8080), 50.0, 2))
}

fn in_a_cluster(test: &str, town: &Town) {
    let load = town.world.load("echo", Traffic::at(RATE));
    typed(
        test,
        town.world.folder(),
        &[("KUBECONFIG", town.world.kubeconfig())],
    );
    drop(load.stop());
}

/// Whether others leave too little of the machine to tell a slow version from a fast one.
fn is_busy() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    load > 1.5 * f64::from(u32::try_from(cores).unwrap())
}

/// What was typed is what the transcript tells, but for times, counts and ports. A good version on a machine that has
/// much else to do may in truth be slower than stable: then, and only then, the story is told once more.
fn told_again(test: &str, part: &str) {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    own_network(test, || {
        let first = retold(test, part);
        let told = match first {
            Err(why) if is_busy() => {
                println!("ONCE MORE, for the machine is busy: {why}");
                retold(test, part)
            }
            first => first,
        };
        println!("{}", told.unwrap_or_else(|why| panic!("{why}")));
    });
}

/// One telling.
fn retold(test: &str, part: &str) -> Result<String, String> {
    let scratch = scratch(test);
    fs::write(scratch.path("now.txt"), try_typed(test, &scratch.0, &[])?).unwrap();
    let kept = fs::read_to_string(format!("{ROOT}/docs/transcript.txt")).unwrap();
    let begin = kept
        .find(part)
        .unwrap_or_else(|| panic!("the transcript has no `{part}`"));
    let part = kept[begin..].split("\n== ").next().unwrap();
    fs::write(scratch.path("kept.txt"), part).unwrap();
    let same = Command::new(format!("{ROOT}/tests/typist"))
        .arg("same")
        .args([scratch.path("kept.txt"), scratch.path("now.txt")])
        .output()
        .unwrap();
    if same.status.success() {
        return Ok(stdout(&same));
    }
    let why = stderr(&same);
    Err(format!(
        "docs/transcript.txt tells another story; `tests/record` writes it anew: {why}"
    ))
}

#[test]
fn readme_see_it() {
    told_again("readme_see_it", "$ cargo run --release -- demo\n");
}

#[test]
fn readme_own_backends() {
    told_again("readme_own_backends", "$ cargo build --release");
}

#[test]
fn readme_cluster() {
    page("readme_cluster", &Ground::Cluster);
}

#[test]
fn start_on_one_machine() {
    page("start_on_one_machine", &Ground::Bare);
}

#[test]
fn start_in_a_cluster() {
    page("start_in_a_cluster", &Ground::Cluster);
}

#[test]
fn pipeline() {
    page("pipeline", &Ground::Example);
}

#[test]
fn databases() {
    page("databases", &Ground::Example);
}

#[test]
fn operations() {
    page("operations", &Ground::Example);
}

#[test]
fn security() {
    page("security", &Ground::Example);
}

#[test]
fn audit() {
    page("audit", &Ground::Machine);
}

#[test]
fn page_of_a_release() {
    page("page_of_a_release", &Ground::Bare);
}

#[test]
fn page_of_a_cluster() {
    page("page_of_a_cluster", &Ground::Example);
}

#[test]
fn migrate() {
    page("migrate", &Ground::Others);
}

#[test]
fn metrics() {
    page("metrics", &Ground::Others);
}

#[test]
fn policies() {
    page("policies", &Ground::Example);
}
