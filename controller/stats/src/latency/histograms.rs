//! Latency histograms of both arms: one block of evidence about latency.

use crate::blocks::Tally;
use crate::counts::{Arm, Counts};
use serde::{Deserialize, Serialize};

/// Requests per latency bucket, both arms over the same seconds, proxy and split hash. Buckets are log-spaced with
/// the same edges in both arms; bucket `b` starts at edge `b`, the last one is the overflow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histograms {
    /// Of stable.
    pub stable: Vec<u64>,
    /// Of the canary.
    pub canary: Vec<u64>,
}

impl Histograms {
    /// "Slower than an edge" as bad requests, for the formulas of errors: requests in bucket `stable_edge` or above
    /// of stable, in `canary_edge` or above of the canary.
    pub fn slower_than(&self, stable_edge: usize, canary_edge: usize) -> Counts {
        let arm = |buckets: &[u64], edge: usize| {
            Arm::new(total(buckets), total(buckets.get(edge..).unwrap_or(&[])))
        };
        Counts {
            stable: arm(&self.stable, stable_edge),
            canary: arm(&self.canary, canary_edge),
        }
    }

    /// The block as the null of a margin sees it: the canary `shift` buckets faster.
    pub(crate) fn shifted(&self, shift: usize) -> Histograms {
        Histograms {
            stable: self.stable.clone(),
            canary: shift_down(&self.canary, shift),
        }
    }

    /// Both arms with exactly `buckets` buckets: what lies above belongs to the overflow.
    pub(crate) fn fitted(&self, buckets: usize) -> Histograms {
        Histograms {
            stable: fit(&self.stable, buckets),
            canary: fit(&self.canary, buckets),
        }
    }
}

impl Tally for Histograms {
    fn requests(&self) -> (u64, u64) {
        (total(&self.stable), total(&self.canary))
    }

    fn absorb(&mut self, tick: &Histograms) {
        add(&mut self.stable, &tick.stable);
        add(&mut self.canary, &tick.canary);
    }
}

/// Moves a histogram `shift` buckets down; the lowest `shift + 1` merge. With bucket growth `G`, "shifted canary
/// stochastically below stable" says that every quantile of the canary is at most `G^shift` times stable's.
pub fn shift_down(buckets: &[u64], shift: usize) -> Vec<u64> {
    let merged = (shift + 1).min(buckets.len());
    let (low, high) = buckets.split_at(merged);
    let mut shifted = vec![0; buckets.len()];
    if let [first, rest @ ..] = shifted.as_mut_slice() {
        *first = total(low);
        rest[..high.len()].copy_from_slice(high);
    }
    shifted
}

/// Where the quantile `p` lies: the bucket, and the part of it that is below, 0 to 1. `None` without requests.
pub fn quantile(buckets: &[u64], p: f64) -> Option<(usize, f64)> {
    let wanted = p * total(buckets) as f64;
    let below = running(buckets);
    let bucket = below.iter().position(|sum| *sum > 0 && *sum as f64 >= wanted)?;
    let inside = *buckets.get(bucket)? as f64;
    let before = *below.get(bucket)? as f64 - inside;
    Some((bucket, ((wanted - before) / inside.max(1.0)).clamp(0.0, 1.0)))
}

/// Adds bucket by bucket, saturating; grows to the longer one.
pub(crate) fn add(sum: &mut Vec<u64>, more: &[u64]) {
    sum.resize(sum.len().max(more.len()), 0);
    sum.iter_mut()
        .zip(more)
        .for_each(|(s, m)| *s = s.saturating_add(*m));
}

pub(crate) fn total(buckets: &[u64]) -> u64 {
    buckets.iter().fold(0, |sum, n| sum.saturating_add(*n))
}

/// Requests in each bucket or below, saturating.
pub(crate) fn running(buckets: &[u64]) -> Vec<u64> {
    let sum = |sum: &mut u64, n: &u64| {
        *sum = sum.saturating_add(*n);
        Some(*sum)
    };
    buckets.iter().scan(0, sum).collect()
}

fn fit(buckets: &[u64], wanted: usize) -> Vec<u64> {
    let mut fitted = buckets.to_vec();
    fitted.resize(wanted, 0);
    if let (Some(last), Some(above)) = (fitted.last_mut(), buckets.get(wanted..)) {
        *last = last.saturating_add(total(above));
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifting_merges_the_lowest_buckets_and_keeps_every_request() {
        assert_eq!(shift_down(&[1, 2, 3, 4], 0), [1, 2, 3, 4]);
        assert_eq!(shift_down(&[1, 2, 3, 4], 1), [3, 3, 4, 0]);
        assert_eq!(shift_down(&[1, 2, 3, 4], 9), [10, 0, 0, 0]);
        assert_eq!(shift_down(&[], 1), [0; 0]);
    }

    #[test]
    fn buckets_above_the_known_ones_are_overflow() {
        assert_eq!(fit(&[1, 2, 3, 4], 2), [1, 9]);
        assert_eq!(fit(&[1], 3), [1, 0, 0]);
    }

    #[test]
    fn a_quantile_is_a_bucket_and_a_part_of_it() {
        assert_eq!(quantile(&[5, 10, 5, 0], 0.5), Some((1, 0.5)));
        assert_eq!(quantile(&[0, 4, 0], 0.0), Some((1, 0.0)));
        assert_eq!(quantile(&[0, 4, 0], 1.0), Some((1, 1.0)));
        assert_eq!(quantile(&[0, 0], 0.5), None);
    }

    #[test]
    fn slower_than_counts_from_the_edge_up() {
        let block = Histograms {
            stable: vec![5, 3, 1],
            canary: vec![2, 1, 1],
        };
        assert_eq!(block.slower_than(1, 2), Counts::new((9, 4), (4, 1)));
        assert_eq!(block.slower_than(7, 7), Counts::new((9, 0), (4, 0)));
    }
}
