//! The command line against a cluster: the stand-in API server, the real kubectl, and a controller that only answers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use cluster::api::{Options, Server};
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};
use support::{Scratch, stderr, stdout};

/// A cluster with the example in it, but for pods.
struct World {
    server: Server,
    scratch: Scratch,
}

impl World {
    fn empty() -> World {
        let server = Server::start(Options::default()).unwrap();
        let scratch = Scratch::new();
        let world = World { server, scratch };
        world.account("admin", &["system:masters"]);
        world
    }

    fn start() -> World {
        let world = World::empty();
        world.kubectl(&["apply", "-k", &manifest("crd")]);
        world.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/rollouts.serin.dev",
            "--timeout=10s",
        ]);
        world.kubectl(&["apply", "-k", &manifest("example")]);
        world
    }

    /// Writes a kubeconfig for this user.
    fn account(&self, user: &str, groups: &[&str]) -> PathBuf {
        let path = self.scratch.path(user);
        fs::write(&path, self.server.kubeconfig(user, groups)).unwrap();
        path
    }

    fn kubectl(&self, args: &[&str]) -> String {
        let run = Command::new("kubectl")
            .args(args)
            .env("KUBECONFIG", self.scratch.path("admin"))
            .output();
        let run =
            run.expect("kubectl is not on the PATH; get it from https://kubernetes.io/docs/tasks/tools/");
        assert!(run.status.success(), "kubectl {args:?}: {}", stderr(&run));
        stdout(&run)
    }

    fn serin_as(&self, user: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_serin"));
        command
            .args(args)
            .env("KUBECONFIG", self.scratch.path(user))
            .current_dir(self.scratch.path("."));
        command
    }

    fn serin(&self, args: &[&str]) -> Output {
        self.serin_as("admin", args).output().unwrap()
    }

    fn tell(&self, status: &Value) {
        let patch = json!({"status": status}).to_string();
        self.kubectl(&[
            "patch",
            "rollout",
            "echo",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ]);
    }

    /// An annotation, once it is there.
    fn note(&self, object: &str, key: &str) -> String {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            let text = self.kubectl(&["get", object, "-o", "json"]);
            let value: Value = serde_json::from_str(&text).unwrap();
            if let Some(text) = value["metadata"]["annotations"][key].as_str() {
                return text.to_owned();
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{object} has got no {key}");
    }

    /// Answers the next order as a controller does; gives it back.
    fn answer(&self, done: bool, answer: &str) -> Value {
        let order: Value = serde_json::from_str(&self.note("rollout/echo", "serin.dev/order")).unwrap();
        self.tell(
            &json!({"phase": "Shifting", "weight": "5/5", "reason": "as it is",
            "order": {"id": order["id"], "done": done, "answer": answer}}),
        );
        self.kubectl(&["annotate", "rollout", "echo", "serin.dev/order-"]);
        order
    }
}

fn manifest(folder: &str) -> String {
    format!("{}/k8s/{folder}", env!("CARGO_MANIFEST_DIR"))
}

fn figures(requests: u64, bad: u64) -> Value {
    json!({"stable": {"requests": 9000, "bad": 1}, "canary": {"requests": requests, "bad": bad},
        "logRollback": 1.0, "rollbackAt": 4.6, "logPromote": 1.0, "promoteAt": 3.0})
}

fn decision(number: u64, to: &str, reason: &str) -> Value {
    json!({"number": number, "at": 10.0, "version": "v2.0.0", "release": "h2", "from": "Shifting", "to": to,
        "weight": {"weight": "5", "total": 100}, "reason": reason, "by": "serin-controller", "figures": figures(812, 3)})
}

