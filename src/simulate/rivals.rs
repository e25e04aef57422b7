//! Models of controllers with fixed thresholds, from their documented behaviour: a check of the canary's own success
//! rate and perhaps of its p99 each interval, weights in fixed steps, a rollback after so many failed checks.

mod settings;

use super::{
    end::{End, Verdict},
    traffic::Traffic,
};
use controller::{contract::Span, stats::Arm};
use settings::Settings;
use std::fmt;

/// A controller with fixed thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    name: String,
    /// Seconds between checks.
    interval: u64,
    /// Share of bad answers above which a check fails.
    limit: f64,
    /// Seconds of the p99 above which it fails too; infinite: nobody looks at durations.
    p99: f64,
    /// Failed checks, in all, that make it roll back.
    failures: u64,
    /// Checks between the decision and the rollback.
    late: u64,
    /// Share at each check.
    weights: Vec<f64>,
}

/// One release under way.
struct Ramp<'a> {
    rules: &'a Threshold,
    traffic: Traffic,
    bad: u64,
    slow: u64,
    step: usize,
    failed: u64,
    falls_at: Option<u64>,
}

/// The canary's requests of one interval that have ended, as far as telemetry has them.
struct Seen {
    arm: Arm,
    /// Seconds.
    p99: Option<f64>,
}

impl Threshold {
    /// Flagger with its documented example: 5 % more each minute up to 50 %, 99 % success, a p99 of half a second,
    /// five failures. The rollback comes with the check after the fifth.
    pub fn flagger() -> Threshold {
        Settings::default().rules("flagger 5..50/1m thr5".into())
    }

    /// Argo Rollouts: 20 % more each ten minutes, checked every five, 95 % success, more than three failures.
    pub fn argo() -> Threshold {
        let settings = Settings {
            interval: Span::seconds(300),
            success: 95.0,
            p99: f64::INFINITY,
            failures: 4,
            first: 20.0,
            step: 20.0,
            max: 80.0,
            checks: 2,
            late: 0,
        };
        settings.rules("argo 20%/10m 95% lim3".into())
    }

    /// Runs until a decision or the horizon.
    pub fn run(&self, traffic: Traffic, horizon: u64) -> End {
        let mut ramp = Ramp {
            rules: self,
            traffic,
            bad: 0,
            slow: 0,
            step: 0,
            failed: 0,
            falls_at: None,
        };
        let verdict = ramp.decide(horizon);
        End {
            verdict,
            seconds: ramp.traffic.seconds(),
            bad: ramp.bad,
            slow: ramp.slow,
            alarmed: false,
        }
    }
}

impl Ramp<'_> {
    fn decide(&mut self, horizon: u64) -> Verdict {
        while self.traffic.seconds() + self.rules.interval <= horizon {
            let seen = self.interval();
            if let Some(verdict) = self.check(seen) {
                return verdict;
            }
        }
        Verdict::Undecided
    }

    fn interval(&mut self) -> Seen {
        let share = self.rules.weights[self.step];
        let (mut seen, mut unseen) = (Arm::default(), 0);
        for _ in 0..self.rules.interval {
            let canary = self.traffic.second(share)[1];
            self.bad += self.traffic.harm(canary);
            let ended = self.traffic.ended(1, canary.n);
            if self.traffic.is_silent() {
                unseen += ended;
            } else {
                seen = seen.plus(Arm::new(ended, canary.x.min(ended)));
            }
        }
        self.time(seen, unseen)
    }

    fn time(&mut self, arm: Arm, unseen: u64) -> Seen {
        let [seen, unseen] = [arm.n, unseen].map(|n| self.traffic.durations(1, n));
        let scale = self.traffic.scale();
        self.slow += scale.slow(&seen) + scale.slow(&unseen);
        Seen {
            arm,
            p99: scale.quantile(&seen, 0.99),
        }
    }

    fn check(&mut self, seen: Seen) -> Option<Verdict> {
        let now = self.traffic.seconds();
        let fell = |at: Option<u64>| at.is_some_and(|at| at <= now).then_some(Verdict::RolledBack);
        if fell(self.falls_at).is_some() {
            return fell(self.falls_at);
        }
        // A check without a request fails too.
        let failed = seen.arm.bad() > self.rules.limit * seen.arm.requests()
            || seen.p99.is_none_or(|p99| p99 > self.rules.p99);
        self.failed += u64::from(failed);
        if self.failed >= self.rules.failures {
            self.falls_at
                .get_or_insert(now + self.rules.late * self.rules.interval);
            return fell(self.falls_at);
        }
        (!failed).then(|| self.rise()).flatten()
    }

    /// The next step; after the last one the canary is promoted.
    fn rise(&mut self) -> Option<Verdict> {
        let is_last = self.step + 1 >= self.rules.weights.len();
        self.step += usize::from(!is_last);
        is_last.then_some(Verdict::Promoted)
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{traffic::tests::scene, worlds::World};

    fn run(rules: &Threshold, world: World) -> End {
        rules.run(Traffic::new(scene(world, 100.0, 0.001), 1), 3600)
    }

    #[test]
    fn presets_step_and_fall_as_documented() {
        let (flagger, argo) = (Threshold::flagger(), Threshold::argo());
        assert_eq!(
            (flagger.weights.len(), flagger.weights[0], flagger.weights[9]),
            (10, 0.05, 0.5)
        );
        assert_eq!(argo.weights, [0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8]);
        for (rules, healthy, half, late) in [(&flagger, 600, 360, 480), (&argo, 2400, 1200, 1200)] {
            let ends = [World::Healthy, World::Half, World::Late].map(|w| run(rules, w));
            assert_eq!(ends.map(|e| e.seconds), [healthy, half, late]);
            assert_eq!(ends[0].verdict, Verdict::Promoted);
            assert_eq!(ends[1].verdict, Verdict::RolledBack);
        }
    }

    #[test]
    fn silence_is_failure() {
        let end = run(&Threshold::flagger(), World::NoTraffic);
        assert_eq!((end.verdict, end.seconds), (Verdict::RolledBack, 360));
    }

    #[test]
    fn a_slow_tail_fails_where_the_p99_is_looked_at_and_a_hang_everywhere() {
        let (flagger, argo) = (Threshold::flagger(), Threshold::argo());
        let verdicts = |world| [&flagger, &argo].map(|rules| run(rules, world).verdict);
        assert_eq!(verdicts(World::Slow), [Verdict::Promoted; 2]);
        assert_eq!(verdicts(World::Hang), [Verdict::RolledBack; 2]);
        let strict: Threshold = "p99=300ms".parse().unwrap();
        assert_eq!(run(&strict, World::Slow).verdict, Verdict::RolledBack);
        assert_eq!(run(&argo, World::Tail).verdict, Verdict::Promoted);
    }
}
