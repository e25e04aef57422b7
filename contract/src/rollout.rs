//! The `Rollout` object: what the policy is, and where the release stands. The traffic itself is moved by annotations of
//! the Service alone, so that a person with `kubectl annotate` and the controller use one lever.
//!
//! Only the words stand here; the CRD round them is made by the controller (`serin crd`).

use crate::{
    Span, Split,
    policy::{Gate, Judgement, Notify, Pacing, Policy, Promotion, Undecided, Verify},
    release::{CheckStatus, Decision, Figures, Phase, Status, Verdict},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// API group.
pub const GROUP: &str = "serin.dev";
/// API version.
pub const VERSION: &str = "v1alpha1";
/// Kind.
pub const KIND: &str = "Rollout";
/// Plural.
pub const PLURAL: &str = "rollouts";
/// Decisions that the status keeps.
pub const KEPT_DECISIONS: usize = 20;

/// What a release of one Service is made of, and how its canary is released. The policy words are those of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.stable.kind == oldSelf.stable.kind && self.stable.name == oldSelf.stable.name && self.service == oldSelf.service",
     "message": "service and stable cannot be changed: delete the Rollout and make another"},
    {"rule": "!has(self.canary) || self.canary.name != self.stable.name || self.canary.kind != self.stable.kind",
     "message": "canary and stable must be two objects"},
    {"rule": "!has(self.canary) || self.canary.name != self.stable.name + '-previous' || self.canary.kind != self.stable.kind",
     "message": "canary must not have the name under which the old version is kept"}
]))]
pub struct RolloutSpec {
    /// Service that clients call; its annotations hold the split, and its pods are the proxies.
    #[schemars(length(min = 1, max = 63))]
    pub service: String,
    /// The workload that serves everybody.
    pub stable: Workload,
    /// The workload on trial; absent: `<stable>-canary`, made from stable's template when there is something to release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Workload>,
    /// Whether the controller leaves everything as it is, but for a canary that turns out worse.
    #[serde(default)]
    pub suspend: bool,
    /// How the weight grows.
    #[serde(default)]
    pub pacing: Pacing,
    /// How evidence becomes a verdict.
    #[serde(default)]
    pub judgement: Judgement,
    /// What is checked at weight 0, before any user sees the canary.
    #[serde(default)]
    pub verify: Verify,
    /// What happens when it is good enough.
    #[serde(default)]
    pub promotion: Promotion,
    /// Who must say yes, and when.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// Who is told, and of what; nothing waits for them.
    #[serde(default)]
    pub notify: Vec<Notify>,
    /// What happens when the deadline passes without a verdict.
    #[serde(default)]
    pub undecided: Undecided,
    /// Longest time from the first weight to a verdict; pauses do not count.
    #[serde(default = "deadline")]
    pub deadline: Span,
}

/// A workload of the Rollout's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// What it is.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The workloads that can be released.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    #[default]
    Deployment,
    /// `apps/v1` DaemonSet.
    DaemonSet,
}

/// Where the release stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Generation of the spec that this was decided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Phase.
    pub phase: Phase,
    /// Plain steps done, of how many: `2/4`; empty without plain steps.
    pub step: String,
    /// Wanted weight and the one that every proxy has taken, in percent: `5/5`, `20/5`, `5/?`.
    pub weight: String,
    /// `Same`, `Worse`, or `waiting 812 of 1500`: requests of the canary judged, of how many that are needed at best.
    pub verdict: String,
    /// One sentence: what happened last, or what it waits for.
    pub reason: String,
    /// Stable's version.
    pub stable_version: String,
    /// The canary's version.
    pub canary_version: String,
    /// The release: hash of the canary's pod template.
    pub release: String,
    /// The value of `serin.dev/deploy-image` that this status has taken up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy_image: Option<String>,
    /// The last order that was taken up, and what came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderStatus>,
    /// Proxies that the release counts on, and how many of them answer.
    pub proxies: Proxies,
    /// What the evidence says.
    #[serde(rename = "judgement")]
    pub told: Verdict,
    /// The evidence in figures.
    pub figures: Figures,
    /// The last decisions, oldest first.
    #[schemars(length(max = 20))]
    pub decisions: Vec<Decision>,
    /// Checks besides the proxies' own counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckStatus>,
    /// Conditions for `kubectl wait`.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The engine's state, for a successor: deflated JSON in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
}

/// Proxies of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Proxies {
    /// That must take a split.
    pub known: u32,
    /// Of these, heard from.
    pub heard: u32,
}

/// What came of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OrderStatus {
    /// Which one: the identity that its author gave it.
    pub id: String,
    /// Whether it was done.
    pub done: bool,
    /// Why not, or by whom.
    pub answer: String,
}

/// `metav1.Condition`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// Its name: one of [`condition`].
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// RFC 3339.
    pub last_transition_time: String,
    /// Generation that it speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Types of conditions.
