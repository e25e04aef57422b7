//! Whatever fails beside the proxies fails alone: controllers that die or freeze, an API server that is away or refuses,
//! watches that end, proxies that do not hear. The end is the same, nothing is done twice, and no client notices.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/fronts.rs"]
mod fronts;
#[path = "support/rollout.rs"]
mod rollout;

use cluster::{
    api::{Match, Rule, Trouble},
    harness::{Options, Story, StoryOptions, World, own_network},
    load::{Load, Traffic},
};
use fronts::{fronts, in_force, weights};
use k8s_openapi::api::{apps::v1::ReplicaSet, coordination::v1::Lease};
use kube::ResourceExt;
use rollout::{LIMIT, SERIN, WIDE, condition, decisions, phase, status, weight};
use serde_json::{Value, json};
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const RATE: f64 = 200.0;
const CONTROLLER: &str = "app=serin-controller";
/// Kinds that a controller watches.
const KINDS: usize = 5;
const END: Duration = Duration::from_secs(120);
/// Changes of a Deployment that is new: it was made, and its controller has written the revision, as after each change of
/// the template.
const CHANGES: i64 = 2;
/// Two plain steps, so that each phase has its time.
const STEPS: &str =
    "  pacing: {steps: [{weight: 20, hold: 2s}, {weight: 50, hold: 2s}], soak: 4s, interval: 1s}\n";

fn spec(watch: &str) -> String {
    format!("{STEPS}{WIDE}  promotion: {{watch: {watch}}}")
}

