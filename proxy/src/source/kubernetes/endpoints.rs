//! Which addresses of a track may be chosen, from its EndpointSlices. Pure.

use super::front::{Family, Port};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

/// Label of a slice that names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What the slices of a track say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Where requests may go, sorted.
    pub addresses: Vec<SocketAddr>,
    /// Names of slices that lack the port: their endpoints are left out.
    pub portless: Vec<String>,
}

/// The addresses of the Service `name`. A pod has an address in each family: those of the preferred one count, and the
/// others only where it has none.
pub fn of<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    name: &str,
    port: &Port,
    preferred: Family,
) -> Found {
    let own: Vec<_> = slices.filter(|s| serves(s, name)).collect();
    let first = of_family(&own, port, preferred);
    if !first.addresses.is_empty() {
        return first;
    }
    let second = of_family(&own, port, preferred.other());
    if second.addresses.is_empty() {
        first
    } else {
        second
    }
}

/// Whether a pod is one of the Service's, ready or not.
pub fn has<'a>(mut slices: impl Iterator<Item = &'a EndpointSlice>, name: &str, pod: IpAddr) -> bool {
    slices.any(|s| serves(s, name) && s.endpoints.iter().any(|e| is_at(e, pod)))
}

fn is_at(endpoint: &Endpoint, pod: IpAddr) -> bool {
    endpoint.addresses.iter().any(|a| a.parse() == Ok(pod))
}

fn serves(slice: &EndpointSlice, name: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels.and_then(|l| l.get(SERVICE_NAME)).map(String::as_str) == Some(name)
}

fn of_family(slices: &[&EndpointSlice], port: &Port, family: Family) -> Found {
    let mut found = Found::default();
    let (mut ready, mut leaving) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices.iter().filter(|s| s.address_type == family.name()) {
        if slice.endpoints.is_empty() {
            continue;
        }
        let Some(number) = number(slice.ports.as_deref().unwrap_or_default(), port) else {
            found.portless.extend(slice.metadata.name.clone());
            continue;
        };
        for (address, standing) in slice.endpoints.iter().filter_map(placed) {
            match standing {
                Standing::Ready => ready.insert(SocketAddr::new(address, number)),
                Standing::Leaving => leaving.insert(SocketAddr::new(address, number)),
            };
        }
    }
    // The last pod of a rolling update serves on while it terminates: better than nobody.
    let chosen = if ready.is_empty() { leaving } else { ready };
    found.addresses = chosen.into_iter().collect();
    found
}

/// The port of a slice: of the same name, else the only one, else of the same number.
fn number(ports: &[EndpointPort], wanted: &Port) -> Option<u16> {
    let tcp = |p: &&EndpointPort| p.protocol.as_deref().is_none_or(|p| p == "TCP");
    let of_name = || {
        let mut named = ports.iter().filter(tcp);
        named.find(|p| p.name.as_deref().unwrap_or_default() == wanted.name)
    };
    let only = || match ports {
        [only] => Some(only).filter(tcp),
        _ => None,
    };
    let of_number = || {
        let mut numbered = ports.iter().filter(tcp);
        numbered.find(|p| p.port == Some(i32::from(wanted.number)))
    };
    let port = of_name().or_else(only).or_else(of_number)?;
    u16::try_from(port.port?).ok().filter(|n| *n > 0)
}

/// Whether an endpoint may be chosen.
enum Standing {
    Ready,
    /// It serves still, and will not for long.
    Leaving,
}

