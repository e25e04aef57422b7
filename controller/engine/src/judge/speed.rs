//! The evidence besides errors: slower requests, and requests without an answer.

use super::{
    calibration::Calibration,
    event::Tick,
    evidence::Past,
    outcome::{Outcome, STALL_AGE, buckets, spread},
};
use crate::plan::Plan;
use contract::{
    latency::{EDGES, edge_seconds},
    release::{Latencies, Quantiles},
};
use serde::{Deserialize, Serialize};
use stats::{
    Arm, Counts,
    blocks::Tally,
    errors::{ErrorProcess, Phi},
    latency::{BUCKETS_PER_OCTAVE, Histograms, LatencyConfig, LatencyProcess, quantile},
};

/// Stable requests that make a baseline of latency: with fewer, half a request in each bucket would be a tenth of it.
const ENOUGH: u64 = 300;
/// Good answers that are added to stable's past, so that no past is not even odds.
const PRIOR: u64 = 20;
/// Seconds after which a request counts half for whether a slow-down matters.
const HALF_LIFE: f64 = 120.0;
/// Factor by which p95 or p99 must be slower to matter by itself: one bucket.
const BUCKET: f64 = 1.189;

/// Latency and hangs of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Speed {
    latency: Latency,
    stalled: ErrorProcess,
    /// Stalled requests so far.
    counts: Counts,
    /// Durations so far, the warm-up apart.
    seen: Histograms,
    /// The same, halved every [`HALF_LIFE`]: whether a slow-down matters is asked of the present.
    lately: Histograms,
    since_halved: f64,
    /// Estimated slow-down below which a provably slower canary is kept.
    tolerance: f64,
}

/// The latency process, or what its baseline is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Latency {
    /// Stable's past is too thin: its first requests of the run make the baseline, and are not judged.
    Learning(LatencyConfig, Vec<u64>),
    Judged(Box<LatencyProcess>),
}

impl Speed {
    pub fn start(plan: &Plan, config: LatencyConfig, calibration: &Calibration, past: &Past) -> Speed {
        let judgement = &plan.policy.judgement;
        let tolerance = calibration.tolerance(judgement.latency.tolerance);
        let stalled = calibration.widen(plan.stalled);
        let config = LatencyConfig {
            promote_shift: calibration.promote_shift(config.promote_shift, tolerance),
            ..config
        };
        let age = judgement.outcome_age.as_seconds();
        let past_latency = spread(&past.latency, buckets(age));
        Speed {
            latency: Latency::Learning(config, past_latency).settled(),
            stalled: ErrorProcess::new(stalled, stalled_before(past, STALL_AGE / 2.0)),
            counts: Counts::default(),
            seen: Histograms::default(),
            lately: Histograms::default(),
            since_halved: 0.0,
            tolerance,
        }
    }

    pub fn tick(&mut self, tick: &Tick<Outcome>, phi: Phi) {
        self.age(tick.dt);
        let histograms: Vec<Histograms> = tick.blocks.iter().map(|b| b.latency.clone()).collect();
        if !tick.cold {
            histograms.iter().for_each(|h| self.seen.absorb(h));
            histograms.iter().for_each(|h| self.lately.absorb(h));
        }
        match &mut self.latency {
            Latency::Judged(process) => {
                process.set_phi(phi);
                process.tick(tick.dt, if tick.cold { &[] } else { &histograms });
            }
            Latency::Learning(_, stable) => {
                for (sum, more) in histograms.iter().flat_map(|h| h.stable.iter().enumerate()) {
                    if let Some(sum) = stable.get_mut(sum) {
                        *sum = sum.saturating_add(*more);
                    }
                }
                self.latency.settle();
            }
        }
    }

    /// What was long ago says little of how slow the canary is now.
    fn age(&mut self, dt: f64) {
        self.since_halved += dt;
        if self.since_halved >= HALF_LIFE {
            self.since_halved = 0.0;
            let both = [&mut self.lately.stable, &mut self.lately.canary];
            both.into_iter().flatten().for_each(|n| *n /= 2);
        }
    }

    /// Cold caches may cost a second; the outcome age is a hang at any time, and a matter of errors.
    pub fn tick_stalled(&mut self, tick: &Tick<Counts>, phi: Phi) {
        let blocks: &[Counts] = if tick.cold { &[] } else { &tick.blocks };
        self.stalled.set_phi(phi);
        self.stalled.tick(tick.dt, blocks);
        self.counts = blocks.iter().fold(self.counts, |sum, b| sum.plus(*b));
    }

