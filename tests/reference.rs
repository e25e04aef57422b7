//! The reference pages are what the code says: `SERIN_WRITE=1 cargo test --test reference` writes them anew.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use proxy::contract::{
    metrics::{ALL, Kind, Metric, Source},
    names::PREFIX,
    reference::{ANNOTATIONS, EVENTS},
    rollout::RolloutSpec,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::Path,
    process::Command,
};
use support::*;

/// What is below this line of a page is made.
const MARKER: &str = "<!-- made from the code: SERIN_WRITE=1 cargo test --test reference -->\n";

/// The page's part below the marker is `made`.
fn fresh(page: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs::read_to_string(&file).unwrap();
    let (above, below) = text
        .split_once(MARKER)
        .unwrap_or_else(|| panic!("{page} has no marker"));
    if std::env::var_os("SERIN_WRITE").is_some() {
        fs::write(&file, format!("{above}{MARKER}{made}")).unwrap();
        return;
    }
    assert!(
        below == made,
        "docs/{page} is not what the code says; run this test with SERIN_WRITE=1"
    );
}

fn kind(metric: &Metric) -> &'static str {
    match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

#[test]
fn metrics() {
    let mut out = String::new();
    for (source, title) in [
        (Source::Proxy, "Of every proxy, at `signals`"),
        (Source::Compatible, "Of a proxy with `ingressNginxMetrics`"),
        (
            Source::Controller,
            "Of the controller of a cluster, at `--listen`",
        ),
    ] {
        write!(
            out,
            "\n### {title}\n\n| name | type | labels | unit | meaning |\n|---|---|---|---|---|\n"
        )
        .unwrap();
        for m in ALL.iter().filter(|m| m.source == source) {
            writeln!(
                out,
                "| `{}` | {} | {} | {} | {} |",
                m.name,
                kind(m),
                m.labels,
                m.unit,
                m.help
            )
            .unwrap();
        }
    }
    fresh("metrics.md", &out);
}

#[test]
fn annotations() {
    let mut out = String::from("\n| key | on | value | default | meaning |\n|---|---|---|---|---|\n");
    for a in ANNOTATIONS {
        writeln!(
            out,
            "| `{PREFIX}{}` | {} | {} | {} | {} |",
            a.key, a.on, a.value, a.default, a.meaning
        )
        .unwrap();
    }
    fresh("annotations.md", &out);
}

#[test]
fn events() {
    let mut out = String::from("\n| reason | type | meaning |\n|---|---|---|\n");
    for e in EVENTS {
        let kind = if e.warning { "Warning" } else { "Normal" };
        writeln!(out, "| `{}` | {kind} | {} |", e.reason, e.meaning).unwrap();
    }
    fresh("events.md", &out);
}

#[test]
fn rollout() {
    let crd: Value = serde_saphyr::from_str(&stdout(&serin(&["crd"]))).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let bare = json!({"service": "", "stable": {"name": ""}, "pacing": {"steps": [{"weight": 0}]},
        "gates": [{"name": "", "at": "before-start", "webhook": {"url": ""}}], "verify": {"smoke": [{"path": ""}]},
        "judgement": {"checks": [{"name": ""}]}});
    let bare: RolloutSpec = serde_json::from_value(bare).unwrap();
    let usual = json!({"spec": bare});
    let mut out = String::new();
    for part in ["spec", "status"] {
        write!(
            out,
            "\n### {part}\n\n| field | type | default | meaning |\n|---|---|---|---|\n"
        )
        .unwrap();
        fields(&schema[part], &usual[part], part, &mut out);
    }
    fresh("rollout.md", &out);
}

/// What a command says of itself, whatever the terminal and the environment.
fn help(args: &[&str]) -> String {
    let run = Command::new(SERIN)
        .args(args)
        .arg("--help")
        .env_clear()
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert!(run.status.success(), "{args:?}: {}", stderr(&run));
    let text = stdout(&run);
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    lines.join("\n")
}

#[test]
fn commands() {
    let all = help(&[]);
    let names = all.lines().skip_while(|l| *l != "Commands:").skip(1);
    let names = names.take_while(|l| !l.is_empty());
    let names: Vec<&str> = names
        .filter(|l| l.starts_with("  ") && !l.starts_with("   "))
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    assert!(names.len() > 20, "{names:?}");
    let mut out = format!("\n```text\n{all}\n```\n");
    for name in names {
        write!(out, "\n## serin {name}\n\n```text\n{}\n```\n", help(&[name])).unwrap();
    }
    fresh("commands.md", &out);
}

