//! Every behaviour of the API that Serin relies on: each is one test that runs on the stand-in, and on a real cluster
//! where `SERIN_CLUSTER_KUBECONFIG` or `KUBECONFIG` names one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

use cluster::api::{Options, Server};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams, Preconditions, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The target that the environment names, else the stand-in that all tests of this program share.
async fn client() -> Client {
    let named = std::env::var("SERIN_CLUSTER_KUBECONFIG").or_else(|_| std::env::var("KUBECONFIG"));
    let kubeconfig = match named {
        Ok(path) => Kubeconfig::read_from(path).unwrap(),
        Err(_) => Kubeconfig::from_yaml(&standin().kubeconfig("admin", &["system:masters"])).unwrap(),
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

fn standin() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Options::default()).unwrap())
}

/// A namespace of the test's own, never used again.
async fn space(client: &Client) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("contract-{}-{n}", std::process::id());
    let namespace: Namespace = from(json!({"metadata": {"name": name}}));
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    name
}

fn from<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn code(error: kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

fn deployment(name: &str) -> Deployment {
    from(
        json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": name}}, "template":
        {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}}}),
    )
}

fn service(name: &str) -> Service {
    from(
        json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}}),
    )
}

#[tokio::test]
async fn objects_are_made_read_changed_and_deleted() {
    let client = client().await;
    let api: Api<Service> = Api::namespaced(client.clone(), &space(&client).await);
    let made = api.create(&PostParams::default(), &service("a")).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.generation.is_none());
    let spec = made.spec.clone().unwrap();
    assert!(spec.cluster_ip.is_some_and(|ip| !ip.is_empty()));
    assert_eq!(
        code(
            api.create(&PostParams::default(), &service("a"))
                .await
                .unwrap_err()
        ),
        409
    );
    let patch = json!({"metadata": {"annotations": {"serin.dev/canary-weight": "5"}}});
    let patched = api
        .patch("a", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_ne!(patched.metadata.resource_version, made.metadata.resource_version);
    let again = api
        .patch("a", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(
        again.metadata.resource_version, patched.metadata.resource_version,
        "a patch that changes nothing writes nothing"
    );
    assert_eq!(
        code(api.replace("a", &PostParams::default(), &made).await.unwrap_err()),
        409,
        "stale"
    );
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(api.get("a").await.unwrap_err()), 404);
}

#[tokio::test]
async fn generations_count_specs_and_status_has_its_own_way() {
    let client = client().await;
    let api: Api<Deployment> = Api::namespaced(client.clone(), &space(&client).await);
    let made = api
        .create(&PostParams::default(), &deployment("d"))
        .await
        .unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    assert_eq!(
        made.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds),
        Some(600)
    );
    let status = json!({"status": {"replicas": 1, "readyReplicas": 1}, "spec": {"replicas": 7}});
    let kept = api
        .patch("d", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
    assert_eq!(
        (
            kept.metadata.generation,
            kept.status.and_then(|s| s.ready_replicas)
        ),
        (Some(2), None)
    );
    let told = api
        .patch_status(
            "d",
            &PatchParams::default(),
            &Patch::Merge(&json!({"status": {"replicas": 1}, "spec": {"replicas": 9}})),
        )
        .await
        .unwrap();
    assert_eq!(
        (told.metadata.generation, told.status.and_then(|s| s.replicas)),
        (Some(2), Some(1))
    );
    assert_eq!(told.spec.and_then(|spec| spec.replicas), Some(7));
}

