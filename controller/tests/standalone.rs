//! The control plane against a scripted proxy over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod fake;

use contract::{
    Span,
    explanation::Explanation,
    policy::{Policy, Smoke, Step},
    release::{Decision, Phase},
};
use controller::{
    Options, blocks,
    engine::{Entry, Found, SCHEMA, replay},
};
use fake::{Fake, Folder, Mood, Plane};
use http::Method;
use std::{fs, path::Path, thread, time::Duration};

/// One step at 20 %, and evidence for everything after that.
fn at_twenty() -> Policy {
    let mut policy = Policy::default();
    policy.pacing.steps = vec![Step {
        weight: 20.0,
        hold: Span::seconds(1),
        pause: false,
    }];
    policy
}

/// Everything as short as it can be.
fn quick() -> Policy {
    let mut policy = Policy::default();
    policy.pacing.soak = Span::seconds(2);
    policy.judgement.warm_up = Span::seconds(0);
    policy.pacing.interval = Span::seconds(1);
    policy.promotion.watch = Span::seconds(2);
    policy
}

#[test]
fn a_failing_canary_is_home_two_seconds_after_its_first_bad_answer() {
    let (fake, folder) = (Fake::start(at_twenty()), Folder::new("rollback"));
    let plane = Plane::start(&fake, &folder.0);
    plane.reaches(Phase::Shifting, 5.0);
    thread::sleep(Duration::from_millis(2300));
    fake.script().canary_bad = 0.5;
    let status = plane.reaches(Phase::RolledBack, 10.0);
    let script = fake.script();
    let took = script.home.unwrap() - script.first_bad.unwrap();
    println!(
        "first bad answer to weight 0: {} ms; {}",
        took.as_millis(),
        status.reason
    );
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(
        status.reason.contains("rolled back: canary ") && status.reason.contains("stable 0 of "),
        "{}",
        status.reason
    );
    assert_eq!(script.weights.first().map(String::as_str), Some("20"));
    assert_eq!(script.weights.last().map(String::as_str), Some("0"));
    let history = fs::read_to_string(folder.file("history.jsonl")).unwrap();
    assert_eq!(history.matches("\"to\":\"RollingBack\"").count(), 1);
    assert!(history.lines().all(|l| l.contains("\"service\":\"echo\"")));
}

#[test]
fn a_healthy_canary_is_promoted_and_stays_so_over_restarts() {
    let (fake, folder) = (Fake::start(quick()), Folder::new("promote"));
    fake.script().rps = 5000.0;
    let plane = Plane::start(&fake, &folder.0);
    let status = plane.reaches(Phase::Succeeded, 30.0);
    assert!(
        status.reason.starts_with("promoted: v2 serves everybody"),
        "{}",
        status.reason
    );
    plane.until(5.0, |s| s.taken == Some(1.0));
    let sets = fake.script().weights.len();
    plane.running.stop();
    let plane = Plane::start(&fake, &folder.0);
    plane.reaches(Phase::Succeeded, 5.0);
    plane.running.stop();
    // Without the saved state the history knows it; a proxy that forgot the weight gets it again.
    fs::remove_file(folder.file("echo.state.json")).unwrap();
    fake.script().annotations.clear();
    let plane = Plane::start(&fake, &folder.0);
    plane.until(5.0, |s| s.phase == Phase::Succeeded && s.taken == Some(1.0));
    assert_eq!(fake.script().weights[sets..], ["100"]);
}

