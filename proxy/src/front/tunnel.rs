//! A connection after an upgrade: octets in both directions, until both have ended or nothing has moved for too long.

use crate::{
    error::Failure,
    stream::Download,
    upstream::{Piece, Upload},
    wire::outbox::Outbox,
};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// The way down of a tunnel; the way up is moved by the flow. Each direction ends by itself (half-close).
pub struct Tunnel {
    out: Outbox,
    down: Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Down {
    Open,
    /// The backend has ended; the client must be told when everything is written.
    Ended,
    Closed,
}

impl Tunnel {
    /// A tunnel that begins with what waits already: the head of the answer.
    pub fn new(out: Outbox) -> Tunnel {
        Tunnel {
            out,
            down: Down::Open,
        }
    }

    /// Ready when both directions have ended.
    ///
    /// # Errors
    /// When one of them broke, or nothing moved for the idle time.
    pub fn poll<U: Upload>(
        &mut self,
        body: &mut Download<U>,
        write: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let down = self.poll_down(body, write, cx)?;
        body.drive(cx)?;
        if down.is_ready() && body.is_request_over() {
            return Poll::Ready(Ok(()));
        }
        match body.upload().is_some_and(|u| u.alarm().rings(cx)) {
            true => Poll::Ready(Err(Failure::BodyTimeout)),
            false => Poll::Pending,
        }
    }

    /// What the backend sends, one piece at a time: who does not read it is not sent more.
    fn poll_down<U: Upload>(
        &mut self,
        body: &mut Download<U>,
        write: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        loop {
            if self
                .out
                .poll_flush(write, cx)
                .map_err(|_| Failure::Cancelled)?
                .is_pending()
            {
                return Poll::Pending;
            }
            self.out.clear();
            match self.down {
                Down::Closed => return Poll::Ready(Ok(())),
                Down::Ended => {
                    // A connection that cannot be closed is closed already.
                    let _ = ready!(Pin::new(&mut *write).poll_shutdown(cx));
                    self.down = Down::Closed;
                }
                Down::Open => match ready!(body.poll_piece(cx))? {
                    Piece::Data(data) => self.out.plain(data),
                    Piece::End(_) => self.down = Down::Ended,
                },
            }
        }
    }
}
