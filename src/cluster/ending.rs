//! How a release that a pipeline waits for has ended.

use super::Rollout;
use proxy::contract::release::Phase;
use serde::Serialize;
use std::time::Duration;

/// How long the controller may take to begin with what was written.
const TO_BEGIN: Duration = Duration::from_secs(20);

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// What has become of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
}

/// What can become of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is the stable version.
    Promoted,
    /// Stable serves everybody.
    RolledBack,
    /// Nothing is decided.
    Undecided,
}

impl Outcome {
    /// For the shell.
    pub const fn code(self) -> u8 {
        match self {
            Outcome::Promoted => 0,
            Outcome::RolledBack => 1,
            Outcome::Undecided => 2,
        }
    }

    /// The last line begins with it.
    pub const fn words(self) -> &'static str {
        match self {
            Outcome::Promoted => "PROMOTED",
            Outcome::RolledBack => "ROLLED BACK",
            Outcome::Undecided => "UNDECIDED",
        }
    }
}

impl End {
    /// With this reason.
    pub fn new(outcome: Outcome, reason: impl Into<String>) -> End {
        End {
            outcome,
            reason: reason.into(),
        }
    }
}

/// What is waited for, and what was there before.
#[derive(Debug)]
pub struct Wait {
    /// The value of `serin.dev/deploy-image` that was written; `None`: whatever release is under way.
    image: Option<String>,
    /// What `status.deployImage` was before.
    image_before: Option<String>,
    /// The number of the last decision before.
    decisions: u64,
}

impl Wait {
    /// From what was there before anything was written.
    pub fn new(before: &Rollout, image: Option<String>) -> Wait {
        Wait {
            image,
            image_before: before.status.deploy_image.clone(),
            decisions: before.last_decision(),
        }
    }

    /// Whether it has ended; nothing has changed for the time `quiet`.
    pub fn look(&self, now: &Rollout, quiet: Duration) -> Option<End> {
        let status = &now.status;
        if let Some(end) = self.not_ours(now, quiet) {
            return end;
        }
        match status.phase {
            Phase::Undecided => Some(End::new(Outcome::Undecided, now.verdict_reason())),
            phase if !phase.is_final() => None,
            _ if self.is_of_ours(now) => Some(over(now)),
            _ if quiet >= TO_BEGIN => Some(self.never_began(now)),
            _ => None,
        }
    }

    /// The image is not taken up yet, or no more: that is the answer.
    fn not_ours(&self, now: &Rollout, quiet: Duration) -> Option<Option<End>> {
        let (wanted, taken) = (self.image.as_ref()?, &now.status.deploy_image);
        if taken.as_ref() == Some(wanted) {
            return None;
        }
        if taken.is_some() && *taken != self.image_before {
            let reason = format!(
                "another image has taken its place: {}",
                taken.as_deref().unwrap_or_default()
            );
            return Some(Some(End::new(Outcome::Undecided, reason)));
        }
        Some((quiet >= TO_BEGIN).then(|| {
            End::new(
                Outcome::Undecided,
                format!(
                    "the controller has not taken the image up ({}); is it running? kubectl get pods -A -l app.kubernetes.io/name=serin-controller",
                    now.status.reason
                ),
            )
        }))
    }

    /// Whether the last decision came after the start and is about what is released now, not about what it replaced.
    fn is_of_ours(&self, now: &Rollout) -> bool {
        let last = now.status.decisions.last().filter(|d| d.number > self.decisions);
        last.is_some_and(|d| now.status.release.is_empty() || d.release == now.status.release)
    }

    fn never_began(&self, now: &Rollout) -> End {
        match now.status.phase {
            Phase::RolledBack => End::new(
                Outcome::RolledBack,
                format!(
                    "it was rolled back before: {}; `serin retry {}` runs it again",
                    now.verdict_reason(),
                    now.name
                ),
            ),
            Phase::Succeeded if self.image.is_none() => over(now),
            _ => End::new(
                Outcome::Undecided,
                format!("no release has begun: {}", now.status.reason),
            ),
        }
    }
}

fn over(now: &Rollout) -> End {
    let outcome = match now.status.phase {
        Phase::Succeeded => Outcome::Promoted,
        Phase::RolledBack => Outcome::RolledBack,
        _ => Outcome::Undecided,
    };
    End::new(outcome, now.verdict_reason())
}

