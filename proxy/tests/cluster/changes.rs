//! What people and controllers change in a cluster, under load.

use crate::{town::*, world::*};
use proxy::contract::names::Track;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Clients that ask without pause over kept connections until the work is done; any failure is a panic.
pub fn under_load<T>(proxy: &Proxy, work: impl FnOnce() -> T) -> (T, u64) {
    let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = proxy.client();
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/", &[]).status(), 200);
                    count.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let _end = End(&done);
        let result = work();
        (result, count.load(Ordering::SeqCst))
    })
}

/// Ends the clients, also when the work panics: their scope would wait for ever.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A town with a pod a track, and its ready proxy.
pub fn pair(s: &Backend, c: &Backend, lines: &[(&str, &str)]) -> (Town, Proxy) {
    let town = Town::new();
    town.front(lines);
    town.pod("echo-stable", of(s));
    town.pod("echo-canary", of(c));
    let proxy = town.start();
    eventually("ready", || proxy.is_ready());
    (town, proxy)
}

#[test]
fn a_weight_is_in_force_on_every_thread_within_250_ms_of_the_write() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let (town, proxy) = pair(&s, &c, &[("canary-weight", "0")]);
    assert!(proxy.answers(8).iter().all(|a| a == "S"));
    let (slowest, count) = under_load(&proxy, || {
        let mut slowest = Duration::ZERO;
        for weight in (1..=20).map(|i| i * 5) {
            let start = Instant::now();
            town.annotate("canary-weight", &weight.to_string());
            eventually("in force", || proxy.share() == f64::from(weight) / 100.0);
            slowest = slowest.max(start.elapsed());
        }
        slowest
    });
    println!("slowest weight, from before the write: {slowest:?}; {count} requests beside");
    assert!(slowest < Duration::from_millis(250), "{slowest:?}");
    assert!(proxy.answers(16).iter().all(|a| a == "C"), "on every thread");
    let expected = [
        "list endpointslices 200",
        "list secrets 200",
        "list services 200",
        "watch endpointslices 200",
        "watch secrets 200",
        "watch services 200",
    ];
    assert_eq!(town.asked(), expected, "and nothing else was asked, or refused");
}

#[test]
fn a_bad_weight_keeps_the_last_one_and_is_told() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let (town, proxy) = pair(&s, &c, &[("canary-weight", "50")]);
    let hash = proxy.page().unwrap().hash;
    town.annotate("canary-weight", "abc");
    eventually("rejected", || !proxy.page().unwrap().rejected.is_empty());
    let page = proxy.page().unwrap();
    assert_eq!((page.share, &page.hash), (0.5, &hash));
    let fault = &page.rejected[0];
    assert_eq!(
        (fault.key.as_str(), fault.value.as_str()),
        ("serin.dev/canary-weight", "abc")
    );
    let line = "serin_config_rejected_total{service=\"echo\",key=\"serin.dev/canary-weight\"} 1";
    assert!(proxy.running.metrics().contains(line));
    // Endpoints still follow.
    let more = Backend::named("S");
    town.pod("echo-stable", of(&more));
    eventually("the new endpoint", || proxy.endpoints() == [2, 1]);
    assert_eq!(proxy.page().unwrap().hash, hash, "endpoints are no split");
    town.annotate("canary-weight", "20");
    eventually("mended", || {
        proxy.share() == 0.2 && proxy.page().unwrap().rejected.is_empty()
    });
}

#[test]
fn weight_0_beside_a_bad_annotation_takes_force() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let (town, proxy) = pair(
        &s,
        &c,
        &[("canary-weight", "100"), ("canary-by-header", "x-canary")],
    );
    assert_eq!(proxy.answers(4), ["C"; 4]);
    town.annotate("canary-shield", "maybe");
    eventually("rejected", || !proxy.page().unwrap().rejected.is_empty());
    assert_eq!(proxy.share(), 1.0, "a fault alone changes nothing");
    town.annotate("canary-weight", "0");
    eventually("at weight 0", || proxy.share() == 0.0);
    assert_eq!(proxy.answers(8), ["S"; 8]);
    let opted = proxy.client().get("/", &["x-canary: always"]);
    assert_eq!(opted.text(), "C", "what was good stays");
    let rejected = proxy.page().unwrap().rejected;
    assert_eq!(
        rejected[0].key, "serin.dev/canary-shield",
        "and the fault is told"
    );
    // Up again only once it is mended.
    town.annotate("canary-weight", "50");
    let more = Backend::named("S");
    town.pod("echo-stable", of(&more));
    eventually("the endpoint that came after", || proxy.endpoints() == [2, 1]);
    assert_eq!(proxy.share(), 0.0);
    town.annotate("canary-shield", "on");
    eventually("mended", || {
        proxy.share() == 0.5 && proxy.page().unwrap().rejected.is_empty()
    });
}

#[test]
fn bad_annotations_at_the_start_mean_stable_only() {
    let town = Town::new();
    let s = Backend::named("S");
    town.front(&[("canary-weight", "-5")]);
    town.pod("echo-stable", of(&s));
    let proxy = town.start();
    eventually("ready", || proxy.is_ready());
    assert!(proxy.answers(4).iter().all(|a| a == "S"));
    let page = proxy.page().unwrap();
    assert_eq!(
        (page.share, page.rejected[0].key.as_str()),
        (0.0, "serin.dev/canary-weight")
    );
}

