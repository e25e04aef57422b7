//! What can break the evidence, measured on stable before the canary came (statistics 2d): bursts of single pods, pods
//! that differ for good. Fixed for the run: a measure that sees the canary would be no predictable one.

use crate::plan::Plan;
use contract::{evidence::Noise, policy};
use serde::{Deserialize, Serialize};
use stats::{
    Arm,
    dispersion::{duration_spread, is_spread, pod_spread_beyond, reach, widened},
    errors::{ErrorConfig, Phi},
    latency::BUCKETS_PER_OCTAVE,
};

/// Chance of widening the margin although the pods are alike: the price is a less watchful release, not a wrong one.
const CHANCE: f64 = 0.01;
/// Bad requests of an even half hour that are added to the one seen: a handful of errors says nothing of dispersion.
const INDEPENDENT: f64 = 40.0;
/// Dispersion that the largest of three lengths shows by chance with independent requests.
const EVEN: f64 = 1.15;
/// Largest dispersion that is believed: more would hide a canary that fails outright.
const LARGEST: f64 = 20.0;
/// Largest factor that is tolerated because pods differ; beyond it, differences are faults to be found.
const WIDEST: f64 = 4.0;

/// What stable has shown of itself before the canary.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Manner {
    /// How much the slices of stable differed, minute by minute and proxy by proxy.
    pub noise: Vec<Noise>,
    /// Proxies that told it: each sees a part of every pod's traffic.
    pub proxies: u32,
    /// Stable's pods, over all proxies.
    pub pods: Vec<Arm>,
    /// Requests that ended, and the sum of their buckets, by pod.
    pub durations: Vec<(f64, f64)>,
    /// Variance of the bucket of a request of stable.
    pub within: f64,
    /// Endpoints by track.
    pub endpoints: [u32; 2],
    /// Whether stable can be divided into slices.
    pub is_divided: bool,
}

/// How the run is judged because of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Dispersion of a slice of stable as large as one pod, over all proxies; 1 for independent requests.
    pub phi: f64,
    /// Standard deviation of the log error rate between stable's pods; 0 when chance explains it.
    pub spread: f64,
    /// The same of the log of their typical durations.
    pub slowness: f64,
    /// Endpoints by track, at least 1.
    pub endpoints: [u32; 2],
}

impl Calibration {
    /// From what stable has shown, as far as the policy wants it to count.
    pub fn of(plan: &Plan, manner: &Manner) -> Calibration {
        let words = &plan.policy.judgement.noise;
        Calibration {
            phi: if words.dispersion { phi(manner, false) } else { 1.0 },
            spread: if words.pod_spread { spread(manner) } else { 0.0 },
            slowness: if words.pod_spread { slowness(manner) } else { 0.0 },
            endpoints: manner.endpoints.map(|n| n.max(1)),
        }
    }

    /// Dispersion of the canary's requests at a share: bursts come by pods, and what a burst adds to the variance grows
    /// with the square of a pod's requests.
    pub fn phi_at(&self, share: f64) -> Phi {
        Phi::new(1.0 + (self.phi - 1.0).max(0.0) * self.size(share)).unwrap_or(Phi::ONE)
    }

    /// How large a pod of the canary is at a share, beside a pod of stable before it came.
    pub fn size(&self, share: f64) -> f64 {
        let [stable, canary] = self.endpoints.map(f64::from);
        share * stable / canary
    }

    /// Dispersion of a placebo: slices are what was measured.
    pub fn phi_of_slice(&self) -> Phi {
        Phi::new(self.phi).unwrap_or(Phi::ONE)
    }

    /// The slow-down that is tolerated, because single pods differ by as much.
    pub fn tolerance(&self, wanted: f64) -> f64 {
        let [stable, canary] = self.endpoints;
        reach(self.slowness, canary, stable).min(WIDEST).max(wanted)
    }

    /// Buckets by which a canary may be slower and still be good enough: more than are tolerated.
    pub fn promote_shift(&self, wanted: usize, tolerance: f64) -> usize {
        let tolerated = (tolerance.log2() * BUCKETS_PER_OCTAVE).ceil().max(0.0) as usize;
        wanted.max(tolerated + 1).min(policy::LARGEST_PROMOTE_SHIFT)
    }

    /// The settings of an error process with the margins that the spread of the pods asks for.
    pub fn widen(&self, config: ErrorConfig) -> ErrorConfig {
        if self.spread <= 0.0 {
            return config;
        }
        let [stable, canary] = self.endpoints;
        let most = self.spread * WIDEST.ln() / reach(self.spread, canary, stable).ln();
        let spread = self.spread.min(most);
        match widened(config.roll_back, config.promote, spread, canary, stable) {
            Ok((roll_back, promote)) => ErrorConfig {
                roll_back,
                promote,
                ..config
            },
            Err(_) => config,
        }
    }
}

/// The largest dispersion of the block lengths. Each of several proxies sees but a part of a pod's burst: over all of
/// them its variance is so many times larger.
///
/// The worst minute is left out: what happened once in half an hour, a pod that was restarted, is no manner of stable's,
/// and would blind the release. Bursts come again.
fn phi(manner: &Manner, worst_counts: bool) -> f64 {
    let largest = [0, 1, 2]
        .map(|length| quotient(&manner.noise, length, worst_counts))
        .into_iter()
        .fold(1.0, f64::max);
    let excess = if largest < EVEN { 0.0 } else { largest - 1.0 };
    (1.0 + excess * f64::from(manner.proxies.max(1))).min(LARGEST)
}

