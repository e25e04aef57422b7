//! Evidence about errors: the running e-processes for rollback and for promotion (evidence 2a).

mod alternatives;
mod counterfactual;

pub use alternatives::{ALTERNATIVES, Alternative, WEIGHTS};

use crate::baseline::Baseline;
use crate::capital::{Capital, Spread};
use crate::counts::{Arm, Counts};
use crate::halfplane::{Bet, Margin, Rates, Side, log_e};
use crate::refused::Refused;
use crate::seconds::seconds;
use counterfactual::{NextTick, Tick};
use serde::{Deserialize, Serialize};

/// What is tolerated and how much the counts may be trusted. Fixed at canary start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorConfig {
    /// Line of the rollback.
    pub roll_back: Margin,
    /// Line of the promotion, wider than that of the rollback.
    pub promote: Margin,
    /// Dispersion: 1 for independent requests, more for bursts (evidence 2d).
    pub phi: Phi,
    /// Capital over start times.
    pub spread: Spread,
}

/// Dispersion of the counts relative to independent requests, at least 1; evidence is divided by it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Phi(f64);

/// Both error processes of one rollout. All fields are evidence: save it, and a restart loses nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorProcess {
    config: ErrorConfig,
    baseline: Baseline,
    canary: Arm,
    capital: Capital,
    log_promote: f64,
    last: Tick,
}

/// What a process that only rolls back must remember.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Essence {
    baseline: Baseline,
    canary: Arm,
    capital: (f64, Vec<f64>),
}

impl Phi {
    /// Independent requests.
    pub const ONE: Phi = Phi(1.0);

