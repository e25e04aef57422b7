//! Until when the steps of a request must have happened.

use crate::{
    clock::{Moment, Patience},
    resilience::Resilience,
    wire::{body::Framing, lines::Lines, request::Request, response::Head},
    worker::Worker,
};
use std::time::Duration;

/// What the parts of one request may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From here to the head of an answer: the time of one attempt, and of all together.
    pub head: Patience,
    /// The end of it all.
    total: Moment,
}

impl Deadlines {
    /// Those of a request that begins now. The time of one with a body counts from its last octet, because the client
    /// decides how long that takes.
    pub fn begin(worker: &Worker, resilience: &Resilience, request: &Request) -> Deadlines {
        let all = resilience
            .request_timeout
            .unwrap_or(worker.settings.request_timeout);
        let each = resilience.try_timeout.map_or(all, |t| t.min(all));
        let endless = request.framing == Framing::Chunked && is_stream(&request.lines);
        let total = match resilience.total_timeout {
            Some(total) if !endless => worker.clock.after(total),
            _ => Moment::NEVER,
        };
        let latest = if request.framing == Framing::Empty {
            worker.clock.after(all).min(total)
        } else {
            total
        };
        Deadlines {
            head: Patience { each, latest },
            total,
        }
    }

    /// What the body of an answer may take, from one octet to the next and as a whole.
    pub fn body(&self, head: &Head, idle: Duration) -> Patience {
        // What has a length is no stream.
        let open = matches!(head.framing, Framing::Chunked | Framing::Close);
        Patience {
            each: idle,
            latest: if open && is_stream(&head.lines) {
                Moment::NEVER
            } else {
                self.total
            },
        }
    }
}

/// Whether a body of this type has no natural end: server-sent events, and gRPC.
fn is_stream(lines: &Lines) -> bool {
    let begins = |value: &[u8], kind: &[u8]| {
        let start = value.get(..kind.len());
        start.is_some_and(|s| s.eq_ignore_ascii_case(kind))
    };
    lines
        .named(b"content-type")
        .any(|v| begins(v, b"text/event-stream") || begins(v, b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn streams_are_told_by_their_type() {
        for (value, stream) in [
            ("text/event-stream; charset=utf-8", true),
            ("Text/Event-Stream", true),
            ("application/grpc+proto", true),
            ("text/event", false),
            ("text/html", false),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\nContent-Type: {value}\r\n\r\n");
            let (head, _) = Head::parse(&Bytes::from(text), false).unwrap().unwrap();
            assert_eq!(is_stream(&head.lines), stream, "{value}");
        }
    }
}
