//! Whole releases in virtual time, over seeded worlds, cut off between any two acts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod world;

use contract::{
    Span, Split,
    names::CONTROLLER,
    policy::Policy,
    release::{Command, Decision, Phase},
};
use engine::{Action, Found, Observation, Order, State, Step, mended, replay, step};
use world::{Nature, World};

const SEEDS: u64 = 12;
/// Most bytes of a saved state, decisions apart.
const STATE_BYTES: usize = 4096;

/// How often a turn is cut off.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Crash {
    Never,
    OneInFour,
    OneInFifty,
}

impl Crash {
    fn chance(self) -> f64 {
        match self {
            Crash::Never => 0.0,
            Crash::OneInFour => 0.25,
            Crash::OneInFifty => 0.02,
        }
    }
}

fn healthy() -> Nature {
    Nature {
        rps: 200.0,
        stable: |_| 0.001,
        canary: |_| 0.001,
        slow: 0.01,
        delay: [world::usual; 2],
        silence: None,
        restart: None,
    }
}

/// Short enough to run many, long enough that every phase lasts.
fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.pacing.soak = Span::seconds(60);
    policy.promotion.watch = Span::seconds(60);
    policy.verify.smoke = vec![contract::policy::Smoke {
        path: "/healthz".into(),
        status: 200,
    }];
    policy
}

/// Takes a turn, or a part of it: then the state is not saved and the orders are not answered.
fn turn(world: &mut World, crash: Crash) -> Option<Step> {
    let seen = world.observe();
    let done = step(&world.plan, world.state.clone(), &seen);
    check(world, &seen, &done);
    if world.chance(crash.chance()) {
        let lived = (world.chance(0.5) as usize + world.chance(0.5) as usize).min(done.actions.len());
        world.act(&done.actions[..lived]);
        world.orders = seen.orders;
        if lived == done.actions.len() {
            world.log.extend(done.journal);
        }
        return None;
    }
    world.act(&done.actions);
    world.log.extend(done.journal.iter().cloned());
    let saved = serde_json::to_string(&done.state).unwrap();
    let evidence: usize = saved.len() - serde_json::to_string(&done.status.decisions).unwrap().len();
    assert!(
        evidence < STATE_BYTES,
        "state without decisions has {evidence} bytes"
    );
    world.state = serde_json::from_str(&saved).unwrap();
    assert_eq!(world.state, done.state, "what is read back is what was saved");
    Some(done)
}

/// What holds for every step.
fn check(world: &World, seen: &Observation, step: &Step) {
    for (i, action) in step.actions.iter().enumerate() {
        match action {
            Action::SetSplit { split, force, .. } => {
                assert_eq!(i, 0, "the weight comes first");
                if split.exceeds(world.table.split) {
                    assert!(!force, "increases never force");
                    assert!(
                        !world.is_silent() && seen.table.is_some(),
                        "raised on missing data"
                    );
                    assert!(world.state.phase() != Phase::Starting || split.share() <= 0.5);
                } else {
                    assert!(force, "falls ask nobody");
                }
            }
            Action::Record(d) if d.decision.to == Phase::RollingBack => {
                let at_zero = world.table.split.is_none();
                let first = matches!(&step.actions[0], Action::SetSplit { split, .. } if split.is_none());
                assert!(
                    at_zero || first || world.is_silent(),
                    "weight 0 is the first act of a rollback"
                );
            }
            _ => {}
        }
    }
    assert!(!step.why.is_empty());
    let weightless = matches!(
        step.status.phase,
        Phase::Starting | Phase::Verifying | Phase::RollingBack | Phase::RolledBack
    );
    assert!(
        !weightless || step.status.wanted.is_none(),
        "{} wants {}",
        step.status.phase,
        step.status.wanted
    );
}

/// Runs to the end or to the limit; quarter seconds, as the controller polls.
fn run(world: &mut World, crash: Crash, limit: f64) -> Phase {
    while world.elapsed() < limit {
        world.flow(250);
        if turn(world, crash).is_some_and(|s| s.status.phase.is_final() && s.status.phase != Phase::Idle) {
            // Once more, for what was left to assert.
            turn(world, Crash::Never);
            turn(world, Crash::Never);
            break;
        }
    }
    check_history(world);
    check_log(world);
    world.state.phase()
}

