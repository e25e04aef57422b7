//! What slowness looks like: ratio of alternative to baseline, bucket by bucket, for each kind of bet (evidence 2b).
//!
//! No ratio ever falls from bucket to bucket: validity against every canary at most as slow as stable rests on that.

use super::pools::{Pool, pooled};
use statrs::function::erf::erfc_inv;
use std::f64::consts::SQRT_2;

/// Buckets in which latency doubles: their edges grow by 2^(1/4). The one place where the width of a bucket matters;
/// whoever counts with other edges must say so here.
pub const BUCKETS_PER_OCTAVE: f64 = 4.0;

/// Ranks nearer to 0 or 1 than a history of ten minutes can tell.
const LAST_RANK: f64 = 1e-6;

/// Smallest probability of an alternative: what it calls impossible would cost it everything.
const LEAST: f64 = 1e-12;

/// Smallest probability of a baseline; below half a request among all that a `u64` counts.
const LEAST_BASELINE: f64 = 1e-24;

/// The slowest `tail` of the baseline `times` as frequent.
pub(super) fn step(p: &[f64], tail: f64, times: f64) -> Vec<f64> {
    let edge = edge_with_tail(p, tail, 1, p.len());
    let factor = |b: usize| if b >= edge { times } else { 1.0 };
    (0..p.len()).map(factor).collect()
}

/// `exp(slope * rank)`.
pub(super) fn ranked(p: &[f64], slope: f64) -> Vec<f64> {
    ranks(p).map(|rank| (slope * rank).exp()).collect()
}

/// `exp(slope * z)`, `z` being the normal quantile of the rank.
pub(super) fn scored(p: &[f64], slope: f64) -> Vec<f64> {
    let factor = |rank: f64| (slope * normal_quantile(rank.clamp(LAST_RANK, 1.0 - LAST_RANK))).exp();
    // The quantile is an approximation: rounding may not make a ratio fall.
    ranks(p)
        .scan(0.0, |highest, rank| {
            *highest = f64::max(*highest, factor(rank));
            Some(*highest)
        })
        .collect()
}

/// A part `share` of the requests slower by the factor `times`, at least 1.
pub(super) fn slower(p: &[f64], share: f64, times: f64) -> Vec<f64> {
    let ratios = rising(&moved(p, times), p);
    // Pooling commutes with this line: the mixture's ratio pools just where the moved one does.
    ratios.iter().map(|r| (1.0 - share) + share * r).collect()
}

/// Edge in `first..end`, but not 0, above which the share of the baseline is nearest to `target`, by ratio.
pub(super) fn edge_with_tail(p: &[f64], target: f64, first: usize, end: usize) -> usize {
    let tails = tails(p);
    let distance = |edge: usize| ((tails[edge] + 1e-12).ln() - target.ln()).abs();
    (first.max(1)..end.min(p.len()))
        .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
        .unwrap_or(0)
}

/// Probability of each bucket or any above.
pub(super) fn tails(p: &[f64]) -> Vec<f64> {
    let mut tails = p.to_vec();
    for b in (1..tails.len()).rev() {
        tails[b - 1] += tails[b];
    }
    tails
}

/// Middle rank of each bucket, from 0 to 1.
fn ranks(p: &[f64]) -> impl Iterator<Item = f64> {
    p.iter().scan(0.0, |below, p| {
        *below += p;
        Some(*below - p / 2.0)
    })
}

/// For a rank strictly between 0 and 1.
fn normal_quantile(rank: f64) -> f64 {
    -SQRT_2 * erfc_inv(2.0 * rank)
}

/// The histogram of requests that are all slower by a factor. A move by a part of a bucket splits each bucket between
/// the two that it reaches; what leaves at the top is overflow.
fn moved(p: &[f64], times: f64) -> Vec<f64> {
    let buckets = times.log2() * BUCKETS_PER_OCTAVE;
    let (whole, part) = (buckets.trunc() as usize, buckets.fract());
    let last = p.len().saturating_sub(1);
    let mut moved = vec![0.0; p.len()];
    for (b, p) in p.iter().enumerate() {
        let target = b.saturating_add(whole);
        moved[target.min(last)] += p * (1.0 - part);
        moved[target.saturating_add(1).min(last)] += p * part;
    }
    moved
}

/// The ratio of `q` to `p` made monotone: a thin history is rugged, and the null asks for a ratio that never falls.
pub(super) fn rising(q: &[f64], p: &[f64]) -> Vec<f64> {
    let pairs = q.iter().zip(p);
    let pools = pooled(pairs.map(|(q, p)| (q.max(LEAST), p.max(LEAST_BASELINE))));
    let scale: f64 = pools.iter().map(|pool| pool.seen).sum();
    pools
        .iter()
        .scan(0, |from, pool| Some((std::mem::replace(from, pool.to), pool)))
        .flat_map(|(from, pool)| vec![ratio(pool) / scale; pool.to - from])
        .collect()
}

fn ratio(pool: &Pool) -> f64 {
    pool.seen / pool.expected
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [f64; 6] = [0.5, 0.3, 0.15, 0.04, 0.009, 0.001];

    #[test]
    fn a_tail_starts_at_the_nearest_edge_and_never_at_the_first_bucket() {
        let edges = [0.5, 0.2, 0.05, 0.01, 0.001, 1e-4].map(|tail| edge_with_tail(&P, tail, 1, P.len()));
        assert_eq!(edges, [1, 2, 3, 4, 5, 5]);
    }

    #[test]
    fn twice_as_slow_is_four_buckets_and_the_top_takes_what_leaves() {
        let up = moved(&P, 2.0);
        assert_eq!(up[..4], [0.0; 4]);
        assert!(
            (up[4] - 0.5).abs() < 1e-15 && (up[5] - 0.5).abs() < 1e-15,
            "{up:?}"
        );
        assert!((moved(&P, 1e300)[5] - 1.0).abs() < 1e-15);
    }

    #[test]
    fn half_a_bucket_splits_every_bucket_in_two() {
        let up = moved(&P, 2f64.powf(0.125));
        for (found, expected) in up.iter().zip([0.25, 0.4, 0.225, 0.095, 0.0245, 0.0055]) {
            assert!((found - expected).abs() < 1e-12, "{up:?}");
        }
    }

    #[test]
    fn a_gap_in_the_baseline_does_not_make_the_ratio_fall() {
        let gap = [0.5, 0.0, 0.0, 0.3, 0.0, 0.2];
        for (share, times) in [(1.0, 1.25), (1.0, 2.0), (0.01, 10.0)] {
            let ratios = slower(&gap, share, times);
            assert!(ratios.is_sorted(), "{ratios:?}");
            assert!(ratios.iter().all(|r| r.is_finite() && *r > 0.0), "{ratios:?}");
        }
        assert!(scored(&gap, 0.15).is_sorted());
    }

    #[test]
    fn the_normal_quantile_is_that_of_the_tables() {
        for (rank, z) in [(0.5, 0.0), (0.975, 1.959963984540054), (1e-6, -4.753424308822899)] {
            assert!((normal_quantile(rank) - z).abs() < 1e-9, "{rank}");
        }
    }
}
