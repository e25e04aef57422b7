//! Sentences for people who never heard of an e-value. Every decision carries its counts.

use crate::{judge::Degraded, plan::Plan, state::Trial};
use contract::{
    Split,
    policy::Margin,
    release::{Figures, Phase},
};

/// Beyond this a factor of evidence says nothing more to anybody.
const MANY: f64 = 1e6;

/// `canary 14 of 61 bad, stable 0 of 540`
pub(crate) fn counts(f: &Figures) -> String {
    format!("canary {} bad, stable {} bad", f.canary, f.stable)
}

pub(crate) fn rolled_back(f: &Figures) -> String {
    format!(
        "rolled back: {}; so many errors would be seen by chance in fewer than 1 of {:.0} healthy releases \
         (evidence {} times what a rollback needs)",
        counts(f),
        f.rollback_at.exp(),
        factor(f.log_rollback - f.rollback_at),
    )
}

pub(crate) fn guarded(why: &str, f: &Figures) -> String {
    format!(
        "rolled back: the proxy's guard cut the canary ({why}); {}",
        counts(f)
    )
}

pub(crate) fn good_enough(f: &Figures, margin: Margin, soaked: f64) -> String {
    format!(
        "good enough: {}; a canary with more than {} times stable's error rate plus {} would look this good in fewer \
         than 1 of {:.0} releases; {soaked:.0} s of traffic without suspicion",
        counts(f),
        margin.ratio,
        percent(margin.absolute),
        f.promote_at.exp(),
    )
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
fn needed(plan: &Plan, f: &Figures) -> Option<f64> {
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
        let text = rolled_back(&f);
        assert!(
            text.starts_with("rolled back: canary 14 of 61 bad, stable 0 of 540 bad; "),
            "{text}"
        );
        assert!(text.contains("fewer than 1 of 100 healthy releases"), "{text}");
        assert!(text.contains("133.6 times"), "{text}");
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
