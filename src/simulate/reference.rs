//! The engine with the defaults of a policy beside the statistics' prototype "so run".
//!
//! The prototype judges errors alone, allows for no noise, and has no watch after a promotion. The engine judges latency
//! and hangs too, and allows for what stable shows of its noise; its watch is left out. Where that moves the median, the
//! engine without latency is shown beside it, and without the allowance for noise besides.

mod figures;

pub use figures::Figures;

use super::{
    contest::{Cost, Player, Row, Rules, contest},
    policy,
    traffic::Scene,
};
use crate::{
    fail::Failure,
    figures::{number, percent},
};
use controller::contract::policy::Policy;
use figures::PROTOTYPE;
use serde::Serialize;
use std::fmt::Write;

/// How far a median may be from the prototype's.
const NEAR: f64 = 0.15;
/// Seconds that are never far: times come in whole seconds.
const GRAIN: f64 = 1.0;
/// Share of bad answers of stable in all of them.
const BASELINE: f64 = 0.001;

/// One world and amount of traffic.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The prototype's.
    pub prototype: Figures,
    /// The engine with all its defaults.
    pub serin: Row,
    /// Its median by the prototype's; `None` where one of them has none.
    pub ratio: Option<f64>,
    /// Whether that is beyond 15 %.
    pub is_far: bool,
    /// The engine without latency, and without what allows for noise besides, where the median is far.
    pub errors_only: Option<Row>,
    /// See `errors_only`.
    pub noiseless: Option<Row>,
}

/// Every line of the prototype's table that is wanted.
pub fn lines(
    policy: &Policy,
    wanted: impl Fn(&Figures) -> bool,
    rules: &Rules,
) -> Result<(Vec<Line>, Cost), Failure> {
    let policy = policy::unwatched(policy.clone());
    let figures: Vec<Figures> = PROTOTYPE.into_iter().filter(wanted).collect();
    let (all, cost) = play(&policy, &figures, rules)?;
    let pairs = || figures.iter().zip(&all);
    let far: Vec<Figures> = pairs()
        .filter(|(f, row)| is_far(f, row))
        .map(|(f, _)| *f)
        .collect();
    let errors_only = policy::errors_only(policy);
    let noiseless = policy::noiseless(errors_only.clone());
    let (errors_only, more) = play(&errors_only, &far, rules)?;
    let (noiseless, most) = play(&noiseless, &far, rules)?;
    let mut others = errors_only.into_iter().zip(noiseless);
    let lines = pairs().map(|(f, row)| line(f, row, &mut others)).collect();
    Ok((lines, cost.plus(more).plus(most)))
}

fn play(policy: &Policy, figures: &[Figures], rules: &Rules) -> Result<(Vec<Row>, Cost), Failure> {
    let margin = policy.judgement.errors.promote;
    let scene = |f: &Figures| Scene::new(f.world, f.rps, BASELINE, margin);
    let scenes: Vec<Scene> = figures.iter().map(scene).collect();
    let serin = Player::Serin(Box::new(policy::plan(policy.clone())?));
    Ok(contest(&scenes, &[serin], rules))
}

fn line(figures: &Figures, row: &Row, others: &mut impl Iterator<Item = (Row, Row)>) -> Line {
    let is_far = is_far(figures, row);
    let (errors_only, noiseless) = if is_far { others.next() } else { None }.unzip();
    Line {
        prototype: *figures,
        serin: row.clone(),
        ratio: ratio(figures, row),
        is_far,
        errors_only,
        noiseless,
    }
}

fn ratio(figures: &Figures, row: &Row) -> Option<f64> {
    Some(row.summary.median_seconds? / figures.median_seconds?)
}

fn is_far(figures: &Figures, row: &Row) -> bool {
    match (figures.median_seconds, row.summary.median_seconds) {
        (Some(prototype), Some(serin)) => (serin - prototype).abs() > (NEAR * prototype).max(GRAIN),
        (None, None) => false,
        _ => true,
    }
}

/// For people: the prototype, the engine, and where the medians are far apart the engine without latency.
pub fn text(lines: &[Line]) -> String {
    let mut out = format!("{:>5}  {:<8}", "REQ/S", "WORLD");
    out += &cells(["PROTOTYPE", "PROMOTED", "ROLLED BACK", "BAD"]);
    out += &cells(["SERIN", "PROMOTED", "ROLLED BACK", "BAD"]);
    let _ = writeln!(out, "  {:>6}", "RATIO");
    for line in lines {
        let f = &line.prototype;
        let _ = write!(out, "{:>5}  {:<8}", number(f.rps), f.world.name());
        out += &values(f.median_seconds, [f.promoted, f.rolled_back], f.bad_mean);
        out += &tail(
            &line.serin,
            ratio(f, &line.serin),
            if line.is_far { "  BEYOND 15 %" } else { "" },
        );
        for (what, row) in [
            ("latency off", &line.errors_only),
            ("and noise off", &line.noiseless),
        ] {
            let Some(row) = row else { continue };
            let _ = write!(out, "{:<62}", format!("{:>16}{what}", ""));
            out += &tail(
                row,
                ratio(f, row),
                if is_far(f, row) { "  BEYOND 15 %" } else { "" },
            );
        }
    }
    out
}

fn tail(row: &Row, ratio: Option<f64>, mark: &str) -> String {
    let s = &row.summary;
    let shares = [s.promoted, s.rolled_back].map(|n| n as f64 / s.runs as f64);
    let ratio = ratio.map_or("-".into(), |r| format!("{r:.2}"));
    values(s.median_seconds, shares, s.bad_mean) + &format!("  {ratio:>6}{mark}\n")
}

fn values(median: Option<f64>, shares: [f64; 2], bad: f64) -> String {
    let median = median.map_or("never".into(), |m| format!("{m:.0} s"));
    let [promoted, rolled_back] = shares.map(percent);
    cells([&median, &promoted, &rolled_back, &number(bad)])
}

fn cells([median, promoted, rolled_back, bad]: [&str; 4]) -> String {
    format!("  {median:>10}  {promoted:>8}  {rolled_back:>11}  {bad:>8}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prototypes_figures_are_of_every_world_at_every_traffic() {
        assert_eq!(PROTOTYPE.len(), 24);
        for rps in [10.0, 100.0, 1000.0] {
            assert_eq!(PROTOTYPE.iter().filter(|f| f.rps == rps).count(), 8);
        }
        assert!(PROTOTYPE.iter().all(|f| f.promoted + f.rolled_back <= 1.0));
    }
}
