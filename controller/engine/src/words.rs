//! Sentences for people who never heard of an e-value. Every decision carries its counts.

use crate::{
    judge::{Degraded, Evidence, Metric, STALL_AGE},
    plan::Plan,
    state::Trial,
};
use contract::{
    Split,
    release::{Figures, Latencies, Phase},
};

use stats::{halfplane::Margin, placebo::Placebos};

/// Pods are missing for this weight.
pub(crate) fn no_room(weight: Split, room: &Option<f64>) -> String {
    let room = room.unwrap_or(1.0) * 100.0;
    format!("waiting for pods: {weight} is next, and the ready ones allow {room:.1} %")
}

/// Beyond this a factor of evidence says nothing more to anybody.
const MANY: f64 = 1e6;

/// `canary 14 of 61 bad, stable 0 of 540 bad`
pub(crate) fn counts(f: &Figures) -> String {
    let unanswered = match f.unanswered {
        0 => String::new(),
        n if n >= f.canary.bad => " (without an answer)".to_owned(),
        n => format!(" ({n} without an answer)"),
    };
    format!("canary {} bad{unanswered}, stable {} bad", f.canary, f.stable)
}

/// `beyond`: a part of stable would have been rolled back too, so the usual chance does not hold.
pub(crate) fn rolled_back(f: &Figures, blamed: &[Metric], beyond: bool) -> String {
    let others: Vec<String> = blamed.iter().filter_map(|m| blame(f, *m)).collect();
    let (what, so_many) = if others.is_empty() {
        (String::new(), "so many errors")
    } else if blamed.contains(&Metric::Errors) {
        (format!("{}; ", others.join("; ")), "so much of both")
    } else {
        (format!("{}; ", others.join("; ")), "so much of that")
    };
    let times = factor(f.log_rollback - f.rollback_at);
    if beyond {
        return format!(
            "rolled back: {what}{}; a part of stable would have been rolled back too, but this is far beyond the most that any \
             part has shown (evidence {times} times what a rollback needs here)",
            counts(f),
        );
    }
    format!(
        "rolled back: {what}{}; {so_many} would be seen by chance in fewer than 1 of {:.0} healthy releases \
         (evidence {times} times what a rollback needs)",
        counts(f),
        f.rollback_at.exp(),
    )
}

/// What a metric says besides errors: `slower: p95 of the canary 210 ms beside stable's 60 ms`.
fn blame(f: &Figures, metric: Metric) -> Option<String> {
    match metric {
        Metric::Errors => None,
        Metric::Latency => f.latency.as_ref().map(slower),
        Metric::Stalled => {
            let m = f.metrics.as_ref()?;
            let age = STALL_AGE;
            let (canary, stable) = (m.canary_stalled, m.stable_stalled);
            Some(format!(
                "no good answer within {age} s: {canary} of the canary, beside {stable} of stable within {} s",
                age / 2.0
            ))
        }
    }
}

/// The quantile in which both differ most.
fn slower(l: &Latencies) -> String {
    let all = [
        ("p50", l.canary.p50, l.stable.p50),
        ("p95", l.canary.p95, l.stable.p95),
        ("p99", l.canary.p99, l.stable.p99),
    ];
    let (name, canary, stable) = all
        .into_iter()
        .max_by(|a, b| (a.1 * b.2).total_cmp(&(b.1 * a.2)))
        .unwrap_or(("p50", l.canary.p50, l.stable.p50));
    format!(
        "slower: {name} of the canary {} beside stable's {}",
        duration(canary),
        duration(stable)
    )
}

/// `210 ms`, `8 s`
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.01 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

pub(crate) fn guarded(why: &str, f: &Figures) -> String {
    format!(
        "rolled back: the proxy's guard cut the canary ({why}); {}",
        counts(f)
    )
}

pub(crate) fn good_enough(f: &Figures, margin: Margin, soaked: f64) -> String {
    format!(
        "good enough: {}{}; a canary with more than {} times stable's error rate plus {} would look this good in fewer \
         than 1 of {:.0} releases; {soaked:.0} s of traffic without suspicion",
        counts(f),
        f.latency.as_ref().map(as_fast).unwrap_or_default(),
        two_decimals(margin.ratio()),
        percent(margin.absolute()),
        f.promote_at.exp(),
    )
}

