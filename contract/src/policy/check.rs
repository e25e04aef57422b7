//! Checks: what a release must satisfy besides the proxy's own counts.

mod address;

pub use address::Address;
pub(super) use address::fault as address_fault;

use crate::{Fault, Span, fault::meant};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may stand in a query as `{{name}}`.
pub const PLACEHOLDERS: [&str; 3] = ["service", "canary", "stable"];
/// Breaches in a row that roll back: one odd sample is no series.
pub const BREACHES: u32 = 3;
/// Most characters of a name: it stands in every sentence about the check.
const LONGEST_NAME: usize = 60;
/// Shortest interval: a check is a guest at somebody else's server.
const SHORTEST_INTERVAL: f64 = 1.0;

/// A number from elsewhere, and the limits that it must keep.
///
/// A check is a limit, not evidence: it has no error rate, `alpha` says nothing about it, and a healthy canary is
/// rolled back as often as its number passes the limit by chance. Nor can it tell whose fault a number is, unless its
/// query compares the canary with stable; so while stable itself is degraded no breach rolls back. It counts from the
/// first weight, warm-up or not, and it never delays a rollback by evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Check {
    /// Its name in sentences; each has its own.
    pub name: String,
    /// Asks a Prometheus server; either this or `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promql: Option<Promql>,
    /// Asks any HTTP server; either this or `promql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// A value below this is a breach. At least one of `min` and `max` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// A value above this is a breach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Time from one question to the next.
    #[serde(default = "interval")]
    pub interval: Span,
    /// Longest wait for an answer.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Breaches in a row that roll back; 1: at once.
    #[serde(default = "breaches")]
    pub breaches: u32,
    /// What to do without a number.
    #[serde(default)]
    pub no_data: NoData,
    /// Age beyond which an answer is no data; and how long `noData = "rollback"` waits for a number.
    #[serde(default = "patience")]
    pub patience: Span,
}

/// An instant query of the Prometheus HTTP API, whose answer must be one number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Promql {
    /// The server, such as `http://prometheus:9090`; a path before `/api/v1` is kept.
    pub address: String,
    /// The query. `{{service}}`, `{{canary}}` and `{{stable}}` become the names of the service and of the two
    /// versions, escaped for a string between single or double quotes.
    pub query: String,
}

/// A GET request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Where, such as `http://stock:8080/health`.
    pub url: String,
    /// Where the number stands in an answer of JSON (a JSON pointer, RFC 6901, such as `/data/errorRate`). Without it
    /// the status alone counts: 0 for 2xx, 1 for any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// What a check without a number does to the release: no answer, NaN, no sample, or more than one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NoData {
    /// The weight does not rise, and nothing is promoted.
    #[default]
    Hold,
    /// Nothing.
    Ignore,
    /// The same as hold at first, and the way back after the patience.
    Rollback,
}

fn interval() -> Span {
    Span::seconds(10)
}

fn timeout() -> Span {
    Span::seconds(5)
}

fn breaches() -> u32 {
    BREACHES
}

fn patience() -> Span {
    Span::seconds(60)
}

/// Everything that is wrong with these checks; `key` is where the list stands.
pub(super) fn faults(checks: &[Check], key: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (i, check) in checks.iter().enumerate() {
        let place = format!("{key}[{i}]");
        check.check_name(&place, &checks[..i], &mut faults);
        check.check_source(&place, &mut faults);
        check.check_limits(&place, &mut faults);
        check.check_times(&place, &mut faults);
    }
    faults
}

impl Check {
    /// Over a query or a request with no limits yet; everything else as it is by default.
    pub fn named(name: &str) -> Check {
        Check {
            name: name.to_owned(),
            promql: None,
            http: None,
            min: None,
            max: None,
            interval: interval(),
            timeout: timeout(),
            breaches: BREACHES,
            no_data: NoData::Hold,
            patience: patience(),
        }
    }

    fn check_name(&self, key: &str, before: &[Check], faults: &mut Vec<Fault>) {
        let mut wrong = |reason: &str, remedy: &str| {
            faults.push(Fault::new(format!("{key}.name"), &self.name, reason, remedy));
        };
        let length = self.name.chars().count();
        if self.name.trim().is_empty() || length > LONGEST_NAME || self.name.chars().any(char::is_control) {
            wrong(
                "is no name of 1 to 60 printable characters",
                "write what it looks at, such as db-load",
            );
        } else if before.iter().any(|c| c.name == self.name) {
            wrong("is the name of another check", "give each a name of its own");
        }
    }

