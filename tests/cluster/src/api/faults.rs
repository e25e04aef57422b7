//! Troubles on demand: answers that fail, come late, or conflict.

use super::ask::Ask;
use super::failure::Failure;
use std::time::Duration;

/// Which calls a rule is about. Empty fields match all.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// How the user's name begins.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; several by commas.
    pub verb: String,
    /// The plural, as `services`, or with a subresource `rollouts/status`.
    pub resource: String,
}

/// What happens to a call that a rule is about.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Answered with this code instead of being carried out; with `Retry-After` in seconds where given.
    Answer {
        /// 429, 500, 503...
        code: u16,
        /// Seconds.
        retry_after: Option<u32>,
    },
    /// Carried out, but only after this time.
    Delay(Duration),
    /// A write that is refused with 409 as if somebody else had been faster.
    Conflict,
    /// A watch that is answered with 410.
    Gone,
    /// The connection is cut without an answer.
    Cut,
}

/// A rule, for the next `count` matching calls or for all.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which calls.
    pub calls: Match,
    /// What happens to them.
    pub trouble: Trouble,
    /// How many of them; none for all.
    pub count: Option<u32>,
}

/// The rules in force, oldest first.
#[derive(Default)]
pub(super) struct Rules(pub(super) Vec<Rule>);

/// What the rules do to one call.
#[derive(Default)]
pub(super) struct Fate {
    pub(super) delay: Duration,
    pub(super) failure: Option<Failure>,
    pub(super) cut: bool,
}

impl Rules {
    /// Takes what is due to this call.
    pub(super) fn fate(&mut self, ask: &Ask) -> Fate {
        let mut fate = Fate::default();
        for rule in &mut self.0 {
            let due = rule.count != Some(0) && rule.calls.matches(ask) && rule.trouble.fits(ask);
            if due && fate.failure.is_none() && !fate.cut {
                rule.count = rule.count.map(|count| count.saturating_sub(1));
                rule.trouble.befall(ask, &mut fate);
            }
        }
        self.0.retain(|rule| rule.count != Some(0));
        fate
    }
}

impl Match {
    fn matches(&self, ask: &Ask) -> bool {
        let (resource, sub) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        ask.user.name.starts_with(&self.user)
            && (self.verb.is_empty() || self.verb.split(',').any(|verb| verb == ask.verb))
            && (resource.is_empty() || resource == ask.kind.plural && (sub.is_empty() || sub == ask.sub))
    }
}

impl Trouble {
    /// Conflicts are for writes and 410 for watches, whatever the rule matches.
    fn fits(&self, ask: &Ask) -> bool {
        match self {
            Trouble::Conflict => matches!(ask.verb, "create" | "update" | "patch" | "delete"),
            Trouble::Gone => ask.verb == "watch",
            Trouble::Answer { .. } | Trouble::Delay(_) | Trouble::Cut => true,
        }
    }

    fn befall(&self, ask: &Ask, fate: &mut Fate) {
        match self {
            Trouble::Answer { code, retry_after } => fate.failure = Some(answer(*code, *retry_after)),
            Trouble::Delay(time) => fate.delay += *time,
            Trouble::Conflict => {
                let why = "the object has been modified; please apply your changes to the latest version and try again";
                let name = ask.name.as_deref().unwrap_or_default();
                fate.failure = Some(Failure::conflict(&ask.kind, name, why));
            }
            Trouble::Gone => fate.failure = Some(Failure::gone(1, 2)),
            Trouble::Cut => fate.cut = true,
        }
    }
}

fn answer(code: u16, retry_after: Option<u32>) -> Failure {
    let (reason, message) = match code {
        429 => (
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
        ),
        503 => (
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        504 => (
            "Timeout",
            "the server was unable to return a response in the time allotted",
        ),
        _ => (
            "InternalError",
            "an error on the server has prevented the request from succeeding",
        ),
    };
    let mut failure = Failure::new(code, reason, message);
    failure.retry_after = retry_after;
    failure
}
