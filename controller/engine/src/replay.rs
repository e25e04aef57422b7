//! The log of blocks folded again: does the same evidence give the same figures, bit for bit?

use crate::judge::{Entry, Event, Evidence};
use contract::release::{Decision, Figures, Phase};

/// One decision of a log, computed again.
#[derive(Clone, Debug, PartialEq)]
pub struct Recomputed {
    /// As it stands in the log.
    pub decision: Decision,
    /// Events that its evidence had taken.
    pub events: u64,
    /// The event that made a rollback certain, if one did.
    pub certain: Option<u64>,
    /// What came of it.
    pub found: Found,
}

/// What came of computing a decision again.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The same, bit for bit.
    Same,
    /// It rests on no evidence.
    Nothing,
    /// Something else, the first difference first.
    Differs(Vec<Difference>),
    /// The log does not say what it rests on, and why, as a clause.
    Unknown(String),
}

/// A figure that is not what the log says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Which.
    pub figure: &'static str,
    /// What the log says.
    pub logged: f64,
    /// What comes out.
    pub recomputed: f64,
}

/// The entries that hold: a turn that a crash cut off is repeated, and then its numbers come again. The later ones
/// hold, and whatever came after the earlier ones does not.
pub fn mended(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut held: Vec<Entry> = Vec::new();
    for entry in entries {
        match &entry {
            Entry::Taken { n, .. } => return_to(&mut held, n.saturating_sub(1)),
            // A repeated turn may decide on less than the one that was cut off had read.
            Entry::Decided(d) if d.figures.rollback_at > 0.0 => return_to(&mut held, d.figures.events),
            Entry::Decided(_) | Entry::Begun { .. } | Entry::Written { .. } => {}
        }
        if let Entry::Decided(d) = &entry {
            forget_decision(&mut held, d.number);
        }
        held.push(entry);
    }
    held
}

/// What comes next rests on so many events: evidence that a turn began and did not live to use was in vain.
fn return_to(held: &mut Vec<Entry>, events: u64) {
    if stands_at(held) == Some(events) {
        return;
    }
    while let Some(begun) = held.iter().rposition(|e| matches!(e, Entry::Begun { .. })) {
        let earlier = || last_number(&held[..begun]).is_some_and(|n| n >= events);
        if events == 0 || last_number(&held[begun..]).is_some() || !earlier() {
            break;
        }
        held.truncate(begun);
    }
    forget(held, events.saturating_add(1));
}

/// Events of the evidence under way.
fn stands_at(held: &[Entry]) -> Option<u64> {
    held.iter().rev().find_map(|e| match e {
        Entry::Taken { n, .. } => Some(*n),
        Entry::Begun { .. } => Some(0),
        _ => None,
    })
}

/// Number of the last event.
fn last_number(entries: &[Entry]) -> Option<u64> {
    entries.iter().rev().find_map(|e| match e {
        Entry::Taken { n, .. } => Some(*n),
        _ => None,
    })
}

/// Forgets the events from this number on, and whatever came after them.
fn forget(held: &mut Vec<Entry>, n: u64) {
    held.truncate(repeated(held, n).unwrap_or(held.len()));
}

/// Forgets a decision of the turn that was cut off.
fn forget_decision(held: &mut Vec<Entry>, number: u64) {
    let since = held
        .iter()
        .rposition(|e| matches!(e, Entry::Taken { .. }))
        .unwrap_or(0);
    let same = |e: &Entry| matches!(e, Entry::Decided(d) if d.number == number);
    if let Some(at) = held.iter().skip(since).position(same) {
        held.remove(since + at);
    }
}

/// Where the event with this number stands in the evidence under way.
fn repeated(held: &[Entry], n: u64) -> Option<usize> {
    let begun = held.iter().rposition(|e| matches!(e, Entry::Begun { .. }))?;
    let under_way = held.iter().enumerate().skip(begun);
    // From the end: what is new is told apart after one look.
    let numbers = under_way.rev().filter_map(|(i, e)| match e {
        Entry::Taken { n, .. } => Some((i, *n)),
        _ => None,
    });
    numbers
        .take_while(|(_, number)| *number >= n)
        .last()
        .map(|(i, _)| i)
}

