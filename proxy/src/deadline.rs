//! Until when the steps of a request must have happened.

use crate::{
    clock::{Moment, Patience},
    grpc,
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
    /// The end that the client asked for: it holds for streams too.
    asked: Moment,
}

impl Deadlines {
    /// Those of a request that begins now. The time of one with a body counts from its last octet, because the client
    /// decides how long that takes.
    pub fn begin(worker: &Worker, resilience: &Resilience, request: &Request) -> Deadlines {
        let asked = request.is_grpc.then(|| grpc::timeout(&request.lines)).flatten();
        let asked = asked.map_or(Moment::NEVER, |t| worker.clock.after(t));
        // A stream of gRPC may be silent for long before its head, and nothing tells it from a single call: its client
        // sets the deadline, or nobody does.
        let usual = match request.is_grpc {
            true => worker.settings.stream_idle_timeout,
            false => worker.settings.request_timeout,
        };
        let all = resilience.request_timeout.unwrap_or(usual);
        let each = resilience.try_timeout.map_or(all, |t| t.min(all));
        let endless = request.framing == Framing::Chunked && is_stream(&request.lines);
        let total = match resilience.total_timeout {
            Some(total) if !endless => worker.clock.after(total),
            _ => Moment::NEVER,
        }
        .min(asked);
        let latest = if request.framing == Framing::Empty {
            worker.clock.after(all).min(total)
        } else {
            total
        };
        Deadlines {
            head: Patience { each, latest },
            total,
            asked,
        }
    }

    /// What the body of an answer may take, from one octet to the next and as a whole.
    pub fn body(&self, head: &Head, idle: Duration) -> Patience {
        Patience {
            each: idle,
            latest: if is_open_stream(head) {
                self.asked
            } else {
                self.total
            },
        }
    }
}

/// Whether an answer is a stream. What has a length is none.
pub fn is_open_stream(head: &Head) -> bool {
    matches!(head.framing, Framing::Chunked | Framing::Close) && is_stream(&head.lines)
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
