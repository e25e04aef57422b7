//! The split, counted by somebody else: the canary's own nginx access log.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::{process::Command, time::Duration};
use support::*;

const REQUESTS: u64 = 10_000;

/// Sends exactly `REQUESTS` requests with `hey`, over kept connections, and checks that none failed.
fn hey(run: &Run, headers: &[&str]) {
    let mut command = Command::new("hey");
    command.args(["-n", &REQUESTS.to_string(), "-c", "20"]);
    for h in headers {
        command.args(["-H", h]);
    }
    let out = command
        .arg(format!("http://{}/", run.listen))
        .output()
        .expect("hey is installed by tests/run");
    let text = stdout(&out);
    assert!(text.contains(&format!("[200]\t{REQUESTS} responses")), "{text}");
    assert!(!text.contains("Error distribution"), "{text}");
}

fn split_over(workers: usize) {
    let scratch = Scratch::new();
    let [s, c, p0, p1, p2] = free_ports();
    let stable = Nginx::start(&scratch, s, "v1");
    let canary = Nginx::start(&scratch, c, "v2");
    let text = file(
        [p0, p1, p2],
        workers,
        &[s],
        &[c],
        &[("canary-by-header", "X-Canary")],
        "",
    );
    let run = Run::start_in(scratch, [p0, p1, p2], &text);
    for (weight, expected) in [("10", 1000), ("1", 100), ("0.5", 50), ("0", 0), ("100", REQUESTS)] {
        let set = run.command(&["weight", "echo", weight]);
        assert!(set.status.success(), "{}", stderr(&set));
        in_force(&run, weight);
        let before = (stable.served(), canary.served());
        hey(&run, &[]);
        let (to_stable, to_canary) = served_since(&stable, &canary, before);
        println!("{workers} worker(s), weight {weight} %: {to_canary} of {REQUESTS} to the canary");
        assert_eq!(to_stable + to_canary, REQUESTS);
        assert!(
            to_canary.abs_diff(expected) <= workers as u64,
            "{to_canary} at {weight} %"
        );
    }
    opt_in(&run, &stable, &canary);
}

/// Header always and never, at a weight that says otherwise.
fn opt_in(run: &Run, stable: &Nginx, canary: &Nginx) {
    for (weight, header, all_to_canary) in
        [("0", "x-canary: always", true), ("100", "X-CANARY: never", false)]
    {
        assert!(run.command(&["weight", "echo", weight]).status.success());
        in_force(run, weight);
        let before = (stable.served(), canary.served());
        hey(run, &[header]);
        let (_, to_canary) = served_since(stable, canary, before);
        assert_eq!(to_canary, if all_to_canary { REQUESTS } else { 0 }, "{header}");
    }
}

fn in_force(run: &Run, weight: &str) {
    let share: f64 = weight.parse::<f64>().unwrap() / 100.0;
    until("the weight is in force", Duration::from_secs(3), || {
        run.evidence()["share"]
            .as_f64()
            .filter(|s| (s - share).abs() < 1e-9)
    });
}

/// nginx writes its log line after the answer: wait until all are there.
fn served_since(stable: &Nginx, canary: &Nginx, before: (u64, u64)) -> (u64, u64) {
    until("the access logs are complete", Duration::from_secs(5), || {
        let now = (stable.served() - before.0, canary.served() - before.1);
        (now.0 + now.1 >= REQUESTS).then_some(now)
    })
}

#[test]
fn one_worker_splits_exactly() {
    split_over(1);
}

#[test]
fn two_workers_split_exactly_each() {
    split_over(2);
}
