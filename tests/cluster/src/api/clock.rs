//! The time as the API writes it.

use k8s_openapi::jiff::{Timestamp, Unit};

/// Now, in whole seconds: `2026-01-02T03:04:05Z`.
pub(super) fn now() -> String {
    whole(Timestamp::now())
}

/// So many seconds from now.
pub(super) fn after(seconds: i64) -> String {
    let now = Timestamp::now();
    let then = Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(now);
    whole(then)
}

/// Seconds since the given time; none where the text is no time.
pub(super) fn age(text: &str) -> Option<i64> {
    let then: Timestamp = text.parse().ok()?;
    Some(Timestamp::now().as_second() - then.as_second())
}

fn whole(time: Timestamp) -> String {
    let seconds = Timestamp::from_second(time.as_second());
    seconds
        .or_else(|_| time.round(Unit::Second))
        .unwrap_or(time)
        .to_string()
}
