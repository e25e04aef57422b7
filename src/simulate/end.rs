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
    /// Bad answers of the canary until then.
    pub bad: u64,
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
    /// Seconds until the decision; `None` when half of them came to none.
    pub median_seconds: Option<f64>,
    /// Bad answers of the canary until the decision, in the mean.
    pub bad_mean: f64,
    /// The same, 95 % quantile.
    pub bad95: f64,
}

impl Summary {
    /// Of at least one end.
    pub fn of(ends: &[End]) -> Summary {
        let count = |v| ends.iter().filter(|e| e.verdict == v).count();
        let seconds: Vec<f64> = ends.iter().map(decided).collect();
        let bad: Vec<f64> = ends.iter().map(|e| e.bad as f64).collect();
        Summary {
            runs: ends.len(),
            promoted: count(Verdict::Promoted),
            rolled_back: count(Verdict::RolledBack),
            median_seconds: Some(quantile(seconds, 0.5)).filter(|s| s.is_finite()),
            bad_mean: bad.iter().sum::<f64>() / bad.len().max(1) as f64,
            bad95: quantile(bad, 0.95),
        }
    }
}

fn decided(end: &End) -> f64 {
    match end.verdict {
        Verdict::Undecided => f64::INFINITY,
        _ => end.seconds as f64,
    }
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
        assert_eq!((s.runs, s.promoted, s.rolled_back), (3, 1, 1));
        assert_eq!((s.median_seconds, s.bad_mean), (Some(80.0), 3.0));
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
