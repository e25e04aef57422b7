//! Canaries of Flagger.

mod table;

pub use table::FIELDS;

use super::{
    Done, called,
    checks::{Names, filled, span, timed},
    fields::{Loss, losses},
    find, is_kind,
    layout::Release,
    list, matches, number, text,
};
use crate::manifest::Wish;
use proxy::contract::{
    Span,
    names::{CANARY_COHORT, CANARY_MATCH, CANARY_MIRROR},
    policy::{At, Check, Gate, Promql, Step, Webhook},
    rollout::{Workload, WorkloadKind},
};
use serde_json::{Value, json};

/// Most plain steps that are written.
const STEPS: usize = 200;
/// Where Flagger looks when it is not told.
const PROMETHEUS: &str = "http://prometheus:9090";
/// Labels by which Flagger finds pods.
const SELECTORS: [&str; 3] = ["app", "name", "app.kubernetes.io/name"];

/// Every Canary.
pub fn all(all: &[Value], wish: &Wish) -> Vec<Done> {
    let canaries = all.iter().filter(|o| is_kind(o, "flagger.app", "Canary"));
    canaries.map(|canary| one(all, canary, wish)).collect()
}

fn one(all: &[Value], canary: &Value, wish: &Wish) -> Done {
    let Some((kind, target)) = target(canary) else {
        let why = match canary["spec"]["targetRef"].is_null() {
            true => "is missing, and names what is released; give the whole Canary",
            false => {
                "is no Deployment or DaemonSet, and those are what Serin releases; give the workload behind it a Canary, or write a Rollout"
            }
        };
        return Done {
            from: called(canary),
            first: "Nothing could be carried over.",
            objects: Vec::new(),
            losses: vec![Loss::new(
                &called(canary),
                "spec.targetRef",
                &canary["spec"]["targetRef"],
                why,
            )],
        };
    };
    let service = text(canary, "/spec/service/name").unwrap_or(target).to_owned();
    let workload = Workload {
        kind,
        name: target.to_owned(),
    };
    let mut release = Release::new(canary, &service, workload);
    release.first = "Delete the Canary first (with revertOnDeletion, or scale the Deployment up yourself): Flagger keeps it at no replicas and owns \
                     the Service.";
    release.name = text(canary, "/metadata/name").unwrap_or(target).to_owned();
    let spec = renamed(&canary["spec"]);
    release.losses = losses(FIELDS, &release.from.clone(), "spec", &spec);
    release.suspend = spec["suspend"] == true;
    if let Some(deployment) = find(all, canary, "Deployment", target) {
        release.made.extend(service_of(canary, deployment, &service));
    }
    let analysis = &spec["analysis"];
    pace(&mut release, analysis);
    opt_in(&mut release, analysis);
    for (i, hook) in list(analysis, "/webhooks").iter().enumerate() {
        webhook(&mut release, i, hook);
    }
    for (i, metric) in list(analysis, "/metrics").iter().enumerate() {
        measure(&mut release, all, &spec, i, metric);
    }
    release.finish(all, wish)
}

fn target(canary: &Value) -> Option<(WorkloadKind, &str)> {
    let kind = match text(canary, "/spec/targetRef/kind").unwrap_or("Deployment") {
        "Deployment" => WorkloadKind::Deployment,
        "DaemonSet" => WorkloadKind::DaemonSet,
        _ => return None,
    };
    Some((kind, text(canary, "/spec/targetRef/name")?))
}

/// `canaryAnalysis` is what `analysis` was called once.
fn renamed(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(map) = spec.as_object_mut()
        && let Some(old) = map.remove("canaryAnalysis")
    {
        map.entry("analysis").or_insert(old);
    }
    spec
}

/// The Service that Flagger makes, with the pods of the target.
fn service_of(canary: &Value, deployment: &Value, name: &str) -> Option<Value> {
    let labels = deployment["spec"]["selector"]["matchLabels"].as_object()?;
    let key = SELECTORS.iter().find(|key| labels.contains_key(**key))?;
    let said = &canary["spec"]["service"];
    let port = said["port"].as_u64().unwrap_or(80);
    let target = match &said["targetPort"] {
        Value::Null => port.into(),
        given => given.clone(),
    };
    let mut one =
        json!({"name": said["portName"].as_str().unwrap_or("http"), "port": port, "targetPort": target});
    if let Some(protocol) = said["appProtocol"].as_str() {
        one["appProtocol"] = protocol.into();
    }
    let mut metadata = json!({"name": name});
    if let Some(namespace) = canary["metadata"]["namespace"].as_str() {
        metadata["namespace"] = namespace.into();
    }
    Some(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"selector": {*key: labels[*key]}, "ports": [one]}}),
    )
}

