//! What the page is put together of.

use crate::figures::{number, percent};
use proxy::contract::explanation::{Bounds, Explanation, Quantile, Track};

/// Columns of a page.
const WIDTH: usize = 80;
/// Columns of a name before its value.
const NAME: usize = 24;
/// Columns of a quantile with its bounds.
const QUANTILE: usize = 27;
/// Columns of the longest bar, and of the name before it.
const BAR: usize = 24;
const BAR_NAME: usize = 42;

/// Text in lines of at most 80 columns, those after the first one indented like this too.
pub fn wrapped(text: &str, indent: &str) -> String {
    filled(text, indent, indent)
}

fn filled(text: &str, first: &str, others: &str) -> String {
    let mut out = first.to_owned();
    let mut column = first.chars().count();
    let mut begins = true;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if !begins && column + 1 + width > WIDTH {
            out.push('\n');
            out.push_str(others);
            column = others.chars().count();
            begins = true;
        }
        if !begins {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
        begins = false;
    }
    out.push('\n');
    out
}

/// `What was compared`, with an empty line before it.
pub fn heading(text: &str) -> String {
    format!("\n{text}\n")
}

/// One sentence or two.
pub fn bullet(text: &str) -> String {
    // A figure and its unit stay together.
    let kept = text.replace(" %", "\u{a0}%");
    filled(&kept, "  - ", "    ").replace('\u{a0}', " ")
}

/// A name and its value.
pub fn line(name: &str, text: &str) -> String {
    filled(text, &format!("  {name:<NAME$}"), &" ".repeat(NAME + 2))
}

/// A share as a bar.
pub fn bar(name: &str, share: f64) -> String {
    let full = "#".repeat((share.clamp(0.0, 1.0) * BAR as f64).round() as usize);
    format!("  {name:<BAR_NAME$}{full:<BAR$} {:>3.0} %\n", share * 100.0)
}

/// `canary v2   24 of 259 bad, between 5.9 % and 14.2 %`
pub fn rate(name: &str, track: &Track) -> String {
    let c = track.counts;
    let text = if c.requests == 0 {
        "nothing compared yet".to_owned()
    } else {
        format!(
            "{} of {} bad, {}",
            c.bad,
            c.requests,
            between(&track.rate, percent)
        )
    };
    line(name.trim_end(), &text)
}

/// `between 5.9 % and 14.2 %`
pub fn between(bounds: &Bounds, shown: impl Fn(f64) -> String) -> String {
    match (bounds.low > 0.0, bounds.high) {
        (true, Some(high)) => format!("between {} and {}", shown(bounds.low), shown(high)),
        (true, None) => format!("at least {}", shown(bounds.low)),
        (false, Some(high)) => format!("at most {}", shown(high)),
        (false, None) => "not bounded yet".to_owned(),
    }
}

/// Requests without an answer in time, where there are some.
pub fn unanswered(e: &Explanation) -> String {
    let counts = [&e.stable, &e.canary].map(|t| t.unanswered.unwrap_or_default());
    let [stable, canary] = counts;
    if counts.iter().all(|c| c.bad == 0) {
        return String::new();
    }
    let text = format!("stable {stable} within 0.5 s, canary {canary} within 1 s");
    line("no good answer", &text)
}

/// Both tracks' quantiles, one line each.
pub fn latency(e: &Explanation) -> String {
    let pairs = e.stable.latency.iter().zip(&e.canary.latency);
    let rows: String = pairs.map(|(stable, canary)| quantile(stable, canary)).collect();
    if rows.is_empty() {
        return rows;
    }
    let head = format!("{:<QUANTILE$}{}", "stable", "canary");
    format!("  {:<NAME$}{head}\n{rows}", "answers")
}

fn quantile(stable: &Quantile, canary: &Quantile) -> String {
    let one = |q: &Quantile| {
        let low = seconds(q.bounds.low);
        let bounds = match q.bounds.high.map(seconds) {
            Some(high) if q.bounds.low <= 0.0 => format!("up to {high}"),
            Some(high) => format!("{low} to {high}"),
            None => format!("{low} or more"),
        };
        format!("{} ({bounds})", seconds(q.seconds))
    };
    let name = format!("  {} within", percent(stable.p));
    format!("  {name:<NAME$}{:<QUANTILE$}{}\n", one(stable), one(canary))
}

/// `8.2 ms`, `210 ms`, `1.5 s`
pub fn seconds(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{} ms", number(seconds * 1e3))
    } else {
        format!("{} s", number(seconds))
    }
}

/// The ratio of the error rates in a sentence.
pub fn ratio(e: &Explanation) -> Option<String> {
    if !e.traffic.steady {
        let counted = e.canary.counts.requests > 0;
        return counted.then(|| {
            "The canary's share has changed on the way, so the two rates above are bounded each by itself, and not \
             their ratio."
                .to_owned()
        });
    }
    let r = e.ratio?;
    match (r.low > 1.0, r.high) {
        (true, Some(high)) => Some(format!(
            "The canary fails {} to {} times as often as stable.",
            number(r.low),
            number(high)
        )),
        (true, None) => Some(format!(
            "The canary fails at least {} as often as stable.",
            times(r.low)
        )),
        (false, Some(high)) => Some(format!(
            "The canary fails at most {} as often as stable.",
            times(high)
        )),
        (false, None) => None,
    }
}

/// A setting as somebody has written it.
pub fn exact(setting: f64) -> String {
    let text = format!("{setting:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `2.1 times`
pub fn times(factor: f64) -> String {
    if factor >= 1e6 {
        "more than a million times".to_owned()
    } else {
        format!("{} times", number(factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_the_page() {
        let words = "one and twenty words ".repeat(20);
        for text in [wrapped(&words, "  "), bullet(&words), line("a name", &words)] {
            assert!(text.lines().count() > 3);
            assert!(
                text.lines()
                    .all(|l| l.chars().count() <= WIDTH && !l.ends_with(' ')),
                "{text}"
            );
        }
        assert_eq!(
            bar("errors", 1.0).trim_end().chars().count(),
            2 + BAR_NAME + BAR + 6
        );
    }

    #[test]
    fn bounds_say_what_they_know() {
        let bounds = |low, high| between(&Bounds { low, high }, percent);
        assert_eq!(bounds(0.059, Some(0.142)), "between 5.9 % and 14.2 %");
        assert_eq!(bounds(0.0, Some(0.009)), "at most 0.9 %");
        assert_eq!(bounds(0.5, None), "at least 50 %");
        assert_eq!(bounds(0.0, None), "not bounded yet");
    }
}