#[tokio::test]
async fn lists_come_in_pages_and_watches_go_on_from_there() {
    let client = client().await;
    // Not ConfigMaps: a real control plane puts one of its own into each namespace.
    let api: Api<Secret> = Api::namespaced(client.clone(), &space(&client).await);
    for n in 0..5 {
        let secret: Secret =
            from(json!({"metadata": {"name": format!("m{n}"), "labels": {"odd": (n % 2).to_string()}}}));
        api.create(&PostParams::default(), &secret).await.unwrap();
    }
    let first = api.list(&ListParams::default().limit(3)).await.unwrap();
    assert_eq!(
        (first.items.len(), first.metadata.remaining_item_count),
        (3, Some(2))
    );
    let token = first.metadata.continue_.unwrap();
    let second = api
        .list(&ListParams::default().limit(3).continue_token(&token))
        .await
        .unwrap();
    assert_eq!(
        (
            second.items.len(),
            second.metadata.continue_.unwrap_or_default().as_str()
        ),
        (2, "")
    );
    let odd = api.list(&ListParams::default().labels("odd=1")).await.unwrap();
    assert_eq!(odd.items.len(), 2);
    let since = odd.metadata.resource_version.unwrap();
    let mut watch = api
        .watch(&WatchParams::default().labels("odd=1").timeout(20), &since)
        .await
        .unwrap()
        .boxed();
    let relabel = |odd: &str| Patch::Merge(json!({"metadata": {"labels": {"odd": odd}}}));
    api.patch("m0", &PatchParams::default(), &relabel("1"))
        .await
        .unwrap();
    api.patch("m1", &PatchParams::default(), &relabel("0"))
        .await
        .unwrap();
    let (one, two) = (
        watch.try_next().await.unwrap().unwrap(),
        watch.try_next().await.unwrap().unwrap(),
    );
    assert!(
        matches!(&one, WatchEvent::Added(one) if one.metadata.name.as_deref() == Some("m0")),
        "{one:?}"
    );
    assert!(
        matches!(&two, WatchEvent::Deleted(one) if one.metadata.name.as_deref() == Some("m1")),
        "{two:?}"
    );
}

fn weight(name: &str, value: &str) -> Patch<serde_json::Value> {
    Patch::Apply(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "annotations": {"serin.dev/canary-weight": value}}}),
    )
}

#[tokio::test]
async fn an_applier_owns_what_it_sent_and_takes_nothing_unless_forced() {
    let client = client().await;
    let api: Api<Service> = Api::namespaced(client.clone(), &space(&client).await);
    api.create(&PostParams::default(), &service("a")).await.unwrap();
    let serin = PatchParams::apply("serin");
    api.patch("a", &serin, &weight("a", "5")).await.unwrap();
    let person = PatchParams {
        field_manager: Some("kubectl-annotate".into()),
        ..PatchParams::default()
    };
    let merge = Patch::Merge(json!({"metadata": {"annotations": {"serin.dev/canary-weight": "9"}}}));
    api.patch("a", &person, &merge).await.unwrap();
    let refused = match api.patch("a", &serin, &weight("a", "7")).await.unwrap_err() {
        kube::Error::Api(status) => status,
        other => panic!("{other}"),
    };
    assert_eq!(refused.code, 409);
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-annotate\" using v1: .metadata.annotations.serin.dev/canary-weight"
    );
    let cause = &refused.details.unwrap().causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.field.as_str()),
        (
            "FieldManagerConflict",
            ".metadata.annotations.serin.dev/canary-weight"
        )
    );
    let forced = api
        .patch("a", &serin.clone().force(), &weight("a", "0"))
        .await
        .unwrap();
    assert_eq!(
        forced.metadata.annotations.unwrap()["serin.dev/canary-weight"],
        "0"
    );
    let again = api.patch("a", &serin, &weight("a", "0")).await.unwrap();
    assert_eq!(
        again.metadata.resource_version, forced.metadata.resource_version,
        "applying the same writes nothing"
    );
    let nothing = Patch::Apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}));
    let bare = api.patch("a", &serin, &nothing).await.unwrap();
    assert!(
        bare.metadata.annotations.unwrap_or_default().is_empty(),
        "what is no longer applied goes"
    );
    assert!(bare.spec.unwrap().ports.is_some());
}

