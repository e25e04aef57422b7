//! What the statistics' prototype does with the defaults of a policy: written down from
//! `python3 tests/prototype/ramp.py DIR --runs 1000`, where DIR holds the prototype's `engine.py`.

use crate::simulate::worlds::World;
use serde::{Serialize, Serializer};

/// One world and amount of traffic; stable fails 0.1 %.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Requests a second.
    pub rps: f64,
    /// The world.
    #[serde(serialize_with = "name")]
    pub world: World,
    /// Share of the releases.
    pub promoted: f64,
    /// The same.
    pub rolled_back: f64,
    /// Seconds; `None` when half of them came to no decision within an hour.
    pub median_seconds: Option<f64>,
    /// Bad answers of the canary until the decision, in the mean.
    pub bad_mean: f64,
}

fn name<S: Serializer>(world: &World, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&world.name())
}

const fn figures(rps: f64, world: World, shares: [f64; 2], median: Option<f64>, bad_mean: f64) -> Figures {
    Figures {
        rps,
        world,
        promoted: shares[0],
        rolled_back: shares[1],
        median_seconds: median,
        bad_mean,
    }
}

/// In the order of the table.
#[rustfmt::skip]
pub const PROTOTYPE: [Figures; 24] = [
    figures(10.0, World::Healthy, [0.827, 0.001], Some(1798.5), 10.1),
    figures(10.0, World::X2, [0.075, 0.046], None, 33.9),
    figures(10.0, World::X3, [0.004, 0.518], Some(3433.0), 43.6),
    figures(10.0, World::One, [0.0, 1.0], Some(368.0), 20.1),
    figures(10.0, World::Five, [0.0, 1.0], Some(54.5), 14.0),
    figures(10.0, World::Half, [0.0, 1.0], Some(7.0), 11.7),
    figures(10.0, World::All, [0.0, 1.0], Some(4.0), 13.9),
    figures(10.0, World::Late, [0.0, 1.0], Some(128.0), 21.8),
    figures(100.0, World::Healthy, [1.0, 0.0], Some(215.0), 12.7),
    figures(100.0, World::X2, [0.095, 0.857], Some(1420.0), 138.7),
    figures(100.0, World::X3, [0.001, 0.999], Some(342.0), 51.5),
    figures(100.0, World::One, [0.0, 1.0], Some(41.0), 18.0),
    figures(100.0, World::Five, [0.0, 1.0], Some(12.0), 11.8),
    figures(100.0, World::Half, [0.0, 1.0], Some(4.0), 7.1),
    figures(100.0, World::All, [0.0, 1.0], Some(3.0), 10.6),
    figures(100.0, World::Late, [0.0, 1.0], Some(123.0), 76.0),
    figures(1000.0, World::Healthy, [1.0, 0.0], Some(180.0), 82.7),
    figures(1000.0, World::X2, [0.004, 0.996], Some(174.0), 174.2),
    figures(1000.0, World::X3, [0.0, 1.0], Some(46.0), 58.2),
    figures(1000.0, World::One, [0.0, 1.0], Some(16.0), 16.2),
    figures(1000.0, World::Five, [0.0, 1.0], Some(10.0), 7.6),
    figures(1000.0, World::Half, [0.0, 1.0], Some(4.0), 6.4),
    figures(1000.0, World::All, [0.0, 1.0], Some(3.0), 10.6),
    figures(1000.0, World::Late, [0.0, 1.0], Some(123.0), 784.5),
];
