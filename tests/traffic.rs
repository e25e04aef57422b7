//! The black-box cases of the traffic contract, in its numbering, against the built binary: `serin proxy`, scripted
//! backends that count, plain clients. What other tests show already stands in `tests/README.md`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;
#[allow(dead_code)] // the scripted backends and the plain client of the proxy's own tests
#[path = "../proxy/tests/real/world.rs"]
mod world;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::{Request, body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::{
    collections::HashMap,
    convert::Infallible,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    pin::Pin,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};
use support::{Process, SERIN, Scratch, Users, all, serin, stderr, stdout, until};
use tokio::sync::mpsc;
use world::{Backend, Message, Plan, Wire, nobody, ok};

const TOKEN: &str = "a-token-for-tests-alone";
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests that are sent before their answers are read.
const BATCH: usize = 50;

/// `serin proxy` with a file.
struct Front {
    process: Process,
    scratch: Scratch,
    listen: SocketAddr,
    signals: SocketAddr,
    admin: SocketAddr,
}

impl Front {
    fn start(plan: &Plan) -> Front {
        let scratch = Scratch::new();
        scratch.replace("serin.toml", &plan.text());
        scratch.replace("token", TOKEN);
        let mut command = Command::new(SERIN);
        command.arg("proxy").arg("-f").arg(scratch.path("serin.toml"));
        let process = Process::start(command.arg("--token-file").arg(scratch.path("token")));
        let words = until("it says where it listens", PATIENCE * 2, || {
            let printed = process.printed();
            let line = printed.lines().find(|l| l.starts_with("proxy on "))?;
            let words: Vec<_> = line.split("http://").skip(1).map(str::to_owned).collect();
            (words.len() == 3).then_some(words)
        });
        let at = |i: usize| words[i].split([',', ' ']).next().unwrap().parse().unwrap();
        Front {
            listen: at(0),
            signals: at(1),
            admin: at(2),
            process,
            scratch,
        }
    }

    fn client(&self) -> Wire {
        Wire::connect(self.listen)
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Message {
        let n = body.len();
        Wire::connect(self.admin).ask(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {n}\r\n\r\n{body}"
        ))
    }

    fn annotate(&self, key: &str, value: &str) {
        let body = format!("{{\"serin.dev/{key}\": {value:?}}}");
        let answer = self.call("PATCH", "/services/echo/annotations", &body);
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }

    /// Changes the watched file.
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.scratch.path("serin.toml")).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        self.scratch.replace("serin.toml", &text.replace(from, to));
    }

    fn page(&self) -> Value {
        let page = Wire::connect(self.signals).get("/evidence", &[]);
        serde_json::from_slice::<Value>(&page.body).unwrap()["services"]["echo"].clone()
    }

    /// The sum of all series whose line holds these.
    fn metric(&self, parts: &[&str]) -> f64 {
        let text = Wire::connect(self.signals).get("/metrics", &[]).text();
        let lines = text.lines().filter(|l| !l.starts_with('#'));
        let found = lines.filter(|l| parts.iter().all(|p| l.contains(p)));
        found
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Who answers to so many requests, in order: one letter each.
    fn ask(&self, n: usize, headers: &[&str]) -> String {
        ask(&mut self.client(), n, headers)
    }
}

fn ask(client: &mut Wire, n: usize, headers: &[&str]) -> String {
    let lines: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n");
    let mut answers = String::new();
    while answers.len() < n {
        let batch = BATCH.min(n - answers.len());
        client.send(request.repeat(batch));
        for _ in 0..batch {
            let answer = client.message(false).expect("an answer");
            assert_eq!(answer.status(), 200, "{}", answer.text());
            answers += &answer.text();
        }
    }
    answers
}

fn canaries(answers: &str) -> usize {
    answers.matches('C').count()
}

/// Stable says S, the canary says C.
fn tracks() -> (Backend, Backend) {
    (Backend::named("S"), Backend::named("C"))
}

