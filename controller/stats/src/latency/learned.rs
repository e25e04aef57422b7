//! The learned alternative: the isotonic likelihood ratio of the canary's own past (evidence 2b).

use super::histograms::total;
use super::pools::{Pool, pooled};
use super::tilt::Tilt;

/// Ratios below are not believed: one fast request would cost the bet nearly everything.
const FLOOR: f64 = 0.02;

/// From past, shifted canary counts, the baseline `p` and pseudo-requests of it (positive; few learn soon and pay for
/// it): ratio of what was seen to what was expected, made monotone by pooling adjacent violators (weighted by `p`),
/// floored, normalised.
pub fn learned(canary: &[u64], p: &[f64], shrinkage: f64) -> Tilt {
    let all = total(canary) as f64 + shrinkage;
    let bucket = |(b, p): (usize, &f64)| {
        let count = canary.get(b).copied().unwrap_or(0) as f64;
        (count + shrinkage * p, all * p)
    };
    let pools = pooled(p.iter().enumerate().map(bucket));
    let ratio = |pool: &Pool| (pool.seen / pool.expected).max(FLOOR);
    let scale: f64 = pools.iter().map(|pool| ratio(pool) * (pool.expected / all)).sum();
    let mut tilt = Tilt::new(&[], &[]);
    pools
        .iter()
        .for_each(|pool| tilt.push(pool.to, ratio(pool) / scale));
    tilt
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [f64; 6] = [0.5, 0.3, 0.15, 0.04, 0.009, 0.001];

    #[test]
    fn nothing_learned_is_the_baseline() {
        let q = learned(&[0; 6], &P, 60.0).probabilities(&P);
        q.iter().zip(P).for_each(|(q, p)| assert!((q - p).abs() < 1e-15));
    }

    #[test]
    fn a_faster_canary_is_pooled_flat() {
        let q = learned(&[60, 0, 0, 0, 0, 0], &P, 60.0).probabilities(&P);
        q.iter().zip(P).for_each(|(q, p)| assert!((q - p).abs() < 1e-15));
    }

    #[test]
    fn a_dip_is_pooled_with_its_neighbours() {
        let q = learned(&[10, 60, 10, 20, 0, 0], &P, 60.0).probabilities(&P);
        let ratios: Vec<f64> = q.iter().zip(P).map(|(q, p)| q / p).collect();
        assert!(ratios.is_sorted_by(|a, b| *a <= b + 1e-12), "{ratios:?}");
        assert!((q.iter().sum::<f64>() - 1.0).abs() < 1e-14);
    }
}
