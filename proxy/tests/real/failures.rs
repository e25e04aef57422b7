//! `docs/failures.md`, row by row: what it says is what happens.

use crate::{
    tls::town::{Authority, Fortress, server},
    world::*,
};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

const DOCUMENT: &str = include_str!("../../../docs/failures.md");

/// One row of the document.
#[derive(Debug)]
struct Row {
    fault: &'static str,
    seen: &'static str,
    side: &'static str,
    kind: &'static str,
    charged: bool,
    shielded: [bool; 2],
}

fn rows() -> Vec<Row> {
    let lines = DOCUMENT.lines().filter(|l| l.starts_with('|')).skip(2);
    let is = |word: &str| match word {
        "yes" => true,
        "no" => false,
        other => panic!("{other:?} is neither yes nor no"),
    };
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [fault, seen, side, kind, charged, get, post] = cells[..] else {
            panic!("seven columns: {line}")
        };
        Row {
            fault,
            seen,
            side,
            kind,
            charged: is(charged),
            shielded: [is(get), is(post)],
        }
    };
    lines.map(row).collect()
}

/// A canary that has a fault, and what keeps it so.
struct Faulty {
    address: SocketAddr,
    /// Lines of `[service.resilience]`.
    lines: &'static str,
    /// What it speaks.
    protocol: &'static str,
    _kept: Vec<TcpStream>,
}

fn scripted(backend: &Backend) -> Faulty {
    Faulty {
        address: backend.address,
        lines: "",
        protocol: "http",
        _kept: Vec::new(),
    }
}

/// Sends this after a request, and then does that.
fn sends(text: &'static str, then: fn(Wire)) -> Faulty {
    scripted(&Backend::raw(move |mut wire| {
        if wire.message(false).is_some() {
            wire.send(text);
            then(wire);
        }
    }))
}

fn stay(mut wire: Wire) {
    while !wire.is_closed() {}
}

/// An octet now and then, for as long as anybody listens.
fn drip(mut wire: Wire) {
    use std::io::Write;
    while wire.stream().write_all(b"x").is_ok() {
        thread::sleep(Duration::from_millis(50));
    }
}

/// A listener whose queue is full: the kernel answers no further connection.
fn full() -> Faulty {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut kept = vec![std::net::TcpListener::from(listener)]
        .into_iter()
        .map(|l| {
            // Never accepted, and open for as long as the process lives.
            std::mem::forget(l);
            TcpStream::connect(address).unwrap()
        })
        .collect::<Vec<_>>();
    while let Ok(more) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        kept.push(more);
    }
    Faulty {
        address,
        lines: "",
        protocol: "http",
        _kept: kept,
    }
}

fn faulty(fault: &str) -> Faulty {
    let answer = |text: &'static str| scripted(&Backend::new(move |_| text.as_bytes().to_vec()));
    match fault {
        "it refuses connections" => Faulty {
            address: nobody(),
            lines: "",
            protocol: "http",
            _kept: Vec::new(),
        },
        "it takes no connection in time" => full(),
        "its TLS handshake fails" => {
            let pair = Authority::new().sign(&["127.0.0.1"]);
            Faulty {
                address: Fortress::new(server(&pair, None)).address,
                protocol: "https",
                ..scripted(&Backend::named("never asked"))
            }
        }
        "it closes before its answer" => sends("", drop),
        "it resets before its answer" => scripted(&resetting()),
        "it does not answer in time" => scripted(&hanging()),
        "it does not answer within `tryTimeout`" => Faulty {
            lines: "tryTimeout = \"100ms\"",
            ..scripted(&hanging())
        },
        "it resets in the middle of the head" => sends("HTTP/1.1 200 OK\r\nContent-Le", |wire| {
            // A reset overtakes what was sent: only once that was read.
            thread::sleep(Duration::from_millis(50));
            reset(wire);
        }),
        "its head is malformed" => sends("HTTP/1.1 200 OK\r\nbroken line\r\n\r\n", stay),
        "it resets after the head" => sends("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", |wire| {
            thread::sleep(Duration::from_millis(50));
            reset(wire);
        }),
        "it closes after half of the body" => {
            sends("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf!", drop)
        }
        "it stalls in the body" => sends("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf!", stay),
        "it sends an octet at a time, past `totalTimeout`" => Faulty {
            lines: "totalTimeout = \"300ms\"",
            ..sends("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", drip)
        },
        "its chunks are malformed" => sends(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
            stay,
        ),
        "its trailers are malformed" => sends(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nno colon\r\n\r\n",
            stay,
        ),
        "it answers 500" => answer("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"),
        "it answers 502" => answer("HTTP/1.1 502 No\r\nContent-Length: 2\r\n\r\nno"),
        "it answers 503" => answer("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"),
        "it answers 504" => answer("HTTP/1.1 504 No\r\nContent-Length: 2\r\n\r\nno"),
        other => panic!("the document has a row that is not tested: {other}"),
    }
}