fn front(s: &Backend, c: &Backend, lines: &[(&str, &str)]) -> Front {
    Front::start(&Plan::new().service("echo", &[s.address], &[c.address], lines))
}

fn workers(plan: Plan, n: usize) -> Plan {
    Plan {
        proxy: plan.proxy.replace("workers = 1", &format!("workers = {n}")),
        ..plan
    }
}

#[test]
fn case_01_a_header_forces_a_track_and_anything_else_goes_on() {
    let (s, c) = tracks();
    let front = front(
        &s,
        &c,
        &[("canary-by-header", "X-Canary"), ("canary-weight", "100")],
    );
    assert_eq!(front.ask(20, &["x-CANARY: never"]), "S".repeat(20));
    assert_eq!(front.ask(20, &["X-Canary: other"]), "C".repeat(20));
    front.annotate("canary-weight", "0");
    assert_eq!(front.ask(20, &["X-CANARY: always"]), "C".repeat(20));
    assert_eq!(front.ask(20, &["X-Canary: other"]), "S".repeat(20));
    assert_eq!(
        front.metric(&["serin_decisions_total", "reason=\"header\"", "canary"]),
        20.0
    );
}

#[test]
fn case_02_a_value_replaces_the_words_and_beats_a_pattern() {
    let (s, c) = tracks();
    let lines = [
        ("canary-by-header", "h"),
        ("canary-by-header-value", "v"),
        ("canary-by-header-pattern", ".*"),
    ];
    let front = front(&s, &c, &lines);
    assert_eq!(front.ask(5, &["h: v"]), "CCCCC");
    for other in ["always", "never", "V", "x"] {
        assert_eq!(front.ask(5, &[&format!("h: {other}")]), "SSSSS", "{other}");
    }
    front.annotate("canary-weight", "100");
    assert_eq!(front.ask(5, &["h: never"]), "CCCCC", "never forces nothing");
}

#[test]
fn case_03_a_pattern_matches() {
    let (s, c) = tracks();
    let lines = [
        ("canary-by-header", "h"),
        ("canary-by-header-pattern", "^Do[A-Z][a-z]+y$"),
    ];
    let front = front(&s, &c, &lines);
    assert_eq!(front.ask(5, &["h: DoCanary"]), "CCCCC");
    assert_eq!(front.ask(5, &["h: Docanary"]), "SSSSS");
}

#[test]
fn case_04_cookies_force_and_the_header_beats_them() {
    let (s, c) = tracks();
    let front = front(
        &s,
        &c,
        &[("canary-by-header", "h"), ("canary-by-cookie", "canary")],
    );
    assert_eq!(front.ask(50, &["Cookie: canary=always"]), "C".repeat(50));
    assert_eq!(front.ask(5, &["Cookie: canary=garbage"]), "SSSSS");
    assert_eq!(front.ask(5, &["h: never", "Cookie: canary=always"]), "SSSSS");
    front.annotate("canary-weight", "100");
    assert_eq!(front.ask(50, &["Cookie: a=b; canary=never"]), "S".repeat(50));
}

#[test]
fn case_05_the_share_is_exact() {
    for threads in [1, 2] {
        let (s, c) = tracks();
        let lines = [
            ("canary-weight", "0"),
            ("canary-weight-total", "1000"),
            ("canary-guard", "off"),
        ];
        let plan = Plan::new().service("echo", &[s.address], &[c.address], &lines);
        let front = Front::start(&workers(plan, threads));
        let mut seen = (0, 0);
        for (weight, n, expected, bound) in [
            ("0", 10_000, 0, 0),
            ("1000", 10_000, 10_000, 0),
            ("5", 10_000, 50, threads as u64),
            ("500", 200, 100, 8 * threads as u64),
        ] {
            front.annotate("canary-weight", weight);
            // Several connections, so that every worker has its part.
            thread::scope(|scope| {
                (0..8).for_each(|_| drop(scope.spawn(|| front.ask(n / 8, &[]))));
            });
            let now = (s.hits(), c.hits());
            let (stable, canary) = (now.0 - seen.0, now.1 - seen.1);
            seen = now;
            assert_eq!(stable + canary, n as u64, "{weight} of 1000");
            assert!(
                canary.abs_diff(expected) <= bound,
                "{threads} workers, {weight} of 1000: {canary} of {n}"
            );
        }
    }
}

