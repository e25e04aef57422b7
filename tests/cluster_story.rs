//! The story's releases in a cluster: versions that come again, orders of people, pods that do not start or do not stay,
//! and a pipeline that waits.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/rollout.rs"]
mod rollout;

use cluster::{
    harness::{Options, Story, StoryOptions, World, own_network},
    load::{Load, Report, Traffic},
};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use rollout::*;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// From the first failure to the last answer of the canary.
const REACTION: Duration = Duration::from_secs(3);
/// A few quick steps, and a short watch.
const QUICK: &str = "  pacing: {soak: 2s, interval: 1s, steps: [{weight: 20, hold: 1s}, {weight: 50, hold: 1s}]}\n  promotion: {watch: 3s}\n";
/// A step that lasts longer than any test.
const AT_A_FIFTH: &str =
    "  pacing: {soak: 2s, interval: 1s, steps: [{weight: 20, hold: 5m}]}\n  promotion: {watch: 3s}\n";
const STABLE: &str = "app=echo,track=stable";
const CANARY: &str = "app=echo,track=canary";

fn spec(pacing: &str) -> String {
    format!("{WIDE}{pacing}")
}

/// Traffic, once the Rollout is seen.
fn busy(world: &World) -> Load {
    phase(world, "Idle", LIMIT);
    world.load("echo", Traffic::at(RATE))
}

fn at(world: &World, percent: f64) {
    world.wait(&format!("{percent} %"), LIMIT, || {
        (weight(world) == percent).then_some(())
    });
}

fn answers(world: &World, load: &Load, version: &str) {
    let since = Instant::now();
    world.wait(&format!("answers of {version}"), LIMIT, || {
        (load.report().answers_since(version, since) > 0).then_some(())
    });
}

/// The number of the last decision.
fn number(status: &Value) -> u64 {
    let last = decisions(status).pop().unwrap_or_default();
    last["number"].as_u64().unwrap_or(0)
}

fn reason(decision: &Value) -> &str {
    decision["reason"].as_str().unwrap_or_default()
}

/// Of a status without decisions of this kind, nothing.
fn last_entered(status: &Value, phase: &str) -> Value {
    entered(status, phase).pop().unwrap_or_default()
}

/// When a decision was made, by this process's clock.
fn moment(decision: &Value) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ago = now.as_secs_f64() - decision["at"].as_f64().unwrap();
    Instant::now() - Duration::from_secs_f64(ago.max(0.0))
}

/// Names of the pods, and how often their containers have begun again.
fn pods(world: &World, selector: &str) -> BTreeMap<String, i32> {
    let pods = world.pods(selector).into_iter();
    pods.map(|pod| {
        let statuses = pod
            .status
            .iter()
            .flat_map(|s| s.container_statuses.iter().flatten());
        (pod.name_any(), statuses.map(|c| c.restart_count).sum())
    })
    .collect()
}

fn no_pods(world: &World, deployment: &str) {
    world.wait(&format!("{deployment} is scaled away"), LIMIT, || {
        let found = world.json("apps/v1/Deployment", deployment)?;
        (found["spec"]["replicas"] == 0).then_some(())
    });
}

/// No decision was made, and none was told, twice.
fn once(world: &World, status: &Value) {
    let numbers: Vec<_> = decisions(status)
        .iter()
        .map(|d| d["number"].as_u64().unwrap())
        .collect();
    let first = numbers[0];
    let each: Vec<_> = (first..first + numbers.len() as u64).collect();
    assert_eq!(numbers, each, "{status:#}");
    let mut told: Vec<_> = world
        .list::<Event>("")
        .into_iter()
        .filter_map(|e| {
            let of_ours = e.regarding?.kind.as_deref() == Some("Rollout");
            assert!(!of_ours || e.series.is_none(), "{:?} was told again", e.note);
            e.action.filter(|a| of_ours && a.starts_with("Decision"))
        })
        .collect();
    let count = told.len();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), count, "{told:?}");
    assert!(count >= numbers.len(), "{told:?} of {numbers:?}");
}

/// `serin …`, which must be done.
fn ordered(world: &World, args: &[&str]) -> String {
    let output = world.serin(args);
    assert!(
        output.status.success(),
        "serin {}: {}",
        args.join(" "),
        told_by(&output)
    );
    told_by(&output)
}

