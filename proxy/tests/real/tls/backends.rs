//! TLS to backends: whom we trust, whom we ask for, and what we show.

use super::town::*;
use crate::world::*;
use proxy::contract::names::Track;
use std::fs;

struct Yard {
    folder: Folder,
    known: Authority,
    stranger: Authority,
}

impl Yard {
    fn new() -> Yard {
        let yard = Yard {
            folder: Folder::new(),
            known: Authority::new(),
            stranger: Authority::new(),
        };
        fs::write(yard.folder.0.join("ca.pem"), &yard.known.pem).unwrap();
        fs::write(yard.folder.0.join("strange.pem"), &yard.stranger.pem).unwrap();
        yard.known.sign(&["proxy"]).write(&yard.folder.0, "own");
        yard.stranger.sign(&["proxy"]).write(&yard.folder.0, "foreign");
        yard
    }

    /// Stable in plain HTTP; all requests go to a canary with these words of `tls`.
    fn canary(&self, at: &str, tls: &str, stable: &Backend, hosts: &str) -> World {
        let tls = tls.replace("@", &format!("{}/", self.folder.0.display()));
        let mut plan = Plan::new();
        plan.services = format!(
            "[[service]]\nname = \"echo\"\nhosts = [{hosts}]\nstable.endpoints = [\"{}\"]\n\
             canary = {{ endpoints = [\"{at}\"], protocol = \"https\", tls = {{ {tls} }} }}\n\
             annotations.\"serin.dev/canary-weight\" = \"100\"\n",
            stable.address
        );
        plan.start()
    }

    fn ask(&self, at: &str, tls: &str) -> String {
        let stable = Backend::named("shielded");
        let world = self.canary(at, tls, &stable, "");
        let answer = world.client().get("/", &[]).text();
        let charged = u64::from(answer == "shielded");
        assert_eq!(
            world.tally("echo", Track::Canary.index()),
            [1, 1, charged, 0],
            "{tls}"
        );
        let counted = world.metric(&["serin_failures_total", "side=\"backend\"", "track=\"canary\""]);
        assert_eq!(counted, charged as f64, "{tls}");
        answer
    }
}

#[test]
fn only_who_is_trusted_under_its_name_is_spoken_to() {
    let yard = Yard::new();
    let good = Fortress::new(server(&yard.known.sign(&["api.test", "localhost"]), None));
    let strange = Fortress::new(server(&yard.stranger.sign(&["api.test"]), None));
    let expired = Fortress::new(server(&yard.known.sign_until(&["api.test"], 2020), None));
    let by_address = Fortress::new(server(&yard.known.sign(&["127.0.0.1"]), None));
    let name = "serverName = \"api.test\"";
    let host = format!("localhost:{}", good.address.port());
    for (at, tls, answer) in [
        (
            good.address.to_string(),
            format!("ca = \"@ca.pem\", {name}"),
            "api.test false",
        ),
        (host, "ca = \"@ca.pem\"".into(), "localhost false"),
        (
            by_address.address.to_string(),
            "ca = \"@ca.pem\"".into(),
            "- false",
        ),
        (good.address.to_string(), "ca = \"@ca.pem\"".into(), "shielded"),
        (
            good.address.to_string(),
            "ca = \"@ca.pem\", serverName = \"other.test\"".into(),
            "shielded",
        ),
        (
            strange.address.to_string(),
            format!("ca = \"@ca.pem\", {name}"),
            "shielded",
        ),
        (
            strange.address.to_string(),
            format!("verify = false, {name}"),
            "api.test false",
        ),
        (
            expired.address.to_string(),
            format!("ca = \"@ca.pem\", {name}"),
            "shielded",
        ),
        (
            Backend::named("plain").address.to_string(),
            format!("ca = \"@ca.pem\", {name}"),
            "shielded",
        ),
    ] {
        assert_eq!(yard.ask(&at, &tls), answer, "{tls}");
    }
    assert_eq!(
        strange.hits() + expired.hits(),
        1,
        "nothing is sent to who is not trusted"
    );
}

#[test]
fn the_services_host_is_asked_for_without_another_name() {
    let yard = Yard::new();
    let fortress = Fortress::new(server(&yard.known.sign(&["shop.test"]), None));
    let stable = Backend::named("shielded");
    let world = yard.canary(
        &fortress.address.to_string(),
        "ca = \"@ca.pem\"",
        &stable,
        "\"shop.test\", \"b.test\"",
    );
    let answer = world.client().ask("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n");
    assert_eq!(answer.text(), "shop.test false");
}

