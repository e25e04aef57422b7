//! The parts of what a controller reads, made from counts.

use controller::{
    contract::{
        Canary, Split,
        evidence::{Bad, Minute, Noise, ServicePage, Tally},
        names::CONTROLLER,
    },
    engine::{Smoked, Table},
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
    }
}

/// A page without a request.
pub fn nothing() -> ServicePage {
    ServicePage {
        hash: String::new(),
        share: 0.0,
        inflight: [0, 0],
        endpoints: [1, 1],
        guard: None,
        cohorts: Vec::new(),
        history: Vec::new(),
        latency: Vec::new(),
        pods: Vec::new(),
    }
}

/// A minute of stable.
pub fn minute(minute: u64, arm: Arm) -> Minute {
    Minute {
        minute,
        started: arm.n,
        bad: arm.x,
        noise: Noise::default(),
    }
}

/// Requests that have all ended.
pub fn tally(arm: Arm) -> Tally {
    Tally {
        started: arm.n,
        finished: arm.n,
        bad: Bad {
            by_1s: arm.x,
            by_5s: arm.x,
            by_30s: arm.x,
            ever: arm.x,
        },
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
