//! Notifications over real sockets: a receiver that is down, slow, or answers 500; nothing waits for it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/receiver.rs"]
mod receiver;
mod support;

use receiver::{Receiver, verify};
use std::{
    net::TcpListener,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use support::*;

const LIMIT: Duration = Duration::from_secs(30);

fn policy(all: &str, chat: &str) -> String {
    format!(
        r#"
[service.rollout.pacing]
steps = [{{ weight = 20, hold = "5m" }}]
[service.rollout.judgement]
warmUp = "0s"
[[service.rollout.notify]]
name = "all"
url = "{all}"
timeout = "2s"
[[service.rollout.notify]]
name = "chat"
url = "{chat}"
format = "slack"
phases = ["Shifting", "RolledBack"]
text = "{{rollout}} {{version}} is {{phase}} {{{{really}}}}"
"#
    )
}

/// From the first weight to weight 0 after everything fails, with these receivers.
fn rolls_back(all: &str, chat: &str, ports: [u16; 5]) -> (Run, Duration, Duration) {
    let begin = Instant::now();
    let own = [ports[0], ports[1], ports[2]];
    let run = Run::start(
        own,
        &file(own, 1, &[ports[3]], &[ports[4]], &[], &policy(all, chat)),
    );
    let users = Users::start(run.listen, 200.0, 10);
    run.wait_phase(&["Shifting"], LIMIT);
    let shifting = begin.elapsed();
    let begin = Instant::now();
    run.wait_phase(&["RolledBack"], LIMIT);
    let took = begin.elapsed();
    users.stop();
    (run, shifting, took)
}

#[test]
fn nothing_waits_for_a_receiver_that_is_unwell_and_it_gets_everything_in_order_in_the_end() {
    let ports = free_ports::<7>();
    let five = [ports[0], ports[1], ports[2], ports[3], ports[4]];
    let _apps = [
        app(ports[3], "v1", &[]),
        app(ports[4], "v2", &["--errors", "0.5"]),
    ];
    let (all, chat) = (Receiver::default(), Receiver::default());
    // One answers nothing at all, the other is not even there.
    all.ill.store(3, Ordering::SeqCst);
    all.serve(TcpListener::bind(("127.0.0.1", ports[5])).unwrap());
    let urls = [ports[5], ports[6]].map(|p| format!("http://127.0.0.1:{p}/hook?a=b"));
    let (mut run, shifting, took) = rolls_back(&urls[0], &urls[1], five);
    println!(
        "to the first weight {shifting:?}, to the end {took:?}, {} asked",
        all.asked.load(Ordering::SeqCst)
    );
    assert!(all.taken().is_empty());
    assert!(
        shifting < Duration::from_secs(10) && took < Duration::from_secs(10),
        "{shifting:?} {took:?}"
    );
    // What waits outlives a kill; then the one answers 500 for a while and is slow, the other comes back.
    run.process.kill();
    all.ill.store(1, Ordering::SeqCst);
    let before = all.asked.load(Ordering::SeqCst);
    run.restart();
    until("a 500", LIMIT, || {
        (all.asked.load(Ordering::SeqCst) > before + 1).then_some(())
    });
    assert!(all.taken().is_empty());
    all.ill.store(2, Ordering::SeqCst);
    chat.serve(TcpListener::bind(("127.0.0.1", ports[6])).unwrap());
    let last = |r: &Receiver| r.taken().last().is_some_and(|g| g.body.contains("RolledBack"));
    until("everything is told", LIMIT * 2, || {
        (last(&all) && last(&chat)).then_some(())
    });
    let key = run.token();
    let got = all.taken();
    let phases: Vec<String> = got
        .iter()
        .map(|g| {
            serde_json::from_str::<serde_json::Value>(&g.body).unwrap()["phase"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    println!("{phases:?}");
    assert_eq!(phases.first().map(String::as_str), Some("Starting"));
    assert!(phases.windows(2).all(|w| w[0] != w[1]) && phases.contains(&"RollingBack".to_owned()));
    assert!(
        got.windows(2).all(|w| w[0].sequence < w[1].sequence),
        "in order, once each: {got:?}"
    );
    for g in got.iter().chain(&chat.taken()) {
        verify(g, &key);
        assert_eq!(g.id, format!("echo/{}", g.sequence));
    }
    let texts: Vec<String> = chat.taken().into_iter().map(|g| g.body).collect();
    let expected = ["Shifting", "RolledBack"].map(|p| format!(r#"{{"text":"echo v2 is {p} {{really}}"}}"#));
    assert_eq!(texts, expected);
    // Nothing comes twice.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((all.taken().len(), chat.taken().len()), (got.len(), 2));
}

#[test]
fn a_text_with_an_unknown_word_is_a_clear_fault() {
    let scratch = Scratch::new();
    let text = file(
        [1, 2, 3],
        1,
        &[4],
        &[5],
        &[],
        &policy("http://a", "http://b").replace("{phase}", "{phse}"),
    );
    scratch.replace("serin.toml", &text);
    let path = scratch.path("serin.toml");
    let out = serin(&["run", "--check", "-f", path.to_str().unwrap()]);
    let said = stderr(&out);
    assert!(!out.status.success());
    assert!(
        said.contains("rollout.notify[1].text") && said.contains("{phse}") && said.contains("{phase}"),
        "{said}"
    );
}
