//! What a request carries on its way to the backend, and an answer on its way back. Pure.

use crate::forwarding::{self, bit};
use crate::front::Peer;
use crate::telemetry::trace::{Span, SpanId, TraceId};
use crate::wire::{
    body::Framing,
    lines::Lines,
    name::Name,
    outbox::decimal,
    request::{Protocol, Request},
};
use contract::names;

/// What the headers of a forwarded request say beside what the client said.
#[derive(Debug)]
pub struct Journey<'a> {
    /// The client.
    pub peer: &'a Peer,
    /// Our name in `via`, unique to this process.
    pub via: &'a str,
    /// Identities for what the client did not bring.
    pub ids: &'a Identities,
}

/// The identities of one request: random, for who brought none.
#[derive(Clone, Copy, Debug)]
pub struct Identities {
    random: [u64; 3],
    /// Our span, if it is exported.
    pub traced: Option<Span>,
}

/// The header in which a client names its program.
pub const USER_AGENT: &[u8] = b"user-agent";

/// Writes the head of a request as its backend gets it: hop-by-hop headers out, forwarding and trace headers in.
pub fn request(request: &Request, journey: &Journey<'_>, out: &mut Vec<u8>) {
    start_line(request, out);
    line(out, "host", request.host());
    let mut passed = if journey.peer.trusted {
        PASSED_ON_TRUST
    } else {
        PASSED
    };
    if journey.ids.traced.is_some() {
        passed &= !bit(Name::Trace);
    }
    request.lines.copy(out, |class| passed & bit(class) != 0);
    framing(request, out);
    forwarding::write(request, journey, out);
    line(out, "via", journey.via.as_bytes());
    identities(request, journey, out);
    out.extend_from_slice(b"\r\n");
}