#[test]
fn a_front_without_a_stable_service_or_to_itself_is_not_served_and_says_so() {
    let town = Town::new();
    town.front(&[("stable-service", "echo")]);
    let proxy = town.start();
    eventually("told", || proxy.page().is_some());
    let fault = proxy.page().unwrap().rejected[0].clone();
    assert_eq!(
        (fault.key.as_str(), fault.reason.as_str()),
        ("serin.dev/stable-service", "is the front itself")
    );
    assert!(!proxy.is_ready());
    let s = Backend::named("S");
    town.pod("echo-stable", of(&s));
    town.annotate("stable-service", "echo-stable");
    eventually("ready", || proxy.is_ready());
    assert_eq!(proxy.answers(1), ["S"]);
}

#[test]
fn another_service_takes_force_with_its_endpoints_and_another_hash() {
    let (s, c, other) = (Backend::named("S"), Backend::named("C"), Backend::named("O"));
    let (town, proxy) = pair(&s, &c, &[("canary-weight", "100")]);
    town.pod("echo-other", of(&other));
    let hash = proxy.page().unwrap().hash;
    let ((), count) = under_load(&proxy, || {
        town.annotate("canary-service", "echo-other");
        eventually("the other", || proxy.page().unwrap().hash != hash);
        assert_eq!(proxy.endpoints(), [1, 1]);
        thread::sleep(Duration::from_millis(50));
    });
    assert!(count > 10 && proxy.answers(4).iter().all(|a| a == "O"));
    assert_eq!(s.hits(), 0, "nobody fell back to stable meanwhile");
}

#[test]
fn a_pod_that_leaves_is_drained_and_not_cut() {
    let quick = Backend::named("S");
    let slow = Backend::new(|m| {
        if m.start.contains("/slow") {
            thread::sleep(Duration::from_millis(600));
        }
        ok("slow")
    });
    let c = Backend::named("C");
    let (town, proxy) = pair(&slow, &c, &[]);
    let waiting = {
        let mut client = proxy.client();
        client.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
        client
    };
    eventually("under way", || proxy.page().unwrap().inflight[0] == 1);
    let ((), count) = under_load(&proxy, || {
        town.pod("echo-stable", of(&quick));
        eventually("both", || proxy.endpoints() == [2, 1]);
        town.leave("echo-stable", of(&slow));
        eventually("one", || proxy.endpoints() == [1, 1]);
        let before = slow.hits();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(slow.hits(), before, "nothing new goes there");
        town.remove("echo-stable", of(&slow));
        thread::sleep(Duration::from_millis(100));
    });
    assert!(count > 50, "{count}");
    let mut waiting = waiting;
    let answer = waiting.message(false).unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "slow"));
    // The last one that leaves serves on, until it is gone.
    town.leave("echo-stable", of(&quick));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(
        (proxy.answers(1), proxy.endpoints()),
        (vec!["S".to_owned()], [1, 1])
    );
    town.remove("echo-stable", of(&quick));
    eventually("none", || proxy.endpoints() == [0, 1]);
    assert_eq!(
        proxy.client().get("/", &[]).status(),
        503,
        "the canary has no weight"
    );
}

#[test]
fn beside_the_app_stable_is_loopback_and_the_page_says_so() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let town = Town::new();
    town.front(&[("canary-weight", "50")]);
    town.pod("echo-canary", of(&c));
    let mut options = town.options();
    if let Some(cluster) = &mut options.cluster {
        cluster.local = Some(s.address);
    }
    let proxy = Proxy::start(options);
    eventually("ready", || proxy.is_ready());
    let page = proxy.page().unwrap();
    assert!(page.local && page.endpoints == [1, 1]);
    assert_eq!(page.pods[Track::Stable.index()].endpoint, s.address.to_string());
    let answers = proxy.answers(40);
    for track in ["S", "C"] {
        assert!(answers.iter().any(|a| a == track), "{track} in {answers:?}");
    }
}

#[test]
fn beside_the_app_the_local_track_is_the_one_that_has_the_pod() {
    let app = Backend::named("own");
    let far = |last| SocketAddr::from(([198, 18, 255, last], 80));
    let town = Town::new();
    town.front(&[("canary-weight", "0")]);
    town.pod("echo-stable", of(&app));
    town.pod("echo-canary", far(1));
    town.pod("echo-previous", far(2));
    let mut options = town.options();
    if let Some(cluster) = &mut options.cluster {
        (cluster.local, cluster.pod) = (Some(app.address), Some(own_address()));
    }
    let proxy = Proxy::start(options);
    eventually("ready", || proxy.is_ready());
    let places = || {
        let page = proxy.page()?;
        Some(Track::BOTH.map(|t| page.pods.get(t.index()).map(|p| p.endpoint.clone())))
    };
    let are = |stable: SocketAddr, canary: SocketAddr| {
        places() == Some([Some(stable.to_string()), Some(canary.to_string())])
    };
    eventually("stable is local", || are(app.address, far(1)));
    assert!(proxy.answers(8).iter().all(|a| a == "own"));
    // As a promotion has it while both are compared.
    town.annotate("stable-service", "echo-previous");
    town.annotate("canary-service", "echo-stable");
    eventually("the canary is local", || are(far(2), app.address));
}
