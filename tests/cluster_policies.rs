//! The policies of `k8s/policies`: what may be written, and who it was; and what is known without them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/town.rs"]
#[allow(dead_code)] // each test binary uses its part
mod town;

use cluster::load::Traffic;
use std::time::Duration;
use town::{Controller, LIMIT, RATE, RELEASE, Town, in_town};

const CHANGED_BY: &str = "serin.dev/changed-by";
const BY_CONTROLLER: &str = "serin-controller";
/// Somebody who may edit everything in the namespace, by the roles that every cluster has, and ours beside them.
const ANN: &str = "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: ann}
rules:
- {apiGroups: ['', apps], resources: [services, deployments, deployments/scale], verbs: ['*']}
- {apiGroups: [serin.dev], resources: [rollouts], verbs: ['*']}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: ann}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ann}
subjects: [{kind: User, name: ann, apiGroup: rbac.authorization.k8s.io}]
";

fn guarded(test: &str, body: impl FnOnce(&Town)) {
    in_town(test, Controller::Cluster, |town| {
        town.world.apply(ANN);
        town.sh("kubectl apply -k k8s/policies");
        bites(town);
        body(town);
    });
}

/// A real server's policies take a second.
fn bites(town: &Town) {
    town.world.wait("the policies bite", LIMIT, || {
        let tried = town
            .try_sh("kubectl annotate service echo serin.dev/canary-weight=101 --overwrite --dry-run=server");
        let made = town
            .sh("kubectl annotate service echo-stable serin.dev/canary-weight=0 --dry-run=server -o yaml");
        (!tried.status.success() && made.contains(CHANGED_BY)).then_some(())
    });
}

fn annotate(note: &str) -> String {
    format!("kubectl --as ann annotate service echo {note} --overwrite")
}

fn by(town: &Town) -> String {
    town.note("v1/Service/echo", CHANGED_BY)
}

#[test]
fn what_no_proxy_would_take_is_refused_with_the_reason() {
    guarded("what_no_proxy_would_take_is_refused_with_the_reason", |town| {
        let rules = [
            (
                "serin.dev/canary-weight=101",
                "\"101\" is more than the total of 100; write 0 to 100",
            ),
            (
                "serin.dev/canary-weight=-1",
                "\"-1\" is not a plain decimal number",
            ),
            (
                "serin.dev/canary-weight=ten",
                "\"ten\" is not a plain decimal number",
            ),
            (
                "serin.dev/canary-weight=0.1234567",
                "at most six digits after the point",
            ),
            ("serin.dev/canary-weight=", "\"\" is not a plain decimal number"),
            (
                "serin.dev/canary-weight-total=0",
                "\"0\" is not a whole number from 1 to 1000000",
            ),
            (
                "serin.dev/canary-weight-total=1000001",
                "\"1000001\" is not a whole number",
            ),
            (
                "serin.dev/canary-weight-total=1.5",
                "\"1.5\" is not a whole number",
            ),
            (
                "serin.dev/canary-weight=5 serin.dev/canary-weight-total=4",
                "\"5\" is more than the total of 4; write 0 to 4",
            ),
        ];
        for (note, why) in rules {
            let said = town.refused(&annotate(note));
            assert!(
                said.contains(why) && said.contains("serin-weight"),
                "{note}: {said}"
            );
        }
        for note in [
            "serin.dev/canary-weight=0.500000",
            "serin.dev/canary-weight=500 serin.dev/canary-weight-total=1000",
            "serin.dev/canary-weight=0 serin.dev/canary-weight-total=100",
        ] {
            town.sh(&annotate(note));
        }
    });
}

#[test]
fn who_it_was_cannot_be_forged() {
    guarded("who_it_was_cannot_be_forged", |town| {
        town.sh(&annotate("serin.dev/canary-by-header=x-canary"));
        assert_eq!(by(town), "ann");
        town.sh("kubectl annotate service echo serin.dev/canary-by-header=x-other --overwrite");
        assert_eq!(by(town), "admin");
        town.sh(&annotate(
            "serin.dev/canary-by-header=x-canary serin.dev/changed-by=bob",
        ));
        assert_eq!(by(town), "ann", "in the same write");
        town.sh("kubectl annotate service echo serin.dev/canary-by-header=x-other --overwrite");
        town.sh(&annotate("serin.dev/changed-by=bob"));
        assert_eq!(by(town), "ann", "alone");
        town.sh("kubectl annotate service echo serin.dev/canary-by-header=x-canary --overwrite");
        town.sh(&annotate("serin.dev/changed-by-"));
        assert_eq!(by(town), "ann", "taken away");
        town.sh("kubectl annotate service echo serin.dev/canary-by-header=x-other --overwrite");
        town.sh(&annotate("team=a"));
        assert_eq!(by(town), "admin", "what moves no traffic is not signed");
        let patch = r#"[{"op":"remove","path":"/metadata/annotations/serin.dev~1canary-by-header"}]"#;
        town.sh(&format!(
            "kubectl --as ann patch service echo --type=json -p '{patch}'"
        ));
        assert_eq!(by(town), "ann", "what is taken away moves traffic too");
        town.sh("kubectl --as ann annotate rollout echo serin.dev/changed-by=bob --overwrite");
        assert_eq!(town.note("serin.dev/v1alpha1/Rollout/echo", CHANGED_BY), "ann");
    });
}

