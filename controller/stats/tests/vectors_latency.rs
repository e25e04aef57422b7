//! The public reference vectors of evidence 4: latency, several metrics and versions, noise.
#![expect(clippy::excessive_precision, reason = "the vectors are quoted digit by digit")]

use stats::bounds::dkw_radius;
use stats::latency::{Family, Histograms, Tilt, Totals, learned};
use stats::{Arm, combine, dispersion, versions};

#[track_caller]
fn close(found: f64, expected: f64, tolerance: f64) {
    let error = (found - expected).abs() / expected.abs().max(1e-300);
    assert!(
        found == expected || error <= tolerance,
        "{found} is not {expected}: relative error {error:e}"
    );
}

const P: [f64; 6] = [0.5, 0.3, 0.15, 0.04, 0.009, 0.001];

#[test]
fn c_one_block_of_latencies() {
    const LN_2: f64 = std::f64::consts::LN_2;
    for (log_tilt, stable, canary, expected) in [
        (
            [0.0, 0.0, 0.0, 0.0, LN_2, LN_2],
            [45, 28, 12, 4, 1, 0],
            [40, 30, 20, 7, 2, 1],
            0.39217685085614793,
        ),
        ([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0; 6], [3, 3, 2, 1, 0, 1], 0.0),
        (
            [0.0, 0.0, 0.0, 0.0, 0.0, 3.0],
            [450, 280, 120, 40, 9, 1],
            [50, 30, 15, 4, 1, 0],
            -1.072516393202071,
        ),
    ] {
        let tilt = Tilt::new(&P, &log_tilt.map(f64::exp));
        let block = Histograms {
            stable: stable.to_vec(),
            canary: canary.to_vec(),
        };
        close(tilt.log_e(&Totals::new(&block)), expected, 1e-12);
    }
}

#[test]
fn g_split_of_errors_over_versions() {
    close(
        versions::log_e(&[20, 9], &[0.9, 0.1], &[9.0, 1.0]),
        2.7510727301883485,
        1e-12,
    );
}

#[test]
fn h_radius_around_a_whole_distribution() {
    close(dkw_radius(1000, 1, 0.05).unwrap(), 0.086569128376670562, 1e-12);
}

#[test]
fn i_dispersion_of_placebo_groups() {
    // A row a group in the table, a row a block here.
    let blocks = [[1, 2, 0], [0, 1, 2], [12, 0, 1]].map(|block| block.map(|x| Arm::new(100, x)));
    close(
        dispersion::dispersion(blocks.iter().map(|block| &block[..])),
        7.5639397787048794,
        1e-12,
    );
}

#[test]
fn j_average_of_three_metrics() {
    close(
        combine::average(&[2.0, 7.5, -3.0], &[0.5, 0.3, 0.2]),
        6.3028336226698983,
        1e-12,
    );
}

#[test]
fn k_isotonic_alternative() {
    let found = learned(&[40, 30, 20, 7, 2, 1], &P, Family::Reference.shrinkage()).probabilities(&P);
    for (found, expected) in found
        .into_iter()
        .zip([0.4375, 0.3, 0.18125, 0.05875, 0.015875, 0.006625])
    {
        close(found, expected, 1e-12);
    }
}