/// Every decision comes out of the log again, wherever turns were cut off.
fn check_log(world: &World) {
    let log = mended(world.log.iter().cloned());
    let found = replay(&log);
    let decided = found.iter().map(|r| r.decision.number).max();
    assert_eq!(decided, world.history.last().map(|d| d.number));
    for r in &found {
        let same = matches!(r.found, Found::Same | Found::Nothing);
        assert!(same, "{} of {}: {:?}", r.decision.number, found.len(), r.found);
    }
    let fell = found.iter().find(|r| r.decision.to == Phase::RollingBack);
    if let Some(certain) = fell.and_then(|r| r.certain) {
        assert_eq!(fell.map(|r| r.events), Some(certain));
    }
}

/// Nothing is on record twice, nothing is missing, and what was rolled back got no traffic again.
fn check_history(world: &World) {
    let numbers: Vec<u64> = world.history.iter().map(|d| d.number).collect();
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "{:#?}", world.history);
    check_ramp(world);
    let by_people = world.history.iter().any(|d| d.by != CONTROLLER);
    for to in [Phase::RolledBack, Phase::Succeeded] {
        let times = world
            .history
            .iter()
            .filter(|d| d.to == to && d.version == "v2")
            .count();
        assert!(by_people || times <= 1);
    }
    if let Some(at) = world.history.iter().position(|d| d.to == Phase::RollingBack) {
        assert!(by_people || world.history[at..].iter().all(|d| d.weight.is_none()));
    }
}

/// Steps of at least half as much again, at least five seconds apart.
fn check_ramp(world: &World) {
    let mut ramp: Vec<_> = world
        .history
        .iter()
        .filter(|d| d.to == Phase::Shifting && d.by == CONTROLLER)
        .collect();
    ramp.dedup_by_key(|d| d.weight);
    // A weight that first stands in a record "goes on" was set earlier, in a turn whose own record was lost.
    let known = |p: &&[&Decision]| p[1].from == Phase::Shifting && p[0].from != Phase::Holding;
    for pair in ramp.windows(2).filter(known) {
        assert!(
            pair[1].weight.share() >= 1.498 * pair[0].weight.share(),
            "{:#?}",
            pair[1]
        );
        assert!(pair[1].at - pair[0].at >= 5.0, "{:#?}", pair[1]);
    }
}

fn everywhere(nature: impl Fn() -> Nature, limit: f64, look: impl Fn(&World, Phase, Crash)) {
    for crash in [Crash::Never, Crash::OneInFour, Crash::OneInFifty] {
        for seed in 0..SEEDS {
            let mut world = World::new(seed, nature(), policy());
            let phase = run(&mut world, crash, limit);
            look(&world, phase, crash);
        }
    }
}

fn ends(nature: impl Fn() -> Nature, limit: f64, expected: Phase) {
    everywhere(nature, limit, |world, phase, crash| {
        assert_eq!(phase, expected, "{crash:?}: {:#?}", world.history.last());
        let full = if phase == Phase::Succeeded { 1.0 } else { 0.0 };
        assert_eq!(world.table.split.share(), full, "{crash:?}");
    });
}

#[test]
fn a_healthy_canary_is_promoted() {
    ends(healthy, 1500.0, Phase::Succeeded);
}

#[test]
fn one_percent_is_rolled_back() {
    ends(
        || Nature {
            canary: |_| 0.01,
            ..healthy()
        },
        1500.0,
        Phase::RolledBack,
    );
}

#[test]
fn five_percent_are_rolled_back() {
    ends(
        || Nature {
            canary: |_| 0.05,
            ..healthy()
        },
        600.0,
        Phase::RolledBack,
    );
}

#[test]
fn half_and_all_are_rolled_back_within_seconds_of_traffic() {
    for canary in [|_: f64| 0.5, |_: f64| 1.0] as [world::Rate; 2] {
        everywhere(
            || Nature { canary, ..healthy() },
            60.0,
            |world, phase, crash| {
                assert_eq!(phase, Phase::RolledBack, "{crash:?}");
                assert!(world.harm < 80, "{} bad requests", world.harm);
            },
        );
    }
}

