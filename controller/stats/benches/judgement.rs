//! Microseconds per judgement; fails above the budget. Run with `cargo bench -p stats`.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark reads the clock"
)]

use stats::errors::{ErrorConfig, ErrorProcess};
use stats::latency::{Histograms, LatencyConfig, LatencyProcess, Tilt, Totals};
use stats::{Arm, Counts};
use std::hint::black_box;
use std::time::Instant;

/// A judgement of one rollout in microseconds, so that a thousand rollouts a second cost a twentieth of a core.
const BUDGET: f64 = 50.0;

const BUCKETS: usize = 70;
const ROUNDS: u32 = 2000;

fn main() {
    let tilts = report("8 tilts, 70 different ratios each, both arms", tilts());
    report(
        "errors: 7 alternatives, projection with margin, promotion",
        errors(),
    );
    report(
        "latency: 10 alternatives, 70 buckets, learning, promotion",
        latency(),
    );
    let whole = report("errors and latency, one tick of a rollout", whole());
    assert!(
        tilts < BUDGET && whole < BUDGET,
        "a judgement must take less than {BUDGET} µs"
    );
}

fn report(what: &str, mut judge: impl FnMut()) -> f64 {
    (0..ROUNDS / 10).for_each(|_| judge());
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| judge());
    let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
    println!("{each:8.2} µs  {what}");
    each
}

/// A lumpy histogram with requests in every bucket.
fn buckets(scale: u64) -> Vec<u64> {
    (0..BUCKETS as u64)
        .map(|b| 1 + scale * (BUCKETS as u64 - b) * (1 + b % 5))
        .collect()
}

fn block() -> Histograms {
    Histograms {
        stable: buckets(9),
        canary: buckets(1),
    }
}

fn tilts() -> impl FnMut() {
    let all: f64 = buckets(100).iter().map(|n| *n as f64).sum();
    let p: Vec<f64> = buckets(100).iter().map(|n| *n as f64 / all).collect();
    let slopes = (1..=8).map(|k| {
        (0..BUCKETS)
            .map(|b| (0.01 * f64::from(k) * b as f64).exp())
            .collect::<Vec<_>>()
    });
    let tilts: Vec<Tilt> = slopes.map(|g| Tilt::new(&p, &g)).collect();
    let block = block();
    move || {
        let totals = Totals::new(black_box(&block));
        black_box(tilts.iter().map(|tilt| tilt.log_e(&totals)).sum::<f64>());
    }
}

fn errors() -> impl FnMut() {
    let mut process = ErrorProcess::new(ErrorConfig::default(), Arm::new(60_000, 60));
    let block = Counts::new((900, 1), (100, 1));
    move || {
        process.tick(1.0, black_box(&[block]));
        black_box((process.log_roll(), process.log_promote()));
    }
}

fn latency() -> impl FnMut() {
    let mut process =
        LatencyProcess::new(LatencyConfig::default(), &buckets(100)).expect("70 buckets are enough");
    let block = [block()];
    move || {
        process.tick(1.0, black_box(&block));
        black_box((process.log_roll(), process.log_promote()));
    }
}

fn whole() -> impl FnMut() {
    let (mut errors, mut latency) = (errors(), latency());
    move || {
        errors();
        latency();
    }
}
