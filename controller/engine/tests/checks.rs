//! Limits on numbers from elsewhere, in whole releases: every rule of `judgement.checks`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod world;

use contract::{
    Span,
    policy::{Check, Http, NoData, Policy},
    release::{Amount, Command, Phase},
};
use engine::{Action, Order, Plan, State, Step, step};
use world::{Gauge, Nature, World};

fn healthy() -> Nature {
    Nature {
        rps: 200.0,
        stable: |_| 0.001,
        canary: |_| 0.001,
        slow: 0.0,
        delay: [world::usual; 2],
        silence: None,
        restart: None,
    }
}

fn named(name: &str) -> Check {
    let url = "http://127.0.0.1:1/".to_owned();
    Check {
        http: Some(Http { url, field: None }),
        ..Check::named(name)
    }
}

/// At most 0.8, asked every ten seconds, three in a row.
fn load() -> Check {
    Check {
        max: Some(0.8),
        ..named("db-load")
    }
}

/// Errors alone: it is quicker, and checks know nothing of latency.
fn policy(check: Check) -> Policy {
    let mut policy = Policy::default();
    policy.judgement.latency.enabled = false;
    policy.pacing.soak = Span::seconds(60);
    policy.promotion.watch = Span::seconds(60);
    policy.judgement.checks = vec![check];
    policy
}

fn world(seed: u64, check: Check, gauge: Gauge) -> World {
    let mut world = World::new(seed, healthy(), policy(check));
    world.gauge = gauge;
    world
}

/// One turn a quarter of a second later, with the state as it comes back from the disk.
fn turn(world: &mut World) -> Step {
    world.flow(250);
    let done = world.turn();
    let saved = serde_json::to_string(&done.state).unwrap();
    let back: State = serde_json::from_str(&saved).unwrap();
    assert_eq!(back, done.state);
    done
}

/// Turns until `seconds` after the canary appeared.
fn until(world: &mut World, seconds: f64) -> Step {
    loop {
        let done = turn(world);
        if world.elapsed() >= seconds {
            return done;
        }
    }
}

/// Turns until a phase; fails with the last reason.
fn reach(world: &mut World, phase: Phase, limit: f64) -> Step {
    loop {
        let done = turn(world);
        if done.status.phase == phase {
            return done;
        }
        assert!(
            world.elapsed() < limit,
            "no {phase} within {limit} s: {}: {}",
            done.status.phase,
            done.why
        );
    }
}

/// The reason of the rollback, and when it was.
fn rolled_back(world: &mut World, limit: f64) -> (String, f64) {
    reach(world, Phase::RollingBack, limit);
    let at = world.elapsed();
    assert!(world.table.split.is_none());
    (world.history.last().unwrap().reason.clone(), at)
}

fn holds(world: &World) -> Vec<&str> {
    let held = world.history.iter().filter(|d| d.to == Phase::Holding);
    held.map(|d| d.reason.as_str()).collect()
}

#[test]
fn a_limit_that_is_kept_changes_nothing_and_is_shown() {
    let mut with = world(1, load(), |_, _| Ok(0.5));
    let step = until(&mut with, 30.0);
    let shown = &step.status.checks[0];
    assert_eq!((shown.name.as_str(), shown.value), ("db-load", Some(Amount(0.5))));
    assert_eq!(
        (shown.limit.as_str(), shown.breaches, shown.allowed),
        ("at most 0.8", 0, 3)
    );
    assert!(!shown.breach && shown.missing.is_none());
    reach(&mut with, Phase::Succeeded, 600.0);
    let mut without = World::new(
        1,
        healthy(),
        Policy {
            judgement: contract::policy::Judgement {
                checks: vec![],
                ..policy(load()).judgement
            },
            ..policy(load())
        },
    );
    reach(&mut without, Phase::Succeeded, 600.0);
    let ramp = |w: &World| w.history.iter().map(|d| (d.to, d.weight)).collect::<Vec<_>>();
    assert_eq!(
        ramp(&with),
        ramp(&without),
        "the first answer is there before anything rises"
    );
}

