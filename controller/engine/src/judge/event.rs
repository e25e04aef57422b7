//! What evidence is made of, in the order in which it came: all that a replay needs.

use super::outcome::Outcome;
use contract::release::Decision;
use serde::{Deserialize, Serialize};
use stats::{Arm, Counts};

/// One line of the log of blocks: what `replay` reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// Whoever keeps the log has opened it: what follows was written by this program.
    Written {
        /// Name and version.
        by: String,
        /// The service that it is about.
        service: String,
    },
    /// Evidence begins: of a run, or of the watch after it.
    Begun {
        /// The evidence before its first event, as one word: [`Evidence::of_word`](super::Evidence::of_word).
        evidence: String,
    },
    /// The evidence takes an event.
    Taken {
        /// Counts the events since it began, from 1. After a crash a number may come again: the later one holds, and
        /// whatever came after the earlier one does not.
        n: u64,
        /// What it takes.
        event: Event,
    },
    /// A decision, resting on so many events as its figures say.
    Decided(Box<Decision>),
}

/// One change of the evidence. Times are seconds of judged traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Blocks of whole seconds at the outcome age: errors and latency.
    Whole(Tick<Outcome>),
    /// Blocks of seconds at one second's age: requests without an answer.
    Early(Tick<Counts>),
    /// Some seconds of stable by slices: the engine watches itself.
    Slices {
        /// Seconds that pass.
        dt: f64,
        /// Requests and bad ones.
        slices: Vec<Arm>,
    },
}

/// Blocks that closed in one tick, none too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tick<T> {
    /// Seconds that pass: 0 when another proxy, or another block, has told them.
    pub dt: f64,
    /// Share of the canary under which the blocks were drawn.
    pub share: f64,
    /// Whether the canary was warming up.
    pub cold: bool,
    /// The blocks.
    pub blocks: Vec<T>,
}

impl<T> Tick<T> {
    /// Time that passes without a block.
    pub(crate) fn idle(dt: f64) -> Tick<T> {
        Tick {
            dt,
            share: 0.0,
            cold: false,
            blocks: Vec::new(),
        }
    }
}
