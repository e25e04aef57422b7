//! The routing table in force: immutable, compiled once, swapped whole. A request takes one and keeps it to its end.

use crate::{evidence::pods::Pod, resilience::Resilience, transport::Transport};
use contract::{
    Canary, Fault, Split,
    annotations::{Cohort, HeaderTest},
    file::ServiceEntry,
    matches::{FieldKind, FieldMatch, PathKind, RouteMatch},
    names::{self, Track},
    routes,
};
use regex::bytes::{Regex, RegexBuilder};
use std::{collections::HashMap, net::SocketAddr, sync::Arc};

/// Compiled size of one pattern; a match is linear in the value, this bounds the factor.
const PATTERN_SIZE: usize = 256 * 1024;

/// Everything that decides where a request goes.
#[derive(Debug, Default)]
pub struct Table {
    /// The routes, in the order of the file.
    pub routes: Vec<Arc<Route>>,
    by_host: HashMap<Box<[u8]>, usize>,
    /// The route that answers to every other host.
    rest: Option<usize>,
}

/// One fronted service, compiled.
#[derive(Debug)]
pub struct Route {
    /// As the contract has it.
    pub source: routes::Route,
    /// The entry that it was built from.
    pub entry: ServiceEntry,
    /// What decides the track.
    pub rules: Rules,
    /// Hash of the split, for acknowledgement.
    pub hash: String,
    /// Epoch of the split, for the evidence ([`crate::service::Service::epoch`]).
    pub epoch: u32,
    /// The resolved endpoints, by [`Track::index`].
    pub endpoints: [Vec<SocketAddr>; 2],
    /// How they are spoken to, by [`Track::index`].
    pub transports: [Transport; 2],
    /// Their counters ([`crate::service::Service::enter`]).
    pub pods: [Vec<Arc<Pod>>; 2],
    /// Whether stable answers where the canary failed.
    pub shield: bool,
    /// Share of requests that are copied for the canary, if any.
    pub mirror: Option<Split>,
    /// How its endpoints are chosen, limited and tried again.
    pub resilience: Resilience,
    /// Why the guard has cut the canary's share, if it has ([`Route::cut`]).
    pub guard: Option<String>,
}

/// The compiled rules of one route.
#[derive(Debug)]
pub struct Rules {
    /// The split of undecided requests.
    pub split: Split,
    /// Opt-in by header.
    pub header: Option<HeaderRule>,
    /// Opt-in by cookie.
    pub cookie: Option<Box<[u8]>>,
    /// Opt-in by match.
    pub matches: Vec<Match>,
    /// What one user is.
    pub cohort: Cohort,
    /// Hash key of the cohort: the salt, hashed.
    pub salt: u64,
}

/// Opt-in by one header, compiled.
#[derive(Debug)]
pub struct HeaderRule {
    /// Lower-case name.
    pub name: Box<[u8]>,
    /// What its value means.
    pub test: ValueTest,
}

/// What a value means.
#[derive(Debug)]
pub enum ValueTest {
    /// `always` and `never`.
    AlwaysNever,
    /// Equal to this.
    Exact(Box<[u8]>),
    /// Matched by this.
    Pattern(Regex),
}

/// One compiled match: all conditions must hold.
#[derive(Debug)]
pub struct Match {
    /// The path.
    pub path: Option<PathTest>,
    /// Headers by lower-case name.
    pub headers: Vec<(Box<[u8]>, ValueTest)>,
    /// Query parameters by name.
    pub query: Vec<(Box<[u8]>, ValueTest)>,
    /// The method.
    pub method: Option<Box<str>>,
    /// Ranges of the client's address.
    pub sources: Vec<contract::matches::Cidr>,
}

/// How a path is compared.
#[derive(Debug)]
pub enum PathTest {
    /// To the letter.
    Exact(Box<[u8]>),
    /// By segments; without trailing slashes.
    Prefix(Box<[u8]>),
    /// The whole path.
    Pattern(Regex),
}

impl Table {
    /// A table of routes that were checked together.
    pub fn new(routes: Vec<Arc<Route>>) -> Table {
        let mut by_host = HashMap::new();
        let mut rest = None;
        for (i, route) in routes.iter().enumerate() {
            if route.source.hosts.is_empty() {
                rest = Some(i);
            }
            for host in &route.source.hosts {
                by_host.insert(host.as_bytes().into(), i);
            }
        }
        Table {
            routes,
            by_host,
            rest,
        }
    }

