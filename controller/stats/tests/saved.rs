//! Every state comes back bit for bit, from JSON and from a compact form that does not describe itself.
#![allow(clippy::unwrap_used)] // a test that panics has found something

use serde::Serialize;
use serde::de::DeserializeOwned;
use stats::baseline::Baseline;
use stats::blocks::Closer;
use stats::bounds::RatioSet;
use stats::capital::{Capital, Spread};
use stats::dispersion::Noise;
use stats::errors::{ErrorConfig, ErrorProcess, Phi};
use stats::halfplane::Margin;
use stats::information::{Outlook, TYPICAL_STAKE};
use stats::latency::{Family, Histograms, LatencyConfig, LatencyProcess};
use stats::pacing::{Pace, Sight};
use stats::placebo::Placebos;
use stats::{Arm, Counts};
use std::fmt::Debug;

const HISTORY: [u64; 8] = [100, 400, 300, 120, 50, 20, 8, 2];

const COUNTS: Counts = Counts::new((900, 1), (100, 3));

/// Equal bytes mean equal bits, of zeros with a sign too.
#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(state: &T) {
    let bytes = postcard::to_stdvec(state).unwrap();
    let again: T = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(&again, state);
    assert_eq!(postcard::to_stdvec(&again).unwrap(), bytes);
    let json: T = serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap();
    assert_eq!(postcard::to_stdvec(&json).unwrap(), bytes, "by way of JSON");
}

fn histograms() -> Histograms {
    Histograms {
        stable: HISTORY.to_vec(),
        canary: vec![1, 3, 9, 2, 0, 0, 1, 1],
    }
}

#[test]
fn errors_and_all_that_they_hold() {
    let mut process = ErrorProcess::new(ErrorConfig::default(), Arm::new(60_000, 60));
    comes_back(&process);
    (0..9).for_each(|i| process.tick(0.1 + f64::from(i), &[COUNTS]));
    comes_back(&process);
    comes_back(&process.shares());
    comes_back(&process.next_bets());
    comes_back(process.config());
    let mut baseline = Baseline::new(Arm::new(77, 3));
    baseline.tick(0.3, Arm::new(u64::MAX, 1));
    comes_back(&baseline);
    let mut capital = Capital::new(Spread::DEFAULT, 3);
    capital.tick(1.0 / 3.0, &[1e-300, -7.1, 0.0]);
    comes_back(&capital);
}

#[test]
fn latency_of_either_family() {
    for family in [Family::Reference, Family::Broad] {
        let config = LatencyConfig {
            family,
            ..LatencyConfig::default()
        };
        let mut process = LatencyProcess::new(config, &HISTORY).unwrap();
        comes_back(&process);
        (0..9).for_each(|i| process.tick(0.1 * f64::from(i), &[histograms(), histograms()]));
        comes_back(&process);
        comes_back(&process.shares());
        assert_eq!(process.log_roll().to_bits(), again(&process).log_roll().to_bits());
    }
}

fn again(process: &LatencyProcess) -> LatencyProcess {
    postcard::from_bytes(&postcard::to_stdvec(process).unwrap()).unwrap()
}

#[test]
fn noise_placebos_and_open_blocks() {
    let groups = [3, 0, 12, 1, 1].map(|x| Arm::new(200, x));
    let (mut noise, mut placebos) = (
        Noise::default(),
        Placebos::new(ErrorConfig::default(), Arm::new(1000, 1), 5),
    );
    for _ in 0..25 {
        noise.tick(0.7, &groups);
        placebos.tick(0.7, &groups);
    }
    comes_back(&noise);
    comes_back(&placebos);
    let mut counts: Closer<Counts> = Closer::default();
    counts.push(0.7, &Counts::new((9, 1), (1, 0)));
    comes_back(&counts);
    let mut buckets: Closer<Histograms> = Closer::default();
    comes_back(&buckets);
    let one_armed = Histograms {
        canary: vec![],
        ..histograms()
    };
    buckets.push(0.7, &one_armed);
    comes_back(&buckets);
}

#[test]
fn pacing_bounds_and_outlooks() {
    comes_back(&Pace::DEFAULT);
    comes_back(&Sight {
        rate: 1e3 / 7.0,
        canary: Arm::new(10, 1),
        stable: 0.001,
        log_roll: -0.1,
        alpha: 0.01,
    });
    let mut ratios = RatioSet::default();
    ratios.add(&COUNTS);
    comes_back(&ratios);
    comes_back(&ratios.bounds(0.05));
    comes_back(&stats::bounds::quantile(&HISTORY, 0.99, 0.05));
    comes_back(&Outlook {
        rate: 100.0,
        weight: 0.1,
        phi: Phi::ONE,
        alpha: 0.01,
        beta: 0.05,
        roll_back: Margin::ROLL_BACK,
        promote: Margin::PROMOTE,
        stake: TYPICAL_STAKE,
    });
}

#[test]
fn what_the_constructors_refuse_is_refused_in_the_compact_form_too() {
    let bytes = postcard::to_stdvec(&0.5_f64).unwrap();
    assert!(postcard::from_bytes::<Phi>(&bytes).is_err());
    let spread = postcard::to_stdvec(&(1.5_f64, 10.0_f64)).unwrap();
    assert!(postcard::from_bytes::<Spread>(&spread).is_err());
}
