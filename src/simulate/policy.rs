//! The policy that is simulated: a file, the defaults, or the settings of the reference figures.

use crate::fail::Failure;
use controller::{
    contract::{
        Span, fault,
        file::ServiceEntry,
        policy::{Margin, Policy, Step},
        routes::Backends,
    },
    engine::Plan,
};
use std::{fs, path::Path};

/// Longer than any horizon: such a step or deadline never ends.
const FOREVER: Span = Span::seconds(300 * 86_400);

/// Reads the words of `[service.rollout]`, checks apart; without a file, the defaults.
pub fn read(file: Option<&Path>) -> Result<Policy, Failure> {
    let Some(path) = file else {
        return Ok(Policy::default());
    };
    let place = path.display();
    let text = fs::read_to_string(path).map_err(|e| {
        Failure::usage(format!(
            "cannot read {place}: {e}; name a TOML file with the words of [service.rollout], or none for the defaults"
        ))
    })?;
    let mut policy: Policy =
        toml::from_str(&text).map_err(|e| Failure::usage(format!("{place} is no policy: {e}")))?;
    let faults = policy.faults("policy");
    if !faults.is_empty() {
        return Err(Failure::usage(format!("{place}:\n{}", fault::listing(&faults))));
    }
    // Nobody answers them in virtual time, and the weight would never rise.
    policy.judgement.checks.clear();
    Ok(policy)
}

/// As the reference figures were measured: no tolerance, a rise each second, soak of a minute, no watch.
pub fn reference(mut policy: Policy) -> Policy {
    policy.judgement.errors.rollback = Margin {
        ratio: 1.0,
        absolute: 0.0,
    };
    policy.pacing.interval = Span::seconds(1);
    policy.pacing.soak = Span::seconds(60);
    policy.promotion.watch = Span::seconds(0);
    policy
}

/// One weight for good: nothing is promoted, and only evidence for "worse" ends it.
pub fn fixed(mut policy: Policy, percent: f64) -> Policy {
    policy.pacing.steps = vec![Step {
        weight: percent,
        hold: FOREVER,
        pause: false,
    }];
    policy.deadline = FOREVER;
    policy
}

/// A plan with two versions to go with the policy.
pub fn plan(policy: Policy) -> Result<Plan, Failure> {
    let backends = |version: &str, at: &str| Backends {
        version: version.into(),
        endpoints: vec![at.into()],
    };
    let entry = ServiceEntry {
        name: "simulated".into(),
        stable: backends("v1", "127.0.0.1:1"),
        canary: backends("v2", "127.0.0.1:2"),
        rollout: policy,
        ..ServiceEntry::default()
    };
    Plan::of(&entry).map_err(|faults| Failure::usage(fault::listing(&faults)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_left_out_and_their_faults_are_not() {
        let path = std::env::temp_dir().join(format!("serin-policy-{}.toml", std::process::id()));
        let text = "[[judgement.checks]]\nname = \"stock\"\nhttp = { url = \"http://stock/\" }\n";
        fs::write(&path, format!("{text}max = 0.5\n")).unwrap();
        assert_eq!(read(Some(&path)).ok(), Some(Policy::default()));
        fs::write(&path, text).unwrap();
        assert!(read(Some(&path)).is_err());
        fs::remove_file(path).unwrap();
    }
}
