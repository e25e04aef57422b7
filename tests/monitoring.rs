//! Dashboards, rules and alerts of `k8s/monitoring`, asked of a real Prometheus that reads a real release and a real
//! controller, and of `promtool`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use cluster::api::{Options, Server};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};
use support::{prometheus::Prometheus, *};

/// Longest wait for what takes a moment.
const LIMIT: Duration = Duration::from_secs(30);
/// What is written before the operator's copy.
const HEADER: &str =
    "# For the Prometheus operator. Made from rules.yaml: `SERIN_WRITE=1 cargo test --test monitoring`.\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn rules_file() -> PathBuf {
    root().join("k8s/monitoring/rules.yaml")
}

fn rules() -> Vec<Value> {
    let groups = yaml(&rules_file())["groups"].as_array().unwrap().clone();
    groups
        .iter()
        .flat_map(|g| g["rules"].as_array().unwrap().clone())
        .collect()
}

fn promtool(args: &[&str]) -> (bool, String) {
    let output = Command::new("promtool")
        .args(args)
        .output()
        .expect("promtool is there: Debian package prometheus");
    (output.status.success(), stdout(&output) + &stderr(&output))
}

#[test]
fn the_operator_is_given_the_same_rules() {
    let object = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
        "metadata": {"name": "serin", "labels": {"app.kubernetes.io/name": "serin"}}, "spec": yaml(&rules_file())});
    let file = root().join("k8s/monitoring/prometheus-rule.yaml");
    if std::env::var_os("SERIN_WRITE").is_some() {
        let text = format!("{HEADER}{}", serde_saphyr::to_string(&object).unwrap());
        fs::write(&file, text).unwrap();
    }
    assert_eq!(yaml(&file), object, "run it with SERIN_WRITE=1");
}

#[test]
fn promtool_finds_no_fault_in_the_rules() {
    let (fine, said) = promtool(&["check", "rules", rules_file().to_str().unwrap()]);
    assert!(fine, "{said}");
    for rule in rules().iter().filter(|r| r["alert"].is_string()) {
        for key in ["summary", "runbook"] {
            let text = rule["annotations"][key].as_str().unwrap_or_default();
            assert!(
                text.ends_with('.') && text.len() > 20,
                "{} {key}: {text}",
                rule["alert"]
            );
        }
        assert!(rule["labels"]["severity"].is_string() && rule["for"].is_string());
    }
}

/// Each alert has a case in which it fires, and one in which all is well and it does not.
#[test]
fn each_alert_fires_once_and_is_quiet_else() {
    let scratch = Scratch::new();
    let mut all = yaml(&rules_file());
    for group in all["groups"].as_array_mut().unwrap() {
        for rule in group["rules"].as_array_mut().unwrap() {
            rule.as_object_mut().unwrap().remove("annotations");
        }
    }
    scratch.replace("rules.yaml", &all.to_string());
    let cases = fs::read_to_string(root().join("tests/monitoring/alerts.yaml")).unwrap();
    let read: Value = serde_saphyr::from_str(&cases).unwrap();
    let named = |wanted: bool| -> BTreeSet<String> {
        let tests = read["tests"].as_array().unwrap().iter();
        tests
            .flat_map(|t| t["alert_rule_test"].as_array().unwrap().clone())
            .filter(|t| t["exp_alerts"].as_array().is_some_and(|a| !a.is_empty()) == wanted)
            .map(|t| t["alertname"].as_str().unwrap().to_owned())
            .collect()
    };
    let alerts: BTreeSet<String> = rules()
        .iter()
        .filter_map(|r| r["alert"].as_str().map(str::to_owned))
        .collect();
    assert_eq!((&named(true), &named(false)), (&alerts, &alerts));
    scratch.replace("alerts.yaml", &cases.replace("RULES", "rules.yaml"));
    let (fine, said) = promtool(&["test", "rules", scratch.path("alerts.yaml").to_str().unwrap()]);
    assert!(fine, "{said}");
}

/// A controller of a cluster with one Rollout, for its own metrics.
struct Controller {
    _process: Process,
    _server: Server,
    _scratch: Scratch,
}