#[test]
fn case_06_bad_weights_change_nothing_and_are_told() {
    let (s, c) = tracks();
    let front = front(&s, &c, &[("canary-weight", "0.5")]);
    let mut answers = front.ask(400, &[]);
    let mut before = "'0.5'".to_owned();
    for (i, bad) in ["abc", "-1"].iter().enumerate() {
        let next = format!("'{bad}'");
        front.edit(&before, &next);
        before = next;
        until("it is told", PATIENCE, || {
            let counted = front.metric(&["serin_config_rejected_total", "serin.dev/canary-weight"]);
            (counted >= (i + 1) as f64).then_some(())
        });
        let fault = format!("serin.dev/canary-weight = \"{bad}\"");
        assert!(
            front.process.printed().contains(&fault),
            "{}",
            front.process.printed()
        );
        answers += &front.ask(800, &[]);
    }
    assert!(
        canaries(&answers).abs_diff(10) <= 1,
        "{} of 2000",
        canaries(&answers)
    );
    assert_eq!(front.page()["share"], 0.005);
}

#[test]
fn case_07_another_header_name_takes_force_without_a_failure() {
    let (s, c) = tracks();
    let front = front(&s, &c, &[("canary-by-header", "x-old")]);
    assert_eq!(front.ask(1, &["x-old: always"]), "C");
    let users = Users::start(front.listen, 500.0, 8);
    thread::sleep(Duration::from_millis(300));
    front.annotate("canary-by-header", "x-new");
    assert_eq!(front.ask(20, &["x-old: always"]), "S".repeat(20));
    assert_eq!(front.ask(20, &["x-new: always"]), "C".repeat(20));
    thread::sleep(Duration::from_millis(300));
    let report = users.stop();
    assert!(
        report.sent > 100 && report.broken == 0 && report.bad_at.is_empty(),
        "{report:?}"
    );
}

#[test]
fn case_08_an_empty_track_is_served_by_the_other() {
    let (s, c) = tracks();
    let start = |stable: &[SocketAddr], canary: &[SocketAddr], weight: &str| {
        let lines = [("canary-by-header", "h"), ("canary-weight", weight)];
        Front::start(&Plan::new().service("echo", stable, canary, &lines))
    };
    let no_canary = start(&[s.address], &[], "100");
    let forced = no_canary.client().get("/", &["h: always"]);
    assert_eq!((forced.status(), forced.text().as_str()), (200, "S"));
    assert_eq!(
        forced.header("x-serin-track"),
        Some("stable"),
        "who asked is told who served"
    );
    assert_eq!(no_canary.ask(20, &[]), "S".repeat(20));
    assert_eq!(
        no_canary.metric(&["serin_decisions_total", "fallback_empty"]),
        21.0
    );
    for (weight, header, status) in [("1", "a: b", 200), ("0", "a: b", 503), ("1", "h: never", 503)] {
        let answer = start(&[], &[c.address], weight).client().get("/", &[header]);
        assert_eq!(answer.status(), status, "{weight} {header}");
    }
}

#[test]
fn case_09_a_canary_is_of_one_service_alone() {
    let (s, c) = tracks();
    let other = Backend::named("O");
    let lines = [
        ("hosts", "a.test"),
        ("canary-by-header", "h"),
        ("canary-weight", "100"),
    ];
    let plan = Plan::new()
        .service("echo", &[s.address], &[c.address], &lines)
        .service("other", &[other.address], &[], &[("hosts", "b.test")]);
    let front = Front::start(&plan);
    let mut client = front.client();
    for _ in 0..50 {
        let mut to = |host: &str| {
            let request =
                format!("GET / HTTP/1.1\r\nHost: {host}\r\nh: always\r\nCookie: canary=always\r\n\r\n");
            client.ask(&request).text()
        };
        assert_eq!((to("b.test").as_str(), to("a.test").as_str()), ("O", "C"));
    }
    assert_eq!((c.hits(), other.hits()), (50, 50));
}