#[test]
fn the_controller_and_a_person_are_told_apart() {
    guarded("the_controller_and_a_person_are_told_apart", |town| {
        let load = town.world.load("echo", Traffic::at(RATE));
        town.canary("v2.0.0", 3);
        town.above(0.0, LIMIT);
        assert_eq!(by(town), BY_CONTROLLER, "its own writes are its own");
        town.sh(&annotate(
            "serin.dev/canary-weight=7 serin.dev/changed-by=serin-controller",
        ));
        assert_eq!(by(town), "ann");
        let status = town.phase("Paused", LIMIT);
        let reason = status["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("ann"), "{reason}");
        // An order's author is who the API server says, whatever the order says.
        let order = r#"{"id":"forged-1","command":"resume","who":"bob","why":"ticket 12"}"#;
        town.sh(&format!(
            "kubectl --as ann annotate rollout echo serin.dev/order='{order}' --overwrite"
        ));
        let decision = town.world.wait("ann resumes", LIMIT, || {
            let status = town.status();
            let all = status["decisions"].as_array()?.clone();
            let resumed = |d: &&serde_json::Value| d["from"] == "Paused";
            all.iter().find(resumed).cloned()
        });
        assert_eq!(decision["by"], "ann", "{decision:#}");
        town.above(7.0, LIMIT);
        assert_eq!(by(town), BY_CONTROLLER);
        town.phase("Succeeded", RELEASE);
        load.stop().no_loss();
    });
}

#[test]
fn an_image_goes_by_release_or_through_broken_glass() {
    guarded("an_image_goes_by_release_or_through_broken_glass", |town| {
        let set = "kubectl --as ann set image deployment/server server=serin:other";
        let said = town.refused(set);
        assert!(
            said.contains("serin deploy echo --image IMAGE") && said.contains("serin.dev/break-glass"),
            "{said}"
        );
        town.sh("kubectl --as ann scale deployment/server --replicas=2");
        town.sh("kubectl --as ann annotate deployment server serin.dev/break-glass='ticket 12'");
        town.sh(set);
        town.sh("kubectl --as ann annotate deployment server serin.dev/break-glass-");
        town.refused("kubectl --as ann set image deployment/server server=serin:third");
        town.sh("kubectl --as ann create deployment free --image=serin:dev --dry-run=client -o yaml | kubectl --as ann apply -f -");
        town.sh("kubectl --as ann set image deployment/free serin=serin:other");
    });
}

#[test]
fn a_reason_can_be_demanded_and_never_for_the_way_back() {
    guarded("a_reason_can_be_demanded_and_never_for_the_way_back", |town| {
        town.sh("kubectl apply -k k8s/policies/change-cause");
        let bare = format!("{} --dry-run=server", annotate("serin.dev/canary-weight=3"));
        let said = town.world.wait("the policy bites", LIMIT, || {
            let tried = town.try_sh(&bare);
            (!tried.status.success()).then(|| String::from_utf8_lossy(&tried.stderr).into_owned())
        });
        assert!(said.contains("say why the weight moves"), "{said}");
        town.sh(&annotate(
            "serin.dev/canary-weight=3 serin.dev/change-cause='ticket 12'",
        ));
        town.refused(&annotate("serin.dev/canary-weight=4"));
        town.refused(&annotate(
            "serin.dev/canary-weight=4 serin.dev/change-cause='ticket 12'",
        ));
        town.sh(&annotate("serin.dev/canary-weight=0"));
    });
}

#[test]
fn without_policies_the_field_manager_is_named() {
    in_town(
        "without_policies_the_field_manager_is_named",
        Controller::Cluster,
        |town| {
            let load = town.world.load("echo", Traffic::at(RATE));
            town.canary("v2.0.0", 1);
            town.above(0.0, LIMIT);
            let patch = r#"{"metadata":{"annotations":{"serin.dev/canary-weight":"9"}}}"#;
            town.sh(&format!(
                "kubectl patch service echo --type=merge --field-manager=night-shift -p '{patch}'"
            ));
            let status = town.phase("Paused", LIMIT);
            let reason = status["reason"].as_str().unwrap_or_default();
            assert!(reason.contains("night-shift"), "{reason}");
            let decisions = status["decisions"].as_array().unwrap();
            assert_eq!(decisions.last().unwrap()["by"], "night-shift", "{status:#}");
            std::thread::sleep(Duration::from_secs(2));
            assert!((town.weight() - 9.0).abs() < 1e-9);
            load.stop().no_loss();
        },
    );
}
