//! Clients that mean harm: floods of HTTP/2 frames, and a thousand slow connections. Each time: what the proxy holds
//! and burns is bounded, another client on the same worker loses nothing, and the backend sees no storm.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/frames.rs"]
mod frames;
#[path = "floods/scene.rs"]
mod scene;
mod support;

use frames::*;
use scene::{Scene, Sight};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};
use support::{loopback, until};

/// Connections that attack at once.
const ATTACKERS: usize = 4;
/// What a flood may cost in memory, above what the process held before.
const MEMORY: u64 = 48 << 20;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a flood lasts.
const LASTS: Duration = Duration::from_secs(1);
/// More than any connection may send before it is cut.
const ROUNDS: u32 = 1_000_000;
/// A stream's frames are told apart from the connection's.
const FIRST: u32 = 1;

/// How one connection of an attacker ended.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Code of the GOAWAY, if one came.
    code: Option<u32>,
    /// Rounds until the connection was closed.
    rounds: u32,
}

/// What all of them came to.
struct Flood {
    sight: Sight,
    rounds: u64,
}

/// Sends rounds until the connection is cut.
fn flood(to: SocketAddr, opening: &[u8], round: impl Fn(u32) -> Vec<u8>) -> Cut {
    let mut raw = Raw::connect(to, &[]);
    let mut rounds = 0;
    let mut sent = raw.send(opening);
    while sent.is_ok() && rounds < ROUNDS {
        sent = raw.send(&round(rounds));
        rounds += 1;
    }
    let goaway = raw.find(PATIENCE, |f| f.kind == GOAWAY);
    let cut = Cut {
        code: goaway.map(|f| f.code()),
        rounds,
    };
    assert!(raw.is_closed(PATIENCE), "the connection is open still: {cut:?}");
    cut
}

/// Several connections at once, again and again; each must be cut, and of those that could read why, some must have
/// read this code: a client that still sends when it is closed may be reset before.
fn flood_is_cut(name: &str, code: u32, opening: &[u8], round: impl Fn(u32) -> Vec<u8> + Sync) -> Flood {
    let scene = Scene::new("");
    let to = scene.run.listen;
    let attack = || {
        let begun = Instant::now();
        let mut cuts = Vec::new();
        while begun.elapsed() < LASTS {
            cuts.push(flood(to, opening, &round));
        }
        cuts
    };
    let (sight, cuts) = scene.during(|| {
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..ATTACKERS).map(|_| scope.spawn(attack)).collect();
            all.into_iter()
                .flat_map(|a| a.join().unwrap())
                .collect::<Vec<_>>()
        })
    });
    let rounds = cuts.iter().map(|c| u64::from(c.rounds)).sum();
    let told = cuts.iter().filter(|c| c.code == Some(code)).count();
    println!(
        "{name}: {sight}; {} connections cut, {told} with code {code}; {rounds} rounds",
        cuts.len()
    );
    sight.check(MEMORY);
    assert!(cuts.iter().all(|c| c.rounds < ROUNDS), "{name}: not cut");
    assert!(told > 0, "{name}: nobody was told why");
    Flood { sight, rounds }
}

fn stream(round: u32) -> u32 {
    2 * round + FIRST
}

#[test]
fn rapid_reset() {
    // All at once: of a request that was reset before its turn, the backend never hears.
    let block = get("/attack");
    let flood = flood_is_cut("rapid reset", ENHANCE_YOUR_CALM, &[], |i| {
        let id = stream(i);
        let open = frame(HEADERS, END_HEADERS | END_STREAM, id, &block);
        [open, reset(id)].concat()
    });
    assert!(flood.sight.attacks * 10 <= flood.rounds, "{}", flood.sight);
}

#[test]
fn rapid_reset_in_batches_reaches_no_backend() {
    let block = get("/attack");
    let flood = flood_is_cut("rapid reset, 50 a packet", ENHANCE_YOUR_CALM, &[], |i| {
        let pair = |k| {
            let id = stream(i * 50 + k);
            let open = frame(HEADERS, END_HEADERS | END_STREAM, id, &block);
            [open, reset(id)].concat()
        };
        (0..50).flat_map(pair).collect()
    });
    assert!(flood.sight.attacks * 10 <= flood.rounds * 50, "{}", flood.sight);
}

