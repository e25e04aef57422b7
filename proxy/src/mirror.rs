//! Copies of requests for a canary that has no weight yet: sent beside the original, never before it and never instead.
//! The answer is dropped; what is kept is how it differed. Nothing of it is evidence, and nobody waits for it.

use crate::{
    clock::Alarm,
    deadline::Deadlines,
    error::Failure,
    front::Peer,
    handle::{Plan, Trip},
    headers::Identities,
    meter::{Meter, Mirror},
    record::Record,
    stream::Answer,
    upstream::{Piece, Upload},
    wire::{body::Framing, lines::Lines, request::Request},
    worker::{Lane, Worker},
};
use contract::names::{HEADER_MIRROR, Track};
use std::{
    cell::Cell,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// Most copies under way on one worker: beyond it they are dropped, so that a canary that hangs costs no more.
const MOST: u32 = 32;
/// A copy is given up after this time, whatever the request's own deadline is.
const LONGEST: Duration = Duration::from_secs(10);
/// An answer is read up to here, so that its connection can be used again; a larger one is not worth it.
const READ: u64 = 256 * 1024;

/// How an original or its copy ended.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its status.
    pub status: u16,
    /// Whether the whole answer came.
    pub whole: bool,
    /// From the connection on.
    pub nanos: u64,
    /// Octets of the answer's body.
    pub octets: u64,
}

/// What an original and its copy have in common: whoever ends last compares.
#[derive(Debug, Default)]
pub struct Pair {
    ends: Cell<[Option<Seen>; 2]>,
}

/// One of two.
#[derive(Debug)]
pub struct Twin {
    pair: Rc<Pair>,
    track: Track,
}

impl Twin {
    /// Notes its end.
    pub fn end(self, meter: &Meter, seen: Seen) {
        let mut ends = self.pair.ends.get();
        ends[self.track.index()] = Some(seen);
        self.pair.ends.set(ends);
        if let [Some(original), Some(copy)] = ends {
            meter.mirrored(outcome(original, copy));
            // What was not read to the end took as long as we read.
            if original.whole && copy.whole && copy.octets <= READ {
                meter.mirror_durations[0].add(original.nanos);
                meter.mirror_durations[1].add(copy.nanos);
            }
        }
    }
}

/// How a copy differed from what its client got.
fn outcome(original: Seen, copy: Seen) -> Mirror {
    match (original.whole, copy.whole) {
        // Nothing to compare with.
        (false, _) => Mirror::Dropped,
        (_, false) => Mirror::Failed,
        _ if original.status != copy.status => Mirror::StatusDiffers,
        _ if original.octets.min(READ) != copy.octets.min(READ) => Mirror::SizeDiffers,
        _ => Mirror::Same,
    }
}

/// Sends a copy of a request, if it is one of the share and there is room for it. What the original's record is to tell.
pub(crate) fn send(trip: &Trip<'_>, plan: Plan) -> Option<Twin> {
    let split = trip.lane.route.mirror?;
    let wanted = plan.track == Track::Stable && plan.judged && trip.request.is_replay_safe();
    if !wanted || trip.request.upgrades || !trip.lane.draws_copy(split, trip.worker) {
        return None;
    }
    let worker = Rc::clone(trip.worker);
    if worker.copies.get() >= MOST || worker.shared.is_draining() || !trip.lane.route.has(Track::Canary) {
        trip.lane.meter().mirrored(Mirror::Dropped);
        return None;
    }
    let pair = Rc::<Pair>::default();
    let twin = |track| Twin {
        pair: Rc::clone(&pair),
        track,
    };
    let copy = Copied {
        guest: Guest::new(&worker),
        lane: Rc::clone(trip.lane),
        request: trip.request.clone(),
        peer: trip.peer.clone(),
        ids: trip.ids,
        twin: twin(Track::Canary),
    };
    tokio::task::spawn_local(async move {
        // A copy that is given up is dropped, and its record tells of that.
        let _ = tokio::time::timeout(LONGEST, copy.run()).await;
    });
    Some(twin(Track::Stable))
}

/// One copy.
struct Copied {
    guest: Guest,
    lane: Rc<Lane>,
    request: Request,
    peer: Peer,
    ids: Identities,
    twin: Twin,
}

impl Copied {
    async fn run(self) {
        let worker = &self.guest.0;
        let trip = Trip {
            worker,
            lane: &self.lane,
            request: &self.request,
            peer: &self.peer,
            start: Instant::now(),
            bucket: None,
            ids: self.ids,
            deadlines: Deadlines::begin(worker, &self.lane.route.resilience, &self.request),
        };
        let mut record =
            Record::aside(&self.lane, &self.request, Track::Canary, trip.start).twin(Some(self.twin));
        let mut upload = Nothing(worker.clock.alarm());
        let mut sending = trip.sending();
        sending.add_line(HEADER_MIRROR, b"1");
        upload.0.wait(trip.deadlines.head);
        match trip.attempt(&mut record, None, &mut sending, &mut upload).await {
            Ok((head, line)) if is_long(head.framing) => {
                record.answered(head.status);
                record.had(head.framing);
                record.complete();
                line.discard(&head);
            }
            Ok((head, line)) => drain(trip.answer(head, line, sending, upload, record)).await,
            Err(failed) => record.fail(failed.failure),
        }
    }
}

/// Whether the length is known and not worth reading.
fn is_long(framing: Framing) -> bool {
    matches!(framing, Framing::Length(n) if n > READ)
}

/// Reads an answer away, so far as that is worth it.
async fn drain<U: Upload>(mut answer: Answer<U>) {
    let mut octets = 0;
    while octets <= READ {
        match poll_fn(|cx| answer.body.poll_piece(cx)).await {
            Ok(Piece::Data(data)) => octets += data.len() as u64,
            Ok(Piece::End(_)) | Err(_) => return,
        }
    }
    answer.body.enough();
}

/// A request without a body and without a client.
struct Nothing(Alarm);

impl Upload for Nothing {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Result<Piece, Failure>> {
        Poll::Ready(Ok(Piece::End(None)))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn alarm(&self) -> &Alarm {
        &self.0
    }

    fn switch(&mut self) {}

    fn interim(&mut self, _: u16, _: &Lines, _: &mut Context<'_>) {}
}

/// Counts a copy while it lives.
struct Guest(Rc<Worker>);

impl Guest {
    fn new(worker: &Rc<Worker>) -> Guest {
        worker.copies.set(worker.copies.get() + 1);
        Guest(Rc::clone(worker))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.copies.set(self.0.copies.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_apart() {
        let seen = |status, whole, octets| Seen {
            status,
            whole,
            nanos: 1,
            octets,
        };
        let good = seen(200, true, 10);
        assert_eq!(outcome(good, good), Mirror::Same);
        assert_eq!(outcome(good, seen(200, true, 11)), Mirror::SizeDiffers);
        assert_eq!(outcome(good, seen(500, true, 10)), Mirror::StatusDiffers);
        assert_eq!(outcome(good, seen(502, false, 0)), Mirror::Failed);
        assert_eq!(outcome(seen(499, false, 0), good), Mirror::Dropped);
        let long = |octets| seen(200, true, octets);
        assert_eq!(
            outcome(long(READ + 7), long(READ + 1)),
            Mirror::Same,
            "not read to the end"
        );
    }
}