#[test]
fn a_fault_that_starts_late_is_rolled_back_also_in_the_watch() {
    ends(
        || Nature {
            canary: |t| if t > 30.0 { 0.5 } else { 0.001 },
            ..healthy()
        },
        600.0,
        Phase::RolledBack,
    );
    ends(
        || Nature {
            canary: |t| if t > 100.0 { 0.5 } else { 0.001 },
            ..healthy()
        },
        600.0,
        Phase::RolledBack,
    );
}

#[test]
fn both_bad_blames_nobody_and_goes_on_when_stable_recovers() {
    let both: world::Rate = |t| if (20.0..200.0).contains(&t) { 0.2 } else { 0.001 };
    for seed in 0..SEEDS {
        let mut world = World::new(
            seed,
            Nature {
                stable: both,
                canary: both,
                ..healthy()
            },
            policy(),
        );
        let mut degraded = 0;
        let mut weight = None;
        while world.elapsed() < 200.0 {
            world.flow(250);
            let Some(step) = turn(&mut world, Crash::OneInFifty) else {
                continue;
            };
            if world.elapsed() > 35.0 {
                assert!(
                    step.why.starts_with("baseline degraded: stable itself "),
                    "{}",
                    step.why
                );
                assert_eq!(step.status.phase, Phase::Holding);
                assert_eq!(*weight.get_or_insert(step.status.wanted), step.status.wanted);
                degraded += 1;
            }
        }
        assert!(degraded > 500);
        assert_eq!(run(&mut world, Crash::OneInFifty, 1500.0), Phase::Succeeded);
    }
}

#[test]
fn a_canary_worse_than_a_degraded_stable_is_still_rolled_back() {
    let nature = Nature {
        stable: |t| if t > 20.0 { 0.2 } else { 0.001 },
        canary: |t| if t > 20.0 { 0.9 } else { 0.001 },
        ..healthy()
    };
    ends(|| nature.clone(), 600.0, Phase::RolledBack);
}

#[test]
fn no_traffic_is_no_verdict() {
    everywhere(
        || Nature {
            rps: 0.0,
            ..healthy()
        },
        900.0,
        |world, phase, _| {
            assert_eq!(phase, Phase::Shifting);
            assert_eq!(world.top, 0.001, "least weight, never more");
        },
    );
}

#[test]
fn the_seldom_asked_canary_that_fails_everything_is_found() {
    let mut harm = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(
            seed,
            Nature {
                rps: 0.2,
                canary: |_| 1.0,
                ..healthy()
            },
            policy(),
        );
        assert_eq!(run(&mut world, Crash::OneInFifty, 3600.0), Phase::RolledBack);
        harm += world.harm;
    }
    assert!(harm <= 10 * SEEDS, "{harm} bad requests in {SEEDS} releases");
}

#[test]
fn a_telemetry_gap_holds_and_counts_nowhere() {
    let nature = || Nature {
        silence: Some((40.0, 200.0)),
        ..healthy()
    };
    for seed in 0..SEEDS {
        let mut world = World::new(seed, nature(), policy());
        let mut seen = None;
        while world.elapsed() < 199.0 {
            world.flow(250);
            let Some(step) = turn(&mut world, Crash::OneInFifty) else {
                continue;
            };
            if world.elapsed() > 45.0 {
                assert_eq!(step.status.phase, Phase::Holding, "{}", step.why);
                assert!(
                    step.why.starts_with("no evidence: nothing heard from proxy p"),
                    "{}",
                    step.why
                );
                let figures = step.status.figures;
                assert_eq!(*seen.get_or_insert(figures), figures);
            }
        }
        assert_eq!(run(&mut world, Crash::OneInFifty, 1500.0), Phase::Succeeded);
        assert!(world.elapsed() > 280.0, "the gap of 160 s is no soak");
    }
}

#[test]
fn a_restarted_proxy_gets_its_weight_again() {
    ends(
        || Nature {
            restart: Some(40.0),
            ..healthy()
        },
        1500.0,
        Phase::Succeeded,
    );
    ends(
        || Nature {
            restart: Some(10.0),
            canary: |_| 0.02,
            ..healthy()
        },
        1500.0,
        Phase::RolledBack,
    );
}

