//! Agreement with the independent Python prototype on random traces (see `prototype/generate.py`).

use serde::Deserialize;
use stats::capital::Spread;
use stats::errors::{ErrorConfig, ErrorProcess, Phi};
use stats::halfplane::Margin;
use stats::{Arm, Counts};

/// Largest difference of any logarithm, relative to 1 or to its size.
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct ErrorTrace {
    dt: f64,
    history: (u64, u64),
    roll_back: (f64, f64),
    promote: (f64, f64),
    phi: f64,
    head_start: f64,
    horizon: f64,
    /// `(nS, xS, nC, xC)`.
    ticks: Vec<(u64, u64, u64, u64)>,
    log_roll: Vec<f64>,
    log_promote: Vec<f64>,
}

impl ErrorTrace {
    fn process(&self) -> ErrorProcess {
        let margin = |(ratio, absolute)| Margin::new(ratio, absolute).expect("a valid margin");
        let config = ErrorConfig {
            roll_back: margin(self.roll_back),
            promote: margin(self.promote),
            phi: Phi::new(self.phi).expect("a valid phi"),
            spread: Spread::new(self.head_start, self.horizon).expect("a valid spread"),
        };
        ErrorProcess::new(config, Arm::new(self.history.0, self.history.1))
    }

    /// Largest difference over all ticks and both processes.
    fn difference(&self) -> f64 {
        let mut process = self.process();
        let mut worst = 0.0;
        for (i, &(ns, xs, nc, xc)) in self.ticks.iter().enumerate() {
            process.tick(self.dt, &[Counts::new((ns, xs), (nc, xc))]);
            worst = f64::max(worst, difference(process.log_roll(), self.log_roll[i]));
            worst = f64::max(worst, difference(process.log_promote(), self.log_promote[i]));
        }
        worst
    }
}

fn difference(found: f64, expected: f64) -> f64 {
    (found - expected).abs() / expected.abs().max(1.0)
}

fn worst(traces: &[ErrorTrace]) -> f64 {
    traces.iter().map(ErrorTrace::difference).fold(0.0, f64::max)
}

#[test]
fn the_error_processes_agree_with_the_prototype() {
    let traces: Vec<ErrorTrace> = serde_json::from_str(include_str!("prototype/errors.json")).unwrap();
    let worst = worst(&traces);
    assert!(worst < TOLERANCE, "{worst:e}");
}

#[test]
#[ignore = "needs a file of traces: see prototype/generate.py"]
#[expect(
    clippy::disallowed_methods,
    reason = "by hand only: the file is named and read outside the mathematics"
)]
fn the_error_processes_agree_on_the_traces_of_a_file() {
    let file = std::env::var("SERIN_TRACES").expect("SERIN_TRACES names a file of traces");
    let traces: Vec<ErrorTrace> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let worst = worst(&traces);
    println!("largest difference of {} traces: {worst:e}", traces.len());
    assert!(worst < TOLERANCE, "{worst:e}");
}