fn quotient(minutes: &[Noise], length: usize, worst_counts: bool) -> f64 {
    let excess = |m: &Noise| m.found[length] - m.expected[length];
    let worst = minutes.iter().max_by(|a, b| excess(a).total_cmp(&excess(b)));
    let left_out = worst.filter(|_| !worst_counts).copied().unwrap_or_default();
    let sum = |of: fn(&Noise) -> [f64; 3]| {
        let all: f64 = minutes.iter().map(|m| of(m)[length]).sum();
        all - of(&left_out)[length] + INDEPENDENT
    };
    sum(|m| m.found) / sum(|m| m.expected)
}

fn slowness(manner: &Manner) -> f64 {
    let unit = std::f64::consts::LN_2 / BUCKETS_PER_OCTAVE;
    duration_spread(&manner.durations, manner.within, unit, CHANCE)
}

/// What a burst did to one pod is no lasting difference: here the worst minute counts.
fn spread(manner: &Manner) -> f64 {
    let phi = Phi::new(phi(manner, true)).unwrap_or(Phi::ONE);
    if is_spread(&manner.pods, phi, CHANCE) {
        pod_spread_beyond(&manner.pods, phi)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::file::ServiceEntry;

    fn plan() -> Plan {
        Plan::of(&ServiceEntry::default()).unwrap()
    }

    /// Ten minutes like this, and one that is left out.
    fn minutes(one: f64, ten: f64) -> Vec<Noise> {
        let minute = |one, ten| Noise {
            found: [one, ten, 0.0],
            expected: [10.0, 10.0, 0.0],
        };
        let mut minutes = vec![minute(one, ten); 10];
        minutes.push(minute(500.0, 500.0));
        minutes
    }

    fn manner(pods: [u64; 3]) -> Manner {
        Manner {
            noise: minutes(10.0, 38.0),
            proxies: 2,
            pods: pods.map(|bad| Arm::new(10_000, bad)).to_vec(),
            endpoints: [3, 1],
            durations: [12.0, 12.5, 14.0].map(|b| (1000.0, b * 1000.0)).to_vec(),
            within: 9.0,
            is_divided: true,
        }
    }

    #[test]
    fn dispersion_is_the_largest_of_the_lengths_and_counts_every_proxys_part() {
        let found = Calibration::of(&plan(), &manner([10, 10, 10]));
        assert_eq!((found.phi, found.spread), (5.0, 0.0));
        assert_eq!(found.phi_at(1.0 / 3.0).get(), 5.0, "the canary as large as a pod");
        assert_eq!(found.phi_at(0.0), Phi::ONE);
    }

    #[test]
    fn a_handful_of_errors_and_chance_are_no_dispersion() {
        let phi_of = |found: f64, expected: f64| {
            let minute = Noise {
                found: [found, 0.0, 0.0],
                expected: [expected, 0.0, 0.0],
            };
            let manner = Manner {
                noise: vec![minute, Noise::default()],
                ..manner([10, 10, 10])
            };
            (phi(&manner, true), phi(&manner, false))
        };
        assert_eq!((phi_of(3.0, 1.5), phi_of(220.0, 200.0)), ((1.0, 1.0), (1.0, 1.0)));
        let (all, once) = phi_of(600.0, 300.0);
        assert!(all > 2.5 && once == 1.0, "{all} {once}");
        assert_eq!(phi_of(1e300, 1.0).0, LARGEST);
    }

    #[test]
    fn pods_that_differ_widen_the_margins_and_chance_does_not() {
        let plan = plan();
        let config = |pods| {
            let even = Manner {
                noise: Vec::new(),
                ..manner(pods)
            };
            Calibration::of(&plan, &even).widen(plan.errors)
        };
        assert_eq!(config([10, 14, 9]), plan.errors);
        let wide = config([10, 100, 40]);
        assert!(wide.roll_back.ratio() > 2.0, "{wide:?}");
        assert!(wide.promote.ratio() > 1.1 * wide.roll_back.ratio());
        assert!(config([0, 2000, 40]).roll_back.ratio() < 4.01, "not without end");
        let burst = Calibration::of(&plan, &manner([10, 60, 10])).widen(plan.errors);
        assert_eq!(burst, plan.errors, "one bad minute is no lasting difference");
    }

    #[test]
    fn pods_of_different_speed_raise_what_is_tolerated() {
        let found = Calibration::of(&plan(), &manner([10, 10, 10]));
        let tolerance = found.tolerance(1.05);
        assert!((1.5..1.7).contains(&tolerance), "{tolerance}");
        assert_eq!(found.promote_shift(2, tolerance), 4, "{tolerance}");
        assert_eq!(found.promote_shift(2, 1.05), 2);
    }

    #[test]
    fn the_policy_may_switch_both_off() {
        let mut plan = plan();
        plan.policy.judgement.noise.dispersion = false;
        plan.policy.judgement.noise.pod_spread = false;
        let found = Calibration::of(&plan, &manner([10, 100, 40]));
        assert_eq!((found.phi, found.widen(plan.errors)), (1.0, plan.errors));
        assert_eq!(found.tolerance(1.05), 1.05);
    }
}
