//! What a worker remembers of a request that may be told: no copy is made before it is.

use super::{
    Tap,
    entry::{Entry, LONGEST, SHORT, Said, text},
    trace::{Parent, Span},
};
use crate::{
    choose,
    config::Settings,
    error::Failure,
    grpc,
    headers::{self, Identities},
    service::Service,
    wire::{name::Name, request::Request},
};
use bytes::Bytes;
use contract::names::{Reason, Track};
use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Notes that a thread keeps for use again: none is allocated while no more requests than these are under way.
const SPARES: usize = 256;

/// What one worker tells with.
#[derive(Debug)]
pub struct Teller {
    log: Option<Tap>,
    spans: Option<Tap>,
    /// A request is told when its random number is below.
    log_below: u64,
    span_below: u64,
    failures_always: bool,
    query: bool,
    user_agent: bool,
}

thread_local! {
    // Boxes are what is kept: they are handed out again as they are.
    #[allow(clippy::vec_box)]
    static SPARE: RefCell<Vec<Box<Note>>> = const { RefCell::new(Vec::new()) };
}

/// A request under way that may be told.
#[derive(Debug)]
pub struct Note {
    teller: Rc<Teller>,
    head: Gist,
    start: Instant,
    client: IpAddr,
    ids: Identities,
    /// Whether it is told however it ends.
    sampled: bool,
    attempts: u32,
    blame: Option<(Option<Track>, Failure)>,
    /// An answer that another attempt took the place of.
    replaced: Option<(Track, u16)>,
    endpoint: Option<SocketAddr>,
    received: u64,
    sent: u64,
}

/// Where the parts of a head lie in its block.
#[derive(Clone, Debug, Default)]
pub struct Gist {
    block: Bytes,
    method: (u16, u16),
    target: (u16, u16),
    host: (u16, u16),
    request_id: (u16, u16),
    parent: (u16, u16),
    user_agent: (u16, u16),
    protocol: &'static str,
}

/// How a request ended.
#[derive(Debug)]
pub struct Ending<'a> {
    /// Its service, if it had one.
    pub service: Option<&'a Arc<Service>>,
    /// Who served, or would have, and why.
    pub choice: Option<(Track, Reason)>,
    /// Its status.
    pub status: u16,
    /// Its status as a call of gRPC, if it is one.
    pub grpc: Option<grpc::Code>,
    /// How long connecting took.
    pub connecting: Duration,
}

impl Ending<'_> {
    /// Whether it counts as bad by its status.
    fn is_bad(&self) -> bool {
        self.status >= 500 || self.grpc.is_some_and(grpc::Code::is_bad)
    }
}

impl Teller {
    /// With the ends of its queues.
    pub fn new(log: Option<Tap>, spans: Option<Tap>, settings: &Settings) -> Teller {
        let entry = settings.access_log.as_ref();
        Teller {
            log_below: below(entry.filter(|_| log.is_some()).map_or(0.0, |e| e.sample)),
            span_below: below(settings.tracing.as_ref().map_or(0.0, |t| t.sample)),
            failures_always: log.is_some() && entry.is_some_and(|e| e.failures_always),
            query: entry.is_some_and(|e| e.query),
            user_agent: entry.is_some_and(|e| e.user_agent),
            log,
            spans,
        }
    }

    /// The span of a request that is exported: as its trace says, or by chance where it has none.
    pub fn span(&self, request: &Request, ids: &Identities) -> Option<Span> {
        self.spans.as_ref()?;
        let parent = request.lines.of(Name::Trace).next().and_then(Parent::parse);
        let sampled = parent.map_or(ids.chance() < self.span_below, |p| p.sampled);
        sampled.then(|| Span {
            trace: parent.map_or_else(|| ids.trace(), |p| p.trace),
            id: ids.span(),
            parent: parent.map(|p| p.span),
        })
    }

    /// Remembers a request, if it may be told.
    pub fn note(
        self: &Rc<Teller>,
        request: &Request,
        client: IpAddr,
        ids: Identities,
        start: Instant,
    ) -> Option<Box<Note>> {
        let sampled = ids.chance() < self.log_below;
        if !(sampled || ids.traced.is_some() || self.failures_always) {
            return None;
        }
        let note = Note {
            teller: Rc::clone(self),
            head: Gist::of(request, self.user_agent),
            start,
            client,
            ids,
            sampled,
            attempts: 0,
            blame: None,
            replaced: None,
            endpoint: None,
            received: 0,
            sent: 0,
        };
        Some(match SPARE.with_borrow_mut(Vec::pop) {
            Some(mut place) => {
                *place = note;
                place
            }
            None => Box::new(note),
        })
    }

    /// Tells of what was no request.
    pub fn rejected(&self, client: IpAddr, protocol: &'static str, failure: Failure) {
        let Some(log) = self.log.as_ref().filter(|_| self.failures_always) else {
            return;
        };
        log.put(Box::new(Entry {
            ended: SystemTime::now(),
            took: Duration::ZERO,
            connecting: Duration::ZERO,
            service: None,
            choice: None,
            said: Said::default(),
            client,
            protocol,
            status: failure.status(),
            grpc: None,
            received: 0,
            sent: 0,
            endpoint: None,
            attempts: 0,
            blame: Some((None, failure)),
            replaced: None,
            trace: None,
            span: None,
        }));
    }

