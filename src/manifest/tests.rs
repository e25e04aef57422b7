//! Manifests as people have them, there and back.

use super::*;
use serde_json::Value;

const PLAIN: &str = "# the shop\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: server}\nspec:\n  selector: {matchLabels: {app: echo, track: stable}}\n  template:\n    metadata: {labels: {app: echo, track: stable, version: v1.0.0}}\n    spec:\n      containers:\n      - {name: server, image: 'echo:v1', ports: [{name: http, containerPort: 8080}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec:\n  selector: {app: echo, track: stable}\n  ports: [{port: 80, targetPort: http}]\n";

const NO_TRACK: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: shop\n  annotations: {team: a}\nspec:\n  type: LoadBalancer\n  selector:\n    app: web\n  ports:\n  - port: 443\n    targetPort: 8443\n    nodePort: 30443\n    name: https\n---\n# a comment that stays\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\ndata:\n  a: |\n    text\n     --- not a separator\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  replicas: 3\n  selector:\n    matchLabels:\n      app: web\n  template:\n    metadata:\n      labels:\n        app: web\n    spec:\n      automountServiceAccountToken: false\n      containers:\n      - name: web\n        image: web:7\n";

const TWO_CONTAINERS: &str = "kind: Deployment\napiVersion: apps/v1\nmetadata:\n  name: api\nspec:\n  selector: {matchLabels: {app: api}}\n  template:\n    metadata:\n      labels: {app: api, tier: \"1\"}\n    spec:\n      serviceAccountName: api\n      containers:\n      - name: log\n        image: log:1\n        args: [\"yes\", \"0x10\", \"1e3\", \"null\", \"~\", \"on\", \"007\", \": \", \"# no\", \"- a\", \"multi\\nline\\n\", \"\", \" x \", \"12:30\", \"1_000\", \".5\", \"+1\", \"é\", \"%a\", \"@b\", \"`c\"]\n      - name: api\n        image: api:1\n        ports: [{containerPort: 9000, name: web}, {containerPort: 18080}]\n---\nkind: Service\napiVersion: v1\nmetadata: {name: api}\nspec: {selector: {app: api}, ports: [{port: 80, targetPort: web}]}\n";

const LIST: &str = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: echo}\n  spec: {selector: {app: echo}, ports: [{port: 80}]}\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {name: echo}\n  spec:\n    selector: {matchLabels: {app: echo}}\n    template:\n      metadata: {labels: {app: echo}}\n      spec: {containers: [{name: echo, image: e, ports: [{containerPort: 80}]}]}\n";

