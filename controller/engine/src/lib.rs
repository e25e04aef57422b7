//! Pure decisions: [`step()`] takes the plan, the saved state and what is known now, and gives the next state, the acts
//! to do in their order, and when to come again.
//!
//! Rule of this room: no clock, no I/O, no randomness; time arrives in the [`Observation`], and a missing answer is a
//! value there. So a release can be simulated, replayed, and cut off between any two acts.
//!
//! The invariants, each with a test: a rollback is the first act of the step that finds it, and waits for nothing; the
//! weight never rises on missing data; a repeated step does nothing twice; every decision says why, with counts.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod checks;
mod desk;
mod gates;
mod judge;
mod observation;
mod orders;
mod overrule;
mod plan;
mod replay;
mod stages;
mod state;
mod step;
mod telemetry;
mod words;

pub use judge::{Entry, Event, Evidence, Grounds, Outcome, Risk, Tick};
pub use observation::{
    Answered, Checked, Observation, Order, Proxy, Readiness, Smoked, Table, Told, Tracks, Workload, Workloads,
};
pub use plan::{Handover, InCluster, Plan, TAIL_ALLOWANCE, Version};
pub use replay::{Difference, Found, Recomputed, mended, replay};
pub use state::{SCHEMA, State};
pub use step::{Action, Hand, Recorded, Step, step};
