//! Opt-in by URL, method, header or place: Gateway API `HTTPRouteMatch` words, plus `sourceIPs`.
//!
//! Source: gateway.networking.k8s.io/v1, `HTTPRouteMatch`. Within one match all conditions must hold; of several
//! matches any one suffices. Regular expressions are kept as text here; the proxy compiles them.

use crate::{Fault, names};
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, str::FromStr};

/// Most matches in one annotation: each is tried for each request.
pub const MAX_MATCHES: usize = 64;
/// Longest regular expression: linear time still costs memory to compile.
pub const MAX_PATTERN: usize = 1024;

/// One match: every condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteMatch {
    /// The path of the request target, without the query.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<PathMatch>,
    /// Headers, by name without regard to case; the first line of a name counts.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub headers: Vec<FieldMatch>,
    /// Query parameters, by exact name; the first one of a name counts.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub query_params: Vec<FieldMatch>,
    /// Request method, upper case.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub method: Option<String>,
    /// Address ranges of the client.
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty", default)]
    pub source_ips: Vec<Cidr>,
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathMatch {
    /// `PathPrefix` when absent: by whole segments, `/a` matches `/a/b` and not `/ab`.
    #[serde(rename = "type", default)]
    pub kind: PathKind,
    /// The path, prefix or pattern.
    pub value: String,
}

/// Gateway API `PathMatchType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathKind {
    /// The whole path, to the letter.
    Exact,
    /// By segments.
    #[default]
    PathPrefix,
    /// A regular expression on the whole path.
    RegularExpression,
}

/// A header or a query parameter and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldMatch {
    /// `Exact` when absent.
    #[serde(rename = "type", default)]
    pub kind: FieldKind,
    /// Header or parameter name.
    pub name: String,
    /// The value or pattern.
    pub value: String,
}

/// Gateway API `HeaderMatchType` and `QueryParamMatchType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldKind {
    /// To the letter.
    #[default]
    Exact,
    /// A regular expression on the whole value.
    RegularExpression,
}

/// An address range: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Whether `address` lies in the range. IPv4-mapped IPv6 addresses are IPv4 addresses.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(n), IpAddr::V4(a)) => {
                leading_equal(n.to_bits().into(), a.to_bits().into(), self.bits, 32)
            }
            (IpAddr::V6(n), IpAddr::V6(a)) => leading_equal(n.to_bits(), a.to_bits(), self.bits, 128),
            _ => false,
        }
    }
}

fn leading_equal(a: u128, b: u128, bits: u8, width: u8) -> bool {
    bits == 0 || (a ^ b) >> (width - bits) == 0
}

impl FromStr for Cidr {
    type Err = String;

