//! What is known of one release at one moment, wherever it was read.

use crate::figures::{percent, time};
use controller::stats::{Arm, bounds};
use proxy::contract::{
    explanation::{Bounds, Explanation},
    release::{Counts, Phase, Status, Verdict},
};
use serde::Serialize;

/// Chance that a bound is wrong at any look, as in explanations.
const DOUBT: f64 = 0.05;

/// One release.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sight {
    /// Its name: the service of a file, the Rollout of a cluster.
    pub name: String,
    /// Its namespace; empty on this machine.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Where it stands.
    pub status: Status,
    /// The evidence taken apart, where it can be had.
    #[serde(skip)]
    pub explanation: Option<Explanation>,
    /// Who serves: `stable 2, canary 1`, or proxies that answer.
    #[serde(skip)]
    pub places: String,
    /// What somebody must do, if anybody must.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs_you: Option<String>,
}

/// One row of the table of tracks.
pub struct Row {
    /// `stable` or `canary`.
    pub track: &'static str,
    /// Its version.
    pub version: String,
    /// Judged requests.
    pub counts: Counts,
    /// Between which rates the truth is; `None`: nothing was counted.
    pub rate: Option<Bounds>,
    /// p50, p95 and p99 with their bounds; empty while unknown.
    pub latency: Vec<(f64, Bounds)>,
}

impl Sight {
    /// What the evidence for "worse" and for "good enough" is and needs, as natural logarithms.
    pub fn evidence(&self) -> [(f64, f64); 2] {
        let f = &self.status.figures;
        [(f.log_rollback, f.rollback_at), (f.log_promote, f.promote_at)]
    }

    /// Both tracks.
    pub fn rows(&self) -> [Row; 2] {
        let (s, f) = (&self.status, &self.status.figures);
        let of = |e: &Explanation| [e.stable.clone(), e.canary.clone()];
        let [stable, canary] = self
            .explanation
            .as_ref()
            .map(of)
            .map_or([None, None], |t| t.map(Some));
        let quantiles =
            |track: &Option<proxy::contract::explanation::Track>, told: Option<[f64; 3]>| match track {
                Some(track) if !track.latency.is_empty() => {
                    track.latency.iter().map(|q| (q.seconds, q.bounds)).collect()
                }
                _ => told
                    .into_iter()
                    .flatten()
                    .map(|q| (q, Bounds::default()))
                    .collect(),
            };
        let told = f
            .latency
            .map(|l| [l.stable, l.canary].map(|q| [q.p50, q.p95, q.p99]));
        let [slow_stable, slow_canary] = told.map_or([None, None], |t| t.map(Some));
        [
            Row {
                track: "stable",
                version: s.stable_version.clone(),
                counts: f.stable,
                rate: rate(f.stable),
                latency: quantiles(&stable, slow_stable),
            },
            Row {
                track: "canary",
                version: s.canary_version.clone(),
                counts: f.canary,
                rate: rate(f.canary),
                latency: quantiles(&canary, slow_canary),
            },
        ]
    }

    /// What it waits for and how long that will take, most pressing first.
    pub fn waits(&self) -> Vec<String> {
        let s = &self.status;
        if s.phase.is_final() {
            return vec![match s.phase {
                Phase::RolledBack => format!("nothing; `serin retry {}` runs this version again", self.name),
                _ => "nothing; another canary begins a release".to_owned(),
            }];
        }
        let mut waits = Vec::new();
        match s.phase {
            Phase::Paused => waits.push("you: space resumes, p promotes, a goes back".to_owned()),
            Phase::Undecided => waits.push("you: p promotes, a goes back".to_owned()),
            _ => {}
        }
        if let Some(e) = &self.explanation {
            waits.extend(forecast(e, s));
        }
        if let (Some(n), Verdict::NotYet) = (s.needed, s.verdict) {
            waits.push(format!(
                "evidence: {} of about {n} requests of the canary",
                s.figures.canary.requests
            ));
        }
        if waits.is_empty() {
            waits.push(s.reason.clone());
        }
        waits
    }
}