#[test]
fn case_10_users_follow_the_weight_and_nobody_goes_back() {
    let (s, c) = tracks();
    let cohort = [
        ("canary-cohort", "cookie"),
        ("canary-cohort-salt", "one"),
        ("canary-weight", "5"),
    ];
    let front = front(&s, &c, &cohort);
    let mut client = front.client();
    let users: Vec<String> = (0..1000)
        .map(|_| {
            let set = client.get("/", &[]).header("set-cookie").unwrap().to_owned();
            set.split(';').next().unwrap().to_owned()
        })
        .collect();
    let buckets: Vec<u64> = users.iter().map(|u| bucket(&front, u)).collect();
    let mut before = vec![false; users.len()];
    for weight in [5u64, 20, 50] {
        front.annotate("canary-weight", &weight.to_string());
        let now: Vec<bool> = users
            .iter()
            .map(|u| client.get("/", &[&format!("Cookie: {u}")]).text() == "C")
            .collect();
        assert!(
            before.iter().zip(&now).all(|(b, n)| !b || *n),
            "somebody went back at {weight} %"
        );
        let share = now.iter().filter(|c| **c).count();
        let meant = buckets.iter().filter(|b| **b < weight * 10_000).count();
        assert_eq!(
            share, meant,
            "the users whose bucket is below the weight, and no other"
        );
        let w = weight as f64 / 100.0;
        let sigma = (1000.0 * w * (1.0 - w)).sqrt();
        assert!(
            (share as f64 - 1000.0 * w).abs() < 5.0 * sigma,
            "{share} of 1000 at {weight} %"
        );
        before = now;
    }
    front.annotate("canary-weight", "0");
    let home = users
        .iter()
        .all(|u| client.get("/", &[&format!("Cookie: {u}")]).text() == "S");
    assert!(home, "all are home");
}

/// A user's bucket, as the proxy tells it.
fn bucket(front: &Front, cookie: &str) -> u64 {
    let question = format!("{{\"url\": \"/\", \"headers\": [\"host: test\", \"cookie: {cookie}\"]}}");
    let told: Value = serde_json::from_slice(&front.call("POST", "/decide", &question).body).unwrap();
    told["bucket"].as_u64().unwrap()
}

#[test]
fn case_11_a_weight_change_under_load_closes_and_fails_nothing() {
    let (s, c) = (
        Backend::raw(answer_or_echo("S")),
        Backend::raw(answer_or_echo("C")),
    );
    let front = front(&s, &c, &[("canary-weight", "0"), ("canary-guard", "off")]);
    let done = Arc::new(AtomicBool::new(false));
    let users = Users::start(front.listen, 1000.0, 16);
    let h2 = multiplexed(front.listen, Arc::clone(&done));
    let socket = web_socket(front.listen, Arc::clone(&done));
    let stream = grpc_stream(front.listen, Arc::clone(&done));
    for i in 1..=50u32 {
        front.annotate("canary-weight", &(i * 7 % 101).to_string());
        thread::sleep(Duration::from_millis(20));
    }
    front.annotate("canary-weight", "100");
    thread::sleep(Duration::from_millis(200));
    done.store(true, Ordering::SeqCst);
    let report = users.stop();
    let good: u64 = report
        .answers
        .iter()
        .filter(|((s, _), _)| *s == 200)
        .map(|(_, n)| n)
        .sum();
    assert_eq!(
        (report.broken, report.sent - good),
        (0, 0),
        "{:?}",
        report.answers
    );
    assert_eq!(
        report.answers.len(),
        2,
        "both tracks answered: {:?}",
        report.answers
    );
    let counts = [h2, socket, stream].map(|t| t.join().unwrap());
    assert!(
        counts.iter().all(|n| *n > 20),
        "h2 requests, frames, messages: {counts:?}"
    );
    println!(
        "{} requests by h1, {counts:?} by h2, WebSocket and a stream",
        report.sent
    );
}

