//! Endpoints that speak HTTP/2: many requests on few connections, and what becomes of them when a connection ends.

use crate::world::*;
use bytes::Bytes;
use h2::{Reason, RecvStream, server};
use http::{HeaderMap, Response, StatusCode};
use std::{
    future::{Future, poll_fn},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

type Request = http::Request<RecvStream>;
type Respond = server::SendResponse<Bytes>;
type Done = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An endpoint that speaks HTTP/2 without TLS.
struct Shared {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
}

impl Shared {
    /// Each request is given to `script`, with its number.
    fn new(streams: u32, script: impl Fn(u64, Request, Respond) -> Done + Send + Sync + 'static) -> Shared {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (c, r) = (Arc::clone(&connections), Arc::clone(&requests));
        let script = Arc::new(script);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    c.fetch_add(1, Ordering::SeqCst);
                    let (script, r) = (Arc::clone(&script), Arc::clone(&r));
                    tokio::spawn(async move {
                        let mut builder = server::Builder::new();
                        builder.max_concurrent_streams(streams);
                        let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
                            return;
                        };
                        while let Some(Ok((request, respond))) = connection.accept().await {
                            let n = r.fetch_add(1, Ordering::SeqCst);
                            tokio::spawn(script(n, request, respond));
                        }
                    });
                }
            });
        });
        Shared {
            address,
            connections,
            requests,
        }
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

fn through(address: SocketAddr) -> World {
    Plan::new()
        .service("echo", &[address], &[], &[("protocol", "h2c")])
        .start()
}

fn head(status: u16, lines: &[(&'static str, &str)]) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in lines {
        head.headers_mut().append(*name, value.parse().unwrap());
    }
    head
}

/// Reads a body and its trailers.
async fn collect(body: &mut RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    (all, body.trailers().await.unwrap_or_default())
}

/// Sends a body as the window opens.
async fn send(up: &mut h2::SendStream<Bytes>, mut body: Bytes, ended: bool) {
    while !body.is_empty() {
        up.reserve_capacity(body.len());
        let Some(Ok(n)) = poll_fn(|cx| up.poll_capacity(cx)).await else {
            return;
        };
        let part = body.split_to(n.min(body.len()));
        if up.send_data(part, false).is_err() {
            return;
        }
    }
    if ended {
        let _ = up.send_data(Bytes::new(), true);
    }
}

/// Gives body and trailers back, and says what it saw.
fn echo() -> Shared {
    Shared::new(100, |_, request, mut respond| {
        Box::pin(async move {
            let (parts, mut body) = request.into_parts();
            let (all, trailers) = collect(&mut body).await;
            let seen = |name: &str| {
                parts
                    .headers
                    .get(name)
                    .map_or("", |v| v.to_str().unwrap())
                    .to_owned()
            };
            let length = seen("content-length");
            let answer = head(
                200,
                &[
                    (
                        "x-seen",
                        &format!("{} {} te={} length={length}", parts.method, parts.uri, seen("te")),
                    ),
                    ("x-forwarded", &seen("x-forwarded-for")),
                    (
                        "x-bad",
                        &(seen("connection") + &seen("transfer-encoding") + &seen("host")),
                    ),
                    ("x-cookie", &seen("cookie")),
                ],
            );
            let mut up = respond.send_response(answer, false).unwrap();
            send(&mut up, all.into(), trailers.is_none()).await;
            if let Some(trailers) = trailers {
                up.send_trailers(trailers).unwrap();
            }
        })
    })
}

/// Says this text, after this time.
fn says(text: &'static str, after: u64, streams: u32) -> Shared {
    Shared::new(streams, move |_, _, mut respond| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            if let Ok(mut up) = respond.send_response(head(200, &[]), false) {
                send(&mut up, Bytes::from_static(text.as_bytes()), true).await;
            }
        })
    })
}

/// One that knows nothing of other protocols.
pub fn plain_http_2() -> SocketAddr {
    says("S", 0, 100).address
}