    /// # Errors
    /// A sentence when the address or the prefix length is impossible.
    fn from_str(text: &str) -> Result<Cidr, String> {
        let wrong =
            || format!("`{text}` is not an address range; write for example 10.0.0.0/8 or 2001:db8::/32");
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let network: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if network.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |b| b.parse::<u8>().map_err(|_| wrong()))?;
        if bits > width {
            Err(wrong())
        } else {
            Ok(Cidr { network, bits })
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;
    fn try_from(text: String) -> Result<Cidr, String> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(c: Cidr) -> String {
        format!("{}/{}", c.network, c.bits)
    }
}

const REMEDY: &str =
    r#"write a JSON list such as [{"path":{"type":"PathPrefix","value":"/beta"},"method":"GET"}]"#;

/// Reads the value of `canary-match`.
///
/// # Errors
/// Every fault: no JSON, unknown words, empty matches (which would catch everything), limits.
pub fn parse(text: &str, prefix: &str) -> Result<Vec<RouteMatch>, Vec<Fault>> {
    let key = format!("{prefix}{}", names::CANARY_MATCH);
    let matches: Vec<RouteMatch> =
        serde_json::from_str(text).map_err(|e| vec![Fault::new(&key, text, e.to_string(), REMEDY)])?;
    let mut faults = Vec::new();
    if matches.len() > MAX_MATCHES {
        faults.push(Fault::new(
            &key,
            text,
            format!("has {} matches", matches.len()),
            format!("keep to {MAX_MATCHES}"),
        ));
    }
    for (i, m) in matches.iter().enumerate() {
        check(m, &format!("{key}[{i}]"), &mut faults);
    }
    if faults.is_empty() {
        Ok(matches)
    } else {
        Err(faults)
    }
}

fn check(m: &RouteMatch, key: &str, faults: &mut Vec<Fault>) {
    if *m == RouteMatch::default() {
        faults.push(Fault::new(
            key,
            "{}",
            "has no condition and would match every request",
            "give a path, header, queryParam, method or sourceIPs, or use canary-weight",
        ));
    }
    if let Some(p) = m
        .path
        .as_ref()
        .filter(|p| !p.value.starts_with('/') && p.kind != PathKind::RegularExpression)
    {
        faults.push(Fault::new(
            format!("{key}.path.value"),
            &p.value,
            "does not begin with /",
            "write an absolute path such as /beta",
        ));
    }
    if let Some(method) = m
        .method
        .as_ref()
        .filter(|m| !is_token(m) || m.chars().any(|c| c.is_ascii_lowercase()))
    {
        faults.push(Fault::new(
            format!("{key}.method"),
            method,
            "is not an upper-case HTTP method",
            "write for example GET",
        ));
    }
    for h in m.headers.iter().filter(|h| !is_token(&h.name)) {
        faults.push(Fault::new(
            format!("{key}.headers.name"),
            &h.name,
            "is not a header name",
            "use letters, digits and - only",
        ));
    }
    for q in m.query_params.iter().filter(|q| q.name.is_empty()) {
        faults.push(Fault::new(
            format!("{key}.queryParams.name"),
            &q.name,
            "is empty",
            "name the parameter",
        ));
    }
    let fields = m
        .headers
        .iter()
        .chain(&m.query_params)
        .map(|f| &f.value)
        .chain(m.path.as_ref().map(|p| &p.value));
    for long in fields.filter(|v| v.len() > MAX_PATTERN) {
        faults.push(Fault::new(key, long, "is longer than 1024 bytes", "shorten it"));
    }
}

/// Whether `text` is a token (RFC 9110, 5.6.2): what a header name and a method are made of.
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_gateway_api_words() {
        let text = r#"[{"path":{"type":"Exact","value":"/a"},"headers":[{"name":"X-A","value":"1"}],
            "queryParams":[{"type":"RegularExpression","name":"q","value":"v.*"}],"method":"GET","sourceIPs":["10.0.0.0/8"]}]"#;
        let m = parse(text, "serin.dev/").unwrap();
        assert_eq!(m[0].path.as_ref().unwrap().kind, PathKind::Exact);
        assert_eq!(
            serde_json::from_str::<Vec<RouteMatch>>(&serde_json::to_string(&m).unwrap()).unwrap(),
            m
        );
    }

    #[test]
    fn refuses_with_the_key() {
        let cases = [
            "",
            "{}",
            "[{}]",
            "[1]",
            r#"[{"pth":{}}]"#,
            r#"[{"path":{"value":"beta"}}]"#,
            r#"[{"method":"get"}]"#,
            r#"[{"headers":[{"name":"a b","value":""}]}]"#,
            r#"[{"sourceIPs":["10.0.0.0/33"]}]"#,
            r#"[{"path":{"type":"Prefix","value":"/"}}]"#,
            r#"[{"queryParams":[{"name":"","value":"x"}]}]"#,
        ];
        for text in cases {
            let f = parse(text, "serin.dev/").unwrap_err();
            assert!(f[0].key.starts_with("serin.dev/canary-match"), "{text}: {}", f[0]);
        }
    }

    #[test]
    fn ranges_contain_what_they_should() {
        let c: Cidr = "10.0.0.0/8".parse().unwrap();
        assert!(c.contains("10.255.0.1".parse().unwrap()) && !c.contains("11.0.0.1".parse().unwrap()));
        assert!(c.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(
            "0.0.0.0/0"
                .parse::<Cidr>()
                .unwrap()
                .contains("9.9.9.9".parse().unwrap())
        );
        assert!(
            "::/0"
                .parse::<Cidr>()
                .unwrap()
                .contains("2001:db8::1".parse().unwrap())
        );
        assert!(
            "192.0.2.7"
                .parse::<Cidr>()
                .unwrap()
                .contains("192.0.2.7".parse().unwrap())
        );
    }
}
