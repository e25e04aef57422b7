//! Releases of workloads in virtual time: what is copied, kept, given back and scaled away, and when.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod world;

use contract::{
    Span, Split,
    policy::{At, Gate, Mode, Policy, Webhook},
    release::{Command, Phase},
};
use engine::{Hand, Order, Tracks, step};
use world::{Fleet, Nature, Pods, World};

const LIMIT: f64 = 3000.0;

fn nature(canary: world::Rate) -> Nature {
    Nature {
        rps: 200.0,
        stable: |_| 0.001,
        canary,
        slow: 0.0,
        delay: [world::usual; 2],
        silence: None,
        restart: None,
    }
}

fn good(_: f64) -> f64 {
    0.001
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.pacing.soak = Span::seconds(60);
    policy.promotion.watch = Span::seconds(60);
    policy.judgement.latency.enabled = false;
    policy
}

fn order(command: Command) -> Order {
    Order {
        command,
        who: "ann".into(),
        why: None,
    }
}

/// One turn; a part of it when it is cut off.
fn turn(world: &mut World, cut: f64) {
    world.flow(250);
    let seen = world.observe();
    let done = step(&world.plan, world.state.clone(), &seen);
    check(world, &done);
    if cut > 0.0 && world.chance(cut) {
        let lived = world.chance(0.5) as usize;
        world.act(&done.actions[..lived.min(done.actions.len())]);
        world.orders = seen.orders;
        return;
    }
    world.act(&done.actions);
    world.state = serde_json::from_str(&serde_json::to_string(&done.state).unwrap()).unwrap();
}

/// What holds in every step.
fn check(world: &World, done: &engine::Step) {
    let fleet = world.fleet.as_ref().unwrap();
    for action in &done.actions {
        match action {
            engine::Action::SetSplit {
                tracks: Tracks::Previous,
                ..
            } => {
                let previous = fleet.previous.as_ref().unwrap();
                assert!(previous.wanted > 0, "nobody is sent to pods that are going");
            }
            engine::Action::Hand(Hand::Copy) => {
                let kept = fleet.previous.as_ref().unwrap();
                assert_eq!(kept.hash, "v1", "nothing is overwritten that is not kept");
            }
            engine::Action::Hand(Hand::Restore) => {
                let previous = fleet.previous.as_ref().unwrap();
                assert!(
                    previous.wanted > 0,
                    "the old version serves while stable gets it back"
                );
                assert_eq!(world.table.tracks, Tracks::Previous);
                assert!(world.table.split.is_none());
            }
            engine::Action::Hand(Hand::Clear { .. }) => {
                assert!(world.table.split.is_none(), "pods go after the traffic");
                assert_eq!(world.table.tracks, Tracks::Usual);
            }
            _ => {}
        }
    }
}

fn until(world: &mut World, cut: f64, end: impl Fn(&World) -> bool) -> f64 {
    while world.elapsed() < LIMIT && !end(world) {
        turn(world, cut);
    }
    assert!(
        end(world),
        "at {} after {LIMIT} s: {:?}",
        world.state.phase(),
        world.history.last().map(|d| &d.reason)
    );
    world.elapsed()
}

fn is(phase: Phase) -> impl Fn(&World) -> bool {
    move |w| w.state.phase() == phase
}

fn over(world: &mut World, cut: f64) -> Phase {
    until(world, cut, |w| {
        matches!(
            w.state.phase(),
            Phase::Succeeded | Phase::RolledBack | Phase::Undecided
        )
    });
    world.state.phase()
}

fn fleet(world: &World) -> &Fleet {
    world.fleet.as_ref().unwrap()
}

