//! The ground of all cluster tests: Deployments, DaemonSets and Services whose pods are real processes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

use cluster::harness::{Options, StoryOptions, World, own_network};
use cluster::load::Traffic;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::Pod,
    discovery::v1::EndpointSlice,
};
use kube::ResourceExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
const LIMIT: Duration = Duration::from_secs(20);

fn world() -> World {
    World::start(Options::new(SERIN))
}

/// The story without its planes: stable pods and Services alone.
fn stable(pods: usize) -> StoryOptions {
    StoryOptions {
        stable: pods,
        proxies: 0,
        controllers: 0,
        ..StoryOptions::default()
    }
}

/// The reason for which the pod's only container waits.
fn waits(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten());
    statuses.map(|c| c.restart_count).sum()
}

fn upgrade(version: &str) -> Value {
    let args = ["app", "--listen=$(POD_IP):8080", &format!("--version={version}")];
    json!({"spec": {"template": {
        "metadata": {"labels": {"version": version}},
        "spec": {"containers": [{
            "name": "app", "image": "serin", "args": args,
            "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
        }]},
    }}})
}

#[test]
fn three_pods_are_ready_in_two_seconds() {
    own_network("three_pods_are_ready_in_two_seconds", || {
        let world = world();
        let begun = Instant::now();
        world.story(&stable(3));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "ready after {took:?}");
        let addresses = world.wait("three addresses", LIMIT, || {
            let addresses = world.addresses("echo-stable");
            (addresses.len() == 3).then_some(addresses)
        });
        assert!(
            addresses
                .iter()
                .all(|a| a.to_string().starts_with("198.18.") && a.port() == 8080)
        );
        world.rolled_out("server", LIMIT);
    });
}

#[test]
fn a_rolling_update_loses_no_request() {
    own_network("a_rolling_update_loses_no_request", || {
        let world = world();
        world.story(&stable(3));
        world.rolled_out("server", LIMIT);
        let load = world.load("echo-stable", Traffic::at(200.0));
        world.wait("answers of v1.0.0", LIMIT, || {
            load.report().versions().contains_key("v1.0.0").then_some(())
        });
        let begun = Instant::now();
        world.merge("apps/v1/Deployment", "server", &upgrade("v2.0.0"));
        world.rolled_out("server", LIMIT);
        println!("rolled out after {:?}", begun.elapsed());
        world.ready("app=echo,track=stable,version=v2.0.0", 3, LIMIT);
        world.wait("the end of v1.0.0", LIMIT, || {
            world.pods("version=v1.0.0").is_empty().then_some(())
        });
        std::thread::sleep(Duration::from_millis(300));
        let report = load.stop();
        let sent = report.no_loss();
        let versions = report.versions();
        assert!(
            versions["v1.0.0"] > 0 && versions["v2.0.0"] > 0,
            "{versions:?} of {sent}"
        );
        assert_eq!(revision(&world), "2");
    });
}

fn revision(world: &World) -> String {
    let deployment = world.get::<Deployment>("server").unwrap();
    deployment.annotations()["deployment.kubernetes.io/revision"].clone()
}

#[test]
fn a_terminating_pod_serves_and_says_so() {
    own_network("a_terminating_pod_serves_and_says_so", || {
        let world = world();
        world.story(&stable(1));
        let pod = world.pods("app=echo")[0].name_any();
        world.delete("v1/Pod", &pod);
        let conditions = world.wait("a terminating endpoint", LIMIT, || {
            let slices = world.list::<EndpointSlice>("kubernetes.io/service-name=echo-stable");
            let mut endpoints = slices.into_iter().flat_map(|s| s.endpoints);
            let of_pod =
                endpoints.find(|e| e.target_ref.as_ref().and_then(|r| r.name.as_ref()) == Some(&pod))?;
            of_pod.conditions.filter(|c| c.terminating == Some(true))
        });
        assert_eq!((conditions.ready, conditions.serving), (Some(false), Some(true)));
        world.wait("its end", LIMIT, || {
            world.get::<Pod>(&pod).is_none().then_some(())
        });
        world.ready("app=echo", 1, LIMIT);
    });
}

#[test]
fn pods_tell_why_they_do_not_run() {
    own_network("pods_tell_why_they_do_not_run", || {
        let world = world();
        let story = world.story(&stable(1));
        story.canary_of("serin:missing", "v2.0.0", 1, &[]);
        let reason = |reason: &'static str| {
            let found = || {
                world
                    .pods("track=canary")
                    .into_iter()
                    .find(|p| waits(p).as_deref() == Some(reason))
            };
            world.wait(reason, LIMIT, found)
        };
        reason("ImagePullBackOff");
        story.canary_of("serin:crash", "v2.0.1", 1, &[]);
        let pod = reason("CrashLoopBackOff");
        let name = pod.name_any();
        let again = || world.get::<Pod>(&name).filter(|p| restarts(p) >= 2);
        world.wait("a second restart", LIMIT, again);
    });
}

