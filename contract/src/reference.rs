//! Tables for the pages that are made from the code (docs/annotations.md, docs/events.md); tests keep them whole.

use crate::names::{
    CANARY_BY_COOKIE, CANARY_BY_HEADER, CANARY_BY_HEADER_PATTERN, CANARY_BY_HEADER_VALUE, CANARY_COHORT,
    CANARY_COHORT_SALT, CANARY_GUARD, CANARY_MATCH, CANARY_MIRROR, CANARY_SERVICE, CANARY_SHIELD,
    CANARY_WEIGHT, CANARY_WEIGHT_TOTAL, CHANGE_CAUSE, CHANGED_BY, DEPLOY_IMAGE, ORDER, STABLE_SERVICE,
};

/// An annotation that people may write or read.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    /// Its key, without the prefix.
    pub key: &'static str,
    /// On which object.
    pub on: &'static str,
    /// What may be written.
    pub value: &'static str,
    /// What is meant without it.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// A reason of an Event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The word.
    pub reason: &'static str,
    /// Whether it is a warning.
    pub warning: bool,
    /// What it says, and what to do.
    pub meaning: &'static str,
}

const fn note(
    key: &'static str,
    on: &'static str,
    value: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Annotation {
    Annotation {
        key,
        on,
        value,
        default,
        meaning,
    }
}

/// Every annotation, in the order of the contract.
#[rustfmt::skip]
pub const ANNOTATIONS: [Annotation; 18] = [
    note(STABLE_SERVICE, "Service", "a Service's name", "", "where the stable endpoints are, in the same namespace"),
    note(CANARY_SERVICE, "Service", "a Service's name", "", "where the canary endpoints are, in the same namespace"),
    note(CANARY_WEIGHT, "Service", "a plain decimal number from 0 to the total", "0", "share of the undecided requests that goes to the canary; the controller moves it, and written by a person it pauses the release"),
    note(CANARY_WEIGHT_TOTAL, "Service", "1 to 1000000", "100", "what the weight is a share of"),
    note(CANARY_BY_HEADER, "Service", "a header's name", "", "`always` goes to the canary, `never` to stable, anything else is undecided"),
    note(CANARY_BY_HEADER_VALUE, "Service", "text", "", "replaces always and never: equal goes to the canary, else undecided"),
    note(CANARY_BY_HEADER_PATTERN, "Service", "a regular expression without look-around", "", "used only without a value: a match goes to the canary, else undecided"),
    note(CANARY_BY_COOKIE, "Service", "a cookie's name", "", "`always`, `never`, else undecided"),
    note(CANARY_MATCH, "Service", "a JSON list of Gateway API matches, with sourceIPs", "", "any match goes to the canary"),
    note(CANARY_COHORT, "Service", "none, cookie, source-ip or header:NAME", "none", "splits users instead of requests: a growing weight only adds users"),
    note(CANARY_COHORT_SALT, "Service", "text", "set at each start", "which users come first"),
    note(CANARY_SHIELD, "Service", "on or off", "on", "whether stable answers where the canary failed"),
    note(CANARY_GUARD, "Service", "on or off", "on", "whether a proxy cuts a grossly failing canary by itself"),
    note(CANARY_MIRROR, "Service", "percent", "0", "copies of requests that are safe to repeat, at weight 0 only; never evidence"),
    note(CHANGED_BY, "Service, Rollout", "a name", "", "who made the last change; the admission policy stamps it"),
    note(CHANGE_CAUSE, "Service, Deployment", "text", "", "why, for the record"),
    note(DEPLOY_IMAGE, "the stable workload", "IMAGE or CONTAINER=IMAGE", "", "an image to release; `serin deploy` writes it"),
    note(ORDER, "Rollout", "promote, abort, pause, resume, retry or undo", "", "an order; taken away when it is obeyed or refused"),
];

const fn told(reason: &'static str, meaning: &'static str) -> Event {
    Event {
        reason,
        warning: false,
        meaning,
    }
}

const fn warned(reason: &'static str, meaning: &'static str) -> Event {
    Event {
        reason,
        warning: true,
        meaning,
    }
}

/// Every reason of an Event on a Rollout.
#[rustfmt::skip]
pub const EVENTS: [Event; 19] = [
    told("ReleaseStarted", "another version has appeared; it must become ready before it gets a request"),
    told("Verifying", "smoke requests and gates, at weight 0"),
    told("Shifting", "the canary gets its first weight, or another one after a change"),
    told("WeightRaised", "the evidence, or a plain step, allows more"),
    told("Holding", "the weight stays until the cause has gone; the note says which"),
    told("GoingOn", "the cause of a hold has gone"),
    told("Paused", "a person or a plain step stopped it: `serin resume NAME`"),
    told("Resumed", "a person has gone on"),
    told("Promoting", "the canary takes over"),
    told("Watching", "both are compared once more, a small share on the old version"),
    told("Promoted", "the canary is stable now"),
    told("ReleaseEnded", "there is nothing to release any more"),
    warned("RollingBack", "weight 0 is on its way; the note says why, and `serin explain NAME` in whole"),
    warned("RolledBack", "stable serves everybody: mend the version, or `serin retry NAME`"),
    warned("Undecided", "the deadline passed without a verdict: promote, abort, or wait for evidence"),
    warned("NeedsMending", "spec, workloads, proxies or annotations are not as they should be; the note says what to do"),
    warned("ConfigRejected", "a proxy refuses a value, and the last good one stays in force; or a key on the stable workload is mistyped, and does nothing"),
    warned("DeployRefused", "the image of serin.dev/deploy-image cannot be released; the note says why"),
    warned("StateDamaged", "what the status remembered cannot be read; the note says what was taken instead"),
];

/// Whether an Event of this reason is known.
pub fn is_event(reason: &str) -> bool {
    EVENTS.iter().any(|e| e.reason == reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{RECORD_KEYS, TRAFFIC_KEYS};

    #[test]
    fn every_key_has_its_line() {
        let mut wanted: Vec<_> = TRAFFIC_KEYS
            .into_iter()
            .chain(RECORD_KEYS)
            .chain([ORDER])
            .collect();
        let mut told: Vec<_> = ANNOTATIONS.iter().map(|a| a.key).collect();
        wanted.sort();
        told.sort();
        assert_eq!(told, wanted);
    }
}
