//! The page of `/evidence`: what all workers have counted, summed when somebody asks.

use crate::{shared::Shared, table::Route};
use contract::{
    Fault,
    evidence::{Page, Pod, SCHEMA, ServicePage},
    names::Track,
};
use std::collections::BTreeMap;

/// The evidence of all services in the table.
pub fn of(shared: &Shared, since: u64) -> Page {
    let age = shared.birth.elapsed();
    let second = age.as_secs();
    let table = shared.table();
    let mut faults = shared.faults();
    let services = table.routes.iter().map(|route| {
        let name = route.source.service.clone();
        let mut page = service_page(shared, route, since, second);
        page.rejected = faults.remove(&name).unwrap_or_default();
        (name, page)
    });
    let mut services: BTreeMap<String, ServicePage> = services.collect();
    // What never had a good table must be heard all the same.
    services.extend(faults.into_iter().map(|(name, faults)| (name, unserved(faults))));
    Page {
        schema: SCHEMA,
        process: shared.process.clone(),
        now_ms: age.as_millis() as u64,
        services,
    }
}

/// The page of a service without a table.
fn unserved(rejected: Vec<Fault>) -> ServicePage {
    ServicePage {
        hash: String::new(),
        share: 0.0,
        inflight: [0; 2],
        endpoints: [0; 2],
        guard: None,
        cohorts: Vec::new(),
        history: Vec::new(),
        latency: Vec::new(),
        pods: Vec::new(),
        local: false,
        rejected,
    }
}

fn service_page(shared: &Shared, route: &Route, since: u64, second: u64) -> ServicePage {
    let service = shared.services.of(&route.source.service);
    let inflight = |t: Track| {
        let counts = service
            .meters
            .iter()
            .map(|m| m.inflight[t.index()].load(std::sync::atomic::Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add)
    };
    ServicePage {
        hash: route.hash.clone(),
        share: route.share(),
        inflight: Track::BOTH.map(inflight),
        endpoints: Track::BOTH.map(|t| route.endpoints[t.index()].len() as u64),
        guard: route.guard.clone(),
        cohorts: service.cohorts(since, second),
        history: service.history(second),
        latency: service.latency(second),
        pods: Track::BOTH
            .iter()
            .flat_map(|t| pods(route, *t, second / 60))
            .collect(),
        local: shared.local,
        rejected: Vec::new(),
    }
}

fn pods(route: &Route, track: Track, minute: u64) -> impl Iterator<Item = Pod> {
    route.pods[track.index()].iter().map(move |pod| {
        let answered = pod.read(minute);
        Pod {
            endpoint: pod.address.to_string(),
            track,
            started: answered.started,
            bad: answered.bad,
            finished: answered.finished,
            buckets: answered.buckets,
        }
    })
}