#[test]
fn made_you_reset() {
    let block = request(b"POST", "/attack");
    type Break = fn(u32) -> Vec<u8>;
    // Some are taken for errors of the whole connection.
    let ways: [(&str, u32, Break); 3] = [
        ("a window opened by nothing", PROTOCOL_ERROR, |id| {
            window_update(id, 0)
        }),
        ("a window opened too far", ENHANCE_YOUR_CALM, |id| {
            [window_update(id, 0x7fff_ffff), window_update(id, 0x7fff_ffff)].concat()
        }),
        ("a dependency on itself", ENHANCE_YOUR_CALM, |id| {
            frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[16]].concat())
        }),
    ];
    for (name, code, way) in ways {
        flood_is_cut(&format!("MadeYouReset, {name}"), code, &[], |i| {
            let id = stream(i);
            [frame(HEADERS, END_HEADERS, id, &block), way(id)].concat()
        });
    }
    let ended = get("/attack");
    flood_is_cut("MadeYouReset, data behind the end", PROTOCOL_ERROR, &[], |i| {
        let id = stream(i);
        let open = frame(HEADERS, END_HEADERS | END_STREAM, id, &ended);
        [open, frame(DATA, 0, id, b"x")].concat()
    });
}

#[test]
fn header_blocks_without_end() {
    let open = frame(HEADERS, 0, FIRST, &get("/attack"));
    flood_is_cut("CONTINUATION, empty", ENHANCE_YOUR_CALM, &open, |_| {
        frame(CONTINUATION, 0, FIRST, &[])
    });
    let large = field(b"x", &[b'y'; 16_000]);
    flood_is_cut("CONTINUATION, 16 KiB", ENHANCE_YOUR_CALM, &open, |_| {
        frame(CONTINUATION, 0, FIRST, &large)
    });
}

#[test]
fn a_header_block_that_unpacks_to_a_thousandfold() {
    // One entry of 4 000 octets in the dynamic table, and 16 000 references to it in each request (RFC 7541, 6.1).
    let mut entry = field(b"x", &[b'y'; 4000]);
    entry[0] = 0x40;
    let bomb = [get("/attack"), entry, vec![0xbe; 12_000]].concat();
    let scene = Scene::new("");
    let to = scene.run.listen;
    let (sight, ()) = scene.during(|| {
        for _ in 0..50 {
            let mut raw = Raw::connect(to, &[]);
            let _ = raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, FIRST, &bomb));
            let end = raw.find(PATIENCE, |f| [HEADERS, RST_STREAM, GOAWAY].contains(&f.kind));
            assert!(end.is_some(), "neither answered nor cut");
        }
    });
    println!("HPACK bomb: {sight}");
    sight.check(MEMORY);
    assert_eq!(sight.attacks, 0);
}

#[test]
fn frames_that_mean_nothing() {
    flood_is_cut("PING", ENHANCE_YOUR_CALM, &[], |_| {
        [0; 8].map(|_| frame(PING, 0, 0, &[7; 8])).concat()
    });
    flood_is_cut("SETTINGS", ENHANCE_YOUR_CALM, &[], |_| {
        [0; 8].map(|_| frame(SETTINGS, 0, 0, &setting(3, 100))).concat()
    });
    flood_is_cut("PRIORITY", ENHANCE_YOUR_CALM, &[], |i| {
        frame(PRIORITY, 0, stream(i % 1000), &[0, 0, 0, 0, 16])
    });
    flood_is_cut("WINDOW_UPDATE", ENHANCE_YOUR_CALM, &[], |_| window_update(0, 1));
    flood_is_cut("frames of no known kind", ENHANCE_YOUR_CALM, &[], |_| {
        frame(99, 0, 0, b"x")
    });
    let open = frame(HEADERS, END_HEADERS, FIRST, &request(b"POST", "/attack"));
    flood_is_cut("DATA, empty", ENHANCE_YOUR_CALM, &open, |_| {
        frame(DATA, 0, FIRST, &[])
    });
}

/// Single octets are a body like any other: they flow as fast as the backend takes them, and hold nothing.
#[test]
fn data_octet_by_octet() {
    let scene = Scene::new("");
    let to = scene.run.listen;
    let (sight, sent) = scene.during(|| {
        let mut raw = Raw::connect(to, &[]);
        let open = frame(HEADERS, END_HEADERS, FIRST, &request(b"POST", "/attack"));
        raw.send(&open).unwrap();
        let octet = frame(DATA, 0, FIRST, b"x");
        let end = Instant::now() + Duration::from_secs(2);
        let mut sent = 0;
        while Instant::now() < end && sent < 60_000 && raw.send(&octet).is_ok() {
            sent += 1;
        }
        sent
    });
    println!("DATA, octet by octet: {sight}; {sent} sent");
    sight.check(MEMORY);
    assert!(sight.attacks <= 1);
}

