//! The page in a cluster: who may look, who may act, what moves on it, and what a controller says that only stands by.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/browser.rs"]
mod browser;
#[path = "support/town.rs"]
#[allow(dead_code)] // each test binary uses its part
mod town;

use browser::Tour;
use cluster::load::Traffic;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
};
use town::{Controller, LIMIT, RATE, Town, in_town};

const ROLLOUT: &str = "/rollouts/default/echo";
/// The page on the pods' own addresses: all pods of the suite share one loopback.
const ON_PODS: &str = r#"kubectl kustomize k8s/controller | sed 's/--page=127.0.0.1:9904/--page=$(POD_IP):9904/' | kubectl apply -f - && kubectl -n serin-system rollout status deployment/serin-controller --timeout=60s"#;
/// People are slow.
const SLOW: &str = r#"kubectl patch rollout echo --type=merge -p '{"spec":{"pacing":{"soak":"10m"}}}'"#;
/// As docs/page.md has it.
const TOKEN: &str =
    "kubectl -n serin-system get secret serin-page -o go-template='{{.data.token | base64decode}}'";

/// One controller's page.
#[derive(Clone, Copy, Debug)]
struct Page(SocketAddr);

/// Somebody who asks.
#[derive(Default)]
struct Caller<'a> {
    token: Option<&'a str>,
    host: Option<&'a str>,
    origin: Option<&'a str>,
    who: Option<&'a str>,
    why: Option<&'a str>,
}

impl Page {
    fn ask(self, method: &str, path: &str, by: &Caller<'_>, body: &str) -> (u16, String) {
        let own = self.0.to_string();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            by.host.unwrap_or(&own),
            body.len()
        );
        for (name, value) in [
            ("authorization", by.token.map(|t| format!("Bearer {t}"))),
            ("origin", by.origin.map(str::to_owned)),
            ("x-serin-actor", by.who.map(str::to_owned)),
            ("x-serin-cause", by.why.map(str::to_owned)),
        ] {
            if let Some(value) = value {
                head += &format!("{name}: {value}\r\n");
            }
        }
        let mut stream = TcpStream::connect(self.0).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn get(self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, &Caller::default(), "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or(Value::String(body))
    }

    fn order(self, by: &Caller<'_>, order: &Value) -> (u16, String) {
        self.ask("POST", &format!("{ROLLOUT}/command"), by, &order.to_string())
    }

    /// Lines of a stream of events, as they come.
    fn events(self, path: &str) -> mpsc::Receiver<String> {
        let mut stream = TcpStream::connect(self.0).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.0).unwrap();
        let (tell, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stream).lines().map_while(Result::ok);
            lines
                .map(|line| tell.send(line))
                .take_while(Result::is_ok)
                .count()
        });
        heard
    }
}

/// The one that leads, and one that stands by.
fn pages(town: &Town) -> [Page; 2] {
    town.world.wait("one page leads and one stands by", LIMIT, || {
        let all: Value = serde_json::from_str(&town.sh("kubectl -n serin-system get pods -o json")).unwrap();
        let pods = all["items"].as_array().unwrap();
        let alive = pods
            .iter()
            .filter(|p| p["metadata"]["deletionTimestamp"].is_null());
        let all: Vec<Page> = alive
            .filter_map(|p| {
                Some(Page(
                    format!("{}:9904", p["status"]["podIP"].as_str()?).parse().ok()?,
                ))
            })
            .filter(|page| TcpStream::connect(page.0).is_ok())
            .collect();
        let leads = |wanted| all.iter().find(|p| p.get("/controller")["leads"] == wanted);
        (all.len() == 2).then_some(())?;
        Some([*leads(true)?, *leads(false)?])
    })
}

fn hears(events: &mpsc::Receiver<String>, parts: &[&str]) {
    while let Ok(line) = events.recv_timeout(LIMIT) {
        if parts.iter().all(|p| line.contains(p)) {
            return;
        }
    }
    panic!("the stream never told {parts:?}");
}

fn decided(town: &Town, to: &str) -> Value {
    let status = town.status();
    let all = status["decisions"].as_array().unwrap();
    all.iter()
        .rev()
        .find(|d| d["to"] == to)
        .cloned()
        .unwrap_or_default()
}

/// The manifests' own page is moved to the pods' addresses, once its Secret is made.
fn open(town: &Town) -> (String, [Page; 2]) {
    town.world
        .wait("the controller makes the token's Secret", LIMIT, || {
            town.try_sh(TOKEN).status.success().then_some(())
        });
    let local = Page(SocketAddr::from(([127, 0, 0, 1], 9904)));
    town.world
        .wait("the manifests' own page lists the release", LIMIT, || {
            (local.get("/rollouts")[0]["service"] == "default/echo").then_some(())
        });
    town.sh(ON_PODS);
    town.sh(SLOW);
    (town.sh(TOKEN), pages(town))
}