#[test]
fn a_killed_pod_is_restarted_in_its_place() {
    own_network("a_killed_pod_is_restarted_in_its_place", || {
        let world = world();
        world.story(&stable(1));
        let before = world.pods("app=echo")[0].clone();
        let load = world.load("echo-stable", Traffic::at(200.0));
        world.wait("an answer", LIMIT, || load.report().last_answer("v1.0.0"));
        world.kill(&before.name_any());
        let restarted = || world.get::<Pod>(&before.name_any()).filter(|p| restarts(p) == 1);
        world.wait("a restart", LIMIT, restarted);
        let after = world.ready("app=echo", 1, LIMIT).remove(0);
        assert!(
            !load.stop().losses().is_empty(),
            "nobody noticed that the only pod was killed"
        );
        assert_eq!(after.uid(), before.uid());
        assert_eq!(after.status.unwrap().pod_ip, before.status.unwrap().pod_ip);
    });
}

const DAEMONS: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec:
      containers:
      - name: app
        image: serin
        args: [app, --listen=$(POD_IP):8080, --version=v1.0.0]
        env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
";

#[test]
fn a_daemon_set_has_a_pod_on_each_node_and_replaces_one_at_a_time() {
    own_network(
        "a_daemon_set_has_a_pod_on_each_node_and_replaces_one_at_a_time",
        || {
            let mut options = Options::new(SERIN);
            options.nodes = 2;
            let world = World::start(options);
            world.apply(DAEMONS);
            let pods = world.ready("app=each", 2, LIMIT);
            let node = |p: &Pod| p.spec.as_ref().and_then(|s| s.node_name.clone());
            assert_ne!(node(&pods[0]), node(&pods[1]));
            let told = |updated: i32| {
                let status = world.get::<DaemonSet>("each")?.status?;
                let generation = world.get::<DaemonSet>("each")?.metadata.generation;
                let all =
                    status.number_available == Some(2) && status.updated_number_scheduled == Some(updated);
                (all && status.observed_generation == generation).then_some(())
            };
            world.wait("both available", LIMIT, || told(2));
            let change = json!({"spec": {"template": {"metadata": {"annotations": {"again": "1"}}}}});
            world.merge("apps/v1/DaemonSet", "each", &change);
            world.wait("both replaced", LIMIT, || {
                let old = pods.iter().any(|p| world.get::<Pod>(&p.name_any()).is_some());
                (!old).then(|| told(2))?
            });
        },
    );
}

const CONFIGURED: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {VERSION: v7.0.0, other: text}
---
apiVersion: v1
kind: Secret
metadata: {name: secrets}
stringData: {key: opened}
---
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: one, track: blue}}
spec:
  restartPolicy: Never
  volumes: [{name: words, configMap: {name: words}}, {name: scratch, emptyDir: {}}]
  initContainers:
  - name: first
    image: any
    command: [sh, -c, 'cat /etc/words/other > /scratch/copy; echo \"$TRACK $SECRET\" >> /scratch/copy']
    env:
    - {name: TRACK, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['track']\"}}}
    - {name: SECRET, valueFrom: {secretKeyRef: {name: secrets, key: key}}}
    volumeMounts: [{name: words, mountPath: /etc/words}, {name: scratch, mountPath: /scratch}]
  containers:
  - name: app
    image: serin
    args: [app, --listen=$(IP):8080, --version=$(VERSION)]
    envFrom: [{configMapRef: {name: words}}]
    env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
  - name: reader
    image: any
    command: [sh, -c, 'cat /scratch/copy; exec sleep 100']
    volumeMounts: [{name: scratch, mountPath: /scratch}]
";

#[test]
fn a_pod_has_its_environment_its_volumes_and_its_order() {
    own_network("a_pod_has_its_environment_its_volumes_and_its_order", || {
        let world = world();
        world.apply(CONFIGURED);
        world.ready("app=one", 1, LIMIT);
        world.wait("the app's line", LIMIT, || {
            world
                .logs("one")
                .contains("v7.0.0 listens on http://198.18.")
                .then_some(())
        });
        let copied = || world.logs("one").contains("textblue opened").then_some(());
        world.wait("what the first container wrote", LIMIT, copied);
        world.kill("one");
        world.wait("the end of a pod that never restarts", LIMIT, || {
            let status = world.get::<Pod>("one")?.status?;
            (status.phase.as_deref() == Some("Failed")).then_some(())
        });
    });
}

fn condition(world: &World, kind: &str) -> Option<(String, String)> {
    let conditions = world.get::<Deployment>("server")?.status?.conditions?;
    let found = conditions.into_iter().find(|c| c.type_ == kind)?;
    Some((found.status, found.reason.unwrap_or_default()))
}

fn is(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.into(), reason.into()))
}