#[test]
fn what_is_not_sent_may_be_sent_elsewhere_and_opted_requests_see_the_failure() {
    let yard = Yard::new();
    let strange = Fortress::new(server(&yard.stranger.sign(&["api.test"]), None));
    let stable = Backend::named("shielded");
    let tls = "ca = \"@ca.pem\", serverName = \"api.test\"";
    let world = yard.canary(&strange.address.to_string(), tls, &stable, "");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(world.client().ask(post).text(), "shielded");
    assert_eq!(stable.last().body, b"hi");
    let kinds = world.metric(&[
        "serin_failures_total",
        "track=\"canary\"",
        "side=\"backend\"",
        "kind=\"tls\"",
    ]);
    assert_eq!(kinds, 1.0);
    world.annotate("echo", "canary-by-header", "x-canary");
    eventually("the header is in force", || {
        let answer = world.client().get("/", &["x-canary: always"]);
        (answer.status(), answer.header("x-serin-error")) == (502, Some("tls"))
    });
}

#[test]
fn backends_that_ask_are_shown_our_certificate() {
    let yard = Yard::new();
    let strict = Fortress::new(server(&yard.known.sign(&["api.test"]), Some(&yard.known)));
    let at = strict.address.to_string();
    let tls = "ca = \"@ca.pem\", serverName = \"api.test\"";
    let shows = |who: &str| format!("{tls}, cert = \"@{who}.crt\", key = \"@{who}.key\"");
    assert_eq!(yard.ask(&at, &shows("own")), "api.test true");
    assert_eq!(yard.ask(&at, tls), "shielded");
    assert_eq!(yard.ask(&at, &shows("foreign")), "shielded");
    assert_eq!(strict.hits(), 1);
}

#[test]
fn connections_are_kept_and_sessions_resumed() {
    let yard = Yard::new();
    let fortress = Fortress::new(server(&yard.known.sign(&["api.test"]), None));
    let stable = Backend::named("shielded");
    let tls = "ca = \"@ca.pem\", serverName = \"api.test\"";
    let world = yard.canary(&fortress.address.to_string(), tls, &stable, "");
    let mut client = world.client();
    for _ in 0..50 {
        assert_eq!(client.get("/", &[]).text(), "api.test false");
        // A change of the table that changes nothing about trust keeps connections.
        world.annotate("echo", "canary-cohort-salt", "x");
    }
    assert_eq!((fortress.hits(), stable.hits()), (50, 0));
}

#[test]
fn changed_authorities_are_taken_without_a_failed_request() {
    let yard = Yard::new();
    let fortress = Fortress::new(server(&yard.known.sign(&["api.test"]), None));
    let stable = Backend::named("shielded");
    let tls = "ca = \"@trust.pem\", serverName = \"api.test\"";
    let trust = yard.folder.0.join("trust.pem");
    fs::write(&trust, &yard.known.pem).unwrap();
    let world = yard.canary(&fortress.address.to_string(), tls, &stable, "");
    let rejected = || world.metric(&["serin_config_rejected_total", "key=\"service[0].canary.tls.ca\""]);
    let served = |by: &str| world.client().get("/", &[]).text() == by;
    assert!(served("api.test false"));
    fs::write(&trust, "no certificate").unwrap();
    eventually("a bad bundle is told", || rejected() == 1.0);
    assert!(served("api.test false"), "the last good one stays in force");
    fs::write(&trust, &yard.stranger.pem).unwrap();
    eventually(
        "who is not trusted any more is left, kept connections too",
        || served("shielded"),
    );
    fs::write(&trust, format!("{}{}", yard.stranger.pem, yard.known.pem)).unwrap();
    *fortress.config.lock().unwrap() = server(&yard.stranger.sign(&["api.test"]), None);
    eventually("both are trusted", || served("api.test false"));
    assert_eq!(rejected(), 1.0);
}

/// Another proxy is the endpoint: it speaks both versions of HTTP by TLS.
#[test]
fn the_endpoint_chooses_http2_and_upgrades_go_by_http1() {
    let yard = Yard::new();
    yard.known.sign(&["api.test"]).write(&yard.folder.0, "shop");
    let backend = Backend::raw(|mut wire| {
        while let Some(request) = wire.message(false) {
            if request.header("upgrade").is_none() {
                wire.send(ok("plain"));
                continue;
            }
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
            let mut said = [0; 5];
            while wire.read(&mut said).is_ok_and(|n| n > 0) {
                wire.send(said);
            }
        }
    });
    let inner = secure(&yard.folder, &["shop"], "")
        .service("inner", &[backend.address], &[], &[])
        .start();
    let stable = Backend::named("shielded");
    let tls = "ca = \"@ca.pem\", serverName = \"api.test\"";
    let outer = yard.canary(&tls_of(&inner).to_string(), tls, &stable, "");
    let mut client = outer.client();
    for _ in 0..20 {
        assert_eq!(client.get("/", &[]).text(), "plain");
    }
    assert_eq!(inner.metric(&["serin_requests_total", "protocol=\"h2\""]), 20.0);
    let mut upgraded = outer.client();
    upgraded.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(upgraded.head().unwrap().status(), 101);
    for word in ["hello", "again"] {
        upgraded.send(word);
        let mut heard = [0; 5];
        upgraded.read(&mut heard).unwrap();
        assert_eq!(heard, word.as_bytes());
    }
    assert_eq!(stable.hits(), 0);
}
