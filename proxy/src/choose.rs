//! Which track a request goes to: header, cookie, match, cohort, weight, in this order. Pure.

mod words;

pub use words::{Finding, Witness};

use crate::{
    table::{Match, PathTest, Rules, ValueTest},
    wire::{name::Name, request::Request},
};
use contract::{
    annotations::{Cohort, fnv1a},
    names::{self, Reason, Track},
};
use std::{borrow::Cow, net::IpAddr};

/// The cookie that makes a client a returning user.
pub const COHORT_COOKIE: &str = "serin-cohort";
/// Buckets of users: a weight is resolved to a millionth.
const BUCKETS: u64 = 1_000_000;

/// Where a request goes, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Where.
    pub track: Track,
    /// Why.
    pub reason: Reason,
    /// The bucket of its user, where users are split and it has one.
    pub bucket: Option<u64>,
    /// A cohort cookie to set, for a user who had none.
    pub cookie: Option<u64>,
}

/// Where the randomness of a choice comes from.
pub trait Dice {
    /// The exact split's next draw.
    fn draw(&mut self, split: contract::Split) -> bool;
    /// A fresh identity for a new user.
    fn identity(&mut self) -> u64;
}

/// Chooses.
pub fn choose(rules: &Rules, request: &Request, client: IpAddr, dice: &mut impl Dice) -> Choice {
    explain(rules, request, client, dice, &mut ())
}

/// Chooses, and tells how.
pub fn explain(
    rules: &Rules,
    request: &Request,
    client: IpAddr,
    dice: &mut impl Dice,
    witness: &mut impl Witness,
) -> Choice {
    if let Some((track, reason)) = opted(rules, request, client, witness) {
        return Choice {
            track,
            reason,
            bucket: None,
            cookie: None,
        };
    }
    let choice = match &rules.cohort {
        Cohort::None => None,
        Cohort::Cookie => Some(by_cookie(rules, request, dice)),
        Cohort::Header(name) => {
            exact(request.lines.named(name.as_bytes())).map(|user| by_user(rules, user, None))
        }
        Cohort::SourceIp => Some(match client.to_canonical() {
            IpAddr::V4(a) => by_user(rules, &a.octets(), None),
            IpAddr::V6(a) => by_user(rules, &a.octets(), None),
        }),
    };
    if let Some(choice) = choice {
        let bucket = choice.bucket.unwrap_or_default();
        witness.tell(|| words::user(rules, bucket, choice.track, choice.cookie.is_some()));
        return choice;
    }
    witness.tell(|| words::nobody(&rules.cohort));
    witness.tell(|| words::weight(rules));
    by_weight(rules, dice)
}

/// Explicit opt-in always wins.
fn opted(
    rules: &Rules,
    request: &Request,
    client: IpAddr,
    witness: &mut impl Witness,
) -> Option<(Track, Reason)> {
    if let Some(track) = by_header(rules, request, witness) {
        return Some((track, Reason::Header));
    }
    if let Some(track) = by_cookie_word(rules, request, witness) {
        return Some((track, Reason::Cookie));
    }
    if rules.matches.is_empty() {
        witness.tell(|| words::unused(Reason::Match, names::CANARY_MATCH));
        return None;
    }
    witness.tell(|| words::matches(rules, request, client));
    let matched = rules.matches.iter().any(|m| m.holds(request, client));
    matched.then_some((Track::Canary, Reason::Match))
}

fn by_header(rules: &Rules, request: &Request, witness: &mut impl Witness) -> Option<Track> {
    let Some(rule) = &rules.header else {
        witness.tell(|| words::unused(Reason::Header, names::CANARY_BY_HEADER));
        return None;
    };
    let track = exact(request.lines.named(&rule.name)).and_then(|v| forced(&rule.test, v));
    witness.tell(|| words::header(rule, request, track));
    track
}

fn by_cookie_word(rules: &Rules, request: &Request, witness: &mut impl Witness) -> Option<Track> {
    let Some(name) = &rules.cookie else {
        witness.tell(|| words::unused(Reason::Cookie, names::CANARY_BY_COOKIE));
        return None;
    };
    let track = cookie(request, name).and_then(|v| forced(&ValueTest::AlwaysNever, v));
    witness.tell(|| words::cookie_word(name, request, track));
    track
}

/// The only value of a header: two lines are no exact token.
fn exact<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

fn forced(test: &ValueTest, value: &[u8]) -> Option<Track> {
    match test {
        ValueTest::AlwaysNever => match value {
            b"always" => Some(Track::Canary),
            b"never" => Some(Track::Stable),
            _ => None,
        },
        test => test.holds(value).then_some(Track::Canary),
    }
}

