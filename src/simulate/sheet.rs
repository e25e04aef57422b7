//! The parts of what a controller reads, made from counts.

use super::{ledger::at_any_age, pods::PODS};
use controller::{
    contract::{
        Canary, Split,
        evidence::{ServicePage, Tally},
        names::CONTROLLER,
    },
    engine::{Smoked, Table, Tracks},
    stats::Arm,
};

/// What stands in the routing table.
pub fn table(split: Split) -> Table {
    let canary = Canary {
        split,
        ..Canary::default()
    };
    Table {
        split,
        hash: canary.hash(),
        changed_by: (!split.is_none()).then(|| CONTROLLER.to_owned()),
        cause: None,
        tracks: Tracks::Usual,
    }
}

/// A page without a request.
pub fn nothing() -> ServicePage {
    ServicePage {
        hash: String::new(),
        share: 0.0,
        inflight: [0, 0],
        endpoints: [PODS as u64, 1],
        guard: None,
        cohorts: Vec::new(),
        history: Vec::new(),
        latency: Vec::new(),
        pods: Vec::new(),
        local: false,
        rejected: Vec::new(),
    }
}

/// Requests of which so many have ended; bad ones do so at once.
pub fn tally(arm: Arm, ended: u64) -> Tally {
    Tally {
        started: arm.n,
        finished: ended,
        bad: at_any_age(arm.x.min(ended)),
        ..Tally::default()
    }
}

/// A smoke request that succeeded.
pub fn passed(index: usize) -> Smoked {
    Smoked {
        index,
        outcome: Ok(()),
    }
}
