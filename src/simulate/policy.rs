//! The policy that is simulated: a file, the defaults, or the settings of the reference figures.

use crate::fail::Failure;
use controller::{
    contract::{
        Span, fault,
        file::ServiceEntry,
        policy::{Margin, Noise, Policy, Step},
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

/// As the reference figures were measured: errors alone, no tolerance, no warm-up, a rise each second, soak of a minute,
/// no watch.
pub fn reference(policy: Policy) -> Policy {
    let mut policy = unwatched(noiseless(errors_only(policy)));
    policy.judgement.errors.rollback = Margin {
        ratio: 1.0,
        absolute: 0.0,
    };
    policy.judgement.warm_up = Span::seconds(0);
    policy.pacing.interval = Span::seconds(1);
    policy.pacing.soak = Span::seconds(60);
    policy
}

/// Neither slowness nor hangs are judged.
pub fn errors_only(mut policy: Policy) -> Policy {
    policy.judgement.latency.enabled = false;
    policy
}

/// What stable shows of itself is not looked at.
pub fn noiseless(mut policy: Policy) -> Policy {
    policy.judgement.noise = Noise {
        dispersion: false,
        pod_spread: false,
        placebos: false,
    };
    policy
}

/// A promotion is the end.
pub fn unwatched(mut policy: Policy) -> Policy {
    policy.promotion.watch = Span::seconds(0);
    policy
}

/// What stable shows of itself changes nothing; the placebos go on watching.
pub fn uncalibrated(mut policy: Policy) -> Policy {
    policy.judgement.noise.dispersion = false;
    policy.judgement.noise.pod_spread = false;
    policy
}

/// One weight for good, and a canary that is warm: nothing is promoted, and only evidence for "worse" ends it.
pub fn fixed(mut policy: Policy, percent: f64) -> Policy {
    policy.pacing.steps = vec![Step {
        weight: percent,
        hold: FOREVER,
        pause: false,
    }];
    policy.deadline = FOREVER;
    policy.judgement.warm_up = Span::seconds(0);
    policy
}

/// A plan with two versions to go with the policy.
pub fn plan(policy: Policy) -> Result<Plan, Failure> {
    let backends = |version: &str, at: &str| Backends {
        version: version.into(),
        endpoints: vec![at.into()],
        ..Backends::default()
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