#[test]
fn bodies_and_trailers_pass_both_ways_and_heads_in_the_words_of_http_2() {
    let backend = echo();
    let world = through(backend.address);
    let mut client = world.client();
    for n in [0usize, 1, 5000, 70_000, 5_000_000] {
        let body: Vec<u8> = (0..n as u64)
            .map(|i| (i.wrapping_mul(0x9e37_79b9) >> 16) as u8)
            .collect();
        let mut up = client.stream().try_clone().unwrap();
        let sent = body.clone();
        let sender = thread::spawn(move || {
            let head = format!(
                "POST /p?q={n} HTTP/1.1\r\nHost: shop:80\r\nTE: trailers\r\nCookie: a=b\r\nContent-Length: {n}\r\n\r\n"
            );
            up.write_all(head.as_bytes()).unwrap();
            up.write_all(&sent).unwrap();
        });
        let answer = client.message(false).unwrap();
        sender.join().unwrap();
        assert!(answer.body == body, "{n}");
        assert_eq!(
            answer.header("x-seen"),
            Some(format!("POST http://shop:80/p?q={n} te=trailers length={n}").as_str())
        );
        assert_eq!(answer.header("x-forwarded"), Some("127.0.0.1"));
        assert_eq!(
            (answer.header("x-bad"), answer.header("x-cookie")),
            (Some(""), Some("a=b"))
        );
    }
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\nHost: b\r\n\r\n");
    let answer = client.message(false).unwrap();
    assert_eq!(answer.text(), "abc");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    assert_eq!(backend.connections(), 1);
    assert_eq!(world.tally("echo", 0), [6, 6, 0, 0]);
}

#[test]
fn answers_without_a_body_are_told_as_such() {
    let backend = Shared::new(100, |_, request, mut respond| {
        Box::pin(async move {
            let answer = match request.uri().path() {
                "/204" => head(204, &[]),
                "/304" => head(304, &[("content-length", "77"), ("etag", "x")]),
                "/zero" => head(200, &[("content-length", "0")]),
                _ => head(200, &[("content-length", "500"), ("x-a", "b")]),
            };
            respond.send_response(answer, true).unwrap();
        })
    });
    let world = through(backend.address);
    let mut client = world.client();
    for _ in 0..3 {
        let answer = client.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            (answer.header("content-length"), answer.header("x-a")),
            (Some("500"), Some("b"))
        );
        assert_eq!(client.get("/204", &[]).status(), 204);
        let answer = client.get("/304", &[]);
        assert_eq!(
            (answer.status(), answer.header("content-length")),
            (304, Some("77"))
        );
        assert_eq!(client.get("/zero", &[]).header("content-length"), Some("0"));
    }
    assert_eq!(world.tally("echo", 0), [12, 12, 0, 0]);
}

#[test]
fn a_burst_shares_one_connection_and_a_full_one_gets_another() {
    for (streams, connections) in [(100, 1), (4, 3)] {
        let backend = says("S", 300, streams);
        let world = through(backend.address);
        // The endpoint's limit is known once it has spoken.
        assert_eq!(world.client().get("/", &[]).text(), "S");
        let start = Instant::now();
        let asked: Vec<_> = (0..12)
            .map(|_| {
                let mut client = world.client();
                thread::spawn(move || client.get("/", &[]).text())
            })
            .collect();
        assert!(asked.into_iter().all(|a| a.join().unwrap() == "S"));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(backend.connections(), connections, "{streams} at once");
    }
}

#[test]
fn a_dead_endpoint_fails_all_who_wait_for_one_connection() {
    let world = through(nobody());
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let mut client = world.client();
            thread::spawn(move || client.get("/", &[]).status())
        })
        .collect();
    assert!(asked.into_iter().all(|a| a.join().unwrap() == 502));
    eventually("all are charged", || world.tally("echo", 0) == [8, 8, 8, 0]);
}

/// Frames by hand (RFC 9113, 4.1).
struct Frames(TcpStream);

const HEADERS: u8 = 1;
const ALL_HEADERS: u8 = 4;
const END: u8 = 1;

impl Frames {
    /// Takes a connection as server.
    fn accept(listener: &TcpListener) -> Frames {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.read_exact(&mut [0; 24]).unwrap();
        let mut frames = Frames(stream);
        frames.write(4, 0, 0, &[]);
        frames
    }

    fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let mut all = vec![length[1], length[2], length[3], kind, flags];
        all.extend_from_slice(&stream.to_be_bytes());
        all.extend_from_slice(payload);
        self.0.write_all(&all).unwrap();
    }

    /// The stream of the next request.
    fn request(&mut self) -> u32 {
        loop {
            let (kind, _, stream) = self.next().expect("a request");
            if kind == HEADERS {
                return stream;
            }
        }
    }

    fn next(&mut self) -> Option<(u8, u8, u32)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        self.0.read_exact(&mut vec![0; length as usize]).ok()?;
        Some((
            head[3],
            head[4],
            u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        ))
    }

    /// `:status: 200`, from the static table.
    fn ok(&mut self, stream: u32, more: u8) {
        self.write(HEADERS, ALL_HEADERS | more, stream, &[0x88]);
    }

    fn data(&mut self, stream: u32, text: &str, more: u8) {
        self.write(0, more, stream, text.as_bytes());
    }

    fn goaway(&mut self, last: u32) {
        self.write(7, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    }

    fn reset(&mut self, stream: u32, code: u32) {
        self.write(3, 0, stream, &code.to_be_bytes());
    }
}

