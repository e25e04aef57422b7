//! Properties that hold for any counts.

use proptest::prelude::*;
use stats::bounds::{RatioSet, proportion, ratio};
use stats::errors::{ErrorConfig, ErrorProcess};
use stats::halfplane::{Bet, Margin, Rates, Side, log_e};
use stats::pacing::{Pace, Sight, upper_rate};
use stats::{Arm, Counts};

fn arm(most: u64) -> impl Strategy<Value = Arm> {
    (0..=most)
        .prop_flat_map(|n| (Just(n), 0..=n))
        .prop_map(|(n, x)| Arm { n, x })
}

fn block(most: u64) -> impl Strategy<Value = Counts> {
    (arm(most), arm(most)).prop_map(|(stable, canary)| Counts { stable, canary })
}

/// Sizes from nothing to all that a u64 holds, evenly over the decades; bad counts may be nonsense (above `n`).
fn wild_arm() -> impl Strategy<Value = Arm> {
    let count = (0u32..=64, any::<u64>()).prop_map(|(bits, v)| v.checked_shr(64 - bits).unwrap_or(0));
    let count = prop_oneof![8 => count, 1 => Just(0), 1 => Just(u64::MAX)];
    (count.clone(), count).prop_map(|(n, x)| Arm { n, x })
}

fn wild_block() -> impl Strategy<Value = Counts> {
    (wild_arm(), wild_arm()).prop_map(|(stable, canary)| Counts { stable, canary })
}

fn margin() -> impl Strategy<Value = Margin> {
    let any = (1.0..5.0f64, 0.0..0.3f64)
        .prop_map(|(ratio, absolute)| Margin::new(ratio, absolute).expect("in range"));
    prop_oneof![
        Just(Margin::NONE),
        Just(Margin::ROLL_BACK),
        Just(Margin::PROMOTE),
        any
    ]
}

fn rates() -> impl Strategy<Value = Rates> {
    let rate = prop_oneof![1e-9..1e-3f64, 0.001..0.97f64, 0.97..0.999_999_999f64];
    (rate.clone(), rate).prop_map(|(stable, canary)| Rates { stable, canary })
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Worse), Just(Side::Good)]
}

