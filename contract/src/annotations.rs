//! The annotation contract: from text on a Service to a [`Canary`], or to the list of everything that is wrong.

use crate::{
    Fault, Split,
    fault::meant,
    matches::{self, RouteMatch, is_token},
    names::*,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Annotations as they stand on an object: full key to value.
pub type Annotations = BTreeMap<String, String>;

/// Longest value that is read; the API server allows 256 KiB for all annotations together.
const MAX_VALUE: usize = 64 * 1024;

/// What the annotations of one Service say about its canary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Service that holds the stable endpoints.
    pub stable_service: Option<String>,
    /// Service that holds the canary endpoints.
    pub canary_service: Option<String>,
    /// Share of undecided requests that goes to the canary.
    pub split: Split,
    /// Opt-in by header.
    pub header: Option<HeaderRule>,
    /// Opt-in by cookie: its name.
    pub cookie: Option<String>,
    /// Opt-in by match.
    pub matches: Vec<RouteMatch>,
    /// What one user is.
    pub cohort: Cohort,
    /// Which users come first.
    pub salt: String,
    /// Whether stable answers where the canary failed.
    pub shield: bool,
    /// Whether the proxy cuts a grossly failing canary itself.
    pub guard: bool,
    /// Share of replay-safe requests copied to the canary, at weight 0.
    pub mirror: Split,
}

/// Opt-in by one header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderRule {
    /// The header, lower case.
    pub name: String,
    /// What its value means.
    pub test: HeaderTest,
}

/// What a header's value means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeaderTest {
    /// `always` and `never`.
    AlwaysNever,
    /// Equal: canary; else go on.
    Value(String),
    /// Match: canary; else go on.
    Pattern(String),
}

/// What one user is, when users rather than requests are split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cohort {
    /// Requests are split.
    #[default]
    None,
    /// A cookie that Serin sets.
    Cookie,
    /// The value of this header, lower-case name.
    Header(String),
    /// The client's address.
    SourceIp,
}

impl Default for Canary {
    fn default() -> Canary {
        Canary {
            stable_service: None,
            canary_service: None,
            split: Split::NONE,
            header: None,
            cookie: None,
            matches: Vec::new(),
            cohort: Cohort::None,
            salt: String::new(),
            shield: true,
            guard: true,
            mirror: Split::NONE,
        }
    }
}

impl Canary {
    /// Reads all keys that begin with `prefix`. Other keys are none of our business.
    ///
    /// # Errors
    /// Every fault at once. A key of ours that is unknown but close to a known one is a fault as well (a mistyped
    /// weight must not silently mean no weight); one that is close to nothing is left alone, for newer versions.
    pub fn parse(annotations: &Annotations, prefix: &str) -> Result<Canary, Vec<Fault>> {
        let mut reader = Reader {
            annotations,
            prefix,
            faults: Vec::new(),
        };
        reader.unknown_keys();
        let canary = reader.canary();
        if reader.faults.is_empty() {
            Ok(canary)
        } else {
            Err(reader.faults)
        }
    }

    /// A hash of everything that decides where a request goes: what proxies acknowledge. Not cryptographic.
    pub fn hash(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{:016x}", fnv1a(text.as_bytes()))
    }
}

/// FNV-1a, 64 bits: stable across builds and machines, unlike the standard library's hasher.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Keys of ours that are unknown, but close to a known one.
pub fn mistyped(annotations: &Annotations, prefix: &str, known: &[&str]) -> Vec<Fault> {
    let all = annotations
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
    let unknown = all.filter(|(suffix, _)| !known.contains(suffix));
    let fault = |(suffix, value): (&str, &String)| {
        let near = meant(suffix, known.iter().copied())?;
        let remedy = format!("did you mean {prefix}{near}?");
        Some(Fault::new(
            format!("{prefix}{suffix}"),
            value,
            "is not a key that Serin knows",
            remedy,
        ))
    };
    unknown.filter_map(fault).collect()
}

