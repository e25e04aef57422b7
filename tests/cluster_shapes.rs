//! Releases in a cluster in other shapes: DaemonSets, gates that are asked, stable that belongs to a source, a proxy in
//! each pod.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/rollout.rs"]
mod rollout;

use base64::{Engine, engine::general_purpose::STANDARD};
use cluster::{
    harness::{Options, Story, StoryOptions, World, own_network},
    load::Traffic,
};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::PostParams};
use ring::hmac;
use rollout::*;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

const SOON: &str =
    "  pacing: {soak: 2s, interval: 1s, steps: [{weight: 10}, {weight: 20}]}\n  promotion: {watch: 3s}\n";

fn daemons(test: &str, body: impl FnOnce(&World, &Story<'_>)) {
    own_network(test, || {
        let world = World::start(Options {
            nodes: 3,
            ..Options::new(SERIN)
        });
        let story = world.story(&StoryOptions {
            kind: "DaemonSet",
            spec: [WIDE, SOON].concat(),
            ..StoryOptions::default()
        });
        body(&world, &story);
    });
}

fn daemon_set(world: &World, name: &str) -> Value {
    world.json("apps/v1/DaemonSet", name).unwrap_or_default()
}

#[test]
fn a_good_daemon_set_becomes_stable() {
    let test = "a_good_daemon_set_becomes_stable";
    daemons(test, |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Succeeded", END);
        let labels = &daemon_set(world, "server")["spec"]["template"]["metadata"]["labels"];
        assert_eq!(
            (&labels["version"], &labels["track"]),
            (&json!("v2.0.0"), &json!("stable"))
        );
        let since = Instant::now();
        world.ready("app=echo,track=canary", 0, LIMIT);
        world.ready("app=echo,track=previous", 0, LIMIT);
        let report = load.stop();
        report.no_loss();
        assert_eq!(report.answers_since("v1.0.0", since), 0);
    });
}

#[test]
fn a_bad_daemon_set_goes_back() {
    let test = "a_bad_daemon_set_goes_back";
    daemons(test, |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &["--errors=0.5"]);
        phase(world, "RolledBack", END);
        world.ready("app=echo,track=canary", 0, LIMIT);
        let report = load.stop();
        report.no_loss();
        let took = report.last_answer("v2.0.0").unwrap() - report.first_status(500).unwrap();
        assert!(took < Duration::from_secs(3), "{took:?}");
        let labels = &daemon_set(world, "server")["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels["version"], "v1.0.0");
    });
}

/// A receiver of questions; what it has heard, and whether it says yes.
#[derive(Default)]
struct Board {
    yes: AtomicBool,
    heard: Mutex<Vec<(Value, bool)>>,
}

impl Board {
    /// Listens from now on; `key` is what signatures are made with.
    fn open(self: &Arc<Board>, address: &str, key: Vec<u8>) {
        let (listener, board) = (TcpListener::bind(address).unwrap(), self.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                board.answer(stream, &key);
            }
        });
    }

    fn answer(&self, mut stream: TcpStream, key: &[u8]) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut length, mut signature) = (0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                break;
            }
            match line.trim().split_once(": ").map(|(k, v)| (k.to_lowercase(), v)) {
                Some((k, v)) if k == "content-length" => length = v.parse().unwrap(),
                Some((k, v)) if k == "x-serin-signature" => signature = v.to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &body);
        let digits: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let is_signed = signature == format!("sha256={digits}");
        let question = serde_json::from_slice(&body).unwrap();
        self.heard.lock().unwrap().push((question, is_signed));
        let status = if self.yes.load(Ordering::SeqCst) {
            "200 OK"
        } else {
            "500 Later"
        };
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }

    fn at(&self, time: &str) -> Vec<(Value, bool)> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(q, _)| q["at"] == time).cloned().collect()
    }
}

fn webhook_key(world: &World) -> Vec<u8> {
    world.wait("the key of webhooks", LIMIT, || {
        let secret = world.json("v1/Secret", "serin-evidence")?;
        STANDARD.decode(secret["data"]["webhook"].as_str()?).ok()
    })
}

const BOARD: &str = "127.0.0.1:7777";
const GATES: &str = "
  gates:
  - {name: board, at: before-start, webhook: {url: 'http://127.0.0.1:7777/yes', timeout: 1s, interval: 1s}}
  - {name: owner, at: before-promotion}
  - {name: chat, at: after-promotion, webhook: {url: 'http://127.0.0.1:7777/news'}}