const ANCHORS: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: echo\n  labels: &labels {app: echo}\nspec:\n  selector: {matchLabels: *labels}\n  template:\n    metadata: {labels: *labels}\n    spec: {containers: [{name: echo, image: e}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec: {selector: {app: echo}, ports: [{port: 80, targetPort: 8080}]}\n";

const OCTAL: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec: {selector: {app: echo}, ports: [{port: 80, targetPort: 8080, protocol: TCP}]}\n--- # the pods\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: echo, annotations: {n: \"5\"}}\nspec:\n  selector: {matchLabels: {app: echo}}\n  template:\n    metadata: {labels: {app: echo}}\n    spec:\n      containers: [{name: echo, image: e, resources: {limits: {cpu: 0.5, memory: 1Gi}}}]\n      volumes: [{name: v, configMap: {name: c, defaultMode: 0644}}]\n...\n";

const TWO_SERVICES: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {selector: {app: db}, ports: [{port: 5432}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec: {selector: {app: echo, track: blue}, ports: [{port: 80, targetPort: 8080}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: echo}\nspec:\n  selector: {matchLabels: {app: echo, track: blue}}\n  template:\n    metadata: {labels: {app: echo, track: blue}}\n    spec: {containers: [{name: echo, image: e}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: db}\nspec:\n  selector: {matchLabels: {app: db}}\n  template:\n    metadata: {labels: {app: db}}\n    spec: {containers: [{name: db, image: d}]}\n";

const WITH_CANARY: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: echo, annotations: {serin.dev/canary-by-header: x-canary}}\nspec: {selector: {app: echo, track: stable}, ports: [{port: 80, targetPort: 8080}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: server}\nspec:\n  selector: {matchLabels: {app: echo, track: stable}}\n  template:\n    metadata: {labels: {app: echo, track: stable}}\n    spec: {containers: [{name: server, image: e}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: server-canary}\nspec:\n  selector: {matchLabels: {app: echo, track: canary}}\n  template:\n    metadata: {labels: {app: echo, track: canary}}\n    spec: {containers: [{name: server, image: e2}]}\n";

const HELM: &str = "---\n# Source: chart/templates/service.yaml\napiVersion: v1\nkind: Service\nmetadata:\n  name: rel-web\n  labels:\n    helm.sh/chart: web-1.2.3\n    app.kubernetes.io/managed-by: Helm\nspec:\n  type: ClusterIP\n  ports:\n    - port: 80\n      targetPort: http\n      protocol: TCP\n      name: http\n  selector:\n    app.kubernetes.io/name: web\n    app.kubernetes.io/instance: rel\n---\n# Source: chart/templates/deployment.yaml\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: rel-web\n  labels:\n    helm.sh/chart: web-1.2.3\nspec:\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: web\n      app.kubernetes.io/instance: rel\n  template:\n    metadata:\n      annotations:\n        checksum/config: 0123456789\n      labels:\n        app.kubernetes.io/name: web\n        app.kubernetes.io/instance: rel\n    spec:\n      serviceAccountName: rel-web\n      containers:\n        - name: web\n          image: \"nginx:1.27\"\n          ports:\n            - name: http\n              containerPort: 80\n              protocol: TCP\n          command:\n            - sh\n            - -c\n            - |\n              echo \"hello: world\"\n              exec nginx -g 'daemon off;'\n---\n# Source: empty\n";

const JSON: &str = "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"echo\"},\"spec\":{\"selector\":{\"app\":\"echo\"},\"ports\":[{\"port\":80,\"targetPort\":8080}]}}\n---\n{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"echo\"},\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"echo\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":\"echo\"}},\"spec\":{\"containers\":[{\"name\":\"echo\",\"image\":\"e\"}]}}}}\n";

fn all() -> Vec<(&'static str, String)> {
    let mut all: Vec<_> = [
        ("plain", PLAIN),
        ("no track", NO_TRACK),
        ("two containers", TWO_CONTAINERS),
        ("list", LIST),
        ("anchors", ANCHORS),
        ("octal", OCTAL),
        ("two services", TWO_SERVICES),
        ("with a canary", WITH_CANARY),
        ("helm", HELM),
        ("json", JSON),
    ]
    .map(|(name, text)| (name, text.to_owned()))
    .into();
    all.push(("crlf", PLAIN.replace('\n', "\r\n")));
    all.push(("byte order mark", format!("\u{feff}{PLAIN}")));
    all
}

fn wish(name: &str) -> Wish {
    Wish {
        service: (name == "two services").then(|| "echo".to_owned()),
        proxies: 3,
        image: "serin:dev".into(),
        namespace: "default".into(),
    }
}

fn values(text: &str) -> Vec<Value> {
    let documents = documents::read(text).unwrap();
    documents
        .into_iter()
        .map(|d| d.value)
        .filter(|v| !v.is_null())
        .collect()
}

fn find<'a>(all: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |v: &&Value| v["kind"] == kind && v["metadata"]["name"] == name;
    all.iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("no {kind} {name} in {all:#?}"))
}

#[test]
fn there_and_back_is_where_it_began() {
    for place in [Place::Front, Place::Sidecar] {
        for (name, text) in all() {
            let there = changed(&text, place, &wish(name), false).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_ne!(values(&there), values(&text), "{name}");
            let back = changed(&there, place, &wish(name), true).unwrap();
            assert_eq!(values(&back), values(&text), "{name} {place:?}:\n{there}");
        }
    }
}

#[test]
fn a_second_time_changes_nothing() {
    for place in [Place::Front, Place::Sidecar] {
        for (name, text) in all() {
            let once = changed(&text, place, &wish(name), false).unwrap();
            assert_eq!(
                changed(&once, place, &wish(name), false).unwrap(),
                once,
                "{name} {place:?}"
            );
        }
    }
}

#[test]
fn the_service_finds_proxies_and_two_new_ones_find_the_tracks() {
    let made = values(&changed(PLAIN, Place::Front, &wish(""), false).unwrap());
    let front = find(&made, "Service", "echo");
    assert_eq!(
        front["spec"]["selector"],
        serde_json::json!({"serin.dev/proxy": "echo"})
    );
    let notes = &front["metadata"]["annotations"];
    assert_eq!(notes["serin.dev/stable-service"], "echo-stable");
    assert_eq!(notes["serin.dev/canary-service"], "echo-canary");
    let pauses = notes.get("serin.dev/canary-weight");
    assert_eq!(pauses, None, "applied again, it would pause a release");
    let track = |name: &str| find(&made, "Service", name)["spec"].clone();
    assert_eq!(
        track("echo-stable")["selector"],
        serde_json::json!({"app": "echo", "track": "stable"})
    );
    assert_eq!(
        track("echo-canary")["selector"],
        serde_json::json!({"app": "echo", "track": "canary"})
    );
    assert_eq!(track("echo-stable")["ports"][0]["targetPort"], "http");
    let proxies = find(&made, "Deployment", "echo-proxy");
    assert_eq!(proxies["spec"]["replicas"], 3);
    let ports = &proxies["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(front["spec"]["ports"][0]["targetPort"], ports[0]["containerPort"]);
    assert_eq!(ports[1]["name"], "signals");
    assert_eq!(
        find(&made, "Role", "echo-proxy")["rules"][0]["resourceNames"][0],
        "echo"
    );
    assert_eq!(find(&made, "Rollout", "echo")["spec"]["stable"]["name"], "server");
    find(&made, "ServiceAccount", "serin-proxy");
    find(&made, "PodDisruptionBudget", "echo-proxy");
}

#[test]
fn pods_without_a_track_get_one_so_that_the_two_services_differ() {
    let text = changed(NO_TRACK, Place::Front, &wish(""), false).unwrap();
    let made = values(&text);
    let deployment = find(&made, "Deployment", "web");
    assert_eq!(
        deployment["spec"]["template"]["metadata"]["labels"]["track"],
        "stable"
    );
    assert_eq!(
        deployment["spec"]["selector"]["matchLabels"],
        serde_json::json!({"app": "web"})
    );
    let stable = find(&made, "Service", "web-stable");
    assert_eq!(stable["spec"]["selector"]["track"], "stable");
    assert_eq!(stable["spec"]["ports"][0]["nodePort"], Value::Null);
    assert_eq!(stable["metadata"]["namespace"], "shop");
    assert_eq!(
        find(&made, "RoleBinding", "web-proxy")["subjects"][0]["namespace"],
        "shop"
    );
    assert!(text.contains("# a comment that stays") && text.contains("     --- not a separator"));
}

#[test]
fn a_sidecar_stands_before_the_application_in_every_pod() {
    let made = values(&changed(WITH_CANARY, Place::Sidecar, &wish(""), false).unwrap());
    for name in ["server", "server-canary"] {
        let pod = &find(&made, "Deployment", name)["spec"]["template"];
        assert_eq!(pod["metadata"]["labels"]["serin.dev/proxy"], "echo");
        let sidecar = &pod["spec"]["containers"][1];
        assert_eq!(sidecar["name"], "serin-proxy");
        assert!(
            sidecar["args"]
                .as_array()
                .unwrap()
                .contains(&"--local=127.0.0.1:8080".into()),
            "{sidecar}"
        );
        assert_eq!(pod["spec"]["serviceAccountName"], "serin-proxy");
    }
    let service = &find(&made, "Service", "echo")["spec"];
    assert_eq!(service["ports"][0]["targetPort"], 18_080);
    assert_eq!(
        find(&made, "Service", "echo-stable")["spec"]["ports"][0]["targetPort"],
        8080
    );
}

#[test]
fn a_sidecar_keeps_clear_of_ports_and_accounts_that_are_there() {
    let made = values(&changed(TWO_CONTAINERS, Place::Sidecar, &wish(""), false).unwrap());
    let pod = &find(&made, "Deployment", "api")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][2]["ports"][0]["containerPort"], 18_081);
    assert!(
        pod["containers"][2]["args"]
            .as_array()
            .unwrap()
            .contains(&"--local=127.0.0.1:9000".into())
    );
    assert_eq!(pod["serviceAccountName"], "api");
    assert_eq!(
        find(&made, "RoleBinding", "api-proxy")["subjects"][0]["name"],
        "api"
    );
    assert!(!made.iter().any(|v| v["kind"] == "ServiceAccount"));
}

#[test]
fn the_template_of_a_canary_is_injected_by_itself() {
    let template = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: server-canary}\nspec:\n  template:\n    metadata: {labels: {app: echo, track: canary, version: '{{VERSION}}'}}\n    spec: {containers: [{name: server, image: '{{IMAGE}}', ports: [{containerPort: 8080}]}]}\n";
    let alone = changed(template, Place::Sidecar, &wish(""), false).unwrap_err();
    assert!(alone.contains("--service"), "{alone}");
    let named = wish("two services");
    let there = changed(template, Place::Sidecar, &named, false).unwrap();
    assert!(there.contains("serin-proxy") && there.contains("{{IMAGE}}"));
    assert_eq!(
        values(&changed(&there, Place::Sidecar, &named, true).unwrap()),
        values(template)
    );
}

#[test]
fn what_cannot_be_done_is_told_with_its_place_and_its_remedy() {
    let udp = PLAIN.replace("port: 80,", "port: 80, protocol: UDP,");
    let two_ports = PLAIN.replace("{port: 80,", "{port: 81}, {port: 80,");
    let canary = PLAIN.replace("track: stable", "track: canary");
    let external = PLAIN.replace("  ports: [", "  type: ExternalName\n  ports: [");
    let broken = format!("{PLAIN}---\n{{\n");
    let elsewhere = PLAIN.replace("labels: {app: echo", "labels: {app: other");
    for (text, says) in [
        (udp.as_str(), "protocol is not TCP"),
        (&two_ports, "must have one port"),
        (&canary, "track: stable"),
        (&external, "ExternalName"),
        (&broken, "document 3"),
        (&elsewhere, "no Deployment in the file"),
        ("- a\n- b\n", "document 1 is no object"),
        ("kind: ConfigMap\n", "no Service with a selector"),
        (TWO_SERVICES, "--service: db, echo"),
    ] {
        let why = changed(text, Place::Front, &wish(""), false).unwrap_err();
        assert!(why.contains(says), "{says}: {why}");
    }
    let why = changed(PLAIN, Place::Front, &wish("two services"), true)
        .map(drop)
        .unwrap_err();
    assert!(why.contains("nothing here was changed"), "{why}");
}
