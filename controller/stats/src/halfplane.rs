//! The e-value of one block against a half-plane of error rates (evidence 2a).
//!
//! Null `Worse`: `qC <= ratio * qS + absolute`. Null `Good`: the other side of the same line. A bet names one
//! alternative, finds its projection on the line, and pays the likelihood ratio of the two. It is valid for any
//! block means in the null: no common rate, no equal distribution, no approximation.

mod margin;

pub use margin::Margin;

use crate::counts::Counts;
use serde::{Deserialize, Serialize};

/// Error rates of both arms, each a probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Of stable.
    pub stable: f64,
    /// Of the canary.
    pub canary: f64,
}

/// Which half-plane the block is evidence against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Evidence that the canary is worse than the margin (rollback).
    Worse,
    /// Evidence that the canary is better than the margin (promotion).
    Good,
}

/// An alternative and its projection on the line, for one block size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bet {
    /// Where the bet believes the rates to be.
    pub alternative: Rates,
    /// The point of the line nearest to it, in nats of this block.
    pub projection: Rates,
}

/// Smallest distance of any rate from 0 and 1: logarithms stay finite, and no count reaches the difference.
const EDGE: f64 = 1e-12;

/// Relative step after which the projection is exact to rounding (Newton squares the error).
const TOLERANCE: f64 = 1e-14;

/// Newton needs about six steps, bisection alone fifty; a hundred ends any pathological case.
const MAX_STEPS: usize = 100;

impl Bet {
    /// The bet on `alternative` for a block of `stable` and `canary` requests (any positive sizes, or shares).
    /// `None` where there is nothing to bet on: an arm is empty, or the alternative lies inside the null.
    pub fn place(stable: f64, canary: f64, alternative: Rates, margin: Margin, side: Side) -> Option<Bet> {
        let alternative = inner(alternative);
        let line = margin.line(alternative.stable);
        let outside = match side {
            Side::Worse => alternative.canary > line,
            Side::Good => alternative.canary < line,
        };
        let two_arms = stable > 0.0 && canary > 0.0;
        (outside && two_arms).then(|| Bet {
            alternative,
            projection: project(stable, canary, alternative, margin),
        })
    }

    /// `log e` of a block of the size the bet was placed for, in nats. Linear in every count.
    pub fn log_e(&self, block: &Counts) -> f64 {
        let (t, q) = (self.alternative, self.projection);
        block.stable.bad() * log_ratio(t.stable, q.stable)
            + block.stable.good() * log_ratio_of_rest(t.stable, q.stable)
            + block.canary.bad() * log_ratio(t.canary, q.canary)
            + block.canary.good() * log_ratio_of_rest(t.canary, q.canary)
    }

    /// What `log e` gains when one more of the block's canary requests is bad instead of good.
    pub fn gain(&self) -> f64 {
        let (t, q) = (self.alternative.canary, self.projection.canary);
        log_ratio(t, q) - log_ratio_of_rest(t, q)
    }

    /// Mean of `log e` per unit of size when the alternative is true and the sizes were `stable` and `canary`.
    pub fn growth(&self, stable: f64, canary: f64) -> f64 {
        stable * divergence(self.alternative.stable, self.projection.stable)
            + canary * divergence(self.alternative.canary, self.projection.canary)
    }
}

/// `log e` of one block for one alternative, in nats; exactly 0 when an arm is empty or the alternative lies
/// inside the null. The alternative must come from the past of the block only.
pub fn log_e(block: &Counts, alternative: Rates, margin: Margin, side: Side) -> f64 {
    let (stable, canary) = (block.stable.requests(), block.canary.requests());
    Bet::place(stable, canary, alternative, margin, side).map_or(0.0, |bet| bet.log_e(block))
}

/// Bernoulli divergence `KL(a || b)` in nats; `a` in `0..=1`, `b` strictly inside.
pub fn divergence(a: f64, b: f64) -> f64 {
    let bad = if a > 0.0 { a * log_ratio(a, b) } else { 0.0 };
    let good = if a < 1.0 {
        (1.0 - a) * log_ratio_of_rest(a, b)
    } else {
        0.0
    };
    bad + good
}

/// The point of the line that minimises `stable * KL(tS || q) + canary * KL(tC || line(q))`.
fn project(stable: f64, canary: f64, t: Rates, margin: Margin) -> Rates {
    if margin == Margin::NONE {
        let share = canary / (stable + canary);
        let q = t.stable + share * (t.canary - t.stable);
        return Rates { stable: q, canary: q };
    }
    let q = root(stable, canary, t, margin);
    Rates {
        stable: q,
        canary: margin.line(q),
    }
}

/// Newton with a bracket: the derivative of the objective increases in `q`, so its sign moves one end.
fn root(stable: f64, canary: f64, t: Rates, margin: Margin) -> f64 {
    let top = margin.inverse(1.0).min(1.0) - EDGE;
    let (a, b) = (
        t.stable.clamp(EDGE, top),
        margin.inverse(t.canary).clamp(EDGE, top),
    );
    let (mut low, mut high) = (a.min(b), a.max(b));
    let mut q = (a + canary / (stable + canary) * (b - a)).clamp(low, high);
    for _ in 0..MAX_STEPS {
        let (slope, curvature) = derivatives(stable, canary, t, margin, q);
        if slope < 0.0 {
            low = q;
        } else {
            high = q;
        }
        let newton = q - slope / curvature;
        let inside = (low..=high).contains(&newton);
        let next = if inside { newton } else { between(low, high) };
        let step = (next - q).abs();
        q = next;
        if step <= TOLERANCE * q {
            break;
        }
    }
    q
}

/// First and second derivative in `q` of the objective of the projection.
fn derivatives(stable: f64, canary: f64, t: Rates, margin: Margin, q: f64) -> (f64, f64) {
    let c = margin.line(q);
    let slope = |t: f64, q: f64| (q - t) / (q * (1.0 - q));
    let curvature = |t: f64, q: f64| t / (q * q) + (1.0 - t) / ((1.0 - q) * (1.0 - q));
    let weight = canary * margin.ratio();
    (
        stable * slope(t.stable, q) + weight * slope(t.canary, c),
        stable * curvature(t.stable, q) + weight * margin.ratio() * curvature(t.canary, c),
    )
}

/// Geometric middle of a wide bracket, arithmetic of a narrow one: the root may lie many decades below `high`.
fn between(low: f64, high: f64) -> f64 {
    if high > 4.0 * low {
        (low * high).sqrt()
    } else {
        0.5 * (low + high)
    }
}

/// `ln(t / q)`, exact also when both are nearly equal.
pub(crate) fn log_ratio(t: f64, q: f64) -> f64 {
    if (t - q).abs() < 0.5 * q {
        ((t - q) / q).ln_1p()
    } else {
        (t / q).ln()
    }
}

/// `ln((1 - t) / (1 - q))` without forming `1 - t`, which would round away small rates.
fn log_ratio_of_rest(t: f64, q: f64) -> f64 {
    let rest = 1.0 - q;
    if (q - t).abs() < 0.5 * rest {
        ((q - t) / rest).ln_1p()
    } else {
        ((1.0 - t) / rest).ln()
    }
}

fn inner(rates: Rates) -> Rates {
    let clip = |v: f64| v.clamp(EDGE, 1.0 - EDGE);
    Rates {
        stable: clip(rates.stable),
        canary: clip(rates.canary),
    }
}
