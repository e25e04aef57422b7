//! The arithmetic of a rolling update, as the Deployment controller does it. Pure.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// One ReplicaSet: what is wanted of it, and what of that is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// `spec.replicas`.
    pub wanted: i32,
    /// `status.availableReplicas`.
    pub available: i32,
}

/// A Deployment in the middle of an update; old sets stand oldest first.
#[derive(Clone, Debug)]
pub struct Update {
    /// `spec.replicas` of the Deployment.
    pub replicas: i32,
    /// Pods above that number.
    pub surge: i32,
    /// Pods that may be missing.
    pub unavailable: i32,
    /// The set of the present template.
    pub new: Count,
    /// All others.
    pub old: Vec<Count>,
}

impl Update {
    /// The sizes that may be set now: the new set's, and the old ones' in their order.
    pub fn sizes(mut self) -> (i32, Vec<i32>) {
        self.new.wanted = self.grow();
        self.shrink();
        (self.new.wanted, self.old.iter().map(|c| c.wanted).collect())
    }

    fn total(&self) -> i32 {
        self.new.wanted + self.old.iter().map(|c| c.wanted).sum::<i32>()
    }

    fn grow(&self) -> i32 {
        if self.new.wanted >= self.replicas {
            return self.replicas;
        }
        let room = self.replicas + self.surge - self.total();
        (self.new.wanted + room.max(0)).min(self.replicas)
    }

    /// Unhealthy pods of old sets go first; then as many as the available ones can spare.
    fn shrink(&mut self) {
        let least = self.replicas - self.unavailable;
        let missing = (self.new.wanted - self.new.available).max(0);
        let spare = self.total() - least - missing;
        let spare = take(&mut self.old, spare, |c| c.wanted - c.available);
        let available = self.new.available + self.old.iter().map(|c| c.available.min(c.wanted)).sum::<i32>();
        take(&mut self.old, (available - least).min(spare), |c| c.wanted);
    }
}

fn take(sets: &mut [Count], mut spare: i32, may_go: impl Fn(&Count) -> i32) -> i32 {
    for set in sets {
        let gone = may_go(set).min(spare).max(0);
        set.wanted -= gone;
        spare -= gone;
    }
    spare
}

/// A number or a percentage of `whole`; percentages are rounded as asked.
pub fn resolve(value: Option<&IntOrString>, default: &str, whole: i32, up: bool) -> i32 {
    let text = match value {
        Some(IntOrString::Int(n)) => return *n,
        Some(IntOrString::String(s)) => s,
        None => default,
    };
    let percent: i32 = text.trim_end_matches('%').parse().unwrap_or(0);
    let product = whole * percent;
    if up { (product + 99) / 100 } else { product / 100 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(wanted: i32, available: i32) -> Count {
        Count { wanted, available }
    }

    fn update(new: Count, old: Vec<Count>) -> Update {
        Update {
            replicas: 3,
            surge: 1,
            unavailable: 0,
            new,
            old,
        }
    }

    #[test]
    fn first_one_more_then_one_less() {
        assert_eq!(update(count(0, 0), vec![count(3, 3)]).sizes(), (1, vec![3]));
        assert_eq!(update(count(1, 0), vec![count(3, 3)]).sizes(), (1, vec![3]));
        assert_eq!(update(count(1, 1), vec![count(3, 3)]).sizes(), (1, vec![2]));
        assert_eq!(update(count(3, 3), vec![count(1, 1)]).sizes(), (3, vec![0]));
    }

    #[test]
    fn a_late_status_cuts_nothing_twice() {
        assert_eq!(update(count(1, 1), vec![count(2, 3)]).sizes(), (2, vec![2]));
    }

    #[test]
    fn what_never_started_goes_first() {
        assert_eq!(
            update(count(1, 1), vec![count(2, 0), count(1, 1)]).sizes(),
            (1, vec![1, 1])
        );
    }

    #[test]
    fn percentages_round_up_for_surge_and_down_for_the_missing() {
        assert_eq!(resolve(None, "25%", 3, true), 1);
        assert_eq!(resolve(None, "25%", 3, false), 0);
        assert_eq!(resolve(Some(&IntOrString::Int(2)), "25%", 3, false), 2);
        assert_eq!(
            resolve(Some(&IntOrString::String("50%".into())), "25%", 5, true),
            3
        );
    }
}
