//! `serin simulate`: thousands of releases in virtual time, under the real engine and under models of others.
//!
//! The binary is its home: worlds need chance, and the engine's room may not see any. What is printed on standard
//! output depends on the arguments alone, not on threads or clocks.

mod contest;
mod draw;
mod durations;
mod end;
mod ledger;
mod matrix;
mod pods;
mod policy;
mod reference;
mod release;
mod rivals;
mod sheet;
mod spread;
mod table;
mod traffic;
mod worlds;

pub use rivals::Threshold;
pub use worlds::World;

use crate::{
    calls::print_text,
    cli::{Output, Reference, SimulateArgs},
    fail::Failure,
};
use clap::ValueEnum;
use contest::{Cost, Player, Row, Rules, contest};
use controller::contract::policy::Policy;
use matrix::Grid;
use serde::Serialize;
use std::{process::ExitCode, thread, time::Instant};
use traffic::Scene;

/// Requests a second, when none are asked for.
const RPS: [f64; 1] = [100.0];
/// Share of bad answers of stable, when none is asked for.
const BASELINES: [f64; 1] = [0.001];
/// The A/A matrix, when no part of it is asked for.
const AA_RPS: [f64; 3] = [10.0, 100.0, 1000.0];
/// See [`AA_RPS`].
const AA_BASELINES: [f64; 3] = [0.001, 0.01, 0.05];
/// See [`AA_RPS`].
const AA_WEIGHTS: [f64; 4] = [1.0, 5.0, 10.0, 50.0];

/// `serin simulate`
pub fn main(args: &SimulateArgs) -> Result<ExitCode, Failure> {
    let mut policy = policy::read(args.policy.as_deref())?;
    if args.reference == Some(Reference::Plain) {
        policy = policy::reference(policy);
    }
    if args.uncalibrated {
        policy = policy::uncalibrated(policy);
    }
    match args.reference {
        _ if args.aa => aa(args, policy),
        Some(Reference::Defaults) => defaults(args, &policy),
        _ => worlds(args, &policy),
    }
}

fn worlds(args: &SimulateArgs, policy: &Policy) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let (mut rows, mut cost) = (Vec::new(), Cost::default());
    for weight in weights(args) {
        let fixed = weight.map_or(policy.clone(), |w| policy::fixed(policy.clone(), w));
        let serin = Player::Serin(Box::new(policy::plan(fixed)?));
        let rivals = rivals(args).into_iter().map(Player::Threshold);
        let players: Vec<Player> = std::iter::once(serin).chain(rivals).collect();
        let (more, spent) = contest(&scenes(args, policy), &players, &rules(args));
        rows.extend(more.into_iter().map(|row| Row { weight, ..row }));
        cost = cost.plus(spent);
    }
    show(args, &rows, || table::text(&rows, &rules(args)))?;
    report(&cost, began);
    Ok(ExitCode::SUCCESS)
}

fn aa(args: &SimulateArgs, policy: Policy) -> Result<ExitCode, Failure> {
    let grid = Grid {
        baselines: or(&args.baseline, &AA_BASELINES),
        rps: or(&args.rps, &AA_RPS),
        weights: or(&args.weight, &AA_WEIGHTS),
    };
    let policy = if args.all_metrics {
        policy
    } else {
        policy::errors_only(policy)
    };
    let began = Instant::now();
    let (cells, cost) = matrix::cells(&policy, &grid, &rules(args))?;
    show(args, &cells, || matrix::text(&cells))?;
    report(&cost, began);
    let broken = cells.iter().any(matrix::Cell::is_broken);
    Ok(ExitCode::from(u8::from(broken)))
}

fn defaults(args: &SimulateArgs, policy: &Policy) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let wanted = |line: &reference::Figures| {
        let worlds = args.world.is_empty() || args.world.contains(&line.world);
        worlds && (args.rps.is_empty() || args.rps.contains(&line.rps))
    };
    let (lines, cost) = reference::lines(policy, wanted, &rules(args))?;
    show(args, &lines, || reference::text(&lines))?;
    report(&cost, began);
    Ok(ExitCode::SUCCESS)
}

/// `None`: as the policy has it.
fn weights(args: &SimulateArgs) -> Vec<Option<f64>> {
    let fixed: Vec<Option<f64>> = args.weight.iter().copied().map(Some).collect();
    or(&fixed, &[None])
}

fn scenes(args: &SimulateArgs, policy: &Policy) -> Vec<Scene> {
    let worlds = or(&args.world, World::value_variants());
    let margin = policy.judgement.errors.promote;
    let mut all = Vec::new();
    for rps in or(&args.rps, &RPS) {
        for baseline in or(&args.baseline, &BASELINES) {
            all.extend(
                worlds
                    .iter()
                    .map(|world| Scene::new(*world, rps, baseline, margin)),
            );
        }
    }
    all
}

fn rivals(args: &SimulateArgs) -> Vec<Threshold> {
    // A model has its own weights.
    if args.alone || !args.weight.is_empty() {
        Vec::new()
    } else {
        or(&args.rival, &[Threshold::flagger(), Threshold::argo()])
    }
}

fn rules(args: &SimulateArgs) -> Rules {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    Rules {
        runs: args.runs as usize,
        seed: args.seed,
        horizon: (args.hours * 3600.0) as u64,
        reaction: args.reaction,
        threads: args.threads.unwrap_or_else(cores),
    }
}

fn or<T: Clone>(asked: &[T], otherwise: &[T]) -> Vec<T> {
    let chosen = if asked.is_empty() { otherwise } else { asked };
    chosen.to_vec()
}

fn show<T: Serialize>(args: &SimulateArgs, rows: &T, text: impl Fn() -> String) -> Result<(), Failure> {
    match args.output {
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(rows).map_err(Failure::refused)?
        ),
        Output::Text => print_text(&text()),
    }
    Ok(())
}

/// What it cost, beside the result: it differs from run to run.
fn report(cost: &Cost, began: Instant) {
    eprintln!(
        "{} releases in {:.1} s; {} s simulated under Serin's engine, {:.1} µs of work for each",
        cost.releases,
        began.elapsed().as_secs_f64(),
        cost.simulated,
        cost.each()
    );
}
