//! What the fronted Service says: where its tracks live, on which port, and how they are split. Pure.

use crate::table::Rules;
use contract::{
    Canary, Fault, Split,
    annotations::Annotations,
    names::{
        CANARY_SERVICE, CANARY_WEIGHT, CANARY_WEIGHT_TOTAL, CHANGE_CAUSE, CHANGED_BY, STABLE_SERVICE, Track,
    },
    routes::AppProtocol,
};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// What a Service is read for.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The Service's name.
    pub service: String,
    /// Its port by name or number; not needed where it has only one.
    pub port: Option<String>,
    /// Where the application is, when it runs in this very pod.
    pub local: Option<SocketAddr>,
    /// This pod's own address: which track is local; without it, stable is.
    pub pod: Option<IpAddr>,
    /// Prefix of the annotation keys.
    pub prefix: String,
}

impl Terms {
    /// Whether stable is in this very pod, whatever the endpoints say.
    pub fn is_stable_local(&self) -> bool {
        self.local.is_some() && self.pod.is_none()
    }
}

/// A Service that makes a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Front {
    /// The Services of the tracks; the canary's may be missing, and stable's where it is local.
    pub tracks: [Option<String>; 2],
    /// The port that the tracks are asked on.
    pub port: Port,
    /// Which addresses of a pod count.
    pub family: Family,
    /// Our annotations.
    pub annotations: Annotations,
}

/// A port by name and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name; empty where it has none.
    pub name: String,
    /// Its number at the Service.
    pub number: u16,
    /// What it speaks. Tables that were kept before it was known have none.
    #[serde(default)]
    pub protocol: AppProtocol,
}

/// The family of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// As EndpointSlices call it.
    pub const fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// The other one.
    pub const fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}

/// Reads a Service.
///
/// # Errors
/// Every fault: of the annotations, of the Services that they name, of the port.
pub fn read(service: &Service, terms: &Terms) -> Result<Front, Vec<Fault>> {
    let annotations = ours(service, &terms.prefix);
    let mut faults = Vec::new();
    let canary = Canary::parse(&annotations, &terms.prefix)
        .and_then(|c| Rules::compile(&c, &terms.prefix).map(|_| c))
        .map_err(|f| faults.extend(f))
        .unwrap_or_default();
    let tracks = [canary.stable_service, canary.canary_service];
    check_tracks(service, &tracks, &annotations, terms, &mut faults);
    let port = port(service, terms.port.as_deref()).map_err(|f| faults.push(f));
    match port {
        Ok(port) if faults.is_empty() => Ok(Front {
            tracks,
            port,
            family: family(service),
            annotations,
        }),
        _ => Err(faults),
    }
}

/// What is left of a Service whose annotations were never good: everybody goes to stable, if that can be read.
pub fn stable_only(service: &Service, terms: &Terms) -> Option<Front> {
    only(service, terms, &[STABLE_SERVICE])
}

/// What still counts of a Service with faults whose weight is plainly 0: nothing else that is wrong may hold up a way
/// back. The tracks follow where they can be read; all other keys stay as they last were.
pub fn at_zero(service: &Service, terms: &Terms, last: &Front) -> Option<Front> {
    const MOVED: [&str; 5] = [
        STABLE_SERVICE,
        CANARY_SERVICE,
        CANARY_WEIGHT,
        CHANGED_BY,
        CHANGE_CAUSE,
    ];
    let key = |suffix: &str| format!("{}{suffix}", terms.prefix);
    let weight = ours(service, &terms.prefix).remove(&key(CANARY_WEIGHT))?;
    Split::parse(&weight, None, &terms.prefix)
        .ok()
        .filter(|s| s.is_none())?;
    let mut rest = last.annotations.clone();
    // It may be what is wrong, and 0 is 0 of anything.
    rest.remove(&key(CANARY_WEIGHT_TOTAL));
    let Some(mut front) = only(service, terms, &MOVED) else {
        rest.insert(key(CANARY_WEIGHT), weight);
        return Some(Front {
            annotations: rest,
            ..last.clone()
        });
    };
    rest.retain(|k, _| MOVED.iter().all(|moved| *k != key(moved)));
    front.annotations.extend(rest);
    Some(front)
}