struct Reader<'a> {
    annotations: &'a Annotations,
    prefix: &'a str,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn key(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.prefix)
    }

    fn text(&mut self, suffix: &str) -> Option<&'a str> {
        let key = self.key(suffix);
        let value = self.annotations.get(&key)?;
        if value.len() > MAX_VALUE {
            self.faults
                .push(Fault::new(key, value, "is longer than 64 KiB", "shorten it"));
            return None;
        }
        Some(value)
    }

    fn refuse(&mut self, suffix: &str, value: &str, reason: &str, remedy: &str) {
        self.faults
            .push(Fault::new(self.key(suffix), value, reason, remedy));
    }

    fn unknown_keys(&mut self) {
        let known: Vec<&str> = TRAFFIC_KEYS.into_iter().chain(RECORD_KEYS).collect();
        self.faults
            .extend(mistyped(self.annotations, self.prefix, &known));
    }

    fn canary(&mut self) -> Canary {
        Canary {
            stable_service: self.service(STABLE_SERVICE),
            canary_service: self.service(CANARY_SERVICE),
            split: self.split(),
            header: self.header(),
            cookie: self.cookie(),
            matches: self.matches(),
            cohort: self.cohort(),
            salt: self.text(CANARY_COHORT_SALT).unwrap_or_default().to_owned(),
            shield: self.switch(CANARY_SHIELD),
            guard: self.switch(CANARY_GUARD),
            mirror: self.mirror(),
        }
    }

    fn service(&mut self, suffix: &str) -> Option<String> {
        let name = self.text(suffix)?;
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fine = (1..=63).contains(&name.len())
            && name.bytes().all(inner)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !fine {
            self.refuse(
                suffix,
                name,
                "is not a Service name",
                "use at most 63 lower-case letters, digits and -, of the same namespace",
            );
        }
        fine.then(|| name.to_owned())
    }

    fn split(&mut self) -> Split {
        let total = self.text(CANARY_WEIGHT_TOTAL);
        let weight = self.text(CANARY_WEIGHT);
        Split::parse(weight.unwrap_or("0"), total, self.prefix).unwrap_or_else(|faults| {
            self.faults.extend(faults);
            Split::NONE
        })
    }

    fn header(&mut self) -> Option<HeaderRule> {
        let value = self.text(CANARY_BY_HEADER_VALUE);
        let pattern = self.text(CANARY_BY_HEADER_PATTERN);
        let Some(name) = self.text(CANARY_BY_HEADER) else {
            for (suffix, given) in [
                (CANARY_BY_HEADER_VALUE, value),
                (CANARY_BY_HEADER_PATTERN, pattern),
            ] {
                if let Some(text) = given {
                    let remedy = format!("name the header in {}{CANARY_BY_HEADER}", self.prefix);
                    self.refuse(suffix, text, "stands without a header", &remedy);
                }
            }
            return None;
        };
        if !is_token(name) {
            self.refuse(
                CANARY_BY_HEADER,
                name,
                "is not a header name",
                "use letters, digits and - only, such as x-canary",
            );
            return None;
        }
        let test = match (value, pattern) {
            (Some(v), _) => HeaderTest::Value(self.header_value(v)),
            (None, Some(p)) => HeaderTest::Pattern(self.pattern(p)),
            (None, None) => HeaderTest::AlwaysNever,
        };
        Some(HeaderRule {
            name: name.to_ascii_lowercase(),
            test,
        })
    }

    fn header_value(&mut self, value: &str) -> String {
        let trimmed = value.trim() == value && !value.is_empty();
        if !trimmed || value.bytes().any(|b| b.is_ascii_control()) {
            self.refuse(
                CANARY_BY_HEADER_VALUE,
                value,
                "can never be the value of a header",
                "write visible text without spaces around it",
            );
        }
        value.to_owned()
    }

    fn pattern(&mut self, pattern: &str) -> String {
        if pattern.is_empty() || pattern.len() > matches::MAX_PATTERN {
            self.refuse(
                CANARY_BY_HEADER_PATTERN,
                pattern,
                "is empty or longer than 1024 bytes",
                "write a regular expression such as ^beta-",
            );
        }
        pattern.to_owned()
    }

    fn cookie(&mut self) -> Option<String> {
        let name = self.text(CANARY_BY_COOKIE)?;
        if !is_token(name) {
            self.refuse(
                CANARY_BY_COOKIE,
                name,
                "is not a cookie name",
                "use letters, digits, - and _ only, such as canary",
            );
        }
        Some(name.to_owned())
    }

    fn matches(&mut self) -> Vec<RouteMatch> {
        let Some(text) = self.text(CANARY_MATCH) else {
            return Vec::new();
        };
        matches::parse(text, self.prefix).unwrap_or_else(|faults| {
            self.faults.extend(faults);
            Vec::new()
        })
    }

    fn cohort(&mut self) -> Cohort {
        match self.text(CANARY_COHORT) {
            None | Some("none") => Cohort::None,
            Some("cookie") => Cohort::Cookie,
            Some("source-ip") => Cohort::SourceIp,
            Some(other) => match other.strip_prefix("header:").filter(|h| is_token(h)) {
                Some(header) => Cohort::Header(header.to_ascii_lowercase()),
                None => {
                    self.refuse(
                        CANARY_COHORT,
                        other,
                        "is not a kind of cohort",
                        "write none, cookie, source-ip or header:<name>",
                    );
                    Cohort::None
                }
            },
        }
    }

    fn switch(&mut self, suffix: &str) -> bool {
        match self.text(suffix) {
            None | Some("on") => true,
            Some("off") => false,
            Some(other) => {
                self.refuse(suffix, other, "is neither on nor off", "write on or off");
                true
            }
        }
    }

    fn mirror(&mut self) -> Split {
        let Some(text) = self.text(CANARY_MIRROR) else {
            return Split::NONE;
        };
        Split::parse(text, None, "").unwrap_or_else(|_| {
            self.refuse(
                CANARY_MIRROR,
                text,
                "is not a percentage",
                "write a number from 0 to 100",
            );
            Split::NONE
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn annotations(pairs: &[(&str, &str)]) -> Annotations {
        pairs
            .iter()
            .map(|(k, v)| (format!("{PREFIX}{k}"), (*v).to_owned()))
            .collect()
    }

    fn parse(pairs: &[(&str, &str)]) -> Result<Canary, Vec<Fault>> {
        Canary::parse(&annotations(pairs), PREFIX)
    }

    #[test]
    fn nothing_said_means_stable_only() {
        let c = parse(&[]).unwrap();
        assert_eq!(c, Canary::default());
        assert!(c.split.is_none() && c.shield && c.guard);
    }

    #[test]
    fn reads_every_key() {
        let c = parse(&[
            ("stable-service", "echo-stable"),
            ("canary-service", "echo-canary"),
            ("canary-weight", "1"),
            ("canary-weight-total", "3"),
            ("canary-by-header", "X-Canary"),
            ("canary-by-header-pattern", "^Do"),
            ("canary-by-cookie", "canary"),
            ("canary-match", r#"[{"method":"GET"}]"#),
            ("canary-cohort", "header:X-User"),
            ("canary-cohort-salt", "s"),
            ("canary-shield", "off"),
            ("canary-guard", "off"),
            ("canary-mirror", "5"),
        ])
        .unwrap();
        assert_eq!(c.split.to_string(), "1 of 3");
        assert_eq!(
            c.header,
            Some(HeaderRule {
                name: "x-canary".into(),
                test: HeaderTest::Pattern("^Do".into())
            })
        );
        assert_eq!(c.cohort, Cohort::Header("x-user".into()));
        assert!(!c.shield && !c.guard && c.matches.len() == 1 && c.mirror.percent() == 5.0);
    }

    #[test]
    fn a_value_wins_over_a_pattern() {
        let c = parse(&[
            ("canary-by-header", "h"),
            ("canary-by-header-value", "v"),
            ("canary-by-header-pattern", "p"),
        ])
        .unwrap();
        assert_eq!(c.header.unwrap().test, HeaderTest::Value("v".into()));
    }

    #[test]
    fn every_fault_is_reported_at_once_with_its_key() {
        let bad = [
            ("stable-service", "Echo_1"),
            ("canary-service", ""),
            ("canary-weight", "-1"),
            ("canary-weight-total", "0"),
            ("canary-by-header", "a b"),
            ("canary-by-cookie", "a;b"),
            ("canary-match", "{"),
            ("canary-cohort", "users"),
            ("canary-shield", "yes"),
            ("canary-guard", "true"),
            ("canary-mirror", "200"),
            ("canary-wieght", "10"),
        ];
        let faults = parse(&bad).unwrap_err();
        for (key, _) in bad {
            assert!(
                faults
                    .iter()
                    .any(|f| f.key == format!("{PREFIX}{key}") && !f.remedy.is_empty()),
                "{key}: {faults:?}"
            );
        }
    }

    #[test]
    fn a_value_without_its_header_is_a_fault() {
        assert_eq!(
            parse(&[("canary-by-header-value", "v"), ("canary-by-header-pattern", "p")])
                .unwrap_err()
                .len(),
            2
        );
        assert!(parse(&[("canary-by-header", "h"), ("canary-by-header-value", " v")]).is_err());
    }

    #[test]
    fn foreign_and_future_keys_are_left_alone() {
        let mut a = annotations(&[
            ("canary-weight", "5"),
            ("canary-teleport-destination", "x"),
            ("changed-by", "someone"),
        ]);
        a.insert("example.org/canary-weight".into(), "abc".into());
        assert_eq!(Canary::parse(&a, PREFIX).unwrap().split.percent(), 5.0);
    }

    #[test]
    fn the_hash_follows_what_decides() {
        let five = parse(&[("canary-weight", "5")]).unwrap().hash();
        assert_eq!(
            five,
            parse(&[("canary-weight", "5.0"), ("changed-by", "a")])
                .unwrap()
                .hash()
        );
        assert_ne!(five, parse(&[("canary-weight", "6")]).unwrap().hash());
        assert_eq!(five.len(), 16);
    }

    proptest! {
        #[test]
        fn nothing_a_person_can_write_panics(key in 0usize..14, value in ".*", more in ".*") {
            let _ = parse(&[(TRAFFIC_KEYS[key], &value), (&more, &value)]);
        }
    }
}
