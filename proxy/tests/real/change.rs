//! Changes while requests run: of the weight, of the rules, of the file, and the end.

use crate::world::*;
use proxy::contract::Split;
use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Clients that ask without pause over kept connections until `done`; how many requests they made. Any failure and
/// any closed connection is a panic.
fn under_load<T>(world: &World, clients: usize, work: impl FnOnce() -> T) -> (T, u64) {
    let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = world.client();
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/", &[]).status(), 200);
                    count.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let result = work();
        done.store(true, Ordering::SeqCst);
        result
    });
    (result, count.into_inner())
}

fn tracks() -> (Backend, Backend) {
    (Backend::named("S"), Backend::named("C"))
}

fn weight_in_force(world: &World) -> Split {
    let state = world.running.control().state("echo").unwrap();
    Split::parse(&state.annotations["serin.dev/canary-weight"], None, "").unwrap()
}

#[test]
fn a_hundred_changes_by_admin_call_fail_no_request() {
    let (s, c) = tracks();
    let world = pair(&s, &c, &[("canary-weight", "5")]);
    let ((), count) = under_load(&world, 4, || {
        for i in 0..100 {
            assert_eq!(
                world
                    .annotate("echo", "canary-weight", &(i % 51).to_string())
                    .status(),
                200
            );
            thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(count > 200, "{count}");
    assert_eq!(world.tally("echo", 0)[2] + world.tally("echo", 1)[2], 0);
}

#[test]
fn a_hundred_changes_by_file_are_in_force_within_50_ms() {
    let (s, c) = tracks();
    let world = pair(&s, &c, &[("canary-weight", "7")]);
    let text = fs::read_to_string(&world.file).unwrap();
    let (slowest, _) = under_load(&world, 4, || {
        let mut slowest = Duration::ZERO;
        for i in 0..100u32 {
            let weight = 10 + i % 40;
            let next = text.replace("'7'", &format!("'{weight}'"));
            // By turns in place and as editors do it.
            if i % 2 == 0 {
                fs::write(&world.file, next).unwrap();
            } else {
                let beside = world.file.with_extension("new");
                fs::write(&beside, next).unwrap();
                fs::rename(&beside, &world.file).unwrap();
            }
            let start = Instant::now();
            eventually("in force", || {
                weight_in_force(&world).weight() == weight.to_string()
            });
            slowest = slowest.max(start.elapsed());
        }
        slowest
    });
    println!("slowest change by file: {slowest:?}");
    assert!(slowest < Duration::from_millis(50), "{slowest:?}");
}

#[test]
fn case_6_a_bad_file_leaves_the_last_good_one_in_force() {
    let (s, c) = tracks();
    let world = pair(&s, &c, &[("canary-weight", "0.5")]);
    let text = fs::read_to_string(&world.file).unwrap();
    for (i, bad) in ["abc", "-1"].iter().enumerate() {
        fs::write(&world.file, text.replace("0.5", bad)).unwrap();
        eventually("refused", || {
            world.metric(&["serin_config_rejected_total", "serin.dev/canary-weight"]) > i as f64
        });
        assert_eq!(weight_in_force(&world).weight(), "0.5");
    }
    fs::write(
        &world.file,
        text.replace("'0.5'", "'9'").replace("[proxy]", "[proxy"),
    )
    .unwrap();
    thread::sleep(Duration::from_millis(30));
    fs::write(&world.file, text.replace("'0.5'", "'9'")).unwrap();
    eventually("the mended file", || weight_in_force(&world).weight() == "9");
}

#[test]
fn case_7_a_changed_header_name_works_at_once() {
    let (s, c) = tracks();
    let world = pair(&s, &c, &[("canary-by-header", "x-old")]);
    let mut client = world.client();
    assert_eq!(client.get("/", &["x-old: always"]).text(), "C");
    let (status, _) = under_load(&world, 2, || {
        world.annotate("echo", "canary-by-header", "x-new").status()
    });
    assert_eq!(status, 200);
    assert_eq!(client.get("/", &["x-old: always"]).text(), "S");
    assert_eq!(client.get("/", &["x-new: always"]).text(), "C");
}

#[test]
fn the_last_writer_of_a_key_wins_also_after_a_restart() {
    let (s, c) = tracks();
    let world = pair(&s, &c, &[("canary-weight", "5")]);
    let text = fs::read_to_string(&world.file).unwrap();
    world.annotate("echo", "canary-weight", "7");
    fs::write(&world.file, text.replace("'5'", "'5' # touched")).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(weight_in_force(&world).weight(), "7");
    let mut options = proxy::Options::new(&world.file, TOKEN);
    options.cache = Some(world.file.with_file_name("cache"));
    let again = proxy::start(options).unwrap();
    let state = again.control().state("echo").unwrap();
    assert_eq!(state.annotations["serin.dev/canary-weight"], "7");
    drop(again);
    fs::write(&world.file, text.replace("'5'", "'6'")).unwrap();
    eventually("the file's word", || weight_in_force(&world).weight() == "6");
    let state = world.running.control().state("echo").unwrap();
    assert_eq!(state.annotations["serin.dev/changed-by"], "file");
}

#[test]
fn names_are_looked_up_also_when_they_come_later() {
    let (s, c) = tracks();
    let world = pair(&s, &c, &[("canary-by-header", "h")]);
    let text = fs::read_to_string(&world.file).unwrap();
    let named = text.replace(&s.address.to_string(), &format!("localhost:{}", s.address.port()));
    fs::write(
        &world.file,
        named.replace(&c.address.to_string(), "no-such-host.invalid:80"),
    )
    .unwrap();
    let endpoints = || world.running.evidence(0).services["echo"].endpoints;
    eventually("one name found, one not", || endpoints() == [1, 0]);
    assert_eq!(world.client().get("/", &["h: always"]).text(), "S");
}

#[test]
fn draining_loses_nothing() {
    let slow = Backend::new(|_| {
        thread::sleep(Duration::from_millis(30));
        ok("S")
    });
    let world = Plan::new().service("echo", &[slow.address], &[], &[]).start();
    let served = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = world.client();
                loop {
                    let answer = client.get("/", &[]);
                    assert_eq!(answer.status(), 200);
                    served.fetch_add(1, Ordering::SeqCst);
                    if answer.header("connection") == Some("close") {
                        return;
                    }
                }
            });
        }
        let mut idle = world.client();
        assert_eq!(idle.get("/", &[]).status(), 200);
        thread::sleep(Duration::from_millis(100));
        assert_eq!(world.signals("/readyz").status(), 200);
        world.running.drain();
        assert_eq!(world.signals("/readyz").status(), 503);
        assert_eq!(
            world.client().get("/", &[]).header("connection"),
            Some("close"),
            "open during the grace"
        );
        assert!(idle.is_closed());
    });
    world.running.wait();
    assert!(served.into_inner() > 8);
    assert!(std::net::TcpStream::connect(world.running.addresses().listen).is_err());
}

#[test]
fn a_request_under_way_finishes_and_a_stuck_one_is_given_up() {
    let slow = Backend::new(|m| {
        thread::sleep(Duration::from_millis(if m.start.contains("stuck") {
            20_000
        } else {
            400
        }));
        ok("S")
    });
    let world = Plan::new()
        .set("drainDeadline = \"1s\"")
        .service("echo", &[slow.address], &[], &[])
        .start();
    let (mut good, mut stuck) = (world.client(), world.client());
    good.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    stuck.send("GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("both there", || world.tally("echo", 0)[0] == 2);
    let start = Instant::now();
    world.running.drain();
    assert_eq!(good.message(false).unwrap().text(), "S");
    world.running.wait();
    assert!(
        (Duration::from_millis(1000)..Duration::from_millis(2000)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert!(stuck.is_closed());
}
