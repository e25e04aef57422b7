//! Requests of the h2 crate in our words, and our answers in its words. Pure.

use crate::{
    error::Failure,
    headers,
    stream::{Answer, Download},
    websocket,
    wire::{
        block::{self, Block},
        body::Framing,
        lines::{self, Lines},
        name::Name,
        request::{self, Parts, Protocol, Request, is_authority},
    },
};
use contract::file::LimitsEntry;
use h2::{RecvStream, ext};
use http::{HeaderName, HeaderValue, StatusCode, header};

/// The request in our words. Its text is laid out in one block, as HTTP/1 has it. One that asks for WebSocket is what
/// HTTP/1.1 calls an upgrade.
pub(super) fn translate(
    parts: &http::request::Parts,
    body: &RecvStream,
    limits: &LimitsEntry,
    random: impl Fn() -> u64,
) -> Result<Request, Failure> {
    let upgrades = asks_for_websocket(parts)?;
    let mut block = Block::within(limits.header_size, limits.header_count);
    let method = match upgrades {
        true => block.text(b"GET")?,
        false => block.text(parts.method.as_str().as_bytes())?,
    };
    let target = target(parts)?;
    let target = block.text(target)?;
    let host = block.text(host(parts)?)?;
    for (name, value) in &parts.headers {
        if !is_written_anew(name, upgrades) {
            block.line(name.as_str().as_bytes(), value.as_bytes())?;
        }
    }
    block.cookies(&parts.headers)?;
    if upgrades {
        block.line(b"upgrade", websocket::NAME.as_bytes())?;
        let key = websocket::key([random(), random()]);
        block.line(websocket::KEY.as_bytes(), key.as_bytes())?;
    }
    let lines = block.done();
    let framing = framing(&lines, body, upgrades)?;
    request::expectation(&lines)?;
    let mut request = Request::new(Parts {
        lines,
        protocol: Protocol::Http2,
        method,
        target,
        host,
        framing,
    });
    request.upgrades = upgrades;
    request.is_grpc &= !upgrades;
    Ok(request)
}

/// An extended CONNECT (RFC 8441, 4). Any other is refused.
fn asks_for_websocket(parts: &http::request::Parts) -> Result<bool, Failure> {
    if parts.method != http::Method::CONNECT {
        return Ok(false);
    }
    let protocol = parts.extensions.get::<ext::Protocol>();
    match protocol.is_some_and(|p| p.as_str() == websocket::NAME) {
        true => Ok(true),
        false => Err(Failure::Connect),
    }
}

/// Whether a line is not taken over as it is. The handshake of WebSocket is between us and the endpoint.
fn is_written_anew(name: &HeaderName, upgrades: bool) -> bool {
    let of_handshake = || [websocket::KEY, websocket::ACCEPT].contains(&name.as_str());
    name == header::COOKIE || name == header::HOST || upgrades && of_handshake()
}

/// What comes behind an upgrade is no body.
fn framing(lines: &Lines, body: &RecvStream, upgrades: bool) -> Result<Framing, Failure> {
    let length = lines::content_length(lines).map_err(Failure::Malformed)?;
    Ok(match length {
        Some(_) if upgrades => return Err(Failure::Malformed("CONNECT has a length")),
        _ if upgrades || body.is_end_stream() => Framing::Empty,
        Some(n) => Framing::Length(n),
        None => Framing::Chunked,
    })
}

/// A path, or `*` of OPTIONS: whatever else would be read as something else by HTTP/1 behind us.
fn target(parts: &http::request::Parts) -> Result<&[u8], Failure> {
    let target = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    if target.starts_with('/') || target == "*" && parts.method == http::Method::OPTIONS {
        Ok(target.as_bytes())
    } else {
        Err(Failure::Malformed("the target is no path"))
    }
}

/// `:authority`, or `host`; if both, they must agree (RFC 9113, 8.3.1).
fn host(parts: &http::request::Parts) -> Result<&[u8], Failure> {
    let mut hosts = parts
        .headers
        .get_all(header::HOST)
        .iter()
        .map(HeaderValue::as_bytes);
    let authority = parts.uri.authority().map(|a| a.as_str().as_bytes());
    let first = hosts.next();
    let host = authority.or(first).unwrap_or_default();
    if hosts.next().is_some() || first.is_some_and(|f| !f.eq_ignore_ascii_case(host)) {
        return Err(Failure::Malformed("host and authority disagree"));
    }
    if !is_authority(host) {
        return Err(Failure::Malformed("the authority is malformed"));
    }
    Ok(host)
}

/// The answer in the crate's words. That an endpoint has switched protocols is told by 200 (RFC 8441, 5).
pub(super) fn response<U>(mut answer: Answer<U>, to_head: bool) -> (http::Response<()>, Download<U>) {
    if to_head && let Download::Own(text) = &mut answer.body {
        text.clear();
    }
    let mut headers = block::map(&answer.lines, headers::answer_passes);
    for (name, value) in answer.extra {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::try_from(value),
        ) {
            headers.append(name, value);
        }
    }
    let told = || {
        let line = answer.lines.shared().find(|l| l.0 == Name::ContentLength)?;
        HeaderValue::from_maybe_shared(line.2).ok()
    };
    let length = match answer.framing {
        Framing::Length(n) => told()
            .filter(|v| v.as_bytes().iter().all(u8::is_ascii_digit))
            .or_else(|| Some(HeaderValue::from(n))),
        Framing::Empty => told(),
        _ => None,
    };
    if let Some(length) = length.filter(|_| answer.status != 204) {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    let mut status = answer.status;
    if answer.framing == Framing::Tunnel {
        headers.remove(websocket::ACCEPT);
        status = 200;
    }
    let mut response = http::Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = headers;
    (response, answer.body)
}
