//! Releases in a cluster when something unusual happens in the middle: sizes change, evidence is missing, both versions
//! fail, somebody deletes or suspends, a promotion gets stuck.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/rollout.rs"]
mod rollout;

use base64::{Engine, engine::general_purpose::STANDARD};
use cluster::{
    api::{Match, Rule, Trouble},
    harness::World,
    load::Traffic,
};
use rollout::*;
use serde_json::{Value, json};
use std::{
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A plain step that lasts longer than any test, at a fifth.
const AT_A_FIFTH: &str = "  pacing: {soak: 3s, interval: 1s, steps: [{weight: 20, hold: 5m}]}\n";

fn spec(parts: &[&str]) -> String {
    parts.concat()
}

fn at_a_fifth(world: &World) {
    world.wait("a fifth", LIMIT, || (weight(world) == 20.0).then_some(()));
}

fn no_guard(world: &World) {
    let off = json!({"metadata": {"annotations": {"serin.dev/canary-guard": "off"}}});
    world.merge("v1/Service", "echo", &off);
}

#[test]
fn an_autoscaler_in_the_middle_changes_nothing_for_a_good_version() {
    let test = "an_autoscaler_in_the_middle_changes_nothing_for_a_good_version";
    let spec = spec(&[
        WIDE,
        "  pacing: {soak: 5s, interval: 1s, steps: [{weight: 20, hold: 8s}]}\n  promotion: {watch: 3s}",
    ]);
    released(test, &spec, |world, story| {
        world.kubectl(&["scale", "deployment/server", "--replicas=4"]);
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 2, &[]);
        at_a_fifth(world);
        world.kubectl(&["scale", "deployment/server", "--replicas=10"]);
        let status = phase(world, "Succeeded", END);
        assert_eq!(entered(&status, "Holding").len(), 0, "{status:#}");
        let server = deployment(world, "server");
        assert_eq!(server["spec"]["replicas"], 10);
        assert_eq!(version(world, "server"), "v2.0.0");
        load.stop().no_loss();
    });
}

#[test]
fn a_bad_version_is_found_while_stable_is_scaled() {
    let test = "a_bad_version_is_found_while_stable_is_scaled";
    let spec = spec(&[WIDE, AT_A_FIFTH]);
    released(test, &spec, |world, story| {
        no_guard(world);
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &["--errors=0.5", "--late=4s"]);
        at_a_fifth(world);
        // New pods that never get ready: stable lacks pods to the end.
        let slow = json!({"spec": {"replicas": 10, "minReadySeconds": 600}});
        world.merge("apps/v1/Deployment", "server", &slow);
        let status = phase(world, "RolledBack", END);
        let report = load.stop();
        report.no_loss();
        let first = report.first_status(500).expect("no failure was seen");
        let took = report
            .last_answer("v2.0.0")
            .unwrap()
            .saturating_duration_since(first);
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(entered(&status, "RollingBack").len(), 1, "{status:#}");
    });
}

#[test]
fn without_traffic_there_is_no_verdict() {
    let test = "without_traffic_there_is_no_verdict";
    let spec = spec(&[
        WIDE,
        "  pacing: {soak: 3s, interval: 1s}\n  promotion: {watch: 2s}",
    ]);
    released(test, &spec, |world, story| {
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        let before = phase(world, "Shifting", LIMIT);
        sleep(Duration::from_secs(10));
        let after = status(world);
        assert_eq!(after["phase"], "Shifting", "{after:#}");
        assert_eq!(decisions(&after).len(), decisions(&before).len(), "{after:#}");
        assert!(after["verdict"].to_string().contains("waiting"), "{after:#}");
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Succeeded", END);
        load.stop().no_loss();
    });
}

