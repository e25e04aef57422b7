//! The table of a contest: one block for each amount of traffic, the controllers of one world below each other.

use super::contest::{Row, Rules};
use crate::figures::{number, percent, time};
use std::fmt::Write;

/// For people.
pub fn text(rows: &[Row], rules: &Rules) -> String {
    let mut out = String::new();
    let mut before: Option<&Row> = None;
    for row in rows {
        if before.is_none_or(|b| scale(b) != scale(row)) {
            out += &head(row, rules, before.is_none());
        }
        let repeats = before.is_some_and(|b| scale(b) == scale(row) && b.world == row.world);
        out += &line(row, if repeats { "" } else { &row.world });
        before = Some(row);
    }
    out
}

fn scale(row: &Row) -> (f64, f64) {
    (row.rps, row.baseline)
}

fn head(row: &Row, rules: &Rules, first: bool) -> String {
    format!(
        "{}{} requests/s, stable fails {}, {} releases each, at most {}\n{:<14}  {:<22}  {:>15}  {:>15}  {:>15}  {:>8}  {:>8}  {:>8}\n",
        if first { "" } else { "\n" },
        number(row.rps),
        percent(row.baseline),
        rules.runs,
        time(rules.horizon as f64),
        "WORLD",
        "CONTROLLER",
        "PROMOTED",
        "ROLLED BACK",
        "FALSE ROLLBACKS",
        "MEDIAN",
        "BAD MEAN",
        "BAD 95 %",
    )
}

/// Bad answers are the canary's until the decision.
fn line(row: &Row, world: &str) -> String {
    let s = &row.summary;
    let share = |n: usize| format!("{n} ({})", percent(n as f64 / s.runs as f64));
    let mut line = String::new();
    let _ = writeln!(
        line,
        "{world:<14}  {:<22}  {:>15}  {:>15}  {:>15}  {:>8}  {:>8}  {:>8}",
        row.controller,
        share(s.promoted),
        share(s.rolled_back),
        row.false_rollbacks.map_or("-".into(), share),
        s.median_seconds.map_or("never".into(), |m| format!("{m:.0} s")),
        number(s.bad_mean),
        number(s.bad95),
    );
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::end::Summary;

    fn row(world: &str, rps: f64, false_rollbacks: Option<usize>) -> Row {
        Row {
            world: world.into(),
            rps,
            baseline: 0.001,
            controller: "serin".into(),
            false_rollbacks,
            summary: Summary {
                runs: 200,
                promoted: 198,
                rolled_back: 2,
                median_seconds: None,
                bad_mean: 10.26,
                bad95: 24.0,
            },
        }
    }

    #[test]
    fn a_world_is_named_once_and_traffic_heads_its_block() {
        let rules = Rules {
            runs: 200,
            seed: 1,
            horizon: 3600,
            reaction: 3,
            threads: 1,
        };
        let rows = [
            row("healthy", 10.0, Some(2)),
            row("healthy", 10.0, Some(2)),
            row("x2", 100.0, None),
        ];
        let text = text(&rows, &rules);
        assert_eq!(text.matches("healthy").count(), 1);
        assert_eq!(text.matches(" requests/s, stable fails 0.1 %").count(), 2);
        assert!(text.contains("198 (99 %)") && text.contains("never") && text.contains("10.3"));
    }
}
