//! The forecast for people: a table with a chart, and one sentence.

use super::{
    forecast::{Forecast, Row, Visible},
    latency::{Latency, SlowRow},
};
use crate::figures::{DAY, HOUR, number, percent, time};
use controller::contract::policy::{Margin, REACTION_SECONDS};
use std::fmt::Write;

/// Columns of the chart: a second to a day, each column a factor of 1.43.
const COLUMNS: usize = 32;
/// Where the chart's labels stand: their text and the seconds that they mean.
const LABELS: [(&str, f64); 4] = [("1 s", 1.0), ("1 min", 60.0), ("1 h", HOUR), ("1 day", DAY)];

/// What stands in place of the second table.
const HINT: &str =
    "latency: add --p99 200ms, stable's own, to see how much slower a canary must be to be found\n\n";

/// The whole page. Blocks instead of ASCII on a terminal.
pub fn text(forecast: &Forecast, terminal: bool) -> String {
    let ink = if terminal { ['█', '·'] } else { ['#', '.'] };
    let errors = forecast.rows.iter().map(|row| Line {
        label: label(row),
        seconds: row.seconds,
        requests: row.bad_requests,
        floor: row.floor_seconds,
    });
    let latency = forecast
        .latency
        .as_ref()
        .map_or(HINT.to_owned(), |l| slowness(l, ink));
    head(forecast)
        + &table(["CANARY FAILS", "BAD UNTIL THEN"], errors, ink)
        + &notes(forecast)
        + &latency
        + &foot(forecast)
}

/// A line of either table.
struct Line {
    label: String,
    seconds: Option<f64>,
    requests: Option<f64>,
    floor: Option<f64>,
}

fn table([canary, until]: [&str; 2], lines: impl Iterator<Item = Line>, ink: [char; 2]) -> String {
    let axis = axis();
    let head = format!(
        "{canary:<15} {:>14}  {until:>14}  {:>8}   {axis}\n",
        "ROLLED BACK IN", "FLOOR"
    );
    lines.fold(head, |table, l| table + &line(&l, ink))
}

fn head(f: &Forecast) -> String {
    format!(
        "{} requests/s, {} % of them to the canary; stable fails {}\nalpha {}, beta {}, phi {}; tolerated: {}\n\n",
        number(f.rps),
        number(f.weight),
        percent(f.baseline),
        percent(f.alpha),
        percent(f.beta),
        number(f.phi),
        margin(f.margins.rollback)
    )
}

fn line(line: &Line, ink: [char; 2]) -> String {
    let seconds = line.seconds.map_or("never".into(), time);
    let until = line
        .requests
        .map_or("-".into(), |n| format!("{} requests", number(n)));
    let floor = line.floor.map_or("-".into(), time);
    format!(
        "{:<15} {seconds:>14}  {until:>14}  {floor:>8}   {}\n",
        line.label,
        bar(line.seconds, ink)
    )
}

/// `1 % (x10)`
fn label(row: &Row) -> String {
    match row.times {
        Some(times) => format!("{} (x{})", percent(row.canary), number(times)),
        None => percent(row.canary),
    }
}

fn notes(f: &Forecast) -> String {
    let visible: String = f.visible.iter().map(seen).collect();
    format!(
        "\nROLLED BACK IN: the mean; FLOOR: no test with this alpha is faster. Reading, deciding and pushing weight 0 \
         take up to\n{REACTION_SECONDS} s more: at most {} bad requests, should all of them fail.\n\n\
         smallest error rate that is seen\n{visible}\n",
        number(f.rps * f.weight / 100.0 * REACTION_SECONDS)
    )
}

/// The second table.
fn slowness(l: &Latency, ink: [char; 2]) -> String {
    let lines = l.rows.iter().map(|row| Line {
        label: slow_label(row),
        seconds: row.seconds,
        requests: row.slow_requests,
        floor: row.floor_seconds,
    });
    let (p99, part) = (
        duration(l.p99_seconds),
        l.rows.iter().find(|r| !r.is_everything()),
    );
    format!(
        "latency taken for log-normal, p50 {} and p99 {p99} (spread {}); tolerated: {:.2} times stable's\n\n{}\n\
         Latency, and evidence for a promotion, count after the warm-up (30 s by default): add it.\n\
         OVER P99: so many of the canary's requests take more than {p99}, as if some of them took {} times as long.\n\
         SLOW TILL THEN: its requests over {p99}.\n\n",
        duration(l.p50_seconds),
        number(l.sigma),
        l.tolerated,
        table(["CANARY SLOWER", "SLOW TILL THEN"], lines, ink),
        number(part.map_or(1.0, |r| r.times)),
    )
}

/// `all x1.25`, or `2 % over p99`
fn slow_label(row: &SlowRow) -> String {
    if row.is_everything() {
        format!("all x{}", row.times)
    } else {
        format!("{} over p99", percent(row.beyond))
    }
}

/// `50 ms`
fn duration(seconds: f64) -> String {
    format!("{} ms", number(seconds * 1000.0))
}

fn foot(f: &Forecast) -> String {
    format!("{}\n{}\n", healthy(f), f.sentence)
}