/// Computes every decision of a mended log again.
pub fn replay(entries: &[Entry]) -> Vec<Recomputed> {
    let mut fold = Fold::default();
    entries.iter().filter_map(|entry| fold.take(entry)).collect()
}

/// Evidence under way.
#[derive(Default)]
struct Fold {
    evidence: Option<Evidence>,
    certain: Option<u64>,
    /// Why it cannot be known any more.
    lost: Option<String>,
}

impl Fold {
    fn take(&mut self, entry: &Entry) -> Option<Recomputed> {
        match entry {
            Entry::Written { .. } => None,
            Entry::Begun { evidence } => {
                *self = Fold::begin(evidence);
                None
            }
            Entry::Taken { n, event } => {
                self.apply(*n, event);
                None
            }
            Entry::Decided(decision) => Some(self.compare(decision)),
        }
    }

    fn begin(word: &str) -> Fold {
        match Evidence::of_word(word) {
            Ok(evidence) => Fold {
                evidence: Some(evidence),
                ..Fold::default()
            },
            Err(why) => Fold {
                lost: Some(format!("the evidence that it begins with {why}")),
                ..Fold::default()
            },
        }
    }

    fn apply(&mut self, n: u64, event: &Event) {
        let why = match &mut self.evidence {
            Some(evidence) if n == evidence.events() + 1 => {
                evidence.apply(event);
                self.certain = self.certain.or(evidence.is_worse().then_some(n));
                return;
            }
            Some(evidence) => gap(evidence.events() + 1, n),
            None => "the log begins in the middle of it".to_owned(),
        };
        self.lose(why);
    }

    /// The first reason holds.
    fn lose(&mut self, why: String) {
        self.evidence = None;
        self.lost.get_or_insert(why);
    }

    fn compare(&self, decision: &Decision) -> Recomputed {
        let figures = &decision.figures;
        let found = match (&self.evidence, &self.lost) {
            // Before the first weight there is no threshold either.
            _ if figures.rollback_at <= 0.0 => Found::Nothing,
            (_, Some(why)) => Found::Unknown(why.clone()),
            (None, None) => Found::Unknown("the log begins after it".to_owned()),
            (Some(evidence), None) => {
                let mut found = differences(figures, evidence);
                found.extend(self.lateness(decision));
                if found.is_empty() {
                    Found::Same
                } else {
                    Found::Differs(found)
                }
            }
        };
        Recomputed {
            decision: decision.clone(),
            events: figures.events,
            certain: self.certain.filter(|_| found != Found::Nothing),
            found,
        }
    }

    /// A rollback by evidence is decided at the very event that makes it certain.
    fn lateness(&self, decision: &Decision) -> Option<Difference> {
        let f = &decision.figures;
        let certain = self.certain.filter(|_| decision.to == Phase::RollingBack)?;
        (certain != f.events).then_some(Difference {
            figure: "the block that made the rollback certain",
            logged: f.events as f64,
            recomputed: certain as f64,
        })
    }
}

fn gap(wanted: u64, found: u64) -> String {
    format!("block {wanted} is missing: block {found} comes next")
}

