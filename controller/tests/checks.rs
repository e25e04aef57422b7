//! Checks against a scripted server over real sockets: good answers, every kind of bad one, and none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod fake;

use contract::{
    Span,
    policy::{Check, Http, NoData, Policy, Promql, Step},
    release::{Amount, CheckStatus, Phase},
};
use fake::{Fake, Folder, Plane};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// What a path of the server gives.
#[derive(Clone)]
enum Reply {
    /// Status line without the version, and a body.
    Whole(&'static str, String),
    /// A body of so many octets.
    Huge(usize),
    /// Bytes instead of HTTP.
    Raw(&'static [u8]),
    /// Nothing, ever.
    Hang,
    /// A head, and octets of a body without an end.
    Endless,
    /// A body shorter than it says.
    Torn,
}

#[derive(Clone)]
struct Server {
    at: SocketAddr,
    replies: Arc<Mutex<BTreeMap<String, Reply>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server {
            at: listener.local_addr().unwrap(),
            replies: Arc::default(),
            asked: Arc::default(),
        };
        let it = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let it = it.clone();
                thread::spawn(move || it.serve(stream));
            }
        });
        server
    }

    fn put(&self, path: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        reader.read_line(&mut first).ok()?;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok()?;
        }
        let target = first.split(' ').nth(1)?.to_owned();
        let path = target
            .split('?')
            .next()?
            .trim_end_matches("/api/v1/query")
            .to_owned();
        self.asked.lock().unwrap().push(target);
        let reply = self.replies.lock().unwrap().get(&path).cloned()?;
        answer(reader.into_inner(), reply)
    }
}

fn answer(mut to: TcpStream, reply: Reply) -> Option<()> {
    let head = |status: &str, length: usize| format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
    match reply {
        Reply::Whole(status, body) => to
            .write_all(format!("{}{body}", head(status, body.len())).as_bytes())
            .ok(),
        Reply::Huge(length) => {
            to.write_all(head("200 OK", length).as_bytes()).ok()?;
            to.write_all(&vec![b' '; length]).ok()
        }
        Reply::Raw(bytes) => to.write_all(bytes).ok(),
        Reply::Hang => {
            thread::sleep(Duration::from_secs(60));
            Some(())
        }
        Reply::Endless => {
            to.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .ok()?;
            loop {
                to.write_all(b"1\r\n \r\n").ok()?;
                thread::sleep(Duration::from_millis(50));
            }
        }
        Reply::Torn => to.write_all(format!("{}{{", head("200 OK", 100)).as_bytes()).ok(),
    }
}

fn ok(body: &str) -> Reply {
    Reply::Whole("200 OK", body.to_owned())
}

fn vector(values: &[&str]) -> Reply {
    let samples: Vec<String> = values
        .iter()
        .map(|v| format!("{{\"metric\":{{}},\"value\":[1,\"{v}\"]}}"))
        .collect();
    ok(&format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{}]}}}}",
        samples.join(",")
    ))
}

/// Asked each second, at most 0.8.
fn check(name: &str) -> Check {
    Check {
        max: Some(0.8),
        interval: Span::seconds(1),
        timeout: "700ms".parse().unwrap(),
        ..Check::named(name)
    }
}

fn http(server: &Server, path: &str, field: Option<&str>) -> Check {
    let url = format!("http://{}{path}", server.at);
    let field = field.map(str::to_owned);
    Check {
        http: Some(Http { url, field }),
        ..check(path)
    }
}

fn promql(server: &Server, path: &str, query: &str) -> Check {
    Check {
        promql: Some(Promql {
            address: format!("http://{}{path}", server.at),
            query: query.to_owned(),
        }),
        ..check(path)
    }
}

/// One step at 20 %, and these checks.
fn policy(checks: Vec<Check>) -> Policy {
    let mut policy = Policy::default();
    policy.pacing.steps = vec![Step {
        weight: 20.0,
        hold: Span::seconds(600),
        pause: false,
    }];
    policy.judgement.checks = checks;
    policy
}

