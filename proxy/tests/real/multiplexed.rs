//! HTTP/2 without TLS in front, with hyper's client.

use crate::world::*;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{Request, Response, body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    thread,
    time::Duration,
};

pub type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;
pub type Sender = http2::SendRequest<Body>;

pub fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(work)
}

pub async fn connect(world: &World) -> Sender {
    let stream = tokio::net::TcpStream::connect(world.running.addresses().listen)
        .await
        .unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// The h2 crate's client, for what hyper's does not tell.
pub async fn speak(world: &World) -> h2::client::SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(world.running.addresses().listen)
        .await
        .unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub fn get(path: &str) -> Request<Body> {
    let body = Full::new(Bytes::new()).boxed();
    Request::get(format!("http://shop.test{path}"))
        .body(body)
        .unwrap()
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

fn through(backend: &Backend) -> World {
    Plan::new().service("echo", &[backend.address], &[], &[]).start()
}

/// The statuses and the `link` of all interim answers to a request, and the final one.
async fn interims(asked: h2::client::ResponseFuture) -> (Vec<(u16, String)>, Response<h2::RecvStream>) {
    let (mut asked, mut early) = (asked, Vec::new());
    let answer = poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(head))) = asked.poll_informational(cx) {
            let link = head.headers().get("link").map_or("", |v| v.to_str().unwrap());
            assert_eq!(head.headers().get("x-hop"), None);
            early.push((head.status().as_u16(), link.to_owned()));
        }
        Pin::new(&mut asked).poll(cx)
    });
    let answer = answer.await.unwrap();
    (early, answer)
}

#[test]
fn interim_answers_pass_from_endpoints_of_either_protocol() {
    let plain = Backend::hinting();
    let shared = crate::shared::hinting();
    let worlds = [
        through(&plain),
        Plan::new()
            .service("echo", &[shared], &[], &[("protocol", "h2c")])
            .start(),
    ];
    for world in worlds {
        on_one_thread(async {
            let mut sender = speak(&world).await;
            for _ in 0..3 {
                let request = Request::get("http://shop.test/").body(()).unwrap();
                let (asked, _) = sender.send_request(request, true).unwrap();
                let (early, answer) = interims(asked).await;
                let hint = (103, "</a.css>".to_owned());
                assert_eq!(
                    early,
                    [hint.clone(), hint],
                    "100 is ours to say, and nobody waits"
                );
                let data = answer.into_body().data().await.unwrap().unwrap();
                assert_eq!(data, "S");
            }
        });
    }
}

#[test]
fn an_endless_row_of_interim_answers_is_not_kept_for_a_client_that_does_not_read() {
    const EACH: usize = 4000;
    let backend = Backend::raw(|mut wire| {
        let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(EACH));
        while wire.message(false).is_some() {
            (0..1000).for_each(|_| wire.send(&hint));
            wire.send(ok("S"));
        }
    });
    let world = through(&backend);
    on_one_thread(async {
        let mut sender = speak(&world).await;
        let request = Request::get("http://shop.test/").body(()).unwrap();
        let (asked, _) = sender.send_request(request, true).unwrap();
        let (early, answer) = interims(asked).await;
        assert!(
            (10..=16).contains(&early.len()),
            "as much as one head: {}",
            early.len()
        );
        assert_eq!(answer.into_body().data().await.unwrap().unwrap(), "S");
    });
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on_and_other_expectations_are_refused() {
    let backend = Backend::new(|m| ok(&m.text()));
    let world = through(&backend);
    on_one_thread(async {
        let mut sender = speak(&world).await;
        let expecting = |what: &str| {
            Request::post("http://shop.test/")
                .header("expect", what)
                .body(())
                .unwrap()
        };
        let (mut asked, mut up) = sender.send_request(expecting("100-continue"), false).unwrap();
        let first = poll_fn(|cx| asked.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(first.status(), 100);
        up.send_data("body".into(), true).unwrap();
        let (early, answer) = interims(asked).await;
        assert_eq!(early, []);
        assert_eq!(answer.into_body().data().await.unwrap().unwrap(), "body");
        let (asked, _up) = sender.send_request(expecting("miracles"), false).unwrap();
        assert_eq!(asked.await.unwrap().status(), 417);
    });
    assert_eq!(backend.last().header("expect"), None);
    assert_eq!(backend.hits(), 1);
}

#[test]
fn many_requests_share_a_connection() {
    let backend = Backend::new(|m| {
        thread::sleep(Duration::from_millis(20));
        ok(m.start.split(' ').nth(1).unwrap())
    });
    let world = through(&backend);
    on_one_thread(async {
        let sender = connect(&world).await;
        let asked: Vec<_> = (0..80)
            .map(|i| {
                let mut sender = sender.clone();
                tokio::spawn(
                    async move { text(sender.send_request(get(&format!("/{i}"))).await.unwrap()).await },
                )
            })
            .collect();
        for (i, answer) in asked.into_iter().enumerate() {
            assert_eq!(answer.await.unwrap(), format!("/{i}"));
        }
    });
    assert_eq!(backend.last().header("host"), Some("shop.test"));
    assert_eq!(world.metric(&["serin_requests_total", "protocol=\"h2\""]), 80.0);
}

#[test]
fn bodies_trailers_and_cookies_pass() {
    let backend = Backend::new(|m| {
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nKeep-Alive: 5\r\n\r\n".to_vec();
        for piece in m.body.chunks(100_000) {
            answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            answer.extend_from_slice(piece);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"0\r\nx-sum: 9\r\n\r\n");
        answer
    });
    let world = through(&backend);
    let large = Bytes::from(
        (0..3_000_000u32)
            .map(|i| ((i * 7) >> 3) as u8)
            .collect::<Vec<_>>(),
    );
    on_one_thread(async {
        let mut sender = connect(&world).await;
        let mut trailers = hyper::HeaderMap::new();
        trailers.insert("x-up", "1".parse().unwrap());
        let frames = [
            Ok::<_, Infallible>(Frame::data(large.clone())),
            Ok(Frame::trailers(trailers)),
        ];
        let body = StreamBody::new(Frames(frames.into_iter())).boxed();
        let request = Request::post("http://shop.test/up")
            .header("cookie", "a=b")
            .header("cookie", "c=d")
            .body(body)
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.headers().get("keep-alive"), None);
        let collected = answer.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-sum"], "9");
        assert!(collected.to_bytes() == large);
    });
    let seen = backend.last();
    assert!(seen.body == large);
    assert_eq!(seen.trailers, [("x-up".to_owned(), "1".to_owned())]);
    assert_eq!(seen.header("cookie"), Some("a=b; c=d"));
}