fn kubectl(config: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(config)
        .arg("--cache-dir")
        .arg(config.with_extension("cache"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl is there: Debian package kubernetes-client");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

impl Controller {
    fn start(port: u16) -> Controller {
        let (server, scratch) = (Server::start(Options::default()).unwrap(), Scratch::new());
        let config = scratch.path("config");
        fs::write(&config, server.kubeconfig("admin", &["system:masters"])).unwrap();
        let crd = root().join("k8s/crd/crd.yaml");
        kubectl(&config, &["apply", "-f", crd.to_str().unwrap()], "");
        let rollout = "apiVersion: serin.dev/v1alpha1\nkind: Rollout\nmetadata: {name: echo, namespace: default}\nspec: {service: echo, stable: {name: echo}}\n";
        kubectl(&config, &["apply", "-f", "-"], rollout);
        let process = Process::start(
            Command::new(SERIN)
                .args([
                    "controller",
                    "--lease-namespace=default",
                    &format!("--listen=127.0.0.1:{port}"),
                ])
                .env("KUBECONFIG", &config),
        );
        until("the controller leads and has counted", LIMIT, || {
            let text = get(loopback(port), "/metrics")?.body;
            let has = |line: &str| text.lines().any(|l| l == line);
            (has("serin_controller_leader 1") && has("serin_rollouts{phase=\"Idle\"} 1")).then_some(())
        });
        Controller {
            _process: process,
            _server: server,
            _scratch: scratch,
        }
    }
}

/// A release with everything that has metrics of its own: TLS, host names, a log, a refused value.
fn release(ports: [u16; 4], stable: u16, canary: u16) -> Run {
    let [listen, signals, admin, tls] = ports;
    let scratch = Scratch::new();
    let made = rcgen::generate_simple_self_signed(vec!["echo.test".to_owned()]).unwrap();
    scratch.replace("tls.crt", &made.cert.pem());
    scratch.replace("tls.key", &made.signing_key.serialize_pem());
    let text = file([listen, signals, admin], 1, &[stable], &[canary], &[], QUICK);
    let more = format!(
        "[proxy.tls]\nlisten = \"127.0.0.1:{tls}\"\ncertificates = [{{ cert = \"tls.crt\", key = \"tls.key\" }}]\n[proxy.accessLog]\nto = \"{}\"\n\n[controller]",
        scratch.path("access.log").display()
    );
    let text = text.replace("[controller]", &more).replace(
        &format!("\"127.0.0.1:{stable}\""),
        &format!("\"localhost:{stable}\""),
    );
    let run = Run::start_in(scratch, [listen, signals, admin], &text);
    run.scratch.replace(
        "serin.toml",
        &text.replace(
            "[service.annotations]",
            "[service.annotations]\n\"serin.dev/canary-cohort\" = \"everybody\"",
        ),
    );
    until("the value is refused", LIMIT, || {
        let metrics = get(run.signals, "/metrics")?.body;
        metrics.contains("serin_config_rejected_total{").then_some(())
    });
    run.scratch.replace("serin.toml", &text);
    run
}

fn encoded(query: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    query
        .bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// Every query of a dashboard, with its variables put in.
fn queries(board: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"]
                .as_str()
                .unwrap()
                .replace("$namespace", ".*")
                .replace("$service", "echo");
            assert!(!query.contains('$'), "{query}");
            all.push((panel["title"].as_str().unwrap().to_owned(), query));
        }
    }
    all
}

fn boards() -> Vec<(String, Value)> {
    ["proxy", "controller", "rollout"]
        .into_iter()
        .map(|name| {
            let text =
                fs::read_to_string(root().join(format!("k8s/monitoring/dashboards/{name}.json"))).unwrap();
            (name.to_owned(), serde_json::from_str(&text).unwrap())
        })
        .collect()
}

/// What is compared with a limit.
fn without_comparison(expr: &str) -> &str {
    let cut = [" > ", " < ", " == "].iter().filter_map(|s| expr.rfind(s)).max();
    expr[..cut.unwrap_or_else(|| panic!("{expr} compares nothing"))].trim()
}

#[test]
fn every_query_returns_data_of_a_real_release() {
    let [s, c, listen, signals, admin, tls, controller, at] = free_ports();
    let _apps = [app(s, "v1", &[]), app(c, "v2", &[])];
    let _controller = Controller::start(controller);
    let run = release([listen, signals, admin, tls], s, c);
    let users = Users::start(run.listen, 100.0, 10);
    let prometheus = Prometheus::with_rules(at, &[signals, controller], &[&rules_file()]);
    let ask = |query: &str| {
        prometheus.api(&format!("query?query={}", encoded(query)))["result"]
            .as_array()
            .unwrap()
            .clone()
    };
    let range = |query: &str| {
        let (query, now) = (encoded(query), now());
        let call = format!("query_range?query={query}&start={}&end={now}&step=1", now - 5);
        prometheus.api(&call)["result"].as_array().unwrap().clone()
    };
    let rules = rules();
    let recorded: Vec<&str> = rules.iter().filter_map(|r| r["record"].as_str()).collect();
    until(
        "the canary has traffic and every recording rule has a value",
        LIMIT,
        || {
            let busy = ask("sum(rate(serin_decisions_total{track=\"canary\",reason=\"weight\"}[1m])) > 0");
            (!busy.is_empty() && recorded.iter().all(|name| !ask(name).is_empty())).then_some(())
        },
    );
    let mut asked = 0;
    for (name, board) in boards() {
        for (title, query) in queries(&board) {
            // A rate has data from the second look of Prometheus on, and some of these began a moment ago.
            until(&format!("{name} / {title} has data: {query}"), LIMIT, || {
                (!ask(&query).is_empty() && !range(&query).is_empty()).then_some(())
            });
            asked += 1;
        }
    }
    for rule in &rules {
        let expr = rule["expr"].as_str().unwrap().trim();
        let query = if rule["alert"].is_string() {
            without_comparison(expr)
        } else {
            expr
        };
        assert!(
            !ask(query).is_empty(),
            "{}{}: no data: {query}",
            rule["alert"],
            rule["record"]
        );
        asked += 1;
    }
    println!("{asked} queries had data");
    assert!(asked > 70, "{asked}");
    let groups = prometheus.api("rules")["groups"].clone();
    for rule in groups
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|g| g["rules"].as_array().unwrap())
    {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    assert_eq!(users.stop().broken, 0);
    // A query of what nobody tells has none: the loop above would have seen it.
    assert!(ask("serin_nothing_total").is_empty());
}

fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[test]
fn dashboards_are_whole() {
    let mut uids = BTreeSet::new();
    for (name, board) in boards() {
        assert!(uids.insert(board["uid"].as_str().unwrap().to_owned()), "{name}");
        for panel in board["panels"].as_array().unwrap() {
            assert!(
                panel["description"].as_str().is_some_and(|d| d.ends_with('.')),
                "{name}: {}",
                panel["title"]
            );
            assert_eq!(panel["datasource"]["uid"], "${datasource}");
        }
        let list = board["templating"]["list"].as_array().unwrap();
        let variables: Vec<_> = list.iter().map(|v| v["name"].as_str().unwrap()).collect();
        let wanted: &[&str] = if name == "controller" {
            &["datasource"]
        } else {
            &["datasource", "namespace", "service"]
        };
        assert_eq!(variables, wanted);
    }
}