#[test]
fn a_stuck_deployment_says_so_at_its_deadline() {
    own_network("a_stuck_deployment_says_so_at_its_deadline", || {
        let world = world();
        world.story(&stable(2));
        world.wait("completion", LIMIT, || {
            (condition(&world, "Progressing") == is("True", "NewReplicaSetAvailable")).then_some(())
        });
        let mut stuck = upgrade("v2.0.0");
        stuck["spec"]["template"]["spec"]["containers"][0]["image"] = "missing".into();
        stuck["spec"]["progressDeadlineSeconds"] = 1.into();
        world.merge("apps/v1/Deployment", "server", &stuck);
        world.wait("the deadline", LIMIT, || {
            (condition(&world, "Progressing") == is("False", "ProgressDeadlineExceeded")).then_some(())
        });
        assert_eq!(
            condition(&world, "Available"),
            is("True", "MinimumReplicasAvailable")
        );
        assert_eq!(world.addresses("echo-stable").len(), 2, "the old pods must stay");
    });
}

#[test]
fn a_paused_deployment_starts_no_version_but_follows_its_size() {
    own_network(
        "a_paused_deployment_starts_no_version_but_follows_its_size",
        || {
            let world = world();
            world.story(&stable(1));
            world.rolled_out("server", LIMIT);
            world.merge("apps/v1/Deployment", "server", &json!({"spec": {"paused": true}}));
            world.merge("apps/v1/Deployment", "server", &upgrade("v2.0.0"));
            world.scale("server", 2);
            world.ready("version=v1.0.0", 2, LIMIT);
            assert!(world.pods("version=v2.0.0").is_empty());
            world.merge(
                "apps/v1/Deployment",
                "server",
                &json!({"spec": {"paused": false}}),
            );
            world.ready("app=echo,version=v2.0.0", 2, LIMIT);
        },
    );
}

#[test]
fn recreate_ends_the_old_before_the_new_begins() {
    own_network("recreate_ends_the_old_before_the_new_begins", || {
        let world = world();
        world.story(&stable(2));
        let mut change = upgrade("v2.0.0");
        change["spec"]["strategy"] = json!({"type": "Recreate", "rollingUpdate": null});
        world.merge("apps/v1/Deployment", "server", &change);
        world.wait("the first new pod", LIMIT, || {
            let (old, new) = (world.pods("version=v1.0.0"), world.pods("version=v2.0.0"));
            let running = old
                .iter()
                .filter(|p| p.metadata.deletion_timestamp.is_none())
                .count();
            assert!(new.is_empty() || running == 0, "both versions at once");
            (!new.is_empty()).then_some(())
        });
        world.ready("version=v2.0.0", 2, LIMIT);
    });
}

#[test]
fn a_failure_inside_is_a_failure_outside() {
    let inside = std::env::var_os("SERIN_OWN_NETWORK").is_some();
    let fails = || own_network("a_failure_inside_is_a_failure_outside", || panic!("on purpose"));
    let failure = std::panic::catch_unwind(fails).unwrap_err();
    if inside {
        std::panic::resume_unwind(failure);
    }
}

#[test]
fn a_wrong_name_is_a_failure_and_no_silence() {
    let nobody = || own_network("no_test_has_this_name", || {});
    assert!(std::panic::catch_unwind(nobody).is_err());
}

#[test]
fn kubectl_sees_the_rollout_and_the_logs() {
    own_network("kubectl_sees_the_rollout_and_the_logs", || {
        let world = world();
        world.story(&stable(2));
        let told = world.kubectl(&["rollout", "status", "deployment/server", "--timeout=10s"]);
        assert!(told.contains("successfully rolled out"), "{told}");
        let pod = world.pods("app=echo")[0].name_any();
        let log = if world.is_real() {
            println!("SKIPPED: a real API server asks a kubelet for logs, and the node has none");
            world.logs(&pod)
        } else {
            world.kubectl(&["logs", &pod])
        };
        assert!(log.contains("v1.0.0 listens on"), "{log}");
        world.kubectl(&["set", "image", "deployment/server", "app=serin:2"]);
        world.kubectl(&["rollout", "status", "deployment/server", "--timeout=10s"]);
        let history = world.kubectl(&["rollout", "history", "deployment/server"]);
        assert!(history.lines().any(|l| l.starts_with('2')), "{history}");
    });
}
