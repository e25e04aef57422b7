//! Canary Ingresses of ingress-nginx, each with the primary Ingress of the same host and path.

use super::{
    Done, called,
    fields::{Field, Loss, differs, gone, losses, same},
    find,
    layout::{Release, TESTED},
    list, text,
};
use crate::manifest::{Wish, front};
use proxy::contract::{
    Span,
    names::{
        CANARY_BY_COOKIE, CANARY_BY_HEADER, CANARY_BY_HEADER_PATTERN, CANARY_BY_HEADER_VALUE, CANARY_COHORT,
    },
    policy::Step,
    rollout::{Workload, WorkloadKind},
};
use serde_json::{Map, Value};

const NGINX: &str = "nginx.ingress.kubernetes.io/";
const ELSEWHERE: &str =
    "is about hosts, paths and clients, which stay with the Ingress or Gateway before Serin; keep it there";

/// What becomes of each annotation, without `nginx.ingress.kubernetes.io/`.
pub const FIELDS: &[Field] = &[
    same("canary", "serin.dev/canary-service"),
    differs(
        "canary-weight",
        "spec.pacing.steps[0]",
        "is the first step here (0: none), and waits there until somebody resumes (`serin resume`): the controller moves the weight, and one \
         that is annotated by hand pauses the release; take the step out to let evidence raise it",
    ),
    differs(
        "canary-weight-total",
        "spec.pacing.steps[0]",
        "is in the percentage of the step; beside `serin weight NAME W --total T` every total counts here",
    ),
    same("canary-by-header", "serin.dev/canary-by-header"),
    same("canary-by-header-value", "serin.dev/canary-by-header-value"),
    differs(
        "canary-by-header-pattern",
        "serin.dev/canary-by-header-pattern",
        "is a regular expression in linear time here: without look-around and back-references; rewrite those, or use canary-match",
    ),
    same("canary-by-cookie", "serin.dev/canary-by-cookie"),
    differs(
        "affinity",
        "serin.dev/canary-cohort",
        "keeps users at their track by a cookie of Serin's own (canary-cohort: cookie), and not at one pod; an explicit header or \
         cookie always wins over it here",
    ),
    differs(
        "affinity-canary-behavior",
        "serin.dev/canary-cohort",
        "sticky is canary-cohort: cookie, where a growing weight only adds users; legacy is no cohort",
    ),
    gone(
        "session-cookie-name",
        "is chosen by Serin; nothing needs to know it",
    ),
    gone(
        "affinity-mode",
        "keeps clients at one pod, which Serin does not do; have the application keep its sessions outside",
    ),
    gone(
        "upstream-hash-by",
        "binds requests to pods, which Serin does not do; canary-cohort: header:NAME binds users to a track",
    ),
    gone(
        "load-balance",
        "is chosen by Serin: the less busy of two endpoints; see docs/endpoints.md",
    ),
    gone(
        "backend-protocol",
        "is told by the Service's port: appProtocol https, or kubernetes.io/h2c for gRPC and HTTP/2; set it on the stable and on the \
         canary Service",
    ),
    gone(
        "proxy-connect-timeout",
        "is no key of the Ingress here; requests have connectTimeout and the keys of [service.resilience] (`serin proxy --resilience FILE`)",
    ),
    gone(
        "proxy-read-timeout",
        "is no key of the Ingress here; requests have requestTimeout in [service.resilience] (`serin proxy --resilience FILE`)",
    ),
    gone(
        "proxy-send-timeout",
        "is no key of the Ingress here; bodies have streamIdleTimeout, 5m",
    ),
    gone(
        "proxy-next-upstream",
        "is decided by Serin: what is safe to send again is tried again, within a budget; see docs/failures.md",
    ),
    gone(
        "proxy-next-upstream-tries",
        "is a budget here, and not a number of tries; see docs/failures.md",
    ),
    gone(
        "service-upstream",
        "is not needed: the Service that the Ingress names has proxies for pods",
    ),
    gone(
        "mirror-target",
        "copies requests to a URL, which Serin does not do; serin.dev/canary-mirror copies some to the canary at weight 0",
    ),
];

/// A canary Ingress and what of it.
pub fn all(all: &[Value], wish: &Wish) -> Vec<Done> {
    let canaries = all.iter().filter(|o| is_ingress(o) && is_canary(o));
    let mut taken: Vec<(Value, String)> = Vec::new();
    canaries
        .map(|canary| match release(all, canary) {
            Ok(release) => {
                let key = (canary["metadata"]["namespace"].clone(), release.service.clone());
                if taken.contains(&key) {
                    return none(
                        canary,
                        "spec.rules",
                        "releases a Service that another canary Ingress above releases too; one Service has \
                        one split here: merge the two, or give each host a Service of its own",
                    );
                }
                taken.push(key);
                release.finish(all, wish)
            }
            Err(done) => *done,
        })
        .collect()
}

