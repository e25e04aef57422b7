//! Who is believed about whom: forwarding headers, the client's address, what goes on and what does not.

use crate::world::*;

const SAID: [&str; 5] = [
    "X-Forwarded-For: 198.51.100.7, 203.0.113.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.example",
    "X-Forwarded-Prefix: /shop",
    "Forwarded: for=203.0.113.9",
];

/// Backend, and a proxy that trusts these ranges and sends 203.0.113.0/24 to the canary.
fn world(trusted: &str, annotation: (&str, &str)) -> (World, Backend, Backend) {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let world = Plan::new()
        .set(&format!("trustedProxies = [{trusted}]"))
        .service("echo", &[s.address], &[c.address], &[annotation])
        .start();
    (world, s, c)
}

const MATCH: (&str, &str) = ("canary-match", r#"[{"sourceIPs":["203.0.113.0/24"]}]"#);

#[test]
fn promise_10_a_stranger_says_nothing_about_others() {
    let (world, s, _c) = world("\"10.0.0.0/8\"", MATCH);
    assert_eq!(
        world.client().get("/", &SAID).text(),
        "S",
        "the address is its own"
    );
    let seen = s.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("test"));
    assert_eq!(
        (seen.header("x-forwarded-prefix"), seen.header("forwarded")),
        (None, None)
    );
}

#[test]
fn promise_10_a_trusted_proxy_is_believed() {
    let (world, _s, c) = world("\"127.0.0.0/8\", \"10.0.0.0/8\"", MATCH);
    assert_eq!(world.client().get("/", &SAID).text(), "C", "203.0.113.9 asks");
    let seen = c.last();
    assert_eq!(
        seen.header("x-forwarded-for"),
        Some("198.51.100.7, 203.0.113.9, 127.0.0.1")
    );
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(seen.header("x-forwarded-prefix"), Some("/shop"));
    assert_eq!(
        seen.header("forwarded"),
        Some("for=203.0.113.9, for=127.0.0.1;proto=http")
    );
    // What the client wrote itself, left of the last hop, decides nothing.
    let forged = ["X-Forwarded-For: 203.0.113.9, 198.51.100.7, 10.1.1.1"];
    assert_eq!(world.client().get("/", &forged).text(), "S");
}

#[test]
fn promise_2_users_behind_a_trusted_proxy_are_told_apart_by_their_address() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let cohort = [("canary-cohort", "source-ip"), ("canary-weight", "30")];
    let start = |trusted: &str| {
        let plan = Plan::new().set(&format!("trustedProxies = [{trusted}]"));
        plan.service("echo", &[s.address], &[c.address], &cohort).start()
    };
    let served = |world: &World| {
        let mut client = world.client();
        let each = (0..200).map(|i| {
            client
                .get("/", &[&format!("X-Forwarded-For: 198.51.100.{i}")])
                .text()
        });
        each.filter(|t| t == "C").count()
    };
    let apart = served(&start("\"127.0.0.1\""));
    assert!((20..=110).contains(&apart), "{apart}");
    assert!([0, 200].contains(&served(&start(""))), "one address is one user");
}

#[test]
fn promise_10_nomination_strips_nothing_that_routes_or_forwards() {
    let (world, s, _c) = world("\"127.0.0.0/8\"", MATCH);
    let nominate = "Connection: x-gone, host, x-forwarded-for, x-forwarded-proto, cookie, authorization, via, traceparent, x-request-id, X-Serin-Synthetic";
    world.client().get(
        "/",
        &[
            nominate,
            "X-Gone: 1",
            "X-Forwarded-For: 198.51.100.7",
            "X-Forwarded-Proto: https",
            "Cookie: a=b",
            "Authorization: Basic x",
            "Via: 1.1 edge",
            "X-Request-Id: r1",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "X-Serin-Synthetic: 1",
        ],
    );
    let seen = s.last();
    assert_eq!((seen.header("x-gone"), seen.header("connection")), (None, None));
    for (name, value) in [
        ("host", "test"),
        ("x-forwarded-for", "198.51.100.7, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("cookie", "a=b"),
        ("authorization", "Basic x"),
        ("x-request-id", "r1"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("x-serin-synthetic", "1"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    let vias: Vec<_> = seen
        .headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case("via"))
        .collect();
    assert_eq!((vias.len(), vias[0].1.as_str()), (2, "1.1 edge"), "{vias:?}");
}

#[test]
fn a_range_that_is_none_is_refused_with_its_key() {
    let text = "[proxy]\ntrustedProxies = [\"10.0.0.0/40\"]\n[[service]]\nname = \"a\"\nstable.endpoints = [\"127.0.0.1:1\"]\n";
    let faults = proxy::source::file::parse(text.to_owned(), proxy::contract::names::PREFIX).unwrap_err();
    assert_eq!(
        (faults[0].key.as_str(), faults[0].value.as_str()),
        ("proxy.trustedProxies", "10.0.0.0/40")
    );
}
