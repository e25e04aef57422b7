//! Messages of every shape, through and back.

use crate::world::*;
use std::{io::Write, thread, time::Duration};

/// Octets in which no two places look alike.
fn pattern(n: usize) -> Vec<u8> {
    (0..n as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8)
        .collect()
}

/// Gives the body back, framed as it came.
fn echo() -> Backend {
    Backend::new(|m| {
        let mut answer = match m.header("transfer-encoding") {
            Some(_) => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            None => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", m.body.len()).into_bytes(),
        };
        if m.header("transfer-encoding").is_none() {
            answer.extend_from_slice(&m.body);
            return answer;
        }
        for piece in m.body.chunks(70_000) {
            answer.extend_from_slice(format!("{:X};x=y\r\n", piece.len()).as_bytes());
            answer.extend_from_slice(piece);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"0\r\n");
        for (n, v) in &m.trailers {
            answer.extend_from_slice(format!("{n}: {v}\r\n").as_bytes());
        }
        answer.extend_from_slice(b"\r\n");
        answer
    })
}

fn through(backend: &Backend) -> World {
    Plan::new().service("echo", &[backend.address], &[], &[]).start()
}

#[test]
fn bodies_of_every_size_come_back_whole() {
    let backend = echo();
    let world = through(&backend);
    let mut client = world.client();
    for n in [0, 1, 4095, 4096, 4097, 65_536, 1_000_000, 20_000_000] {
        let body = pattern(n);
        let mut upload = client.stream().try_clone().unwrap();
        let sent = body.clone();
        let sender = thread::spawn(move || {
            upload
                .write_all(format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n").as_bytes())
                .unwrap();
            upload.write_all(&sent).unwrap();
        });
        let answer = client.message(false).unwrap();
        sender.join().unwrap();
        assert!(answer.body == body, "{n} octets");
    }
    for n in [0, 1, 5000, 3_000_000] {
        let body = pattern(n);
        let mut upload = client.stream().try_clone().unwrap();
        let sent = body.clone();
        let sender = thread::spawn(move || {
            upload
                .write_all(
                    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n",
                )
                .unwrap();
            for piece in sent.chunks(100_000) {
                upload
                    .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
                    .unwrap();
                upload.write_all(piece).unwrap();
                upload.write_all(b"\r\n").unwrap();
            }
            upload.write_all(b"0\r\nx-sum: 7\r\n\r\n").unwrap();
        });
        let answer = client.message(false).unwrap();
        sender.join().unwrap();
        assert!(answer.body == body, "{n} octets in chunks");
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    }
    assert_eq!(backend.hits(), 12);
}

#[test]
fn answers_without_a_body_keep_the_connection() {
    let backend = Backend::new(|m| match m.start.split(' ').nth(1) {
        Some("/204") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        Some("/304") => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: x\r\n\r\n".to_vec(),
        Some("/zero") => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        Some("/100") => {
            b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec()
        }
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nX-A: b\r\n\r\n".to_vec(),
    });
    let world = through(&backend);
    let mut client = world.client();
    for _ in 0..3 {
        let head = client.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            (head.status(), head.header("content-length"), head.header("x-a")),
            (200, Some("500"), Some("b"))
        );
        assert_eq!(client.get("/204", &[]).status(), 204);
        let not_modified = client.get("/304", &[]);
        assert_eq!(
            (not_modified.status(), not_modified.header("content-length")),
            (304, Some("77"))
        );
        assert_eq!(client.get("/zero", &[]).header("content-length"), Some("0"));
        client.send("GET /100 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().unwrap().status(), 103);
        assert_eq!(client.message(false).unwrap().text(), "hi");
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_is_told_in_chunks() {
    let backend = Backend::raw(|mut wire| {
        wire.message(false);
        wire.send("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    });
    let world = through(&backend);
    let mut client = world.client();
    for _ in 0..3 {
        let answer = client.get("/", &[]);
        assert_eq!(
            (answer.text().as_str(), answer.header("transfer-encoding")),
            ("until the end", Some("chunked"))
        );
    }
    let old = world.client().ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(
        (
            old.text().as_str(),
            old.header("transfer-encoding"),
            old.header("connection")
        ),
        ("until the end", None, Some("close"))
    );
}

#[test]
fn an_early_answer_comes_while_the_body_is_still_sent() {
    let backend = Backend::raw(|mut wire| {
        wire.head();
        wire.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n");
        thread::sleep(Duration::from_millis(200));
    });
    let world = through(&backend);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nonly a little");
    let answer = client.message(false).unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (413, "no\n"));
    assert!(client.is_closed());
}

#[test]
fn both_directions_flow_at_once() {
    // The backend answers each octet while more come; a proxy that waits for the whole body would hang.
    let backend = Backend::raw(|mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut octet = [0];
        while std::io::Read::read_exact(&mut ReadWire(&mut wire), &mut octet).is_ok() {
            wire.send([b"1\r\n", &octet[..], b"\r\n"].concat());
        }
    });
    let world = through(&backend);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    let head = client.head().unwrap();
    assert_eq!(head.status(), 200);
    for letter in [b'a', b'b', b'c'] {
        client.send([letter]);
        let mut chunk = [0; 6];
        std::io::Read::read_exact(&mut ReadWire(&mut client), &mut chunk).unwrap();
        assert_eq!(chunk, [b'1', b'\r', b'\n', letter, b'\r', b'\n']);
    }
}

/// Reads through the buffer of a [`Wire`].
struct ReadWire<'a>(&'a mut Wire);

impl std::io::Read for ReadWire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

#[test]
fn a_client_that_writes_all_before_it_reads_is_served() {
    let backend = Backend::raw(|mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n");
        let mut stream = wire.stream().try_clone().unwrap();
        let reader = thread::spawn(move || wire.skip(8_000_000));
        stream.write_all(&pattern(8_000_000)).unwrap();
        reader.join().unwrap();
    });
    let world = through(&backend);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n");
    client.send(pattern(8_000_000));
    assert!(client.message(false).unwrap().body == pattern(8_000_000));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::new(|m| ok(m.start.split(' ').nth(1).unwrap()));
    let world = through(&backend);
    let mut client = world.client();
    let all: String = (0..50)
        .map(|i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    client.send(all + "POST /last HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /after HTTP/1.1\r\nHost: a\r\n\r\n");
    for i in 0..50 {
        assert_eq!(client.message(false).unwrap().text(), format!("/{i}"));
    }
    assert_eq!(client.message(false).unwrap().text(), "/last");
    assert_eq!(client.message(false).unwrap().text(), "/after");
}

#[test]
fn a_head_may_come_octet_by_octet() {
    let backend = Backend::named("S");
    let world = through(&backend);
    let mut client = world.client();
    for octet in b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" {
        client.send([*octet]);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.message(false).unwrap().text(), "S");
}

#[test]
fn who_expects_to_continue_is_told_to() {
    let backend = echo();
    let world = through(&backend);
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 100);
    client.send("hello");
    assert_eq!(client.message(false).unwrap().text(), "hello");
    assert_eq!(backend.last().header("expect"), None);
}

#[test]
fn what_is_ambiguous_is_400_and_closes_and_reaches_no_backend() {
    let backend = Backend::named("S");
    let world = through(&backend);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    ] {
        let mut client = world.client();
        client.send(format!("{head}{smuggled}"));
        let answer = client.message(false).unwrap();
        assert_eq!(
            (answer.status(), answer.header("connection")),
            (400, Some("close")),
            "{head:?}"
        );
        assert!(client.is_closed(), "{head:?}");
    }
    assert_eq!(backend.hits(), 0);
    // The chunks of a body are read after the head went on: the backend sees a broken body and nothing after it.
    for chunks in [
        "1\nx\r\n0\r\n\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
        "1\r\nxx\r\n0\r\n\r\n",
        "-1\r\n",
    ] {
        let mut client = world.client();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{smuggled}"
        ));
        assert_eq!(client.message(false).map(|m| m.status()), Some(400), "{chunks:?}");
        assert!(client.is_closed(), "{chunks:?}");
    }
    assert_eq!(backend.hits(), 0);
}

