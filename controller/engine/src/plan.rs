//! What is to be released, and how: a service entry made into checked values.

use contract::{
    Fault,
    annotations::fnv1a,
    file::ServiceEntry,
    policy::{self, Policy},
    routes::Backends,
};
use stats::{
    capital::Spread,
    errors::{ErrorConfig, Phi},
    halfplane::Margin,
    latency::{Family, LatencyConfig},
    pacing::Pace,
};

/// Part of the capital that bets on a canary that is bad from its first request (statistics 2a).
const HEAD_START: f64 = 0.7;
/// Part of each latency tail by which the canary's may be larger: "a p99 tail of 1 % may be 1.3 %" (statistics 2b).
pub const TAIL_ALLOWANCE: f64 = 0.3;
/// A hang is a matter of many requests: a few more without an answer are for the latency to judge. Canary requests may
/// have twice the age of stable's besides.
const STALLED: policy::Margin = policy::Margin {
    ratio: 1.1,
    absolute: 0.01,
};

/// One service: its policy, the two versions, and which release they make.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What orders are given to: the Rollout, or the service where there is no cluster.
    pub name: String,
    /// The service.
    pub service: String,
    /// How its canary is released.
    pub policy: Policy,
    /// The stable version.
    pub stable: Version,
    /// The canary version.
    pub canary: Version,
    /// How a promoted canary becomes stable.
    pub handover: Handover,
    /// Whether nothing is to be moved but the way back.
    pub suspended: bool,
    /// Whether the Rollout goes: workloads that are not ours then keep their pods.
    pub leaving: bool,
    /// Why the canary was made, in the words of whoever made it.
    pub cause: Option<String>,
    pub(crate) errors: ErrorConfig,
    /// `None`: errors alone are judged.
    pub(crate) latency: Option<LatencyConfig>,
    pub(crate) stalled: ErrorConfig,
    pub(crate) pace: Pace,
    /// The same for slow requests instead of bad ones.
    pub(crate) pace_of_slow: Pace,
}

/// How a promoted canary becomes stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handover {
    /// By the weight alone: nothing else is moved.
    #[default]
    Weight,
    /// Its template is copied into stable.
    Copy,
    /// Somebody else updates stable.
    External,
}

/// What makes a plan in a cluster.
#[derive(Clone, Debug)]
pub struct InCluster {
    /// The Rollout.
    pub name: String,
    /// The Service.
    pub service: String,
    /// How its canary is released.
    pub policy: Policy,
    /// Name, and hash of the pod template, of the stable workload.
    pub stable: (String, String),
    /// The same of the canary; `None`: there is no canary, or it has no pods by somebody's wish.
    pub canary: Option<(String, String)>,
    /// Whether nothing is to be moved but the way back.
    pub suspended: bool,
    /// Whether the Rollout goes: workloads that are not ours then keep their pods.
    pub leaving: bool,
    /// Why the canary was made, in the words of whoever made it.
    pub cause: Option<String>,
}

/// A version and where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// As people call it.
    pub name: String,
    /// Its endpoints.
    pub endpoints: Vec<String>,
    /// Identity: hash of both, the order of the endpoints apart; in a cluster, of the pod template; empty: none.
    pub hash: String,
}

impl Plan {
    /// The plan that an entry describes.
    ///
    /// # Errors
    /// Every number of the policy that is out of range.
    pub fn of(entry: &ServiceEntry) -> Result<Plan, Vec<Fault>> {
        Plan::of_entry(entry, "rollout")
    }

    fn of_entry(entry: &ServiceEntry, key: &str) -> Result<Plan, Vec<Fault>> {
        let faults = entry.rollout.faults(key);
        if !faults.is_empty() {
            return Err(faults);
        }
        let errors = errors(&entry.rollout).map_err(|f| vec![f])?;
        Ok(Plan {
            name: entry.name.clone(),
            service: entry.name.clone(),
            stable: Version::of(&entry.stable),
            canary: Version::of(&entry.canary),
            handover: Handover::Weight,
            suspended: false,
            leaving: false,
            cause: None,
            latency: latency(&entry.rollout, &errors),
            stalled: ErrorConfig {
                roll_back: margin(STALLED).map_err(|f| vec![f])?,
                ..errors
            },
            errors,
            pace: pace(&entry.rollout, entry.rollout.pacing.error_budget).map_err(|f| vec![f])?,
            pace_of_slow: pace(&entry.rollout, entry.rollout.pacing.slow_budget).map_err(|f| vec![f])?,
            policy: entry.rollout.clone(),
        })
    }

