//! Tables, as kubectl asks for them.

use super::ask::Ask;
use super::kinds::Kind;
use super::read::Page;
use super::{clock, events, jsonpath};
use serde_json::{Value, json};

/// A column: its name, its type, whether only `-o wide` shows it, and what is in it.
struct Column {
    name: String,
    kind: String,
    priority: u64,
    cell: Cell,
}

enum Cell {
    Path(String),
    Made(fn(&Value) -> Value),
}

/// Whether the caller wants a table.
pub(super) fn wanted(ask: &Ask) -> bool {
    ask.accept
        .split(',')
        .next()
        .is_some_and(|first| first.contains("as=Table"))
}

pub(super) fn page(ask: &Ask, page: &Page) -> String {
    table(ask, &page.objects, true, page.metadata()).to_string()
}

/// A table of one row; in a watch only the first has a head.
pub(super) fn one(ask: &Ask, object: &std::sync::Arc<Value>, head: bool) -> Value {
    let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
    table(ask, std::slice::from_ref(object), head, metadata)
}

fn table(ask: &Ask, objects: &[std::sync::Arc<Value>], head: bool, metadata: Value) -> Value {
    let columns = columns(&ask.kind);
    let rows: Vec<Value> = objects.iter().map(|object| row(ask, &columns, object)).collect();
    let heads = columns.iter().filter(|_| head).map(|column| {
        let format = if column.name == "Name" { "name" } else { "" };
        json!({"name": column.name, "type": column.kind, "format": format, "description": "", "priority": column.priority})
    });
    let heads: Vec<Value> = heads.collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": heads, "rows": rows})
}

fn row(ask: &Ask, columns: &[Column], object: &Value) -> Value {
    let cells: Vec<Value> = columns.iter().map(|column| cell(column, object)).collect();
    let shown = match ask.query.get("includeObject") {
        "None" => Value::Null,
        "Object" => events::to(&ask.kind, object),
        _ => {
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
        }
    };
    json!({"cells": cells, "object": shown})
}

fn cell(column: &Column, object: &Value) -> Value {
    match &column.cell {
        Cell::Made(made) => made(object),
        Cell::Path(path) => match jsonpath::first(object, path) {
            Some(Value::String(time)) if column.kind == "date" => aged(time).into(),
            Some(value) if column.kind == "string" && !value.is_string() => value.to_string().into(),
            Some(value) => value.clone(),
            None => Value::Null,
        },
    }
}

fn columns(kind: &Kind) -> Vec<Column> {
    if let Some(custom) = &kind.custom {
        let mut all = vec![made("Name", 0, name)];
        all.extend(custom.columns.iter().map(printer));
        if custom.columns.is_empty() {
            all.push(made("Age", 0, age));
        }
        return all;
    }
    let (own, wide) = builtin(&kind.plural);
    let ends = matches!(kind.plural.as_str(), "events");
    let mut all = if ends {
        Vec::new()
    } else {
        vec![made("Name", 0, name)]
    };
    all.extend(own.iter().map(|(name, cell)| made(name, 0, *cell)));
    if !ends {
        all.push(made("Age", 0, age));
    }
    all.extend(wide.iter().map(|(name, cell)| made(name, 1, *cell)));
    all
}

type Cells = &'static [(&'static str, fn(&Value) -> Value)];

/// The columns between name and age, and those of `-o wide`.
fn builtin(plural: &str) -> (Cells, Cells) {
    match plural {
        "pods" => (
            &[
                ("Ready", pod_ready),
                ("Status", pod_status),
                ("Restarts", restarts),
            ],
            &[
                ("IP", |o| o["status"]["podIP"].clone()),
                ("Node", |o| o["spec"]["nodeName"].clone()),
            ],
        ),
        "deployments" => (
            &[
                ("Ready", |o| {
                    ratio(&o["status"]["readyReplicas"], &o["spec"]["replicas"])
                }),
                ("Up-to-date", |o| number(&o["status"]["updatedReplicas"])),
                ("Available", |o| number(&o["status"]["availableReplicas"])),
            ],
            &[
                ("Containers", |o| containers(o, "name")),
                ("Images", |o| containers(o, "image")),
                ("Selector", selector),
            ],
        ),
        "statefulsets" => (
            &[("Ready", |o| {
                ratio(&o["status"]["readyReplicas"], &o["spec"]["replicas"])
            })],
            &[("Images", |o| containers(o, "image"))],
        ),
        "replicasets" => (
            &[
                ("Desired", |o| number(&o["spec"]["replicas"])),
                ("Current", |o| number(&o["status"]["replicas"])),
                ("Ready", |o| number(&o["status"]["readyReplicas"])),
            ],
            &[("Images", |o| containers(o, "image")), ("Selector", selector)],
        ),
        "daemonsets" => (
            &[
                ("Desired", |o| number(&o["status"]["desiredNumberScheduled"])),
                ("Ready", |o| number(&o["status"]["numberReady"])),
                ("Up-to-date", |o| number(&o["status"]["updatedNumberScheduled"])),
            ],
            &[("Images", |o| containers(o, "image"))],
        ),
        "services" => (
            &[
                ("Type", |o| o["spec"]["type"].clone()),
                ("Cluster-IP", |o| o["spec"]["clusterIP"].clone()),
                ("External-IP", |_| "<none>".into()),
                ("Port(s)", service_ports),
            ],
            &[("Selector", |o| labels(&o["spec"]["selector"]))],
        ),
        "events" => (
            &[
                ("Last Seen", last_seen),
                ("Type", |o| o["type"].clone()),
                ("Reason", |o| o["reason"].clone()),
                ("Object", event_object),
                ("Message", |o| o["message"].clone()),
            ],
            &[("Name", name)],
        ),
        "endpointslices" => (
            &[
                ("AddressType", |o| o["addressType"].clone()),
                ("Ports", |o| listed(&o["ports"], "port")),
                ("Endpoints", addresses),
            ],
            &[],
        ),
        "leases" => (&[("Holder", |o| o["spec"]["holderIdentity"].clone())], &[]),
        "namespaces" => (&[("Status", |o| o["status"]["phase"].clone())], &[]),
        "configmaps" => (&[("Data", |o| count(&o["data"]))], &[]),
        "secrets" => (
            &[("Type", |o| o["type"].clone()), ("Data", |o| count(&o["data"]))],
            &[],
        ),
        "nodes" => (&[("Status", node_status)], &[]),
        _ => (&[], &[]),
    }
}

