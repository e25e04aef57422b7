//! `/metrics`: the counters of all workers, summed when somebody asks.

mod ingress_nginx;
pub mod openmetrics;

use crate::{
    error::KINDS,
    grpc,
    meter::{self, Meter, Mirror, RETRIES},
    service::Service,
    shared::Shared,
    wire::request::{Method, Protocol},
};
use contract::{
    latency::{EDGES, edge_seconds},
    metrics::{self, Kind},
    names::{
        METRIC_CERTIFICATE_EXPIRY, METRIC_CONFIG_REJECTED, METRIC_CONNECTIONS, METRIC_DECISIONS,
        METRIC_DNS_LOOKUPS, METRIC_DNS_STALE, METRIC_DURATION, METRIC_EJECTIONS, METRIC_FAILURES,
        METRIC_GRPC_REQUESTS, METRIC_GUARD, METRIC_HANDSHAKES, METRIC_INFLIGHT, METRIC_LOG_DROPPED,
        METRIC_MIRROR, METRIC_MIRROR_DURATION, METRIC_REQUESTS, METRIC_RETRIES, METRIC_SPANS,
        METRIC_SPANS_DROPPED, METRIC_SPLIT_INFO, METRIC_SPLIT_WEIGHT, Reason, Track,
    },
};
use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// All metrics as Prometheus text.
pub fn text(shared: &Shared) -> String {
    TextEncoder::new()
        .encode_to_string(&families(shared))
        .unwrap_or_default()
}

/// All metrics as OpenMetrics.
pub fn openmetrics(shared: &Shared) -> String {
    openmetrics::text(&families(shared))
}

fn families(shared: &Shared) -> Vec<MetricFamily> {
    let services = shared.services.all();
    let of_each = |one: fn(&Service, &mut Vec<Metric>)| {
        let mut all = Vec::new();
        services.iter().for_each(|s| one(s, &mut all));
        all
    };
    let families = [
        family(METRIC_DURATION, of_each(durations)),
        family(METRIC_REQUESTS, of_each(answers)),
        family(METRIC_GRPC_REQUESTS, of_each(calls)),
        family(METRIC_DECISIONS, of_each(decisions)),
        family(METRIC_FAILURES, failures(shared, of_each(failed))),
        family(METRIC_RETRIES, of_each(retries)),
        family(METRIC_MIRROR, of_each(mirrors)),
        family(METRIC_MIRROR_DURATION, of_each(mirror_durations)),
        family(METRIC_EJECTIONS, of_each(ejections)),
        family(METRIC_INFLIGHT, of_each(inflight)),
        family(METRIC_SPLIT_WEIGHT, weights(shared)),
        family(METRIC_GUARD, guards(shared)),
        family(METRIC_SPLIT_INFO, hashes(shared)),
        family(METRIC_CONFIG_REJECTED, rejections(shared)),
        family(METRIC_CERTIFICATE_EXPIRY, certificates(shared)),
        family(METRIC_HANDSHAKES, handshakes(shared)),
        family(METRIC_CONNECTIONS, connections(shared)),
        family(METRIC_DNS_LOOKUPS, lookups(shared)),
        family(METRIC_DNS_STALE, stale(shared)),
        family(
            METRIC_LOG_DROPPED,
            told(shared.telemetry.has_log(), &shared.telemetry.lines_dropped),
        ),
        family(
            METRIC_SPANS,
            told(shared.telemetry.has_spans(), &shared.telemetry.exported),
        ),
        family(
            METRIC_SPANS_DROPPED,
            told(shared.telemetry.has_spans(), &shared.telemetry.spans_dropped),
        ),
    ];
    families
        .into_iter()
        .chain(ingress_nginx::families(shared))
        .filter(|f| !f.get_metric().is_empty())
        .collect()
}

fn family(name: &str, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(metrics::help(name).to_owned());
    family.set_field_type(match metrics::named(name).map(|m| m.kind) {
        Some(Kind::Counter) => MetricType::COUNTER,
        Some(Kind::Histogram) => MetricType::HISTOGRAM,
        Some(Kind::Gauge) | None => MetricType::GAUGE,
    });
    family.set_metric(metrics);
    family
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Vec<LabelPair> {
    pairs
        .into_iter()
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        })
        .collect()
}

fn counter(labels: Vec<LabelPair>, value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}

/// Sums one counter over the workers.
fn sum<'a>(service: &'a Service, of: impl Fn(&'a Meter) -> &'a AtomicU64) -> u64 {
    service
        .meters
        .iter()
        .fold(0, |n, m| n.wrapping_add(of(m).load(Relaxed)))
}

fn word(evidence: usize) -> &'static str {
    if evidence == 1 { "true" } else { "false" }
}

