//! The one observation of a request: begun when it is decided, ended exactly once, whatever happens to it.

use crate::{
    error::Failure,
    evidence::{End, Mark},
    grpc,
    meter::Answer,
    mirror::{Seen, Twin},
    pool::Endpoint,
    telemetry::note::{Ending, Note},
    wire::{
        body::Framing,
        request::{Method, Protocol, Request},
    },
    worker::Lane,
};
use contract::{
    evidence::SLICES,
    latency,
    names::{Reason, Side, Track},
};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// One attempt of one request at one track.
#[derive(Debug)]
pub struct Record {
    lane: Rc<Lane>,
    track: Track,
    reason: Reason,
    start: Instant,
    /// Time that connecting took: no part of the latency, so that cold pools at low weight do not blame the canary.
    connecting: Duration,
    /// Whether it counts as evidence.
    judged: bool,
    /// Where it counts as evidence, until it has.
    mark: Option<Mark>,
    /// Where it was sent.
    endpoint: Option<Rc<Endpoint>>,
    method: Method,
    protocol: Protocol,
    status: u16,
    ended: bool,
    /// What is told of the request, if it may be told.
    note: Option<Box<Note>>,
    /// Octets of the answer's body so far, and whether all of it came.
    octets: u64,
    whole: bool,
    /// Whether it is counted with the traffic: a copy is not.
    counted: bool,
    /// Its half of a pair, if it was copied or is the copy.
    twin: Option<Twin>,
    /// What is known of it as a call of gRPC, if it is one.
    call: Option<Box<grpc::Call>>,
    /// Whether it goes on as a tunnel, which is under way long after it has ended for the evidence.
    tunnel: bool,
}

impl Record {
    /// Begins: `judged` if it counts as evidence.
    pub fn begin(
        lane: &Rc<Lane>,
        request: &Request,
        track: Track,
        reason: Reason,
        judged: bool,
        start: Instant,
    ) -> Record {
        let meter = lane.meter();
        meter.decided(track, reason);
        meter.under_way(track, 1);
        let mark = judged.then(|| meter.ring.begin(track, start - lane.birth, lane.epoch));
        let mut record = Record::aside(lane, request, track, start);
        (record.mark, record.judged, record.reason, record.counted) = (mark, judged, reason, true);
        record
    }

    /// Begins a copy: nothing of it is counted with the traffic.
    pub fn aside(lane: &Rc<Lane>, request: &Request, track: Track, start: Instant) -> Record {
        Record {
            judged: false,
            mark: None,
            endpoint: None,
            lane: Rc::clone(lane),
            track,
            reason: Reason::Weight,
            start,
            connecting: Duration::ZERO,
            method: request.method,
            protocol: request.protocol,
            status: 0,
            ended: false,
            note: None,
            octets: 0,
            whole: false,
            counted: false,
            twin: None,
            call: request
                .is_grpc
                .then(|| Box::new(grpc::Call::begin(&request.lines))),
            tunnel: false,
        }
    }

    /// Takes its half of a pair.
    pub fn twin(mut self, twin: Option<Twin>) -> Record {
        self.twin = twin;
        self
    }

    /// Notes a piece of the answer's body.
    pub fn sent(&mut self, octets: usize) {
        self.octets += octets as u64;
        if let Some(note) = self.note() {
            note.sent(octets);
        }
    }

    /// Notes how long an answer's body is that is not read.
    pub fn had(&mut self, framing: Framing) {
        if let Framing::Length(octets) = framing {
            self.octets = octets;
        }
    }

    /// Counts a request that the weight drew to the canary and that the canary, having no endpoint, could not get.
    pub fn missed(lane: &Lane, start: Instant) {
        let ring = &lane.meter().ring;
        let mark = ring.begin(Track::Canary, start - lane.birth, lane.epoch);
        ring.end(Track::Canary, mark, End::Bad, Duration::ZERO, 0);
    }

    /// Notes the endpoint that was chosen, and counts it there and in its slice of stable: that of its user, where
    /// users are split, because the requests of one user hang together; else that of the endpoint.
    pub fn goes_to(&mut self, endpoint: &Rc<Endpoint>, bucket: Option<u64>) {
        if let Some(note) = &mut self.note {
            note.goes_to(endpoint.address);
        }
        self.endpoint = Some(Rc::clone(endpoint));
        let Some(mark) = &mut self.mark else { return };
        if let Some(lap) = endpoint.lap() {
            lap.begin(mark.minute());
        }
        let of_user = bucket.map(|b| (b % SLICES as u64) as u8);
        if self.track == Track::Stable
            && let Some(slice) = of_user.or_else(|| endpoint.slice())
        {
            self.lane.meter().ring.place(mark, slice);
        }
    }

    /// Takes over what is told of the request.
    pub fn with(mut self, note: Option<Box<Note>>) -> Record {
        self.note = note;
        self
    }

    /// Ends with a failure that is not the request's end: another attempt takes over what is told.
    pub fn hand_over(&mut self, failure: Failure) -> Option<Box<Note>> {
        let mut note = self.note.take();
        if let Some(note) = &mut note {
            note.blame(Some(self.track), failure);
        }
        self.fail(failure);
        note
    }

    /// What is told of the request, for another attempt to take over: this one's answer is not passed on.
    pub fn take_note(&mut self) -> Option<Box<Note>> {
        let mut note = self.note.take();
        if let Some(note) = &mut note {
            note.replaced(self.track, self.status);
        }
        note
    }

