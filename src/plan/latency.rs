//! The figures of latency: expected times for canaries that are slower, and until one is proven as fast.

use crate::{cli::PlanArgs, fail::Failure};
use controller::{
    contract::{
        latency::{EDGES, edge_seconds},
        policy::{Judgement, Policy},
    },
    engine::TAIL_ALLOWANCE,
    stats::{
        capital::Spread,
        errors::Phi,
        latency::{BUCKETS_PER_OCTAVE, Family, LatencyConfig, LogNormal, Prospect, Terms, bucketed},
    },
};
use serde::Serialize;

/// Spread of the logarithm when p99 alone is known: p99 is then four times p50, as in many web services.
const SIGMA: f64 = 0.6;
/// How much slower everything may be, as people ask about it.
const EVERYTHING: [f64; 3] = [1.1, 1.25, 2.0];
/// Shares of the canary's requests beyond stable's p99, where 1 % would be usual.
const BEYOND: [f64; 3] = [0.02, 0.05, 0.1];
/// How much slower the part is that makes them.
const PART_TIMES: f64 = 10.0;

/// What latency can show.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Stable's p99.
    pub p99_seconds: f64,
    /// Its p50, given or supposed.
    pub p50_seconds: f64,
    /// Standard deviation of the logarithm of its latencies.
    pub sigma: f64,
    /// How many times slower every quantile may be before it counts: the policy's default.
    pub tolerated: f64,
    /// The same until a canary is no longer good enough.
    pub promoted: f64,
    /// Everything slower first, then parts of the requests, each in growing order.
    pub rows: Vec<SlowRow>,
    /// Seconds until p50, p95 and p99 of a canary as fast as stable are all proven, the soak apart.
    pub promote_seconds: Option<f64>,
}

/// A canary that is so slow.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlowRow {
    /// Share of its requests that are slower.
    pub share: f64,
    /// How many times slower they are.
    pub times: f64,
    /// Share of its requests beyond stable's p99.
    pub beyond: f64,
    /// Expected seconds until it is rolled back; `None`: never, it is within the margin.
    pub seconds: Option<f64>,
    /// Its requests beyond stable's p99 until then.
    pub slow_requests: Option<f64>,
    /// Expected seconds that no test at this alpha can beat.
    pub floor_seconds: Option<f64>,
}

/// A service, and how its canary would be judged.
struct Case {
    service: LogNormal,
    p99: f64,
    edges: Vec<f64>,
    terms: Terms,
    prospect: Prospect,
}

impl Latency {
    /// `None` without a p99; the policy's default margins and shares.
    pub fn of(args: &PlanArgs) -> Result<Option<Latency>, Failure> {
        let Some(p99) = args.p99.map(|p99| p99.as_seconds()) else {
            return Ok(None);
        };
        let judgement = Policy::default().judgement;
        let case = Case::of(args, p99, &judgement)?;
        let times = |shift: usize| (shift as f64 / BUCKETS_PER_OCTAVE).exp2();
        Ok(Some(Latency {
            p99_seconds: p99,
            p50_seconds: case.service.median,
            sigma: case.service.sigma,
            tolerated: times(judgement.latency.rollback_shift).max(judgement.latency.tolerance),
            promoted: times(judgement.latency.promote_shift),
            rows: case.rows(),
            promote_seconds: case.prospect.promote_seconds(),
        }))
    }
}

impl SlowRow {
    /// All of the requests are slower.
    pub fn is_everything(&self) -> bool {
        self.share >= 1.0
    }
}

impl Case {
    fn of(args: &PlanArgs, p99: f64, judgement: &Judgement) -> Result<Case, Failure> {
        let service = service(args, p99, judgement.outcome_age.as_seconds())?;
        let all = (0..EDGES).map(edge_seconds);
        let edges: Vec<f64> = all.filter(|e| *e <= judgement.outcome_age.as_seconds()).collect();
        let terms = terms(args, judgement);
        let stable = bucketed(&edges, |s| service.below(s));
        let prospect = Prospect::new(config(args, judgement)?, terms, &stable).map_err(Failure::usage)?;
        Ok(Case {
            service,
            p99,
            edges,
            terms,
            prospect,
        })
    }

    fn rows(&self) -> Vec<SlowRow> {
        let everything = EVERYTHING.iter().map(|times| self.row(1.0, *times));
        // A wide spread leaves too little below p99 that ten times would lift over it: no part is large enough.
        let shares = BEYOND.map(|beyond| self.part(beyond));
        let possible = shares.iter().filter(|share| **share < 1.0);
        let parts = possible.map(|share| self.row(*share, PART_TIMES));
        everything.chain(parts).collect()
    }

