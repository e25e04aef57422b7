//! Evidence about latency from fixed buckets: the running e-processes for rollback and promotion (evidence 2b).

mod alternatives;
mod histograms;
mod learned;
mod lognormal;
mod pools;
mod promotion;
mod prospect;
mod shapes;
mod tilt;

pub use alternatives::{Family, Slower};
pub use histograms::{Histograms, quantile, shift_down};
pub use learned::learned;
pub use lognormal::{LogNormal, probabilities as bucketed};
pub use prospect::{Prospect, Terms};
pub use shapes::BUCKETS_PER_OCTAVE;
pub use tilt::{Tilt, Totals};

pub(crate) use histograms::running;

use crate::capital::{Capital, Spread};
use crate::errors::Phi;
use crate::refused::Refused;
use crate::seconds::seconds;
use histograms::{add, total};
use promotion::{Proof, Slow};
use serde::{Deserialize, Serialize};

/// What is tolerated. Fixed at canary start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyConfig {
    /// Buckets by which every quantile of the canary may be slower before it counts against it.
    pub shift: usize,
    /// Buckets by which p50, p95 and p99 may be slower and still be good enough.
    pub promote_shift: usize,
    /// Part of the tail above each quantile by which the canary's may be larger and still be good enough: with 0.3,
    /// 1.3 % of its requests may lie beyond the shifted p99. 0: none, as evidence 2b has it.
    #[serde(default)]
    pub allowance: f64,
    /// Dispersion: 1 for independent requests.
    pub phi: Phi,
    /// Capital over start times.
    pub spread: Spread,
    /// Which bets are placed.
    #[serde(default = "Family::before_there_were_two")]
    pub family: Family,
}

/// Both latency processes of one rollout. Saved are counts and capital; baseline and tilts are made of them again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct LatencyProcess {
    saved: Saved,
    baseline: Vec<f64>,
    tilts: Vec<Tilt>,
    proofs: [Proof; 3],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Saved {
    config: LatencyConfig,
    /// Stable requests per bucket before the canary: baseline and tilts are frozen with them.
    history: Vec<u64>,
    /// Canary requests per bucket, shifted, since its start.
    canary: Vec<u64>,
    capital: Capital,
    log_promote: [f64; 3],
    /// `None` before the first tick: then made of the history.
    slow: Option<[Slow; 3]>,
}

impl Default for LatencyConfig {
    /// A bucket growth of 2^(1/4) makes one bucket 19 % and two 41 %.
    fn default() -> LatencyConfig {
        LatencyConfig {
            shift: 1,
            promote_shift: 2,
            allowance: 0.0,
            phi: Phi::ONE,
            spread: Spread::DEFAULT,
            family: Family::default(),
        }
    }
}

impl LatencyProcess {
    /// Starts with the stable histogram of the ten minutes before the canary. Refused unless two buckets remain
    /// above the shifts.
    pub fn new(config: LatencyConfig, history: &[u64]) -> Result<LatencyProcess, Refused> {
        LatencyProcess::try_from(Saved {
            config,
            history: history.to_vec(),
            canary: vec![0; history.len()],
            capital: Capital::new(config.spread, config.family.weights().len()),
            log_promote: [0.0; 3],
            slow: None,
        })
    }

    /// One tick of `dt` seconds with the blocks that closed in it, one or none per stream; call it on every tick.
    /// While the canary warms up pass no blocks: cold caches are real but passing (evidence 2d).
    pub fn tick(&mut self, dt: f64, blocks: &[Histograms]) {
        let blocks: Vec<Histograms> = blocks
            .iter()
            .map(|block| block.fitted(self.baseline.len()))
            .collect();
        let shifted: Vec<Histograms> = blocks
            .iter()
            .map(|b| b.shifted(self.saved.config.shift))
            .collect();
        self.saved
            .capital
            .tick(seconds(dt), &self.rollback_gains(&shifted));
        self.prove(seconds(dt), &blocks);
        shifted
            .iter()
            .for_each(|block| add(&mut self.saved.canary, &block.canary));
    }

