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

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stats::latency::{BUCKETS_PER_OCTAVE, Family, Histograms, LatencyConfig, LatencyProcess};

const RUNS: u64 = 400;
const RATE: usize = 100;
const WEIGHT: f64 = 0.1;
const PATIENCE: usize = 600;
const ALPHA: f64 = 0.01;

const MEDIAN: f64 = 0.05;
const SIGMA: f64 = 0.6;
/// Edges from half a millisecond to five seconds.
const FIRST_EDGE: f64 = 0.0005;
const EDGES: usize = 54;
/// Standard normal quantiles of 95 % and 99 %.
const Z95: f64 = 1.644_853_626_951_472;
const Z99: f64 = 2.326_347_874_040_841;

/// What is wrong with the canary: seconds of a request made of the seconds that stable would have taken.
type Slowness = fn(f64, &mut StdRng) -> f64;

fn healthy(seconds: f64, _: &mut StdRng) -> f64 {
    seconds
}

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

/// By Box and Muller.
fn normal(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

fn bucket(seconds: f64) -> usize {
    let octaves = (seconds / FIRST_EDGE).log2().max(-1.0);
    ((octaves * BUCKETS_PER_OCTAVE).ceil().max(0.0) as usize).min(EDGES)
}

fn requests(n: usize, slowness: Slowness, rng: &mut StdRng) -> Vec<u64> {
    let mut buckets = vec![0; EDGES + 1];
    for _ in 0..n {
        let seconds = MEDIAN * (SIGMA * normal(rng)).exp();
        buckets[bucket(slowness(seconds, rng))] += 1;
    }
    buckets
}

fn second(slowness: Slowness, rng: &mut StdRng) -> Histograms {
    let canary = (0..RATE).filter(|_| rng.random_bool(WEIGHT)).count();
    Histograms {
        stable: requests(RATE - canary, healthy, rng),
        canary: requests(canary, slowness, rng),
    }
}

/// Seconds until each family rolls back, both judging the same requests.
fn detected(families: [Family; 2], slowness: Slowness, seed: u64) -> [usize; 2] {
    let mut rng = StdRng::seed_from_u64(seed);
    let history = requests(RATE * 600, healthy, &mut rng);
    let mut processes = families.map(|family| {
        let config = LatencyConfig {
            family,
            shift: 0,
            ..LatencyConfig::default()
        };
        LatencyProcess::new(config, &history).expect("enough buckets")
    });
    let mut found = [PATIENCE; 2];
    for now in 1..PATIENCE {
        let block = [second(slowness, &mut rng)];
        for (process, found) in processes.iter_mut().zip(&mut found) {
            process.tick(1.0, &block);
            if process.log_roll() >= (1.0 / ALPHA).ln() {
                *found = now.min(*found);
            }
        }
        if found.iter().all(|t| *t < PATIENCE) {
            break;
        }
    }
    found
}

/// Medians of reference and broad.
fn medians(slowness: Slowness) -> [usize; 2] {
    let families = [Family::Reference, Family::Broad];
    let all: Vec<[usize; 2]> = (0..RUNS).map(|seed| detected(families, slowness, seed)).collect();
    [0, 1].map(|i| {
        let mut times: Vec<usize> = all.iter().map(|pair| pair[i]).collect();
        times.sort_unstable();
        times[times.len() / 2]
    })
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
