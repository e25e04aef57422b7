//! EndpointSlices: for each Service with a selector, the addresses of its pods.

use super::{
    Outcome, Pass, all,
    family::{finished, ready_for},
};
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, PostParams},
};
use std::collections::BTreeMap;

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";

/// Looks at every Service once.
pub async fn pass(client: Client) -> Pass {
    let services = all::<Service>(&client).await?;
    let pods = all::<Pod>(&client).await?;
    let slices = all::<EndpointSlice>(&client).await?;
    let mut outcome = Outcome::default();
    for service in services
        .iter()
        .filter(|s| s.metadata.deletion_timestamp.is_none())
    {
        outcome.add(turn(&client, service, &pods, &slices).await);
    }
    outcome.end()
}

async fn turn(client: &Client, service: &Service, pods: &[Pod], slices: &[EndpointSlice]) -> Pass {
    let mut present: Vec<_> = slices.iter().filter(|s| belongs(s, service)).collect();
    let api = Api::<EndpointSlice>::namespaced(client.clone(), &service.namespace().unwrap_or_default());
    for slice in wanted(service, pods) {
        match present.iter().position(|s| s.ports == slice.ports) {
            Some(found) => update(&api, present.swap_remove(found), slice).await?,
            None if present.is_empty() => drop(api.create(&PostParams::default(), &slice).await?),
            // The placeholder of a Service without pods becomes its first slice.
            None => update(&api, present.swap_remove(0), slice).await?,
        }
    }
    for spare in present {
        api.delete(&spare.name_any(), &DeleteParams::default()).await?;
    }
    Ok(None)
}

fn belongs(slice: &EndpointSlice, service: &Service) -> bool {
    slice.namespace() == service.namespace()
        && slice.labels().get(SERVICE) == Some(&service.name_any())
        && slice.labels().get(MANAGED_BY).map(String::as_str) == Some(MANAGER)
        && slice.metadata.deletion_timestamp.is_none()
}

async fn update(
    api: &Api<EndpointSlice>,
    old: &EndpointSlice,
    new: EndpointSlice,
) -> Result<(), kube::Error> {
    if old.endpoints == new.endpoints && old.ports == new.ports {
        return Ok(());
    }
    let next = EndpointSlice {
        endpoints: new.endpoints,
        ports: new.ports,
        ..old.clone()
    };
    api.replace(&old.name_any(), &PostParams::default(), &next)
        .await
        .map(drop)
}

/// One slice for each set of port numbers that the pods have; an empty one when there is no pod.
fn wanted(service: &Service, pods: &[Pod]) -> Vec<EndpointSlice> {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    let Some(selector) = selector.filter(|s| !s.is_empty()) else {
        return Vec::new();
    };
    let mut slices: Vec<EndpointSlice> = Vec::new();
    let chosen = |p: &&Pod| p.namespace() == service.namespace() && selects(selector, p) && !finished(p);
    for pod in pods.iter().filter(chosen) {
        let Some(endpoint) = endpoint(service, pod) else {
            continue;
        };
        let ports = ports(service, pod);
        match slices.iter_mut().find(|s| s.ports.as_ref() == Some(&ports)) {
            Some(slice) => slice.endpoints.push(endpoint),
            None => slices.push(slice(service, Some(ports), vec![endpoint])),
        }
    }
    if slices.is_empty() {
        slices.push(slice(service, None, Vec::new()));
    }
    for slice in &mut slices {
        slice.endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    }
    slices
}

fn selects(selector: &BTreeMap<String, String>, pod: &Pod) -> bool {
    selector
        .iter()
        .all(|(key, value)| pod.labels().get(key) == Some(value))
}

fn slice(service: &Service, ports: Option<Vec<EndpointPort>>, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let name = service.name_any();
    let mut labels = service.labels().clone();
    labels.insert(SERVICE.into(), name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    EndpointSlice {
        address_type: "IPv4".into(),
        endpoints,
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: service.controller_owner_ref(&()).map(|o| vec![o]),
            ..Default::default()
        },
        ports,
    }
}

fn endpoint(service: &Service, pod: &Pod) -> Option<Endpoint> {
    let address = pod
        .status
        .as_ref()
        .and_then(|s| s.pod_ip.clone())
        .filter(|ip| !ip.is_empty())?;
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let serving = ready_for(pod).is_some();
    let eager = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true);
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(eager || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        node_name: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        target_ref: Some(reference(pod)),
        ..Default::default()
    })
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    let resolved = ports.filter_map(|p| {
        Some(EndpointPort {
            app_protocol: p.app_protocol.clone(),
            name: Some(p.name.clone().unwrap_or_default()),
            port: Some(number(p, pod)?),
            protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
        })
    });
    resolved.collect()
}

/// The pod's own number for a target port that is a name.
fn number(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(n)) => return Some(*n),
        Some(IntOrString::String(name)) => name,
    };
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let mut ports = containers.flat_map(|c| c.ports.iter().flatten());
    ports
        .find(|p| p.name.as_ref() == Some(name))
        .map(|p| p.container_port)
}