#[test]
fn when_both_versions_fail_nobody_is_blamed() {
    let test = "when_both_versions_fail_nobody_is_blamed";
    let spec = spec(&[
        WIDE,
        "  pacing: {soak: 5s, interval: 1s, steps: [{weight: 20, hold: 3s}]}\n  promotion: {watch: 2s}",
    ]);
    released(test, &spec, |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        at_a_fifth(world);
        let mut failing = Traffic::at(RATE / 4.0);
        failing.path = "/status/500".into();
        let bad = world.load("echo", failing);
        let held = phase(world, "Holding", LIMIT);
        assert!(
            held["reason"].to_string().contains("baseline degraded"),
            "{held:#}"
        );
        sleep(Duration::from_secs(5));
        let held = status(world);
        assert_eq!(held["phase"], "Holding", "{held:#}");
        assert_eq!(weight(world), 20.0);
        bad.stop().no_loss();
        let end = phase(world, "Succeeded", END);
        assert_eq!(entered(&end, "RollingBack").len(), 0, "{end:#}");
        load.stop().no_loss();
    });
}

/// The token of the proxies changes while the API server does not tell the controller.
fn cut_telemetry(world: &World) {
    world.standin().faults().add(Rule {
        calls: Match {
            user: format!("system:serviceaccount:{}:serin-controller", world.namespace()),
            verb: "get,update,create".into(),
            resource: "secrets".into(),
        },
        trouble: Trouble::Answer {
            code: 503,
            retry_after: None,
        },
        count: None,
    });
    let token = STANDARD.encode("another-token-of-more-than-thirty-two-characters");
    world.merge("v1/Secret", "serin-evidence", &json!({"data": {"token": token}}));
}

#[test]
fn without_telemetry_it_holds_and_goes_on_afterwards() {
    let test = "without_telemetry_it_holds_and_goes_on_afterwards";
    let long = std::env::var("SERIN_TESTS").is_ok_and(|v| v == "all");
    let cut = Duration::from_secs(if long { 120 } else { 10 });
    let spec = spec(&[
        WIDE,
        "  pacing: {soak: 8s, interval: 1s, steps: [{weight: 20}]}\n  promotion: {watch: 2s}",
    ]);
    released(test, &spec, |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        at_a_fifth(world);
        sleep(Duration::from_secs(2));
        cut_telemetry(world);
        let begun = Instant::now();
        let held = phase(world, "Holding", LIMIT);
        assert!(
            held["reason"].to_string().contains("nothing heard from proxy"),
            "{held:#}"
        );
        while begun.elapsed() < cut {
            assert_eq!(
                (status(world)["phase"].as_str(), weight(world)),
                (Some("Holding"), 20.0)
            );
            sleep(Duration::from_millis(500));
        }
        world.standin().faults().clear();
        let back = Instant::now();
        phase(world, "Shifting", LIMIT);
        let end = phase(world, "Promoting", END);
        // Of eight seconds of soak at most five had passed: the time without evidence is none of them.
        assert!(back.elapsed() > Duration::from_secs(3), "{:?}", back.elapsed());
        assert_eq!(entered(&end, "Holding").len(), 1, "{end:#}");
        phase(world, "Succeeded", END);
        load.stop().no_loss();
    });
}

fn gone(world: &World, limit: Duration) -> Duration {
    let begun = Instant::now();
    world.wait("the Rollout is gone", limit, || {
        rollout(world).is_null().then_some(())
    });
    begun.elapsed()
}

/// What a deletion must leave as it was.
fn found(world: &World) -> Value {
    let part = |name: &str| {
        let object = deployment(world, name);
        let annotations = object["metadata"]["annotations"].as_object().cloned();
        let mut annotations = annotations.unwrap_or_default();
        // The Deployments' own controller counts there.
        annotations.remove("deployment.kubernetes.io/revision");
        json!([object["spec"], annotations])
    };
    json!([part("server"), part("server-canary")])
}

#[test]
fn a_rollout_deleted_in_the_middle_leaves_everything_as_it_was() {
    let test = "a_rollout_deleted_in_the_middle_leaves_everything_as_it_was";
    let spec = spec(&[WIDE, AT_A_FIFTH]);
    released(test, &spec, |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        let before = found(world);
        at_a_fifth(world);
        sleep(Duration::from_secs(1));
        world.delete("serin.dev/v1alpha1/Rollout", "echo");
        let took = gone(world, LIMIT);
        println!("let go after {took:?}");
        let since = Instant::now() + Duration::from_millis(500);
        sleep(Duration::from_secs(2));
        let report = load.stop();
        report.no_loss();
        assert_eq!(report.answers_since("v2.0.0", since), 0);
        assert_eq!(weight(world), 0.0);
        assert_eq!(found(world), before);
        assert!(world.json("apps/v1/Deployment", "server-previous").is_none());
        assert!(world.json("v1/Service", "echo-previous").is_none());
    });
}