/// A line for each field, and for those in it.
fn fields(schema: &Value, usual: &Value, path: &str, out: &mut String) {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let inner = if field["items"].is_object() {
            &field["items"]
        } else {
            field
        };
        let list = if field["items"].is_object() { "[]" } else { "" };
        let at = format!("{path}.{name}{list}");
        let kind = match field["enum"].as_array().or(inner["enum"].as_array()) {
            Some(words) => words
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(", "),
            None => field["type"].as_str().unwrap_or("any").to_owned(),
        };
        let default = match (&field["default"], &usual[name]) {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            (Value::Null, Value::Null | Value::Object(_) | Value::Array(_)) => String::new(),
            (Value::Null, value) | (value, _) => format!("`{value}`").replace('"', ""),
        };
        let words = field["description"].as_str().unwrap_or_default();
        let words = words
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace('|', "\\|");
        writeln!(out, "| `{at}` | {kind} | {default} | {words} |").unwrap();
        let below = usual[name].get(0).unwrap_or(&usual[name]);
        fields(inner, below, &at, out);
    }
}

/// Families of a page of metrics: type, and the labels of their samples.
fn families(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut all: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            last = name.to_owned();
            all.insert(last.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((_, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let (labels, _) = rest.rsplit_once('}').unwrap();
            let names = labels
                .split("\",")
                .filter_map(|l| l.split_once('='))
                .map(|(n, _)| n.to_owned());
            all.get_mut(&last).unwrap().1.extend(names.filter(|n| n != "le"));
        }
    }
    all
}

fn started(more: &str) -> (Run, [Process; 2]) {
    started_with(|text| text.replace("[controller]", &format!("{more}\n[controller]")))
}

/// With a file that is changed first.
fn started_with(change: impl FnOnce(String) -> String) -> (Run, [Process; 2]) {
    let [s, c, p0, p1, p2] = free_ports();
    let apps = [app(s, "v1", &[]), app(c, "v2", &[])];
    let text = file([p0, p1, p2], 1, &[s], &[c], &[("canary-weight", "50")], "");
    (Run::start([p0, p1, p2], &change(text)), apps)
}

#[test]
fn what_a_proxy_tells_is_in_the_table_with_its_type_and_labels() {
    // A relative name would count from where the test runs.
    let folder = Scratch::new();
    let log = folder.path("access.log");
    let (run, _apps) = started(&format!("[proxy.accessLog]\nto = \"{}\"\n", log.display()));
    let told = families(&get(run.signals, "/metrics").unwrap().body);
    assert!(told.len() >= 12, "{told:?}");
    for (name, (kind_told, labels)) in told {
        let metric = ALL
            .iter()
            .find(|m| m.name == name)
            .unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(metric.source, Source::Proxy, "{name}");
        assert_eq!(kind_told, kind(metric), "{name}");
        let wanted: BTreeSet<String> = metric
            .labels
            .split(", ")
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect();
        assert_eq!(labels, wanted, "{name}");
    }
}

/// The sum of the samples of `name` whose labels have all of `parts`.
fn sum(text: &str, name: &str, parts: &[&str]) -> f64 {
    let lines = text
        .lines()
        .filter(|l| l.starts_with(&format!("{name}{{")) && parts.iter().all(|p| l.contains(p)));
    lines
        .filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

#[test]
fn names_of_ingress_nginx_are_told_where_they_are_wanted() {
    let (run, _apps) = started("");
    assert!(
        !get(run.signals, "/metrics")
            .unwrap()
            .body
            .contains("nginx_ingress")
    );
    let (run, _apps) = started_with(|text| {
        text.replace(
            "debugHeaders = true",
            "debugHeaders = true\ningressNginxMetrics = true",
        )
    });
    for _ in 0..40 {
        assert_eq!(get(run.listen, "/").unwrap().status, 200);
    }
    let told = until("all are counted", std::time::Duration::from_secs(5), || {
        let body = get(run.signals, "/metrics")?.body;
        (sum(&body, "serin_requests_total", &[]) == 40.0).then_some(body)
    });
    let name = "nginx_ingress_controller_requests";
    for (track, canary) in [("stable", "canary=\"\""), ("canary", "canary=\"echo-canary\"")] {
        let wanted = sum(&told, "serin_requests_total", &[&format!("track=\"{track}\"")]);
        assert!(wanted > 0.0);
        assert_eq!(
            sum(
                &told,
                name,
                &[canary, "ingress=\"echo\"", "status=\"200\"", "method=\"GET\""]
            ),
            wanted
        );
        let counted = sum(
            &told,
            "nginx_ingress_controller_request_duration_seconds_count",
            &[canary],
        );
        assert_eq!(counted, wanted);
    }
    let all = families(&told);
    for metric in ALL.iter().filter(|m| m.source == Source::Compatible) {
        let (kind_told, labels) = &all[metric.name];
        let wanted: BTreeSet<String> = metric.labels.split(", ").map(str::to_owned).collect();
        assert_eq!(
            (kind_told.as_str(), labels),
            (kind(metric), &wanted),
            "{}",
            metric.name
        );
    }
    // Prometheus asks for OpenMetrics, where a counter would be called otherwise.
    let open = http(
        run.signals,
        "GET",
        "/metrics",
        &[("accept", "application/openmetrics-text; version=1.0.0")],
        "",
    )
    .unwrap()
    .body;
    assert!(
        open.contains(&format!("# TYPE {name} unknown\n")) && open.contains(&format!("\n{name}{{")),
        "{open}"
    );
    assert_eq!(sum(&open, name, &[]), 40.0);
}
