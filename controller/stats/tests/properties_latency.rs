//! Properties of latency evidence, of its combination and of the noise figures, for any counts.

use proptest::prelude::*;
use stats::bounds::{dkw_radius, quantile};
use stats::dispersion::{Noise, pod_spread};
use stats::errors::ErrorConfig;
use stats::latency::{Family, Histograms, LatencyConfig, LatencyProcess, Tilt, Totals, learned, shift_down};
use stats::placebo::Placebos;
use stats::{Arm, combine, versions};

const BUCKETS: usize = 12;

/// From nothing to all that a u64 holds, evenly over the decades.
fn wild_count() -> impl Strategy<Value = u64> {
    let count = (0u32..=64, any::<u64>()).prop_map(|(bits, v)| v.checked_shr(64 - bits).unwrap_or(0));
    prop_oneof![8 => count, 4 => Just(0), 1 => Just(u64::MAX)]
}

fn wild_buckets() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(wild_count(), 0..BUCKETS + 3)
}

fn wild_block() -> impl Strategy<Value = Histograms> {
    (wild_buckets(), wild_buckets()).prop_map(|(stable, canary)| Histograms { stable, canary })
}

fn buckets(most: u64) -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0..=most, BUCKETS)
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Reference), Just(Family::Broad)]
}

fn wild_arms() -> impl Strategy<Value = Vec<Arm>> {
    prop::collection::vec((wild_count(), wild_count()).prop_map(|(n, x)| Arm { n, x }), 0..6)
}

/// Every bet of both families, with what each learns from the past.
fn every_tilt(past: &[u64], p: &[f64]) -> Vec<Tilt> {
    let of = |family: Family| {
        let mut tilts = family.tilts(p);
        tilts.push(learned(past, p, family.shrinkage()));
        tilts
    };
    [Family::Reference, Family::Broad]
        .into_iter()
        .flat_map(of)
        .collect()
}