#[test]
fn a_rollout_deleted_in_the_watch_goes_back_first() {
    let test = "a_rollout_deleted_in_the_watch_goes_back_first";
    let spec = spec(&[
        WIDE,
        "  pacing: {soak: 2s, interval: 1s, steps: [{weight: 20}]}\n  promotion: {watch: 5m}",
    ]);
    released(test, &spec, |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Watching", END);
        world.delete("serin.dev/v1alpha1/Rollout", "echo");
        gone(world, END);
        sleep(Duration::from_secs(1));
        load.stop().no_loss();
        assert_eq!(
            (version(world, "server").as_str(), weight(world)),
            ("v1.0.0", 0.0)
        );
        assert_eq!(annotation(world, "stable-service"), "echo-stable");
        assert!(world.json("apps/v1/Deployment", "server-previous").is_none());
        assert!(world.json("v1/Service", "echo-previous").is_none());
    });
}

fn suspend(world: &World, now: bool) {
    world.merge(
        "serin.dev/v1alpha1/Rollout",
        "echo",
        &json!({"spec": {"suspend": now}}),
    );
}

#[test]
fn a_suspended_release_stays_and_goes_on() {
    let test = "a_suspended_release_stays_and_goes_on";
    let spec = spec(&[
        WIDE,
        "  pacing: {soak: 3s, interval: 1s, steps: [{weight: 10}, {weight: 20}]}\n  promotion: {watch: 2s}",
    ]);
    released(test, &spec, |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Shifting", LIMIT);
        suspend(world, true);
        let held = world.wait("suspended", LIMIT, || {
            let status = status(world);
            status["reason"]
                .to_string()
                .contains("suspended")
                .then_some(status)
        });
        let at = weight(world);
        sleep(Duration::from_secs(6));
        let after = status(world);
        assert_eq!((after["phase"].as_str(), weight(world)), (Some("Shifting"), at));
        assert_eq!(decisions(&after).len(), decisions(&held).len(), "{after:#}");
        suspend(world, false);
        phase(world, "Succeeded", END);
        load.stop().no_loss();
    });
}

#[test]
fn a_suspended_release_still_goes_back() {
    let test = "a_suspended_release_still_goes_back";
    let spec = spec(&[WIDE, AT_A_FIFTH]);
    released(test, &spec, |world, story| {
        no_guard(world);
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &["--errors=0.5", "--late=5s"]);
        at_a_fifth(world);
        suspend(world, true);
        phase(world, "RolledBack", END);
        let report = load.stop();
        report.no_loss();
        let first = report.first_status(500).expect("no failure was seen");
        let took = report
            .last_answer("v2.0.0")
            .unwrap()
            .saturating_duration_since(first);
        assert!(took < Duration::from_secs(3), "{took:?}");
    });
}

#[test]
fn with_its_service_gone_a_rollout_is_let_go_at_once() {
    let test = "with_its_service_gone_a_rollout_is_let_go_at_once";
    let spec = spec(&[WIDE, AT_A_FIFTH]);
    released(test, &spec, |world, story| {
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        at_a_fifth(world);
        world.delete("v1/Service", "echo");
        world.delete("serin.dev/v1alpha1/Rollout", "echo");
        let took = gone(world, LIMIT);
        assert!(took < Duration::from_secs(3), "{took:?}");
        drop(load);
    });
}

/// A controller that lives outside of the namespace.
struct Outside(Child);

