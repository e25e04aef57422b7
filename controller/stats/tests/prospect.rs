//! The times that are told before a rollout, against simulated rollouts: a p99 of 202 ms, 100 requests/s, 10 % of them
//! to the canary, latency with 0.4 of the evidence, as `serin plan --rps 100 --weight 10 --p99 202ms` has it.

mod service;

use rand::RngExt;
use rand::rngs::StdRng;
use service::{MEDIAN, RATE, SIGMA, Slowness, WEIGHT, edges, first_seconds, healthy, median};
use stats::latency::{LatencyConfig, LatencyProcess, LogNormal, Prospect, Terms, bucketed};

const RUNS: u64 = 200;
const PATIENCE: usize = 1500;

const TERMS: Terms = Terms {
    rate: RATE as f64,
    weight: WEIGHT,
    alpha: 0.01,
    beta: 0.05,
    stake: 0.4,
};

const SERVICE: LogNormal = LogNormal {
    median: MEDIAN,
    sigma: SIGMA,
};

fn config(shift: usize) -> LatencyConfig {
    LatencyConfig {
        shift,
        allowance: 0.3,
        ..LatencyConfig::default()
    }
}

fn prospect(shift: usize) -> Prospect {
    let stable = bucketed(&edges(), |s| SERVICE.below(s));
    Prospect::new(config(shift), TERMS, &stable).expect("enough buckets")
}

fn simulated(shift: usize, slowness: Slowness, enough: impl Fn(&LatencyProcess) -> bool) -> f64 {
    let start = |history: &[u64]| [LatencyProcess::new(config(shift), history).expect("enough buckets")];
    let run = |seed| first_seconds(start, &enough, slowness, (seed, PATIENCE));
    median(&(0..RUNS).map(run).collect::<Vec<_>>(), 0) as f64
}

fn rolled_back(process: &LatencyProcess) -> bool {
    TERMS.stake.ln() + process.log_roll() >= (1.0 / TERMS.alpha).ln()
}

#[track_caller]
fn near(told: Option<f64>, simulated: f64) {
    println!("told {told:?} s, simulated {simulated} s");
    assert!(
        told.is_some_and(|told| (told / simulated).ln().abs() < 1.35f64.ln()),
        "{told:?}, not {simulated}"
    );
}

/// A part of the requests `times` as slow, against the median of the same simulated.
#[track_caller]
fn check(shift: usize, (share, times): (f64, f64), slowness: Slowness) {
    let canary = bucketed(&edges(), |s| SERVICE.below_slowed(s, share, times));
    let prospect = prospect(shift);
    let told = prospect.roll_back_seconds(&canary).map(|told| told.0);
    assert!(prospect.floor_seconds(&canary) < told);
    near(told, simulated(shift, slowness, rolled_back));
}

#[test]
fn a_tenth_slower_without_a_margin() {
    check(0, (1.0, 1.1), |seconds, _| 1.1 * seconds);
}

#[test]
fn a_quarter_slower_is_a_little_beyond_one_bucket_and_has_to_be_learned() {
    check(1, (1.0, 1.25), |seconds, _| 1.25 * seconds);
}

#[test]
fn one_request_in_a_hundred_ten_times_slower() {
    let slow = |seconds: f64, rng: &mut StdRng| seconds * if rng.random_bool(0.01) { 10.0 } else { 1.0 };
    check(1, (0.01, 10.0), slow);
}

#[test]
fn a_healthy_canary_is_proven_as_fast() {
    let promoted = |process: &LatencyProcess| process.log_promote() >= (1.0 / TERMS.beta).ln();
    near(prospect(1).promote_seconds(), simulated(1, healthy, promoted));
}

#[test]
fn what_the_margin_tolerates_is_never_rolled_back() {
    let canary = bucketed(&edges(), |s| SERVICE.below_slowed(s, 1.0, 1.18));
    assert_eq!(prospect(1).floor_seconds(&canary), None);
    assert_eq!(prospect(1).roll_back_seconds(&canary), None);
    let same = bucketed(&edges(), |s| SERVICE.below(s));
    assert!(prospect(0).information(&same) < 1e-9);
}
