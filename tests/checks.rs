//! A real Prometheus beside a real release: a limit on what it measures rolls back, or lets the weight rise.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::time::Duration;
use support::{prometheus::Prometheus, *};

/// Plain steps, and latency left to the check alone.
const STEPS: &str = r#"
[service.rollout.pacing]
steps = [{ weight = 10, hold = "2s" }, { weight = 25, hold = "2s" }, { weight = 50, hold = "5m" }]
interval = "1s"
[service.rollout.judgement]
warmUp = "0s"
[service.rollout.judgement.latency]
enabled = false
"#;

/// The canary's mean duration in seconds, as the proxy's own metrics tell it. NaN while it has no requests.
const SLOW: &str = r#"sum(rate(serin_request_duration_seconds_sum{service="{{service}}",track="canary"}[5s])) / sum(rate(serin_request_duration_seconds_count{service="{{service}}",track="canary"}[5s]))"#;

/// A limit on what this Prometheus measures.
fn check(prometheus: &Prometheus, query: &str) -> String {
    format!(
        "[[service.rollout.judgement.checks]]\nname = \"slow\"\nmax = 0.05\ninterval = \"1s\"\npromql = {{ address = \"http://127.0.0.1:{}\", query = '{query}' }}\n",
        prometheus.port
    )
}

fn start(canary: &[&str]) -> (Run, Users, [Process; 2], Prometheus) {
    let [s, c, p0, p1, p2, at] = free_ports();
    let apps = [app(s, "v1", &[]), app(c, "v2", canary)];
    let prometheus = Prometheus::start(at, p1);
    let rest = format!("{STEPS}{}", check(&prometheus, SLOW));
    let run = Run::start([p0, p1, p2], &file([p0, p1, p2], 1, &[s], &[c], &[], &rest));
    let users = Users::start(run.listen, 100.0, 20);
    (run, users, apps, prometheus)
}

#[test]
fn a_breach_of_a_query_rolls_back_what_no_evidence_spoke_against() {
    let (run, users, _apps, _prometheus) = start(&["--latency", "80ms"]);
    let status = run.wait_phase(&["RolledBack"], Duration::from_secs(30));
    let report = users.stop();
    let decisions = status["decisions"].as_array().unwrap();
    let back = decisions.iter().find(|d| d["to"] == "RollingBack").unwrap();
    let reason = back["reason"].as_str().unwrap();
    println!("{reason}");
    assert!(
        reason.starts_with("rolled back: check \"slow\": 0.08"),
        "{reason}"
    );
    assert!(
        reason.contains(" is above 0.05, 3 times in a row; canary 0 of "),
        "{reason}"
    );
    assert_eq!((report.bad_at.len(), report.broken), (0, 0));
    assert_eq!(run.evidence()["share"].as_f64(), Some(0.0));
    // A query without an answer and one beyond its limit kept the weight where it was.
    assert!(back["figures"]["canary"]["requests"].as_u64().unwrap() > 0);
    let top = decisions
        .iter()
        .filter_map(|d| d["weight"]["weight"].as_str()?.parse::<f64>().ok());
    assert!(top.fold(0.0, f64::max) <= 10.0, "{decisions:#?}");
}

#[test]
fn a_limit_that_is_kept_lets_the_weight_rise() {
    let (run, users, _apps, _prometheus) = start(&[]);
    until("the last step is taken", Duration::from_secs(30), || {
        run.try_status().filter(|s| s["taken"].as_f64() == Some(0.5))
    });
    let status = run.status();
    let check = &status["checks"][0];
    assert!(
        check["value"].as_f64().is_some_and(|v| v > 0.0 && v < 0.05),
        "{check}"
    );
    assert_eq!(
        (&check["limit"], &check["breach"]),
        (&"at most 0.05".into(), &false.into())
    );
    let text = stdout(&run.command(&["status", "echo"]));
    let line = text.lines().find(|l| l.starts_with("  check      slow "));
    assert!(
        line.is_some_and(|l| l.contains(", at most 0.05: kept since ")),
        "{text}"
    );
    assert!(users.stop().bad_at.is_empty());
}
