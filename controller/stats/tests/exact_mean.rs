//! Validity without sampling: the mean of the e-values over *all* outcomes of small blocks, on grids of the null.

use stats::errors::{ErrorConfig, ErrorProcess};
use stats::halfplane::{Bet, Margin, Rates, Side, log_e};
use stats::{Arm, Counts};

/// Rounding of sums over some hundred outcomes.
const ROUNDING: f64 = 1e-12;

struct Case {
    sizes: (u64, u64),
    alternative: Rates,
    margin: Margin,
    side: Side,
}

fn cases() -> [Case; 4] {
    let case = |sizes, stable, canary, ratio, absolute, side| Case {
        sizes,
        alternative: Rates { stable, canary },
        margin: Margin::new(ratio, absolute).expect("in range"),
        side,
    };
    [
        case((6, 4), 0.05, 0.3, 1.0, 0.0, Side::Worse),
        case((6, 4), 0.05, 0.3, 1.3, 0.02, Side::Worse),
        case((5, 1), 0.2, 0.2, 1.25, 0.1, Side::Good),
        case((9, 3), 0.01, 0.6, 2.0, 0.0, Side::Worse),
    ]
}

fn choose(n: u64, k: u64) -> f64 {
    (0..k).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64)
}

fn binomial(n: u64, k: u64, p: f64) -> f64 {
    choose(n, k) * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
}

/// Every outcome of a block with its probability.
fn outcomes(sizes: (u64, u64), rates: Rates) -> impl Iterator<Item = (Counts, f64)> {
    let (ns, nc) = sizes;
    (0..=ns).flat_map(move |xs| {
        (0..=nc).map(move |xc| {
            let chance = binomial(ns, xs, rates.stable) * binomial(nc, xc, rates.canary);
            (Counts::new((ns, xs), (nc, xc)), chance)
        })
    })
}

fn mean(case: &Case, truth: Rates) -> f64 {
    let e = |block: &Counts| log_e(block, case.alternative, case.margin, case.side).exp();
    outcomes(case.sizes, truth)
        .map(|(block, chance)| chance * e(&block))
        .sum()
}

fn null_grid(margin: Margin, side: Side, steps: u32) -> Vec<Rates> {
    let rate = |i: u32| f64::from(i) / f64::from(steps);
    let all = (0..=steps).flat_map(|s| {
        (0..=steps).map(move |c| Rates {
            stable: rate(s),
            canary: rate(c),
        })
    });
    let inside = |r: &Rates| match side {
        Side::Worse => r.canary <= margin.line(r.stable),
        Side::Good => r.canary >= margin.line(r.stable),
    };
    all.filter(inside).collect()
}

#[test]
fn mean_of_one_block_is_at_most_one_in_the_null() {
    for case in cases() {
        for truth in null_grid(case.margin, case.side, 40) {
            let mean = mean(&case, truth);
            assert!(mean <= 1.0 + ROUNDING, "{truth:?}: {mean}");
        }
    }
}

#[test]
fn mean_of_one_block_is_one_at_the_projection() {
    for case in cases() {
        let sizes = (case.sizes.0 as f64, case.sizes.1 as f64);
        let bet = Bet::place(sizes.0, sizes.1, case.alternative, case.margin, case.side).unwrap();
        let mean = mean(&case, bet.projection);
        assert!((mean - 1.0).abs() <= 1e-11, "{mean}");
    }
}

#[test]
fn mean_holds_for_requests_with_different_rates() {
    // Two stable and two canary requests, every one with its own rate; only the arm means are in the null.
    let alternative = Rates {
        stable: 0.1,
        canary: 0.6,
    };
    let rates = [(0.0, 0.4), (0.2, 0.2), (0.4, 0.0), (0.1, 0.9), (1.0, 0.0)];
    for (s, c) in rates.iter().flat_map(|s| rates.iter().map(move |c| (*s, *c))) {
        if c.0 + c.1 > s.0 + s.1 {
            continue;
        }
        let chance = |(p, q): (f64, f64), x: u64| match x {
            0 => (1.0 - p) * (1.0 - q),
            1 => p * (1.0 - q) + q * (1.0 - p),
            _ => p * q,
        };
        let e = |xs, xc| {
            log_e(
                &Counts::new((2, xs), (2, xc)),
                alternative,
                Margin::NONE,
                Side::Worse,
            )
            .exp()
        };
        let pairs = (0..=2).flat_map(|xs| (0..=2).map(move |xc| (xs, xc)));
        let mean: f64 = pairs
            .map(|(xs, xc)| chance(s, xs) * chance(c, xc) * e(xs, xc))
            .sum();
        assert!(mean <= 1.0 + ROUNDING, "{s:?} {c:?}: {mean}");
    }
}

/// Mean of both processes after three ticks, the rates drifting and the bets learning on the way.
fn process_means(truths: [Rates; 3]) -> (f64, f64) {
    let start = ErrorProcess::new(ErrorConfig::default(), Arm::new(20, 1));
    let mut states = vec![(start, 1.0)];
    for (truth, (dt, sizes)) in truths
        .into_iter()
        .zip([(1.0, (3, 2)), (30.0, (2, 1)), (1.0, (2, 2))])
    {
        states = states
            .into_iter()
            .flat_map(|(state, so_far)| {
                outcomes(sizes, truth).map(move |(block, chance)| {
                    let mut next = state.clone();
                    next.tick(dt, &[block]);
                    (next, so_far * chance)
                })
            })
            .collect();
    }
    let mean = |log: fn(&ErrorProcess) -> f64| states.iter().map(|(s, p)| p * log(s).exp()).sum();
    (mean(ErrorProcess::log_roll), mean(ErrorProcess::log_promote))
}

#[test]
fn the_running_mixture_stays_a_supermartingale() {
    let (drift, margin) = ([0.0, 0.3, -0.1], Margin::ROLL_BACK);
    for stable in [0.0, 0.1, 0.3, 0.6] {
        let at = |shift: f64| f64::clamp(stable + shift, 0.0, 1.0);
        let edge = drift.map(|shift| Rates {
            stable: at(shift),
            canary: margin.line(at(shift)).min(1.0),
        });
        let roll = process_means(edge).0;
        assert!(roll <= 1.0 + ROUNDING, "{stable}: {roll}");
        let bad = drift.map(|shift| Rates {
            stable: at(shift),
            canary: Margin::PROMOTE.line(at(shift)),
        });
        if bad.iter().all(|rates| rates.canary <= 1.0) {
            let promote = process_means(bad).1;
            assert!(promote <= 1.0 + ROUNDING, "{stable}: {promote}");
        }
    }
}
