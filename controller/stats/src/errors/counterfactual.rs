//! "3 more canary errors would roll back": the next tick as it might be (evidence 2g).

use super::alternatives::WEIGHTS;
use crate::capital::Capital;
use crate::counts::{Arm, Counts};
use crate::halfplane::Bet;
use serde::{Deserialize, Serialize};

/// A tick in which both arms had requests: what the next one is imagined after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tick {
    pub dt: f64,
    pub block: Counts,
}

/// The next tick, like the last one but without stable errors; `log e` is linear in the canary's.
#[derive(Clone, Debug)]
pub(super) struct NextTick<'a> {
    capital: &'a Capital,
    dt: f64,
    clean: [f64; 7],
    per_error: [f64; 7],
}

/// The search ends here: more errors than this are no news to a reader.
const MOST_ERRORS: u64 = 1 << 40;

impl Tick {
    /// The same tick with all requests good.
    pub fn clean(self) -> Counts {
        let good = |arm: Arm| Arm::new(arm.n, 0);
        Counts {
            stable: good(self.block.stable),
            canary: good(self.block.canary),
        }
    }
}

impl<'a> NextTick<'a> {
    /// From the bets of each alternative on the sizes of the tick (none where it has nothing to bet on).
    pub fn new(capital: &'a Capital, tick: Tick, bets: [Option<Bet>; 7], phi: f64) -> NextTick<'a> {
        let clean = bets.map(|bet| bet.map_or(0.0, |bet| bet.log_e(&tick.clean()) / phi));
        let per_error = bets.map(|bet| bet.map_or(0.0, |bet| bet.gain() / phi));
        NextTick {
            capital,
            dt: tick.dt,
            clean,
            per_error,
        }
    }

    /// `ln M` after the tick with so many canary errors (beyond its requests: in more such ticks).
    pub fn log_m(&self, errors: u64) -> f64 {
        let mut after = self.capital.clone();
        let earned: Vec<f64> = self
            .clean
            .iter()
            .zip(self.per_error)
            .map(|(clean, each)| clean + errors as f64 * each)
            .collect();
        after.tick(self.dt, &earned);
        after.log_m(&WEIGHTS)
    }

    /// Fewest canary errors that bring `ln M` to `threshold`.
    pub fn errors_to(&self, threshold: f64) -> Option<u64> {
        let reached = |errors: u64| self.log_m(errors) >= threshold;
        let mut many = (0..)
            .map(|bits| 1 << bits)
            .take_while(|n| *n <= MOST_ERRORS)
            .find(|n| reached(*n))?;
        let mut few = 0;
        while few < many {
            let middle = few + (many - few) / 2;
            if reached(middle) {
                many = middle
            } else {
                few = middle + 1
            }
        }
        Some(many)
    }
}
