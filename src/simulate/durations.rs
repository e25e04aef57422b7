//! How long requests take: log-normal, half of them within 50 ms, 1 % above 202 ms; and what a canary makes of that.

use super::{draw::Kinds, worlds::Delay};
use controller::contract::{
    evidence::{Served, Tally},
    latency::{EDGES, edge_seconds},
};
use rand::Rng;

/// Median of a healthy version, seconds.
const MEDIAN: f64 = 0.05;
/// Standard deviation of the log.
const SIGMA: f64 = 0.6;
/// 99 % of a healthy version's requests take less, seconds: `MEDIAN * exp(2.3263 * SIGMA)`.
const P99: f64 = 0.201_900;
/// Ages at which good answers are counted, seconds.
const AGES: [f64; 2] = [0.5, 1.0];
/// Cells: the buckets, cut once more at stable's p99 and at each age.
const CELLS: usize = EDGES + 4;

/// Requests by duration, in cells of rising durations.
pub type Cells = [u64; CELLS];

/// No request.
pub const NONE: Cells = [0; CELLS];

/// The durations of one world.
#[derive(Debug)]
pub struct Durations {
    /// Where each cell ends, seconds; the last one never does.
    edges: [f64; CELLS],
    /// Bucket of each cell.
    bucket: [u16; CELLS],
    /// Of stable and the canary.
    kinds: [Kinds; 2],
    /// First cell of the slow ones, and first cells above each age.
    slow: usize,
    above: [usize; 2],
}

impl Durations {
    /// Of stable, and of a canary with this delay.
    pub fn of(delay: Delay) -> Durations {
        let edges = edges();
        let first_above = |age: f64| edges.iter().filter(|e| **e <= age).count();
        let shares = |delay| Kinds::of(&shares(&edges, delay));
        Durations {
            edges,
            bucket: edges.map(|edge| (0..EDGES).filter(|i| edge_seconds(*i) < edge).count() as u16),
            kinds: [shares(Delay::Usual), shares(delay)],
            slow: first_above(P99),
            above: AGES.map(first_above),
        }
    }

    /// Adds the durations of `n` requests of a track.
    pub fn add(&self, track: usize, n: u64, cells: &mut Cells, rng: &mut impl Rng) {
        if let Some(kinds) = self.kinds.get(track) {
            kinds.add(n, cells, rng);
        }
    }

    /// Requests that took longer than 99 % of a healthy version's.
    pub fn slow(&self, cells: &Cells) -> u64 {
        cells.iter().skip(self.slow).sum()
    }

    /// Draws the durations of requests that have all ended into their tally, and gives the cells.
    pub fn fill(&self, track: usize, tally: &mut Tally, rng: &mut impl Rng) -> Cells {
        let mut cells = NONE;
        let bad = tally.bad.ever;
        self.add(track, tally.finished - bad, &mut cells, rng);
        let [by_500ms, by_1s] = self.above.map(|end| cells.iter().take(end).sum());
        tally.served = Served { by_500ms, by_1s };
        self.add(track, bad, &mut cells, rng);
        self.pairs(&cells, &mut tally.latency);
        cells
    }

    /// As a page tells them.
    pub fn pairs(&self, cells: &Cells, pairs: &mut Vec<(u16, u64)>) {
        pairs.clear();
        for (bucket, n) in self.bucket.iter().zip(cells).filter(|(_, n)| **n > 0) {
            match pairs.last_mut().filter(|(last, _)| last == bucket) {
                Some((_, sum)) => *sum += n,
                None => pairs.push((*bucket, *n)),
            }
        }
    }

    /// Quantile, seconds, by the straight line within a cell; infinite in the last one, `None` without a request.
    pub fn quantile(&self, cells: &Cells, p: f64) -> Option<f64> {
        let all: u64 = cells.iter().sum();
        let mut left = p * all as f64;
        for (i, n) in cells.iter().enumerate().filter(|(_, n)| **n > 0) {
            let n = *n as f64;
            if left <= n {
                let low = if i == 0 { 0.0 } else { self.edges[i - 1] };
                return Some(low + (self.edges[i] - low) * left / n);
            }
            left -= n;
        }
        None
    }
}