/// Expected times, as the engine has them.
fn forecast(e: &Explanation, s: &Status) -> Vec<String> {
    let mut out = Vec::new();
    if s.verdict == Verdict::NotYet
        && let Some(left) = e.outlook.rollback_if_so.filter(|_| e.log_rollback > 0.0)
    {
        out.push(format!(
            "rolled back in about {} if it goes on like this",
            time(left)
        ));
    }
    if let Some(left) = e.outlook.promote_if_same.filter(|t| *t > 0.0) {
        out.push(format!(
            "promotion in about {} if the canary is as good as stable",
            time(left)
        ));
    }
    if e.traffic.warm_up_left > 0.0 {
        out.push(format!("warm-up: {} left", time(e.traffic.warm_up_left)));
    }
    if e.traffic.soak_left > 0.0 {
        out.push(format!("soak: {} left", time(e.traffic.soak_left)));
    }
    out
}

fn rate(counts: Counts) -> Option<Bounds> {
    let arm = Arm {
        n: counts.requests,
        x: counts.bad,
    };
    let (low, high) = bounds::proportion(arm, DOUBT);
    (counts.requests > 0).then_some(Bounds {
        low,
        high: Some(high),
    })
}

/// `0.1 % (0.02 … 0.4)`
pub fn rate_text(row: &Row) -> String {
    let Some(b) = &row.rate else { return "-".to_owned() };
    let share = row.counts.bad as f64 / row.counts.requests.max(1) as f64;
    let bare = |x: f64| percent(x).trim_end_matches(" %").to_owned();
    format!(
        "{} ({}…{})",
        percent(share),
        bare(b.low),
        bare(b.high.unwrap_or(1.0))
    )
}

/// `12 ms (11…14)`, or without bounds where none are known.
pub fn latency_text(quantile: Option<&(f64, Bounds)>) -> String {
    let Some((seconds, bounds)) = quantile else {
        return "-".to_owned();
    };
    let unit = if *seconds < 1.0 {
        (1000.0, "ms")
    } else {
        (1.0, "s")
    };
    let shown = |x: f64| crate::figures::number(x * unit.0);
    match bounds.high {
        Some(high) => format!(
            "{} {} ({}…{})",
            shown(*seconds),
            unit.1,
            shown(bounds.low),
            shown(high)
        ),
        None => format!("{} {}", shown(*seconds), unit.1),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proxy::contract::{
        Split,
        release::{Decision, Figures},
    };

    /// A release under way.
    pub fn sight(name: &str) -> Sight {
        let figures = Figures {
            stable: Counts {
                requests: 9000,
                bad: 9,
            },
            canary: Counts {
                requests: 812,
                bad: 3,
            },
            log_rollback: 2.3,
            rollback_at: 4.6,
            log_promote: 1.5,
            promote_at: 3.0,
            ..Figures::default()
        };
        let decision = Decision {
            number: 1,
            at: 43_210.0,
            version: "v2".into(),
            release: "h".into(),
            from: Phase::Idle,
            to: Phase::Starting,
            weight: Split::NONE,
            reason: "v2 appeared".into(),
            by: "serin".into(),
            figures,
            explanation: None,
        };
        Sight {
            name: name.into(),
            namespace: String::new(),
            status: Status {
                service: name.into(),
                stable_version: "v1".into(),
                canary_version: "v2".into(),
                phase: Phase::Shifting,
                wanted: Split::of_share(0.1, 100),
                taken: Some(0.1),
                verdict: Verdict::NotYet,
                reason: "waiting for evidence".into(),
                figures,
                decisions: vec![decision],
                needed: Some(1500),
                steps: Some((1, 4)),
                checks: Vec::new(),
            },
            explanation: None,
            places: "stable 2, canary 1".into(),
            needs_you: None,
        }
    }

    #[test]
    fn bounds_hold_what_was_counted() {
        let [stable, _] = sight("echo").rows();
        let bounds = stable.rate.unwrap();
        assert!(bounds.low < 0.001 && bounds.high.unwrap() > 0.001, "{bounds:?}");
        assert!(rate_text(&sight("echo").rows()[0]).starts_with("0.1 % ("));
        assert_eq!(latency_text(None), "-");
        let known = (
            0.0123,
            Bounds {
                low: 0.011,
                high: Some(0.014),
            },
        );
        assert_eq!(latency_text(Some(&known)), "12.3 ms (11…14)");
    }

    #[test]
    fn whoever_waits_says_for_what() {
        assert_eq!(
            sight("echo").waits(),
            ["evidence: 812 of about 1500 requests of the canary"]
        );
        let mut paused = sight("echo");
        paused.status.phase = Phase::Paused;
        assert!(paused.waits()[0].contains("space resumes"));
        paused.status.phase = Phase::RolledBack;
        assert!(paused.waits()[0].contains("serin retry echo"));
    }
}
