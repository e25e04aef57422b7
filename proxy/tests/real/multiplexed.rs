//! HTTP/2 without TLS in front, with hyper's client.

#[path = "../../../tests/support/frames.rs"]
mod frames;

use crate::world::*;
use bytes::Bytes;
use frames::{END_HEADERS, END_STREAM, HEADERS, Raw, frame, get as get_block};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{Request, Response, body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{convert::Infallible, future::Future, thread, time::Duration};

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
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
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

#[test]
fn interim_answers_pass() {
    let backend = Backend::new(|_| {
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
            .to_vec()
    });
    let world = through(&backend);
    let mut raw = Raw::connect(world.running.addresses().listen, &[]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get_block("/")))
        .unwrap();
    let patience = Duration::from_secs(10);
    let heads = [(); 2].map(|()| raw.find(patience, |f| f.kind == HEADERS).unwrap().payload);
    // The status is the first field: three digits in Huffman's code, and 200 an index of its own (RFC 7541, A and B).
    assert!(heads[0].starts_with(&[0x48, 0x82, 0x08]), "{heads:?}");
    assert_eq!(heads[1].first(), Some(&0x88));
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
