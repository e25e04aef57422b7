//! Requests and durations by the names and labels of ingress-nginx, for dashboards that were made for it. From the same
//! counters; only when somebody asks, and only where it is wanted.
//!
//! There is no Ingress here and no raw host or path: `ingress` is the Service, `host` and `path` are empty. `canary` names
//! the canary as it did there: empty for stable.

use super::{counter, family, histogram, labels};
use crate::{meter::Answer, service::Service, shared::Shared, wire::request::Method};
use contract::names::{METRIC_NGINX_DURATION, METRIC_NGINX_REQUESTS, Track};
use prometheus::proto::{Metric, MetricFamily};
use std::collections::BTreeMap;

/// Both families; none where they are not wanted.
pub fn families(shared: &Shared) -> Vec<MetricFamily> {
    let Some(namespace) = &shared.settings.ingress_nginx else {
        return Vec::new();
    };
    let services = shared.services.all();
    let of_each =
        |one: fn(&str, &Service) -> Vec<Metric>| services.iter().flat_map(|s| one(namespace, s)).collect();
    vec![
        family(METRIC_NGINX_REQUESTS, of_each(answers)),
        family(METRIC_NGINX_DURATION, of_each(durations)),
    ]
}

/// What `canary` says of a track.
fn canary(namespace: &str, service: &Service, track: Track) -> String {
    match track {
        Track::Stable => String::new(),
        Track::Canary if namespace.is_empty() => format!("{}-canary", service.name),
        Track::Canary => format!("{namespace}-{}-canary", service.name),
    }
}

/// With the zeros of `serin_requests_total`.
fn answers(namespace: &str, service: &Service) -> Vec<Metric> {
    let mut sums: BTreeMap<(usize, u16, usize), u64> = BTreeMap::new();
    for track in Track::BOTH {
        sums.insert((track.index(), 200, Method::Get as usize), 0);
    }
    for (
        Answer {
            track, code, method, ..
        },
        n,
    ) in service.meters.iter().flat_map(|m| m.answers.read())
    {
        *sums.entry((track, code, method)).or_default() += n;
    }
    let one = |((track, code, method), n): ((usize, u16, usize), u64)| {
        let track = Track::BOTH.get(track).copied().unwrap_or(Track::Stable);
        let labels = labels([
            ("namespace", namespace),
            ("ingress", &service.name),
            ("service", &service.name),
            ("status", &code.to_string()),
            ("method", Method::ALL.get(method).map_or("_OTHER", |m| m.name())),
            ("host", ""),
            ("path", ""),
            ("canary", &canary(namespace, service, track)),
        ]);
        counter(labels, n)
    };
    sums.into_iter().map(one).collect()
}

fn durations(namespace: &str, service: &Service) -> Vec<Metric> {
    let one = |track: Track| {
        let labels = labels([
            ("namespace", namespace),
            ("ingress", &service.name),
            ("service", &service.name),
            ("host", ""),
            ("path", ""),
            ("canary", &canary(namespace, service, track)),
        ]);
        let mut metric = Metric::from_label(labels);
        metric.set_histogram(histogram(service, |m| {
            let [other, evidence] = &m.durations[track.index()];
            [other, evidence]
        }));
        metric
    };
    Track::BOTH.map(one).into()
}