/// Where an endpoint is, and how it stands: what is not said counts as ready, serving, and not terminating. The
/// addresses of one endpoint are one pod's, so only the first counts.
fn placed(endpoint: &Endpoint) -> Option<(IpAddr, Standing)> {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let leaves = conditions.terminating == Some(true);
    let standing = match (leaves, conditions.ready, conditions.serving) {
        (false, None | Some(true), _) => Standing::Ready,
        (true, _, None | Some(true)) => Standing::Leaving,
        _ => return None,
    };
    let address = endpoint.addresses.first()?.parse().ok()?;
    Some((address, standing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::discovery::v1::EndpointConditions;

    type Conditions = (Option<bool>, Option<bool>, Option<bool>);

    const READY: Conditions = (Some(true), Some(true), Some(false));
    const LEAVING: Conditions = (Some(false), Some(true), Some(true));
    const UNREADY: Conditions = (Some(false), Some(false), Some(false));

    fn slice(name: &str, family: &str, ports: &[(&str, i32)], pods: &[(&str, Conditions)]) -> EndpointSlice {
        let endpoint = |(address, (ready, serving, terminating)): &(&str, Conditions)| Endpoint {
            addresses: vec![(*address).to_owned()],
            conditions: Some(EndpointConditions {
                ready: *ready,
                serving: *serving,
                terminating: *terminating,
            }),
            ..Endpoint::default()
        };
        let port = |(name, number): &(&str, i32)| EndpointPort {
            name: Some((*name).to_owned()),
            port: Some(*number),
            ..EndpointPort::default()
        };
        let mut slice = EndpointSlice {
            address_type: family.to_owned(),
            endpoints: pods.iter().map(endpoint).collect(),
            ports: Some(ports.iter().map(port).collect()),
            ..EndpointSlice::default()
        };
        slice.metadata.name = Some(format!("{name}-x"));
        slice.metadata.labels = Some([(SERVICE_NAME.to_owned(), name.to_owned())].into());
        slice
    }

    fn http() -> Port {
        Port {
            name: "http".into(),
            number: 80,
            protocol: contract::routes::AppProtocol::Http,
        }
    }

    fn found(slices: &[EndpointSlice]) -> Vec<String> {
        let found = of(slices.iter(), "a", &http(), Family::V4);
        found.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ready_endpoints_of_the_service_are_chosen_and_others_not() {
        let pods = [
            ("10.0.0.2", READY),
            ("10.0.0.1", (None, None, None)),
            ("10.0.0.3", LEAVING),
            ("10.0.0.4", UNREADY),
            ("10.0.0.1", READY),
        ];
        let mine = slice("a", "IPv4", &[("http", 8080)], &pods);
        let other = slice("b", "IPv4", &[("http", 8080)], &[("10.0.0.9", READY)]);
        assert_eq!(found(&[mine, other]), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    }

    #[test]
    fn the_last_ones_that_leave_are_kept_while_they_serve() {
        let dead = (Some(false), Some(false), Some(true));
        let pods = [("10.0.0.3", LEAVING), ("10.0.0.4", UNREADY), ("10.0.0.5", dead)];
        assert_eq!(
            found(&[slice("a", "IPv4", &[("http", 1)], &pods)]),
            ["10.0.0.3:1"]
        );
        let fresh = slice("a", "IPv4", &[("http", 1)], &[("10.0.0.6", READY)]);
        let old = slice("a", "IPv4", &[("http", 1)], &pods);
        assert_eq!(found(&[old, fresh]), ["10.0.0.6:1"]);
    }

    #[test]
    fn a_pod_of_two_families_counts_once() {
        let four = slice("a", "IPv4", &[("http", 1)], &[("10.0.0.1", READY)]);
        let six = slice("a", "IPv6", &[("http", 1)], &[("fd00::1", READY)]);
        let name = slice("a", "FQDN", &[("http", 1)], &[("example.org", READY)]);
        assert_eq!(found(&[six.clone(), four.clone(), name]), ["10.0.0.1:1"]);
        assert_eq!(found(std::slice::from_ref(&six)), ["[fd00::1]:1"]);
        let six_first = of([four, six].iter(), "a", &http(), Family::V6);
        assert_eq!(six_first.addresses[0].to_string(), "[fd00::1]:1");
    }

    #[test]
    fn the_port_is_found_by_name_then_alone_then_by_number() {
        let pod = [("10.0.0.1", READY)];
        for (ports, address) in [
            (&[("admin", 9), ("http", 8080)][..], "10.0.0.1:8080"),
            (&[("web", 8081)], "10.0.0.1:8081"),
            (&[("x", 9), ("y", 80)], "10.0.0.1:80"),
        ] {
            assert_eq!(found(&[slice("a", "IPv4", ports, &pod)]), [address]);
        }
        let none = slice("a", "IPv4", &[("x", 1), ("y", 2)], &pod);
        let found = of([none].iter(), "a", &http(), Family::V4);
        assert_eq!(
            (found.addresses.len(), found.portless),
            (0, vec!["a-x".to_owned()])
        );
    }

    #[test]
    fn nonsense_is_left_out() {
        let pods = [("localhost", READY), ("", READY)];
        assert!(found(&[slice("a", "IPv4", &[("http", 1)], &pods)]).is_empty());
        for port in [0, -1, 65_536] {
            assert!(found(&[slice("a", "IPv4", &[("http", port)], &[("10.0.0.1", READY)])]).is_empty());
        }
        assert!(found(&[slice("a", "IPv4", &[], &[("10.0.0.1", READY)])]).is_empty());
    }
}
