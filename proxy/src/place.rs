//! A request's place at an endpoint of its track, and what the outcome says about that endpoint.

use crate::{
    balance::{Candidates, Picked},
    clock::Patience,
    error::Failure,
    handle::{Failed, Tried, Trip},
    pool::Busy,
    queue::Ticket,
    upstream::Upload,
};
use contract::names::{Side, Track};
use std::{
    future::poll_fn,
    net::SocketAddr,
    task::{Context, Poll},
    time::Instant,
};

impl Trip<'_> {
    /// A place now. `None` when it must be waited for.
    pub(crate) fn place(&self, track: Track, avoid: Option<SocketAddr>) -> Option<Result<Busy, Failure>> {
        // Nobody overtakes who waits.
        if self.lane.limit().is_some() && !self.lane.queue(track).is_empty() {
            return None;
        }
        self.try_place(track, avoid)
    }

    fn try_place(&self, track: Track, avoid: Option<SocketAddr>) -> Option<Result<Busy, Failure>> {
        let candidates = Candidates {
            endpoints: self.lane.endpoints(track),
            avoid,
            limit: self.lane.limit(),
            slow_start: self.lane.route.resilience.slow_start,
            now: self.start,
        };
        match candidates.pick(|| self.worker.random()) {
            Picked::At(endpoint) => Some(Ok(endpoint.occupy())),
            Picked::Nobody => Some(Err(Failure::NoEndpoints)),
            Picked::Full => None,
        }
    }

    /// Waits until an endpoint has room, in the order of coming, and not for ever.
    pub(crate) async fn wait_for_room<U: Upload>(
        &self,
        track: Track,
        avoid: Option<SocketAddr>,
        upload: &mut U,
    ) -> Result<Busy, Failed> {
        let queue = self.lane.queue(track);
        let failed = |failure| Failed { failure, at: None };
        if queue.len() >= self.lane.max_pending() {
            return Err(failed(Failure::Saturated));
        }
        let ticket = queue.ticket();
        upload.alarm().wait(Patience {
            each: self.lane.route.resilience.pending_timeout,
            ..self.deadlines.head
        });
        let found = poll_fn(|cx| self.poll_room(track, avoid, &ticket, upload, cx)).await;
        upload.alarm().wait(self.deadlines.head);
        found.map_err(failed)
    }

    fn poll_room<U: Upload>(
        &self,
        track: Track,
        avoid: Option<SocketAddr>,
        ticket: &Ticket,
        upload: &mut U,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Busy, Failure>> {
        if ticket.is_first()
            && let Some(found) = self.try_place(track, avoid)
        {
            return Poll::Ready(found);
        }
        if upload.alarm().rings(cx) {
            return Poll::Ready(Err(Failure::Saturated));
        }
        if upload.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failure::Cancelled));
        }
        ticket.wait(cx);
        Poll::Pending
    }

    /// Notes what an attempt says about its endpoint: one that fails again and again is left alone for a while.
    pub(crate) fn note_outcome(&self, track: Track, tried: &Tried) {
        match tried {
            Ok((head, lease)) if !matches!(head.status, 502..=504) => lease.endpoint().did_well(),
            Ok((_, lease)) => self.stumbled(track, lease.endpoint().address, false),
            Err(failed) if failed.failure.side() == Side::Backend => {
                if let Some(at) = failed.at {
                    self.stumbled(track, at, failed.failure.is_unreachable());
                }
            }
            Err(_) => {}
        }
    }

    fn stumbled(&self, track: Track, at: SocketAddr, certain: bool) {
        let all = self.lane.endpoints(track);
        let Some(endpoint) = all.iter().find(|e| e.address == at) else {
            return;
        };
        let ejection = &self.lane.route.resilience.ejection;
        if endpoint.stumbled(all, ejection, certain, Instant::now(), self.worker.random()) {
            tracing::info!(
                service = self.lane.route.source.service,
                track = track.name(),
                endpoint = %at,
                "the endpoint keeps failing and is left alone for a while"
            );
            self.lane.meter().ejected(track);
        }
    }
}
