//! One request, from its head to the head of its answer. Read this first: it is the whole way in order.

use crate::{
    again::{Course, give_up},
    choose::{self, Choice, choose},
    deadline::Deadlines,
    error::Failure,
    forwarding,
    front::Peer,
    grpc,
    headers::{self, Identities},
    line::Line,
    meter, mirror,
    overload::Seat,
    record::Record,
    stream::{Answer, Download},
    telemetry::note::{Ending, Note},
    upstream::Upload,
    wire::{body::Framing, lines::Lines, name::Name, request::Request, response::Head},
    worker::{Lane, Lot, Worker},
};
use contract::names::{HEADER_DEBUG, HEADER_ERROR, HEADER_REASON, HEADER_TRACK, Reason, Track};
use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

/// What is decided about a request before anything is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub track: Track,
    pub reason: Reason,
    /// Whether its outcome is evidence.
    pub judged: bool,
    /// Whether it asked for a track by itself.
    pub opted: bool,
}

/// Answers one request. Whatever goes wrong becomes an answer too.
pub async fn handle<U: Upload>(worker: &Rc<Worker>, request: &Request, peer: &Peer, upload: U) -> Answer<U> {
    let Some(seat) = Seat::take(worker) else {
        worker.rejected(peer, request.protocol, Failure::Shed);
        return refuse(request, Failure::Shed);
    };
    let mut answer = admitted(worker, request, peer, upload).await;
    answer.seat = Some(seat);
    answer
}

async fn admitted<U: Upload>(worker: &Rc<Worker>, request: &Request, peer: &Peer, upload: U) -> Answer<U> {
    let start = Instant::now();
    let view = worker.view();
    let client = forwarding::client(&request.lines, peer, &worker.settings.trusted_proxies);
    let mut ids = Identities::new([worker.random(), worker.random(), worker.random()]);
    let mut note = None;
    if let Some(teller) = &worker.teller {
        ids.traced = teller.span(request, &ids);
        note = teller.note(request, client, ids, start);
    }
    let Some(lane) = view.find(request.host()) else {
        return stray(worker, request, note, Failure::NoRoute);
    };
    if headers::loops(request, &worker.shared.via) {
        return stray(worker, request, note, Failure::Loop);
    }
    let choice = choose(&lane.route.rules, request, client, &mut Lot { worker, lane });
    let plan = plan(lane, request, choice, start);
    let mut answer = match plan {
        Ok(plan) => {
            let trip = Trip {
                worker,
                lane,
                request,
                peer,
                start,
                bucket: choice.bucket,
                ids,
                deadlines: Deadlines::begin(worker, &lane.route.resilience, request),
            };
            // A box of its own: malloc keeps blocks of up to 1 KiB at hand, and all in one would be larger.
            let mut answer = Box::pin(trip.go(plan, note, upload)).await;
            trip.mark(plan, &mut answer);
            answer
        }
        Err(failure) => {
            lane.meter().failed(choice.track, failure);
            unplaced(request, note, Some((lane, choice)), failure);
            refuse(request, failure)
        }
    };
    if let Some(cookie) = choice.cookie {
        let text = format!(
            "{}={}; Path=/; HttpOnly",
            choose::COHORT_COOKIE,
            choose::identity(cookie)
        );
        answer.extra.push(("set-cookie", text));
    }
    answer
}

/// The choice, corrected when its track is empty ([`crate::table::Route::stands_in`]); a canary that was drawn and is empty is
/// charged.
fn plan(lane: &Rc<Lane>, request: &Request, choice: Choice, start: Instant) -> Result<Plan, Failure> {
    let judged = choice.reason.is_evidence() && !request.lines.has(Name::Synthetic);
    let plan = Plan {
        track: choice.track,
        reason: choice.reason,
        judged,
        opted: !choice.reason.is_evidence(),
    };
    let track = lane.route.stands_in(choice.track, plan.opted);
    if track == Some(choice.track) {
        return Ok(plan);
    }
    if choice.track == Track::Canary && judged {
        Record::missed(lane, start);
    }
    let other = track.ok_or(Failure::NoEndpoints)?;
    Ok(Plan {
        track: other,
        reason: Reason::FallbackEmpty,
        judged: false,
        ..plan
    })
}

/// A request that was refused before a route was known.
fn stray<U>(worker: &Worker, request: &Request, note: Option<Box<Note>>, failure: Failure) -> Answer<U> {
    meter::add_shared(&worker.shared.strays[failure.index()]);
    unplaced(request, note, None, failure);
    refuse(request, failure)
}

