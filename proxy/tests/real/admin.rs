//! The two listeners beside the traffic, and what stands in the way of a start.

use crate::world::*;
use proxy::{
    Options,
    contract::admin::{Refusal, ServiceState},
};

fn world() -> World {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    pair(&s, &c, &[("canary-weight", "5")])
}

#[test]
fn services_are_told_and_changed() {
    let world = world();
    let all: Vec<ServiceState> =
        serde_json::from_slice(&world.call("GET", "/services", &[], "").body).unwrap();
    assert_eq!(all.len(), 1);
    let hash = format!("if-match: \"{}\"", all[0].hash);
    let headers = [hash.as_str(), "x-serin-actor: ann", "x-serin-cause: it is time"];
    let body = r#"{"serin.dev/canary-weight": "6", "serin.dev/canary-shield": "off"}"#;
    let changed = world.call("PATCH", "/services/echo/annotations", &headers, body);
    let state: ServiceState = serde_json::from_slice(&changed.body).unwrap();
    assert_ne!(state.hash, all[0].hash);
    for (key, value) in [
        ("canary-weight", "6"),
        ("canary-shield", "off"),
        ("changed-by", "ann"),
        ("change-cause", "it is time"),
    ] {
        assert_eq!(state.annotations[&format!("serin.dev/{key}")], value);
    }
    assert_eq!(
        world
            .call("PATCH", "/services/echo/annotations", &headers, body)
            .status(),
        412,
        "another hash is in force"
    );
    let removed = world.call(
        "PATCH",
        "/services/echo/annotations",
        &[],
        r#"{"serin.dev/canary-shield": null}"#,
    );
    let state: ServiceState = serde_json::from_slice(&removed.body).unwrap();
    assert!(!state.annotations.contains_key("serin.dev/canary-shield"));
    assert_eq!(state.annotations["serin.dev/changed-by"], "admin");
    assert_eq!(world.running.evidence(0).services["echo"].hash, state.hash);
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let world = world();
    let before = world.running.control().state("echo").unwrap();
    let patch = "/services/echo/annotations";
    for (method, path, body, status) in [
        ("GET", "/nothing", "", 404),
        ("GET", "/services/other", "", 404),
        ("POST", "/services", "", 405),
        ("DELETE", "/services/echo", "", 405),
        ("GET", patch, "", 405),
        ("PATCH", "/services/other/annotations", "{}", 404),
        ("PATCH", patch, "", 400),
        ("PATCH", patch, "[]", 400),
        ("PATCH", patch, "{", 400),
        ("PATCH", patch, r#"{"serin.dev/canary-weight": 5}"#, 400),
        ("PATCH", patch, r#"{"serin.dev/canary-weight": ["5"]}"#, 400),
        ("PATCH", patch, r#"{"serin.dev/canary-weight": "101"}"#, 422),
        ("PATCH", patch, r#"{"serin.dev/canary-weight": "abc"}"#, 422),
        ("PATCH", patch, r#"{"serin.dev/canary-wieght": "5"}"#, 422),
        ("PATCH", patch, r#"{"serin.dev/canary-by-header": "a b"}"#, 422),
        (
            "PATCH",
            patch,
            r#"{"serin.dev/canary-by-header-pattern": "("}"#,
            422,
        ),
        (
            "PATCH",
            patch,
            r#"{"serin.dev/canary-by-header": "h", "serin.dev/canary-by-header-pattern": "("}"#,
            422,
        ),
        ("PATCH", patch, r#"{"serin.dev/canary-match": "{"}"#, 422),
        ("PATCH", patch, r#"{"other.example/key": "5"}"#, 422),
    ] {
        let answer = world.call(method, path, &[], body);
        let refusal: Refusal = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status(), status, "{method} {path} {body}: {refusal:?}");
        assert!(!refusal.error.is_empty());
        assert_eq!(status == 422, !refusal.faults.is_empty(), "{body}");
        assert!(
            refusal
                .faults
                .iter()
                .all(|f| !f.key.is_empty() && !f.remedy.is_empty()),
            "{refusal:?}"
        );
    }
    let large = format!(
        "{{\"serin.dev/canary-cohort-salt\": \"{}\"}}",
        "x".repeat(300_000)
    );
    assert_eq!(world.call("PATCH", patch, &[], &large).status(), 413);
    assert_eq!(world.running.control().state("echo").unwrap(), before);
}

#[test]
fn without_the_token_nothing_is_told() {
    let world = world();
    for line in [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Basic let-me-in\r\n",
    ] {
        let mut client = Wire::connect(world.running.addresses().admin);
        let answer = client.ask(&format!(
            "GET /services HTTP/1.1\r\nHost: localhost\r\n{line}\r\n"
        ));
        assert_eq!(answer.status(), 401, "{line}");
        assert!(answer.text().contains("Bearer"));
    }
}

#[test]
fn signals_are_read_only() {
    let world = world();
    world.client().get("/", &[]);
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/evidence", 200),
        ("/evidence?since=5", 200),
        ("/evidence?since=x", 400),
        ("/x", 404),
    ] {
        assert_eq!(world.signals(path).status(), status, "{path}");
    }
    let metrics = world.signals("/metrics").text();
    for series in [
        "serin_request_duration_seconds_count{service=\"echo\",track=\"canary\",evidence=\"true\"}",
        "serin_requests_total{service=\"echo\",track=\"canary\"",
        "serin_decisions_total{service=\"echo\",track=\"canary\",reason=\"weight\"}",
        "serin_split_weight{service=\"echo\"} 5",
    ] {
        assert!(metrics.contains(series), "{series}");
    }
    let mut client = Wire::connect(world.running.addresses().signals);
    assert_eq!(
        client
            .ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            .status(),
        405
    );
}

#[test]
fn the_evidence_adds_up() {
    let stable = Backend::new(|m| {
        let status = if m.start.contains("bad") { 500 } else { 200 };
        format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let canary = Backend::named("C");
    let world = pair(&stable, &canary, &[("canary-weight", "20")]);
    let mut client = world.client();
    let (mut bad, mut canaries) = (0, 0);
    for i in 0..1000 {
        let answer = client.get(if i % 3 == 0 { "/bad" } else { "/" }, &[]);
        canaries += u64::from(answer.text() == "C");
        bad += u64::from(answer.status() == 500);
    }
    let page: proxy::contract::evidence::Page =
        serde_json::from_slice(&world.signals("/evidence").body).unwrap();
    let echo = &page.services["echo"];
    assert_eq!(world.tally("echo", 0), [1000 - canaries, 1000 - canaries, bad, 0]);
    assert_eq!(world.tally("echo", 1), [canaries, canaries, 0, 0]);
    assert!(
        echo.cohorts
            .iter()
            .all(|c| c.is_finished() && c.share == 0.2 && c.hash == echo.hash)
    );
    let latency: u64 = echo
        .cohorts
        .iter()
        .flat_map(|c| &c.tracks)
        .flat_map(|t| &t.latency)
        .map(|l| l.1)
        .sum();
    assert_eq!(latency, 1000);
    let history: u64 = echo.history.iter().map(|m| m.started).sum();
    assert_eq!(
        (history, echo.history.iter().map(|m| m.bad).sum::<u64>()),
        (1000 - canaries, bad)
    );
    assert_eq!(
        world.metric(&["serin_request_duration_seconds_count", "evidence=\"true\""]),
        1000.0
    );
}

#[test]
fn what_stands_in_the_way_of_a_start_is_named() {
    let world = world();
    let addresses = world.running.addresses();
    let taken = |change: fn(&mut Options, std::net::SocketAddr), address| {
        let mut options = Options::new(&world.file, TOKEN);
        change(&mut options, address);
        proxy::start(options).unwrap_err().to_string()
    };
    for (key, error) in [
        ("proxy.listen", taken(|o, a| o.listen = Some(a), addresses.listen)),
        (
            "proxy.signals",
            taken(|o, a| o.signals = Some(a), addresses.signals),
        ),
        ("proxy.admin", taken(|o, a| o.admin = Some(a), addresses.admin)),
    ] {
        assert!(error.contains(key) && error.contains("choose another"), "{error}");
    }
    let error = proxy::start(Options::new("/nowhere/serin.toml", TOKEN))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nowhere/serin.toml") && error.contains("name a file"),
        "{error}"
    );
    std::fs::write(
        &world.file,
        "[proxy]\nadmin = \"0.0.0.0:0\"\n[[service]]\nname = \"\"\n",
    )
    .unwrap();
    let error = proxy::start(Options::new(&world.file, TOKEN))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("proxy.admin") && error.contains("service[0].name") && error.contains("2 faults"),
        "{error}"
    );
}