fn none(canary: &Value, key: &str, why: &str) -> Done {
    Done {
        from: called(canary),
        first: "Nothing could be carried over.",
        objects: Vec::new(),
        losses: vec![Loss::new(&called(canary), key, &canary["spec"]["rules"], why)],
    }
}

fn is_ingress(object: &Value) -> bool {
    object["kind"] == "Ingress"
}

fn is_canary(object: &Value) -> bool {
    let said = &notes(object)[format!("{NGINX}canary")];
    said == "true" || *said == true
}

fn notes(object: &Value) -> &Value {
    &object["metadata"]["annotations"]
}

/// Host, path and Service of each rule.
fn rules(ingress: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let backend = |b: &Value| {
        let name = text(b, "/service/name").or_else(|| text(b, "/serviceName"));
        name.map(str::to_owned)
    };
    for key in ["/spec/defaultBackend", "/spec/backend"] {
        if let Some(service) = ingress.pointer(key).and_then(backend) {
            found.push((String::new(), String::new(), service));
        }
    }
    for rule in list(ingress, "/spec/rules") {
        let host = rule["host"].as_str().unwrap_or_default();
        for path in list(rule, "/http/paths") {
            let at = path["path"].as_str().unwrap_or("/");
            if let Some(service) = backend(&path["backend"]) {
                found.push((host.to_owned(), at.to_owned(), service));
            }
        }
    }
    found
}

fn release<'a>(all: &'a [Value], canary: &'a Value) -> Result<Release<'a>, Box<Done>> {
    let primaries: Vec<&Value> = all
        .iter()
        .filter(|o| {
            is_ingress(o) && !is_canary(o) && o["metadata"]["namespace"] == canary["metadata"]["namespace"]
        })
        .collect();
    let ours = rules(canary);
    let at = |host: &str, path: &str| {
        primaries.iter().find_map(|p| {
            let found = rules(p).into_iter().find(|(h, a, _)| h == host && a == path);
            found.map(|(_, _, service)| (*p, service))
        })
    };
    let Some((own, (primary, service))) = ours
        .iter()
        .find_map(|(host, path, service)| Some((service.clone(), at(host, path)?)))
    else {
        let why = "no primary Ingress with the same host and path is in the file, so its Service is not known; give both, such as \
                   `kubectl get ingress,service,deployment -o yaml`";
        return Err(Box::new(none(canary, "spec.rules", why)));
    };
    let stable = workload(all, canary, &service, &own);
    let named = Workload {
        kind: WorkloadKind::Deployment,
        name: stable.clone().unwrap_or_else(|| service.clone()),
    };
    let mut release = Release::new(canary, &service, named);
    release.first = "Take this canary Ingress away when the proxies serve; the primary one stays, and so does its Service.";
    release.canary_service = Some(own.clone());
    release.canary = workload(all, canary, &own, &service).map(|name| Workload {
        kind: WorkloadKind::Deployment,
        name,
    });
    if stable.is_none() {
        let why = format!(
            "the Deployment behind the Service {service} is not in the file, so spec.stable.name is a guess: {service}; give the file with it"
        );
        release.lose("spec.rules", &Value::String(service.clone()), why);
    }
    match &release.canary {
        None => {
            let why = format!(
                "the Deployment behind the Service {own} is not in the file, so spec.canary is left out, and the canary will be made from \
                 stable's template; name it there if it is one of yours"
            );
            release.lose("spec.rules", &Value::String(own.clone()), why);
        }
        Some(canary) => {
            let why = format!(
                "its Deployment {} runs already, so the release begins when this is applied; scale it to 0 first if that is too early",
                canary.name
            );
            release.lose("spec.rules", &Value::String(own.clone()), why);
        }
    }
    scope(&mut release, &ours, &primaries, &service, &own);
    annotations(&mut release, canary, primary);
    Ok(release)
}

