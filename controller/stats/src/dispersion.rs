//! How noisy stable traffic is against itself: phi-hat of placebo groups, spread of pods (evidence 2d).

use crate::counts::Arm;
use crate::errors::Phi;
use crate::halfplane::Margin;
use crate::refused::Refused;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// Continuous A/A over placebo groups of stable traffic. Feed it for half an hour before the canary, then fix
/// [`Noise::phi`]: a phi that sees the canary would be no predictable one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    scales: [Scale; LENGTHS.len()],
}

/// Seconds per block: bursts show only in blocks at least as long as they are.
const LENGTHS: [f64; 3] = [1.0, 10.0, 60.0];

/// 99 % quantile of the standard normal distribution, rounded as the specification has it.
const SURE: f64 = 2.33;

/// The promotion line stays this much above the rollback line, so that a gap remains where either is right.
const GAP: f64 = 1.14;

/// The quotient of one block length, and its open block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Scale {
    found: f64,
    expected: f64,
    open: Vec<Arm>,
    age: f64,
}

impl Noise {
    /// One tick of `dt` seconds, the counts of each placebo group (the same groups in every tick).
    pub fn tick(&mut self, dt: f64, groups: &[Arm]) {
        for (scale, length) in self.scales.iter_mut().zip(LENGTHS) {
            scale.tick(dt, groups, length);
        }
    }

    /// Largest dispersion over the block lengths, at least 1; 1 without any error. An open block does not count.
    pub fn phi(&self) -> Phi {
        let largest = self
            .scales
            .iter()
            .map(|s| quotient(s.found, s.expected))
            .fold(1.0, f64::max);
        Phi::new(largest).unwrap_or(Phi::ONE)
    }
}

impl Scale {
    fn tick(&mut self, dt: f64, groups: &[Arm], length: f64) {
        self.open
            .resize(self.open.len().max(groups.len()), Arm::default());
        self.open
            .iter_mut()
            .zip(groups)
            .for_each(|(sum, more)| *sum = sum.plus(*more));
        self.age += crate::seconds::seconds(dt);
        if self.age >= length {
            let (found, expected) = variances(&self.open);
            self.found += found;
            self.expected += expected;
            self.open.clear();
            self.age = 0.0;
        }
    }
}

/// Dispersion of blocks of placebo groups: sum of squared deviations from the rate pooled within each block over
/// what independent requests would give. Common shocks cancel; groups may be unequal. 1 without any error.
pub fn dispersion<'a>(blocks: impl IntoIterator<Item = &'a [Arm]>) -> f64 {
    let sums = blocks
        .into_iter()
        .map(variances)
        .fold((0.0, 0.0), |sum, v| (sum.0 + v.0, sum.1 + v.1));
    quotient(sums.0, sums.1)
}

/// Standard deviation of the log error rate between pods, beyond what chance gives: moments of
/// `x_i ~ n_i p exp(spread)`, so that pods without errors need no correction. 0 with fewer than two pods.
pub fn pod_spread(pods: &[Arm]) -> f64 {
    pod_spread_beyond(pods, Phi::ONE)
}

/// The same beyond requests of dispersion `phi`: what one burst did to one pod is no lasting difference.
pub fn pod_spread_beyond(pods: &[Arm], phi: Phi) -> f64 {
    let (found, expected) = variances(pods);
    let expected = expected * phi.get();
    let requests: f64 = pods.iter().map(|pod| pod.requests()).sum();
    let bad: f64 = pods.iter().map(|pod| pod.bad()).sum();
    if requests <= 0.0 || bad <= 0.0 {
        return 0.0;
    }
    let share = |pod: &Arm| pod.requests() / requests;
    let squares: f64 = pods.iter().map(|pod| share(pod).powi(2)).sum();
    // The pooled rate moves with every pod: its part of the deviation is missing in what is found.
    let scale: f64 = pods
        .iter()
        .map(|p| (bad * share(p)).powi(2) * (1.0 - 2.0 * share(p) + squares))
        .sum();
    let variance = if scale > 0.0 {
        (found - expected).max(0.0) / scale
    } else {
        0.0
    };
    variance.ln_1p().sqrt()
}

