//! The way to an endpoint that one request has: a connection of its own, or a part of a shared one.

use crate::{
    clock::Patience,
    error::Failure,
    multiplex::Call,
    pool::{Endpoint, Lease},
    upstream::{Sending, Upload, Wait, poll_head},
    wire::response::Head,
};
use std::{
    rc::Rc,
    task::{Context, Poll},
};

/// The way of one request.
#[derive(Debug)]
pub enum Line {
    /// HTTP/1.1: nobody else is on it until the whole answer is there.
    Own(Lease),
    /// HTTP/2: one of many. Boxed, so that the usual one stays small.
    Shared(Box<Call>),
}

impl Line {
    /// One step of waiting for the head of the answer, while the request is still being sent.
    ///
    /// # Errors
    /// Whatever ends the wait, with its side.
    pub fn poll_head(
        &mut self,
        sending: &mut Sending,
        upload: &mut impl Upload,
        wait: &Wait,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Failure>> {
        match self {
            Line::Own(lease) => poll_head(lease, sending, upload, wait, cx),
            Line::Shared(call) => call.poll_head(sending, upload, wait, cx),
        }
    }

    /// Sends as much of the request as can be sent now.
    ///
    /// # Errors
    /// The client's failure. One of the backend only ends the sending: it may have answered already.
    pub fn poll_send(
        &mut self,
        sending: &mut Sending,
        upload: &mut impl Upload,
        patience: Patience,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        match self {
            Line::Own(lease) => sending.poll(lease, upload, patience, cx),
            Line::Shared(call) => call.poll_send(sending, upload, patience, cx),
        }
    }

    /// Gives up an answer whose head was read.
    pub fn discard(self, head: &Head) {
        match self {
            Line::Own(lease) => lease.discard(head),
            // The endpoint is told to stop.
            Line::Shared(call) => drop(call),
        }
    }

    /// Where it leads.
    pub fn endpoint(&self) -> &Rc<Endpoint> {
        match self {
            Line::Own(lease) => lease.endpoint(),
            Line::Shared(call) => call.busy().endpoint(),
        }
    }

    /// Whether its connection has served a request before: then it may have been closed while nobody looked.
    pub fn is_reused(&self) -> bool {
        match self {
            Line::Own(lease) => lease.reused,
            Line::Shared(call) => call.is_reused(),
        }
    }
}