/// When a healthy canary may go on: latency is no hindrance where it is not known.
fn healthy(f: &Forecast) -> String {
    let latency = f.latency.as_ref().map(|l| l.promote_seconds);
    let both = match (f.promote_seconds, latency) {
        (Some(errors), Some(Some(latency))) => Some(errors.max(latency)),
        (errors, None) => errors,
        _ => None,
    };
    let each = match (f.promote_seconds, latency.flatten()) {
        (Some(errors), Some(latency)) => format!(": errors {}, latency {}", time(errors), time(latency)),
        _ => String::new(),
    };
    match both {
        None => "no evidence ever lets a healthy canary be promoted".to_owned(),
        Some(s) => format!(
            "a healthy canary may be promoted after about {} (and the soak){each}",
            time(s)
        ),
    }
}

fn seen(v: &Visible) -> String {
    let rate = v
        .canary
        .map_or("nothing, not even if everything fails".into(), percent);
    format!("  within {:<7} {rate}\n", time(v.within_seconds))
}

/// What can be seen within an hour, and what cannot: the two rows next to that line.
pub fn sentence(f: &Forecast) -> String {
    let in_time = |r: &&Row| r.seconds.is_some_and(|s| s <= HOUR);
    let short = |r: &Row| r.times.map_or(percent(r.canary), |t| format!("x{}", number(t)));
    let found = f.rows.iter().find(in_time).map_or(
        "not even a canary that fails everything within an hour".to_owned(),
        |r| format!("{} in {}", short(r), time(r.seconds.unwrap_or_default())),
    );
    let missed = match f.rows.iter().rev().find(|r| !in_time(r)) {
        Some(r) if f.rows.iter().any(|r| in_time(&r)) => format!(", {} not within an hour", short(r)),
        _ => String::new(),
    };
    format!(
        "at {} requests/s and {} % you will see {found}{missed}",
        number(f.rps),
        number(f.weight)
    )
}

/// `1.1 times stable's error rate + 0.02 %`
fn margin(m: Margin) -> String {
    format!("{} times stable's error rate + {}", m.ratio, percent(m.absolute))
}

/// Column of a time on the logarithmic scale.
fn column(seconds: f64) -> usize {
    let share = seconds.max(1.0).ln() / DAY.ln();
    ((share * COLUMNS as f64).round() as usize).min(COLUMNS)
}

/// Longer than a day ends in `>`; never is an empty line.
fn bar(seconds: Option<f64>, [full, empty]: [char; 2]) -> String {
    let filled = seconds.map_or(0, |s| column(s).max(1));
    let mut bar: Vec<char> = (0..COLUMNS)
        .map(|i| if i < filled { full } else { empty })
        .collect();
    if seconds.is_some_and(|s| s > DAY) {
        bar[COLUMNS - 1] = '>';
    }
    bar.into_iter().collect()
}

/// Each label ends where a bar of that length ends, the first apart.
fn axis() -> String {
    let mut axis = String::new();
    for (label, seconds) in LABELS {
        let room = column(seconds).saturating_sub(axis.chars().count());
        let _ = write!(axis, "{label:>room$}");
    }
    axis
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::forecast::tests::args;

    fn forecast(rps: f64, baseline: f64, weight: f64) -> Forecast {
        Forecast::of(&args(rps, baseline, weight)).unwrap()
    }

    #[test]
    fn the_sentence_of_the_specification() {
        let f = forecast(10.0, 0.001, 10.0);
        assert_eq!(
            f.sentence,
            "at 10 requests/s and 10 % you will see x10 in 12.8 min, x3 not within an hour"
        );
        let x10 = f.rows.iter().find(|r| r.canary == 0.01).unwrap();
        assert!(x10.seconds.unwrap() < 810.0 && x10.seconds.unwrap() > 750.0);
        let x3 = f.rows.iter().find(|r| r.times == Some(3.0)).unwrap();
        assert!(x3.seconds.unwrap() > HOUR);
    }

    /// What it names as seen is the first row within the hour, and what it names as missed the last one beyond.
    #[test]
    fn the_sentence_is_true_whatever_the_traffic() {
        for rps in [0.01, 0.2, 3.0, 50.0, 1000.0, 1e5] {
            for baseline in [0.0, 0.001, 0.05, 0.4] {
                let f = forecast(rps, baseline, 10.0);
                let found = f.rows.iter().filter(|r| r.seconds.is_some_and(|s| s <= HOUR));
                let missed = f.rows.len() - found.clone().count();
                assert_eq!(
                    f.sentence.contains("fails everything"),
                    missed == f.rows.len(),
                    "{}",
                    f.sentence
                );
                if let Some(first) = found.clone().next() {
                    let named = format!(" in {}", time(first.seconds.unwrap()));
                    assert!(f.sentence.contains(&named), "{}", f.sentence);
                    assert_eq!(f.sentence.contains("not within"), missed > 0, "{}", f.sentence);
                }
            }
        }
    }

    #[test]
    fn pipes_get_plain_ascii_and_aligned_columns() {
        let text = text(&forecast(100.0, 0.001, 10.0), false);
        assert!(text.is_ascii(), "{text}");
        let bars: Vec<usize> = text.lines().filter(|l| l.contains("...")).map(str::len).collect();
        assert!(bars.len() > 4 && bars.iter().all(|b| *b == bars[0]), "{text}");
    }

    #[test]
    fn bars_grow_with_the_logarithm_of_time() {
        let filled = |s| bar(Some(s), ['#', '.']).matches('#').count();
        assert_eq!(filled(0.01), 1);
        assert!(filled(60.0) < filled(HOUR) && filled(HOUR) < filled(DAY));
        assert!(bar(Some(2.0 * DAY), ['#', '.']).ends_with('>'));
        assert_eq!(bar(None, ['#', '.']), ".".repeat(COLUMNS));
    }
}