fn probabilities(counts: &[u64]) -> Vec<f64> {
    let all: f64 = counts.iter().map(|n| *n as f64 + 0.5).sum();
    counts.iter().map(|n| (*n as f64 + 0.5) / all).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_histograms_leave_every_number_finite_and_exactly_saved(
        history in prop::collection::vec(wild_count(), BUCKETS),
        shift in 0usize..4,
        family in family(),
        ticks in prop::collection::vec((0.0..1e6f64, prop::collection::vec(wild_block(), 0..3)), 0..8),
    ) {
        let config = LatencyConfig { shift, family, ..LatencyConfig::default() };
        let mut process = LatencyProcess::new(config, &history).unwrap();
        for (dt, blocks) in &ticks {
            process.tick(*dt, blocks);
            prop_assert!(process.log_roll().is_finite() && process.log_promote().is_finite());
            prop_assert!(process.shares().iter().all(|(_, share)| (0.0..=1.0 + 1e-9).contains(share)));
        }
        let saved = serde_json::to_string(&process).unwrap();
        prop_assert_eq!(serde_json::from_str::<LatencyProcess>(&saved).unwrap(), process);
    }

    #[test]
    fn one_arm_alone_says_exactly_nothing(history in buckets(1000), some in wild_buckets(), past in buckets(50)) {
        let p = probabilities(&history);
        for block in [
            Histograms { stable: some.clone(), canary: vec![] },
            Histograms { stable: vec![], canary: some },
        ] {
            for tilt in every_tilt(&past, &p) {
                prop_assert_eq!(tilt.log_e(&Totals::new(&block)), 0.0);
            }
        }
    }

    #[test]
    fn no_ratio_of_any_bet_ever_falls_on_any_baseline(history in prop::collection::vec(wild_count(), 2..80)) {
        let p = probabilities(&history);
        for tilt in [Family::Reference, Family::Broad].iter().flat_map(|f| f.tilts(&p)) {
            let ratios = tilt.probabilities(&vec![1.0; p.len()]);
            prop_assert!(ratios.is_sorted(), "{ratios:?}");
            prop_assert!(ratios.iter().all(|r| r.is_finite() && *r > 0.0), "{ratios:?}");
            prop_assert!((tilt.probabilities(&p).iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn exact_zeros_in_a_baseline_are_survived(p in prop::collection::vec(prop_oneof![Just(0.0), 0.0..1.0f64], 2..20), block in wild_block()) {
        for tilt in Family::Broad.tilts(&p) {
            let ratios = tilt.probabilities(&vec![1.0; p.len()]);
            prop_assert!(ratios.is_sorted() || p.iter().sum::<f64>() <= 0.0, "{ratios:?}");
            let log_e = tilt.log_e(&Totals::new(&block));
            prop_assert!(log_e.is_finite() || p.iter().sum::<f64>() <= 0.0, "{log_e}");
        }
    }

    #[test]
    fn the_order_of_blocks_leaves_the_fixed_bets_unchanged(
        history in buckets(1000), blocks in prop::collection::vec((buckets(50), buckets(20)), 2..6),
    ) {
        let p = probabilities(&history);
        let blocks = blocks.into_iter().map(|(stable, canary)| Totals::new(&Histograms { stable, canary }));
        let logs: Vec<Totals> = blocks.collect();
        for tilt in Family::Broad.tilts(&p) {
            let (there, back): (f64, f64) = (
                logs.iter().map(|b| tilt.log_e(b)).sum(),
                logs.iter().rev().map(|b| tilt.log_e(b)).sum(),
            );
            prop_assert!((there - back).abs() <= 1e-9 * there.abs().max(1.0));
        }
    }

    #[test]
    fn a_slower_canary_request_never_lowers_the_evidence(
        history in buckets(1000), stable in buckets(50), canary in buckets(20), past in buckets(50), from in 0..BUCKETS - 1,
    ) {
        let p = probabilities(&history);
        let mut slower = canary.clone();
        let moved = u64::from(slower[from] > 0);
        (slower[from], slower[from + 1]) = (slower[from] - moved, slower[from + 1] + moved);
        let evidence = |tilt: &Tilt, canary: &[u64]| {
            tilt.log_e(&Totals::new(&Histograms { stable: stable.clone(), canary: canary.to_vec() }))
        };
        let steps: Vec<f64> = (0..BUCKETS).map(|b| if b < 5 { 1.0 } else { 3.0 }).collect();
        for tilt in every_tilt(&past, &p).into_iter().chain([Tilt::new(&p, &steps)]) {
            prop_assert!(evidence(&tilt, &slower) >= evidence(&tilt, &canary) - 1e-9);
        }
    }

    #[test]
    fn the_learned_alternative_is_a_distribution_with_rising_ratio(history in buckets(1000), past in buckets(1000)) {
        let p = probabilities(&history);
        let q = learned(&past, &p, Family::Broad.shrinkage()).probabilities(&p);
        prop_assert!((q.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let ratios: Vec<f64> = q.iter().zip(&p).map(|(q, p)| q / p).collect();
        prop_assert!(ratios.is_sorted_by(|a, b| *a <= b * (1.0 + 1e-12)), "{ratios:?}");
    }

    #[test]
    fn shifting_keeps_every_request(buckets in buckets(1000), shift in 0usize..20) {
        prop_assert_eq!(shift_down(&buckets, shift).iter().sum::<u64>(), buckets.iter().sum::<u64>());
    }

    #[test]
    fn two_streams_say_what_they_say_one_by_one(history in buckets(1000), first in buckets(50), second in buckets(50)) {
        let stream = |stable: &[u64], canary: &[u64]| Histograms { stable: stable.to_vec(), canary: canary.to_vec() };
        let (a, b) = (stream(&first, &second), stream(&second, &first));
        let log_promote = |blocks: &[Histograms]| {
            let mut process = LatencyProcess::new(LatencyConfig::default(), &history).unwrap();
            process.tick(1.0, blocks);
            process.log_promote_by_quantile()
        };
        let (both, one, other) =
            (log_promote(&[a.clone(), b.clone()]), log_promote(&[a]), log_promote(&[b]));
        for i in 0..3 {
            prop_assert!((both[i] - one[i] - other[i]).abs() < 1e-9);
        }
    }

    #[test]
    fn the_average_lies_between_and_closed_testing_never_names_the_quiet(log_m in prop::collection::vec(-1e6..1e6f64, 1..6)) {
        let weights = vec![1.0 / log_m.len() as f64; log_m.len()];
        let (low, high) = log_m.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        let average = combine::average(&log_m, &weights);
        prop_assert!(low - 1e-9 <= average && average <= high + 1e-9);
        for (guilty, log) in combine::guilty(&log_m, 0.01).iter().zip(&log_m) {
            prop_assert!(!guilty || *log >= 4.6);
        }
    }

    #[test]
    fn noise_placebos_and_bounds_take_any_counts(ticks in prop::collection::vec(wild_arms(), 0..70), buckets in wild_buckets(), t in wild_count()) {
        let mut noise = Noise::default();
        let mut placebos = Placebos::new(ErrorConfig::default(), Arm::new(1000, 1), 5);
        for arms in &ticks {
            noise.tick(1.0, arms);
            placebos.tick(1.0, arms);
            let spread = pod_spread(arms);
            prop_assert!(spread.is_finite() && spread >= 0.0);
        }
        prop_assert!(noise.phi().get().is_finite());
        prop_assert!(placebos.largest().is_some_and(f64::is_finite));
        let bounds = quantile(&buckets, 0.99, 0.05);
        prop_assert!(bounds.high.is_none_or(|high| bounds.low.is_some_and(|low| low <= high)));
        prop_assert!(dkw_radius(t, 1, 0.05).is_none_or(|radius| radius.is_finite() && radius > 0.0));
        let split = [0.5, 0.25, 0.25];
        if let Some(errors) = buckets.get(..3) {
            prop_assert!(versions::log_e(errors, &split, &split).is_finite());
        }
        let saved = serde_json::to_string(&(&noise, &placebos)).unwrap();
        prop_assert_eq!(serde_json::from_str::<(Noise, Placebos)>(&saved).unwrap(), (noise, placebos));
    }
}
