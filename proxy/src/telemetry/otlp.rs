//! Spans in OTLP/JSON (OpenTelemetry Protocol 1.x, `ExportTraceServiceRequest`): a few fields of a stable format, for
//! which the OpenTelemetry crates would bring a runtime, a pipeline and protobuf along. Pure.

use super::entry::Entry;
use crate::grpc::Code;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `SPAN_KIND_SERVER`.
const SERVER: u32 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;

/// The body of one export.
pub fn request(process: &str, entries: &[Entry]) -> Value {
    let spans: Vec<Value> = entries.iter().filter_map(span).collect();
    let resource = [
        text("service.name", "serin"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", process),
    ];
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "serin", "version": env!("CARGO_PKG_VERSION") }, "spans": spans }],
    }]})
}

/// One server span. Its name has no path: names are few (semantic conventions for HTTP spans).
fn span(entry: &Entry) -> Option<Value> {
    let span = entry.span?;
    let digits = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let begun = entry.ended.checked_sub(entry.took).unwrap_or(entry.ended);
    let mut value = json!({
        "traceId": digits(&span.trace),
        "spanId": digits(&span.id),
        "name": name(entry),
        "kind": SERVER,
        "startTimeUnixNano": nanos(begun),
        "endTimeUnixNano": nanos(entry.ended),
        "attributes": attributes(entry),
        "status": status(entry),
    });
    if let (Some(parent), Some(map)) = (span.parent, value.as_object_mut()) {
        map.insert("parentSpanId".to_owned(), digits(&parent).into());
    }
    Some(value)
}

fn name(entry: &Entry) -> String {
    match entry.service() {
        Some(service) => format!("{} {service}", entry.said.method),
        None => entry.said.method.clone(),
    }
}

/// A server's span is an error from 500 on, or by the status of gRPC; what the client did wrong is none.
fn status(entry: &Entry) -> Value {
    if entry.status >= 500 || entry.grpc.is_some_and(Code::is_bad) {
        json!({ "code": ERROR })
    } else {
        json!({})
    }
}

fn attributes(entry: &Entry) -> Vec<Value> {
    let said = &entry.said;
    let mut all = vec![
        text("http.request.method", &said.method),
        text("url.path", &said.path),
        text("server.address", &said.host),
        text("client.address", &entry.client.to_string()),
        text("network.protocol.version", version(entry.protocol)),
        number("http.response.status_code", entry.status.into()),
        number("http.request.body.size", entry.received),
        number("http.response.body.size", entry.sent),
        number("serin.attempts", entry.attempts.into()),
    ];
    for (key, value) in [
        ("url.query", &said.query),
        ("user_agent.original", &said.user_agent),
    ] {
        all.extend(Some(value).filter(|v| !v.is_empty()).map(|v| text(key, v)));
    }
    all.extend(entry.service().map(|s| text("serin.service", s)));
    if let Some(code) = entry.grpc {
        all.push(text("rpc.system", "grpc"));
        all.extend(code.number().map(|n| number("rpc.grpc.status_code", n.into())));
    }
    if let Some((track, reason)) = entry.choice {
        all.push(text("serin.track", track.name()));
        all.push(text("serin.reason", reason.name()));
    }
    all.extend(entry.endpoint.map(|e| text("serin.endpoint", &e.to_string())));
    all.extend(
        entry
            .replaced
            .map(|(_, status)| number("serin.replaced.status", status.into())),
    );
    if let Some((_, failure)) = entry.blame {
        all.push(text("error.type", failure.kind()));
        all.push(text("serin.failure.side", failure.side().name()));
    }
    all
}

fn version(protocol: &str) -> &str {
    match protocol {
        "h2" => "2",
        other => other.strip_prefix("http/").unwrap_or(other),
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// 64-bit numbers are texts in the JSON of protobuf.
fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_nanos()
        .to_string()
}