/// 100 answers of 1 MiB each that nobody takes: a window that never opens, one that opens by one octet, and a socket
/// that is never read.
#[test]
fn windows_that_never_open() {
    let shut = setting(4, 0);
    let tight = setting(4, 1);
    let wide = setting(4, 0x7fff_ffff);
    for (name, settings) in [
        ("a window of 0", &shut),
        ("a window of 1", &tight),
        ("nothing is read", &wide),
    ] {
        let scene = Scene::new("streamIdleTimeout = \"1s\"\n");
        let to = scene.run.listen;
        let (sight, held) = scene.during(|| {
            let mut raw = Raw::connect(to, settings);
            let block = get("/attack/large");
            for i in 0..100 {
                let open = frame(HEADERS, END_HEADERS | END_STREAM, stream(i), &block);
                raw.send(&open).unwrap();
            }
            let _ = raw.send(&window_update(0, 0x7f00_0000));
            until("all have reached the backend", PATIENCE, || {
                (scene.backend.attacks() >= 100).then_some(())
            });
            let begun = Instant::now();
            until("nothing is held for them", PATIENCE, || {
                (scene.backend.open("/attack") == 0 && scene.inflight() < 3.0).then_some(())
            });
            begun.elapsed()
        });
        println!("100 answers, {name}: {sight}; given up after {held:?}");
        // One read of each answer is held: 256 KiB.
        sight.check(100 * (256 << 10) + MEMORY);
    }
}

#[test]
fn a_header_block_that_stands_still_is_cut() {
    let scene = Scene::new("headerTimeout = \"1s\"\n");
    let mut raw = Raw::connect(scene.run.listen, &[]);
    raw.send(&frame(HEADERS, 0, FIRST, &get("/attack"))).unwrap();
    assert!(raw.is_closed(Duration::from_secs(5)));
    let mut raw = Raw::connect(scene.run.listen, &[]);
    let open = frame(HEADERS, END_HEADERS, FIRST, &get("/attack"));
    raw.send(&open[..open.len() - 1]).unwrap();
    assert!(raw.is_closed(Duration::from_secs(5)));
}

#[test]
fn a_connection_without_requests_is_closed_in_time() {
    let scene = Scene::new("[proxy.limits]\nidleTimeout = \"1s\"\n");
    let mut raw = Raw::connect(scene.run.listen, &[]);
    let open = frame(HEADERS, END_HEADERS | END_STREAM, FIRST, &get("/"));
    raw.send(&open).unwrap();
    assert!(raw.find(PATIENCE, |f| f.kind == HEADERS).is_some());
    let goaway = raw.find(PATIENCE, |f| f.kind == GOAWAY).expect("told to go");
    assert_eq!(goaway.code(), 0);
    assert!(raw.is_closed(PATIENCE));
}

#[test]
fn more_streams_than_may_be_are_refused() {
    let scene = Scene::new("");
    let to = scene.run.listen;
    let (sight, refused) = scene.during(|| {
        let mut raw = Raw::connect(to, &[]);
        let block = get("/attack/slow");
        let all: Vec<u8> = (0..180)
            .flat_map(|i| frame(HEADERS, END_HEADERS | END_STREAM, stream(i), &block))
            .collect();
        raw.send(&all).unwrap();
        let (mut refused, mut answered) = (0, 0);
        while refused + answered < 180 {
            let frame = raw.next(PATIENCE).expect("an answer to each");
            match frame.kind {
                RST_STREAM => refused += 1,
                HEADERS => answered += 1,
                _ => {}
            }
        }
        refused
    });
    println!("180 streams at once: {sight}; {refused} refused");
    sight.check(MEMORY);
    assert_eq!((refused, sight.attacks), (80, 100));
}

/// What is refused because too much is under way is told at once, before anything is done for it.
#[test]
fn more_requests_than_may_be_are_shed() {
    let scene = Scene::new("[proxy.limits]\nmaxRequests = 20\n");
    let to = scene.run.listen;
    let mut raw = Raw::connect(to, &[]);
    let block = get("/attack/stuck");
    for i in 0..20 {
        let open = frame(HEADERS, END_HEADERS | END_STREAM, stream(i), &block);
        raw.send(&open).unwrap();
    }
    until("twenty are under way", PATIENCE, || {
        (scene.backend.attacks() == 20).then_some(())
    });
    let answer = support::get(to, "/").unwrap();
    assert_eq!(answer.status, 503);
    for line in ["x-serin-error: shed", "retry-after: 1"] {
        assert!(answer.head.contains(line), "{}", answer.head);
    }
    assert!(scene.metric("kind=\"shed\"") >= 1.0);
    (0..20).for_each(|i| raw.send(&reset(stream(i))).unwrap());
    until("there is room again", PATIENCE, || {
        support::get(to, "/").filter(|a| a.status == 200)
    });
}