/// `serin …`, which must be refused with these words.
fn refused(world: &World, args: &[&str], words: &str) {
    let output = world.serin(args);
    let text = told_by(&output);
    assert_eq!(output.status.code(), Some(1), "serin {}: {text}", args.join(" "));
    assert!(text.contains(words), "serin {}: {text}", args.join(" "));
}

fn told_by(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|o| String::from_utf8_lossy(o)).concat()
}

/// Waits for the end of a way back and for pods of the old version alone; the status.
fn back(world: &World, old: &str) -> Value {
    let status = phase(world, "RolledBack", END);
    assert_eq!(condition(&status, "RolledBack"), "True", "{status:#}");
    assert_eq!(weight(world), 0.0);
    assert_eq!(annotation(world, "canary-service"), "echo-canary");
    assert_eq!(annotation(world, "stable-service"), "echo-stable");
    assert_eq!(version(world, "server"), old);
    status
}

/// Nobody but this version answers what is sent from now on.
fn alone(world: &World, load: &Load, version: &str) {
    let since = Instant::now();
    sleep(Duration::from_secs(1));
    let report = load.report();
    let versions: BTreeMap<_, _> = report.versions();
    let others = versions.keys().filter(|v| **v != version);
    for other in others {
        assert_eq!(report.answers_since(other, since), 0, "{other} still answers");
    }
    assert!(report.answers_since(version, since) > 50, "{}", status(world));
}

fn cut_in_time(report: &Report, version: &str) -> Duration {
    let first = report.first_status(500).expect("no failure was seen");
    let last = report.last_answer(version).expect("it never answered");
    let took = last.saturating_duration_since(first);
    assert!(
        took < REACTION,
        "{version} answered {took:?} after its first failure"
    );
    took
}

#[test]
fn the_promoted_version_applied_again_starts_nothing() {
    let test = "the_promoted_version_applied_again_starts_nothing";
    released(test, &spec(QUICK), |world, story| {
        let load = busy(world);
        story.canary("v2.0.0", 3, &[]);
        let done = phase(world, "Succeeded", END);
        no_pods(world, "server-canary");
        let (before, revision) = (pods(world, STABLE), deployment(world, "server"));
        story.canary("v2.0.0", 3, &[]);
        world.ready(CANARY, 3, LIMIT);
        sleep(Duration::from_secs(3));
        let after = status(world);
        assert_eq!(after["phase"], "Succeeded", "{after:#}");
        assert_eq!(number(&after), number(&done), "{after:#}");
        assert_eq!(weight(world), 0.0);
        assert_eq!(pods(world, STABLE), before);
        let now = deployment(world, "server");
        assert_eq!(now["metadata"]["generation"], revision["metadata"]["generation"]);
        assert_eq!(version(world, "server"), "v2.0.0");
        alone(world, &load, "v2.0.0");
        once(world, &after);
        println!("requests: {}", load.stop().no_loss());
    });
}

#[test]
fn a_failed_version_is_tried_again_only_by_order_and_with_half_the_alpha() {
    let test = "a_failed_version_is_tried_again_only_by_order_and_with_half_the_alpha";
    released(test, &spec(QUICK), |world, story| {
        let load = busy(world);
        story.canary("v2.0.0", 1, &["--errors=0.5"]);
        let first = back(world, "v1.0.0");
        no_pods(world, "server-canary");
        story.canary("v2.0.0", 1, &["--errors=0.5"]);
        world.ready(CANARY, 1, LIMIT);
        let again = Instant::now();
        sleep(Duration::from_secs(3));
        let still = status(world);
        assert_eq!(
            (still["phase"].as_str(), number(&still)),
            (Some("RolledBack"), number(&first))
        );
        assert_eq!(load.report().answers_since("v2.0.0", again), 0);

        ordered(world, &["retry", "echo", "--cause", "ticket 12"]);
        let second = world.wait("the end of the second run", END, || {
            let now = status(world);
            let over = now["phase"] == "RolledBack" && entered(&now, "RollingBack").len() == 2;
            over.then_some(now)
        });
        let begun = entered(&second, "Starting");
        assert_eq!(begun.len(), 2, "{second:#}");
        assert!(
            reason(&begun[1]).contains("1 earlier run(s) went back"),
            "{}",
            begun[1]
        );
        assert!(reason(&begun[1]).contains("ticket 12"), "{}", begun[1]);
        let needed: Vec<f64> = entered(&second, "RollingBack")
            .iter()
            .map(|d| d["figures"]["rollbackAt"].as_f64().unwrap())
            .collect();
        assert!((needed[1] - needed[0] - 2_f64.ln()).abs() < 1e-6, "{needed:?}");
        assert_eq!(decisions(&second)[0]["number"], decisions(&first)[0]["number"]);
        alone(world, &load, "v1.0.0");
        once(world, &second);
        println!("requests: {}", load.stop().no_loss());
    });
}