    fn row(&self, share: f64, times: f64) -> SlowRow {
        let below = |seconds: f64| self.service.below_slowed(seconds, share, times);
        let canary = bucketed(&self.edges, below);
        let seconds = self.prospect.roll_back_seconds(&canary).map(|told| told.0);
        let beyond = 1.0 - below(self.p99);
        let slow = self.terms.rate * self.terms.weight * beyond;
        SlowRow {
            share,
            times,
            beyond,
            seconds,
            slow_requests: seconds.map(|s| s * slow),
            floor_seconds: self.prospect.floor_seconds(&canary),
        }
    }

    /// The part of the requests that must be slower for a share `beyond` to lie beyond p99.
    fn part(&self, beyond: f64) -> f64 {
        let (usual, slowed) = (
            1.0 - self.service.below(self.p99),
            1.0 - self.service.below(self.p99 / PART_TIMES),
        );
        (beyond - usual) / (slowed - usual)
    }
}

/// Log-normal, by p99 and either p50 or the usual spread.
fn service(args: &PlanArgs, p99: f64, age: f64) -> Result<LogNormal, Failure> {
    if !(0.001..age).contains(&p99) {
        let cause = format!("--p99 must lie between 1ms and {age}s");
        return Err(Failure::usage(format!(
            "{cause}: what takes longer counts as unanswered, not as slow; write it such as 200ms"
        )));
    }
    match args.p50.map(|p50| p50.as_seconds()) {
        None => Ok(LogNormal::with_p99(p99, SIGMA)),
        Some(p50) if p50 > 0.0 && p50 < p99 => Ok(LogNormal::between(p50, p99)),
        Some(_) => Err(Failure::usage(
            "--p50 must lie between 0 and --p99; write it such as 50ms",
        )),
    }
}

fn terms(args: &PlanArgs, judgement: &Judgement) -> Terms {
    Terms {
        rate: args.rps,
        weight: args.weight / 100.0,
        alpha: args.alpha,
        beta: args.beta,
        stake: judgement.weights.latency,
    }
}

fn config(args: &PlanArgs, judgement: &Judgement) -> Result<LatencyConfig, Failure> {
    Ok(LatencyConfig {
        shift: judgement.latency.rollback_shift,
        promote_shift: judgement.latency.promote_shift,
        allowance: TAIL_ALLOWANCE,
        phi: Phi::new(args.phi).map_err(Failure::usage)?,
        spread: Spread::DEFAULT,
        family: Family::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::forecast::tests::args;
    use super::*;

    fn latency(p50: Option<&str>, p99: &str) -> Result<Option<Latency>, Failure> {
        Latency::of(&PlanArgs {
            p50: p50.map(|p50| p50.parse().unwrap()),
            p99: Some(p99.parse().unwrap()),
            ..args(100.0, 0.001, 10.0)
        })
    }

    #[test]
    fn without_a_quantile_nothing_is_told() {
        assert!(Latency::of(&args(100.0, 0.001, 10.0)).unwrap().is_none());
    }

    #[test]
    fn rows_lie_as_far_beyond_p99_as_they_say_and_slower_ones_are_found_sooner() {
        let told = latency(None, "200ms").unwrap().unwrap();
        let (everything, parts) = told.rows.split_at(EVERYTHING.len());
        for (row, beyond) in parts.iter().zip(BEYOND) {
            assert!((row.beyond - beyond).abs() < 1e-9 && !row.is_everything());
        }
        for rows in [everything, parts] {
            let seconds: Vec<f64> = rows.iter().filter_map(|r| r.seconds).collect();
            assert_eq!(seconds.len(), rows.len());
            assert!(seconds.is_sorted_by(|a, b| a > b), "{seconds:?}");
            assert!(rows.iter().all(|r| r.floor_seconds < r.seconds));
        }
    }

    #[test]
    fn a_narrow_service_shows_less_slowness_sooner() {
        let narrow = latency(Some("150ms"), "200ms").unwrap().unwrap();
        let wide = latency(None, "200ms").unwrap().unwrap();
        assert!(narrow.sigma < wide.sigma);
        assert!(narrow.rows[1].seconds < wide.rows[1].seconds);
    }

    #[test]
    fn a_tail_that_no_part_can_make_is_left_out() {
        let told = latency(Some("1ms"), "4s").unwrap().unwrap();
        assert_eq!(
            told.rows.iter().filter(|r| r.is_everything()).count(),
            EVERYTHING.len()
        );
        assert!(told.rows.len() < EVERYTHING.len() + BEYOND.len());
    }

    #[test]
    fn quantiles_out_of_order_or_beyond_the_outcome_are_refused() {
        assert!(latency(Some("300ms"), "200ms").is_err());
        assert!(latency(Some("0s"), "200ms").is_err());
        assert!(latency(None, "6s").is_err());
    }
}
