//! One attempt at one endpoint: a connection, the request out, the head of its answer in.

use crate::{
    clock::Patience,
    error::Failure,
    handle::{Failed, Trip},
    headers::{self, Journey},
    line::Line,
    multiplex::{Call, Dial, Link},
    pool::{Busy, Endpoint, Lease},
    record::Record,
    stream::{Answer, Download, Flow},
    upstream::{Sending, Upload, Wait},
    websocket,
    wire::{
        body::Framing,
        lines::items,
        name::Name,
        request::{Method, Protocol},
        response::Head,
    },
};
use contract::backends::AppProtocol;
use http::uri::Scheme;
use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
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
    ) -> Result<(Head, Line), Failed> {
        let busy = match self.place(record.track(), avoid) {
            Some(Ok(busy)) => busy,
            Some(Err(failure)) => return Err(Failed { failure, at: None }),
            // A box, because nearly no request waits, and every request would carry the room for it.
            None => Box::pin(self.wait_for_room(record.track(), avoid, upload)).await?,
        };
        let endpoint = Rc::clone(busy.endpoint());
        record.goes_to(&endpoint, self.bucket);
        let tried = match self.exchange(busy, false, record, sending, upload).await {
            Err(stop) if self.is_nobodys(&stop, sending) => {
                self.exchange_again(&endpoint, record, sending, upload).await
            }
            tried => tried,
        };
        tried.map_err(|stop| Failed {
            failure: stop.failure,
            at: Some(endpoint.address),
        })
    }

    /// Whether the same endpoint is asked once more: its connection was closed while it lay idle, which is nobody's
    /// failure, or it has told that it did not begin, which it may do when it wants another connection.
    fn is_nobodys(&self, stop: &Stop, sending: &Sending) -> bool {
        match stop.failure {
            Failure::Reset => stop.reused && self.request.is_replay_safe(),
            Failure::Unprocessed => sending.is_whole(),
            _ => false,
        }
    }

    /// On a fresh connection. Boxed: it is rare, and must not make every request's memory larger.
    async fn exchange_again<U: Upload>(
        &self,
        endpoint: &Rc<Endpoint>,
        record: &mut Record,
        sending: &mut Sending,
        upload: &mut U,
    ) -> Result<(Head, Line), Stop> {
        sending.rewind();
        Box::pin(self.exchange(endpoint.occupy(), true, record, sending, upload)).await
    }

    /// The request out and the head in, once.
    async fn exchange<U: Upload>(
        &self,
        busy: Busy,
        fresh: bool,
        record: &mut Record,
        sending: &mut Sending,
        upload: &mut U,
    ) -> Result<(Head, Line), Stop> {
        let mut line = match busy.endpoint().transport().protocol {
            AppProtocol::Http => Line::Own(self.own(busy, fresh, record, upload).await?),
            // Upgrades are of HTTP/1.1: by TLS nothing else is offered for them.
            AppProtocol::Https if self.request.upgrades => {
                Line::Own(Box::pin(self.own(busy, fresh, record, upload)).await?)
            }
            _ => Box::pin(self.shared(busy, fresh, record, sending, upload)).await?,
        };
        let wait = Wait {
            to_head: self.request.method == Method::Head,
            patience: self.deadlines.head,
        };
        let head = poll_fn(|cx| line.poll_head(sending, upload, &wait, cx)).await;
        match head.and_then(|head| self.check(head)) {
            Ok(head) => Ok((head, line)),
            Err(failure) => Err(Stop {
                failure,
                reused: line.is_reused(),
            }),
        }
    }

    /// A connection of its own: an idle one, or else a new one.
    async fn own<U: Upload>(
        &self,
        busy: Busy,
        fresh: bool,
        record: &mut Record,
        upload: &mut U,
    ) -> Result<Lease, Failure> {
        let busy = match busy {
            busy if fresh => busy,
            busy => match busy.reuse() {
                Ok(lease) => return Ok(lease),
                Err(busy) => busy,
            },
        };
        // A box, because few requests connect, and every request would carry the room for it.
        Box::pin(self.connect(busy, record, upload)).await
    }

    /// Part of a connection that many share: one with room, or one that is being made, or else a new one. With TLS the
    /// endpoint may choose HTTP/1.1.
    async fn shared<U: Upload>(
        &self,
        mut busy: Busy,
        fresh: bool,
        record: &mut Record,
        sending: &mut Sending,
        upload: &mut U,
    ) -> Result<Line, Failure> {
        let endpoint = Rc::clone(busy.endpoint());
        let (scheme, sure) = match endpoint.transport().protocol {
            AppProtocol::H2c => (Scheme::HTTP, true),
            _ => (Scheme::HTTPS, endpoint.links.agreed.get()),
        };
        loop {
            if let Some(seat) = endpoint.links.seat() {
                let call = Call::begin(seat, busy, &scheme, sending)?;
                return Ok(Line::Shared(Box::new(call)));
            }
            if !sure {
                let lease = self.own(busy, fresh, record, upload).await?;
                busy = match self.join(lease).await? {
                    Joined::Shared(busy) => busy,
                    Joined::Own(lease) => return Ok(Line::Own(lease)),
                };
                continue;
            }
            match endpoint.links.dial() {
                Err(dial) => self.wait(&dial, record, upload).await?,
                Ok(turn) => {
                    let made = match self.connect(busy, record, upload).await {
                        Ok(lease) => self.join(lease).await,
                        Err(failure) => Err(failure),
                    };
                    turn.end(made.as_ref().map(|_| ()).map_err(|f| *f));
                    busy = match made? {
                        Joined::Shared(busy) => busy,
                        Joined::Own(lease) => return Ok(Line::Own(lease)),
                    };
                }
            }
        }
    }

    /// Shares a new connection, if its endpoint speaks HTTP/2.
    async fn join(&self, lease: Lease) -> Result<Joined, Failure> {
        let endpoint = Rc::clone(lease.endpoint());
        let h2 = endpoint.transport().protocol == AppProtocol::H2c || lease.stream.is_h2();
        endpoint.links.agreed.set(h2);
        if !h2 {
            return Ok(Joined::Own(lease));
        }
        let (socket, busy) = lease.into_parts();
        let begun = Link::begin(socket, self.worker.clock.alarm()).await;
        endpoint.links.add(begun.map_err(|_| Failure::Refused)?);
        Ok(Joined::Shared(busy))
    }

    /// Waits for a connection that somebody else is making.
    async fn wait<U: Upload>(&self, dial: &Dial, record: &mut Record, upload: &mut U) -> Result<(), Failure> {
        let begun = Instant::now();
        upload.alarm().wait(Patience {
            each: self.worker.settings.connect_timeout,
            ..self.deadlines.head
        });
        let outcome = poll_fn(|cx| match dial.poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => given_up(upload, cx).map(Err),
        })
        .await;
        self.connected(begun, &outcome, record, upload);
        outcome
    }

    /// A backend may go on only in a protocol that the client offered (RFC 9110, 7.8).
    fn check(&self, head: Head) -> Result<Head, Failure> {
        if self.request.upgrades && self.request.protocol == Protocol::Http2 {
            self.check_websocket(&head)?;
        }
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

    /// The challenge was ours, so its answer is ours to read (RFC 6455, 4.1). To a client of HTTP/2 any success would say
    /// that the tunnel is there (RFC 8441, 5): one of another kind cannot be passed on.
    fn check_websocket(&self, head: &Head) -> Result<(), Failure> {
        if head.framing != Framing::Tunnel {
            return match head.status {
                200..=299 => Err(Failure::NotSwitched),
                _ => Ok(()),
            };
        }
        let key = self.request.lines.named(websocket::KEY.as_bytes()).next();
        let right = websocket::accept(key.unwrap_or_default());
        let told = head.lines.named(websocket::ACCEPT.as_bytes()).next();
        match told == Some(right.as_bytes()) {
            true => Ok(()),
            false => Err(Failure::BadHead("its sec-websocket-accept is wrong")),
        }
    }

    /// A new connection, within its time.
    async fn connect<U: Upload>(
        &self,
        busy: Busy,
        record: &mut Record,
        upload: &mut U,
    ) -> Result<Lease, Failure> {
        let begun = Instant::now();
        upload.alarm().wait(Patience {
            each: self.worker.settings.connect_timeout,
            ..self.deadlines.head
        });
        let mut connecting = pin!(busy.connect(self.request.upgrades));
        let outcome = poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(made) => Poll::Ready(made),
            Poll::Pending => given_up(upload, cx).map(Err),
        })
        .await;
        self.connected(begun, &outcome, record, upload);
        outcome
    }

    /// Notes how long it took to get a connection. Who gives up meanwhile has waited all the same: that age is no
    /// connection's fault to be taken off.
    fn connected<T, U: Upload>(
        &self,
        begun: Instant,
        outcome: &Result<T, Failure>,
        record: &mut Record,
        upload: &mut U,
    ) {
        upload.alarm().wait(self.deadlines.head);
        if outcome.as_ref().err() != Some(&Failure::Cancelled) {
            record.connected(begun.elapsed());
        }
    }

    pub(crate) fn answer<U: Upload>(
        &self,
        head: Head,
        line: Line,
        sending: Sending,
        upload: U,
        record: Record,
    ) -> Answer<U> {
        let patience = self
            .deadlines
            .body(&head, self.worker.settings.stream_idle_timeout);
        let flow = Box::new(Flow::new(&head, line, sending, upload, record, patience));
        Answer {
            status: head.status,
            lines: head.lines,
            framing: head.framing,
            extra: Vec::new(),
            body: Download::Flow(flow),
            closes: false,
            seat: None,
        }
    }
}

/// Why an exchange came to nothing.
struct Stop {
    failure: Failure,
    /// Whether it was on a connection that had served before.
    reused: bool,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop {
            failure,
            reused: false,
        }
    }
}

/// A new connection to an endpoint that may speak HTTP/2.
enum Joined {
    /// It does: others use it too.
    Shared(Busy),
    /// It does not.
    Own(Lease),
}

/// Ready when it took too long to connect, or nobody waits for it any more.
fn given_up<U: Upload>(upload: &mut U, cx: &mut Context<'_>) -> Poll<Failure> {
    if upload.alarm().rings(cx) {
        Poll::Ready(Failure::ConnectTimeout)
    } else {
        upload.poll_gone(cx).map(|()| Failure::Cancelled)
    }
}