fn world(stable: &Backend, canary: &Faulty, shield: &str) -> World {
    let lines = [
        ("canary-weight", "100"),
        ("canary-by-header", "h"),
        ("canary-shield", shield),
    ];
    let mut plan = Plan::new()
        .set("connectTimeout = \"150ms\"")
        .set("requestTimeout = \"1s\"")
        .set("streamIdleTimeout = \"250ms\"")
        .service("echo", &[stable.address], &[canary.address], &lines)
        .resilience(canary.lines);
    let endpoints = "canary.endpoints";
    let protocol = format!("canary.protocol = \"{}\"\n{endpoints}", canary.protocol);
    plan.services = plan.services.replace(endpoints, &protocol);
    plan.start()
}

/// What a client sees of a request: the status and the kind, or that the answer broke off.
fn seen(world: &World, method: &str, extra: &str) -> (String, String) {
    let mut client = world.client();
    let body = if method == "POST" { "hi" } else { "" };
    let length = body.len();
    client.send(format!(
        "{method} / HTTP/1.1\r\nHost: a\r\n{extra}Content-Length: {length}\r\n\r\n{body}"
    ));
    match client.message(false) {
        None => ("broken".into(), String::new()),
        Some(m) => {
            let kind = m.header("x-serin-error").unwrap_or_default().to_owned();
            (m.status().to_string(), kind)
        }
    }
}

fn check(row: &Row) {
    let stable = Backend::named("S");
    let canary = faulty(row.fault);
    let off = world(&stable, &canary, "off");
    let told = if row.seen == "broken" { "" } else { row.kind };
    for (what, extra, method) in [
        ("asked for", "h: always\r\n", "GET"),
        ("drawn", "", "GET"),
        ("with a body", "", "POST"),
    ] {
        let (status, kind) = seen(&off, method, extra);
        assert_eq!(
            (status.as_str(), kind.as_str()),
            (row.seen, told),
            "{what}: {row:?}"
        );
    }
    let bad = if row.charged { 2 } else { 0 };
    eventually(row.fault, || off.tally("echo", 1) == [2, 2, bad, 0]);
    if !row.kind.is_empty() {
        let parts = ["serin_failures_total", "canary", row.side, row.kind];
        let parts =
            parts.map(|p| format!("\"{p}\"").replace("\"serin_failures_total\"", "serin_failures_total"));
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        assert_eq!(off.metric(&parts), 3.0, "{row:?}");
    }
    for (method, shielded) in ["GET", "POST"].into_iter().zip(row.shielded) {
        let on = world(&stable, &canary, "on");
        let (status, _) = seen(&on, method, "");
        let wanted = if shielded { "200" } else { row.seen };
        assert_eq!(status, wanted, "{method}: {row:?}");
        let bad = u64::from(row.charged);
        eventually(row.fault, || on.tally("echo", 1) == [1, 1, bad, 0]);
        assert_eq!(on.tally("echo", 0), [0; 4], "stable is not charged: {row:?}");
        let (status, _) = seen(&on, method, "h: always\r\n");
        assert_eq!(
            status, row.seen,
            "who asks for the canary sees the truth: {row:?}"
        );
    }
}

#[test]
fn the_document_is_what_happens() {
    let rows = rows();
    assert!(rows.len() >= 19, "{rows:?}");
    let distinct: BTreeMap<_, _> = rows.iter().map(|r| (r.fault, ())).collect();
    assert_eq!(distinct.len(), rows.len());
    // Each row waits for deadlines most of its time.
    thread::scope(|scope| {
        for row in &rows {
            scope.spawn(move || check(row));
        }
    });
}
