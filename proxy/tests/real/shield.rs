//! The shield: users see stable's answer where the canary fails, and the canary is charged.

use crate::world::*;
use std::{net::SocketAddr, thread};

const ALL: (&str, &str) = ("canary-weight", "100");
const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";

/// Ten thousand GET by four clients over two workers; how many were not answered by stable with 200.
fn failed_of_ten_thousand(world: &World) -> usize {
    let one = || {
        let mut client = world.client();
        (0..2_500)
            .filter(|_| {
                let answer = client.get("/", &[]);
                (answer.status(), answer.text().as_str()) != (200, "S")
            })
            .count()
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        clients.into_iter().map(|c| c.join().unwrap()).sum()
    })
}

fn ten_thousand(canary: &[SocketAddr], guard: &str) {
    let stable = Backend::named("S");
    let lines = [
        ("canary-weight", "10"),
        ("canary-guard", guard),
        ("canary-by-header", "h"),
    ];
    let mut plan = Plan::new().service("echo", &[stable.address], canary, &lines);
    plan.proxy = plan.proxy.replace("workers = 1", "workers = 2");
    let world = plan.start();
    assert_eq!(failed_of_ten_thousand(&world), 0, "guard {guard}");
    let [started, finished, bad, cancelled] = world.tally("echo", 1);
    let stable_tally = world.tally("echo", 0);
    assert_eq!(
        (started, started, 0),
        (finished, bad, cancelled),
        "all are charged"
    );
    assert_eq!(stable_tally[2], 0, "stable is charged with nothing");
    assert_eq!(
        started + stable_tally[0],
        10_000,
        "a second try is nobody's evidence"
    );
    let shielded = world.metric(&["serin_decisions_total", "stable", "shield"]);
    assert_eq!(shielded, started as f64);
    let tripped = world.metric(&["serin_guard_tripped"]) == 1.0;
    match guard {
        "off" => assert!((998..=1002).contains(&started) && !tripped, "{started}"),
        _ => assert!(tripped && started < 1000, "{started}"),
    }
    let forced = world.client().get("/", &["h: always"]);
    assert!(forced.status() >= 502, "who asks for the canary sees the truth");
}

#[test]
fn ten_thousand_to_a_canary_that_refuses() {
    ten_thousand(&[nobody()], "off");
    ten_thousand(&[nobody(), nobody()], "off");
    ten_thousand(&[nobody()], "on");
}

#[test]
fn ten_thousand_to_a_canary_that_resets() {
    ten_thousand(&[resetting().address], "off");
    ten_thousand(&[resetting().address, resetting().address], "off");
    ten_thousand(&[resetting().address], "on");
}

#[test]
fn ten_thousand_to_a_canary_that_answers_503() {
    let busy = || Backend::new(|_| BUSY.as_bytes().to_vec()).address;
    ten_thousand(&[busy()], "off");
    ten_thousand(&[busy()], "on");
}

#[test]
fn a_refusal_is_dropped_whatever_its_body() {
    let stable = Backend::named("S");
    for answer in [
        "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned(),
        BUSY.to_owned(),
        "HTTP/1.1 502 Bad\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbu".to_owned(),
        format!(
            "HTTP/1.1 504 Late\r\nContent-Length: 1000000\r\n\r\n{}",
            "x".repeat(1_000_000)
        ),
        "HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\nuntil the end".to_owned(),
    ] {
        let canary = Backend::new(move |_| answer.clone().into_bytes());
        let world = pair(&stable, &canary, &[ALL]);
        let mut client = world.client();
        for _ in 0..5 {
            assert_eq!(client.get("/", &[]).text(), "S");
        }
        assert_eq!(world.tally("echo", 1), [5, 5, 5, 0]);
        assert_eq!(world.metric(&["serin_inflight", "canary"]), 0.0);
        assert_eq!(canary.hits(), 5);
    }
}

#[test]
fn a_refusal_that_may_have_had_an_effect_or_was_asked_for_is_passed_on() {
    let stable = Backend::named("S");
    let canary = Backend::new(|_| BUSY.as_bytes().to_vec());
    let world = pair(&stable, &canary, &[ALL, ("canary-by-header", "h")]);
    let mut client = world.client();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let answer = client.ask(post);
    assert_eq!((answer.status(), answer.text().as_str()), (503, "busy"));
    assert_eq!(client.get("/", &["h: always"]).text(), "busy");
    assert_eq!(client.get("/", &["Content-Length: 0"]).text(), "S");
    assert_eq!(stable.hits(), 1);
    let off = pair(&stable, &canary, &[ALL, ("canary-shield", "off")]);
    assert_eq!(off.client().get("/", &[]).text(), "busy");
}

#[test]
fn the_shield_finds_the_living_endpoint_of_stable() {
    let stable = Backend::named("S");
    let world = Plan::new()
        .service("echo", &[nobody(), stable.address], &[nobody()], &[ALL])
        .start();
    let mut client = world.client();
    for _ in 0..50 {
        assert_eq!(client.get("/", &[]).text(), "S");
    }
    assert_eq!(world.tally("echo", 1), [50, 50, 50, 0]);
    assert_eq!(world.tally("echo", 0), [0; 4]);
}

#[test]
fn second_tries_within_a_track_have_a_budget() {
    let run = |lines: &str| {
        let stable = Backend::named("S");
        let world = Plan::new()
            .service("echo", &[resetting().address, stable.address], &[], &[])
            .resilience(&format!("ejectAfter = 0\n{lines}"))
            .start();
        let mut client = world.client();
        let failed = (0..400).filter(|_| client.get("/", &[]).status() != 200).count() as f64;
        let tried = world.metric(&["serin_retries_total", "stable", "\"tried\""]);
        let over = world.metric(&["serin_retries_total", "stable", "over_budget"]);
        assert_eq!(failed, over, "whoever finds no budget sees the failure");
        let bad = world.tally("echo", 0)[2] as f64;
        assert_eq!(tried + over, bad, "first attempts are charged, all of them");
        (tried, over)
    };
    let (tried, over) = run("retryShare = 0\nretryMin = 0");
    assert!(tried == 0.0 && over > 100.0, "{tried} {over}");
    let (tried, over) = run("retryShare = 10\nretryMin = 0");
    assert!((30.0..=45.0).contains(&tried) && over > 50.0, "{tried} {over}");
    let (tried, over) = run("retryShare = 100");
    assert!(tried > 100.0 && over == 0.0, "{tried} {over}");
}
