//! The course of a release over time: what charts are drawn from.
//!
//! Points are a second apart at first; when there are [`MOST`] of them every second one goes, and they are twice as far
//! apart from then on.

use crate::{
    explanation::{Explanation, Track},
    release::Phase,
};
use serde::{Deserialize, Serialize};

/// Most points of one release.
pub const MOST: usize = 600;

/// One release over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// The service.
    pub service: String,
    /// Stable's version.
    pub stable_version: String,
    /// The canary's version.
    pub canary_version: String,
    /// When the release began: unix time, seconds.
    pub began: f64,
    /// Seconds between two points, at least.
    #[serde(default)]
    pub step: f64,
    /// The points, oldest first.
    #[serde(default)]
    pub points: Vec<Point>,
}

/// One moment of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Unix time, seconds.
    pub at: f64,
    /// The phase.
    pub phase: Phase,
    /// The canary's share that was wanted, 0 to 1.
    pub wanted: f64,
    /// The share that every proxy had taken, 0 to 1, if it was known.
    pub taken: Option<f64>,
    /// What was known of both tracks; `None`: nothing was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
}

/// The evidence of one moment, with the bounds that the engine explains its decisions by. Logarithms are natural.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// Evidence for "worse".
    pub log_rollback: f64,
    /// Where it rolls back.
    pub rollback_at: f64,
    /// Evidence for "good enough".
    pub log_promote: f64,
    /// Where it may promote.
    pub promote_at: f64,
    /// Stable.
    pub stable: Track,
    /// The canary.
    pub canary: Track,
}

/// One release whose course is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// When it began: unix time, seconds. Its name.
    pub began: f64,
    /// Stable's version.
    pub stable_version: String,
    /// The canary's version.
    pub canary_version: String,
    /// Where it stands, or how it ended.
    pub phase: Phase,
}

/// A new point of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// When the release of the series began: another time is another release.
    pub began: f64,
    /// Seconds between two points, at least.
    pub step: f64,
    /// The point.
    pub point: Point,
}

impl Series {
    /// Adds a moment; what is older than the last one is known already.
    pub fn push(&mut self, point: Point) {
        if self.points.last().is_some_and(|last| last.at >= point.at) {
            return;
        }
        self.points.push(point);
        if self.points.len() > MOST {
            self.thin();
        }
    }

    /// Whether a moment is worth a point: it is far enough from the last one, or something has changed.
    pub fn wants(&self, at: f64, phase: Phase, wanted: f64) -> bool {
        self.points
            .last()
            .is_none_or(|last| last.phase != phase || last.wanted != wanted || at - last.at >= self.step)
    }

    /// Which release this is.
    pub fn release(&self) -> Release {
        Release {
            began: self.began,
            stable_version: self.stable_version.clone(),
            canary_version: self.canary_version.clone(),
            phase: self.points.last().map_or(Phase::Idle, |last| last.phase),
        }
    }

    fn thin(&mut self) {
        self.step = (self.step * 2.0).max(1.0);
        let last = self.points.len() - 1;
        let mut index = 0;
        self.points.retain(|_| {
            let kept = index % 2 == 0 || index == last;
            index += 1;
            kept
        });
    }
}

impl From<Explanation> for Judged {
    fn from(e: Explanation) -> Judged {
        Judged {
            log_rollback: e.log_rollback,
            rollback_at: e.rollback_at,
            log_promote: e.log_promote,
            promote_at: e.promote_at,
            stable: e.stable,
            canary: e.canary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        Series {
            service: "echo".into(),
            stable_version: "v1".into(),
            canary_version: "v2".into(),
            began: 0.0,
            step: 0.0,
            points: Vec::new(),
        }
    }

    fn point(at: f64) -> Point {
        Point {
            at,
            phase: Phase::Shifting,
            wanted: 0.1,
            taken: None,
            judged: None,
        }
    }

    #[test]
    fn a_long_release_is_as_small_as_a_short_one() {
        let mut series = series();
        for second in 0..100_000 {
            let at = f64::from(second);
            if series.wants(at, Phase::Shifting, 0.1) {
                series.push(point(at));
            }
            assert!(series.points.len() <= MOST);
        }
        let ends = (series.points.first(), series.points.last());
        assert_eq!(ends.0.map(|p| p.at), Some(0.0));
        assert!(ends.1.is_some_and(|p| p.at >= 100_000.0 - 2.0 * series.step));
        assert!(series.points.len() >= MOST / 2);
        assert!(series.points.windows(2).all(|w| w[0].at < w[1].at));
    }

    #[test]
    fn a_change_is_a_point_at_once() {
        let mut series = series();
        series.step = 8.0;
        series.push(point(1.0));
        assert!(!series.wants(2.0, Phase::Shifting, 0.1));
        assert!(series.wants(2.0, Phase::Shifting, 0.2));
        assert!(series.wants(2.0, Phase::RollingBack, 0.1));
        series.push(point(0.5));
        assert_eq!(series.points.len(), 1, "the past is known");
    }
}
