//! Requests of the h2 crate in our words, and our answers in its words. Pure.

use crate::{
    error::Failure,
    headers,
    stream::{Answer, Download},
    wire::{
        block::{self, Block},
        body::Framing,
        lines,
        name::Name,
        request::{Parts, Protocol, Request, is_authority},
    },
};
use contract::file::LimitsEntry;
use h2::RecvStream;
use http::{HeaderName, HeaderValue, StatusCode, header, request};

/// The request in our words. Its text is laid out in one block, as HTTP/1 has it.
pub(super) fn translate(
    parts: &request::Parts,
    body: &RecvStream,
    limits: &LimitsEntry,
) -> Result<Request, Failure> {
    if parts.method == http::Method::CONNECT {
        return Err(Failure::Connect);
    }
    let mut block = Block::within(limits.header_size, limits.header_count);
    let method = block.text(parts.method.as_str().as_bytes())?;
    let target = target(parts)?;
    let target = block.text(target)?;
    let host = block.text(host(parts)?)?;
    for (name, value) in &parts.headers {
        if name != header::COOKIE && name != header::HOST {
            block.line(name.as_str().as_bytes(), value.as_bytes())?;
        }
    }
    block.cookies(&parts.headers)?;
    let lines = block.done();
    let length = lines::content_length(&lines).map_err(Failure::Malformed)?;
    Ok(Request::new(Parts {
        lines,
        protocol: Protocol::Http2,
        method,
        target,
        host,
        framing: match length {
            _ if body.is_end_stream() => Framing::Empty,
            Some(n) => Framing::Length(n),
            None => Framing::Chunked,
        },
    }))
}

/// A path, or `*` of OPTIONS: whatever else would be read as something else by HTTP/1 behind us.
fn target(parts: &request::Parts) -> Result<&[u8], Failure> {
    let target = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    if target.starts_with('/') || target == "*" && parts.method == http::Method::OPTIONS {
        Ok(target.as_bytes())
    } else {
        Err(Failure::Malformed("the target is no path"))
    }
}

/// `:authority`, or `host`; if both, they must agree (RFC 9113, 8.3.1).
fn host(parts: &request::Parts) -> Result<&[u8], Failure> {
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

/// The answer in the crate's words.
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
    let told = || answer.lines.shared().find(|l| l.0 == Name::ContentLength);
    let told = || HeaderValue::from_maybe_shared(told()?.2).ok();
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
    let mut response = http::Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = headers;
    (response, answer.body)
}