    /// The plan of a release in a cluster. A version is known by the hash of its pod template.
    ///
    /// # Errors
    /// Every number of the policy that is out of range.
    pub fn in_cluster(told: InCluster) -> Result<Plan, Vec<Fault>> {
        let entry = ServiceEntry {
            name: told.service,
            rollout: told.policy,
            ..ServiceEntry::default()
        };
        let version = |(name, hash): (String, String)| Version {
            name,
            endpoints: Vec::new(),
            hash,
        };
        let none = (String::new(), String::new());
        let plan = Plan::of_entry(&entry, "spec")?;
        Ok(Plan {
            name: told.name,
            handover: match plan.policy.promotion.mode {
                policy::Mode::Copy => Handover::Copy,
                policy::Mode::External => Handover::External,
            },
            stable: version(told.stable),
            canary: version(told.canary.unwrap_or(none)),
            suspended: told.suspended,
            leaving: told.leaving,
            cause: told.cause,
            ..plan
        })
    }

    /// Identity of the release; `None` when the canary has no endpoint, or is stable itself.
    pub fn release(&self) -> Option<&str> {
        let canary = &self.canary;
        let is_there = match self.handover {
            Handover::Weight => !canary.endpoints.is_empty(),
            Handover::Copy | Handover::External => !canary.hash.is_empty(),
        };
        (is_there && canary.hash != self.stable.hash).then_some(canary.hash.as_str())
    }
}

impl Version {
    fn of(backends: &Backends) -> Version {
        let mut sorted = backends.endpoints.clone();
        sorted.sort();
        let text = format!("{}\n{}", backends.version, sorted.join("\n"));
        Version {
            name: backends.version.clone(),
            endpoints: backends.endpoints.clone(),
            hash: format!("{:016x}", fnv1a(text.as_bytes())),
        }
    }

    /// For sentences: the name, or what to say without one.
    pub fn called(&self) -> &str {
        if self.name.is_empty() {
            "the canary"
        } else {
            &self.name
        }
    }
}

fn errors(policy: &Policy) -> Result<ErrorConfig, Fault> {
    let j = &policy.judgement;
    let horizon = j.horizon.as_seconds();
    Ok(ErrorConfig {
        roll_back: margin(j.errors.rollback)?,
        promote: margin(j.errors.promote)?,
        phi: Phi::ONE,
        spread: Spread::new(HEAD_START, horizon).map_err(|e| fault("judgement.horizon", horizon, e))?,
    })
}

fn latency(policy: &Policy, errors: &ErrorConfig) -> Option<LatencyConfig> {
    let l = &policy.judgement.latency;
    l.enabled.then_some(LatencyConfig {
        shift: l.rollback_shift,
        promote_shift: l.promote_shift,
        allowance: TAIL_ALLOWANCE,
        phi: errors.phi,
        spread: errors.spread,
        family: Family::Broad,
    })
}

fn margin(m: policy::Margin) -> Result<Margin, Fault> {
    Margin::new(m.ratio, m.absolute).map_err(|e| fault("judgement.errors", m.ratio, e))
}

fn pace(policy: &Policy, budget: f64) -> Result<Pace, Fault> {
    let p = &policy.pacing;
    let (least, most) = (p.min_weight / 100.0, p.max_weight / 100.0);
    Pace::new(budget, policy::REACTION_SECONDS, least, most).map_err(|e| fault("pacing", budget, e))
}

fn fault(key: &str, value: f64, refused: stats::Refused) -> Fault {
    let remedy = "leave the key out for the default";
    Fault::new(
        format!("rollout.{key}"),
        &value.to_string(),
        refused.to_string(),
        remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(version: &str, endpoints: &[&str]) -> Backends {
        Backends {
            version: version.into(),
            endpoints: endpoints.iter().map(|e| (*e).into()).collect(),
            ..Backends::default()
        }
    }

    fn plan(stable: Backends, canary: Backends) -> Plan {
        Plan::of(&ServiceEntry {
            name: "echo".into(),
            stable,
            canary,
            ..ServiceEntry::default()
        })
        .unwrap()
    }

    #[test]
    fn a_release_is_a_canary_with_endpoints_that_is_not_stable() {
        let stable = backends("v1", &["a:1"]);
        assert_eq!(plan(stable.clone(), backends("v2", &[])).release(), None);
        assert_eq!(plan(stable.clone(), stable.clone()).release(), None);
        assert!(plan(stable, backends("v2", &["b:1"])).release().is_some());
    }

    #[test]
    fn the_order_of_endpoints_is_no_difference_and_the_version_is() {
        let hash = |v: &str, e: &[&str]| Version::of(&backends(v, e)).hash;
        assert_eq!(hash("v2", &["a:1", "b:1"]), hash("v2", &["b:1", "a:1"]));
        assert_ne!(hash("v2", &["a:1"]), hash("v3", &["a:1"]));
    }

    #[test]
    fn a_policy_out_of_range_is_refused_with_its_faults() {
        let mut entry = ServiceEntry {
            name: "echo".into(),
            ..ServiceEntry::default()
        };
        entry.rollout.judgement.alpha = 2.0;
        entry.rollout.pacing.max_weight = f64::NAN;
        assert_eq!(Plan::of(&entry).unwrap_err().len(), 2);
    }
}