fn told(test: &str, controllers: usize, body: impl FnOnce(&World, &Story<'_>, Load)) {
    own_network(test, || {
        let world = World::start(Options::new(SERIN));
        let story = world.story(&StoryOptions {
            spec: spec("3s"),
            controllers,
            ..StoryOptions::default()
        });
        let load = world.load("echo", Traffic::at(RATE));
        phase(&world, "Idle", LIMIT);
        body(&world, &story, load);
    });
}

/// How long the API server is away.
fn outage() -> Duration {
    let long = std::env::var("SERIN_TESTS").is_ok_and(|v| v == "all");
    Duration::from_secs(if long { 60 } else { 10 })
}

fn order(world: &World, command: &str) {
    let order = json!({"metadata": {"annotations": {"serin.dev/order": command}}});
    world.merge("serin.dev/v1alpha1/Rollout", "echo", &order);
}

fn stable_version(world: &World) -> Value {
    let mut server = world.json("apps/v1/Deployment", "server").unwrap();
    server["spec"]["template"]["metadata"]["labels"]["version"].take()
}

/// Changes of a Deployment's spec and annotations.
fn changes(world: &World, deployment: &str) -> i64 {
    let object = world.json("apps/v1/Deployment", deployment).unwrap();
    object["metadata"]["generation"].as_i64().unwrap()
}

/// Waits for Promoting with the old template in stable, or with the new one.
fn promoting(world: &World, version: &str) {
    world.wait(&format!("Promoting with {version} in stable"), END, || {
        let is = status(world)["phase"] == "Promoting" && stable_version(world) == version;
        is.then_some(())
    });
}

/// Each decision is there once and follows from the one before.
fn in_order(status: &Value) -> Vec<Value> {
    let decisions = decisions(status);
    let first = decisions[0]["number"].as_u64().unwrap();
    for (i, decision) in decisions.iter().enumerate() {
        assert_eq!(decision["number"], first + i as u64, "{decisions:#?}");
        assert!(
            i == 0 || decision["from"] == decisions[i - 1]["to"],
            "{decisions:#?}"
        );
    }
    decisions
}

/// The new version is stable by one change of its template and one rolling update, and what was needed beside it is gone.
fn promoted_once(world: &World) {
    let status = phase(world, "Succeeded", END);
    assert_eq!(condition(&status, "Promoted"), "True", "{status:#}");
    in_order(&status);
    assert_eq!(stable_version(world), "v2.0.0");
    world.rolled_out("server", LIMIT);
    assert_eq!(revisions(world, "server"), 2, "stable's pods were replaced once");
    assert_eq!(changes(world, "server"), CHANGES + 2, "stable was changed once");
    let previous = world.json("apps/v1/Deployment", "server-previous").unwrap();
    assert_eq!(
        (revisions(world, "server-previous"), &previous["spec"]["replicas"]),
        (1, &0.into())
    );
    world.ready("app=echo,track=stable", 3, LIMIT);
    assert_eq!(weight(world), 0.0);
}

fn revisions(world: &World, deployment: &str) -> usize {
    let sets = world.list::<ReplicaSet>("");
    let own = |set: &&ReplicaSet| set.owner_references().iter().any(|o| o.name == deployment);
    sets.iter().filter(own).count()
}

/// Stable was never touched.
fn returned_once(world: &World) {
    let status = phase(world, "RolledBack", END);
    assert_eq!(condition(&status, "RolledBack"), "True", "{status:#}");
    in_order(&status);
    assert_eq!(
        (stable_version(world), changes(world, "server")),
        ("v1.0.0".into(), CHANGES)
    );
    assert_eq!(revisions(world, "server"), 1);
    assert_eq!(weight(world), 0.0);
}

/// Kills the controller. While it is away, the proxies keep what the Service says.
fn kill(world: &World) {
    let fronts = fronts(world);
    assert_eq!(world.kill_controller().len(), 1);
    thread::sleep(Duration::from_millis(60));
    let wanted = weight(world);
    for _ in 0..2 {
        let taken = weights(&fronts);
        assert!(
            taken.values().all(|w| *w == wanted),
            "{wanted} is wanted: {taken:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_controller_killed_in_each_phase_promotes_once() {
    let test = "a_controller_killed_in_each_phase_promotes_once";
    told(test, 1, |world, story, load| {
        kill(world);
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Starting", LIMIT);
        kill(world);
        phase(world, "Shifting", END);
        kill(world);
        order(world, "pause");
        phase(world, "Paused", LIMIT);
        kill(world);
        order(world, "resume");
        phase(world, "Shifting", LIMIT);
        promoting(world, "v1.0.0");
        kill(world);
        promoting(world, "v2.0.0");
        kill(world);
        phase(world, "Watching", END);
        kill(world);
        promoted_once(world);
        let ended = status(world);
        kill(world);
        nothing_more(world, &ended);
        assert_eq!(changes(world, "server"), CHANGES + 2);
        load.stop().no_loss();
    });
}

/// A controller that comes after the end leaves everything as it is.
fn nothing_more(world: &World, ended: &Value) {
    world.ready(CONTROLLER, 1, LIMIT);
    thread::sleep(Duration::from_secs(3));
    let now = status(world);
    assert_eq!(
        (&now["phase"], &now["decisions"]),
        (&ended["phase"], &ended["decisions"])
    );
}

#[test]
fn a_controller_killed_on_the_way_back_goes_back_once() {
    let test = "a_controller_killed_on_the_way_back_goes_back_once";
    told(test, 1, |world, story, load| {
        // What is under way keeps the way back from ending before it is seen.
        story.canary("v2.0.0", 2, &["--errors=1", "--latency=1s"]);
        phase(world, "RollingBack", END);
        kill(world);
        returned_once(world);
        let ended = status(world);
        kill(world);
        nothing_more(world, &ended);
        returned_once(world);
        load.stop().no_loss();
    });
}

/// Takes the API server away; the proxies keep their weights all the time.
fn away(world: &World) {
    let fronts = fronts(world);
    world.standin().stop_listening();
    let begun = Instant::now();
    thread::sleep(Duration::from_millis(300));
    let kept = weights(&fronts);
    while begun.elapsed() < outage() {
        assert_eq!(weights(&fronts), kept);
        thread::sleep(Duration::from_millis(500));
    }
    world.standin().listen_again().unwrap();
}

#[test]
fn the_api_server_may_be_away_while_a_canary_is_on_trial() {
    let test = "the_api_server_may_be_away_while_a_canary_is_on_trial";
    told(test, 1, |world, story, load| {
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Starting", LIMIT);
        away(world);
        phase(world, "Shifting", END);
        away(world);
        order(world, "pause");
        phase(world, "Paused", LIMIT);
        away(world);
        assert_eq!(phase(world, "Paused", LIMIT)["phase"], "Paused");
        order(world, "resume");
        promoted_once(world);
        load.stop().no_loss();
    });
}

#[test]
fn the_api_server_may_be_away_while_stable_is_replaced() {
    let test = "the_api_server_may_be_away_while_stable_is_replaced";
    told(test, 1, |world, story, load| {
        story.canary("v2.0.0", 3, &[]);
        promoting(world, "v2.0.0");
        away(world);
        phase(world, "Watching", END);
        away(world);
        promoted_once(world);
        load.stop().no_loss();
    });
}

#[test]
fn the_api_server_may_be_away_on_the_way_back() {
    let test = "the_api_server_may_be_away_on_the_way_back";
    told(test, 1, |world, story, load| {
        story.canary("v2.0.0", 2, &["--errors=1", "--latency=1s"]);
        phase(world, "RollingBack", END);
        away(world);
        returned_once(world);
        load.stop().no_loss();
    });
}

/// Watches that end and can never go on, and then writes that are refused.
fn trouble(world: &World) {
    let user = format!("system:serviceaccount:{}:serin-", world.namespace());
    let faults = world.standin().faults();
    let rule = |verb: &str, resource: &str, trouble: Trouble, count: Option<u32>| {
        let (verb, resource) = (verb.to_owned(), resource.to_owned());
        let calls = Match {
            user: user.clone(),
            verb,
            resource,
        };
        faults.add(Rule {
            calls,
            trouble,
            count,
        });
    };
    let before = lists(world);
    rule("watch", "", Trouble::Gone, None);
    faults.drop_watches();
    // Until they list again: without that no watch would ever go on.
    world.wait("new lists", LIMIT, || {
        (lists(world) >= before + KINDS).then_some(())
    });
    faults.clear();
    for resource in ["leases", "services", "deployments", "rollouts", "rollouts/status"] {
        rule("update,patch", resource, Trouble::Conflict, Some(3));
    }
    let busy = Trouble::Answer {
        code: 429,
        retry_after: Some(1),
    };
    rule("update,patch", "rollouts/status", busy, Some(1));
}

/// Lists that the controller has asked for.
fn lists(world: &World) -> usize {
    let calls = world.standin().calls();
    let own = calls.iter().filter(|c| c.user.ends_with(":serin-controller"));
    own.filter(|c| c.verb == "list" && c.code == 200).count()
}

#[test]
fn conflicts_and_lost_watches_in_each_phase_change_nothing() {
    let test = "conflicts_and_lost_watches_in_each_phase_change_nothing";
    told(test, 1, |world, story, load| {
        let transitions = transitions(world);
        // The first refusals are for what is written in Starting, which may be over before its status is taken.
        trouble(world);
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Shifting", END);
        trouble(world);
        promoting(world, "v1.0.0");
        trouble(world);
        promoting(world, "v2.0.0");
        trouble(world);
        phase(world, "Watching", END);
        trouble(world);
        promoted_once(world);
        assert_eq!(
            self::transitions(world),
            transitions,
            "the leader stayed the leader"
        );
        load.stop().no_loss();
    });
}

fn lease(world: &World) -> (String, i32) {
    let lease = world.get::<Lease>("serin-controller").and_then(|l| l.spec);
    let lease = lease.unwrap_or_default();
    (
        lease.holder_identity.unwrap_or_default(),
        lease.lease_transitions.unwrap_or_default(),
    )
}

fn transitions(world: &World) -> i32 {
    lease(world).1
}

/// How long it takes until somebody else leads.
fn succeeded(world: &World, leader: &str, since: Instant) -> Duration {
    world.wait("another leader", LIMIT, || {
        let (holder, _) = lease(world);
        (!holder.is_empty() && holder != leader).then(|| since.elapsed())
    })
}

/// What the controllers have written so far, without the Lease, by kind; conflicts and the like apart.
fn writes(world: &World, resource: &str) -> usize {
    let calls = world.standin().calls();
    let own = calls.iter().filter(|c| c.user.ends_with(":serin-controller"));
    own.filter(|c| matches!(c.verb, "patch" | "update") && c.resource == resource && c.code == 200)
        .count()
}

#[test]
fn a_second_controller_takes_over_within_five_seconds_and_repeats_nothing() {
    let test = "a_second_controller_takes_over_within_five_seconds_and_repeats_nothing";
    told(test, 2, |world, story, load| {
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Shifting", END);
        let (first, _) = lease(world);
        let since = Instant::now();
        world.signal(&first, "STOP");
        let took = succeeded(world, &first, since);
        println!("a frozen leader is followed after {took:.1?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        // It wakes up in the belief that it leads.
        world.signal(&first, "CONT");
        promoting(world, "v2.0.0");
        let (second, _) = lease(world);
        assert_ne!(second, first);
        let since = Instant::now();
        world.delete("v1/Pod", &second);
        let took = succeeded(world, &second, since);
        println!("a leader that is told to end is followed after {took:.1?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        promoted_once(world);
        // Weights: 20, 50, the watch, the end. Stable: one copy.
        let (services, deployments) = (writes(world, "services"), writes(world, "deployments"));
        println!("{services} writes of Services, {deployments} of Deployments");
        assert_eq!(services, 4);
        // The copy, and the canary and the old version scaled away.
        assert_eq!(deployments, 3);
        load.stop().no_loss();
    });
}

/// A proxy with an account of its own, whose signals are told through a relay of the test.
const FAR: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: far}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: far}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: serin-proxy}
subjects: [{kind: ServiceAccount, name: far}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo-far}
spec:
  replicas: 1
  selector: {matchLabels: {serin.dev/proxy: echo, place: far}}
  template:
    metadata: {labels: {serin.dev/proxy: echo, place: far}}
    spec:
      serviceAccountName: far
      containers:
      - name: proxy
        image: serin
        args:
        - proxy
        - --service=echo
        - --listen=$(POD_IP):8080
        - --signals=$(POD_IP):9901
        - --admin=127.0.0.1:0
        - --workers=1
        - --allow-debug
        env:
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        ports: [{name: http, containerPort: 8080}, {name: signals, containerPort: 9902}]
        readinessProbe: {httpGet: {path: /readyz, port: 9901}, periodSeconds: 1}
";

/// Passes connections on, until it is cut.
struct Relay {
    cut: Arc<AtomicBool>,
}

impl Relay {
    fn start(from: SocketAddr, to: SocketAddr) -> Relay {
        let cut = Arc::new(AtomicBool::new(false));
        let (listener, is_cut) = (TcpListener::bind(from).unwrap(), cut.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if !is_cut.load(Ordering::Relaxed) {
                    pass(stream, to, &is_cut);
                }
            }
        });
        Relay { cut }
    }

    fn cut(&self, is_cut: bool) {
        self.cut.store(is_cut, Ordering::Relaxed);
    }
}

