//! Request smuggling: whatever a client sends, no server behind the proxy sees a request that the proxy did not see.
//! Raw sockets, in front of two servers that read HTTP by their own rules: nginx and Node.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/frames.rs"]
mod frames;
mod support;
#[path = "smuggling/table.rs"]
mod table;

use frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, field, frame};
use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};
use support::*;
use table::{HTTP1, HTTP2, Then};

/// Payloads that are sent at once.
const HANDS: usize = 8;
/// How long nothing comes where nothing may come.
const SILENCE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that tells what it saw.
struct Origin {
    process: Process,
    kind: Kind,
}

enum Kind {
    Node,
    /// Access log and error log.
    Nginx(PathBuf, PathBuf),
}

impl Origin {
    fn node(scratch: &Scratch, port: u16) -> Origin {
        let script = scratch.path("origin.js");
        fs::write(&script, include_str!("smuggling/origin.js")).unwrap();
        let process = Process::start(Command::new("node").arg(script).arg(port.to_string()));
        Origin::ready(process, port, Kind::Node)
    }

    /// The outer server reads whole requests, as every proxy_pass of nginx does, before it asks the inner one.
    fn nginx(scratch: &Scratch, port: u16, inner: u16) -> Origin {
        let folder = scratch.path("nginx");
        fs::create_dir_all(&folder).unwrap();
        let f = folder.display();
        let text = format!(
            "daemon off; pid {f}/pid; error_log {f}/error.log info; events {{ worker_connections 1024; }}\n\
             http {{ client_body_temp_path {f}/t1; proxy_temp_path {f}/t2; fastcgi_temp_path {f}/t3; uwsgi_temp_path {f}/t4; \
             scgi_temp_path {f}/t5; keepalive_requests 1000000; keepalive_timeout 600s; underscores_in_headers on;\n\
             log_format seen 'seen $request_method $request_uri'; access_log off;\n\
             server {{ listen 127.0.0.1:{port}; access_log {f}/access.log seen; location / {{ proxy_pass http://127.0.0.1:{inner}; }} }}\n\
             server {{ listen 127.0.0.1:{inner}; location / {{ return 200 'nginx\\n'; }} }} }}\n"
        );
        fs::write(folder.join("nginx.conf"), text).unwrap();
        let process = Process::start(
            Command::new("nginx")
                .arg("-p")
                .arg(&folder)
                .arg("-c")
                .arg(folder.join("nginx.conf")),
        );
        let kind = Kind::Nginx(folder.join("access.log"), folder.join("error.log"));
        Origin::ready(process, port, kind)
    }

    fn ready(process: Process, port: u16, kind: Kind) -> Origin {
        until("the server answers", Duration::from_secs(20), || {
            get(loopback(port), "/started").filter(|a| a.status == 200)
        });
        Origin { process, kind }
    }

    /// `seen METHOD TARGET` for each request that began there.
    fn seen(&self) -> Vec<String> {
        let text = match &self.kind {
            Kind::Node => self.process.printed(),
            Kind::Nginx(access, _) => fs::read_to_string(access).unwrap_or_default(),
        };
        let lines = text
            .lines()
            .filter(|l| l.starts_with("seen ") && !l.contains("/started"));
        lines.map(str::to_owned).collect()
    }

    /// What it could not read. A request that broke off is no such thing.
    fn complaints(&self) -> Vec<String> {
        let (text, word) = match &self.kind {
            Kind::Node => (self.process.printed(), "bad HPE"),
            Kind::Nginx(_, errors) => (fs::read_to_string(errors).unwrap_or_default(), "client sent"),
        };
        let lines = text
            .lines()
            .filter(|l| l.contains(word) && !l.contains("EOF_STATE"));
        lines.map(str::to_owned).collect()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.process.signal("TERM");
        let _ = self.process.child.wait();
    }
}

fn front(scratch: Scratch, origin: u16) -> Run {
    let [a, b, c] = free_ports();
    let text = file([a, b, c], 1, &[origin], &[], &[], "");
    Run::start_in(scratch, [a, b, c], &text)
}

