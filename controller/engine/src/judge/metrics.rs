//! Several metrics, one verdict (statistics 2c): bad requests, slower requests, requests without an answer.

use super::outcome::{Outcome, STALL_AGE, buckets, spread};
use crate::plan::Plan;
use contract::{
    latency::{EDGES, edge_seconds},
    policy::Weights,
    release::{self, Latencies, Quantiles},
};
use serde::{Deserialize, Serialize};
use stats::{
    Arm, Counts,
    blocks::Tally,
    combine,
    errors::ErrorProcess,
    latency::{BUCKETS_PER_OCTAVE, Histograms, LatencyConfig, LatencyProcess, quantile},
};

/// Stable requests that make a baseline of latency: with fewer, half a request in each bucket would be a tenth of it.
const ENOUGH: u64 = 300;
/// Good answers that are added to stable's past, so that no past is not even odds.
const PRIOR: u64 = 20;

/// One thing that a canary may be worse in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// More bad requests.
    Errors,
    /// Slower requests.
    Latency,
    /// More requests without an answer in time.
    Stalled,
}

/// In the order of every array of metrics here.
const METRICS: [Metric; 3] = [Metric::Errors, Metric::Latency, Metric::Stalled];
/// Which metrics see the same cohorts at the same age: errors and latency do.
const RELEASES: [usize; 3] = [0, 0, 1];

/// The evidence of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Metrics {
    errors: ErrorProcess,
    /// `None`: errors alone are judged.
    speed: Option<Speed>,
    weights: Weights,
    /// Log evidence of each release that an earlier part of the run brought along: the watch goes on with the capital
    /// that the ramp has left, so that alpha holds for both together.
    carried: [f64; 2],
}

/// The evidence besides errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Speed {
    latency: Latency,
    stalled: ErrorProcess,
    /// Stalled requests so far.
    counts: Counts,
    /// Durations so far, the warm-up apart.
    seen: Histograms,
}

/// The latency process, or what its baseline is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Latency {
    /// Stable's past is too thin: its first requests of the run make the baseline, and are not judged.
    Learning(LatencyConfig, Vec<u64>),
    Judged(Box<LatencyProcess>),
}

/// Stable before the canary.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Past {
    pub counts: Arm,
    /// Pairs of bucket and count, as pages tell them.
    pub latency: Vec<(u16, u64)>,
}

impl Metrics {
    pub fn start(plan: &Plan, past: &Past) -> Metrics {
        Metrics {
            errors: ErrorProcess::new(plan.errors, past.counts),
            speed: plan.latency.map(|config| Speed::start(plan, config, past)),
            weights: plan.policy.judgement.weights,
            carried: [0.0; 2],
        }
    }

    /// Fresh counts, the capital of `before`.
    pub fn follow(self, before: &Metrics) -> Metrics {
        let metrics = before.parts();
        let gained = |release: usize| {
            let weight: f64 = metrics
                .iter()
                .filter(|m| m.release == release)
                .map(|m| m.weight)
                .sum();
            combine::of_release(&metrics, release) - weight.ln()
        };
        let carried = match before.speed {
            Some(_) => [0, 1].map(gained),
            None => [gained(0), 0.0],
        };
        Metrics { carried, ..self }
    }

    /// Buckets of the durations that are wanted; `None`: none are.
    pub fn buckets(&self) -> Option<usize> {
        self.speed.as_ref().map(Speed::buckets)
    }

    /// A tick of `dt` seconds with the blocks that closed in it. What is `cold` is evidence for nothing but errors.
    pub fn tick(&mut self, dt: f64, blocks: &[Outcome], cold: bool) {
        let counts: Vec<Counts> = blocks.iter().map(|b| b.counts).collect();
        if cold {
            self.errors.tick_cold(dt, &counts);
        } else {
            self.errors.tick(dt, &counts);
        }
        if let Some(speed) = &mut self.speed {
            speed.tick(dt, blocks, cold);
        }
    }

    /// The same for the requests that are stalled. Cold caches may cost a second; the outcome age is a hang at any time,
    /// and a matter of errors.
    pub fn tick_stalled(&mut self, dt: f64, blocks: &[Counts], cold: bool) {
        let Some(speed) = &mut self.speed else { return };
        let blocks = if cold { &[] } else { blocks };
        speed.stalled.tick(dt, blocks);
        speed.counts = blocks.iter().fold(speed.counts, |sum, b| sum.plus(*b));
    }

    pub fn errors(&self) -> &ErrorProcess {
        &self.errors
    }

    pub fn log_rollback(&self) -> f64 {
        combine::largest(&self.parts())
    }

    /// All must be proven, so the least counts (no correction is needed).
    pub fn log_promote(&self) -> f64 {
        let errors = self.errors.log_promote();
        match &self.speed {
            Some(speed) => errors.min(speed.latency.log_promote()),
            None => errors,
        }
    }