/// The Deployment behind a Service, and not behind the other one.
fn workload(all: &[Value], beside: &Value, service: &str, other: &str) -> Option<String> {
    let selector = |name: &str| find(all, beside, "Service", name).map(|s| s["spec"]["selector"].clone());
    let (wanted, unwanted) = (selector(service)?, selector(other));
    let specific =
        |a: &Value, b: &Value| a.as_object().map_or(0, Map::len) > b.as_object().map_or(0, Map::len);
    let mut found = all.iter().filter(|o| {
        o["kind"] == "Deployment"
            && o["metadata"]["namespace"] == beside["metadata"]["namespace"]
            && front::has(o, &wanted)
            && !unwanted
                .as_ref()
                .is_some_and(|u| front::has(o, u) && !specific(&wanted, u))
    });
    let only = found.next()?;
    found
        .next()
        .is_none()
        .then(|| only["metadata"]["name"].as_str().map(str::to_owned))?
}

/// A canary of some paths is one of the whole Service here.
fn scope(
    release: &mut Release<'_>,
    ours: &[(String, String, String)],
    primaries: &[&Value],
    service: &str,
    own: &str,
) {
    for (host, path, target) in primaries.iter().flat_map(|p| rules(p)) {
        let is_covered = ours.iter().any(|(h, a, _)| *h == host && *a == path);
        if target == service && !is_covered {
            let why = format!(
                "has no canary there, but Serin splits every request of the Service {service}; give what is not released a Service of its own"
            );
            release.lose("spec.rules", &Value::String(format!("{host}{path}")), why);
        }
    }
    for (host, path, target) in ours.iter().filter(|(_, _, target)| target != own) {
        let why = format!(
            "sends to a second canary Service; run `serin migrate` for it with an Ingress of its own ({own} is carried)"
        );
        release.lose(
            "spec.rules",
            &Value::String(format!("{host}{path} -> {target}")),
            why,
        );
    }
}

fn annotations(release: &mut Release<'_>, canary: &Value, primary: &Value) {
    let said = |name: &str| {
        let value = &notes(canary)[format!("{NGINX}{name}")];
        value
            .as_str()
            .map(str::to_owned)
            .or_else(|| (value.is_number() || value.is_boolean()).then(|| value.to_string()))
    };
    for key in [
        CANARY_BY_HEADER,
        CANARY_BY_HEADER_VALUE,
        CANARY_BY_HEADER_PATTERN,
        CANARY_BY_COOKIE,
    ] {
        if let Some(value) = said(key) {
            release.notes.insert(key, value);
        }
    }
    sticky(release, canary, primary);
    for (object, is_own) in [(canary, true), (primary, false)] {
        let from = called(object);
        for (key, value) in notes(object).as_object().into_iter().flatten() {
            let Some(name) = key.strip_prefix(NGINX) else {
                continue;
            };
            let known = FIELDS.iter().any(|f| f.path == name);
            match known {
                true => release.losses.extend(losses(FIELDS, &from, name, value)),
                false => release.losses.push(Loss::new(&from, name, value, ELSEWHERE)),
            }
            if is_own && name == "canary-by-header-pattern" && said(CANARY_BY_HEADER_VALUE).is_some() {
                let why = "is not used beside canary-by-header-value, there as here; take it away";
                release.losses.push(Loss::new(&from, name, value, why));
            }
        }
    }
    step(
        release,
        said("canary-weight").as_deref(),
        said("canary-weight-total").as_deref(),
    );
}

fn sticky(release: &mut Release<'_>, canary: &Value, primary: &Value) {
    let either = |name: &str| {
        let key = format!("{NGINX}{name}");
        let of = |o: &Value| notes(o)[&key].as_str().map(str::to_owned);
        of(canary).or_else(|| of(primary))
    };
    if either("affinity").as_deref() == Some("cookie")
        && either("affinity-canary-behavior").as_deref() != Some("legacy")
    {
        release.notes.insert(CANARY_COHORT, "cookie".to_owned());
    }
}

fn step(release: &mut Release<'_>, weight: Option<&str>, total: Option<&str>) {
    let parsed = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
    let weight = weight.unwrap_or("0");
    let percent = match (parsed(weight), total.map_or(Some(100.0), parsed)) {
        (Some(weight), Some(total)) if total > 0.0 => 100.0 * weight / total,
        _ => -1.0,
    };
    let value = Value::String(weight.to_owned());
    if percent == 0.0 {
        release.hold_for_testers();
        let why = format!(
            "without a weight only testers reach the canary, and a release would go on to everybody: the gate {TESTED} holds it until \
             `serin approve {} {TESTED}`",
            release.name
        );
        return release.lose("canary-weight", &value, why);
    }
    if !(0.0001..=100.0).contains(&percent) {
        let why = "is no share from 0 to its total, so there is no first step; write spec.pacing.steps";
        return release.lose("canary-weight", &value, why);
    }
    release.policy.pacing.steps = vec![Step {
        weight: percent,
        hold: Span::default(),
        pause: true,
    }];
}
