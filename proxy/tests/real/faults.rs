//! Backends that fail: what the client sees, and who is charged.

use crate::world::*;
use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

const ALL: (&str, &str) = ("canary-weight", "100");

#[test]
fn malformed_answers_are_502_and_charged() {
    for answer in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 700 OK\r\n\r\n",
        "HTTP/3 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbroken line\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let stable = Backend::named("S");
        let canary = Backend::new(move |_| answer.as_bytes().to_vec());
        let closing = Backend::raw(move |mut wire| {
            wire.message(false);
            wire.send(answer);
        });
        for backend in [&canary, &closing] {
            if answer.ends_with("Le") && backend.address == canary.address {
                continue;
            }
            let world = pair(&stable, backend, &[ALL]);
            let seen = world.client().get("/", &[]);
            assert_eq!(
                (seen.status(), seen.header("x-serin-error")),
                (502, Some("malformed_head")),
                "{answer:?}"
            );
            assert_eq!(world.tally("echo", 1), [1, 1, 1, 0], "{answer:?}");
        }
    }
}

#[test]
fn a_body_that_breaks_is_broken_for_the_client_too() {
    for (answer, kind) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "body_reset"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            "body_reset",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
            "malformed_body",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloo0\r\n\r\n",
            "malformed_body",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
            "malformed_body",
        ),
    ] {
        let stable = Backend::named("S");
        let canary = Backend::raw(move |mut wire| {
            wire.message(false);
            wire.send(answer);
        });
        let world = pair(&stable, &canary, &[ALL]);
        let mut client = world.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.message(false).is_none(), "{answer:?}");
        eventually("charged", || world.tally("echo", 1) == [1, 1, 1, 0]);
        assert_eq!(
            world.metric(&["serin_failures_total", "canary", kind]),
            1.0,
            "{answer:?}"
        );
    }
}

#[test]
fn the_shield_hides_a_dead_canary_and_charges_it() {
    let stable = Backend::named("S");
    let resets = Backend::raw(|mut wire| drop(wire.head()));
    for canary in [nobody(), resets.address] {
        let plan = Plan::new().service(
            "echo",
            &[stable.address],
            &[canary],
            &[ALL, ("canary-by-header", "h")],
        );
        let world = plan.start();
        let mut client = world.client();
        for _ in 0..50 {
            assert_eq!(client.get("/", &[]).text(), "S");
        }
        assert_eq!(world.tally("echo", 1), [50, 50, 50, 0]);
        assert_eq!(
            world.tally("echo", 0),
            [0; 4],
            "a second try is in nobody's evidence"
        );
        assert_eq!(world.metric(&["serin_decisions_total", "stable", "shield"]), 50.0);
        let forced = client.get("/", &["h: always"]);
        assert_eq!(forced.status(), 502, "who asks for the canary sees the truth");
    }
}

#[test]
fn what_may_have_had_an_effect_is_not_sent_twice() {
    let stable = Backend::named("S");
    let resets = Backend::raw(|mut wire| drop(wire.message(false)));
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let world = pair(&stable, &resets, &[ALL]);
    assert_eq!(world.client().ask(post).status(), 502);
    assert_eq!(stable.hits(), 0);
    let world = Plan::new()
        .service("echo", &[stable.address], &[nobody()], &[ALL])
        .start();
    assert_eq!(
        world.client().ask(post).text(),
        "S",
        "nothing was sent, so stable may have it"
    );
    assert_eq!(stable.last().body, b"hi");
    let off = Plan::new()
        .service(
            "echo",
            &[stable.address],
            &[nobody()],
            &[ALL, ("canary-shield", "off")],
        )
        .start();
    assert_eq!(off.client().get("/", &[]).status(), 502);
}

#[test]
fn case_12_one_dead_endpoint_of_two_costs_no_request() {
    let stable = Backend::named("S");
    let canary = Backend::named("C");
    let plan = Plan::new().service("echo", &[stable.address], &[nobody(), canary.address], &[ALL]);
    let world = plan.start();
    for _ in 0..30 {
        assert_eq!(world.client().get("/", &[]).text(), "C");
    }
    let bad = world.tally("echo", 1)[2];
    assert!(
        (1..=3).contains(&bad),
        "charged, then left alone for a while: {bad}"
    );
}

