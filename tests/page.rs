//! The page in a real browser (Chromium by playwright-core): a good and a bad release in each phase, orders of people and
//! of strangers, small and dark and by keyboard, and the drawn bands beside what the proxy told. `target/page` has the
//! screenshots.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use controller::{
    contract::series::{Judged, Series},
    stats::{Arm, bounds},
};
use proxy::contract::evidence::Cohort;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};
use support::*;

/// The package that drives the browser, installed beside what is built.
const PACKAGE: &str = "playwright-core@1.65.1";
/// Chance that a bound that is shown does not hold.
const DOUBT: f64 = 0.05;
/// Users' requests a second.
const RPS: f64 = 200.0;

/// What a tour has found.
#[derive(Debug, Deserialize)]
struct Found {
    phases: Vec<String>,
    series: Series,
    cohorts: Vec<Cohort>,
    #[serde(default)]
    compared: u64,
}

/// A browser on a tour.
struct Tour {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    name: &'static str,
}

fn target() -> PathBuf {
    let root = env!("CARGO_MANIFEST_DIR");
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| format!("{root}/target"));
    PathBuf::from(target).join("page")
}

/// The folder with the browser's driver.
fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let folder = target().join(PACKAGE);
        if !folder.join("node_modules/playwright-core/package.json").exists() {
            std::fs::create_dir_all(&folder).unwrap();
            let installed = Command::new("npm")
                .args(["install", "--no-audit", "--no-fund", "--prefix"])
                .arg(&folder)
                .arg(PACKAGE)
                .output()
                .expect("npm is needed (Debian: npm)");
            assert!(
                installed.status.success(),
                "npm cannot install {PACKAGE}: {}",
                stderr(&installed)
            );
        }
        folder
    })
}

fn browser() -> String {
    let found = Command::new("sh")
        .args(["-c", "command -v chromium"])
        .output()
        .unwrap();
    assert!(found.status.success(), "chromium is needed (Debian: chromium)");
    stdout(&found).trim().to_owned()
}