/// An endpoint whose frames are written by hand: `script` gets one connection after the other.
fn by_hand(script: impl FnOnce(&TcpListener) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || script(&listener));
    address
}

#[test]
fn after_a_goaway_what_was_not_processed_goes_to_a_new_connection_and_the_rest_is_finished() {
    for ask in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ] {
        let address = by_hand(|listener| {
            let mut old = Frames::accept(listener);
            let first = old.request();
            old.ok(first, 0);
            old.data(first, "half", 0);
            let second = old.request();
            assert!(second > first);
            old.goaway(first);
            let mut new = Frames::accept(listener);
            let again = new.request();
            new.ok(again, 0);
            new.data(again, "fresh", END);
            old.data(first, " and half", END);
            while new.next().is_some() {}
        });
        let world = through(address);
        let mut long = world.client();
        long.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(long.head().unwrap().status(), 200);
        let mut client = world.client();
        client.send(ask);
        assert_eq!(client.message(false).unwrap().text(), "fresh", "{ask:?}");
        let mut rest = Vec::new();
        let mut buf = [0; 100];
        while !rest.ends_with(b"0\r\n\r\n") {
            let n = long.read(&mut buf).unwrap();
            assert!(n > 0, "the one under way was not finished");
            rest.extend_from_slice(&buf[..n]);
        }
        eventually("nobody is charged", || world.tally("echo", 0) == [2, 2, 0, 0]);
        assert_eq!(world.metric(&["serin_failures_total"]), 0.0);
    }
}

#[test]
fn a_refused_stream_is_asked_again_and_then_charged() {
    const REFUSED: u32 = 7;
    for refusals in [1, 2] {
        let address = by_hand(move |listener| {
            let mut frames = Frames::accept(listener);
            for _ in 0..refusals {
                let stream = frames.request();
                frames.reset(stream, REFUSED);
            }
            let stream = frames.request();
            frames.ok(stream, 0);
            frames.data(stream, "S", END);
            while frames.next().is_some() {}
        });
        let world = through(address);
        let answer = world
            .client()
            .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        match refusals {
            1 => assert_eq!((answer.status(), answer.text().as_str()), (200, "S")),
            _ => assert_eq!(
                (answer.status(), answer.header("x-serin-error")),
                (503, Some("unprocessed"))
            ),
        }
        let bad = refusals - 1;
        eventually("counted", || world.tally("echo", 0) == [1, 1, bad, 0]);
    }
}

#[test]
fn a_reset_is_the_backends_before_and_in_the_middle_of_its_answer() {
    const INTERNAL: u32 = 2;
    let address = by_hand(|listener| {
        let mut frames = Frames::accept(listener);
        let stream = frames.request();
        frames.reset(stream, INTERNAL);
        let stream = frames.request();
        frames.ok(stream, 0);
        frames.data(stream, "half", 0);
        frames.reset(stream, INTERNAL);
        let stream = frames.request();
        frames.ok(stream, 0);
        frames.data(stream, "whole", END);
        while frames.next().is_some() {}
    });
    let world = through(address);
    let answer = world.client().get("/", &[]);
    assert_eq!(
        (answer.status(), answer.header("x-serin-error")),
        (502, Some("reset"))
    );
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        client.message(false).is_none(),
        "the client must see that it is not whole"
    );
    assert_eq!(world.client().get("/", &[]).text(), "whole");
    eventually("charged", || world.tally("echo", 0) == [3, 3, 2, 0]);
    assert_eq!(world.metric(&["serin_failures_total", "\"body_reset\""]), 1.0);
}

#[test]
fn who_breaks_the_rules_of_http_2_is_charged() {
    let backend = Backend::new(|_| ok("I speak HTTP/1"));
    let world = through(backend.address);
    assert_eq!(world.client().get("/", &[]).status(), 502);
    assert_eq!(world.tally("echo", 0), [1, 1, 1, 0]);
}

#[test]
fn a_connection_closed_while_idle_is_nobodys_failure_here_either() {
    let address = by_hand(|listener| {
        for _ in 0..3 {
            let mut frames = Frames::accept(listener);
            let stream = frames.request();
            frames.ok(stream, 0);
            frames.data(stream, "S", END);
            frames.0.shutdown(std::net::Shutdown::Write).unwrap();
            while frames.next().is_some() {}
        }
    });
    let world = through(address);
    let mut client = world.client();
    for _ in 0..3 {
        assert_eq!(client.get("/", &[]).text(), "S");
    }
    assert_eq!(world.tally("echo", 0), [3, 3, 0, 0]);
}