    fn tell(&self, note: &Note, ending: &Ending<'_>) {
        let failed = note.blame.is_some() || note.replaced.is_some() || ending.is_bad();
        let told = note.sampled || failed && self.failures_always;
        let log = self.log.as_ref().filter(|_| told);
        let spans = self.spans.as_ref().filter(|_| note.ids.traced.is_some());
        match (log, spans) {
            (None, None) => {}
            (Some(tap), None) | (None, Some(tap)) => tap.put(Box::new(note.entry(ending))),
            (Some(log), Some(spans)) => {
                let entry = Box::new(note.entry(ending));
                log.put(entry.clone());
                spans.put(entry);
            }
        }
    }
}

/// A share as the number that a random one must be below.
fn below(share: f64) -> u64 {
    if share >= 1.0 {
        return u64::MAX;
    }
    // Saturates at both ends.
    (share * u64::MAX as f64) as u64
}

impl Note {
    /// It is sent once more, or for the first time.
    pub fn goes_to(&mut self, endpoint: SocketAddr) {
        self.attempts += 1;
        self.endpoint = Some(endpoint);
    }

    /// Something failed. The first failure is the one to be told: what came after was made good or was its consequence.
    pub fn blame(&mut self, track: Option<Track>, failure: Failure) {
        self.blame.get_or_insert((track, failure));
    }

    /// A track's answer with this status was not passed on: another attempt follows.
    pub fn replaced(&mut self, track: Track, status: u16) {
        self.replaced.get_or_insert((track, status));
    }

    /// So much of the answer's body has come.
    pub fn sent(&mut self, octets: usize) {
        self.sent += octets as u64;
    }

    /// So much of the request's body was sent, in all.
    pub fn received(&mut self, octets: u64) {
        self.received = octets;
    }

    /// It has ended: tells it, if it is to be told.
    pub fn end(mut self: Box<Note>, ending: &Ending<'_>) {
        let teller = Rc::clone(&self.teller);
        teller.tell(&self, ending);
        // The block may hold a whole read of the socket.
        self.head = Gist::default();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARES {
                spare.push(self);
            }
        });
    }

    fn entry(&self, ending: &Ending<'_>) -> Entry {
        Entry {
            ended: SystemTime::now(),
            took: self.start.elapsed(),
            connecting: ending.connecting,
            service: ending.service.map(Arc::clone),
            choice: ending.choice,
            said: self.said(),
            client: self.client,
            protocol: self.head.protocol,
            status: ending.status,
            grpc: ending.grpc,
            received: self.received,
            sent: self.sent,
            endpoint: self.endpoint,
            attempts: self.attempts,
            blame: self.blame,
            replaced: self.replaced,
            trace: self.trace(),
            span: self.ids.traced,
        }
    }

    fn said(&self) -> Said {
        let head = &self.head;
        let (path, query) = choose::split(head.part(head.target));
        let id = head.part(head.request_id);
        let agent = head.part(head.user_agent);
        Said {
            method: text(head.part(head.method), SHORT),
            path: text(path, LONGEST),
            query: match self.teller.query {
                true => text(query, LONGEST),
                false => String::new(),
            },
            host: text(head.part(head.host), SHORT),
            request_id: match id {
                [] => text(&self.ids.request(), SHORT),
                id => text(id, SHORT),
            },
            user_agent: text(agent, LONGEST),
        }
    }

    /// The trace that the backend was told.
    fn trace(&self) -> Option<String> {
        let parent = self.head.part(self.head.parent);
        let of_client = || Parent::parse(parent).map(|p| text(&p.trace, SHORT));
        match self.ids.traced {
            Some(span) => Some(text(&span.trace, SHORT)),
            None if parent.is_empty() => Some(text(&self.ids.trace(), SHORT)),
            None => of_client(),
        }
    }
}

impl Gist {
    fn of(request: &Request, user_agent: bool) -> Gist {
        let lines = &request.lines;
        let value = |class| match lines.has(class) {
            true => lines.of(class).next().map(|v| lines.place_of(v)),
            false => None,
        };
        let agent = || lines.named(headers::USER_AGENT).next().map(|v| lines.place_of(v));
        Gist {
            block: lines.block(),
            method: lines.place_of(request.method_text()),
            target: lines.place_of(request.target()),
            host: lines.place_of(request.host()),
            request_id: value(Name::RequestId).unwrap_or_default(),
            parent: value(Name::Trace).unwrap_or_default(),
            user_agent: user_agent.then(agent).flatten().unwrap_or_default(),
            protocol: request.protocol.name(),
        }
    }

    fn part(&self, place: (u16, u16)) -> &[u8] {
        self.block
            .get(usize::from(place.0)..usize::from(place.1))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_limits() {
        assert_eq!((below(0.0), below(1.0), below(-1.0)), (0, u64::MAX, 0));
        assert_eq!(below(0.5), 1 << 63);
    }
}