/// Whether chance explains the differences between pods in fewer than `chance` of cases (chi-square test of one rate,
/// the requests having dispersion `phi`).
pub fn is_spread(pods: &[Arm], phi: Phi, chance: f64) -> bool {
    let requests: f64 = pods.iter().map(|pod| pod.requests()).sum();
    let bad: f64 = pods.iter().map(|pod| pod.bad()).sum();
    let counted = pods.iter().filter(|pod| pod.n > 0);
    if !(bad > 0.0 && bad < requests) {
        return false;
    }
    let p = bad / requests;
    let square = |pod: &Arm| (pod.bad() - pod.requests() * p).powi(2) / (pod.requests() * p * (1.0 - p));
    let (sum, count) = counted.fold((0.0, 0.0), |(sum, count), pod| (sum + square(pod), count + 1.0));
    ChiSquared::new(count - 1.0).is_ok_and(|d| d.sf(sum / phi.get()) < chance)
}

/// Standard deviation of the pods' mean log durations (`log` nats a unit, `(requests, sum)` a pod), beyond what chance
/// gives to requests whose log durations have the variance `within`, in units: moments of a one-way layout
/// (DerSimonian and Laird). 0 when chance explains the differences in more than `chance` of cases.
pub fn duration_spread(pods: &[(f64, f64)], within: f64, unit: f64, chance: f64) -> f64 {
    let pods: Vec<(f64, f64)> = pods.iter().copied().filter(|(n, _)| *n > 0.0).collect();
    let requests: f64 = pods.iter().map(|(n, _)| n).sum();
    let mean = pods.iter().map(|(_, sum)| sum).sum::<f64>() / requests;
    let found: f64 = pods.iter().map(|(n, sum)| n * (sum / n - mean).powi(2)).sum();
    let freedom = pods.len() as f64 - 1.0;
    let sure = within > 0.0 && ChiSquared::new(freedom).is_ok_and(|d| d.sf(found / within) < chance);
    let scale = requests - pods.iter().map(|(n, _)| n * n).sum::<f64>() / requests;
    if sure && scale > 0.0 {
        ((found - freedom * within).max(0.0) / scale).sqrt() * unit
    } else {
        0.0
    }
}

/// Factor by which `canary` pods may differ from `stable` pods because single pods do: `exp(2.33 spread sqrt(1/m + 1/s))`.
pub fn reach(spread: f64, canary_pods: u32, stable_pods: u32) -> f64 {
    let pods = |count: u32| 1.0 / f64::from(count.max(1));
    (SURE * spread * (pods(canary_pods) + pods(stable_pods)).sqrt()).exp()
}

/// Margins in force for a pod spread: "with one pod I cannot see less than x2". The ratio of the rollback rises to
/// `exp(2.33 spread sqrt(1/m + 1/s))` for `m` canary and `s` stable pods, that of promotion stays 1.14 times above.
/// Refused when the spread is so large that no ratio is left.
pub fn widened(
    roll_back: Margin,
    promote: Margin,
    spread: f64,
    canary_pods: u32,
    stable_pods: u32,
) -> Result<(Margin, Margin), Refused> {
    let least = reach(spread, canary_pods, stable_pods);
    let roll_back = Margin::new(roll_back.ratio().max(least), roll_back.absolute())?;
    let promote = Margin::new(promote.ratio().max(GAP * roll_back.ratio()), promote.absolute())?;
    Ok((roll_back, promote))
}

/// Squared deviations of one block from its pooled rate, and their mean for independent requests.
fn variances(groups: &[Arm]) -> (f64, f64) {
    let requests: f64 = groups.iter().map(|group| group.requests()).sum();
    let bad: f64 = groups.iter().map(|group| group.bad()).sum();
    if requests <= 0.0 {
        return (0.0, 0.0);
    }
    let p = bad / requests;
    let found = groups
        .iter()
        .map(|group| (group.bad() - group.requests() * p).powi(2))
        .sum();
    let each = |n: f64| n * p * (1.0 - p) * (1.0 - n / requests);
    (found, groups.iter().map(|group| each(group.requests())).sum())
}