#[test]
fn what_is_missing_is_told_with_the_remedy() {
    let world = World::empty();
    let none = world.serin(&["status"]);
    assert!(
        stderr(&none).contains("kubectl apply -k k8s/controller"),
        "{}",
        stderr(&none)
    );
    world.kubectl(&["apply", "-k", &manifest("crd")]);
    let empty = world.serin(&["status"]);
    assert_eq!(
        stdout(&empty),
        "there is no rollout in namespace default\n",
        "{}",
        stderr(&empty)
    );
    world.kubectl(&["apply", "-f", &format!("{}/rollout.yml", manifest("tracks"))]);
    let wrong = world.serin(&["pause", "ecco"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("there are: echo"), "{}", stderr(&wrong));
    world.account("ann", &[]);
    let forbidden = world.serin_as("ann", &["status", "echo"]).output().unwrap();
    let said = stderr(&forbidden);
    assert!(
        said.contains("you may not get rollouts") && said.contains("\"ann\""),
        "{said}"
    );
    let no_file = world.serin(&["status", "--kubeconfig", "nowhere"]);
    assert!(
        no_file.status.code() == Some(2) && stderr(&no_file).contains("nowhere"),
        "{}",
        stderr(&no_file)
    );
    world.server.stop_listening();
    let away = world.serin(&["status"]);
    assert!(
        away.status.code() == Some(2) && stderr(&away).contains("cannot reach the API server"),
        "{}",
        stderr(&away)
    );
}

#[test]
fn an_order_is_signed_and_ends_as_the_controller_answers() {
    let world = World::start();
    thread::scope(|s| {
        let given = s.spawn(|| world.serin(&["pause", "echo", "--cause", "ticket 12"]));
        let order = world.answer(true, "paused by admin");
        assert_eq!(
            (&order["command"], &order["who"], &order["why"]),
            (&json!("pause"), &json!("admin"), &json!("ticket 12"))
        );
        let done = given.join().unwrap();
        assert!(
            done.status.success() && stdout(&done).starts_with("paused by admin\n"),
            "{}",
            stderr(&done)
        );
        let given = s.spawn(|| world.serin(&["approve", "echo", "board"]));
        let order = world.answer(false, "there is no gate board; there are: change-board");
        assert_eq!(order["command"], json!({"approve": "board"}));
        let refused = given.join().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains("there are: change-board"));
    });
    let deaf = world.serin(&["undo", "echo"]);
    assert!(
        deaf.status.code() == Some(2) && stderr(&deaf).contains("is it running?"),
        "{}",
        stderr(&deaf)
    );
}

