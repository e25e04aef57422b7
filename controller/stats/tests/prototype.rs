//! Agreement with the independent Python prototype on random traces (see `prototype/generate.py`); with a thousand of
//! each kind by `prototype/run DIR`.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use stats::capital::Spread;
use stats::errors::{ErrorConfig, ErrorProcess, Phi};
use stats::halfplane::Margin;
use stats::latency::{Family, Histograms, LatencyConfig, LatencyProcess};
use stats::{Arm, Counts};

/// Largest difference of any logarithm, relative to 1 or to its size.
const TOLERANCE: f64 = 1e-9;

/// A run of the prototype that can be repeated here.
trait Trace: DeserializeOwned {
    /// For people.
    const KIND: &str;
    /// Largest difference over all ticks and processes.
    fn difference(&self) -> f64;
}

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

#[derive(Deserialize)]
struct LatencyTrace {
    family: Family,
    history: Vec<u64>,
    shift: usize,
    phi: f64,
    head_start: f64,
    horizon: f64,
    stable: Vec<Vec<u64>>,
    canary: Vec<Vec<u64>>,
    log_roll: Vec<f64>,
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
}

impl Trace for ErrorTrace {
    const KIND: &str = "errors";

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

impl LatencyTrace {
    fn process(&self) -> LatencyProcess {
        let config = LatencyConfig {
            family: self.family,
            shift: self.shift,
            phi: Phi::new(self.phi).expect("a valid phi"),
            spread: Spread::new(self.head_start, self.horizon).expect("a valid spread"),
            ..LatencyConfig::default()
        };
        LatencyProcess::new(config, &self.history).expect("enough buckets")
    }
}

impl Trace for LatencyTrace {
    const KIND: &str = "latency";

    fn difference(&self) -> f64 {
        let mut process = self.process();
        let mut worst = 0.0;
        for ((stable, canary), expected) in self.stable.iter().zip(&self.canary).zip(&self.log_roll) {
            process.tick(
                1.0,
                &[Histograms {
                    stable: stable.clone(),
                    canary: canary.clone(),
                }],
            );
            worst = f64::max(worst, difference(process.log_roll(), *expected));
        }
        worst
    }
}

fn difference(found: f64, expected: f64) -> f64 {
    (found - expected).abs() / expected.abs().max(1.0)
}

#[track_caller]
fn agree<T: Trace>(json: &str) {
    let traces: Vec<T> = serde_json::from_str(json).expect("a list of traces");
    let worst = traces.iter().map(T::difference).fold(0.0, f64::max);
    println!(
        "largest difference of {} traces of {}: {worst:e}",
        traces.len(),
        T::KIND
    );
    assert!(worst < TOLERANCE, "{worst:e}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "by hand only: the file is named and read outside the mathematics"
)]
fn file(variable: &str) -> Option<String> {
    let path = std::env::var(variable).ok()?;
    Some(std::fs::read_to_string(path).expect("a file that can be read"))
}

#[test]
fn the_error_processes_agree_with_the_prototype() {
    agree::<ErrorTrace>(include_str!("prototype/errors.json"));
}

#[test]
fn the_latency_process_agrees_with_the_prototype() {
    agree::<LatencyTrace>(include_str!("prototype/latency.json"));
}

/// Files of any number of traces, made by `prototype/run` from the prototype itself.
#[test]
fn both_agree_on_many_more_traces() {
    match (file("SERIN_ERROR_TRACES"), file("SERIN_LATENCY_TRACES")) {
        (Some(errors), Some(latency)) => {
            agree::<ErrorTrace>(&errors);
            agree::<LatencyTrace>(&latency);
        }
        _ => println!("SKIPPED: name files of traces in SERIN_ERROR_TRACES and SERIN_LATENCY_TRACES"),
    }
}