fn by_weight(rules: &Rules, dice: &mut impl Dice) -> Choice {
    let canary = dice.draw(rules.split);
    Choice {
        track: if canary { Track::Canary } else { Track::Stable },
        reason: Reason::Weight,
        bucket: None,
        cookie: None,
    }
}

fn by_cookie(rules: &Rules, request: &Request, dice: &mut impl Dice) -> Choice {
    if let Some(user) = cookie(request, COHORT_COOKIE.as_bytes()).filter(|v| !v.is_empty()) {
        return by_user(rules, user, None);
    }
    let fresh = dice.identity();
    by_user(rules, identity(fresh).as_bytes(), Some(fresh))
}

/// An identity as it stands in the cookie.
pub fn identity(fresh: u64) -> String {
    format!("{fresh:016x}")
}

fn by_user(rules: &Rules, user: &[u8], cookie: Option<u64>) -> Choice {
    let bucket = bucket(rules.salt, user);
    let canary = is_in(rules, bucket);
    Choice {
        track: if canary { Track::Canary } else { Track::Stable },
        reason: Reason::Cohort,
        bucket: Some(bucket),
        cookie,
    }
}

/// Buckets below the weight: a growing weight only adds users.
fn is_in(rules: &Rules, bucket: u64) -> bool {
    let (a, b) = (rules.split.numerator(), rules.split.denominator());
    u128::from(bucket) * u128::from(b) < u128::from(a) * u128::from(BUCKETS)
}

/// The bucket of a user: keyed by the salt, the same on every replica and every build. FNV-1a alone spreads its low
/// bits badly; the finalizer of `SplitMix64` mends that.
pub fn bucket(salt: u64, user: &[u8]) -> u64 {
    let mut h = fnv1a(user) ^ salt;
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^= h >> 31;
    ((u128::from(h) * u128::from(BUCKETS)) >> 64) as u64
}

/// The first cookie of a name, over all cookie lines, read leniently: spaces and quotes around a value are not part
/// of it, and what is no pair is skipped.
fn cookie<'a>(request: &'a Request, name: &'a [u8]) -> Option<&'a [u8]> {
    if !request.lines.has(Name::Cookie) {
        return None;
    }
    request
        .lines
        .of(Name::Cookie)
        .flat_map(|line| line.split(|b| *b == b';'))
        .filter_map(pair)
        .find(|(n, _)| *n == name)
        .map(|(_, v)| v)
}

fn pair(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == b'=')?;
    let (name, value) = (text.get(..at)?.trim_ascii(), text.get(at + 1..)?.trim_ascii());
    let unquoted = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
    Some((name, unquoted.unwrap_or(value)))
}

impl ValueTest {
    /// Whether a value is the one that is looked for.
    pub fn holds(&self, value: &[u8]) -> bool {
        match self {
            ValueTest::AlwaysNever => false,
            ValueTest::Exact(wanted) => value == &**wanted,
            ValueTest::Pattern(pattern) => pattern.is_match(value),
        }
    }
}

impl Match {
    /// Whether every condition holds.
    pub fn holds(&self, request: &Request, client: IpAddr) -> bool {
        self.lacks(request, client).is_none()
    }

    /// The first condition that does not hold.
    pub fn lacks(&self, request: &Request, client: IpAddr) -> Option<&'static str> {
        let (path, query) = split(request.target());
        let of_header =
            |(n, t): &(Box<[u8]>, ValueTest)| request.lines.named(n).next().is_some_and(|v| t.holds(v));
        let of_query = |(n, t): &(Box<[u8]>, ValueTest)| parameter(query, n).is_some_and(|v| t.holds(&v));
        if self
            .method
            .as_ref()
            .is_some_and(|m| m.as_bytes() != request.method_text())
        {
            Some("method")
        } else if self.path.as_ref().is_some_and(|p| !p.holds(path)) {
            Some("path")
        } else if !self.headers.iter().all(of_header) {
            Some("headers")
        } else if !self.query.iter().all(of_query) {
            Some("queryParams")
        } else if !self.sources.is_empty() && !self.sources.iter().any(|s| s.contains(client)) {
            Some("sourceIPs")
        } else {
            None
        }
    }
}

impl PathTest {
    fn holds(&self, path: &[u8]) -> bool {
        match self {
            PathTest::Exact(wanted) => path == &**wanted,
            PathTest::Pattern(pattern) => pattern.is_match(path),
            // By segments: `/a` is a prefix of `/a` and `/a/b`, not of `/ab`.
            PathTest::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")),
        }
    }
}