/// Frames one after the other.
struct Frames<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Frames<I> {
    type Item = I::Item;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

#[test]
fn a_broken_body_resets_its_stream_and_no_other() {
    let backend = Backend::raw(|mut wire| {
        while let Some(m) = wire.message(false) {
            if m.start.contains("broken") {
                return wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            }
            wire.send(ok("whole"));
        }
    });
    let world = through(&backend);
    on_one_thread(async {
        let mut sender = connect(&world).await;
        // The reset may overtake the head.
        if let Ok(answer) = sender.send_request(get("/broken")).await {
            assert!(answer.into_body().collect().await.is_err());
        }
        assert_eq!(text(sender.send_request(get("/")).await.unwrap()).await, "whole");
    });
}

#[test]
fn a_cancelled_stream_is_nobodys_error() {
    let backend = Backend::raw(|mut wire| {
        wire.message(false);
        thread::sleep(Duration::from_secs(20));
    });
    let world = through(&backend);
    on_one_thread(async {
        let mut sender = connect(&world).await;
        let asked = tokio::time::timeout(Duration::from_millis(100), sender.send_request(get("/"))).await;
        assert!(asked.is_err());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(world.tally("echo", 0), [1, 1, 0, 1]);
    });
}

#[test]
fn refusals_and_heads_fit_the_protocol() {
    let backend = Backend::new(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n".to_vec());
    let world = Plan::new()
        .service("echo", &[backend.address], &[], &[("hosts", "shop.test")])
        .start();
    on_one_thread(async {
        let mut sender = connect(&world).await;
        let mut head = get("/");
        *head.method_mut() = hyper::Method::HEAD;
        let answer = sender.send_request(head).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-length"]),
            (200, &"500".parse().unwrap())
        );
        assert_eq!(text(answer).await, "");
        let mut lost = get("/");
        *lost.uri_mut() = "http://other.test/".parse().unwrap();
        assert_eq!(sender.send_request(lost).await.unwrap().status(), 404);
        let mut two = get("/");
        two.headers_mut().insert("host", "other.test".parse().unwrap());
        assert_eq!(sender.send_request(two).await.unwrap().status(), 400);
    });
}

#[test]
fn a_drain_says_goodbye_and_finishes() {
    let backend = Backend::new(|_| {
        thread::sleep(Duration::from_millis(300));
        ok("S")
    });
    let world = through(&backend);
    on_one_thread(async {
        let mut sender = connect(&world).await;
        let asked = tokio::spawn(sender.send_request(get("/")));
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.running.drain();
        assert_eq!(text(asked.await.unwrap().unwrap()).await, "S");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(sender.is_closed());
    });
    world.running.wait();
}
