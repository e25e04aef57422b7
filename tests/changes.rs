//! A hundred weight changes in ten seconds under 2 000 requests/s: nothing fails, nothing closes, each is in force
//! within 50 ms.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::time::{Duration, Instant};
use support::*;

const CHANGES: u32 = 100;
const PERIOD: Duration = Duration::from_millis(100);
const IN_FORCE: Duration = Duration::from_millis(50);

/// Changes the weight between nothing and everything, and asks who answers 50 ms later.
fn change_under_load(mut change: impl FnMut(&Run, u32)) {
    let [s, c, p0, p1, p2] = free_ports();
    let (_stable, _canary) = (app(s, "v1", &[]), app(c, "v2", &[]));
    let run = Run::start(
        [p0, p1, p2],
        &file([p0, p1, p2], 2, &[s], &[c], &[("canary-weight", "0")], ""),
    );
    let users = Users::start(run.listen, 2_000.0, 40);
    std::thread::sleep(Duration::from_millis(500));
    let mut late = Vec::new();
    for i in 1..=CHANGES {
        let begin = Instant::now();
        let weight = if i % 2 == 1 { 100 } else { 0 };
        change(&run, weight);
        std::thread::sleep((begin + IN_FORCE).saturating_duration_since(Instant::now()));
        let expected = if weight == 100 {
            "version: v2"
        } else {
            "version: v1"
        };
        // Several connections, so that both workers answer.
        for _ in 0..4 {
            let answer = get(run.listen, "/").unwrap();
            if answer.body.trim() != expected {
                late.push((i, answer.body));
            }
        }
        std::thread::sleep((begin + PERIOD).saturating_duration_since(Instant::now()));
    }
    let report = users.stop();
    let answered: u64 = report
        .answers
        .iter()
        .filter(|((status, _), _)| *status == 200)
        .map(|(_, n)| n)
        .sum();
    println!(
        "{CHANGES} changes, {} requests, {answered} good, {} broken, {} late",
        report.sent,
        report.broken,
        late.len()
    );
    assert_eq!(late, [], "changes that were not in force after {IN_FORCE:?}");
    assert_eq!(
        (report.broken, report.sent - answered),
        (0, 0),
        "{:?}",
        report.answers
    );
    assert!(report.sent > 15_000, "the load was not reached: {}", report.sent);
    assert_eq!(
        report.answers.len(),
        2,
        "both versions answer: {:?}",
        report.answers
    );
}

#[test]
fn by_admin_call() {
    change_under_load(|run, weight| {
        let answer = run.patch(&format!("{{\"serin.dev/canary-weight\": \"{weight}\"}}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
    });
}

#[test]
fn by_file() {
    change_under_load(|run, weight| {
        let text = std::fs::read_to_string(run.scratch.path("serin.toml")).unwrap();
        let (from, to) = if weight == 100 {
            ("'0'", "'100'")
        } else {
            ("'100'", "'0'")
        };
        run.scratch.replace(
            "serin.toml",
            &text.replace(
                &format!("canary-weight\" = {from}"),
                &format!("canary-weight\" = {to}"),
            ),
        );
    });
}