fn pass(near: TcpStream, to: SocketAddr, cut: &Arc<AtomicBool>) {
    let Ok(far) = TcpStream::connect(to) else { return };
    for (from, onto) in [(&near, &far), (&far, &near)] {
        let (from, onto) = (from.try_clone().unwrap(), onto.try_clone().unwrap());
        let cut = cut.clone();
        thread::spawn(move || copy(from, onto, &cut));
    }
}

fn copy(mut from: TcpStream, mut onto: TcpStream, cut: &AtomicBool) {
    let mut octets = [0; 16384];
    while let Ok(n @ 1..) = io::Read::read(&mut from, &mut octets) {
        if cut.load(Ordering::Relaxed) || io::Write::write_all(&mut onto, &octets[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = onto.shutdown(std::net::Shutdown::Both);
}

/// The story with a third proxy, far away; its signals and the relay before them.
fn with_far(test: &str, body: impl FnOnce(&World, &Story<'_>, Load, SocketAddr, Relay)) {
    told(test, 1, |world, story, load| {
        world.apply(FAR);
        let far = world.ready("place=far", 1, LIMIT).remove(0);
        let signals = fronts(world)[&far.name_any()];
        let relay = Relay::start(SocketAddr::new(signals.ip(), 9902), signals);
        body(world, story, load, signals, relay);
    });
}

/// Weight 0 is in force at the proxies that are near.
fn near_are_home(world: &World, far: SocketAddr, since: Instant) -> Duration {
    let mut near = fronts(world);
    near.retain(|_, signals| *signals != far);
    assert_eq!(near.len(), 2);
    world.wait("weight 0 at the other proxies", LIMIT, || {
        weights(&near)
            .values()
            .all(|w| *w == 0.0)
            .then(|| since.elapsed())
    })
}

#[test]
fn a_proxy_that_is_not_heard_stops_the_rise_and_not_the_way_back() {
    let test = "a_proxy_that_is_not_heard_stops_the_rise_and_not_the_way_back";
    with_far(test, |world, story, load, far, relay| {
        story.canary("v2.0.0", 3, &[]);
        phase(world, "Shifting", END);
        relay.cut(true);
        let held = phase(world, "Holding", LIMIT);
        let reason = held["reason"].to_string();
        assert!(
            reason.contains("echo-far") && reason.contains("nothing heard"),
            "{reason}"
        );
        let before = weight(world);
        thread::sleep(Duration::from_secs(5));
        assert_eq!(weight(world), before);
        relay.cut(false);
        world.wait("a rise once it is heard", LIMIT, || {
            (weight(world) > before).then_some(())
        });
        relay.cut(true);
        let since = Instant::now();
        order(world, "abort");
        let took = near_are_home(world, far, since);
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(in_force(far), 0.0, "who is not heard hears all the same");
        returned_once(world);
        load.stop().no_loss();
    });
}

#[test]
fn a_proxy_that_does_not_hear_stops_the_rise_and_not_the_way_back() {
    let test = "a_proxy_that_does_not_hear_stops_the_rise_and_not_the_way_back";
    with_far(test, |world, story, load, far, _relay| {
        let faults = world.standin().faults();
        story.canary("v2.0.0", 3, &[]);
        world.wait("the first step", END, || (weight(world) == 20.0).then_some(()));
        deafen(world);
        world.wait("the second step", END, || (weight(world) == 50.0).then_some(()));
        thread::sleep(Duration::from_secs(6));
        let now = status(world);
        assert_eq!((weight(world), in_force(far)), (50.0, 20.0));
        assert_eq!(now["phase"], "Shifting", "{now:#}");
        assert_eq!(stable_version(world), "v1.0.0", "nothing is promoted past it");
        let since = Instant::now();
        order(world, "abort");
        let took = near_are_home(world, far, since);
        assert!(took < Duration::from_secs(2), "{took:?}");
        thread::sleep(Duration::from_secs(2));
        let now = status(world);
        assert_eq!((in_force(far), &now["phase"]), (20.0, &"RollingBack".into()));
        assert_eq!(world.pods("track=canary").len(), 3, "pods that get requests stay");
        faults.clear();
        returned_once(world);
        load.stop().no_loss();
    });
}

/// Ends the far proxy's watches for good.
fn deafen(world: &World) {
    let faults = world.standin().faults();
    faults.add(Rule {
        calls: Match {
            user: format!("system:serviceaccount:{}:far", world.namespace()),
            ..Match::default()
        },
        trouble: Trouble::Cut,
        count: None,
    });
    faults.drop_watches();
}
