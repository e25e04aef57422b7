//! Where a release stands: phases, verdicts, decisions, and what a person may ask for.

use crate::{Split, explanation::Explanation};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;

/// The phases of a release. Each says how it is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Nothing to do. Left when the canary is a version that was neither promoted nor refused.
    #[default]
    Idle,
    /// The canary must become ready, at weight 0. Left when it is.
    Starting,
    /// Smoke requests, at weight 0. Left when each has succeeded; one that fails for good rolls back.
    Verifying,
    /// The weight grows and evidence is gathered. Left by a verdict, a hold, a person or the deadline.
    Shifting,
    /// The weight stays: no fresh evidence, a degraded baseline, or suspicion. Left when the cause has gone.
    Holding,
    /// A person stopped it. Left by a person, or by evidence that the canary is worse.
    Paused,
    /// The canary takes over. Left when every proxy says so.
    Promoting,
    /// Both are compared once more with a small share on the old version. Left after the watch time.
    Watching,
    /// The canary is the stable version now. Left when another canary appears.
    Succeeded,
    /// Weight 0 is on its way. Left when every proxy says so and nothing is in flight there.
    RollingBack,
    /// Stable serves everybody. Left by a retry or another canary.
    RolledBack,
    /// The deadline passed without a verdict. Left by a person, or by evidence that came after all.
    Undecided,
}

impl Phase {
    /// All of them, in the order in which they come.
    pub const ALL: [Phase; 12] = [
        Phase::Idle,
        Phase::Starting,
        Phase::Verifying,
        Phase::Shifting,
        Phase::Holding,
        Phase::Paused,
        Phase::Promoting,
        Phase::Watching,
        Phase::Succeeded,
        Phase::RollingBack,
        Phase::RolledBack,
        Phase::Undecided,
    ];

    /// Whether the story has ended until somebody changes something.
    pub const fn is_final(self) -> bool {
        matches!(self, Phase::Idle | Phase::Succeeded | Phase::RolledBack)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Idle => "Idle",
            Phase::Starting => "Starting",
            Phase::Verifying => "Verifying",
            Phase::Shifting => "Shifting",
            Phase::Holding => "Holding",
            Phase::Paused => "Paused",
            Phase::Promoting => "Promoting",
            Phase::Watching => "Watching",
            Phase::Succeeded => "Succeeded",
            Phase::RollingBack => "RollingBack",
            Phase::RolledBack => "RolledBack",
            Phase::Undecided => "Undecided",
        })
    }
}

/// What the evidence says so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// Not enough evidence for either.
    #[default]
    NotYet,
    /// Good enough: within the promotion margin.
    Same,
    /// Worse than the rollback margin.
    Worse,
}

/// What a person may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Promote now, whatever the evidence says.
    Promote,
    /// Go back to stable.
    Abort,
    /// Keep the weight; the judgement goes on.
    Pause,
    /// Go on.
    Resume,
    /// Run a version again that was rolled back, with half the alpha and beta.
    Retry,
    /// Set this weight and pause.
    Weight(Split),
    /// Back to the version before, also after it was promoted.
    Undo,
    /// Says yes at the gate of this name.
    Approve(String),
}

/// Counts of one track that a decision rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Judged requests.
    pub requests: u64,
    /// Of these bad.
    pub bad: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.bad, self.requests)
    }
}

/// The evidence in figures, as shown to people. Logarithms are natural.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Stable's counts since the first weight.
    pub stable: Counts,
    /// The canary's counts since the first weight.
    pub canary: Counts,
    /// Evidence for "worse".
    pub log_rollback: f64,
    /// Where it rolls back: ln(1/alpha).
    pub rollback_at: f64,
    /// Evidence for "good enough".
    pub log_promote: f64,
    /// Where it may promote: ln(1/beta).
    pub promote_at: f64,
    /// The evidence by metric; absent while errors alone are judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Latencies of both tracks, the warm-up apart; absent until known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latencies>,
    /// The canary's requests that are called bad because they had no answer at the outcome age.
    #[serde(default)]
    pub unanswered: u64,
    /// How many events the evidence has taken: the place in the log of blocks.
    #[serde(default)]
    pub events: u64,
}

/// Evidence of each metric by itself. Logarithms are natural.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metrics {
    /// For "worse": bad requests.
    pub errors: f64,
    /// For "worse": slower requests.
    pub latency: f64,
    /// For "worse": no good answer within 1 s.
    pub stalled: f64,
    /// For "good enough": bad requests.
    pub promote_errors: f64,
    /// For "good enough": p50, p95, p99.
    pub promote_latency: [f64; 3],
    /// Without a good answer within 1 s: the canary's requests.
    pub canary_stalled: Counts,
    /// Without a good answer within half of that: stable's requests.
    pub stable_stalled: Counts,
}

/// Latencies of both tracks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latencies {
    /// Stable's.
    pub stable: Quantiles,
    /// The canary's.
    pub canary: Quantiles,
}

