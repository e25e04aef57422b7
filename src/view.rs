//! Releases in words and bars, for terminals and pipes.

use proxy::contract::release::{CheckStatus, Figures, Phase, Status, Verdict};
use std::fmt::Write;

/// The phases of a release that goes well, as live views show them.
pub const ROAD: [Phase; 6] = [
    Phase::Starting,
    Phase::Verifying,
    Phase::Shifting,
    Phase::Promoting,
    Phase::Watching,
    Phase::Succeeded,
];

/// Width of an evidence bar.
const BAR: usize = 24;

/// Why it stands as it does: the words of the decision that settled it, or of the last turn.
pub fn why(s: &Status) -> &str {
    let settled = |p: Phase| matches!(p, Phase::Promoting | Phase::RollingBack | Phase::Undecided);
    let decision = s.decisions.iter().rev().find(|d| settled(d.to));
    let decision = decision.filter(|_| s.phase.is_final() || s.phase == Phase::Undecided);
    decision.map_or(&s.reason, |d| &d.reason)
}

/// One line a release.
pub fn table(all: &[Status]) -> String {
    if all.is_empty() {
        return "no service is configured\n".into();
    }
    let rows: Vec<[String; 5]> = all.iter().map(row).collect();
    columns(["NAME", "PHASE", "WEIGHT", "VERDICT", "REASON"], &rows)
}

/// Heads and rows, each column as wide as its widest cell.
pub fn columns<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let heads = heads.map(str::to_owned);
    let widths: [usize; N] = std::array::from_fn(|i| {
        rows.iter()
            .chain([&heads])
            .map(|r| r[i].chars().count())
            .max()
            .unwrap_or(0)
    });
    [&heads]
        .into_iter()
        .chain(rows)
        .map(|r| line(r, &widths))
        .collect()
}

fn line<const N: usize>(cells: &[String; N], widths: &[usize; N]) -> String {
    let padded: Vec<_> = cells
        .iter()
        .zip(widths)
        .map(|(c, w)| format!("{c:<w$}"))
        .collect();
    format!("{}\n", padded.join("  ").trim_end())
}

fn row(s: &Status) -> [String; 5] {
    [
        s.service.clone(),
        s.phase.to_string(),
        weight(s),
        verdict(s),
        s.reason.clone(),
    ]
}

/// Wanted, and taken by every proxy: `10 % / 10 %`.
pub fn weight(s: &Status) -> String {
    let taken = s.taken.map_or("?".into(), |t| format!("{} %", round(t * 100.0)));
    format!("{} / {taken}", s.wanted)
}

/// A number with at most four significant digits, without trailing zeros.
fn round(x: f64) -> String {
    let text = format!("{x:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn verdict(s: &Status) -> String {
    match (s.verdict, s.phase) {
        (Verdict::Worse, _) => "Worse".into(),
        (Verdict::Same, _) => "Same".into(),
        (
            Verdict::NotYet,
            Phase::Idle | Phase::Starting | Phase::Verifying | Phase::RolledBack | Phase::Succeeded,
        ) => "-".into(),
        (Verdict::NotYet, _) => format!(
            "waiting, {:.0} %",
            progress(s.figures.log_promote, s.figures.promote_at) * 100.0
        ),
    }
}

/// How far evidence has come to its threshold, 0 to 1.
pub fn progress(log_evidence: f64, at: f64) -> f64 {
    if at > 0.0 {
        (log_evidence / at).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

/// Everything about one release.
pub fn detail(s: &Status) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}: {} -> {}\n",
        s.service,
        name(&s.stable_version),
        name(&s.canary_version)
    );
    let _ = writeln!(
        out,
        "  phase      {}\n  weight     {} (wanted / taken)\n  reason     {}",
        s.phase,
        weight(s),
        s.reason
    );
    out.push_str(&counts(&s.figures));
    let _ = writeln!(
        out,
        "  worse      {}",
        bar(s.figures.log_rollback, s.figures.rollback_at)
    );
    let _ = writeln!(
        out,
        "  good       {}",
        bar(s.figures.log_promote, s.figures.promote_at)
    );
    for c in &s.checks {
        let _ = writeln!(out, " {}", check_line(c));
    }
    if !s.decisions.is_empty() {
        out.push_str("\n  decisions\n");
    }
    for d in &s.decisions {
        let _ = writeln!(
            out,
            "  {}  {} -> {}  by {}: {}",
            clock(d.at),
            d.from,
            d.to,
            d.by,
            d.reason
        );
    }
    out
}