/// Path and query; an empty path is `/`.
pub fn split(target: &[u8]) -> (&[u8], &[u8]) {
    let at = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(at);
    let path = if path.is_empty() { b"/" } else { path };
    (path, query.strip_prefix(b"?").unwrap_or_default())
}

/// The first query parameter of a name, decoded.
fn parameter<'a>(query: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    query.split(|b| *b == b'&').find_map(|part| {
        let at = part.iter().position(|b| *b == b'=').unwrap_or(part.len());
        let (n, v) = part.split_at(at);
        (*decoded(n) == *name).then(|| decoded(v.strip_prefix(b"=").unwrap_or_default()))
    })
}

/// Percent-decoded, with `+` as a space; a broken escape stands for itself.
pub fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|b| *b == b'%' || *b == b'+') {
        return Cow::Borrowed(text);
    }
    let digit = |i: usize| text.get(i).and_then(|b| (*b as char).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while let Some(octet) = text.get(i) {
        match (octet, digit(i + 1), digit(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                i += 3;
                continue;
            }
            (b'+', ..) => out.push(b' '),
            (octet, ..) => out.push(*octet),
        }
        i += 1;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use contract::{Canary, annotations::Annotations, names::PREFIX};
    use proptest::prelude::*;

    /// Draws as told, and counts users from 1.
    struct Fixed(bool, u64);

    impl Dice for Fixed {
        fn draw(&mut self, split: contract::Split) -> bool {
            self.0 && !split.is_none() || split.same_share(contract::Split::ALL)
        }
        fn identity(&mut self) -> u64 {
            self.1 += 1;
            self.1
        }
    }

    fn rules(pairs: &[(&str, &str)]) -> Rules {
        let annotations: Annotations = pairs
            .iter()
            .map(|(k, v)| (format!("{PREFIX}{k}"), (*v).to_owned()))
            .collect();
        Rules::compile(&Canary::parse(&annotations, PREFIX).unwrap(), PREFIX).unwrap()
    }

    fn request(target: &str, lines: &[&str]) -> Request {
        let lines: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        Request::parse(&Bytes::from(head)).unwrap().unwrap().0
    }

    fn track(rules: &Rules, lines: &[&str]) -> (Track, Reason) {
        let c = choose(
            rules,
            &request("/", lines),
            [127, 0, 0, 1].into(),
            &mut Fixed(false, 0),
        );
        (c.track, c.reason)
    }

    const STABLE: (Track, Reason) = (Track::Stable, Reason::Weight);

    #[test]
    fn case_1_always_and_never_force() {
        let r = rules(&[("canary-by-header", "X-Canary")]);
        assert_eq!(track(&r, &["x-CANARY: always"]), (Track::Canary, Reason::Header));
        assert_eq!(track(&r, &["X-Canary: other"]), STABLE);
        let all = rules(&[("canary-by-header", "X-Canary"), ("canary-weight", "100")]);
        assert_eq!(track(&all, &["X-Canary: never"]), (Track::Stable, Reason::Header));
        assert_eq!(track(&all, &["X-Canary: Never"]).0, Track::Canary);
    }

    #[test]
    fn case_2_a_value_replaces_the_words() {
        let r = rules(&[
            ("canary-by-header", "h"),
            ("canary-by-header-value", "v"),
            ("canary-by-header-pattern", ".*"),
        ]);
        assert_eq!(track(&r, &["h: v"]).0, Track::Canary);
        for other in ["always", "never", "V", "vv"] {
            assert_eq!(track(&r, &[&format!("h: {other}")]), STABLE, "{other}");
        }
    }

    #[test]
    fn case_3_a_pattern_matches() {
        let r = rules(&[
            ("canary-by-header", "h"),
            ("canary-by-header-pattern", "^Do[A-Z][a-z]+y$"),
        ]);
        assert_eq!(track(&r, &["h: DoCanary"]).0, Track::Canary);
        assert_eq!(track(&r, &["h: Docanary"]), STABLE);
    }

    #[test]
    fn case_4_cookies_are_read_leniently() {
        let r = rules(&[("canary-by-cookie", "c"), ("canary-by-header", "h")]);
        for line in [
            "Cookie: c=always",
            "cookie: a=b; c=\"always\" ;d",
            "Cookie: ;;=;c = always",
            "Cookie: C=never; c=always",
        ] {
            assert_eq!(track(&r, &[line]), (Track::Canary, Reason::Cookie), "{line}");
        }
        assert_eq!(
            track(&r, &["Cookie: a=b", "Cookie: c=never"]),
            (Track::Stable, Reason::Cookie)
        );
        assert_eq!(track(&r, &["Cookie: c=garbage"]), STABLE);
        assert_eq!(
            track(&r, &["h: never", "Cookie: c=always"]),
            (Track::Stable, Reason::Header)
        );
    }

    #[test]
    fn case_13_two_lines_or_a_list_are_no_exact_token() {
        let r = rules(&[("canary-by-header", "h")]);
        assert_eq!(track(&r, &["h: always", "h: always"]), STABLE);
        assert_eq!(track(&r, &["h: always, x"]), STABLE);
    }

    fn matched(json: &str, target: &str, lines: &[&str], peer: [u8; 4]) -> bool {
        let r = rules(&[("canary-match", json)]);
        choose(&r, &request(target, lines), peer.into(), &mut Fixed(false, 0)).track == Track::Canary
    }

    #[test]
    fn matches_follow_the_gateway_api() {
        let prefix = r#"[{"path":{"value":"/beta/"}}]"#;
        for (target, hit) in [
            ("/beta", true),
            ("/beta/x", true),
            ("/beta?x", true),
            ("/betas", false),
            ("/", false),
        ] {
            assert_eq!(matched(prefix, target, &[], [1; 4]), hit, "{target}");
        }
        assert!(matched(r#"[{"path":{"value":"/"}}]"#, "/any", &[], [1; 4]));
        let exact =
            r#"[{"path":{"type":"Exact","value":"/a"},"queryParams":[{"name":"q w","value":"é 1"}]}]"#;
        assert!(matched(exact, "/a?x=1&q+w=%C3%A9%201&q+w=2", &[], [1; 4]));
        assert!(!matched(exact, "/a?x=1&q+w=2&q+w=%C3%A9%201", &[], [1; 4]));
        let both = r#"[{"headers":[{"name":"X-A","value":"1"}],"method":"GET","sourceIPs":["10.0.0.0/8"]}]"#;
        assert!(matched(both, "/", &["x-a: 1"], [10, 1, 1, 1]));
        assert!(!matched(both, "/", &["x-a: 1"], [11, 1, 1, 1]));
        assert!(!matched(both, "/", &["x-a: 2"], [10, 1, 1, 1]));
        let whole = r#"[{"path":{"type":"RegularExpression","value":"/a|/b"}}]"#;
        assert!(matched(whole, "/b", &[], [1; 4]) && !matched(whole, "/bc", &[], [1; 4]));
    }

    #[test]
    fn cohorts_nest_and_spread() {
        let users: Vec<String> = (0..20_000).map(|i| format!("user-{i}")).collect();
        let share = |weight: &str| -> Vec<bool> {
            let r = rules(&[
                ("canary-cohort", "header:x-user"),
                ("canary-weight", weight),
                ("canary-cohort-salt", "s1"),
            ]);
            users
                .iter()
                .map(|u| track(&r, &[&format!("x-user: {u}")]).0 == Track::Canary)
                .collect()
        };
        let (five, twenty, none, all) = (share("5"), share("20"), share("0"), share("100"));
        assert!(
            five.iter().zip(&twenty).all(|(a, b)| !a || *b),
            "nobody leaves when the weight grows"
        );
        assert!(!none.contains(&true) && !all.contains(&false));
        let n = twenty.iter().filter(|c| **c).count() as f64;
        assert!((n - 4000.0).abs() < 4.5 * (20_000.0f64 * 0.16).sqrt(), "{n}");
    }

    #[test]
    fn a_new_user_gets_a_cookie_and_keeps_the_track() {
        let r = rules(&[("canary-cohort", "cookie"), ("canary-weight", "50")]);
        let mut dice = Fixed(false, 41);
        for _ in 0..50 {
            let first = choose(&r, &request("/", &[]), [1; 4].into(), &mut dice);
            let line = format!("Cookie: {COHORT_COOKIE}={}", identity(first.cookie.unwrap()));
            let again = choose(&r, &request("/", &[&line]), [1; 4].into(), &mut dice);
            assert_eq!(
                (again.track, again.reason, again.cookie),
                (first.track, Reason::Cohort, None)
            );
        }
    }

    proptest! {
        #[test]
        fn no_cookie_or_query_panics(line in "[ -~]{0,60}", query in "[!-\"$-~]{0,60}") {
            let r = rules(&[("canary-by-cookie", "c"), ("canary-cohort", "cookie"), ("canary-match", r#"[{"queryParams":[{"name":"a","value":"b"}]}]"#)]);
            let _ = choose(&r, &request(&format!("/?{query}"), &[&format!("Cookie: {line}")]), [1; 4].into(), &mut Fixed(true, 1));
        }
    }
}
