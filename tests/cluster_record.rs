//! What stays of a release in a cluster: the lines of `serin watch`, `serin history`, the controller's audit log, and
//! notifications to a receiver that is unwell. All of them tell the same.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/receiver.rs"]
mod receiver;
#[path = "support/rollout.rs"]
mod rollout;

use base64::Engine;
use cluster::{harness::World, load::Traffic};
use receiver::{Receiver, verify};
use rollout::{END, LIMIT, RATE, SERIN, WIDE, phase, released, status};
use serde_json::Value;
use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Output, Stdio},
    sync::atomic::Ordering,
};

/// In the test's own network nobody else has it.
const PORT: u16 = 18_181;
const IMAGE: &str = "registry.example.org/echo:v2.0.0";

fn spec() -> String {
    format!(
        "  pacing: {{soak: 3s, interval: 1s}}\n  promotion: {{watch: 2s}}\n{WIDE}  notify:\n  \
         - {{name: hook, url: 'http://127.0.0.1:{PORT}/hook', timeout: 3s}}\n"
    )
}

fn told(world: &World, args: &[&str]) -> String {
    let out = world.serin(args);
    let (said, error) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success(), "{args:?}: {said}{error}");
    said.into_owned()
}

/// From the start to the end, with a person in between; what `serin watch` said of it.
fn release(world: &World, hook: &Receiver, audit: &Path) -> Output {
    let space = world.namespace();
    let mut watch = world.command(SERIN, &["watch", "echo", "-n", space, "--wait"]);
    for pipeline in ["GITLAB_CI", "GITHUB_ACTIONS"] {
        watch.env_remove(pipeline);
    }
    hook.ill.store(1, Ordering::SeqCst);
    told(
        world,
        &[
            "deploy",
            "echo",
            "-n",
            space,
            "--image",
            IMAGE,
            "--cause",
            "ticket 12",
        ],
    );
    phase(world, "Starting", LIMIT);
    let watch = watch
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    phase(world, "Shifting", LIMIT);
    told(world, &["pause", "echo", "-n", space, "--cause", "lunch"]);
    phase(world, "Paused", LIMIT);
    // It has answered 500 to everything, and nothing has waited for it.
    world.wait("it was asked again", LIMIT, || {
        (hook.asked.load(Ordering::SeqCst) > 1).then_some(())
    });
    assert!(hook.taken().is_empty());
    hook.ill.store(2, Ordering::SeqCst);
    let before = fs::read(audit).unwrap();
    told(world, &["resume", "echo", "-n", space]);
    world.wait("it is late, but takes it", LIMIT, || {
        (!hook.taken().is_empty()).then_some(())
    });
    hook.ill.store(0, Ordering::SeqCst);
    phase(world, "Succeeded", END);
    assert!(
        fs::read(audit).unwrap().starts_with(&before),
        "the log is only appended to"
    );
    watch.wait_with_output().unwrap()
}

/// A line a change, until the end.
fn followed(watch: &Output) {
    let shown = String::from_utf8_lossy(&watch.stdout);
    let error = String::from_utf8_lossy(&watch.stderr);
    println!("--- serin watch\n{shown}");
    assert_eq!(watch.status.code(), Some(0), "{shown}{error}");
    let lines: Vec<&str> = shown.lines().collect();
    for phase in [
        "Starting",
        "Shifting",
        "Paused",
        "Promoting",
        "Watching",
        "Succeeded",
    ] {
        assert!(
            shown.contains(&format!("echo {phase}")),
            "no {phase} in:\n{shown}"
        );
    }
    let last = lines.last().unwrap();
    assert!(last.starts_with("echo: Succeeded: "), "{last}");
    assert!(lines.len() < 60, "a line a change, not a line a second:\n{shown}");
    let texts: Vec<&str> = lines.iter().map(|l| l.split_once(' ').unwrap().1).collect();
    assert!(
        texts.windows(2).all(|w| w[0] != w[1]),
        "no line is said twice:\n{shown}"
    );
}

/// Who, what, when and why; the decisions.
fn recorded(world: &World) -> Vec<Value> {
    let space = world.namespace();
    let shown = told(world, &["history", "echo", "-n", space]);
    println!("--- serin history\n{shown}");
    let line = |word: &str| {
        shown
            .lines()
            .find(|l| l.contains(word))
            .unwrap_or_default()
            .to_owned()
    };
    let began = line("-> Starting");
    assert!(
        began.contains("serin-controller") && began.contains("ticket 12"),
        "{shown}"
    );
    let paused = line("Shifting -> Paused");
    assert!(
        paused.contains("lunch") && !paused.contains(" serin-controller "),
        "{shown}"
    );
    if !world.is_real() {
        assert!(
            paused.contains(" admin "),
            "the name that the API server knows: {paused}"
        );
    }
    let json = told(world, &["history", "echo", "-n", space, "--output", "json"]);
    let all: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(all.len() + 1, shown.lines().count());
    assert!(
        all.iter()
            .all(|d| d["at"].as_f64().unwrap() > 1.7e9 && !d["reason"].as_str().unwrap().is_empty())
    );
    all
}