/// Steps as Flagger would take them.
fn pace(release: &mut Release<'_>, analysis: &Value) {
    let interval = analysis
        .get("interval")
        .and_then(span)
        .unwrap_or(Span::seconds(60));
    if analysis.get("interval").is_some_and(|v| span(v).is_none()) {
        let why = "is no length of time here, so steps are held for 1m; write for example 30s";
        release.lose("spec.analysis.interval", &analysis["interval"], why);
    }
    let is_weight = |w: &f64| (0.0001..=100.0).contains(w);
    let most = number(analysis, "/maxWeight").filter(is_weight).unwrap_or(100.0);
    let given: Vec<f64> = list(analysis, "/stepWeights")
        .iter()
        .filter_map(Value::as_f64)
        .filter(is_weight)
        .collect();
    let weights = match number(analysis, "/stepWeight").filter(is_weight) {
        _ if !given.is_empty() => given,
        Some(step) => (1..=STEPS)
            .map(|n| step * n as f64)
            .take_while(|w| *w <= most + 1e-9)
            .collect(),
        None => Vec::new(),
    };
    let steps = weights.into_iter().map(|weight| Step {
        weight,
        hold: interval,
        pause: false,
    });
    release.policy.pacing.steps = steps.collect();
    release
        .policy
        .pacing
        .steps
        .dedup_by(|next, before| next.weight <= before.weight);
    if number(analysis, "/iterations").is_some_and(|n| n > 0.0) {
        let is_testing = !list(analysis, "/match").is_empty();
        release.policy.pacing.steps.clear();
        if is_testing {
            release.hold_for_testers();
        }
    }
    if analysis["mirror"] == true {
        let percent = number(analysis, "/mirrorWeight").unwrap_or(100.0);
        release.notes.insert(CANARY_MIRROR, percent.to_string());
    }
    if analysis["sessionAffinity"].is_object() {
        release.notes.insert(CANARY_COHORT, "cookie".to_owned());
    }
}

/// A/B tests: headers of testers.
fn opt_in(release: &mut Release<'_>, analysis: &Value) {
    let mut all = Vec::new();
    for (i, one) in list(analysis, "/match").iter().enumerate() {
        let key = format!("spec.analysis.match[{i}]");
        let headers = one["headers"].as_object().into_iter().flatten();
        let tests: Option<Vec<_>> = headers.map(|(name, test)| matches::header(name, test)).collect();
        match tests.filter(|t| !t.is_empty()).map(matches::of) {
            Some(Ok(found)) => all.push(found),
            Some(Err(why)) => release.lose(key, one, format!("is not taken by the proxy: {why}")),
            None => release.lose(key, one, "names no header; write serin.dev/canary-match by hand"),
        }
    }
    if let Ok(text) = serde_json::to_string(&all)
        && !all.is_empty()
    {
        release.notes.insert(CANARY_MATCH, text);
    }
}

fn webhook(release: &mut Release<'_>, i: usize, hook: &Value) {
    let key = format!("spec.analysis.webhooks[{i}]");
    let name = text(hook, "/name").unwrap_or("webhook");
    let url = text(hook, "/url").unwrap_or_default();
    let at: &[At] = match text(hook, "/type").unwrap_or("rollout") {
        _ if hook["metadata"]["cmd"].is_string() => {
            let why = "runs a command in a load tester, and Serin waits for the traffic of users; have the load tester started by the \
                       pipeline, and smoke requests in spec.verify.smoke";
            return release.lose(key, &Value::String(name.to_owned()), why);
        }
        "confirm-rollout" | "pre-rollout" => &[At::BeforeStart],
        "rollout" | "confirm-traffic-increase" => &[At::BeforeIncrease],
        "confirm-promotion" => &[At::BeforePromotion],
        "post-rollout" => &[At::AfterPromotion, At::AfterRollback],
        "rollback" => {
            let why = "asks whether to go back, and nothing here asks that: call `serin abort NAME`, or write a check that is beyond its limit";
            return release.lose(key, &Value::String(name.to_owned()), why);
        }
        _ => {
            let why = "tells of events; name the receiver in spec.notify (docs/notifications.md)";
            return release.lose(key, &Value::String(name.to_owned()), why);
        }
    };
    for (n, at) in at.iter().enumerate() {
        let mut made = json!({"url": url});
        if let Some(timeout) = hook.get("timeout").and_then(span) {
            made["timeout"] = timeout.to_string().into();
        }
        let Ok(made) = serde_json::from_value::<Webhook>(made) else {
            continue;
        };
        let name = if n == 0 {
            name.to_owned()
        } else {
            format!("{name}-{at}")
        };
        release.policy.gates.push(Gate {
            name,
            at: *at,
            webhook: Some(made),
        });
    }
}

