//! Releases in a cluster, end to end: real proxies and a real controller, pods that are processes, clients that notice loss.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

use cluster::{
    harness::{Options, Story, StoryOptions, World, own_network},
    load::Traffic,
};
use serde_json::Value;
use std::time::{Duration, Instant};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
const LIMIT: Duration = Duration::from_secs(20);
const RATE: f64 = 300.0;
/// The defaults, with times that fit into a minute.
const FAST: &str = "  pacing: {soak: 5s, interval: 1s}\n  judgement: {warmUp: 2s}\n  promotion: {watch: 3s}";

fn released(test: &str, body: impl FnOnce(&World, &Story<'_>)) {
    own_network(test, || {
        let world = World::start(Options::new(SERIN));
        let story = world.story(&StoryOptions {
            spec: FAST.into(),
            ..StoryOptions::default()
        });
        body(&world, &story);
    });
}

fn rollout(world: &World) -> Value {
    world
        .json("serin.dev/v1alpha1/Rollout", "echo")
        .unwrap_or_default()
}

fn phase(world: &World, wanted: &str, limit: Duration) -> Value {
    world.wait(&format!("phase {wanted}"), limit, || {
        let status = rollout(world)["status"].take();
        (status["phase"] == wanted).then_some(status)
    })
}

fn weight(world: &World) -> String {
    let service = world.json("v1/Service", "echo").unwrap_or_default();
    let weight = &service["metadata"]["annotations"]["serin.dev/canary-weight"];
    weight.as_str().unwrap_or_default().to_owned()
}

fn condition(status: &Value, kind: &str) -> Value {
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|c| c["type"] == kind).unwrap_or_default()["status"].take()
}

#[test]
fn a_good_version_becomes_stable_and_nobody_loses_a_request() {
    let test = "a_good_version_becomes_stable_and_nobody_loses_a_request";
    released(test, |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        let status = phase(world, "Succeeded", Duration::from_secs(150));
        assert_eq!(condition(&status, "Promoted"), "True", "{status:#}");
        let server = world.json("apps/v1/Deployment", "server").unwrap();
        assert_eq!(
            server["spec"]["template"]["metadata"]["labels"]["version"],
            "v2.0.0"
        );
        assert_eq!(
            server["spec"]["template"]["metadata"]["labels"]["track"],
            "stable"
        );
        let since = Instant::now();
        world.wait("the canary is scaled away", LIMIT, || {
            let canary = world.json("apps/v1/Deployment", "server-canary")?;
            (canary["spec"]["replicas"] == 0).then_some(())
        });
        std::thread::sleep(Duration::from_secs(2));
        let report = load.stop();
        assert!(report.no_loss() > 1000);
        assert_eq!(
            report.answers_since("v1.0.0", since),
            0,
            "the old version still answers"
        );
        assert!(report.answers_since("v2.0.0", since) > 100);
    });
}

/// A canary that fails half of its requests; why it went back.
fn rolled_back(world: &World, story: &Story<'_>) -> Value {
    let load = world.load("echo", Traffic::at(RATE));
    phase(world, "Idle", LIMIT);
    story.canary("v2.0.0", 1, &["--errors=0.5"]);
    let status = phase(world, "RolledBack", Duration::from_secs(60));
    assert_eq!(condition(&status, "RolledBack"), "True", "{status:#}");
    assert_eq!(weight(world), "0");
    std::thread::sleep(Duration::from_secs(1));
    let report = load.stop();
    report.no_loss();
    let first = report.first_status(500).expect("no failure was seen");
    let last = report.last_answer("v2.0.0").expect("the canary never answered");
    let took = last.saturating_duration_since(first);
    let limit = Duration::from_secs(3);
    assert!(
        took < limit,
        "the canary answered {took:?} after its first failure"
    );
    let decisions = status["decisions"].as_array().unwrap();
    decisions
        .iter()
        .find(|d| d["to"] == "RollingBack")
        .unwrap()
        .clone()
}

#[test]
fn a_bad_version_is_cut_by_the_guard_and_goes_back() {
    let test = "a_bad_version_is_cut_by_the_guard_and_goes_back";
    released(test, |world, story| {
        // Evidence may be as fast; the guard must be enough by itself.
        let sure = serde_json::json!({"spec": {"judgement": {"alpha": 1e-9}}});
        world.merge("serin.dev/v1alpha1/Rollout", "echo", &sure);
        let reason = rolled_back(world, story)["reason"].to_string();
        assert!(reason.contains("guard cut the canary"), "{reason}");
    });
}

#[test]
fn a_bad_version_is_found_by_evidence_alone() {
    let test = "a_bad_version_is_found_by_evidence_alone";
    released(test, |world, story| {
        let off = serde_json::json!({"metadata": {"annotations": {"serin.dev/canary-guard": "off"}}});
        world.merge("v1/Service", "echo", &off);
        let decision = rolled_back(world, story);
        let bad = decision["figures"]["canary"]["bad"].as_u64().unwrap();
        assert!(bad > 3, "{decision:#}");
        assert!(!decision["reason"].to_string().contains("guard"), "{decision:#}");
    });
}