#[test]
fn too_much_header_is_refused() {
    let world = through(&Backend::named("S"));
    let many: String = (0..101).map(|i| format!("x-{i}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(61 * 1024));
    for lines in [many, long] {
        let mut client = world.client();
        let _ = client
            .stream()
            .write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes());
        assert_eq!(client.message(false).unwrap().status(), 431);
    }
}

#[test]
fn headers_are_forwarded_and_hop_by_hop_ones_are_not() {
    let backend = Backend::new(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x-secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n".to_vec()
    });
    let world = through(&backend);
    let answer = world.client().get(
        "/p?q",
        &[
            "Connection: x-hop",
            "X-Hop: 1",
            "X-Forwarded-For: 9.9.9.9",
            "traceparent: 00-aa",
        ],
    );
    assert_eq!(answer.header("x-secret").or(answer.header("keep-alive")), None);
    assert_eq!(
        answer.headers.iter().filter(|(n, _)| n == "Set-Cookie").count(),
        2
    );
    let seen = backend.last();
    assert_eq!(seen.start, "GET /p?q HTTP/1.1");
    assert_eq!((seen.header("x-hop"), seen.header("connection")), (None, None));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(
        (seen.header("host"), seen.header("traceparent")),
        (Some("test"), Some("00-aa"))
    );
    assert_eq!(seen.header("x-request-id").map(str::len), Some(32));
}

#[test]
fn a_loop_is_found() {
    let backend = Backend::named("S");
    let world = through(&backend);
    world.client().get("/", &[]);
    let via = backend.last().header("via").unwrap().to_owned();
    assert_eq!(
        world.client().get("/", &[&format!("Via: 1.0 x, {via}")]).status(),
        508
    );
}
