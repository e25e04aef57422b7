//! The exact split of a stream of requests into two tracks.
//!
//! Up to 20 % and from 80 %: ordered pivotal sampling (Deville's systematic sampling; Chauvet, "On a characterization
//! of ordered pivotal sampling", Bernoulli 18, 2012). Lay the weights of the requests end to end; each unit interval
//! of the line, a *stratum*, holds exactly one canary, at a uniformly random point. Each request is a canary with
//! exactly its weight, and after any prefix the count differs from the sum of the weights by less than one. The point
//! is drawn when the stratum begins, so that no outcome can touch it, and it is random, so that a client that repeats
//! a pattern sees each of its elements at the canary equally often.
//!
//! Between: coin flips, reflected at +-7 requests. Strata would make the judgement too sure of itself there when bad
//! requests come in a fixed rhythm (statistics 2h).
//!
//! Integers only, so that 1 of 3 stays exactly one third for ever.

use contract::Split;
use rand::Rng;

/// Strata up to a fifth, and from four fifths.
const FIFTH: u64 = 5;
/// One stratum is at most this many units long; the exact length is the largest multiple of the denominator.
const LONGEST: u64 = 1 << 62;
/// Coin flips stay this close; with less than 1 of a stratum on top, the whole stays within 8.
const REFLECT: u64 = 7;

/// Where the split of one route stands on one worker. Survives every change of weight.
#[derive(Clone, Debug)]
pub struct Strata {
    /// Denominator that `unit` is a multiple of.
    denominator: u64,
    /// Length of one stratum.
    unit: u64,
    /// Position of the next request in the stratum, below `unit`.
    position: u64,
    /// Where the canary of the stratum lies; passed when below `position`.
    point: u64,
    /// Whether `point` has been drawn.
    begun: bool,
    /// Canaries minus sum of weights over all coin flips, in units.
    surplus: i128,
}

impl Default for Strata {
    fn default() -> Strata {
        Strata {
            denominator: 1,
            unit: LONGEST,
            position: 0,
            point: 0,
            begun: false,
            surplus: 0,
        }
    }
}

impl Strata {
    /// Whether the next request goes to the canary.
    pub fn draw(&mut self, split: Split, random: &mut impl Rng) -> bool {
        let (a, b) = (split.numerator(), split.denominator());
        if a == 0 || a == b {
            return a == b;
        }
        if b != self.denominator {
            self.rescale(b);
        }
        let step = a * (self.unit / b);
        if a.saturating_mul(FIFTH) <= b || (b - a).saturating_mul(FIFTH) <= b {
            self.stratum(step, random)
        } else {
            self.flip(step, random)
        }
    }

    /// One request of length `step` on the line; it is shorter than a stratum, so it meets one border at most.
    fn stratum(&mut self, step: u64, random: &mut impl Rng) -> bool {
        if !self.begun {
            self.point = below(self.unit, random);
            self.begun = true;
        }
        let end = self.position + step;
        let here = self.point >= self.position && self.point < end;
        if end < self.unit {
            self.position = end;
            return here;
        }
        let over = end - self.unit;
        let first = step - over;
        self.position = over;
        self.begun = over > 0;
        if over == 0 {
            here
        } else {
            self.cross(here, over, first, random)
        }
    }

    /// The request lies on a border, `first` before and `over` behind it. One request must not be two canaries: if it
    /// was chosen in the first stratum, the second one's canary comes later. If not, the chance of the part behind is
    /// raised to `over / (1 - first)`, which makes its total chance exactly `first + over`.
    fn cross(&mut self, chosen: bool, over: u64, first: u64, random: &mut impl Rng) -> bool {
        let later = self.unit - over;
        if !chosen && below(self.unit - first, random) < over {
            self.point = 0;
            return true;
        }
        self.point = over + below(later, random);
        chosen
    }

    /// One coin flip, reflected at the bound.
    fn flip(&mut self, step: u64, random: &mut impl Rng) -> bool {
        let bound = i128::from(REFLECT) * i128::from(self.unit);
        let canary = below(self.unit, random) < step;
        let change = |c: bool| i128::from(if c { self.unit } else { 0 }) - i128::from(step);
        let canary = if (self.surplus + change(canary)).abs() > bound {
            !canary
        } else {
            canary
        };
        self.surplus += change(canary);
        canary
    }

    fn rescale(&mut self, denominator: u64) {
        let unit = LONGEST / denominator * denominator;
        let scale = |x: u64| ((u128::from(x) * u128::from(unit)) / u128::from(self.unit)) as u64;
        (self.position, self.point) = (scale(self.position), scale(self.point));
        // |surplus| <= 7 * 2^62, so the product stays below 2^127.
        self.surplus = self.surplus * i128::from(unit) / i128::from(self.unit);
        self.denominator = denominator;
        self.unit = unit;
    }
}

