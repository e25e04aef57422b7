//! OpenMetrics 1.0.0, for who asks for it: the same families as in the Prometheus text, told more strictly. Pure.

use http::{HeaderMap, header};
use prometheus::proto::{Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::fmt::Write;

/// The media type that is answered.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the caller would rather have OpenMetrics than Prometheus text: it is named, and no less wished for.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok());
    let ranges: Vec<(&str, f64)> = values.flat_map(|v| v.split(',')).map(range).collect();
    let wish = |kind: &str| {
        let of_kind = ranges.iter().filter(|(k, _)| k.eq_ignore_ascii_case(kind));
        of_kind.map(|(_, q)| *q).fold(0.0, f64::max)
    };
    let open = wish("application/openmetrics-text");
    open > 0.0 && open >= wish("text/plain")
}

/// A media range and its weight; of versions there is but one that we could offer.
fn range(text: &str) -> (&str, f64) {
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let supported = |v: &str| ["1.0.0", "0.0.1"].contains(&v.trim_matches('"'));
    let mut wish = 1.0;
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("q", q)) => wish = q.parse().unwrap_or(0.0),
            Some(("version", v)) if kind.contains("openmetrics") && !supported(v) => return (kind, 0.0),
            _ => {}
        }
    }
    (kind, wish)
}

/// All families as one text.
pub fn text(families: &[MetricFamily]) -> String {
    let mut out = String::new();
    for family in families {
        one(family, &mut out);
    }
    out.push_str("# EOF\n");
    out
}

fn one(family: &MetricFamily, out: &mut String) {
    let kind = match family.get_field_type() {
        // The names of others are kept as dashboards have them, and OpenMetrics has no counter without `_total`.
        MetricType::COUNTER if !family.name().ends_with("_total") => MetricType::UNTYPED,
        kind => kind,
    };
    // A counter's family has the name without `_total`, its samples have it with.
    let name = match kind {
        MetricType::COUNTER => family.name().trim_end_matches("_total"),
        _ => family.name(),
    };
    // A text takes everything that is written to it.
    let _ = writeln!(out, "# TYPE {name} {}", word(kind));
    if name.ends_with("_seconds") {
        let _ = writeln!(out, "# UNIT {name} seconds");
    }
    let _ = writeln!(out, "# HELP {name} {}", escaped(family.help()));
    for metric in family.get_metric() {
        samples(name, kind, metric, out);
    }
}

fn word(kind: MetricType) -> &'static str {
    match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        _ => "unknown",
    }
}

fn samples(name: &str, kind: MetricType, metric: &Metric, out: &mut String) {
    let labels = metric.get_label();
    match kind {
        MetricType::COUNTER => sample(
            name,
            "_total",
            labels,
            None,
            metric.get_counter().get_value(),
            out,
        ),
        MetricType::HISTOGRAM => histogram(name, labels, metric.get_histogram(), out),
        MetricType::UNTYPED => sample(name, "", labels, None, metric.get_counter().get_value(), out),
        _ => sample(name, "", labels, None, metric.get_gauge().get_value(), out),
    }
}

fn histogram(name: &str, labels: &[LabelPair], histogram: &Histogram, out: &mut String) {
    let total = histogram.get_sample_count() as f64;
    for bucket in histogram.get_bucket() {
        let edge = format!("{:?}", bucket.upper_bound());
        let count = bucket.cumulative_count() as f64;
        sample(name, "_bucket", labels, Some(&edge), count, out);
    }
    sample(name, "_bucket", labels, Some("+Inf"), total, out);
    sample(name, "_count", labels, None, total, out);
    sample(name, "_sum", labels, None, histogram.get_sample_sum(), out);
}

fn sample(name: &str, suffix: &str, labels: &[LabelPair], edge: Option<&str>, value: f64, out: &mut String) {
    out.push_str(name);
    out.push_str(suffix);
    let mut between = '{';
    let own = labels.iter().map(|l| (l.name(), l.value()));
    for (key, value) in own.chain(edge.map(|e| ("le", e))) {
        out.push(between);
        let _ = write!(out, "{key}=\"{}\"", escaped(value));
        between = ',';
    }
    if between == ',' {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

/// Backslash, quote and line feed are escaped, in labels as in help.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn asks(accept: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        is_asked_for(&headers)
    }

    #[test]
    fn it_is_told_to_who_asks_for_it() {
        assert!(asks(&["application/openmetrics-text"]));
        assert!(asks(&[
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
        ]));
        assert!(asks(&[
            "text/plain;q=0.3",
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        ]));
        for other in [
            "",
            "*/*",
            "text/plain",
            "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=2.0.0",
            "application/json",
        ] {
            assert!(!asks(&[other]), "{other}");
        }
        assert!(!asks(&[]));
    }
}
