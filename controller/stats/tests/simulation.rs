//! False alarms under the null, by simulation with fixed seeds.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stats::errors::{ErrorConfig, ErrorProcess};
use stats::halfplane::Margin;
use stats::{Arm, Counts};

const RUNS: u64 = 10_000;
const TICKS: usize = 40;
const ALPHA: f64 = 0.01;

/// Three standard deviations above alpha in so many runs.
fn limit() -> f64 {
    ALPHA + 3.0 * (ALPHA * (1.0 - ALPHA) / RUNS as f64).sqrt()
}

fn arm(rng: &mut StdRng, n: u64, rate: f64) -> Arm {
    let x = (0..n).filter(|_| rng.random_bool(rate)).count();
    Arm::new(n, x as u64)
}

/// Share of A/A runs that reach `1/alpha` at any tick. `weigh` picks the canary's requests of 20 from the evidence.
fn false_alarms(weigh: impl Fn(f64, usize) -> u64) -> f64 {
    let config = ErrorConfig {
        roll_back: Margin::NONE,
        ..ErrorConfig::default()
    };
    let threshold = (1.0 / ALPHA).ln();
    let alarms = (0..RUNS).filter(|seed| {
        let mut rng = StdRng::seed_from_u64(*seed);
        let mut process = ErrorProcess::new(config, Arm::new(1000, 50));
        (0..TICKS).any(|tick| {
            // The common rate jumps: drift in both arms must not matter.
            let rate = if tick % 7 == 3 { 0.3 } else { 0.05 };
            let canary = weigh(process.log_roll(), tick);
            let block = Counts {
                stable: arm(&mut rng, 20 - canary, rate),
                canary: arm(&mut rng, canary, rate),
            };
            process.tick(1.0, &[block]);
            process.log_roll() >= threshold
        })
    });
    alarms.count() as f64 / RUNS as f64
}

#[test]
fn equal_arms_raise_no_more_false_alarms_than_promised() {
    let rate = false_alarms(|_, _| 6);
    assert!(rate <= limit(), "{rate}");
}

#[test]
fn a_weight_chosen_from_the_past_against_us_changes_nothing() {
    // Bets high while the evidence looks bad and low otherwise, and avoids the noisy ticks.
    let rate = false_alarms(|log_roll, tick| match (log_roll > 0.5, tick % 7 == 3) {
        (true, false) => 15,
        (true, true) => 1,
        (false, _) => 4,
    });
    assert!(rate <= limit(), "{rate}");
}
