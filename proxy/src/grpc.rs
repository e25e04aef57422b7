//! gRPC over HTTP/2: its status, which comes behind the body, its deadline, and our own answers in its words
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use crate::{
    error::Failure,
    stream::{Answer, Download},
    wire::{block::Block, body::Framing, lines::Lines, name::Name},
};
use bytes::Bytes;
use contract::names::HEADER_ERROR;
use std::{
    fmt::Write,
    time::{Duration, Instant},
};

/// Codes that have a name, and one more for calls that ended without any.
pub const CODES: usize = 18;

/// A status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u8);

/// What is known of one call.
#[derive(Debug)]
pub struct Call {
    code: Option<Code>,
    /// What the client gives it.
    timeout: Option<Duration>,
    /// When the answer's first message began.
    first: Option<Instant>,
}

/// A timer of the client's that rings on its own may be this early by our clock, or by a tenth of its time.
const EARLY: Duration = Duration::from_millis(20);

impl Code {
    /// The call was cancelled.
    pub const CANCELLED: Code = Code(1);
    /// Nobody knows.
    pub const UNKNOWN: Code = Code(2);
    /// Not in time.
    pub const DEADLINE_EXCEEDED: Code = Code(4);
    /// Forbidden.
    pub const PERMISSION_DENIED: Code = Code(7);
    /// Too much.
    pub const RESOURCE_EXHAUSTED: Code = Code(8);
    /// There is no such service.
    pub const UNIMPLEMENTED: Code = Code(12);
    /// Somebody broke the rules.
    pub const INTERNAL: Code = Code(13);
    /// Not now.
    pub const UNAVAILABLE: Code = Code(14);
    /// The answer ended without a status.
    pub const MISSING: Code = Code(17);

    /// What the backend says. A code that has no name counts as unknown.
    pub fn read(lines: &Lines) -> Option<Code> {
        let value = lines
            .has(Name::GrpcStatus)
            .then(|| lines.of(Name::GrpcStatus).next())??;
        let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        Some(number.filter(|n| *n <= 16).map_or(Code::UNKNOWN, Code))
    }

    /// What an HTTP status means where there is none of gRPC (the protocol's `http-grpc-status-mapping`). 200 needs one.
    pub fn of_status(status: u16) -> Code {
        match status {
            200 => Code::MISSING,
            400 => Code::INTERNAL,
            401 => Code(16),
            403 => Code::PERMISSION_DENIED,
            404 => Code::UNIMPLEMENTED,
            429 | 502..=504 => Code::UNAVAILABLE,
            _ => Code::UNKNOWN,
        }
    }

    /// Ours for a failure.
    pub fn of(failure: Failure) -> Code {
        match failure {
            Failure::BadHead(_) | Failure::BadBody(_) => Code::INTERNAL,
            Failure::BodyTimeout => Code::DEADLINE_EXCEEDED,
            _ => match failure.status() {
                404 => Code::UNIMPLEMENTED,
                408 | 499 => Code::CANCELLED,
                431 => Code::RESOURCE_EXHAUSTED,
                502 | 503 => Code::UNAVAILABLE,
                504 => Code::DEADLINE_EXCEEDED,
                _ => Code::INTERNAL,
            },
        }
    }

    /// What a reset of HTTP/2 means (the protocol's table of "Errors").
    pub fn of_reset(reason: h2::Reason) -> Code {
        match reason {
            h2::Reason::REFUSED_STREAM => Code::UNAVAILABLE,
            h2::Reason::CANCEL => Code::CANCELLED,
            h2::Reason::ENHANCE_YOUR_CALM => Code::RESOURCE_EXHAUSTED,
            h2::Reason::INADEQUATE_SECURITY => Code::PERMISSION_DENIED,
            _ => Code::INTERNAL,
        }
    }

    /// Whether it is the backend's fault: unknown, deadline exceeded, internal, unavailable, data loss, and none at
    /// all. The others speak of what was asked for, as 4xx do; "resource exhausted" and "unimplemented" among them,
    /// which are a quota and a wrong name more often than a server that is out of order.
    pub fn is_bad(self) -> bool {
        matches!(self.0, 2 | 4 | 13 | 14 | 15 | 17)
    }

    /// The number, as gRPC writes it; a call that ended without a status has none.
    pub fn number(self) -> Option<u8> {
        (self != Code::MISSING).then_some(self.0)
    }

    /// Index of its counter.
    pub fn index(self) -> usize {
        usize::from(self.0).min(CODES - 1)
    }
}

/// The label of a counter: the number, as gRPC writes it.
pub fn label(index: usize) -> String {
    match index {
        17 => "none".to_owned(),
        n => n.to_string(),
    }
}