/// A uniform number below `n > 0`: Lemire's multiplication; its bias is below 2^-2 of one unit in 2^62.
fn below(n: u64, random: &mut impl Rng) -> u64 {
    ((u128::from(random.next_u64()) * u128::from(n)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    fn split(weight: &str, total: u32) -> Split {
        Split::parse(weight, Some(&total.to_string()), "").unwrap()
    }

    fn random(seed: u64) -> SmallRng {
        SmallRng::seed_from_u64(seed)
    }

    #[test]
    fn none_and_all_are_exact() {
        let (mut s, mut r) = (Strata::default(), random(1));
        assert!((0..10_000).all(|_| !s.draw(Split::NONE, &mut r)));
        assert!((0..10_000).all(|_| s.draw(Split::ALL, &mut r)));
    }

    #[test]
    fn every_prefix_is_within_one_at_the_edges_and_eight_between() {
        for (weight, total, bound) in [
            ("10", 100, 1.0),
            ("0.5", 100, 1.0),
            ("1", 100, 1.0),
            ("20", 100, 1.0),
            ("80", 100, 1.0),
            ("99.9", 100, 1.0),
            ("50", 100, 8.0),
            ("1", 3, 8.0),
            ("1", 7, 1.0),
            ("21", 100, 8.0),
            ("79", 100, 8.0),
        ] {
            let (mut s, mut r, w) = (Strata::default(), random(7), split(weight, total));
            let mut canaries = 0.0;
            for n in 1..=100_000 {
                canaries += f64::from(u8::from(s.draw(w, &mut r)));
                let off: f64 = canaries - f64::from(n) * w.share();
                assert!(off.abs() <= bound + 1e-6, "{weight} of {total}: {off} after {n}");
            }
        }
    }

    #[test]
    fn one_of_seven_stays_exact_over_millions() {
        let (mut s, mut r, w) = (Strata::default(), random(3), split("1", 7));
        let canaries = (0..3_500_000).filter(|_| s.draw(w, &mut r)).count();
        assert_eq!(
            canaries, 500_000,
            "whole strata end where the sum of weights is whole"
        );
    }

    #[test]
    fn one_of_three_stays_within_the_bound_over_millions() {
        let (mut s, mut r, w) = (Strata::default(), random(3), split("1", 3));
        let canaries = (0..3_000_000).filter(|_| s.draw(w, &mut r)).count() as i64;
        assert!((canaries - 1_000_000).abs() <= 8);
    }

    /// A request that lies across a border has the same chance as any other: over many seeds, each of the first
    /// forty requests is a canary equally often.
    #[test]
    fn every_position_has_the_same_chance() {
        for (weight, seeds) in [("15", 60_000u64), ("83", 60_000)] {
            let w = split(weight, 100);
            let mut counts = [0u64; 40];
            for seed in 0..seeds {
                let (mut s, mut r) = (Strata::default(), random(seed));
                counts.iter_mut().for_each(|c| *c += u64::from(s.draw(w, &mut r)));
            }
            let sigma = (seeds as f64 * w.share() * (1.0 - w.share())).sqrt();
            for (i, c) in counts.iter().enumerate() {
                let z = (*c as f64 - seeds as f64 * w.share()) / sigma;
                assert!(z.abs() < 4.5, "{weight} %, request {i}: z = {z:.2}");
            }
        }
    }

    /// Clients that repeat patterns of 2 to 100 requests: each place of the pattern is a canary at the same rate.
    /// A counter would put all of them on few places.
    #[test]
    fn patterns_do_not_alias() {
        for weight in ["10", "1", "5", "50", "90"] {
            let w = split(weight, 100);
            for period in 2..=100usize {
                let (mut s, mut r) = (Strata::default(), random(period as u64));
                let mut counts = vec![0f64; period];
                let rounds = 100_000 / period;
                for _ in 0..rounds {
                    counts
                        .iter_mut()
                        .for_each(|c| *c += f64::from(u8::from(s.draw(w, &mut r))));
                }
                let expected = rounds as f64 * w.share();
                let spread = expected * (1.0 - w.share());
                let chi: f64 = counts.iter().map(|c| (c - expected).powi(2) / spread).sum();
                let freedom = period as f64;
                assert!(
                    chi < freedom + 5.0 * (2.0 * freedom).sqrt() + 5.0,
                    "{weight} %, period {period}: {chi:.1}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn any_history_of_weights_stays_within_eight(seed: u64, history in prop::collection::vec((0u32..=1000, 1u32..300), 1..40)) {
            let (mut s, mut r) = (Strata::default(), random(seed));
            let (mut canaries, mut sum) = (0.0, 0.0);
            for (weight, n) in history {
                let w = split(&weight.to_string(), 1000 + weight % 7);
                for _ in 0..n {
                    canaries += f64::from(u8::from(s.draw(w, &mut r)));
                    sum += w.share();
                    prop_assert!(f64::abs(canaries - sum) <= 8.0 + 1e-6);
                }
            }
        }

        #[test]
        fn small_weights_stay_within_one_across_changes(seed: u64, history in prop::collection::vec((0u32..=400, 1u32..300), 1..40)) {
            let (mut s, mut r) = (Strata::default(), random(seed));
            let (mut canaries, mut sum) = (0.0, 0.0);
            for (weight, n) in history {
                let weight = if weight > 200 { weight + 600 } else { weight };
                let w = split(&weight.to_string(), 1000);
                for _ in 0..n {
                    canaries += f64::from(u8::from(s.draw(w, &mut r)));
                    sum += w.share();
                    prop_assert!(f64::abs(canaries - sum) <= 1.0 + 1e-6);
                }
            }
        }
    }
}
