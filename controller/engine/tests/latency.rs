//! Slowness and hangs in virtual time. What takes minutes runs in release mode only and prints its table:
//! `cargo test --release -p engine --test latency -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod world;

use contract::{
    Span,
    policy::{Policy, Step, Weights},
    release::Phase,
};
use world::{Delay, Nature, World, by_seed, usual};

/// How one release ended, and why.
struct End {
    phase: Phase,
    seconds: f64,
    why: String,
}

fn at(rps: f64, delay: [Delay; 2]) -> Nature {
    Nature {
        rps,
        stable: |_| 0.001,
        canary: |_| 0.001,
        slow: 0.0,
        delay,
        silence: None,
        restart: None,
    }
}

/// A weight that stays, from the first second on.
fn fixed(weight: f64, warm_up: f64) -> Policy {
    let mut policy = Policy::default();
    let hold = Span::seconds(36_000);
    policy.pacing.steps = vec![Step {
        weight,
        hold,
        pause: false,
    }];
    policy.judgement.warm_up = Span::seconds(warm_up as u64);
    policy
}

/// Seconds count from the first weight on.
fn release(seed: u64, nature: &Nature, policy: &Policy, limit: f64) -> End {
    let mut world = World::new(seed, nature.clone(), policy.clone());
    let mut begun = None;
    loop {
        let status = world.turn().status;
        if !status.wanted.is_none() {
            begun.get_or_insert(world.elapsed());
        }
        let seconds = world.elapsed() - begun.unwrap_or(world.elapsed());
        let is_over = matches!(status.phase, Phase::RollingBack | Phase::Succeeded);
        if is_over || seconds >= limit {
            return End {
                phase: status.phase,
                seconds,
                why: status.reason,
            };
        }
        world.flow(250);
    }
}

fn releases(count: u64, nature: &Nature, policy: &Policy, limit: f64) -> Vec<End> {
    by_seed(count, |seed| release(seed, nature, policy, limit))
}

fn rolled_back(ends: &[End]) -> f64 {
    ends.iter().filter(|e| e.phase == Phase::RollingBack).count() as f64 / ends.len() as f64
}