impl Tour {
    fn start(run: &Run, name: &'static str) -> Tour {
        let given = json!({
            "tour": name, "packages": packages(), "browser": browser(), "out": target(),
            "admin": run.admin.to_string(), "signals": run.signals.to_string(), "token": run.token(),
        });
        let mut child = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/browse.mjs"))
            .arg(given.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is needed (Debian: nodejs)");
        let lines = BufReader::new(child.stdout.take().unwrap());
        Tour { child, lines, name }
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        (self.lines.read_line(&mut line).unwrap() > 0).then(|| serde_json::from_str(&line).expect(&line))
    }

    /// Waits until it tells this.
    fn until(&mut self, key: &str, value: &str) {
        while let Some(told) = self.next() {
            println!("{}: {told}", self.name);
            if told[key] == value {
                return;
            }
        }
        panic!("{}: the tour ended before {key} {value}", self.name);
    }

    fn end(mut self) -> Found {
        let mut last = Value::Null;
        while let Some(told) = self.next() {
            println!("{}: {told}", self.name);
            last = told;
        }
        assert!(self.child.wait().unwrap().success(), "{}: {last:#}", self.name);
        let text = std::fs::read_to_string(target().join(format!("{}.json", self.name))).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Tour {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A release that goes fast, with a smoke request; with latency as a stake, or without: which of two equal programs a busy
/// machine favours must not decide a good release.
fn files(ports: [u16; 3], stable: u16, canary: u16, latency: bool) -> [String; 2] {
    let rest = format!(
        "{QUICK}\n[service.rollout.judgement.latency]\nenabled = {latency}\n[service.rollout.verify]\nsmoke = [{{ path = \"/healthz\", status = 200 }}]\n"
    );
    let with = file(ports, 1, &[stable], &[canary], &[], &rest);
    let without = with.replace(
        &format!("canary = {{ version = \"v2\", endpoints = [\"127.0.0.1:{canary}\"] }}\n"),
        "",
    );
    assert_ne!(with, without);
    [without, with]
}

/// The sums of what was told up to each second.
fn prefixes(cohorts: &[Cohort]) -> Vec<[(u64, u64); 2]> {
    let mut sums = [(0, 0); 2];
    let mut all = vec![sums];
    for cohort in cohorts {
        for (sum, tally) in sums.iter_mut().zip(&cohort.tracks) {
            sum.0 += tally.started - tally.cancelled;
            sum.1 += tally.bad.ever;
        }
        all.push(sums);
    }
    all
}

/// The counts behind the bands are those that the proxy told, and the bounds are those of the engine.
fn recomputed(found: &Found) {
    let prefixes = prefixes(&found.cohorts);
    let judged: Vec<&Judged> = found
        .series
        .points
        .iter()
        .filter_map(|p| p.judged.as_ref())
        .collect();
    let seen = |j: &&&Judged| j.canary.counts.requests > 0;
    let counted: Vec<&&Judged> = judged.iter().filter(seen).collect();
    assert!(counted.len() >= 3, "{} points with evidence", counted.len());
    let mut bases: Option<Vec<(u64, u64)>> = None;
    for j in &counted {
        let (s, c) = (j.stable.counts, j.canary.counts);
        let ends = prefixes.iter().filter(|p| p[1] == (c.requests, c.bad));
        let fit: Vec<(u64, u64)> = ends
            .filter_map(|p| Some((p[0].0.checked_sub(s.requests)?, p[0].1.checked_sub(s.bad)?)))
            .collect();
        assert!(
            !fit.is_empty(),
            "no second at which the proxy had told {c} of the canary"
        );
        // What stable had served before the release is the same for all points.
        let before = bases.take().unwrap_or_else(|| fit.clone());
        let same: Vec<_> = before.into_iter().filter(|b| fit.contains(b)).collect();
        assert!(!same.is_empty(), "stable's counts {s} are not what was told");
        bases = Some(same);
        for track in [&j.stable, &j.canary] {
            let (low, high) = bounds::proportion(Arm::new(track.counts.requests, track.counts.bad), DOUBT);
            assert_eq!((track.rate.low, track.rate.high), (low, Some(high)));
        }
    }
    println!(
        "{} points recomputed from /evidence, {} drawn bounds compared",
        counted.len(),
        found.compared
    );
}

fn seen(found: &Found, phases: &[&str]) {
    for phase in phases {
        assert!(
            found.phases.iter().any(|p| p == phase),
            "no picture of {phase}: {:?}",
            found.phases
        );
    }
}

#[test]
fn a_good_release_is_seen_paused_steered_and_promoted() {
    let [s, c, p0, p1, p2] = free_ports();
    let ports = [p0, p1, p2];
    let _stable = app(s, "v1", &[]);
    let [without, with] = files(ports, s, c, false);
    let run = Run::start(ports, &without);
    let line = format!("page on http://{}/", run.admin);
    until(
        "the page's address is printed",
        std::time::Duration::from_secs(5),
        || run.process.printed().contains(&line).then_some(()),
    );
    let users = Users::start(run.listen, RPS, 8);
    let mut tour = Tour::start(&run, "good");
    tour.until("phase", "Idle");
    run.scratch.replace("serin.toml", &with);
    tour.until("phase", "Starting");
    let _canary = app(c, "v2", &[]);
    let found = tour.end();
    users.stop();
    seen(
        &found,
        &[
            "Idle",
            "Starting",
            "Shifting",
            "Paused",
            "Promoting",
            "Watching",
            "Succeeded",
        ],
    );
    recomputed(&found);
}

#[test]
fn a_bad_release_is_seen_going_back_tried_again_and_aborted() {
    let [s, c, p0, p1, p2] = free_ports();
    let ports = [p0, p1, p2];
    let _stable = app(s, "v1", &["--errors", "0.002"]);
    let _canary = app(c, "v2", &["--errors", "0.3", "--late", "6s"]);
    let [without, with] = files(ports, s, c, true);
    let run = Run::start(ports, &without);
    let users = Users::start(run.listen, RPS, 8);
    let mut tour = Tour::start(&run, "bad");
    tour.until("phase", "Idle");
    run.scratch.replace("serin.toml", &with);
    let found = tour.end();
    users.stop();
    seen(&found, &["Shifting", "RollingBack", "RolledBack"]);
    recomputed(&found);
}

#[test]
fn a_person_promotes_and_the_page_survives_a_restart() {
    let [s, c, p0, p1, p2] = free_ports();
    let ports = [p0, p1, p2];
    let _apps = [app(s, "v1", &[]), app(c, "v2", &[])];
    let [_, with] = files(ports, s, c, false);
    let mut run = Run::start(ports, &with);
    let users = Users::start(run.listen, RPS, 8);
    let mut tour = Tour::start(&run, "promote");
    tour.until("ready", "to be killed");
    run.process.kill();
    tour.until("ready", "to be started");
    run.restart();
    tour.end();
    users.stop();
}

#[test]
fn a_name_that_points_here_is_not_ours() {
    let [s, p0, p1, p2] = free_ports();
    let ports = [p0, p1, p2];
    let _stable = app(s, "v1", &[]);
    let [without, _] = files(ports, s, 1, false);
    let run = Run::start(ports, &without);
    let ask = |host: &str, path: &str| {
        raw(
            run.admin,
            format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .unwrap()
    };
    for path in ["/", "/ui/echo", "/page.js", "/page.css", "/where"] {
        let page = ask("localhost:1", path);
        assert_eq!(
            (page.status, ask("evil.example", path).status),
            (200, 421),
            "{path}"
        );
        assert!(
            page.head
                .to_lowercase()
                .contains("content-security-policy: default-src 'none'"),
            "{}",
            page.head
        );
    }
    assert_eq!(ask("127.0.0.1", "/rollouts").status, 401);
    assert_eq!(ask("127.0.0.1", "/events").status, 401);
}