/// What `docs/limits.md` states, measured: the growth of the whole process divided by what was opened.
#[test]
fn what_connections_hold() {
    let plain = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let idle = Hold::new(1000, |to| {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(plain("/").as_bytes()).unwrap();
        read_answer(&mut stream);
        stream
    });
    let active = Hold::new(1000, |to| {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(plain("/attack/stuck").as_bytes()).unwrap();
        stream
    });
    let slow = Hold::new(100, |to| {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(plain("/attack/huge").as_bytes()).unwrap();
        stream
    });
    let multiplexed = Hold::new(1000, |to| {
        let mut raw = Raw::connect(to, &[]);
        let open = frame(HEADERS, END_HEADERS | END_STREAM, FIRST, &get("/"));
        raw.send(&open).unwrap();
        assert!(raw.find(PATIENCE, |f| f.kind == DATA).is_some());
        raw
    });
    let full = Hold::new(20, |to| hundred(to, "/attack/stuck", &[]));
    let worst = Hold::new(5, |to| hundred(to, "/attack/huge", &setting(4, 0x7fff_ffff)));
    for (name, hold, most) in [
        ("HTTP/1.1, idle", idle, 6),
        ("HTTP/1.1, a request under way", active, 24),
        ("HTTP/1.1, a large answer that is not read", slow, 560),
        ("HTTP/2, idle", multiplexed, 64),
        ("HTTP/2, 100 requests under way", full, 2048),
        ("HTTP/2, 100 large answers that are not read", worst, 100 * 560),
    ] {
        println!("{name}: {:.1} KiB a connection", hold.0);
        assert!(
            hold.0 <= f64::from(most),
            "{name}: {:.1} KiB, more than {most}",
            hold.0
        );
    }
}

/// KiB of the proxy's memory for each of so many connections.
struct Hold(f64);

impl Hold {
    fn new<T>(n: usize, open: impl Fn(SocketAddr) -> T) -> Hold {
        let scene = Scene::new("");
        let to = scene.run.listen;
        // What is held from the first request on is no connection's.
        drop(open(to));
        until("the first is gone", PATIENCE, || {
            (scene.inflight() < 1.0).then_some(())
        });
        let before = scene.memory();
        let all: Vec<T> = (0..n).map(|_| open(to)).collect();
        let mut last = (0, Instant::now());
        until("nothing moves any more", PATIENCE * 2, || {
            let now = scene.memory();
            if now != last.0 {
                last = (now, Instant::now());
            }
            (last.1.elapsed() > Duration::from_millis(500)).then_some(())
        });
        let held = scene.memory().saturating_sub(before);
        drop(all);
        Hold(held as f64 / n as f64 / 1024.0)
    }
}

/// As many requests as one connection may have, whose answers nobody reads.
fn hundred(to: SocketAddr, path: &str, settings: &[u8]) -> Raw {
    let mut raw = Raw::connect(to, settings);
    let block = get(path);
    for i in 0..100 {
        let open = frame(HEADERS, END_HEADERS | END_STREAM, stream(i), &block);
        raw.send(&open).unwrap();
    }
    raw.send(&window_update(0, 0x7f00_0000)).unwrap();
    raw
}

fn read_answer(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut octet = [0];
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\nxx") {
        stream.read_exact(&mut octet).unwrap();
        text.push(octet[0]);
    }
}

/// A thousand connections that are slow in sending a head (-H), in sending a body (-B), in reading an answer (-X).
fn slowhttptest(name: &str, path: &str, args: &[&str]) {
    let scene = Scene::new("");
    let url = format!("http://127.0.0.1:{}{path}", scene.run.listen.port());
    let (sight, text) = scene.during(|| {
        let out = Command::new("slowhttptest")
            .args(["-c", "1000", "-r", "250", "-l", "8", "-p", "3", "-u", &url])
            .args(args)
            .output()
            .expect("slowhttptest is installed by tests/run");
        support::stdout(&out)
    });
    println!("slowhttptest, {name}: {sight}");
    // Of two reads of 256 KiB, something may be held for each who does not read.
    sight.check(512 << 20);
    assert!(
        text.contains("service available") && text.contains("YES"),
        "{text}"
    );
    assert!(!text.contains("NO\n"), "{text}");
    assert_eq!(scene.run.listen, loopback(scene.run.listen.port()));
}

#[test]
fn slow_heads() {
    slowhttptest(
        "slow heads",
        "/attack",
        &["-H", "-i", "1", "-x", "24", "-t", "GET"],
    );
}

#[test]
fn slow_bodies() {
    slowhttptest(
        "slow bodies",
        "/attack",
        &["-B", "-i", "1", "-x", "10", "-s", "8192", "-t", "POST"],
    );
}

#[test]
fn slow_readers() {
    slowhttptest(
        "slow readers",
        "/attack/large",
        &["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3"],
    );
}