fn made(name: &str, priority: u64, cell: fn(&Value) -> Value) -> Column {
    Column {
        name: name.into(),
        kind: "string".into(),
        priority,
        cell: Cell::Made(cell),
    }
}

fn printer(column: &Value) -> Column {
    let text = |field: &str| column[field].as_str().unwrap_or_default().to_owned();
    let priority = column["priority"].as_u64().unwrap_or_default();
    Column {
        name: text("name"),
        kind: text("type"),
        priority,
        cell: Cell::Path(text("jsonPath")),
    }
}

fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

fn age(object: &Value) -> Value {
    aged(
        object["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap_or_default(),
    )
    .into()
}

fn pod_ready(pod: &Value) -> Value {
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .map_or(0, |all| all.iter().filter(|one| one["ready"] == true).count());
    ratio(
        &statuses.into(),
        &pod["spec"]["containers"].as_array().map_or(0, Vec::len).into(),
    )
}

/// The phase, or what the containers wait for or ended with.
fn pod_status(pod: &Value) -> Value {
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating".into();
    }
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten();
    let mut reasons = statuses.filter_map(|one| {
        let state = &one["state"];
        state["waiting"]["reason"]
            .as_str()
            .or(state["terminated"]["reason"].as_str())
    });
    reasons
        .next()
        .map_or_else(|| pod["status"]["phase"].clone(), Value::from)
}

fn restarts(pod: &Value) -> Value {
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten();
    statuses
        .filter_map(|one| one["restartCount"].as_u64())
        .sum::<u64>()
        .to_string()
        .into()
}

fn service_ports(service: &Value) -> Value {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let shown = ports.map(|port| format!("{}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP")));
    or_none(shown.collect::<Vec<_>>().join(","))
}

fn event_object(event: &Value) -> Value {
    let object = &event["involvedObject"];
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    format!("{}/{}", text("kind").to_lowercase(), text("name")).into()
}

fn last_seen(event: &Value) -> Value {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    aged(times.into_iter().find_map(Value::as_str).unwrap_or_default()).into()
}

fn addresses(slice: &Value) -> Value {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let all = endpoints.filter_map(|endpoint| endpoint["addresses"][0].as_str());
    or_none(all.collect::<Vec<_>>().join(","))
}

fn node_status(node: &Value) -> Value {
    let ready = jsonpath::first(node, ".status.conditions[?(@.type==\"Ready\")].status");
    if ready.is_some_and(|status| status == "True") {
        "Ready".into()
    } else {
        "NotReady".into()
    }
}

fn containers(object: &Value, field: &str) -> Value {
    listed(&object["spec"]["template"]["spec"]["containers"], field)
}

fn selector(object: &Value) -> Value {
    labels(&object["spec"]["selector"]["matchLabels"])
}

fn labels(labels: &Value) -> Value {
    let pairs = labels.as_object().into_iter().flatten();
    or_none(
        pairs
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(","),
    )
}

fn listed(list: &Value, field: &str) -> Value {
    let all = list.as_array().into_iter().flatten();
    or_none(
        all.map(|item| {
            item[field]
                .as_str()
                .map_or_else(|| item[field].to_string(), str::to_owned)
        })
        .collect::<Vec<_>>()
        .join(","),
    )
}

fn or_none(text: String) -> Value {
    if text.is_empty() {
        "<none>".into()
    } else {
        text.into()
    }
}

fn ratio(part: &Value, whole: &Value) -> Value {
    format!(
        "{}/{}",
        part.as_u64().unwrap_or_default(),
        whole.as_u64().unwrap_or_default()
    )
    .into()
}

fn number(value: &Value) -> Value {
    value.as_u64().unwrap_or_default().to_string().into()
}

fn count(map: &Value) -> Value {
    map.as_object().map_or(0, serde_json::Map::len).to_string().into()
}

/// How long ago, in kubectl's short form.
fn aged(time: &str) -> String {
    clock::age(time).map_or_else(|| "<unknown>".into(), short)
}

fn short(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |big: i64, unit: char, small: i64, below: char| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{below}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn ages_are_short() {
        for (seconds, shown) in [
            (-5, "0s"),
            (119, "119s"),
            (120, "2m"),
            (190, "3m10s"),
            (3600, "60m"),
            (10_860, "3h1m"),
            (90_000, "25h"),
            (700_000, "8d"),
        ] {
            assert_eq!(short(seconds), shown);
        }
    }
}