/// Answers with its name; a body that is asked to be echoed, and an upgraded connection, come back as they are.
fn answer_or_echo(name: &'static str) -> impl Fn(Wire) + Send + Sync + 'static {
    move |mut wire| {
        while let Some(head) = wire.head() {
            if head.header("upgrade").is_some() {
                wire.send(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
                );
                return echo(&mut wire);
            }
            if head.header("transfer-encoding").is_some() {
                // Chunks go back as they came, to the last one.
                wire.send(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n",
                );
                return echo(&mut wire);
            }
            wire.send(ok(name));
        }
    }
}

fn echo(wire: &mut Wire) {
    let mut buf = [0; 4096];
    while let Ok(n @ 1..) = wire.read(&mut buf) {
        wire.send(&buf[..n]);
    }
}

/// A WebSocket that sends masked frames and reads them again.
fn web_socket(to: SocketAddr, done: Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let mut wire = Wire::connect(to);
        wire.send("GET /socket HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        let head = wire.head().expect("an answer");
        assert_eq!(head.status(), 101, "{head:?}");
        let mut frames = 0;
        while !done.load(Ordering::SeqCst) {
            let frame = [&[0x82, 0x84, 1, 2, 3, 4][..], &(frames as u32).to_be_bytes()].concat();
            wire.send(&frame);
            let mut back = Vec::new();
            let mut buf = [0; 16];
            while back.len() < frame.len() {
                let n = wire.read(&mut buf).expect("it is open");
                assert_ne!(n, 0, "the WebSocket was closed after {frames} frames");
                back.extend_from_slice(&buf[..n]);
            }
            assert_eq!(back, frame);
            frames += 1;
            thread::sleep(Duration::from_millis(5));
        }
        frames
    })
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Runs on a thread of its own.
fn on_a_thread<F: Future<Output = u64>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> thread::JoinHandle<u64> {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        tokio::task::LocalSet::new().block_on(&runtime.unwrap(), work())
    })
}

/// One connection of HTTP/2; when it ends before its time, requests fail.
async fn connect(to: SocketAddr) -> http2::SendRequest<Body> {
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = shaken.unwrap();
    tokio::spawn(connection);
    sender
}

fn multiplexed(to: SocketAddr, done: Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    on_a_thread(move || async move {
        let mut sender = connect(to).await;
        let mut answered = 0;
        while !done.load(Ordering::SeqCst) {
            let request = Request::get("http://test/")
                .body(Empty::new().boxed_unsync())
                .unwrap();
            let answer = sender
                .send_request(request)
                .await
                .expect("the connection is open");
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.expect("a whole answer");
            answered += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        answered
    })
}

/// A body whose pieces come over a channel.
struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|p| Ok(Frame::data(p))))
    }
}

/// A gRPC call that streams in both directions: each message comes back before the next one is sent.
fn grpc_stream(to: SocketAddr, done: Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    on_a_thread(move || async move {
        let mut sender = connect(to).await;
        let (pieces, body) = mpsc::channel(1);
        let request = Request::post("http://test/echo.Echo/Chat")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Pieces(body).boxed_unsync())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut answer = answer.into_body();
        let mut messages = 0u64;
        while !done.load(Ordering::SeqCst) {
            let message = [&[0, 0, 0, 0, 8][..], &messages.to_be_bytes()].concat();
            pieces.send(Bytes::from(message.clone())).await.unwrap();
            let mut back = Vec::new();
            while back.len() < message.len() {
                let frame = answer.frame().await.expect("the stream is open").unwrap();
                back.extend_from_slice(frame.data_ref().unwrap());
            }
            assert_eq!(back, message);
            messages += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        messages
    })
}