/// The audit log has all of it, once, in order, in the same words.
fn logged(world: &World, audit: &Path, kept: &[Value]) {
    let text = fs::read_to_string(audit).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let numbers: Vec<u64> = lines.iter().map(|l| l["number"].as_u64().unwrap()).collect();
    assert_eq!(
        numbers,
        (1..=numbers.len() as u64).collect::<Vec<_>>(),
        "each once, in order"
    );
    let name = format!("{}.echo", world.namespace());
    assert!(lines.iter().all(|l| l["service"] == *name));
    for decision in kept {
        let line = lines.iter().find(|l| l["number"] == decision["number"]).unwrap();
        for key in [
            "at", "by", "from", "to", "weight", "version", "release", "reason", "figures",
        ] {
            assert_eq!(line[key], decision[key], "{key} of {line}");
        }
    }
    let shown = told(
        world,
        &["history", "echo", "--audit-log", audit.to_str().unwrap()],
    );
    assert_eq!(shown.lines().count(), lines.len() + 1, "{shown}");
}

/// Every change of phase has arrived, once, in order, signed with the key of the namespace.
fn delivered(world: &World, hook: &Receiver, kept: &[Value]) {
    world.wait("everything is told", END, || {
        hook.taken()
            .last()
            .filter(|g| g.body.contains("\"phase\":\"Succeeded\""))
            .map(drop)
    });
    let secret = world.json("v1/Secret", "serin-evidence").unwrap();
    let key = secret["data"]["webhook"].as_str().unwrap();
    let key = base64::engine::general_purpose::STANDARD.decode(key).unwrap();
    let key = String::from_utf8(key).unwrap();
    let got = hook.taken();
    let sent: Vec<u64> = got.iter().map(|g| g.sequence).collect();
    let is_change = |d: &&Value| d["from"] != d["to"];
    let changes: Vec<u64> = kept
        .iter()
        .filter(is_change)
        .map(|d| d["number"].as_u64().unwrap())
        .collect();
    println!(
        "{} asked, {} taken: {sent:?}",
        hook.asked.load(Ordering::SeqCst),
        got.len()
    );
    assert_eq!(sent, changes);
    for g in &got {
        verify(g, &key);
        assert_eq!(g.id, format!("{}.echo/{}", world.namespace(), g.sequence));
        let body: Value = serde_json::from_str(&g.body).unwrap();
        let decision = kept.iter().find(|d| d["number"] == g.sequence).unwrap();
        assert_eq!(
            (&body["by"], &body["reason"]),
            (&decision["by"], &decision["reason"])
        );
    }
}

/// What is mistyped is told with what was meant, wherever it stands.
fn guessed(world: &World) {
    for (object, key, meant) in [
        ("deployment/server", "deploy-imgae", "deploy-image"),
        ("service/echo", "canary-wieght", "canary-weight"),
    ] {
        world.kubectl(&["annotate", object, &format!("serin.dev/{key}=5")]);
        let says = format!("did you mean serin.dev/{meant}?");
        world.wait(&says, LIMIT, || {
            let told = world.kubectl(&["describe", "rollout", "echo"]);
            let flat = told.split_whitespace().collect::<Vec<_>>().join(" ");
            flat.contains(&says).then_some(())
        });
        world.kubectl(&["annotate", object, &format!("serin.dev/{key}-")]);
    }
    let out = world.serin(&["history", "ehco", "-n", world.namespace()]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        !out.status.success() && said.contains("did you mean echo?"),
        "{said}"
    );
}

#[test]
fn watch_history_audit_log_and_notifications_tell_the_same() {
    let test = "watch_history_audit_log_and_notifications_tell_the_same";
    released(test, &spec(), |world, _| {
        let audit = world.folder().join("audit.jsonl");
        let variable = format!("SERIN_AUDIT_LOG={}", audit.display());
        world.kubectl(&["set", "env", "deployment/serin-controller", &variable]);
        world.kubectl(&[
            "rollout",
            "status",
            "deployment/serin-controller",
            "--timeout=30s",
        ]);
        let hook = Receiver::default();
        hook.serve(TcpListener::bind(("127.0.0.1", PORT)).unwrap());
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        let watch = release(world, &hook, &audit);
        followed(&watch);
        let kept = recorded(world);
        assert_eq!(kept.len(), status(world)["decisions"].as_array().unwrap().len());
        logged(world, &audit, &kept);
        delivered(world, &hook, &kept);
        guessed(world);
        println!("{} requests, none lost", load.stop().no_loss());
    });
}