/// What one payload came to.
struct Outcome {
    case: String,
    /// Most requests that a server may have seen of it.
    allowed: usize,
    mark: String,
    fault: Option<String>,
}

/// All payloads, some at a time.
fn all<T: Sync>(cases: &[T], send: impl Fn(usize, &T) -> Outcome + Sync) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let hand = || {
            let mut mine = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::SeqCst);
                let Some(case) = cases.get(i) else { return mine };
                mine.push(send(i, case));
            }
        };
        let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(hand)).collect();
        hands.into_iter().flat_map(|h| h.join().unwrap()).collect()
    })
}

fn fill(text: &str, i: usize) -> String {
    let hidden = format!("GET /smuggled{i}/ HTTP/1.1\r\nHost: a\r\n\r\n");
    text.replace("{n}", &hidden.len().to_string())
        .replace("{x}", &format!("{:x}", hidden.len()))
        .replace("{m}", &format!("/mark{i}/"))
        .replace("{s}", &format!("/smuggled{i}/"))
}

/// Statuses of the final answers in what came back, and whether the last one closes.
fn answers(text: &str) -> Vec<(u16, bool)> {
    let heads = text.split("HTTP/1.1 ").skip(1);
    heads
        .filter_map(|h| Some((h.get(..3)?.parse().ok()?, h.contains("connection: close\r\n"))))
        .filter(|(status, _)| *status >= 200)
        .collect()
}