    /// Evidence for "slower", in nats, as far as it matters: proven and estimated to be less than tolerated is kept out
    /// of the verdict. Less than an e-process is one.
    pub fn log_latency(&self) -> f64 {
        if self.counts() {
            self.latency.log_roll()
        } else {
            0.0
        }
    }

    /// Whether the latency has its say in the verdict.
    pub fn counts(&self) -> bool {
        self.latency.log_roll() <= 0.0 || self.matters()
    }

    pub fn log_stalled(&self) -> f64 {
        self.stalled.log_roll()
    }

    pub fn log_promote(&self) -> f64 {
        match &self.latency {
            Latency::Learning(..) => 0.0,
            Latency::Judged(process) => process.log_promote(),
        }
    }

    pub fn log_promote_by_quantile(&self) -> [f64; 3] {
        match &self.latency {
            Latency::Learning(..) => [0.0; 3],
            Latency::Judged(process) => process.log_promote_by_quantile(),
        }
    }

    /// Whether there is no baseline yet.
    pub fn is_learning(&self) -> bool {
        matches!(self.latency, Latency::Learning(..))
    }

    /// The process, once there is a baseline.
    pub fn process(&self) -> Option<&LatencyProcess> {
        match &self.latency {
            Latency::Learning(..) => None,
            Latency::Judged(process) => Some(process),
        }
    }

    pub fn stalled(&self) -> &ErrorProcess {
        &self.stalled
    }

    pub fn stalled_counts(&self) -> Counts {
        self.counts
    }

    /// Durations of both tracks since the warm-up.
    pub fn seen(&self) -> &Histograms {
        &self.seen
    }

    /// Buckets of the durations that are wanted.
    pub fn buckets(&self) -> usize {
        match &self.latency {
            Latency::Learning(_, stable) => stable.len(),
            Latency::Judged(process) => process.baseline().len(),
        }
    }

    /// Requests of both tracks that are slower than stable's p99 was: what a slow canary costs, for the pace. Nothing is
    /// known in the warm-up, whose slowness passes.
    pub fn slow(&self) -> Option<Counts> {
        if self.seen.requests().1 == 0 {
            return None;
        }
        let tails = self.process()?.baseline().iter().rev().scan(0.0, |sum, p| {
            *sum += p;
            Some(*sum)
        });
        let above = tails.take_while(|tail| *tail <= SLOW).count();
        let edge = self.buckets().saturating_sub(above.max(1));
        Some(self.seen.slower_than(edge, edge))
    }

    pub fn latencies(&self) -> Option<Latencies> {
        latencies(&self.seen)
    }

    /// The slow-down that is tolerated, as a factor.
    pub fn tolerance(&self) -> f64 {
        self.tolerance
    }

    /// Whether the estimated slow-down is more than is tolerated: of the mean, of the typical (geometric mean) request,
    /// or by a whole bucket at p95 or p99.
    fn matters(&self) -> bool {
        let ratio = |of: fn(&[u64]) -> f64| of(&self.lately.canary) / of(&self.lately.stable);
        let [mean, typical] = [ratio(mean), ratio(typical)];
        let Some(l) = latencies(&self.lately) else {
            return false;
        };
        mean.max(typical) >= self.tolerance
            || [(l.canary.p95, l.stable.p95), (l.canary.p99, l.stable.p99)]
                .iter()
                .any(|(canary, stable)| *canary >= stable * BUCKET.max(self.tolerance))
    }
}

/// Share of stable's requests that is called slow.
const SLOW: f64 = 0.015;

impl Latency {
    /// Judged from now on, if there is enough to compare with: decided by stable's past alone.
    fn settled(mut self) -> Latency {
        self.settle();
        self
    }

    fn settle(&mut self) {
        let Latency::Learning(config, stable) = self else {
            return;
        };
        let requests = stable.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        if requests < ENOUGH {
            return;
        }
        if let Ok(process) = LatencyProcess::new(*config, stable) {
            *self = Latency::Judged(Box::new(process));
        }
    }

    fn log_roll(&self) -> f64 {
        match self {
            Latency::Learning(..) => 0.0,
            Latency::Judged(process) => process.log_roll(),
        }
    }
}

/// How many of stable's requests had no answer at an age, by the durations and as if every bad one were slow.
fn stalled_before(past: &Past, age: f64) -> Arm {
    let slow = |bucket: u16| bucket > 0 && edge_seconds(usize::from(bucket).min(EDGES) - 1) >= age;
    let sum =
        |pairs: &mut dyn Iterator<Item = &(u16, u64)>| pairs.fold(0u64, |sum, (_, n)| sum.saturating_add(*n));
    let all = sum(&mut past.latency.iter());
    let late = sum(&mut past.latency.iter().filter(|(bucket, _)| slow(*bucket)));
    Arm::new(
        all.saturating_add(PRIOR),
        late.saturating_add(past.counts.x).min(all),
    )
}