    fn check_source(&self, key: &str, faults: &mut Vec<Fault>) {
        match (&self.promql, &self.http) {
            (Some(promql), None) => promql.check(&format!("{key}.promql"), faults),
            (None, Some(http)) => http.check(&format!("{key}.http"), faults),
            (both, _) => faults.push(Fault::new(
                key,
                &self.name,
                match both {
                    Some(_) => "asks two servers",
                    None => "asks nobody",
                },
                "write either promql = { address, query } or http = { url, field }",
            )),
        }
    }

    fn check_limits(&self, key: &str, faults: &mut Vec<Fault>) {
        let mut wrong = |name: &str, value: &str, reason: &str, remedy: &str| {
            faults.push(Fault::new(format!("{key}{name}"), value, reason, remedy));
        };
        for (name, limit) in [(".min", self.min), (".max", self.max)] {
            if let Some(limit) = limit.filter(|l| !l.is_finite()) {
                wrong(name, &limit.to_string(), "is no number", "write for example 0.8");
            }
        }
        match (self.min, self.max) {
            (None, None) => wrong("", &self.name, "has no limit", "write min, max or both"),
            (Some(min), Some(max)) if min > max => wrong(
                ".min",
                &min.to_string(),
                "is above max, so every value is a breach",
                "write a min that is not above max",
            ),
            _ => {}
        }
        if !(1..=1000).contains(&self.breaches) {
            wrong(
                ".breaches",
                &self.breaches.to_string(),
                "is not between 1 and 1000",
                "write how many breaches in a row roll back, such as 3",
            );
        }
    }

    fn check_times(&self, key: &str, faults: &mut Vec<Fault>) {
        let mut wrong = |name: &str, span: Span, reason: &str, remedy: &str| {
            faults.push(Fault::new(
                format!("{key}.{name}"),
                &span.to_string(),
                reason,
                remedy,
            ));
        };
        if !(SHORTEST_INTERVAL..=3600.0).contains(&self.interval.as_seconds()) {
            wrong(
                "interval",
                self.interval,
                "is not between 1s and 1h",
                "write for example 10s",
            );
        }
        if !(0.01..=60.0).contains(&self.timeout.as_seconds()) {
            wrong(
                "timeout",
                self.timeout,
                "is not between 10ms and 1m",
                "write for example 5s",
            );
        }
        // Else each answer would be too old before the next can be there.
        if self.patience.as_seconds() < self.interval.as_seconds() + self.timeout.as_seconds() {
            wrong(
                "patience",
                self.patience,
                "is shorter than interval and timeout together",
                "write a longer one, such as 1m",
            );
        }
    }
}

impl Promql {
    fn check(&self, key: &str, faults: &mut Vec<Fault>) {
        faults.extend(address::fault(&format!("{key}.address"), &self.address));
        if self.address.contains('?') {
            faults.push(Fault::new(
                format!("{key}.address"),
                &self.address,
                "has a question mark, and /api/v1/query follows",
                "write the server alone, such as http://prometheus:9090",
            ));
        }
        let mut wrong = |value: &str, reason: &str, remedy: &str| {
            faults.push(Fault::new(format!("{key}.query"), value, reason, remedy));
        };
        if self.query.trim().is_empty() {
            wrong(
                &self.query,
                "is empty",
                "write a query whose answer is one number",
            );
        }
        for name in unknown(&self.query) {
            let remedy = match meant(name, PLACEHOLDERS) {
                Some(meant) => format!("write {{{{{meant}}}}}"),
                None => "write {{service}}, {{canary}} or {{stable}}".to_owned(),
            };
            wrong(&format!("{{{{{name}}}}}"), "is replaced by nothing", &remedy);
        }
    }
}

/// What stands between `{{` and `}}` and is no placeholder.
fn unknown(query: &str) -> impl Iterator<Item = &str> {
    let inner = query.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
    inner
        .map(|(name, _)| name)
        .filter(|name| !PLACEHOLDERS.contains(name))
}