    /// Who is worse: those that closed testing names, or else the one with most of the evidence.
    pub fn blamed(&self, alpha: f64) -> Vec<Metric> {
        let parts = self.parts();
        let guilty = combine::guilty_among(&parts, alpha);
        let named: Vec<Metric> = METRICS
            .into_iter()
            .zip(guilty)
            .filter_map(|(m, guilty)| guilty.then_some(m))
            .collect();
        if !named.is_empty() {
            return named;
        }
        let size = |m: &combine::Metric| m.weight.ln() + m.log_m;
        let most = METRICS
            .into_iter()
            .zip(&parts)
            .max_by(|a, b| size(a.1).total_cmp(&size(b.1)));
        most.map(|(m, _)| m).into_iter().collect()
    }

    pub fn shown(&self) -> Option<release::Metrics> {
        let speed = self.speed.as_ref()?;
        let shown = |arm: Arm| release::Counts {
            requests: arm.n,
            bad: arm.x,
        };
        Some(release::Metrics {
            errors: self.errors.log_roll(),
            latency: speed.latency.log_roll(),
            stalled: speed.stalled.log_roll(),
            promote_errors: self.errors.log_promote(),
            promote_latency: speed.latency.log_promote_by_quantile(),
            canary_stalled: shown(speed.counts.canary),
            stable_stalled: shown(speed.counts.stable),
        })
    }

    /// Quantiles of both tracks, once both have some.
    pub fn latencies(&self) -> Option<Latencies> {
        let seen = &self.speed.as_ref()?.seen;
        Some(Latencies {
            stable: quantiles(&seen.stable)?,
            canary: quantiles(&seen.canary)?,
        })
    }

    fn parts(&self) -> Vec<combine::Metric> {
        let Some(speed) = &self.speed else {
            return vec![combine::Metric {
                log_m: self.carried[0] + self.errors.log_roll(),
                weight: 1.0,
                release: 0,
            }];
        };
        let w = &self.weights;
        let weights = [w.errors, w.latency, w.stalled];
        let logs = [
            self.errors.log_roll(),
            speed.latency.log_roll(),
            speed.stalled.log_roll(),
        ];
        let part = |i: usize| combine::Metric {
            log_m: self.carried[RELEASES[i]] + logs[i],
            weight: weights[i],
            release: RELEASES[i],
        };
        [0, 1, 2].map(part).to_vec()
    }
}

impl Speed {
    fn start(plan: &Plan, config: LatencyConfig, past: &Past) -> Speed {
        let age = plan.policy.judgement.outcome_age.as_seconds();
        let past_latency = spread(&past.latency, buckets(age));
        Speed {
            latency: Latency::Learning(config, past_latency).settled(),
            stalled: ErrorProcess::new(plan.stalled, stalled_before(past, STALL_AGE / 2.0)),
            counts: Counts::default(),
            seen: Histograms::default(),
        }
    }

    fn buckets(&self) -> usize {
        match &self.latency {
            Latency::Learning(_, stable) => stable.len(),
            Latency::Judged(process) => process.baseline().len(),
        }
    }

    fn tick(&mut self, dt: f64, blocks: &[Outcome], cold: bool) {
        let histograms: Vec<Histograms> = blocks.iter().map(|b| b.latency.clone()).collect();
        if !cold {
            histograms.iter().for_each(|h| self.seen.absorb(h));
        }
        match &mut self.latency {
            Latency::Judged(process) => process.tick(dt, if cold { &[] } else { &histograms }),
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
}

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

    fn log_promote(&self) -> f64 {
        match self {
            Latency::Learning(..) => 0.0,
            Latency::Judged(process) => process.log_promote(),
        }
    }

    fn log_promote_by_quantile(&self) -> [f64; 3] {
        match self {
            Latency::Learning(..) => [0.0; 3],
            Latency::Judged(process) => process.log_promote_by_quantile(),
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

fn quantiles(buckets: &[u64]) -> Option<Quantiles> {
    let at = |p: f64| {
        let (bucket, part) = quantile(buckets, p)?;
        // Within a bucket by ratio; the overflow has no upper edge.
        let edge = edge_seconds(bucket.min(buckets.len().saturating_sub(2)));
        let overflow = bucket + 1 >= buckets.len();
        let part = if overflow { 0.0 } else { part - 1.0 };
        Some(edge * 2f64.powf(part / BUCKETS_PER_OCTAVE))
    };
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
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let mut buckets = vec![0; 55];
        for i in 1..=1000u64 {
            buckets[contract::latency::bucket(i * 1_000_000)] += 1;
        }
        let q = quantiles(&buckets).unwrap();
        for (found, truth) in [(q.p50, 0.5), (q.p95, 0.95), (q.p99, 0.99)] {
            assert!((found / truth - 1.0).abs() < 0.1, "{found} for {truth}");
        }
        assert_eq!(quantiles(&[0; 55]), None);
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
        };
        assert_eq!(stalled_before(&past, 0.5), Arm::new(1000 + PRIOR, 105));
        assert_eq!(stalled_before(&past, 2.5), Arm::new(1000 + PRIOR, 5));
        assert_eq!(stalled_before(&Past::default(), 0.5), Arm::new(PRIOR, 0));
    }
}