fn median(ends: &[End]) -> f64 {
    let mut seconds: Vec<f64> = ends.iter().map(|e| e.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn show(name: &str, ends: &[End]) {
    println!(
        "{name:<52} {:>6} runs {:>7.2} % rolled back, median {:>6.1} s",
        ends.len(),
        100.0 * rolled_back(ends),
        median(ends)
    );
}

fn never(_: f64, _: f64, _: f64) -> f64 {
    f64::INFINITY
}

#[test]
fn a_canary_that_accepts_and_never_answers_is_rolled_back_within_ten_seconds() {
    for (name, warm_up) in [("warm", 0.0), ("in the warm-up", 30.0)] {
        let ends = releases(20, &at(200.0, [usual, never]), &fixed(10.0, warm_up), 60.0);
        show(&format!("hang at 20 canary requests/s, {name}"), &ends);
        for end in &ends {
            assert_eq!(end.phase, Phase::RollingBack, "{}", end.why);
            assert!(end.seconds <= 10.0, "{} s: {}", end.seconds, end.why);
            let told = if warm_up > 0.0 {
                "without an answer"
            } else {
                "no good answer within"
            };
            assert!(end.why.contains(told), "{}", end.why);
        }
    }
}

#[test]
fn a_hang_that_starts_late_is_rolled_back_within_ten_seconds() {
    let late: Delay = |t, z, u| if t < 60.0 { usual(t, z, u) } else { f64::INFINITY };
    for end in releases(10, &at(200.0, [usual, late]), &fixed(10.0, 30.0), 120.0) {
        assert_eq!(end.phase, Phase::RollingBack, "{}", end.why);
        assert!(end.seconds <= 71.0, "{} s: {}", end.seconds, end.why);
    }
}

#[test]
fn a_service_that_normally_takes_long_is_not_blamed() {
    let long: Delay = |_, z, _| 8.0 * (0.1 * z).exp();
    let ends = releases(10, &at(50.0, [long, long]), &fixed(10.0, 30.0), 300.0);
    assert_eq!(rolled_back(&ends), 0.0, "both take eight seconds");
}

#[test]
fn a_cold_canary_is_forgiven_for_the_warm_up_only() {
    let cold: Delay = |t, z, u| usual(t, z, u) * if t < 25.0 { 12.0 } else { 1.0 };
    let ends = releases(10, &at(100.0, [usual, cold]), &fixed(10.0, 30.0), 120.0);
    assert_eq!(rolled_back(&ends), 0.0);
    let ends = releases(10, &at(100.0, [usual, cold]), &fixed(10.0, 0.0), 120.0);
    assert_eq!(rolled_back(&ends), 1.0);
}

#[test]
fn a_thin_past_is_learned_and_a_slow_canary_found_all_the_same() {
    let slow: Delay = |t, z, u| 3.0 * usual(t, z, u);
    // The proxy starts just before the canary: it has no past to tell.
    let mut nature = at(20.0, [usual, slow]);
    nature.restart = Some(0.5);
    let ends = releases(4, &nature, &fixed(20.0, 0.0), 300.0);
    assert_eq!(rolled_back(&ends), 1.0, "{}", ends[0].why);
    assert!(ends[0].why.contains("slower: p"), "{}", ends[0].why);
}

const ELEVEN_TENTHS: Delay = |t, z, u| 1.1 * usual(t, z, u);
const ONE_IN_A_HUNDRED: Delay = |t, z, u| usual(t, z, u) * if u < 0.01 { 10.0 } else { 1.0 };

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "takes minutes without optimisation: run with --release"
)]
fn slower_canaries_are_found_in_time() {
    let mut strict = fixed(10.0, 0.0);
    strict.judgement.latency.rollback_shift = 0;
    let mut lenient = strict.clone();
    lenient.judgement.latency.rollback_shift = 1;
    // The reference is of latency alone; sharing the chance with the other metrics costs 0.8 nats.
    let mut alone = strict.clone();
    alone.judgement.weights = Weights {
        errors: 0.01,
        latency: 0.98,
        stalled: 0.01,
    };
    let (all, tail) = ([usual, ELEVEN_TENTHS], [usual, ONE_IN_A_HUNDRED]);
    for (name, policy, delay, limit) in [
        ("all +10 %, shift 0, latency alone", &alone, all, 56.0),
        ("all +10 %, shift 0", &strict, all, 65.0),
        ("1 % x10, shift 0, latency alone", &alone, tail, 62.0),
        ("1 % x10, shift 0", &strict, tail, 69.0),
        ("1 % x10, shift 1", &lenient, tail, 109.0),
    ] {
        let ends = releases(400, &at(100.0, delay), policy, 1800.0);
        show(name, &ends);
        // A tenth above what was measured with these seeds.
        assert!(rolled_back(&ends) >= 0.99 && median(&ends) <= limit, "{name}");
    }
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "takes minutes without optimisation: run with --release"
)]
fn equal_canaries_are_kept() {
    let mut strict = fixed(10.0, 0.0);
    strict.judgement.latency.rollback_shift = 0;
    strict.judgement.errors.rollback.ratio = 1.0;
    strict.judgement.errors.rollback.absolute = 0.0;
    let runs = 2000;
    let equal = releases(runs, &at(100.0, [usual, usual]), &strict, 300.0);
    show("A/A, no margins, 300 s", &equal);
    // Three standard deviations above alpha.
    let limit = 0.01 + 3.0 * (0.01f64 * 0.99 / runs as f64).sqrt();
    assert!(rolled_back(&equal) <= limit);
    let healthy = releases(400, &at(100.0, [usual, usual]), &Policy::default(), 3600.0);
    show("healthy, default policy, to the end of the watch", &healthy);
    assert!(rolled_back(&healthy) <= 0.01);
    let promoted = healthy.iter().filter(|e| e.phase == Phase::Succeeded).count();
    assert!(promoted >= 380, "{promoted} of 400 promoted");
}
