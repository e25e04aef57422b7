//! A service with log-normal latencies of median 50 ms and spread 0.6 (p99 202 ms), second by second.
#![allow(dead_code)] // each test takes what it needs

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stats::latency::{BUCKETS_PER_OCTAVE, Histograms, LatencyProcess};

/// Requests per second, both arms.
pub const RATE: usize = 100;
/// Share of the canary.
pub const WEIGHT: f64 = 0.1;
/// p50 in seconds, and the standard deviation of the logarithm.
pub const MEDIAN: f64 = 0.05;
pub const SIGMA: f64 = 0.6;

/// Edges from half a millisecond to five seconds.
const FIRST_EDGE: f64 = 0.0005;
const EDGES: usize = 54;

/// What is wrong with the canary: seconds of a request made of the seconds that stable would have taken.
pub type Slowness = fn(f64, &mut StdRng) -> f64;

pub fn healthy(seconds: f64, _: &mut StdRng) -> f64 {
    seconds
}

/// Upper edges of the buckets in seconds.
pub fn edges() -> Vec<f64> {
    let edge = |i: usize| FIRST_EDGE * (i as f64 / BUCKETS_PER_OCTAVE).exp2();
    (0..EDGES).map(edge).collect()
}

/// Ten minutes of the service alone.
pub fn history(rng: &mut StdRng) -> Vec<u64> {
    requests(RATE * 600, healthy, rng)
}

/// One second of both arms.
pub fn second(slowness: Slowness, rng: &mut StdRng) -> Histograms {
    let canary = (0..RATE).filter(|_| rng.random_bool(WEIGHT)).count();
    Histograms {
        stable: requests(RATE - canary, healthy, rng),
        canary: requests(canary, slowness, rng),
    }
}

/// First second in which each process has what it needs, all judging the same requests; `patience` if it never has.
pub fn first_seconds<const N: usize>(
    start: impl Fn(&[u64]) -> [LatencyProcess; N],
    enough: impl Fn(&LatencyProcess) -> bool,
    slowness: Slowness,
    (seed, patience): (u64, usize),
) -> [usize; N] {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut processes = start(&history(&mut rng));
    let mut found = [patience; N];
    for now in 1..patience {
        let block = [second(slowness, &mut rng)];
        for (process, found) in processes.iter_mut().zip(&mut found) {
            process.tick(1.0, &block);
            if *found == patience && enough(process) {
                *found = now;
            }
        }
        if found.iter().all(|t| *t < patience) {
            break;
        }
    }
    found
}

/// The middle one of a column.
pub fn median<const N: usize>(all: &[[usize; N]], column: usize) -> usize {
    let mut times: Vec<usize> = all.iter().map(|row| row[column]).collect();
    times.sort_unstable();
    times[times.len() / 2]
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