pub mod condition {
    /// The last release became stable.
    pub const PROMOTED: &str = "Promoted";
    /// The last release went back.
    pub const ROLLED_BACK: &str = "RolledBack";
    /// A release is under way.
    pub const PROGRESSING: &str = "Progressing";
    /// A person, or a plain step, has stopped it.
    pub const PAUSED: &str = "Paused";
    /// Nobody needs to do anything: spec, workloads, proxies and annotations are as they should be.
    pub const HEALTHY: &str = "Healthy";
    /// All of them, in the order in which they stand.
    pub const ALL: [&str; 5] = [PROMOTED, ROLLED_BACK, PROGRESSING, PAUSED, HEALTHY];
}

/// An order as the annotation [`crate::names::ORDER`] holds it: JSON, or a command's plain word (`pause`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ordered {
    /// Chosen by its author, so that the answer can be found.
    pub id: String,
    /// What.
    pub command: crate::release::Command,
    /// Who says so, unless the API server knows better ([`crate::names::CHANGED_BY`]).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub who: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

fn deadline() -> Span {
    Policy::default().deadline
}

impl RolloutSpec {
    /// The canary's workload.
    pub fn canary(&self) -> Workload {
        self.canary.clone().unwrap_or_else(|| Workload {
            kind: self.stable.kind,
            name: format!("{}-canary", self.stable.name),
        })
    }

    /// Where the old version lives on after a promotion.
    pub fn previous(&self) -> Workload {
        Workload {
            kind: self.stable.kind,
            name: format!("{}-previous", self.stable.name),
        }
    }

    /// The policy, as a file has it.
    pub fn policy(&self) -> Policy {
        Policy {
            pacing: self.pacing.clone(),
            judgement: self.judgement.clone(),
            verify: self.verify.clone(),
            promotion: self.promotion.clone(),
            gates: self.gates.clone(),
            notify: self.notify.clone(),
            undecided: self.undecided,
            deadline: self.deadline,
        }
    }
}

impl RolloutStatus {
    /// Wanted weight in percent, and the share that every proxy has taken.
    pub fn shares(&self) -> (Split, Option<f64>) {
        let (wanted, taken) = self.weight.split_once('/').unwrap_or((&self.weight, "?"));
        let split = Split::parse(wanted.trim(), None, "").unwrap_or(Split::NONE);
        (
            split,
            taken.trim().parse::<f64>().ok().map(|percent| percent / 100.0),
        )
    }

    /// As a file's release is shown, under this name.
    pub fn shown(&self, name: &str) -> Status {
        let (wanted, taken) = self.shares();
        Status {
            service: name.to_owned(),
            stable_version: self.stable_version.clone(),
            canary_version: self.canary_version.clone(),
            phase: self.phase,
            wanted,
            taken,
            verdict: self.told,
            reason: self.reason.clone(),
            figures: self.figures,
            decisions: self.decisions.clone(),
            checks: self.checks.clone(),
            // The status has the verdict in words; a page shows those.
            needed: None,
            steps: self.plain_steps(),
        }
    }

    /// Plain steps done, of how many.
    fn plain_steps(&self) -> Option<(usize, usize)> {
        let (done, all) = self.step.split_once('/')?;
        Some((done.parse().ok()?, all.parse().ok()?))
    }
}

impl Ordered {
    /// Reads the annotation's value.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Ordered, String> {
        let text = text.trim();
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|e| format!("is no order ({e}); {ORDER_REMEDY}"));
        }
        let command = serde_json::from_value(serde_json::Value::String(text.to_owned()));
        let command = command.map_err(|_| format!("is no command; {ORDER_REMEDY}"))?;
        Ok(Ordered {
            id: text.to_owned(),
            command,
            who: String::new(),
            why: None,
        })
    }
}

const ORDER_REMEDY: &str = "write promote, abort, pause, resume, retry or undo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_word_or_json_and_nothing_else() {
        assert_eq!(
            Ordered::parse(" pause ").unwrap().command,
            crate::release::Command::Pause
        );
        let json = r#"{"id":"7","command":{"approve":"board"},"who":"ann","why":"ticket 3"}"#;
        assert_eq!(
            Ordered::parse(json).unwrap().command,
            crate::release::Command::Approve("board".into())
        );
        for bad in ["", "stop", "{", "weight", r#"{"id":"1"}"#] {
            assert!(
                Ordered::parse(bad).unwrap_err().contains("write promote"),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_spec_of_three_names_has_the_defaults_of_a_file() {
        let spec: RolloutSpec =
            serde_json::from_value(serde_json::json!({"service": "echo", "stable": {"name": "server"}}))
                .unwrap();
        assert_eq!(spec.policy(), Policy::default());
        assert_eq!(spec.canary().name, "server-canary");
    }
}