#[test]
fn everybody_looks_and_only_the_token_acts() {
    let test = "everybody_looks_and_only_the_token_acts";
    in_town(test, Controller::Cluster, |town| {
        let (token, [leader, follower]) = open(town);
        town.world
            .apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
        town.sh("kubectl -n shop apply -f k8s/tracks/rollout.yml");
        let load = town.world.load("echo", Traffic::at(RATE));
        let events = leader.events(&format!("{ROLLOUT}/events"));
        hears(&events, &["Idle"]);
        town.canary("v2.0.0", 2);
        hears(&events, &["\"phase\":\"Shifting\"", "v2.0.0"]);
        hears(&events, &["\"point\":", "\"judged\":"]);

        // Both tell of all namespaces.
        for page in [leader, follower] {
            town.world.wait("all namespaces are listed", LIMIT, || {
                let all = page.get("/rollouts");
                let all = all.as_array().unwrap().iter();
                let names: Vec<&str> = all.filter_map(|r| r["service"].as_str()).collect();
                (names == ["default/echo", "shop/echo"]).then_some(())
            });
            let html = page.get("/ui/default/echo");
            assert!(
                html.as_str().unwrap().contains("data-plane=\"cluster\""),
                "{html}"
            );
            town.world.wait("the canary is known", LIMIT, || {
                (page.get(ROLLOUT)["canaryVersion"] == "v2.0.0").then_some(())
            });
        }
        let told = follower.get("/controller");
        assert_eq!(told["leader"], leader.get("/controller")["identity"], "{told}");

        // Strangers change nothing.
        let stranger = Caller {
            who: Some("mallory"),
            ..Caller::default()
        };
        let forged = Caller {
            token: Some("0123456789abcdef0123456789abcdef"),
            ..Caller::default()
        };
        let elsewhere = Caller {
            token: Some(&token),
            origin: Some("http://evil.example"),
            ..Caller::default()
        };
        let rebound = Caller {
            token: Some(&token),
            host: Some("evil.example:9904"),
            ..Caller::default()
        };
        for page in [leader, follower] {
            for (by, status) in [
                (&stranger, 401),
                (&forged, 403),
                (&elsewhere, 403),
                (&rebound, 421),
            ] {
                assert_eq!(page.order(by, &json!("abort")).0, status);
            }
        }
        assert_eq!(leader.ask("GET", "/rollouts", &rebound, "").0, 421);
        assert_eq!(decided(town, "RollingBack"), Value::Null);
        assert_eq!(
            town.note("serin.dev/v1alpha1/Rollout/echo", "serin.dev/order"),
            ""
        );

        // Orders: by the one that leads, and by the other.
        let ann = Caller {
            token: Some(&token),
            who: Some("Ann"),
            why: Some("ticket 3"),
            ..Caller::default()
        };
        let (status, body) = leader.order(&ann, &json!("pause"));
        assert_eq!(status, 200, "{body}");
        hears(
            &events,
            &["\"phase\":\"Paused\"", "Ann (on the page)", "ticket 3"],
        );
        assert_eq!(decided(town, "Paused")["by"], "Ann (on the page)");
        let (status, body) = follower.order(&ann, &json!("resume"));
        assert_eq!(status, 200, "{body}");
        hears(&events, &["\"phase\":\"Shifting\""]);
        let (status, body) = leader.order(&ann, &json!({"weight": {"weight": "7", "total": 100}}));
        assert_eq!(status, 200, "{body}");
        town.phase("Paused", LIMIT);
        assert!((town.weight() - 7.0).abs() < 1e-9, "{}", town.weight());
        let (status, body) = leader.order(&ann, &json!("retry"));
        assert_eq!(status, 409, "{body}");
        load.stop().no_loss();

        // What is told of it while it runs, and the same by whoever stands by.
        let words = leader.get(&format!("{ROLLOUT}/words"));
        assert!(words.as_str().unwrap().contains("v2.0.0"), "{words}");
        for (page, is_told) in [(leader, true), (follower, false)] {
            town.world.wait("there are points of three seconds", LIMIT, || {
                let series = page.get(&format!("{ROLLOUT}/series"));
                let points = series["points"].as_array()?;
                let judged = points.iter().filter(|p| p["judged"].is_null() != is_told);
                (judged.count() >= 3).then_some(())
            });
        }
        let numbers = |page: Page| -> Vec<u64> {
            let all = page.get(&format!("{ROLLOUT}/decisions"));
            all.as_array()
                .unwrap()
                .iter()
                .filter_map(|d| d["number"].as_u64())
                .collect()
        };
        assert_eq!(numbers(leader), numbers(follower));
        assert!(numbers(leader).len() >= 5, "{:?}", numbers(leader));

        // The same address after the end.
        assert_eq!(leader.order(&ann, &json!("abort")).0, 200);
        town.phase("RolledBack", LIMIT);
        hears(&events, &["\"phase\":\"RolledBack\""]);
        let last = leader.get(&format!("{ROLLOUT}/releases"));
        assert_eq!(last[0]["phase"], "RolledBack", "{last}");
    });
}

#[test]
fn a_browser_follows_a_release_in_a_cluster() {
    let test = "a_browser_follows_a_release_in_a_cluster";
    // There is no registry inside the test's network.
    browser::packages();
    in_town(test, Controller::Cluster, |town| {
        let (token, [leader, follower]) = open(town);
        let load = town.world.load("echo", Traffic::at(RATE));
        let mut tour = Tour::start(json!({
            "tour": "cluster", "admin": leader.0.to_string(), "other": follower.0.to_string(), "token": token,
        }));
        tour.until("phase", "Idle");
        town.canary("v2.0.0", 2);
        tour.end();
        load.stop().no_loss();
    });
}