#[test]
fn a_good_canary_becomes_stable_is_watched_and_goes() {
    for (seed, cut) in [(1, 0.0), (2, 0.1), (3, 0.3)] {
        let mut world = World::in_cluster(seed, nature(good), policy());
        until(&mut world, cut, is(Phase::Watching));
        assert_eq!(
            (world.table.tracks, fleet(&world).stable.hash.as_str()),
            (Tracks::Previous, "v2")
        );
        assert!(world.table.split.share() > 0.9);
        assert_eq!(over(&mut world, cut), Phase::Succeeded, "seed {seed}");
        let end = fleet(&world);
        assert_eq!(
            (world.table.split, world.table.tracks),
            (Split::NONE, Tracks::Usual)
        );
        assert_eq!(
            (end.stable.hash.as_str(), end.canary.as_ref().unwrap().wanted),
            ("v2", 0)
        );
        assert_eq!(
            (
                end.previous.as_ref().unwrap().hash.as_str(),
                end.previous.as_ref().unwrap().wanted
            ),
            ("v1", 0)
        );
        let number = world.history.len();
        (0..100).for_each(|_| turn(&mut world, 0.0));
        assert_eq!(world.history.len(), number, "nothing starts again");
    }
}

#[test]
fn a_bad_canary_goes_back_and_its_pods_go_last() {
    for cut in [0.0, 0.2] {
        let mut world = World::in_cluster(1, nature(|_| 0.5), policy());
        assert_eq!(over(&mut world, cut), Phase::RolledBack);
        let end = fleet(&world);
        assert_eq!(
            (end.stable.hash.as_str(), end.canary.as_ref().unwrap().wanted),
            ("v1", 0)
        );
        assert!(
            world
                .hands
                .iter()
                .all(|h| !matches!(h, Hand::Copy | Hand::Keep { .. }))
        );
    }
}

#[test]
fn what_turns_out_worse_in_the_watch_gives_the_old_version_back() {
    for cut in [0.0, 0.2] {
        let mut world = World::in_cluster(5, nature(good), policy());
        until(&mut world, cut, is(Phase::Watching));
        world.nature.canary = |_| 0.3;
        let began = world.elapsed();
        let fell = until(&mut world, cut, is(Phase::RollingBack));
        assert!(fell - began < 30.0, "found after {} s", fell - began);
        assert_eq!(
            (world.table.split, world.table.tracks),
            (Split::NONE, Tracks::Previous),
            "everybody is on the old version at once"
        );
        assert_eq!(over(&mut world, cut), Phase::RolledBack);
        let end = fleet(&world);
        assert_eq!((end.stable.hash.as_str(), end.stable.wanted), ("v1", 3));
        assert_eq!(
            (
                end.previous.as_ref().unwrap().wanted,
                end.canary.as_ref().unwrap().wanted
            ),
            (0, 0)
        );
        assert_eq!(
            (world.table.split, world.table.tracks),
            (Split::NONE, Tracks::Usual)
        );
    }
}

#[test]
fn a_promotion_that_gets_stuck_half_way_goes_back() {
    let mut world = World::in_cluster(6, nature(good), policy());
    world.fleet.as_mut().unwrap().only = Some("v1".into());
    assert_eq!(over(&mut world, 0.1), Phase::RolledBack);
    assert_eq!(fleet(&world).stable.hash, "v1");
    assert!(world.history.iter().any(|d| {
        d.reason
            .contains("stable does not get ready with v2: 0 of 1 new pods")
    }));
}

#[test]
fn undo_after_the_end_brings_the_old_version_back_and_a_lost_one_is_said() {
    let mut world = World::in_cluster(7, nature(good), policy());
    assert_eq!(over(&mut world, 0.0), Phase::Succeeded);
    world.orders.push(order(Command::Undo));
    turn(&mut world, 0.0);
    assert_eq!(world.state.phase(), Phase::RollingBack);
    assert_eq!(over(&mut world, 0.2), Phase::RolledBack);
    assert_eq!(fleet(&world).stable.hash, "v1");

    let mut world = World::in_cluster(7, nature(good), policy());
    assert_eq!(over(&mut world, 0.0), Phase::Succeeded);
    world.fleet.as_mut().unwrap().previous = None;
    world.orders.push(order(Command::Undo));
    let seen = world.observe();
    let done = step(&world.plan, world.state.clone(), &seen);
    assert!(
        done.answers[0]
            .as_ref()
            .unwrap_err()
            .contains("not kept any more")
    );
}

