//! Copies for a canary without weight: what it answers is counted, and nobody else notices.

use crate::world::*;
use std::time::{Duration, Instant};

const EACH: (&str, &str) = ("canary-mirror", "100");

fn outcome(world: &World, outcome: &str) -> f64 {
    world.metric(&["serin_mirror_total", &format!("\"{outcome}\"")])
}

#[test]
fn copies_are_sent_compared_and_never_evidence() {
    let stable = Backend::named("S");
    let canary = Backend::new(|m| match m.start.split(' ').nth(1) {
        Some("/same") => ok("C"),
        Some("/long") => ok("longer"),
        Some("/cookie") => b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 1\r\n\r\nC".to_vec(),
        _ => b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno".to_vec(),
    });
    let world = pair(&stable, &canary, &[EACH]);
    let mut client = world.client();
    for (path, wanted) in [
        ("/same", "same"),
        ("/long", "size_differs"),
        ("/fails", "status_differs"),
        ("/cookie", "same"),
    ] {
        let before = outcome(&world, wanted);
        let answer = client.get(path, &[]);
        assert_eq!((answer.text().as_str(), answer.header("set-cookie")), ("S", None));
        eventually(path, || outcome(&world, wanted) == before + 1.0);
        assert_eq!(canary.last().header("x-serin-mirror"), Some("1"));
        assert_eq!(stable.last().header("x-serin-mirror"), None);
        assert_eq!(
            canary.last().header("x-request-id"),
            stable.last().header("x-request-id")
        );
    }
    assert_eq!((stable.hits(), canary.hits()), (4, 4));
    assert_eq!(world.tally("echo", 1), [0; 4], "never evidence");
    assert_eq!(world.tally("echo", 0), [4, 4, 0, 0]);
    assert_eq!(world.metric(&["serin_decisions_total", "canary"]), 0.0);
    assert_eq!(world.metric(&["serin_requests_total", "canary"]), 0.0);
    assert_eq!(world.metric(&["serin_inflight", "canary"]), 0.0);
    let durations = |track| world.metric(&["serin_mirror_duration_seconds_count", track]);
    assert_eq!((durations("stable"), durations("canary")), (4.0, 4.0));
}

#[test]
fn only_what_may_be_sent_twice_and_only_at_weight_0() {
    let (stable, canary) = (Backend::named("S"), Backend::named("C"));
    let world = pair(&stable, &canary, &[EACH, ("canary-by-header", "h")]);
    let mut client = world.client();
    client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    client.ask("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    client.ask("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.get("/", &["h: never"]);
    client.get("/", &["x-serin-synthetic: 1"]);
    client.get("/copied", &[]);
    eventually("one copy", || outcome(&world, "same") == 1.0);
    assert_eq!((canary.hits(), stable.hits()), (1, 6));
    assert!(canary.last().start.contains("/copied"));
    world.annotate("echo", "canary-weight", "0.000001");
    for _ in 0..50 {
        client.get("/", &[]);
    }
    assert_eq!(canary.hits(), 1, "it has a weight now");
}

#[test]
fn the_share_is_exact() {
    let (stable, canary) = (Backend::named("S"), Backend::named("C"));
    let world = pair(&stable, &canary, &[("canary-mirror", "10")]);
    let mut client = world.client();
    for _ in 0..300 {
        client.get("/", &[]);
    }
    let all = || {
        ["same", "failed", "dropped"]
            .iter()
            .map(|o| outcome(&world, o))
            .sum::<f64>()
    };
    eventually("all have ended", || (29.0..=31.0).contains(&all()));
}

#[test]
fn a_mirror_that_hangs_refuses_or_breaks_leaves_the_original_untouched() {
    let stable = Backend::named("S");
    let breaks = Backend::raw(|mut wire| {
        wire.message(false);
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    });
    for (canary, counted) in [
        (hanging().address, "dropped"),
        (nobody(), "failed"),
        (resetting().address, "failed"),
        (breaks.address, "failed"),
    ] {
        let world = Plan::new()
            .service("echo", &[stable.address], &[canary], &[EACH])
            .start();
        let mut client = world.client();
        let start = Instant::now();
        for _ in 0..100 {
            assert_eq!(client.get("/", &[]).text(), "S");
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        eventually(counted, || outcome(&world, counted) > 0.0);
        assert_eq!(world.tally("echo", 0), [100, 100, 0, 0]);
        assert_eq!(world.tally("echo", 1), [0; 4]);
        assert_eq!(world.metric(&["serin_failures_total", "canary"]), 0.0);
        let changed = world.annotate("echo", "canary-mirror", "0");
        assert_eq!(changed.status(), 200, "{}", changed.text());
    }
}

#[test]
fn a_copy_has_a_deadline_of_its_own() {
    let stable = Backend::named("S");
    let world = Plan::new()
        .service("echo", &[stable.address], &[hanging().address], &[EACH])
        .resilience("requestTimeout = \"200ms\"")
        .start();
    let mut client = world.client();
    for _ in 0..3 {
        assert_eq!(client.get("/", &[]).text(), "S");
    }
    eventually("given up", || outcome(&world, "failed") == 3.0);
}

#[test]
fn large_answers_are_not_read_to_the_end() {
    let body = "x".repeat(8 * 1024 * 1024);
    let (large, other) = (body.clone(), body);
    let stable = Backend::new(move |_| ok(&large));
    let canary = Backend::new(move |_| ok(&other));
    let world = pair(&stable, &canary, &[EACH]);
    let seen = world.client().get("/", &[]);
    assert_eq!(seen.body.len(), 8 * 1024 * 1024);
    eventually("compared", || outcome(&world, "same") == 1.0);
}
