//! The fifteen ways a canary may be slower that the latency process bets on (evidence 2b).

use super::tilt::Tilt;
use serde::{Deserialize, Serialize};

/// Which bet, for the explanation of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Slower {
    /// The slowest `tail` of the requests `times` as frequent.
    Tail {
        /// Share of stable's requests in the tail.
        tail: f64,
        /// Factor before normalisation.
        times: f64,
    },
    /// Everything slower: likelihood ratio `exp(slope * rank)`.
    Everything {
        /// Log-likelihood ratio between the slowest and the fastest request.
        slope: f64,
    },
    /// The shape learned from the canary's own past.
    Learned,
}

/// All bets in the order of their weights; the learned one is last.
pub const ALTERNATIVES: [Slower; 15] = [
    Slower::Tail {
        tail: 0.5,
        times: 1.3,
    },
    Slower::Tail {
        tail: 0.5,
        times: 2.5,
    },
    Slower::Tail {
        tail: 0.2,
        times: 1.4,
    },
    Slower::Tail {
        tail: 0.2,
        times: 3.0,
    },
    Slower::Tail {
        tail: 0.05,
        times: 1.6,
    },
    Slower::Tail {
        tail: 0.05,
        times: 4.0,
    },
    Slower::Tail {
        tail: 0.01,
        times: 2.0,
    },
    Slower::Tail {
        tail: 0.01,
        times: 6.0,
    },
    Slower::Tail {
        tail: 0.001,
        times: 8.0,
    },
    Slower::Tail {
        tail: 0.001,
        times: 60.0,
    },
    Slower::Tail {
        tail: 0.0001,
        times: 60.0,
    },
    Slower::Tail {
        tail: 0.0001,
        times: 600.0,
    },
    Slower::Everything { slope: 0.5 },
    Slower::Everything { slope: 1.5 },
    Slower::Learned,
];

/// Capital of each bet: three quarters to the tilts fixed at the start, a quarter to the learned one; sums to 1.
pub const WEIGHTS: [f64; 15] = [
    0.06, 0.06, 0.06, 0.06, 0.06, 0.06, 0.0525, 0.0525, 0.0525, 0.0525, 0.0225, 0.0225, 0.0675, 0.0675, 0.25,
];

/// The tilts fixed at the start, in the order of [`ALTERNATIVES`]; the learned one is missing.
pub(super) fn fixed(p: &[f64]) -> Vec<Tilt> {
    ALTERNATIVES
        .iter()
        .filter_map(|kind| Some(Tilt::new(p, &factors(*kind, p)?)))
        .collect()
}

fn factors(kind: Slower, p: &[f64]) -> Option<Vec<f64>> {
    match kind {
        Slower::Tail { tail, times } => {
            let edge = edge_with_tail(p, tail, 1, p.len());
            Some(
                (0..p.len())
                    .map(|b| if b >= edge { times } else { 1.0 })
                    .collect(),
            )
        }
        Slower::Everything { slope } => Some(ranks(p).map(|rank| (slope * rank).exp()).collect()),
        Slower::Learned => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one() {
        assert!((WEIGHTS.iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }

    #[test]
    fn a_tail_starts_at_the_nearest_edge_and_never_at_the_first_bucket() {
        let p = [0.5, 0.3, 0.15, 0.04, 0.009, 0.001];
        let edges = [0.5, 0.2, 0.05, 0.01, 0.001, 1e-4].map(|tail| edge_with_tail(&p, tail, 1, p.len()));
        assert_eq!(edges, [1, 2, 3, 4, 5, 5]);
    }

    #[test]
    fn every_tilt_is_a_distribution_with_rising_ratio() {
        let p = [0.5, 0.3, 0.15, 0.04, 0.009, 0.001];
        for tilt in fixed(&p) {
            assert!((tilt.probabilities(&p).iter().sum::<f64>() - 1.0).abs() < 1e-14);
            let ratios: Vec<f64> = tilt.probabilities(&p).iter().zip(p).map(|(q, p)| q / p).collect();
            assert!(ratios.is_sorted_by(|a, b| *a <= b * (1.0 + 1e-14)), "{ratios:?}");
        }
    }
}
