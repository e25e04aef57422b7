//! `serin plan`, as it is typed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

use std::process::{Command, Output};

fn plan(arguments: &[&str]) -> Output {
    let mut serin = Command::new(env!("CARGO_BIN_EXE_serin"));
    serin.arg("plan").args(arguments).output().unwrap()
}

#[test]
fn a_page_in_plain_ascii_with_the_sentence() {
    let done = plan(&["--rps", "10", "--baseline", "0.001", "--weight", "10"]);
    assert!(done.status.success());
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.is_ascii(), "{text}");
    for part in [
        "CANARY FAILS",
        "1 % (x10)",
        "within 10 min  1.2 %",
        "may be promoted after about 2 h",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(text.ends_with("you will see x10 in 12.8 min, x3 not within an hour\n"));
}

#[test]
fn what_latency_can_show_once_its_p99_is_known() {
    let known = ["--rps", "100", "--baseline", "0.001", "--weight", "10"];
    let done = plan(&known);
    let hint = "latency: add --p99 200ms";
    assert!(String::from_utf8(done.stdout).unwrap().contains(hint));
    let done = plan(&[&known[..], &["--p99", "200ms"]].concat());
    assert!(done.status.success());
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.is_ascii() && !text.contains(hint), "{text}");
    for part in [
        "p50 49.5 ms and p99 200 ms (spread 0.6); tolerated: 1.05 times stable's",
        "CANARY SLOWER   ROLLED BACK IN  SLOW TILL THEN",
        "all x1.1               1.1 min",
        "all x1.25               14.6 s",
        "2 % over p99            54.4 s",
        "(and the soak): errors ",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let bars: Vec<usize> = text.lines().filter(|l| l.contains("...")).map(str::len).collect();
    assert!(bars.len() > 10 && bars.iter().all(|b| *b == bars[0]), "{text}");
}

#[test]
fn the_same_of_latency_for_scripts() {
    let known = ["--rps=100", "--baseline=0.001", "--weight=10", "--output=json"];
    let told = |more: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&plan(&[&known[..], more].concat()).stdout).unwrap()
    };
    assert!(told(&[])["latency"].is_null());
    let latency = &told(&["--p99=1s", "--p50=400ms"])["latency"];
    assert_eq!(
        (&latency["p99Seconds"], &latency["p50Seconds"]),
        (&1.0.into(), &0.4.into())
    );
    assert!(latency["rows"][0]["seconds"].as_f64() > latency["rows"][1]["seconds"].as_f64());
    assert!(latency["rows"][5]["seconds"].as_f64() < latency["rows"][3]["seconds"].as_f64());
    assert!(latency["promoteSeconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_same_for_scripts() {
    let done = plan(&[
        "--rps",
        "100",
        "--baseline",
        "0",
        "--weight",
        "10",
        "--output",
        "json",
    ]);
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let rows = told["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    assert!(rows[3]["seconds"].as_f64().unwrap() < rows[0]["seconds"].as_f64().unwrap());
    assert!(rows[0]["times"].is_null());
    // About ln(20) / 0.001 canary requests.
    let promote = told["promoteSeconds"].as_f64().unwrap();
    assert!((promote / 300.0 - 1.0).abs() < 0.2, "{promote}");
}

#[test]
fn wrong_arguments_get_a_remedy() {
    let latency = [
        (&["--p99", "6s"][..], "between 1ms and 5s"),
        (&["--p99", "fast"][..], "such as 250ms"),
        (&["--p99", "1s", "--p50", "2s"][..], "between 0 and --p99"),
        (&["--p50", "2s"][..], "--p99"),
    ];
    for (more, remedy) in latency {
        let done = plan(&[&["--rps=9", "--baseline=0", "--weight=1"][..], more].concat());
        assert_eq!(done.status.code(), Some(2));
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(told.contains(remedy), "{told}");
    }
    for (arguments, remedy) in [
        (
            ["--rps", "0", "--baseline", "0.001", "--weight", "10"],
            "such as 100",
        ),
        (
            ["--rps", "9", "--baseline", "1", "--weight", "10"],
            "0.001 for 0.1 %",
        ),
        (
            ["--rps", "9", "--baseline", "0.001", "--weight", "ten"],
            "such as 10",
        ),
    ] {
        let done = plan(&arguments);
        assert_eq!(done.status.code(), Some(2));
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(told.contains(remedy), "{told}");
    }
}