/// Middle of a bucket by ratio, seconds; the overflow counts as its edge.
fn middle(bucket: usize, buckets: usize) -> f64 {
    let last = buckets.saturating_sub(1);
    if bucket >= last {
        edge_seconds(last.saturating_sub(1).min(EDGES - 1))
    } else {
        edge_seconds(bucket.min(EDGES - 1)) * 2f64.powf(-0.5 / BUCKETS_PER_OCTAVE)
    }
}

/// Mean, seconds; NaN without requests.
fn mean(buckets: &[u64]) -> f64 {
    average(buckets, |seconds| seconds)
}

/// Geometric mean, seconds; NaN without requests.
fn typical(buckets: &[u64]) -> f64 {
    average(buckets, f64::ln).exp()
}

fn average(buckets: &[u64], of: impl Fn(f64) -> f64) -> f64 {
    let parts = buckets.iter().enumerate().filter(|(_, n)| **n > 0);
    let (sum, requests) = parts.fold((0.0, 0.0), |(sum, requests), (b, n)| {
        let n = *n as f64;
        (sum + n * of(middle(b, buckets.len())), requests + n)
    });
    sum / requests
}

/// Within a bucket by ratio; the overflow has no upper edge. `None` without requests.
pub(super) fn quantile_seconds(buckets: &[u64], p: f64) -> Option<f64> {
    let (bucket, part) = quantile(buckets, p)?;
    let edge = edge_seconds(bucket.min(buckets.len().saturating_sub(2)));
    let overflow = bucket + 1 >= buckets.len();
    let part = if overflow { 0.0 } else { part - 1.0 };
    Some(edge * 2f64.powf(part / BUCKETS_PER_OCTAVE))
}

fn latencies(seen: &Histograms) -> Option<Latencies> {
    Some(Latencies {
        stable: quantiles(&seen.stable)?,
        canary: quantiles(&seen.canary)?,
    })
}

fn quantiles(buckets: &[u64]) -> Option<Quantiles> {
    let at = |p: f64| quantile_seconds(buckets, p);
    Some(Quantiles {
        p50: at(0.5)?,
        p95: at(0.95)?,
        p99: at(0.99)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statistics do not know the contract, and count buckets for "ten times slower".
    #[test]
    fn the_statistics_and_the_contract_mean_the_same_buckets() {
        let octaves = (edge_seconds(EDGES - 1) / edge_seconds(0)).log2();
        assert!((octaves * BUCKETS_PER_OCTAVE - (EDGES - 1) as f64).abs() < 1e-9);
    }

    #[test]
    fn quantiles_and_means_are_within_a_bucket_of_the_truth() {
        let mut buckets = vec![0; 55];
        for i in 1..=1000u64 {
            buckets[contract::latency::bucket(i * 1_000_000)] += 1;
        }
        let q = quantiles(&buckets).unwrap();
        let means = [(mean(&buckets), 0.5005), (typical(&buckets), 0.369)];
        let quantiles = [(q.p50, 0.5), (q.p95, 0.95), (q.p99, 0.99)];
        for (found, truth) in quantiles.into_iter().chain(means) {
            assert!((found / truth - 1.0).abs() < 0.1, "{found} for {truth}");
        }
        assert_eq!(super::quantiles(&[0; 55]), None);
    }

    #[test]
    fn a_thin_past_is_filled_up_by_stable_before_anything_is_judged() {
        let thin = Latency::Learning(LatencyConfig::default(), vec![ENOUGH - 1; 1]);
        assert!(matches!(thin.settled(), Latency::Learning(..)));
        let enough = Latency::Learning(LatencyConfig::default(), vec![ENOUGH; 55]);
        assert!(matches!(enough.settled(), Latency::Judged(_)));
    }

    #[test]
    fn slow_and_bad_requests_of_the_past_count_as_stalled() {
        let past = Past {
            counts: Arm::new(1000, 5),
            latency: vec![(10, 900), (44, 100)],
            ..Past::default()
        };
        assert_eq!(stalled_before(&past, 0.5), Arm::new(1000 + PRIOR, 105));
        assert_eq!(stalled_before(&past, 2.5), Arm::new(1000 + PRIOR, 5));
        assert_eq!(stalled_before(&Past::default(), 0.5), Arm::new(PRIOR, 0));
    }
}