#[test]
fn a_weight_is_written_and_waited_for() {
    let world = World::start();
    world.tell(&json!({"phase": "Shifting", "weight": "5/5", "reason": "as it is"}));
    thread::scope(|s| {
        let set = s.spawn(|| world.serin(&["weight", "echo", "1", "--total", "4", "--cause", "ticket 12"]));
        assert_eq!(world.note("service/echo", "serin.dev/canary-weight-total"), "4");
        assert_eq!(world.note("service/echo", "serin.dev/canary-weight"), "1");
        assert_eq!(world.note("service/echo", "serin.dev/changed-by"), "admin");
        assert_eq!(world.note("service/echo", "serin.dev/change-cause"), "ticket 12");
        world.tell(&json!({"phase": "Paused", "weight": "25/25", "reason": "admin set 25 %"}));
        let done = set.join().unwrap();
        assert!(
            done.status.success() && stdout(&done).contains("Paused"),
            "{}{}",
            stdout(&done),
            stderr(&done)
        );
    });
    let wrong = world.serin(&["weight", "echo", "200"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_pipeline_knows_how_its_release_has_ended() {
    let world = World::start();
    let same = world.serin(&["deploy", "echo", "--image", "serin:dev", "--wait"]);
    assert!(
        same.status.success() && stdout(&same).contains("already stable: server runs serin:dev"),
        "{}",
        stderr(&same)
    );
    let ends = [
        ("Succeeded", "Promoting", 0, "PROMOTED: as good as stable"),
        ("RolledBack", "RollingBack", 1, "ROLLED BACK: too many errors"),
        ("Undecided", "Undecided", 2, "UNDECIDED: no traffic"),
    ];
    for (i, (phase, to, code, last)) in ends.into_iter().enumerate() {
        let (image, number) = (format!("serin:v{}", i + 2), 2 * i as u64 + 2);
        let args = [
            "deploy",
            "echo",
            "--image",
            &image,
            "--cause",
            "fix",
            "--wait",
            "--timeout",
            "60s",
        ];
        thread::scope(|s| {
            let waiting = s.spawn(|| world.serin(&args));
            while world.note("deployment/server", "serin.dev/deploy-image") != image {
                thread::sleep(Duration::from_millis(50));
            }
            assert!(
                world
                    .note("deployment/server", "serin.dev/change-cause")
                    .starts_with("fix")
            );
            let shifting = json!({"phase": "Shifting", "weight": "5/5", "deployImage": image, "release": "h2",
                "reason": "raising", "figures": figures(812, 3), "decisions": [decision(number, "Shifting", "raising")]});
            world.tell(&shifting);
            thread::sleep(Duration::from_millis(1500));
            let reason = last.split_once(": ").unwrap().1;
            world.tell(&json!({"phase": phase, "weight": "0/0", "reason": "over",
                "decisions": [decision(number, "Shifting", "raising"), decision(number + 1, to, reason)]}));
            let ended = waiting.join().unwrap();
            let (said, wrong) = (stdout(&ended), stderr(&ended));
            assert_eq!(ended.status.code(), Some(code), "{said}{wrong}");
            assert_eq!(said.lines().last().unwrap(), last, "{wrong}");
            assert!(
                said.contains("Shifting    weight 5/5     canary 3 of 812 bad"),
                "{said}"
            );
        });
        if phase == "RolledBack" {
            let again = world.serin(&args);
            assert_eq!(again.status.code(), Some(1));
            assert!(stdout(&again).contains("serin retry echo"), "{}", stdout(&again));
        }
    }
    let table = world.serin(&["status"]);
    assert!(
        stdout(&table).contains("echo  Undecided  -     0/0"),
        "{}",
        stdout(&table)
    );
    let told: Value =
        serde_json::from_str(&stdout(&world.serin(&["status", "echo", "--output", "json"]))).unwrap();
    assert_eq!(
        (&told["name"], &told["status"]["phase"]),
        (&json!("echo"), &json!("Undecided"))
    );
    let why = stdout(&world.serin(&["explain", "echo", "--decision", "last"]));
    assert!(
        why.contains("no traffic") && why.contains("serin replay"),
        "{why}"
    );
}

#[test]
fn an_api_server_takes_everything_that_people_apply() {
    let world = World::empty();
    for folder in [
        "crd",
        "controller",
        "controller-namespaced",
        "overlays/sidecar",
        "example",
        "policies",
        "policies/change-cause",
    ] {
        let said = world.kubectl(&["apply", "-k", &manifest(folder)]);
        assert!(!said.is_empty(), "{folder}");
    }
    let file = world.scratch.path("app.yaml");
    fs::write(&file, world.kubectl(&["kustomize", &manifest("app")])).unwrap();
    for command in ["front", "inject"] {
        let made = world.serin(&[command, "-f", file.to_str().unwrap()]);
        assert!(made.status.success(), "{}", stderr(&made));
        let out = world.scratch.path("out.yaml");
        fs::write(&out, stdout(&made)).unwrap();
        world.kubectl(&["apply", "-f", out.to_str().unwrap()]);
    }
}

#[test]
fn as_a_plugin_it_calls_itself_so() {
    let world = Scratch::new();
    let plugin = world.path("kubectl-serin");
    fs::copy(env!("CARGO_BIN_EXE_serin"), &plugin).unwrap();
    let help = stdout(&Command::new(&plugin).arg("--help").output().unwrap());
    assert!(help.contains("Usage: kubectl serin"), "{help}");
    let none = Command::new(&plugin)
        .arg("status")
        .env("KUBECONFIG", world.path("none"))
        .output()
        .unwrap();
    assert!(stderr(&none).contains("no cluster is known"), "{}", stderr(&none));
}
