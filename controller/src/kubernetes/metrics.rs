//! What the controller tells of itself: `/metrics`, `/healthz`, `/readyz`.

use crate::notify::{self, Outcomes};
use bytes::Bytes;
use contract::{
    metrics::help,
    names::{
        METRIC_API_REQUESTS, METRIC_LEADER, METRIC_ROLLOUTS, METRIC_SCRAPE_FAILURES, METRIC_TURN,
        METRIC_WEIGHT_DECISIONS,
    },
    release::Phase,
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::net::TcpListener;

/// Edges of the duration of a turn, in seconds: its aim is a tenth of a second.
const TURN_EDGES: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// Counters of one controller.
pub(super) struct Meter {
    registry: Registry,
    /// 1 while this one leads.
    pub leader: IntGauge,
    rollouts: IntGaugeVec,
    decisions: IntCounterVec,
    calls: IntCounterVec,
    /// Durations of turns.
    pub turns: Histogram,
    /// Pages that could not be read.
    pub deaf: IntCounter,
    /// What became of notifications.
    pub notifications: Outcomes,
    ready: AtomicBool,
}

fn named(name: &str) -> Opts {
    Opts::new(name, help(name))
}

impl Meter {
    /// All at zero.
    pub fn new() -> Result<Meter, prometheus::Error> {
        let registry = Registry::new();
        let meter = Meter {
            leader: IntGauge::with_opts(named(METRIC_LEADER))?,
            rollouts: IntGaugeVec::new(named(METRIC_ROLLOUTS), &["phase"])?,
            decisions: IntCounterVec::new(named(METRIC_WEIGHT_DECISIONS), &["phase"])?,
            calls: IntCounterVec::new(named(METRIC_API_REQUESTS), &["verb", "resource", "code"])?,
            turns: Histogram::with_opts(
                HistogramOpts::from(named(METRIC_TURN)).buckets(TURN_EDGES.to_vec()),
            )?,
            deaf: IntCounter::with_opts(named(METRIC_SCRAPE_FAILURES))?,
            notifications: notify::outcomes()?,
            ready: AtomicBool::new(false),
            registry,
        };
        // From zero on, or the first of its kind would be no increase.
        for phase in Phase::ALL {
            meter.decisions.with_label_values(&[&phase.to_string()]);
        }
        let r = &meter.registry;
        r.register(Box::new(meter.leader.clone()))?;
        r.register(Box::new(meter.rollouts.clone()))?;
        r.register(Box::new(meter.decisions.clone()))?;
        r.register(Box::new(meter.calls.clone()))?;
        r.register(Box::new(meter.turns.clone()))?;
        r.register(Box::new(meter.deaf.clone()))?;
        r.register(Box::new(meter.notifications.clone()))?;
        Ok(meter)
    }

    /// One request to the API server.
    pub fn call(&self, verb: &str, resource: &str, code: u16) {
        self.calls
            .with_label_values(&[verb, resource, &code.to_string()])
            .inc();
    }

    /// How many Rollouts are where; those of no phase are none.
    pub fn count(&self, phases: &BTreeMap<String, i64>) {
        for phase in Phase::ALL.map(|p| p.to_string()) {
            let n = phases.get(&phase).copied().unwrap_or_default();
            self.rollouts.with_label_values(&[phase.as_str()]).set(n);
        }
    }

    /// One decision.
    pub fn decision(&self, phase: &str) {
        self.decisions.with_label_values(&[phase]).inc();
    }

    /// Everything that is watched has been listed.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let (status, body) = match path {
            "/healthz" => (StatusCode::OK, b"ok\n".to_vec()),
            "/readyz" if self.ready.load(Ordering::Relaxed) => (StatusCode::OK, b"ok\n".to_vec()),
            "/readyz" => (
                StatusCode::SERVICE_UNAVAILABLE,
                b"the first lists are not complete\n".to_vec(),
            ),
            "/metrics" => match self.text() {
                Ok(text) => (StatusCode::OK, text),
                Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string().into_bytes()),
            },
            _ => (
                StatusCode::NOT_FOUND,
                b"try /metrics, /healthz or /readyz\n".to_vec(),
            ),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meter")
    }
}

/// Answers for ever.
pub(super) async fn serve(listener: TcpListener, meter: Arc<Meter>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or a client that has gone: neither is helped by a hot loop.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let meter = meter.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let answer = meter.answer(request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            // A client that breaks off is its own matter.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_ready_after_its_lists_and_tells_its_counters() {
        let meter = Meter::new().unwrap();
        assert_eq!(meter.answer("/readyz").status(), StatusCode::SERVICE_UNAVAILABLE);
        meter.set_ready();
        assert_eq!(meter.answer("/readyz").status(), StatusCode::OK);
        meter.call("get", "services", 404);
        let text = String::from_utf8(meter.text().unwrap()).unwrap();
        assert!(
            text.contains(
                r#"serin_controller_api_requests_total{code="404",resource="services",verb="get"} 1"#
            ),
            "{text}"
        );
        assert_eq!(meter.answer("/").status(), StatusCode::NOT_FOUND);
    }
}
