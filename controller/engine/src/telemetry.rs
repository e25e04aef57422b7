//! What the proxies' answers together allow to say.

use crate::observation::{Observation, Table, Told};
use contract::{evidence::ServicePage, names::Track};

/// Seconds without an answer after which the weight is held: a few missed polls are no news.
const LOST: f64 = 3.0;
/// Seconds of silence after which a proxy is no longer waited for on the way back.
const SILENT: f64 = 10.0;
/// Two shares nearer than this are one.
const SAME_SHARE: f64 = 1e-9;

/// Every known proxy has answered. Without this nothing rises.
pub(crate) fn is_complete(seen: &Observation) -> bool {
    !seen.proxies.is_empty() && seen.proxies.iter().all(|p| matches!(p.told, Told::Page { .. }))
}

/// Why there is no evidence, once that has lasted.
pub(crate) fn lost(seen: &Observation) -> Option<String> {
    if seen.proxies.is_empty() {
        return Some("no proxy is known".to_owned());
    }
    seen.proxies.iter().find_map(|p| match &p.told {
        Told::Missing { since, reason } if seen.now - since >= LOST => Some(format!(
            "nothing heard from proxy {} for {:.0} s ({reason})",
            p.name,
            seen.now - since
        )),
        _ => None,
    })
}

/// The share that every proxy has in force, if all answer the same.
pub(crate) fn share(seen: &Observation) -> Option<f64> {
    let first = seen.pages().next()?.share;
    let same = seen.pages().all(|p| (p.share - first).abs() < SAME_SHARE);
    (same && is_complete(seen)).then_some(first)
}

/// Every proxy acknowledges this split.
pub(crate) fn has_taken(seen: &Observation, table: &Table) -> bool {
    is_complete(seen) && seen.pages().all(|p| p.hash == table.hash)
}

/// Every proxy that is not silent answers, sends nothing to the canary, and waits for nothing from it.
pub(crate) fn is_home(seen: &Observation) -> bool {
    let waited_for = |told: &Told| matches!(told, Told::Missing { since, .. } if seen.now - since < SILENT);
    let home = |p: &ServicePage| p.share == 0.0 && p.inflight[Track::Canary.index()] == 0;
    !seen.proxies.iter().any(|p| waited_for(&p.told)) && seen.pages().all(home)
}

/// Some proxy still sends requests to the canary.
pub(crate) fn is_exposed(seen: &Observation) -> bool {
    seen.pages().any(|p| p.share > 0.0)
}

/// A proxy's own guard has cut the canary, and why.
pub(crate) fn guard(seen: &Observation) -> Option<&str> {
    seen.pages().find_map(|p| p.guard.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Proxy;

    fn missing(name: &str, since: f64) -> Proxy {
        Proxy {
            name: name.into(),
            told: Told::Missing {
                since,
                reason: "refused".into(),
            },
        }
    }

    #[test]
    fn a_short_silence_is_incomplete_but_not_lost() {
        let mut seen = Observation::nothing(100.0);
        assert!(!is_complete(&seen) && lost(&seen).is_some());
        seen.proxies = vec![missing("a", 98.0)];
        assert!(!is_complete(&seen) && lost(&seen).is_none() && !is_home(&seen));
        seen.proxies = vec![missing("a", 80.0)];
        assert_eq!(
            lost(&seen).unwrap(),
            "nothing heard from proxy a for 20 s (refused)"
        );
        assert!(is_home(&seen));
    }
}
