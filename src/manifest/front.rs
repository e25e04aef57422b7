//! The Service's selector moves to `<service>-stable`, and the Service finds proxies.

use super::{
    Wish,
    made::{Fronted, LISTEN},
    plain::{TRACK, annotate, is_changed, keep, key, of_deployment, of_service, proxy_label, set},
};
use proxy::contract::names::FRONTED_BY;
use serde_json::{Value, json};

/// Changes Service and Deployment; gives what comes beside them. Nothing, where that was done before.
///
/// # Errors
/// What is missing or ambiguous, and what to do.
pub fn front(objects: &mut [&mut Value], wish: &Wish) -> Result<Vec<Value>, String> {
    let at = service(objects, wish)?;
    if is_changed(objects[at]) {
        return Ok(Vec::new());
    }
    let fronted = fronted(objects, at)?;
    tag(objects, &fronted);
    let service = &mut *objects[at];
    let was = of_service(service);
    service["spec"]["selector"] = json!({proxy_label(): fronted.name});
    service["spec"]["ports"][0]["targetPort"] = LISTEN.into();
    dress(service, &fronted, &was);
    let mut more = fronted.common(wish);
    more.extend(fronted.proxy_pods(wish));
    Ok(more)
}

/// The annotations of a front, and what it was before.
pub fn dress(service: &mut Value, fronted: &Fronted, was: &Value) {
    for (key, value) in fronted.notes() {
        annotate(service, &key, &value);
    }
    keep(service, was);
}

/// Where the Service stands that is meant.
pub fn service(objects: &[&mut Value], wish: &Wish) -> Result<usize, String> {
    let is_meant = |o: &Value| {
        let by_name = wish
            .service
            .as_ref()
            .is_none_or(|name| o["metadata"]["name"] == *name);
        o["kind"] == "Service" && by_name && (is_changed(o) || wish.service.is_some() || is_plain(o))
    };
    let found: Vec<usize> = (0..objects.len()).filter(|i| is_meant(objects[*i])).collect();
    let fronts: Vec<usize> = found
        .iter()
        .copied()
        .filter(|i| is_changed(objects[*i]))
        .collect();
    match (&fronts[..], &found[..], &wish.service) {
        ([only], _, None) | (_, [only], _) => Ok(*only),
        (_, [], Some(name)) => Err(format!(
            "there is no Service {name} in it; there are: {}",
            names(objects, "Service")
        )),
        (_, [], None) => {
            Err("there is no Service with a selector in it; give the file that has it".to_owned())
        }
        _ => Err(format!(
            "say which Service is meant, with --service: {}",
            names(objects, "Service")
        )),
    }
}

fn is_plain(service: &Value) -> bool {
    service["spec"]["selector"]
        .as_object()
        .is_some_and(|s| !s.is_empty())
}

fn names(objects: &[&mut Value], kind: &str) -> String {
    let of_kind = objects.iter().filter(|o| o["kind"] == kind);
    let names: Vec<&str> = of_kind.filter_map(|o| o["metadata"]["name"].as_str()).collect();
    names.join(", ")
}

/// What there is to know of the Service at `at`.
pub fn fronted(objects: &[&mut Value], at: usize) -> Result<Fronted, String> {
    let service = &*objects[at];
    let name = service["metadata"]["name"]
        .as_str()
        .ok_or("a Service has no metadata.name; give it one")?;
    let refuse = |why: &str| Err(format!("Service {name}: {why}"));
    if service["spec"]["type"] == "ExternalName" {
        return refuse("spec.type ExternalName has no pods; name a Service with a selector");
    }
    if !is_plain(service) {
        return refuse("spec.selector is missing; name the labels of its pods");
    }
    let ports = service["spec"]["ports"].as_array().map_or(0, Vec::len);
    if ports != 1 {
        return refuse(
            "spec.ports must have one port, the one that is released; give other ports a Service of their own",
        );
    }
    if !matches!(
        service["spec"]["ports"][0]["protocol"].as_str(),
        None | Some("TCP")
    ) {
        return refuse("spec.ports[0].protocol is not TCP; Serin speaks HTTP");
    }
    let mut selector = service["spec"]["selector"].clone();
    if selector[TRACK] == "canary" {
        return refuse("its pods are labelled track: canary; label the stable ones track: stable");
    }
    let behind = deployment(objects, service, name)?;
    let template = &behind["spec"]["template"];
    if selector[TRACK].is_null() {
        let track = template["metadata"]["labels"][TRACK].as_str().unwrap_or("stable");
        selector[TRACK] = track.into();
    }
    Ok(Fronted {
        name: name.to_owned(),
        namespace: service["metadata"]["namespace"].as_str().map(str::to_owned),
        selector,
        ports: service["spec"]["ports"].clone(),
        deployment: behind["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        account: None,
    })
}

/// The one Deployment whose pods the Service finds.
fn deployment<'a>(objects: &'a [&mut Value], service: &Value, name: &str) -> Result<&'a Value, String> {
    let selector = &service["spec"]["selector"];
    let near = |o: &&&mut Value| {
        o["kind"] == "Deployment"
            && o["metadata"]["namespace"] == service["metadata"]["namespace"]
            && has(o, selector)
    };
    let found: Vec<_> = objects.iter().filter(near).filter(|o| !is_canary(o)).collect();
    match &found[..] {
        [only] => Ok(only),
        [] => Err(format!(
            "Service {name}: no Deployment in the file has pods with the labels {selector}; Deployments here: {}; give a file with both",
            names(objects, "Deployment")
        )),
        several => Err(format!(
            "Service {name}: its selector finds the pods of several Deployments ({}); make it find those of one",
            several
                .iter()
                .filter_map(|o| o["metadata"]["name"].as_str())
                .collect::<Vec<_>>()
                .join(", ")
        )),
    }
}

/// Whether the pods of a Deployment have these labels.
pub fn has(deployment: &Value, selector: &Value) -> bool {
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    selector
        .as_object()
        .is_some_and(|s| s.iter().all(|(key, value)| labels[key] == *value))
}

fn is_canary(deployment: &Value) -> bool {
    deployment["spec"]["template"]["metadata"]["labels"][TRACK] == "canary"
}

/// Pods of the stable track say so.
fn tag(objects: &mut [&mut Value], fronted: &Fronted) {
    let is_behind =
        |o: &&mut &mut Value| o["kind"] == "Deployment" && o["metadata"]["name"] == fronted.deployment;
    let Some(deployment) = objects.iter_mut().find(is_behind) else {
        return;
    };
    if has(deployment, &fronted.selector) {
        return;
    }
    let was = of_deployment(deployment);
    let track = fronted.selector[TRACK].as_str().unwrap_or("stable").to_owned();
    set(
        &mut deployment["spec"]["template"]["metadata"],
        "labels",
        TRACK,
        &track,
    );
    annotate(deployment, &key(FRONTED_BY), &fronted.name);
    keep(deployment, &was);
}