";

#[test]
fn a_gate_that_is_down_has_not_said_yes_and_not_failed() {
    let test = "a_gate_that_is_down_has_not_said_yes_and_not_failed";
    released(test, &[WIDE, SOON, GATES].concat(), |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        let says = |what: &str| {
            world.wait(what, LIMIT, || {
                let status = status(world);
                status["reason"].to_string().contains(what).then_some(status)
            })
        };
        says("gate board must say yes");
        sleep(Duration::from_secs(3));
        let board = Arc::new(Board::default());
        board.open(BOARD, webhook_key(world));
        says("it answered 500");
        let before = status(world);
        assert_eq!((before["phase"].as_str(), weight(world)), (Some("Starting"), 0.0));
        let yes = Instant::now();
        board.yes.store(true, Ordering::SeqCst);
        says("a person must approve: serin approve echo owner");
        let asked = board.at("before-start");
        assert!(
            asked.len() >= 2 && asked.iter().all(|(_, is_signed)| *is_signed),
            "{asked:?}"
        );
        assert!(
            asked.iter().all(|(q, _)| q["question"] == asked[0].0["question"]),
            "{asked:?}"
        );
        assert_eq!(asked[0].0["version"], "v2.0.0");
        sleep(Duration::from_secs(2));
        let waits = status(world);
        assert_eq!(waits["phase"], "Shifting", "{waits:#}");
        let approved = world.serin(&["approve", "echo", "owner", "--namespace", world.namespace()]);
        assert!(
            approved.status.success(),
            "{}",
            String::from_utf8_lossy(&approved.stderr)
        );
        let end = phase(world, "Succeeded", END);
        for phase in ["RollingBack", "Holding"] {
            assert_eq!(entered(&end, phase).len(), 0, "{end:#}");
        }
        world.wait("the news", LIMIT, || {
            (!board.at("after-promotion").is_empty()).then_some(())
        });
        assert!(
            board
                .at("after-promotion")
                .iter()
                .all(|(_, is_signed)| *is_signed)
        );
        let report = load.stop();
        report.no_loss();
        let mut first = report
            .samples
            .iter()
            .filter(|s| s.version.as_deref() == Some("v2.0.0"));
        assert!(first.all(|s| s.begun > yes), "users saw it before the yes");
    });
}

/// Whoever heals stable from a source: every 300 ms it puts back what it does not find there.
struct Source {
    wanted: Arc<Mutex<Deployment>>,
    healed: Arc<AtomicUsize>,
}

impl Source {
    fn of(world: &World) -> Source {
        let found = world.get::<Deployment>("server").unwrap();
        let source = Source {
            wanted: Arc::new(Mutex::new(found)),
            healed: Arc::default(),
        };
        let (wanted, healed) = (source.wanted.clone(), source.healed.clone());
        let api = Api::<Deployment>::namespaced(world.client(), world.namespace());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            loop {
                sleep(Duration::from_millis(300));
                let wanted = wanted.lock().unwrap().spec.clone();
                let Ok(mut now) = runtime.block_on(api.get("server")) else {
                    continue;
                };
                if now.spec != wanted {
                    now.spec = wanted;
                    let put = runtime.block_on(api.replace("server", &PostParams::default(), &now));
                    healed.fetch_add(usize::from(put.is_ok()), Ordering::SeqCst);
                }
            }
        });
        source
    }

    /// The next version, as a commit has it.
    fn commit(&self, version: &str) {
        let mut wanted = self.wanted.lock().unwrap();
        let template = &mut wanted.spec.as_mut().unwrap().template;
        let labels = template.metadata.as_mut().unwrap().labels.as_mut().unwrap();
        labels.insert("version".into(), version.into());
        let args = template.spec.as_mut().unwrap().containers[0]
            .args
            .as_mut()
            .unwrap();
        let place = args.iter().position(|a| a.starts_with("--version=")).unwrap();
        args[place] = format!("--version={version}");
    }
}