fn start_line(request: &Request, out: &mut Vec<u8>) {
    out.extend_from_slice(request.method_text());
    out.push(b' ');
    let target = request.target();
    if target.first().is_none_or(|b| *b == b'?') {
        out.push(b'/');
    }
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Lines that go on as they are; the others are dropped or written anew.
const PASSED: u32 = bit(Name::Other)
    | bit(Name::ContentType)
    | bit(Name::GrpcStatus)
    | bit(Name::Cookie)
    | bit(Name::Via)
    | bit(Name::RequestId)
    | bit(Name::Trace)
    | bit(Name::Debug)
    | bit(Name::Synthetic);

/// What goes on of a trusted peer's; `x-forwarded-for` and `forwarded` are written anew, with the peer appended.
const PASSED_ON_TRUST: u32 =
    PASSED | bit(Name::ForwardedHost) | bit(Name::ForwardedProto) | bit(Name::ForwardedMore);

fn framing(request: &Request, out: &mut Vec<u8>) {
    match request.framing {
        Framing::Length(n) => {
            out.extend_from_slice(b"content-length: ");
            decimal(n, out);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked | Framing::Close | Framing::Tunnel => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n")
        }
        Framing::Empty if request.lines.has(Name::ContentLength) => line(out, "content-length", b"0"),
        Framing::Empty => {}
    }
    if request.upgrades {
        return upgrade(&request.lines, out);
    }
    if request.lines.has(Name::Te)
        && request
            .lines
            .of(Name::Te)
            .any(|v| v.eq_ignore_ascii_case(b"trailers"))
    {
        out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
    }
}

/// Asks for, or tells of, another protocol.
pub fn upgrade(lines: &Lines, out: &mut Vec<u8>) {
    for value in lines.of(Name::Upgrade) {
        line(out, "upgrade", value);
    }
    out.extend_from_slice(b"connection: upgrade\r\n");
}

/// `x-request-id` and `traceparent` (W3C Trace Context) are begun when the client brought none. A trace that begins
/// here and is not exported is not sampled either: that would make everybody behind us export theirs.
fn identities(request: &Request, journey: &Journey<'_>, out: &mut Vec<u8>) {
    let ids = journey.ids;
    if !request.lines.has(Name::RequestId) {
        line(out, "x-request-id", &ids.request());
    }
    match ids.traced {
        Some(span) => line(out, "traceparent", &span.traceparent()),
        None if request.lines.has(Name::Trace) => {}
        None => line(out, "traceparent", &ids.begun()),
    }
}

impl Identities {
    /// From random numbers.
    pub fn new(random: [u64; 3]) -> Identities {
        Identities { random, traced: None }
    }

    /// A request without one gets this `x-request-id`.
    pub fn request(&self) -> TraceId {
        let [a, b, _] = self.random;
        Digits([a, b]).text()
    }

    /// A request without a trace gets this one.
    pub fn trace(&self) -> TraceId {
        self.request()
    }

    /// Our span. An identity of nothing but zeros is invalid.
    pub fn span(&self) -> SpanId {
        let [_, _, c] = self.random;
        Digits([c | 1]).text()
    }

    /// A random number for choices between requests, independent of each single identity.
    pub fn chance(&self) -> u64 {
        let [a, _, c] = self.random;
        a ^ c
    }

    /// The trace that begins here, not sampled.
    fn begun(&self) -> [u8; 55] {
        let mut text = *b"00-________________________________-________________-00";
        text[3..35].copy_from_slice(&self.trace());
        text[36..52].copy_from_slice(&self.span());
        text
    }
}

/// Numbers as hexadecimal digits, eight at a time: a loop over single digits costs five times as much.
struct Digits<const N: usize>([u64; N]);

impl<const N: usize> Digits<N> {
    /// `T` must be 16 times `N`; what does not fit is left out.
    fn text<const T: usize>(&self) -> [u8; T] {
        let mut text = [b'0'; T];
        for (place, n) in text.chunks_exact_mut(16).zip(self.0) {
            let (high, low) = place.split_at_mut(8);
            high.copy_from_slice(&spread((n >> 32) as u32));
            low.copy_from_slice(&spread(n as u32));
        }
        text
    }
}

/// The eight hexadecimal digits of `n`, without a table.
fn spread(n: u32) -> [u8; 8] {
    let mut x = u64::from(n >> 16) << 32 | u64::from(n & 0xffff);
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((x + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (x + 0x3030_3030_3030_3030 + letters * 39).to_be_bytes()
}

/// Whether the request has been here before.
pub fn loops(request: &Request, via: &str) -> bool {
    request.lines.has(Name::Via)
        && request
            .lines
            .of(Name::Via)
            .flat_map(crate::wire::lines::items)
            .any(|hop| hop == via.as_bytes())
}

/// Our entry in `via` for a process.
pub fn via(process: &str) -> String {
    format!("1.1 {}-{process}", names::VIA)
}

/// Writes the lines of an answer that go on to the client.
pub fn answer(lines: &Lines, out: &mut Vec<u8>) {
    lines.copy(out, answer_passes);
}

/// Whether a line of an answer goes on: not the hop-by-hop ones, and the length is written anew.
pub fn answer_passes(class: Name) -> bool {
    !matches!(
        class,
        Name::Connection
            | Name::Hop
            | Name::Upgrade
            | Name::Te
            | Name::TransferEncoding
            | Name::ContentLength
            | Name::Nominated
    )
}

/// Whether a trailer goes on: never what frames, routes or identifies a message, for it comes too late to be believed
/// (RFC 9110, 6.5.1).
pub fn trailer_passes(class: Name) -> bool {
    matches!(class, Name::Other | Name::GrpcStatus)
}

/// Writes the trailers that go on.
pub fn trailers(lines: &Lines, out: &mut Vec<u8>) {
    lines.copy(out, trailer_passes);
}

/// Writes one line as it came.
#[inline(always)]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes one line of ours. Where it is called the name is known, and so often is the length of the value: a copy of
/// known length is a few instructions.
#[inline(always)]
pub fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    field(out, name.as_bytes(), value);
}

/// Whether the client speaks a protocol that knows chunks.
pub fn knows_chunks(protocol: Protocol) -> bool {
    protocol != Protocol::Http10
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn forwarded(head: &str) -> String {
        forwarded_by(head, false)
    }

    fn forwarded_by(head: &str, trusted: bool) -> String {
        let bytes = Bytes::copy_from_slice(head.as_bytes());
        let (parsed, _) = Request::parse(&bytes).unwrap().unwrap();
        let journey = Journey {
            peer: &Peer::new([192, 0, 2, 7].into(), trusted),
            via: "1.1 serin-x",
            ids: &Identities::new([1, 0xabc, 0]),
        };
        let mut out = Vec::new();
        request(&parsed, &journey, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hop_by_hop_goes_and_forwarding_comes() {
        let text = forwarded(
            "GET / HTTP/1.1\r\nHost: a:80\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n\
             TE: trailers\r\nProxy-Connection: x\r\nAccept: */*\r\n\r\n",
        );
        assert_eq!(
            text,
            "GET / HTTP/1.1\r\nhost: a:80\r\nAccept: */*\r\nte: trailers\r\nconnection: te\r\n\
             x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\nx-forwarded-host: a:80\r\nvia: 1.1 serin-x\r\n\
             x-request-id: 00000000000000010000000000000abc\r\n\
             traceparent: 00-00000000000000010000000000000abc-0000000000000001-00\r\n\r\n"
        );
    }

    #[test]
    fn forwarding_lines_are_believed_from_trusted_peers_alone() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n\
                    X-Forwarded-Host: shop\r\nX-Forwarded-Prefix: /x\r\nX-Real-IP: 9.9.9.9\r\n\
                    Forwarded: for=9.9.9.9\r\nForwarded: for=10.0.0.1\r\n\r\n";
        let stranger = forwarded(head);
        assert!(
            !stranger.contains("9.9.9.9") && !stranger.contains("shop") && !stranger.contains("/x"),
            "{stranger}"
        );
        assert!(
            !stranger.to_ascii_lowercase().contains("\nforwarded:"),
            "{stranger}"
        );
        for line in [
            "x-forwarded-for: 192.0.2.7\r\n",
            "x-forwarded-proto: http\r\n",
            "x-forwarded-host: a\r\n",
        ] {
            assert!(stranger.contains(line), "{stranger}");
        }
        let friend = forwarded_by(head, true);
        for line in [
            "x-forwarded-for: 9.9.9.9, 10.0.0.1, 192.0.2.7\r\n",
            "X-Forwarded-Proto: https\r\n",
            "X-Forwarded-Host: shop\r\n",
            "X-Forwarded-Prefix: /x\r\n",
            "X-Real-IP: 9.9.9.9\r\n",
            "\r\nforwarded: for=9.9.9.9, for=10.0.0.1, for=192.0.2.7;proto=http\r\n",
        ] {
            assert!(friend.contains(line), "{line} {friend}");
        }
        assert_eq!(
            friend.to_ascii_lowercase().matches("x-forwarded-proto").count(),
            1
        );
    }

    #[test]
    fn identities_of_the_client_are_kept() {
        let text = forwarded(
            "POST http://a?q HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\nTraceparent: 00-x\r\nContent-Length: 0\r\n\r\n",
        );
        assert!(text.starts_with("POST /?q HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("X-Request-Id: mine\r\n") && text.contains("Traceparent: 00-x\r\n"));
        assert!(text.contains("content-length: 0\r\n"));
        assert_eq!(
            text.matches("request-id").count() + text.matches("traceparent").count(),
            0
        );
    }

    #[test]
    fn an_exported_span_stands_between_the_client_and_the_backend() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
                    tracestate: v=1\r\n\r\n";
        let (parsed, _) = Request::parse(&Bytes::from(head)).unwrap().unwrap();
        let mut ids = Identities::new([1, 2, 3]);
        ids.traced = Some(Span {
            trace: *b"0af7651916cd43dd8448eb211c80319c",
            id: ids.span(),
            parent: Some(*b"b7ad6b7169203331"),
        });
        let journey = Journey {
            peer: &Peer::new([192, 0, 2, 7].into(), false),
            via: "1.1 serin-x",
            ids: &ids,
        };
        let mut out = Vec::new();
        request(&parsed, &journey, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("traceparent: 00-0af7651916cd43dd8448eb211c80319c-0000000000000003-01\r\n"),
            "{text}"
        );
        assert!(
            text.contains("tracestate: v=1\r\n") && !text.contains("b7ad6b7169203331"),
            "{text}"
        );
    }

    #[test]
    fn a_request_that_was_here_before_is_found() {
        let seen = |via: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n");
            loops(
                &Request::parse(&Bytes::from(head)).unwrap().unwrap().0,
                "1.1 serin-x",
            )
        };
        assert!(seen("1.1 other, 1.1 serin-x"));
        assert!(!seen("1.1 serin-xy, 1.1 b"));
    }

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for n in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX, 0xf0e1_d2c3_b4a5_9687] {
            assert_eq!(Digits([n]).text::<16>(), format!("{n:016x}").as_bytes());
        }
    }
}
