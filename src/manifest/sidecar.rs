//! A proxy in each pod: the Service's port leads to it, and it leads to the application beside it.

use super::{
    Wish,
    front::{dress, fronted, has, service},
    made::{Fronted, container},
    plain::{TRACK, annotate, is_changed, keep, key, of_deployment, of_service, proxy_label, set},
};
use proxy::contract::names::{FRONTED_BY, SIDECAR};
use serde_json::{Value, json};

/// First port that is tried for the proxy.
const FIRST_PORT: u16 = 18_080;

/// Changes the Service and the Deployments behind it, stable and canary; gives what comes beside them. A file with
/// Deployments alone, such as the template of a canary, gets the sidecars alone.
///
/// # Errors
/// What is missing or ambiguous, and what to do.
pub fn inject(objects: &mut [&mut Value], wish: &Wish) -> Result<Vec<Value>, String> {
    if !objects.iter().any(|o| o["kind"] == "Service") {
        return inject_templates(objects, wish);
    }
    let at = service(objects, wish)?;
    if is_changed(objects[at]) {
        return Ok(Vec::new());
    }
    let mut fronted = fronted(objects, at)?;
    let mut any_track = objects[at]["spec"]["selector"].clone();
    if let Some(selector) = any_track.as_object_mut() {
        selector.remove(TRACK);
    }
    let target = objects[at]["spec"]["ports"][0].clone();
    let behind: Vec<usize> = (0..objects.len())
        .filter(|i| objects[*i]["kind"] == "Deployment" && has(objects[*i], &any_track))
        .collect();
    let taken: Vec<u64> = behind
        .iter()
        .flat_map(|i| ports(objects[*i]))
        .map(|(_, port)| port)
        .collect();
    let listen = (FIRST_PORT..)
        .find(|p| !taken.contains(&u64::from(*p)))
        .unwrap_or(FIRST_PORT);
    for i in behind {
        let deployment = &mut *objects[i];
        let local = app_port(deployment, &target)?;
        if deployment["metadata"]["name"] == fronted.deployment {
            fronted.account = account(deployment);
        }
        let track = (!has(deployment, &fronted.selector)
            && deployment["spec"]["template"]["metadata"]["labels"][TRACK].is_null())
        .then(|| fronted.selector[TRACK].as_str().unwrap_or("stable").to_owned());
        add(
            deployment,
            &fronted.name,
            container(wish, &fronted.name, listen, Some(local)),
            track,
        );
    }
    change_service(objects[at], &fronted, listen);
    Ok(fronted.common(wish))
}

fn change_service(service: &mut Value, fronted: &Fronted, listen: u16) {
    let was = of_service(service);
    service["spec"]["selector"] = fronted.selector.clone();
    service["spec"]["ports"][0]["targetPort"] = listen.into();
    dress(service, fronted, &was);
}

fn inject_templates(objects: &mut [&mut Value], wish: &Wish) -> Result<Vec<Value>, String> {
    let name = wish
        .service
        .as_ref()
        .ok_or("there is no Service in it; say with --service which one the pods are for")?;
    let mut found = false;
    for deployment in objects.iter_mut().filter(|o| o["kind"] == "Deployment") {
        found = true;
        if is_changed(deployment) {
            continue;
        }
        let local = app_port(deployment, &json!({}))?;
        let taken = ports(deployment);
        let listen = (FIRST_PORT..)
            .find(|p| taken.iter().all(|(_, t)| *t != u64::from(*p)))
            .unwrap_or(FIRST_PORT);
        add(deployment, name, container(wish, name, listen, Some(local)), None);
    }
    found
        .then(Vec::new)
        .ok_or_else(|| "there is no Deployment in it".to_owned())
}

fn add(deployment: &mut Value, service: &str, container: Value, track: Option<String>) {
    let was = of_deployment(deployment);
    let template = &mut deployment["spec"]["template"];
    set(&mut template["metadata"], "labels", &proxy_label(), service);
    if let Some(track) = track {
        set(&mut template["metadata"], "labels", TRACK, &track);
    }
    let pod = &mut template["spec"];
    if pod["serviceAccountName"].is_null() {
        pod["serviceAccountName"] = SIDECAR.into();
    }
    if pod["automountServiceAccountToken"] == false {
        pod["automountServiceAccountToken"] = true.into();
    }
    if let Some(containers) = pod["containers"].as_array_mut() {
        containers.push(container);
    }
    annotate(deployment, &key(FRONTED_BY), service);
    keep(deployment, &was);
}

fn account(deployment: &Value) -> Option<String> {
    let account = deployment["spec"]["template"]["spec"]["serviceAccountName"].as_str();
    account.map(str::to_owned)
}

/// Names and numbers of all containers' ports.
fn ports(deployment: &Value) -> Vec<(String, u64)> {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
    let ports = containers
        .into_iter()
        .flatten()
        .filter_map(|c| c["ports"].as_array())
        .flatten();
    ports
        .filter_map(|p| {
            Some((
                p["name"].as_str().unwrap_or_default().to_owned(),
                p["containerPort"].as_u64()?,
            ))
        })
        .collect()
}

/// Where the application listens: what the Service's port leads to, or the only port of the pod.
fn app_port(deployment: &Value, port: &Value) -> Result<u16, String> {
    let name = deployment["metadata"]["name"].as_str().unwrap_or_default();
    let known = ports(deployment);
    let number = match (&port["targetPort"], &port["port"]) {
        (Value::Number(number), _) => number.as_u64(),
        (Value::String(wanted), _) => known
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, port)| *port),
        (_, Value::Number(number)) => number.as_u64(),
        _ => match &known[..] {
            [(_, only)] => Some(*only),
            _ => None,
        },
    };
    number.and_then(|n| u16::try_from(n).ok()).ok_or_else(|| {
        format!("Deployment {name}: no container has the port that the Service leads to; name it in ports, with its name")
    })
}
