//! The policy of a rollout: the `spec` words of a `Rollout`, the same in a file and in Kubernetes.
//!
//! Every default is a named constant with its reason (statistics 2a, 2d, 2e).

mod check;
mod gate;
mod metrics;
mod notify;
mod verify;

pub use check::{Address, BREACHES, Check, Http, NoData, PLACEHOLDERS, Promql};
pub use gate::{At, Gate, Webhook};
pub use metrics::{
    LARGEST_PROMOTE_SHIFT, LARGEST_ROLLBACK_SHIFT, Latency, Noise, PROMOTE_SHIFT, ROLLBACK_SHIFT, TOLERANCE,
    Weights,
};
pub use notify::{Format, Notify, TEXT, VARIABLE, WORDS};
pub use verify::{Smoke, Verify};

use crate::{Fault, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Chance of rolling back a canary that is as good as stable, per rollout.
pub const ALPHA: f64 = 0.01;
/// Chance of promoting a canary that is worse than the promotion margin.
pub const BETA: f64 = 0.05;
/// Tolerated ratio of error rates before evidence for a rollback is gathered: 10 % worse is noise of life.
pub const ROLLBACK_RATIO: f64 = 1.1;
/// Tolerated absolute difference: 2 errors in 10 000.
pub const ROLLBACK_ABSOLUTE: f64 = 0.0002;
/// Ratio within which a canary is good enough.
pub const PROMOTE_RATIO: f64 = 1.25;
/// Absolute part: lets a service without any error be promoted, after about ln(20)/0.001 = 3000 canary requests.
pub const PROMOTE_ABSOLUTE: f64 = 0.001;
/// How much wider the promotion ratio must be than the rollback ratio: the defaults' 1.25 / 1.1, rounded down.
pub const WIDER: f64 = 1.13;
/// Bad requests that one reaction time may cost.
pub const ERROR_BUDGET: f64 = 10.0;
/// Seconds from a fault to weight 0 that pacing assumes: tick, decide, push.
pub const REACTION_SECONDS: f64 = 3.0;
/// Planned length over which capital for late failures is spread.
pub const HORIZON: Span = Span::seconds(1800);
/// Error rate of stable above which nobody is judged: both versions fail for a common reason.
pub const DEGRADED: f64 = 0.05;

/// Slow requests that one reaction time may cost: ten times the bad ones.
pub const SLOW_BUDGET: f64 = 100.0;
/// Time in which cold caches are forgiven: real, but passing (statistics 2d).
pub const WARM_UP: Span = Span::seconds(30);
/// How far the weights of the metrics may be from 1 in sum: rounding of decimal fractions.
const SUM_TOLERANCE: f64 = 1e-6;

/// How a canary is released.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    /// How the weight grows.
    pub pacing: Pacing,
    /// How evidence becomes a verdict.
    pub judgement: Judgement,
    /// What is checked at weight 0, before any user sees the canary.
    pub verify: Verify,
    /// What happens when it is good enough.
    pub promotion: Promotion,
    /// Who must say yes, and when.
    pub gates: Vec<Gate>,
    /// Who is told, and of what; nothing waits for them.
    pub notify: Vec<Notify>,
    /// What happens when the deadline passes without a verdict.
    pub undecided: Undecided,
    /// Longest time from the first weight to a verdict; pauses do not count.
    pub deadline: Span,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            pacing: Pacing::default(),
            judgement: Judgement::default(),
            verify: Verify::default(),
            promotion: Promotion::default(),
            gates: Vec::new(),
            notify: Vec::new(),
            undecided: Undecided::Hold,
            deadline: Span::seconds(3600),
        }
    }
}

/// How the weight grows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Pacing {
    /// With steps: exactly these, in order; without: by evidence and error budget (statistics 2e).
    pub steps: Vec<Step>,
    /// Bad requests that one reaction time may cost.
    pub error_budget: f64,
    /// Slow requests, beyond stable's p99, that one reaction time may cost.
    pub slow_budget: f64,
    /// Smallest weight, percent.
    pub min_weight: f64,
    /// Largest weight before promotion, percent: above a half, too little control is left to compare with.
    pub max_weight: f64,
    /// Least time at a weight above 0 before promotion. Not statistical: against faults that start late.
    pub soak: Span,
    /// Least time between two increases.
    pub interval: Span,
}