#[test]
fn a_series_of_breaches_rolls_back() {
    let mut world = world(2, load(), |t, _| Ok(if t > 32.0 { 0.93 } else { 0.5 }));
    let (reason, at) = rolled_back(&mut world, 100.0);
    assert!(
        reason.starts_with("rolled back: check \"db-load\": 0.93 is above 0.8, 3 times in a row; canary "),
        "{reason}"
    );
    assert!(
        (52.0..65.0).contains(&at),
        "the third answer of three, after {at} s"
    );
    reach(&mut world, Phase::RolledBack, at + 10.0);
}

#[test]
fn one_breach_may_be_enough_and_min_is_a_limit_too() {
    let check = Check {
        min: Some(2.0),
        max: None,
        breaches: 1,
        ..load()
    };
    let mut world = world(3, check, |_, share| Ok(if share > 0.002 { 1.5 } else { 4.0 }));
    let (reason, _) = rolled_back(&mut world, 100.0);
    assert!(
        reason.starts_with("rolled back: check \"db-load\": 1.5 is below 2; canary "),
        "{reason}"
    );
}

#[test]
fn one_odd_sample_holds_and_no_more() {
    let mut world = world(4, load(), |t, _| {
        Ok(if (30.0..40.0).contains(&t) { 0.93 } else { 0.5 })
    });
    let step = reach(&mut world, Phase::Holding, 60.0);
    assert_eq!(
        step.why,
        "check \"db-load\": 0.93 is above 0.8 (1 of the 3 in a row that roll back); the weight stays until it is at \
         most 0.8"
    );
    assert!(step.status.checks[0].breach);
    let weight = world.table.split;
    let step = reach(&mut world, Phase::Shifting, 60.0);
    assert!(step.why.starts_with("goes on: "), "{}", step.why);
    assert_eq!(world.table.split, weight);
    reach(&mut world, Phase::Succeeded, 600.0);
    assert_eq!(holds(&world).len(), 1);
}

#[test]
fn before_the_first_answer_nothing_rises() {
    let mut world = world(5, load(), |t, _| if t < 50.0 { Err("") } else { Ok(0.5) });
    let step = until(&mut world, 45.0);
    assert_eq!(step.status.phase, Phase::Holding);
    assert_eq!(
        step.why,
        "check \"db-load\" has no data: it has not answered yet; the weight stays until it answers"
    );
    assert!(world.history.iter().filter(|d| d.to == Phase::Shifting).count() == 1);
    reach(&mut world, Phase::Succeeded, 600.0);
}

#[test]
fn without_a_number_it_holds_as_long_as_that_lasts() {
    let mut world = world(6, load(), |t, _| {
        if t < 20.0 {
            Ok(0.5)
        } else {
            Err("the connection was refused")
        }
    });
    until(&mut world, 35.0);
    let weight = world.table.split;
    let step = until(&mut world, 400.0);
    assert_eq!((step.status.phase, world.table.split), (Phase::Holding, weight));
    assert_eq!(
        step.why,
        "check \"db-load\" has no data: the connection was refused; the weight stays until it answers"
    );
    assert_eq!(
        step.status.checks[0].missing.as_deref(),
        Some("the connection was refused")
    );
    world.gauge = |_, _| Ok(0.5);
    reach(&mut world, Phase::Succeeded, 900.0);
    let by_check = holds(&world).iter().filter(|r| r.starts_with("check ")).count();
    assert!(by_check <= 2, "again after a suspicion at most");
}

#[test]
fn an_old_answer_is_no_data() {
    let mut world = world(7, load(), |t, _| if t < 20.0 { Ok(0.5) } else { Err("") });
    let step = until(&mut world, 65.0);
    assert_ne!(step.status.phase, Phase::Holding, "{}", step.why);
    let step = until(&mut world, 85.0);
    assert_eq!(step.status.phase, Phase::Holding);
    assert!(
        step.why
            .starts_with("check \"db-load\" has no data: its last answer is "),
        "{}",
        step.why
    );
}