#[test]
fn a_connection_closed_while_idle_is_nobodys_failure() {
    // Each connection serves one request and is closed, without saying so.
    let stable = Backend::raw(|mut wire| {
        wire.message(false);
        wire.send(ok("S"));
    });
    let world = Plan::new().service("echo", &[stable.address], &[], &[]).start();
    let mut client = world.client();
    for _ in 0..100 {
        assert_eq!(client.get("/", &[]).text(), "S");
    }
    assert_eq!(world.tally("echo", 0), [100, 100, 0, 0]);
}

#[test]
fn a_backend_that_hangs_is_cut_at_the_deadline() {
    let hangs = Backend::raw(|mut wire| {
        wire.message(false);
        thread::sleep(Duration::from_secs(20));
    });
    let world = Plan::new()
        .set("requestTimeout = \"300ms\"")
        .set("streamIdleTimeout = \"200ms\"")
        .service("echo", &[hangs.address], &[], &[])
        .start();
    let start = Instant::now();
    let answer = world.client().get("/", &[]);
    assert_eq!(
        (answer.status(), answer.header("x-serin-error")),
        (504, Some("timeout"))
    );
    assert!(
        (Duration::from_millis(290)..Duration::from_millis(600)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(world.tally("echo", 0), [1, 1, 1, 0]);
    let stalls = Backend::raw(|mut wire| {
        wire.message(false);
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        thread::sleep(Duration::from_secs(20));
    });
    let world = Plan::new()
        .set("streamIdleTimeout = \"200ms\"")
        .service("echo", &[stalls.address], &[], &[])
        .start();
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.message(false).is_none());
    assert_eq!(
        world.metric(&["serin_failures_total", "stable", "body_timeout"]),
        1.0
    );
}

#[test]
fn case_14_a_hang_is_pending_before_it_ends_and_a_cancel_is_nobodys_error() {
    let hangs = Backend::raw(|mut wire| {
        wire.message(false);
        thread::sleep(Duration::from_secs(20));
    });
    let world = Plan::new().service("echo", &[hangs.address], &[], &[]).start();
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("pending", || world.tally("echo", 0) == [1, 0, 0, 0]);
    assert_eq!(world.running.evidence(0).services["echo"].inflight, [1, 0]);
    thread::sleep(Duration::from_millis(100));
    drop(client);
    eventually("cancelled", || world.tally("echo", 0) == [1, 1, 0, 1]);
    let page = world.running.evidence(0);
    let bucket = page.services["echo"].cohorts[0].tracks[0].latency[0].0;
    assert!(
        proxy::contract::latency::edge_seconds(usize::from(bucket)) > 0.1,
        "its age is in the histogram"
    );
}

#[test]
fn slow_clients_are_cut() {
    let stable = Backend::named("S");
    let world = Plan::new()
        .set("headerTimeout = \"200ms\"")
        .set("requestTimeout = \"300ms\"")
        .service("echo", &[stable.address], &[], &[])
        .start();
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost:");
    assert_eq!(client.message(false).unwrap().status(), 408);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    assert_eq!(
        client.message(false).unwrap().header("x-serin-error"),
        Some("upload")
    );
    assert_eq!(
        world.tally("echo", 0),
        [1, 1, 0, 0],
        "the client's fault is not the backend's"
    );
    let mut silent = world.client();
    assert!(silent.is_closed());
}

#[test]
fn who_finds_no_room_is_told() {
    let stable = Backend::named("S");
    let world = Plan::new()
        .set("maxConnections = 2")
        .service("echo", &[stable.address], &[], &[])
        .start();
    let mut kept: Vec<Wire> = (0..2).map(|_| world.client()).collect();
    kept.iter_mut()
        .for_each(|c| assert_eq!(c.get("/", &[]).text(), "S"));
    let mut third = world.client();
    assert_eq!(
        third.message(false).unwrap().header("x-serin-error"),
        Some("overload")
    );
    kept.pop();
    eventually("room again", || {
        let mut next = world.client();
        let sent = next
            .stream()
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .is_ok();
        sent && next.message(false).is_some_and(|m| m.status() == 200)
    });
}

#[test]
fn statuses_from_500_are_bad_and_pass_through() {
    let stable = Backend::new(|_| b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy".to_vec());
    let world = Plan::new().service("echo", &[stable.address], &[], &[]).start();
    let answer = world.client().get("/", &[]);
    assert_eq!(
        (
            answer.status(),
            answer.text().as_str(),
            answer.header("x-serin-error")
        ),
        (503, "busy", None)
    );
    assert_eq!(world.tally("echo", 0), [1, 1, 1, 0]);
}