/// Tells of a request that was sent nowhere.
fn unplaced(request: &Request, note: Option<Box<Note>>, chosen: Option<(&Lane, Choice)>, failure: Failure) {
    let Some(mut note) = note else { return };
    note.blame(chosen.map(|(_, c)| c.track), failure);
    note.end(&Ending {
        service: chosen.map(|(lane, _)| lane.service()),
        choice: chosen.map(|(_, c)| (c.track, c.reason)),
        status: failure.status(),
        grpc: request.is_grpc.then(|| grpc::Code::of(failure)),
        connecting: Duration::ZERO,
    });
}

/// An answer of our own.
pub fn refuse<U>(request: &Request, failure: Failure) -> Answer<U> {
    if request.is_grpc {
        return grpc::refusal(failure);
    }
    refusal(failure, request.framing != Framing::Empty)
}

/// An answer of our own; `closes` when what follows on the connection cannot be trusted or was not read.
pub fn refusal<U>(failure: Failure, closes: bool) -> Answer<U> {
    tracing::debug!(side = failure.side().name(), kind = failure.kind(), "{failure}");
    let text = format!("serin: {failure}\n");
    let mut extra = vec![
        (HEADER_ERROR, failure.kind().to_owned()),
        ("content-type", "text/plain; charset=utf-8".to_owned()),
    ];
    if failure.passes() {
        extra.push(("retry-after", "1".to_owned()));
    }
    Answer {
        status: failure.status(),
        lines: Lines::default(),
        framing: Framing::Length(text.len() as u64),
        extra,
        body: Download::Own(text.into()),
        closes,
        seat: None,
    }
}

/// One request with a plan.
pub(crate) struct Trip<'a> {
    pub worker: &'a Rc<Worker>,
    pub lane: &'a Rc<Lane>,
    pub request: &'a Request,
    pub peer: &'a Peer,
    pub start: Instant,
    /// The bucket of its user, if users are split.
    pub bucket: Option<u64>,
    /// What it is called where its client gave it no name.
    pub ids: Identities,
    pub deadlines: Deadlines,
}

/// What is known after an attempt that failed.
pub(crate) struct Failed {
    pub failure: Failure,
    /// Where it was tried.
    pub at: Option<SocketAddr>,
}

/// What an attempt came to.
pub(crate) type Tried = Result<(Head, Line), Failed>;

impl Trip<'_> {
    /// The first attempt, and at most one more at another endpoint of the track, one at stable instead of the canary,
    /// and one at another endpoint there. Only the first one is evidence.
    async fn go<U: Upload>(&self, plan: Plan, note: Option<Box<Note>>, mut upload: U) -> Answer<U> {
        let mut sending = self.sending();
        let mut record = self
            .record(plan.track, plan.reason, plan.judged, self.start)
            .with(note);
        if self.lane.route.mirror.is_some() {
            record = record.twin(mirror::send(self, plan));
        }
        let mut course = Course::default();
        let mut avoid = None;
        let tried = loop {
            upload.alarm().wait(self.deadlines.head);
            let tried = self.attempt(&mut record, avoid, &mut sending, &mut upload).await;
            self.note_outcome(record.track(), &tried);
            let Some(next) = self.next(plan, &mut course, &record, &tried) else {
                break tried;
            };
            let note = give_up(record, tried);
            record = self
                .record(next.track, next.reason, false, Instant::now())
                .with(note);
            avoid = next.avoid;
            sending.rewind();
        };
        match tried {
            Ok((head, lease)) => self.answer(head, lease, sending, upload, record),
            Err(failed) => {
                upload.alarm().clear();
                record.fail(failed.failure);
                refuse(self.request, failed.failure)
            }
        }
    }

    fn record(&self, track: Track, reason: Reason, judged: bool, start: Instant) -> Record {
        Record::begin(self.lane, self.request, track, reason, judged, start)
    }

    /// Says who served and why: to who may ask, and to who asked for a track that was empty.
    fn mark<U: Upload>(&self, plan: Plan, answer: &mut Answer<U>) {
        let asks = self.worker.settings.debug_headers
            && self.request.lines.has(Name::Debug)
            && self.request.lines.named(HEADER_DEBUG.as_bytes()).next() == Some(b"1");
        let diverted = plan.opted && plan.reason == Reason::FallbackEmpty;
        let Download::Flow(flow) = &answer.body else {
            return;
        };
        let (track, reason) = flow.served();
        if asks || diverted {
            answer.extra.push((HEADER_TRACK, track.name().to_owned()));
        }
        if asks {
            answer.extra.push((HEADER_REASON, reason.name().to_owned()));
        }
    }
}