#[test]
fn nan_is_no_data_and_infinity_is_beyond_every_limit() {
    let mut silent = world(8, load(), |_, _| Ok(f64::NAN));
    let step = until(&mut silent, 30.0);
    assert!(step.why.contains("no data: the value is NaN"), "{}", step.why);
    let mut endless = world(8, load(), |_, _| Ok(f64::INFINITY));
    let (reason, _) = rolled_back(&mut endless, 60.0);
    assert!(reason.contains("+Inf is above 0.8, 3 times in a row"), "{reason}");
}

#[test]
fn silence_that_is_ignored_stops_nothing_and_hides_no_breach() {
    let check = Check {
        no_data: NoData::Ignore,
        ..load()
    };
    let mut deaf = world(9, check.clone(), |_, _| Err("the query found nothing"));
    reach(&mut deaf, Phase::Succeeded, 600.0);
    assert_eq!(holds(&deaf), [""; 0]);
    let mut worse = world(9, check, |t, _| if t < 15.0 { Ok(0.93) } else { Err("cut") });
    let step = until(&mut worse, 40.0);
    assert_eq!(step.status.phase, Phase::Holding);
    assert!(step.why.contains("0.93 is above 0.8"), "{}", step.why);
    reach(&mut worse, Phase::Succeeded, 600.0);
}

#[test]
fn no_number_breaks_no_series() {
    let mut world = world(10, load(), |t, _| {
        if ((t / 10.0) as u64).is_multiple_of(2) {
            Ok(0.93)
        } else {
            Err("cut")
        }
    });
    let (reason, _) = rolled_back(&mut world, 100.0);
    assert!(reason.contains("3 times in a row"), "{reason}");
}

#[test]
fn silence_that_rolls_back_waits_for_its_patience_and_holds_before() {
    let check = Check {
        no_data: NoData::Rollback,
        patience: Span::seconds(40),
        ..load()
    };
    let gauge: Gauge = |t, _| if t < 20.0 { Ok(0.5) } else { Err("two samples") };
    let mut ends = world(11, check.clone(), gauge);
    let step = until(&mut ends, 35.0);
    assert_eq!(step.status.phase, Phase::Holding);
    assert!(
        step.why
            .ends_with("the weight stays until it answers, and goes back after 40s"),
        "{}",
        step.why
    );
    let (reason, at) = rolled_back(&mut ends, 100.0);
    assert!(
        reason.starts_with("rolled back: check \"db-load\": no data for 40 s (two samples); canary "),
        "{reason}"
    );
    assert!((60.0..72.0).contains(&at), "{at}");
    let mut never = world(12, check.clone(), |_, _| Err("refused"));
    let (_, at) = rolled_back(&mut never, 100.0);
    assert!((39.0..50.0).contains(&at), "{at}");
    let mut short = world(13, check, |t, _| {
        if (20.0..45.0).contains(&t) {
            Err("cut")
        } else {
            Ok(0.5)
        }
    });
    reach(&mut short, Phase::Succeeded, 600.0);
}

#[test]
fn a_controller_that_was_away_asks_before_it_blames_the_silence() {
    let check = Check {
        no_data: NoData::Rollback,
        ..load()
    };
    let mut world = world(14, check, |_, _| Ok(0.5));
    until(&mut world, 30.0);
    for _ in 0..400 {
        world.flow(250);
    }
    let step = turn(&mut world);
    assert!(step.actions.contains(&Action::Measure(vec![0])));
    assert_eq!(step.status.phase, Phase::Holding, "{}", step.why);
    reach(&mut world, Phase::Succeeded, 900.0);
}

fn order(command: Command) -> Order {
    Order {
        command,
        who: "anna".into(),
        why: None,
    }
}

#[test]
fn a_breach_in_a_pause_still_rolls_back() {
    let mut world = world(15, load(), |t, _| Ok(if t > 30.0 { 0.93 } else { 0.5 }));
    until(&mut world, 20.0);
    world.orders.push(order(Command::Pause));
    assert_eq!(turn(&mut world).status.phase, Phase::Paused);
    let (reason, _) = rolled_back(&mut world, 100.0);
    assert!(reason.contains("3 times in a row"), "{reason}");
}