/// The projection by plain bisection, as slow and as simple as can be.
fn bisected(block: &Counts, t: Rates, m: Margin) -> f64 {
    let (ns, nc) = (block.stable.requests(), block.canary.requests());
    let f = |q: f64| {
        let c = m.line(q);
        ns * (q - t.stable) / (q * (1.0 - q)) + nc * m.ratio() * (c - t.canary) / (c * (1.0 - c))
    };
    let (mut low, mut high) = (1e-12, ((1.0 - m.absolute()) / m.ratio()).min(1.0) - 1e-12);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if f(middle) < 0.0 {
            low = middle
        } else {
            high = middle
        }
    }
    0.5 * (low + high)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_projection_is_where_bisection_finds_it(block in block(100_000), t in rates(), m in margin(), side in side()) {
        let sizes = (block.stable.requests(), block.canary.requests());
        if let Some(bet) = Bet::place(sizes.0, sizes.1, t, m, side) {
            let (found, expected) = (bet.projection.stable, bisected(&block, t, m));
            prop_assert!((found - expected).abs() <= 1e-11 * expected + 1e-15, "{found} {expected}");
        }
    }

    #[test]
    fn one_more_canary_error_never_lowers_the_evidence(block in block(1000), t in rates(), m in margin()) {
        let worse = Counts { canary: Arm::new(block.canary.n, block.canary.x + 1), ..block };
        if block.canary.x < block.canary.n {
            let gain = log_e(&worse, t, m, Side::Worse) - log_e(&block, t, m, Side::Worse);
            prop_assert!(gain >= -1e-9, "{gain}");
            let gain = log_e(&worse, t, m, Side::Good) - log_e(&block, t, m, Side::Good);
            prop_assert!(gain <= 1e-9, "{gain}");
        }
    }

    #[test]
    fn the_order_of_blocks_does_not_matter_to_a_fixed_bet(blocks in prop::collection::vec(block(1000), 1..10), t in rates(), m in margin()) {
        let sum = |blocks: &mut dyn Iterator<Item = &Counts>| blocks.map(|b| log_e(b, t, m, Side::Worse)).sum::<f64>();
        let (forth, back) = (sum(&mut blocks.iter()), sum(&mut blocks.iter().rev()));
        prop_assert!((forth - back).abs() <= 1e-9 * (1.0 + forth.abs()));
    }

    #[test]
    fn one_arm_alone_says_exactly_nothing(some in wild_arm(), t in rates(), m in margin(), side in side()) {
        let none = Arm::default();
        prop_assert_eq!(log_e(&Counts { stable: some, canary: none }, t, m, side), 0.0);
        prop_assert_eq!(log_e(&Counts { stable: none, canary: some }, t, m, side), 0.0);
    }

    #[test]
    fn any_counts_leave_every_number_finite_and_exactly_saved(
        history in wild_arm(),
        ticks in prop::collection::vec((0.0..1e6f64, prop::collection::vec(wild_block(), 0..3)), 0..12),
    ) {
        let mut process = ErrorProcess::new(ErrorConfig::default(), history);
        let mut set = RatioSet::default();
        for (dt, blocks) in &ticks {
            process.tick(*dt, blocks);
            blocks.iter().for_each(|block| set.add(block));
            prop_assert!(process.log_roll().is_finite() && process.log_promote().is_finite());
            prop_assert!(process.next_error_gain().is_finite());
            prop_assert!(process.shares().iter().all(|(_, share)| (0.0..=1.0 + 1e-9).contains(share)));
        }
        process.errors_to(4.6);
        let saved = serde_json::to_string(&process).unwrap();
        prop_assert_eq!(serde_json::from_str::<ErrorProcess>(&saved).unwrap(), process);
        let saved = serde_json::to_string(&set).unwrap();
        prop_assert_eq!(serde_json::from_str::<RatioSet>(&saved).unwrap(), set);
    }

    #[test]
    fn bounds_hold_the_plain_rate_for_any_counts(arm in wild_arm(), canary in wild_arm(), share in 1e-6..0.999f64) {
        let (low, high) = proportion(arm, 0.05);
        prop_assert!(0.0 <= low && low <= high && high <= 1.0, "{low} {high}");
        if arm.n > 0 {
            let plain = arm.bad() / arm.requests();
            prop_assert!(low <= plain && plain <= high, "{low} {plain} {high}");
        }
        let bounds = ratio(&Counts { stable: arm, canary }, share, 0.05).unwrap().ratio;
        prop_assert!(bounds.low.is_finite() && bounds.high.is_none_or(|high| high >= bounds.low && high.is_finite()));
    }

    #[test]
    fn the_weight_stays_in_its_limits_and_never_falls(canary in wild_arm(), weight in 0.001..0.5f64, rate in 0.0..1e7f64, stable in 0.0..1.0f64) {
        let upper = upper_rate(canary);
        prop_assert!((0.0..=1.0).contains(&upper), "{upper}");
        let next = Pace::DEFAULT.next(weight, &Sight { rate, canary, stable, log_roll: 0.0, alpha: 0.01 });
        prop_assert!((weight..=0.5).contains(&next), "{next}");
    }

    #[test]
    fn more_evidence_needs_more_errors(canary in 2u64..200, bad in 0u64..3, nats in 0.01..50.0f64) {
        let mut process = ErrorProcess::new(ErrorConfig::default(), Arm::new(60_000, 60));
        process.tick(1.0, &[Counts::new((2000, 2), (canary, bad.min(canary)))]);
        let errors = process.errors_to(process.log_roll() + nats).unwrap();
        prop_assert!(errors >= 1);
        prop_assert!(process.errors_to(process.log_roll() + 2.0 * nats).unwrap() >= errors);
        prop_assert_eq!(process.errors_to(process.log_roll() - nats), Some(0));
        prop_assert!(process.next_error_gain() > 0.0);
    }
}

#[test]
fn the_counterfactual_comes_true() {
    let mut process = ErrorProcess::new(ErrorConfig::default(), Arm::new(60_000, 60));
    (0..60).for_each(|_| process.tick(1.0, &[Counts::new((900, 1), (100, 0))]));
    let threshold = 100.0_f64.ln();
    let errors = process.errors_to(threshold).unwrap();
    let after = |errors| {
        let mut next = process.clone();
        next.tick(1.0, &[Counts::new((900, 0), (100, errors))]);
        next.log_roll()
    };
    assert!(
        after(errors) >= threshold && after(errors - 1) < threshold,
        "{errors}: {}",
        after(errors)
    );
}
