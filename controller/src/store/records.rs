//! Decisions on record, for whoever asks.

use super::history;
use contract::release::Decision;
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// Decisions that are kept without a folder, and told at most with one.
const KEPT: usize = 200;

/// Where decisions are. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub(crate) enum Records {
    /// With whoever has made them.
    Memory(Recent),
    /// In a history file.
    File(PathBuf),
}

/// Which decision is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The last one that rests on evidence; without one, the last.
    Last,
    /// By its number.
    Number(u64),
}

/// The last decisions of all services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent(Arc<Mutex<VecDeque<(String, Decision)>>>);

impl Which {
    /// `last`, or a number.
    pub fn parse(text: &str) -> Option<Which> {
        match text {
            "last" => Some(Which::Last),
            number => number.parse().ok().map(Which::Number),
        }
    }

    fn of(self, decisions: impl Iterator<Item = Decision>) -> Option<Decision> {
        match self {
            Which::Number(n) => decisions.filter(|d| d.number == n).last(),
            Which::Last => decisions.fold(None, |best: Option<Decision>, d| {
                let explained = best.as_ref().is_some_and(|b| b.explanation.is_some());
                if explained && d.explanation.is_none() {
                    best
                } else {
                    Some(d)
                }
            }),
        }
    }
}

impl Records {
    /// A decision of a service; `None`: it is not on record.
    pub fn find(&self, service: &str, which: Which) -> io::Result<Option<Decision>> {
        match self {
            Records::Memory(recent) => Ok(which.of(recent.of(service).into_iter())),
            Records::File(path) => Ok(which.of(history::decisions(path, service)?)),
        }
    }
}

impl Records {
    /// The last decisions of a service, oldest first, without what they rested on.
    pub fn all(&self, service: &str) -> io::Result<Vec<Decision>> {
        let mut found: VecDeque<Decision> = VecDeque::new();
        let mut keep = |mut decision: Decision| {
            decision.explanation = None;
            if found.len() >= KEPT {
                found.pop_front();
            }
            found.push_back(decision);
        };
        match self {
            Records::Memory(recent) => recent.of(service).into_iter().for_each(&mut keep),
            Records::File(path) => history::decisions(path, service)?.for_each(&mut keep),
        }
        Ok(found.into())
    }
}

impl Recent {
    /// Keeps a decision, unless its number is kept: then a turn is being repeated.
    pub fn keep(&self, service: &str, decision: &Decision) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(s, d): &(String, Decision)| s == service && d.number == decision.number;
        if kept.iter().any(known) {
            return;
        }
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((service.to_owned(), decision.clone()));
    }

    /// Adds decisions that others have kept; what is known here is known better.
    pub fn learn(&self, service: &str, found: Vec<Decision>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mine, others): (VecDeque<_>, VecDeque<_>) = kept.drain(..).partition(|(s, _)| s == service);
        let all = found.into_iter().chain(mine.into_iter().map(|(_, d)| d));
        let all: BTreeMap<u64, Decision> = all.map(|d| (d.number, d)).collect();
        *kept = others;
        kept.extend(all.into_values().map(|d| (service.to_owned(), d)));
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    fn of(&self, service: &str) -> Vec<Decision> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = kept.iter().filter(|(s, _)| s == service);
        mine.map(|(_, d)| d.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{
        Split,
        explanation::Explanation,
        release::{Figures, Phase},
    };

    fn decision(number: u64, explained: bool) -> Decision {
        Decision {
            number,
            at: 0.0,
            version: "v2".into(),
            release: "r".into(),
            from: Phase::Shifting,
            to: Phase::Shifting,
            weight: Split::NONE,
            reason: String::new(),
            by: String::new(),
            figures: Figures::default(),
            explanation: explained.then(Box::<Explanation>::default),
        }
    }

    #[test]
    fn the_last_decision_is_the_last_that_rests_on_evidence() {
        let recent = Recent::default();
        let records = Records::Memory(recent.clone());
        let last = || records.find("echo", Which::Last).unwrap().map(|d| d.number);
        assert_eq!(last(), None);
        for (number, explained, expected) in [(1, false, 1), (2, true, 2), (3, true, 3), (4, false, 3)] {
            recent.keep("echo", &decision(number, explained));
            recent.keep("other", &decision(number + 10, true));
            assert_eq!(last(), Some(expected));
        }
        assert_eq!(
            records.find("echo", Which::Number(4)).unwrap().map(|d| d.number),
            Some(4)
        );
        assert_eq!(records.find("echo", Which::Number(12)).unwrap(), None);
    }

    #[test]
    fn what_others_have_kept_comes_in_its_order_and_takes_nothing_away() {
        let recent = Recent::default();
        recent.keep("echo", &decision(3, true));
        recent.keep("other", &decision(9, false));
        recent.learn("echo", vec![decision(2, false), decision(3, false)]);
        let mine = recent.of("echo");
        let told: Vec<_> = mine.iter().map(|d| (d.number, d.explanation.is_some())).collect();
        assert_eq!(told, [(2, false), (3, true)]);
        assert_eq!(recent.of("other").len(), 1);
        recent.learn("echo", (0..500).map(|n| decision(n, false)).collect());
        assert_eq!(
            (
                recent.of("echo").len(),
                recent.of("echo").last().map(|d| d.number)
            ),
            (KEPT, Some(499))
        );
    }

    #[test]
    fn memory_is_bounded() {
        let recent = Recent::default();
        (0..KEPT as u64 + 7).for_each(|n| recent.keep("echo", &decision(n, false)));
        assert_eq!(recent.of("echo").first().map(|d| d.number), Some(7));
        assert_eq!(recent.of("echo").len(), KEPT);
    }
}