impl Default for Pacing {
    fn default() -> Pacing {
        Pacing {
            steps: Vec::new(),
            error_budget: ERROR_BUDGET,
            slow_budget: SLOW_BUDGET,
            min_weight: 0.1,
            max_weight: 50.0,
            soak: Span::seconds(180),
            interval: Span::seconds(5),
        }
    }
}

/// One plain step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Percent of the undecided requests.
    pub weight: f64,
    /// How long it is held, at least; a Worse verdict ends it at once.
    #[serde(default)]
    pub hold: Span,
    /// Whether a person must resume before the next step.
    #[serde(default)]
    pub pause: bool,
}

/// How evidence becomes a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Judgement {
    /// Chance of rolling back a canary that is as good as stable.
    pub alpha: f64,
    /// Chance of promoting a canary that is worse than the promotion margin.
    pub beta: f64,
    /// What is tolerated in error rates.
    pub errors: Margins,
    /// What is tolerated in latency, and whether it is judged at all.
    pub latency: Latency,
    /// What is done about bursts and pods that differ.
    pub noise: Noise,
    /// How the chance of a false rollback is shared out among the metrics.
    pub weights: Weights,
    /// Time after the first weight in which neither latency nor evidence for a promotion counts. Errors count from
    /// the first request, and so do requests that hang for the outcome age.
    pub warm_up: Span,
    /// Seconds over which capital for late failures is spread.
    pub horizon: Span,
    /// Age at which a request counts as it stands: bad if it has failed or has not ended by then (statistics 2h).
    /// Raise it above the usual duration of long answers, or they count as bad in both tracks.
    pub outcome_age: Span,
    /// Error rate of stable above which the baseline is called degraded and nobody is blamed.
    pub degraded: f64,
    /// What a release must satisfy besides the proxy's own counts: limits, not evidence.
    pub checks: Vec<Check>,
}

impl Default for Judgement {
    fn default() -> Judgement {
        Judgement {
            alpha: ALPHA,
            beta: BETA,
            errors: Margins::default(),
            latency: Latency::default(),
            noise: Noise::default(),
            weights: Weights::default(),
            warm_up: WARM_UP,
            horizon: HORIZON,
            outcome_age: Span::seconds(5),
            degraded: DEGRADED,
            checks: Vec::new(),
        }
    }
}

/// The two margins of one metric: worse than the first is rolled back, better than the second may be promoted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Margins {
    /// Null of the rollback test.
    pub rollback: Margin,
    /// Null of the promotion test; wider than the first.
    pub promote: Margin,
}

impl Default for Margins {
    fn default() -> Margins {
        Margins {
            rollback: Margin {
                ratio: ROLLBACK_RATIO,
                absolute: ROLLBACK_ABSOLUTE,
            },
            promote: Margin {
                ratio: PROMOTE_RATIO,
                absolute: PROMOTE_ABSOLUTE,
            },
        }
    }
}

/// The line `canary rate = ratio * stable rate + absolute`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Margin {
    /// Tolerated ratio, 1 or more.
    pub ratio: f64,
    /// Tolerated absolute difference, 0 or more.
    pub absolute: f64,
}

/// How the new version comes to be the stable one in a cluster. In a file the weight alone decides, and this is not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The canary's pod template goes into stable, keeping stable's selector labels.
    #[default]
    Copy,
    /// Git or CI updates stable, the canary serving until then: whoever heals objects from a source would fight a copy.
    External,
}

/// What of the canary's template stays behind when it is copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Behind {
    /// Keys of pod labels and annotations that only the canary has.
    pub labels: Vec<String>,
    /// Names of environment variables that only the canary has, or that differ there on purpose.
    pub env: Vec<String>,
}

