//! Who is simulated, where, and what came of it.

use super::{
    end::{End, Summary},
    release,
    rivals::Threshold,
    spread::spread,
    traffic::{Scene, Traffic, mix},
};
use controller::engine::Plan;
use serde::Serialize;
use std::time::Instant;

/// A controller.
pub enum Player {
    /// The real engine, with a plan.
    Serin(Box<Plan>),
    /// A model of another.
    Threshold(Threshold),
}

/// What all runs have in common.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Releases of each kind.
    pub runs: usize,
    /// Seed of everything.
    pub seed: u64,
    /// Seconds that a release may take.
    pub horizon: u64,
    /// Seconds from a verdict of Serin's until weight 0 is in force.
    pub reaction: u64,
    /// Threads.
    pub threads: usize,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The world's name.
    pub world: String,
    /// Requests a second.
    pub rps: f64,
    /// Share of bad answers of stable.
    pub baseline: f64,
    /// Fixed weight of the canary, percent; `None`: it grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The controller's name.
    pub controller: String,
    /// Rollbacks of a canary that is no worse than stable; `None` where it is.
    pub false_rollbacks: Option<usize>,
    /// Rollbacks of a canary that is worse than stable; `None` where it is not.
    pub found: Option<usize>,
    /// Whether the world is about latency.
    pub is_slower: bool,
    /// How the releases ended.
    #[serde(flatten)]
    pub summary: Summary,
}

/// What the simulation cost: seconds of the engine's releases, and of its own time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Releases of all controllers.
    pub releases: usize,
    /// Simulated seconds under the real engine.
    pub simulated: u64,
    /// Seconds of work for these, summed over threads.
    pub worked: f64,
}

impl Player {
    fn name(&self) -> String {
        match self {
            Player::Serin(_) => "serin".into(),
            Player::Threshold(t) => t.to_string(),
        }
    }

    fn run(&self, traffic: Traffic, rules: &Rules) -> End {
        match self {
            Player::Serin(plan) => release::run(plan, traffic, rules.reaction, rules.horizon),
            Player::Threshold(t) => t.run(traffic, rules.horizon),
        }
    }
}

/// Each scene under each player; all players meet the same seeds.
pub fn contest(scenes: &[Scene], players: &[Player], rules: &Rules) -> (Vec<Row>, Cost) {
    let kinds: Vec<(&Scene, &Player)> = scenes
        .iter()
        .flat_map(|s| players.iter().map(move |p| (s, p)))
        .collect();
    let done = spread(kinds.len() * rules.runs, rules.threads, |job| {
        let (scene, player) = kinds[job / rules.runs];
        let seed = mix(rules.seed).wrapping_add((job % rules.runs) as u64);
        let began = Instant::now();
        let end = player.run(Traffic::new(scene.clone(), seed), rules);
        (end, began.elapsed().as_secs_f64())
    });
    let mut cost = Cost::default();
    let rows = kinds
        .iter()
        .zip(done.chunks(rules.runs))
        .map(|((scene, player), done)| {
            cost.add(player, done);
            let ends: Vec<End> = done.iter().map(|(end, _)| *end).collect();
            row(scene, player, Summary::of(&ends))
        });
    (rows.collect(), cost)
}

fn row(scene: &Scene, player: &Player, summary: Summary) -> Row {
    let worse = scene.is_worse();
    Row {
        world: scene.world.name(),
        rps: scene.rps,
        baseline: scene.baseline,
        weight: None,
        controller: player.name(),
        false_rollbacks: (!worse).then_some(summary.rolled_back),
        found: worse.then_some(summary.rolled_back),
        is_slower: scene.world.is_slower(),
        summary,
    }
}

impl Cost {
    fn add(&mut self, player: &Player, done: &[(End, f64)]) {
        self.releases += done.len();
        if matches!(player, Player::Serin(_)) {
            self.simulated += done.iter().map(|(end, _)| end.seconds).sum::<u64>();
            self.worked += done.iter().map(|(_, worked)| worked).sum::<f64>();
        }
    }

    /// Both together.
    pub fn plus(self, more: Cost) -> Cost {
        Cost {
            releases: self.releases + more.releases,
            simulated: self.simulated + more.simulated,
            worked: self.worked + more.worked,
        }
    }

    /// Microseconds for each simulated second of the engine.
    pub fn each(&self) -> f64 {
        self.worked * 1e6 / self.simulated.max(1) as f64
    }
}