impl Http {
    fn check(&self, key: &str, faults: &mut Vec<Fault>) {
        faults.extend(address::fault(&format!("{key}.url"), &self.url));
        let field = self.field.as_deref().unwrap_or_default();
        if !field.is_empty() && !field.starts_with('/') {
            faults.push(Fault::new(
                format!("{key}.field"),
                field,
                "is no JSON pointer",
                "begin with a slash and put one before each step, such as /data/errorRate",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    fn promql() -> Check {
        Check {
            promql: Some(Promql {
                address: "http://prometheus:9090".into(),
                query: "sum(up{version=\"{{canary}}\"})".into(),
            }),
            max: Some(0.8),
            ..Check::named("db-load")
        }
    }

    fn http() -> Check {
        Check {
            http: Some(Http {
                url: "http://stock:8080/health".into(),
                field: Some("/data/errorRate".into()),
            }),
            min: Some(0.0),
            max: Some(0.1),
            ..Check::named("stock")
        }
    }

    fn keys(checks: &[Check]) -> Vec<String> {
        let mut policy = Policy::default();
        policy.judgement.checks = checks.to_vec();
        let faults = policy.faults("rollout");
        faults.iter().for_each(|f| assert!(!f.remedy.is_empty(), "{f}"));
        faults.into_iter().map(|f| f.key).collect()
    }

    #[test]
    fn both_kinds_are_read_with_their_defaults() {
        let text = r#"[
            {"name":"db-load","promql":{"address":"http://prometheus:9090","query":"sum(up{version=\"{{canary}}\"})"},"max":0.8},
            {"name":"stock","http":{"url":"http://stock:8080/health","field":"/data/errorRate"},"min":0,"max":0.1,"interval":"10s",
             "timeout":"5s","breaches":3,"noData":"hold","patience":"60s"}]"#;
        let read: Vec<Check> = serde_json::from_str(text).unwrap();
        assert_eq!(read, [promql(), http()]);
        assert_eq!(keys(&read), [""; 0]);
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Check>>(&written).unwrap(), read);
    }

    #[test]
    fn unknown_words_are_refused() {
        for text in [
            r#"{"name":"a","nodata":"hold"}"#,
            r#"{"name":"a","noData":"promote"}"#,
            r#"{"name":"a","http":{"url":"http://a/","header":"x"}}"#,
            r#"{"name":"a","promql":{"address":"http://a/"}}"#,
            r#"{"max":1}"#,
        ] {
            assert!(serde_json::from_str::<Check>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_fault_names_its_key() {
        type Change = fn(&mut Check);
        let of = |change: Change| {
            let mut check = promql();
            change(&mut check);
            keys(&[http(), check])
        };
        let query = |c: &mut Check, text: &str| {
            if let Some(p) = &mut c.promql {
                p.query = text.into();
            }
        };
        let cases: [(Change, &str); 15] = [
            (|c| c.name = " ".into(), ".name"),
            (|c| c.name = "x".repeat(61), ".name"),
            (|c| c.name = "a\nb".into(), ".name"),
            (|c| c.name = "stock".into(), ".name"),
            (|c| c.promql = None, ""),
            (|c| c.http = http().http, ""),
            (|c| c.max = None, ""),
            (|c| c.max = Some(f64::INFINITY), ".max"),
            (|c| c.min = Some(f64::NAN), ".min"),
            (|c| c.min = Some(0.9), ".min"),
            (|c| c.breaches = 0, ".breaches"),
            (|c| c.interval = "900ms".parse().unwrap(), ".interval"),
            (|c| c.timeout = Span::seconds(0), ".timeout"),
            (|c| c.patience = Span::seconds(14), ".patience"),
            (
                |c| {
                    (c.promql, c.http) = (None, http().http);
                    c.http.as_mut().unwrap().field = Some("data.rate".into());
                },
                ".http.field",
            ),
        ];
        for (change, key) in cases {
            assert_eq!(of(change), [format!("rollout.judgement.checks[1]{key}")]);
        }
        for text in ["", "up{v=\"{{version}}\"}"] {
            let mut check = promql();
            query(&mut check, text);
            assert_eq!(keys(&[check]), ["rollout.judgement.checks[0].promql.query"]);
        }
        let mut check = promql();
        if let Some(p) = &mut check.promql {
            p.address = "http://prometheus:9090/?team=a".into();
        }
        assert_eq!(keys(&[check]), ["rollout.judgement.checks[0].promql.address"]);
        let mut check = promql();
        query(&mut check, "{{canry}}");
        let fault = faults(&[check], "checks").remove(0);
        assert_eq!(
            (fault.value.as_str(), fault.remedy.as_str()),
            ("{{canry}}", "write {{canary}}")
        );
    }
}