fn durations(service: &Service, out: &mut Vec<Metric>) {
    for track in Track::BOTH {
        for evidence in 0..2 {
            let labels = labels([
                ("service", &service.name),
                ("track", track.name()),
                ("evidence", word(evidence)),
            ]);
            let mut metric = Metric::from_label(labels);
            metric.set_histogram(histogram(service, |m| [&m.durations[track.index()][evidence]]));
            out.push(metric);
        }
    }
}

/// One histogram of those that `of` names, added up.
fn histogram<const N: usize>(service: &Service, of: impl Fn(&Meter) -> [&meter::Histogram; N]) -> Histogram {
    let all = |count: fn(&meter::Histogram, usize) -> &AtomicU64, i: usize| {
        let each = service.meters.iter().flat_map(&of);
        each.fold(0u64, |n, h| n.wrapping_add(count(h, i).load(Relaxed)))
    };
    let mut total = 0;
    let mut buckets = Vec::with_capacity(EDGES);
    for edge in 0..EDGES {
        total += all(|h, i| &h.buckets[i], edge);
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(edge_seconds(edge));
        bucket.set_cumulative_count(total);
        buckets.push(bucket);
    }
    total += all(|h, i| &h.buckets[i], EDGES);
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(total);
    histogram.set_sample_sum(all(|h, _| &h.nanos, 0) as f64 * 1e-9);
    histogram
}

/// Besides what was counted, a zero for GET and 200 of both tracks: a rate needs a first value.
fn answers(service: &Service, out: &mut Vec<Metric>) {
    let mut sums: BTreeMap<meter::Answer, u64> = BTreeMap::new();
    for track in Track::BOTH {
        sums.insert(
            meter::Answer::new(track, true, 200, Method::Get, Protocol::Http11),
            0,
        );
    }
    for (answer, n) in service.meters.iter().flat_map(|m| m.answers.read()) {
        *sums.entry(answer).or_default() += n;
    }
    for (a, n) in sums {
        let track = Track::BOTH.get(a.track).map_or("", |t| t.name());
        let code = if a.code == 0 {
            "_OTHER".to_owned()
        } else {
            a.code.to_string()
        };
        let labels = labels([
            ("service", &service.name),
            ("track", track),
            ("evidence", word(a.evidence.into())),
            ("code", &code),
            ("method", Method::ALL.get(a.method).map_or("_OTHER", |m| m.name())),
            ("protocol", Protocol::ALL.get(a.protocol).map_or("", |p| p.name())),
        ]);
        out.push(counter(labels, n));
    }
}

/// Nothing for a service without gRPC; else zeros too, for success and for what most often fails.
fn calls(service: &Service, out: &mut Vec<Metric>) {
    let mut all = Vec::new();
    for track in Track::BOTH {
        for (evidence, code) in (0..2).flat_map(|e| (0..grpc::CODES).map(move |c| (e, c))) {
            let n = sum(service, |m| &m.calls[track.index()][evidence][code]);
            all.push((track, evidence, code, n));
        }
    }
    if all.iter().all(|(.., n)| *n == 0) {
        return;
    }
    let shown = all
        .iter()
        .filter(|(.., code, n)| *n > 0 || [0, 14].contains(code));
    for (track, evidence, code, n) in shown {
        let labels = labels([
            ("service", &service.name),
            ("track", track.name()),
            ("evidence", word(*evidence)),
            ("grpc_status", &grpc::label(*code)),
        ]);
        out.push(counter(labels, *n));
    }
}

fn decisions(service: &Service, out: &mut Vec<Metric>) {
    for track in Track::BOTH {
        for reason in Reason::ALL {
            let labels = labels([
                ("service", &service.name),
                ("track", track.name()),
                ("reason", reason.name()),
            ]);
            let n = sum(service, |m| &m.decisions[track.index()][reason as usize]);
            out.push(counter(labels, n));
        }
    }
}

fn failed(service: &Service, out: &mut Vec<Metric>) {
    for track in Track::BOTH {
        for (i, (side, kind)) in KINDS.iter().enumerate() {
            let n = sum(service, |m| &m.failures[track.index()][i]);
            let labels = labels([
                ("service", &service.name),
                ("track", track.name()),
                ("side", side.name()),
                ("kind", kind),
            ]);
            out.push(counter(labels, n));
        }
    }
}

fn retries(service: &Service, out: &mut Vec<Metric>) {
    for track in Track::BOTH {
        for (i, outcome) in RETRIES.iter().enumerate() {
            let n = sum(service, |m| &m.retries[track.index()][i]);
            let labels = labels([
                ("service", &service.name),
                ("track", track.name()),
                ("outcome", outcome),
            ]);
            out.push(counter(labels, n));
        }
    }
}

