//! Which endpoint gets a request, and how many it gets at once.

use crate::world::*;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const ALL: (&str, &str) = ("canary-weight", "100");

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Answers after a while.
fn slow(name: &'static str, after: Duration) -> Backend {
    Backend::new(move |_| {
        thread::sleep(after);
        ok(name)
    })
}

/// How many of these requests, one after the other, each body answered.
fn answers(world: &World, n: usize, body: &str) -> usize {
    let mut client = world.client();
    (0..n).filter(|_| client.get("/", &[]).text() == body).count()
}

#[test]
fn a_slow_endpoint_gets_little() {
    let (slow, fast, other) = (
        slow("slow", ms(60)),
        Backend::named("fast"),
        Backend::named("other"),
    );
    let world = Plan::new()
        .service("echo", &[slow.address, fast.address, other.address], &[], &[])
        .start();
    let n = answers(&world, 600, "slow");
    assert!((1..=30).contains(&n), "{n} of 600");
    assert!(
        fast.hits() > 150 && other.hits() > 150,
        "{} {}",
        fast.hits(),
        other.hits()
    );
}

#[test]
fn an_endpoint_that_keeps_failing_is_left_alone_and_comes_back() {
    let broken = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&broken);
    let bad = Backend::new(move |_| match flag.load(Ordering::SeqCst) {
        true => b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        false => ok("back"),
    });
    let good = Backend::named("good");
    let world = Plan::new()
        .service("echo", &[bad.address, good.address], &[], &[])
        .resilience("ejectTime = \"300ms\"")
        .start();
    let failed = 100 - answers(&world, 100, "good");
    assert_eq!(failed, 5, "five in a row are seen");
    assert_eq!(world.metric(&["serin_ejections_total", "stable"]), 1.0);
    assert_eq!(world.tally("echo", 0), [100, 100, 5, 0], "and charged");
    broken.store(false, Ordering::SeqCst);
    eventually("it comes back", || answers(&world, 1, "back") == 1);
}

#[test]
fn at_most_half_are_left_alone_and_never_the_last() {
    let dead: Vec<SocketAddr> = (0..3).map(|_| nobody()).collect();
    let stable = Backend::named("S");
    let world = Plan::new()
        .service("echo", &[stable.address], &dead, &[ALL])
        .start();
    assert_eq!(answers(&world, 200, "S"), 200);
    assert_eq!(
        world.tally("echo", 1),
        [200, 200, 200, 0],
        "the judgement is not blinded"
    );
    let ejections = world.metric(&["serin_ejections_total", "canary"]);
    assert!((1.0..=5.0).contains(&ejections), "{ejections}");
    let world = Plan::new().service("echo", &[dead[0]], &[], &[]).start();
    assert_eq!(answers(&world, 20, "S"), 0);
    assert_eq!(world.tally("echo", 0)[2], 20);
    assert_eq!(world.metric(&["serin_ejections_total", "stable"]), 0.0);
}

/// A backend that says how many requests it had at once.
fn counting(after: Duration) -> (Backend, Arc<AtomicU64>) {
    let (now, most) = (AtomicU64::new(0), Arc::<AtomicU64>::default());
    let seen = Arc::clone(&most);
    let backend = Backend::new(move |_| {
        seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(after);
        now.fetch_sub(1, Ordering::SeqCst);
        ok("S")
    });
    (backend, most)
}

/// The statuses of so many requests at once, and how long they took.
fn at_once(world: &World, n: usize) -> Vec<(u16, Option<String>, Duration)> {
    let one = || {
        let start = Instant::now();
        let answer = world.client().get("/", &[]);
        let retry = answer.header("retry-after").map(str::to_owned);
        (answer.status(), retry, start.elapsed())
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..n).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|a| a.join().unwrap()).collect()
    })
}

#[test]
fn no_endpoint_has_more_requests_than_it_may_and_the_others_wait() {
    let (backend, most) = counting(ms(50));
    let (other, most_of_other) = counting(ms(50));
    let world = Plan::new()
        .service("echo", &[backend.address, other.address], &[], &[])
        .resilience("maxConnections = 2\npendingTimeout = \"5s\"")
        .start();
    let all = at_once(&world, 24);
    assert!(all.iter().all(|(status, ..)| *status == 200), "{all:?}");
    assert_eq!(
        (most.load(Ordering::SeqCst), most_of_other.load(Ordering::SeqCst)),
        (2, 2)
    );
    assert_eq!(world.tally("echo", 0), [24, 24, 0, 0]);
}

