//! Rollouts of Argo.

mod steps;
mod table;

pub use table::FIELDS;

use super::{
    Done, called,
    checks::{self, Names, span},
    fields::{Loss, losses},
    is_kind,
    layout::Release,
    list, text,
};
use crate::manifest::{Wish, front};
use proxy::contract::{
    names::{
        CANARY_BY_COOKIE, CANARY_BY_HEADER, CANARY_BY_HEADER_PATTERN, CANARY_BY_HEADER_VALUE, CANARY_COHORT,
    },
    policy::{At, Gate},
    rollout::{Workload, WorkloadKind},
};
use serde_json::{Value, json};

/// Fields of a Rollout that a Deployment has too.
const SHARED: [&str; 6] = [
    "replicas",
    "selector",
    "template",
    "minReadySeconds",
    "revisionHistoryLimit",
    "progressDeadlineSeconds",
];

/// Every Rollout.
pub fn all(all: &[Value], wish: &Wish) -> Vec<Done> {
    let rollouts = all.iter().filter(|o| is_kind(o, "argoproj.io", "Rollout"));
    rollouts.map(|rollout| one(all, rollout, wish)).collect()
}

fn one(all: &[Value], rollout: &Value, wish: &Wish) -> Done {
    let spec = &rollout["spec"];
    let from = called(rollout);
    let stable = match workload(spec, text(rollout, "/metadata/name").unwrap_or_default()) {
        Ok(name) => name,
        Err(why) => {
            return Done {
                from: from.clone(),
                first: "Nothing could be carried over.",
                objects: Vec::new(),
                losses: vec![Loss::new(&from, "spec.workloadRef", &spec["workloadRef"], why)],
            };
        }
    };
    let made = deployment(rollout);
    let (service, guessed) = service(all, rollout, made.as_ref(), &stable);
    let named = Workload {
        kind: WorkloadKind::Deployment,
        name: stable,
    };
    let mut release = Release::new(rollout, &service, named);
    release.first = "Take Argo's Rollout away only when the Deployment serves, and its pod-template-hash out of the selectors of the Services.";
    release.name = text(rollout, "/metadata/name").unwrap_or(&service).to_owned();
    release.losses = losses(FIELDS, &from, "spec", spec);
    if guessed {
        let why = format!(
            "no Service is named, so the one that clients call is a guess: {service}; write spec.service"
        );
        release.lose("spec.strategy", &Value::String(service.clone()), why);
    }
    release.suspend = spec["paused"] == true;
    release.made.extend(made);
    release.made.extend(unhashed(all, rollout, &service));
    let canary = &spec["strategy"]["canary"];
    routing(&mut release, &canary["trafficRouting"]);
    steps::all(&mut release, all, canary);
    analysis(
        &mut release,
        all,
        "spec.strategy.canary.analysis",
        &canary["analysis"],
    );
    blue_green(&mut release, all, &spec["strategy"]["blueGreen"]);
    release.finish(all, wish)
}

/// The Deployment's name.
fn workload(spec: &Value, own: &str) -> Result<String, String> {
    let reference = &spec["workloadRef"];
    match (text(reference, "/kind"), text(reference, "/name")) {
        (None, None) if own.is_empty() => {
            Err("and metadata.name are missing; give the Rollout a name".to_owned())
        }
        (None, None) => Ok(own.to_owned()),
        (Some("Deployment"), Some(name)) => Ok(name.to_owned()),
        _ => Err(
            "names no Deployment, and that is what Serin releases; make one of the pod template".to_owned(),
        ),
    }
}

/// The Deployment that the Rollout has inside.
fn deployment(rollout: &Value) -> Option<Value> {
    let spec = &rollout["spec"];
    if !spec["template"].is_object() {
        return None;
    }
    let fields = SHARED.iter().filter(|k| !spec[**k].is_null());
    let said: serde_json::Map<String, Value> = fields.map(|k| ((*k).to_owned(), spec[*k].clone())).collect();
    let mut made = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": rollout["metadata"]["name"]}, "spec": said});
    for key in ["namespace", "labels"] {
        if !rollout["metadata"][key].is_null() {
            made["metadata"][key] = rollout["metadata"][key].clone();
        }
    }
    Some(made)
}

/// The Service that clients call, and whether that is a guess.
fn service(all: &[Value], rollout: &Value, made: Option<&Value>, stable: &str) -> (String, bool) {
    let named = [
        "/spec/strategy/canary/trafficRouting/smi/rootService",
        "/spec/strategy/canary/trafficRouting/alb/rootService",
        "/spec/strategy/canary/pingPong/pingService",
        "/spec/strategy/canary/stableService",
        "/spec/strategy/blueGreen/activeService",
    ];
    if let Some(name) = named.iter().find_map(|at| text(rollout, at)) {
        return (name.to_owned(), false);
    }
    let is_before = |o: &&Value| {
        let selector = &o["spec"]["selector"];
        o["kind"] == "Service"
            && o["metadata"]["namespace"] == rollout["metadata"]["namespace"]
            && selector.as_object().is_some_and(|s| !s.is_empty())
            && made.is_some_and(|d| front::has(d, selector))
    };
    let mut found = all.iter().filter(is_before);
    match (found.next(), found.next()) {
        (Some(only), None) => (text(only, "/metadata/name").unwrap_or(stable).to_owned(), false),
        _ => (stable.to_owned(), true),
    }
}

