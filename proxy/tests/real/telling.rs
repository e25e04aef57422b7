//! What is told of single requests: the access log, and spans by OTLP.

use crate::{multiplexed, world::*};
use http_body_util::BodyExt;
use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

/// A file for a log, in a folder that goes with the test.
struct LogFile(PathBuf);

impl LogFile {
    fn new() -> LogFile {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let n = NUMBER.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("serin-log-{}-{n}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        LogFile(folder.join("access.log"))
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// So many lines, once they are there.
    fn lines(&self, n: usize) -> Vec<Value> {
        eventually("the lines", || self.text().lines().count() >= n);
        let text = self.text();
        let lines = text.lines().map(|l| serde_json::from_str(l).expect(l));
        lines.collect()
    }

    /// A plan that logs here.
    fn plan(&self, keys: &str) -> Plan {
        let to = self.0.display();
        Plan::new().set(&format!("accessLog = {{ to = \"{to}\", {keys} }}"))
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        if let Some(folder) = self.0.parent() {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

#[test]
fn a_line_says_who_asked_what_and_who_served_why() {
    let (s, c) = (Backend::named("S"), Backend::named("CCC"));
    let log = LogFile::new();
    let world = log
        .plan("sample = 1.0, userAgent = true")
        .service("echo", &[s.address], &[c.address], &[("canary-by-header", "h")])
        .start();
    let mut client = world.client();
    client.get("/a/b?secret=1", &["h: always", "User-Agent: test/1"]);
    client.ask("POST /p HTTP/1.1\r\nHost: test\r\nX-Request-Id: mine\r\nContent-Length: 4\r\n\r\nbody");
    let lines = log.lines(2);
    let first = &lines[0];
    for (key, value) in [
        ("service", "echo"),
        ("track", "canary"),
        ("reason", "header"),
        ("method", "GET"),
        ("path", "/a/b"),
        ("host", "test"),
        ("protocol", "http/1.1"),
        ("client", "127.0.0.1"),
        ("user_agent", "test/1"),
        ("endpoint", &c.address.to_string()),
    ] {
        assert_eq!(first[key], value, "{key}: {first}");
    }
    assert_eq!((&first["status"], &first["bytes_out"]), (&200.into(), &3.into()));
    assert!(
        first["duration_ms"].as_f64() > first["connect_ms"].as_f64(),
        "{first}"
    );
    assert!(first["time"].as_str().unwrap().ends_with('Z'), "{first}");
    let seen = c.last();
    assert_eq!(first["request_id"].as_str(), seen.header("x-request-id"));
    assert_eq!(
        first["trace_id"].as_str(),
        seen.header("traceparent").map(|t| &t[3..35])
    );
    for absent in ["query", "failure_side", "attempts", "shielded"] {
        assert!(first.get(absent).is_none(), "{absent}: {first}");
    }
    assert_eq!(
        (&lines[1]["request_id"], &lines[1]["bytes_in"]),
        (&"mine".into(), &4.into())
    );
}

#[test]
fn requests_by_http_2_are_told_alike() {
    let s = Backend::named("S");
    let log = LogFile::new();
    let world = log
        .plan("sample = 1.0, userAgent = true, query = true")
        .service("echo", &[s.address], &[], &[])
        .start();
    multiplexed::on_one_thread(async {
        let mut sender = multiplexed::connect(&world).await;
        let mut request = multiplexed::get("/a?b=c");
        request
            .headers_mut()
            .insert("user-agent", "test/2".parse().unwrap());
        request
            .headers_mut()
            .insert("x-request-id", "mine".parse().unwrap());
        let answer = sender.send_request(request).await.unwrap();
        answer.into_body().collect().await.unwrap();
    });
    let line = &log.lines(1)[0];
    for (key, value) in [
        ("method", "GET"),
        ("path", "/a"),
        ("query", "b=c"),
        ("host", "shop.test"),
        ("protocol", "h2"),
        ("user_agent", "test/2"),
        ("request_id", "mine"),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert_eq!(line["bytes_out"], 1);
}

#[test]
fn calls_of_grpc_are_told_with_their_status_and_bad_ones_are_failures() {
    let endpoint = crate::shared::statuses();
    let log = LogFile::new();
    let collector = Collector::new(|_| 200);
    let at = collector.0.address;
    let world = log
        .plan("sample = 0.0")
        .set(&format!("tracing = {{ otlp = \"http://{at}\", sample = 1.0 }}"))
        .service(
            "echo",
            &[endpoint],
            &[],
            &[("protocol", "h2c"), ("hosts", "shop.test")],
        )
        .start();
    multiplexed::on_one_thread(async {
        let mut sender = multiplexed::speak(&world).await;
        for (host, path) in [
            ("shop.test", "/0"),
            ("shop.test", "/5"),
            ("shop.test", "/14"),
            ("shop.test", "/none"),
            ("other.test", "/"),
        ] {
            let request = http::Request::post(format!("http://{host}{path}"))
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
            let answer = sender.send_request(request, true).unwrap().0.await.unwrap();
            assert_eq!(answer.status(), 200);
            let mut body = answer.into_body();
            while let Some(data) = body.data().await {
                assert!(data.unwrap().is_empty(), "only the status");
            }
            body.trailers().await.unwrap();
        }
    });
    // What speaks of what was asked for is no failure, and so is not told.
    let lines = log.lines(3);
    let told: Vec<_> = lines
        .iter()
        .map(|l| format!("{} {} {}", l["path"], l["status"], l["grpc_status"]))
        .collect();
    assert_eq!(
        told,
        ["\"/14\" 200 \"14\"", "\"/none\" 200 \"none\"", "\"/\" 404 \"12\""]
    );
    world.running.wait();
    let told: Vec<_> = collector
        .spans()
        .iter()
        .map(|s| {
            let of = |key| attribute(s, key);
            let (system, code) = (of("rpc.system"), of("rpc.grpc.status_code"));
            format!("{} {system} {code} {}", of("url.path"), s["status"]["code"])
        })
        .collect();
    assert_eq!(
        told,
        [
            "/0 grpc 0 null",
            "/5 grpc 5 null",
            "/14 grpc 14 2",
            "/none grpc  2",
            "/ grpc 12 null"
        ]
    );
}

#[test]
fn failures_are_told_whatever_the_share_with_their_blame() {
    let (s, gone) = (
        Backend::new(|m| {
            let status = if m.start.contains("/broken") { 500 } else { 200 };
            format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into_bytes()
        }),
        nobody(),
    );
    let busy = Backend::new(|_| b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n".to_vec());
    let log = LogFile::new();
    let world = log
        .plan("sample = 0.0")
        .service(
            "echo",
            &[s.address],
            &[gone],
            &[
                ("hosts", "test"),
                ("canary-weight", "100"),
                ("canary-guard", "off"),
            ],
        )
        .service("plain", &[s.address], &[], &[("hosts", "plain")])
        .service("lost", &[nobody()], &[], &[("hosts", "lost")])
        .service(
            "busy",
            &[s.address],
            &[busy.address],
            &[
                ("hosts", "busy"),
                ("canary-weight", "100"),
                ("canary-guard", "off"),
            ],
        )
        .start();
    let mut client = world.client();
    assert_eq!(client.get("/", &[]).status(), 200, "shielded");
    let mut ask = |host: &str, path: &str| {
        client
            .ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .status()
    };
    assert_eq!(ask("plain", "/fine"), 200);
    assert_eq!(ask("plain", "/broken"), 500);
    assert_eq!(ask("lost", "/"), 502);
    assert_eq!(ask("nowhere", "/"), 404);
    assert_eq!(ask("busy", "/"), 200, "shielded from an answer");
    assert_eq!(
        world.client().ask("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").status(),
        400
    );
    let lines = log.lines(6);
    let told: Vec<_> = lines
        .iter()
        .map(|l| {
            let word = |key: &str| l[key].as_str().unwrap_or("-").to_owned();
            let of = [
                "service",
                "track",
                "reason",
                "failure_side",
                "failure_kind",
                "failure_track",
            ]
            .map(word);
            (l["status"].as_u64().unwrap(), of.join(" "))
        })
        .collect();
    for line in [
        (200, "echo stable shield backend connect canary"),
        (500, "plain stable weight - - -"),
        (502, "lost stable weight backend connect stable"),
        (404, "- - - client no_route -"),
        (400, "- - - client malformed -"),
        (200, "busy stable shield - - -"),
    ] {
        assert!(
            told.contains(&(line.0, line.1.to_owned())),
            "{line:?} not in {told:?}"
        );
    }
    assert_eq!(told.len(), 6, "{told:?}");
    let replaced = lines.iter().find(|l| l["service"] == "busy").unwrap();
    assert_eq!(
        (&replaced["replaced_status"], &replaced["replaced_track"]),
        (&503.into(), &"canary".into())
    );
    assert_eq!(
        (&lines[0]["shielded"], &lines[0]["attempts"]),
        (&true.into(), &2.into())
    );
}

#[test]
fn a_client_that_goes_away_and_a_body_that_breaks_are_told() {
    let log = LogFile::new();
    let broken = Backend::new(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec());
    let broken_then_closed = Backend::raw(move |mut wire| {
        if wire.head().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        }
    });
    drop(broken);
    let world = log
        .plan("sample = 0.0")
        .service("echo", &[broken_then_closed.address], &[], &[])
        .start();
    let mut client = world.client();
    client.send("GET /half HTTP/1.1\r\nHost: a\r\n\r\n");
    while !client.is_closed() {
        let mut buf = [0; 1024];
        if client.read(&mut buf).unwrap_or(0) == 0 {
            break;
        }
    }
    let line = &log.lines(1)[0];
    assert_eq!(
        (&line["failure_kind"], &line["bytes_out"]),
        (&"body_reset".into(), &4.into()),
        "{line}"
    );
}

#[test]
fn nobody_can_write_a_line_of_their_own() {
    let s = Backend::named("S");
    for format in ["json", "text"] {
        let log = LogFile::new();
        let world = log
            .plan(&format!(
                "sample = 1.0, query = true, userAgent = true, format = \"{format}\""
            ))
            .service("echo", &[s.address], &[], &[])
            .start();
        let evil = "User-Agent: x\"} {\"status\":200\u{85}\u{2028}\u{202e}\\n status=200";
        world
            .client()
            .get("/p%0a?q=\"\\&b='", &[evil, "x-request-id: a b=\"c"]);
        eventually("a line", || log.text().ends_with('\n'));
        let text = log.text();
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        let strange = |c: char| c.is_control() && c != '\n' || "\u{2028}\u{202e}".contains(c);
        assert!(!text.contains(strange), "{text:?}");
        if format == "json" {
            let line: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (&line["path"], &line["query"]),
                (&"/p%0a".into(), &"q=\"\\&b='".into())
            );
            assert_eq!(line["request_id"], "a b=\"c");
        } else {
            assert!(
                text.starts_with("time=20") && text.contains(" path=/p%0a query=\"q=\\\"\\\\&b='\""),
                "{text}"
            );
            assert_eq!(
                text.matches(" status=").count(),
                2,
                "one is inside of quotes: {text}"
            );
        }
    }
}

#[test]
fn a_share_is_a_share_and_what_was_not_told_was_counted_all_the_same() {
    let s = Backend::named("S");
    let log = LogFile::new();
    let world = log
        .plan("sample = 0.1")
        .service("echo", &[s.address], &[], &[])
        .start();
    let mut client = world.client();
    for _ in 0..3000 {
        client.get("/", &[]);
    }
    drop(client);
    world.running.wait();
    let told = log.text().lines().count();
    // Five standard deviations.
    assert!((218..=382).contains(&told), "{told}");
    assert_eq!(world.tally("echo", 0)[0], 3000);
    assert_eq!(world.metric(&["serin_access_log_dropped_total"]), 0.0);
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew() {
    let s = Backend::named("S");
    let log = LogFile::new();
    let world = log
        .plan("sample = 1.0")
        .service("echo", &[s.address], &[], &[])
        .start();
    let mut client = world.client();
    client.get("/before", &[]);
    log.lines(1);
    let moved = log.0.with_extension("1");
    fs::rename(&log.0, &moved).unwrap();
    eventually("a new file", || {
        client_get(&world);
        log.0.exists()
    });
    let old = fs::read_to_string(&moved).unwrap();
    assert!(old.contains("/before") && !log.text().contains("/before"));
    client.get("/after", &[]);
    eventually("the line", || log.text().contains("/after"));
    world.running.wait();
    let all = fs::read_to_string(&moved).unwrap().lines().count() + log.text().lines().count();
    assert_eq!(all as u64, world.tally("echo", 0)[0], "no line was lost");
}

fn client_get(world: &World) {
    world.client().get("/between", &[]);
}

#[test]
fn a_log_that_cannot_be_written_harms_no_request() {
    let s = Backend::named("S");
    let world = Plan::new()
        .set("accessLog = { to = \"/dev/full\", sample = 1.0 }")
        .service("echo", &[s.address], &[], &[])
        .start();
    let mut client = world.client();
    for _ in 0..100 {
        assert_eq!(client.get("/", &[]).status(), 200);
    }
    eventually("the loss is counted", || {
        world.metric(&["serin_access_log_dropped_total"]) == 100.0
    });
}

#[test]
fn a_log_that_cannot_be_opened_is_told_at_the_start() {
    let text = Plan::new()
        .set("accessLog = { to = \"/no/such/folder/log\" }")
        .service("echo", &[nobody()], &[], &[])
        .text();
    let mut options = proxy::Options::new("serin.toml", TOKEN);
    options.text = Some(text);
    let error = proxy::start(options).unwrap_err().to_string();
    assert!(
        error.contains("proxy.accessLog.to") && error.contains("stdout"),
        "{error}"
    );
}

/// A collector that answers as told, and what it got.
struct Collector(Backend);

impl Collector {
    fn new(answer: impl Fn(u64) -> u16 + Send + Sync + 'static) -> Collector {
        let count = AtomicU64::new(0);
        Collector(Backend::new(move |_| {
            let status = answer(count.fetch_add(1, Ordering::SeqCst));
            format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}")
                .into_bytes()
        }))
    }

    fn plan(&self, sample: &str) -> Plan {
        let at = self.0.address;
        Plan::new().set(&format!(
            "tracing = {{ otlp = \"http://{at}\", sample = {sample} }}"
        ))
    }

    /// All spans that it got, checked for the shape of OTLP/JSON.
    fn spans(&self) -> Vec<Value> {
        let seen = self.0.seen.lock().unwrap();
        seen.iter().flat_map(spans).collect()
    }
}

fn spans(message: &Message) -> Vec<Value> {
    assert_eq!(message.start, "POST /v1/traces HTTP/1.1");
    assert_eq!(message.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_slice(&message.body).unwrap();
    let resource = &body["resourceSpans"][0];
    assert_eq!(attribute(&resource["resource"], "service.name"), "serin");
    let scope = &resource["scopeSpans"][0];
    assert_eq!(scope["scope"]["name"], "serin");
    let spans = scope["spans"].as_array().unwrap();
    for span in spans {
        let hex = |key: &str, n: usize| {
            let text = span[key].as_str().unwrap();
            assert!(
                text.len() == n && text.bytes().all(|b| b.is_ascii_hexdigit()),
                "{key}: {span}"
            );
        };
        hex("traceId", 32);
        hex("spanId", 16);
        assert_eq!(span["kind"], 2, "a server's span: {span}");
        let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"), "{span}");
        assert!(time("startTimeUnixNano") > 1_700_000_000_000_000_000, "{span}");
    }
    spans.clone()
}

/// The value of an attribute, as text.
fn attribute(of: &Value, key: &str) -> String {
    let all = of["attributes"].as_array().unwrap();
    let found = all.iter().find(|a| a["key"] == key);
    let value = found.map(|a| {
        a["value"]["stringValue"]
            .as_str()
            .or(a["value"]["intValue"].as_str())
    });
    value.flatten().unwrap_or_default().to_owned()
}

const PARENT: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

#[test]
fn a_sampled_trace_gets_our_span_between_client_and_backend() {
    let (collector, s, c) = (Collector::new(|_| 200), Backend::named("S"), Backend::named("C"));
    let world = collector
        .plan("0.0")
        .service("echo", &[s.address], &[c.address], &[("canary-by-header", "h")])
        .start();
    let mut client = world.client();
    client.get(
        "/path?q=1",
        &[&format!("{PARENT}-01"), "tracestate: v=1", "h: always"],
    );
    eventually("a span", || !collector.spans().is_empty());
    let span = &collector.spans()[0];
    assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(span["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(span["name"], "GET echo");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/path"),
        ("serin.track", "canary"),
        ("serin.reason", "header"),
        ("serin.attempts", "1"),
        ("serin.endpoint", &c.address.to_string()),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
    ] {
        assert_eq!(attribute(span, key), value, "{key}: {span}");
    }
    assert!(span["status"].get("code").is_none());
    let seen = c.last();
    let ours = format!(
        "00-0af7651916cd43dd8448eb211c80319c-{}-01",
        span["spanId"].as_str().unwrap()
    );
    assert_eq!(seen.header("traceparent"), Some(ours.as_str()));
    assert_eq!(seen.header("tracestate"), Some("v=1"));
    // One that is not sampled goes through untouched, and so does one that begins here at share 0.
    client.get("/", &[&format!("{PARENT}-00")]);
    assert_eq!(
        s.last().header("traceparent"),
        Some(&format!("{PARENT}-00")[13..])
    );
    client.get("/", &[]);
    assert!(s.last().header("traceparent").unwrap().ends_with("-00"));
    world.running.wait();
    assert_eq!(collector.spans().len(), 1);
    assert_eq!(world.metric(&["serin_spans_exported_total"]), 1.0);
}

#[test]
fn traces_begin_here_by_share_and_failures_are_errors() {
    let collector = Collector::new(|_| 200);
    let world = collector
        .plan("1.0")
        .service("echo", &[nobody()], &[], &[])
        .start();
    assert_eq!(
        world.client().get("/", &["traceparent: 00-invalid"]).status(),
        502
    );
    world.running.wait();
    let spans = collector.spans();
    assert_eq!(spans.len(), 1);
    assert!(
        spans[0].get("parentSpanId").is_none(),
        "an invalid trace begins anew"
    );
    assert_eq!(spans[0]["status"]["code"], 2);
    assert_eq!(attribute(&spans[0], "error.type"), "connect");
    assert_eq!(attribute(&spans[0], "serin.failure.side"), "backend");
}

#[test]
fn a_collector_that_is_busy_is_asked_again_and_one_that_is_gone_harms_nobody() {
    let s = Backend::named("S");
    let busy = Collector::new(|n| if n == 0 { 503 } else { 200 });
    let world = busy.plan("1.0").service("echo", &[s.address], &[], &[]).start();
    world.client().get("/", &[]);
    eventually("the second try", || {
        world.metric(&["serin_spans_exported_total"]) == 1.0
    });
    let gone = Plan::new()
        .set(&format!(
            "tracing = {{ otlp = \"http://{}\", sample = 1.0 }}",
            nobody()
        ))
        .service("echo", &[s.address], &[], &[])
        .start();
    let mut client = gone.client();
    for _ in 0..2000 {
        assert_eq!(client.get("/", &[]).status(), 200);
    }
    drop(client);
    gone.running.wait();
    let lost = gone.metric(&["serin_spans_dropped_total"]);
    assert_eq!(lost, 2000.0, "each is counted once");
}