#[test]
fn a_controller_that_was_away_for_long_goes_on() {
    let mut world = World::new(3, healthy(), policy());
    for _ in 0..160 {
        world.flow(250);
        turn(&mut world, Crash::Never);
    }
    let weight = world.table.split;
    for _ in 0..1200 {
        world.flow(250);
    }
    let before = world.elapsed();
    let step = turn(&mut world, Crash::Never).unwrap();
    assert!(
        matches!(step.status.phase, Phase::Shifting | Phase::Promoting),
        "two minutes of the ring may suffice"
    );
    assert!(!weight.is_none() && step.status.wanted.share() >= weight.share());
    assert_eq!(run(&mut world, Crash::Never, before + 600.0), Phase::Succeeded);
}

fn order(command: Command) -> Order {
    Order {
        command,
        who: "anna".into(),
        why: Some("on call".into()),
    }
}

fn after(seconds: f64, seed: u64, nature: Nature) -> World {
    let mut world = World::new(seed, nature, policy());
    while world.elapsed() < seconds {
        world.flow(250);
        turn(&mut world, Crash::Never);
    }
    world
}

#[test]
fn a_persons_weight_pauses_with_the_name_and_worse_still_rolls_back() {
    let bad: world::Rate = |t| if t > 60.0 { 0.5 } else { 0.001 };
    let mut world = after(
        20.0,
        1,
        Nature {
            canary: bad,
            ..healthy()
        },
    );
    world.put(Split::parse("7", None, "").unwrap(), Some("anna"));
    world.flow(250);
    let step = turn(&mut world, Crash::Never).unwrap();
    assert_eq!(step.status.phase, Phase::Paused);
    assert!(step.why.contains("set to 7 % by anna"), "{}", step.why);
    assert_eq!(step.status.decisions.last().unwrap().by, "anna");
    while world.elapsed() < 59.0 {
        world.flow(250);
        turn(&mut world, Crash::OneInFifty);
        assert_eq!(world.table.split.weight(), "7");
    }
    assert_eq!(run(&mut world, Crash::OneInFifty, 90.0), Phase::RolledBack);
}

#[test]
fn orders_are_honoured_in_turn() {
    let mut world = after(20.0, 2, healthy());
    let say = |world: &mut World, command: Command| {
        world.orders.push(order(command));
        world.flow(250);
        let step = turn(world, Crash::Never).unwrap();
        (step.status.phase, step.answers)
    };
    let accepted = |phase| (phase, vec![Ok(())]);
    assert_eq!(say(&mut world, Command::Pause), accepted(Phase::Paused));
    assert!(say(&mut world, Command::Pause).1[0].is_err());
    assert_eq!(say(&mut world, Command::Resume), accepted(Phase::Shifting));
    assert_eq!(say(&mut world, Command::Abort), accepted(Phase::RollingBack));
    assert_eq!(run(&mut world, Crash::Never, 60.0), Phase::RolledBack);
    assert!(say(&mut world, Command::Resume).1[0].is_err());
    assert_eq!(say(&mut world, Command::Promote), accepted(Phase::Promoting));
    world.flow(250);
    assert_eq!(
        turn(&mut world, Crash::Never).unwrap().status.phase,
        Phase::Succeeded
    );
    assert_eq!(world.table.split, Split::ALL);
    assert_eq!(say(&mut world, Command::Abort), accepted(Phase::RollingBack));
    assert!(world.table.split.is_none());
    assert_eq!(run(&mut world, Crash::Never, 90.0), Phase::RolledBack);
    let weight = Split::parse("3", None, "").unwrap();
    world.flow(250);
    turn(&mut world, Crash::Never);
    assert_eq!(say(&mut world, Command::Weight(weight)), accepted(Phase::Paused));
    assert_eq!(world.table.split, weight);
    assert_eq!(say(&mut world, Command::Resume).0, Phase::Starting);
    assert!(
        world.table.split.is_none(),
        "an unverified canary starts at weight 0"
    );
}

