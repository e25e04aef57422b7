//! Heads in the words of HTTP/2, and back.

use crate::{
    error::Failure,
    wire::{block, body::Framing, lines, name::Name, response::Head},
};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, response, uri::Scheme};

/// A head that was written for HTTP/1, as HTTP/2 says it: one way of making heads serves both.
///
/// # Errors
/// When the request cannot be said in HTTP/2, whose paths and values are stricter.
pub fn request(text: &[u8], scheme: &Scheme, fallback: &str) -> Result<Request<()>, Failure> {
    const UNSPEAKABLE: Failure = Failure::Malformed("it cannot be said in HTTP/2");
    let mut lines = text
        .split(|b| *b == b'\n')
        .map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    let mut start = lines.next().unwrap_or_default().splitn(3, |b| *b == b' ');
    let (method, target) = (start.next().unwrap_or_default(), start.next().unwrap_or_default());
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = Method::from_bytes(method).map_err(|_| UNSPEAKABLE)?;
    let mut host: &[u8] = fallback.as_bytes();
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        match Name::of(name) {
            Name::Host if value.is_empty() => {}
            Name::Host => host = value,
            Name::Connection | Name::TransferEncoding | Name::Upgrade | Name::Hop => {}
            _ => {
                let name = HeaderName::from_bytes(name).map_err(|_| UNSPEAKABLE)?;
                let value = HeaderValue::from_bytes(value).map_err(|_| UNSPEAKABLE)?;
                request.headers_mut().append(name, value);
            }
        }
    }
    *request.uri_mut() = Uri::builder()
        .scheme(scheme.clone())
        .authority(host)
        .path_and_query(target)
        .build()
        .map_err(|_| UNSPEAKABLE)?;
    Ok(request)
}

/// The head of an answer in our words. `ended`: nothing comes after it.
///
/// # Errors
/// When it is too large.
pub fn head(parts: &response::Parts, ended: bool, to_head: bool) -> Result<Head, Failure> {
    let lines = block::lines(&parts.headers).map_err(|_| Failure::BadHead("it is too long"))?;
    let length = lines::content_length(&lines).map_err(Failure::BadHead)?;
    let status = parts.status.as_u16();
    let framing = match length {
        _ if ended || to_head || matches!(status, 204 | 304) => Framing::Empty,
        Some(n) if n > 0 => Framing::Length(n),
        _ => Framing::Chunked,
    };
    if !(200..600).contains(&status) {
        return Err(Failure::BadHead("its status is not between 200 and 599"));
    }
    debug_assert!(!lines.has(Name::TransferEncoding), "h2 refuses it");
    Ok(Head {
        status,
        lines,
        framing,
        keep_alive: true,
    })
}