#[test]
fn workers_share_the_limit() {
    let (backend, most) = counting(ms(30));
    let mut plan = Plan::new()
        .service("echo", &[backend.address], &[], &[])
        .resilience("maxConnections = 3\npendingTimeout = \"5s\"");
    plan.proxy = plan.proxy.replace("workers = 1", "workers = 2");
    let world = plan.start();
    let all = at_once(&world, 20);
    assert!(all.iter().all(|(status, ..)| *status == 200), "{all:?}");
    assert!((2..=3).contains(&most.load(Ordering::SeqCst)));
}

#[test]
fn who_waits_too_long_or_finds_the_queue_full_is_told_to_come_again() {
    let hangs = hanging();
    let world = Plan::new()
        .service("echo", &[hangs.address], &[], &[])
        .resilience("maxConnections = 1\nmaxPending = 2\npendingTimeout = \"200ms\"\nrequestTimeout = \"2s\"")
        .start();
    let mut first = world.client();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("under way", || world.metric(&["serin_inflight", "stable"]) == 1.0);
    let mut all = at_once(&world, 5);
    all.sort_by_key(|(.., took)| *took);
    assert!(
        all.iter().all(|(s, r, _)| *s == 503 && r.as_deref() == Some("1")),
        "{all:?}"
    );
    assert!(all[2].2 < ms(150), "three find no place to wait: {all:?}");
    assert!(all[3].2 >= ms(190), "two wait: {all:?}");
    assert_eq!(
        world.metric(&["serin_failures_total", "backend", "saturated"]),
        5.0
    );
    assert_eq!(world.tally("echo", 0)[2], 5, "what cannot be placed counts");
}

#[test]
fn who_goes_away_while_waiting_leaves_the_place_to_the_next() {
    let (backend, _) = counting(ms(300));
    let world = Plan::new()
        .service("echo", &[backend.address], &[], &[])
        .resilience("maxConnections = 1\npendingTimeout = \"5s\"")
        .start();
    let inflight = |n: f64| world.metric(&["serin_inflight", "stable"]) == n;
    let mut clients: Vec<Wire> = Vec::new();
    for n in 1..=3 {
        let mut client = world.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        clients.push(client);
        eventually("it waits", || inflight(f64::from(n)));
    }
    clients.remove(1);
    for client in &mut clients {
        assert_eq!(client.message(false).unwrap().text(), "S");
    }
    assert_eq!(world.tally("echo", 0), [3, 3, 0, 1]);
}

#[test]
fn a_saturated_canary_is_charged_and_shielded() {
    let (stable, hangs) = (Backend::named("S"), hanging());
    let world = Plan::new()
        .service("echo", &[stable.address], &[hangs.address], &[ALL])
        .resilience("maxConnections = 1\nmaxPending = 0\nrequestTimeout = \"2s\"")
        .start();
    let mut first = world.client();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("under way", || world.metric(&["serin_inflight", "canary"]) == 1.0);
    assert_eq!(answers(&world, 10, "S"), 10);
    assert_eq!(world.tally("echo", 1), [11, 10, 10, 0]);
}

/// Answers health checks with what is set, and everything else well.
fn checked(name: &'static str) -> (Backend, Arc<AtomicU64>) {
    let status = Arc::new(AtomicU64::new(200));
    let told = Arc::clone(&status);
    let backend = Backend::new(move |m| {
        if m.start.starts_with("GET /health ") {
            let status = told.load(Ordering::SeqCst);
            return format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into_bytes();
        }
        ok(name)
    });
    (backend, status)
}

#[test]
fn the_unwell_are_avoided_while_others_are_well() {
    let ((a, health_of_a), (b, health_of_b)) = (checked("A"), checked("B"));
    let world = Plan::new()
        .service("echo", &[a.address, b.address], &[], &[])
        .resilience("healthCheck = { path = \"/health\", interval = \"50ms\", healthy = 2, unhealthy = 2 }")
        .start();
    assert!(answers(&world, 40, "A") > 0);
    health_of_a.store(503, Ordering::SeqCst);
    eventually("only B", || answers(&world, 20, "B") == 20);
    health_of_b.store(500, Ordering::SeqCst);
    eventually("all are unwell, so all are tried", || {
        let n = answers(&world, 20, "A");
        (1..20).contains(&n)
    });
    health_of_a.store(204, Ordering::SeqCst);
    eventually("only A", || answers(&world, 20, "A") == 20);
    let asked = |b: &Backend| {
        b.seen
            .lock()
            .unwrap()
            .iter()
            .filter(|m| m.start.contains("/health"))
            .count() as u64
    };
    let sent = a.hits() + b.hits() - asked(&a) - asked(&b);
    assert_eq!(world.tally("echo", 0)[0], sent, "checks are no traffic");
}