#[tokio::test]
async fn appliers_share_a_list_by_its_keys() {
    let client = client().await;
    let api: Api<Deployment> = Api::namespaced(client.clone(), &space(&client).await);
    let mut whole = serde_json::to_value(deployment("d")).unwrap();
    (whole["apiVersion"], whole["kind"]) = (json!("apps/v1"), json!("Deployment"));
    api.patch("d", &PatchParams::apply("git"), &Patch::Apply(&whole))
        .await
        .unwrap();
    let env = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {"spec":
        {"containers": [{"name": "app", "env": [{"name": "X", "value": "1"}]}]}}}});
    let both = api
        .patch("d", &PatchParams::apply("serin"), &Patch::Apply(&env))
        .await
        .unwrap();
    let container = &both.spec.unwrap().template.spec.unwrap().containers[0];
    assert_eq!(
        (container.image.as_deref(), container.env.as_ref().map(Vec::len)),
        (Some("app:1"), Some(1))
    );
    let other = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {"spec":
        {"containers": [{"name": "app", "image": "app:2"}]}}}});
    let error = api
        .patch("d", &PatchParams::apply("serin"), &Patch::Apply(&other))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(".spec.template.spec.containers[name=\"app\"].image"),
        "{error}"
    );
    let back = api
        .patch("d", &PatchParams::apply("git"), &Patch::Apply(&whole))
        .await
        .unwrap();
    assert_eq!(
        back.metadata.generation,
        Some(2),
        "the first applier takes nothing from the second"
    );
}

/// Waits until the condition holds: a real server's policies and definitions take a second or two.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    for _ in 0..100 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{what}: not within 10 s")
}

#[tokio::test]
async fn a_started_pod_dies_slowly_and_goes_with_grace_zero() {
    let client = client().await;
    let api: Api<Pod> = Api::namespaced(client.clone(), &space(&client).await);
    let pod: Pod = from(
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "nowhere", "containers": [{"name": "a", "image": "a:1"}]}}),
    );
    let made = api.create(&PostParams::default(), &pod).await.unwrap();
    api.delete("p", &DeleteParams::default().grace_period(20))
        .await
        .unwrap();
    let dying = api.get("p").await.unwrap().metadata;
    assert!(dying.deletion_timestamp.is_some());
    assert_eq!(dying.deletion_grace_period_seconds, Some(20));
    let other = DeleteParams::default()
        .grace_period(0)
        .preconditions(Preconditions {
            uid: Some("other".into()),
            resource_version: None,
        });
    assert_eq!(code(api.delete("p", &other).await.unwrap_err()), 409);
    let end = DeleteParams::default()
        .grace_period(0)
        .preconditions(Preconditions {
            uid: made.metadata.uid,
            resource_version: None,
        });
    api.delete("p", &end).await.unwrap();
    assert_eq!(code(api.get("p").await.unwrap_err()), 404);
}

#[tokio::test]
async fn a_pods_class_is_the_servers_and_stays() {
    let client = client().await;
    let api: Api<Pod> = Api::namespaced(client.clone(), &space(&client).await);
    for (name, resources, class) in [
        ("none", json!({}), "BestEffort"),
        ("some", json!({"limits": {"memory": "1Mi"}}), "Burstable"),
        (
            "all",
            json!({"limits": {"memory": "1Mi", "cpu": "1"}}),
            "Guaranteed",
        ),
    ] {
        let pod: Pod = from(json!({"metadata": {"name": name}, "spec": {"nodeName": "nowhere",
            "containers": [{"name": "a", "image": "a:1", "resources": resources}]}}));
        let made = api.create(&PostParams::default(), &pod).await.unwrap();
        assert_eq!(made.status.unwrap().qos_class.as_deref(), Some(class), "{name}");
    }
    let patch = Patch::Merge(json!({"status": {"phase": "Running", "qosClass": "BestEffort"}}));
    let error = api.patch_status("some", &PatchParams::default(), &patch).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("status.qosClass: Invalid value: \"BestEffort\": field is immutable"),
        "{error}"
    );
    for name in ["none", "some", "all"] {
        let now = DeleteParams::default().grace_period(0);
        api.delete(name, &now).await.unwrap();
    }
}