#[test]
fn a_failed_version_starts_nothing_until_a_retry_with_half_the_risk() {
    let mut world = after(
        0.0,
        5,
        Nature {
            canary: |t| if t < 40.0 { 0.5 } else { 0.001 },
            ..healthy()
        },
    );
    assert_eq!(run(&mut world, Crash::Never, 50.0), Phase::RolledBack);
    let first = world.state.clone();
    for _ in 0..200 {
        world.flow(250);
        let step = turn(&mut world, Crash::Never).unwrap();
        assert_eq!(
            (step.status.phase, step.status.wanted),
            (Phase::RolledBack, Split::NONE)
        );
    }
    // The state is lost, the history is not.
    world.state = State::recovered(world.history.clone(), "state was lost");
    world.flow(250);
    assert_eq!(
        turn(&mut world, Crash::Never).unwrap().status.phase,
        Phase::RolledBack
    );
    world.state = first;
    world.orders.push(order(Command::Retry));
    world.flow(250);
    assert_eq!(
        turn(&mut world, Crash::Never).unwrap().status.phase,
        Phase::Starting
    );
    while world.state.phase() != Phase::Shifting {
        world.flow(250);
        turn(&mut world, Crash::Never);
    }
    let figures = turn(&mut world, Crash::Never).unwrap().status.figures;
    assert!(
        (figures.rollback_at - 200f64.ln()).abs() < 1e-9 && (figures.promote_at - 40f64.ln()).abs() < 1e-9
    );
    assert_eq!(run(&mut world, Crash::OneInFifty, 2000.0), Phase::Succeeded);
}

#[test]
fn a_second_version_midway_starts_at_weight_0_without_the_old_evidence() {
    let mut world = after(40.0, 6, healthy());
    assert!(!world.table.split.is_none());
    let mut entry = world::entry(policy());
    entry.canary.version = "v3".into();
    world.plan = engine::Plan::of(&entry).unwrap();
    world.flow(250);
    let step = turn(&mut world, Crash::Never).unwrap();
    assert!(matches!(&step.actions[0], Action::SetSplit { split, force: true, .. } if split.is_none()));
    assert_eq!(
        (step.status.phase, step.status.figures.canary.requests),
        (Phase::Starting, 0)
    );
    assert_eq!(run(&mut world, Crash::OneInFour, 1500.0), Phase::Succeeded);

    entry.canary.endpoints.clear();
    world.plan = engine::Plan::of(&entry).unwrap();
    world.flow(250);
    let step = turn(&mut world, Crash::Never).unwrap();
    assert_eq!(step.status.phase, Phase::Idle);
    assert!(
        world.table.split.is_none(),
        "without a canary all traffic goes home"
    );
}

#[test]
fn returning_to_a_promoted_version_starts_nothing() {
    let mut world = after(0.0, 7, healthy());
    assert_eq!(run(&mut world, Crash::Never, 1500.0), Phase::Succeeded);
    let promoted = world.plan.clone();
    // The state is lost: what serves everybody goes on serving.
    let kept = std::mem::replace(
        &mut world.state,
        State::recovered(world.history.clone(), "state was lost"),
    );
    world.flow(250);
    let step = turn(&mut world, Crash::Never).unwrap();
    assert_eq!(
        (step.status.phase, world.table.split),
        (Phase::Succeeded, Split::ALL)
    );
    world.state = kept;
    let mut entry = world::entry(policy());
    entry.canary.endpoints.clear();
    world.plan = engine::Plan::of(&entry).unwrap();
    for _ in 0..8 {
        world.flow(250);
        turn(&mut world, Crash::Never);
    }
    world.plan = promoted;
    for _ in 0..8 {
        world.flow(250);
        let step = turn(&mut world, Crash::Never).unwrap();
        assert_eq!(
            (step.status.phase, step.status.wanted),
            (Phase::Idle, Split::NONE)
        );
        assert!(step.why.contains("promoted before"), "{}", step.why);
    }
}

#[test]
fn a_turn_cut_off_after_weight_0_is_never_taken_back() {
    let mut world = after(30.0, 8, healthy());
    // An abort whose record was lost: the weight fell, nothing else happened, and the ring has nothing to say.
    world.put(Split::NONE, Some(CONTROLLER));
    for _ in 0..20 {
        world.flow(250);
        let step = turn(&mut world, Crash::Never).unwrap();
        assert!(step.status.wanted.is_none(), "{}", step.why);
    }
    assert_eq!(world.state.phase(), Phase::RolledBack);
}

