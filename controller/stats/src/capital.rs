//! Capital with restarts over several alternatives (evidence 2a; cf. mixtures over change points, e-detectors).
//!
//! A failure may start late. So only a part of the capital is in play from the start; the rest enters in equal
//! slices over the planned time, and every start time owns its slice. The sum stays an e-process.

use crate::refused::Refused;
use serde::{Deserialize, Serialize};

/// How the capital is spread over start times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawSpread")]
pub struct Spread {
    head_start: f64,
    horizon: f64,
}

/// Log capital in play of each alternative, and the time that decides how much is still cash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capital {
    spread: Spread,
    elapsed: f64,
    log: Vec<f64>,
}

impl Spread {
    /// 0.7 in play at once costs ln(1/0.7) = 0.36 nat if bad from the start; the rest over half an hour costs
    /// 8.7 nats if bad from any later second.
    pub const DEFAULT: Spread = Spread {
        head_start: 0.7,
        horizon: 1800.0,
    };

    /// `head_start` (a0) strictly between 0 and 1; `horizon` (H) in planned seconds, finite and positive.
    pub fn new(head_start: f64, horizon: f64) -> Result<Spread, Refused> {
        if !(head_start > 0.0 && head_start < 1.0) {
            return Err(Refused::HeadStart(head_start));
        }
        if !(horizon > 0.0 && horizon.is_finite()) {
            return Err(Refused::Horizon(horizon));
        }
        Ok(Spread { head_start, horizon })
    }

    /// Share in play from the start.
    pub fn head_start(self) -> f64 {
        self.head_start
    }

    /// Planned seconds over which the rest enters.
    pub fn horizon(self) -> f64 {
        self.horizon
    }

    fn cash(self, elapsed: f64) -> f64 {
        (1.0 - self.head_start) * (1.0 - elapsed / self.horizon).max(0.0)
    }
}

impl Capital {
    /// The same capital for each of `alternatives` alternatives.
    pub fn new(spread: Spread, alternatives: usize) -> Capital {
        Capital {
            spread,
            elapsed: 0.0,
            log: vec![spread.head_start.ln(); alternatives],
        }
    }

    /// How many alternatives share it.
    pub fn alternatives(&self) -> usize {
        self.log.len()
    }

    /// A tick of `dt` seconds in which alternative `k` earned `log_e[k]` nats (0 in an open or empty tick).
    pub fn tick(&mut self, dt: f64, log_e: &[f64]) {
        let before = self.cash();
        self.elapsed = (self.elapsed + dt).min(self.spread.horizon);
        let entering = before - self.cash();
        for (log, earned) in self.log.iter_mut().zip(log_e) {
            *log = earned + log_add(*log, entering);
        }
    }

    /// `ln M`: the evidence over all alternatives, cash included. `weights` sum to 1.
    pub fn log_m(&self, weights: &[f64]) -> f64 {
        let cash = self.cash();
        let parts = self.log.iter().zip(weights);
        log_sum(parts.map(|(log, w)| w.ln() + log_add(*log, cash)))
    }

    /// Share of each alternative in `M`; what is missing to 1 is cash.
    pub fn shares(&self, weights: &[f64]) -> Vec<f64> {
        let cash = self.cash();
        let idle = if cash > 0.0 { cash.ln() } else { f64::NEG_INFINITY };
        let top = self.log.iter().copied().fold(idle, f64::max);
        let parts: Vec<f64> = self
            .log
            .iter()
            .zip(weights)
            .map(|(log, w)| w * (log - top).exp())
            .collect();
        let total = parts.iter().sum::<f64>() + (idle - top).exp();
        parts.iter().map(|part| part / total).collect()
    }

    /// Elapsed seconds and log capital, the settings apart.
    pub(crate) fn essence(&self) -> (f64, Vec<f64>) {
        (self.elapsed, self.log.clone())
    }

    /// The capital of an essence.
    pub(crate) fn of_essence(spread: Spread, (elapsed, log): (f64, Vec<f64>)) -> Capital {
        Capital { spread, elapsed, log }
    }

    /// Capital of each alternative that is not yet in play.
    pub fn cash(&self) -> f64 {
        self.spread.cash(self.elapsed)
    }
}

/// `ln(sum exp(terms))`; `-inf` for no terms.
pub(crate) fn log_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        top
    } else {
        top + terms.map(|t| (t - top).exp()).sum::<f64>().ln()
    }
}

/// `ln(exp(log) + plain)` for `plain >= 0`.
fn log_add(log: f64, plain: f64) -> f64 {
    if plain <= 0.0 {
        return log;
    }
    let other = plain.ln();
    log.max(other) + (-(log - other).abs()).exp().ln_1p()
}

#[derive(Deserialize)]
struct RawSpread {
    head_start: f64,
    horizon: f64,
}

impl TryFrom<RawSpread> for Spread {
    type Error = Refused;

    fn try_from(raw: RawSpread) -> Result<Spread, Refused> {
        Spread::new(raw.head_start, raw.horizon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALVES: [f64; 2] = [0.5, 0.5];

    #[test]
    fn without_evidence_the_capital_stays_one() {
        let mut capital = Capital::new(Spread::DEFAULT, 2);
        for dt in [0.0, 1.0, 0.3, 1700.0, 1e9] {
            capital.tick(dt, &[0.0, 0.0]);
            assert!(capital.log_m(&HALVES).abs() < 1e-14);
        }
    }

    #[test]
    fn shares_and_cash_sum_to_one() {
        let mut capital = Capital::new(Spread::DEFAULT, 2);
        capital.tick(60.0, &[1.5, -2.0]);
        let shares: f64 = capital.shares(&HALVES).iter().sum();
        let cash = capital.cash() * (-capital.log_m(&HALVES)).exp();
        assert!((shares + cash - 1.0).abs() < 1e-14);
    }

    #[test]
    fn a_spread_outside_its_range_is_refused_also_when_read_back() {
        assert_eq!(Spread::new(1.0, 10.0), Err(Refused::HeadStart(1.0)));
        assert_eq!(Spread::new(0.7, 0.0), Err(Refused::Horizon(0.0)));
        assert!(serde_json::from_str::<Spread>(r#"{"head_start":0.7,"horizon":-1.0}"#).is_err());
    }
}
