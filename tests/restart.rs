//! `kill -9` in five phases, and damaged state: the release goes on, and what was not understood is never obeyed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use serde_json::Value;
use std::{fs, path::PathBuf, time::Duration};
use support::*;

struct World {
    run: Run,
    users: Option<Users>,
    _apps: [Process; 2],
}

fn world(faults: &[&str], rest: &str) -> World {
    let [s, c, p0, p1, p2] = free_ports();
    let apps = [app(s, "v1", &[]), app(c, "v2", faults)];
    let run = Run::start([p0, p1, p2], &file([p0, p1, p2], 1, &[s], &[c], &[], rest));
    let users = Some(Users::start(run.listen, 500.0, 25));
    World {
        run,
        users,
        _apps: apps,
    }
}

fn kill_in(phase: &[&str], faults: &[&str], rest: &str, end: &str) {
    for _ in 0..if all() { 5 } else { 1 } {
        kill_once(phase, faults, rest, end);
    }
}

fn kill_once(phase: &[&str], faults: &[&str], rest: &str, end: &str) {
    let mut w = world(faults, rest);
    let before = w.run.wait_phase(phase, Duration::from_secs(60));
    w.run.process.kill();
    w.run.restart();
    let after = until("the state is read again", Duration::from_secs(5), || {
        w.run.try_status()
    });
    assert!(
        judged(&after) >= judged(&before),
        "evidence was lost: {before} -> {after}"
    );
    assert_eq!(
        after["decisions"][0]["at"], before["decisions"][0]["at"],
        "the record begins where it began"
    );
    let last = w
        .run
        .wait_phase(&["Succeeded", "RolledBack"], Duration::from_secs(90));
    println!(
        "killed in {}: went on in {}, ended {}",
        before["phase"], after["phase"], last["phase"]
    );
    assert_eq!(last["phase"], end, "{last}");
    let once = |phase: &str| {
        last["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|d| d["to"] == phase && d["from"] != phase)
            .count()
    };
    assert!(once(end) == 1, "nothing twice: {last}");
    drop(w.users.take().map(Users::stop));
}

fn judged(status: &Value) -> u64 {
    status["figures"]["canary"]["requests"].as_u64().unwrap()
}

/// Without latency: which of two equal programs a busy machine favours is not what is tested here.
fn quick() -> String {
    format!("{QUICK}\n[service.rollout.judgement.latency]\nenabled = false\n")
}

#[test]
fn killed_while_shifting() {
    kill_in(&["Shifting"], &[], &quick(), "Succeeded");
}

#[test]
fn killed_while_verifying_or_starting() {
    kill_in(
        &["Starting", "Verifying"],
        &[],
        &format!(
            "{}\n[service.rollout.verify]\nsmoke = [{{ path = \"/healthz\", status = 200 }}]\n",
            quick()
        ),
        "Succeeded",
    );
}

#[test]
fn killed_while_watching() {
    kill_in(
        &["Watching"],
        &[],
        &quick().replace("\"3s\"", "\"8s\""),
        "Succeeded",
    );
}

#[test]
fn killed_while_rolling_back_or_just_after() {
    kill_in(
        &["RollingBack", "RolledBack"],
        &["--errors", "0.5"],
        &quick(),
        "RolledBack",
    );
}

#[test]
fn killed_while_paused() {
    let mut w = world(&[], &quick());
    w.run.wait_phase(&["Shifting"], Duration::from_secs(30));
    assert!(w.run.command(&["pause", "echo"]).status.success());
    let before = w.run.wait_phase(&["Paused"], Duration::from_secs(5));
    w.run.process.kill();
    w.run.restart();
    std::thread::sleep(Duration::from_secs(3));
    let after = w.run.status();
    assert_eq!(
        (&after["phase"], &after["wanted"]),
        (&before["phase"], &before["wanted"])
    );
    assert!(w.run.command(&["resume", "echo"]).status.success());
    assert_eq!(
        w.run
            .wait_phase(&["Succeeded", "RolledBack"], Duration::from_secs(90))["phase"],
        "Succeeded"
    );
    w.users.take().map(Users::stop);
}

#[test]
fn a_promoted_release_stays_promoted_and_a_refused_one_refused() {
    for (faults, end, share) in [
        (&[][..], "Succeeded", 1.0),
        (&["--errors", "0.5"][..], "RolledBack", 0.0),
    ] {
        let mut w = world(faults, QUICK);
        w.run.wait_phase(&[end], Duration::from_secs(90));
        w.users.take().map(Users::stop);
        w.run.process.kill();
        w.run.restart();
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(w.run.phase(), end);
        assert_eq!(w.run.evidence()["share"].as_f64(), Some(share), "{end}");
    }
}

/// The controller's state file of the service.
fn state_file(run: &Run) -> PathBuf {
    let folder = run.scratch.path("state");
    let found = fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.file_name().unwrap().to_string_lossy() == "echo.state.json");
    found.unwrap_or_else(|| panic!("no state file in {}", folder.display()))
}

type Damage = fn(&str) -> String;

#[test]
fn a_damaged_state_is_told_set_aside_and_never_obeyed() {
    let damages: [(&str, Damage); 6] = [
        ("half of it", |t| t[..t.len() / 2].to_owned()),
        ("nothing", |_| String::new()),
        ("not JSON", |_| "\u{0}\u{1}garbage".into()),
        ("another weight", |t| {
            t.replacen("\"weight\":\"", "\"weight\":\"9", 1)
        }),
        ("another schema", |t| {
            t.replacen("\"schema\":2", "\"schema\":99", 1)
        }),
        ("one digit", |t| t.replacen('7', "8", 1)),
    ];
    let mut w = world(&[], &quick().replace("\"10s\"", "\"5m\""));
    for (what, damage) in damages {
        w.run.wait_phase(&["Shifting"], Duration::from_secs(30));
        std::thread::sleep(Duration::from_secs(2));
        w.run.process.kill();
        let file = state_file(&w.run);
        let text = fs::read_to_string(&file).unwrap();
        let damaged = damage(&text);
        assert_ne!(damaged, text, "{what} changes something");
        fs::write(&file, &damaged).unwrap();
        w.run.restart();
        until(&format!("{what}: set aside"), Duration::from_secs(5), || {
            set_aside(&w.run, &damaged).then_some(())
        });
        until("it is told", Duration::from_secs(5), || {
            w.run.process.printed().contains("set aside").then_some(())
        });
        let share = w.run.evidence()["share"].as_f64().unwrap();
        assert!(share <= 0.5, "{what}: never obeyed, {share}");
    }
    w.users.take().map(Users::stop);
}

/// Whether a file with this content stands aside.
fn set_aside(run: &Run, content: &str) -> bool {
    fs::read_dir(run.scratch.path("state"))
        .unwrap()
        .flatten()
        .any(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            name.starts_with("echo.state.json.corrupt")
                && fs::read_to_string(e.path()).unwrap_or_default() == content
        })
}
