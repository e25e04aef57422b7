//! The steps of a canary.

use super::{analysis, span};
use crate::migrate::{layout::Release, list, matches, number, text};
use proxy::contract::{
    Span,
    matches::RouteMatch,
    names::{CANARY_MATCH, CANARY_MIRROR},
    policy::{At, Gate, Step},
};
use serde_json::Value;

/// Longest hold: a span is a year at most.
const LONGEST: u64 = 365 * 24 * 3600;

/// Reads them in order.
pub fn all(release: &mut Release<'_>, objects: &[Value], canary: &Value) {
    let most = number(canary, "/trafficRouting/maxTrafficWeight")
        .filter(|m| *m > 0.0)
        .unwrap_or(100.0);
    let mut reader = Reader {
        release,
        most,
        steps: Vec::new(),
        matches: Vec::new(),
    };
    for (i, step) in list(canary, "/steps").iter().enumerate() {
        let key = format!("spec.strategy.canary.steps[{i}]");
        match step.get("analysis").filter(|a| !a.is_null()) {
            Some(inner) => analysis(reader.release, objects, &format!("{key}.analysis"), inner),
            None => reader.read(&key, step),
        }
    }
    reader.finish();
}

struct Reader<'r, 'a> {
    release: &'r mut Release<'a>,
    most: f64,
    steps: Vec<Step>,
    matches: Vec<RouteMatch>,
}

impl Reader<'_, '_> {
    fn read(&mut self, key: &str, step: &Value) {
        if let Some(weight) = number(step, "/setWeight") {
            self.weight(key, 100.0 * weight / self.most);
        } else if let Some(pause) = step.get("pause") {
            self.pause(key, pause);
        } else if let Some(route) = step.get("setHeaderRoute") {
            self.header(key, route);
        } else if let Some(route) = step.get("setMirrorRoute") {
            self.mirror(key, route);
        }
        // All others are in the table of fields.
    }

    fn weight(&mut self, key: &str, percent: f64) {
        let before = self.steps.last().map_or(0.0, |s| s.weight);
        if percent == before {
            return;
        }
        if percent < before || !(0.0001..=100.0).contains(&percent) {
            let why = "is less than the step before, and the weight of a release only grows until it is promoted or rolled back; take it out";
            let value = Value::String(percent.to_string());
            return self.release.lose(format!("{key}.setWeight"), &value, why);
        }
        self.steps.push(Step {
            weight: percent,
            hold: Span::default(),
            pause: false,
        });
    }

    /// Before the first weight only a person can be waited for, and by a gate.
    fn pause(&mut self, key: &str, pause: &Value) {
        let duration = pause.get("duration").filter(|d| !d.is_null());
        let hold = duration.and_then(span);
        if let (Some(given), None) = (duration, hold) {
            let why = "is no length of time here; write for example 90s or 10m as hold of the step";
            return self.release.lose(format!("{key}.pause.duration"), given, why);
        }
        match (self.steps.last_mut(), hold) {
            (Some(step), Some(hold)) => {
                let sum = step.hold.duration().saturating_add(hold.duration()).as_secs();
                step.hold = Span::seconds(sum.min(LONGEST));
            }
            (Some(step), None) => step.pause = true,
            (None, None) => self.gate(key),
            (None, Some(_)) => {
                let why = "is a time at weight 0, which nothing here holds; spec.verify.smoke and a gate before-start are what comes before users";
                self.release.lose(format!("{key}.pause"), pause, why);
            }
        }
    }

    fn gate(&mut self, key: &str) {
        let name = "before-the-first-weight";
        if !self.release.policy.gates.iter().any(|g| g.name == name) {
            self.release.policy.gates.push(Gate {
                name: name.to_owned(),
                at: At::BeforeStart,
                webhook: None,
            });
        }
        let why = format!(
            "is a gate here, since no step is before the first weight: `serin approve NAME {name}` goes on"
        );
        self.release
            .lose(format!("{key}.pause"), &Value::String("{}".to_owned()), why);
    }

    fn header(&mut self, key: &str, route: &Value) {
        let all = list(route, "/match");
        let key = format!("{key}.setHeaderRoute");
        if all.is_empty() {
            let why = "takes the route away in mid-release; testers keep it here until serin.dev/canary-match is taken away";
            return self.release.lose(key, route, why);
        }
        for one in all {
            let test = text(one, "/headerName").and_then(|name| matches::header(name, &one["headerValue"]));
            match test.map(|t| matches::of(vec![t])) {
                Some(Ok(found)) if !self.matches.contains(&found) => self.matches.push(found),
                Some(Ok(_)) => {}
                Some(Err(why)) => self
                    .release
                    .lose(&key, one, format!("is not taken by the proxy: {why}")),
                None => self.release.lose(
                    &key,
                    one,
                    "names no header and value; write serin.dev/canary-match by hand",
                ),
            }
        }
    }

    fn mirror(&mut self, key: &str, route: &Value) {
        let key = format!("{key}.setMirrorRoute");
        if list(route, "/match").is_empty() && route["percentage"].is_null() {
            return;
        }
        if !self.steps.is_empty() {
            let why = "copies beside a weight, and copies are made at weight 0 only here; put it before the first setWeight";
            return self.release.lose(key, route, why);
        }
        if !list(route, "/match").is_empty() {
            let why = "copies some requests only, and serin.dev/canary-mirror takes its percentage of all that are safe to repeat";
            self.release.lose(format!("{key}.match"), &route["match"], why);
        }
        let percent = number(route, "/percentage").unwrap_or(100.0);
        self.release.notes.insert(CANARY_MIRROR, percent.to_string());
    }

    fn finish(self) {
        if let Ok(text) = serde_json::to_string(&self.matches)
            && !self.matches.is_empty()
        {
            self.release.notes.insert(CANARY_MATCH, text);
        }
        self.release.policy.pacing.steps = self.steps;
    }
}
