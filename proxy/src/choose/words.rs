//! What the steps of a choice have found, in words. Only who asks pays for them.

use super::{BUCKETS, COHORT_COOKIE, cookie};
use crate::{
    table::{HeaderRule, Rules, ValueTest},
    wire::request::Request,
};
use contract::{
    annotations::Cohort,
    names::{self, Reason, Track},
};
use std::net::IpAddr;

/// What one step has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which step.
    pub step: Reason,
    /// Whether it decided.
    pub decides: bool,
    /// What it saw.
    pub why: String,
}

/// Who wants to know how a choice was come to.
pub trait Witness {
    /// Hears of one step.
    fn tell(&mut self, finding: impl FnOnce() -> Finding);
}

/// Nobody: on the way of a request nothing of it is computed.
impl Witness for () {
    fn tell(&mut self, _: impl FnOnce() -> Finding) {}
}

impl Witness for Vec<Finding> {
    fn tell(&mut self, finding: impl FnOnce() -> Finding) {
        self.push(finding());
    }
}

fn finding(step: Reason, decides: bool, why: String) -> Finding {
    Finding { step, decides, why }
}

/// A step that no annotation asks for.
pub fn unused(step: Reason, key: &str) -> Finding {
    finding(step, false, format!("{key} is not set"))
}

/// The opt-in by header.
pub fn header(rule: &HeaderRule, request: &Request, track: Option<Track>) -> Finding {
    let name = shown(&rule.name);
    let values: Vec<_> = request.lines.named(&rule.name).map(shown).collect();
    let why = match (values.as_slice(), track) {
        ([], _) => format!("{name} is not sent"),
        ([value], Some(track)) => format!("{name}: {value} asks for {}", track.name()),
        ([value], None) => format!("{name}: {value} {}", misses(&rule.test)),
        (many, _) => format!("{name} is sent {} times, which is no exact value", many.len()),
    };
    finding(Reason::Header, track.is_some(), why)
}

fn misses(test: &ValueTest) -> String {
    match test {
        ValueTest::AlwaysNever => "is neither always nor never".to_owned(),
        ValueTest::Exact(wanted) => format!("is not {}", shown(wanted)),
        ValueTest::Pattern(pattern) => format!("does not match {pattern}"),
    }
}

/// The opt-in by cookie.
pub fn cookie_word(name: &[u8], request: &Request, track: Option<Track>) -> Finding {
    let value = cookie(request, name).map(shown);
    let name = shown(name);
    let why = match (value, track) {
        (None, _) => format!("the cookie {name} is not sent"),
        (Some(value), Some(track)) => format!("the cookie {name}={value} asks for {}", track.name()),
        (Some(value), None) => format!("the cookie {name}={value} is neither always nor never"),
    };
    finding(Reason::Cookie, track.is_some(), why)
}

/// The opt-in by match: which one holds, or what each one lacks.
pub fn matches(rules: &Rules, request: &Request, client: IpAddr) -> Finding {
    let lacks: Vec<_> = rules.matches.iter().map(|m| m.lacks(request, client)).collect();
    if let Some(i) = lacks.iter().position(Option::is_none) {
        return finding(Reason::Match, true, format!("match {i} holds"));
    }
    let each = lacks.iter().enumerate();
    let why: Vec<_> = each
        .map(|(i, lack)| format!("match {i} fails by its {}", lack.unwrap_or_default()))
        .collect();
    finding(Reason::Match, false, why.join(", "))
}

/// A user's bucket; `fresh` for who is seen for the first time.
pub fn user(rules: &Rules, bucket: u64, track: Track, fresh: bool) -> Finding {
    let split = rules.split;
    let why = if fresh {
        format!(
            "a new user: gets the cookie {COHORT_COOKIE}, and with it a random bucket; {split} of users are in the canary"
        )
    } else {
        let limit = split.share() * BUCKETS as f64;
        let is = if track == Track::Canary { "is" } else { "is not" };
        format!("the user has bucket {bucket} of {BUCKETS}, which {is} below {limit:.0} ({split})")
    };
    finding(Reason::Cohort, true, why)
}

/// A request without a user, under a cohort by header.
pub fn nobody(cohort: &Cohort) -> Finding {
    let why = match cohort {
        Cohort::Header(name) => format!("{name} names no user, or several: the weight decides"),
        _ => format!("{} is none", names::CANARY_COHORT),
    };
    finding(Reason::Cohort, false, why)
}

/// The exact split.
pub fn weight(rules: &Rules) -> Finding {
    finding(
        Reason::Weight,
        true,
        format!("{} of the undecided requests go to the canary", rules.split),
    )
}

/// Octets as people may read them.
fn shown(octets: impl AsRef<[u8]>) -> String {
    let text: String = String::from_utf8_lossy(octets.as_ref())
        .chars()
        .take(200)
        .collect();
    text.escape_debug().to_string()
}
