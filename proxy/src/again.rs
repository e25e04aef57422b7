//! Whether, and where, a request is tried once more after an attempt that failed.

use crate::{
    error::Failure,
    handle::{Plan, Tried, Trip},
    record::Record,
    telemetry::note::Note,
};
use contract::names::{Reason, Track};
use std::net::SocketAddr;

/// What went wrong with an attempt, as far as it matters for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Nothing was sent.
    Unsent,
    /// No octet of an answer came.
    Silent,
    /// The answer did not come in time.
    Late,
    /// An answer that says "not now": 502, 503 or 504.
    Refusal,
}

/// Where the next attempt goes.
pub(crate) struct Next {
    pub track: Track,
    pub reason: Reason,
    /// Where it was tried before.
    pub avoid: Option<SocketAddr>,
}

/// In which tracks another endpoint was tried already, by [`Track::index`].
#[derive(Debug, Default)]
pub(crate) struct Course {
    elsewhere: [bool; 2],
}

impl Trouble {
    /// None: the outcome is the client's to see.
    fn of(tried: &Tried) -> Option<Trouble> {
        match tried {
            Ok((head, _)) => matches!(head.status, 502..=504).then_some(Trouble::Refusal),
            Err(failed) if failed.failure.is_before_sending() => Some(Trouble::Unsent),
            Err(failed) => match failed.failure {
                Failure::Reset => Some(Trouble::Silent),
                Failure::Timeout => Some(Trouble::Late),
                _ => None,
            },
        }
    }
}

impl Trip<'_> {
    /// The next attempt, if there is to be one: never of what may have had an effect already.
    pub(crate) fn next(
        &self,
        plan: Plan,
        course: &mut Course,
        record: &Record,
        tried: &Tried,
    ) -> Option<Next> {
        let trouble = Trouble::of(tried)?;
        let repeatable = trouble == Trouble::Unsent || self.request.is_replay_safe();
        if !repeatable || self.worker.clock.has_come(self.deadlines.head.latest) {
            return None;
        }
        let at = tried.as_ref().err().and_then(|failed| failed.at);
        self.elsewhere(course, record, trouble, at)
            .or_else(|| self.shield(plan, record.track()))
    }

    /// Another endpoint of the same track, within the budget. An answer that says "not now" is taken at its word: to
    /// ask the next endpoint is how an overload spreads.
    fn elsewhere(
        &self,
        course: &mut Course,
        record: &Record,
        trouble: Trouble,
        at: Option<SocketAddr>,
    ) -> Option<Next> {
        let track = record.track();
        let helps = match trouble {
            Trouble::Unsent | Trouble::Silent => true,
            // The canary's time is spent; stable will do.
            Trouble::Late => track == Track::Stable,
            Trouble::Refusal => false,
        };
        let there = at.is_some() && self.lane.endpoints(track).len() > 1;
        let first = there && helps && !std::mem::replace(&mut course.elsewhere[track.index()], true);
        (first && self.lane.may_retry(track)).then_some(Next {
            track,
            reason: record.reason(),
            avoid: at,
        })
    }

    /// Stable answers where the canary could not, but never for who asked for the canary.
    fn shield(&self, plan: Plan, track: Track) -> Option<Next> {
        let may = self.lane.route.shield && !plan.opted && self.lane.route.has(Track::Stable);
        (track == Track::Canary && may).then_some(Next {
            track: Track::Stable,
            reason: Reason::Shield,
            avoid: None,
        })
    }
}

/// Ends an attempt that another one follows: its outcome is counted where it belongs, and the next one takes over what
/// is told.
pub(crate) fn give_up(mut record: Record, tried: Tried) -> Option<Box<Note>> {
    match tried {
        Ok((head, lease)) => {
            record.answered(head.status);
            let note = record.take_note();
            record.complete();
            lease.discard(&head);
            note
        }
        Err(failed) => record.hand_over(failed.failure),
    }
}