/// What happens when the canary is good enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Promotion {
    /// How the new version comes to be the stable one in a cluster.
    pub mode: Mode,
    /// What of the canary's template stays behind when it is copied.
    pub leave_behind: Behind,
    /// How long both are compared after promotion; 0: not at all.
    pub watch: Span,
    /// Share that stays with the old version while watching, percent.
    pub watch_weight: f64,
}

impl Default for Promotion {
    fn default() -> Promotion {
        Promotion {
            mode: Mode::Copy,
            leave_behind: Behind::default(),
            watch: Span::seconds(300),
            watch_weight: 5.0,
        }
    }
}

/// What happens when the deadline passes without a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Undecided {
    /// Keep the weight and say what is missing.
    #[default]
    Hold,
    /// Go back to stable.
    Rollback,
    /// Promote all the same.
    Promote,
}

impl Policy {
    /// Everything that is wrong with the numbers, at once; `key` is where the policy stands.
    pub fn faults(&self, key: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut within = |name: &str, value: f64, low: f64, high: f64, remedy: &str| {
            // Written so that NaN is refused.
            if !(value >= low && value <= high) {
                let reason = format!("is not between {low} and {high}");
                faults.push(Fault::new(
                    format!("{key}.{name}"),
                    &value.to_string(),
                    reason,
                    remedy,
                ));
            }
        };
        let j = &self.judgement;
        within("judgement.alpha", j.alpha, 1e-9, 0.5, "write for example 0.01");
        within("judgement.beta", j.beta, 1e-9, 0.5, "write for example 0.05");
        within(
            "judgement.degraded",
            j.degraded,
            1e-6,
            1.0,
            "write for example 0.05",
        );
        for (name, m) in [("rollback", j.errors.rollback), ("promote", j.errors.promote)] {
            within(
                &format!("judgement.errors.{name}.ratio"),
                m.ratio,
                1.0,
                100.0,
                "write 1 or more, such as 1.1",
            );
            within(
                &format!("judgement.errors.{name}.absolute"),
                m.absolute,
                0.0,
                0.5,
                "write a small rate, such as 0.0002",
            );
        }
        within(
            "judgement.latency.rollbackShift",
            j.latency.rollback_shift as f64,
            0.0,
            LARGEST_ROLLBACK_SHIFT as f64,
            "write buckets of 19 %, such as 0",
        );
        within(
            "judgement.latency.tolerance",
            j.latency.tolerance,
            1.0,
            10.0,
            "write a factor, such as 1.05",
        );
        within(
            "judgement.latency.promoteShift",
            j.latency.promote_shift as f64,
            1.0,
            LARGEST_PROMOTE_SHIFT as f64,
            "write buckets of 19 %, more than rollbackShift, such as 2",
        );
        let v = &j.weights;
        for (name, share) in [
            ("errors", v.errors),
            ("latency", v.latency),
            ("stalled", v.stalled),
        ] {
            within(
                &format!("judgement.weights.{name}"),
                share,
                0.001,
                1.0,
                "write a share, such as 0.5, 0.45 and 0.05",
            );
        }
        within(
            "judgement.warmUp",
            j.warm_up.as_seconds(),
            0.0,
            3600.0,
            "write for example 30s, or 0s for none",
        );
        within(
            "judgement.horizon",
            j.horizon.as_seconds(),
            1.0,
            1e7,
            "write for example 30m",
        );
        within(
            "judgement.outcomeAge",
            j.outcome_age.as_seconds(),
            1.0,
            60.0,
            "write 1s to 60s",
        );
        let p = &self.pacing;
        within(
            "pacing.errorBudget",
            p.error_budget,
            0.1,
            1e6,
            "write how many bad requests one reaction may cost, such as 10",
        );
        within(
            "pacing.slowBudget",
            p.slow_budget,
            0.1,
            1e6,
            "write how many slow requests one reaction may cost, such as 100",
        );
        within(
            "pacing.minWeight",
            p.min_weight,
            0.0001,
            100.0,
            "write percent, such as 0.1",
        );
        within(
            "pacing.maxWeight",
            p.max_weight,
            p.min_weight,
            100.0,
            "write percent, not below minWeight",
        );
        within(
            "promotion.watchWeight",
            self.promotion.watch_weight,
            0.0001,
            50.0,
            "write percent, such as 5",
        );
        within(
            "deadline",
            self.deadline.as_seconds(),
            1.0,
            3e7,
            "write for example 1h",
        );
        for (i, s) in p.steps.iter().enumerate() {
            within(
                &format!("pacing.steps[{i}].weight"),
                s.weight,
                0.0001,
                100.0,
                "write percent, such as 5",
            );
        }
        self.check_order(key, &mut faults);
        faults.extend(check::faults(
            &self.judgement.checks,
            &format!("{key}.judgement.checks"),
        ));
        faults.extend(self.verify.faults(&format!("{key}.verify")));
        faults.extend(gate::faults(&self.gates, &format!("{key}.gates")));
        faults.extend(notify::faults(&self.notify, &format!("{key}.notify")));
        faults
    }