    /// The index of the route that answers to a host, written as in the request: any case, perhaps with a port.
    pub fn find(&self, host: &[u8]) -> Option<usize> {
        if self.by_host.is_empty() {
            return self.rest;
        }
        let name = without_port(host);
        // The usual case needs no copy.
        if let Some(i) = self.by_host.get(name) {
            return Some(*i);
        }
        let lower = name.to_ascii_lowercase();
        let lower = lower.strip_suffix(b".").unwrap_or(&lower);
        self.by_host.get(lower).copied().or(self.rest)
    }

    /// The route of a service.
    pub fn service(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|r| r.source.service == name)
    }
}

/// `host:80` as `host`; `[::1]:80` as `[::1]`.
fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|b| *b == b':') {
        Some(colon) if host[colon + 1..].iter().all(u8::is_ascii_digit) => &host[..colon],
        _ => host,
    }
}

impl Route {
    /// Compiles a route.
    ///
    /// # Errors
    /// Every pattern that is no regular expression or is too large, by key.
    pub fn compile(
        source: routes::Route,
        entry: ServiceEntry,
        endpoints: [Vec<SocketAddr>; 2],
        prefix: &str,
    ) -> Result<Route, Vec<Fault>> {
        let rules = Rules::compile(&source.canary, prefix)?;
        let resilience = Resilience::new(&entry.resilience, "resilience")?;
        Ok(Route {
            hash: source.canary.hash(),
            epoch: 0,
            transports: Default::default(),
            pods: Default::default(),
            shield: source.canary.shield,
            mirror: Some(source.canary.mirror).filter(|m| !m.is_none() && source.canary.split.is_none()),
            resilience,
            guard: None,
            rules,
            entry,
            endpoints,
            source,
        })
    }

    /// Cuts the canary's share; who asks for the canary still gets it.
    pub fn cut(&mut self, reason: String) {
        self.rules.split = Split::NONE;
        self.guard = Some(reason);
    }

    /// Whether a track has an endpoint.
    pub fn has(&self, track: Track) -> bool {
        !self.endpoints[track.index()].is_empty()
    }

    /// Who serves what was chosen for a track: the track itself, or the other one where it is empty. Stable serves for an
    /// empty canary; the canary serves for an empty stable only if it has a weight, and never against the client's word.
    pub fn stands_in(&self, chosen: Track, opted: bool) -> Option<Track> {
        if self.has(chosen) {
            return Some(chosen);
        }
        let allowed = match chosen {
            Track::Canary => true,
            Track::Stable => !opted && !self.rules.split.is_none(),
        };
        (allowed && self.has(chosen.other())).then_some(chosen.other())
    }

    /// The share in force: none while the canary has no endpoint.
    pub fn share(&self) -> f64 {
        if self.has(Track::Canary) {
            self.rules.split.share()
        } else {
            0.0
        }
    }
}

impl Rules {
    /// Compiles what the annotations say.
    ///
    /// # Errors
    /// Every pattern that cannot be compiled.
    pub fn compile(canary: &Canary, prefix: &str) -> Result<Rules, Vec<Fault>> {
        let mut patterns = Patterns {
            prefix,
            faults: Vec::new(),
        };
        let rules = Rules {
            split: canary.split,
            header: canary.header.as_ref().and_then(|h| patterns.header(h)),
            cookie: canary.cookie.as_ref().map(|c| c.as_bytes().into()),
            matches: canary
                .matches
                .iter()
                .enumerate()
                .map(|(i, m)| patterns.one_match(i, m))
                .collect(),
            cohort: canary.cohort.clone(),
            salt: contract::annotations::fnv1a(canary.salt.as_bytes()),
        };
        if patterns.faults.is_empty() {
            Ok(rules)
        } else {
            Err(patterns.faults)
        }
    }
}

/// Compiles patterns and keeps the faults.
struct Patterns<'a> {
    prefix: &'a str,
    faults: Vec<Fault>,
}

