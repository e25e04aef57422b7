//! A number from a Prometheus server: one instant query (`GET /api/v1/query`), one sample.

use super::{ANSWER_LIMIT, http::get};
use engine::Plan;
use http::StatusCode;
use serde_json::Value;
use std::{fmt::Write, time::Duration};

/// The query with the names of the service and of the versions in the place of `{{service}}`, `{{canary}}` and
/// `{{stable}}`. A name that looks like a placeholder stays what it is.
pub(super) fn filled(query: &str, plan: &Plan) -> String {
    let mut parts = query.split("{{");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once("}}") {
            Some(("service", rest)) => out.extend([quoted(&plan.service).as_str(), rest]),
            Some(("canary", rest)) => out.extend([quoted(&plan.canary.name).as_str(), rest]),
            Some(("stable", rest)) => out.extend([quoted(&plan.stable.name).as_str(), rest]),
            _ => out.extend(["{{", part]),
        }
    }
    out
}

/// The number that the server finds; `address` is of the server, `query` is PromQL.
pub(super) async fn ask(address: &str, query: &str, patience: Duration) -> Result<f64, String> {
    let url = format!(
        "{}/api/v1/query?query={}&timeout={}ms",
        address.trim_end_matches('/'),
        escaped(query),
        patience.as_millis()
    );
    let (status, body) = get(&url, patience, ANSWER_LIMIT).await?;
    parse(status, &body)
}

/// Content of a string of PromQL: what could end it becomes an escape that both kinds of quotes know.
fn quoted(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' | '\'' | '`' | '\0'..='\x1f' | '\x7f' => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            other => out.push(other),
        }
    }
    out
}

/// Percent-encoding of everything but RFC 3986's unreserved characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Errors come as JSON too, with a status of their own; warnings and infos are no concern of a limit.
fn parse(status: StatusCode, body: &[u8]) -> Result<f64, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|e| match status {
        StatusCode::OK => format!("its answer is no JSON: {e}"),
        other => format!("it answered {other}"),
    })?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    match text("status") {
        Some("success") => sample(answer.get("data").unwrap_or(&Value::Null)),
        Some("error") => Err(format!(
            "it refused the query: {}: {}",
            text("errorType").unwrap_or("error"),
            text("error").unwrap_or("no reason given")
        )),
        _ if status != StatusCode::OK => Err(format!("it answered {status}")),
        _ => Err("its answer is not of Prometheus's HTTP API".to_owned()),
    }
}

fn sample(data: &Value) -> Result<f64, String> {
    let result = data.get("result").unwrap_or(&Value::Null);
    match (data.get("resultType").and_then(Value::as_str), result) {
        (Some("scalar"), pair) => number(pair),
        (Some("vector"), Value::Array(samples)) => match samples.as_slice() {
            [] => Err("the query finds nothing".to_owned()),
            [one] => number(one.get("value").unwrap_or(&Value::Null)),
            many => Err(format!(
                "the query finds {} samples and should find one; aggregate, for example with sum()",
                many.len()
            )),
        },
        (Some(kind @ ("matrix" | "string")), _) => {
            Err(format!("the query gives a {kind} instead of a number"))
        }
        _ => Err("its answer is not of Prometheus's HTTP API".to_owned()),
    }
}

/// Of `[time, "value"]`. NaN is no number.
fn number(pair: &Value) -> Result<f64, String> {
    let text = pair.get(1).and_then(Value::as_str);
    let value: Option<f64> = text.and_then(|t| t.parse().ok());
    match value {
        Some(x) if x.is_nan() => Err("the value is NaN".to_owned()),
        Some(x) => Ok(x),
        None => Err("the query gives no plain number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{file::ServiceEntry, routes::Backends};

    fn plan(service: &str, stable: &str, canary: &str) -> Plan {
        let backends = |version: &str| Backends {
            version: version.into(),
            endpoints: Vec::new(),
            ..Backends::default()
        };
        Plan::of(&ServiceEntry {
            name: service.into(),
            stable: backends(stable),
            canary: backends(canary),
            ..ServiceEntry::default()
        })
        .unwrap()
    }

    #[test]
    fn placeholders_become_names_once_and_cannot_break_out() {
        let plain = plan("echo", "v1", "v2");
        assert_eq!(
            filled(
                "a{s=\"{{service}}\"} / b{v='{{canary}}'} - c{v=\"{{stable}}\"} {{other}} {{",
                &plain
            ),
            "a{s=\"echo\"} / b{v='v2'} - c{v=\"v1\"} {{other}} {{"
        );
        let nasty = plan("echo", "{{canary}}", "v\"} or up{x='\\`\n");
        assert_eq!(
            filled("{{stable}} {{canary}}", &nasty),
            "{{canary}} v\\x22} or up{x=\\x27\\\\\\x60\\x0a"
        );
    }

    #[test]
    fn a_query_is_escaped() {
        assert_eq!(
            escaped("a{b=\"ä\"} + 1&c"),
            "a%7Bb%3D%22%C3%A4%22%7D%20%2B%201%26c"
        );
    }

    #[test]
    fn one_sample_is_a_number() {
        let of = |data: &str| {
            let body = format!("{{\"status\":\"success\",\"warnings\":[\"w\"],\"data\":{data}}}");
            parse(StatusCode::OK, body.as_bytes())
        };
        let vector = |samples: &str| of(&format!("{{\"resultType\":\"vector\",\"result\":[{samples}]}}"));
        let one = |value: &str| format!("{{\"metric\":{{}},\"value\":[1700000000.1,\"{value}\"]}}");
        assert_eq!(of(r#"{"resultType":"scalar","result":[1,"0.93"]}"#), Ok(0.93));
        assert_eq!(vector(&one("4")), Ok(4.0));
        assert_eq!(vector(&one("+Inf")), Ok(f64::INFINITY));
        assert_eq!(vector(&one("-Inf")), Ok(f64::NEG_INFINITY));
        for (outcome, why) in [
            (vector(&one("NaN")), "the value is NaN"),
            (vector(""), "the query finds nothing"),
            (
                vector(&format!("{},{}", one("1"), one("2"))),
                "the query finds 2 samples",
            ),
            (
                vector("{\"metric\":{},\"histogram\":[1,{}]}"),
                "the query gives no plain number",
            ),
            (vector(&one("x")), "the query gives no plain number"),
            (vector("7"), "the query gives no plain number"),
            (
                of(r#"{"resultType":"matrix","result":[]}"#),
                "the query gives a matrix",
            ),
            (
                of(r#"{"resultType":"string","result":[1,"a"]}"#),
                "the query gives a string",
            ),
            (of("null"), "its answer is not of Prometheus"),
            (
                of(r#"{"resultType":"vector"}"#),
                "its answer is not of Prometheus",
            ),
        ] {
            let e = outcome.unwrap_err();
            assert!(e.starts_with(why), "{e}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let refused = br#"{"status":"error","errorType":"bad_data","error":"1:3: parse error"}"#;
        for (status, body, why) in [
            (
                400,
                &refused[..],
                "it refused the query: bad_data: 1:3: parse error",
            ),
            (200, refused, "it refused the query: bad_data: 1:3: parse error"),
            (404, b"404 page not found", "it answered 404 Not Found"),
            (503, b"{}", "it answered 503 Service Unavailable"),
            (200, b"{}", "its answer is not of Prometheus's HTTP API"),
            (200, b"[]", "its answer is not of Prometheus's HTTP API"),
            (
                200,
                b"<html>",
                "its answer is no JSON: expected value at line 1 column 1",
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(parse(status, body), Err(why.to_owned()));
        }
    }
}
