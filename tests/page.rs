//! The page in a real browser (Chromium by playwright-core): a good and a bad release in each phase, orders of people and
//! of strangers, small and dark and by keyboard, and the drawn bands beside what the proxy told. `target/page` has the
//! screenshots.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/browser.rs"]
mod browser;
mod support;

use browser::{Tour, target};
use controller::{
    contract::{
        release::Counts,
        series::{Judged, Series},
    },
    stats::{Arm, bounds},
};
use proxy::contract::evidence::Cohort;
use serde::Deserialize;
use serde_json::json;
use std::collections::HashSet;
use support::*;

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

fn tour(run: &Run, name: &str) -> Tour {
    Tour::start(json!({
        "tour": name, "admin": run.admin.to_string(), "signals": run.signals.to_string(), "token": run.token(),
    }))
}

fn found(tour: Tour) -> Found {
    serde_json::from_value(tour.end()).unwrap()
}

/// A good release must not take long.
const SOON: &str = "
[service.rollout.judgement.errors.promote]
ratio = 1.5
absolute = 0.01
";

/// Which of two equal programs a busy machine favours must not decide a release.
const LENIENT: &str = "
[service.rollout.judgement.latency]
rollbackShift = 4
promoteShift = 5
tolerance = 4.0
";

/// Nothing is promoted before a person says yes.
const GATE: &str = "
[[service.rollout.gates]]
name = \"board\"
at = \"before-promotion\"
";

/// A release that goes fast, with a smoke request.
fn files(ports: [u16; 3], stable: u16, canary: u16, margins: &str) -> [String; 2] {
    let rest = format!(
        "{QUICK}{margins}[service.rollout.verify]\nsmoke = [{{ path = \"/healthz\", status = 200 }}]\n"
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
fn prefixes(cohorts: &[Cohort]) -> Vec<Base> {
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

/// Requests and failures of stable and canary that were told before a judgement began.
type Base = [(u64, u64); 2];

/// What a judgement with these counts must have begun with, if it has seen all of a prefix.
fn before(prefix: &Base, counts: [Counts; 2]) -> Option<Base> {
    let less = |p: (u64, u64), c: Counts| Some((p.0.checked_sub(c.requests)?, p.1.checked_sub(c.bad)?));
    Some([less(prefix[0], counts[0])?, less(prefix[1], counts[1])?])
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
    let mut began: Option<(Counts, Vec<Base>)> = None;
    for j in &counted {
        let (s, c) = (j.stable.counts, j.canary.counts);
        let fit: Vec<Base> = prefixes.iter().filter_map(|p| before(p, [s, c])).collect();
        // What was told before a judgement began is the same for all of its points; the watch is another judgement.
        let same: Vec<Base> = match began.take() {
            Some((last, bases)) if last.requests <= c.requests => {
                bases.into_iter().filter(|b| fit.contains(b)).collect()
            }
            Some(_) => fit,
            None => fit.into_iter().filter(|b| b[1] == (0, 0)).collect(),
        };
        assert!(
            !same.is_empty(),
            "no second at which the proxy had told {c} of the canary, and {s} of stable"
        );
        began = Some((c, same));
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

/// Each of these phases was photographed, and no two pictures are the same.
fn seen(name: &str, found: &Found, phases: &[&str]) {
    for phase in phases {
        assert!(
            found.phases.iter().any(|p| p == phase),
            "no picture of {phase}: {:?}",
            found.phases
        );
    }
    let mut different = HashSet::new();
    for phase in &found.phases {
        let file = target().join(format!("{name}-{phase}.png"));
        let bytes = std::fs::read(&file).unwrap();
        assert!(
            bytes.starts_with(b"\x89PNG") && bytes.len() > 10_000,
            "{}",
            file.display()
        );
        assert!(
            different.insert(bytes),
            "{} shows what another phase shows",
            file.display()
        );
    }
}

#[test]
fn a_good_release_is_seen_paused_steered_and_promoted() {
    let [s, c, p0, p1, p2] = free_ports();
    let ports = [p0, p1, p2];
    let _stable = app(s, "v1", &[]);
    let [without, with] = files(ports, s, c, &format!("{SOON}{LENIENT}{GATE}"));
    let run = Run::start(ports, &without);
    let line = format!("page on http://{}/", run.admin);
    until(
        "the page's address is printed",
        std::time::Duration::from_secs(5),
        || run.process.printed().contains(&line).then_some(()),
    );
    let users = Users::start(run.listen, RPS, 8);
    let mut tour = tour(&run, "good");
    tour.until("phase", "Idle");
    run.scratch.replace("serin.toml", &with);
    tour.until("phase", "Starting");
    let _canary = app(c, "v2", &[]);
    let found = found(tour);
    users.stop();
    seen(
        "good",
        &found,
        &[
            "Idle",
            "Starting",
            "Verifying",
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
    let _canary = app(c, "v2", &["--errors", "0.3", "--late", "12s"]);
    let [without, with] = files(ports, s, c, LENIENT);
    let run = Run::start(ports, &without);
    let users = Users::start(run.listen, RPS, 8);
    let mut tour = tour(&run, "bad");
    tour.until("phase", "Idle");
    run.scratch.replace("serin.toml", &with);
    let found = found(tour);
    users.stop();
    seen(
        "bad",
        &found,
        &["Starting", "Shifting", "RollingBack", "RolledBack"],
    );
    recomputed(&found);
}

#[test]
fn a_release_beside_a_degraded_stable_is_seen_holding() {
    let [s, c, p0, p1, p2] = free_ports();
    let ports = [p0, p1, p2];
    let _apps = [
        app(s, "v1", &["--errors", "0.5", "--late", "12s"]),
        app(c, "v2", &["--errors", "0.5", "--late", "14s"]),
    ];
    let [_, with] = files(ports, s, c, LENIENT);
    let run = Run::start(ports, &with);
    let users = Users::start(run.listen, RPS, 8);
    let found = found(tour(&run, "hold"));
    users.stop();
    seen("hold", &found, &["Shifting", "Holding"]);
}

#[test]
fn a_person_promotes_and_the_page_survives_a_restart() {
    let [s, c, p0, p1, p2] = free_ports();
    let ports = [p0, p1, p2];
    let _apps = [app(s, "v1", &[]), app(c, "v2", &[])];
    let [_, with] = files(ports, s, c, LENIENT);
    let mut run = Run::start(ports, &with);
    let users = Users::start(run.listen, RPS, 8);
    let mut tour = tour(&run, "promote");
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
    let [without, _] = files(ports, s, 1, "");
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
