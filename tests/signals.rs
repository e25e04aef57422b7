//! What the proxy tells, read by the programs that read it elsewhere: a real Prometheus and its `promtool`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};
use support::{prometheus::Prometheus, *};

fn run() -> (Run, [Process; 2], u16) {
    let [s, c, p0, p1, p2, at] = free_ports();
    let apps = [app(s, "v1", &[]), app(c, "v2", &[])];
    let text = file([p0, p1, p2], 1, &[s], &[c], &[("canary-weight", "0")], "");
    (Run::start([p0, p1, p2], &text), apps, at)
}

/// What `promtool check metrics` says; nothing when all is well.
fn promtool(metrics: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: Debian package prometheus");
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), stdout(&output) + &stderr(&output))
}

#[test]
fn promtool_finds_no_fault() {
    let (run, _apps, _) = run();
    get(run.listen, "/").unwrap();
    http(run.listen, "GET", "/", &[("host", "a b")], "");
    let metrics = get(run.signals, "/metrics").unwrap();
    assert!(
        metrics.head.contains("text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    let (fine, said) = promtool(&metrics.body);
    assert!(fine && said.trim().is_empty(), "{said}");
    assert!(!promtool("# TYPE a counter\na{ 1\n").0, "it would find one");
}

#[test]
fn openmetrics_is_told_to_who_asks() {
    let (run, _apps, _) = run();
    let accept = [("accept", "application/openmetrics-text; version=1.0.0")];
    let told = http(run.signals, "GET", "/metrics", &accept, "").unwrap();
    assert!(
        told.head.contains("application/openmetrics-text; version=1.0.0"),
        "{}",
        told.head
    );
    let text = told.body;
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1);
    assert!(text.contains("# TYPE serin_requests counter\n") && text.contains("\nserin_requests_total{"));
    assert!(text.contains("# UNIT serin_request_duration_seconds seconds\n"));
    assert!(text.contains("le=\"0.0005\"") && text.contains("le=\"+Inf\""));
}

#[test]
fn a_real_prometheus_reads_both_tracks_from_the_first_second() {
    let (_run, _apps, at) = {
        let (run, apps, at) = run();
        let signals = run.signals.port();
        ((run, Prometheus::start(at, signals)), apps, at)
    };
    let prometheus = &_run.1;
    assert_eq!(prometheus.port, at);
    let up = || prometheus.api("query?query=up")["result"][0]["value"][1] == "1";
    until("it is up", Duration::from_secs(20), || up().then_some(()));
    let target = prometheus.api("targets")["activeTargets"][0].clone();
    assert_eq!(
        (&target["health"], &target["lastError"]),
        (&"up".into(), &"".into()),
        "{target}"
    );
    // Not one request has come yet.
    for series in [
        "serin_requests_total",
        "serin_decisions_total",
        "serin_failures_total",
        "serin_request_duration_seconds_count",
        "serin_inflight",
    ] {
        for track in ["stable", "canary"] {
            let query = format!("query?query={series}%7Bservice%3D%22echo%22%2Ctrack%3D%22{track}%22%7D");
            let found = prometheus.api(&query)["result"].as_array().unwrap().clone();
            assert!(!found.is_empty(), "{series} {track}");
            assert!(
                found.iter().all(|s| s["value"][1] == "0"),
                "{series} {track}: {found:?}"
            );
        }
    }
    // Only OpenMetrics has units: that is what it asked for and was told.
    let metadata = prometheus.api("metadata?metric=serin_request_duration_seconds");
    let one = &metadata["serin_request_duration_seconds"][0];
    assert_eq!(
        (&one["type"], &one["unit"]),
        (&"histogram".into(), &"seconds".into()),
        "{metadata}"
    );
}