/// A Service read as if it had no other keys of ours.
fn only(service: &Service, terms: &Terms, suffixes: &[&str]) -> Option<Front> {
    let mut bare = service.clone();
    let annotations = bare.metadata.annotations.get_or_insert_default();
    annotations.retain(|k, _| {
        k.strip_prefix(&terms.prefix)
            .is_some_and(|suffix| suffixes.contains(&suffix))
    });
    read(&bare, terms).ok()
}

fn ours(service: &Service, prefix: &str) -> Annotations {
    let all = service.metadata.annotations.iter().flatten();
    all.filter(|(k, _)| k.starts_with(prefix))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

fn check_tracks(
    service: &Service,
    tracks: &[Option<String>; 2],
    annotations: &Annotations,
    terms: &Terms,
    faults: &mut Vec<Fault>,
) {
    let key = |track: Track| {
        let suffix = [STABLE_SERVICE, CANARY_SERVICE][track.index()];
        format!("{}{suffix}", terms.prefix)
    };
    for track in Track::BOTH {
        let named = tracks[track.index()].as_deref();
        let is_used = track == Track::Canary || !terms.is_stable_local();
        if is_used && named == Some(terms.service.as_str()) {
            let remedy = "name a Service that selects this track's pods; this one selects the proxy's";
            faults.push(Fault::new(
                key(track),
                &terms.service,
                "is the front itself",
                remedy,
            ));
        }
    }
    let stable = key(Track::Stable);
    if terms.local.is_none() && !annotations.contains_key(&stable) {
        let remedy = "annotate the Service with the name of the Service that selects stable's pods";
        faults.push(Fault::new(stable, "", missing(service), remedy));
    }
}

fn missing(service: &Service) -> &'static str {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    if selector.is_some_and(|s| !s.is_empty()) {
        "is not set, and the Service selects pods of its own: it is no front"
    } else {
        "is not set"
    }
}

/// The port that is meant.
fn port(service: &Service, wanted: Option<&str>) -> Result<Port, Fault> {
    let all = service.spec.as_ref().and_then(|s| s.ports.as_deref());
    let all = all.unwrap_or_default();
    let is = |p: &&ServicePort, w: &str| p.name.as_deref() == Some(w) || p.port.to_string() == w;
    let found = match (wanted, all) {
        (Some(wanted), all) => all.iter().find(|p| is(p, wanted)),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let number = found.and_then(|p| u16::try_from(p.port).ok());
    if let (Some(port), Some(number)) = (found, number) {
        return Ok(Port {
            name: port.name.clone().unwrap_or_default(),
            number,
            protocol: protocol(port.app_protocol.as_deref()).unwrap_or_default(),
        });
    }
    let names = all.iter().map(|p| p.name.clone().unwrap_or(p.port.to_string()));
    let names = names.collect::<Vec<_>>().join(", ");
    let reason = format!(
        "is not the one port that is needed; the Service has {}",
        if names.is_empty() { "none" } else { &names }
    );
    Err(Fault::new(
        "port",
        wanted.unwrap_or_default(),
        reason,
        "name one of them with --port",
    ))
}

/// What a port's `appProtocol` means to us, with the names that Kubernetes has standardised; `None`: not known here.
fn protocol(said: Option<&str>) -> Option<AppProtocol> {
    match said.unwrap_or("http") {
        "http" | "HTTP" | "kubernetes.io/ws" => Some(AppProtocol::Http),
        "https" | "HTTPS" | "kubernetes.io/wss" => Some(AppProtocol::Https),
        "kubernetes.io/h2c" => Some(AppProtocol::H2c),
        _ => None,
    }
}

/// The `appProtocol` that was not understood, if so: the port is asked in plain HTTP.
pub fn unknown_protocol<'a>(service: &'a Service, front: &Front) -> Option<&'a str> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let port = ports.iter().find(|p| p.port == i32::from(front.port.number))?;
    let said = port.app_protocol.as_deref();
    protocol(said).map_or(said, |_| None)
}

