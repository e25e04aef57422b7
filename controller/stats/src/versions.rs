//! Several versions at once: is the split of the errors the split of the requests? (evidence 2a, Lindon and Malek)

use crate::halfplane::log_ratio;
use crate::mixture::Dirichlet;

/// A prior this strong never learns; beyond it the arithmetic would not either.
const LARGEST_PRIOR: f64 = 1e15;

/// `log e` against "errors fall on the versions as requests do" (Dirichlet-multinomial mixture), valid at every
/// look. `errors` per version since the start, `split` the shares of requests (positive, sum 1), `prior` positive
/// pseudo-errors, by default `split` scaled. 0 when the three do not fit together.
pub fn log_e(errors: &[u64], split: &[f64], prior: &[f64]) -> f64 {
    let fits = errors.len() == split.len() && errors.len() == prior.len();
    let positive = |v: &f64| *v > 0.0 && *v <= LARGEST_PRIOR;
    if !fits || !split.iter().all(|v| *v > 0.0 && *v <= 1.0) || !prior.iter().all(positive) {
        return 0.0;
    }
    let counts: Vec<f64> = errors.iter().map(|n| *n as f64).collect();
    let all: f64 = counts.iter().sum();
    if all <= 0.0 {
        return 0.0;
    }
    let surprise = |(n, share): (&f64, &f64)| {
        if *n > 0.0 {
            n * log_ratio(n / all, *share)
        } else {
            0.0
        }
    };
    Dirichlet(prior).log_mixture_over_best(&counts) + counts.iter().zip(split).map(surprise).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_split_like_requests_are_no_evidence() {
        assert!(log_e(&[90, 10], &[0.9, 0.1], &[9.0, 1.0]) < 0.0);
        assert_eq!(log_e(&[0, 0], &[0.9, 0.1], &[9.0, 1.0]), 0.0);
    }

    #[test]
    fn the_third_version_failing_is_found_among_three() {
        assert!(log_e(&[10, 10, 40], &[0.4, 0.4, 0.2], &[4.0, 4.0, 2.0]) > 4.6);
    }

    #[test]
    fn what_does_not_fit_is_no_evidence() {
        assert_eq!(log_e(&[1, 2], &[1.0], &[1.0, 1.0]), 0.0);
        assert_eq!(log_e(&[1, 2], &[0.0, 1.0], &[1.0, 1.0]), 0.0);
        assert_eq!(log_e(&[1, 2], &[0.5, 0.5], &[f64::NAN, 1.0]), 0.0);
        assert!(log_e(&[u64::MAX, u64::MAX], &[0.5, 0.5], &[1.0, 1.0]).is_finite());
    }
}