fn measure(release: &mut Release<'_>, all: &[Value], spec: &Value, i: usize, metric: &Value) {
    let key = format!("spec.analysis.metrics[{i}]");
    let name = text(metric, "/name").unwrap_or("metric").to_owned();
    let lose = |release: &mut Release<'_>, why: &str| {
        release.lose(key.clone(), &Value::String(name.clone()), why);
    };
    let source = match template(all, release.source, metric) {
        Ok(Some(found)) => Some(found),
        Ok(None) => text(metric, "/query").map(|query| {
            let server = text(spec, "/metricsServer").unwrap_or(PROMETHEUS);
            (server.to_owned(), query.to_owned())
        }),
        Err(why) => return lose(release, &why),
    };
    let Some((address, query)) = source else {
        let why = match name.as_str() {
            "request-success-rate" => {
                "is what Serin judges anyway, from the proxies' own counts: against stable in the same seconds, and not against a fixed \
                 limit; the margins are in spec.judgement.errors, and a fixed limit is a check (promql)"
            }
            "request-duration" => {
                "is what Serin judges anyway, from the proxies' own counts: the distribution against stable's, and not against a fixed \
                 limit; the margins are in spec.judgement.latency, and a fixed limit is a check (promql)"
            }
            _ => "has no query; write a check (spec.judgement.checks) with promql",
        };
        return lose(release, why);
    };
    let mut check = Check::named(&name);
    check.min = number(metric, "/thresholdRange/min");
    check.max = number(metric, "/thresholdRange/max").or_else(|| number(metric, "/threshold"));
    check.breaches = number(spec, "/analysis/threshold")
        .unwrap_or(3.0)
        .clamp(1.0, 1000.0) as u32;
    check.promql = Some(Promql {
        address,
        query: filled(&query, &names(release, metric)).trim().to_owned(),
    });
    timed(&mut check, spec["analysis"].get("interval").and_then(span));
    release.policy.judgement.checks.push(check);
}

/// Server and query of a MetricTemplate; none is named, or why it cannot be used.
fn template(all: &[Value], beside: &Value, metric: &Value) -> Result<Option<(String, String)>, String> {
    let Some(name) = text(metric, "/templateRef/name") else {
        return Ok(None);
    };
    let namespace = &metric["templateRef"]["namespace"];
    let is_it = |o: &&Value| {
        o["kind"] == "MetricTemplate"
            && o["metadata"]["name"] == name
            && (o["metadata"]["namespace"] == *namespace
                || namespace.is_null() && o["metadata"]["namespace"] == beside["metadata"]["namespace"])
    };
    let found = all.iter().find(is_it).ok_or_else(|| {
        format!("the MetricTemplate {name} is not in the file; give it too, or write a check (spec.judgement.checks)")
    })?;
    let provider = text(found, "/spec/provider/type").unwrap_or_default();
    if provider != "prometheus" {
        return Err(format!(
            "asks {provider}, and checks ask Prometheus or a URL; put something before it that answers a GET with a number"
        ));
    }
    if found.pointer("/spec/provider/secretRef").is_some() {
        return Err("asks a server with a password, which checks do not send; put a proxy with the password before it".to_owned());
    }
    let address = text(found, "/spec/provider/address").unwrap_or(PROMETHEUS);
    Ok(text(found, "/spec/query").map(|query| (address.to_owned(), query.to_owned())))
}

/// What Flagger puts into a query. Of the pods only the canary's have a name that is known here.
fn names(release: &Release<'_>, metric: &Value) -> Names {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let canary = &release.source["metadata"];
    let namespace = match word(&canary["namespace"]) {
        none if none.is_empty() => "default".to_owned(),
        some => some,
    };
    let interval = text(metric, "/interval").unwrap_or("1m");
    let target = format!("{}-canary", release.stable.name);
    let mut names = Names::from([
        ("name".to_owned(), word(&canary["name"])),
        ("namespace".to_owned(), namespace),
        ("target".to_owned(), target.clone()),
        ("canary".to_owned(), target),
        ("primary".to_owned(), release.stable.name.clone()),
        ("service".to_owned(), release.service.clone()),
        ("interval".to_owned(), interval.to_owned()),
    ]);
    if let Some(ingress) = text(release.source, "/spec/ingressRef/name") {
        names.insert("ingress".to_owned(), ingress.to_owned());
    }
    for (key, value) in metric["templateVariables"].as_object().into_iter().flatten() {
        names.insert(format!("variables.{key}"), word(value));
    }
    names
}
