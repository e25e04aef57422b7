//! Beta and Dirichlet mixtures of likelihoods: the e-processes behind bounds and splits (evidence 2a, 2g).

use crate::halfplane::divergence;
use statrs::function::gamma::ln_gamma;

/// A prior over the probabilities of several outcomes: positive pseudo-counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dirichlet<'a>(pub &'a [f64]);

/// A prior over a proportion: pseudo-hits and pseudo-misses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Beta {
    pub hits: f64,
    pub misses: f64,
}

/// Hits and misses seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tried {
    pub hits: f64,
    pub misses: f64,
}

/// From here on six terms of Stirling's series are exact to the last digit.
const STIRLING: f64 = 10.0;

const HALF_LN_TWO_PI: f64 = 0.918_938_533_204_672_7;

/// Bisection ends here at the latest: it halves the exponent range and then 52 bits.
const MAX_STEPS: usize = 200;

impl Beta {
    /// `theta` with `ln(mixture / likelihood(theta)) < nats`: an interval, since the logarithm is convex.
    /// An end of 0 or 1 means that the data do not bound that side.
    pub fn confidence(self, tried: Tried, nats: f64) -> (f64, f64) {
        let total = tried.hits + tried.misses;
        if total <= 0.0 {
            return (0.0, 1.0);
        }
        let best = tried.hits / total;
        let at_best = Dirichlet(&[self.hits, self.misses]).log_mixture_over_best(&[tried.hits, tried.misses]);
        let inside = |theta: f64| at_best + total * divergence(best, theta) < nats;
        let low = if tried.hits > 0.0 {
            edge(&inside, best, 0.0)
        } else {
            0.0
        };
        let high = if tried.misses > 0.0 {
            edge(&inside, best, 1.0)
        } else {
            1.0
        };
        (low, high)
    }
}

impl Dirichlet<'_> {
    /// `ln(B(a + x) / B(a)) - sum x ln(x/n)`, `B` being the multivariate Beta function. Arranged so that no large
    /// terms cancel: differences of log-gamma functions would lose every digit above 1e15 requests.
    pub fn log_mixture_over_best(self, counts: &[f64]) -> f64 {
        let shift = |n: f64, prior: f64| if n > 0.0 { n * (prior / n).ln_1p() } else { 0.0 };
        let (all, prior): (f64, f64) = (counts.iter().sum(), self.0.iter().sum());
        let each: f64 = self
            .terms(counts)
            .map(|(a, n)| shift(n, a) + stirling(a, a + n) - stirling(a, a))
            .sum();
        each - shift(all, prior) - stirling(prior, prior + all) + stirling(prior, prior)
    }

    fn terms(self, counts: &[f64]) -> impl Iterator<Item = (f64, f64)> {
        self.0.iter().copied().zip(counts.iter().copied())
    }
}

/// `ln Gamma(z)` up to the terms that cancel over a Dirichlet prior with the part `prior` of `z`.
fn stirling(prior: f64, z: f64) -> f64 {
    (prior - 0.5) * z.ln() + remainder(z)
}

/// What Stirling's formula leaves of `ln Gamma(z)`.
fn remainder(z: f64) -> f64 {
    if z < STIRLING {
        return ln_gamma(z) - ((z - 0.5) * z.ln() - z + HALF_LN_TWO_PI);
    }
    const SERIES: [f64; 6] = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
    ];
    let inverse = 1.0 / z;
    SERIES
        .iter()
        .rev()
        .fold(0.0, |sum, term| sum * inverse * inverse + term)
        * inverse
}

/// Last `theta` inside on the way from `best` to `end`.
fn edge(inside: &impl Fn(f64) -> bool, best: f64, end: f64) -> f64 {
    let (mut within, mut beyond) = (best, end);
    for _ in 0..MAX_STEPS {
        let middle = between(within, beyond);
        if middle == within || middle == beyond {
            break;
        }
        if inside(middle) {
            within = middle
        } else {
            beyond = middle
        }
    }
    within
}

/// Geometric middle across decades, arithmetic otherwise. 0 counts as the smallest rate any count can tell.
fn between(p: f64, q: f64) -> f64 {
    const LEAST: f64 = 1e-40;
    let (low, high) = (p.min(q).max(LEAST), p.max(q).max(LEAST));
    if high > 4.0 * low {
        (low * high).sqrt()
    } else {
        0.5 * (low + high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition: fine for small counts only.
    fn plain(prior: &[f64], counts: &[f64]) -> f64 {
        let ln_beta = |v: &[f64]| v.iter().map(|a| ln_gamma(*a)).sum::<f64>() - ln_gamma(v.iter().sum());
        let grown: Vec<f64> = prior.iter().zip(counts).map(|(a, n)| a + n).collect();
        let all: f64 = counts.iter().sum();
        let best: f64 = counts
            .iter()
            .filter(|n| **n > 0.0)
            .map(|n| n * (n / all).ln())
            .sum();
        ln_beta(&grown) - ln_beta(prior) - best
    }

    #[test]
    fn agrees_with_the_definition() {
        for (prior, counts) in [
            (vec![0.5, 0.5], vec![0.0, 3.0]),
            (vec![1.0, 9.0], vec![9.0, 20.0]),
            (vec![0.5, 2.0, 30.0], vec![400.0, 0.0, 12.0]),
        ] {
            let found = Dirichlet(&prior).log_mixture_over_best(&counts);
            assert!((found - plain(&prior, &counts)).abs() < 1e-11, "{found}");
        }
    }

    #[test]
    fn more_requests_cost_half_a_logarithm_each() {
        let cost = |n: f64| Dirichlet(&[0.5, 0.5]).log_mixture_over_best(&[n / 2.0, n / 2.0]);
        assert!((cost(1e18) - cost(1e16) + 0.5 * 100.0_f64.ln()).abs() < 1e-10);
    }

    #[test]
    fn the_remainder_is_continuous_where_the_series_takes_over() {
        let (below, above) = (remainder(STIRLING - 1e-12), remainder(STIRLING + 1e-12));
        assert!((below - above).abs() < 1e-12);
    }
}