/// The Service as it was before Argo wrote a hash into its selector.
fn unhashed(all: &[Value], rollout: &Value, name: &str) -> Option<Value> {
    let mut service = super::find(all, rollout, "Service", name)?.clone();
    let selector = service.pointer_mut("/spec/selector")?.as_object_mut()?;
    selector.remove("rollouts-pod-template-hash")?;
    Some(service)
}

/// What routes say of testers and of sticky users.
fn routing(release: &mut Release<'_>, routing: &Value) {
    let added = &routing["nginx"]["additionalIngressAnnotations"];
    for (key, value) in added.as_object().into_iter().flatten() {
        let name = key.rsplit('/').next().unwrap_or(key);
        let ours = [
            CANARY_BY_HEADER,
            CANARY_BY_HEADER_VALUE,
            CANARY_BY_HEADER_PATTERN,
            CANARY_BY_COOKIE,
        ];
        match (ours.iter().find(|o| **o == name), value.as_str()) {
            (Some(ours), Some(text)) => drop(release.notes.insert(ours, text.to_owned())),
            _ => release.lose(
                format!("spec.strategy.canary.trafficRouting.nginx.additionalIngressAnnotations.{key}"),
                value,
                "is for the canary Ingress, which there is none of here; keep it on the Ingress before Serin if it needs it",
            ),
        }
    }
    if routing["alb"]["stickinessConfig"]["enabled"] == true {
        release.notes.insert(CANARY_COHORT, "cookie".to_owned());
    }
}

/// Analysis templates as checks; they run from the first weight on, whatever the place of theirs.
fn analysis(release: &mut Release<'_>, all: &[Value], key: &str, analysis: &Value) {
    for (i, wanted) in list(analysis, "/templates").iter().enumerate() {
        let name = text(wanted, "/templateName").unwrap_or_default();
        let key = format!("{key}.templates[{i}]");
        let kind = if wanted["clusterScope"] == true {
            "ClusterAnalysisTemplate"
        } else {
            "AnalysisTemplate"
        };
        let is_it = |o: &&Value| {
            let is_near = o["metadata"]["namespace"] == release.source["metadata"]["namespace"];
            o["kind"] == kind && o["metadata"]["name"] == name && (is_near || kind != "AnalysisTemplate")
        };
        let Some(template) = all.iter().find(is_it) else {
            let why = format!(
                "the {kind} is not in the file, so none of its metrics is a check; give it too, or write spec.judgement.checks"
            );
            release.lose(key, &Value::String(name.to_owned()), why);
            continue;
        };
        metrics(release, &key, template, list(analysis, "/args"));
    }
}

fn metrics(release: &mut Release<'_>, key: &str, template: &Value, given: &[Value]) {
    let mut names = Names::new();
    for arg in list(template, "/spec/args").iter().chain(given) {
        if let (Some(name), Some(value)) = (text(arg, "/name"), text(arg, "/value")) {
            names.insert(format!("args.{name}"), value.to_owned());
        }
    }
    for metric in list(template, "/spec/metrics") {
        let name = text(metric, "/name").unwrap_or("metric").to_owned();
        match checks::of_analysis(metric, &names) {
            Ok(check) if release.policy.judgement.checks.contains(&check) => {}
            Ok(check) => {
                if metric["count"].is_number() || metric["initialDelay"].is_string() {
                    let why = "is asked from the first weight to the last, and not so many times or so much later; see interval and breaches of the check";
                    release.lose(
                        format!("{key} metric {name}"),
                        &Value::String("count, initialDelay".to_owned()),
                        why,
                    );
                }
                release.policy.judgement.checks.push(check);
            }
            Err(why) => release.lose(format!("{key} metric"), &Value::String(name), why),
        }
    }
}

/// What of blue and green has a place here.
fn blue_green(release: &mut Release<'_>, all: &[Value], strategy: &Value) {
    if strategy.is_null() {
        return;
    }
    if strategy["autoPromotionEnabled"] == false {
        release.policy.gates.push(Gate {
            name: "promotion".to_owned(),
            at: At::BeforePromotion,
            webhook: None,
        });
    }
    if let Some(soak) = strategy.get("autoPromotionSeconds").and_then(span) {
        release.policy.pacing.soak = soak;
    }
    let key = "spec.strategy.blueGreen.prePromotionAnalysis";
    analysis(release, all, key, &strategy["prePromotionAnalysis"]);
}