#[test]
fn case_12_a_canary_pod_that_refuses_costs_no_request_and_is_charged() {
    let (s, c) = tracks();
    let lines = [("canary-weight", "50"), ("canary-guard", "off")];
    let plan = Plan::new().service("echo", &[s.address], &[c.address, nobody()], &lines);
    let front = Front::start(&plan);
    let mut client = front.client();
    for _ in 0..400 {
        assert_eq!(client.get("/", &[]).status(), 200);
    }
    let charged = front.metric(&["serin_failures_total", "track=\"canary\"", "kind=\"connect\""]);
    assert!(charged >= 1.0, "{charged}");
    let failures = front.metric(&["serin_failures_total", "service=\"echo\""]);
    assert_eq!(failures, charged, "nobody else is charged");
    let page = front.page();
    let bad = |track: usize| {
        let cohorts = page["cohorts"].as_array().unwrap();
        let each = cohorts
            .iter()
            .map(|c| c["tracks"][track]["bad"]["ever"].as_u64().unwrap());
        each.sum::<u64>()
    };
    assert_eq!((bad(0), bad(1) as f64), (0, charged));
}

#[test]
fn case_13_two_lines_or_a_list_are_no_exact_value() {
    let (s, c) = tracks();
    let front = front(&s, &c, &[("canary-by-header", "h")]);
    for headers in [
        &["h: always", "h: always"][..],
        &["h: always, x"],
        &["h: never", "h: always"],
    ] {
        assert_eq!(front.ask(5, headers), "SSSSS", "{headers:?}");
    }
    front.annotate("canary-weight", "100");
    assert_eq!(front.ask(5, &["h: never", "h: never"]), "CCCCC");
}

