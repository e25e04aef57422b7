//! Rights: what the Roles of `k8s/` grant is what is used, nobody is refused, and nobody gets in by other ways.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/town.rs"]
#[allow(dead_code)] // each test binary uses its part
mod town;

use cluster::load::Traffic;
use hyper::http::{Method, Request, header::CONTENT_TYPE};
use kube::{
    Client, ResourceExt,
    discovery::{Discovery, Scope, verbs},
};
use serde_json::Value;
use std::{collections::BTreeSet, process::Command, time::Duration};
use town::{Controller, LIMIT, RATE, RELEASE, Town, in_town};

const PROXY: &str = "system:serviceaccount:default:serin-proxy";

/// Group, resource with subresource, verb.
type Right = (String, String, String);

/// Granted to controllers, and not used by these releases: why.
const IN_RESERVE: [(&str, &str, &str, &str); 9] = [
    (
        "",
        "secrets",
        "update",
        "the evidence Secret is made anew before its certificate ends",
    ),
    (
        "",
        "services",
        "delete",
        "a Rollout that is deleted takes what was made for it along",
    ),
    ("apps", "deployments", "delete", "the same"),
    ("apps", "daemonsets", "get", "versions may be DaemonSets"),
    ("apps", "daemonsets", "create", "the same"),
    ("apps", "daemonsets", "update", "the same"),
    ("apps", "daemonsets", "patch", "the same"),
    ("apps", "daemonsets", "delete", "the same"),
    (
        "events.k8s.io",
        "events",
        "patch",
        "an Event that is told again is counted, not written twice",
    ),
];