/// Failures before a route was known stand with an empty service.
fn failures(shared: &Shared, mut all: Vec<Metric>) -> Vec<Metric> {
    for ((side, kind), n) in KINDS.iter().zip(&shared.strays) {
        let labels = labels([
            ("service", ""),
            ("track", ""),
            ("side", side.name()),
            ("kind", kind),
        ]);
        let n = n.load(Relaxed);
        if n > 0 {
            all.push(counter(labels, n));
        }
    }
    all
}

/// Nothing while nobody copies: most services never do.
fn mirrors(service: &Service, out: &mut Vec<Metric>) {
    let counts = Mirror::ALL.map(|(m, name)| (name, sum(service, |meter| &meter.mirrors[m as usize])));
    if counts.iter().all(|(_, n)| *n == 0) {
        return;
    }
    for (outcome, n) in counts {
        let labels = labels([("service", &service.name), ("outcome", outcome)]);
        out.push(counter(labels, n));
    }
}

fn mirror_durations(service: &Service, out: &mut Vec<Metric>) {
    for track in Track::BOTH {
        let told = histogram(service, |m| [&m.mirror_durations[track.index()]]);
        if told.get_sample_count() > 0 {
            let mut metric =
                Metric::from_label(labels([("service", &service.name), ("track", track.name())]));
            metric.set_histogram(told);
            out.push(metric);
        }
    }
}

fn ejections(service: &Service, out: &mut Vec<Metric>) {
    for track in Track::BOTH {
        let labels = labels([("service", &service.name), ("track", track.name())]);
        out.push(counter(labels, sum(service, |m| &m.ejections[track.index()])));
    }
}

fn inflight(service: &Service, out: &mut Vec<Metric>) {
    for track in Track::BOTH {
        let labels = labels([("service", &service.name), ("track", track.name())]);
        out.push(gauge(labels, sum(service, |m| &m.inflight[track.index()]) as f64));
    }
}

fn weights(shared: &Shared) -> Vec<Metric> {
    let table = shared.table();
    let each = table.routes.iter();
    each.map(|r| gauge(labels([("service", &r.source.service)]), r.share() * 100.0))
        .collect()
}

fn guards(shared: &Shared) -> Vec<Metric> {
    let table = shared.table();
    let each = table.routes.iter();
    each.map(|r| {
        let tripped = if r.guard.is_some() { 1.0 } else { 0.0 };
        gauge(labels([("service", &r.source.service)]), tripped)
    })
    .collect()
}

fn hashes(shared: &Shared) -> Vec<Metric> {
    let table = shared.table();
    let each = table.routes.iter();
    each.map(|r| gauge(labels([("service", &r.source.service), ("hash", &r.hash)]), 1.0))
        .collect()
}

fn rejections(shared: &Shared) -> Vec<Metric> {
    let each = shared.rejections().into_iter();
    each.map(|((service, key), n)| counter(labels([("service", &service), ("key", &key)]), n))
        .collect()
}

/// A counter of what is told of requests, where it is told.
fn told(is_told: bool, count: &AtomicU64) -> Vec<Metric> {
    let metric = || counter(Vec::new(), count.load(Relaxed));
    is_told.then(metric).into_iter().collect()
}

fn certificates(shared: &Shared) -> Vec<Metric> {
    let all = shared.keys.expiries().into_iter();
    all.map(|e| gauge(labels([("file", &e.file), ("name", &e.name)]), e.at as f64))
        .collect()
}

/// None where clients cannot come by TLS.
fn handshakes(shared: &Shared) -> Vec<Metric> {
    let each = shared.keys.front.iter().flat_map(|_| shared.handshakes.read());
    each.map(|(version, resumed, n)| {
        let resumed = if resumed { "true" } else { "false" };
        counter(labels([("version", version), ("resumed", resumed)]), n)
    })
    .collect()
}

fn connections(shared: &Shared) -> Vec<Metric> {
    vec![gauge(Vec::new(), shared.connections.load(Relaxed) as f64)]
}

/// None where no endpoint is a host name.
fn lookups(shared: &Shared) -> Vec<Metric> {
    let lookups = &shared.lookups;
    let results = [("found", &lookups.found), ("failed", &lookups.failed)];
    let used = results.iter().any(|(_, n)| n.load(Relaxed) > 0);
    let each = results.into_iter().filter(|_| used);
    each.map(|(result, n)| counter(labels([("result", result)]), n.load(Relaxed)))
        .collect()
}

fn stale(shared: &Shared) -> Vec<Metric> {
    let known = !lookups(shared).is_empty();
    let metric = || gauge(Vec::new(), shared.lookups.stale.load(Relaxed) as f64);
    known.then(metric).into_iter().collect()
}
