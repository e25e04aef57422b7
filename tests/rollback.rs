//! A real backend that turns bad, and two that turn bad together.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use support::*;

/// A backend whose share of 500s can be turned while it runs, and that notes when it gave the first.
#[derive(Clone)]
struct Backend {
    port: u16,
    per_cent: Arc<AtomicU32>,
    first_bad: Arc<Mutex<Option<Instant>>>,
}

impl Backend {
    fn start(version: &'static str) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let me = Backend {
            port: listener.local_addr().unwrap().port(),
            per_cent: Arc::default(),
            first_bad: Arc::default(),
        };
        let (it, turn) = (me.clone(), Arc::new(AtomicU64::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (it, turn) = (it.clone(), turn.clone());
                std::thread::spawn(move || it.serve(stream, version, &turn));
            }
        });
        me
    }

    fn serve(&self, stream: std::net::TcpStream, version: &str, turn: &AtomicU64) -> Option<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
            }
            // Spread evenly, so that `per_cent` holds for any hundred requests.
            let bad = turn.fetch_add(37, Ordering::Relaxed) % 100
                < u64::from(self.per_cent.load(Ordering::Relaxed));
            if bad {
                self.first_bad.lock().unwrap().get_or_insert_with(Instant::now);
            }
            let status = if bad { "500 Oops" } else { "200 OK" };
            let body = format!("version: {version}\n");
            let text = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            reader.get_mut().write_all(text.as_bytes()).ok()?;
        }
    }
}

/// Steps: 20 % at once and for long, so that the fault meets a steady weight.
const TWENTY: &str = r#"
[service.rollout.pacing]
steps = [{ weight = 20, hold = "5m" }]
"#;

fn at_twenty_percent() -> (Backend, Backend, Run, Users) {
    let (stable, canary) = (Backend::start("v1"), Backend::start("v2"));
    let ports = free_ports::<3>();
    let run = Run::start(
        ports,
        &file(ports, 1, &[stable.port], &[canary.port], &[], TWENTY),
    );
    let users = Users::start(run.listen, 200.0, 20);
    until("20 % are taken", Duration::from_secs(20), || {
        run.try_status()
            .filter(|s| s["taken"].as_f64().is_some_and(|t| (t - 0.2).abs() < 1e-9))
    });
    std::thread::sleep(Duration::from_secs(5));
    (stable, canary, run, users)
}

#[test]
fn half_of_the_answers_bad_at_twenty_percent() {
    // The second in which a fault begins decides how long it takes: --all looks at ten of them.
    for _ in 0..if all() { 10 } else { 1 } {
        half_bad();
    }
}

fn half_bad() {
    let (_stable, canary, run, users) = at_twenty_percent();
    canary.per_cent.store(50, Ordering::Relaxed);
    let zero_at = until("weight 0", Duration::from_secs(10), || {
        (run.evidence()["share"].as_f64() == Some(0.0)).then(Instant::now)
    });
    let first_bad = canary.first_bad.lock().unwrap().expect("it gave a 500");
    let took = zero_at.duration_since(first_bad);
    let status = run.wait_phase(&["RolledBack"], Duration::from_secs(10));
    let report = users.stop();
    let decisions = status["decisions"].as_array().unwrap();
    let reason = decisions.iter().find(|d| d["to"] == "RollingBack").unwrap()["reason"]
        .as_str()
        .unwrap()
        .to_owned();
    println!(
        "first 500 to weight 0: {took:?}; {} bad answers; {reason}",
        report.bad_at.len()
    );
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(report.broken, 0);
    let counts = decisions.iter().find(|d| d["to"] == "RollingBack").unwrap()["figures"]["canary"].clone();
    let bad = counts["bad"].as_u64().unwrap();
    assert!(
        bad > 0 && reason.contains(&format!("{bad} of {}", counts["requests"])),
        "{reason} / {counts}"
    );
    // Nobody goes there any more.
    let before = report.answers.get(&(200, "version: v2".into())).copied();
    let after = Users::start(run.listen, 200.0, 4);
    std::thread::sleep(Duration::from_secs(1));
    assert!(
        !after.stop().answers.keys().any(|(_, body)| body == "version: v2"),
        "{before:?}"
    );
}

#[test]
fn both_bad_is_nobodys_fault() {
    let (stable, canary, run, users) = at_twenty_percent();
    for b in [&stable, &canary] {
        b.per_cent.store(50, Ordering::Relaxed);
    }
    let status = run.wait_phase(&["Holding"], Duration::from_secs(15));
    let reason = status["reason"].as_str().unwrap();
    println!("{reason}");
    assert!(reason.contains("baseline degraded"), "{reason}");
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(run.phase(), "Holding");
    for b in [&stable, &canary] {
        b.per_cent.store(0, Ordering::Relaxed);
    }
    run.wait_phase(&["Shifting"], Duration::from_secs(90));
    users.stop();
}

/// Accepts, and never answers: nothing has ended, and it is rolled back all the same.
#[test]
fn a_canary_that_hangs_is_rolled_back() {
    let [s, c, p0, p1, p2] = free_ports();
    let (_stable, _canary) = (app(s, "v1", &[]), app(c, "v2", &["--hang", "1"]));
    let run = Run::start([p0, p1, p2], &file([p0, p1, p2], 1, &[s], &[c], &[], QUICK));
    let users = Users::start(run.listen, 200.0, 100);
    let status = run.wait_phase(&["RollingBack", "RolledBack"], Duration::from_secs(30));
    println!("{}", status["reason"]);
    assert_eq!(run.evidence()["share"].as_f64(), Some(0.0));
    assert!(
        status["reason"].as_str().unwrap().contains(" bad, stable 0 of "),
        "{status}"
    );
    drop(run);
    users.stop();
}
