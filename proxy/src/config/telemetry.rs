//! The access log and the export of spans: from the words of the file to targets and shares.

use contract::{
    Fault,
    file::{AccessLogEntry, LogFormat, TracingEntry},
};
use http::Uri;
use std::path::PathBuf;

/// Where spans are taken, below the collector's address (OTLP/HTTP, "Request").
const TRACES: &str = "/v1/traces";

/// The access log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Where lines go.
    pub to: LogTarget,
    /// How they are written.
    pub format: LogFormat,
    /// Share of requests that are told.
    pub sample: f64,
    /// Whether failures are told whatever the share.
    pub failures_always: bool,
    /// Whether the query is told.
    pub query: bool,
    /// Whether the `user-agent` is told.
    pub user_agent: bool,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

/// The export of spans.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// Host and port of the collector.
    pub authority: String,
    /// Path that takes spans.
    pub path: String,
    /// Share of the traces begun here that are exported.
    pub sample: f64,
}

impl Log {
    /// The log that is asked for, if one is.
    pub fn from_entry(entry: &AccessLogEntry, faults: &mut Vec<Fault>) -> Option<Log> {
        share("proxy.accessLog.sample", entry.sample, faults);
        let to = match entry.to.as_str() {
            "" => return None,
            "stdout" => LogTarget::Stdout,
            file => LogTarget::File(file.into()),
        };
        Some(Log {
            to,
            format: entry.format,
            sample: entry.sample,
            failures_always: entry.failures_always,
            query: entry.query,
            user_agent: entry.user_agent,
        })
    }
}

impl Tracing {
    /// The export that is asked for, if one is.
    pub fn from_entry(entry: &TracingEntry, faults: &mut Vec<Fault>) -> Option<Tracing> {
        share("proxy.tracing.sample", entry.sample, faults);
        if entry.otlp.is_empty() {
            return None;
        }
        let place = place(&entry.otlp);
        if place.is_none() {
            faults.push(Fault::new(
                "proxy.tracing.otlp",
                &entry.otlp,
                "is not an http:// URL of a collector",
                "write for example http://127.0.0.1:4318; where TLS is needed, let a collector on this machine speak it",
            ));
        }
        let (authority, path) = place?;
        Some(Tracing {
            authority,
            path,
            sample: entry.sample,
        })
    }
}

/// Authority with a port, and path.
fn place(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"))?;
    if authority.as_str().contains('@') || uri.query().is_some() {
        return None;
    }
    let port = authority.port_u16().unwrap_or(80);
    let path = format!("{}{TRACES}", uri.path().trim_end_matches('/'));
    Some((format!("{}:{port}", authority.host()), path))
}

fn share(key: &str, share: f64, faults: &mut Vec<Fault>) {
    if !(0.0..=1.0).contains(&share) {
        faults.push(Fault::new(
            key,
            &share.to_string(),
            "is not a share",
            "write a number from 0 to 1, such as 0.01 for one request in a hundred",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_found_by_its_url() {
        for (url, authority, path) in [
            ("http://127.0.0.1:4318", "127.0.0.1:4318", "/v1/traces"),
            ("http://collector/", "collector:80", "/v1/traces"),
            ("http://[::1]:4318/otlp/", "[::1]:4318", "/otlp/v1/traces"),
        ] {
            assert_eq!(place(url), Some((authority.to_owned(), path.to_owned())), "{url}");
        }
        for bad in [
            "https://a:1",
            "a:1",
            "http://",
            "http://u@a",
            "http://a/?q",
            "grpc://a:4317",
            "x",
        ] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }

    #[test]
    fn impossible_shares_are_refused_also_where_nothing_is_told() {
        for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let mut faults = Vec::new();
            Log::from_entry(
                &AccessLogEntry {
                    sample: bad,
                    ..AccessLogEntry::default()
                },
                &mut faults,
            );
            Tracing::from_entry(
                &TracingEntry {
                    sample: bad,
                    ..TracingEntry::default()
                },
                &mut faults,
            );
            assert_eq!(faults.len(), 2, "{bad}");
        }
    }
}