/// What came of each answer that is expected: a value, or why there is none.
fn is_as(status: &CheckStatus, expected: &Result<f64, &str>) -> bool {
    match expected {
        Ok(value) => status.value == Some(Amount(*value)) && status.missing.is_none(),
        Err(why) => status.missing.as_ref().is_some_and(|m| m.starts_with(why)),
    }
}

/// Runs a release with all these checks at once, until each is as expected.
fn expect(server: &Server, cases: Vec<(Check, Reply, Result<f64, &str>)>) {
    for (check, reply, _) in &cases {
        server.put(&check.name, reply.clone());
    }
    let checks = cases
        .iter()
        .map(|(c, ..)| Check {
            max: Some(1e9),
            ..c.clone()
        })
        .collect();
    let (fake, folder) = (Fake::start(policy(checks)), Folder::new("checks"));
    let plane = Plane::start(&fake, &folder.0);
    plane.reaches(Phase::Holding, 8.0);
    for (check, _, expected) in &cases {
        let status = plane.until(8.0, |s| {
            s.checks
                .iter()
                .any(|c| c.name == check.name && is_as(c, expected))
        });
        assert_eq!(status.checks.len(), cases.len());
    }
    let status = plane.status().unwrap();
    assert_eq!(status.phase, Phase::Holding);
    assert!(status.reason.contains("has no data: "), "{}", status.reason);
    // Nobody waits: the counts go on, and a rollback by evidence comes as fast as ever.
    fake.script().canary_bad = 0.5;
    plane.reaches(Phase::RolledBack, 10.0);
    let script = fake.script();
    assert!(script.home.unwrap() - script.first_bad.unwrap() < Duration::from_secs(2));
}

