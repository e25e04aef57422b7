//! "Not slower at the quantiles that matter": the promotion side of latency (evidence 2b).

use super::histograms::{Histograms, total};
use super::shapes::{edge_with_tail, tails};
use crate::baseline::Baseline;
use crate::counts::Arm;
use crate::halfplane::{Margin, Rates, Side, log_e};
use crate::information::information;
use serde::{Deserialize, Serialize};

/// One quantile to prove: stable above `edge` against canary above `edge + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Proof {
    edge: usize,
    shifted: usize,
    margin: Margin,
}

/// Share of stable's requests above both edges of a proof: what a canary as fast as stable would show. It follows
/// stable, whose latencies change with the load; a frozen one would keep good canaries from being promoted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Slow {
    edge: Baseline,
    shifted: Baseline,
}

/// Quantiles to prove, as the share of requests above them: p50, p95, p99.
pub(super) const TAILS: [f64; 3] = [0.5, 0.05, 0.01];

/// Edges whose stable tail is larger than this many targets prove too little: "fewer than all are slower".
const LARGEST_TAIL: f64 = 1.5;

/// One proof a quantile. The edge is the one whose stable tail is nearest, among those that are not far above the
/// target and leave `shift` buckets above: a canary pushed into the overflow could not be told from one beyond it.
/// `allowance` is the part of each tail by which the canary's may be larger: without any, a service whose latencies
/// lie in one bucket, or leave a gap at the edge, could never be proven as fast as itself.
pub(super) fn proofs(p: &[f64], shift: usize, allowance: f64) -> [Proof; 3] {
    let tails = tails(p);
    let end = p.len().saturating_sub(shift);
    TAILS.map(|tail| {
        let enough = tails.partition_point(|t| *t > LARGEST_TAIL * tail);
        let edge = edge_with_tail(p, tail, enough.min(end.saturating_sub(1)), end);
        let shifted = edge + shift;
        Proof {
            edge,
            shifted,
            // Where more than the target lies above the last edge, a part of that is allowed: else nothing is proven.
            margin: Margin::new(
                1.0,
                allowance * tail.max(tails.get(shifted).copied().unwrap_or(0.0)),
            )
            .unwrap_or(Margin::NONE),
        }
    })
}

impl Proof {
    /// Where [`Slow`] begins: stable's past.
    pub fn slow(&self, history: &[u64]) -> Slow {
        Slow {
            edge: Baseline::new(above(history, self.edge)),
            shifted: Baseline::new(above(history, self.shifted)),
        }
    }

    /// Evidence of one block that the canary is at most `shift` buckets slower at this quantile, or by the allowance.
    pub fn log_e(&self, slow: &Slow, block: &Histograms) -> f64 {
        let alternative = Rates {
            stable: slow.edge.rate(),
            canary: slow.shifted.rate(),
        };
        let counts = block.slower_than(self.edge, self.shifted);
        log_e(&counts, alternative, self.margin, Side::Good)
    }

    /// Nats per request, both arms counted, by which a canary with stable's probabilities of buckets is proven.
    pub fn information(&self, stable: &[f64], weight: f64) -> f64 {
        let slower = |edge: usize| stable.get(edge..).unwrap_or(&[]).iter().sum();
        let rates = Rates {
            stable: slower(self.edge),
            canary: slower(self.shifted),
        };
        information(rates, weight, self.margin, Side::Good)
    }

    /// A tick of `dt` seconds, to be called after its blocks have been used.
    pub fn follow(&self, slow: &mut Slow, dt: f64, blocks: &[Histograms]) {
        let sum = |edge: usize| {
            let arms = blocks.iter().map(|block| above(&block.stable, edge));
            arms.fold(Arm::default(), Arm::plus)
        };
        slow.edge.tick(dt, sum(self.edge));
        slow.shifted.tick(dt, sum(self.shifted));
    }
}

fn above(buckets: &[u64], edge: usize) -> Arm {
    Arm::new(total(buckets), total(buckets.get(edge..).unwrap_or(&[])))
}
