//! Canaries that fail: without endpoints, and grossly.

use crate::{changes::pair, town::*, world::*};
use std::{
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_canary_whose_pods_are_gone_is_charged_and_nobody_notices() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let (town, proxy) = pair(&s, &c, &[("canary-weight", "50")]);
    town.remove("echo-canary", of(&c));
    eventually("gone", || proxy.endpoints() == [1, 0]);
    assert!(proxy.answers(40).iter().all(|a| a == "S"));
    let page = proxy.page().unwrap();
    let charged = page.cohorts.iter().fold((0, 0), |sum, cohort| {
        let canary = &cohort.tracks[1];
        (sum.0 + canary.started, sum.1 + canary.bad.by_1s)
    });
    assert!(charged.0 >= 12 && charged.0 == charged.1, "{charged:?}");
    assert_eq!(page.guard, None, "no endpoint is no trip");
    town.pod("echo-canary", of(&c));
    eventually("back", || proxy.share() == 0.5);
}

#[test]
fn the_guard_cuts_a_failing_canary_and_a_new_split_lifts_it() {
    let s = Backend::named("S");
    let c = Backend::new(|_| b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec());
    let (town, proxy) = pair(
        &s,
        &c,
        &[("canary-weight", "50"), ("canary-by-header", "x-canary")],
    );
    let hash = proxy.page().unwrap().hash;
    let start = Instant::now();
    let mut client = proxy.client();
    while proxy.page().unwrap().guard.is_none() {
        client.get("/", &[]);
        thread::sleep(Duration::from_millis(4));
        assert!(start.elapsed() < Duration::from_secs(3), "not cut in time");
    }
    println!("cut after {:?}", start.elapsed());
    let page = proxy.page().unwrap();
    assert_eq!((page.share, &page.hash), (0.0, &hash));
    assert!(page.guard.unwrap().contains("failed on the canary"));
    assert!(proxy.answers(20).iter().all(|a| a == "S"));
    let asked = client.get("/", &["x-canary: always"]);
    assert_eq!(asked.status(), 500, "who asks for it gets it");
    assert!(
        proxy
            .running
            .metrics()
            .contains("serin_guard_tripped{service=\"echo\"} 1")
    );
    let more = Backend::named("S");
    town.pod("echo-stable", of(&more));
    eventually("an endpoint", || proxy.endpoints() == [2, 1]);
    assert_eq!(proxy.share(), 0.0, "the same split stays cut");
    town.annotate("canary-weight", "20");
    eventually("lifted", || {
        proxy.share() == 0.2 && proxy.page().unwrap().guard.is_none()
    });
    assert!(
        proxy
            .running
            .metrics()
            .contains("serin_guard_tripped{service=\"echo\"} 0")
    );
}

#[test]
fn without_the_guard_the_canary_goes_on_failing() {
    let s = Backend::named("S");
    let c = Backend::new(|_| b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec());
    let (_town, proxy) = pair(&s, &c, &[("canary-weight", "50"), ("canary-guard", "off")]);
    let start = Instant::now();
    let mut client = proxy.client();
    while start.elapsed() < Duration::from_secs(2) {
        client.get("/", &[]);
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!((proxy.share(), proxy.page().unwrap().guard), (0.5, None));
}
