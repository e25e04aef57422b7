//! From a canary's first failure to weight 0 at each of five proxies, and from the decision to the last proxy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/fronts.rs"]
mod fronts;
#[path = "support/rollout.rs"]
mod rollout;

use cluster::{
    harness::{Options, Story, StoryOptions, World, own_network},
    load::{Load, Traffic},
};
use fronts::{fronts, in_force};
use rollout::{LIMIT, SERIN, decisions, phase, status};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const RATE: f64 = 200.0;
const PROXIES: usize = 5;
/// From the first failure to the last proxy.
const WHOLE: Duration = Duration::from_secs(3);
/// From the decision to the last proxy.
const SPREAD: Duration = Duration::from_millis(250);
/// Between two looks at a proxy's weight.
const LOOK: Duration = Duration::from_millis(10);
const SPEC: &str = "  pacing: {steps: [{weight: 5, hold: 60s}]}\n  judgement: {warmUp: 2s}";

/// One bad version.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// From the first failure to the decision, to the Service's patch, and to the last proxy.
    decided: Duration,
    patched: Duration,
    whole: Duration,
    /// From the decision to the last proxy.
    spread: Duration,
    /// Failures that clients saw.
    failures: usize,
    by_guard: bool,
}

fn rounds() -> usize {
    let long = std::env::var("SERIN_TESTS").is_ok_and(|v| v == "all");
    if long { 25 } else { 5 }
}

fn measured(test: &str, guard: bool) {
    own_network(test, || {
        let world = World::start(Options::new(SERIN));
        let story = world.story(&StoryOptions {
            proxies: PROXIES,
            spec: SPEC.into(),
            ..StoryOptions::default()
        });
        let guard = if guard { "on" } else { "off" };
        let annotation = json!({"metadata": {"annotations": {"serin.dev/canary-guard": guard}}});
        world.merge("v1/Service", "echo", &annotation);
        phase(&world, "Idle", LIMIT);
        let all: Vec<Round> = (0..rounds()).map(|n| round(&world, &story, n)).collect();
        show(guard, &all);
        for round in &all {
            assert!(round.whole < WHOLE, "{round:?}");
            assert!(round.spread < SPREAD, "{round:?}");
        }
    });
}

/// Another version, bad like the one before.
fn round(world: &World, story: &Story<'_>, n: usize) -> Round {
    let version = format!("v2.0.{n}");
    let load = world.load("echo", Traffic::at(RATE));
    story.canary(&version, 1, &["--errors=1"]);
    world.wait("the first failure", LIMIT, || failures(&load).first().copied());
    // A proxy that took the weight a moment later than the others is not one that gave it up.
    thread::sleep(Duration::from_millis(100));
    let zeros = zeros(&fronts(world));
    let whole = zeros.values().max().copied().unwrap();
    let status = world.wait("RolledBack", LIMIT, || {
        let status = status(world);
        (status["phase"] == "RolledBack" && status["canaryVersion"] == version.as_str()).then_some(status)
    });
    world.wait("no canary pods", LIMIT, || {
        world.pods("track=canary").is_empty().then_some(())
    });
    let failures = failures(&load);
    load.stop().no_loss();
    told(
        world,
        &status,
        *failures.iter().min().unwrap(),
        whole,
        failures.len(),
    )
}

/// When answers with 500 came.
fn failures(load: &Load) -> Vec<Instant> {
    let samples = load.report().samples;
    let bad = samples.iter().filter(|s| s.status == 500);
    bad.map(|s| s.begun + s.took).collect()
}

/// When each proxy had weight 0 in force.
fn zeros(fronts: &BTreeMap<String, SocketAddr>) -> BTreeMap<String, Instant> {
    assert_eq!(fronts.len(), PROXIES);
    let end = Instant::now() + LIMIT;
    let watch = move |signals: SocketAddr| {
        while in_force(signals) > 0.0 {
            assert!(Instant::now() < end, "{signals} still sends to the canary");
            thread::sleep(LOOK);
        }
        Instant::now()
    };
    let threads: Vec<_> = fronts
        .iter()
        .map(|(name, signals)| {
            (
                name.clone(),
                thread::spawn({
                    let signals = *signals;
                    move || watch(signals)
                }),
            )
        })
        .collect();
    let joined = threads.into_iter().map(|(name, t)| (name, t.join().unwrap()));
    joined.collect()
}

fn told(world: &World, status: &Value, first: Instant, whole: Instant, failures: usize) -> Round {
    let all = decisions(status);
    let back = all.iter().rfind(|d| d["to"] == "RollingBack").unwrap();
    let decided = instant(UNIX_EPOCH + Duration::from_secs_f64(back["at"].as_f64().unwrap()));
    let calls = world.standin().calls();
    let patches = calls
        .iter()
        .filter(|c| c.resource == "services" && c.verb == "patch" && c.user.ends_with(":serin-controller"));
    let after: Vec<_> = patches
        .map(|c| instant(c.at))
        .filter(|at| *at >= decided)
        .collect();
    for (name, signals) in fronts(world) {
        assert_eq!(in_force(signals), 0.0, "{name}");
    }
    Round {
        decided: decided.saturating_duration_since(first),
        patched: after.first().unwrap().saturating_duration_since(first),
        whole: whole.saturating_duration_since(first),
        spread: whole.saturating_duration_since(decided),
        failures,
        by_guard: back["reason"].to_string().contains("guard"),
    }
}

fn instant(time: SystemTime) -> Instant {
    Instant::now() - SystemTime::now().duration_since(time).unwrap_or_default()
}

fn show(guard: &str, all: &[Round]) {
    println!("guard {guard}: from the first failure, milliseconds; failures seen; by the guard");
    for r in all {
        let [decided, patched, whole, spread] =
            [r.decided, r.patched, r.whole, r.spread].map(|d| d.as_millis());
        println!(
            "decided {decided:5} patched {patched:5} whole {whole:5} spread {spread:4} failures {:3} {}",
            r.failures, r.by_guard
        );
    }
    let of = |name: &str, figure: fn(&Round) -> Duration| {
        let mut values: Vec<_> = all.iter().map(figure).collect();
        values.sort();
        let at = |p: f64| {
            values[((values.len() as f64 * p).ceil() as usize).clamp(1, values.len()) - 1].as_millis()
        };
        println!(
            "{name}: p50 {} ms, p99 {} ms, of {}",
            at(0.5),
            at(0.99),
            values.len()
        );
    };
    of("first failure to the last proxy", |r| r.whole);
    of("decision to the last proxy", |r| r.spread);
}

#[test]
fn evidence_takes_a_bad_version_from_five_proxies_in_time() {
    measured("evidence_takes_a_bad_version_from_five_proxies_in_time", false);
}

#[test]
fn the_guard_takes_a_bad_version_from_five_proxies_in_time() {
    measured("the_guard_takes_a_bad_version_from_five_proxies_in_time", true);
}
