//! The figures: expected times and requests for canaries that fail more or less often.

use super::{latency::Latency, page};
use crate::{
    cli::PlanArgs,
    fail::Failure,
    figures::{DAY, HOUR},
};
use controller::{
    contract::policy::{self, Margins},
    stats::{
        errors::Phi,
        halfplane::{Margin, Rates},
        information::{Outlook, TYPICAL_STAKE},
    },
};
use serde::Serialize;

/// Canary error rates that people ask about, as multiples of stable's.
const MULTIPLES: [f64; 4] = [1.5, 2.0, 3.0, 10.0];
/// The same, absolute: outright failures.
const ABSOLUTES: [f64; 4] = [0.01, 0.05, 0.5, 1.0];
/// Times within which the smallest visible error rate is told, seconds.
const PATIENCE: [f64; 4] = [60.0, 600.0, HOUR, DAY];

/// Everything that is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// Requests a second, both versions.
    pub rps: f64,
    /// Share of bad answers of stable.
    pub baseline: f64,
    /// Percent to the canary.
    pub weight: f64,
    /// Chance of a false rollback.
    pub alpha: f64,
    /// Chance of a false promotion.
    pub beta: f64,
    /// Dispersion.
    pub phi: f64,
    /// What is tolerated: the policy's defaults.
    pub margins: Margins,
    /// In growing order of the canary's error rate.
    pub rows: Vec<Row>,
    /// Seconds until the evidence lets a canary as good as stable be promoted, the soak apart.
    pub promote_seconds: Option<f64>,
    /// By growing patience.
    pub visible: Vec<Visible>,
    /// `None` without stable's p99.
    pub latency: Option<Latency>,
    /// The same in one sentence.
    pub sentence: String,
}

/// A canary that fails so often.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its share of bad answers.
    pub canary: f64,
    /// That, as a multiple of stable's, if stable fails at all.
    pub times: Option<f64>,
    /// Expected seconds until it is rolled back; `None`: never, it is within the margin.
    pub seconds: Option<f64>,
    /// Its bad answers until then.
    pub bad_requests: Option<f64>,
    /// Expected seconds that no test at this alpha can beat.
    pub floor_seconds: Option<f64>,
}

/// The smallest error rate that is seen in time.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Visible {
    /// Within so many seconds.
    pub within_seconds: f64,
    /// `None`: not even a canary that fails everything.
    pub canary: Option<f64>,
}

impl Forecast {
    /// The forecast for these arguments and the policy's default margins.
    pub fn of(args: &PlanArgs) -> Result<Forecast, Failure> {
        let outlook = outlook(args)?;
        let rows = rates(args.baseline)
            .into_iter()
            .map(|canary| row(&outlook, args.baseline, canary))
            .collect();
        let mut forecast = Forecast {
            rps: args.rps,
            baseline: args.baseline,
            weight: args.weight,
            alpha: args.alpha,
            beta: args.beta,
            phi: args.phi,
            margins: Margins::default(),
            rows,
            promote_seconds: outlook.promote_seconds(args.baseline),
            visible: visible(&outlook, args.baseline),
            latency: Latency::of(args)?,
            sentence: String::new(),
        };
        forecast.sentence = page::sentence(&forecast);
        Ok(forecast)
    }
}

fn outlook(args: &PlanArgs) -> Result<Outlook, Failure> {
    let margins = Margins::default();
    Ok(Outlook {
        rate: args.rps,
        weight: args.weight / 100.0,
        phi: Phi::new(args.phi).map_err(Failure::usage)?,
        alpha: args.alpha,
        beta: args.beta,
        roll_back: margin(margins.rollback)?,
        promote: margin(margins.promote)?,
        stake: TYPICAL_STAKE,
    })
}

fn margin(m: policy::Margin) -> Result<Margin, Failure> {
    Margin::new(m.ratio, m.absolute).map_err(Failure::usage)
}

/// Only canaries that are worse than stable, each once.
fn rates(baseline: f64) -> Vec<f64> {
    let multiples = MULTIPLES.iter().map(|m| m * baseline);
    let mut all: Vec<f64> = multiples
        .chain(ABSOLUTES)
        .filter(|r| *r > baseline && *r <= 1.0)
        .collect();
    all.sort_by(f64::total_cmp);
    all.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
    all
}

