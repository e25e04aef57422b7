//! `serin simulate`, as it is typed: the same for the same seed, and the reference figures found again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use serde_json::Value;
use std::process::{Command, Output};
use support::{Scratch, all};

fn simulate(arguments: &[&str]) -> Output {
    let mut serin = Command::new(support::SERIN);
    serin.arg("simulate").args(arguments).output().unwrap()
}

fn rows(arguments: &[&str]) -> Vec<Value> {
    let done = simulate(&[arguments, &["--output", "json"]].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn one_seed_gives_one_result_whatever_the_threads() {
    let run = |seed: &str, threads: &str| {
        let worlds = "healthy,5%,late,private-bursts,pod-spread,gaps,latency,hang";
        let arguments = [
            "--runs",
            "7",
            "--world",
            worlds,
            "--seed",
            seed,
            "--threads",
            threads,
        ];
        simulate(&arguments).stdout
    };
    let once = run("3", "1");
    assert!(!once.is_empty());
    for threads in ["2", "5"] {
        assert_eq!(run("3", threads), once, "{threads} threads");
    }
    assert_ne!(run("4", "2"), once);
}

#[test]
fn a_row_does_not_depend_on_what_else_is_simulated() {
    let alone = rows(&["--runs", "5", "--world", "x3", "--alone"]);
    let among = rows(&["--runs", "5", "--world", "healthy,x3", "--rps", "10,100"]);
    let same = |r: &&Value| r["world"] == "x3" && r["controller"] == "serin" && r["rps"] == 100.0;
    assert_eq!(among.iter().find(same), alone.first());
}

/// Requests a second, world, controller; promoted and rolled back, percent; median seconds (0: never); mean of bad
/// requests. From the closed-loop table of the statistics' reference.
type Cell = (f64, &'static str, &'static str, [f64; 2], f64, f64);

const S: &str = "serin";
const F: &str = "flagger 5..50/1m thr5";
const A: &str = "argo 20%/10m 95% lim3";

/// Cells of every test run.
const SOME: [Cell; 9] = [
    (100.0, "healthy", S, [100.0, 0.0], 172.0, 11.0),
    (100.0, "1%", S, [0.0, 100.0], 33.0, 16.0),
    (100.0, "50%", S, [0.0, 100.0], 4.0, 8.4),
    (100.0, "healthy", F, [100.0, 0.0], 600.0, 16.0),
    (100.0, "1%", F, [12.0, 88.0], 660.0, 132.0),
    (100.0, "50%", F, [0.0, 100.0], 360.0, 901.0),
    (100.0, "healthy", A, [100.0, 0.0], 2400.0, 120.0),
    (100.0, "1%", A, [100.0, 0.0], 2400.0, 1203.0),
    (100.0, "50%", A, [0.0, 100.0], 1200.0, 12004.0),
];

/// All others.
#[rustfmt::skip]
const REST: [Cell; 63] = [
    (10.0, "healthy", S, [82.0, 0.0], 1754.0, 10.0), (10.0, "healthy", F, [100.0, 0.0], 600.0, 1.5), (10.0, "healthy", A, [100.0, 0.0], 2400.0, 12.0),
    (10.0, "x2", S, [7.0, 24.0], 0.0, 32.0), (10.0, "x2", F, [100.0, 0.0], 600.0, 3.2), (10.0, "x2", A, [100.0, 0.0], 2400.0, 24.0),
    (10.0, "x3", S, [0.0, 84.0], 2009.0, 32.0), (10.0, "x3", F, [99.0, 1.0], 660.0, 5.2), (10.0, "x3", A, [100.0, 0.0], 2400.0, 36.0),
    (10.0, "1%", S, [0.0, 100.0], 308.0, 16.0), (10.0, "1%", F, [22.0, 78.0], 720.0, 16.0), (10.0, "1%", A, [100.0, 0.0], 2400.0, 119.0),
    (10.0, "5%", S, [0.0, 100.0], 47.0, 13.0), (10.0, "5%", F, [0.0, 100.0], 420.0, 16.0), (10.0, "5%", A, [9.0, 91.0], 2400.0, 425.0),
    (10.0, "50%", S, [0.0, 100.0], 6.0, 14.0), (10.0, "50%", F, [0.0, 100.0], 360.0, 90.0), (10.0, "50%", A, [0.0, 100.0], 1200.0, 1197.0),
    (10.0, "100%", S, [0.0, 100.0], 4.0, 14.0), (10.0, "100%", F, [0.0, 100.0], 360.0, 181.0), (10.0, "100%", A, [0.0, 100.0], 1200.0, 2398.0),
    (10.0, "late", S, [0.0, 100.0], 127.0, 20.0), (10.0, "late", F, [0.0, 100.0], 480.0, 261.0), (10.0, "late", A, [0.0, 100.0], 1200.0, 1079.0),
    (100.0, "x2", S, [10.0, 90.0], 522.0, 59.0), (100.0, "x2", F, [100.0, 0.0], 600.0, 33.0), (100.0, "x2", A, [100.0, 0.0], 2400.0, 240.0),
    (100.0, "x3", S, [0.0, 100.0], 208.0, 34.0), (100.0, "x3", F, [100.0, 0.0], 600.0, 50.0), (100.0, "x3", A, [100.0, 0.0], 2400.0, 360.0),
    (100.0, "5%", S, [0.0, 100.0], 9.0, 12.0), (100.0, "5%", F, [0.0, 100.0], 360.0, 90.0), (100.0, "5%", A, [11.0, 89.0], 2400.0, 4243.0),
    (100.0, "100%", S, [0.0, 100.0], 3.0, 11.0), (100.0, "100%", F, [0.0, 100.0], 360.0, 1800.0), (100.0, "100%", A, [0.0, 100.0], 1200.0, 24008.0),
    (100.0, "late", S, [27.0, 73.0], 123.0, 61.0), (100.0, "late", F, [0.0, 100.0], 480.0, 2699.0), (100.0, "late", A, [0.0, 100.0], 1200.0, 10800.0),
    (1000.0, "healthy", S, [100.0, 0.0], 60.0, 28.0), (1000.0, "healthy", F, [100.0, 0.0], 600.0, 168.0), (1000.0, "healthy", A, [100.0, 0.0], 2400.0, 1196.0),
    (1000.0, "x2", S, [2.0, 98.0], 76.0, 76.0), (1000.0, "x2", F, [100.0, 0.0], 600.0, 329.0), (1000.0, "x2", A, [100.0, 0.0], 2400.0, 2397.0),
    (1000.0, "x3", S, [0.0, 100.0], 29.0, 38.0), (1000.0, "x3", F, [100.0, 0.0], 600.0, 496.0), (1000.0, "x3", A, [100.0, 0.0], 2400.0, 3595.0),
    (1000.0, "1%", S, [0.0, 100.0], 10.0, 16.0), (1000.0, "1%", F, [8.0, 92.0], 600.0, 1182.0), (1000.0, "1%", A, [100.0, 0.0], 2400.0, 12017.0),
    (1000.0, "5%", S, [0.0, 100.0], 6.0, 9.5), (1000.0, "5%", F, [0.0, 100.0], 360.0, 899.0), (1000.0, "5%", A, [11.0, 89.0], 2400.0, 43614.0),
    (1000.0, "50%", S, [0.0, 100.0], 3.0, 7.8), (1000.0, "50%", F, [0.0, 100.0], 360.0, 8992.0), (1000.0, "50%", A, [0.0, 100.0], 1200.0, 119988.0),
    (1000.0, "100%", S, [0.0, 100.0], 3.0, 11.0), (1000.0, "100%", F, [0.0, 100.0], 360.0, 17995.0), (1000.0, "100%", A, [0.0, 100.0], 1200.0, 239961.0),
    (1000.0, "late", S, [100.0, 0.0], 60.0, 29.0), (1000.0, "late", F, [0.0, 100.0], 480.0, 27008.0), (1000.0, "late", A, [0.0, 100.0], 1200.0, 108035.0),
];

/// How far figures may be from the reference's, which come from 200 releases themselves.
const NEAR: f64 = 0.15;
/// The same for shares of releases, in percent.
const NEAR_SHARE: f64 = 7.0;

fn check(cell: &Cell, row: &Value) {
    let (_, _, controller, [promoted, rolled_back], median, bad) = *cell;
    let of = |key: &str| row[key].as_f64().unwrap();
    let share = |key: &str| 100.0 * of(key) / of("runs");
    assert!(
        (share("promoted") - promoted).abs() <= NEAR_SHARE,
        "{cell:?}\n{row}"
    );
    assert!(
        (share("rolledBack") - rolled_back).abs() <= NEAR_SHARE,
        "{cell:?}\n{row}"
    );
    // Times come in seconds, or in checks.
    let grain = match controller {
        S => 1.0,
        F => 60.0,
        _ => 300.0,
    };
    let found = row["medianSeconds"].as_f64().unwrap_or(0.0);
    let near = (found - median).abs() <= (NEAR * median).max(grain);
    assert!(near && (found > 0.0) == (median > 0.0), "{cell:?}\n{row}");
    // The engine's weight rises by a half at least, the prototype's by any amount: with little traffic fewer users
    // meet a bad canary. The reference's 1.5 is a rounded mean of 200.
    let most = bad * (1.0 + NEAR) + 0.3;
    let least = if controller == S {
        0.7 * bad
    } else {
        bad * (1.0 - NEAR)
    };
    let mean = of("badMean");
    assert!((least..=most).contains(&mean), "{cell:?}\n{row}");
}

fn compare(cells: &[Cell], rows: &[Value]) {
    for cell in cells {
        let same = |r: &&Value| r["rps"] == cell.0 && r["world"] == cell.1 && r["controller"] == cell.2;
        check(cell, rows.iter().find(same).unwrap());
    }
}

#[test]
fn the_reference_table_is_found_again() {
    let some = ["--reference", "--runs", "100", "--world", "healthy,1%,50%"];
    compare(&SOME, &rows(&some));
    if all() {
        let worlds = "healthy,x2,x3,1%,5%,50%,100%,late";
        let every = rows(&[
            "--reference",
            "--runs",
            "1000",
            "--rps",
            "10,100,1000",
            "--world",
            worlds,
        ]);
        compare(&SOME, &every);
        compare(&REST, &every);
    }
}

/// One hour, so that a chance which grows with time would show.
#[test]
fn healthy_canaries_are_rolled_back_no_more_often_than_alpha() {
    let sample = [
        "--rps",
        "100",
        "--baseline",
        "0.01",
        "--weight",
        "10,50",
        "--runs",
        "40",
    ];
    let runs: &[&str] = if all() { &["--runs", "2000"] } else { &sample };
    for kind in [&["--aa", "--reference"][..], &["--aa"]] {
        check_matrix(&[kind, runs].concat(), if all() { 37 } else { 3 });
    }
    // Every metric costs twice the time: of these a sample always.
    check_matrix(&[&["--aa", "--all-metrics"], &sample[..]].concat(), 3);
}

fn check_matrix(arguments: &[&str], lines: usize) {
    let done = simulate(arguments);
    let told = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{told}");
    assert_eq!(told.lines().count(), lines);
    println!("{arguments:?}\n{told}");
}

/// World and fixed weight, percent; least share of them rolled back, and the longest median, seconds.
const WORSE: [(&str, &str, f64, f64); 4] = [
    ("latency", "10", 1.0, 110.0),
    ("tail", "10", 1.0, 120.0),
    ("hang", "20", 1.0, 10.0),
    ("slow", "5", 1.0, 60.0),
];

#[test]
fn slow_and_silent_canaries_are_found_soon() {
    for (world, weight, least, longest) in WORSE {
        let weighted = ["--world", world, "--weight", weight, "--runs", "40", "--alone"];
        let row = &rows(&weighted)[0];
        let of = |key: &str| row[key].as_f64().unwrap();
        assert!(of("found") >= least * of("runs"), "{row}");
        assert!(of("medianSeconds") <= longest, "{row}");
        assert_eq!(row["isSlower"], true);
        assert_eq!(of("slowMean") > 0.0, world != "hang", "{row}");
    }
}

/// With what stable shows of its noise, chance is allowed for; without, the placebos alarm.
#[test]
fn noise_of_stable_is_allowed_for_or_at_least_noticed() {
    let noisy = [
        "--world",
        "private-bursts",
        "--baseline",
        "0.01",
        "--weight",
        "10",
        "--hours",
        "0.5",
        "--runs",
        "40",
        "--alone",
    ];
    let row = &rows(&noisy)[0];
    assert!(row["falseRollbacks"].as_u64().unwrap() <= 2, "{row}");
    assert!(row["miscalibrated"].as_u64().unwrap() <= 2, "{row}");
    let row = &rows(&[&noisy[..], &["--uncalibrated"]].concat())[0];
    assert!(row["miscalibrated"].as_u64().unwrap() >= 30, "{row}");
}

#[test]
fn the_promotion_margin_is_kept() {
    let row = &rows(&["--world", "margin", "--rps", "1000", "--runs", "100", "--alone"])[0];
    // A chance of 5 % makes 13 or more of 100 in one of a thousand tests.
    assert!(row["promoted"].as_u64().unwrap() < 13, "{row}");
}

#[test]
fn the_defaults_stand_beside_the_prototype() {
    let wanted = [
        "--reference",
        "defaults",
        "--runs",
        "60",
        "--world",
        "1%,5%,50%",
        "--rps",
        "100",
    ];
    let lines = rows(&wanted);
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert!(line["ratio"].as_f64().unwrap() < 1.5, "{line}");
    }
    let text = String::from_utf8(simulate(&wanted).stdout).unwrap();
    assert!(text.contains("PROTOTYPE") && text.contains("SERIN"), "{text}");
}

#[test]
fn a_policy_is_read_and_refused_with_a_remedy() {
    let scratch = Scratch::new();
    let policy = scratch.path("policy.toml");
    let with = |text: &str| {
        scratch.replace("policy.toml", text);
        simulate(&[
            policy.to_str().unwrap(),
            "--runs",
            "3",
            "--world",
            "healthy",
            "--alone",
        ])
    };
    let fast = with("[pacing]\nsoak = \"10s\"\n[promotion]\nwatch = \"0s\"\n");
    assert!(fast.status.success(), "{}", String::from_utf8_lossy(&fast.stderr));
    for (text, word) in [
        ("[judgement]\nalpha = 2\n", "write for example 0.01"),
        ("[pacing]\nsoaking = \"1m\"\n", "soak"),
        ("=", "policy.toml"),
    ] {
        let done = with(text);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{told}");
        assert!(told.contains(word), "{told}");
    }
    let missing = simulate(&["/nowhere/policy.toml"]);
    let told = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(told.contains("[service.rollout]"), "{told}");
}