#[test]
fn a_pause_outlasts_any_deadline_and_a_deadline_ends_undecided() {
    let mut policy = policy();
    policy.deadline = Span::seconds(90);
    policy.pacing.max_weight = 1.0;
    let mut world = World::new(
        9,
        Nature {
            rps: 20.0,
            ..healthy()
        },
        policy,
    );
    while world.elapsed() < 30.0 {
        world.flow(250);
        turn(&mut world, Crash::Never);
    }
    world.orders.push(order(Command::Pause));
    while world.elapsed() < 600.0 {
        world.flow(250);
        turn(&mut world, Crash::Never);
    }
    assert_eq!(world.state.phase(), Phase::Paused);
    world.orders.push(order(Command::Resume));
    while world.elapsed() < 750.0 {
        world.flow(250);
        turn(&mut world, Crash::Never);
    }
    assert_eq!(world.state.phase(), Phase::Undecided);
    assert!(!world.table.split.is_none());
}

#[test]
fn plain_steps_are_walked_in_order_and_pause_for_a_person() {
    let mut policy = policy();
    let step = |weight, hold, pause| contract::policy::Step {
        weight,
        hold: Span::seconds(hold),
        pause,
    };
    policy.pacing.steps = vec![step(1.0, 10, false), step(5.0, 10, true), step(30.0, 20, false)];
    let mut world = World::new(10, healthy(), policy);
    let mut weights = vec![0.0];
    while world.elapsed() < 400.0 && world.state.phase() != Phase::Promoting {
        world.flow(250);
        if world.state.phase() == Phase::Paused {
            world.orders.push(order(Command::Resume));
        }
        turn(&mut world, Crash::Never);
        let now = world.table.split.percent();
        if weights.last() != Some(&now) {
            weights.push(now);
        }
    }
    assert_eq!(weights, [0.0, 1.0, 5.0, 30.0, 95.0]);
    assert!(
        world
            .history
            .iter()
            .any(|d| d.to == Phase::Paused && d.reason.contains("step 2 at 5 %"))
    );
}

#[test]
fn the_deadline_does_what_the_policy_says() {
    use contract::policy::Undecided;
    for (choice, expected) in [
        (Undecided::Hold, Phase::Undecided),
        (Undecided::Rollback, Phase::RolledBack),
        (Undecided::Promote, Phase::Succeeded),
    ] {
        let mut policy = policy();
        policy.deadline = Span::seconds(60);
        policy.pacing.max_weight = 1.0;
        policy.undecided = choice;
        let mut world = World::new(
            11,
            Nature {
                rps: 20.0,
                ..healthy()
            },
            policy,
        );
        assert_eq!(run(&mut world, Crash::OneInFifty, 300.0), expected, "{choice:?}");
    }
}

#[test]
fn a_tripped_guard_rolls_back() {
    let mut world = after(30.0, 12, healthy());
    let mut seen = world.observe();
    if let engine::Told::Page { page, .. } = &mut seen.proxies[0].told {
        page.guard = Some("19 of 20 bad within a second".into());
        page.share = 0.0;
    }
    let step = step(&world.plan, world.state.clone(), &seen);
    assert!(matches!(&step.actions[0], Action::SetSplit { split, force: true, .. } if split.is_none()));
    assert!(
        step.why
            .contains("guard cut the canary (19 of 20 bad within a second)"),
        "{}",
        step.why
    );
}

#[test]
fn a_hotfix_of_stable_restarts_the_evidence() {
    let mut world = after(40.0, 13, healthy());
    let mut entry = world::entry(policy());
    entry.stable.version = "v1.1".into();
    world.plan = engine::Plan::of(&entry).unwrap();
    world.flow(250);
    let step = turn(&mut world, Crash::Never).unwrap();
    assert!(
        world.table.split.is_none() && step.why.contains("asking") || step.why.contains("v1.1"),
        "{}",
        step.why
    );
    assert_eq!(
        (step.status.phase, step.status.figures.canary.requests),
        (Phase::Starting, 0)
    );
    assert_eq!(run(&mut world, Crash::OneInFour, 1500.0), Phase::Succeeded);
}
