//! The stand-in's own abilities, which no real cluster has: troubles on demand, the record of calls, tokens of any user.

use cluster::api::{Match, Options, Rule, Server, Trouble};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use std::time::{Duration, Instant};

async fn client(server: &Server, user: &str, groups: &[&str]) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(user, groups)).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

async fn maps(server: &Server) -> Api<ConfigMap> {
    Api::namespaced(client(server, "admin", &["system:masters"]).await, "default")
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

fn rule(verb: &str, trouble: Trouble) -> Rule {
    let calls = Match {
        verb: verb.into(),
        resource: "configmaps".into(),
        user: "adm".into(),
    };
    Rule {
        calls,
        trouble,
        count: Some(1),
    }
}

fn code<T: std::fmt::Debug>(result: kube::Result<T>) -> u16 {
    match result.unwrap_err() {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn answers_fail_come_late_and_conflict_as_told() {
    let server = Server::start(Options::default()).unwrap();
    let api = maps(&server).await;
    server.faults().add(rule(
        "create",
        Trouble::Answer {
            code: 500,
            retry_after: None,
        },
    ));
    assert_eq!(code(api.create(&PostParams::default(), &map("a")).await), 500);
    api.create(&PostParams::default(), &map("a")).await.unwrap();
    server.faults().add(rule("patch", Trouble::Conflict));
    let patch = Patch::Merge(json!({"data": {"a": "b"}}));
    assert_eq!(code(api.patch("a", &PatchParams::default(), &patch).await), 409);
    server
        .faults()
        .add(rule("get", Trouble::Delay(Duration::from_millis(300))));
    let begin = Instant::now();
    api.get("a").await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(300));
    server.faults().add(rule("get", Trouble::Cut));
    assert!(matches!(
        api.get("a").await.unwrap_err(),
        kube::Error::HyperError(_) | kube::Error::Service(_)
    ));
    let codes: Vec<u16> = server.calls().iter().map(|call| call.code).collect();
    assert_eq!(codes, [500, 201, 409, 200, 0]);
}

#[tokio::test]
async fn watches_are_cut_and_their_past_forgotten() {
    let server = Server::start(Options::default()).unwrap();
    let api = maps(&server).await;
    let since = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    let mut watch = api.watch(&WatchParams::default(), &since).await.unwrap().boxed();
    server.faults().drop_watches();
    assert!(matches!(watch.try_next().await, Err(_) | Ok(None)));
    api.create(&PostParams::default(), &map("a")).await.unwrap();
    server.faults().compact();
    assert_eq!(
        code(api.watch(&WatchParams::default(), &since).await.map(|_| ())),
        410
    );
    let calls = server.calls();
    assert_eq!(
        calls
            .iter()
            .filter(|call| call.verb == "watch")
            .map(|call| call.code)
            .collect::<Vec<_>>(),
        [200, 410]
    );
}

#[tokio::test]
async fn an_outage_ends_with_the_same_data() {
    let server = Server::start(Options::default()).unwrap();
    let api = maps(&server).await;
    api.create(&PostParams::default(), &map("a")).await.unwrap();
    server.stop_listening();
    assert!(api.get("a").await.is_err());
    server.listen_again().unwrap();
    api.get("a").await.unwrap();
}

#[tokio::test]
async fn rights_are_those_that_roles_grant() {
    let server = Server::start(Options::default()).unwrap();
    let admin = client(&server, "admin", &["system:masters"]).await;
    let role: Role = serde_json::from_value(json!({"metadata": {"name": "r"}, "rules": [
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "patch"], "resourceNames": ["a"]}]}))
    .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r",
        "apiGroup": "rbac.authorization.k8s.io"}, "subjects": [{"kind": "ServiceAccount", "name": "serin", "namespace": "default"}]})).unwrap();
    Api::namespaced(admin.clone(), "default")
        .create(&PostParams::default(), &role)
        .await
        .unwrap();
    Api::namespaced(admin.clone(), "default")
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
    let account = client(&server, "system:serviceaccount:default:serin", &[]).await;
    let services: Api<Service> = Api::namespaced(account.clone(), "default");
    assert_eq!(code(services.get("a").await), 404, "allowed, and not there");
    let refused = services.get("b").await.unwrap_err().to_string();
    let wanted = "services \"b\" is forbidden: User \"system:serviceaccount:default:serin\" cannot get resource \"services\" in API group \"\" in the namespace \"default\"";
    assert!(refused.contains(wanted), "{refused}");
    let elsewhere: Api<Service> = Api::namespaced(account, "kube-system");
    assert_eq!(code(elsewhere.get("a").await), 403);
}