#[test]
fn abort_is_honoured_in_every_phase_of_a_promotion() {
    for cut in [0.0, 0.2] {
        for copied in [false, true] {
            let mut world = World::in_cluster(8, nature(good), policy());
            until(&mut world, 0.0, move |w| {
                w.state.phase() == Phase::Promoting && (fleet(w).stable.hash == "v2") == copied
            });
            world.orders.push(order(Command::Abort));
            assert_eq!(over(&mut world, cut), Phase::RolledBack);
            assert_eq!(fleet(&world).stable.hash, "v1");
        }
    }
}

#[test]
fn promote_by_order_copies_without_a_watch_and_keeps_the_template() {
    let mut world = World::in_cluster(9, nature(good), policy());
    until(&mut world, 0.0, is(Phase::Shifting));
    world.orders.push(order(Command::Promote));
    assert_eq!(over(&mut world, 0.2), Phase::Succeeded);
    let end = fleet(&world);
    assert_eq!(
        (
            end.stable.hash.as_str(),
            end.previous.as_ref().unwrap().hash.as_str()
        ),
        ("v2", "v1")
    );
    assert!(!world.hands.contains(&Hand::Keep { up: true }));
}

#[test]
fn a_second_version_mid_way_starts_at_the_beginning_and_one_in_the_watch_waits() {
    let mut world = World::in_cluster(10, nature(good), policy());
    until(&mut world, 0.0, is(Phase::Shifting));
    world.fleet.as_mut().unwrap().canary = Some(Pods::of("v3", 1));
    turn(&mut world, 0.0);
    assert_eq!(
        (world.table.split, world.state.phase()),
        (Split::NONE, Phase::Starting)
    );
    until(&mut world, 0.0, is(Phase::Watching));
    assert_eq!(fleet(&world).stable.hash, "v3");
    world.fleet.as_mut().unwrap().canary = Some(Pods::of("v4", 1));
    until(&mut world, 0.0, is(Phase::Succeeded));
    assert_eq!(
        (
            fleet(&world).stable.hash.as_str(),
            fleet(&world).canary.as_ref().unwrap().wanted
        ),
        ("v3", 1)
    );
    until(&mut world, 0.0, is(Phase::Starting));
    assert_eq!(world.history.last().unwrap().version, "v4");
}

#[test]
fn a_second_version_in_the_middle_of_a_promotion_is_shown_to_nobody() {
    let mut world = World::in_cluster(18, nature(good), policy());
    until(&mut world, 0.0, |w| {
        w.state.phase() == Phase::Promoting && fleet(w).stable.hash == "v2"
    });
    assert!(!world.table.split.is_none(), "both versions serve");
    world.fleet.as_mut().unwrap().canary = Some(Pods::of("v3", 1));
    turn(&mut world, 0.0);
    assert_eq!(
        (world.state.phase(), world.table.split),
        (Phase::Promoting, Split::NONE)
    );
    until(&mut world, 0.0, is(Phase::Succeeded));
    until(&mut world, 0.0, is(Phase::Starting));
    assert_eq!(world.history.last().unwrap().version, "v3");
}

#[test]
fn a_failed_version_is_left_alone_until_a_retry_gives_it_pods_again() {
    let mut world = World::in_cluster(11, nature(|_| 0.5), policy());
    assert_eq!(over(&mut world, 0.0), Phase::RolledBack);
    world.fleet.as_mut().unwrap().canary.as_mut().unwrap().wanted = 1;
    let hands = world.hands.len();
    (0..50).for_each(|_| turn(&mut world, 0.0));
    assert_eq!(
        (world.state.phase(), world.hands.len()),
        (Phase::RolledBack, hands),
        "no fight with whoever applies it again"
    );
    world.fleet.as_mut().unwrap().canary.as_mut().unwrap().wanted = 0;
    world.nature.canary = good;
    world.orders.push(order(Command::Retry));
    turn(&mut world, 0.0);
    assert_eq!(over(&mut world, 0.0), Phase::Succeeded);
}

