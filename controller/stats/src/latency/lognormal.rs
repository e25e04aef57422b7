//! Log-normal latencies: what a service is taken for when only a quantile or two of it are known.

use statrs::function::erf::erfc;
use std::f64::consts::SQRT_2;

/// Seconds whose logarithm is normally distributed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogNormal {
    /// p50 in seconds.
    pub median: f64,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
}

/// Standard normal quantile of 99 %.
const Z99: f64 = 2.326_347_874_040_841;

impl LogNormal {
    /// With this p99 in seconds.
    pub fn with_p99(p99: f64, sigma: f64) -> LogNormal {
        let median = p99 * (-Z99 * sigma).exp();
        LogNormal { median, sigma }
    }

    /// With these two quantiles in seconds, `p50 < p99`.
    pub fn between(p50: f64, p99: f64) -> LogNormal {
        let sigma = (p99 / p50).ln() / Z99;
        LogNormal { median: p50, sigma }
    }

    /// Share of requests that take at most so many seconds.
    pub fn below(&self, seconds: f64) -> f64 {
        let z = (seconds / self.median).ln() / self.sigma;
        0.5 * erfc(-z / SQRT_2)
    }

    /// The same when a part `share` of the requests takes `times` as long.
    pub fn below_slowed(&self, seconds: f64, share: f64, times: f64) -> f64 {
        (1.0 - share) * self.below(seconds) + share * self.below(seconds / times)
    }
}

/// Probability of each bucket between rising edges, in seconds, the overflow last; `below` is the share of requests
/// that take at most so many seconds.
pub fn probabilities(edges: &[f64], below: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut last = 0.0;
    let ends = edges.iter().map(|edge| below(*edge)).chain([1.0]);
    ends.map(|end| f64::max(end - std::mem::replace(&mut last, end), 0.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_given_is_the_quantile_found() {
        let service = LogNormal::with_p99(0.2, 0.6);
        assert!((service.below(0.2) - 0.99).abs() < 1e-12);
        assert!((service.median - 0.0495).abs() < 1e-4);
        let again = LogNormal::between(service.median, 0.2);
        assert!((again.sigma - 0.6).abs() < 1e-12);
    }

    #[test]
    fn buckets_hold_every_request() {
        let service = LogNormal::with_p99(0.2, 0.6);
        let p = probabilities(&[0.05, 0.1, 0.2], |s| service.below_slowed(s, 0.5, 2.0));
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert_eq!(p.len(), 4);
        assert!((p[3] - (0.5 * 0.01 + 0.5 * (1.0 - service.below(0.1)))).abs() < 1e-12);
    }
}
