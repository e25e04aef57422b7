//! WebSocket over HTTP/2 (RFC 8441), before endpoints that speak HTTP/1.1: the stream is a tunnel as an upgraded
//! connection is one.

use crate::{
    multiplexed::{on_one_thread, speak},
    world::*,
};
use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
    ext::Protocol,
};
use http::{Method, Request, Response};
use proxy::websocket::accept;
use std::{
    future::poll_fn,
    io::Read,
    net::Shutdown,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Switches as a server of WebSocket does, once it was asked as RFC 6455 wants it.
fn switch(wire: &mut Wire) -> Option<Message> {
    let head = wire.head()?;
    let key = head.header("sec-websocket-key")?;
    wire.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        accept(key.as_bytes())
    ));
    Some(head)
}

/// Gives back every octet until there are no more; then says goodbye.
fn echo() -> Backend {
    let seen = std::sync::Arc::<std::sync::Mutex<Vec<Message>>>::default();
    let s = std::sync::Arc::clone(&seen);
    let mut backend = Backend::raw(move |mut wire| {
        let Some(head) = switch(&mut wire) else { return };
        s.lock().unwrap().push(head);
        wire.echo();
    });
    backend.seen = seen;
    backend
}

/// A client that knows that it may ask.
async fn client(world: &World) -> SendRequest<Bytes> {
    let begun = Instant::now();
    let mut sender = speak(world).await;
    while !sender.is_extended_connect_protocol_enabled() {
        assert!(
            begun.elapsed() < PATIENCE,
            "SETTINGS_ENABLE_CONNECT_PROTOCOL is missing"
        );
        sender = sender.ready().await.unwrap();
        tokio::task::yield_now().await;
    }
    sender
}