#[test]
fn a_second_version_in_the_middle_begins_at_the_beginning() {
    let test = "a_second_version_in_the_middle_begins_at_the_beginning";
    released(test, &spec(AT_A_FIFTH), |world, story| {
        let load = busy(world);
        story.canary("v2.0.0", 2, &[]);
        at(world, 20.0);
        answers(world, &load, "v2.0.0");
        sleep(Duration::from_secs(2));
        story.canary("v3.0.0", 2, &["--errors=0.5"]);
        let end = back(world, "v1.0.0");
        let left = last_entered(&end, "Idle");
        assert!(
            reason(&left).contains("v2.0.0 left at weight 0: v3.0.0 takes its place"),
            "{end:#}"
        );
        let all = decisions(&end);
        let of_second: Vec<_> = all.iter().filter(|d| d["version"] == "v3.0.0").collect();
        let path: Vec<_> = of_second.iter().map(|d| d["to"].as_str().unwrap()).collect();
        // Between these it may hold on a suspicion.
        assert_eq!(path[..2], ["Starting", "Shifting"], "{end:#}");
        assert_eq!(path[path.len() - 2..], ["RollingBack", "RolledBack"], "{end:#}");
        assert_eq!(of_second[1]["figures"]["canary"]["requests"], 0, "{end:#}");
        assert_eq!(of_second[1]["figures"]["stable"]["requests"], 0, "{end:#}");
        alone(world, &load, "v1.0.0");
        let report = load.stop();
        report.no_loss();
        let early = report
            .samples
            .iter()
            .find(|s| s.version.as_deref() == Some("v3.0.0"));
        let early = early.expect("the second version never answered").begun;
        let ahead = moment(of_second[1]).saturating_duration_since(early);
        assert!(
            ahead < Duration::from_millis(50),
            "asked {ahead:?} before its first weight"
        );
        println!("cut after {:?}", cut_in_time(&report, "v3.0.0"));
    });
}

#[test]
fn a_promotion_by_order_at_a_pause_can_be_undone() {
    let test = "a_promotion_by_order_at_a_pause_can_be_undone";
    let pacing = "  pacing: {soak: 2s, interval: 1s, steps: [{weight: 20, hold: 1s, pause: true}, {weight: 40, hold: 5m}]}\n";
    released(test, &spec(pacing), |world, story| {
        let load = busy(world);
        refused(world, &["abort", "echo"], "there is no canary");
        refused(world, &["promote", "echo"], "there is no canary");
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Paused", LIMIT);
        ordered(world, &["promote", "echo"]);
        let status = phase(world, "Succeeded", END);
        assert!(
            reason(&last_entered(&status, "Promoting")).contains("promoted by admin"),
            "{status:#}"
        );
        assert_eq!(version(world, "server"), "v2.0.0");
        no_pods(world, "server-canary");
        alone(world, &load, "v2.0.0");
        refused(world, &["promote", "echo"], "it is promoted already");
        ordered(world, &["undo", "echo"]);
        let status = back(world, "v1.0.0");
        assert!(
            reason(&last_entered(&status, "RollingBack")).contains("undone by admin"),
            "{status:#}"
        );
        alone(world, &load, "v1.0.0");
        no_pods(world, "server-previous");
        no_pods(world, "server-canary");
        story.canary("v2.0.0", 1, &[]);
        world.ready(CANARY, 1, LIMIT);
        alone(world, &load, "v1.0.0");
        assert_eq!(number(&self::status(world)), number(&status));
        println!("requests: {}", load.stop().no_loss());
    });
}

