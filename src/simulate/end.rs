//! How releases ended, one by one and together.

use serde::Serialize;

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The canary serves everybody.
    Promoted,
    /// Stable serves everybody again.
    RolledBack,
    /// Neither within the horizon.
    Undecided,
}

/// How one release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The decision.
    pub verdict: Verdict,
    /// Seconds from the first weight until it was in force.
    pub seconds: u64,
    /// Bad answers of the canary until then, and those that never came.
    pub bad: u64,
    /// Requests of the canary until then that took longer than 99 % of a healthy version's.
    pub slow: u64,
    /// Whether a placebo's alarm has held the release.
    pub alarmed: bool,
}

/// How many releases of one kind ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Releases.
    pub runs: usize,
    /// Of these promoted.
    pub promoted: usize,
    /// Of these rolled back.
    pub rolled_back: usize,
    /// Of these neither.
    pub undecided: usize,
    /// Seconds until the decision; `None` when half of them came to none.
    pub median_seconds: Option<f64>,
    /// The same in the mean, of those that came to one; `None` without any.
    pub mean_seconds: Option<f64>,
    /// Bad answers of the canary until the decision, in the mean.
    pub bad_mean: f64,
    /// The same, 95 % quantile.
    pub bad95: f64,
    /// Requests of the canary beyond a healthy p99 until the decision, in the mean.
    pub slow_mean: f64,
    /// Releases that a placebo's alarm has held.
    pub miscalibrated: usize,
    /// Of those rolled back: without such an alarm before.
    pub unwarned: usize,
}

impl Summary {
    /// Of at least one end.
    pub fn of(ends: &[End]) -> Summary {
        let count = |v| ends.iter().filter(|e| e.verdict == v).count();
        let seconds: Vec<f64> = ends.iter().map(decided).collect();
        let bad: Vec<f64> = ends.iter().map(|e| e.bad as f64).collect();
        let unwarned = |e: &&End| e.verdict == Verdict::RolledBack && !e.alarmed;
        Summary {
            runs: ends.len(),
            promoted: count(Verdict::Promoted),
            rolled_back: count(Verdict::RolledBack),
            undecided: count(Verdict::Undecided),
            mean_seconds: mean(seconds.iter().copied().filter(|s| s.is_finite())),
            median_seconds: Some(quantile(seconds, 0.5)).filter(|s| s.is_finite()),
            bad_mean: mean(bad.iter().copied()).unwrap_or(0.0),
            bad95: quantile(bad, 0.95),
            slow_mean: mean(ends.iter().map(|e| e.slow as f64)).unwrap_or(0.0),
            miscalibrated: ends.iter().filter(|e| e.alarmed).count(),
            unwarned: ends.iter().filter(unwarned).count(),
        }
    }
}

fn decided(end: &End) -> f64 {
    match end.verdict {
        Verdict::Undecided => f64::INFINITY,
        _ => end.seconds as f64,
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (n, sum) = values.fold((0, 0.0), |(n, sum), v| (n + 1, sum + v));
    (n > 0).then(|| sum / f64::from(n))
}

/// Between two values, the straight line; infinite when the upper one is, NaN without any value.
fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = values.len().saturating_sub(1) as f64 * q;
    let at = |i: f64| values.get(i as usize).copied().unwrap_or(f64::NAN);
    let (low, high) = (at(place.floor()), at(place.ceil()));
    if low == high {
        low
    } else {
        low + (high - low) * place.fract()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(verdict: Verdict, seconds: u64, bad: u64) -> End {
        End {
            verdict,
            seconds,
            bad,
            slow: 2 * bad,
            alarmed: verdict == Verdict::RolledBack,
        }
    }

    #[test]
    fn counts_and_quantiles() {
        let ends = [
            end(Verdict::Promoted, 60, 1),
            end(Verdict::RolledBack, 80, 3),
            end(Verdict::Undecided, 3600, 5),
        ];
        let s = Summary::of(&ends);
        assert_eq!((s.runs, s.promoted, s.rolled_back, s.undecided), (3, 1, 1, 1));
        assert_eq!((s.median_seconds, s.mean_seconds), (Some(80.0), Some(70.0)));
        assert_eq!((s.bad_mean, s.slow_mean), (3.0, 6.0));
        assert_eq!((s.miscalibrated, s.unwarned), (1, 0));
        assert!((s.bad95 - 4.8).abs() < 1e-12);
    }

    #[test]
    fn half_of_them_undecided_is_never() {
        let undecided = end(Verdict::Undecided, 3600, 0);
        let decided = end(Verdict::Promoted, 60, 0);
        assert_eq!(Summary::of(&[decided, undecided]).median_seconds, None);
        assert_eq!(
            Summary::of(&[decided, decided, undecided]).median_seconds,
            Some(60.0)
        );
    }
}
