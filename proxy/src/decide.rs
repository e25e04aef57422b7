//! Where a request would go, and why: asked by people, answered by the very code that chooses, which draws nothing here
//! and counts nothing.

use crate::{
    choose::{self, Choice, Dice},
    error::Failure,
    forwarding,
    front::Peer,
    shared::Shared,
    table::Route,
    wire::{name::Name, request::Request},
};
use bytes::Bytes;
use contract::{
    Split,
    decision::{Decision, Question, Refused, Step},
    names::{Reason, Track},
};
use std::net::{IpAddr, Ipv4Addr};

/// Why a question cannot be answered.
pub type Wrong = String;

/// Answers a question by the table in force.
///
/// # Errors
/// When it is no request at all, in one sentence.
pub fn decide(shared: &Shared, question: &Question) -> Result<Decision, Wrong> {
    let head = head(question)?;
    let request = match Request::parse(&head) {
        Ok(Some((request, n))) if n == head.len() => request,
        Ok(_) => return Err("the headers end early; write each as `name: value`, on one line".to_owned()),
        Err(failure) => return Ok(refused(failure)),
    };
    let table = shared.table();
    let Some(route) = table.find(request.host()).and_then(|i| table.routes.get(i)) else {
        return Ok(lost(&request));
    };
    let address = question.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let trusted = &shared.settings.trusted_proxies;
    let peer = Peer::new(address, forwarding::is_trusted(address, trusted));
    let client = forwarding::client(&request.lines, &peer, trusted);
    Ok(told(route, &request, client))
}

/// The head as a client of HTTP/1.1 would send it.
fn head(question: &Question) -> Result<Bytes, Wrong> {
    let url = question.url.as_str();
    let target = if url.is_empty() { "/" } else { url };
    slips(question, target)?;
    let named = |line: &String| {
        line.split_once(':')
            .is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("host"))
    };
    let mut lines: Vec<String> = question.headers.clone();
    if !lines.iter().any(named) {
        lines.insert(0, format!("host: {}", host(target)));
    }
    let lines: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
    let method = &question.method;
    Ok(Bytes::from(format!("{method} {target} HTTP/1.1\r\n{lines}\r\n")))
}

/// What is a slip of who asks, and not something that a client sends: told as such, and not as a refusal.
fn slips(question: &Question, target: &str) -> Result<(), Wrong> {
    let mut all = question
        .headers
        .iter()
        .map(String::as_str)
        .chain([question.method.as_str(), target]);
    if all.any(|text| text.contains(['\r', '\n'])) {
        return Err("there is a line break in it; write each header by itself".to_owned());
    }
    if let Some(line) = question.headers.iter().find(|l| !l.contains(':')) {
        return Err(format!("{line:?} is no header; write `name: value`"));
    }
    let method = &question.method;
    if method.is_empty() || method.contains(char::is_whitespace) {
        return Err(format!("{method:?} is no method; write for example GET"));
    }
    if target.contains(char::is_whitespace) {
        return Err(format!("there is a space in {target:?}; write %20 for it"));
    }
    let whole = ["/", "http://", "https://"].iter().any(|b| target.starts_with(b));
    if !whole && target != "*" {
        return Err(format!(
            "{target:?} is neither a path nor a URL; begin with /, http:// or https://"
        ));
    }
    Ok(())
}

/// The host of a whole URL; of a path, none.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map(|(_, rest)| rest);
    rest.and_then(|r| r.split(['/', '?']).next()).unwrap_or_default()
}

/// A request whose host nobody answers to, with that host.
fn lost(request: &Request) -> Decision {
    let host = String::from_utf8_lossy(request.host()).into_owned();
    let mut told = refused(Failure::NoRoute);
    if let Some(refused) = &mut told.refused {
        refused.error = format!("{} (it is {host:?})", refused.error);
    }
    Decision { host, ..told }
}

fn refused(failure: Failure) -> Decision {
    Decision {
        refused: Some(Refused {
            status: failure.status(),
            kind: failure.kind().to_owned(),
            error: failure.to_string(),
        }),
        ..Decision::default()
    }
}

/// Draws nothing: what chance would decide is told as a chance.
struct Still;

impl Dice for Still {
    fn draw(&mut self, _: Split) -> bool {
        false
    }

    fn identity(&mut self) -> u64 {
        0
    }
}

fn told(route: &Route, request: &Request, client: IpAddr) -> Decision {
    let mut findings = Vec::new();
    let choice = choose::explain(&route.rules, request, client, &mut Still, &mut findings);
    let by_chance = choice.reason == Reason::Weight || choice.cookie.is_some();
    let share = route.rules.split.share();
    let certain = share == 0.0 || share == 1.0;
    let chance = match (by_chance, choice.track) {
        (true, _) => share,
        (false, Track::Canary) => 1.0,
        (false, Track::Stable) => 0.0,
    };
    let judged = choice.reason.is_evidence() && !request.lines.has(Name::Synthetic);
    Decision {
        refused: None,
        service: route.source.service.clone(),
        host: String::from_utf8_lossy(request.host()).into_owned(),
        client: Some(client),
        steps: findings.into_iter().map(step).collect(),
        reason: choice.reason.name().to_owned(),
        track: match by_chance {
            false => Some(choice.track),
            true if certain && share > 0.0 => Some(Track::Canary),
            true if certain => Some(Track::Stable),
            true => None,
        },
        chance,
        bucket: choice.bucket.filter(|_| choice.cookie.is_none()),
        evidence: judged,
        split: route.rules.split.to_string(),
        hash: route.hash.clone(),
        endpoints: Track::BOTH.map(|t| route.endpoints[t.index()].len()),
        outcome: outcome(route, request, &choice, chance),
    }
}

fn step(finding: choose::Finding) -> Step {
    Step {
        step: finding.step.name().to_owned(),
        decides: finding.decides,
        why: finding.why,
    }
}

/// What becomes of the choice.
fn outcome(route: &Route, request: &Request, choice: &Choice, chance: f64) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(why) = &route.guard {
        all.push(format!(
            "the guard has cut the canary's share to 0 ({why}); a new split lifts it"
        ));
    }
    let opted = !choice.reason.is_evidence();
    let possible = Track::BOTH.into_iter().filter(|t| match t {
        Track::Canary => chance > 0.0,
        Track::Stable => chance < 1.0,
    });
    for track in possible {
        all.push(served(route, track, opted));
    }
    if chance > 0.0 && route.has(Track::Canary) {
        all.push(shield(route, request, opted));
    }
    all
}

fn served(route: &Route, track: Track, opted: bool) -> String {
    let name = track.name();
    match route.stands_in(track, opted) {
        Some(same) if same == track => format!("{name} serves it"),
        Some(other) => format!("{name} has no endpoint: {} serves in its place", other.name()),
        None => format!("{name} has no endpoint, and nobody may serve in its place: 503"),
    }
}

fn shield(route: &Route, request: &Request, opted: bool) -> String {
    let cannot = if opted {
        "it asks for the canary, and who asks sees its failures"
    } else if !route.shield {
        "the shield is off"
    } else if !route.has(Track::Stable) {
        "stable has no endpoint"
    } else if !request.is_replay_safe() {
        "it may be sent twice only while not one octet was sent"
    } else {
        return "where the canary fails, the shield has stable answer; the canary is charged".to_owned();
    };
    format!("where the canary fails, stable does not answer for it: {cannot}")
}