/// As soon as stable has pods of both versions.
fn half_way(world: &World) {
    world.wait("stable is a mix", LIMIT, || {
        let of = |version: &str| !world.pods(&format!("{STABLE},version={version}")).is_empty();
        (of("v1.0.0") && of("v2.0.0")).then_some(())
    });
}

#[test]
fn a_promotion_can_be_aborted_half_way() {
    let test = "a_promotion_can_be_aborted_half_way";
    released(test, &spec(AT_A_FIFTH), |world, story| {
        let load = busy(world);
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Shifting", LIMIT);
        answers(world, &load, "v2.0.0");
        ordered(world, &["promote", "echo"]);
        half_way(world);
        ordered(world, &["abort", "echo"]);
        let status = back(world, "v1.0.0");
        assert_eq!(
            last_entered(&status, "RollingBack")["from"],
            "Promoting",
            "{status:#}"
        );
        alone(world, &load, "v1.0.0");
        once(world, &status);
        println!("requests: {}", load.stop().no_loss());
    });
}

#[test]
fn a_second_version_in_the_middle_of_a_promotion_waits_and_is_shown_to_nobody() {
    let test = "a_second_version_in_the_middle_of_a_promotion_waits_and_is_shown_to_nobody";
    let pacing = AT_A_FIFTH.replace("20", "50");
    released(test, &spec(&pacing), |world, story| {
        // So slow that the second version is there before stable has the first.
        let slowly = json!({"spec": {"minReadySeconds": 2}});
        world.merge("apps/v1/Deployment", "server", &slowly);
        let load = busy(world);
        story.canary("v2.0.0", 3, &[]);
        at(world, 50.0);
        answers(world, &load, "v2.0.0");
        ordered(world, &["promote", "echo"]);
        half_way(world);
        story.canary("v3.0.0", 3, &["--errors=1"]);
        let end = world.wait("the second version has gone back", END, || {
            let now = status(world);
            (now["phase"] == "RolledBack").then_some(now)
        });
        assert_eq!(version(world, "server"), "v2.0.0", "{end:#}");
        assert_eq!(weight(world), 0.0);
        alone(world, &load, "v2.0.0");
        let begun = decisions(&end)
            .into_iter()
            .find(|d| d["version"] == "v3.0.0" && d["to"] == "Shifting");
        let begun = moment(&begun.unwrap());
        let report = load.stop();
        report.no_loss();
        let early = report
            .samples
            .iter()
            .filter(|s| s.version.as_deref() == Some("v3.0.0") && s.begun < begun);
        let early = early.count();
        assert!(
            early < 10,
            "{early} requests went to a version that nobody judged"
        );
    });
}

#[test]
fn abort_promote_abort_retry_promote_are_each_honoured() {
    let test = "abort_promote_abort_retry_promote_are_each_honoured";
    released(test, &spec(AT_A_FIFTH), |world, story| {
        let load = busy(world);
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Shifting", LIMIT);
        answers(world, &load, "v2.0.0");
        ordered(world, &["abort", "echo"]);
        back(world, "v1.0.0");
        alone(world, &load, "v1.0.0");
        ordered(world, &["promote", "echo"]);
        phase(world, "Succeeded", END);
        assert_eq!(version(world, "server"), "v2.0.0");
        alone(world, &load, "v2.0.0");
        ordered(world, &["abort", "echo"]);
        back(world, "v1.0.0");
        alone(world, &load, "v1.0.0");
        ordered(world, &["retry", "echo"]);
        phase(world, "Shifting", LIMIT);
        answers(world, &load, "v2.0.0");
        ordered(world, &["promote", "echo"]);
        let status = phase(world, "Succeeded", END);
        assert_eq!(version(world, "server"), "v2.0.0");
        assert_eq!(entered(&status, "Promoting").len(), 2, "{status:#}");
        assert_eq!(entered(&status, "RollingBack").len(), 2, "{status:#}");
        alone(world, &load, "v2.0.0");
        println!("requests: {}", load.stop().no_loss());
    });
}

