//! The workloads of a cluster, which settle a few steps after they were touched.

use contract::policy::Policy;
use engine::{Hand, InCluster, Plan, Workload, Workloads};

/// Steps that a workload takes to settle.
const SLOW: u32 = 8;
/// Pods of stable.
const PODS: u32 = 3;

#[derive(Clone, Debug)]
pub struct Fleet {
    pub policy: Policy,
    pub stable: Pods,
    pub canary: Option<Pods>,
    pub previous: Option<Pods>,
    pub suspended: bool,
    /// Stable never settles on a template but this one.
    pub only: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Pods {
    pub hash: String,
    pub wanted: u32,
    /// Steps until it has settled.
    pub left: u32,
}

impl Pods {
    pub fn of(hash: &str, wanted: u32) -> Pods {
        Pods {
            hash: hash.into(),
            wanted,
            left: 0,
        }
    }

    fn set(&mut self, hash: &str, wanted: u32) {
        if (self.hash.as_str(), self.wanted) != (hash, wanted) {
            (self.hash, self.wanted, self.left) = (hash.into(), wanted, SLOW);
        }
    }

    fn told(&self, stuck: bool) -> Workload {
        let settled = self.left == 0 && !stuck;
        Workload {
            hash: self.hash.clone(),
            wanted: self.wanted,
            ready: if settled {
                self.wanted
            } else if self.wanted == 0 {
                // Those that go are told of as ready for a moment.
                PODS
            } else {
                self.wanted.saturating_sub(1)
            },
            settled,
            stuck: stuck.then(|| "0 of 1 new pods ready after 600 s".to_owned()),
        }
    }
}

impl Fleet {
    /// v1 in front of everybody, v2 on trial.
    pub fn new(policy: Policy) -> Fleet {
        Fleet {
            policy,
            stable: Pods::of("v1", PODS),
            canary: Some(Pods::of("v2", 1)),
            previous: None,
            suspended: false,
            only: None,
        }
    }

    pub fn plan(&self) -> Plan {
        let named = |p: &Pods| (p.hash.clone(), p.hash.clone());
        Plan::in_cluster(InCluster {
            name: "weekly".into(),
            service: "echo".into(),
            policy: self.policy.clone(),
            stable: named(&self.stable),
            canary: self.canary.as_ref().map(named),
            suspended: self.suspended,
            leaving: false,
            cause: None,
        })
        .unwrap()
    }

    pub fn told(&self) -> Workloads {
        let stuck = self.only.as_ref().is_some_and(|only| *only != self.stable.hash);
        Workloads {
            stable: self.stable.told(stuck),
            canary: self.canary.as_ref().map(|p| p.told(false)),
            previous: self.previous.as_ref().map(|p| p.told(false)),
        }
    }

    pub fn pass(&mut self) {
        let all = [
            Some(&mut self.stable),
            self.canary.as_mut(),
            self.previous.as_mut(),
        ];
        for pods in all.into_iter().flatten() {
            pods.left = pods.left.saturating_sub(1);
        }
    }

    pub fn take(&mut self, hand: &Hand) {
        let (stable, canary) = (self.stable.clone(), self.canary.clone());
        match hand {
            Hand::Raise | Hand::Room(_) => {
                if let Some(canary) = self.canary.as_mut().filter(|c| c.wanted == 0) {
                    canary.set(&canary.hash.clone(), 1);
                }
            }
            Hand::Keep { up } => {
                let wanted = if *up { PODS } else { 0 };
                let hash = self.previous.as_ref().map_or(stable.hash, |p| p.hash.clone());
                self.previous
                    .get_or_insert_with(|| Pods {
                        left: SLOW,
                        ..Pods::of(&hash, 0)
                    })
                    .set(&hash, wanted);
            }
            Hand::Copy => self.stable.set(&canary.unwrap().hash, PODS),
            Hand::Restore => self.stable.set(&self.previous.clone().unwrap().hash, PODS),
            Hand::Clear { canary } => {
                let canary = self.canary.as_mut().filter(|_| *canary);
                for pods in [canary, self.previous.as_mut()].into_iter().flatten() {
                    let hash = pods.hash.clone();
                    pods.set(&hash, 0);
                }
            }
        }
    }
}