/// Reads until `enough` holds, the other side closes, or time is up. True when it has closed.
fn read(stream: &mut TcpStream, patience: Duration, enough: impl Fn(&str) -> bool) -> (String, bool) {
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut all = Vec::new();
    loop {
        let mut more = [0; 4096];
        match stream.read(&mut more) {
            Ok(0) => return (String::from_utf8_lossy(&all).into_owned(), true),
            Ok(n) => all.extend(&more[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {
                return (String::from_utf8_lossy(&all).into_owned(), true);
            }
            Err(_) => return (String::from_utf8_lossy(&all).into_owned(), false),
        }
        if enough(&String::from_utf8_lossy(&all)) {
            return (String::from_utf8_lossy(&all).into_owned(), false);
        }
    }
}

fn plain(to: SocketAddr, i: usize, payload: &str, then: Then) -> Outcome {
    let behind = match then {
        Then::Served(_) => format!("GET /after/mark{i}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        _ => format!("GET /smuggled{i}/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    };
    // Octets above 127 stand for themselves.
    let octets: Vec<u8> = (fill(payload, i) + if then == Then::Waits { "" } else { &behind }).into_bytes();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(&octets).unwrap();
    let (fault, allowed) = match then {
        Then::Refused(status) => {
            let (text, closed) = read(&mut stream, PATIENCE, |_| false);
            let right = answers(&text) == [(status, true)] && closed;
            ((!right).then(|| format!("closed: {closed}, {text:?}")), 1)
        }
        Then::Served(n) => {
            let (text, _) = read(&mut stream, PATIENCE, |t| answers(t).len() > n);
            let got = answers(&text);
            let right = got.len() == n + 1 && got.iter().all(|(s, _)| *s == 200);
            ((!right).then_some(text), n + 1)
        }
        Then::Waits => {
            let (text, closed) = read(&mut stream, SILENCE, |_| false);
            let _ = stream.shutdown(Shutdown::Both);
            ((closed || !text.is_empty()).then_some(text), 1)
        }
    };
    Outcome {
        case: payload.to_owned(),
        allowed,
        mark: format!("/mark{i}/"),
        fault,
    }
}

fn multiplexed(to: SocketAddr, i: usize, case: &(&str, table::Fields, &[&[u8]])) -> Outcome {
    let (name, fields, body) = case;
    let put = |text: &[u8]| match std::str::from_utf8(text) {
        Ok(text) => fill(text, i).into_bytes(),
        Err(_) => text.to_vec(),
    };
    let block: Vec<u8> = fields.iter().flat_map(|(n, v)| field(&put(n), &put(v))).collect();
    let ends = |last: bool| if last { END_STREAM } else { 0 };
    let mut raw = Raw::connect(to, &[]);
    let _ = raw.send(&frame(HEADERS, END_HEADERS | ends(body.is_empty()), 1, &block));
    for (k, data) in body.iter().enumerate() {
        let _ = raw.send(&frame(DATA, ends(k + 1 == body.len()), 1, &put(data)));
    }
    let end = raw.find(PATIENCE, |f| [HEADERS, RST_STREAM, GOAWAY].contains(&f.kind));
    let fault = match end {
        Some(f) if f.kind == HEADERS => {
            // The status is the first field: 400 and 404 have an index of their own (RFC 7541, A), and others are
            // three digits after the name's index, of which a four in Huffman's code is 0110 10 (B).
            let refused = match f.payload[..] {
                [0x8c | 0x8d, ..] => true,
                [0x48, 0x83, digits, ..] => digits & 0xfc == 0x68,
                _ => false,
            };
            (!refused).then(|| format!("answered {:?}", f.payload))
        }
        Some(_) => None,
        None => Some("neither answered nor reset".to_owned()),
    };
    Outcome {
        case: (*name).to_owned(),
        // A body that is too short or too long is seen after the head went on.
        allowed: usize::from(name.contains("body")),
        mark: format!("/mark{i}/"),
        fault,
    }
}

/// Every payload of both protocols against one server.
fn try_all(name: &str, scratch: Scratch, origin: &Origin, port: u16) {
    let run = front(scratch, port);
    let mut outcomes = all(HTTP1, |i, (_, payload, then)| {
        plain(run.listen, i, payload, *then)
    });
    outcomes.extend(all(HTTP2, |i, case| multiplexed(run.listen, 1000 + i, case)));
    // The last requests are written to the logs when this one is.
    assert_eq!(get(run.listen, "/last").unwrap().status, 200);
    let seen = until("the log is written", PATIENCE, || {
        Some(origin.seen()).filter(|s| s.iter().any(|l| l.ends_with(" /last")))
    });
    let mut faults: Vec<String> = outcomes
        .iter()
        .filter_map(|o| Some(format!("{:?}: {}", o.case, o.fault.as_ref()?)))
        .collect();
    for o in &outcomes {
        let n = seen.iter().filter(|l| l.contains(&o.mark)).count();
        if n > o.allowed {
            faults.push(format!(
                "{:?}: {n} requests seen, at most {} sent",
                o.case, o.allowed
            ));
        }
    }
    faults.extend(seen.iter().filter(|l| l.contains("smuggled")).cloned());
    faults.extend(origin.complaints());
    let passed = decided(&run);
    println!(
        "{name}: {} payloads, the proxy passed {passed} requests on, the server saw {}",
        outcomes.len(),
        seen.len()
    );
    if seen.len() as f64 > passed {
        faults.push(format!(
            "the server saw {} requests, the proxy {passed}",
            seen.len()
        ));
    }
    assert!(
        faults.is_empty(),
        "{name}, {} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// Requests that the proxy sent to a track, by its own count.
fn decided(run: &Run) -> f64 {
    let text = get(run.signals, "/metrics").unwrap().body;
    let lines = text.lines().filter(|l| l.starts_with("serin_decisions_total"));
    lines
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[test]
fn there_are_enough_payloads_and_no_two_are_the_same() {
    let mut payloads: Vec<_> = HTTP1.iter().map(|c| c.1).collect();
    payloads.sort_unstable();
    payloads.dedup();
    assert_eq!(payloads.len(), HTTP1.len());
    assert!(HTTP1.len() >= 120, "{}", HTTP1.len());
}

#[test]
fn nothing_is_smuggled_past_nginx() {
    let scratch = Scratch::new();
    let [port, inner] = free_ports();
    let origin = Origin::nginx(&scratch, port, inner);
    try_all("nginx", scratch, &origin, port);
}

#[test]
fn nothing_is_smuggled_past_node() {
    let scratch = Scratch::new();
    let [port] = free_ports();
    let origin = Origin::node(&scratch, port);
    try_all("node", scratch, &origin, port);
}