#[test]
fn a_pause_longer_than_the_deadline_never_fails() {
    let test = "a_pause_longer_than_the_deadline_never_fails";
    let more = "  deadline: 6s\n  undecided: rollback\n  pacing: {soak: 1s, interval: 1s, steps: [{weight: 20, hold: 1s, pause: true}, {weight: 40, hold: 1s}]}\n  promotion: {watch: 2s}\n";
    released(test, &spec(more), |world, story| {
        let load = busy(world);
        story.canary("v2.0.0", 3, &[]);
        let paused = phase(world, "Paused", LIMIT);
        sleep(Duration::from_secs(10));
        let still = status(world);
        assert_eq!(
            (still["phase"].as_str(), number(&still)),
            (Some("Paused"), number(&paused))
        );
        assert_eq!(weight(world), 20.0);
        ordered(world, &["resume", "echo"]);
        phase(world, "Succeeded", END);
        println!("requests: {}", load.stop().no_loss());
    });
}

#[test]
fn a_canary_whose_pods_never_start_gets_no_request() {
    let test = "a_canary_whose_pods_never_start_gets_no_request";
    released(test, &spec(QUICK), |world, story| {
        let load = busy(world);
        let begun = Instant::now();
        story.canary_of("missing", "v2.0.0", 1, &[]);
        let told = world.wait("the pod's own reason in the status", LIMIT, || {
            assert_eq!(weight(world), 0.0);
            let reason = status(world)["reason"].as_str()?.to_owned();
            (reason.contains("ImagePull")).then_some(reason)
        });
        println!("after {:?}: {told}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(told.contains("0 of 1 pods ready"), "{told}");
        assert_eq!(status(world)["phase"], "Starting");
        while begun.elapsed() < Duration::from_secs(8) {
            assert_eq!(weight(world), 0.0);
            sleep(Duration::from_millis(50));
        }
        assert_eq!(status(world)["phase"], "Starting");
        assert!(!load.report().versions().contains_key("v2.0.0"));
        // The mended image goes its way.
        story.canary("v2.0.1", 3, &[]);
        phase(world, "Succeeded", END);
        println!("requests: {}", load.stop().no_loss());
    });
}

/// SIGKILL to whatever runs in the pods now.
fn strike(world: &World, pods: &[String]) {
    for (_, pid) in pods.iter().flat_map(|pod| world.processes(pod)) {
        let mut kill = Command::new("sh");
        kill.args(["-c", &format!("kill -9 {pid}")]).stderr(Stdio::null());
        // Who has ended meanwhile need not be killed.
        let _ = kill.status();
    }
}

#[test]
fn a_canary_that_crashes_again_and_again_goes_back_within_three_seconds() {
    let test = "a_canary_that_crashes_again_and_again_goes_back_within_three_seconds";
    let pacing = "  pacing: {soak: 2s, interval: 1s, steps: [{weight: 30, hold: 5m}]}\n";
    released(test, &spec(pacing), |world, story| {
        let load = busy(world);
        story.canary("v2.0.0", 2, &[]);
        at(world, 30.0);
        answers(world, &load, "v2.0.0");
        sleep(Duration::from_secs(2));
        let names: Vec<_> = pods(world, CANARY).into_keys().collect();
        let begun = Instant::now();
        let went = world.wait("weight 0", LIMIT, || {
            strike(world, &names);
            (weight(world) == 0.0).then(|| begun.elapsed())
        });
        println!("weight 0 after {went:?}");
        assert!(went < REACTION, "weight 0 after {went:?}");
        let status = world.wait("the way back is over", LIMIT, || {
            strike(world, &names);
            let now = status(world);
            (now["phase"] == "RolledBack").then_some(now)
        });
        println!("{}", reason(&last_entered(&status, "RollingBack")));
        alone(world, &load, "v1.0.0");
        once(world, &status);
        println!("requests: {}", load.stop().no_loss());
    });
}

/// `--faults-while` for a file of this world, and the file.
fn switch(world: &World) -> (String, PathBuf) {
    let file = world.folder().join("faults");
    (format!("--faults-while={}", file.display()), file)
}

#[test]
fn a_missing_stable_pod_does_not_keep_a_bad_version() {
    let test = "a_missing_stable_pod_does_not_keep_a_bad_version";
    released(test, &spec(AT_A_FIFTH), |world, story| {
        let load = busy(world);
        let (while_there, file) = switch(world);
        story.canary("v2.0.0", 2, &["--errors=0.5", &while_there]);
        at(world, 20.0);
        answers(world, &load, "v2.0.0");
        let missing = vec![pods(world, STABLE).into_keys().next().unwrap()];
        world.wait("a stable pod is missing", LIMIT, || {
            strike(world, &missing);
            (deployment(world, "server")["status"]["readyReplicas"] == 2).then_some(())
        });
        fs::write(&file, "").unwrap();
        let status = world.wait("the way back is over", LIMIT, || {
            strike(world, &missing);
            let now = status(world);
            (now["phase"] == "RolledBack").then_some(now)
        });
        assert_eq!(weight(world), 0.0);
        assert_eq!(
            deployment(world, "server")["status"]["readyReplicas"],
            2,
            "{status:#}"
        );
        sleep(Duration::from_secs(1));
        let report = load.stop();
        println!(
            "cut after {:?} of {} requests",
            cut_in_time(&report, "v2.0.0"),
            report.no_loss()
        );
    });
}

#[test]
fn what_shows_only_in_the_watch_goes_back_over_the_kept_version() {
    let test = "what_shows_only_in_the_watch_goes_back_over_the_kept_version";
    let pacing = QUICK.replace("watch: 3s", "watch: 2m");
    released(test, &spec(&pacing), |world, story| {
        let load = busy(world);
        let (while_there, file) = switch(world);
        story.canary("v2.0.0", 3, &["--errors=0.5", &while_there]);
        let watching = phase(world, "Watching", END);
        assert_eq!(version(world, "server"), "v2.0.0", "{watching:#}");
        assert_eq!(annotation(world, "stable-service"), "echo-previous");
        sleep(Duration::from_secs(2));
        let (middle, kept) = (Instant::now(), load.report());
        let share = kept
            .share("v1.0.0", middle - Duration::from_secs(2), middle)
            .unwrap();
        assert!(
            (0.01..0.12).contains(&share),
            "{share} stays with the old version"
        );
        fs::write(&file, "").unwrap();
        let status = back(world, "v1.0.0");
        let decision = last_entered(&status, "RollingBack");
        assert_eq!(decision["from"], "Watching", "{status:#}");
        println!("{}", reason(&decision));
        alone(world, &load, "v1.0.0");
        no_pods(world, "server-previous");
        no_pods(world, "server-canary");
        once(world, &status);
        let report = load.stop();
        println!(
            "cut after {:?} of {} requests",
            cut_in_time(&report, "v2.0.0"),
            report.no_loss()
        );
    });
}

/// Images that are programs of their own: the little application, with these arguments.
fn images(all: &[(&str, &str)]) -> BTreeMap<String, PathBuf> {
    let folder = std::env::temp_dir().join(format!("serin-images-{}-{}", std::process::id(), all.len()));
    fs::create_dir_all(&folder).unwrap();
    let script = |(n, (image, args)): (usize, &(&str, &str))| {
        let file = folder.join(n.to_string());
        let text = format!("#!/bin/sh\nexec {SERIN} app --listen=$POD_IP:8080 {args}\n");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        ((*image).to_owned(), file)
    };
    all.iter().enumerate().map(script).collect()
}

const GOOD: &str = "registry.example.org/echo:v2.0.0";
const BAD: &str = "registry.example.org/echo:v3.0.0";

/// The story without a canary, and images that a pipeline may name.
fn piped(test: &str, body: impl FnOnce(&World, &Story<'_>)) {
    own_network(test, || {
        let mut options = Options::new(SERIN);
        options.images = images(&[(GOOD, "--version=v2.0.0"), (BAD, "--version=v3.0.0 --errors=0.5")]);
        let world = World::start(options);
        let story = world.story(&StoryOptions {
            spec: spec(QUICK),
            ..StoryOptions::default()
        });
        body(&world, &story);
    });
}

/// How a pipeline's `serin deploy echo --image … --wait` ends: its exit code, and its last line.
fn deployed(world: &World, image: &str) -> (i32, String) {
    let output = world.serin(&["deploy", "echo", "--image", image, "--wait", "--timeout", "90s"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{}", told_by(&output));
    let last = text.lines().last().unwrap_or_default().to_owned();
    (output.status.code().unwrap(), last)
}

fn image(world: &World, name: &str) -> Value {
    deployment(world, name)["spec"]["template"]["spec"]["containers"][0]["image"].take()
}

#[test]
fn a_pipeline_releases_a_good_image_and_it_can_be_undone() {
    let test = "a_pipeline_releases_a_good_image_and_it_can_be_undone";
    piped(test, |world, _| {
        let load = busy(world);
        let (code, last) = deployed(world, GOOD);
        assert_eq!(code, 0, "{last}");
        assert!(last.starts_with("PROMOTED: "), "{last}");
        assert_eq!(image(world, "server"), GOOD);
        no_pods(world, "server-canary");
        alone(world, &load, "v2.0.0");
        let before = pods(world, STABLE);
        let (code, last) = deployed(world, GOOD);
        assert_eq!(code, 0, "{last}");
        assert!(last.contains("already stable"), "{last}");
        assert_eq!(pods(world, STABLE), before);
        ordered(world, &["undo", "echo"]);
        let status = phase(world, "RolledBack", END);
        assert!(
            reason(&last_entered(&status, "RollingBack")).contains("undone by admin"),
            "{status:#}"
        );
        assert_eq!(image(world, "server"), "serin");
        alone(world, &load, "v1.0.0");
        no_pods(world, "server-previous");
        println!("requests: {}", load.stop().no_loss());
    });
}

#[test]
fn a_pipeline_is_told_why_a_bad_image_went_back() {
    let test = "a_pipeline_is_told_why_a_bad_image_went_back";
    piped(test, |world, _| {
        let load = busy(world);
        let (code, last) = deployed(world, BAD);
        assert_eq!(code, 1, "{last}");
        assert!(last.starts_with("ROLLED BACK: rolled back: "), "{last}");
        assert!(last.contains("bad, stable 0 of"), "{last}");
        assert_eq!(image(world, "server"), "serin");
        let end = phase(world, "RolledBack", LIMIT);
        let (code, last) = deployed(world, BAD);
        assert_eq!(code, 1, "{last}");
        assert!(last.contains("`serin retry echo` runs it again"), "{last}");
        assert_eq!(number(&status(world)), number(&end));
        alone(world, &load, "v1.0.0");
        let (code, last) = deployed(world, GOOD);
        assert_eq!(code, 0, "after a bad image: {last}");
        alone(world, &load, "v2.0.0");
        let report = load.stop();
        println!(
            "cut after {:?} of {} requests",
            cut_in_time(&report, "v3.0.0"),
            report.no_loss()
        );
    });
}

#[test]
fn a_pipeline_is_told_that_another_image_has_taken_the_place_of_its_own() {
    let test = "a_pipeline_is_told_that_another_image_has_taken_the_place_of_its_own";
    piped(test, |world, _| {
        let load = busy(world);
        let mut first = world.command(SERIN, &["deploy", "echo", "--image", BAD, "--wait"]);
        let pause = json!({"spec": {"gates": [{"name": "board", "at": "before-start"}]}});
        world.merge("serin.dev/v1alpha1/Rollout", "echo", &pause);
        let first = first.stdout(Stdio::piped()).spawn().unwrap();
        world.wait("the gate", LIMIT, || {
            let now = status(world);
            reason(&now).contains("board").then_some(())
        });
        let gone = json!({"spec": {"gates": []}});
        let second = ordered(world, &["deploy", "echo", "--image", GOOD]);
        let output = first.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", told_by(&output));
        let text = told_by(&output);
        assert!(
            text.contains(&format!("another image has taken its place: {GOOD}")),
            "{text}"
        );
        world.merge("serin.dev/v1alpha1/Rollout", "echo", &gone);
        assert!(second.contains("is to be released"), "{second}");
        phase(world, "Succeeded", END);
        assert_eq!(image(world, "server"), GOOD);
        assert!(!load.report().versions().contains_key("v3.0.0"));
        println!("requests: {}", load.stop().no_loss());
    });
}
