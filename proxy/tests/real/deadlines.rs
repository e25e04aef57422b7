//! Deadlines: of one attempt, of a request to its head, of the whole.

use crate::world::*;
use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

const ALL: (&str, &str) = ("canary-weight", "100");
const FORCED: (&str, &str) = ("canary-by-header", "h");

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn a_canary_that_hangs_is_cut_charged_and_shielded() {
    let stable = Backend::named("S");
    let world = Plan::new()
        .service("echo", &[stable.address], &[hanging().address], &[ALL, FORCED])
        .resilience("tryTimeout = \"200ms\"\nrequestTimeout = \"2s\"")
        .start();
    let mut client = world.client();
    let start = Instant::now();
    let answer = thread::scope(|scope| {
        let pending = scope.spawn(|| client.get("/", &[]));
        eventually("seen before it ends", || world.tally("echo", 1) == [1, 0, 0, 0]);
        pending.join().unwrap()
    });
    let took = start.elapsed();
    assert_eq!(answer.text(), "S");
    assert!((ms(195)..ms(600)).contains(&took), "{took:?}");
    assert_eq!(world.tally("echo", 1), [1, 1, 1, 0]);
    assert_eq!(
        world.metric(&["serin_failures_total", "canary", "\"timeout\""]),
        1.0
    );
    let forced = world.client().get("/", &["h: always"]);
    assert_eq!(
        (forced.status(), forced.header("x-serin-error")),
        (504, Some("timeout"))
    );
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(world.client().ask(post).status(), 504);
}

#[test]
fn attempts_share_the_time_of_the_request() {
    let world = Plan::new()
        .service("echo", &[hanging().address], &[hanging().address], &[ALL])
        .resilience("tryTimeout = \"300ms\"\nrequestTimeout = \"500ms\"")
        .start();
    let start = Instant::now();
    assert_eq!(world.client().get("/", &[]).status(), 504);
    let took = start.elapsed();
    assert!((ms(490)..ms(580)).contains(&took), "{took:?}");
}

#[test]
fn stable_is_tried_elsewhere_after_its_time() {
    let stable = Backend::named("S");
    let world = Plan::new()
        .service("echo", &[hanging().address, stable.address], &[], &[])
        .resilience("tryTimeout = \"100ms\"\nejectAfter = 0")
        .start();
    let mut client = world.client();
    for _ in 0..8 {
        assert_eq!(client.get("/", &[]).text(), "S");
    }
}

#[test]
fn a_whole_answer_has_its_time_but_a_stream_has_not() {
    let drips = |kind: &'static str| {
        Backend::raw(move |mut wire| {
            wire.message(false);
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
            ));
            for _ in 0..30 {
                if wire.stream().write_all(b"1\r\nx\r\n").is_err() {
                    return;
                }
                thread::sleep(ms(20));
            }
            wire.send("0\r\n\r\n");
        })
    };
    let run = |kind| {
        let world = Plan::new()
            .service("echo", &[drips(kind).address], &[], &[])
            .resilience("totalTimeout = \"250ms\"")
            .start();
        let mut client = world.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let start = Instant::now();
        let answer = client.message(false);
        (answer.map(|m| m.body.len()), start.elapsed(), world)
    };
    let (cut, took, world) = run("text/plain");
    assert_eq!(cut, None);
    assert!((ms(240)..ms(500)).contains(&took), "{took:?}");
    assert_eq!(world.tally("echo", 0), [1, 1, 1, 0]);
    assert_eq!(run("text/event-stream").0, Some(30));
    assert_eq!(run("application/grpc+proto").0, Some(30));
}

#[test]
fn a_client_that_reads_slowly_is_not_the_backends_fault() {
    const SIZE: usize = 64 * 1024 * 1024;
    let stable = Backend::raw(|mut wire| {
        wire.message(false);
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
        let _ = wire.stream().write_all(&vec![b'x'; SIZE]);
    });
    let world = Plan::new()
        .service("echo", &[stable.address], &[], &[])
        .resilience("totalTimeout = \"1500ms\"")
        .start();
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.skip(100_000);
    eventually("given up", || world.tally("echo", 0)[1] == 1);
    assert_eq!(world.tally("echo", 0), [1, 1, 0, 1], "nobody's error");
}

#[test]
fn a_long_upload_is_not_a_late_answer() {
    let stable = Backend::named("S");
    let world = Plan::new()
        .service("echo", &[stable.address], &[], &[])
        .resilience("requestTimeout = \"250ms\"")
        .start();
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
    for _ in 0..8 {
        client.send("x");
        thread::sleep(ms(80));
    }
    assert_eq!(client.message(false).unwrap().text(), "S");
}
