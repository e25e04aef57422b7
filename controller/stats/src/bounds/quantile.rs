//! Anytime bounds of quantiles from fixed buckets (evidence 2g), and of a whole distribution (2b).

use super::{nats, proportion};
use crate::counts::Arm;
use crate::latency::running;
use serde::{Deserialize, Serialize};

/// A quantile lies between two upper bucket edges, by bucket number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantileBounds {
    /// First bucket whose upper edge may lie at or above the quantile; `None` when all edges surely lie below.
    pub low: Option<usize>,
    /// First bucket whose upper edge surely lies at or above it; `None` when no finite edge does.
    pub high: Option<usize>,
}

/// Bounds of the quantile `p` of one arm, valid at every look with probability `1 - alpha`. `buckets` are counts;
/// the last one is the overflow and has no upper edge. No correction for the number of edges is needed: a bound
/// errs only when the one at the quantile's own edge does, for the bounds rise from edge to edge.
pub fn quantile(buckets: &[u64], p: f64, alpha: f64) -> QuantileBounds {
    let below = running(buckets);
    let all = below.last().copied().unwrap_or(0);
    let edges = &below[..below.len().saturating_sub(1)];
    let share = |below: &u64| proportion(Arm::new(all, *below), alpha);
    let first = |reaches: &dyn Fn(&u64) -> bool| {
        let edge = edges.partition_point(|below| !reaches(below));
        (edge < edges.len()).then_some(edge)
    };
    QuantileBounds {
        low: first(&|below| share(below).1 >= p),
        high: first(&|below| share(below).0 >= p),
    }
}

/// Radius of a band around the whole distribution of `t` requests, valid for all `t >= m` at once (Howard and Ramdas,
/// "Sequential estimation of quantiles", corollary 2; their own program finds a constant that makes it 1 % smaller,
/// so this closed form is on the safe side). For a chart: nine p99 tails wide after 1000 requests. `None` for `t < m`.
pub fn dkw_radius(t: u64, m: u64, alpha: f64) -> Option<f64> {
    if m == 0 || t < m {
        return None;
    }
    let (t, m) = (t as f64, m as f64);
    let iterated = (1.0 + (t / m).ln()).ln();
    let constant = 0.8 * (1612.0_f64.ln() + nats(alpha));
    Some(0.85 * ((iterated + constant) / t).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_close_in_on_the_median() {
        let few = quantile(&[1, 2, 4, 2, 1, 0], 0.5, 0.05);
        let many = quantile(&[100_000, 200_000, 400_000, 200_000, 100_000, 0], 0.5, 0.05);
        assert_eq!(
            many,
            QuantileBounds {
                low: Some(2),
                high: Some(2)
            }
        );
        assert!(
            few.low <= many.low && few.high.is_none_or(|high| high > 2),
            "{few:?}"
        );
    }

    #[test]
    fn a_quantile_in_the_overflow_has_no_upper_bound() {
        assert_eq!(
            quantile(&[50, 0, 50_000], 0.99, 0.05),
            QuantileBounds {
                low: None,
                high: None
            }
        );
        assert_eq!(
            quantile(&[], 0.5, 0.05),
            QuantileBounds {
                low: None,
                high: None
            }
        );
        assert_eq!(
            quantile(&[0, 0], 0.5, 0.05),
            QuantileBounds {
                low: Some(0),
                high: None
            }
        );
    }

    #[test]
    fn the_band_agrees_with_the_authors_program_to_one_percent() {
        let theirs = 0.08204769;
        let ours = dkw_radius(1000, 100, 0.05).unwrap();
        assert!(ours > theirs && ours < 1.01 * theirs, "{ours}");
        assert_eq!(dkw_radius(5, 6, 0.05), None);
        assert_eq!(dkw_radius(5, 0, 0.05), None);
    }
}