impl Patterns<'_> {
    fn compile(&mut self, suffix: &str, written: &str, pattern: &str) -> Option<Regex> {
        let compiled = RegexBuilder::new(pattern)
            .size_limit(PATTERN_SIZE)
            .dfa_size_limit(PATTERN_SIZE)
            .build();
        compiled
            .map_err(|e| {
                let reason = e.to_string().lines().last().unwrap_or_default().trim().to_owned();
                let remedy =
                    "write a regular expression without look-around or back-references, such as ^beta-";
                self.faults.push(Fault::new(
                    format!("{}{suffix}", self.prefix),
                    written,
                    reason,
                    remedy,
                ));
            })
            .ok()
    }

    /// A pattern on the whole value, as the Gateway API has it.
    fn whole(&mut self, suffix: &str, pattern: &str) -> Option<Regex> {
        self.compile(suffix, pattern, &format!("^(?:{pattern})$"))
    }

    /// A pattern anywhere in the value, as ingress-nginx has it.
    fn header(&mut self, rule: &contract::annotations::HeaderRule) -> Option<HeaderRule> {
        let test = match &rule.test {
            HeaderTest::AlwaysNever => ValueTest::AlwaysNever,
            HeaderTest::Value(v) => ValueTest::Exact(v.as_bytes().into()),
            HeaderTest::Pattern(p) => {
                ValueTest::Pattern(self.compile(names::CANARY_BY_HEADER_PATTERN, p, p)?)
            }
        };
        Some(HeaderRule {
            name: rule.name.as_bytes().into(),
            test,
        })
    }

    fn one_match(&mut self, i: usize, m: &RouteMatch) -> Match {
        let key = format!("{}[{i}]", names::CANARY_MATCH);
        let path = m.path.as_ref().and_then(|p| self.path(&format!("{key}.path"), p));
        let lower = |name: &str| name.to_ascii_lowercase().into_bytes().into_boxed_slice();
        let exact = |name: &str| name.as_bytes().into();
        Match {
            path,
            headers: self.fields(&format!("{key}.headers"), &m.headers, lower),
            query: self.fields(&format!("{key}.queryParams"), &m.query_params, exact),
            method: m.method.as_deref().map(Into::into),
            sources: m.source_ips.clone(),
        }
    }

    fn path(&mut self, key: &str, path: &contract::matches::PathMatch) -> Option<PathTest> {
        Some(match path.kind {
            PathKind::Exact => PathTest::Exact(path.value.as_bytes().into()),
            PathKind::PathPrefix => PathTest::Prefix(path.value.trim_end_matches('/').as_bytes().into()),
            PathKind::RegularExpression => PathTest::Pattern(self.whole(key, &path.value)?),
        })
    }

    fn fields(
        &mut self,
        key: &str,
        fields: &[FieldMatch],
        name: impl Fn(&str) -> Box<[u8]>,
    ) -> Vec<(Box<[u8]>, ValueTest)> {
        let mut out = Vec::with_capacity(fields.len());
        for f in fields {
            let test = match f.kind {
                FieldKind::Exact => Some(ValueTest::Exact(f.value.as_bytes().into())),
                FieldKind::RegularExpression => self.whole(key, &f.value).map(ValueTest::Pattern),
            };
            out.extend(test.map(|t| (name(&f.name), t)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{annotations::Annotations, names::PREFIX};

    fn route(name: &str, hosts: &[&str]) -> Arc<Route> {
        let entry = ServiceEntry {
            name: name.into(),
            hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
            ..ServiceEntry::default()
        };
        let source = routes::Route::build("service[0]", &entry, &Annotations::new(), PREFIX).unwrap();
        Arc::new(Route::compile(source, entry, [vec![], vec![]], PREFIX).unwrap())
    }

    #[test]
    fn hosts_are_found_in_any_case_and_with_a_port() {
        let table = Table::new(vec![route("a", &["Shop.example"]), route("b", &[])]);
        for host in ["shop.example", "SHOP.Example:8080", "shop.example."] {
            assert_eq!(table.find(host.as_bytes()), Some(0), "{host}");
        }
        for host in ["", "other", "shop.example.org", "[::1]:80", ":", "shop.example:x"] {
            assert_eq!(table.find(host.as_bytes()), Some(1), "{host}");
        }
        let table = Table::new(vec![route("a", &["shop.example"])]);
        assert_eq!(table.find(b"other"), None);
    }

    #[test]
    fn a_bad_pattern_is_a_fault_with_its_key() {
        for (annotation, value, key) in [
            (
                "canary-by-header-pattern",
                "(",
                "serin.dev/canary-by-header-pattern",
            ),
            (
                "canary-by-header-pattern",
                "(?=x)",
                "serin.dev/canary-by-header-pattern",
            ),
            (
                "canary-by-header-pattern",
                "(a{1000}){1000}",
                "serin.dev/canary-by-header-pattern",
            ),
            (
                "canary-match",
                r#"[{"path":{"type":"RegularExpression","value":"["}}]"#,
                "serin.dev/canary-match[0].path",
            ),
        ] {
            let mut annotations: Annotations = [(format!("{PREFIX}{annotation}"), value.to_owned())].into();
            annotations.insert(format!("{PREFIX}canary-by-header"), "h".into());
            let canary = Canary::parse(&annotations, PREFIX).unwrap();
            let faults = Rules::compile(&canary, PREFIX).unwrap_err();
            assert_eq!(faults[0].key, key, "{value}");
        }
    }
}
