//! Where requests go: the cases of the traffic contract.

use crate::world::*;
use std::thread;

fn served(world: &World, headers: &[&str], n: usize) -> (usize, usize) {
    let mut client = world.client();
    let texts: Vec<_> = (0..n).map(|_| client.get("/", headers).text()).collect();
    let canary = texts.iter().filter(|t| *t == "C").count();
    assert_eq!(canary + texts.iter().filter(|t| *t == "S").count(), n);
    (n - canary, canary)
}

fn tracks() -> (Backend, Backend) {
    (Backend::named("S"), Backend::named("C"))
}

#[test]
fn case_1_the_header_forces_and_anything_else_goes_on() {
    let (s, c) = tracks();
    let world = pair(
        &s,
        &c,
        &[("canary-by-header", "X-Canary"), ("canary-weight", "100")],
    );
    assert_eq!(served(&world, &["x-CANARY: never"], 20), (20, 0));
    assert_eq!(served(&world, &["X-Canary: other"], 20), (0, 20));
    let none = pair(&s, &c, &[("canary-by-header", "X-Canary")]);
    assert_eq!(served(&none, &["X-Canary: always"], 20), (0, 20));
}

#[test]
fn case_2_and_3_values_and_patterns() {
    let (s, c) = tracks();
    let value = pair(
        &s,
        &c,
        &[
            ("canary-by-header", "h"),
            ("canary-by-header-value", "v"),
            ("canary-by-header-pattern", ".*"),
        ],
    );
    assert_eq!(served(&value, &["h: v"], 5), (0, 5));
    assert_eq!(served(&value, &["h: always"], 5), (5, 0));
    let pattern = pair(
        &s,
        &c,
        &[
            ("canary-by-header", "h"),
            ("canary-by-header-pattern", "^Do[A-Z][a-z]+y$"),
        ],
    );
    assert_eq!(served(&pattern, &["h: DoCanary"], 5), (0, 5));
    assert_eq!(served(&pattern, &["h: Docanary"], 5), (5, 0));
}

#[test]
fn case_4_and_13_cookies_and_doubled_lines() {
    let (s, c) = tracks();
    let world = pair(
        &s,
        &c,
        &[("canary-by-header", "h"), ("canary-by-cookie", "canary")],
    );
    assert_eq!(served(&world, &["Cookie: canary=always"], 50), (0, 50));
    assert_eq!(served(&world, &["Cookie: canary=never"], 5), (5, 0));
    assert_eq!(served(&world, &["Cookie: canary=garbage;;="], 5), (5, 0));
    assert_eq!(served(&world, &["h: never", "Cookie: canary=always"], 5), (5, 0));
    assert_eq!(served(&world, &["h: always", "h: always"], 5), (5, 0));
    assert_eq!(served(&world, &["h: always, x"], 5), (5, 0));
}

#[test]
fn case_5_the_split_is_exact_within_one_a_worker() {
    let (s, c) = tracks();
    for (weight, n, expected, bound) in [
        ("0", 2000, 0, 0),
        ("100", 2000, 2000, 0),
        ("10", 3000, 300, 1),
        ("1", 3000, 30, 1),
        ("0.5", 2000, 10, 1),
        ("50", 1000, 500, 8),
    ] {
        let world = pair(&s, &c, &[("canary-weight", weight)]);
        let (_, canary) = served(&world, &[], n);
        assert!(canary.abs_diff(expected) <= bound, "{weight} %: {canary} of {n}");
        let [started, finished, bad, _] = world.tally("echo", 1);
        assert_eq!(
            (started, finished, bad),
            (canary as u64, canary as u64, 0),
            "{weight} %"
        );
        assert_eq!(world.tally("echo", 0)[0], (n - canary) as u64);
    }
}

#[test]
fn two_workers_are_exact_within_one_each() {
    let (s, c) = tracks();
    let plan = Plan::new()
        .set("")
        .service("echo", &[s.address], &[c.address], &[("canary-weight", "10")]);
    let plan = Plan {
        proxy: plan.proxy.replace("workers = 1", "workers = 2"),
        ..plan
    };
    let world = plan.start();
    let canary: usize = thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| served(&world, &[], 500).1))
            .collect();
        all.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert!(canary.abs_diff(400) <= 2, "{canary}");
}

