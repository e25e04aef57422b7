//! Upgrades: another protocol through the proxy, in both directions, to its end.

use crate::world::*;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

const ASK: &str =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo/1, other\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: Echo/1\r\nX-Token: t\r\n\r\n";

/// Switches, and gives back every octet until there are no more; then says goodbye.
fn echo() -> Backend {
    Backend::raw(|mut wire| {
        let Some(head) = wire.head() else { return };
        assert_eq!(head.header("upgrade"), Some("echo/1, other"));
        assert_eq!(head.header("connection"), Some("upgrade"));
        wire.send(SWITCH);
        wire.echo();
    })
}

fn upgraded(world: &World) -> Wire {
    let mut client = world.client();
    client.send(ASK);
    let head = client.head().unwrap();
    assert_eq!(head.status(), 101);
    assert_eq!(head.header("upgrade"), Some("Echo/1"));
    assert_eq!(head.header("connection"), Some("upgrade"));
    assert_eq!(head.header("x-token"), Some("t"));
    client
}

fn ends(wire: &mut Wire) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut buf = [0; 4096];
    while let Ok(n @ 1..) = wire.read(&mut buf) {
        rest.extend_from_slice(&buf[..n]);
    }
    rest
}

#[test]
fn octets_flow_both_ways_and_each_way_ends_by_itself() {
    let backend = echo();
    let world = before(&backend, "");
    let mut client = upgraded(&world);
    for text in ["a", "hello", "GET / HTTP/1.1\r\n\r\n"] {
        client.send(text);
        let mut back = vec![0; text.len()];
        let mut got = 0;
        while got < back.len() {
            got += client.read(&mut back[got..]).unwrap();
        }
        assert_eq!(back, text.as_bytes());
    }
    assert_eq!(
        world.tally("echo", 0),
        [1, 1, 0, 0],
        "good as soon as it has switched"
    );
    assert_eq!(
        world.metric(&["serin_inflight", "stable"]),
        1.0,
        "and under way as long as it lasts"
    );
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        ends(&mut client),
        b"bye",
        "the backend may still speak when the client has ended"
    );
    eventually("not under way", || {
        world.metric(&["serin_inflight", "stable"]) == 0.0
    });
    assert_eq!(world.metric(&["serin_requests_total", "code=\"101\""]), 1.0);
    assert_eq!(world.metric(&["serin_failures_total"]), 0.0);
}

#[test]
fn what_the_backend_ends_the_client_may_still_use() {
    let backend = Backend::raw(|mut wire| {
        wire.head();
        wire.send(SWITCH);
        wire.send("last words");
        wire.stream().shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        wire.stream().read_to_end(&mut all).unwrap();
        assert_eq!(all, b"after the end");
    });
    let world = before(&backend, "");
    let mut client = upgraded(&world);
    assert_eq!(ends(&mut client), b"last words");
    assert_eq!(world.metric(&["serin_inflight", "stable"]), 1.0);
    client.send("after the end");
    client.stream().shutdown(Shutdown::Write).unwrap();
    eventually("over", || world.metric(&["serin_inflight", "stable"]) == 0.0);
}

#[test]
fn large_amounts_come_back_whole_though_nobody_reads_for_a_while() {
    let backend = echo();
    let world = before(&backend, "");
    let mut client = upgraded(&world);
    let sent: Vec<u8> = (0..32_000_000u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9) >> 16) as u8)
        .collect();
    let mut up: TcpStream = client.stream().try_clone().unwrap();
    let copy = sent.clone();
    let sender = thread::spawn(move || {
        up.write_all(&copy).unwrap();
        up.shutdown(Shutdown::Write).unwrap();
    });
    // Both ways fill up, and whoever could not wait would run out of memory or lose something.
    thread::sleep(Duration::from_millis(300));
    let got = ends(&mut client);
    sender.join().unwrap();
    assert_eq!(got.len(), sent.len() + 3);
    assert!(got[..sent.len()] == sent);
}