impl Outside {
    fn start(world: &World) -> Outside {
        let namespace = format!("--namespace={}", world.namespace());
        let args = [
            "controller",
            &namespace,
            "--lease-namespace=default",
            "--listen=127.0.0.1:9999",
        ];
        let mut command = world.command(SERIN, &args);
        Outside(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn with_its_namespace_gone_a_rollout_is_let_go_at_once() {
    let test = "with_its_namespace_gone_a_rollout_is_let_go_at_once";
    let spec = spec(&[WIDE, AT_A_FIFTH]);
    released(test, &spec, |world, story| {
        world.delete("apps/v1/Deployment", "serin-controller");
        world.ready("app=serin-controller", 0, LIMIT);
        let _controller = Outside::start(world);
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 3, &[]);
        at_a_fifth(world);
        world.delete("v1/Namespace", world.namespace());
        let took = gone(world, LIMIT);
        println!("let go after {took:?}");
        assert!(took < Duration::from_secs(8), "{took:?}");
        drop(load);
    });
}

#[test]
fn a_change_of_configuration_is_a_release() {
    let test = "a_change_of_configuration_is_a_release";
    let spec = spec(&[
        WIDE,
        "  pacing: {soak: 2s, interval: 1s, steps: [{weight: 20}]}\n  promotion: {watch: 2s}",
    ]);
    released(test, &spec, |world, story| {
        let configured = |name: &str, config: &str| {
            let container = json!({
                "name": "app", "image": "serin", "envFrom": [{"configMapRef": {"name": config}}],
                "args": ["app", "--listen=$(POD_IP):8080", "--version=$(GREETING)"],
            });
            let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
            world.kubectl(&["patch", "deployment", name, "-p", &patch.to_string()]);
        };
        world.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {GREETING: hello}\n");
        world.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}\ndata: {GREETING: welcome}\n");
        configured("server", "one");
        world.rolled_out("server", LIMIT);
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v1.0.0", 0, &[]);
        configured("server-canary", "one");
        world.scale("server-canary", 2);
        world.ready("app=echo,track=canary", 2, LIMIT);
        sleep(Duration::from_secs(1));
        assert_eq!(
            status(world)["phase"],
            "Idle",
            "the same configuration is no release"
        );
        configured("server-canary", "two");
        phase(world, "Succeeded", END);
        let since = Instant::now();
        sleep(Duration::from_secs(1));
        let report = load.stop();
        report.no_loss();
        assert_eq!(report.answers_since("hello", since), 0);
        assert!(report.answers_since("welcome", since) > 100);
        let env = &deployment(world, "server")["spec"]["template"]["spec"]["containers"][0]["envFrom"];
        assert_eq!(env[0]["configMapRef"]["name"], "two");
    });
}

#[test]
fn a_promotion_that_gets_stuck_goes_back() {
    let test = "a_promotion_that_gets_stuck_goes_back";
    let spec = spec(&[
        WIDE,
        "  pacing: {soak: 2s, interval: 1s, steps: [{weight: 20}]}\n  promotion: {watch: 3s, leaveBehind: {env: [MODE]}}",
    ]);
    released(test, &spec, |world, story| {
        let mode = |name: &str, mode: &str| {
            let env = json!([{"name": "MODE", "value": mode}]);
            let container = json!({"name": "app", "env": env});
            let patch = json!({"spec": {"progressDeadlineSeconds": 6, "template": {"spec": {"containers": [container]}}}});
            world.kubectl(&["patch", "deployment", name, "-p", &patch.to_string()]);
        };
        // Stable's own setting is none that the new version understands.
        mode("server", "--no-such-argument");
        world.rolled_out("server", LIMIT);
        let before = deployment(world, "server")["spec"]["template"].clone();
        let load = world.load("echo", Traffic::at(RATE));
        phase(world, "Idle", LIMIT);
        story.canary("v2.0.0", 0, &["$(MODE)"]);
        mode("server-canary", "--seed=1");
        world.scale("server-canary", 3);
        let end = phase(world, "RolledBack", END);
        let back = entered(&end, "RollingBack");
        assert_eq!(back.len(), 1, "{end:#}");
        let reason = back[0]["reason"].to_string();
        assert!(
            reason.contains("stable does not get ready with v2.0.0"),
            "{reason}"
        );
        world.rolled_out("server", LIMIT);
        let since = Instant::now();
        sleep(Duration::from_secs(1));
        let report = load.stop();
        report.no_loss();
        assert_eq!(report.answers_since("v2.0.0", since), 0);
        assert_eq!(deployment(world, "server")["spec"]["template"], before);
        assert_eq!(
            (weight(world), annotation(world, "stable-service").as_str()),
            (0.0, "echo-stable")
        );
    });
}
