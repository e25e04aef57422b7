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

fn scale(row: &Row) -> (f64, f64, Option<f64>) {
    (row.rps, row.baseline, row.weight)
}

fn head(row: &Row, rules: &Rules, first: bool) -> String {
    format!(
        "{}{} requests/s, stable fails {}{}, {} releases each, at most {}\n{}",
        if first { "" } else { "\n" },
        number(row.rps),
        percent(row.baseline),
        row.weight
            .map_or(String::new(), |w| format!(", weight {} %", number(w))),
        rules.runs,
        time(rules.horizon as f64),
        columns(["WORLD", "CONTROLLER"], NAMES.map(str::to_owned)),
    )
}

const NAMES: [&str; 10] = [
    "PROMOTED",
    "UNDECIDED",
    "FALSE ROLLBACKS",
    "FOUND",
    "MEDIAN",
    "MEAN",
    "BAD MEAN",
    "BAD 95 %",
    "SLOW MEAN",
    "MISCALIBRATED",
];

/// As wide as its widest usual value.
fn columns([world, controller]: [&str; 2], values: [String; 10]) -> String {
    const WIDTHS: [usize; 10] = [13, 13, 15, 13, 7, 7, 8, 8, 9, 13];
    let mut line = format!("{world:<14}  {controller:<21}");
    for (value, width) in values.iter().zip(WIDTHS) {
        let _ = write!(line, "  {value:>width$}");
    }
    line + "\n"
}

/// Bad and slow answers are the canary's until the decision.
fn line(row: &Row, world: &str) -> String {
    let s = &row.summary;
    let share = |n: usize| format!("{n} ({})", percent(n as f64 / s.runs as f64));
    let some = |n: Option<usize>| n.map_or("-".into(), share);
    let seconds = |t: Option<f64>| t.map_or("never".into(), |t| format!("{t:.0} s"));
    let values = [
        share(s.promoted),
        share(s.undecided),
        some(row.false_rollbacks),
        some(row.found),
        seconds(s.median_seconds),
        seconds(s.mean_seconds),
        number(s.bad_mean),
        number(s.bad95),
        row.is_slower.then_some(s.slow_mean).map_or("-".into(), number),
        share(s.miscalibrated),
    ];
    columns([world, &row.controller], values)
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
            weight: None,
            controller: "serin".into(),
            false_rollbacks,
            found: None,
            is_slower: rps > 50.0,
            summary: Summary {
                runs: 200,
                promoted: 198,
                rolled_back: 2,
                undecided: 0,
                median_seconds: None,
                mean_seconds: Some(77.0),
                bad_mean: 10.26,
                bad95: 24.0,
                slow_mean: 55.0,
                miscalibrated: 4,
                unwarned: 1,
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
        assert!(
            text.matches("55").count() == 1 && text.contains("4 (2 %)"),
            "{text}"
        );
    }
}