    /// The dispersion from the next tick on: it may follow the weight, never the outcomes.
    pub fn set_phi(&mut self, phi: Phi) {
        self.saved.config.phi = phi;
    }

    /// `ln M` of the rollback: above `ln(1/alpha)` some quantile of the canary was slower than the margin.
    pub fn log_roll(&self) -> f64 {
        self.saved.capital.log_m(self.saved.config.family.weights())
    }

    /// `ln M'` of the promotion: the least of the three, since all must be proven and none needs a correction.
    pub fn log_promote(&self) -> f64 {
        self.saved
            .log_promote
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min)
    }

    /// `ln M'` of p50, p95 and p99 apart, for the explanation of what is missing.
    pub fn log_promote_by_quantile(&self) -> [f64; 3] {
        self.saved.log_promote
    }

    /// Share of each bet in the evidence for a rollback; what is missing to 1 is capital not yet in play.
    pub fn shares(&self) -> Vec<(Slower, f64)> {
        let family = self.saved.config.family;
        let shares = self.saved.capital.shares(family.weights());
        family.alternatives().iter().copied().zip(shares).collect()
    }

    /// Baseline probability of each bucket.
    pub fn baseline(&self) -> &[f64] {
        &self.baseline
    }

    /// Canary requests per bucket since its start, shifted by the margin.
    pub fn canary(&self) -> &[u64] {
        &self.saved.canary
    }

    /// Settings in force.
    pub fn config(&self) -> &LatencyConfig {
        &self.saved.config
    }

    fn prove(&mut self, dt: f64, blocks: &[Histograms]) {
        let phi = self.saved.config.phi.get();
        let history = &self.saved.history;
        let slow = self
            .saved
            .slow
            .get_or_insert_with(|| self.proofs.each_ref().map(|p| p.slow(history)));
        let logs = self.saved.log_promote.iter_mut();
        for ((log, proof), slow) in logs.zip(&self.proofs).zip(slow) {
            *log += blocks.iter().map(|block| proof.log_e(slow, block)).sum::<f64>() / phi;
            proof.follow(slow, dt, blocks);
        }
    }

    fn rollback_gains(&self, shifted: &[Histograms]) -> Vec<f64> {
        let LatencyConfig { family, phi, .. } = self.saved.config;
        if shifted.is_empty() {
            return vec![0.0; family.weights().len()];
        }
        let totals: Vec<Totals> = shifted.iter().map(Totals::new).collect();
        let learned = learned(&self.saved.canary, &self.baseline, family.shrinkage());
        let gain = |tilt: &Tilt| totals.iter().map(|t| tilt.log_e(t)).sum::<f64>() / phi.get();
        self.tilts.iter().chain([&learned]).map(gain).collect()
    }
}

/// Stable history with half a request in each bucket, so that no bucket is impossible.
fn probabilities(history: &[u64]) -> Vec<f64> {
    let all = total(history) as f64 + 0.5 * history.len() as f64;
    history.iter().map(|n| (*n as f64 + 0.5) / all).collect()
}

impl TryFrom<Saved> for LatencyProcess {
    type Error = Refused;

    fn try_from(saved: Saved) -> Result<LatencyProcess, Refused> {
        let (buckets, config) = (saved.history.len(), saved.config);
        let room = |shift: usize| shift < buckets.saturating_sub(1);
        if !room(config.shift) || !room(config.promote_shift) || saved.canary.len() != buckets {
            return Err(Refused::Buckets(buckets));
        }
        if saved.capital.alternatives() != config.family.weights().len() {
            return Err(Refused::Alternatives(saved.capital.alternatives()));
        }
        let baseline = probabilities(&saved.history);
        let (tilts, proofs) = (
            config.family.tilts(&baseline),
            promotion::proofs(&baseline, config.promote_shift, config.allowance),
        );
        Ok(LatencyProcess {
            saved,
            baseline,
            tilts,
            proofs,
        })
    }
}