/// Whether the content type is gRPC's: `application/grpc`, perhaps with `+proto` or the like. gRPC-Web is not: its
/// status is in its body.
pub fn is(lines: &Lines) -> bool {
    const KIND: &[u8] = b"application/grpc";
    lines.of(Name::ContentType).any(|v| {
        let kind = v.get(..KIND.len()).is_some_and(|k| k.eq_ignore_ascii_case(KIND));
        kind && matches!(v.get(KIND.len()), None | Some(b'+' | b';' | b' '))
    })
}

/// `grpc-timeout`: at most eight digits and a unit. What is malformed is no deadline, as with gRPC's own servers.
pub fn timeout(lines: &Lines) -> Option<Duration> {
    let value = lines.named(b"grpc-timeout").next()?;
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

impl Call {
    /// A call that begins.
    pub fn begin(lines: &Lines) -> Call {
        Call {
            code: None,
            timeout: timeout(lines),
            first: None,
        }
    }

    /// Takes the status out of a head or of trailers, if it is there.
    pub fn look(&mut self, lines: &Lines) {
        self.code = self.code.or_else(|| Code::read(lines));
    }

    /// The answer's body begins.
    pub fn begun(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    /// How long the client waited for the first message: that is the latency of a call. How long a stream lasts says
    /// nothing about who serves it, and a call with one message ends with it.
    pub fn latency(&self, start: Instant) -> Option<Duration> {
        self.first.map(|f| f.saturating_duration_since(start))
    }

    /// How it ended, when the whole answer is there.
    pub fn code(&self, status: u16) -> Code {
        self.code.unwrap_or_else(|| Code::of_status(status))
    }

    /// Whether a client that went away after so long did so because its time was over: clients keep their deadlines by
    /// themselves, and a backend that never answers must not look as if its clients lost their patience.
    pub fn is_over(&self, age: Duration) -> bool {
        self.timeout.is_some_and(|t| age + EARLY.min(t / 10) >= t)
    }
}

/// Our own answer to a call: trailers only, under an HTTP status that is 200 whatever went wrong.
pub fn refusal<U>(failure: Failure) -> Answer<U> {
    tracing::debug!(side = failure.side().name(), kind = failure.kind(), "{failure}");
    Answer {
        status: 200,
        lines: Lines::default(),
        framing: Framing::Empty,
        extra: vec![
            ("content-type", "application/grpc".to_owned()),
            ("grpc-status", Code::of(failure).0.to_string()),
            ("grpc-message", message(failure)),
            (HEADER_ERROR, failure.kind().to_owned()),
        ],
        body: Download::Own(Bytes::new()),
        closes: false,
        seat: None,
    }
}

/// The trailers of an answer that broke off.
pub fn trailers(code: Code, failure: Failure) -> Lines {
    let mut block = Block::default();
    let (code, message) = (code.0.to_string(), message(failure));
    for (name, value) in [("grpc-status", &code), ("grpc-message", &message)] {
        // Three short lines fit.
        let _ = block.line(name.as_bytes(), value.as_bytes());
    }
    let _ = block.line(HEADER_ERROR.as_bytes(), failure.kind().as_bytes());
    block.done()
}

/// Percent-encoded, as the protocol wants it.
fn message(failure: Failure) -> String {
    let mut out = String::new();
    for b in format!("serin: {failure}").bytes() {
        match b {
            b' '..=b'~' if b != b'%' => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(name: &str, value: &str) -> Lines {
        let mut block = Block::default();
        block.line(name.as_bytes(), value.as_bytes()).unwrap();
        block.done()
    }

    #[test]
    fn the_content_type_tells() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; x=y", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("text/plain", false),
        ] {
            assert_eq!(is(&lines("content-type", value)), grpc, "{value}");
        }
    }

    #[test]
    fn timeouts_have_a_unit() {
        for (value, millis) in [
            ("1S", Some(1000)),
            ("99999999n", Some(99)),
            ("250m", Some(250)),
            ("2M", Some(120_000)),
            ("1H", Some(3_600_000)),
            ("1500u", Some(1)),
            ("", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("123456789S", None),
            ("1s", None),
        ] {
            let found = timeout(&lines("grpc-timeout", value)).map(|t| t.as_millis());
            assert_eq!(found, millis, "{value}");
        }
    }

    #[test]
    fn codes_are_read_and_what_is_none_is_unknown() {
        for (value, code) in [
            ("0", Code(0)),
            ("14", Code::UNAVAILABLE),
            ("99", Code::UNKNOWN),
            ("x", Code::UNKNOWN),
        ] {
            assert_eq!(Code::read(&lines("grpc-status", value)), Some(code), "{value}");
        }
        assert_eq!(Code::read(&lines("grpc-message", "x")), None);
    }

    #[test]
    fn a_deadline_that_the_client_kept_is_told_from_impatience() {
        let call = Call::begin(&lines("grpc-timeout", "1S"));
        assert!(!call.is_over(Duration::from_millis(900)));
        assert!(call.is_over(Duration::from_millis(985)));
        assert!(!Call::begin(&lines("x", "y")).is_over(Duration::from_secs(1000)));
    }
}
