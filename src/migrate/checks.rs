//! What others measure elsewhere, as checks: Flagger's metrics with their templates, Argo's analysis templates.

use super::{list, number, text};
use proxy::contract::{
    Span,
    policy::{Check, Http, NoData, Promql},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Names and what stands for them in `{{ }}`.
pub type Names = BTreeMap<String, String>;

/// A time as Go writes it, or a number of seconds.
pub fn span(value: &Value) -> Option<Span> {
    let text = match value {
        Value::Number(n) => format!("{}s", n.as_u64()?),
        Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => {
            format!("{text}s")
        }
        Value::String(text) => text.clone(),
        _ => return None,
    };
    text.parse().ok()
}

/// With names put in; the rest as it stands.
pub fn filled(query: &str, names: &Names) -> String {
    let mut out = String::new();
    let mut rest = query;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, tail)) = after.split_once("}}") else {
            out.push_str("{{");
            rest = after;
            continue;
        };
        match names.get(name.trim()) {
            Some(value) => out.push_str(value),
            None => out.push_str(&format!("{{{{{name}}}}}")),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// A check whose times fit together.
pub fn timed(check: &mut Check, interval: Option<Span>) {
    if let Some(interval) = interval {
        check.interval = interval;
    }
    let least = 2.0 * (check.interval.as_seconds() + check.timeout.as_seconds());
    if check.patience.as_seconds() < least {
        check.patience = Span::seconds(least.ceil() as u64);
    }
}

/// The limits that a condition sets; `None`: it says more than a limit.
///
/// A part that only lets an empty result pass is said by `noData`.
pub fn limit(check: &mut Check, condition: &str, is_success: bool) -> Option<()> {
    let guard = |part: &&str| {
        ["len(", "isNaN(", "isInf(", "isNil("]
            .iter()
            .any(|g| part.starts_with(g))
    };
    let parts: Vec<&str> = condition
        .split("||")
        .map(|p| p.trim().trim_matches(['(', ')'].as_slice()).trim())
        .collect();
    let plain: Vec<&str> = parts.iter().filter(|p| !guard(p)).copied().collect();
    let [only] = plain.as_slice() else { return None };
    if plain.len() < parts.len() {
        check.no_data = NoData::Ignore;
    }
    let rest = only
        .strip_prefix("result[0]")
        .or_else(|| only.strip_prefix("result"))?
        .trim_start();
    let signs = [">=", "<=", "==", ">", "<"];
    let (sign, value) = signs.iter().find_map(|s| Some((*s, rest.strip_prefix(s)?)))?;
    let value: f64 = value.trim().parse().ok()?;
    match (sign, is_success) {
        ("==", true) => (check.min, check.max) = (Some(value), Some(value)),
        (">=" | ">", true) | ("<=" | "<", false) => check.min = Some(value),
        ("<=" | "<", true) | (">=" | ">", false) => check.max = Some(value),
        _ => return None,
    }
    Some(())
}

/// A metric of an analysis template.
///
/// # Errors
/// Why it cannot be a check, and what to do instead.
pub fn of_analysis(metric: &Value, names: &Names) -> Result<Check, String> {
    let mut check = Check::named(text(metric, "/name").unwrap_or("metric"));
    if let Some(query) = text(metric, "/provider/prometheus/query") {
        check.promql = Some(Promql {
            address: filled(
                text(metric, "/provider/prometheus/address").unwrap_or_default(),
                names,
            ),
            query: filled(query, names).trim().to_owned(),
        });
    } else if let Some(url) = text(metric, "/provider/web/url") {
        if !list(metric, "/provider/web/headers").is_empty()
            || text(metric, "/provider/web/method").is_some_and(|m| m != "GET")
        {
            return Err("asks with a method, headers or a body of its own, and a check is a plain GET; put something before it that answers a GET".to_owned());
        }
        check.http = Some(Http {
            url: filled(url, names),
            field: text(metric, "/provider/web/jsonPath").and_then(pointer),
        });
    } else {
        return Err(
            "asks neither Prometheus nor a URL, and checks do only that; export the number to Prometheus, or write a gate"
                .to_owned(),
        );
    }
    let asked = check
        .promql
        .as_ref()
        .map(|p| format!("{}{}", p.address, p.query))
        .or_else(|| check.http.as_ref().map(|h| h.url.clone()));
    if asked.is_some_and(|a| a.contains("{{")) {
        return Err("has an argument whose value is only known there (a pod hash or a field of the Rollout); write the query with our labels, such as track=\"canary\"".to_owned());
    }
    limits(&mut check, metric)?;
    let failures = number(metric, "/failureLimit").unwrap_or(0.0);
    check.breaches = failures.clamp(0.0, 999.0) as u32 + 1;
    timed(&mut check, metric.get("interval").and_then(span));
    Ok(check)
}

fn limits(check: &mut Check, metric: &Value) -> Result<(), String> {
    let conditions = [
        (text(metric, "/successCondition"), true),
        (text(metric, "/failureCondition"), false),
    ];
    let mut given = conditions
        .iter()
        .filter_map(|(c, s)| Some(((*c)?, *s)))
        .peekable();
    if given.peek().is_none() {
        return Err(
            "has no condition, so any answer is a success there; write min or max for a check".to_owned(),
        );
    }
    for (condition, is_success) in given {
        limit(check, condition, is_success).ok_or_else(|| {
            format!("`{condition}` says more than one limit of one number; write it into the query, and min or max for a check")
        })?;
    }
    Ok(())
}

/// `{$.data.rate}` as `/data/rate`; what selects more than one place is none.
fn pointer(path: &str) -> Option<String> {
    let inner = path.trim().trim_start_matches('{').trim_end_matches('}');
    let steps = inner.strip_prefix('$').unwrap_or(inner).trim_start_matches('.');
    let is_plain = steps
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    (is_plain && !steps.is_empty()).then(|| format!("/{}", steps.replace('.', "/")))
}
