//! What latency can show before a rollout starts: growth of the bets, times, and the way to promotion (evidence 2f).

use super::promotion::{Proof, proofs};
use super::shapes::rising;
use super::tilt::Tilt;
use super::{LatencyConfig, Slower};
use crate::bounds::nats;
use crate::refused::Refused;

/// Traffic and settings that the expected times depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Requests per second, both arms.
    pub rate: f64,
    /// Share of the canary, strictly between 0 and 1.
    pub weight: f64,
    /// Chance of a false rollback.
    pub alpha: f64,
    /// Chance of a false promotion.
    pub beta: f64,
    /// Part of all evidence that latency has.
    pub stake: f64,
}

/// A service of known latencies, and how a canary of it would be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Prospect {
    config: LatencyConfig,
    terms: Terms,
    stable: Vec<f64>,
    bets: Vec<(Slower, Tilt)>,
    proofs: [Proof; 3],
}

/// Seconds of stable's past that the baseline is made of.
const HISTORY: f64 = 600.0;

/// Each step of the learning is this part of all requests before.
const STEP: f64 = 0.02;

/// Nats per request below which there are none: sums over the buckets are no more exact.
const ROUNDING: f64 = 1e-12;

/// Where learning is given up.
const MOST_REQUESTS: f64 = 1.0 / ROUNDING;

/// Smallest probability of a bucket: a canary that does what stable never does is no infinite evidence.
const LEAST: f64 = 1e-12;

impl Prospect {
    /// `stable` holds the probability of each bucket. Refused unless two buckets remain above the shifts.
    pub fn new(config: LatencyConfig, terms: Terms, stable: &[f64]) -> Result<Prospect, Refused> {
        if stable.len() < 2 + config.shift.max(config.promote_shift) {
            return Err(Refused::Buckets(stable.len()));
        }
        let stable: Vec<f64> = stable.iter().map(|p| p.max(LEAST)).collect();
        let known = terms.rate * (1.0 - terms.weight) * HISTORY;
        let all = known + 0.5 * stable.len() as f64;
        let baseline: Vec<f64> = stable.iter().map(|p| (p * known + 0.5) / all).collect();
        let kinds = config.family.alternatives().iter().copied();
        Ok(Prospect {
            config,
            terms,
            stable,
            bets: kinds.zip(config.family.tilts(&baseline)).collect(),
            proofs: proofs(&baseline, config.promote_shift, config.allowance),
        })
    }

    /// Expected seconds until a canary with these probabilities is rolled back, and the bet that does it; `None` when
    /// none does.
    pub fn roll_back_seconds(&self, canary: &[f64]) -> Option<(f64, Slower)> {
        let shifted = self.shifted(canary);
        let fixed = |(kind, tilt): &(Slower, Tilt)| {
            let information = self.growth(tilt, &shifted);
            Some((self.seconds(self.needed(*kind), information)?, *kind))
        };
        let learned = self.learned_seconds(&shifted).map(|s| (s, Slower::Learned));
        let all = self.bets.iter().filter_map(fixed).chain(learned);
        all.min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// No test of the same null at this alpha can be faster on average.
    pub fn floor_seconds(&self, canary: &[f64]) -> Option<f64> {
        self.seconds(nats(self.terms.alpha), self.information(canary))
    }

    /// Expected seconds until a canary as fast as stable has all three quantiles proven, soak time apart.
    pub fn promote_seconds(&self) -> Option<f64> {
        let nats = self.config.phi.get() * nats(self.terms.beta);
        let each = self.proofs.iter();
        each.map(|proof| self.seconds(nats, proof.information(&self.stable, self.terms.weight)))
            .try_fold(0.0, |most, seconds| Some(f64::max(most, seconds?)))
    }

    /// Nats per request, both arms counted, that separate the canary from the nearest one within the margin: what a
    /// bet on just this canary would grow by.
    pub fn information(&self, canary: &[f64]) -> f64 {
        let shifted = self.shifted(canary);
        let best = Tilt::new(&self.stable, &rising(&shifted, &self.stable));
        self.growth(&best, &shifted).max(0.0)
    }

    /// The learned bet knows the more of the canary the more requests it has seen: growth added up in steps. What
    /// chance makes it learn wrongly is left out; the pseudo-requests keep that small.
    fn learned_seconds(&self, shifted: &[f64]) -> Option<f64> {
        let (whole, shrinkage) = (rising(shifted, &self.stable), self.config.family.shrinkage());
        let needed = self.needed(Slower::Learned);
        let (mut nats, mut requests) = (0.0, 0.0);
        while requests < MOST_REQUESTS {
            let known = self.terms.weight * requests;
            let part = known / (known + shrinkage);
            let factors: Vec<f64> = whole.iter().map(|g| 1.0 - part + part * g).collect();
            let growth = self.growth(&Tilt::new(&self.stable, &factors), shifted);
            let step = 1.0 + STEP * requests;
            if nats + growth * step >= needed {
                return Some((requests + (needed - nats) / growth) / self.terms.rate);
            }
            nats += growth * step;
            requests += step;
        }
        None
    }

    /// Nats that a bet must earn; with dispersion so many times more, since it is paid so much less for each.
    fn needed(&self, bet: Slower) -> f64 {
        let stake = self.terms.stake * self.config.family.weight(bet) * self.config.spread.head_start();
        self.config.phi.get() * (nats(self.terms.alpha) + nats(stake))
    }

    /// The canary as the null of the margin sees it.
    fn shifted(&self, canary: &[f64]) -> Vec<f64> {
        let (low, high) = canary.split_at((self.config.shift + 1).min(canary.len()));
        let mut shifted = vec![low.iter().sum()];
        shifted.extend(high);
        shifted.resize(self.stable.len(), 0.0);
        shifted
    }

    fn growth(&self, tilt: &Tilt, shifted: &[f64]) -> f64 {
        tilt.growth(&self.stable, shifted, self.terms.weight)
    }

    fn seconds(&self, nats: f64, information: f64) -> Option<f64> {
        let seconds = nats / (self.terms.rate * information);
        (information > ROUNDING && seconds.is_finite()).then_some(seconds)
    }
}