#[test]
fn external_waits_for_the_source_and_scales_nothing() {
    let mut external = policy();
    external.promotion.mode = Mode::External;
    let mut world = World::in_cluster(12, nature(good), external);
    until(&mut world, 0.0, is(Phase::Promoting));
    (0..200).for_each(|_| turn(&mut world, 0.0));
    assert_eq!(world.state.phase(), Phase::Promoting);
    assert!(!world.table.split.is_none(), "the canary serves until then");
    world.fleet.as_mut().unwrap().stable = Pods::of("v2", 3);
    assert_eq!(over(&mut world, 0.0), Phase::Succeeded);
    assert!(world.hands.is_empty());
    assert_eq!(world.table.split, Split::NONE);
}

#[test]
fn another_hand_on_stable_is_seen_and_nothing_is_brought_back_over_it() {
    let mut world = World::in_cluster(13, nature(good), policy());
    until(&mut world, 0.0, is(Phase::Watching));
    world.fleet.as_mut().unwrap().stable = Pods::of("v9", 3);
    turn(&mut world, 0.0);
    assert_eq!(
        (world.state.phase(), world.table.split, world.table.tracks),
        (Phase::Idle, Split::NONE, Tracks::Usual)
    );
    (0..100).for_each(|_| turn(&mut world, 0.0));
    assert_eq!(
        (world.state.phase(), fleet(&world).stable.hash.as_str()),
        (Phase::Idle, "v9")
    );
    assert_eq!(fleet(&world).previous.as_ref().unwrap().wanted, 0);

    let mut world = World::in_cluster(14, nature(good), policy());
    until(&mut world, 0.0, is(Phase::Shifting));
    world.fleet.as_mut().unwrap().stable = Pods::of("v2", 3);
    assert_eq!(over(&mut world, 0.0), Phase::Succeeded);
    assert!(world.history.iter().any(|d| d.reason.contains("by another hand")));
}

#[test]
fn gates_are_asked_one_question_each_and_silence_is_no_failure() {
    let mut gated = policy();
    let gate = |name: &str, at, webhook: bool| Gate {
        name: name.into(),
        at,
        webhook: webhook.then(|| Webhook {
            url: "http://board:80/".into(),
            timeout: Span::seconds(1),
            interval: Span::seconds(1),
        }),
    };
    gated.gates = vec![
        gate("board", At::BeforeStart, true),
        gate("load", At::BeforeIncrease, true),
        gate("ann", At::BeforePromotion, false),
    ];
    let mut world = World::in_cluster(15, nature(good), gated);
    world.says_yes = false;
    (0..400).for_each(|_| turn(&mut world, 0.0));
    assert_eq!(
        (world.state.phase(), world.table.split),
        (Phase::Starting, Split::NONE)
    );
    world.says_yes = true;
    until(&mut world, 0.1, |w| {
        w.asked.iter().any(|q| q.starts_with("load@before-increase"))
    });
    let asked = world.elapsed();
    while world.elapsed() < asked + 400.0 {
        turn(&mut world, 0.0);
    }
    assert_eq!(world.state.phase(), Phase::Shifting, "a person has not said yes");
    // Orders are given to the Rollout, which may be called otherwise than its Service.
    let waits = world.turn().status.reason;
    assert!(waits.contains("serin approve weekly ann"), "{waits}");
    world.orders.push(order(Command::Approve("board".into())));
    turn(&mut world, 0.0);
    assert_eq!(world.state.phase(), Phase::Shifting);
    world.orders.push(order(Command::Approve("ann".into())));
    assert_eq!(over(&mut world, 0.0), Phase::Succeeded);
}

#[test]
fn the_weight_waits_for_pods_and_the_way_back_does_not() {
    let mut world = World::in_cluster(16, nature(good), policy());
    world.room = Some(0.02);
    while world.elapsed() < 300.0 {
        turn(&mut world, 0.0);
        assert!(world.table.split.share() <= 0.02);
    }
    assert!(
        world
            .hands
            .iter()
            .any(|h| matches!(h, Hand::Room(share) if *share > 0.02))
    );
    world.room = Some(0.0);
    world.nature.canary = |_| 0.9;
    assert_eq!(over(&mut world, 0.0), Phase::RolledBack);
}

