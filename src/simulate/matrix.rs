//! A/A: a canary that is exactly as good as stable, at fixed weights. How often is it rolled back all the same?

use super::{
    contest::{Cost, Player, Rules, contest},
    policy,
    traffic::Scene,
    worlds::World,
};
use crate::{
    fail::Failure,
    figures::{number, percent},
};
use controller::contract::policy::Policy;
use serde::Serialize;
use std::fmt::Write;

/// Chance that the lower bound of a cell lies above the truth.
const DOUBT: f64 = 0.001;
/// Halvings until the bound is known to the last digit that matters.
const HALVINGS: usize = 60;

/// One cell.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    /// Share of bad answers of both versions.
    pub baseline: f64,
    /// Requests a second.
    pub rps: f64,
    /// Percent to the canary.
    pub weight: f64,
    /// Releases.
    pub runs: usize,
    /// Of these rolled back, always falsely.
    pub false_rollbacks: usize,
    /// With a certainty of 99.9 % the true share is not below this.
    pub lower_bound: f64,
    /// What it may be.
    pub alpha: f64,
}

impl Cell {
    /// Whether alpha does not hold here, beyond doubt.
    pub fn is_broken(&self) -> bool {
        self.lower_bound > self.alpha
    }
}

/// Which cells.
pub struct Grid {
    /// Shares of bad answers.
    pub baselines: Vec<f64>,
    /// Requests a second.
    pub rps: Vec<f64>,
    /// Percent to the canary.
    pub weights: Vec<f64>,
}

/// Every cell of the grid.
pub fn cells(policy: &Policy, grid: &Grid, rules: &Rules) -> Result<(Vec<Cell>, Cost), Failure> {
    let mut all = Vec::new();
    let mut cost = Cost::default();
    for (i, weight) in grid.weights.iter().enumerate() {
        let plan = policy::plan(policy::fixed(policy.clone(), *weight))?;
        // Seeds of their own: the cells of one weight must not share their luck with those of another.
        let rules = Rules {
            seed: rules.seed.wrapping_add((i as u64) << 32),
            ..*rules
        };
        let (rows, more) = contest(&scenes(policy, grid), &[Player::Serin(Box::new(plan))], &rules);
        cost = cost.plus(more);
        all.extend(rows.iter().map(|row| Cell {
            baseline: row.baseline,
            rps: row.rps,
            weight: *weight,
            runs: row.summary.runs,
            false_rollbacks: row.summary.rolled_back,
            lower_bound: lower_bound(row.summary.rolled_back, row.summary.runs),
            alpha: policy.judgement.alpha,
        }));
    }
    Ok((all, cost))
}

fn scenes(policy: &Policy, grid: &Grid) -> Vec<Scene> {
    let margin = policy.judgement.errors.promote;
    let scene = |baseline, rps| Scene::new(World::Healthy, rps, baseline, margin);
    let at = |baseline: f64| grid.rps.iter().map(move |rps| scene(baseline, *rps));
    grid.baselines.iter().flat_map(|b| at(*b)).collect()
}

/// One line a cell, the broken ones marked.
pub fn text(cells: &[Cell]) -> String {
    let mut out = format!(
        "{:>8}  {:>12}  {:>11}  {:>17}  {:>18}  {:>5}\n",
        "WEIGHT", "STABLE FAILS", "REQUESTS/S", "FALSE ROLLBACKS", "99.9 % LOWER BOUND", "ALPHA"
    );
    for c in cells {
        let _ = writeln!(
            out,
            "{:>8}  {:>12}  {:>11}  {:>17}  {:>18}  {:>5}{}",
            format!("{} %", number(c.weight)),
            percent(c.baseline),
            number(c.rps),
            format!("{} of {}", c.false_rollbacks, c.runs),
            percent(c.lower_bound),
            percent(c.alpha),
            if c.is_broken() { "  ABOVE ALPHA" } else { "" }
        );
    }
    out
}

/// Clopper and Pearson: the rate at which `count` or more of `runs` have a chance of [`DOUBT`].
fn lower_bound(count: usize, runs: usize) -> f64 {
    if count == 0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, count as f64 / runs as f64);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if at_least(count, runs, middle) < DOUBT {
            low = middle
        } else {
            high = middle
        }
    }
    low
}

/// Chance of `count` or more of `runs`, each with the chance `p`; below it the terms are summed by their ratio.
fn at_least(count: usize, runs: usize, p: f64) -> f64 {
    let odds = (p / (1.0 - p)).ln();
    let mut term = runs as f64 * (-p).ln_1p();
    let below: f64 = (0..count)
        .map(|k| {
            let now = term.exp();
            term += odds + ((runs - k) as f64 / (k + 1) as f64).ln();
            now
        })
        .sum();
    1.0 - below
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: the binomial sum in exact decimal arithmetic.
    #[test]
    fn the_lower_bound_is_exact() {
        assert_eq!(lower_bound(0, 2000), 0.0);
        for (count, runs, expected) in BOUNDS {
            let found = lower_bound(count, runs);
            assert!((found / expected - 1.0).abs() < 1e-6, "{count} {runs} {found}");
        }
    }

    const BOUNDS: [(usize, usize, f64); 5] = [
        (1, 2000, 5.002500416666729e-07),
        (20, 2000, 0.0044903987490699845),
        (45, 2000, 0.013596582998481339),
        (3, 10, 0.021037971320986837),
        (10, 10, 0.5011872336272722),
    ];

    #[test]
    fn only_what_is_beyond_doubt_is_broken() {
        let cell = |false_rollbacks| Cell {
            baseline: 0.001,
            rps: 100.0,
            weight: 10.0,
            runs: 2000,
            false_rollbacks,
            lower_bound: lower_bound(false_rollbacks, 2000),
            alpha: 0.01,
        };
        assert!(!cell(20).is_broken() && !cell(33).is_broken() && cell(45).is_broken());
        assert!(text(&[cell(45)]).contains("ABOVE ALPHA"));
    }
}