#[test]
fn what_comes_with_the_head_is_not_lost() {
    let backend = Backend::raw(|mut wire| {
        wire.head();
        wire.send([SWITCH.as_bytes(), b"first"].concat());
        let mut buf = [0; 5];
        let mut got = 0;
        while got < 5 {
            got += wire.read(&mut buf[got..]).unwrap();
        }
        wire.send(buf);
    });
    let world = before(&backend, "");
    let mut client = world.client();
    client.send([ASK.as_bytes(), b"early"].concat());
    assert_eq!(client.head().unwrap().status(), 101);
    assert_eq!(ends(&mut client), b"firstearly");
}

#[test]
fn a_backend_may_answer_otherwise_and_the_connection_goes_on() {
    let backend = Backend::named("no");
    let world = before(&backend, "");
    let mut client = world.client();
    for _ in 0..3 {
        let answer = client.ask(ASK);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "no"));
        assert_eq!(
            (answer.header("upgrade"), answer.header("connection")),
            (None, None)
        );
    }
    assert_eq!(backend.last().header("upgrade"), Some("echo/1, other"));
}

#[test]
fn nobody_is_upgraded_unasked_or_to_what_he_did_not_offer() {
    let backend = Backend::raw(|mut wire| {
        wire.head();
        wire.send(SWITCH);
        ends(&mut wire);
    });
    for ask in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: echo/1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo/1, h2c\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo/1\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let world = before(&backend, "");
        let answer = world.client().ask(ask);
        assert_eq!(
            (answer.status(), answer.header("x-serin-error")),
            (502, Some("malformed_head")),
            "{ask:?}"
        );
    }
}

#[test]
fn an_upgrade_to_http2_never_reaches_a_backend() {
    let backend = Backend::named("S");
    let world = before(&backend, "");
    let answer = world.client().ask(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    assert_eq!(answer.text(), "S");
    let seen = backend.last();
    assert_eq!(
        (seen.header("upgrade"), seen.header("http2-settings")),
        (None, None)
    );
}

#[test]
fn a_tunnel_where_nothing_moves_is_closed_after_the_idle_time() {
    let backend = echo();
    let world = before(
        &backend,
        "requestTimeout = \"200ms\"\nstreamIdleTimeout = \"600ms\"",
    );
    let mut client = upgraded(&world);
    // It lives on as long as something moves, far beyond the deadline of a request.
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(250));
        client.send("x");
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 1);
    }
    let start = Instant::now();
    assert!(client.is_closed());
    assert!(
        (500..3000).contains(&start.elapsed().as_millis()),
        "{:?}",
        start.elapsed()
    );
    eventually("over", || world.metric(&["serin_inflight", "stable"]) == 0.0);
    assert_eq!(world.tally("echo", 0), [1, 1, 0, 0]);
}

#[test]
fn a_change_of_weight_closes_no_tunnel_and_a_drain_ends_them_at_its_deadline() {
    let (stable, canary) = (echo(), echo());
    let world = Plan::new()
        .set("drainDeadline = \"700ms\"")
        .service(
            "echo",
            &[stable.address],
            &[canary.address],
            &[("canary-weight", "50")],
        )
        .start();
    let mut tunnels: Vec<Wire> = (0..20).map(|_| upgraded(&world)).collect();
    for weight in ["0", "100", "7"] {
        assert_eq!(world.annotate("echo", "canary-weight", weight).status(), 200);
        for t in &mut tunnels {
            t.send("x");
            assert_eq!(t.read(&mut [0; 8]).unwrap(), 1);
        }
    }
    let start = Instant::now();
    world.running.drain();
    for t in &mut tunnels {
        t.send("y");
        assert_eq!(
            t.read(&mut [0; 8]).unwrap(),
            1,
            "a tunnel may finish what it does"
        );
    }
    world.running.wait();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(tunnels.iter_mut().all(Wire::is_closed));
}