/// ` check      db-load 0.93, at most 0.8: breach, 2 of the 3 in a row that roll back since 12:00:10Z`
pub fn check_line(c: &CheckStatus) -> String {
    let value = c.value.map_or("-".into(), |v| v.to_string());
    let state = match (&c.missing, c.breach) {
        (Some(why), _) => format!("no data ({why})"),
        (None, true) => format!(
            "breach, {} of the {} in a row that roll back",
            c.breaches, c.allowed
        ),
        (None, false) => "kept".to_owned(),
    };
    format!(
        " check      {} {value}, {}: {state} since {}",
        c.name,
        c.limit,
        clock(c.since)
    )
}

fn name(version: &str) -> &str {
    if version.is_empty() { "(none)" } else { version }
}

/// Judged requests of both tracks.
pub fn counts(f: &Figures) -> String {
    let rate = |c: proxy::contract::release::Counts| {
        if c.requests == 0 {
            "-".into()
        } else {
            format!("{:.3} %", c.bad as f64 / c.requests as f64 * 100.0)
        }
    };
    format!(
        "  stable     {} bad ({})\n  canary     {} bad ({})\n",
        f.stable,
        rate(f.stable),
        f.canary,
        rate(f.canary)
    )
}

/// `[######............]  23 % of what it takes`
pub fn bar(log_evidence: f64, at: f64) -> String {
    let share = progress(log_evidence, at);
    let full = (share * BAR as f64).floor() as usize;
    format!(
        "[{}{}] {:>3.0} % of what it takes",
        "#".repeat(full),
        ".".repeat(BAR - full),
        (share * 100.0).floor()
    )
}

/// Time of day (UTC) of a Unix time.
pub fn clock(unix: f64) -> String {
    let s = unix.max(0.0) as u64 % 86_400;
    format!("{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

/// Date and time (UTC) of a Unix time: `2026-11-23 14:39:45Z`.
pub fn moment(unix: f64) -> String {
    // Days to a date, after H. Hinnant's algorithm for the proleptic Gregorian calendar.
    let days = (unix.max(0.0) / 86_400.0) as u64 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (
        day - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
    );
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {}", clock(unix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy::contract::{Split, release::Amount};

    fn status() -> Status {
        Status {
            service: "echo".into(),
            stable_version: "v1".into(),
            canary_version: "v2".into(),
            phase: Phase::Shifting,
            wanted: Split::of_share(0.1, 100),
            taken: Some(0.1),
            verdict: Verdict::NotYet,
            reason: "waiting for evidence".into(),
            figures: Figures {
                log_promote: 1.5,
                promote_at: 3.0,
                ..Figures::default()
            },
            decisions: Vec::new(),
            needed: None,
            steps: None,
            checks: Vec::new(),
        }
    }

    #[test]
    fn each_check_has_a_line() {
        let load = CheckStatus {
            name: "db-load".into(),
            value: Some(Amount(0.93)),
            limit: "at most 0.8".into(),
            breach: true,
            breaches: 2,
            allowed: 3,
            missing: None,
            since: 43_210.0,
        };
        let silent = CheckStatus {
            missing: Some("the connection was refused".into()),
            value: None,
            ..load.clone()
        };
        let text = detail(&Status {
            checks: vec![load, silent],
            ..status()
        });
        for line in [
            "  check      db-load 0.93, at most 0.8: breach, 2 of the 3 in a row that roll back since 12:00:10Z\n",
            "  check      db-load -, at most 0.8: no data (the connection was refused) since 12:00:10Z\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn a_table_has_one_line_a_release_and_aligned_columns() {
        let text = table(&[status(), status()]);
        assert_eq!(text.lines().count(), 3);
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "echo  Shifting  10 % / 10 %  waiting, 50 %  waiting for evidence"
        );
    }

    #[test]
    fn bars_and_clocks_stay_within_their_bounds() {
        assert!(bar(f64::NEG_INFINITY, 3.0).starts_with("[...."));
        assert!(bar(99.0, 3.0).contains("100 %"));
        assert_eq!(clock(86_399.9), "23:59:59Z");
        assert_eq!(moment(0.0), "1970-01-01 00:00:00Z");
        assert_eq!(moment(951_782_400.0), "2000-02-29 00:00:00Z");
        assert_eq!(moment(1_795_444_785.0), "2026-11-23 14:39:45Z");
        assert!(detail(&status()).contains("v1 -> v2"));
    }
}