#[test]
fn case_14_a_hang_ends_at_the_deadline_and_is_seen_before() {
    let s = Backend::named("S");
    let hangs = Backend::raw(|mut wire| {
        wire.message(false);
        let _ = wire.is_closed();
    });
    let lines = [
        ("canary-weight", "100"),
        ("canary-shield", "off"),
        ("canary-guard", "off"),
    ];
    let plan = Plan::new().set("requestTimeout = \"4s\"");
    let front = Front::start(&plan.service("echo", &[s.address], &[hangs.address], &lines));
    let start = Instant::now();
    let mut clients: Vec<Wire> = (0..5).map(|_| front.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let slow = until("they are seen as slow while they hang", PATIENCE, || {
        let page = front.page();
        let cohorts = page["cohorts"].as_array().unwrap();
        let sum = |key: &str| {
            cohorts
                .iter()
                .map(|c| c["tracks"][1]["bad"][key].as_u64().unwrap())
                .sum::<u64>()
        };
        let started: u64 = cohorts
            .iter()
            .map(|c| c["tracks"][1]["started"].as_u64().unwrap())
            .sum();
        let finished: u64 = cohorts
            .iter()
            .map(|c| c["tracks"][1]["finished"].as_u64().unwrap())
            .sum();
        (started == 5).then_some((finished, sum("ever"), page["inflight"][1].as_u64().unwrap()))
    });
    assert_eq!(slow, (0, 0, 5), "started, under way, and not finished");
    thread::sleep((start + Duration::from_millis(1500)).saturating_duration_since(Instant::now()));
    let page = front.page();
    let cohorts = page["cohorts"].as_array().unwrap();
    let served = |c: &Value| c["tracks"][1]["served"]["by_1s"].as_u64().unwrap();
    assert_eq!(
        cohorts.iter().map(served).sum::<u64>(),
        0,
        "none had a good answer after a second: {page}"
    );
    assert!(start.elapsed() < Duration::from_secs(4));
    for client in &mut clients {
        assert_eq!(client.message(false).unwrap().status(), 504);
    }
    let took = start.elapsed();
    assert!(
        (Duration::from_millis(3900)..Duration::from_millis(5500)).contains(&took),
        "{took:?}"
    );
    assert_eq!(
        front.metric(&["serin_failures_total", "track=\"canary\"", "kind=\"timeout\""]),
        5.0
    );
}

/// Clients that repeat patterns: each element of the pattern goes to the canary at the same rate. A counter, or a point
/// that is fixed in each stratum, would send some of them always and others never.
#[test]
fn promise_01_no_pattern_locks_onto_the_split() {
    let (s, c) = tracks();
    let front = front(&s, &c, &[("canary-weight", "10"), ("canary-guard", "off")]);
    let mut client = front.client();
    let some = [2usize, 3, 5, 7, 10, 20, 50, 100];
    let periods = if all() { (2..=100).collect() } else { some.to_vec() };
    for period in periods {
        let rounds = 6000 / period;
        let answers = ask(&mut client, rounds * period, &[]);
        let mut counts = vec![0f64; period];
        for (i, answer) in answers.chars().enumerate() {
            counts[i % period] += f64::from(u8::from(answer == 'C'));
        }
        let expected = rounds as f64 * 0.1;
        let chi: f64 = counts
            .iter()
            .map(|n| (n - expected).powi(2) / (expected * 0.9))
            .sum();
        let freedom = period as f64;
        // Beyond five standard deviations of the chi-square distribution.
        let limit = freedom + 5.0 * (2.0 * freedom).sqrt() + 5.0;
        assert!(chi < limit, "period {period}: chi-square {chi:.1} of {counts:?}");
        let total: f64 = counts.iter().sum();
        assert!(
            (total - 600.0).abs() <= 2.0,
            "period {period}: {total} canaries in {}",
            answers.len()
        );
    }
}

#[test]
fn promise_02_every_replica_gives_the_same_user_the_same_track() {
    let (s, c) = tracks();
    let cohort = [
        ("canary-cohort", "header:x-user"),
        ("canary-cohort-salt", "s"),
        ("canary-weight", "40"),
    ];
    let (one, two) = (front(&s, &c, &cohort), front(&s, &c, &cohort));
    let of = |front: &Front| -> HashMap<String, String> {
        let mut client = front.client();
        let users = (0..300).map(|i| format!("x-user: u{i}"));
        users
            .map(|u| (u.clone(), client.get("/", &[&u]).text()))
            .collect()
    };
    let first = of(&one);
    assert_eq!(first, of(&two));
    let canary = first.values().filter(|t| *t == "C").count();
    assert!((80..=160).contains(&canary), "{canary}");
    one.annotate("canary-cohort-salt", "another");
    assert_ne!(of(&one), first, "another salt, other users first");
}

/// A request counts as it is served, not as it is asked for: nothing is lost between sockets and evidence.
#[test]
fn promise_01_the_evidence_agrees_with_the_backends_across_changes() {
    let (s, c) = tracks();
    let front = front(&s, &c, &[("canary-weight", "0"), ("canary-guard", "off")]);
    let mut client = front.client();
    let (mut sum, mut random, mut asked) = (0.0, 7u64, 0);
    for _ in 0..60 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // At the edges the bound is one request, for any history.
        let weight = match (random >> 33) % 41 {
            w @ 0..=20 => w,
            w => w + 59,
        };
        front.annotate("canary-weight", &weight.to_string());
        let n = 5 + (random >> 40) % 40;
        ask(&mut client, n as usize, &[]);
        sum += weight as f64 / 100.0 * n as f64;
        asked += n;
        let off = c.hits() as f64 - sum;
        assert!(off.abs() <= 1.0 + 1e-6, "{off} after {asked} requests");
    }
    assert_eq!(s.hits() + c.hits(), asked);
    let judged = front.metric(&["serin_requests_total", "evidence=\"true\""]);
    assert_eq!(judged, asked as f64);
}