/// A good release, the way back after it, and a bad release.
fn releases(town: &Town) {
    let load = town.world.load("echo", Traffic::at(RATE));
    town.canary("v2.0.0", 3);
    town.phase("Succeeded", RELEASE);
    town.world.wait("the canary is scaled away", LIMIT, || {
        let canary = town.world.json("apps/v1/Deployment", "server-canary")?;
        (canary["spec"]["replicas"] == 0).then_some(())
    });
    town.sh("serin undo echo");
    town.phase("RolledBack", RELEASE);
    let undone = town.status()["release"].take();
    let server = town.world.json("apps/v1/Deployment", "server").unwrap();
    let labels = &server["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["version"], "v1.0.0");
    town.bad_canary("v3.0.0");
    town.world.wait("v3.0.0 is rolled back", RELEASE, || {
        let status = town.status();
        (status["phase"] == "RolledBack" && status["release"] != undone).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    println!("{} requests, none lost", load.stop().no_loss());
}

/// Whose calls cannot be counted: there the releases alone show that the rights are enough.
fn is_real(town: &Town) -> bool {
    if town.world.is_real() {
        println!(
            "SKIPPED: a real API server does not tell its calls; the releases went well with these rights"
        );
    }
    town.world.is_real()
}

fn right(group: &str, resource: &str, verb: &str) -> Right {
    (group.to_owned(), resource.to_owned(), verb.to_owned())
}

/// What an account has done, and that it was never refused.
fn used(town: &Town, user: &str) -> BTreeSet<Right> {
    let calls = town.world.standin().calls();
    let own: Vec<_> = calls.iter().filter(|c| c.user == user).collect();
    assert!(own.len() > 10, "{user} has made {} calls", own.len());
    let refused: Vec<_> = own.iter().filter(|c| c.code == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let resource = |resource: &str, sub: &str| match sub {
        "" => resource.to_owned(),
        sub => format!("{resource}/{sub}"),
    };
    own.iter()
        .map(|c| right(&c.group, &resource(&c.resource, &c.subresource), c.verb))
        .collect()
}

/// What a Role of `k8s/` grants.
fn granted(town: &Town, kind: &str, name: &str) -> BTreeSet<Right> {
    let role = town
        .world
        .json(&format!("rbac.authorization.k8s.io/v1/{kind}"), name)
        .unwrap();
    let words = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                let verbs = words(&rule["verbs"]);
                rights.extend(verbs.iter().map(|verb| right(&group, &resource, verb)));
            }
        }
    }
    rights
}

/// Both ways: nothing unused without a reason, and no reason for what is used.
fn fits(granted: &BTreeSet<Right>, used: &BTreeSet<Right>) {
    let beyond: Vec<_> = used.difference(granted).collect();
    println!("used beyond what its own roles say: {beyond:?}");
    let idle: BTreeSet<Right> = granted.difference(used).cloned().collect();
    let reserve: BTreeSet<Right> = IN_RESERVE.iter().map(|(g, r, v, _)| right(g, r, v)).collect();
    let unexplained: Vec<_> = idle.difference(&reserve).collect();
    let needless: Vec<_> = reserve.difference(&idle).collect();
    assert!(
        unexplained.is_empty() && needless.is_empty(),
        "granted and not used: {unexplained:#?}\nsaid to be in reserve, but used or not granted: {needless:#?}"
    );
}

#[test]
fn a_controller_for_the_whole_cluster_has_what_it_uses() {
    let test = "a_controller_for_the_whole_cluster_has_what_it_uses";
    in_town(test, Controller::Cluster, |town| {
        releases(town);
        if is_real(town) {
            return;
        }
        let mut rights = granted(town, "ClusterRole", "serin-controller");
        rights.extend(leases(town, "serin-system"));
        fits(
            &rights,
            &used(town, "system:serviceaccount:serin-system:serin-controller"),
        );
        proxies_fit(town);
    });
}

#[test]
fn a_controller_for_one_namespace_has_what_it_uses() {
    let test = "a_controller_for_one_namespace_has_what_it_uses";
    in_town(test, Controller::Namespaced, |town| {
        releases(town);
        if is_real(town) {
            return;
        }
        let mut rights = granted(town, "Role", "serin-controller");
        rights.extend(leases(town, "default"));
        fits(
            &rights,
            &used(town, "system:serviceaccount:default:serin-controller"),
        );
        let all = town.world.standin().calls();
        let abroad = all.iter().filter(|c| {
            c.user == "system:serviceaccount:default:serin-controller" && c.namespace != "default"
        });
        assert_eq!(abroad.count(), 0, "it has looked beyond its namespace");
        proxies_fit(town);
    });
}

fn leases(town: &Town, namespace: &str) -> BTreeSet<Right> {
    let text = town.sh(&format!("kubectl get role serin-leader -n {namespace} -o json"));
    let role: Value = serde_json::from_str(&text).unwrap();
    let rules = role["rules"].as_array().unwrap().iter();
    let verbs = rules.flat_map(|r| r["verbs"].as_array().unwrap().clone());
    verbs
        .map(|v| right("coordination.k8s.io", "leases", v.as_str().unwrap()))
        .collect()
}

fn proxies_fit(town: &Town) {
    let (rights, used) = (granted(town, "Role", "serin-proxy"), used(town, PROXY));
    assert_eq!(used.difference(&rights).count(), 0, "{used:#?}");
    // A watch that begins with a list is all that is asked for; `get` is what people expect beside them.
    let idle: Vec<_> = rights
        .difference(&used)
        .filter(|(_, _, verb)| verb != "get")
        .collect();
    assert!(idle.is_empty(), "{idle:#?}");
}

/// Every kind that can be written, tried with a proxy's account: none may be.
#[test]
fn a_proxy_can_write_nothing_and_read_only_its_own() {
    let test = "a_proxy_can_write_nothing_and_read_only_its_own";
    in_town(test, Controller::Cluster, |town| {
        let client = town.world.client_acting(PROXY, &[]);
        let tried = town.world.run(writes(&town.world.client(), &client));
        println!("{tried} kinds and verbs were refused");
        assert!(tried > 100, "only {tried} were tried");
        for (path, code) in [
            ("/api/v1/namespaces/default/services/echo", 200),
            ("/api/v1/namespaces/default/secrets/serin-evidence", 200),
            ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", 200),
            ("/api/v1/namespaces/default/services", 403),
            ("/api/v1/namespaces/default/services/echo-stable", 403),
            ("/api/v1/namespaces/default/secrets", 403),
            ("/api/v1/namespaces/default/secrets/other", 403),
            ("/api/v1/namespaces/default/pods", 403),
            ("/api/v1/namespaces/serin-system/secrets/serin-evidence", 403),
            ("/apis/serin.dev/v1alpha1/namespaces/default/rollouts/echo", 403),
        ] {
            assert_eq!(
                town.world.run(ask(&client, Method::GET, path)),
                code,
                "GET {path}"
            );
        }
    });
}

/// Tries everything that the API server says can be written; how much that was.
async fn writes(admin: &Client, client: &Client) -> usize {
    let known = Discovery::new(admin.clone()).run().await.unwrap();
    let mut tried = 0;
    for group in known.groups() {
        // Everybody may ask what he may do.
        if matches!(group.name(), "authentication.k8s.io" | "authorization.k8s.io") {
            continue;
        }
        for (kind, can) in group.recommended_resources() {
            let base = match kind.group.as_str() {
                "" => format!("/api/{}", kind.version),
                group => format!("/apis/{group}/{}", kind.version),
            };
            let space = match can.scope {
                Scope::Namespaced => "/namespaces/default",
                Scope::Cluster => "",
            };
            let all = format!("{base}{space}/{}", kind.plural);
            let one = format!("{all}/echo");
            for (verb, method, path) in [
                (verbs::CREATE, Method::POST, &all),
                (verbs::UPDATE, Method::PUT, &one),
                (verbs::PATCH, Method::PATCH, &one),
                (verbs::DELETE, Method::DELETE, &one),
                (verbs::DELETE_COLLECTION, Method::DELETE, &all),
            ] {
                if !can.supports_operation(verb) {
                    continue;
                }
                let code = ask(client, method, path).await;
                assert_eq!(code, 403, "{verb} {path}");
                tried += 1;
            }
        }
    }
    tried
}

async fn ask(client: &Client, method: Method, path: &str) -> u16 {
    let content = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, content);
    match client.request_text(request.body(b"{}".to_vec()).unwrap()).await {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(other) => panic!("{path}: {other}"),
    }
}