    /// Finite and at least 1.
    pub fn new(phi: f64) -> Result<Phi, Refused> {
        if phi >= 1.0 && phi.is_finite() {
            Ok(Phi(phi))
        } else {
            Err(Refused::Phi(phi))
        }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for ErrorConfig {
    fn default() -> ErrorConfig {
        ErrorConfig {
            roll_back: Margin::ROLL_BACK,
            promote: Margin::PROMOTE,
            phi: Phi::ONE,
            spread: Spread::DEFAULT,
        }
    }
}

impl ErrorProcess {
    /// Starts with the stable traffic of the ten minutes before the canary.
    pub fn new(config: ErrorConfig, history: Arm) -> ErrorProcess {
        ErrorProcess {
            config,
            baseline: Baseline::new(history),
            canary: Arm::default(),
            capital: Capital::new(config.spread, WEIGHTS.len()),
            log_promote: 0.0,
            last: Tick::default(),
        }
    }

    /// One tick of `dt` seconds with the blocks that closed in it, one or none per stream; call it on every tick,
    /// with no blocks too. The bets are those of the past; the counts enter the baseline afterwards.
    pub fn tick(&mut self, dt: f64, blocks: &[Counts]) {
        self.log_promote += self.promotion_gain(blocks);
        self.tick_cold(dt, blocks);
    }

    /// The same while the canary warms up: errors count from the first request, but promotion gains nothing
    /// (evidence 2d; the warm-up time is fixed in advance).
    pub fn tick_cold(&mut self, dt: f64, blocks: &[Counts]) {
        let sum = self.tick_roll(dt, blocks);
        if sum.stable.n > 0 && sum.canary.n > 0 {
            self.last = Tick {
                dt: seconds(dt),
                block: sum,
            };
        }
    }

    /// The dispersion from the next tick on: it may follow the weight, never the outcomes.
    pub fn set_phi(&mut self, phi: Phi) {
        self.config.phi = phi;
    }

    /// What is left of a process that only rolls back, its settings apart.
    pub(crate) fn essence(&self) -> Essence {
        Essence {
            baseline: self.baseline,
            canary: self.canary,
            capital: self.capital.essence(),
        }
    }

    /// The process of an essence.
    pub(crate) fn of_essence(config: ErrorConfig, essence: Essence) -> ErrorProcess {
        ErrorProcess {
            baseline: essence.baseline,
            canary: essence.canary,
            capital: Capital::of_essence(config.spread, essence.capital),
            ..ErrorProcess::new(config, Arm::default())
        }
    }

    /// The part of a tick that is about a rollback; the sum of the blocks.
    pub(crate) fn tick_roll(&mut self, dt: f64, blocks: &[Counts]) -> Counts {
        let dt = seconds(dt);
        let earned = self.rollback_gains(blocks);
        self.capital.tick(dt, &earned);
        let sum = blocks
            .iter()
            .fold(Counts::default(), |sum, block| sum.plus(*block));
        self.baseline.tick(dt, sum.stable);
        self.canary = self.canary.plus(sum.canary);
        sum
    }

    /// `ln M` of the rollback: above `ln(1/alpha)` the canary was worse than the margin.
    pub fn log_roll(&self) -> f64 {
        self.capital.log_m(&WEIGHTS)
    }

    /// `ln M'` of the promotion: above `ln(1/beta)` the canary is good enough.
    pub fn log_promote(&self) -> f64 {
        self.log_promote
    }

    /// Share of each alternative in the evidence for a rollback; what is missing to 1 is capital not yet in play.
    pub fn shares(&self) -> Vec<(Alternative, f64)> {
        ALTERNATIVES
            .into_iter()
            .zip(self.capital.shares(&WEIGHTS))
            .collect()
    }

    /// Stable error rate that the bets start from, smoothed.
    pub fn baseline(&self) -> f64 {
        self.baseline.rate()
    }

    /// The baseline with its plain rate, which pacing needs.
    pub fn stable(&self) -> &Baseline {
        &self.baseline
    }

    /// Canary requests and bad ones since its start.
    pub fn canary(&self) -> Arm {
        self.canary
    }

    /// Settings in force.
    pub fn config(&self) -> &ErrorConfig {
        &self.config
    }

    /// The rates the next block bets on, in the order of [`ALTERNATIVES`]; from the past only.
    pub fn next_bets(&self) -> [Rates; 7] {
        let stable = self.baseline.rate();
        alternatives::canary_rates(stable, self.config.roll_back, self.canary)
            .map(|canary| Rates { stable, canary })
    }

    /// What one more canary error adds to `ln M`, in nats: a next tick like the last one (its seconds and requests,
    /// no stable errors) with one canary error, against the same without. 0 before the first tick with both arms.
    pub fn next_error_gain(&self) -> f64 {
        let next = self.next_tick();
        next.log_m(1) - next.log_m(0)
    }

    /// How many canary errors in a next tick like the last one, and no stable ones, bring `ln M` to `threshold`:
    /// "3 more canary errors would roll back". `Some(0)` when it is there already; `None` when no number does.
    pub fn errors_to(&self, threshold: f64) -> Option<u64> {
        if self.log_roll() >= threshold {
            Some(0)
        } else {
            self.next_tick().errors_to(threshold)
        }
    }

    fn next_tick(&self) -> NextTick<'_> {
        let bets = self.next_bets().map(|rates| self.bet(&self.last.block, rates));
        NextTick::new(&self.capital, self.last, bets, self.config.phi.0)
    }

    fn rollback_gains(&self, blocks: &[Counts]) -> [f64; 7] {
        self.next_bets().map(|rates| {
            let sum: f64 = blocks
                .iter()
                .filter_map(|b| Some(self.bet(b, rates)?.log_e(b)))
                .sum();
            sum / self.config.phi.0
        })
    }

    fn promotion_gain(&self, blocks: &[Counts]) -> f64 {
        let rate = self.baseline.rate();
        let same = Rates {
            stable: rate,
            canary: rate,
        };
        let sum: f64 = blocks
            .iter()
            .map(|b| log_e(b, same, self.config.promote, Side::Good))
            .sum();
        sum / self.config.phi.0
    }

    fn bet(&self, block: &Counts, rates: Rates) -> Option<Bet> {
        let (stable, canary) = (block.stable.requests(), block.canary.requests());
        Bet::place(stable, canary, rates, self.config.roll_back, Side::Worse)
    }
}

impl TryFrom<f64> for Phi {
    type Error = Refused;

    fn try_from(phi: f64) -> Result<Phi, Refused> {
        Phi::new(phi)
    }
}

impl From<Phi> for f64 {
    fn from(phi: Phi) -> f64 {
        phi.0
    }
}