#[test]
fn a_restarted_controller_goes_on_with_its_evidence() {
    let (fake, folder) = (Fake::start(at_twenty()), Folder::new("restart"));
    let plane = Plane::start(&fake, &folder.0);
    plane.until(10.0, |s| s.figures.canary.requests > 100);
    // As after kill -9: what the disk has, without the last save of an orderly end.
    let killed = Folder::new("killed");
    for name in ["echo.state.json", "history.jsonl"] {
        fs::copy(folder.file(name), killed.file(name)).unwrap();
    }
    let before = plane.status().unwrap();
    plane.running.stop();
    thread::sleep(Duration::from_millis(1500));
    let plane = Plane::start(&fake, &killed.0);
    let flown = before.figures.canary.requests + 40;
    let after = plane.until(5.0, |s| s.figures.canary.requests >= flown);
    assert_eq!(
        after.phase,
        Phase::Shifting,
        "what happened meanwhile is read from the ring"
    );
    assert_eq!(after.decisions.len(), before.decisions.len());
    assert_eq!(fake.script().weights, ["20"], "nothing is done twice");
    fake.script().canary_bad = 0.5;
    plane.reaches(Phase::RolledBack, 10.0);
}

#[test]
fn what_cannot_be_trusted_is_set_aside_and_never_obeyed() {
    let (fake, folder) = (Fake::start(at_twenty()), Folder::new("corrupt-source"));
    let plane = Plane::start(&fake, &folder.0);
    plane.until(10.0, |s| s.figures.canary.requests > 10);
    plane.running.stop();
    let whole = fs::read_to_string(folder.file("echo.state.json")).unwrap();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "half written"),
        (
            "half",
            whole.as_bytes()[..whole.len() / 2].to_vec(),
            "half written",
        ),
        (
            "headless",
            whole.split_once('\n').unwrap().1.as_bytes().to_vec(),
            "none of Serin's",
        ),
        ("no end", whole.trim_end().as_bytes().to_vec(), "half written"),
        (
            "a changed digit",
            whole.replacen("\"number\":2", "\"number\":7", 1).into_bytes(),
            "checksum",
        ),
        (
            "another service",
            whole
                .replacen("\"service\":\"echo\"", "\"service\":\"shop\"", 1)
                .into_bytes(),
            "shop",
        ),
        (
            "another schema",
            whole
                .replacen(&format!("{{\"schema\":{SCHEMA}"), "{\"schema\":99", 1)
                .into_bytes(),
            "schema is 99",
        ),
        ("no text", vec![0xff, 0xfe, 0x00, 0x0a], "not text"),
        (
            "foreign",
            b"[controller]\nstate = \"x\"\n".to_vec(),
            "none of Serin's",
        ),
    ];
    for (what, bytes, why) in cases {
        let place = Folder::new("corrupt");
        fs::write(place.file("echo.state.json"), bytes).unwrap();
        fake.script().weights.clear();
        let plane = Plane::start(&fake, &place.0);
        let status = plane.reaches(Phase::Shifting, 5.0);
        let first = &status.decisions[0];
        assert!(
            first.reason.contains("set aside as echo.state.json.corrupt-"),
            "{what}: {}",
            first.reason
        );
        assert!(first.reason.contains(why), "{what}: {}", first.reason);
        assert!(
            place
                .names()
                .iter()
                .any(|n| n.starts_with("echo.state.json.corrupt-")),
            "{what}"
        );
        assert_eq!(fake.script().weights, ["0", "20"], "{what}: weight 0 comes first");
    }
}

#[test]
fn the_history_outlives_the_state() {
    let (fake, folder) = (Fake::start(at_twenty()), Folder::new("history"));
    fake.script().canary_bad = 1.0;
    let plane = Plane::start(&fake, &folder.0);
    plane.reaches(Phase::RolledBack, 15.0);
    plane.running.stop();
    fs::write(folder.file("echo.state.json"), "{").unwrap();
    let mut history = fs::read(folder.file("history.jsonl")).unwrap();
    history.extend_from_slice(b"{\"service\":\"echo\",\"number\":99,\"to\":\"Succ");
    fs::write(folder.file("history.jsonl"), history).unwrap();
    fake.script().weights.clear();
    let plane = Plane::start(&fake, &folder.0);
    let status = plane.reaches(Phase::RolledBack, 5.0);
    assert!(status.reason.contains("set aside"), "{}", status.reason);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(plane.status().unwrap().phase, Phase::RolledBack);
    assert!(
        fake.script().weights.is_empty(),
        "a failed version is not run again"
    );
    let (code, _) = plane.call(Method::POST, "/rollouts/echo/command", "\"retry\"");
    assert_eq!(code, 200);
    plane.until(5.0, |s| s.decisions.iter().any(|d| d.by == "anna"));
    plane.running.stop();
    let text = fs::read_to_string(folder.file("history.jsonl")).unwrap();
    let lines: Vec<Result<serde_json::Value, _>> = text.lines().map(serde_json::from_str).collect();
    assert_eq!(
        lines.iter().filter(|l| l.is_err()).count(),
        1,
        "the torn line spoils no other"
    );
}