    fn check_order(&self, key: &str, faults: &mut Vec<Fault>) {
        let (r, p) = (self.judgement.errors.rollback, self.judgement.errors.promote);
        if p.ratio < WIDER * r.ratio || p.absolute < r.absolute {
            let place = format!("{key}.judgement.errors.promote");
            faults.push(Fault::new(
                place,
                &format!("{} + {}", p.ratio, p.absolute),
                "is not wider than the rollback margin",
                "keep ratio >= 1.13 x the rollback ratio, and absolute >= the rollback absolute",
            ));
        }
        let l = &self.judgement.latency;
        if l.promote_shift <= l.rollback_shift {
            faults.push(Fault::new(
                format!("{key}.judgement.latency.promoteShift"),
                &l.promote_shift.to_string(),
                "is not wider than rollbackShift",
                "write at least one bucket more",
            ));
        }
        let sum = self.judgement.weights.sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            faults.push(Fault::new(
                format!("{key}.judgement.weights"),
                &sum.to_string(),
                "is the sum, and must be 1",
                "write for example errors = 0.5, latency = 0.4, stalled = 0.1",
            ));
        }
        for (i, pair) in self
            .pacing
            .steps
            .windows(2)
            .enumerate()
            .filter(|(_, w)| w[1].weight < w[0].weight)
        {
            let place = format!("{key}.pacing.steps[{}].weight", i + 1);
            faults.push(Fault::new(
                place,
                &pair[1].weight.to_string(),
                "is less than the step before",
                "list the steps in growing order",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Policy::default().faults("rollout"), []);
    }

    #[test]
    fn every_fault_is_named() {
        let mut p = Policy::default();
        p.judgement.alpha = 0.0;
        p.judgement.beta = f64::NAN;
        p.judgement.errors.promote.ratio = 1.0;
        p.judgement.latency.rollback_shift = 5;
        p.judgement.latency.promote_shift = 5;
        p.judgement.weights.stalled = 0.0;
        p.judgement.warm_up = Span::seconds(7200);
        p.pacing.max_weight = 0.01;
        p.pacing.steps = vec![
            Step {
                weight: 10.0,
                hold: Span::seconds(1),
                pause: false,
            },
            Step {
                weight: 5.0,
                hold: Span::seconds(1),
                pause: false,
            },
        ];
        p.verify.smoke = vec![Smoke {
            path: "x".into(),
            status: 42,
        }];
        let keys: Vec<_> = p.faults("rollout").into_iter().map(|f| f.key).collect();
        for k in [
            "rollout.judgement.alpha",
            "rollout.judgement.beta",
            "rollout.judgement.errors.promote",
            "rollout.judgement.latency.rollbackShift",
            "rollout.judgement.latency.promoteShift",
            "rollout.judgement.weights.stalled",
            "rollout.judgement.weights",
            "rollout.judgement.warmUp",
            "rollout.pacing.maxWeight",
            "rollout.pacing.steps[1].weight",
            "rollout.verify.smoke[0].path",
            "rollout.verify.smoke[0].status",
        ] {
            assert!(keys.iter().any(|x| x == k), "{k} not in {keys:?}");
        }
    }
}