    /// What is told of the request, to be added to.
    pub fn note(&mut self) -> Option<&mut Note> {
        self.note.as_deref_mut()
    }

    /// The lane that it runs on.
    pub fn lane(&self) -> &Rc<Lane> {
        &self.lane
    }

    /// Where it runs.
    pub fn track(&self) -> Track {
        self.track
    }

    /// Why it runs there.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether it counts as evidence.
    pub fn is_judged(&self) -> bool {
        self.judged
    }

    /// Notes how long connecting took.
    pub fn connected(&mut self, took: Duration) {
        self.connecting += took;
    }

    /// Notes the status of the answer, and what its endpoint took. To fail fast is not to be fast.
    pub fn answered(&mut self, status: u16) {
        self.status = status;
        let endpoint = self.endpoint.as_ref().filter(|e| e.is_one_of_many());
        if let Some(endpoint) = endpoint.filter(|_| status < 500) {
            let now = Instant::now();
            let took = now.saturating_duration_since(self.start);
            endpoint.took(took.saturating_sub(self.connecting), now);
        }
    }

    /// What is known of it as a call of gRPC, to be added to.
    pub fn call(&mut self) -> Option<&mut grpc::Call> {
        self.call.as_deref_mut()
    }

    /// Ends with the whole answer.
    pub fn complete(&mut self) {
        self.whole = true;
        let code = self.call.as_ref().map(|c| c.code(self.status));
        let bad = self.status >= 500 || code.is_some_and(grpc::Code::is_bad);
        self.end(if bad { End::Bad } else { End::Good }, code);
    }

    /// Ends as an upgrade: what was asked for is there. How long the tunnel lasts is no latency, and how it ends is no
    /// failure; but it is under way until this is dropped.
    pub fn switched(&mut self) {
        self.tunnel = true;
        self.complete();
    }

    /// Whether it was upgraded.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel
    }

    /// Ends with a failure.
    pub fn fail(&mut self, failure: Failure) {
        if self.ended {
            return;
        }
        let failure = match &self.call {
            Some(call) if failure == Failure::Cancelled && call.is_over(self.start.elapsed()) => {
                Failure::Timeout
            }
            _ => failure,
        };
        if self.counted {
            self.lane.meter().failed(self.track, failure);
        }
        if let Some(note) = &mut self.note {
            note.blame(Some(self.track), failure);
        }
        if self.status == 0 {
            self.status = failure.status();
        }
        let end = match (failure.side(), failure) {
            (Side::Backend, _) => End::Bad,
            (_, Failure::Cancelled) => End::Cancelled,
            _ => End::Nobody,
        };
        self.end(end, Some(grpc::Code::of(failure)));
    }

    fn end(&mut self, end: End, code: Option<grpc::Code>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Some(note) = self.note.take() {
            self.tell(note, code.filter(|_| self.call.is_some()));
        }
        let (meter, track) = (self.lane.meter(), self.track);
        let age = self.start.elapsed();
        let nanos = self.waited(age);
        if let Some(twin) = self.twin.take() {
            twin.end(meter, self.seen(nanos));
        }
        if !self.counted {
            return;
        }
        if !self.tunnel {
            meter.under_way(track, u64::MAX);
        }
        if let (Some(_), Some(code)) = (&self.call, code) {
            meter.called(track, self.judged, code);
        }
        meter.took(track, self.judged, nanos);
        meter.answers.add(Answer::new(
            track,
            self.judged,
            self.status,
            self.method,
            self.protocol,
        ));
        self.judge(end, age, latency::bucket(nanos));
    }

    /// Ends as evidence, once.
    fn judge(&mut self, end: End, age: Duration, bucket: usize) {
        let Some(mark) = self.mark.take() else { return };
        let (meter, track) = (self.lane.meter(), self.track);
        meter.ring.end(track, mark, end, age, bucket);
        if matches!(end, End::Good | End::Bad) {
            meter.pulse.end(self.lane.epoch, track, end == End::Bad);
        }
        if let Some(lap) = self.endpoint.as_ref().and_then(|e| e.lap()) {
            lap.end(mark.minute(), end == End::Bad, bucket);
        }
    }

    /// How long the client waited, as latency.
    fn waited(&self, age: Duration) -> u64 {
        let waited = self.call.as_ref().and_then(|c| c.latency(self.start));
        let waited = waited.unwrap_or(age).saturating_sub(self.connecting);
        u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Ends as evidence, as good, while the answer goes on: a stream that has begun well. How it ends is counted later.
    pub fn settle(&mut self) {
        let age = self.start.elapsed();
        let bucket = latency::bucket(self.waited(age));
        self.judge(End::Good, age, bucket);
    }

    fn seen(&self, nanos: u64) -> Seen {
        Seen {
            status: self.status,
            whole: self.whole,
            nanos,
            octets: self.octets,
        }
    }

    fn tell(&self, note: Box<Note>, grpc: Option<grpc::Code>) {
        note.end(&Ending {
            service: Some(self.lane.service()),
            choice: Some((self.track, self.reason)),
            status: self.status,
            grpc,
            connecting: self.connecting,
        });
    }
}

impl Drop for Record {
    /// Whoever drops a request that has not ended has lost its client.
    fn drop(&mut self) {
        self.fail(Failure::Cancelled);
        if self.tunnel {
            self.lane.meter().under_way(self.track, u64::MAX);
        }
    }
}
