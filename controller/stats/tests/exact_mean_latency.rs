//! Validity of the latency bets without sampling: the mean over *all* outcomes of small blocks of three buckets, for
//! every pair of distributions on a grid in which the canary is stochastically at most as slow as stable.

use stats::capital::Spread;
use stats::errors::Phi;
use stats::latency::{Family, Histograms, LatencyConfig, LatencyProcess, Tilt, Totals};

/// Rounding of sums over some hundred outcomes.
const ROUNDING: f64 = 1e-12;

const P: [f64; 3] = [0.6, 0.3, 0.1];

type Buckets = [f64; 3];

/// All ways to put `n` requests into three buckets.
fn outcomes(n: u64) -> Vec<[u64; 3]> {
    (0..=n)
        .flat_map(|a| (0..=n - a).map(move |b| [a, b, n - a - b]))
        .collect()
}

fn multinomial(counts: &[u64; 3], p: &Buckets) -> f64 {
    let factorial = |n: u64| (1..=n).product::<u64>() as f64;
    let ways = factorial(counts.iter().sum()) / counts.iter().map(|n| factorial(*n)).product::<f64>();
    ways * counts
        .iter()
        .zip(p)
        .map(|(n, p)| p.powi(*n as i32))
        .product::<f64>()
}

/// Pairs (stable, canary) with each tail of the canary at most stable's, in steps of 1/8.
fn null_grid() -> Vec<(Buckets, Buckets)> {
    let steps = |most: u32| (0..=most).map(|i| (i, f64::from(i) / 8.0));
    let all: Vec<(f64, f64)> = steps(8)
        .flat_map(|(i, first)| steps(i).map(move |(_, second)| (first, second)))
        .collect();
    let buckets = |(first, second): (f64, f64)| [1.0 - first, first - second, second];
    let ordered = |s: &(f64, f64), c: &(f64, f64)| c.0 <= s.0 && c.1 <= s.1;
    let pairs = all.iter().flat_map(|s| all.iter().map(move |c| (*s, *c)));
    pairs
        .filter(|(s, c)| ordered(s, c))
        .map(|(s, c)| (buckets(s), buckets(c)))
        .collect()
}

/// Every outcome of a block of three stable and two canary requests.
fn blocks() -> Vec<([u64; 3], [u64; 3])> {
    let (stable, canary) = (outcomes(3), outcomes(2));
    stable
        .iter()
        .flat_map(|s| canary.iter().map(move |c| (*s, *c)))
        .collect()
}

fn block((stable, canary): &([u64; 3], [u64; 3])) -> Histograms {
    Histograms {
        stable: stable.to_vec(),
        canary: canary.to_vec(),
    }
}

/// Largest mean of `e` over the null grid.
fn largest_mean(e: impl Fn(&Histograms) -> f64) -> f64 {
    let values: Vec<_> = blocks()
        .into_iter()
        .map(|outcome| (outcome, e(&block(&outcome))))
        .collect();
    let mean = |(s, c): (Buckets, Buckets)| -> f64 {
        values
            .iter()
            .map(|((hs, hc), e)| multinomial(hs, &s) * multinomial(hc, &c) * e)
            .sum()
    };
    null_grid().into_iter().map(mean).fold(0.0, f64::max)
}

#[test]
fn mean_of_a_tilt_is_at_most_one_in_the_null() {
    let largest = largest_mean(|block| Tilt::new(&P, &[1.0, 1.5, 6.0]).log_e(&Totals::new(block)).exp());
    assert!(largest <= 1.0 + ROUNDING, "{largest}");
    assert!(
        (largest - 0.99986).abs() < 1e-5,
        "the prototype finds 0.99986, not {largest}"
    );
}

/// Baselines of three buckets on which every bet of both families is tried: plain, with a gap, and rising.
const BASELINES: [Buckets; 3] = [P, [0.7, 1e-9, 0.3], [0.05, 0.15, 0.8]];

#[test]
fn mean_of_every_bet_of_every_family_is_at_most_one_in_the_null() {
    for p in BASELINES {
        for tilt in [Family::Reference, Family::Broad]
            .iter()
            .flat_map(|f| f.tilts(&p))
        {
            let largest = largest_mean(|block| tilt.log_e(&Totals::new(block)).exp());
            assert!(largest <= 1.0 + ROUNDING, "{p:?} {tilt:?}: {largest}");
        }
    }
}

fn process(promote_shift: usize, family: Family) -> LatencyProcess {
    let spread = Spread::new(0.7, 10.0).expect("a valid spread");
    let config = LatencyConfig {
        shift: 0,
        promote_shift,
        allowance: 0.0,
        phi: Phi::ONE,
        spread,
        family,
    };
    LatencyProcess::new(config, &[60, 30, 10]).expect("enough buckets")
}

#[test]
fn the_whole_mixture_with_its_learned_part_stays_at_most_one() {
    let pasts = [[0, 0, 9], [9, 0, 0], [0, 9, 0], [3, 3, 3]];
    let families = [Family::Reference, Family::Broad];
    for (past, family) in pasts
        .iter()
        .flat_map(|past| families.map(|family| (*past, family)))
    {
        let mut start = process(0, family);
        start.tick(1.0, &[block(&([6, 3, 1], past))]);
        let before = start.log_roll();
        let largest = largest_mean(|block| {
            let mut next = start.clone();
            next.tick(1.0, std::slice::from_ref(block));
            (next.log_roll() - before).exp()
        });
        assert!(largest <= 1.0 + ROUNDING, "{family:?} {past:?}: {largest}");
    }
}

#[test]
fn promotion_of_a_slower_canary_is_never_favourable() {
    // The null of each quantile: canary above edge + 1 at least as often as stable above the edge. One bucket of
    // four between the edges, the canary exactly one bucket slower.
    let start = LatencyProcess::new(
        LatencyConfig {
            shift: 0,
            promote_shift: 1,
            ..LatencyConfig::default()
        },
        &[50, 40, 9, 1],
    )
    .expect("enough buckets");
    for tail in [0.1, 0.3, 0.7] {
        let mut means = [0.0; 3];
        for (stable_slow, canary_slow) in (0..=3u64).flat_map(|s| (0..=2u64).map(move |c| (s, c))) {
            let histogram = |n: u64, slow: u64, edge: usize| {
                let mut buckets = vec![0; 4];
                (buckets[0], buckets[edge]) = (n - slow, slow);
                buckets
            };
            let mut next = start.clone();
            next.tick(
                1.0,
                &[Histograms {
                    stable: histogram(3, stable_slow, 2),
                    canary: histogram(2, canary_slow, 3),
                }],
            );
            let chance = |n: u64, slow: u64| multinomial(&[n - slow, slow, 0], &[1.0 - tail, tail, 0.0]);
            for (mean, log) in means.iter_mut().zip(next.log_promote_by_quantile()) {
                *mean += chance(3, stable_slow) * chance(2, canary_slow) * log.exp();
            }
        }
        assert!(
            means.iter().all(|mean| *mean <= 1.0 + ROUNDING),
            "{tail}: {means:?}"
        );
    }
}