fn two_decimals(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Promoted because the policy says so at the deadline.
pub(crate) fn unproven(plan: &Plan, trial: &Trial) -> String {
    format!(
        "promoted at the deadline of {}, as the policy says, without proof that it is good enough: {}",
        plan.policy.deadline,
        waiting(plan, trial)
    )
}

fn as_fast(l: &Latencies) -> String {
    let (canary, stable) = (duration(l.canary.p95), duration(l.stable.p95));
    format!(", p95 {canary} beside {stable}")
}

pub(crate) fn degraded(d: &Degraded) -> String {
    format!(
        "baseline degraded: stable itself {} of {} bad in the last {} s, beyond chance above {}; the weight stays and \
         nobody is blamed until stable recovers",
        d.stable.x,
        d.stable.n,
        d.seconds,
        percent(d.limit),
    )
}

pub(crate) fn miscalibrated(evidence: &Evidence) -> String {
    let (slice, of) = (
        evidence.alarm().map_or(0, |i| i + 1),
        evidence.placebos().map_or(0, Placebos::groups),
    );
    format!(
        "the evidence is miscalibrated for this traffic: part {slice} of {of} of stable, judged like a canary, would have been \
         rolled back; the weight stays, and a rollback needs evidence beyond that of all parts"
    )
}

pub(crate) fn suspicious(f: &Figures) -> String {
    format!(
        "the canary is under suspicion, the weight stays: {}; neither proven nor refuted yet",
        counts(f)
    )
}

pub(crate) fn silent(why: &str) -> String {
    format!("no evidence: {why}; the weight stays until counts come again")
}

pub(crate) fn raised(weight: Split, f: &Figures) -> String {
    format!("weight {weight}: {} so far", counts(f))
}

/// `waiting for evidence: 812 of about 1500 canary requests; …`
pub(crate) fn waiting(plan: &Plan, trial: &Trial) -> String {
    let f = trial.judge.figures();
    let soak = plan.policy.pacing.soak.as_seconds();
    let evidence = match needed(plan, &f) {
        Some(_) if trial.judge.evidence().lacks_latency() => {
            format!(
                "waiting for evidence of latency: {} canary requests",
                f.canary.requests
            )
        }
        Some(n) => format!(
            "waiting for evidence: {} of about {n:.0} canary requests",
            f.canary.requests
        ),
        None => "evidence is enough for promotion".to_owned(),
    };
    let left = soak - trial.judge.soaked();
    let soaking = if left > 0.0 {
        format!("; {left:.0} s of soak left")
    } else {
        String::new()
    };
    format!("{evidence}{soaking}; {}", counts(&f))
}

/// Canary requests after which a canary that goes on like this is promoted; `None` when there are enough.
pub(crate) fn needed(plan: &Plan, f: &Figures) -> Option<f64> {
    if f.log_promote >= f.promote_at {
        return None;
    }
    let seen = f.canary.requests as f64;
    let grown = f.log_promote / f.promote_at;
    let clean = f.promote_at / plan.policy.judgement.errors.promote.absolute.max(1e-6);
    let estimate = if grown > 0.2 { seen / grown } else { clean };
    Some(two_digits(estimate.max(seen + 1.0)))
}

pub(crate) fn nothing(phase: Phase) -> String {
    match phase {
        Phase::Idle => "no canary: nothing to release".to_owned(),
        other => format!("{other}"),
    }
}

/// `because` in brackets, if there is one.
pub(crate) fn because(why: Option<&str>) -> String {
    why.map(|w| format!(" ({w})")).unwrap_or_default()
}

/// `0.1 %`
pub(crate) fn percent(rate: f64) -> String {
    let text = format!("{:.4}", rate * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn factor(log: f64) -> String {
    let factor = log.exp();
    if factor >= MANY {
        "more than a million".to_owned()
    } else {
        format!("{factor:.1}")
    }
}

fn two_digits(n: f64) -> f64 {
    let unit = 10f64.powf((n.log10().floor() - 1.0).max(0.0));
    (n / unit).ceil() * unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::release::Counts;

    #[test]
    fn a_rollback_says_counts_and_chance() {
        let f = Figures {
            stable: Counts {
                requests: 540,
                bad: 0,
            },
            canary: Counts {
                requests: 61,
                bad: 14,
            },
            log_rollback: 9.5,
            rollback_at: 100f64.ln(),
            ..Figures::default()
        };
        let text = rolled_back(&f, &[Metric::Errors], false);
        assert!(
            text.starts_with("rolled back: canary 14 of 61 bad, stable 0 of 540 bad; "),
            "{text}"
        );
        assert!(text.contains("fewer than 1 of 100 healthy releases"), "{text}");
        assert!(text.contains("133.6 times"), "{text}");
    }

    #[test]
    fn a_rollback_names_what_is_worse() {
        use contract::release::{Latencies, Metrics, Quantiles};
        let quantiles = |p50, p95, p99| Quantiles { p50, p95, p99 };
        let of = |requests, bad| Counts { requests, bad };
        let f = Figures {
            latency: Some(Latencies {
                stable: quantiles(0.02, 0.06, 0.2),
                canary: quantiles(0.02, 0.21, 0.3),
            }),
            metrics: Some(Metrics {
                canary_stalled: of(41, 40),
                stable_stalled: of(380, 0),
                ..Metrics::default()
            }),
            ..Figures::default()
        };
        let slow = rolled_back(&f, &[Metric::Latency], false);
        assert!(
            slow.starts_with("rolled back: slower: p95 of the canary 210 ms beside stable's 60 ms; canary"),
            "{slow}"
        );
        let hangs = rolled_back(&f, &[Metric::Stalled], false);
        let expected =
            "no good answer within 1 s: 40 of 41 of the canary, beside 0 of 380 of stable within 0.5 s;";
        assert!(hangs.contains(expected), "{hangs}");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            (percent(0.001), percent(0.05), percent(1.0)),
            ("0.1 %".into(), "5 %".into(), "100 %".into())
        );
        assert_eq!(
            (two_digits(2996.0), two_digits(7.2), two_digits(1.0)),
            (3000.0, 8.0, 1.0)
        );
        assert_eq!(factor(50.0), "more than a million");
    }
}