#[test]
fn at_weight_0_nobody_can_have_done_it() {
    let mut world = world(16, load(), |t, _| Ok(if t > 30.0 { 0.93 } else { 0.5 }));
    until(&mut world, 20.0);
    world.orders.push(order(Command::Weight(contract::Split::NONE)));
    let step = until(&mut world, 200.0);
    assert_eq!(step.status.phase, Phase::Paused);
    world.orders.push(order(Command::Resume));
    let step = turn(&mut world);
    assert_ne!(
        step.status.phase,
        Phase::RollingBack,
        "the series begins with the weight: {}",
        step.why
    );
}

#[test]
fn the_watch_is_checked_too() {
    let late: Gauge = |_, share| Ok(if share > 0.9 { 0.93 } else { 0.5 });
    let mut worse = world(17, load(), late);
    reach(&mut worse, Phase::Watching, 600.0);
    let (reason, _) = rolled_back(&mut worse, 900.0);
    assert!(reason.contains("3 times in a row"), "{reason}");
    let mut silent = world(
        17,
        load(),
        |_, share| if share > 0.9 { Err("cut") } else { Ok(0.5) },
    );
    reach(&mut silent, Phase::Watching, 600.0);
    let end = silent.elapsed() + 200.0;
    let step = until(&mut silent, end);
    assert_eq!(step.status.phase, Phase::Watching);
    assert!(
        step.why
            .starts_with("watching, and waiting: check \"db-load\" has no data: cut"),
        "{}",
        step.why
    );
}

#[test]
fn what_a_person_promotes_is_not_checked() {
    let mut world = world(18, load(), |_, _| Ok(0.93));
    until(&mut world, 5.0);
    world.orders.push(order(Command::Promote));
    reach(&mut world, Phase::Succeeded, 60.0);
}

#[test]
fn while_stable_is_degraded_nobody_is_blamed() {
    let both: world::Rate = |t| if (20.0..120.0).contains(&t) { 0.2 } else { 0.001 };
    let nature = Nature {
        stable: both,
        canary: both,
        ..healthy()
    };
    let start = |gauge: Gauge| {
        let mut world = World::new(19, nature.clone(), policy(load()));
        world.gauge = gauge;
        world
    };
    let mut recovers = start(|t, _| Ok(if (35.0..120.0).contains(&t) { 0.93 } else { 0.5 }));
    let step = until(&mut recovers, 115.0);
    assert!(step.why.starts_with("baseline degraded"), "{}", step.why);
    let shown = &step.status.checks[0];
    assert!(
        shown.breach && shown.breaches == 0,
        "shown, and not counted: {shown:?}"
    );
    reach(&mut recovers, Phase::Succeeded, 900.0);
    let mut stays = start(|t, _| Ok(if t > 35.0 { 0.93 } else { 0.5 }));
    let (reason, at) = rolled_back(&mut stays, 300.0);
    assert!(
        at > 140.0 && reason.contains("3 times in a row"),
        "{at} s: {reason}"
    );
}

#[test]
fn evidence_never_waits_for_a_check() {
    for gauge in [|_, _| Err(""), |_, _| Ok(0.93), |_, _| Ok(0.5)] as [Gauge; 3] {
        let nature = Nature {
            canary: |_| 0.5,
            ..healthy()
        };
        let mut world = World::new(20, nature.clone(), policy(load()));
        world.gauge = gauge;
        let (reason, at) = rolled_back(&mut world, 60.0);
        assert!(reason.starts_with("rolled back: canary "), "{reason}");
        let mut alone = World::new(20, nature, policy(load()));
        alone.plan.policy.judgement.checks.clear();
        assert_eq!(rolled_back(&mut alone, 60.0).1, at);
    }
}

#[test]
fn at_the_deadline_the_check_is_named() {
    let mut world = world(21, load(), |_, _| Err("cut"));
    world.plan.policy.deadline = Span::seconds(60);
    let step = reach(&mut world, Phase::Undecided, 100.0);
    assert!(
        step.why
            .starts_with("no verdict within 1m: check \"db-load\" has no data: cut"),
        "{}",
        step.why
    );
    world.gauge = |_, _| Ok(0.5);
    world.orders.push(order(Command::Resume));
    reach(&mut world, Phase::Shifting, 130.0);
}

