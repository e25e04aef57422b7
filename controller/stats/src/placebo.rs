//! The engine judged by its own measure: placebo groups of stable traffic (evidence 2d).
//!
//! Each group plays the canary against the rest of stable. If one of them would be rolled back, the engine is
//! miscalibrated for this traffic, and the controller holds instead of deciding.

use crate::blocks::Closer;
use crate::bounds::nats;
use crate::counts::{Arm, Counts};
use crate::errors::{ErrorConfig, ErrorProcess, Essence};
use serde::{Deserialize, Serialize};

/// One error process a group. Groups are of the canary's size, by pod where possible: hashed groups over the same
/// pods share the bursts of a pod and understate the noise of a one-pod canary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Placebos {
    config: ErrorConfig,
    groups: Vec<Group>,
}

/// The settings are the same for all groups: saved once.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Saved {
    config: ErrorConfig,
    groups: Vec<(Closer<Counts>, Essence)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Group {
    closer: Closer<Counts>,
    process: ErrorProcess,
}

impl Placebos {
    /// `groups` groups (at least 5 for a phi worth its name) with the settings and the history of the real process.
    pub fn new(config: ErrorConfig, history: Arm, groups: usize) -> Placebos {
        let group = Group {
            closer: Closer::default(),
            process: ErrorProcess::new(config, history),
        };
        Placebos {
            config,
            groups: vec![group; groups],
        }
    }

    /// One tick of `dt` seconds, the stable counts of each group. Proxies may be summed: every group has the same
    /// share of stable traffic everywhere.
    pub fn tick(&mut self, dt: f64, groups: &[Arm]) {
        for (i, group) in self.groups.iter_mut().enumerate() {
            let rest = groups
                .iter()
                .enumerate()
                .filter(|(j, _)| *j != i)
                .map(|(_, arm)| *arm);
            let stable = rest.fold(Arm::default(), Arm::plus);
            let canary = groups.get(i).copied().unwrap_or_default();
            group.tick(dt, &Counts { stable, canary });
        }
    }

    /// The first group that reaches `G / alpha`: reason to hold and to report the engine as miscalibrated.
    pub fn alarm(&self, alpha: f64) -> Option<usize> {
        let threshold = nats(alpha) + (self.groups.len() as f64).ln();
        self.groups
            .iter()
            .position(|group| group.process.log_roll() >= threshold)
    }

    /// How many there are.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Largest `ln M` of all groups; `None` without groups.
    pub fn largest(&self) -> Option<f64> {
        self.groups
            .iter()
            .map(|group| group.process.log_roll())
            .max_by(f64::total_cmp)
    }
}

impl Group {
    fn tick(&mut self, dt: f64, counts: &Counts) {
        let closed = self.closer.push(dt, counts);
        self.process.tick_roll(dt, closed.as_slice());
    }
}

impl From<Saved> for Placebos {
    fn from(saved: Saved) -> Placebos {
        let group = |(closer, essence)| Group {
            closer,
            process: ErrorProcess::of_essence(saved.config, essence),
        };
        Placebos {
            config: saved.config,
            groups: saved.groups.into_iter().map(group).collect(),
        }
    }
}

impl From<Placebos> for Saved {
    fn from(placebos: Placebos) -> Saved {
        let part = |group: Group| (group.closer, group.process.essence());
        Saved {
            config: placebos.config,
            groups: placebos.groups.into_iter().map(part).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(groups: [Arm; 5]) -> Option<usize> {
        let mut placebos = Placebos::new(ErrorConfig::default(), Arm::new(60_000, 60), 5);
        (0..60).for_each(|_| placebos.tick(1.0, &groups));
        placebos.alarm(0.01)
    }

    #[test]
    fn equal_groups_raise_no_alarm() {
        assert_eq!(run([Arm::new(1000, 1); 5]), None);
    }

    #[test]
    fn a_bad_pod_among_the_placebos_is_named() {
        let mut groups = [Arm::new(1000, 1); 5];
        groups[3] = Arm::new(1000, 20);
        assert_eq!(run(groups), Some(3));
    }

    #[test]
    fn what_is_saved_comes_back() {
        let mut placebos = Placebos::new(ErrorConfig::default(), Arm::new(60_000, 60), 5);
        (0..9).for_each(|i| placebos.tick(1.0, &[Arm::new(7 + i, i / 3); 5]));
        let text = serde_json::to_string(&placebos).unwrap();
        assert_eq!(serde_json::from_str::<Placebos>(&text).unwrap(), placebos);
    }

    #[test]
    fn without_groups_there_is_no_alarm() {
        assert_eq!(
            Placebos::new(ErrorConfig::default(), Arm::default(), 0).alarm(0.01),
            None
        );
    }
}