#[test]
fn case_8_an_empty_track_is_served_by_the_other() {
    let (s, c) = tracks();
    let plan = Plan::new().service(
        "echo",
        &[s.address],
        &[],
        &[("canary-by-header", "h"), ("canary-weight", "100")],
    );
    let world = plan.start();
    let forced = world.client().get("/", &["h: always"]);
    assert_eq!(
        (
            forced.status(),
            forced.text().as_str(),
            forced.header("x-serin-track")
        ),
        (200, "S", Some("stable"))
    );
    let drawn = world.client().get("/", &[]);
    assert_eq!((drawn.status(), drawn.header("x-serin-track")), (200, None));
    assert_eq!(
        world.metric(&["serin_decisions_total", "fallback_empty", "stable"]),
        2.0
    );
    assert_eq!(
        world.tally("echo", 1),
        [1, 1, 1, 0],
        "only the drawn one is charged"
    );
    for (weight, header, status) in [("1", "a: b", 200), ("0", "a: b", 503), ("1", "h: never", 503)] {
        let lines = [("canary-by-header", "h"), ("canary-weight", weight)];
        let world = Plan::new().service("echo", &[], &[c.address], &lines).start();
        let answer = world.client().get("/", &[header]);
        assert_eq!(answer.status(), status, "{weight} {header}");
    }
}

#[test]
fn case_9_a_canary_does_not_leak_to_another_service() {
    let (s, c) = tracks();
    let other = Backend::named("O");
    let world = Plan::new()
        .service(
            "a",
            &[s.address],
            &[c.address],
            &[
                ("hosts", "a.test"),
                ("canary-weight", "100"),
                ("canary-by-header", "h"),
            ],
        )
        .service("b", &[other.address], &[], &[("hosts", "b.test")])
        .start();
    let mut client = world.client();
    let ask = |client: &mut Wire, host: &str| {
        client.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nh: always\r\n\r\n"))
    };
    for _ in 0..20 {
        assert_eq!(ask(&mut client, "b.test").text(), "O");
        assert_eq!(ask(&mut client, "A.test:80").text(), "C");
    }
    let lost = ask(&mut client, "c.test");
    assert_eq!(
        (lost.status(), lost.header("x-serin-error")),
        (404, Some("no_route"))
    );
    assert_eq!(ask(&mut client, "b.test").text(), "O", "the connection goes on");
}

#[test]
fn case_10_users_stay_where_they_are() {
    let (s, c) = tracks();
    let world = pair(&s, &c, &[("canary-cohort", "cookie"), ("canary-weight", "5")]);
    let mut client = world.client();
    let users: Vec<String> = (0..400)
        .map(|_| {
            let set = client.get("/", &[]).header("set-cookie").unwrap().to_owned();
            assert!(set.ends_with("; Path=/; HttpOnly"), "{set}");
            set.split(';').next().unwrap().to_owned()
        })
        .collect();
    let mut before: Vec<bool> = vec![false; users.len()];
    for weight in ["5", "20", "50", "100"] {
        assert_eq!(world.annotate("echo", "canary-weight", weight).status(), 200);
        let now: Vec<bool> = users
            .iter()
            .map(|u| {
                let answer = client.get("/", &[&format!("Cookie: {u}")]);
                assert_eq!(answer.header("set-cookie"), None);
                answer.text() == "C"
            })
            .collect();
        assert!(
            before.iter().zip(&now).all(|(b, n)| !b || *n),
            "nobody goes back at {weight} %"
        );
        before = now;
    }
    assert!(before.iter().all(|c| *c));
    world.annotate("echo", "canary-weight", "0");
    assert_eq!(client.get("/", &[&format!("Cookie: {}", users[0])]).text(), "S");
}

#[test]
fn only_random_choices_are_evidence() {
    let (s, c) = tracks();
    let world = pair(&s, &c, &[("canary-by-header", "h"), ("canary-weight", "100")]);
    let mut client = world.client();
    client.get("/", &["h: always"]);
    client.get("/", &["x-serin-synthetic: 1"]);
    assert_eq!(world.tally("echo", 1), [0; 4]);
    client.get("/", &[]);
    assert_eq!(world.tally("echo", 1), [1, 1, 0, 0]);
    assert_eq!(
        world.metric(&["serin_requests_total", "canary", "evidence=\"true\""]),
        1.0
    );
    assert_eq!(
        world.metric(&["serin_requests_total", "canary", "evidence=\"false\""]),
        2.0
    );
}

#[test]
fn debug_headers_say_who_and_why_if_allowed() {
    let (s, c) = tracks();
    let lines = [("canary-by-header", "h")];
    let open = Plan::new()
        .set("debugHeaders = true")
        .service("echo", &[s.address], &[c.address], &lines)
        .start();
    let told = open.client().get("/", &["h: always", "x-serin-debug: 1"]);
    assert_eq!(
        (told.header("x-serin-track"), told.header("x-serin-reason")),
        (Some("canary"), Some("header"))
    );
    assert_eq!(open.client().get("/", &[]).header("x-serin-track"), None);
    let closed = pair(&s, &c, &lines);
    assert_eq!(
        closed
            .client()
            .get("/", &["x-serin-debug: 1"])
            .header("x-serin-track"),
        None
    );
}
