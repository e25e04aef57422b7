//! How soon each family of latency bets finds a slower canary: medians over 400 simulated rollouts, seeds fixed.
//!
//! 100 requests/s, 10 % of them to the canary, blocks of one second, log-normal latencies of median 50 ms and spread
//! 0.6 (p99 202 ms), ten minutes of stable's past, no margin, alpha 1 %, latency judged alone. Seconds:
//!
//! | canary | reference | broad |
//! |---|---|---|
//! | everything 10 % slower | 57 | 50 |
//! | 1 % of the requests ten times slower | 76 | 54 |
//! | the slowest 5 % stretched, p99 1.5 times | 69 | 53 |

mod service;

use rand::RngExt;
use rand::rngs::StdRng;
use service::{MEDIAN, SIGMA, Slowness, first_seconds, median};
use stats::latency::{Family, LatencyConfig, LatencyProcess};

const RUNS: u64 = 400;
const PATIENCE: usize = 600;
const ALPHA: f64 = 0.01;

/// Standard normal quantiles of 95 % and 99 %.
const Z95: f64 = 1.644_853_626_951_472;
const Z99: f64 = 2.326_347_874_040_841;

fn everything(seconds: f64, _: &mut StdRng) -> f64 {
    1.1 * seconds
}

fn one_in_a_hundred(seconds: f64, rng: &mut StdRng) -> f64 {
    if rng.random_bool(0.01) {
        10.0 * seconds
    } else {
        seconds
    }
}

/// Stretched above p95 so that p99 is 1.5 times as high.
fn tail(seconds: f64, _: &mut StdRng) -> f64 {
    let p95 = MEDIAN * (SIGMA * Z95).exp();
    let stretch = 1.0 + 1.5_f64.ln() / (SIGMA * (Z99 - Z95));
    p95 * (seconds / p95).powf(if seconds > p95 { stretch } else { 1.0 })
}

fn both_families(history: &[u64]) -> [LatencyProcess; 2] {
    [Family::Reference, Family::Broad].map(|family| {
        let config = LatencyConfig {
            family,
            shift: 0,
            ..LatencyConfig::default()
        };
        LatencyProcess::new(config, history).expect("enough buckets")
    })
}

/// Medians of reference and broad.
fn medians(slowness: Slowness) -> [usize; 2] {
    let enough = |process: &LatencyProcess| process.log_roll() >= (1.0 / ALPHA).ln();
    let run = |seed| first_seconds(both_families, enough, slowness, (seed, PATIENCE));
    let all: Vec<[usize; 2]> = (0..RUNS).map(run).collect();
    [median(&all, 0), median(&all, 1)]
}

#[track_caller]
fn within(found: usize, expected: usize, seconds: usize) {
    assert!(found.abs_diff(expected) <= seconds, "{found} s, not {expected} s");
}

#[test]
fn everything_a_tenth_slower() {
    let [reference, broad] = medians(everything);
    println!("reference {reference} s, broad {broad} s");
    within(reference, 57, 6);
    within(broad, 50, 5);
}

#[test]
fn one_request_in_a_hundred_ten_times_slower() {
    let [reference, broad] = medians(one_in_a_hundred);
    println!("reference {reference} s, broad {broad} s");
    within(reference, 76, 7);
    within(broad, 54, 5);
}

#[test]
fn a_tail_half_as_slow_again() {
    let [reference, broad] = medians(tail);
    println!("reference {reference} s, broad {broad} s");
    within(reference, 69, 7);
    within(broad, 53, 5);
}
