//! The stories of `serin demo`, told to the end.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::{
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};
use support::*;

/// Bad releases may share the machine; the good one has it alone. Where the system holds up the canary's process and
/// not stable's, the canary is slower in truth, and rightly rolled back.
static MACHINE: RwLock<()> = RwLock::new(());

fn tell(fault: &str, end: &str) -> String {
    let alone = (fault == "none").then(|| MACHINE.write().unwrap_or_else(PoisonError::into_inner));
    let _shared = alone
        .is_none()
        .then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner));
    let begin = Instant::now();
    let out = serin(&["demo", "--plain", "--fault", fault]);
    let text = stdout(&out);
    println!("{text}");
    assert_eq!(out.status.code(), Some(0), "{text}{}", stderr(&out));
    assert!(begin.elapsed() < Duration::from_secs(90), "{:?}", begin.elapsed());
    let last: Vec<&str> = text.lines().rev().take(2).collect();
    assert!(last[1].starts_with(end), "{last:?}");
    assert!(last[0].ends_with("This is how it should end."), "{last:?}");
    assert!(
        text.contains("alpha 0.01") && text.contains("soak"),
        "the policy is printed"
    );
    text
}

#[test]
fn a_good_release_is_promoted() {
    let text = tell("none", "PROMOTED");
    assert!(text.contains("and lost 0 requests"), "{text}");
}

#[test]
fn errors_are_rolled_back_with_counts() {
    assert!(tell("errors", "ROLLED BACK").contains(" bad of "));
}

#[test]
fn slow_answers_are_rolled_back_with_quantiles() {
    assert!(tell("latency", "ROLLED BACK").contains("slower: p"));
}

#[test]
fn requests_that_never_end_are_rolled_back() {
    assert!(tell("hang", "ROLLED BACK").contains(" bad, stable 0 of "));
}

#[test]
fn late_errors_are_rolled_back() {
    tell("late", "ROLLED BACK");
}

#[test]
fn a_story_that_cannot_end_well_says_so() {
    let out = serin(&["demo", "--plain", "--fault", "everything"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("possible values"), "{}", stderr(&out));
}