#[test]
fn who_goes_away_is_cancelled_at_the_backend() {
    let (told, heard) = std::sync::mpsc::channel();
    let backend = Shared::new(100, move |n, _, mut respond| {
        let told = told.clone();
        Box::pin(async move {
            if n > 0 {
                let mut up = respond.send_response(head(200, &[]), false).unwrap();
                send(&mut up, Bytes::from_static(b"begun"), false).await;
                let _ = told.send(poll_fn(|cx| up.poll_reset(cx)).await.unwrap());
                return;
            }
            let _ = told.send(poll_fn(|cx| respond.poll_reset(cx)).await.unwrap());
        })
    });
    let world = through(backend.address);
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it waits", || backend.requests.load(Ordering::SeqCst) == 1);
    drop(client);
    assert_eq!(
        heard.recv_timeout(Duration::from_secs(5)).unwrap(),
        Reason::CANCEL
    );
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 200);
    drop(client);
    assert_eq!(
        heard.recv_timeout(Duration::from_secs(5)).unwrap(),
        Reason::CANCEL
    );
    eventually("nobody's error", || world.tally("echo", 0) == [2, 2, 0, 2]);
}

#[test]
fn both_directions_flow_at_once_and_who_does_not_read_is_not_sent_more() {
    // The endpoint answers each piece while more come, as in a call of gRPC that streams both ways.
    let backend = Shared::new(100, |_, request, mut respond| {
        Box::pin(async move {
            let mut body = request.into_body();
            let mut up = respond.send_response(head(200, &[]), false).unwrap();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                send(&mut up, data, false).await;
            }
            let _ = up.send_data(Bytes::new(), true);
        })
    });
    let world = through(backend.address);
    let mut client = world.client();
    let all = 40_000_000;
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {all}\r\n\r\n"
    ));
    assert_eq!(client.head().unwrap().status(), 200);
    let mut up = client.stream().try_clone().unwrap();
    let written = Arc::<AtomicU64>::default();
    let w = Arc::clone(&written);
    let sender = thread::spawn(move || {
        let piece = vec![7; 64 * 1024];
        let mut left = all;
        while left > 0 {
            let n = left.min(piece.len());
            up.write_all(&piece[..n]).unwrap();
            w.fetch_add(n as u64, Ordering::SeqCst);
            left -= n;
        }
    });
    // Nobody reads: what is written comes to a halt, and that is what all the buffers hold.
    let mut seen = 0;
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = written.load(Ordering::SeqCst);
        if now == seen {
            break;
        }
        seen = now;
    }
    assert!(
        seen < 30_000_000,
        "{seen} octets were taken from who does not read"
    );
    let mut got = 0;
    let mut buf = vec![0; 1 << 20];
    while got < all {
        let n = client.read(&mut buf).unwrap();
        assert!(n > 0);
        got += buf[..n].iter().filter(|b| **b == 7).count();
    }
    sender.join().unwrap();
}

/// Ends calls of gRPC with the status that their path names, or without any.
pub fn statuses() -> SocketAddr {
    let backend = Shared::new(100, |_, request, mut respond| {
        Box::pin(async move {
            let kind = [("content-type", "application/grpc")];
            let mut up = respond.send_response(head(200, &kind), false).unwrap();
            match request.uri().path() {
                "/none" => up.send_data(Bytes::new(), true).unwrap(),
                path => up
                    .send_trailers(head(200, &[("grpc-status", &path[1..])]).headers().clone())
                    .unwrap(),
            }
        })
    });
    backend.address
}

/// Tells twice what will be needed, before it answers.
pub fn hinting() -> SocketAddr {
    let backend = Shared::new(100, |_, _, mut respond| {
        Box::pin(async move {
            for _ in 0..2 {
                respond
                    .send_informational(head(103, &[("link", "</a.css>")]))
                    .unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let mut up = respond
                .send_response(head(200, &[("content-length", "1")]), false)
                .unwrap();
            send(&mut up, Bytes::from_static(b"S"), true).await;
        })
    });
    backend.address
}

#[test]
fn interim_answers_reach_clients_that_know_them() {
    let plain = Backend::hinting();
    let worlds = [
        Plan::new().service("echo", &[plain.address], &[], &[]).start(),
        through(hinting()),
    ];
    for world in worlds {
        let mut client = world.client();
        for _ in 0..3 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            for _ in 0..2 {
                let early = client.head().unwrap();
                assert_eq!((early.status(), early.header("link")), (103, Some("</a.css>")));
                assert_eq!((early.header("x-hop"), early.header("connection")), (None, None));
            }
            assert_eq!(client.message(false).unwrap().text(), "S");
        }
        let old = world.client().ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        assert_eq!(
            (old.status(), old.text().as_str()),
            (200, "S"),
            "HTTP/1.0 has no interim answers"
        );
    }
}