#[test]
fn what_a_source_heals_is_left_to_it() {
    let test = "what_a_source_heals_is_left_to_it";
    let spec = [
        WIDE,
        "  pacing: {soak: 2s, interval: 1s, steps: [{weight: 20}]}\n  promotion: {mode: external}\n",
    ]
    .concat();
    released(test, &spec, |world, story| {
        let source = Source::of(world);
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Promoting", END);
        sleep(Duration::from_secs(3));
        let waits = status(world);
        assert_eq!(
            (waits["phase"].as_str(), weight(world)),
            (Some("Promoting"), 20.0)
        );
        assert!(waits["reason"].to_string().contains("by its source"), "{waits:#}");
        assert_eq!(source.healed.load(Ordering::SeqCst), 0, "Serin wrote to stable");
        source.commit("v2.0.0");
        phase(world, "Succeeded", END);
        let since = Instant::now();
        sleep(Duration::from_secs(2));
        assert_eq!(source.healed.load(Ordering::SeqCst), 1, "only the commit");
        let report = load.stop();
        report.no_loss();
        assert_eq!(report.answers_since("v1.0.0", since), 0);
        assert_eq!(
            deployment(world, "server-canary")["spec"]["replicas"],
            3,
            "it is not ours"
        );
    });
}

/// Stable with a proxy in each pod, as `k8s/overlays/sidecar` has it.
fn with_sidecars(world: &World) {
    let sidecar = json!({
        "name": "serin-proxy", "image": "serin",
        "args": [
            "proxy", "--service=echo", "--local=$(POD_IP):8080", "--listen=$(POD_IP):8000", "--signals=$(POD_IP):9901",
            "--admin=127.0.0.1:0", "--workers=1", "--drain-grace=1s",
        ],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
        "ports": [{"name": "proxy", "containerPort": 8000}, {"name": "signals", "containerPort": 9901}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "signals"}, "periodSeconds": 1},
    });
    let patch = json!({"spec": {"template": {
        "metadata": {"labels": {"serin.dev/proxy": "echo"}},
        "spec": {"serviceAccountName": "serin-proxy", "containers": [sidecar]},
    }}});
    world.kubectl(&["patch", "deployment", "server", "-p", &patch.to_string()]);
    world.rolled_out("server", LIMIT);
    let front = json!({"spec": {
        "selector": {"serin.dev/proxy": null, "app": "echo", "track": "stable"},
        "ports": [{"name": "http", "port": 80, "targetPort": "proxy"}],
    }});
    world.merge("v1/Service", "echo", &front);
    world.delete("apps/v1/Deployment", "echo-front");
    world.ready("serin.dev/proxy=echo,!track", 0, LIMIT);
}

fn beside(test: &str, body: impl FnOnce(&World, &Story<'_>)) {
    let options = StoryOptions {
        // The proxy beside it stops first.
        args: vec!["--drain=4s".into()],
        proxies: 1,
        spec: [WIDE, SOON].concat(),
        ..StoryOptions::default()
    };
    told(test, &options, |world, story| {
        with_sidecars(world);
        body(world, story);
    });
}

fn containers(world: &World) -> usize {
    let server = deployment(world, "server");
    let containers = server["spec"]["template"]["spec"]["containers"].as_array();
    containers.map_or(0, Vec::len)
}

#[test]
fn with_a_proxy_in_each_pod_a_good_version_becomes_stable() {
    let test = "with_a_proxy_in_each_pod_a_good_version_becomes_stable";
    beside(test, |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &["--drain=4s"]);
        phase(world, "Watching", END);
        let watched = Instant::now();
        phase(world, "Promoting", LIMIT);
        let until = Instant::now();
        phase(world, "Succeeded", END);
        assert_eq!(
            (version(world, "server").as_str(), containers(world)),
            ("v2.0.0", 2)
        );
        let since = Instant::now();
        sleep(Duration::from_secs(2));
        let report = load.stop();
        report.no_loss();
        assert_eq!(report.answers_since("v1.0.0", since), 0);
        let old = report.share("v1.0.0", watched, until).unwrap();
        assert!(
            (0.02..0.09).contains(&old),
            "{old} of the answers in the watch are the old version's"
        );
    });
}

#[test]
fn with_a_proxy_in_each_pod_a_bad_version_goes_back() {
    let test = "with_a_proxy_in_each_pod_a_bad_version_goes_back";
    beside(test, |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &["--errors=0.5"]);
        phase(world, "RolledBack", END);
        let report = load.stop();
        report.no_loss();
        let took = report.last_answer("v2.0.0").unwrap() - report.first_status(500).unwrap();
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(
            (version(world, "server").as_str(), containers(world)),
            ("v1.0.0", 2)
        );
    });
}