#[cfg(test)]
mod tests {
    use super::super::rollout::tests::rollout;
    use super::*;
    use serde_json::{Value, json};

    const SOON: Duration = Duration::from_secs(1);

    fn decision(number: u64, release: &str, to: &str) -> Value {
        let figures = json!({"stable": {"requests": 0, "bad": 0}, "canary": {"requests": 0, "bad": 0},
            "logRollback": 0.0, "rollbackAt": 0.0, "logPromote": 0.0, "promoteAt": 0.0});
        json!({"number": number, "at": 1.0, "version": "v2", "release": release, "from": "Shifting", "to": to,
            "weight": {"weight": "0", "total": 100}, "reason": format!("{to} because"), "by": "serin-controller", "figures": figures})
    }

    fn at(phase: &str, image: &str, release: &str, decisions: Vec<Value>) -> Rollout {
        rollout(
            json!({"phase": phase, "deployImage": image, "release": release, "reason": "as it is", "decisions": decisions}),
        )
    }

    fn wait() -> Wait {
        Wait::new(
            &at("Succeeded", "a:1", "h1", vec![decision(3, "h1", "Promoting")]),
            Some("a:2".into()),
        )
    }

    fn outcome(now: &Rollout, quiet: Duration) -> Option<Outcome> {
        wait().look(now, quiet).map(|e| e.outcome)
    }

    #[test]
    fn the_end_of_an_earlier_release_is_not_ours() {
        let old = at("Succeeded", "a:1", "h1", vec![decision(3, "h1", "Promoting")]);
        assert_eq!(outcome(&old, SOON), None);
        let taken_up = at("Succeeded", "a:2", "h1", vec![decision(3, "h1", "Promoting")]);
        assert_eq!(outcome(&taken_up, SOON), None);
        let replaced = at("RolledBack", "a:2", "h2", vec![decision(4, "h1", "RollingBack")]);
        assert_eq!(outcome(&replaced, SOON), None);
    }

    #[test]
    fn ours_ends_with_its_reason() {
        let good = at("Succeeded", "a:2", "h2", vec![decision(5, "h2", "Promoting")]);
        assert_eq!(
            wait().look(&good, SOON).unwrap(),
            End::new(Outcome::Promoted, "Promoting because")
        );
        let bad = at("RolledBack", "a:2", "h2", vec![decision(5, "h2", "RollingBack")]);
        assert_eq!(
            wait().look(&bad, SOON).unwrap(),
            End::new(Outcome::RolledBack, "RollingBack because")
        );
        let open = at("Undecided", "a:2", "h2", vec![decision(5, "h2", "Undecided")]);
        assert_eq!(outcome(&open, SOON), Some(Outcome::Undecided));
        assert_eq!(
            outcome(
                &at("Shifting", "a:2", "h2", vec![decision(5, "h2", "Shifting")]),
                TO_BEGIN
            ),
            None
        );
    }

    #[test]
    fn what_never_begins_is_told_after_a_while() {
        let refused = at("RolledBack", "a:2", "h2", vec![decision(3, "h2", "RollingBack")]);
        assert_eq!(outcome(&refused, SOON), None);
        let end = wait().look(&refused, TO_BEGIN).unwrap();
        assert!(
            end.outcome == Outcome::RolledBack && end.reason.contains("serin retry echo"),
            "{end:?}"
        );
        let deaf = at("Succeeded", "a:1", "h1", vec![]);
        assert!(
            wait()
                .look(&deaf, TO_BEGIN)
                .unwrap()
                .reason
                .contains("is it running?")
        );
        let other = at("Starting", "a:9", "h9", vec![]);
        assert!(wait().look(&other, SOON).unwrap().reason.contains("a:9"));
    }

    #[test]
    fn without_an_image_whatever_is_under_way_counts() {
        let wait = Wait::new(
            &at("Shifting", "a:1", "h2", vec![decision(4, "h2", "Shifting")]),
            None,
        );
        let end = at("Succeeded", "a:1", "h2", vec![decision(6, "h2", "Promoting")]);
        assert_eq!(wait.look(&end, SOON).unwrap().outcome, Outcome::Promoted);
        let idle = at("Idle", "a:1", "", vec![]);
        assert_eq!(wait.look(&idle, SOON), None);
        assert_eq!(wait.look(&idle, TO_BEGIN).unwrap().outcome, Outcome::Undecided);
    }
}
