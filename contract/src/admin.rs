//! The admin calls: what the controller and the command line say to a proxy, and what comes back.
//!
//! All on the admin listener (loopback), with `authorization: Bearer <token>`:
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /services` | | `[ServiceState]` |
//! | `GET /services/NAME` | | `ServiceState` |
//! | `PATCH /services/NAME/annotations` | `{"serin.dev/canary-weight": "5", "key to remove": null}` | `ServiceState` |
//! | `POST /decide` | [`crate::decision::Question`] | [`crate::decision::Decision`]: where such a request would go, and why |
//! | `GET /where` | | the same for people, as a page with a form; the token is one of its fields |
//! | `GET /rollouts`, `GET /rollouts/NAME` | | `[Status]`, `Status` ([`crate::release::Status`]) |
//! | `GET /rollouts/NAME/explanation` | | [`crate::explanation::Explanation`]; `null` while nothing is judged |
//! | `GET /rollouts/NAME/decisions/N`, or `…/last` | | [`crate::release::Decision`] with its explanation; `last`: that rests on evidence |
//! | `GET /rollouts/NAME/decisions` | | `[Decision]`: those on record, oldest first, at most 200, without explanations |
//! | `GET /rollouts/NAME/series` | | [`crate::series::Series`]: the course of the release; of the last one when it is over; `null`: there was none; `?began=T`: of an earlier one |
//! | `GET /rollouts/NAME/releases` | | [`crate::series::Release`]s whose course is kept, oldest first |
//! | `GET /rollouts/NAME/words` | | the explanation as `serin explain` prints it; with `?decision=N`, or `last`, that of a decision |
//! | `GET /events`, `GET /rollouts/NAME/events` | | server-sent events: `rollouts` (`[Status]`), or `status` (`Status`) and `point` ([`crate::series::News`]) |
//! | `POST /rollouts/NAME/command` | [`crate::release::Command`] | `Status` |
//!
//! In a cluster a NAME is `NAMESPACE/NAME`, and whoever reaches the listener may ask; orders need the token (401 without one, 403
//! with another). `GET /controller` says who leads there: [`Lead`].
//!
//! `GET /` and `GET /ui/NAME` are pages for people, which make these calls; they and their style and script need no token. A request
//! without the token must name the listener by address or as `localhost` (421 otherwise).
//!
//! Errors are 400 (malformed), 401 (token), 404 (name), 409 (a command that the phase does not allow), 412 (`if-match` does not name the hash in force), 422
//! (refused, with every fault), each with a [`Refusal`]. The `/rollouts` rows are the controller's.

use crate::{Fault, annotations::Annotations, file::ServiceEntry};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Name of the file with the admin token, in the state folder.
pub const TOKEN_FILE: &str = "admin-token";

/// One service as the proxy has it in force: the last good state of file and admin calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceState {
    /// The entry of the last good file.
    pub entry: ServiceEntry,
    /// The annotations in force: the file's, with what was set since by admin calls; the last writer of a key wins.
    pub annotations: Annotations,
    /// Hash of the split in force.
    pub hash: String,
}

/// Why an admin call was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One sentence, with the remedy.
    pub error: String,
    /// Every fault of the input, if it was the input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// Which of several controllers of a cluster answers, and which decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead {
    /// Who answers.
    pub identity: String,
    /// Whether it decides.
    pub leads: bool,
    /// Who decides, as far as it is known.
    pub leader: String,
    /// The controllers' namespace.
    pub namespace: String,
    /// Port of the page.
    pub port: u16,
}

/// Whether a Host header names an address, or `localhost`: a name that somebody pointed at the loopback (DNS rebinding)
/// would let that somebody's page speak to a listener there from inside the user's browser.
pub fn is_own(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|n| n.strip_suffix(']'))
        .unwrap_or(name);
    let is_name = name.eq_ignore_ascii_case("localhost");
    port.bytes().all(|b| b.is_ascii_digit()) && (is_name || bare.parse::<IpAddr>().is_ok())
}

/// Compares tokens; takes the same time wherever the first difference is.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y));
    !b.is_empty() && a.len() == b.len() && std::hint::black_box(differences) == 0
}

impl Refusal {
    /// A refusal without faults of an input.
    pub fn because(error: impl Into<String>) -> Refusal {
        Refusal {
            error: error.into(),
            faults: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same(b"secret", b"secret"));
        for wrong in [&b"secre"[..], b"secrets", b"Secret", b""] {
            assert!(!same(wrong, b"secret"));
        }
        assert!(!same(b"", b""), "an empty token opens nothing");
    }

    #[test]
    fn only_addresses_and_localhost_are_names_of_this_listener() {
        for own in [
            "127.0.0.1:9902",
            "127.0.0.1",
            "localhost:1",
            "LOCALHOST",
            "[::1]:9902",
            "[::1]",
        ] {
            assert!(is_own(own), "{own}");
        }
        for foreign in [
            "evil.example:9902",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a:b",
        ] {
            assert!(!is_own(foreign), "{foreign}");
        }
    }
}