#[test]
fn serin_where_says_what_the_proxy_does() {
    let (s, c) = tracks();
    let front = front(
        &s,
        &c,
        &[("canary-by-header", "x-canary"), ("canary-weight", "12.5")],
    );
    let (admin, token) = (front.admin.to_string(), front.scratch.path("token"));
    let where_ = |args: &[&str]| {
        let at = ["--admin", &admin, "--token-file", token.to_str().unwrap()];
        serin(&[&["where"], args, &at[..]].concat())
    };
    let forced = where_(&["echo", "/beta", "--header", "x-canary: always"]);
    assert!(forced.status.success(), "{}", stderr(&forced));
    let text = stdout(&forced);
    assert!(
        text.starts_with("it goes to canary, decided by header\n"),
        "{text}"
    );
    assert!(
        text.contains("> header     x-canary: always asks for canary\n"),
        "{text}"
    );
    let chance = where_(&["echo", "/", "--output", "json"]);
    let told: Value = serde_json::from_slice(&chance.stdout).unwrap();
    assert_eq!(
        (&told["chance"], &told["reason"]),
        (&0.125.into(), &"weight".into()),
        "{told}"
    );
    // A whole URL, as people paste it, names its host; --host wins over a header.
    for args in [
        &["echo", "http://pasted.example/x", "--output", "json"][..],
        &[
            "echo",
            "/",
            "--host",
            "pasted.example",
            "--header",
            "Host: not.this",
            "--output",
            "json",
        ],
    ] {
        let told: Value = serde_json::from_slice(&where_(args).stdout).unwrap();
        assert_eq!(
            (&told["host"], &told["refused"]),
            (&"pasted.example".into(), &Value::Null),
            "{args:?}"
        );
    }
    for (args, remedy) in [
        (&["echo", "pasted.example/x"][..], "begin with /"),
        (&["echo", "/", "--header", "nocolon"], "write `name: value`"),
        (&["ecoh", "/"], "did you mean echo?"),
    ] {
        let slip = where_(args);
        assert_eq!(slip.status.code(), Some(1));
        assert!(stderr(&slip).contains(remedy), "{}", stderr(&slip));
    }
    let unknown = where_(&["other", "/"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        stderr(&unknown).contains("no service other"),
        "{}",
        stderr(&unknown)
    );
    assert_eq!(s.hits() + c.hits(), 0, "nothing was sent");
}

/// An access log on a pipe that nobody reads stops no request and no end.
#[test]
fn a_log_that_nobody_takes_stops_nothing() {
    let s = Backend::named("S");
    let plan = Plan::new().set("accessLog = { to = \"stdout\", sample = 1.0 }");
    let scratch = Scratch::new();
    scratch.replace("serin.toml", &plan.service("echo", &[s.address], &[], &[]).text());
    scratch.replace("token", TOKEN);
    let mut child = Command::new(SERIN)
        .arg("proxy")
        .arg("-f")
        .arg(scratch.path("serin.toml"))
        .arg("--token-file")
        .arg(scratch.path("token"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = BufReader::with_capacity(256, child.stdout.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    let at: Vec<SocketAddr> = line
        .split("http://")
        .skip(1)
        .map(|w| w.split([',', '\n']).next().unwrap().parse().unwrap())
        .collect();
    let mut client = Wire::connect(at[0]);
    let answers = ask(&mut client, 10_000, &[]);
    assert_eq!(answers.len(), 10_000);
    let dropped = until("the loss is counted", PATIENCE, || {
        let text = Wire::connect(at[1]).get("/metrics", &[]).text();
        let line = text
            .lines()
            .find(|l| l.starts_with("serin_access_log_dropped_total"))?
            .to_owned();
        line.rsplit(' ').next()?.parse::<f64>().ok().filter(|n| *n > 0.0)
    });
    println!("{dropped} of 10000 lines dropped");
    drop(client);
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    until("it ends", Duration::from_secs(15), || child.try_wait().unwrap());
}
