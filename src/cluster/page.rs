//! Rollouts in words: tables, pages and lines.

use super::Rollout;
use crate::{fail::Failure, view};
use proxy::contract::{release::Decision, rollout::condition};
use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

/// One line a Rollout, with the words of `kubectl get rollout`.
pub fn table(all: &[Rollout], namespace: &str) -> String {
    if all.is_empty() {
        return format!("there is no rollout in namespace {namespace}\n");
    }
    view::columns(
        ["NAME", "PHASE", "STEP", "WEIGHT", "VERDICT", "REASON"],
        &all.iter().map(row).collect::<Vec<_>>(),
    )
}

fn row(r: &Rollout) -> [String; 6] {
    let s = &r.status;
    let or_dash = |text: &String| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.clone()
        }
    };
    [
        r.name.clone(),
        s.phase.to_string(),
        or_dash(&s.step),
        or_dash(&s.weight),
        or_dash(&s.verdict),
        s.reason.clone(),
    ]
}

/// Everything about one.
pub fn detail(r: &Rollout) -> String {
    let mut out = view::detail(&r.shown());
    let s = &r.status;
    let _ = writeln!(
        out,
        "\n  proxies    {} of {} answer",
        s.proxies.heard, s.proxies.known
    );
    if let Some(order) = &s.order {
        let done = if order.done { "done" } else { "refused" };
        let _ = writeln!(out, "  last order {done}: {}", order.answer);
    }
    if let Some(ill) = ailment(r) {
        let _ = writeln!(out, "  needs you  {ill}");
    }
    out
}

/// What somebody must do, if anybody must.
pub fn ailment(r: &Rollout) -> Option<&str> {
    let mut conditions = r.status.conditions.iter();
    let ill = conditions.find(|c| c.kind == condition::HEALTHY && c.status == "False")?;
    Some(&ill.message)
}

/// Phase, weight, counts and reason.
pub fn line(r: &Rollout) -> String {
    let (s, figures) = (&r.status, &r.status.figures);
    let ill = ailment(r).map_or(String::new(), |ill| format!(" [{ill}]"));
    format!(
        "{:<11} weight {:<7} canary {} bad, stable {} bad: {}{ill}",
        s.phase, s.weight, figures.canary, figures.stable, s.reason
    )
}

/// Unix time.
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |d| d.as_secs_f64())
}

/// One of the decisions that the status keeps; without a number none, or, where nothing is under way, the last.
pub fn decision(r: &Rollout, which: Option<&str>) -> Result<Option<Decision>, Failure> {
    let all = &r.status.decisions;
    let found = match which {
        None if !r.status.phase.is_final() => return Ok(None),
        None | Some("last") => all
            .iter()
            .rev()
            .find(|d| d.figures.canary.requests > 0)
            .or(all.last()),
        Some(number) => all.iter().find(|d| d.number.to_string() == number),
    };
    match (found, which) {
        (None, Some(which)) => Err(Failure::refused(format!(
            "the status of {} keeps no decision {which}; it has: {}",
            r.name,
            all.iter()
                .map(|d| d.number.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ))),
        (found, _) => Ok(found.cloned()),
    }
}

/// Why, as far as the object in the cluster tells it.
pub fn account(r: &Rollout, decision: Option<Decision>) -> String {
    let mut shown = r.shown();
    let mut out = String::new();
    if let Some(d) = &decision {
        let _ = writeln!(
            out,
            "{}, decision {} at {}: {} -> {}, weight {}, by {}\n  {}\n",
            r.name,
            d.number,
            view::clock(d.at),
            d.from,
            d.to,
            d.weight,
            d.by,
            d.reason
        );
        shown.figures = d.figures;
    }
    out + &view::detail(&shown) + ELSEWHERE
}

const ELSEWHERE: &str = "\nThis is what the object keeps. Bounds, margins and what would have changed it are in the controller's log of blocks:\nrun it with --evidence-dir, copy NAME.blocks.jsonl, and let `serin replay` compute every decision again.\n";

#[cfg(test)]
mod tests {
    use super::super::rollout::tests::rollout;
    use super::*;
    use serde_json::{Value, json};

    fn shifting() -> Value {
        json!({
            "phase": "Shifting", "weight": "20/5", "verdict": "waiting 812 of 1500", "reason": "raising",
            "stableVersion": "v1", "canaryVersion": "v2", "proxies": {"known": 2, "heard": 1},
            "figures": {"stable": {"requests": 9000, "bad": 1}, "canary": {"requests": 812, "bad": 3},
                "logRollback": 1.0, "rollbackAt": 4.6, "logPromote": 1.0, "promoteAt": 3.0},
            "decisions": [
                {"number": 1, "at": 10.0, "version": "v2", "release": "h", "from": "Idle", "to": "Starting", "weight": {"weight": "0", "total": 100},
                 "reason": "v2 appeared", "by": "serin-controller",
                 "figures": {"stable": {"requests": 0, "bad": 0}, "canary": {"requests": 0, "bad": 0},
                    "logRollback": 0.0, "rollbackAt": 0.0, "logPromote": 0.0, "promoteAt": 0.0}}
            ],
            "conditions": [{"type": "Healthy", "status": "False", "reason": "X", "message": "one proxy is silent"}],
        })
    }

    #[test]
    fn one_line_answers_the_four_questions() {
        let r = rollout(shifting());
        let text = table(std::slice::from_ref(&r), "shop");
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "echo  Shifting  -     20/5    waiting 812 of 1500  raising"
        );
        assert_eq!(table(&[], "shop"), "there is no rollout in namespace shop\n");
        assert_eq!(
            line(&r),
            "Shifting    weight 20/5    canary 3 of 812 bad, stable 1 of 9000 bad: raising [one proxy is silent]"
        );
    }

    #[test]
    fn a_page_tells_proxies_and_what_needs_a_person() {
        let text = detail(&rollout(shifting()));
        for part in [
            "v1 -> v2",
            "1 of 2 answer",
            "needs you  one proxy is silent",
            "20 % / 5 %",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn decisions_are_found_by_number_and_a_missing_one_is_told() {
        let r = rollout(shifting());
        assert!(decision(&r, None).unwrap().is_none());
        assert_eq!(decision(&r, Some("1")).unwrap().unwrap().reason, "v2 appeared");
        assert_eq!(decision(&r, Some("last")).unwrap().unwrap().number, 1);
        assert!(
            decision(&r, Some("7"))
                .unwrap_err()
                .to_string()
                .contains("it has: 1")
        );
        let account = account(&r, decision(&r, Some("1")).unwrap());
        assert!(
            account.contains("decision 1 at 00:00:10Z: Idle -> Starting") && account.contains("serin replay")
        );
    }
}
