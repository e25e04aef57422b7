//! What `/evidence` tells about parts of stable and about endpoints.

use crate::world::*;
use proxy::{
    choose::bucket,
    contract::{
        annotations::fnv1a,
        evidence::{Page, Pod, SLICES, ServicePage},
        names::Track,
    },
};

fn failing() -> Backend {
    Backend::new(|_| b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec())
}

/// What is read over the socket.
fn told(world: &World) -> ServicePage {
    let page: Page = serde_json::from_slice(&world.signals("/evidence").body).unwrap();
    page.services["echo"].clone()
}

/// The slices over all cohorts: started, finished, bad.
fn slices(page: &ServicePage) -> Vec<[u64; 3]> {
    let mut sums = vec![[0; 3]; SLICES];
    for (sum, slice) in page.cohorts.iter().flat_map(|c| c.slices.iter().enumerate()) {
        let counts = [slice.started, slice.finished, slice.bad.ever];
        sums[sum].iter_mut().zip(counts).for_each(|(s, n)| *s += n);
    }
    sums
}

fn pod(page: &ServicePage, backend: &Backend) -> Pod {
    let name = backend.address.to_string();
    page.pods.iter().find(|p| p.endpoint == name).cloned().unwrap()
}

fn get(world: &World, headers: &[&str], n: usize) {
    let mut client = world.client();
    (0..n).for_each(|_| drop(client.get("/", headers)));
}

fn world(stable: &[&Backend], canary: &[&Backend], lines: &[(&str, &str)]) -> World {
    let addresses = |all: &[&Backend]| all.iter().map(|b| b.address).collect::<Vec<_>>();
    Plan::new()
        .service("echo", &addresses(stable), &addresses(canary), lines)
        .start()
}

#[test]
fn of_two_stable_endpoints_the_failing_one_is_told_apart() {
    let (good, bad, canary) = (Backend::named("S"), failing(), Backend::named("C"));
    let lines = [("canary-weight", "20"), ("canary-by-header", "h")];
    let world = world(&[&good, &bad], &[&canary], &lines);
    get(&world, &[], 200);
    get(&world, &["h: never"], 20);
    get(&world, &["h: always"], 20);
    eventually("all have ended", || world.tally("echo", 0)[1] == 160);
    let page = told(&world);
    let (g, b, c) = (pod(&page, &good), pod(&page, &bad), pod(&page, &canary));
    assert_eq!((g.bad, b.bad, c.bad), (0, b.started, 0));
    assert_eq!(
        (g.started + b.started, c.started),
        (160, 40),
        "no opt-in is counted"
    );
    assert!(g.started > 40 && b.started > 40, "{page:?}");
    assert_eq!(
        (g.track, b.track, c.track),
        (Track::Stable, Track::Stable, Track::Canary)
    );
    let names: Vec<_> = page.pods.iter().map(|p| p.endpoint.clone()).collect();
    let mut sorted = [good.address, bad.address];
    sorted.sort_unstable();
    assert_eq!(
        names,
        [sorted[0], sorted[1], canary.address].map(|a| a.to_string())
    );
    let slices = slices(&page);
    let at = usize::from(sorted[0] == bad.address);
    assert_eq!(slices[at], [g.started, g.started, 0]);
    assert_eq!(slices[1 - at], [b.started, b.started, b.started]);
    assert_eq!(slices[2..], [[0; 3]; 6]);
}

#[test]
fn one_endpoint_cannot_be_divided_and_users_can() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let whole = world(&[&s], &[&c], &[("canary-weight", "10")]);
    get(&whole, &[], 50);
    assert!(told(&whole).cohorts.iter().all(|c| c.slices.is_empty()));
    let lines = [("canary-cohort", "header:x-user"), ("canary-weight", "0")];
    let users = world(&[&s], &[&c], &lines);
    let mut expected = vec![0; SLICES];
    for user in 0..40 {
        get(&users, &[&format!("X-User: u{user}")], 3);
        let bucket = bucket(fnv1a(b""), format!("u{user}").as_bytes());
        expected[bucket as usize % SLICES] += 3;
    }
    get(&users, &[], 5);
    eventually("all have ended", || users.tally("echo", 0)[1] == 125);
    let told: Vec<u64> = slices(&told(&users)).iter().map(|s| s[0]).collect();
    assert_eq!(told, expected, "and who has no user is in no slice");
}

#[test]
fn only_first_attempts_count() {
    let (s, t) = (Backend::named("S"), Backend::named("T"));
    let c = Backend::raw(|mut wire| drop(wire.message(false)));
    let lines = [("canary-weight", "100")];
    let shielded = world(&[&s, &t], &[&c], &lines);
    get(&shielded, &[], 10);
    eventually("all have ended", || shielded.tally("echo", 1)[1] == 10);
    assert_eq!(s.hits() + t.hits(), 10, "stable has answered");
    let page = told(&shielded);
    let all: Vec<_> = page.pods.iter().map(|p| (p.started, p.bad)).collect();
    assert_eq!(all, [(0, 0), (0, 0), (10, 10)]);
    assert_eq!(slices(&page), [[0; 3]; SLICES]);

    let dead = nobody();
    let retried = Plan::new().service("echo", &[s.address, dead], &[], &[]).start();
    get(&retried, &[], 40);
    eventually("all have ended", || retried.tally("echo", 0)[1] == 40);
    let page = told(&retried);
    let sum = |f: fn(&Pod) -> u64| page.pods.iter().map(f).sum::<u64>();
    let refused = page.pods.iter().find(|p| p.endpoint == dead.to_string()).unwrap();
    assert!(refused.started > 0 && refused.bad == refused.started, "{page:?}");
    assert_eq!((sum(|p| p.started), sum(|p| p.bad)), (40, refused.bad));
    assert_eq!(slices(&page).iter().map(|s| s[0]).sum::<u64>(), 40);
    assert_eq!(retried.tally("echo", 0)[2], refused.bad);
}

#[test]
fn counts_survive_a_change_of_the_split_and_leave_with_their_endpoint() {
    let (s, t, c) = (Backend::named("S"), Backend::named("T"), Backend::named("C"));
    let world = world(&[&s, &t], &[&c], &[("canary-weight", "0")]);
    get(&world, &[], 20);
    assert_eq!(world.annotate("echo", "canary-weight", "100").status(), 200);
    get(&world, &[], 20);
    eventually("all have ended", || world.tally("echo", 1)[1] == 20);
    let page = told(&world);
    assert_eq!(pod(&page, &s).started + pod(&page, &t).started, 20);
    assert_eq!(pod(&page, &c).started, 20);
    let smaller = Plan::new().service("echo", &[t.address], &[], &[]).text();
    std::fs::write(&world.file, smaller).unwrap();
    eventually("the new table is in force", || told(&world).pods.len() == 1);
    assert_eq!(pod(&told(&world), &t), pod(&page, &t));
}

#[test]
fn noise_is_measured_while_nobody_reads() {
    let (good, bad) = (Backend::named("S"), failing());
    let world = world(&[&good, &bad], &[], &[]);
    get(&world, &[], 100);
    std::thread::sleep(std::time::Duration::from_secs(10));
    let noise = || told(&world).history[0].noise;
    eventually("the seconds have settled", || noise().expected[0] > 0.0);
    let noise = noise();
    let quotient = noise.found[0] / noise.expected[0];
    assert!(quotient > 20.0, "half of stable failing is no chance: {quotient}");
}