/// Status and body of a page of a proxy's signals.
fn page(url: &str, header: &str) -> (String, String) {
    let run = Command::new("curl")
        .args(["-sk", "-m", "5", "-w", "\n%{http_code}", "-H", header, url])
        .output()
        .expect("curl is missing");
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap_or_default();
    (code.to_owned(), body.to_owned())
}

fn token(town: &Town) -> String {
    let secret = town.sh("kubectl get secret serin-evidence -o jsonpath='{.data.token}' | base64 -d");
    assert!(secret.len() >= 16);
    secret
}

fn address(town: &Town) -> String {
    let pods = town.world.ready("serin.dev/proxy=echo", 2, LIMIT);
    pods[0].status.as_ref().unwrap().pod_ip.clone().unwrap()
}

#[test]
fn evidence_is_told_to_nobody_but_the_controller() {
    let test = "evidence_is_told_to_nobody_but_the_controller";
    in_town(test, Controller::Cluster, |town| {
        let (at, token) = (address(town), token(town));
        let bearer = format!("authorization: Bearer {token}");
        let none = "x-nothing: 1";
        for (url, header, code, why) in [
            (
                format!("http://{at}:9901/evidence"),
                bearer.as_str(),
                "403",
                "TLS",
            ),
            (format!("http://{at}:9901/evidence"), none, "403", "TLS"),
            (format!("https://{at}:9901/evidence"), none, "401", "Bearer"),
            (
                format!("https://{at}:9901/evidence"),
                "authorization: Bearer 0123456789abcdef0123456789abcdef",
                "401",
                "Bearer",
            ),
            (
                format!("https://{at}:9901/evidence"),
                "authorization: Basic c2VyaW46c2VyaW4=",
                "401",
                "Bearer",
            ),
            (
                format!("https://{at}:9901/evidence"),
                bearer.as_str(),
                "200",
                "echo",
            ),
        ] {
            let (told, body) = page(&url, header);
            assert!(
                told == code && body.contains(why),
                "{url} {header}: {told} {body}"
            );
            assert!(code == "200" || !body.contains(&token), "{body}");
        }
        // At the port of the clients there is no such page: the path is the application's.
        let (_, body) = page(&format!("http://{at}:8080/evidence"), &bearer);
        assert!(
            !body.contains("windows") && !body.contains("\"seconds\""),
            "{body}"
        );
    });
}

#[test]
fn who_only_says_that_he_is_a_proxy_feeds_no_judgement() {
    let test = "who_only_says_that_he_is_a_proxy_feeds_no_judgement";
    in_town(test, Controller::Cluster, |town| {
        let load = town.world.load("echo", Traffic::at(RATE));
        town.canary("v2.0.0", 3);
        town.above(0.0, LIMIT);
        // What a true proxy tells in the best of times.
        let bearer = format!("authorization: Bearer {}", token(town));
        let (code, glowing) = page(&format!("https://{}:9901/evidence", address(town)), &bearer);
        assert_eq!(code, "200");
        let forger = town.world.forger("impostor", "echo", &glowing);
        let status = town.world.wait("the impostor is named", LIMIT, || {
            let status = town.status();
            let reason = status["reason"].as_str().unwrap_or_default();
            reason.contains("impostor").then_some(status)
        });
        println!("{}", status["reason"]);
        assert!(
            status["reason"]
                .as_str()
                .unwrap()
                .contains("cannot prove who it is"),
            "{}",
            status["reason"]
        );
        let (held, phase) = (town.weight(), &status["phase"]);
        assert!(phase == "Holding" || phase == "Shifting", "{phase}");
        std::thread::sleep(Duration::from_secs(12));
        let status = town.status();
        assert_eq!(status["phase"], "Holding", "{status:#}");
        assert!(town.weight() <= held, "{} after {held}", town.weight());
        town.sh("kubectl delete pod impostor --force --grace-period=0");
        drop(forger);
        town.phase("Succeeded", RELEASE);
        drop(load);
        let pods: Vec<_> = town
            .world
            .pods("serin.dev/proxy=echo")
            .iter()
            .map(|p| p.name_any())
            .collect();
        assert_eq!(pods.len(), 2, "{pods:?}");
    });
}