fn row(outlook: &Outlook, stable: f64, canary: f64) -> Row {
    let rates = Rates { stable, canary };
    let seconds = outlook.roll_back_seconds(rates);
    Row {
        canary,
        times: (stable > 0.0).then(|| canary / stable),
        seconds,
        bad_requests: seconds.map(|s| s * outlook.rate * outlook.weight * canary),
        floor_seconds: outlook.floor_seconds(rates),
    }
}

fn visible(outlook: &Outlook, stable: f64) -> Vec<Visible> {
    let within = |s: &f64| Visible {
        within_seconds: *s,
        canary: outlook.smallest_visible(stable, *s),
    };
    PATIENCE.iter().map(within).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cli::Output;
    use controller::stats::{halfplane::Side, information::information};

    pub fn args(rps: f64, baseline: f64, weight: f64) -> PlanArgs {
        PlanArgs {
            rps,
            baseline,
            weight,
            alpha: 0.01,
            beta: 0.05,
            phi: 1.0,
            p99: None,
            p50: None,
            output: Output::Text,
        }
    }

    /// The information per request is that of the reference vectors; F4 has the margin in force here.
    #[test]
    fn rows_are_what_the_reference_vectors_give() {
        let rates = |canary| Rates {
            stable: 0.001,
            canary,
        };
        let vector = |canary, w, margin| information(rates(canary), w, margin, Side::Worse);
        assert!((vector(0.002, 0.1, Margin::NONE) / 3.383_329_991_368_137e-5 - 1.0).abs() < 1e-10);
        assert!((vector(0.01, 0.1, Margin::NONE) / 0.001_086_723_465_590_983_3 - 1.0).abs() < 1e-10);
        let f4 = 0.021_243_198_290_979_018;
        let half = &Forecast::of(&args(100.0, 0.001, 1.0)).unwrap().rows[5];
        assert_eq!(half.canary, 0.5);
        let floor = 100f64.ln() / (100.0 * f4);
        assert!((half.floor_seconds.unwrap() / floor - 1.0).abs() < 1e-9);
        let expected = (100f64.ln() - TYPICAL_STAKE.ln()) / (100.0 * f4);
        assert!((half.seconds.unwrap() / expected - 1.0).abs() < 1e-9);
        assert!((half.bad_requests.unwrap() / (expected * 0.5) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn only_worse_canaries_stand_in_the_table() {
        let canaries = |baseline: f64| -> Vec<f64> {
            let all = Forecast::of(&args(100.0, baseline, 10.0)).unwrap().rows;
            all.iter().map(|r| r.canary).collect()
        };
        assert_eq!(canaries(0.001), [0.0015, 0.002, 0.003, 0.01, 0.05, 0.5, 1.0]);
        assert_eq!(canaries(0.0), ABSOLUTES);
        assert_eq!(canaries(0.5), [0.75, 1.0]);
    }

    #[test]
    fn dispersion_costs_time_in_proportion_and_never_lowers_the_floor() {
        let quiet = Forecast::of(&args(100.0, 0.001, 10.0)).unwrap();
        let noisy = Forecast::of(&PlanArgs {
            phi: 2.0,
            ..args(100.0, 0.001, 10.0)
        })
        .unwrap();
        for (a, b) in quiet.rows.iter().zip(&noisy.rows) {
            assert_eq!(a.seconds.map(|s| 2.0 * s), b.seconds);
            assert_eq!(a.floor_seconds, b.floor_seconds);
        }
    }

    #[test]
    fn more_patience_sees_smaller_rates() {
        let seen = Forecast::of(&args(10.0, 0.001, 10.0)).unwrap().visible;
        let rates: Vec<f64> = seen.iter().filter_map(|v| v.canary).collect();
        assert_eq!(rates.len(), 4);
        assert!(rates.windows(2).all(|w| w[0] > w[1]), "{rates:?}");
        let slow = Forecast::of(&args(0.01, 0.001, 1.0)).unwrap().visible;
        assert!(slow[0].canary.is_none());
    }
}