/// Quantiles in seconds. What has no answer at the outcome age counts as that long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quantiles {
    /// Half of the requests are faster.
    pub p50: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
}

/// One decision, for the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Counts the decisions of one service, from 1. A turn that is repeated after a crash repeats the number, so
    /// that a record is kept once.
    #[serde(default)]
    pub number: u64,
    /// Unix time, seconds.
    pub at: f64,
    /// Release that it belongs to: the canary's version.
    pub version: String,
    /// Hash of the release (version and endpoints).
    pub release: String,
    /// Phase before.
    pub from: Phase,
    /// Phase after.
    pub to: Phase,
    /// Weight that was asked for.
    pub weight: Split,
    /// A sentence that says why, with counts.
    pub reason: String,
    /// Who: a person's name, or the controller.
    pub by: String,
    /// The evidence at that moment.
    pub figures: Figures,
    /// The same taken apart; only in the history, for a state must stay small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub explanation: Option<Box<Explanation>>,
}

/// Where a release stands: what `serin status` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Service name.
    pub service: String,
    /// Stable's version.
    pub stable_version: String,
    /// The canary's version.
    pub canary_version: String,
    /// Phase.
    pub phase: Phase,
    /// Weight that the controller wants.
    pub wanted: Split,
    /// Share that every proxy has taken, if known.
    pub taken: Option<f64>,
    /// Verdict so far.
    pub verdict: Verdict,
    /// One sentence: what happened last, or what it waits for.
    pub reason: String,
    /// The evidence.
    pub figures: Figures,
    /// The last decisions, oldest first, at most twenty.
    pub decisions: Vec<Decision>,
    /// Canary requests after which it is promoted if it goes on like this; absent while nothing is judged, and when there are
    /// enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<u64>,
    /// Plain steps done, of how many; absent without plain steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<(usize, usize)>,
    /// Checks besides the proxy's own counts, while they are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckStatus>,
}

impl Status {
    /// The verdict as a column shows it: `Same`, `Worse`, `waiting 812 of 1500`.
    pub fn verdict_column(&self) -> String {
        match (self.verdict, self.needed) {
            (Verdict::Same, _) => "Same".to_owned(),
            (Verdict::Worse, _) => "Worse".to_owned(),
            (Verdict::NotYet, Some(n)) => format!("waiting {} of {n}", self.figures.canary.requests),
            (Verdict::NotYet, None) => String::new(),
        }
    }

    /// Wanted and taken weight as a column shows them: `5/5`, `20/5`, `5/?`.
    pub fn weight_column(&self) -> String {
        let taken = self.taken.map_or("?".to_owned(), |share| {
            Split::of_share(share, self.wanted.total()).weight()
        });
        format!("{}/{taken}", self.wanted.weight())
    }
}

/// Where one check stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    /// Its name.
    pub name: String,
    /// The last value; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Amount>,
    /// What is allowed: `at most 0.8`.
    pub limit: String,
    /// Whether the last value is beyond the limit.
    pub breach: bool,
    /// Breaches in a row that count towards a rollback.
    pub breaches: u32,
    /// How many roll back.
    pub allowed: u32,
    /// Why there is no number now, as a clause; absent when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Since when it is within its limit, beyond it, or without a number: unix seconds.
    pub since: f64,
}

/// A number as a check found it, perhaps infinite, which JSON cannot write: `"+Inf"` there. Never NaN.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Amount(pub f64);

/// Digits of a number in a sentence.
const DIGITS: usize = 6;

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let x = self.0;
        if x.is_infinite() {
            return f.write_str(if x > 0.0 { "+Inf" } else { "-Inf" });
        }
        let rounded = format!("{x:.0$e}", DIGITS - 1).parse().unwrap_or(x);
        let is_plain = rounded == 0.0 || (1e-4..1e9).contains(&rounded.abs());
        if is_plain {
            write!(f, "{rounded}")
        } else {
            write!(f, "{rounded:e}")
        }
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            to.serialize_f64(self.0)
        } else {
            to.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Amount, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Text(String),
        }
        let value = match Written::deserialize(from)? {
            Written::Number(x) => x,
            Written::Text(text) => text.parse().map_err(D::Error::custom)?,
        };
        if value.is_nan() {
            return Err(D::Error::custom("not a number"));
        }
        Ok(Amount(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well_and_come_back_whole() {
        for (x, text) in [
            (0.93, "0.93"),
            (0.0, "0"),
            (-3.0, "-3"),
            (1.0 / 3.0, "0.333333"),
            (123456.789, "123457"),
            (4.2e12, "4.2e12"),
            (0.0000123, "1.23e-5"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(Amount(x).to_string(), text);
            let written = serde_json::to_string(&Amount(x)).unwrap();
            assert_eq!(serde_json::from_str::<Amount>(&written).unwrap(), Amount(x));
        }
        assert!(serde_json::from_str::<Amount>("\"NaN\"").is_err());
    }
}