fn differences(logged: &Figures, evidence: &Evidence) -> Vec<Difference> {
    let plain = [
        ("events", logged.events as f64, evidence.events() as f64),
        ("evidence for worse", logged.log_rollback, evidence.log_rollback()),
        ("rollback threshold", logged.rollback_at, evidence.rollback_at()),
        (
            "evidence for good enough",
            logged.log_promote,
            evidence.log_promote(),
        ),
        ("promotion threshold", logged.promote_at, evidence.promote_at()),
    ];
    let (was, is) = (
        logged.metrics.unwrap_or_default(),
        evidence.shown().unwrap_or_default(),
    );
    let metrics = [
        ("evidence of errors", was.errors, is.errors),
        ("evidence of latency", was.latency, is.latency),
        ("evidence of unanswered requests", was.stalled, is.stalled),
    ];
    plain
        .into_iter()
        .chain(metrics)
        .filter(|(_, logged, recomputed)| logged.to_bits() != recomputed.to_bits())
        .map(|(figure, logged, recomputed)| Difference {
            figure,
            logged,
            recomputed,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;
    use contract::{Split, file::ServiceEntry};
    use stats::Arm;

    fn evidence() -> Evidence {
        Evidence::of_nothing(&Plan::of(&ServiceEntry::default()).unwrap())
    }

    fn begun() -> Entry {
        Entry::Begun {
            evidence: evidence().word(),
        }
    }

    fn event(dt: f64) -> Event {
        Event::Slices {
            dt,
            slices: vec![Arm::new(3, 1)],
        }
    }

    fn taken(n: u64) -> Entry {
        Entry::Taken {
            n,
            event: event(n as f64),
        }
    }

    fn decided(number: u64, events: u64) -> Entry {
        let evidence = evidence();
        Entry::Decided(Box::new(Decision {
            number,
            at: 0.0,
            version: "v2".into(),
            release: "r".into(),
            from: Phase::Shifting,
            to: Phase::Shifting,
            weight: Split::NONE,
            reason: String::new(),
            by: String::new(),
            figures: Figures {
                log_rollback: evidence.log_rollback(),
                rollback_at: evidence.rollback_at(),
                log_promote: evidence.log_promote(),
                promote_at: evidence.promote_at(),
                metrics: evidence.shown(),
                events,
                ..Figures::default()
            },
            explanation: None,
        }))
    }

    fn found(entries: Vec<Entry>) -> Vec<Found> {
        let mended = mended(entries);
        replay(&mended).into_iter().map(|r| r.found).collect()
    }

    #[test]
    fn a_number_that_comes_again_ends_what_came_after_it() {
        let cut_off = vec![begun(), taken(1), taken(2), decided(1, 2), taken(3)];
        let repeated = [taken(2), taken(3), decided(1, 3)];
        let held = mended(cut_off.into_iter().chain(repeated));
        assert_eq!(held, [begun(), taken(1), taken(2), taken(3), decided(1, 3)]);
    }

    #[test]
    fn numbers_of_an_earlier_run_are_no_repetition_and_a_decision_is_held_once() {
        let log = vec![
            begun(),
            taken(1),
            taken(2),
            begun(),
            taken(1),
            decided(4, 1),
            decided(4, 1),
        ];
        let held = mended(log.clone());
        assert_eq!(held, log[..6]);
    }

    #[test]
    fn what_is_missing_is_not_guessed() {
        let log = vec![
            decided(1, 0),
            begun(),
            taken(1),
            decided(2, 1),
            taken(3),
            decided(3, 3),
        ];
        let found = found(log);
        assert!(matches!(&found[0], Found::Unknown(why) if why.contains("begins after")));
        assert_eq!(found[1], Found::Same);
        assert!(
            matches!(&found[2], Found::Unknown(why) if why.contains("block 2 is missing")),
            "{found:?}"
        );
        let word = Entry::Begun { evidence: "?".into() };
        let unread = replay(&[word, decided(1, 0)]);
        assert!(matches!(&unread[0].found, Found::Unknown(why) if why.contains("base64")));
    }

    #[test]
    fn the_figure_that_differs_is_named_with_both_values() {
        let found = found(vec![begun(), taken(1), decided(1, 2)]);
        let difference = Difference {
            figure: "events",
            logged: 2.0,
            recomputed: 1.0,
        };
        assert_eq!(found, [Found::Differs(vec![difference])]);
    }
}
