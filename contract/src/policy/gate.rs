//! Gates: somebody outside must say yes before the release goes on. A gate that does not answer has not said yes; it has
//! not failed either.

use super::check;
use crate::{Fault, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most characters of a name: it stands in every sentence about the gate.
const LONGEST_NAME: usize = 60;

/// Somebody who must say yes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Its name in sentences and orders; each has its own.
    pub name: String,
    /// When it is asked.
    pub at: At,
    /// Asked by a signed request; without it a person approves (`serin approve`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// When a gate is asked. The first three are waited for; the last two are told, and nothing waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    /// Before the first request of any user.
    BeforeStart,
    /// Before each larger weight.
    BeforeIncrease,
    /// Before the canary becomes stable.
    BeforePromotion,
    /// After it has.
    AfterPromotion,
    /// After stable serves everybody again.
    AfterRollback,
}

/// A POST with a JSON body; 2xx is yes, everything else is not yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Webhook {
    /// Where, such as `http://approvals:8080/serin`.
    pub url: String,
    /// Longest wait for an answer.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Time between two questions while the answer is not yes.
    #[serde(default = "interval")]
    pub interval: Span,
}

fn timeout() -> Span {
    Span::seconds(5)
}

fn interval() -> Span {
    Span::seconds(5)
}

impl At {
    /// Whether the release waits for the answer.
    pub const fn is_waited_for(self) -> bool {
        matches!(self, At::BeforeStart | At::BeforeIncrease | At::BeforePromotion)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            At::BeforeStart => "before-start",
            At::BeforeIncrease => "before-increase",
            At::BeforePromotion => "before-promotion",
            At::AfterPromotion => "after-promotion",
            At::AfterRollback => "after-rollback",
        })
    }
}

/// Everything that is wrong with these gates; `key` is where the list stands.
pub(super) fn faults(gates: &[Gate], key: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (i, gate) in gates.iter().enumerate() {
        let place = format!("{key}[{i}]");
        let named = |g: &Gate| g.name == gate.name;
        if gate.name.trim().is_empty() || gate.name.chars().count() > LONGEST_NAME {
            let remedy = "write 1 to 60 characters, such as change-board";
            faults.push(Fault::new(
                format!("{place}.name"),
                &gate.name,
                "is not a name",
                remedy,
            ));
        }
        if gates[..i].iter().any(named) {
            faults.push(Fault::new(
                format!("{place}.name"),
                &gate.name,
                "is taken by an earlier gate",
                "give each gate its own name",
            ));
        }
        match &gate.webhook {
            Some(hook) => faults.extend(hook.faults(&format!("{place}.webhook"))),
            None if gate.at.is_waited_for() => {}
            None => faults.push(Fault::new(
                format!("{place}.at"),
                &gate.at.to_string(),
                "is told and not asked, so a person cannot approve it",
                "give it a webhook, or ask before-promotion",
            )),
        }
    }
    faults
}

impl Webhook {
    fn faults(&self, key: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(check::address_fault(&format!("{key}.url"), &self.url));
        for (name, span) in [("timeout", self.timeout), ("interval", self.interval)] {
            let seconds = span.as_seconds();
            if !(0.1..=3600.0).contains(&seconds) {
                faults.push(Fault::new(
                    format!("{key}.{name}"),
                    &span.to_string(),
                    "is not between 100ms and 1h",
                    "write for example 5s",
                ));
            }
        }
        faults
    }
}