#[test]
fn a_policy_may_be_edited_in_the_middle() {
    let mut world = world(22, load(), |_, _| Ok(0.93));
    until(&mut world, 15.0);
    let other = Check {
        max: Some(2.0),
        ..named("other")
    };
    world.plan = Plan::of(&world::entry(policy(other.clone()))).unwrap();
    let step = until(&mut world, 18.0);
    assert_eq!(step.status.checks.len(), 1);
    assert_eq!(step.status.checks[0].value, Some(Amount(0.93)));
    let mut both = policy(other);
    both.judgement.checks.push(load());
    world.plan = Plan::of(&world::entry(both)).unwrap();
    let (reason, _) = rolled_back(&mut world, 80.0);
    assert!(
        reason.contains("\"db-load\"") && reason.contains("3 times"),
        "{reason}"
    );
}

#[test]
fn an_answer_counts_once_however_often_it_is_told() {
    let mut world = world(23, load(), |_, _| Ok(0.93));
    loop {
        world.flow(250);
        let seen = world.observe();
        let first = step(&world.plan, world.state.clone(), &seen);
        let again = step(&world.plan, first.state.clone(), &seen);
        world.act(&first.actions);
        world.state = again.state;
        if let Some(at) = again.status.checks.first().map(|c| c.breaches).filter(|n| *n > 1) {
            assert_eq!(at, 2);
            assert!(world.elapsed() > 10.0);
            break;
        }
    }
}

#[test]
fn a_new_run_begins_without_a_past() {
    let mut world = world(24, load(), |_, _| Ok(0.93));
    let (_, at) = rolled_back(&mut world, 60.0);
    reach(&mut world, Phase::RolledBack, at + 10.0);
    world.orders.push(order(Command::Retry));
    let began = world.elapsed();
    reach(&mut world, Phase::Holding, began + 10.0);
    let (_, at) = rolled_back(&mut world, began + 60.0);
    assert!(at - began > 20.0, "three answers again");
}

#[test]
fn a_check_asks_at_its_interval_and_only_during_a_trial() {
    let mut world = world(25, load(), |_, _| Ok(0.5));
    let mut asked = Vec::new();
    while world.state.phase() != Phase::Succeeded {
        let done = turn(&mut world);
        if done.actions.contains(&Action::Measure(vec![0])) {
            assert!(!done.status.phase.is_final() && done.status.phase != Phase::Starting);
            asked.push(world.elapsed());
        }
    }
    assert!(asked.len() > 10);
    assert!(
        asked.windows(2).all(|w| (9.9..10.6).contains(&(w[1] - w[0]))),
        "{asked:?}"
    );
}

/// A turn that may be cut off between any two acts: then the answers that it saw are lost.
fn risky_turn(world: &mut World) -> Phase {
    world.flow(250);
    let seen = world.observe();
    let done = step(&world.plan, world.state.clone(), &seen);
    if world.chance(0.25) {
        let lived = usize::from(world.chance(0.5)) + usize::from(world.chance(0.5));
        world.act(&done.actions[..lived.min(done.actions.len())]);
    } else {
        world.act(&done.actions);
        world.state = done.state;
    }
    world.state.phase()
}

#[test]
fn cut_off_between_any_two_acts_it_ends_the_same() {
    let late: Gauge = |t, _| Ok(if t > 30.0 { 0.93 } else { 0.5 });
    let kept: Gauge = |_, _| Ok(0.5);
    for (gauge, expected) in [(late, Phase::RolledBack), (kept, Phase::Succeeded)] {
        for seed in 0..6 {
            let mut world = world(seed, load(), gauge);
            while risky_turn(&mut world) != expected {
                assert!(world.elapsed() < 900.0, "{:#?}", world.history.last());
            }
            let backs = world
                .history
                .iter()
                .filter(|d| d.to == Phase::RollingBack)
                .count();
            assert_eq!(backs, usize::from(expected == Phase::RolledBack));
        }
    }
}
