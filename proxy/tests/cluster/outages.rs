//! The API server goes, comes back, forgets.

use crate::{
    changes::{pair, under_load},
    town::*,
    world::*,
};
use std::{
    thread,
    time::{Duration, Instant},
};

#[test]
fn the_last_table_serves_on_and_what_changed_is_taken_within_a_second_of_the_return() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let (town, proxy) = pair(&s, &c, &[("canary-weight", "10")]);
    let (taken, count) = under_load(&proxy, || {
        town.server.stop_listening();
        // Long enough for the pauses to have grown to the longest.
        thread::sleep(Duration::from_secs(3));
        assert!(proxy.is_ready() && proxy.share() == 0.1);
        town.server.listen_again().unwrap();
        let back = Instant::now();
        town.annotate("canary-weight", "30");
        eventually("the new weight", || proxy.share() == 0.3);
        back.elapsed()
    });
    println!("taken {taken:?} after the return; {count} requests beside");
    assert!(taken < Duration::from_secs(1), "{taken:?}");
    let more = Backend::named("S");
    town.pod("echo-stable", of(&more));
    eventually("the slices too", || proxy.endpoints() == [2, 1]);
}

#[test]
fn forgotten_history_and_cut_watches_harm_nobody() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let (town, proxy) = pair(&s, &c, &[("canary-weight", "10")]);
    let ((), count) = under_load(&proxy, || {
        for weight in [20, 30, 40] {
            town.server.faults().compact();
            town.server.faults().drop_watches();
            town.annotate("canary-weight", &weight.to_string());
            let start = Instant::now();
            eventually("the weight", || proxy.share() == f64::from(weight) / 100.0);
            assert!(start.elapsed() < Duration::from_secs(1));
            assert_eq!(proxy.endpoints(), [1, 1]);
        }
    });
    assert!(count > 50);
}

#[test]
fn a_start_without_an_api_server_serves_the_cached_table() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let (town, proxy) = pair(&s, &c, &[("canary-weight", "100")]);
    let hash = proxy.page().unwrap().hash;
    eventually("written", || town.folder.join("table.json").exists());
    drop(proxy);
    town.server.stop_listening();
    let proxy = town.start();
    assert!(!proxy.is_ready(), "it waits for the API server first");
    eventually("ready", || proxy.is_ready());
    assert_eq!(proxy.page().unwrap().hash, hash);
    assert!(proxy.answers(4).iter().all(|a| a == "C"));
    town.server.listen_again().unwrap();
    town.annotate("canary-weight", "0");
    eventually("what the API server says", || proxy.share() == 0.0);
    assert!(proxy.answers(4).iter().all(|a| a == "S"));
}

#[test]
fn without_a_cache_or_with_a_damaged_one_it_waits() {
    let s = Backend::named("S");
    let town = Town::new();
    town.front(&[]);
    town.pod("echo-stable", of(&s));
    town.server.stop_listening();
    std::fs::write(town.folder.join("table.json"), "nonsense").unwrap();
    let proxy = town.start();
    thread::sleep(Duration::from_millis(2500));
    assert!(!proxy.is_ready());
    assert_eq!(proxy.client().get("/", &[]).status(), 404);
    town.server.listen_again().unwrap();
    eventually("ready", || proxy.is_ready());
    assert_eq!(proxy.answers(1), ["S"]);
}