fn quotient(found: f64, expected: f64) -> f64 {
    if expected > 0.0 { found / expected } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_ten_seconds_shows_in_long_blocks_only() {
        let mut noise = Noise::default();
        for second in 0..600 {
            let burst = u64::from(second % 60 < 10);
            let groups = [Arm::new(100, burst), Arm::new(100, 0), Arm::new(100, 0)];
            noise.tick(1.0, &groups);
        }
        let phi = noise.phi().get();
        assert!(phi > 8.0 && phi < 12.0, "{phi}");
    }

    #[test]
    fn without_errors_or_groups_phi_is_one() {
        let mut noise = Noise::default();
        (0..100).for_each(|_| noise.tick(1.0, &[Arm::new(9, 0); 5]));
        (0..100).for_each(|_| noise.tick(1.0, &[]));
        assert_eq!(noise.phi(), Phi::ONE);
    }

    #[test]
    fn pods_that_differ_by_chance_only_have_no_spread() {
        assert_eq!(
            pod_spread(&[Arm::new(1000, 10), Arm::new(1000, 12), Arm::new(1000, 8)]),
            0.0
        );
        assert_eq!(pod_spread(&[Arm::new(1000, 10)]), 0.0);
        assert_eq!(pod_spread(&[]), 0.0);
    }

    #[test]
    fn only_differences_beyond_chance_are_a_spread() {
        let pods = |bad: [u64; 4]| bad.map(|x| Arm::new(10_000, x));
        assert!(!is_spread(&pods([10, 14, 7, 9]), Phi::ONE, 0.05));
        assert!(is_spread(&pods([10, 34, 7, 9]), Phi::ONE, 0.05));
        let burst = Phi::new(20.0).unwrap();
        assert!(!is_spread(&pods([10, 34, 7, 9]), burst, 0.05));
        assert_eq!(pod_spread_beyond(&pods([10, 34, 7, 9]), burst), 0.0);
        assert!(
            !is_spread(&pods([0; 4]), Phi::ONE, 0.05)
                && !is_spread(&[Arm::new(9, 1)], Phi::ONE, 0.05)
                && !is_spread(&[], Phi::ONE, 0.05)
        );
    }

    #[test]
    fn durations_of_pods_have_a_spread_beyond_chance_only() {
        let pods = |shift: [f64; 4]| shift.map(|s| (1000.0, 1000.0 * (20.0 + s)));
        let found = duration_spread(&pods([-1.0, 1.0, -1.0, 1.0]), 12.0, 0.5, 0.05);
        // Four means of 20 -+ 1: the sample variance is 4/3, of which chance has 0.012.
        assert!(
            (found - 0.5 * (4.0_f64 / 3.0 - 0.012).sqrt()).abs() < 1e-12,
            "{found}"
        );
        assert_eq!(
            duration_spread(&pods([-0.1, 0.1, 0.05, 0.0]), 12.0, 0.5, 0.05),
            0.0
        );
        assert_eq!(duration_spread(&[(5.0, 9.0)], 1.0, 1.0, 0.05), 0.0);
        assert_eq!(duration_spread(&[], 1.0, 1.0, 0.05), 0.0);
    }

    #[test]
    fn pods_of_known_spread_are_measured() {
        // Log rates at -0.3 and +0.3 around the mean: standard deviation 0.3 (as many of each).
        let pods =
            [(-0.3_f64).exp(), 0.3_f64.exp()].map(|factor| Arm::new(1_000_000, (10_000.0 * factor) as u64));
        let spread = pod_spread(&[
            pods[0], pods[1], pods[0], pods[1], pods[0], pods[1], pods[0], pods[1],
        ]);
        assert!((spread - 0.3).abs() < 0.03, "{spread}");
    }

    #[test]
    fn margins_of_the_specification() {
        let ratio = |canary| widened(Margin::ROLL_BACK, Margin::PROMOTE, 0.3, canary, 9).unwrap();
        assert!((ratio(1).0.ratio() - 2.1).abs() < 0.05);
        assert!((ratio(3).0.ratio() - 1.6).abs() < 0.05);
        assert!(ratio(1).1.ratio() >= 1.14 * ratio(1).0.ratio());
        let same = widened(Margin::ROLL_BACK, Margin::PROMOTE, 0.0, 1, 1).unwrap();
        assert_eq!(same.0, Margin::ROLL_BACK);
        assert!(widened(Margin::ROLL_BACK, Margin::PROMOTE, f64::NAN, 1, 1).is_ok());
        assert!(widened(Margin::ROLL_BACK, Margin::PROMOTE, 99.0, 1, 1).is_err());
    }
}
