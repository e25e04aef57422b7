//! Beta mixtures of Bernoulli likelihoods: the e-process behind the bounds of the explanation (evidence 2a, 2g).

use crate::halfplane::divergence;
use statrs::function::gamma::ln_gamma;

/// A Beta prior over a proportion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Beta {
    /// Prior successes.
    pub a: f64,
    /// Prior failures.
    pub b: f64,
}

/// Successes and failures.
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
        let at_best = self.log_mixture_over_best(tried);
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

    /// `ln(B(a+x, b+y) / B(a, b)) - x ln(x/n) - y ln(y/n)`, arranged so that no large terms cancel:
    /// differences of log-gamma functions would lose every digit above 1e15 requests.
    fn log_mixture_over_best(self, tried: Tried) -> f64 {
        let (x, y) = (tried.hits, tried.misses);
        let grown = Beta {
            a: self.a + x,
            b: self.b + y,
        };
        let shift = |n: f64, prior: f64| if n > 0.0 { n * (prior / n).ln_1p() } else { 0.0 };
        let likelihood = shift(x, self.a) + shift(y, self.b) - shift(x + y, self.a + self.b);
        likelihood + self.prior_powers(grown) + grown.remainders() + HALF_LN_TWO_PI - self.ln_beta()
    }

    fn prior_powers(self, grown: Beta) -> f64 {
        (self.a - 0.5) * grown.a.ln() + (self.b - 0.5) * grown.b.ln()
            - (self.a + self.b - 0.5) * (grown.a + grown.b).ln()
    }

    fn remainders(self) -> f64 {
        remainder(self.a) + remainder(self.b) - remainder(self.a + self.b)
    }

    fn ln_beta(self) -> f64 {
        let sum = self.a + self.b;
        let powers = (self.a - 0.5) * self.a.ln() + (self.b - 0.5) * self.b.ln() - (sum - 0.5) * sum.ln();
        powers + HALF_LN_TWO_PI + self.remainders()
    }
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

/// Last `theta` inside on the way from `best` to `end`, by bisection in the distance from 0 or 1 that is smaller.
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

    #[test]
    fn log_beta_of_known_arguments() {
        for (a, b, expected) in [
            (0.5, 0.5, std::f64::consts::PI.ln()),
            (1.0, 9.0, -(9.0_f64.ln())),
            (20.0, 30.0, -33.968820791977_39),
        ] {
            assert!((Beta { a, b }.ln_beta() - expected).abs() < 1e-12, "{a} {b}");
        }
    }

    #[test]
    fn the_remainder_is_continuous_where_the_series_takes_over() {
        let (below, above) = (remainder(STIRLING - 1e-12), remainder(STIRLING + 1e-12));
        assert!((below - above).abs() < 1e-12);
    }
}