#[test]
fn one_folder_serves_one_controller() {
    let folder = Folder::new("lock");
    let first = controller::prepare(Options {
        state: folder.0.clone(),
    })
    .unwrap();
    let second = controller::prepare(Options {
        state: folder.0.clone(),
    });
    let message = second.map(|_| ()).unwrap_err().to_string();
    assert!(
        message.contains("another Serin uses this state folder"),
        "{message}"
    );
    drop(first);
    assert!(
        controller::prepare(Options {
            state: folder.0.clone()
        })
        .is_ok()
    );
    let file = folder.file("file");
    fs::write(&file, "").unwrap();
    assert!(controller::prepare(Options { state: file }).is_err());
}

#[test]
fn a_persons_weight_pauses_with_the_name() {
    let (fake, folder) = (Fake::start(at_twenty()), Folder::new("person"));
    let plane = Plane::start(&fake, &folder.0);
    plane.until(5.0, |s| s.phase == Phase::Shifting && s.taken == Some(0.2));
    thread::sleep(Duration::from_millis(600));
    fake.script().set("33", "bert");
    let status = plane.reaches(Phase::Paused, 3.0);
    assert!(status.reason.contains("33 % by bert"), "{}", status.reason);
    assert_eq!(status.decisions.last().unwrap().by, "bert");
    thread::sleep(Duration::from_millis(600));
    assert_eq!(fake.script().weights, ["20"], "no silent fight");
    fake.script().canary_bad = 0.5;
    plane.reaches(Phase::RolledBack, 10.0);
}

#[test]
fn a_proxy_that_does_not_tell_is_a_hold_and_nothing_else() {
    for (mood, why) in [
        (Mood::Hanging, "no answer within 500 ms"),
        (Mood::Newer, "schema 2"),
        (Mood::Rubbish, "cannot be read"),
        (Mood::Failing, "it answered 500"),
    ] {
        let (fake, folder) = (Fake::start(quick()), Folder::new("silent"));
        let plane = Plane::start(&fake, &folder.0);
        plane.until(8.0, |s| s.figures.canary.requests > 0);
        fake.script().mood = mood;
        let sets = fake.script().weights.len();
        let status = plane.reaches(Phase::Holding, 8.0);
        assert!(
            status.reason.starts_with("no evidence: ") && status.reason.contains(why),
            "{}",
            status.reason
        );
        assert!(fake.script().weights.len() <= sets + 1);
        fake.script().mood = Mood::Normal;
        plane.reaches(Phase::Shifting, 5.0);
    }
}

#[test]
fn a_canary_that_does_not_answer_stays_at_weight_0() {
    let (fake, folder) = (Fake::start(quick()), Folder::new("unready"));
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    fake.script().entry.canary.endpoints = vec![unused.to_string()];
    let plane = Plane::start(&fake, &folder.0);
    let status = plane.until(5.0, |s| s.reason.contains("refused"));
    assert_eq!((status.phase, status.wanted.is_none()), (Phase::Starting, true));
    assert!(status.reason.contains(&unused.to_string()), "{}", status.reason);
    fake.script().entry.canary.endpoints = vec![fake.canary.to_string()];
    plane.reaches(Phase::Shifting, 5.0);
}

