//! The words of a model with fixed thresholds.

use super::Threshold;
use controller::contract::Span;
use std::str::FromStr;

/// What can be typed, for errors.
const WORDS: &str =
    "flagger, argo, or interval=1m,success=99,p99=500ms,failures=5,first=5,step=5,max=50,checks=1,late=1";

/// As typed; weights and success in percent.
pub struct Settings {
    /// Between checks.
    pub interval: Span,
    /// Of the canary's requests, below which a check fails.
    pub success: f64,
    /// Seconds of its p99, above which a check fails too; infinite: nobody looks.
    pub p99: f64,
    /// Failed checks, in all, that make it roll back.
    pub failures: u64,
    /// Of the requests, first step.
    pub first: f64,
    /// From step to step.
    pub step: f64,
    /// Last step.
    pub max: f64,
    /// Of each step.
    pub checks: usize,
    /// Between the decision and the rollback.
    pub late: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            interval: Span::seconds(60),
            success: 99.0,
            p99: 0.5,
            failures: 5,
            first: 5.0,
            step: 5.0,
            max: 50.0,
            checks: 1,
            late: 1,
        }
    }
}

impl Settings {
    /// The controller that they describe.
    pub fn rules(&self, name: String) -> Threshold {
        Threshold {
            name,
            interval: self.interval.as_seconds() as u64,
            limit: 1.0 - self.success / 100.0,
            p99: self.p99,
            failures: self.failures,
            late: self.late,
            weights: self.weights(),
        }
    }

    /// From the first to the last, each as often as it is checked.
    fn weights(&self) -> Vec<f64> {
        let steps = ((self.max - self.first) / self.step + 1e-9).floor() as usize;
        (0..=steps)
            .flat_map(|i| vec![(self.first + i as f64 * self.step) / 100.0; self.checks])
            .collect()
    }

    fn set(&mut self, word: &str) -> Option<()> {
        let (key, value) = word.split_once('=')?;
        match key {
            "interval" => self.interval = value.parse().ok()?,
            "success" => self.success = percent(value)?,
            "p99" => self.p99 = age(value)?,
            "failures" => self.failures = value.parse().ok().filter(|n| *n > 0)?,
            "first" => self.first = percent(value)?,
            "step" => self.step = percent(value).filter(|s| *s >= 0.01)?,
            "max" => self.max = percent(value)?,
            "checks" => self.checks = value.parse().ok().filter(|n| (1..=1000).contains(n))?,
            "late" => self.late = value.parse().ok().filter(|n| *n <= 1000)?,
            _ => return None,
        }
        Some(())
    }

    fn is_possible(&self) -> bool {
        self.interval >= Span::seconds(1) && self.first <= self.max && self.first > 0.0
    }
}

/// Of a p99: `500ms`, or `none`.
fn age(text: &str) -> Option<f64> {
    let seconds = |span: Span| Some(span.as_seconds()).filter(|s| *s > 0.0);
    match text {
        "none" => Some(f64::INFINITY),
        _ => text.parse().ok().and_then(seconds),
    }
}

fn percent(text: &str) -> Option<f64> {
    text.parse().ok().filter(|p| (0.0..=100.0).contains(p))
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Threshold, String> {
        match text {
            "flagger" => return Ok(Threshold::flagger()),
            "argo" => return Ok(Threshold::argo()),
            _ => {}
        }
        let mut settings = Settings::default();
        for word in text.split(',') {
            settings
                .set(word)
                .ok_or_else(|| format!("`{word}` is not understood; write {WORDS}"))?;
        }
        if !settings.is_possible() {
            return Err("write an interval of 1s or more, and 0 < first <= max".into());
        }
        Ok(settings.rules(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_refused_with_a_remedy() {
        let rules: Threshold = "interval=30s,success=98,failures=2,first=10,step=20,max=50,checks=1,late=0"
            .parse()
            .unwrap();
        assert_eq!((rules.interval, rules.failures, rules.late), (30, 2, 0));
        assert_eq!(rules.weights, [0.1, 0.3, 0.5]);
        let p99 = |text: &str| text.parse::<Threshold>().unwrap().p99;
        assert_eq!(
            (p99("p99=250ms"), p99("p99=none"), p99("late=1")),
            (0.25, f64::INFINITY, 0.5)
        );
        for bad in [
            "spinnaker",
            "interval=0s",
            "first=60",
            "step=0",
            "success=101",
            "failures=0",
            "p99=0s",
            "",
        ] {
            let told = bad.parse::<Threshold>().unwrap_err();
            assert!(told.contains("write "), "{bad}: {told}");
        }
    }
}
