//! One attempt at one endpoint: a connection, the request out, the head of its answer in.

use crate::{
    balance,
    clock::Patience,
    error::Failure,
    handle::{Failed, Trip},
    headers::{self, Journey},
    pool::{Busy, Lease},
    record::Record,
    stream::{Answer, Download, Flow},
    upstream::{Sending, Upload, Wait, poll_head},
    wire::{body::Framing, lines::items, name::Name, request::Method, response::Head},
};
use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Instant,
};

impl Trip<'_> {
    pub(crate) fn sending(&self) -> Sending {
        let journey = Journey {
            peer: self.peer,
            via: &self.worker.shared.via,
            ids: &self.ids,
        };
        Sending::new(self.request.framing, |out| {
            headers::request(self.request, &journey, out)
        })
    }

    /// One attempt at the record's track.
    pub(crate) async fn attempt<U: Upload>(
        &self,
        record: &mut Record,
        avoid: Option<SocketAddr>,
        sending: &mut Sending,
        upload: &mut U,
    ) -> Result<(Head, Lease), Failed> {
        let endpoints = self.lane.endpoints(record.track());
        let Some(endpoint) = balance::pick(endpoints, avoid, || self.worker.random()) else {
            return Err(Failed {
                failure: Failure::NoEndpoints,
                at: None,
            });
        };
        record.goes_to(endpoint, self.bucket);
        let at = Some(endpoint.address);
        let failed = |failure| Failed { failure, at };
        let mut lease = match endpoint.occupy().reuse() {
            Ok(lease) => lease,
            Err(busy) => self.connect(busy, record, upload).await.map_err(failed)?,
        };
        let wait = Wait {
            to_head: self.request.method == Method::Head,
            patience: self.deadlines.head,
        };
        let head = poll_fn(|cx| poll_head(&mut lease, sending, upload, &wait, cx)).await;
        // A connection that its backend closed while it lay idle: nobody's failure, and once more on a fresh one.
        if lease.reused && head.as_ref().err() == Some(&Failure::Reset) && self.request.is_replay_safe() {
            let fresh = lease.endpoint().occupy();
            lease = self.connect(fresh, record, upload).await.map_err(failed)?;
            sending.rewind();
            let head = poll_fn(|cx| poll_head(&mut lease, sending, upload, &wait, cx)).await;
            return head
                .and_then(|h| self.check(h))
                .map(|h| (h, lease))
                .map_err(failed);
        }
        head.and_then(|h| self.check(h))
            .map(|h| (h, lease))
            .map_err(failed)
    }

    /// A backend may go on only in a protocol that the client offered (RFC 9110, 7.8).
    fn check(&self, head: Head) -> Result<Head, Failure> {
        if head.framing != Framing::Tunnel {
            return Ok(head);
        }
        let offered = |p: &[u8]| {
            let mut all = self.request.lines.of(Name::Upgrade).flat_map(items);
            all.any(|o| o.eq_ignore_ascii_case(p))
        };
        let taken = self.request.upgrades && head.lines.of(Name::Upgrade).flat_map(items).all(offered);
        taken
            .then_some(head)
            .ok_or(Failure::BadHead("it switches protocols unasked"))
    }

    /// A new connection, within its time.
    async fn connect<U: Upload>(
        &self,
        busy: Busy,
        record: &mut Record,
        upload: &mut U,
    ) -> Result<Lease, Failure> {
        let begun = Instant::now();
        let endpoint = Rc::clone(busy.endpoint());
        upload.alarm().wait(Patience {
            each: self.worker.settings.connect_timeout,
            ..self.deadlines.head
        });
        let mut connecting = pin!(busy.connect());
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(made) = connecting.as_mut().poll(cx) {
                return Poll::Ready(made.map_err(|_| Failure::Refused));
            }
            if upload.alarm().rings(cx) {
                return Poll::Ready(Err(Failure::ConnectTimeout));
            }
            if upload.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Failure::Cancelled));
            }
            Poll::Pending
        })
        .await;
        if outcome.as_ref().err() == Some(&Failure::ConnectTimeout) {
            Busy::timed_out(&endpoint);
        }
        upload.alarm().wait(self.deadlines.head);
        // Who gives up while connecting has waited all the same: that age is no connection's fault to be taken off.
        if outcome.as_ref().err() != Some(&Failure::Cancelled) {
            record.connected(begun.elapsed());
        }
        outcome
    }

    pub(crate) fn answer<U: Upload>(
        &self,
        head: Head,
        lease: Lease,
        sending: Sending,
        upload: U,
        record: Record,
    ) -> Answer<U> {
        let patience = self
            .deadlines
            .body(&head, self.worker.settings.stream_idle_timeout);
        let flow = Flow::new(&head, lease, sending, upload, record, patience);
        Answer {
            status: head.status,
            lines: head.lines,
            framing: head.framing,
            extra: Vec::new(),
            body: Download::Flow(flow),
            closes: false,
        }
    }
}
