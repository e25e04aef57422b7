//! The statistics gate: thousands of releases in virtual time, by counts, with fixed seeds. Prints its tables.
//!
//! In release mode only: `cargo test --release -p engine --test gate -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod world;

use contract::{
    Span,
    policy::{Margin, Policy},
    release::Phase,
};
use world::{Nature, Rate, World, by_seed};

/// Releases of healthy canaries.
const HEALTHY: u64 = 10_000;
/// Releases of each kind of faulty canary.
const FAULTY: u64 = 500;
/// Releases of each row of the closed loop.
const LOOP: u64 = 200;

/// How one release ended.
struct End {
    phase: Phase,
    seconds: f64,
    harm: u64,
}

/// Stops at the decision: rolled back, or promoted, with the watch if the policy has one.
fn release(seed: u64, nature: &Nature, policy: &Policy, limit: f64) -> End {
    let mut world = World::new(seed, nature.clone(), policy.clone());
    loop {
        let phase = world.turn().status.phase;
        let is_over = matches!(phase, Phase::RollingBack | Phase::Succeeded);
        if is_over || world.elapsed() >= limit {
            return End {
                phase,
                seconds: world.elapsed(),
                harm: world.harm,
            };
        }
        world.flow(1000);
    }
}

fn releases(count: u64, nature: &Nature, policy: &Policy, limit: f64) -> Vec<End> {
    by_seed(count, |seed| release(seed, nature, policy, limit))
}

fn share(ends: &[End], phase: Phase) -> f64 {
    ends.iter().filter(|e| e.phase == phase).count() as f64 / ends.len() as f64
}

fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q).round() as usize]
}

fn row(name: &str, ends: &[End]) -> String {
    let promoted = 100.0 * share(ends, Phase::Succeeded);
    let back = 100.0 * share(ends, Phase::RollingBack);
    let seconds = quantile(ends.iter().map(|e| e.seconds).collect(), 0.5);
    let harm: Vec<f64> = ends.iter().map(|e| e.harm as f64).collect();
    let mean = harm.iter().sum::<f64>() / harm.len() as f64;
    format!(
        "{name:<28} {promoted:>9.2} % {back:>9.2} % {seconds:>9.0} s {mean:>9.1} {:>9.0}",
        quantile(harm, 0.95)
    )
}

/// Errors with all of the chance, from the first request on: what the reference figures are of.
fn errors_only() -> Policy {
    let mut policy = Policy::default();
    policy.judgement.latency.enabled = false;
    policy.judgement.warm_up = Span::seconds(0);
    policy
}

const HEAD: &str = "                              promoted  rolled back    median  bad, mean  bad, 95 %";

fn at(rps: f64, canary: Rate) -> Nature {
    Nature {
        rps,
        stable: |_| 0.001,
        canary,
        slow: 0.0,
        delay: [world::usual; 2],
        silence: None,
        restart: None,
    }
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "takes minutes without optimisation: run with --release"
)]
fn healthy_releases_are_kept_and_faulty_ones_found() {
    let mut policy = errors_only();
    policy.promotion.watch = Span::seconds(60);
    println!("\n100 requests/s, stable 0.1 % errors, default policy with a watch of 1 min\n{HEAD}");
    let healthy = releases(HEALTHY, &at(100.0, |_| 0.001), &policy, 3600.0);
    println!("{}", row(&format!("healthy x{HEALTHY}"), &healthy));
    assert!(share(&healthy, Phase::RollingBack) <= 0.01, "false rollbacks");
    assert!(share(&healthy, Phase::Succeeded) >= 0.95);
    for (name, canary) in FAULTS {
        let ends = releases(FAULTY, &at(100.0, canary), &policy, 3600.0);
        println!("{}", row(&format!("{name} x{FAULTY}"), &ends));
        assert_eq!(
            share(&ends, Phase::RollingBack),
            1.0,
            "{name} must be found every time"
        );
    }
}

const FAULTS: [(&str, Rate); 3] = [("1 %", |_| 0.01), ("5 %", |_| 0.05), ("50 %", |_| 0.5)];

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "takes minutes without optimisation: run with --release"
)]
fn closed_loop_beside_the_reference() {
    let mut policy = errors_only();
    policy.judgement.errors.rollback = Margin {
        ratio: 1.0,
        absolute: 0.0,
    };
    policy.pacing.soak = Span::seconds(60);
    // The reference raises at each tick.
    policy.pacing.interval = Span::seconds(1);
    policy.promotion.watch = Span::seconds(0);
    println!(
        "\nclosed loop, margin ratio 1 + 0, increases 1 s apart, soak 60 s, no watch, within an hour\n{HEAD}"
    );
    for rps in [10.0, 100.0, 1000.0] {
        for (name, canary) in LOOPS {
            let ends = releases(LOOP, &at(rps, canary), &policy, 3600.0);
            println!("{}", row(&format!("{rps:>4}/s {name}"), &ends));
        }
    }
}

const LOOPS: [(&str, Rate); 8] = [
    ("healthy", |_| 0.001),
    ("x2 to 0.2 %", |_| 0.002),
    ("x3 to 0.3 %", |_| 0.003),
    ("1 %", |_| 0.01),
    ("5 %", |_| 0.05),
    ("50 %", |_| 0.5),
    ("100 %", |_| 1.0),
    ("50 % from 120 s", |t| if t >= 120.0 { 0.5 } else { 0.001 }),
];