impl From<LatencyProcess> for Saved {
    fn from(process: LatencyProcess) -> Saved {
        process.saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: [u64; 8] = [100, 400, 300, 120, 50, 20, 8, 2];

    fn process() -> LatencyProcess {
        LatencyProcess::new(LatencyConfig::default(), &HISTORY).unwrap()
    }

    fn block(canary: [u64; 8]) -> Histograms {
        Histograms {
            stable: HISTORY.to_vec(),
            canary: canary.to_vec(),
        }
    }

    #[test]
    fn a_canary_as_fast_as_stable_is_promoted() {
        let mut process = process();
        (0..30).for_each(|_| process.tick(1.0, &[block([10, 40, 30, 12, 5, 2, 1, 0])]));
        assert!(process.log_roll() < 0.0);
        assert!(
            process.log_promote() > 3.0,
            "{:?}",
            process.log_promote_by_quantile()
        );
    }

    #[test]
    fn a_canary_two_buckets_slower_is_rolled_back_and_one_bucket_is_tolerated() {
        let (mut slow, mut tolerated) = (process(), process());
        (0..30).for_each(|_| slow.tick(1.0, &[block([0, 0, 10, 40, 30, 12, 5, 3])]));
        (0..30).for_each(|_| tolerated.tick(1.0, &[block([0, 10, 40, 30, 12, 5, 2, 1])]));
        assert!(slow.log_roll() > 4.6 && slow.log_promote() < 0.0);
        assert!(tolerated.log_roll() < 0.0, "{}", tolerated.log_roll());
    }

    #[test]
    fn latencies_in_one_bucket_are_proven_with_an_allowance_and_a_slow_half_is_not() {
        let config = LatencyConfig {
            allowance: 0.3,
            ..LatencyConfig::default()
        };
        let history = [0, 60_000, 0, 0, 0, 0, 0, 0];
        let mut same = LatencyProcess::new(config, &history).unwrap();
        let mut slow = same.clone();
        let block = |canary: [u64; 8]| Histograms {
            stable: vec![0, 100, 0, 0, 0, 0, 0, 0],
            canary: canary.to_vec(),
        };
        (0..20).for_each(|_| same.tick(1.0, &[block([0, 100, 0, 0, 0, 0, 0, 0])]));
        (0..20).for_each(|_| slow.tick(1.0, &[block([0, 50, 0, 0, 0, 50, 0, 0])]));
        assert!(same.log_promote() > 3.0, "{:?}", same.log_promote_by_quantile());
        assert!(slow.log_promote() < -3.0, "{:?}", slow.log_promote_by_quantile());
    }

    #[test]
    fn a_hang_of_one_request_in_a_hundred_is_charged_to_the_tail() {
        let mut process = process();
        (0..60).for_each(|_| process.tick(1.0, &[block([10, 40, 30, 12, 5, 2, 0, 3])]));
        let best = process
            .shares()
            .into_iter()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap()
            .0;
        assert!(process.log_roll() > 4.6, "{}", process.log_roll());
        assert!(matches!(best, Slower::Learned | Slower::Tail { .. }), "{best:?}");
    }

    #[test]
    fn too_few_buckets_are_refused() {
        let config = LatencyConfig {
            promote_shift: 7,
            ..LatencyConfig::default()
        };
        assert_eq!(LatencyProcess::new(config, &HISTORY), Err(Refused::Buckets(8)));
    }

    #[test]
    fn a_state_from_before_there_were_families_keeps_its_bets_and_a_mixed_one_is_refused() {
        let config = LatencyConfig {
            family: Family::Reference,
            ..LatencyConfig::default()
        };
        let old = LatencyProcess::new(config, &HISTORY).unwrap();
        let saved = serde_json::to_string(&old).unwrap();
        let without = saved.replace(r#","family":"Reference""#, "");
        assert!(without.len() < saved.len());
        assert_eq!(serde_json::from_str::<LatencyProcess>(&without).unwrap(), old);
        let mixed = saved.replace("Reference", "Broad");
        assert!(serde_json::from_str::<LatencyProcess>(&mixed).is_err());
    }
}