fn ask(protocol: Option<&'static str>, lines: &[(&'static str, &str)]) -> Request<()> {
    let uri = match protocol {
        Some(_) => "http://shop.test/chat?room=1",
        None => "shop.test:80",
    };
    let mut request = Request::builder().method(Method::CONNECT).uri(uri);
    if let Some(protocol) = protocol {
        request = request.extension(Protocol::from_static(protocol));
    }
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn open(sender: &mut SendRequest<Bytes>) -> (ResponseFuture, SendStream<Bytes>) {
    let lines = [
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-key", "of-the-client"),
    ];
    sender
        .send_request(ask(Some("websocket"), &lines), false)
        .unwrap()
}

/// A tunnel: both ways of it.
async fn tunnel(sender: &mut SendRequest<Bytes>) -> (SendStream<Bytes>, RecvStream) {
    let (answer, up) = open(sender);
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    (up, answer.into_body())
}

async fn next(down: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let data = tokio::time::timeout(PATIENCE, down.data()).await.unwrap()?;
    if let Ok(data) = &data {
        let _ = down.flow_control().release_capacity(data.len());
    }
    Some(data)
}

/// So many octets.
async fn read(down: &mut RecvStream, n: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < n {
        all.extend_from_slice(&next(down).await.expect("more").unwrap());
    }
    all
}

async fn rest(down: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = next(down).await {
        all.extend_from_slice(&data?);
    }
    Ok(all)
}

#[test]
fn octets_flow_both_ways_and_each_way_ends_by_itself() {
    let backend = echo();
    let world = before(&backend, "");
    on_one_thread(async {
        let mut sender = client(&world).await;
        let (answer, mut up) = open(&mut sender);
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let line = |name: &str| answer.headers().get(name).map(|v| v.to_str().unwrap());
        assert_eq!(line("sec-websocket-protocol"), Some("chat"));
        for hidden in ["sec-websocket-accept", "upgrade", "connection"] {
            assert_eq!(line(hidden), None, "{hidden}");
        }
        let mut down = answer.into_body();
        for text in ["a", "hello", "GET / HTTP/1.1\r\n\r\n"] {
            up.send_data(text.into(), false).unwrap();
            assert_eq!(read(&mut down, text.len()).await, text.as_bytes());
        }
        assert_eq!(
            world.tally("echo", 0),
            [1, 1, 0, 0],
            "good as soon as it has switched"
        );
        assert_eq!(world.metric(&["serin_inflight", "stable"]), 1.0);
        up.send_data(Bytes::new(), true).unwrap();
        assert_eq!(
            rest(&mut down).await.unwrap(),
            b"bye",
            "the backend may still speak"
        );
        eventually("not under way", || {
            world.metric(&["serin_inflight", "stable"]) == 0.0
        });
    });
    let seen = backend.last();
    assert_eq!(seen.start, "GET /chat?room=1 HTTP/1.1");
    for (name, value) in [
        ("host", "shop.test"),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    let keys: Vec<_> = seen
        .headers
        .iter()
        .filter(|(n, _)| n == "sec-websocket-key")
        .collect();
    assert!(
        keys.len() == 1 && keys[0].1.len() == 24,
        "ours, not the client's: {keys:?}"
    );
    assert_eq!(
        world.metric(&["serin_requests_total", "code=\"101\"", "protocol=\"h2\""]),
        1.0
    );
    assert_eq!(world.metric(&["serin_failures_total"]), 0.0);
}

#[test]
fn what_the_backend_ends_the_client_may_still_use() {
    let backend = Backend::raw(|mut wire| {
        switch(&mut wire);
        wire.send("last words");
        wire.stream().shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        wire.stream().read_to_end(&mut all).unwrap();
        assert_eq!(all, b"after the end");
    });
    let world = before(&backend, "");
    on_one_thread(async {
        let mut sender = client(&world).await;
        let (mut up, mut down) = tunnel(&mut sender).await;
        assert_eq!(rest(&mut down).await.unwrap(), b"last words");
        assert_eq!(world.metric(&["serin_inflight", "stable"]), 1.0);
        up.send_data("after the end".into(), true).unwrap();
        eventually_here(|| world.metric(&["serin_inflight", "stable"]) == 0.0).await;
        assert_eq!(world.metric(&["serin_failures_total"]), 0.0);
    });
}

/// As [`eventually`], while the connection of this thread goes on.
async fn eventually_here(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn who_does_not_read_is_not_sent_more_and_all_comes_back_whole() {
    let backend = echo();
    let world = before(&backend, "");
    let sent: Bytes = (0..32_000_000u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9) >> 16) as u8)
        .collect();
    on_one_thread(async {
        let mut sender = client(&world).await;
        let (mut up, mut down) = tunnel(&mut sender).await;
        let written = std::rc::Rc::new(std::cell::Cell::new(0));
        let (w, mut left) = (std::rc::Rc::clone(&written), sent.clone());
        let sending = async move {
            while !left.is_empty() {
                up.reserve_capacity(left.len());
                let n = poll_fn(|cx| up.poll_capacity(cx)).await.unwrap().unwrap();
                let part = left.split_to(n.min(left.len()));
                w.set(w.get() + part.len());
                up.send_data(part, false).unwrap();
            }
            up.send_data(Bytes::new(), true).unwrap();
        };
        let reading = async {
            // Nobody reads: what is written comes to a halt, and that is what all the buffers hold.
            let mut seen = usize::MAX;
            while seen != written.get() {
                seen = written.get();
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            assert!(
                seen < 20_000_000,
                "{seen} octets were taken from who does not read"
            );
            rest(&mut down).await.unwrap()
        };
        let ((), got) = tokio::join!(sending, reading);
        assert_eq!(got.len(), sent.len() + 3);
        assert!(got[..sent.len()] == sent);
    });
}

/// The answer to a request, and the kind of error that it tells.
async fn refusal(world: &World, request: Request<()>) -> (u16, String, Response<RecvStream>) {
    let mut sender = client(world).await;
    let (answer, _up) = sender.send_request(request, false).unwrap();
    let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
    let kind = answer.headers().get("x-serin-error");
    let kind = kind.map_or("-", |v| v.to_str().unwrap()).to_owned();
    (answer.status().as_u16(), kind, answer)
}

#[test]
fn an_endpoint_may_refuse_and_other_requests_to_connect_are_refused_here() {
    let says = |text: &'static str| Backend::new(move |_| text.as_bytes().to_vec());
    let wrong =
        "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let other = "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n";
    let none = "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for (answer, status, kind, bad) in [
        ("HTTP/1.1 403 X\r\nContent-Length: 2\r\n\r\nno", 403, "-", 0),
        (
            "HTTP/1.1 302 X\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            302,
            "-",
            0,
        ),
        (
            "HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nhi",
            502,
            "not_switched",
            0,
        ),
        (wrong, 502, "malformed_head", 1),
        (other, 502, "malformed_head", 1),
        (none, 502, "malformed_head", 1),
    ] {
        let world = before(&says(answer), "");
        on_one_thread(async {
            let asked = ask(Some("websocket"), &[("content-type", "application/grpc")]);
            let (found, told, _) = refusal(&world, asked).await;
            assert_eq!((found, told.as_str()), (status, kind), "{answer:?}");
            assert_eq!(world.tally("echo", 0), [1, 1, bad, 0], "{answer:?}");
        });
    }
    let backend = Backend::named("S");
    let world = before(&backend, "");
    on_one_thread(async {
        for (request, status, kind) in [
            (ask(None, &[]), 405, "connect_method"),
            (ask(Some("connect-udp"), &[]), 405, "connect_method"),
            (
                ask(Some("websocket"), &[("content-length", "5")]),
                400,
                "malformed",
            ),
        ] {
            let (found, told, _) = refusal(&world, request).await;
            assert_eq!((found, told.as_str()), (status, kind));
        }
    });
    assert_eq!(backend.hits(), 0);
}

#[test]
fn an_endpoint_of_http_2_has_no_tunnel_and_nobody_is_charged() {
    let address = crate::shared::plain_http_2();
    let world = Plan::new()
        .service("echo", &[address], &[], &[("protocol", "h2c")])
        .start();
    on_one_thread(async {
        let (status, kind, _) = refusal(&world, ask(Some("websocket"), &[])).await;
        assert_eq!((status, kind.as_str()), (502, "not_switched"));
    });
    assert_eq!(world.tally("echo", 0), [1, 1, 0, 0]);
}

#[test]
fn a_reset_on_one_side_is_one_on_the_other_and_other_streams_go_on() {
    let (told, heard) = std::sync::mpsc::channel();
    let backend = Backend::raw(move |mut wire| {
        let Some(head) = switch(&mut wire) else { return };
        if head.header("x-breaks").is_some() {
            wire.send("x");
            wire.read(&mut [0; 1]).unwrap();
            return reset(wire);
        }
        let mut rest = Vec::new();
        let _ = wire.stream().read_to_end(&mut rest);
        told.send(rest).unwrap();
    });
    let world = before(&backend, "");
    on_one_thread(async {
        let mut sender = client(&world).await;
        let (mut up, _down) = tunnel(&mut sender).await;
        up.send_data("hello".into(), false).unwrap();
        let request = ask(Some("websocket"), &[("x-breaks", "1")]);
        let (answer, mut other) = sender.send_request(request, false).unwrap();
        let mut down = answer.await.unwrap().into_body();
        assert_eq!(read(&mut down, 1).await, b"x");
        other.send_data("y".into(), false).unwrap();
        assert_eq!(rest(&mut down).await.unwrap_err().reason(), Some(Reason::CANCEL));
        up.send_reset(Reason::CANCEL);
        eventually_here(|| world.metric(&["serin_inflight", "stable"]) == 0.0).await;
    });
    assert!(b"hello".starts_with(&heard.recv_timeout(PATIENCE).unwrap()[..]));
    assert_eq!(world.tally("echo", 0), [2, 2, 0, 0]);
}

#[test]
fn a_tunnel_where_nothing_moves_is_reset_after_the_idle_time() {
    let backend = echo();
    let world = before(
        &backend,
        "requestTimeout = \"200ms\"\nstreamIdleTimeout = \"600ms\"",
    );
    on_one_thread(async {
        let mut sender = client(&world).await;
        let (mut up, mut down) = tunnel(&mut sender).await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            up.send_data("x".into(), false).unwrap();
            assert_eq!(read(&mut down, 1).await, b"x");
        }
        let start = Instant::now();
        assert_eq!(rest(&mut down).await.unwrap_err().reason(), Some(Reason::CANCEL));
        let took = start.elapsed().as_millis();
        assert!((500..3000).contains(&took), "{took} ms");
        let (mut up, mut down) = tunnel(&mut sender).await;
        up.send_data("x".into(), false).unwrap();
        assert_eq!(read(&mut down, 1).await, b"x", "the connection goes on");
    });
}

#[test]
fn a_drain_ends_tunnels_at_its_deadline() {
    let backend = echo();
    let world = before(&backend, "drainDeadline = \"700ms\"");
    on_one_thread(async {
        let mut sender = client(&world).await;
        let (mut up, mut down) = tunnel(&mut sender).await;
        let start = Instant::now();
        world.running.drain();
        while !matches!(
            poll_fn(|cx| std::task::Poll::Ready(sender.poll_ready(cx))).await,
            std::task::Poll::Ready(Err(_))
        ) {
            assert!(start.elapsed() < PATIENCE, "no GOAWAY");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        up.send_data("y".into(), false).unwrap();
        assert_eq!(read(&mut down, 1).await, b"y", "a tunnel may finish what it does");
        assert!(rest(&mut down).await.is_err());
        let took = start.elapsed().as_millis();
        assert!((600..5000).contains(&took), "{took} ms");
    });
    world.running.wait();
}
