//! "Not slower at the quantiles that matter": the promotion side of latency (evidence 2b).

use super::alternatives::{edge_with_tail, tails};
use super::histograms::Histograms;
use crate::halfplane::{Margin, Rates, Side, log_e};

/// One quantile to prove: stable above `edge` against canary above `edge + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Proof {
    edge: usize,
    shifted: usize,
    alternative: Rates,
}

/// Quantiles to prove, as the share of requests above them: p50, p95, p99.
pub(super) const TAILS: [f64; 3] = [0.5, 0.05, 0.01];

/// One proof a quantile. The edge is the one whose stable tail is nearest, among those that leave `shift` buckets
/// above: a canary pushed into the overflow could not be told from one beyond it.
pub(super) fn proofs(p: &[f64], shift: usize) -> [Proof; 3] {
    let tails = tails(p);
    let end = p.len().saturating_sub(shift);
    TAILS.map(|tail| {
        let edge = edge_with_tail(p, tail, end);
        let shifted = edge + shift;
        let share = |edge: usize| tails.get(edge).copied().unwrap_or(0.0);
        Proof {
            edge,
            shifted,
            alternative: Rates {
                stable: share(edge),
                canary: share(shifted),
            },
        }
    })
}

impl Proof {
    /// Evidence of one block that the canary is at most `shift` buckets slower at this quantile.
    pub fn log_e(&self, block: &Histograms) -> f64 {
        let slow = block.slower_than(self.edge, self.shifted);
        log_e(&slow, self.alternative, Margin::NONE, Side::Good)
    }
}
