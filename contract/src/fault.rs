//! What is wrong with something that came from outside: which key, which value, why, and what to do.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest part of a foreign value that is repeated in a message: enough to recognise it, too little to flood a log.
const SHOWN: usize = 80;

/// One fault of one input. Several are reported together, so that one look mends all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The key as the person wrote it: `serin.dev/canary-weight`, `service[0].stable.endpoints[1]`.
    pub key: String,
    /// The offending value, shortened and with control characters escaped.
    pub value: String,
    /// Why it was refused.
    pub reason: String,
    /// What to write instead.
    pub remedy: String,
}

impl Fault {
    /// A fault of `value` at `key`.
    pub fn new(
        key: impl Into<String>,
        value: &str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Fault {
        Fault {
            key: key.into(),
            value: shown(value),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} = \"{}\": {}; {}",
            self.key, self.value, self.reason, self.remedy
        )
    }
}

impl std::error::Error for Fault {}

/// `value` as it may stand in one line of a log: escaped, and cut after [`SHOWN`] characters.
fn shown(value: &str) -> String {
    let mut out: String = value.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if value.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

/// The faults one below the other, as a person reads them.
pub fn listing(faults: &[Fault]) -> String {
    faults.iter().map(|f| format!("  {f}\n")).collect()
}

/// The candidate that was probably meant: at most two edits away (Levenshtein), the nearest first.
pub fn meant<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (edits(written, c), c))
        .filter(|(d, _)| *d <= 2)
        .min()
        .map(|(_, c)| c)
}

/// Levenshtein distance. Long inputs are not compared: no key of ours is that long.
fn edits(a: &str, b: &str) -> usize {
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_key_value_and_remedy() {
        let f = Fault::new(
            "serin.dev/canary-weight",
            "ab\nc",
            "is not a number",
            "write 0 to 100",
        );
        assert_eq!(
            f.to_string(),
            "serin.dev/canary-weight = \"ab\\nc\": is not a number; write 0 to 100"
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let f = Fault::new("k", &"x".repeat(5000), "r", "m");
        assert_eq!(f.value.chars().count(), 81);
    }

    #[test]
    fn finds_what_was_meant() {
        assert_eq!(
            meant("canary-wieght", ["canary-weight", "canary-match"]),
            Some("canary-weight")
        );
        assert_eq!(meant("colour", ["canary-weight"]), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