#[test]
fn suspended_it_goes_nowhere_but_back() {
    let mut world = World::in_cluster(17, nature(good), policy());
    until(&mut world, 0.0, |w| {
        w.state.phase() == Phase::Shifting && w.elapsed() > 20.0
    });
    world.fleet.as_mut().unwrap().suspended = true;
    let weight = world.table.split;
    (0..800).for_each(|_| turn(&mut world, 0.0));
    assert_eq!(
        (world.state.phase(), world.table.split),
        (Phase::Shifting, weight)
    );
    world.nature.canary = |_| 0.9;
    assert_eq!(over(&mut world, 0.0), Phase::RolledBack);
}

#[test]
fn a_persons_weight_in_the_watch_is_a_pause_and_not_the_end() {
    for (weight, seed) in [(0.0, 21), (0.5, 22)] {
        let mut world = World::in_cluster(seed, nature(good), policy());
        until(&mut world, 0.0, is(Phase::Watching));
        world.put(Split::of_share(weight, 100), Some("ann"));
        (0..100).for_each(|_| turn(&mut world, 0.0));
        assert_eq!(
            (world.state.phase(), world.table.tracks),
            (Phase::Paused, Tracks::Previous)
        );
        assert!(
            (world.table.split.share() - weight).abs() < 1e-9,
            "nobody overrules her"
        );
        assert!(
            fleet(&world).previous.as_ref().unwrap().wanted > 0,
            "the old version keeps its pods"
        );
        world.orders.push(order(Command::Resume));
        assert_eq!(over(&mut world, 0.0), Phase::Succeeded);
    }
}

#[test]
fn a_persons_weight_while_stable_rolls_is_a_pause_and_the_promotion_goes_on_after_it() {
    let mut world = World::in_cluster(23, nature(good), policy());
    until(&mut world, 0.0, |w| fleet(w).stable.hash == "v2");
    world.put(Split::NONE, Some("ann"));
    (0..100).for_each(|_| turn(&mut world, 0.0));
    assert_eq!(world.state.phase(), Phase::Paused);
    world.orders.push(order(Command::Resume));
    until(&mut world, 0.0, is(Phase::Watching));
    assert_eq!(over(&mut world, 0.1), Phase::Succeeded);
}

#[test]
fn what_was_promoted_and_put_back_by_hand_is_not_called_promoted() {
    let mut world = World::in_cluster(24, nature(good), policy());
    assert_eq!(over(&mut world, 0.0), Phase::Succeeded);
    world.fleet.as_mut().unwrap().stable = Pods::of("v1", 3);
    (0..20).for_each(|_| turn(&mut world, 0.0));
    assert_eq!(world.state.phase(), Phase::Idle);
    world.orders.push(order(Command::Undo));
    let seen = world.observe();
    assert!(step(&world.plan, world.state.clone(), &seen).answers[0].is_err());
}

#[test]
fn pods_stay_while_a_proxy_has_not_taken_the_way_back() {
    let mut world = World::in_cluster(25, nature(good), policy());
    until(&mut world, 0.0, is(Phase::Watching));
    world.orders.push(order(Command::Abort));
    until(&mut world, 0.0, |w| {
        fleet(w).stable.hash == "v1" && w.table.tracks == Tracks::Previous
    });
    let before = world.hands.len();
    for _ in 0..40 {
        world.flow(250);
        let mut seen = world.observe();
        for proxy in &mut seen.proxies {
            if let engine::Told::Page { page, .. } = &mut proxy.told {
                page.hash = "deaf".into();
            }
        }
        let done = step(&world.plan, world.state.clone(), &seen);
        world.act(&done.actions);
        world.state = done.state;
    }
    assert!(
        !world.hands[before..]
            .iter()
            .any(|h| matches!(h, Hand::Clear { .. })),
        "the deaf proxy still sends there"
    );
    assert_eq!(over(&mut world, 0.0), Phase::RolledBack);
}
