//! Why, and again: `serin explain` beside a release, `serin replay` of what it rested on.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::{fs, path::Path, time::Duration};
use support::*;

fn replay(file: &Path) -> (Option<i32>, String) {
    let out = serin(&["replay", file.to_str().unwrap()]);
    (out.status.code(), stdout(&out) + &stderr(&out))
}

/// The log with one bad request more in the last block of whole seconds.
fn tampered(log: &str) -> String {
    let block = log.rfind("\"Whole\"").unwrap();
    let count = block + log[block..].find("\"x\":").unwrap() + 4;
    let end = count + log[count..].find('}').unwrap();
    let bad: u64 = log[count..end].parse().unwrap();
    format!("{}{}{}", &log[..count], bad + 1, &log[end..])
}

#[test]
fn a_recorded_demo_comes_out_the_same_and_a_changed_count_does_not() {
    let scratch = Scratch::new();
    let file = scratch.path("demo.blocks.jsonl");
    let told = serin(&[
        "demo",
        "--plain",
        "--fault",
        "errors",
        "--record",
        file.to_str().unwrap(),
    ]);
    assert!(told.status.success(), "{}", stdout(&told));
    let (code, text) = replay(&file);
    println!("{text}");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("all the same, bit for bit"), "{text}");
    assert!(
        text.contains("made the rollback certain") && text.contains("nothing to recompute"),
        "{text}"
    );

    let log = fs::read_to_string(&file).unwrap();
    fs::write(&file, tampered(&log)).unwrap();
    let (code, text) = replay(&file);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("DIFFERS") && text.contains("NOT THE SAME"),
        "{text}"
    );

    fs::write(&file, log.replace("serin 0.", "serin 9.")).unwrap();
    let (code, text) = replay(&file);
    assert!(code == Some(0) && text.contains("written by serin 9."), "{text}");

    fs::write(&file, &log[..log.len() - 9]).unwrap();
    let (code, text) = replay(&file);
    assert!(
        code == Some(0) && text.contains("was cut off by a crash"),
        "{text}"
    );

    fs::write(&file, log.replacen("\"begun\"", "\"begum\"", 1)).unwrap();
    let (code, text) = replay(&file);
    assert!(
        code == Some(2) && text.contains("is none of a log of blocks"),
        "{text}"
    );
}

#[test]
fn a_log_of_nothing_is_no_success() {
    let scratch = Scratch::new();
    let file = scratch.path("empty.blocks.jsonl");
    fs::write(&file, "").unwrap();
    let out = serin(&["replay", file.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert!(
        stderr(&out).contains("no decision that rests on evidence"),
        "{}",
        stderr(&out)
    );
}

fn explained(run: &Run, args: &[&str]) -> String {
    let all: Vec<&str> = ["explain"].iter().chain(args).copied().collect();
    let out = run.command(&all);
    assert!(out.status.success(), "{}", stderr(&out));
    let text = stdout(&out);
    assert!(!text.contains('\x1b'), "plain in a pipe");
    text
}

fn json(run: &Run, args: &[&str]) -> serde_json::Value {
    let all: Vec<&str> = args.iter().chain(&["--output", "json"]).copied().collect();
    serde_json::from_str(&explained(run, &all)).unwrap()
}

#[test]
fn a_release_is_explained_while_it_lasts_and_after_its_rollback() {
    let [stable, canary, listen, signals, admin] = free_ports();
    let _old = app(stable, "v1", &[]);
    let _new = app(canary, "v2", &["--errors", "0.3", "--late", "4s"]);
    let ports = [listen, signals, admin];
    let run = Run::start(ports, &file(ports, 1, &[stable], &[canary], &[], QUICK));
    let users = Users::start(run.listen, 200.0, 8);
    // Before its first turn the controller knows of no service.
    run.wait_phase(&["Shifting"], Duration::from_secs(20));
    until("the canary was judged", Duration::from_secs(20), || {
        let now = json(&run, &[]);
        let requests = now["explanation"]["canary"]["counts"]["requests"].as_u64();
        requests
            .filter(|n| *n > 0)
            .map(|_| assert!(now["decision"].is_null()))
    });
    let text = explained(&run, &["echo"]);
    println!("{text}");
    for part in [
        "What was compared",
        "How sure",
        "What it cannot see",
        "What happens next",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    run.wait_phase(&["RolledBack"], Duration::from_secs(30));
    users.stop();
    let text = explained(&run, &["echo", "--decision", "last"]);
    println!("{text}");
    assert!(text.starts_with("echo: v2 was rolled back, because "), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    let body = text.split("The same in numbers").next().unwrap();
    for word in ["nats", "e-value", "ln M"] {
        assert!(!body.contains(word), "{word}: {body}");
    }
    assert_eq!(
        text,
        explained(&run, &["echo"]),
        "nothing is under way: the last decision"
    );

    let last = json(&run, &["--decision", "last"]);
    assert_eq!(last["decision"]["to"], "RollingBack");
    let e = &last["explanation"];
    assert!(e["logRollback"].as_f64() >= e["rollbackAt"].as_f64(), "{e}");
    let first = json(&run, &["--decision", "1"]);
    assert!(
        first["explanation"].is_null() && first["decision"]["to"] == "Starting",
        "{first}"
    );
    let absent = run.command(&["explain", "echo", "--decision", "999"]);
    assert_eq!(absent.status.code(), Some(1), "{}", stderr(&absent));

    let (code, text) = replay(&run.scratch.path("state/echo.blocks.jsonl"));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("all the same, bit for bit"), "{text}");
}
