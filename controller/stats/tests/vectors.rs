//! The public reference vectors of evidence 4: errors, bounds, planning.
#![expect(clippy::excessive_precision, reason = "the vectors are quoted digit by digit")]

use stats::bounds::{proportion, ratio};
use stats::capital::Spread;
use stats::errors::{ErrorConfig, ErrorProcess, Phi};
use stats::halfplane::{Bet, Margin, Rates, Side, log_e};
use stats::information::information;
use stats::{Arm, Counts};

/// `(nS, xS, nC, xC)`.
type Tick = (u64, u64, u64, u64);

const B1: [Tick; 8] = [
    (90, 0, 10, 0),
    (88, 1, 12, 1),
    (91, 0, 9, 2),
    (0, 0, 0, 0),
    (93, 0, 7, 1),
    (85, 0, 15, 0),
    (90, 0, 0, 0),
    (92, 1, 8, 1),
];

fn counts((ns, xs, nc, xc): Tick) -> Counts {
    Counts::new((ns, xs), (nc, xc))
}

fn margin(ratio: f64, absolute: f64) -> Margin {
    Margin::new(ratio, absolute).expect("in range")
}

#[track_caller]
fn close(found: f64, expected: f64, tolerance: f64) {
    let error = (found - expected).abs() / expected.abs().max(1e-300);
    assert!(
        found == expected || error <= tolerance,
        "{found} is not {expected}: relative error {error:e}"
    );
}

#[test]
fn a_one_block_of_errors() {
    let rates = |stable, canary| Rates { stable, canary };
    let (worse, good) = (Side::Worse, Side::Good);
    let cases = [
        (
            (90, 0, 10, 3),
            rates(0.001, 0.01),
            Margin::NONE,
            worse,
            Some(0.0019),
            5.0062715465587675,
        ),
        (
            (900, 1, 100, 4),
            rates(0.001, 0.01),
            Margin::NONE,
            worse,
            Some(0.0019),
            6.0290871524348107,
        ),
        (
            (900, 2, 100, 3),
            rates(0.001, 0.01),
            margin(1.1, 0.0002),
            worse,
            Some(0.001790167798728336),
            3.3664014641838699,
        ),
        ((0, 0, 5, 2), rates(0.001, 0.1), Margin::NONE, worse, None, 0.0),
        (
            (95, 0, 5, 0),
            rates(0.0005, 0.0005),
            Margin::PROMOTE,
            good,
            Some(0.00047835242119582435),
            0.0034379412878940931,
        ),
        (
            (90, 0, 10, 1),
            rates(0.002, 0.002),
            margin(1.1, 0.0002),
            worse,
            None,
            0.0,
        ),
        (
            (90, 80, 10, 9),
            rates(0.9, 0.9),
            Margin::PROMOTE,
            good,
            Some(0.78543164884701422),
            4.2259762620720111,
        ),
    ];
    for (tick, alternative, margin, side, projection, expected) in cases {
        let block = counts(tick);
        close(log_e(&block, alternative, margin, side), expected, 1e-12);
        let bet = Bet::place(tick.0 as f64, tick.2 as f64, alternative, margin, side);
        assert_eq!(bet.is_some(), projection.is_some());
        if let (Some(bet), Some(q)) = (bet, projection) {
            close(bet.projection.stable, q, 1e-12);
        }
    }
}

fn run(config: ErrorConfig, ticks: impl Iterator<Item = (f64, Tick)>) -> Vec<(f64, f64)> {
    let mut process = ErrorProcess::new(config, Arm::new(60_000, 60));
    ticks
        .map(|(dt, tick)| {
            process.tick(dt, &[counts(tick)]);
            (process.log_roll(), process.log_promote())
        })
        .collect()
}

fn no_margin() -> ErrorConfig {
    ErrorConfig {
        roll_back: Margin::NONE,
        ..ErrorConfig::default()
    }
}

#[test]
fn b_the_error_processes_tick_by_tick() {
    let expected = [
        (-0.08907035475131846, 0.0053643777543004158),
        (0.23756996802116678, -0.6627015439494652),
        (2.6449991997579933, -2.1919409886791393),
        (2.6449991997579933, -2.1919409886791393),
        (4.5903735141980925, -2.9638686122918124),
        (4.5577605435479112, -2.9559986255228108),
        (4.5577605435479112, -2.9559986255228108),
        (5.4232247394361874, -3.6683889959253244),
    ];
    let found = run(no_margin(), B1.into_iter().map(|tick| (1.0, tick)));
    for (found, expected) in found.into_iter().zip(expected) {
        close(found.0, expected.0, 1e-10);
        close(found.1, expected.1, 1e-10);
    }
}

#[test]
fn b_with_margin_dispersion_and_a_short_plan() {
    let config = ErrorConfig {
        roll_back: margin(1.1, 0.0002),
        phi: Phi::new(2.0).unwrap(),
        spread: Spread::new(0.7, 4.0).unwrap(),
        ..ErrorConfig::default()
    };
    let end = run(config, B1.into_iter().map(|tick| (1.0, tick)))[7];
    close(end.0, 2.3104835790141633, 1e-10);
    close(end.1, -1.8341944979626625, 1e-10);
}

#[test]
fn b_with_a_long_second_tick() {
    let ticks = B1
        .into_iter()
        .enumerate()
        .map(|(i, tick)| (if i == 1 { 30.0 } else { 1.0 }, tick));
    let end = run(no_margin(), ticks)[7];
    close(end.0, 5.430218410684608, 1e-10);
    close(end.1, -3.667136264288432, 1e-10);
}

#[test]
fn d_bounds_of_one_proportion() {
    for (n, x, low, high) in [
        (300, 0, 0.0, 0.021173966497778505),
        (1000, 3, 0.00012387375409810027, 0.014312154132124398),
        (10, 10, 0.62301264900932261, 1.0),
    ] {
        let bounds = proportion(Arm::new(n, x), 0.05);
        close(bounds.0, low, 1e-11);
        close(bounds.1, high, 1e-11);
    }
}

#[test]
fn e_bounds_of_the_error_ratio() {
    for (xs, xc, share, theta, ratios) in [
        (
            20,
            9,
            0.1,
            (0.096476920309969855, 0.60429990017191076),
            (0.96100730828880652, 13.744497673642296),
        ),
        (
            5,
            5,
            0.5,
            (0.12921901240078772, 0.87078098759921228),
            (0.14839438876249601, 6.7387992789976159),
        ),
    ] {
        let bounds = ratio(&Counts::new((1000, xs), (1000, xc)), share, 0.05).unwrap();
        close(bounds.theta.0, theta.0, 1e-11);
        close(bounds.theta.1, theta.1, 1e-11);
        close(bounds.ratio.low, ratios.0, 1e-11);
        close(bounds.ratio.high.unwrap(), ratios.1, 1e-11);
    }
}

#[test]
fn f_information_per_request() {
    for (canary, weight, margin, expected) in [
        (0.002, 0.1, Margin::NONE, 3.3833299913681375e-5),
        (0.01, 0.1, Margin::NONE, 0.0010867234655909833),
        (0.5, 0.01, margin(1.1, 0.0002), 0.021243198290979018),
    ] {
        let rates = Rates {
            stable: 0.001,
            canary,
        };
        close(information(rates, weight, margin, Side::Worse), expected, 1e-10);
    }
}
