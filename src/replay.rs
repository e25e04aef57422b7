//! `serin replay`: every decision of a log computed again.

use crate::{
    calls::{print_json, print_text},
    cli::{Output, ReplayArgs},
    fail::Failure,
    figures::time,
};
use controller::{
    blocks::{self, Kept},
    engine::{Difference, Entry, Found, Recomputed, replay},
};
use proxy::contract::release::{Decision, Phase};
use serde::Serialize;
use std::process::ExitCode;

/// What came of a log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// Programs that wrote it.
    programs: Vec<String>,
    /// The last line, if a crash has cut it off.
    torn: Option<usize>,
    /// Blocks and other events that were taken.
    blocks: usize,
    /// Decisions that rest on evidence.
    recomputed: usize,
    /// Whether all of them came out the same, bit for bit.
    same: bool,
    decisions: Vec<Line>,
}

/// One decision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    number: u64,
    /// Seconds since the first decision of the log.
    at: f64,
    from: Phase,
    to: Phase,
    /// Canary and stable, as bad of all.
    counts: String,
    /// Evidence for a rollback and for a promotion, as parts of what each takes.
    evidence: [f64; 2],
    /// Events that it rests on.
    events: u64,
    /// The event that made a rollback certain.
    certain: Option<u64>,
    /// `same`, `nothing to recompute`, or what differs.
    found: String,
}

/// `serin replay`
pub fn main(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let kept = blocks::read(&args.file).map_err(Failure::usage)?;
    let report = report(&kept);
    if report.recomputed == 0 {
        return Err(Failure::usage(format!(
            "{} has no decision that rests on evidence; a log is written by serin run into its state folder, and by serin demo \
             --record FILE",
            args.file.display()
        )));
    }
    match args.output {
        Output::Json => print_json(&report)?,
        Output::Text => print_text(&text(&report)),
    }
    Ok(ExitCode::from(u8::from(!report.same)))
}

fn report(kept: &Kept) -> Report {
    let found = replay(&kept.entries);
    let begin = found.first().map_or(0.0, |r| r.decision.at);
    let is_event = |e: &&Entry| matches!(e, Entry::Taken { .. });
    Report {
        programs: kept.programs.clone(),
        torn: kept.torn,
        blocks: kept.entries.iter().filter(is_event).count(),
        recomputed: found.iter().filter(|r| r.found != Found::Nothing).count(),
        same: found
            .iter()
            .all(|r| matches!(r.found, Found::Same | Found::Nothing)),
        decisions: found.iter().map(|r| row(r, begin)).collect(),
    }
}

fn row(r: &Recomputed, begin: f64) -> Line {
    let f = &r.decision.figures;
    let Decision {
        number, at, from, to, ..
    } = r.decision;
    Line {
        number,
        at: at - begin,
        from,
        to,
        counts: format!("canary {}, stable {} bad", f.canary, f.stable),
        evidence: [
            part(f.log_rollback, f.rollback_at),
            part(f.log_promote, f.promote_at),
        ],
        events: r.events,
        certain: r.certain,
        found: words(&r.found),
    }
}

fn part(log: f64, at: f64) -> f64 {
    if at > 0.0 { log / at } else { 0.0 }
}

fn words(found: &Found) -> String {
    match found {
        Found::Same => "same".to_owned(),
        Found::Nothing => "nothing to recompute".to_owned(),
        Found::Unknown(why) => format!("CANNOT BE RECOMPUTED: {why}"),
        Found::Differs(all) => {
            let all: Vec<String> = all.iter().map(difference).collect();
            format!("DIFFERS: {}", all.join("; "))
        }
    }
}

fn difference(d: &Difference) -> String {
    format!(
        "{} is {} in the log and {} here",
        d.figure, d.logged, d.recomputed
    )
}

fn text(report: &Report) -> String {
    let mut out = origin(report);
    for line in &report.decisions {
        out += &decision(line);
    }
    out + &conclusion(report)
}

/// Who wrote it, where that matters.
fn origin(report: &Report) -> String {
    let mine = blocks::program();
    let mut out = match report.programs.as_slice() {
        [only] if only == mine => format!("written by {only}, like this program\n"),
        [] => "nobody says who wrote it\n".to_owned(),
        others => format!(
            "written by {}, and this is {mine}: another version may compute otherwise\n",
            others.join(", ")
        ),
    };
    if let Some(line) = report.torn {
        out += &format!("line {line} was cut off by a crash and is skipped\n");
    }
    out
}

fn decision(l: &Line) -> String {
    let change = format!("{} -> {}", l.from, l.to);
    let head = format!("{:>4} {:>9}  {change:<26}", l.number, time_since(l.at));
    if l.events == 0 && l.evidence == [0.0, 0.0] {
        return format!("{head} {}\n", l.found);
    }
    let [worse, good] = l.evidence.map(|part| part.clamp(0.0, 1.0) * 100.0);
    let certain = match l.certain {
        Some(event) if l.to == Phase::RollingBack => {
            format!("\n{:16}block {event} made the rollback certain", "")
        }
        _ => String::new(),
    };
    format!(
        "{head} {}\n{:16}{}; worse {worse:.0} %, good {good:.0} %; {} blocks{certain}\n",
        l.found, "", l.counts, l.events
    )
}

fn time_since(seconds: f64) -> String {
    if seconds <= 0.0 {
        "0 s".to_owned()
    } else {
        time(seconds)
    }
}

fn conclusion(report: &Report) -> String {
    let (n, m) = (report.recomputed, report.blocks);
    if report.same {
        return format!("{n} decisions recomputed from {m} blocks: all the same, bit for bit\n");
    }
    let wrong = |l: &&Line| l.found != "same" && l.found != "nothing to recompute";
    let first = report.decisions.iter().find(wrong);
    let first = first.map_or(String::new(), |l| format!(": decision {}: {}", l.number, l.found));
    format!("{n} decisions recomputed from {m} blocks: NOT THE SAME{first}\n")
}