#[tokio::test]
async fn a_finalizer_keeps_an_object_until_it_is_taken_off() {
    let client = client().await;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &space(&client).await);
    let map: ConfigMap = from(json!({"metadata": {"name": "m", "finalizers": ["serin.dev/traffic"]}}));
    api.create(&PostParams::default(), &map).await.unwrap();
    api.delete("m", &DeleteParams::default()).await.unwrap();
    assert!(api.get("m").await.unwrap().metadata.deletion_timestamp.is_some());
    api.patch(
        "m",
        &PatchParams::default(),
        &Patch::Merge(json!({"metadata": {"finalizers": null}})),
    )
    .await
    .unwrap();
    assert_eq!(code(api.get("m").await.unwrap_err()), 404);
}

#[tokio::test]
async fn what_an_object_owned_goes_after_it() {
    let client = client().await;
    if std::env::var_os("SERIN_CLUSTER_KUBECONFIG")
        .or_else(|| std::env::var_os("KUBECONFIG"))
        .is_some()
    {
        println!("SKIPPED: a control plane may run without its garbage collector");
        return;
    }
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &space(&client).await);
    let owner = api
        .create(
            &PostParams::default(),
            &from(json!({"metadata": {"name": "owner"}})),
        )
        .await
        .unwrap();
    let owned = json!({"metadata": {"name": "owned", "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}]}});
    api.create(&PostParams::default(), &from(owned.clone()))
        .await
        .unwrap();
    api.delete("owner", &DeleteParams::background()).await.unwrap();
    let goes = || async { api.get_opt("owned").await.unwrap().is_none().then_some(()) };
    until("owned goes", goes).await;
    // Whoever read its list before the owner went may still make something for it.
    api.create(&PostParams::default(), &from(owned)).await.unwrap();
    until("what came too late goes", goes).await;
}

#[tokio::test]
async fn an_endpoint_is_never_the_readers_own_machine() {
    let client = client().await;
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &space(&client).await);
    let slice = |address: &str| {
        from(
            json!({"metadata": {"generateName": "s-"}, "addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": []}),
        )
    };
    for refused in ["127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0"] {
        assert_eq!(
            code(
                api.create(&PostParams::default(), &slice(refused))
                    .await
                    .unwrap_err()
            ),
            422,
            "{refused}"
        );
    }
    for taken in ["10.0.0.1", "198.18.0.1", "100.64.0.1", "192.0.2.1"] {
        api.create(&PostParams::default(), &slice(taken)).await.unwrap();
    }
}

#[tokio::test]
async fn a_selector_never_changes_and_fits_its_template() {
    let client = client().await;
    let api: Api<Deployment> = Api::namespaced(client.clone(), &space(&client).await);
    api.create(&PostParams::default(), &deployment("d"))
        .await
        .unwrap();
    let labels = json!({"app": "other"});
    let patch =
        json!({"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}});
    let error = api
        .patch("d", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("field is immutable"), "{error}");
    let patch = json!({"spec": {"template": {"metadata": {"labels": labels}}}});
    let error = api
        .patch("d", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`selector` does not match template `labels`"),
        "{error}"
    );
}

#[tokio::test]
async fn what_tells_items_of_a_list_apart_is_required_of_each() {
    let client = client().await;
    let home = space(&client).await.replace('-', "");
    let item = json!({"type": "object", "properties": {"type": {"type": "string"}}});
    let list = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"], "items": item});
    let mut schema = json!({"type": "object", "properties": {"conditions": list}});
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
    ));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let names = json!({"plural": home, "singular": home, "kind": "Thing", "listKind": "ThingList"});
    let define = |schema: &serde_json::Value| {
        let version =
            json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
        let name = format!("{home}.test.serin.dev");
        DynamicObject::new(&name, &resource).data(json!({"spec":
            {"group": "test.serin.dev", "scope": "Namespaced", "names": names, "versions": [version]}}))
    };
    let refused = api.create(&PostParams::default(), &define(&schema)).await;
    let error = refused.unwrap_err().to_string();
    let why = "properties[conditions].items.properties[type].default: Required value: this property is in \
        x-kubernetes-list-map-keys, so it must have a default or be a required property";
    assert!(error.contains(why), "{error}");
    schema["properties"]["conditions"]["items"]["required"] = json!(["type"]);
    let made = api
        .create(&PostParams::default(), &define(&schema))
        .await
        .unwrap();
    let name = made.metadata.name.unwrap();
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn policies_stamp_who_it_was_and_refuse_what_is_wrong() {
    let client = client().await;
    let home = space(&client).await;
    let api: Api<Service> = Api::namespaced(client.clone(), &home);
    let rules = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["services"]}]});
    let here = json!([{"name": "here", "expression": format!("request.namespace == '{home}'")}]);
    let stamp = from_dynamic(
        &client,
        "MutatingAdmissionPolicy",
        json!({"matchConstraints": rules, "matchConditions": here, "reinvocationPolicy": "Never",
        "failurePolicy": "Fail", "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
        "Object{metadata: Object.metadata{annotations: {'x/changed-by': request.userInfo.username}}}"}}]}),
        &home,
    );
    let limit = from_dynamic(
        &client,
        "ValidatingAdmissionPolicy",
        json!({"matchConstraints": rules, "matchConditions": here, "validations": [{"message": "a weight is 0 to 100",
        "expression": "!has(object.metadata.annotations) || !('w' in object.metadata.annotations) || int(object.metadata.annotations['w']) <= 100"}]}),
        &home,
    );
    let bind = from_dynamic(
        &client,
        "MutatingAdmissionPolicyBinding",
        json!({"policyName": home}),
        &home,
    );
    let deny = from_dynamic(
        &client,
        "ValidatingAdmissionPolicyBinding",
        json!({"policyName": home, "validationActions": ["Deny"]}),
        &home,
    );
    for (api, object) in [&stamp, &limit, &bind, &deny] {
        api.create(&PostParams::default(), object).await.unwrap();
    }
    let mut heavy = service("a");
    heavy.metadata.annotations = Some([("w".to_owned(), "200".to_owned())].into());
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let refused = until("the policies bite", || async {
        match api.create(&dry, &heavy).await {
            Err(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    })
    .await;
    let causes = refused
        .details
        .as_ref()
        .map(|d| &d.causes[..])
        .unwrap_or_default();
    assert_eq!(
        (refused.code, refused.reason.as_str(), causes.len()),
        (422, "Invalid", 1)
    );
    for said in [&refused.message, &causes[0].message] {
        assert!(said.contains("denied request: a weight is 0 to 100"), "{said}");
    }
    heavy.metadata.annotations = Some([("x/changed-by".to_owned(), "somebody else".to_owned())].into());
    let stamped = until("the stamp is there", || async {
        let made = api.create(&dry, &heavy).await.unwrap();
        made.metadata
            .annotations
            .filter(|all| all["x/changed-by"] != "somebody else")
    });
    stamped.await;
    for (api, object) in [&stamp, &limit, &bind, &deny] {
        api.delete(object.metadata.name.as_deref().unwrap(), &DeleteParams::default())
            .await
            .unwrap();
    }
}

type Dynamic = (Api<DynamicObject>, DynamicObject);

fn from_dynamic(client: &Client, kind: &str, spec: serde_json::Value, name: &str) -> Dynamic {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind));
    let object = DynamicObject::new(name, &resource).data(json!({"spec": spec}));
    (Api::all_with(client.clone(), &resource), object)
}