/// Rising; the last one is infinite.
fn edges() -> [f64; CELLS] {
    let mut edges = [f64::INFINITY; CELLS];
    let cuts = [P99, AGES[0], AGES[1]];
    let finite = (0..EDGES).map(edge_seconds).chain(cuts);
    edges.iter_mut().zip(finite).for_each(|(edge, cut)| *edge = cut);
    edges.sort_by(f64::total_cmp);
    edges
}

/// Chance of each cell.
fn shares(edges: &[f64; CELLS], delay: Delay) -> [f64; CELLS] {
    let mut before = 0.0;
    edges.map(|edge| {
        let below: f64 = delay
            .parts()
            .iter()
            .map(|(share, factor)| share * within(edge / factor))
            .sum();
        let share = (below - before).max(0.0);
        before = below;
        share
    })
}

/// Share of a healthy version's requests that take at most so many seconds.
fn within(seconds: f64) -> f64 {
    let z = (seconds / MEDIAN).ln() / SIGMA;
    0.5 * erfc(-z * std::f64::consts::FRAC_1_SQRT_2)
}

/// Complementary error function by a rational fit in Chebyshev form: relative error below 1.2e-7 everywhere.
fn erfc(x: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    if x.is_infinite() {
        return if x > 0.0 { 0.0 } else { 2.0 };
    }
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let series = FIT.iter().rev().fold(0.0, |sum, c| sum * t + c);
    let above = t * (-x * x + series).exp();
    if x >= 0.0 { above } else { 2.0 - above }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::contract::{evidence::Bad, latency::bucket};
    use rand::{SeedableRng, rngs::SmallRng};

    fn drawn(delay: Delay, n: u64) -> (Durations, Cells) {
        let (durations, mut cells) = (Durations::of(delay), NONE);
        durations.add(1, n, &mut cells, &mut SmallRng::seed_from_u64(1));
        (durations, cells)
    }

    #[test]
    fn quantiles_are_those_of_the_distribution() {
        for (delay, median, p99) in [(Delay::Usual, 0.05, 0.2019), (Delay::Times(2.0), 0.1, 0.4038)] {
            let (durations, cells) = drawn(delay, 1_000_000);
            for (p, expected) in [(0.5, median), (0.99, p99)] {
                let found = durations.quantile(&cells, p).unwrap();
                assert!((found / expected - 1.0).abs() < 0.02, "{p} {found}");
            }
        }
        assert_eq!(drawn(Delay::Usual, 0).0.quantile(&NONE, 0.5), None);
    }

    #[test]
    fn one_in_a_hundred_is_slow_and_a_slow_tail_twice_as_many() {
        for (delay, share) in [(Delay::Usual, 0.01), (Delay::Tail(0.01, 10.0), 0.0197)] {
            let (durations, cells) = drawn(delay, 1_000_000);
            let found = durations.slow(&cells) as f64 / 1e6;
            assert!((found / share - 1.0).abs() < 0.05, "{found}");
        }
    }

    #[test]
    fn a_tally_tells_its_durations_and_who_was_served() {
        let mut tally = Tally {
            started: 50_000,
            finished: 50_000,
            bad: Bad {
                ever: 10_000,
                ..Bad::default()
            },
            ..Tally::default()
        };
        let durations = Durations::of(Delay::Times(10.0));
        let cells = durations.fill(1, &mut tally, &mut SmallRng::seed_from_u64(2));
        assert_eq!(cells.iter().sum::<u64>(), 50_000);
        assert_eq!(tally.latency.iter().map(|(_, n)| n).sum::<u64>(), 50_000);
        assert!(tally.latency.windows(2).all(|w| w[0].0 < w[1].0));
        // Half of the good ones within half a second, 87.6 % within a second.
        let near = |found: u64, share: f64| (found as f64 / 40_000.0 - share).abs() < 0.01;
        assert!(near(tally.served.by_500ms, 0.5) && near(tally.served.by_1s, 0.876));
    }

    #[test]
    fn cells_lie_in_the_buckets_of_their_durations() {
        let durations = Durations::of(Delay::Usual);
        for (i, edge) in durations.edges.iter().enumerate().filter(|(_, e)| e.is_finite()) {
            let inside = (edge * 1e9 * (1.0 - 1e-6)) as u64;
            assert_eq!(usize::from(durations.bucket[i]), bucket(inside), "{edge}");
        }
        assert_eq!(usize::from(durations.bucket[CELLS - 1]), EDGES);
    }
}
