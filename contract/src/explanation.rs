//! Why a decision was made, in figures (statistics 2g): what `serin explain` prints and the history keeps.
//!
//! Logarithms are natural. Bounds are anytime bounds: each holds with a chance of 95 % at every look at once, however
//! often it is printed.

use crate::{policy::Margin, release::Counts};
use serde::{Deserialize, Serialize};

/// The evidence of one moment, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Evidence for "worse".
    pub log_rollback: f64,
    /// Where it rolls back.
    pub rollback_at: f64,
    /// Evidence for "good enough": that of the metric that lacks most.
    pub log_promote: f64,
    /// Where it may promote.
    pub promote_at: f64,
    /// Events that the evidence has taken: the place in the log of blocks.
    pub events: u64,
    /// What was judged, most of the evidence first.
    pub metrics: Vec<MetricPart>,
    /// Stable.
    pub stable: Track,
    /// The canary.
    pub canary: Track,
    /// The canary's error rate over stable's; `None` when the share of the canary changed, or nothing was counted.
    pub ratio: Option<Bounds>,
    /// The traffic that it rests on.
    pub traffic: Traffic,
    /// What is tolerated, and why so much.
    pub margins: Margins,
    /// How far the counts can be trusted.
    pub noise: Noise,
    /// `None`: stable cannot be divided, or the policy wants none.
    pub placebos: Option<Placebos>,
    /// What comes next, if nothing changes.
    pub outlook: Outlook,
    /// What a few more bad requests would change.
    pub next_errors: NextErrors,
    /// What each part of a promotion has and needs.
    pub promotion: Vec<Need>,
}

/// One thing that the canary may be worse in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    /// Bad requests.
    #[default]
    Errors,
    /// Slower requests.
    Latency,
    /// Requests without an answer in time.
    Unanswered,
}

/// What one metric brings to the evidence for "worse".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricPart {
    /// Which.
    pub metric: Metric,
    /// Its part of the stake; those of all metrics sum to 1.
    pub weight: f64,
    /// Its evidence by itself.
    pub log_evidence: f64,
    /// Its share in the evidence of all metrics, 0 to 1.
    pub share: f64,
    /// Whether it is proven worse at the rollback's own chance of error, whatever the others say.
    pub guilty: bool,
    /// Why it says less than it could.
    pub silence: Option<Silence>,
    /// What it bets on. Their shares sum to less than its own: some stake is kept back for what starts later.
    pub bets: Vec<Bet>,
}

/// Why a metric says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Silence {
    /// Stable has not been seen enough to compare with.
    Learning,
    /// Provably worse, but by less than the policy tolerates.
    Tolerated,
}

/// One way in which the canary may be worse, and how much of the evidence speaks for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bet {
    /// In words: `errors near x10`.
    pub on: String,
    /// Share in the evidence of all metrics, 0 to 1.
    pub share: f64,
}

/// A range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// Lower bound; 0 when the data give none.
    pub low: f64,
    /// Upper bound; `None` when the data give none.
    pub high: Option<f64>,
}

/// What was counted of one track, in closed blocks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// Judged requests.
    pub counts: Counts,
    /// Its error rate.
    pub rate: Bounds,
    /// Judged requests, the bad ones being those without a good answer in time: within 1 s of the canary, within half
    /// of that of stable. `None`: that is not judged.
    pub unanswered: Option<Counts>,
    /// p50, p95, p99, the warm-up apart; empty while none are known.
    pub latency: Vec<Quantile>,
}

/// One quantile of the latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// Share of the requests that are faster.
    pub p: f64,
    /// Seconds.
    pub seconds: f64,
    /// Between these seconds, by the edges of the buckets.
    pub bounds: Bounds,
}

/// Traffic of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Requests per second, both tracks, lately.
    pub rate: f64,
    /// Share of the canary that is wanted, 0 to 1.
    pub share: f64,
    /// Whether it was the same since the evidence began.
    pub steady: bool,
    /// Seconds of judged traffic.
    pub seconds: f64,
    /// Seconds in which the canary is still forgiven to be slow.
    pub warm_up_left: f64,
    /// Seconds of soak that a promotion still waits for.
    pub soak_left: f64,
}

/// Margins in force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Margins {
    /// Worse than this is rolled back.
    pub rollback: Margin,
    /// Better than this may be promoted.
    pub promote: Margin,
    /// The same as the policy asks for it: less than in force when stable's pods differ.
    pub policy_rollback: Margin,
    /// Slow-down below which a provably slower canary is kept, as a factor; `None`: latency is not judged.
    pub slower: Option<f64>,
}

/// What stable showed of itself before the canary came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Noise {
    /// Variance of a pod's errors over that of independent requests; 1: independent.
    pub dispersion: f64,
    /// The same for the canary at its present share: evidence is divided by it.
    pub dispersion_now: f64,
    /// Standard deviation of the log error rate between stable's pods; 0 when chance explains it.
    pub pod_spread: f64,
    /// Endpoints of stable and of the canary.
    pub endpoints: [u32; 2],
}

/// Parts of stable that are judged as if they were canaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placebos {
    /// How many.
    pub groups: u64,
    /// Their largest evidence.
    pub largest: f64,
    /// Where it alarms.
    pub alarm_at: f64,
    /// The part that has alarmed, from 1.
    pub alarmed: Option<u32>,
}

/// Expected times in seconds, from now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// Until a rollback for errors if both tracks go on like this; `None`: they do not lead there.
    pub rollback_if_so: Option<f64>,
    /// Until a promotion if the canary is as good as stable, at the present weight; `None`: not known.
    pub promote_if_same: Option<f64>,
    /// Least error rate of a canary, 0 to 1, that would be found within an hour at the present weight.
    pub visible_in_an_hour: Option<f64>,
}

/// The next second as it might be: like the last one, without errors of stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextErrors {
    /// Bad canary requests in it that would roll back; 0: enough already; `None`: no number would, or nothing to go by.
    pub to_rollback: Option<u64>,
    /// What one bad canary request adds to the evidence of the errors.
    pub one_adds: f64,
}

/// What a part of the promotion has and needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Need {
    /// `errors`, `p50`, `p95`, `p99`.
    pub of: String,
    /// Evidence.
    pub has: f64,
    /// What it takes.
    pub needs: f64,
}

impl Explanation {
    /// Whether the canary has been proven worse.
    pub fn is_worse(&self) -> bool {
        self.rollback_at > 0.0 && self.log_rollback >= self.rollback_at
    }

    /// Whether each part of a promotion is proven; the soak is no matter of evidence.
    pub fn is_good_enough(&self) -> bool {
        self.promote_at > 0.0 && self.log_promote >= self.promote_at
    }
}

impl Default for Margins {
    /// No tolerance.
    fn default() -> Margins {
        let none = Margin {
            ratio: 1.0,
            absolute: 0.0,
        };
        Margins {
            rollback: none,
            promote: none,
            policy_rollback: none,
            slower: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_survives_its_json() {
        let explanation = Explanation {
            log_rollback: 0.1 + 0.2,
            metrics: vec![MetricPart {
                bets: vec![Bet {
                    on: "errors near x10".into(),
                    share: 1.0 / 3.0,
                }],
                silence: Some(Silence::Tolerated),
                ..MetricPart::default()
            }],
            ratio: Some(Bounds { low: 0.1, high: None }),
            ..Explanation::default()
        };
        let text = serde_json::to_string(&explanation).unwrap();
        assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), explanation);
        assert!(text.contains("\"rollbackIfSo\""), "{text}");
    }
}