#[test]
fn smoke_requests_come_before_users() {
    let mut policy = quick();
    policy.verify.smoke = vec![Smoke {
        path: "/healthz".into(),
        status: 200,
    }];
    let (fake, folder) = (Fake::start(policy), Folder::new("smoke"));
    fake.script().smoke_status = 503;
    let plane = Plane::start(&fake, &folder.0);
    let status = plane.until(5.0, |s| s.phase == Phase::Verifying && s.reason.contains("503"));
    assert!(
        status.reason.contains("smoke request GET /healthz failed"),
        "{}",
        status.reason
    );
    fake.script().smoke_status = 200;
    plane.reaches(Phase::Shifting, 5.0);
    assert!(fake.script().synthetic >= 2);

    fake.script().smoke_status = 500;
    fake.script().entry.canary.version = "v3".into();
    let status = plane.reaches(Phase::RolledBack, 20.0);
    assert!(
        status.reason.contains("before any user saw it") && status.reason.contains("500"),
        "{}",
        status.reason
    );
}

#[test]
fn commands_are_answered_with_status_or_reason() {
    let (fake, folder) = (Fake::start(at_twenty()), Folder::new("commands"));
    let plane = Plane::start(&fake, &folder.0);
    plane.reaches(Phase::Shifting, 5.0);
    let command = |body: &str| plane.call(Method::POST, "/rollouts/echo/command", body);
    let (code, body) = command("\"pause\"");
    assert!(
        code == 200 && body.contains("paused by anna (on call)"),
        "{code} {body}"
    );
    assert_eq!(command("\"pause\"").0, 409);
    assert_eq!(command("\"resume\"").0, 200);
    let (code, body) = command(r#"{"weight":{"weight":"2.5","total":100}}"#);
    assert!(code == 200 && body.contains("2.5 % by anna"), "{code} {body}");
    plane.until(3.0, |s| s.taken == Some(0.025));
    let table = [
        (Method::POST, "/rollouts/echo/command", "\"explode\"", 400),
        (Method::POST, "/rollouts/echo/command", "", 400),
        (
            Method::POST,
            "/rollouts/echo/command",
            r#"{"weight":{"weight":"101","total":100}}"#,
            400,
        ),
        (Method::POST, "/rollouts/nobody/command", "\"pause\"", 404),
        (Method::GET, "/rollouts/nobody", "", 404),
        (Method::GET, "/rollouts/echo/command", "", 405),
        (Method::POST, "/rollouts/echo", "", 405),
        (Method::DELETE, "/rollouts", "", 405),
        (Method::GET, "/rollouts/echo/a/b", "", 404),
        (Method::GET, "/rollouts", "", 200),
        (Method::GET, "/rollouts/echo", "", 200),
    ];
    for (method, path, body, expected) in table {
        let (code, answer) = plane.call(method.clone(), path, body);
        assert_eq!(code, expected, "{method} {path} {body}: {answer}");
        assert!(code == 200 || answer.contains("\"error\""), "{answer}");
    }
    assert_eq!(command("\"abort\"").0, 200);
    let status = plane.reaches(Phase::RolledBack, 5.0);
    assert!(
        status.reason.starts_with("aborted by anna (on call)"),
        "{}",
        status.reason
    );
    assert_eq!(command("\"promote\"").0, 200);
    plane.reaches(Phase::Succeeded, 5.0);
    assert_eq!(fake.script().canary().split, contract::Split::ALL);
}

#[test]
fn a_second_version_starts_at_weight_0_and_a_removed_one_ends_there() {
    let (fake, folder) = (Fake::start(at_twenty()), Folder::new("second"));
    let plane = Plane::start(&fake, &folder.0);
    plane.until(5.0, |s| s.taken == Some(0.2));
    fake.script().entry.canary.version = "v3".into();
    plane.until(5.0, |s| s.canary_version == "v3" && s.phase == Phase::Shifting);
    assert_eq!(fake.script().weights, ["20", "0", "20"]);
    plane.until(5.0, |s| s.taken == Some(0.2));
    fake.script().entry.canary.endpoints.clear();
    let status = plane.until(5.0, |s| s.phase == Phase::Idle && s.taken == Some(0.0));
    assert!(!status.reason.is_empty());
}

#[test]
fn a_decision_is_explained_on_record_and_on_demand_and_comes_out_of_the_log_again() {
    let (fake, folder) = (Fake::start(at_twenty()), Folder::new("explained"));
    let plane = Plane::start(&fake, &folder.0);
    plane.until(10.0, |s| s.figures.canary.requests > 100);
    let (code, body) = plane.call(Method::GET, "/rollouts/echo/explanation", "");
    let now: Explanation = serde_json::from_str(&body).unwrap();
    assert_eq!((code, now.traffic.share, now.is_worse()), (200, 0.2, false));
    assert!(now.canary.counts.requests > 0 && now.outlook.rollback_if_so.is_none());

    fake.script().canary_bad = 0.5;
    plane.reaches(Phase::RolledBack, 10.0);
    let (_, body) = plane.call(Method::GET, "/rollouts/echo/explanation", "");
    assert_eq!(body, "null", "nothing is judged any more");
    let (_, body) = plane.call(Method::GET, "/rollouts/echo/decisions/last", "");
    let last: Decision = serde_json::from_str(&body).unwrap();
    assert_eq!(last.to, Phase::RollingBack, "the last one that rests on evidence");
    assert!(last.explanation.unwrap().is_worse());
    for (path, expected) in [("decisions/1", 200), ("decisions/77", 404), ("decisions/x", 400)] {
        let (code, body) = plane.call(Method::GET, &format!("/rollouts/echo/{path}"), "");
        assert_eq!(code, expected, "{body}");
    }
    assert_eq!(plane.call(Method::GET, "/rollouts/nobody/explanation", "").0, 404);
    assert_eq!(plane.call(Method::POST, "/rollouts/echo/explanation", "").0, 405);

    let state = fs::read_to_string(folder.file("echo.state.json")).unwrap();
    assert!(!state.contains("\"explanation\""), "a state stays small");
    let kept = blocks::read(&folder.file("echo.blocks.jsonl")).unwrap();
    let found = replay(&kept.entries);
    let wrong: Vec<_> = found
        .iter()
        .filter(|r| !matches!(r.found, Found::Same | Found::Nothing))
        .map(|r| (r.decision.number, &r.found))
        .collect();
    assert!(found.len() >= 4 && wrong.is_empty(), "{wrong:?}");
}

/// At any moment the log knows what the state rests on: it is written first.
#[test]
fn the_log_is_never_behind_the_state_and_a_restart_repeats_what_was_not_saved() {
    let (fake, folder) = (Fake::start(at_twenty()), Folder::new("log-first"));
    let plane = Plane::start(&fake, &folder.0);
    plane.until(10.0, |s| s.figures.canary.requests > 100);
    let killed = Folder::new("log-killed");
    // The state first: what is logged meanwhile is what a crash would repeat.
    fs::copy(folder.file("echo.state.json"), killed.file("echo.state.json")).unwrap();
    thread::sleep(Duration::from_millis(2200));
    for name in ["echo.blocks.jsonl", "history.jsonl"] {
        fs::copy(folder.file(name), killed.file(name)).unwrap();
    }
    plane.running.stop();
    let events = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        text.matches("\"taken\"").count()
    };
    let logged = events(&killed.file("echo.blocks.jsonl"));
    let plane = Plane::start(&fake, &killed.0);
    fake.script().canary_bad = 0.5;
    plane.reaches(Phase::RolledBack, 10.0);
    plane.running.stop();
    assert!(events(&killed.file("echo.blocks.jsonl")) > logged);
    let kept = blocks::read(&killed.file("echo.blocks.jsonl")).unwrap();
    let held = kept
        .entries
        .iter()
        .filter(|e| matches!(e, Entry::Taken { .. }))
        .count();
    assert!(
        held < events(&killed.file("echo.blocks.jsonl")),
        "some came twice"
    );
    for r in replay(&kept.entries) {
        assert!(matches!(r.found, Found::Same | Found::Nothing), "{:?}", r.found);
    }
}
