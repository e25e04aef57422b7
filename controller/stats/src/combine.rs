//! Several metrics, one decision (evidence 2c).

use crate::bounds::nats;
use crate::capital::log_sum;

/// `ln sum v_j M_j`: an average of e-processes is one under *any* dependence, if all metrics release the same
/// cohorts together. Weights sum to 1; the cost of a metric is `ln(1 / v_j)`.
pub fn average(log_m: &[f64], weights: &[f64]) -> f64 {
    log_sum(terms(log_m, weights))
}

/// Metrics of one decision. Those that release the same cohorts at the same age belong to one `release`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// `ln M` of its e-process.
    pub log_m: f64,
    /// Its share; those of all metrics sum to 1.
    pub weight: f64,
    /// Which cohorts it has seen, by number.
    pub release: usize,
}

/// `ln` of the largest over the releases of `sum v_j M_j`. Within a release that is an average of e-processes; between
/// releases, whose filtrations differ, the sum of `P(sum v_j M_j >= 1/alpha) <= alpha sum v_j` over them is `alpha`.
pub fn largest(metrics: &[Metric]) -> f64 {
    metrics
        .iter()
        .map(|m| of_release(metrics, m.release))
        .fold(f64::NEG_INFINITY, f64::max)
}

/// `ln sum v_j M_j` over the metrics of one release.
pub fn of_release(metrics: &[Metric], release: usize) -> f64 {
    let part = metrics.iter().filter(|m| m.release == release && m.weight > 0.0);
    log_sum(part.map(|m| m.weight.ln() + m.log_m))
}

/// Which metrics are guilty at `alpha`, all named ones at once: closed testing, each set of metrics by the test of
/// [`largest`] with its weights scaled to sum 1. The hardest set for a metric holds all metrics of other releases, and
/// those of its own that have not reached `1/alpha` themselves.
pub fn guilty_among(metrics: &[Metric], alpha: f64) -> Vec<bool> {
    let threshold = nats(alpha);
    let stands = |(j, metric): (usize, &Metric)| {
        let harder = |i: usize, m: &Metric| i != j && (m.release != metric.release || m.log_m < threshold);
        let set = metrics
            .iter()
            .enumerate()
            .filter(|(i, m)| *i == j || harder(*i, m));
        let scale: f64 = set.clone().map(|(_, m)| m.weight).sum();
        let own = set.filter(|(_, m)| m.release == metric.release && m.weight > 0.0);
        log_sum(own.map(|(_, m)| m.weight.ln() + m.log_m)) - scale.ln() >= threshold
    };
    metrics.iter().enumerate().map(stands).collect()
}

/// Share of each metric in the average.
pub fn shares(log_m: &[f64], weights: &[f64]) -> Vec<f64> {
    let top = terms(log_m, weights).fold(f64::NEG_INFINITY, f64::max);
    let parts: Vec<f64> = terms(log_m, weights).map(|term| (term - top).exp()).collect();
    let total: f64 = parts.iter().sum();
    parts.iter().map(|part| part / total).collect()
}

/// Evidence for promotion: all must be proven, so the least counts and needs no correction. `None` of no metric.
pub fn least(log_promote: &[f64]) -> Option<f64> {
    log_promote.iter().copied().min_by(f64::total_cmp)
}

/// Which metrics are guilty at `alpha`, all named ones at once (closed testing): the average of the metric with
/// the `m` smallest others reaches `1/alpha` for every `m`.
pub fn guilty(log_m: &[f64], alpha: f64) -> Vec<bool> {
    (0..log_m.len())
        .map(|j| is_guilty(log_m, j, nats(alpha)))
        .collect()
}

/// Alpha or beta of a retry of the same version: halved each time, so that "retry until green" does not pay.
pub fn after_retries(probability: f64, retries: u32) -> f64 {
    probability * 0.5_f64.powi(i32::try_from(retries).unwrap_or(i32::MAX))
}

fn is_guilty(log_m: &[f64], j: usize, threshold: f64) -> bool {
    let mut others: Vec<f64> = log_m
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != j)
        .map(|(_, log)| *log)
        .collect();
    others.sort_by(f64::total_cmp);
    (0..=others.len()).all(|m| {
        let group = others.iter().take(m).chain([&log_m[j]]).copied();
        log_sum(group) - ((m + 1) as f64).ln() >= threshold
    })
}

fn terms(log_m: &[f64], weights: &[f64]) -> impl Iterator<Item = f64> + Clone {
    log_m
        .iter()
        .zip(weights)
        .filter(|(_, v)| **v > 0.0)
        .map(|(log, v)| v.ln() + log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_strong_metric_is_guilty_alone() {
        let log_m = [9.0, -2.0, 0.5];
        assert_eq!(guilty(&log_m, 0.01), [true, false, false]);
        assert_eq!(
            guilty(&[4.7, -2.0, 0.5], 0.01),
            [false; 3],
            "enough alone, not with the others"
        );
        assert_eq!(guilty(&[4.7], 0.01), [true]);
        assert_eq!(guilty(&[], 0.01), [false; 0]);
    }

    const fn metric(log_m: f64, weight: f64, release: usize) -> Metric {
        Metric {
            log_m,
            weight,
            release,
        }
    }

    #[test]
    fn a_metric_that_alone_decides_is_guilty_and_the_quiet_one_is_not() {
        let metrics = [metric(5.4, 0.5, 0), metric(-1.0, 0.4, 0), metric(0.0, 0.1, 1)];
        assert!(largest(&metrics) >= 100f64.ln());
        assert_eq!(guilty_among(&metrics, 0.01), [true, false, false]);
        let early = [metric(0.0, 0.5, 0), metric(-1.0, 0.4, 0), metric(7.0, 0.1, 1)];
        assert_eq!(guilty_among(&early, 0.01), [false, false, true]);
        assert_eq!(guilty_among(&[metric(4.7, 1.0, 0)], 0.01), [true]);
    }

    #[test]
    fn releases_are_not_added_up() {
        let metrics = [metric(3.0, 0.5, 0), metric(3.0, 0.5, 1)];
        assert!((largest(&metrics) - (3.0 + 0.5f64.ln())).abs() < 1e-12);
        assert_eq!(largest(&[metric(1.5, 1.0, 0)]), 1.5);
    }

    #[test]
    fn promotion_waits_for_the_last_metric() {
        assert_eq!(least(&[5.0, 3.0, 4.0]), Some(3.0));
        assert_eq!(least(&[]), None);
    }

    #[test]
    fn shares_sum_to_one_also_when_all_evidence_is_tiny() {
        let shares = shares(&[-1e6, -1e6 + 1.0, -2e6], &[0.5, 0.4, 0.1]);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-14);
        assert!(shares[1] > shares[0]);
    }

    #[test]
    fn retries_halve_the_chance() {
        assert_eq!(after_retries(0.01, 0), 0.01);
        assert_eq!(after_retries(0.01, 2), 0.0025);
        assert_eq!(after_retries(0.01, u32::MAX), 0.0);
    }
}