#[test]
fn http_answers_of_every_kind() {
    let server = Server::start();
    let field = |path: &str| http(&server, path, Some("/data/rate"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut refused = field("/refused");
    refused.http.as_mut().unwrap().url = format!("http://{nobody}/");
    expect(
        &server,
        vec![
            (field("/good"), ok(r#"{"data":{"rate":0.25}}"#), Ok(0.25)),
            (http(&server, "/up", None), ok("fine"), Ok(0.0)),
            (
                http(&server, "/down", None),
                Reply::Whole("503 Busy", "no".into()),
                Ok(1.0),
            ),
            (
                http(&server, "/moved", None),
                Reply::Whole("302 Found", String::new()),
                Ok(1.0),
            ),
            (http(&server, "/stream", None), Reply::Endless, Ok(0.0)),
            (
                field("/absent"),
                Reply::Whole("404 Not Found", "{}".into()),
                Err("it answered 404 Not Found"),
            ),
            (field("/html"), ok("<html>"), Err("its answer is no JSON")),
            (field("/empty"), ok(""), Err("its answer is no JSON")),
            (
                field("/other"),
                ok(r#"{"data":{}}"#),
                Err("its answer has no /data/rate"),
            ),
            (
                field("/text"),
                ok(r#"{"data":{"rate":"0.25"}}"#),
                Err("/data/rate of its answer is no number"),
            ),
            (
                field("/huge"),
                Reply::Huge(2 * 1024 * 1024),
                Err("the answer is larger than 1024 KiB"),
            ),
            (field("/endless"), Reply::Endless, Err("no answer within 700 ms")),
            (field("/hang"), Reply::Hang, Err("no answer within 700 ms")),
            (
                http(&server, "/hangs", None),
                Reply::Hang,
                Err("no answer within 700 ms"),
            ),
            (field("/torn"), Reply::Torn, Err("the answer broke off")),
            (
                field("/raw"),
                Reply::Raw(b"\x00\x01 garbage\r\n\r\n"),
                Err("the connection broke"),
            ),
            (refused, ok(""), Err("the connection was refused")),
        ],
    );
}

#[test]
fn prometheus_answers_of_every_kind() {
    let server = Server::start();
    let query = |path: &str| promql(&server, path, "up");
    let error = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    expect(
        &server,
        vec![
            (query("/one"), vector(&["0.5"]), Ok(0.5)),
            (
                query("/scalar"),
                ok(
                    r#"{"status":"success","warnings":["slow"],"data":{"resultType":"scalar","result":[1,"2"]}}"#,
                ),
                Ok(2.0),
            ),
            (query("/nan"), vector(&["NaN"]), Err("the value is NaN")),
            (query("/none"), vector(&[]), Err("the query finds nothing")),
            (
                query("/two"),
                vector(&["1", "2"]),
                Err("the query finds 2 samples"),
            ),
            (
                query("/error"),
                Reply::Whole("400 Bad Request", error.into()),
                Err("it refused the query: bad_data: parse error"),
            ),
            (
                query("/absent"),
                Reply::Whole("404 Not Found", "404".into()),
                Err("it answered 404 Not Found"),
            ),
            (query("/html"), ok("<html>"), Err("its answer is no JSON")),
            (
                query("/huge"),
                Reply::Huge(1024 * 1024 + 1),
                Err("the answer is larger than 1024 KiB"),
            ),
            (query("/hang"), Reply::Hang, Err("no answer within 700 ms")),
            (query("/torn"), Reply::Torn, Err("the answer broke off")),
        ],
    );
}

#[test]
fn a_series_of_breaches_rolls_back_and_the_query_names_the_versions() {
    let server = Server::start();
    server.put("", vector(&["0.5"]));
    let mut load = promql(
        &server,
        "",
        r#"max(load{service="{{service}}",v=~"{{canary}}|{{stable}}"})"#,
    );
    load.name = "db-load".into();
    let (fake, folder) = (Fake::start(policy(vec![load])), Folder::new("breach"));
    let plane = Plane::start(&fake, &folder.0);
    let status = plane.until(8.0, |s| s.checks.iter().any(|c| c.value == Some(Amount(0.5))));
    assert_eq!(status.phase, Phase::Shifting);
    assert_eq!(status.checks[0].limit, "at most 0.8");
    let began = Instant::now();
    server.put("", vector(&["+Inf"]));
    plane.until(5.0, |s| {
        s.phase == Phase::Holding && s.checks.iter().any(|c| c.breach)
    });
    let status = plane.reaches(Phase::RolledBack, 10.0);
    assert!(
        began.elapsed() > Duration::from_secs(2),
        "three answers, a second apart"
    );
    assert!(
        status
            .reason
            .starts_with("rolled back: check \"db-load\": +Inf is above 0.8, 3 times in a row; canary 0 of "),
        "{}",
        status.reason
    );
    assert!(status.checks.is_empty());
    let asked = server.asked.lock().unwrap().clone();
    let expected =
        "/api/v1/query?query=max%28load%7Bservice%3D%22echo%22%2Cv%3D~%22v2%7Cv1%22%7D%29&timeout=700ms";
    assert!(asked.iter().all(|a| a == expected), "{asked:?}");
    // Nobody asks when nothing is released.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(server.asked.lock().unwrap().len(), asked.len());
}

#[test]
fn silence_that_rolls_back_does_so_after_its_patience() {
    let server = Server::start();
    server.put("/", Reply::Hang);
    let check = Check {
        no_data: NoData::Rollback,
        patience: Span::seconds(3),
        ..http(&server, "/", None)
    };
    let (fake, folder) = (Fake::start(policy(vec![check])), Folder::new("silence"));
    let plane = Plane::start(&fake, &folder.0);
    let status = plane.reaches(Phase::RolledBack, 12.0);
    let why = "rolled back: check \"/\": no data for ";
    assert!(
        status.reason.starts_with(why) && status.reason.contains("(no answer within 700 ms)"),
        "{}",
        status.reason
    );
}