fn family(service: &Service) -> Family {
    let families = service.spec.as_ref().and_then(|s| s.ip_families.as_deref());
    match families.and_then(<[String]>::first).map(String::as_str) {
        Some("IPv6") => Family::V6,
        _ => Family::V4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::names::PREFIX;
    use k8s_openapi::api::core::v1::ServiceSpec;

    fn terms() -> Terms {
        Terms {
            service: "echo".into(),
            port: None,
            local: None,
            pod: None,
            prefix: PREFIX.into(),
        }
    }

    fn service(pairs: &[(&str, &str)], ports: &[(&str, i32)]) -> Service {
        let port = |(name, number): &(&str, i32)| ServicePort {
            name: (!name.is_empty()).then(|| (*name).to_owned()),
            port: *number,
            ..ServicePort::default()
        };
        let mut service = Service {
            spec: Some(ServiceSpec {
                ports: Some(ports.iter().map(port).collect()),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        };
        let annotations = pairs
            .iter()
            .map(|(k, v)| (format!("{PREFIX}{k}"), (*v).to_owned()));
        service.metadata.annotations = Some(annotations.collect());
        service
    }

    const TRACKS: [(&str, &str); 2] = [
        ("stable-service", "echo-stable"),
        ("canary-service", "echo-canary"),
    ];

    fn keys(read: Result<Front, Vec<Fault>>) -> Vec<String> {
        read.unwrap_err().into_iter().map(|f| f.key).collect()
    }

    #[test]
    fn a_front_names_its_tracks_and_keeps_our_annotations_only() {
        let mut service = service(&TRACKS, &[("http", 80)]);
        let annotations = service.metadata.annotations.as_mut().unwrap();
        annotations.insert(
            "kubectl.kubernetes.io/last-applied-configuration".into(),
            "{}".into(),
        );
        let front = read(&service, &terms()).unwrap();
        assert_eq!(
            front.tracks,
            [Some("echo-stable".into()), Some("echo-canary".into())]
        );
        assert_eq!((front.annotations.len(), front.family), (2, Family::V4));
        service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv6".into(), "IPv4".into()]);
        assert_eq!(read(&service, &terms()).unwrap().family, Family::V6);
    }

    #[test]
    fn without_a_stable_service_it_is_no_front() {
        let mut plain = service(&[], &[("http", 80)]);
        let faults = read(&plain, &terms()).unwrap_err();
        assert_eq!(
            (faults[0].key.as_str(), faults[0].reason.as_str()),
            ("serin.dev/stable-service", "is not set")
        );
        plain.spec.as_mut().unwrap().selector = Some([("app".to_owned(), "echo".to_owned())].into());
        assert!(read(&plain, &terms()).unwrap_err()[0].reason.contains("no front"));
        assert!(stable_only(&plain, &terms()).is_none());
    }

    #[test]
    fn a_front_that_leads_to_itself_is_refused() {
        let own = service(
            &[("stable-service", "echo"), ("canary-service", "echo")],
            &[("", 80)],
        );
        assert_eq!(
            keys(read(&own, &terms())),
            ["serin.dev/stable-service", "serin.dev/canary-service"]
        );
    }

    #[test]
    fn beside_the_app_stable_needs_no_service() {
        let terms = Terms {
            local: Some(([127, 0, 0, 1], 8081).into()),
            ..terms()
        };
        let front = read(
            &service(&[("canary-service", "echo-canary")], &[("", 80)]),
            &terms,
        )
        .unwrap();
        assert_eq!(front.tracks, [None, Some("echo-canary".into())]);
        let own = service(
            &[("stable-service", "echo"), ("canary-service", "echo")],
            &[("", 80)],
        );
        assert_eq!(keys(read(&own, &terms)), ["serin.dev/canary-service"]);
    }

    #[test]
    fn the_port_is_the_named_one_or_the_only_one() {
        let two = service(&TRACKS, &[("http", 80), ("admin", 9000)]);
        let with = |port: &str| Terms {
            port: Some(port.into()),
            ..terms()
        };
        for (written, number) in [("http", 80), ("80", 80), ("admin", 9000), ("9000", 9000)] {
            assert_eq!(read(&two, &with(written)).unwrap().port.number, number);
        }
        assert_eq!(keys(read(&two, &terms())), ["port"]);
        assert_eq!(keys(read(&two, &with("x"))), ["port"]);
        assert_eq!(keys(read(&service(&TRACKS, &[]), &terms())), ["port"]);
        assert_eq!(
            keys(read(&Service::default(), &terms())),
            ["serin.dev/stable-service", "port"]
        );
    }

    #[test]
    fn the_port_says_what_is_spoken() {
        let mut front = service(&TRACKS, &[("http", 80), ("admin", 9000)]);
        for (said, protocol, unknown) in [
            (None, AppProtocol::Http, None),
            (Some("http"), AppProtocol::Http, None),
            (Some("kubernetes.io/ws"), AppProtocol::Http, None),
            (Some("https"), AppProtocol::Https, None),
            (Some("kubernetes.io/wss"), AppProtocol::Https, None),
            (Some("kubernetes.io/h2c"), AppProtocol::H2c, None),
            (Some("mysql"), AppProtocol::Http, Some("mysql")),
        ] {
            front.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].app_protocol = said.map(str::to_owned);
            let terms = Terms {
                port: Some("http".into()),
                ..terms()
            };
            let read = read(&front, &terms).unwrap();
            assert_eq!(read.port.protocol, protocol, "{said:?}");
            assert_eq!(unknown_protocol(&front, &read), unknown);
        }
    }

    #[test]
    fn bad_annotations_leave_stable() {
        let bad = service(
            &[
                TRACKS[0],
                TRACKS[1],
                ("canary-weight", "abc"),
                ("canary-by-header", "h"),
                ("canary-by-header-pattern", "("),
            ],
            &[("", 80)],
        );
        assert_eq!(keys(read(&bad, &terms())), ["serin.dev/canary-weight"]);
        let front = stable_only(&bad, &terms()).unwrap();
        assert_eq!(front.tracks, [Some("echo-stable".into()), None]);
        let pattern = service(
            &[
                TRACKS[0],
                ("canary-by-header", "h"),
                ("canary-by-header-pattern", "("),
            ],
            &[("", 80)],
        );
        assert_eq!(
            keys(read(&pattern, &terms())),
            ["serin.dev/canary-by-header-pattern"]
        );
        assert!(stable_only(&service(&[("stable-service", "No_Name")], &[("", 80)]), &terms()).is_none());
    }

    #[test]
    fn a_plain_0_counts_whatever_else_is_wrong() {
        let good = [TRACKS[0], TRACKS[1], ("canary-by-header", "x-canary")];
        let mut lines = good.to_vec();
        lines.push(("canary-weight", "50"));
        let last = read(&service(&lines, &[("", 80)]), &terms()).unwrap();
        let fallen = |lines: &[(&str, &str)], ports: &[(&str, i32)]| {
            let bad = service(lines, ports);
            assert!(read(&bad, &terms()).is_err(), "{lines:?}");
            at_zero(&bad, &terms(), &last)
        };
        let zero = service(&[good[0], good[1], good[2], ("canary-weight", "0")], &[("", 80)]);
        let zero = read(&zero, &terms()).unwrap();
        for bad in [
            ("canary-shield", "maybe"),
            ("canary-weight-total", "0"),
            ("canary-by-header-pattern", "("),
        ] {
            let lines = [TRACKS[0], TRACKS[1], ("canary-weight", "0"), bad];
            assert_eq!(fallen(&lines, &[("", 80)]).as_ref(), Some(&zero), "{bad:?}");
        }
        let moved = [
            ("stable-service", "echo-previous"),
            ("canary-service", "echo-stable"),
            ("canary-weight", "0.0"),
            ("canary-shield", "maybe"),
        ];
        let front = fallen(&moved, &[("", 80)]).unwrap();
        assert_eq!(
            front.tracks,
            [Some("echo-previous".into()), Some("echo-stable".into())]
        );
        assert_eq!(front.annotations["serin.dev/canary-by-header"], "x-canary");
        assert_eq!(front.annotations["serin.dev/stable-service"], "echo-previous");
        // Neither the tracks nor the port can be read: they stay.
        let lost = [("stable-service", "No_Name"), ("canary-weight", "0")];
        assert_eq!(fallen(&lost, &[]), Some(zero));
        for weight in ["5", "", "-0", "none"] {
            let lines = [TRACKS[0], ("canary-weight", weight), ("canary-shield", "maybe")];
            assert_eq!(fallen(&lines, &[("", 80)]), None, "{weight}");
        }
        let mistyped = [TRACKS[0], ("canary-wieght", "0")];
        assert_eq!(fallen(&mistyped, &[("", 80)]), None, "no weight is not a plain 0");
    }
}
